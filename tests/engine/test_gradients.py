"""Instantaneous fields against finite differences, closed forms and their own latent form."""

import numpy as np
import pytest
import torch
from torch import nn

from retinacodec import models
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.gradients import (
    instantaneous_fields,
    latent_blocks,
    latent_fields,
    packed_fields,
)
from retinacodec.schema import make_stimulus


class Small(nn.Module):
    """Two convolutions and a linear readout, with every habit that a tap must survive."""

    history = 5

    def __init__(self, scale=1.0, bypass=0.0, offset=0.0, padding=0, stride=1, latency=0, seed=0):
        super().__init__()
        self.latency, self.scale, self.bypass, self.offset = latency, scale, bypass, offset
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(5, 3, 4, padding=padding, stride=stride)
            self.norm1 = nn.BatchNorm2d(3)
            self.conv2 = nn.Conv2d(3, 2, 3)
            self.readout = nn.LazyLinear(3)
            self.readout(self.hidden(torch.zeros(1, 5, 10, 11)))
            nn.init.normal_(self.readout.weight)
            nn.init.uniform_(self.norm1.running_mean, -0.2, 0.2)
        self.eval()

    def hidden(self, x):
        first = nn.functional.relu(self.norm1(self.conv1((x - self.offset) / self.scale)), True)
        return nn.functional.softplus(self.conv2(first)).flatten(1)

    def forward(self, x):
        rate = nn.functional.softplus(self.readout(self.hidden(x)))
        return 30 * rate + self.bypass * x.square().mean(dim=(1, 2, 3))[:, None]


@pytest.fixture(scope="module")
def movie():
    contrast = np.random.default_rng(0).normal(0, 0.6, (40, 10, 11))
    return make_stimulus(contrast, frame_rate=50, pixel_um=20, name="noise", first_frame=7)


def _circuit(**options):
    return Circuit(Small(**options), layers=["conv1"])


def _relative(found, truth):
    return float(np.abs(found - truth).max() / np.abs(truth).max())


@pytest.mark.parametrize("latency", [0, 2])
def test_gradient_equals_finite_differences_of_the_rate_at_the_right_frames(movie, latency):
    """A step of one pixel of one movie frame moves the rate by field times step."""
    model = Small(latency=latency).double()
    circuit = Circuit(model, layers=["conv1"])
    frame, step = 20, 1e-4
    fields = instantaneous_fields(circuit, movie, frames=[frame], progress=False)
    contrast = torch.from_numpy(movie["contrast"].values).double()
    newest = frame - latency
    assert fields["lag"].values[-1] == pytest.approx(-latency / 50)
    rng = np.random.default_rng(1)
    for _ in range(12):
        lag, y, x = rng.integers(5), rng.integers(10), rng.integers(11)
        moved = []
        for sign in (1, -1):
            changed = contrast.clone()
            changed[newest - lag, y, x] += sign * step
            with torch.no_grad():
                moved.append(model(changed[None, newest - 4 : newest + 1])[0])
        slope = (moved[0] - moved[1]) / (2 * step)
        found = fields.values[0, :, 4 - lag, y, x]
        np.testing.assert_allclose(found, slope.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.37},
        {"scale": 2.0, "offset": 0.3},
        {"padding": 2},
        {"stride": 2, "padding": 1},
        {"latency": 3},
    ],
)
def test_latent_form_projects_into_the_whole_gradient(movie, options):
    circuit = _circuit(**options)
    whole = instantaneous_fields(circuit, movie, progress=False)
    latent = latent_fields(circuit, movie, progress=False)
    assert latent.filters.name == "conv1"
    assert _relative(latent.project().values, whole.values) < 1e-5
    assert latent.project().dims == whole.dims == ("time", "cell", "lag", "y", "x")
    np.testing.assert_array_equal(latent.project()["time"], whole["time"])


@pytest.mark.parametrize(
    ("name", "options", "layer"),
    [
        ("ToyCircuit", {}, "conv1"),
        ("DeepRetina", {"size": (14, 15), "history": 6, "kernels": (5, 3)}, "conv1"),
        ("LinearNonlinear", {"size": (12, 12), "history": 6}, ""),
        ("CircuitRetina", {"size": (20, 20)}, ""),
    ],
)
def test_latent_form_of_every_model_projects_into_its_whole_gradient(name, options, layer):
    """A scaled contrast, a filter without a convolution and a circuit with two paths."""
    model = getattr(models, name)(**({} if name == "ToyCircuit" else {"cells": 3}), **options)
    if hasattr(model, "contrast_scale"):
        model.contrast_scale.fill_(0.37)
    circuit = Circuit(model, layers=[])
    contrast = np.random.default_rng(0).normal(0, 0.4, (circuit.first_frame + 6, *model.size))
    movie = make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")
    latent = latent_fields(circuit, movie, progress=False)
    whole = instantaneous_fields(circuit, movie, progress=False)
    assert latent.filters.name == layer
    assert _relative(latent.project().values, whole.values) < 1e-5


