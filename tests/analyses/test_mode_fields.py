"""Fields by mode: they sum to the field, and their product with the stimulus is the mode's part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import retinacodec as rc
from retinacodec.analyses import find_modes
from retinacodec.analyses.mode_fields import mode_fields, mode_shares
from retinacodec.channel_parts import field_sources
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.models import DeepRetina
from retinacodec.schema import SIGNS, make_stimulus

SIZE, HISTORY = (11, 12), 5


@pytest.fixture(scope="module")
def circuit():
    torch.manual_seed(0)
    options = {"history": HISTORY, "channels": (4, 3), "kernels": (4, 3)}
    return Circuit(DeepRetina(2, size=SIZE, **options).eval(), ["relu1"])


@pytest.fixture(scope="module")
def movie():
    contrast = np.random.default_rng(0).normal(0, 0.8, (200, *SIZE))
    return make_stimulus(contrast, frame_rate=50, pixel_um=50, name="noise")


@pytest.fixture(scope="module")
def modes(circuit, movie):
    parts = rc.contributions(circuit, movie, rc.Cell(0), progress=False)
    options = {"gap": HISTORY, "halves": False, "stability_seeds": 0, "progress": False}
    return find_modes(parts["relu1"], dictionary=rc.DirectPursuit(modes=3), **options)


def _sources(circuit, movie, frames, **options):
    options = {"cells": 0, "target": rc.Cell(0), "progress": False} | options
    return field_sources(circuit, movie, frames=frames, **options)


def _split(sources, shares, moment=0):
    """Modes of one moment that claim the given shares (mode,) of every contribution."""
    whole = sources.contribution.transpose("time", "sign", "source").values[moment]
    return xr.Dataset(
        {
            "atom": (("mode", "sign", "channel"), np.asarray(shares)[:, None, None] * whole / 4),
            "loading": (("time", "mode"), np.full((1, len(shares)), 2.0)),
        },
        coords={"time": sources.total.rate["time"].values[[moment]], "sign": list(SIGNS)},
        attrs={"scale": 2.0},
    )


def test_parts_and_rest_sum_to_the_field(circuit, movie, modes):
    sources = _sources(circuit, movie, np.arange(20, 60, 4))
    parts = mode_fields(sources, modes)
    assert parts.dims == ("mode",)
    whole = sources.total.project()
    summed = parts.project().sum("mode") + parts.rest.project()
    np.testing.assert_allclose(summed, whole, atol=1e-5 * float(abs(whole).max()))
    energy = [float((one.latent**2).sum()) for one in (parts.rest, parts.total)]
    assert energy[0] < 0.3 * energy[1]


@pytest.mark.parametrize(
    ("claimed", "given"),
    [([0.25, 0.5], [0.25, 0.5]), ([0.3, 0.7], [0.3, 0.7]), ([3.0, 1.0], [0.75, 0.25])],
    ids=["less than there is", "all there is", "more than there is"],
)
def test_a_mode_has_its_share_of_field_and_target(circuit, movie, claimed, given):
    """Of the integrated field, times the stimulus, as much as its loading times its atom."""
    sources = _sources(circuit, movie, [50], integrated=True)
    modes = _split(sources, claimed)
    parts = mode_fields(sources, modes)
    for mode, share in enumerate(given):
        wanted = share * sources.total.latent.values
        found = parts.part(mode=mode).latent
        np.testing.assert_allclose(found, wanted, atol=1e-5 * abs(wanted).max())
    window = circuit.windows(torch.from_numpy(movie["contrast"].values))[50 - HISTORY + 1].numpy()
    pixels = (parts.project().values[0, 0] * window).sum(axis=(1, 2, 3))
    target = float(sources.contribution.sum())
    np.testing.assert_allclose(pixels, np.multiply(given, target), rtol=2e-5)
    rest = float(abs(parts.rest.latent).max())
    assert (rest < 1e-6 * float(abs(parts.total.latent).max())) == (sum(given) == 1)


def test_shares_are_bounded_and_follow_signs(circuit, movie, modes):
    sources = _sources(circuit, movie, np.arange(20, 60))
    frames = sources.total.rate["frame"].values - circuit.first_frame
    amount = modes.attrs["scale"] * modes["loading"].isel(time=frames) * modes["atom"]
    amount = amount.rename(channel="source").drop_vars("time")
    shares = mode_shares(sources.contribution, amount)
    assert float(shares.min()) >= 0
    assert float(shares.sum("mode").max()) <= 1 + 1e-9
    # a share of what is there is what the mode says, where modes say less than there is
    whole = sources.contribution.drop_vars(("time", "frame"))
    less = abs(amount.sum("mode")) < abs(whole)
    claimed = abs(shares * whole).transpose(*amount.dims)
    kept = less.broadcast_like(amount).transpose(*amount.dims).values
    np.testing.assert_allclose(claimed.values[kept], abs(amount).values[kept], rtol=1e-5, atol=1e-9)
    against = mode_shares(sources.contribution, -amount)
    np.testing.assert_allclose(against, -shares)


def test_nothing_of_nothing_is_nothing():
    zero = xr.DataArray(np.zeros((1, 2, 2)), dims=("time", "source", "sign"))
    zero = zero.assign_coords(sign=list(SIGNS))
    assert float(abs(mode_shares(zero, zero.expand_dims(mode=2))).max()) == 0


def test_a_cells_own_contributions_divide_its_own_field(circuit, movie):
    each = _sources(circuit, movie, [30, 50], target=None, cells=None)
    own = replace(each, contribution=each.contribution.isel(cell=0))
    modes = _split(own, [0.5], moment=1)
    parts = mode_fields(each.select(time=1), modes)
    first = parts.part(mode=0).latent.values[0]
    np.testing.assert_allclose(first[0], 0.5 * each.total.latent.values[1, 0], rtol=1e-4, atol=1e-6)
    assert abs(first[1] - 0.5 * each.total.latent.values[1, 1]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "change", "said"),
    [
        ({"split_signs": False}, {}, "expected parts"),
        ({"groups": np.ones((2, 4))}, {}, "atoms of 4 channels, sources of 2"),
        ({}, {"time": 1e3}, "no loading for 1 of 1"),
    ],
)
def test_modes_of_something_else_are_refused(circuit, movie, modes, options, change, said):
    if change:
        modes = modes.assign_coords(time=modes["time"] + change["time"])
    with pytest.raises(InputError, match=said):
        mode_fields(_sources(circuit, movie, [30], **options), modes)
