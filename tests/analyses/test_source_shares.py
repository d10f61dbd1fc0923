"""Shares of centre and surround: sums of exactly 1, and the known wiring of a simulated retina."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr

import retinacodec as rc
from retinacodec.analyses import find_modes
from retinacodec.analyses.source_shares import centre_mask, source_shares, turning_parts
from retinacodec.analyses.sources_figure import draw_source_shares, draw_sources, sources_figure
from retinacodec.analyses.sources_numbers import sources_numbers
from retinacodec.channel_parts import field_sources
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.models import CircuitRetina, DeepRetina
from retinacodec.models.retina_cells import BIPOLARS
from retinacodec.schema import make_stimulus

AMACRINES = [4, 5, 6]


def _retina(pathways=("ON", "OFF", "amacrine"), **options):
    retina = CircuitRetina(size=(32, 32), cells=4, pathways=pathways, **options)
    circuit = Circuit(retina, ["interneurons"])
    coarse = np.random.default_rng(0).normal(0, 0.5, (circuit.first_frame + 20, 8, 8))
    contrast = np.repeat(np.repeat(coarse, 4, 1), 4, 2)
    return circuit, make_stimulus(contrast, frame_rate=60, pixel_um=50, name="checks")


def _disc(circuit, sources, radius):
    """Pixels within a distance (um) of each cell of the mosaic."""
    y, x = (sources.total.y - sources.total.y.mean(), sources.total.x - sources.total.x.mean())
    places = xr.DataArray(circuit.model.positions_um, dims=("cell", "axis"))
    return (y - places[:, 0]) ** 2 + (x - places[:, 1]) ** 2 <= radius**2


def test_shares_sum_to_one_and_are_inner_products():
    circuit, movie = _retina()
    sources = field_sources(circuit, movie, frames=[24, 30], progress=False)
    shares = source_shares(sources)
    for name in ("share", "centre_share", "surround_share"):
        np.testing.assert_allclose(shares[name].sum("part"), 1, atol=1e-12)
    assert shares["part"].values.tolist()[-2:] == ["6 +", "rest"]
    inside = shares["centre"].values[2]
    part = sources.part(source=3, sign="negative").project().values[1, 2].astype(float)
    whole = sources.total.project().values[1, 2].astype(float)
    wanted = (part * whole)[:, inside].sum() / (whole**2)[:, inside].sum()
    found = shares["centre_share"].sel(part="3 −").values[1, 2]
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-7)


def test_surround_is_carried_by_amacrine_cells_and_goes_with_them():
    """Bipolar cells without surrounds reach 3.5 sigma; what lies beyond is inhibition."""
    plain = tuple(dataclasses.replace(kind, surround=0.0) for kind in BIPOLARS)
    beyond = {}
    for pathways in (("ON", "OFF", "amacrine"), ("ON", "OFF")):
        circuit, movie = _retina(pathways, bipolars=plain)
        options = {"split_signs": False, "progress": False}
        sources = field_sources(circuit, movie, frames=np.arange(24, 40, 5), **options)
        shares = source_shares(sources, centre=_disc(circuit, sources, 450))
        beyond[pathways] = shares.isel(part=AMACRINES).sum("part", skipna=False)
        if "amacrine" not in pathways:
            assert float(abs(sources.part(source=AMACRINES).latent).max()) == 0
    with_them = beyond["ON", "OFF", "amacrine"]
    assert float(with_them["surround_share"].min()) > 0.95
    assert float(abs(with_them["centre_share"]).mean()) < 0.6
    without = beyond["ON", "OFF"]["surround_share"]
    assert float(abs(without.fillna(0)).max()) == 0


def test_polarity_names_the_fewest_parts_that_turn_it():
    found = turning_parts(
        np.array([[-1.0, -4.0, 3.0, 1.0], [-3.0, -4.0, 3.0, 1.0], [2.0, -1.0, 0.0, 0.0]])
    )
    assert found.tolist() == [[False, True, False, False], [False, True, False, False], [False] * 4]
    assert turning_parts(np.array([-3.0, -4.0, 2.0])).tolist() == [True, True, False]
    circuit, movie = _retina()
    sources = field_sources(circuit, movie, frames=np.arange(24, 40), progress=False)
    whole = sources.total
    shares = source_shares(sources, reference=-whole.mean())
    turned = source_shares(sources)
    np.testing.assert_allclose(shares["polarity"], -turned["polarity"], atol=1e-6)
    np.testing.assert_allclose(turned["total_polarity"].mean("time"), 1, rtol=1e-5)
    removed = shares["total_polarity"] - shares["polarity"].where(shares["flips"], 0).sum("part")
    assert bool((removed.values[shares["flipped"].values] >= 0).all())
    assert not bool(shares["flips"].any("part").where(~shares["flipped"], False).any())


def test_centre_of_a_gaussian_is_a_disc_of_1_8_sigma():
    axis = (np.arange(41) - 20) * 10.0
    bump = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 60.0**2))
    course = xr.DataArray([0.0, 1.0, -0.4], dims="lag", coords={"lag": [-0.2, -0.1, 0.0]})
    field = course * xr.DataArray(bump, dims=("y", "x"), coords={"y": axis, "x": axis})
    inside = centre_mask(field.expand_dims("cell"))
    radius = np.sqrt(float(inside.sum()) * 100 / np.pi)
    assert radius == pytest.approx(1.77 * 60, rel=0.05)
    assert not bool(centre_mask(0 * field.expand_dims("cell")).any())


def test_a_reference_of_other_cells_is_refused():
    circuit, movie = _retina()
    sources = field_sources(circuit, movie, frames=[24], progress=False)
    reference = sources.total.mean()
    with pytest.raises(InputError, match="expected a reference"):
        source_shares(sources, reference=reference.isel(cell=[0]))
    with pytest.raises(InputError, match="expected a centre"):
        source_shares(sources, centre=xr.DataArray(np.ones((32, 32)), dims=("y", "x")))


@pytest.fixture(scope="module")
def pictured():
    torch.manual_seed(0)
    options = {"size": (14, 15), "history": 6, "channels": (4, 3), "kernels": (5, 3)}
    circuit = Circuit(DeepRetina(2, **options).eval(), ["relu1"])
    contrast = np.random.default_rng(0).normal(0, 0.8, (200, 14, 15))
    movie = make_stimulus(contrast, frame_rate=50, pixel_um=50, name="noise")
    parts = rc.contributions(circuit, movie, rc.Surprisal(), progress=False)
    fit = {"dictionary": rc.DirectPursuit(modes=4), "halves": False, "stability_seeds": 0}
    modes = find_modes(parts["relu1"], gap=6, progress=False, **fit)
    options = {"target": rc.Surprisal(), "minimum_rate": 0.0, "survey": 30, "progress": False}
    return sources_numbers(circuit, movie, modes, cell=1, most=2, **options)


def test_pictures_of_each_kind_sum_to_the_field(pictured):
    assert pictured.sizes["time"] == 3
    likeness = pictured["likeness"].values
    assert likeness[0] > likeness[1] > likeness[2]
    for kind in ("channel", "mode"):
        own = pictured["kind"].values[0] == kind
        summed = pictured["picture"].isel(slot=own).sum("slot")
        field = pictured["picture"].isel(slot=0)
        np.testing.assert_allclose(summed, field, atol=1e-4 * float(abs(field).max()))
        for name in ("centre_share", "surround_share"):
            np.testing.assert_allclose(pictured[name].isel(slot=own).sum("slot"), 1, atol=1e-4)
        total = pictured["polarity"].isel(slot=own).sum("slot")
        np.testing.assert_allclose(total, pictured["polarity"].isel(slot=0), rtol=1e-3, atol=1e-4)


def test_figure_has_a_panel_for_every_part(pictured):
    drawing = sources_figure(pictured)
    images = [ax for ax in drawing.axes if ax.images]
    assert len(images) == int((pictured["name"] != "").sum())
    bars = [ax for ax in drawing.axes if ax.patches and ax.get_yticklabels()]
    assert len(bars) == 3
    plt.close("all")
    _, ax = plt.subplots()
    assert draw_sources(pictured, ax, moment=1) is ax
    _, ax = plt.subplots()
    assert draw_source_shares(pictured, ax) is ax
    plt.close("all")
