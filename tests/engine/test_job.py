"""How a computation is divided: runs of points, budgets, images, fallbacks, and what is said."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import retinacodec as rc
from retinacodec.choices import RULES, TARGETS
from retinacodec.circuit import evaluating
from retinacodec.errors import InputError
from retinacodec.generic_path import GenericPath
from retinacodec.memory import measure_need


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.c = nn.Conv2d(5, 4, 3)
        self.readout = nn.Linear(4, 3)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.a(x)), 2)
        x = x[:, :5] + nn.functional.silu(self.b(x))
        return self.readout(torch.relu(self.c(x)).mean(dim=(2, 3)))


IMAGES = torch.randn(7, 2, 12, 12, generator=torch.Generator().manual_seed(5))
LAYERS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def circuit():
    return rc.Circuit(Net().eval(), LAYERS, sample="image", output="class")


def explained(circuit, rule, target=None, **options):
    target = rc.Class(2) if target is None else target
    return rc.contributions(circuit, IMAGES, target, rule=rule, progress=False, **options)


@pytest.mark.parametrize("longest", [2, 3, 4, 7, 12])
@pytest.mark.parametrize(
    "rule",
    [
        rc.Secant(9),
        rc.IntegratedGradients(9),
        rc.IntegratedGradients(9, "left"),
        rc.IntegratedGradients(6, "midpoint"),
        rc.Secant(5, baseline=rc.DrawnFrames(2)),
    ],
    ids=repr,
)
def test_paths_in_runs_are_whole_paths(circuit, rule, longest):
    whole = GenericPath(circuit, rc.TopK(2), rule)
    parts = GenericPath(circuit, rc.TopK(2), rule, longest=longest)
    if rule.baseline != rc.ZeroContrast():
        starts = rule.baseline.starts(IMAGES, IMAGES.shape[1:])
        whole, parts = (
            GenericPath(circuit, rc.TopK(2), rule, starts=starts, longest=one)
            for one in (None, longest)
        )
    found, wanted = parts.run(IMAGES), whole.run(IMAGES)
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        np.testing.assert_allclose(
            found[key], values, atol=3e-6 * max(abs(wanted["value"]).max(), 1), err_msg=key
        )


def test_a_small_budget_gives_the_same_numbers(circuit):
    for rule in (rc.Secant(6), rc.IntegratedGradients(6)):
        large = explained(circuit, rule)
        with evaluating(circuit.model):
            one = measure_need(GenericPath(circuit, rc.Class(2), rule), IMAGES[:1])
        budget = (one.scratch + one.held + 6.5 * one.row) / 1e9
        plan = rc.plan_contributions(circuit, IMAGES, rc.Class(2), rule=rule, budget_gb=budget)
        assert (plan.batch, 1 < plan.longest < 7) == (1, True)
        assert plan.working_gb <= budget
        small = explained(circuit, rule, budget_gb=budget)
        for layer in LAYERS:
            np.testing.assert_allclose(
                small[layer]["contribution"].values,
                large[layer]["contribution"].values,
                atol=1e-5 * float(abs(large["value"]).max()),
            )


def test_a_budget_below_one_interval_is_refused_with_what_it_takes(circuit):
    with pytest.raises(InputError, match=r"one sample takes .* GB, the budget is 1e-06 GB"):
        explained(circuit, rc.Secant(4), budget_gb=1e-6)


def test_measured_need_grows_with_what_is_kept_for_the_backward_pass(circuit):
    one = IMAGES[:1]
    plain = measure_need(GenericPath(circuit, rc.Class(1), rc.IntegratedGradients(5)), one)
    last = rc.Circuit(circuit.model, ["c"], sample="image", output="class")
    short = measure_need(GenericPath(last, rc.Class(1), rc.IntegratedGradients(5)), one)
    tapped = 4 * (6 * 144 + 5 * 36 + 4 * 16)
    assert plain.held == 2 * tapped
    assert short.held == 2 * 4 * 4 * 16
    assert short.row < plain.row


def test_image_results_have_images_and_classes(circuit):
    names = [f"photo {number}" for number in range(7)]
    images = xr.DataArray(
        IMAGES.numpy(), dims=("image", "channel", "y", "x"), coords={"image": names}
    )
    tree = rc.contributions(circuit, images, rc.Class(2), rule=rc.Secant(2), progress=False)
    assert tree["a"]["contribution"].dims == ("image", "sign", "channel")
    assert tree["output"].dims == ("image", "class")
    assert tree["image"].values.tolist() == names
    with torch.no_grad():
        np.testing.assert_allclose(tree["output"], circuit.model(IMAGES), atol=1e-6)
    assert "frame_rate" not in tree.attrs


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(3, 12, 12), r"expected images \(image, channel, y, x\), got \(3, 12, 12\)"),
        (torch.full((1, 2, 12, 12), torch.nan), "NaN"),
        (xr.Dataset(), "got a Dataset"),
    ],
)
def test_what_is_not_images_is_refused(circuit, images, said):
    with pytest.raises(InputError, match=said):
        rc.contributions(circuit, images, rc.Class(0), progress=False)


def test_layers_around_which_the_stimulus_goes_say_so(circuit, caplog):
    with caplog.at_level(logging.WARNING):
        tree = explained(circuit, rc.Secant(3))
    assert tree["a"].attrs["full_cut"]
    assert not tree["b"].attrs["full_cut"]
    assert "'b'" in tree["b"].attrs["bypass"]
    assert caplog.text.count("need not sum to the change") == 1
    change = abs(tree["value"] - tree["baseline_value"]).max()
    assert float(abs(tree["a"]["residual"]).max()) < 1e-5 * float(change)
    assert float(abs(tree["b"]["residual"]).max()) > 1e-2 * float(change)


class Unknown(Net):
    """With an operation that has no exact factor."""

    def forward(self, x):
        return super().forward(x) + torch.special.bessel_j0(self.a(x)).mean(dim=(2, 3))[:, :3]


def test_an_operation_without_exact_factor_is_named_or_the_fallback_taken(caplog):
    circuit = rc.Circuit(Unknown().eval(), ["a"], sample="image", output="class")
    with pytest.raises(InputError, match="bessel_j0"):
        explained(circuit, rc.Secant(5))
    with caplog.at_level(logging.WARNING):
        rule = rc.Secant(5, fallback=rc.IntegratedGradients(40))
        tree = explained(circuit, rule)
    assert "bessel_j0" in caplog.text
    assert tree.attrs["rule"] == "IntegratedGradients(steps=40)"
    assert "fallback" in tree.attrs["rule_asked"]
    plain = explained(circuit, rc.IntegratedGradients(40))
    np.testing.assert_array_equal(tree["a"]["contribution"], plain["a"]["contribution"])


def test_maps_are_written_while_they_are_computed(circuit, tmp_path):
    rule, target = rc.Secant(3), lambda outputs: outputs[:, :2]
    whole = explained(circuit, rule, target, maps=True)
    written = explained(
        circuit, rule, target, maps=True, out=tmp_path / "parts.zarr", batch=3, budget_gb=2
    )
    for layer in LAYERS:
        np.testing.assert_allclose(
            written[layer]["contribution"].values, whole[layer]["contribution"].values, atol=1e-6
        )
        assert written[layer].attrs.keys() == whole[layer].attrs.keys()
    assert written.attrs == whole.attrs
    written.close()
    with pytest.raises(InputError, match=r"out='parts\.zarr'"):
        explained(circuit, rule, target, maps=True, budget_gb=1e-4)


@pytest.mark.parametrize("name", RULES)
def test_every_named_rule_can_be_asked_for(name):
    rule = RULES[name](3)
    assert rule.combine(
        torch.ones(2, len(rule.points()), 4), torch.ones(2, len(rule.points()), 4)
    ).shape == (2, 4)


def test_names_are_the_ones_that_the_command_line_knows():
    from typing import get_args

    from retinacodec.names import RuleName, TargetName

    assert set(get_args(RuleName)) == set(RULES)
    assert set(get_args(TargetName)) == set(TARGETS)


class Namesakes(nn.Module):
    """Layers whose names are alike with underscores for dots, or are those of variables."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.ModuleDict({"b": nn.Conv2d(2, 4, 3), "p/q": nn.ReLU()})
        self.a_b, self.value, self.output = nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Linear(3, 2)

    def forward(self, x):
        return self.output(self.value(self.a_b(self.a["p/q"](self.a["b"](x)))).mean(dim=(2, 3)))


