"""Silencing, pruning and effects of modes: closed forms on linear circuits, scipy, plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch import nn

import retinacodec as rc
from retinacodec.analyses.mode_effects import _matched, mode_mode_effects, mode_output_effects
from retinacodec.analyses.pruning import draw_pruning, importance, pruning_curves, weight_norms
from retinacodec.analyses.silencing import (
    effect_correlations,
    rival_quantities,
    silencing_effects,
)
from retinacodec.errors import InputError
from retinacodec.house_style import figure
from retinacodec.interventions import Clamp, Intervention, predict_under
from retinacodec.models import DeepRetina
from retinacodec.schema import make_stimulus


class Linear(nn.Module):
    """A hidden layer, then weights: silencing a channel takes its activation times its weight."""

    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(3, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.layer = nn.ReLU()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.layer(self.norm(self.map(x))).sum(dim=(2, 3)))


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    model = Linear()
    model.norm.weight.data = torch.linspace(0.5, 2, 6)
    model.norm.running_var = torch.linspace(1, 3, 6)
    return rc.Circuit(model.eval(), ["layer", "norm"], sample="image", output="class")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(40, 3, 3, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def retina():
    torch.manual_seed(0)
    model = DeepRetina(2, size=(8, 8), history=4, channels=(3, 3), kernels=(3, 3)).eval()
    frames = np.random.default_rng(1).normal(size=(180, 8, 8))
    movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    return rc.Circuit(model, ["conv1", "conv2"]), movie


def hidden(circuit, images):
    model = circuit.model
    with torch.no_grad():
        values = model.layer(model.norm(model.map(torch.as_tensor(images))))
    return values.sum(dim=(2, 3)).numpy().astype(float)


def test_effects_of_a_linear_readout_are_activation_times_weight(linear, images):
    weight = linear.model.head.weight.detach().numpy()
    effects = silencing_effects(linear, images, "layer", rc.Class(2), progress=False)
    expected = hidden(linear, images) * weight[2]
    np.testing.assert_allclose(effects, expected, atol=1e-5)
    assert effects.dims == ("image", "channel")
    groups = {"first": [0, 1], "all": list(range(6))}
    both = silencing_effects(linear, images, "layer", rc.Class(2), groups=groups, progress=False)
    np.testing.assert_allclose(both.sel(group="first"), expected[:, :2].sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(both.sel(group="all"), expected.sum(axis=1), atol=1e-5)


def test_the_target_chosen_is_that_of_the_whole_circuit(linear, images):
    plain = predict_under(linear, images, []).values
    effects = silencing_effects(linear, images, "layer", rc.TopK(1), Clamp(5.0), progress=False)
    changed = predict_under(linear, images, Intervention("layer", [3], Clamp(5.0))).values
    best = plain.argmax(axis=1)
    rows = np.arange(40)
    assert (changed.argmax(axis=1) != best).any()
    np.testing.assert_allclose(
        effects.sel(channel=3), plain[rows, best] - changed[rows, best], atol=1e-5
    )


def test_correlations_are_those_of_scipy(linear, images):
    rng = np.random.default_rng(2)
    effects = silencing_effects(linear, images, "layer", rc.Class(0), progress=False)
    other = effects + rng.normal(size=effects.shape) * float(effects.std())
    found = effect_correlations(effects, {"noisy": other, "same": effects}, draws=50)
    one = found.sel(quantity="noisy")
    for channel in (0, 4):
        pair = effects.values[:, channel], other.values[:, channel]
        assert float(one["pearson"][channel]) == pytest.approx(stats.pearsonr(*pair)[0])
        assert float(one["spearman"][channel]) == pytest.approx(stats.spearmanr(*pair)[0])
    flat = effects.values.ravel(), other.values.ravel()
    assert float(one["pooled_pearson"]) == pytest.approx(stats.pearsonr(*flat)[0])
    assert float(one["pooled_spearman"]) == pytest.approx(stats.spearmanr(*flat)[0])
    within = [stats.spearmanr(a, b)[0] for a, b in zip(effects.values, other.values, strict=True)]
    assert float(one["within_spearman"]) == pytest.approx(np.mean(within))
    assert float(one["mean_pearson"]) == pytest.approx(float(one["pearson"].mean()))
    assert found["mean_spearman"].sel(quantity="same") == pytest.approx(1)
    assert one["mean_pearson_low"] < one["mean_pearson"] < one["mean_pearson_high"]
    assert found["advantage"].values[1] == pytest.approx(float(one["mean_pearson"]) - 1)
    assert float(found["advantage_high"][1]) < 0


def test_contributions_foretell_a_linear_readout_exactly_and_rivals_less(linear, images):
    effects = silencing_effects(linear, images, "layer", rc.Class(1), progress=False)
    parts = rc.contributions(
        linear, images, rc.Class(1), activations=True, gradients=True, progress=False
    )
    found = effect_correlations(effects, rival_quantities(parts["layer"]), draws=50)
    assert list(found["quantity"].values) == ["contribution", "activation", "gradient"]
    moves = found["pearson"].sel(quantity="contribution")
    assert (moves > 0.999).all()
    assert found["mean_pearson"].sel(quantity="activation") < 0.9
    assert found["mean_pearson"].sel(quantity="gradient").isnull()


def test_a_channel_that_never_acts_is_nan_and_left_out():
    effects = xr.DataArray(np.c_[np.zeros(9), np.arange(9.0)], dims=("image", "channel"))
    effects = effects.assign_coords(image=np.arange(9))
    found = effect_correlations(effects, {"a": effects + 1}, draws=20)
    assert np.isnan(found["pearson"].values[0, 0]) and found["mean_pearson"].values[0] == 1
    for bad, message in ((effects * np.nan, "NaN"), (effects[:2], "3 samples")):
        with pytest.raises(InputError, match=message):
            effect_correlations(bad, {"a": bad})
    with pytest.raises(InputError, match="shape"):
        effect_correlations(effects, {"a": effects[:, :1]})


def test_several_targets_are_refused(linear, images):
    class Two:
        def __call__(self, outputs):
            return outputs[:, :2]

    with pytest.raises(InputError, match="one scalar"):
        silencing_effects(linear, images, "layer", Two(), progress=False)


def test_pruning_curves_are_those_of_a_loop(linear, images):
    outputs = predict_under(linear, images, []).values
    labels = outputs.argmax(axis=1)
    labels[::7] = (labels[::7] + 1) % 4
    order = xr.DataArray([3.0, 1.0, 5.0, 0.0, 2.0, 4.0], dims="channel")
    shares = (0.0, 0.34, 0.67, 1.0)
    given = {"shares": shares, "draws": 100, "random": 2, "progress": False}
    found = pruning_curves(linear, images, {"mine": {"layer": order}}, labels=labels, **given)
    for at, gone in enumerate(([], [3, 1], [3, 1, 4, 0], list(range(6)))):
        changed = predict_under(linear, images, Intervention("layer", gone)).values
        expected = (changed.argmax(axis=1) == labels).mean()
        assert float(found["kept"].sel(order="mine")[at]) == pytest.approx(expected)
    kept = found["kept"].sel(order="mine").values
    area = sum((kept[k] + kept[k + 1]) / 2 * (shares[k + 1] - shares[k]) for k in range(3))
    assert float(found["auc"].sel(order="mine")) == pytest.approx(area)
    assert found["auc_low"][0] < area < found["auc_high"][0]
    rates = pruning_curves(linear, images, {"mine": {"layer": order}}, **given)
    changed = predict_under(linear, images, Intervention("layer", [3, 1])).values
    r = np.mean([stats.pearsonr(a, b)[0] for a, b in zip(outputs.T, changed.T, strict=True)])
    assert rates["kept"].sel(order="mine").values[[0, 1, 3]] == pytest.approx([1, r, 0], abs=1e-5)
    axis = draw_pruning(rates, figure(width_mm=85, height_mm=50).subplots())
    assert len(axis.lines) == 2 and "Correlation" in axis.get_ylabel()
    for orders, more, message in (
        ({"random": {"layer": order}}, {}, "rename"),
        ({"a": {"layer": order * np.nan}}, {}, "finite"),
        ({"a": {"layer": order}}, {"labels": labels[:3]}, "labels"),
        ({"a": {"layer": order}}, {"shares": (1.0, 0.0)}, "rising"),
    ):
        with pytest.raises(InputError, match=message):
            pruning_curves(linear, images, orders, **(given | more))


def test_importance_and_weight_norms(linear, images):
    parts = rc.contributions(linear, images, rc.Class(1), progress=False)
    expected = abs(parts["layer"]["contribution"].sum("sign")).mean("image")
    np.testing.assert_allclose(importance(parts["layer"]), expected)
    model = linear.model
    norms = model.map.weight.detach().flatten(1).norm(dim=1)
    gain = model.norm.weight.detach() / (model.norm.running_var + model.norm.eps).sqrt()
    for layer in ("norm", "layer"):
        np.testing.assert_allclose(weight_norms(linear, layer), norms * gain, rtol=1e-6)


def test_rate_changes_are_those_of_a_loop_and_matched(retina):
    circuit, movie = retina
    plain = predict_under(circuit, movie, []).values.astype(float)
    rng = np.random.default_rng(0)
    on = rng.random((len(plain), 3)) < 0.3
    on[:, 2] = False
    atoms = np.zeros((3, 2, 3))
    atoms[:, 1] = np.eye(3)
    modes = xr.Dataset(
        {"atom": (("mode", "sign", "channel"), atoms), "loading": (("time", "mode"), 1.0 * on)},
        {"mode": [0, 1, 2]},
    )
    found = mode_output_effects(
        circuit, movie, "conv2", modes, share=0.34, random=2, draws=50, block_seconds=0.1,
        progress=False,
    )  # fmt: skip
    for mode in (0, 1):
        changed = predict_under(circuit, movie, Intervention("conv2", [mode])).values - plain
        for cell in (0, 1):
            off = np.flatnonzero(~on[:, mode])
            twin = [off[np.abs(plain[off, cell] - plain[i, cell]).argmin()]
                    for i in np.flatnonzero(on[:, mode])]  # fmt: skip
            expected = changed[on[:, mode], cell].mean() - changed[twin, cell].mean()
            one = found.isel(mode=mode, cell=cell)
            assert float(one["contrast"]) == pytest.approx(expected, rel=1e-3, abs=1e-5)
            assert one["contrast_low"] < one["contrast"] < one["contrast_high"]
            assert float(one["output_on"]) == pytest.approx(float(one["output_off"]), rel=0.05)
    assert found["contrast"].sel(mode=2).isnull().all()
    assert found["contrast_random"].shape == (2, 3, 2)
    assert _matched(plain, np.ones(len(plain), dtype=bool)) is None


def test_a_mode_moves_the_later_mode_that_it_feeds():
    class Chain(nn.Module):
        history, size = 1, (2, 2)

        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False)
            self.readout = nn.Linear(8, 1, bias=False)
            self.one.weight.data = torch.tensor([1.0, -1.0])[:, None, None, None]
            self.two.weight.data = torch.eye(2)[:, :, None, None]
            self.readout.weight.data = torch.ones(1, 8)

        def forward(self, x):
            second = torch.relu(self.two(torch.relu(self.one(x))))
            return self.readout(second.flatten(1))

    frames = np.random.default_rng(0).normal(size=(240, 1, 1)) * np.ones((1, 2, 2))
    movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="full field")
    circuit = rc.Circuit(Chain(), ["one", "two"])
    parts = rc.contributions(circuit, movie, rc.Cell(0), progress=False, fast=False)
    modes = [
        rc.analyses.find_modes(
            parts[layer], dictionary=rc.DirectPursuit(modes=2), gap=0, stability_seeds=0,
            halves=False, progress=False,
        )
        for layer in circuit.layers
    ]  # fmt: skip
    found = mode_mode_effects(
        circuit, movie, ("one", "two"), tuple(modes), rc.Cell(0), share=0.5, shifts=99,
        least_seconds=0.2, progress=False,
    )  # fmt: skip
    channel = [np.abs(one["atom"]).sum("sign").argmax("channel").values for one in modes]
    fed = channel[0][:, None] == channel[1][None]
    assert (found["contrast"].values[fed] > 0).all() and found["discovered"].values[fed].all()
    np.testing.assert_allclose(found["effect"].values[~fed], 0, atol=1e-6)
    loading = modes[1]["loading"]
    whole = [float(loading[:, k].where(loading[:, k] > 0).mean()) for k in range(2)]
    np.testing.assert_allclose(
        found["effect"].values[fed], np.array(whole)[fed.nonzero()[1]], rtol=0.2
    )
    with pytest.raises(InputError, match="samples for"):
        short = (modes[0].isel(time=slice(9)), modes[1])
        mode_mode_effects(circuit, movie, ("one", "two"), short, rc.Cell(0), progress=False)
