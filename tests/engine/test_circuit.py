"""A circuit checks its model, cuts a movie into windows and leaves the model as it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import retinacodec as rc
from retinacodec.circuit import Circuit, check_circuit, evaluating, predict
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError
from retinacodec.models import ToyCircuit
from retinacodec.schema import make_stimulus


def noise(frames=12, size=(3, 3), seed=0):
    values = np.random.default_rng(seed).normal(size=(frames, *size))
    return make_stimulus(values, frame_rate=60, pixel_um=50, name="noise", seed=seed)


class Last(nn.Module):
    """Rate of each cell = the newest frame's pixels, so that windows can be read off."""

    history = 3

    def __init__(self, latency=0):
        super().__init__()
        self.latency = latency
        self.here = nn.Identity()

    def forward(self, x):
        return self.here(x[:, -1].flatten(1))


def test_window_ends_with_the_frame_on_screen():
    movie = noise()
    rate = predict(Circuit(Last(), ["here"]), movie)
    assert rate["time"].values[0] == movie["time"].values[2]
    shown = movie["contrast"].values[2:].reshape(10, 9)
    np.testing.assert_array_equal(rate.values, shown)


def test_latency_shifts_the_window_back():
    movie = noise()
    circuit = Circuit(Last(latency=1), ["here"])
    rate = predict(circuit, movie)
    assert circuit.first_frame == 3
    np.testing.assert_array_equal(rate.values, movie["contrast"].values[2:-1].reshape(9, 9))


def test_prediction_does_not_depend_on_batches():
    movie, circuit = noise(40), Circuit(ToyCircuit(), ["relu1"])
    whole, single = predict(circuit, movie, batch=64), predict(circuit, movie, batch=1)
    np.testing.assert_allclose(whole.values, single.values, atol=1e-6)


def test_movie_shorter_than_the_history_is_refused():
    with pytest.raises(InputError, match="more than 2 frames"):
        predict(Circuit(ToyCircuit(), ["relu1"]), noise(2))


def test_movie_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"frames of \(3, 3\) pixels"):
        predict(Circuit(ToyCircuit(), ["relu1"]), noise(size=(4, 4)))


def test_unknown_layer_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'relu1'"):
        Circuit(ToyCircuit(), ["relu11"])


def test_missing_history_and_double_layer_are_refused_together():
    with pytest.raises(InputError, match=r"history.*named twice"):
        Circuit(nn.Sequential(nn.Identity()), ["0", "0"])


def test_names_must_fit_the_outputs():
    circuit = Circuit(ToyCircuit(), ["relu1"], outputs=["a"])
    with pytest.raises(InputError, match="2 outputs but 1 names"):
        predict(circuit, noise())


def test_contract_finds_dropout_that_ignores_eval():
    class Noisy(nn.Module):
        history = 2

        def forward(self, x):
            return x.flatten(1) + torch.rand(1)

    with pytest.raises(InputError, match="two calls on one input differ"):
        check_circuit(Circuit(Noisy(), []), (2, 2))


def test_contract_finds_a_batch_that_mixes():
    class Mixed(nn.Module):
        history = 2

        def forward(self, x):
            return (x - x.mean(0)).flatten(1)

    with pytest.raises(InputError, match="depends on the others"):
        check_circuit(Circuit(Mixed(), []), (2, 2))


def test_contract_passes_the_toy():
    circuit = Circuit(ToyCircuit(), ["relu1"])
    assert check_circuit(circuit, (3, 3)) is circuit


def test_model_is_left_as_it_was_even_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[0].weight.requires_grad_(False)
    model[1].eval()
    with pytest.raises(RuntimeError), evaluating(model):
        assert not model.training
        raise RuntimeError
    assert model.training
    assert not model[1].training
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad


def test_absent_gpu_is_an_error():
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(InputError, match="no CUDA device"):
        resolve_device("cuda", nn.Linear(1, 1))
    with pytest.raises(InputError, match="expected 'auto'"):
        resolve_device("gpu", nn.Linear(1, 1))
    assert resolve_device("auto", nn.Linear(1, 1)).type == "cpu"


def test_threads_take_turns_with_a_model():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
    ).append(nn.Linear(4 * 36, 2))
    images = torch.randn(12, 2, 8, 8)
    circuits = [rc.Circuit(model, layers, sample="image") for layers in (["0", "2"], ["2"], ["0"])]

    def compute(circuit):
        options = {"rule": rc.Secant(3), "batch": 2, "progress": False}
        trees = [rc.contributions(circuit, images, rc.Class(0), **options) for _ in range(4)]
        return [tree[layer]["contribution"].values for tree in trees for layer in circuit.layers]

    alone = [compute(circuit) for circuit in circuits]
    with ThreadPoolExecutor(3) as threads:
        for found, wanted in zip(threads.map(compute, circuits), alone, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert all(module.training for module in model.modules())
    assert all(one.requires_grad for one in model.parameters())


@pytest.mark.parametrize("fast", [True, False])
def test_inference_mode_around_changes_nothing(fast):
    toy, movie = ToyCircuit(), noise()
    options = {"fast": fast, "progress": False}
    plain = rc.contributions(Circuit(toy, ["relu1"]), movie, rc.Cell(0), **options)
    with torch.inference_mode():
        inside = rc.contributions(Circuit(toy, ["relu1"]), movie, rc.Cell(0), **options)
    assert inside.attrs["path"] == plain.attrs["path"] == ("movie" if fast else "generic")
    np.testing.assert_array_equal(
        inside["relu1"]["contribution"].values, plain["relu1"]["contribution"].values
    )


def test_a_layer_that_runs_without_gradients_is_named():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.out = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x):
            with torch.no_grad():
                seen = self.stem(x.flatten(1))
            return self.out(torch.relu(seen))

    circuit = Circuit(Frozen(), ["stem", "out:input"], sample="image")
    with pytest.raises(InputError, match="'stem' runs without gradients"):
        rc.contributions(circuit, torch.randn(2, 1, 2, 2), rc.Class(0), progress=False)


@pytest.mark.parametrize("enabled", [True, False])
def test_evaluating_leaves_gradients_as_enabled_as_they_were(enabled):
    with torch.set_grad_enabled(enabled), evaluating(ToyCircuit()):
        assert torch.is_grad_enabled() is enabled
    with torch.inference_mode(), evaluating(ToyCircuit()):
        assert not torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