@pytest.mark.parametrize("written", [False, True])
def test_no_layer_takes_the_place_of_another_or_of_a_variable(tmp_path, written):
    layers = ["a.b", "a.p/q", "a_b", "value", "output"]
    circuit = rc.Circuit(Namesakes(), layers, sample="image", output="class")
    out = tmp_path / "parts.zarr" if written else None
    tree = explained(circuit, rc.Secant(3), rc.Class(0), out=out)
    assert list(tree.children) == ["a_b", "a_p_q", "a_b_2", "value_2", "output_2"]
    assert [node.attrs["layer"] for node in tree.children.values()] == layers
    assert [node.sizes["channel"] for node in tree.children.values()] == [4, 4, 3, 3, 2]
    assert all(node.attrs["relative_residual"] < 1e-5 for node in tree.children.values())


def test_a_model_in_double_precision_is_explained_in_it(circuit):
    wide = rc.Circuit(Net().double().eval(), LAYERS, sample="image", output="class")
    tree, single = explained(wide, rc.Secant(4)), explained(circuit, rc.Secant(4))
    scale = float(abs(tree["value"] - tree["baseline_value"]).max())
    assert max(float(abs(tree[layer]["residual"]).max()) for layer in "ac") < 1e-12 * scale
    for layer in LAYERS:
        np.testing.assert_allclose(
            tree[layer]["contribution"].values,
            single[layer]["contribution"].values,
            atol=1e-5 * scale,
        )
    half = rc.Circuit(Net().bfloat16(), LAYERS, sample="image")
    with pytest.raises(InputError, match=r"float32 or float64, got torch.bfloat16; call model.fl"):
        explained(half, rc.Secant(4))


