"""Steps that are refined until little is unexplained."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

import retinacodec as rc
from retinacodec.errors import InputError


class Kinked(nn.Module):
    """Two rectified layers with offsets, so that paths have kinks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(6, 12), nn.Linear(12, 8)
        self.readout = nn.Linear(8, 2)
        self.aside = nn.Linear(6, 2)

    def forward(self, x):
        x = x.flatten(1)
        return self.readout(torch.relu(self.second(torch.relu(self.first(x)))) ** 2)


IMAGES = 2 * torch.randn(9, 1, 2, 3, generator=torch.Generator().manual_seed(1))


def circuit(*layers):
    return rc.Circuit(Kinked(), layers, sample="image", output="class")


def explained(rule, target=None, layers=("first", "second"), **options):
    target = rc.Class(1) if target is None else target
    return rc.contributions(circuit(*layers), IMAGES, target, rule=rule, progress=False, **options)


def worst(tree, layer):
    change = abs(tree["value"] - tree["baseline_value"])
    return float((abs(tree[layer]["residual"]) / change).max())


@pytest.mark.parametrize("quadrature", ["trapezoid", "left", "right", "midpoint"])
@pytest.mark.parametrize("tolerance", [0.2, 0.05])
def test_every_sample_leaves_less_than_the_tolerance(quadrature, tolerance):
    rule = rc.IntegratedGradients(3, quadrature, tolerance=tolerance, most_steps=4000)
    tree = explained(rule)
    assert tree.attrs["path"] == "adaptive"
    for layer in ("first", "second"):
        assert worst(tree, layer) < tolerance


def test_it_needs_fewer_steps_than_equal_ones_and_more_where_there_are_kinks():
    tree = explained(rc.IntegratedGradients(2, tolerance=0.01, most_steps=4000))
    steps = tree["steps"].values
    assert steps.min() >= 2
    assert steps.max() > 2 * steps.min()
    even = explained(rc.IntegratedGradients(int(np.ceil(steps.mean()))))
    assert worst(tree, "first") < 0.01 < worst(even, "first")


def test_contributions_are_those_of_many_steps():
    fine = explained(rc.IntegratedGradients(3000))
    for layer in ("first", "second"):
        exact = fine[layer]["contribution"].values
        found = explained(rc.IntegratedGradients(4, tolerance=1e-3, most_steps=4000))
        gap = np.linalg.norm(found[layer]["contribution"].values - exact)
        assert gap < 3e-3 * np.linalg.norm(exact)


def test_the_cap_holds():
    tree = explained(rc.IntegratedGradients(4, tolerance=1e-6, most_steps=30))
    assert int(tree["steps"].max()) == 30


def test_without_anything_to_refine_it_is_the_plain_rule():
    tree = explained(rc.IntegratedGradients(6, tolerance=0.999), gradients=True, activations=True)
    plain = explained(rc.IntegratedGradients(6), gradients=True, activations=True)
    assert set(tree["steps"].values) == {6}
    for layer in ("first", "second"):
        for key in ("contribution", "gradient", "activation", "residual"):
            np.testing.assert_allclose(tree[layer][key].values, plain[layer][key].values, atol=2e-5)


def test_result_does_not_depend_on_batches():
    rule = rc.IntegratedGradients(3, tolerance=0.02)
    one, many = (explained(rule, batch=size) for size in (1, 9))
    np.testing.assert_array_equal(one["steps"], many["steps"])
    scale = float(abs(many["first"]["contribution"]).max())
    np.testing.assert_allclose(
        one["first"]["contribution"].values,
        many["first"]["contribution"].values,
        atol=1e-5 * scale,
    )


def test_several_targets_and_baselines_are_refined_together():
    rule = rc.IntegratedGradients(
        3, tolerance=0.05, most_steps=4000, baseline=rc.GivenFrames(IMAGES[:2].numpy() / 3)
    )
    tree = explained(rule, target=lambda outputs: outputs)
    assert tree["first"]["residual"].shape == (9, 2)
    both = abs(tree["first"]["residual"]).values
    # each path stays below its own change; their mean cannot exceed the mean of those
    assert float(both.max()) < 0.05 * float(abs(tree["value"]).max() * 4)


def test_layers_that_are_no_cut_cannot_say_when_to_stop():
    class Around(Kinked):
        def forward(self, x):
            return super().forward(x) + self.aside(x.flatten(1))

    branched = rc.Circuit(Around(), ["second"], sample="image", output="class")
    with pytest.raises(InputError, match="a layer that is a full cut"):
        rc.contributions(
            branched,
            IMAGES,
            rc.Class(0),
            rule=rc.IntegratedGradients(tolerance=0.1),
            progress=False,
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [({"tolerance": 2.0}, "tolerance in 0 to 1"), ({"tolerance": 0.1, "most_steps": 5}, "at most")],
)
def test_impossible_settings_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        rc.IntegratedGradients(20, **options)


def test_a_large_residual_is_a_warning_that_names_the_remedy(caplog):
    with caplog.at_level(logging.WARNING):
        explained(rc.IntegratedGradients(1, "right"))
    assert "take Secant" in caplog.text
    assert "more steps, or a tolerance" in caplog.text
