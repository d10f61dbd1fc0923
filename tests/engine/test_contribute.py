"""The verb on circuits whose contributions are known, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import retinacodec as rc
from retinacodec.contribute import contributions
from retinacodec.models.toy import ToyCircuit, exact_contributions
from retinacodec.schema import make_stimulus


def noise(frames=12, size=(3, 3), seed=0):
    values = np.random.default_rng(seed).normal(size=(frames, *size))
    return make_stimulus(values, frame_rate=60, pixel_um=50, name="noise", seed=seed)


def maps(tree, layer):
    return tree[layer]["contribution"].sum("sign").values


@pytest.mark.parametrize("rule", [rc.Secant(200), rc.IntegratedGradients(2000)])
@pytest.mark.parametrize("depth", [1, 2])
def test_toy_contributions_are_the_closed_form(rule, depth):
    toy, movie = ToyCircuit(depth), noise()
    circuit = rc.Circuit(toy, toy.layers)
    tree = contributions(circuit, movie, rc.Cell("off"), rule=rule, maps=True, progress=False)
    windows = circuit.windows(torch.from_numpy(movie["contrast"].values))
    exact = exact_contributions(toy, windows, lambda y: y[:, 1])
    for layer in toy.layers:
        error = abs(maps(tree, layer) - exact[layer]).max()
        assert error < 4e-3 * abs(exact[layer]).max(), layer


def test_single_layer_secant_is_exact_in_one_step():
    toy, movie = ToyCircuit(1), noise()
    tree = contributions(
        rc.Circuit(toy, ["relu1"]), movie, rc.Cell(0), rule=rc.Secant(1), maps=True, progress=False
    )
    windows = rc.Circuit(toy, []).windows(torch.from_numpy(movie["contrast"].values))
    exact = exact_contributions(toy, windows, lambda y: y[:, 0])["relu1"]
    np.testing.assert_allclose(maps(tree, "relu1"), exact, atol=1e-6)


def test_signs_are_split_before_the_sum_over_space():
    toy, movie = ToyCircuit(), noise()
    circuit = rc.Circuit(toy, ["conv1"])
    full = contributions(circuit, movie, rc.Cell(0), maps=True, progress=False)["conv1"]
    summed = contributions(circuit, movie, rc.Cell(0), progress=False)["conv1"]
    np.testing.assert_allclose(
        full["contribution"].sum(("y", "x")).values, summed["contribution"].values, atol=1e-6
    )
    net = full["contribution"].sum("sign")
    split_after = net.sum(("y", "x")).clip(min=0)
    positive = summed["contribution"].sel(sign="positive")
    assert float(abs(split_after - positive).max()) > 0.1
    np.testing.assert_allclose(net.clip(min=0).sum(("y", "x")).values, positive.values, atol=1e-6)


def test_each_cell_equals_one_cell_at_a_time():
    toy, movie = ToyCircuit(), noise()
    circuit = rc.Circuit(toy, ["relu1", "relu2"])
    each = contributions(circuit, movie, rc.EachCell(), progress=False)
    for name in toy.cell_names:
        single = contributions(circuit, movie, rc.Cell(name), progress=False)
        for layer in circuit.layers:
            np.testing.assert_allclose(
                each[layer]["contribution"].sel(target=name).values,
                single[layer]["contribution"].values,
                atol=1e-7,
            )


def test_activations_and_gradients_at_the_movie():
    toy, movie = ToyCircuit(1), noise()
    circuit = rc.Circuit(toy, ["relu1"])
    node = contributions(
        circuit,
        movie,
        rc.Population(),
        rule=rc.IntegratedGradients(3),
        activations=True,
        gradients=True,
        progress=False,
    )["relu1"]
    windows = circuit.windows(torch.from_numpy(movie["contrast"].values))
    hidden = toy.relu1(toy.conv1(windows))
    np.testing.assert_allclose(
        node["activation"].sum("sign").values, hidden.sum((2, 3)).numpy(), rtol=1e-5
    )
    weight = toy.readout.weight.sum(0).view(2, -1).sum(1).numpy()
    np.testing.assert_allclose(
        node["gradient"].sum("sign").values, np.tile(weight, (10, 1)), rtol=1e-5
    )


def test_provenance_says_what_was_computed():
    tree = contributions(
        rc.Circuit(ToyCircuit(), ["relu1"]), noise(), rc.Surprisal(), progress=False
    )
    assert tree.attrs["rule"] == "Secant(steps=10)"
    assert tree.attrs["target"].startswith("Surprisal(shrinkage=0.001, mean=<float64 (")
    assert tree.attrs["condition_number"] > 1
    assert tree.attrs["layers"] == ["relu1"]


def test_model_is_left_without_hooks_and_gradients_after_an_error():
    class Fails(nn.Module):
        history = 2

        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(2, 1, 1)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            out = self.layer(x).flatten(1)
            return out.sort(-1).values if self.calls > 3 else out

    model = Fails()
    movie = noise(size=(2, 2))
    with pytest.raises(rc.InputError, match="sort"):
        contributions(rc.Circuit(model, ["layer"]), movie, rc.Cell(0), progress=False)
    assert not model.layer._forward_hooks
    assert model.training
    assert model.layer.weight.requires_grad
    assert model.layer.weight.grad is None


def test_layer_that_is_never_called_is_named():
    toy = ToyCircuit()
    toy.unused = nn.ReLU()
    with pytest.raises(rc.InputError, match="'unused' was not called"):
        contributions(rc.Circuit(toy, ["unused"]), noise(), rc.Cell(0), progress=False)


def test_full_maps_beyond_the_budget_are_refused_before_the_run():
    with pytest.raises(rc.InputError, match="full maps would take"):
        contributions(
            rc.Circuit(ToyCircuit(), ["conv1"]),
            noise(400),
            rc.Cell(0),
            maps=True,
            budget_gb=1e-6,
            progress=False,
        )


@pytest.mark.parametrize("steps", [0, -1, 2.5, True])
def test_steps_must_be_whole(steps):
    with pytest.raises(rc.InputError, match="whole number of steps"):
        rc.Secant(steps)


def test_unknown_quadrature_is_refused():
    with pytest.raises(rc.InputError, match="trapezoid, left, right"):
        rc.IntegratedGradients(5, "simpson")
