"""Fields written down from the wiring against gradients of the model, whole and part by part."""

import numpy as np
import pytest

from retinacodec.channel_parts import field_sources
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.gradients import instantaneous_fields
from retinacodec.models import CircuitRetina
from retinacodec.schema import make_stimulus

FRAMES = [24, 31, 39]
CONTROLS = {
    "whole": {},
    "linear": {"linear": True},
    "no amacrine cells": {"pathways": ("ON", "OFF")},
    "one pathway": {"pathways": ("OFF",)},
}


@pytest.fixture(scope="module")
def movie():
    generator = np.random.default_rng(0)
    coarse = generator.normal(0, 0.6, (41, 5, 5)).repeat(4, axis=1).repeat(4, axis=2)
    return make_stimulus(coarse, frame_rate=60, pixel_um=50, name="noise")


@pytest.mark.parametrize("name", CONTROLS)
def test_the_wiring_gives_the_gradient_of_the_rate(name, movie):
    retina = CircuitRetina((20, 20), 10, **CONTROLS[name])
    truth = retina.pathway_fields(movie, frames=FRAMES).sum("type")
    found = instantaneous_fields(Circuit(retina, []), movie, frames=FRAMES, progress=False)
    assert float(np.abs(truth).max()) > 1
    scale = float(np.abs(truth).max())
    np.testing.assert_allclose(found / scale, truth / scale, atol=1e-5)
    assert found["cell"].equals(truth["cell"].astype(found["cell"].dtype))
    np.testing.assert_allclose(found["lag"], truth["lag"])


def test_parts_by_channel_are_the_parts_by_interneuron_type(movie):
    retina = CircuitRetina((20, 20), 10)
    truth = retina.pathway_fields(movie, frames=FRAMES, cells=[1, 5, 9])
    sources = field_sources(
        Circuit(retina, ["interneurons"]),
        movie,
        layer="interneurons",
        cells=[1, 5, 9],
        frames=FRAMES,
        split_signs=False,
        progress=False,
    )
    names = sources.latent["source"].values.tolist()
    assert len(names) == truth.sizes["type"]
    scale = float(np.abs(truth).max())
    for name, kind in zip(names, truth["type"].values, strict=True):
        part = sources.part(source=name).project()
        wanted = truth.sel(type=kind)
        np.testing.assert_allclose(part / scale, wanted / scale, atol=1e-5, err_msg=kind)
    amacrine = truth.sel(type=[kind.name for kind in retina.amacrines])
    assert float(np.abs(amacrine).max()) > 0.02 * scale


def test_the_field_of_a_retina_without_rectifiers_keeps_its_shape(movie):
    retina = CircuitRetina((20, 20), 10, linear=True)
    fields = retina.pathway_fields(movie, frames=FRAMES).sum("type").values.reshape(3, 10, -1)
    unit = fields / np.linalg.norm(fields, axis=-1, keepdims=True)
    np.testing.assert_allclose(np.einsum("tcf,scf->cts", unit, unit), 1.0, atol=1e-12)


def test_frames_and_cells_that_do_not_exist_are_named(movie):
    retina = CircuitRetina((20, 20), 10)
    with pytest.raises(InputError, match="frames: expected 23 to 40"):
        retina.pathway_fields(movie, frames=[3])
    with pytest.raises(InputError, match="cells: expected 0 to 9"):
        retina.pathway_fields(movie, frames=[30], cells=[10])


def test_in_double_precision_wiring_and_gradient_are_the_same_to_rounding(movie):
    retina = CircuitRetina((20, 20), 5)
    truth = retina.pathway_fields(movie, frames=FRAMES).sum("type")
    wide = Circuit(CircuitRetina((20, 20), 5).double(), [])
    found = instantaneous_fields(wide, movie, frames=FRAMES, progress=False)
    assert found.dtype == np.float64
    scale = float(np.abs(truth).max())
    np.testing.assert_allclose(found / scale, truth / scale, atol=3e-7)
