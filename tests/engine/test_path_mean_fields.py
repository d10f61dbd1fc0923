"""Integrated fields: complete, equal to captum's, and used like instantaneous ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as Captum

import retinacodec as rc
from retinacodec import models
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.gradients import latent_fields
from retinacodec.path_mean_fields import integrated_fields
from retinacodec.schema import make_stimulus

MADE = {
    "ToyCircuit": {},
    "DeepRetina": {"cells": 3, "size": (14, 15), "history": 6, "kernels": (5, 3)},
    "CircuitRetina": {"cells": 3, "size": (20, 20)},
    "LinearNonlinear": {"cells": 3, "size": (12, 12), "history": 6},
}


def _made(name, dtype=torch.float32, frames=5):
    model = getattr(models, name)(**MADE[name]).to(dtype).eval()
    circuit = Circuit(model, layers=[])
    contrast = np.random.default_rng(0).normal(0, 0.6, (circuit.first_frame + frames, *model.size))
    return circuit, make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")


def _windows(circuit, movie):
    return circuit.windows(torch.from_numpy(movie["contrast"].values))


def _change(circuit, movie, start):
    windows = _windows(circuit, movie)
    start = start.to(windows.dtype)
    with torch.no_grad():
        dtype = next(iter(circuit.model.state_dict().values()), torch.empty(0)).dtype
        return (circuit.model(windows.to(dtype)) - circuit.model(start.to(dtype))).numpy()


@pytest.mark.parametrize("name", list(MADE))
@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        (rc.Secant(1), 5e-6),
        (rc.Secant(4, baseline=rc.MeanFrame()), 5e-6),
        (rc.IntegratedGradients(100), 5e-3),
        (rc.IntegratedGradients(100, "midpoint"), 5e-3),
    ],
    ids=repr,
)
def test_product_with_the_stimulus_is_the_change_of_the_rate(name, rule, limit):
    circuit, movie = _made(name)
    fields = integrated_fields(circuit, movie, rule=rule, progress=False)
    windows = _windows(circuit, movie)
    start = rule.baseline.starts(torch.from_numpy(movie["contrast"].values), windows.shape[1:])
    found = np.einsum("tclyx,tlyx->tc", fields.project().values, (windows - start).numpy())
    wanted = _change(circuit, movie, start)
    assert abs(found - wanted).max() < limit * abs(wanted).max()


@pytest.mark.parametrize("name", ["ToyCircuit", "DeepRetina", "CircuitRetina"])
def test_field_times_input_is_captums_integrated_gradient(name):
    """At the same points; captum's trapezoid divides by points where it has intervals."""
    steps = 12
    circuit, movie = _made(name)
    fields = integrated_fields(
        circuit, movie, rule=rc.IntegratedGradients(steps), cells=1, progress=False
    )
    windows = _windows(circuit, movie).float().contiguous()
    method = Captum(circuit.model)
    peer = method.attribute(windows, target=1, n_steps=steps + 1, method="riemann_trapezoid")
    peer = peer * (steps + 1) / steps
    found = fields.project().values[:, 0] * windows.numpy()
    np.testing.assert_allclose(found, peer.numpy(), atol=1e-4 * float(peer.abs().max()))


def test_secant_field_converges_to_the_mean_of_gradients():
    circuit, movie = _made("DeepRetina", torch.float64)
    fine = integrated_fields(circuit, movie, rule=rc.IntegratedGradients(600), progress=False)
    errors = []
    for steps in (5, 20, 80):
        some = integrated_fields(circuit, movie, rule=rc.Secant(steps), progress=False)
        errors.append(float(np.linalg.norm(some.latent - fine.latent)))
    assert errors[0] > 3 * errors[1] > 6 * errors[2]
    assert errors[2] < 0.02 * np.linalg.norm(fine.latent)


def test_field_of_a_linear_circuit_is_its_instantaneous_one():
    circuit = Circuit(torch.nn.Sequential(torch.nn.Conv2d(4, 3, 6), torch.nn.Flatten()), [], 4)
    contrast = np.random.default_rng(0).normal(size=(7, 6, 6))
    movie = make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")
    whole = integrated_fields(circuit, movie, progress=False)
    local = latent_fields(circuit, movie, progress=False)
    np.testing.assert_allclose(whole.latent, local.latent, rtol=1e-5)
    np.testing.assert_allclose(whole.project(), local.project(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(whole.cosines(), local.cosines(), atol=1e-5)


def test_batch_frames_and_cells_change_no_number():
    circuit, movie = _made("DeepRetina")
    whole = integrated_fields(circuit, movie, progress=False)
    frames = [circuit.first_frame + 3, circuit.first_frame]
    some = integrated_fields(circuit, movie, frames=frames, cells=[2, 0], batch=1, progress=False)
    wanted = whole.latent.values[[3, 0]][:, [2, 0]]
    np.testing.assert_allclose(some.latent, wanted, atol=1e-5 * abs(wanted).max())
    assert some.rate["frame"].values.tolist() == frames
    assert some.latent.attrs["rule"] == "Secant(steps=10)"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (rc.ActivationGradient(), "has no path"),
        (rc.SmoothGradient(), "has no path"),
        (rc.IntegratedGradients(10, tolerance=0.01), "without a tolerance"),
        (rc.Secant(2, baseline=rc.DrawnFrames(3, seed=0)), "one start, got 3"),
    ],
    ids=repr,
)
def test_rules_without_one_path_are_refused(rule, said):
    circuit, movie = _made("ToyCircuit")
    with pytest.raises(InputError, match=said):
        integrated_fields(circuit, movie, rule=rule, progress=False)


def test_hooks_and_flags_are_gone():
    circuit, movie = _made("DeepRetina")
    model = circuit.model
    before = {name: one.requires_grad for name, one in model.named_parameters()}
    integrated_fields(circuit, movie, progress=False)
    assert not any(one._forward_hooks for one in model.modules())
    assert before == {name: one.requires_grad for name, one in model.named_parameters()}


def test_a_batch_of_no_frames_is_refused_not_answered_with_anything():
    circuit, movie = _made("ToyCircuit")
    with pytest.raises(InputError, match="batch: expected at least 1 frame"):
        integrated_fields(circuit, movie, batch=-1, progress=False)
