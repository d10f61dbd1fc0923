"""Ablation curves: planted classes with known ratios and areas, loops by hand, bad calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.integrate import trapezoid
from torch import nn

import retinacodec as rc
from retinacodec.analyses.ablation_curves import PERCENTS, ablation_curves, top_correct
from retinacodec.analyses.ablation_figure import draw_ablation, draw_control
from retinacodec.analyses.ablation_rankings import (
    channel_rankings,
    mode_rankings,
    superclass_weights,
)
from retinacodec.analyses.ablations import ablation_summary
from retinacodec.analyses.superclass import superclass_ablation
from retinacodec.errors import InputError
from retinacodec.house_style import figure
from retinacodec.interventions import Clamp, Resample, mean_over

CLASSES, EACH = 5, 4


class Planted(nn.Module):
    """Four channels a class, whose sum is its score; a bias settles what is left at zero."""

    def __init__(self):
        super().__init__()
        self.early = nn.Conv2d(CLASSES * EACH, CLASSES * EACH, 1, bias=False)
        self.layer = nn.ReLU()
        self.head = nn.Linear(CLASSES * EACH, CLASSES, bias=False)
        eye = torch.eye(CLASSES * EACH)
        self.early.weight.data = eye[:, :, None, None]
        self.head.weight.data = torch.kron(torch.eye(CLASSES), torch.ones(1, EACH))

    def forward(self, x):
        return self.head(self.layer(self.early(x)).sum(dim=(2, 3)))


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 12)
    images = 0.2 * rng.random((60, CLASSES * EACH, 2, 2)).astype(np.float32)
    images += np.repeat(np.eye(CLASSES), EACH, axis=1)[labels][:, :, None, None]
    circuit = rc.Circuit(Planted().eval(), ["early", "layer"], sample="image", output="class")
    weights = xr.DataArray(
        np.repeat(np.eye(CLASSES), EACH, axis=1),
        {"class": np.arange(CLASSES)},
        ("class", "channel"),
    )
    return circuit, images.astype(np.float32), labels, weights


def curves_of(planted, **options):
    circuit, images, labels, weights = planted
    given = {"trials": 6, "images_each": 5, "progress": False} | options
    return ablation_curves(circuit, images, labels, {"truth": {"layer": weights}}, **given)


def test_planted_classes_have_known_curves_and_areas(planted):
    curves = curves_of(planted, percents=(5, 20, 40, 100))
    found = ablation_summary(curves, draws=50).sel(selection="truth")
    ablated = found["ratio"].sel(direction="ablate")
    assert ablated.sel(group="target").values.tolist() == [1, 0, 0, 0.0]
    assert ablated.sel(group="off").values[:2].tolist() == [1, 1.0]
    kept = found["ratio"].sel(direction="preserve")
    assert kept.sel(group="target").values.tolist() == [1, 1, 1, 1]
    assert kept.sel(group="off").values[[1, 3]].tolist() == [0, 1]
    assert curves["channels"].values.tolist() == [[1, 4, 8, 20]]
    for direction in ("ablate", "preserve"):
        target, off = (
            trapezoid(found["ratio"].sel(direction=direction, group=g), [5, 20, 40, 100])
            for g in ("target", "off")
        )
        area = found["relative_auc"].sel(direction=direction)
        assert float(area) == pytest.approx((target - off) / off)
    assert found["relative_auc"].sel(direction="ablate") < -0.5
    assert found["relative_auc"].sel(direction="preserve") > 0.5


def test_trials_are_two_classes_and_the_same_for_all(planted):
    curves = curves_of(planted, trials=8)
    assert not (curves["target_class"] == curves["off_class"]).any()
    assert curves["correct_before"].values.all()
    assert curves["percent"].values.tolist() == list(PERCENTS)
    xr.testing.assert_identical(curves, curves_of(planted, trials=8))
    other = curves_of(planted, trials=8, seed=1)
    assert (curves["target_class"] != other["target_class"]).any()


def test_correctness_is_that_of_a_plain_loop(planted):
    circuit, images, labels, _ = planted
    model = circuit.model
    rng = np.random.default_rng(3)
    weights = xr.DataArray(
        rng.normal(size=(CLASSES, 20)), {"class": np.arange(CLASSES)}, ("class", "channel")
    )
    mean = mean_over(circuit, "layer", images)
    made = ablation_curves(
        circuit, images, labels, {"w": {"layer": weights}}, how={"layer": mean}, trials=3,
        images_each=12, percents=(30, 60), random=False, progress=False,
    )  # fmt: skip
    for trial in range(3):
        target = int(made["target_class"][trial])
        for at, count in enumerate((6, 12)):
            heavy = np.argsort(-weights.values[target])[:count]
            with torch.no_grad():
                values = model.layer(model.early(torch.as_tensor(images)))
                values[:, heavy] = torch.as_tensor(mean.values, dtype=torch.float32)[heavy]
                guess = model.head(values.sum(dim=(2, 3))).argmax(dim=1).numpy()
            for group, one in enumerate((target, int(made["off_class"][trial]))):
                got = made["correct"].values[0, 0, at, trial, group].sum()
                assert got == (guess[labels == one] == one).sum()


def test_random_channels_control_nothing(planted):
    curves = curves_of(planted, trials=30, percents=(20, 60, 90), how=Clamp(0.0))
    found = ablation_summary(curves, draws=200)
    chance = found.sel(selection="random", direction="ablate")
    assert chance["relative_auc_low"] < 0 < chance["relative_auc_high"]
    gap = found.sel(selection="truth", other="random", direction="ablate")
    assert gap["difference_high"] < 0
    assert float(found["difference"].sel(selection="random", other="random").max()) == 0
    resampled = curves_of(planted, percents=(20,), how=Resample(1))
    assert (
        resampled["correct"].sel(selection="truth", direction="ablate", group="target").mean() < 1
    )


def test_layers_go_together(planted):
    circuit, images, labels, weights = planted
    nothing = weights.copy(data=np.eye(CLASSES, 20))
    both = ablation_curves(
        circuit, images, labels, {"both": {"early": nothing, "layer": weights}}, percents=(20,),
        trials=3, images_each=3, random=False, progress=False,
    )  # fmt: skip
    assert not both["correct"].sel(direction="ablate", group="target").values.any()
    assert both["channels"].values.tolist() == [[4], [4]]


def test_intervals_cover_a_known_ratio():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(40):
        after = rng.random((1, 2, 2, 12, 2, 20)) < 0.4
        before = np.ones((12, 2, 20), dtype=bool)
        dims = ("selection", "direction", "percent", "trial", "group", "image")
        curves = xr.Dataset(
            {"correct": (dims, after), "correct_before": (dims[3:], before),
             "channels": (("layer", "percent"), [[1, 2]])},
            {"selection": ["a"], "direction": ["ablate", "preserve"], "percent": [1.0, 2.0],
             "group": ["target", "off"]},
        )  # fmt: skip
        found = ablation_summary(curves, draws=100, seed=seed).isel(direction=0, percent=0, group=0)
        hits += bool(found["ratio_low"] <= 0.4 <= found["ratio_high"])
        assert float(found["ratio"][0]) == pytest.approx(after[0, 0, 0, :, 0].mean())
    assert hits >= 34


def test_trials_without_accuracy_before_are_left_out_and_counted(planted):
    curves = curves_of(planted, percents=(20,))
    curves["correct_before"][0, 0] = False
    found = ablation_summary(curves, draws=20)
    assert found["defined"].values.tolist() == [5, 6]
    assert np.isfinite(found["ratio"]).all()
    curves["correct_before"][:, 0] = False
    with pytest.raises(InputError, match="no image of the target"):
        ablation_summary(curves, draws=20)


def test_top_is_that_of_a_sort():
    outputs = np.random.default_rng(0).integers(0, 4, (50, 6)).astype(float)
    classes = np.random.default_rng(1).integers(0, 6, 50)
    for top in (1, 3):
        order = np.argsort(-outputs, axis=1, kind="stable")[:, :top]
        expected = (order == classes[:, None]).any(axis=1)
        np.testing.assert_array_equal(top_correct(outputs, classes, top), expected)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_classes_that_no_output_has_are_refused(wrong):
    """Class -1, "not known", is not the last output."""
    with pytest.raises(InputError, match=f"class {wrong} of 3"):
        top_correct(np.eye(3), np.array([0, 1, wrong]), 1)


def test_rankings_come_from_the_right_mode_and_channel(planted):
    circuit, images, labels, weights = planted
    atoms = np.zeros((6, 2, 20))
    atoms[:5, 1] = weights.values
    loading = np.hstack([np.eye(CLASSES)[labels], np.zeros((60, 1))])
    loading[:, 1] += 0.4 * loading[:, 0]
    modes = xr.Dataset(
        {
            "atom": (("mode", "sign", "channel"), atoms),
            "loading": (("image", "mode"), loading),
        },
        {"mode": np.arange(6) + 10, "sign": ["negative", "positive"]},
    )
    best = mode_rankings(modes, labels)
    assert best["mode"].values.tolist() == [10, 11, 12, 13, 14]
    np.testing.assert_array_equal(best.values, weights.values)
    assert mode_rankings(modes, labels, rank=1)["mode"].values[0] == 11
    np.testing.assert_array_equal(mode_rankings(modes, labels, flip=True), -best)
    with pytest.raises(InputError, match="rank 5"):
        mode_rankings(modes, labels, rank=5)
    both = superclass_weights(modes, np.isin(labels, [2, 3]))
    assert set(both.attrs["modes"]) == {12, 13}
    np.testing.assert_array_equal(both.values, weights.values[[2, 3]].sum(axis=0))
    with pytest.raises(InputError, match="superclass"):
        superclass_weights(modes, labels >= 0)
    parts = rc.contributions(circuit, images, rc.TopK(1), activations=True, progress=False)
    for by in ("correlation", "mean"):
        found = channel_rankings(parts["layer"], labels, by=by)
        assert (
            np.sort(np.argsort(-found.values, 1)[:, :4], 1) == np.arange(20).reshape(5, 4)
        ).all()
    values = np.maximum(images, 0).sum(axis=(2, 3))
    got = channel_rankings(parts["layer"], labels).values[2, 7]
    assert got == pytest.approx(np.corrcoef(values[:, 7], labels == 2)[0, 1])
    with pytest.raises(InputError, match="'correlation' or 'mean'"):
        channel_rankings(parts["layer"], labels, by="sum")


def test_superclass_goes_and_others_stay(planted):
    circuit, images, labels, weights = planted
    both = weights.isel({"class": [1, 4]}).sum("class")
    found = superclass_ablation(
        circuit, images, labels, [1, 4], {"layer": both}, (10, 40), tops=(1, 2), draws=50, random=3
    )
    change = found["change"].sel(top=1)
    assert change.sel(percent=40).values.tolist() == [-1.0, 0.0]
    assert found["median_change"].sel(top=1, percent=40).values.tolist() == [-1.0, 0.0]
    assert found["before"].values.tolist() == [[1, 1], [1, 1]]
    assert (found["random_change"].sel(percent=40, top=1, group="in") > -1).all()
    kept = superclass_ablation(
        circuit, images, labels, [1, 4], {"layer": both}, (40,), direction="preserve", draws=20
    )
    assert kept["change"].sel(top=1, percent=40).values.tolist() == [0.0, -1.0]
    with pytest.raises(InputError, match="outside"):
        superclass_ablation(circuit, images, labels, range(5), {"layer": both})
    with pytest.raises(InputError, match="3 channels, layer 'layer' has 20"):
        superclass_ablation(circuit, images, labels, [1, 4], {"layer": both[:3]})


def test_bad_calls(planted):
    circuit, images, labels, weights = planted
    good = {"truth": {"layer": weights}}
    for changed, message in (
        ({"labels": labels.astype(float)}, "whole numbers"),
        ({"percents": (50, 10)}, "rising"),
        ({"images_each": 13}, "two classes of 13 images"),
        ({"rankings": {"random": {"layer": weights}}}, "rename"),
        ({"rankings": {"a": {"layer": weights * np.nan}}}, "finite"),
        ({"rankings": {}}, "same layers"),
        ({"rankings": {"few": {"layer": weights[:, :7]}}}, "few: 7 channels, layer 'layer' has 20"),
        ({"trials": 0}, "at least 1"),
    ):
        given = {"labels": labels, "rankings": good, "progress": False} | changed
        with pytest.raises(InputError, match=message):
            ablation_curves(circuit, images, **given)


def test_figures_show_every_selection(planted):
    found = ablation_summary(curves_of(planted), draws=30)
    drawing = figure(width_mm=85, height_mm=50)
    axis = draw_ablation(found, drawing.subplots(), words={"truth": "Planted"})
    assert len(axis.lines) == 5 and axis.get_xlabel() == "Channels silenced (%)"
    assert axis.get_legend_handles_labels()[1] == ["Planted", "random"]
    np.testing.assert_allclose(
        axis.lines[0].get_ydata(), found["ratio"].sel(direction="ablate", group="target")[0]
    )
    depth = xr.concat([found, found], dim=xr.IndexVariable("depth", ["a", "b"]))
    axis = draw_control(depth, figure(width_mm=85, height_mm=50).subplots(), direction="preserve")
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b"]
    with pytest.raises(InputError, match="depth"):
        draw_control(found, axis)
    with pytest.raises(InputError, match="'ablate' or 'preserve'"):
        draw_ablation(found, axis, direction="other")