def test_times_frames_and_places_are_those_of_the_movie(movie):
    latent = latent_fields(_circuit(), movie, frames=[9, 30], cells=[2, "0"], progress=False)
    np.testing.assert_allclose(latent.rate["time"], (7 + np.array([9, 30])) / 50)
    assert latent.rate["frame"].values.tolist() == [9, 30]
    assert latent.rate["cell"].values.tolist() == ["2", "0"]
    np.testing.assert_allclose(latent.lag, [-0.08, -0.06, -0.04, -0.02, 0])
    np.testing.assert_allclose(latent.latent["y"], movie["y"][:7] + 1.5 * 20)
    everything = latent_fields(_circuit(), movie, progress=False)
    picked = everything.select(time=[5, 26], cell=[2, 0])
    np.testing.assert_allclose(latent.latent, picked.latent, rtol=1e-4, atol=1e-5)


def test_result_does_not_depend_on_the_batch(movie):
    one = latent_fields(_circuit(), movie, batch=1, progress=False)
    many = latent_fields(_circuit(), movie, batch=64, progress=False)
    assert _relative(one.latent.values, many.latent.values) < 1e-5
    blocks = list(latent_blocks(_circuit(), movie, batch=10, progress=False))
    joined = np.concatenate([block.latent.values for block in blocks])
    assert [block.latent.sizes["time"] for block in blocks] == [10, 10, 10, 6]
    assert _relative(joined, many.latent.values) < 1e-5


def test_a_bypassed_layer_is_not_trusted(movie):
    circuit = _circuit(bypass=40.0)
    whole = instantaneous_fields(circuit, movie, frames=[12, 13], progress=False)
    kept = latent_fields(circuit, movie, frames=[12, 13], progress=False)
    assert kept.filters.stored
    assert _relative(kept.project().values, whole.values) < 1e-5
    assert _relative(kept.mean().values, whole.mean("time").values) < 1e-5
    with pytest.raises(InputError, match="does not carry the whole field"):
        latent_fields(circuit, movie, layer="conv1", frames=[12], progress=False)


def test_a_later_convolution_is_refused_and_a_wrong_name_too(movie):
    with pytest.raises(InputError, match="does not carry the whole field"):
        latent_fields(_circuit(), movie, layer="conv2", progress=False)
    with pytest.raises(InputError, match="expected a Conv2d"):
        latent_fields(_circuit(), movie, layer="norm1", progress=False)


class LinearNonlinear(nn.Module):
    """A filter, an exponential: the field is the filter times the rate."""

    history = 4

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.kernel = nn.Parameter(torch.randn((4, 6, 6), generator=generator) / 6)

    def forward(self, x):
        return torch.exp((x * self.kernel).sum(dim=(1, 2, 3)))[:, None]


def test_field_of_a_linear_nonlinear_model_is_its_filter_times_its_rate():
    contrast = np.random.default_rng(0).normal(0, 0.5, (30, 6, 6))
    movie = make_stimulus(contrast, frame_rate=50, pixel_um=20, name="noise")
    model = LinearNonlinear()
    kept = latent_fields(Circuit(model, layers=[]), movie, progress=False)
    kernel = model.kernel.detach().numpy()
    expected = kept.rate.values[..., None, None, None] * kernel
    np.testing.assert_allclose(kept.project().values, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(kept.cosines().values, 1, atol=1e-5)
    share = kept.separable()["separability"].values
    assert np.ptp(share) < 1e-5 and 0.2 < share.mean() < 0.9


def test_the_model_is_left_as_it_was(movie):
    model = Small().train()
    model.norm1.eval()
    model.conv2.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    latent_fields(Circuit(model, layers=["conv1"]), movie, progress=False)
    assert model.training and model.conv1.training and not model.norm1.training
    assert model.conv1.weight.requires_grad and not model.conv2.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_hooks_are_gone_after_an_error(movie):
    model = Small()
    model.readout = nn.Linear(7, 3)
    with pytest.raises(RuntimeError):
        latent_fields(Circuit(model, layers=["conv1"]), movie, progress=False)
    assert not any(module._forward_hooks for module in model.modules())


def test_too_much_is_refused_with_the_size_it_would_need(movie):
    with pytest.raises(InputError, match=r"36 frames of 3 cells need .* GB, the budget is"):
        instantaneous_fields(_circuit(), movie, budget_gb=1e-6, progress=False)
    with pytest.raises(InputError, match="108 fields need"):
        latent_fields(_circuit(), movie, progress=False).project(budget_gb=1e-6)


def test_wrong_frames_and_cells_are_named_together(movie):
    with pytest.raises(InputError, match=r"expected 4 to 39, got \[3\].*no cell 'on'"):
        latent_fields(_circuit(), movie, frames=[3, 4], cells=["on"], progress=False)
    with pytest.raises(InputError, match="whole numbers"):
        latent_fields(_circuit(), movie, frames=[4.5], progress=False)


@pytest.mark.parametrize("batch", [0, -1])
@pytest.mark.parametrize("ask", [instantaneous_fields, latent_fields, packed_fields])
def test_batches_of_no_frames_are_refused_in_words(movie, ask, batch):
    with pytest.raises(InputError, match="batch: expected at least 1 frame"):
        ask(Circuit(Small(), []), movie, batch=batch, progress=False)


@pytest.mark.parametrize("cells", [[0.7], np.array([True, False, True]), []])
def test_cells_that_are_no_positions_are_refused_in_words(movie, cells):
    with pytest.raises(InputError, match="cells"):
        latent_fields(Circuit(Small(), []), movie, cells=cells, progress=False)
