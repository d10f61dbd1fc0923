"""Interventions: against closed forms and plain loops; hooks gone, others untouched."""

from __future__ import annotations

import threading
from collections import namedtuple

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import retinacodec as rc
from retinacodec.errors import InputError
from retinacodec.interventions import (
    Clamp,
    Corrupt,
    Intervention,
    Mean,
    Offset,
    Resample,
    Scale,
    Silence,
    SimilarityOffset,
    channels_of,
    fade,
    intervening,
    mean_over,
    mode_weights,
    predict_under,
)
from retinacodec.models import DeepRetina, ToyCircuit
from retinacodec.schema import make_stimulus

Pair = namedtuple("Pair", ["values", "weights"])


class Small(nn.Module):
    """Convolution, rectifier in place, pooled, two linear layers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.inner = nn.Linear(4, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        out = self.relu(self.conv(x))
        out += 1
        return self.head(torch.tanh(self.inner(out.mean(dim=(2, 3)))))


class Tokens(nn.Module):
    """A layer that gives a named tuple over (batch, token, dim), and a channels-last picture."""

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(3, 4)

        def forward(self, x):
            return Pair(self.map(x.flatten(2).transpose(1, 2)), None)

    def __init__(self):
        super().__init__()
        self.first = self.First()
        self.last = nn.Identity()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        tokens = self.first(x).values
        picture = self.last(tokens.unflatten(1, (5, 5)))
        return self.head(picture.mean(dim=(1, 2)))


def circuit_of(model, layers, seed=0):
    torch.manual_seed(seed)
    return rc.Circuit(model().eval(), layers, sample="image", output="class")


@pytest.fixture
def small():
    return circuit_of(Small, ["conv", "relu", "inner", "head:input"])


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(11, 3, 5, 5)).astype(np.float32)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def by_hand(model, images, change):
    """Outputs where the rectified values (image, channel, y, x) were changed by hand."""
    with torch.no_grad():
        values = torch.relu(model.conv(torch.as_tensor(images))).numpy().copy()
        changed = torch.from_numpy(change(values)) + 1
        return model.head(torch.tanh(model.inner(changed.mean(dim=(2, 3))))).numpy()


def test_toy_without_its_channels_is_the_bias_and_one_channel_is_closed_form():
    toy = ToyCircuit(depth=1)
    circuit = rc.Circuit(toy, ["relu1"])
    window = torch.randn(7, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    hidden = torch.relu(toy.conv1(window))
    with intervening(circuit, "relu1", [1]):
        got = toy(window)
    alone = hidden[:, 0].flatten(1) @ toy.readout.weight[:, :4].T + toy.readout.bias
    torch.testing.assert_close(got, alone)
    with intervening(circuit, "relu1"):
        assert toy(window).tolist() == [toy.readout.bias.tolist()] * 7
    torch.testing.assert_close(toy(window), toy.readout(hidden.flatten(1)))


@pytest.mark.parametrize(
    ("how", "change"),
    [
        (Silence(), lambda v, c: 0 * v[:, c]),
        (Clamp(0.7), lambda v, c: 0 * v[:, c] + 0.7),
        (Clamp([1, 2, 3, 4]), lambda v, c: 0 * v[:, c] + np.array([3, 1])[:, None, None]),
        (Scale(-2.0), lambda v, c: -2 * v[:, c]),
        (Scale([1, 2, 3, 4]), lambda v, c: v[:, c] * np.array([3, 1])[:, None, None]),
        (Offset([1, 2, 3, 4]), lambda v, c: v[:, c] + np.array([3, 1])[:, None, None]),
    ],
)  # fmt: skip
def test_changes_are_those_of_numpy(small, images, how, change):
    chosen = [2, 0]

    def by(values):
        values[:, chosen] = change(values.copy(), chosen)
        return values.astype(np.float32)

    expected = by_hand(small.model, images, by)
    got = predict_under(small, images, Intervention("relu", chosen, how), batch=4)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    mask = np.array([True, False, True, False])
    got = predict_under(small, images, Intervention("relu", mask, how), batch=100)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert got.dims == ("image", "class") and "relu" in got.attrs["interventions"]


@pytest.mark.parametrize("positions", [True, False])
def test_mean_is_that_of_the_reference_set(small, images, positions):
    reference = images[:6] + 1
    with torch.no_grad():
        values = torch.relu(small.model.conv(torch.as_tensor(reference))).numpy()
    mean = values.mean(axis=0) if positions else values.mean(axis=(0, 2, 3))[:, None, None]

    def by(values):
        values[:, 3] = mean[3]
        return values

    how = mean_over(small, "relu", reference, positions=positions)
    got = predict_under(small, images, Intervention("relu", [3], how))
    np.testing.assert_allclose(got, by_hand(small.model, images, by), atol=1e-6)


def test_resample_takes_whole_samples_of_others_whatever_the_batch(small, images):
    found = {}

    def by(values):
        found["values"] = values
        return values

    by_hand(small.model, images, by)
    whole = [predict_under(small, images, Intervention("relu", None, Resample(s))) for s in (0, 1)]
    plain = predict_under(small, images, []).values
    for got in whole:
        source = np.abs(got.values[:, None] - plain[None]).max(axis=2).argmin(axis=1)
        assert sorted(source) == list(range(11)) and (source != np.arange(11)).all()
        np.testing.assert_allclose(got, plain[source], atol=1e-6)
    assert not np.allclose(*whole)
    some = Intervention("relu", [1, 2], Resample(0))
    one = predict_under(small, images, some, batch=3)
    np.testing.assert_allclose(one, predict_under(small, images, some, batch=64), atol=1e-6)
    with pytest.raises(InputError, match="at least 2 samples"):
        predict_under(small, images[:1], some)


def test_noise_belongs_to_the_sample_and_has_its_deviation(small, images):
    action = Intervention("relu", [0], Corrupt(0.5, seed=3))
    one = predict_under(small, images, action, batch=2)
    np.testing.assert_allclose(one, predict_under(small, images, action, batch=9), atol=1e-6)
    numbers = torch.arange(400)
    noise = Corrupt(0.5, weights=[0, 1, 2])(torch.zeros(400, 3, 4), numbers).numpy()
    assert noise.std(axis=(0, 2)) == pytest.approx([0, 0.5, 1.0], rel=0.05)
    with intervening(small, "relu", [0], Corrupt(0.5, seed=3)), torch.no_grad():
        parts = [small.model(torch.as_tensor(images[at : at + 4])) for at in (0, 4, 8)]
    np.testing.assert_allclose(torch.cat(parts), one, atol=1e-6)


def test_similarity_offset_is_the_cosine_of_sums(images):
    values = torch.as_tensor(images)
    pattern = np.array([1.0, -2.0, 0.5])
    sums = images.sum(axis=(2, 3))
    cosine = sums @ pattern / np.linalg.norm(sums, axis=1) / np.linalg.norm(pattern)
    got = SimilarityOffset(pattern, 3.0)(values, torch.arange(11)).numpy()
    np.testing.assert_allclose(got, images + 3 * cosine[:, None, None, None], atol=1e-5)


def test_several_layers_nest_and_inputs_are_changed(small, images):
    x = torch.as_tensor(images)
    with torch.no_grad():
        out = torch.relu(small.model.conv(x))
        out[:, 1] = 0
        inner = torch.tanh(small.model.inner((out + 1).mean(dim=(2, 3))))
        inner[:, [2, 5]] = 0.25
        expected = small.model.head(inner)
    actions = [Intervention("relu", [1]), Intervention("head:input", [2, 5], Clamp(0.25))]
    np.testing.assert_allclose(predict_under(small, images, actions), expected, atol=1e-6)
    twice = [Intervention("inner", [0], Clamp(1.0)), Intervention("inner", [0], Scale(3.0))]
    once = Intervention("inner", [0], Clamp(3.0))
    np.testing.assert_allclose(
        predict_under(small, images, twice), predict_under(small, images, once), atol=1e-6
    )


def test_tuples_tokens_and_channels_last(images):
    torch.manual_seed(0)
    layers = ["first", rc.Tap("last", channel_axis=-1)]
    circuit = rc.Circuit(Tokens().eval(), layers, sample="image", output="class")
    model = circuit.model
    with torch.no_grad():
        tokens = model.first(torch.as_tensor(images)).values.clone()
        tokens[..., 2] = 0
        expected = model.head(tokens.mean(dim=1))
    for layer in circuit.layers:
        got = predict_under(circuit, images, Intervention(layer, [2]))
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_whole_heads_are_changed():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = nn.Linear(6, 2, bias=False)

        def forward(self, x):
            return self.proj(x.flatten(2).transpose(1, 2)).sum(dim=1)

    circuit = circuit_of(Heads, [rc.Tap("proj", "input", heads=3)])
    x = torch.randn(4, 6, 2, 2)
    kept = x.clone()
    kept[:, 2:4] = 0
    with torch.no_grad():
        expected = circuit.model(kept)
    got = predict_under(circuit, x, Intervention("proj:input:3heads", [1]))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_hooks_go_and_weights_stay_also_after_errors(small, images):
    state = {name: value.clone() for name, value in small.model.state_dict().items()}
    with pytest.raises(KeyError), intervening(small, "relu", [0]):
        raise KeyError("anything")
    with pytest.raises(InputError, match="channels 0 to 3"):
        predict_under(small, images, Intervention("relu", [4]))
    assert hooks(small.model) == 0
    assert all(torch.equal(small.model.state_dict()[name], value) for name, value in state.items())


def test_another_thread_gets_the_model_as_it_is(small, images):
    x, seen = torch.as_tensor(images), {}
    with torch.no_grad():
        plain = small.model(x)
    with intervening(small, "relu"), torch.no_grad():
        other = threading.Thread(target=lambda: seen.update(other=small.model(x).detach()))
        other.start()
        other.join()
        here = small.model(x)
    torch.testing.assert_close(seen["other"], plain, rtol=0, atol=0)
    assert not torch.allclose(here, plain)


def test_contributions_inside_are_those_of_the_changed_circuit(small, images):
    with intervening(small, "relu", [1, 3]):
        parts = rc.contributions(small, images, rc.Class(2), progress=False)
    given = parts["relu"]["contribution"]
    assert not given.sel(channel=[1, 3]).values.any() and given.sel(channel=[0, 2]).values.any()
    assert float(abs(parts["relu"]["residual"]).max()) < 1e-5
    without = predict_under(small, images, Intervention("relu", [1, 3])).values[:, 2]
    np.testing.assert_allclose(parts["value"], without, atol=1e-6)


def test_no_short_cut_passes_by_an_intervention():
    torch.manual_seed(0)
    model = DeepRetina(2, size=(8, 8), history=4, channels=(3, 3), kernels=(3, 3)).eval()
    circuit = rc.Circuit(model, ["conv1", "conv2"])
    frames = np.random.default_rng(1).normal(size=(12, 8, 8))
    movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    options = {"progress": False}
    assert rc.contributions(circuit, movie, rc.Cell(0), **options).attrs["path"] == "movie"
    with intervening(circuit, "conv2", [0], Clamp(-100.0)):
        parts = rc.contributions(circuit, movie, rc.Cell(0), **options)
    rates = predict_under(circuit, movie, Intervention("conv2", [0], Clamp(-100.0)))
    np.testing.assert_allclose(parts["rate"], rates, rtol=1e-5)
    assert not parts["conv2"]["contribution"].sel(channel=0).values.any()
    assert rates.dims == ("time", "cell") and rates.attrs["units"] == "Hz"


def test_silent_failure_is_refused(small, images):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return x.mean(dim=(2, 3)) @ self.fc.weight.T

    around = circuit_of(Around, ["fc"])
    with pytest.raises(InputError, match="without calling it"):
        predict_under(around, images, Intervention("fc", [0]))
    for channels, message in (([0, 0], "twice"), ([0.5], "channel numbers"), ([-1], "0 to 3")):
        with pytest.raises(InputError, match=message):
            predict_under(small, images, Intervention("relu", channels))
    with pytest.raises(InputError, match="no 'none'"):
        predict_under(small, images, Intervention("none"))
    for how, message in (
        (Clamp([1.0, 2.0]), "one number"),
        (Mean([np.nan] * 4), "NaN"),
        (Resample(0, torch.zeros(2, 4, 3, 3)), "shape"),
    ):
        with pytest.raises(InputError, match=message):
            predict_under(small, images, Intervention("relu", [0], how))
    with pytest.raises(InputError, match="scale"):
        Corrupt(-1.0)
    with pytest.raises(InputError, match="constant"):
        fade([2.0, 2.0])
    nothing = predict_under(small, images, Intervention("relu", []))
    np.testing.assert_array_equal(nothing, predict_under(small, images, []))


def test_channels_of_a_mode_are_its_largest_plain_values():
    atoms = np.zeros((2, 2, 5))
    atoms[0, 1] = [0.5, 0, 3, 1, 0]
    atoms[0, 0] = [0, -9, -2, 0, 0]
    atoms[1, 1] = [0, 0, 0, 9, 9]
    modes = xr.Dataset({"atom": (("mode", "sign", "channel"), atoms)}, {"mode": [3, 7]})
    assert mode_weights(modes, 3).values.tolist() == [0.5, -9, 1, 1, 0]
    assert channels_of(modes, 0.6, 3).tolist() == [2, 3, 0]
    assert channels_of(modes, 0.19, 3).size == 0
    assert channels_of(modes, 1.0, 3).tolist() == [2, 3, 0, 4, 1]
    assert channels_of(modes, 0.4, [3, 7]).tolist() == [3, 4]
    for call, message in (
        (lambda: channels_of(modes, 0.5), "mode="),
        (lambda: channels_of(modes, 2.0, 3), "0 to 1"),
        (lambda: channels_of(modes, 0.5, 4), r"no mode \[4\]"),
        (lambda: mode_weights(xr.Dataset()), "atom"),
        (lambda: channels_of(xr.DataArray([np.nan], dims="channel"), 0.5), "finite"),
    ):
        with pytest.raises(InputError, match=message):
            call()


class Inverse(nn.Module):
    """Gives 1 / x, infinite where x is 0."""

    def forward(self, x):
        return 1 / x


def test_what_is_replaced_leaves_nothing_behind():
    """A value that is infinite, replaced or kept, is neither NaN nor carried over."""
    circuit = rc.Circuit(
        nn.Sequential(Inverse(), nn.Flatten()), ["0"], sample="image", output="class"
    )
    given = np.ones((1, 2, 1, 1), np.float32)
    given[0, 0] = 0
    silent = predict_under(circuit, given, Intervention("0", [0]))
    assert silent.values.tolist() == [[0.0, 1.0]]
    other = predict_under(circuit, given, Intervention("0", [1], Scale([1.0, 2.0])))
    assert other.values.tolist() == [[np.inf, 2.0]]


def test_no_batch_is_said(small, images):
    with pytest.raises(InputError, match="batch"):
        predict_under(small, images, (), batch=0)