def test_images_are_taken_by_the_names_of_their_dims(circuit):
    dims = ("image", "channel", "y", "x")
    named = xr.DataArray(IMAGES.numpy(), dims=dims).transpose("image", "y", "x", "channel")
    backwards = IMAGES.numpy()[:, :, ::-1][:, :, ::-1]
    wanted = explained(circuit, rc.Secant(2))["value"].values
    for images in (named, backwards):
        tree = rc.contributions(circuit, images, rc.Class(2), rule=rc.Secant(2), progress=False)
        np.testing.assert_array_equal(tree["value"].values, wanted)


@pytest.mark.parametrize(
    ("shape", "said"), [("tuple", "got tuple"), ("flat", r"got \(1,\)"), ("map", r"got \(1, 6, 12")]
)
def test_other_outputs_than_one_row_a_sample_are_refused(shape, said):
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(2, 6, 3, padding=1)

        def forward(self, x):
            h = self.a(x)
            return {"tuple": (h, x), "flat": h.mean(dim=(1, 2, 3)), "map": h}[shape]

    with pytest.raises(InputError, match=rf"expected outputs \(batch, output\) .* {said}"):
        explained(rc.Circuit(Other(), ["a"], sample="image"), rc.Secant(2), lambda y: y.sum(1))


class Reused(nn.Module):
    """One rectifier for two widths, one convolution for two resolutions, both in place."""

    def __init__(self, ignored=False):
        super().__init__()
        torch.manual_seed(0)
        self.ignored = ignored
        self.a, self.wide = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 6, 3)
        self.relu, self.readout = nn.ReLU(inplace=True), nn.Linear(10, 2)

    def forward(self, x):
        coarse = self.a(nn.functional.adaptive_avg_pool2d(x, 1)).flatten(1)
        fine = self.a(x)
        used = self.relu(fine)
        top = self.relu(self.wide(fine if self.ignored else used)).mean(dim=(2, 3))
        return self.readout(torch.cat([coarse, top], dim=1))


def test_calls_of_a_layer_that_have_no_sum_are_refused():
    circuit = rc.Circuit(Reused(), ["relu"], sample="image")
    with pytest.raises(InputError, match=r"'relu'.* 2 times, .*channels \(\(4,\), \(6,\)\)"):
        explained(circuit, rc.Secant(2), rc.Class(0))
    circuit = rc.Circuit(Reused(), ["a"], sample="image")
    with pytest.raises(InputError, match=r"'a'.*positions \(\(4, 1, 1\), \(4, 12, 12\)\).*maps=F"):
        explained(circuit, rc.Secant(2), rc.Class(0), maps=True)
    tree = explained(circuit, rc.Secant(2), rc.Class(0))
    change = (tree["value"] - tree["baseline_value"]).values
    sums = tree["a"]["contribution"].sum(("sign", "channel")).values
    np.testing.assert_allclose(sums, change, atol=1e-6)


def test_a_layer_whose_work_in_place_would_be_lost_is_refused():
    circuit = rc.Circuit(Reused(ignored=True), ["a", "relu:input"], sample="image")
    with pytest.raises(InputError, match="the model gives other outputs; one changes its input"):
        explained(circuit, rc.Secant(2), rc.Class(0))


def test_samples_without_a_target_are_counted_and_left_out_of_the_shares(circuit, caplog):
    def patchy(outputs):
        return torch.where(torch.arange(len(outputs)) < 3, torch.nan, 1) * outputs[:, 0]

    rule = rc.ActivationGradient()
    tree = explained(circuit, rule, patchy, batch=7)
    assert "NaN or infinite for 3 of 7 samples" in caplog.text
    assert np.isfinite([node.attrs["relative_residual"] for node in tree.children.values()]).all()
    caplog.clear()
    tree = explained(circuit, rule, lambda outputs: outputs[:, 0] * torch.nan)
    assert "NaN or infinite for 7 of 7 samples" in caplog.text


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_batches_that_are_none_are_refused(circuit, batch):
    with pytest.raises(InputError, match="whole batch of at least 1, got"):
        explained(circuit, rc.Secant(2), batch=batch)


@pytest.mark.parametrize("budget", [0, -1.0, float("nan")])
def test_budgets_that_are_none_are_refused(circuit, budget):
    with pytest.raises(InputError, match="budget above 0 GB, got"):
        explained(circuit, rc.Secant(2), budget_gb=budget)
