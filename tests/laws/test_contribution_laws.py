"""Laws that hold for every rule, target and layer of every model, to numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import retinacodec as rc
from retinacodec.contribute import contributions
from retinacodec.schema import check_contributions, make_stimulus

LAYERS = ["conv1", "norm1", "relu1", "conv2", "norm2", "relu2"]
RULES = [rc.Secant(1), rc.Secant(6), rc.IntegratedGradients(60)]
TARGETS = [rc.Cell(1), rc.EachCell(), rc.Population(), rc.Surprisal(), rc.TopK(2)]


def retina(seed=0):
    """A small network with arbitrary batch-norm offsets, as a fitted one has."""
    torch.manual_seed(seed)
    model = nn.Sequential()
    for name, module in {
        "conv1": nn.Conv2d(5, 4, 5),
        "norm1": nn.BatchNorm2d(4),
        "relu1": nn.ReLU(inplace=True),
        "conv2": nn.Conv2d(4, 4, 3),
        "norm2": nn.BatchNorm2d(4),
        "relu2": nn.ReLU(inplace=True),
        "flat": nn.Flatten(),
        "readout": nn.Linear(4 * 36, 3),
        "rate": nn.Softplus(),
    }.items():
        model.add_module(name, module)
    for norm in (model.norm1, model.norm2):
        nn.init.normal_(norm.weight, 1.0, 0.3)
        nn.init.normal_(norm.bias, 0.0, 0.4)
        norm.running_mean.normal_(0.0, 0.2)
    model.history = 5
    return model.eval()


def noise(frames=40, seed=0, shift=0):
    values = np.random.default_rng(seed).normal(size=(frames + shift, 12, 12))[shift:]
    return make_stimulus(values, frame_rate=60, pixel_um=50, name="noise", seed=seed)


@pytest.fixture(scope="module")
def circuit():
    return rc.Circuit(retina(), LAYERS)


both_paths = pytest.mark.parametrize("fast", [True, False], ids=["movie", "generic"])


@both_paths
@pytest.mark.parametrize("target", TARGETS, ids=repr)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_contributions_of_a_full_cut_sum_to_the_change_of_the_target(circuit, rule, target, fast):
    tree = check_contributions(
        contributions(circuit, noise(), target, rule=rule, fast=fast, progress=False)
    )
    change = abs(tree["value"] - tree["baseline_value"])
    limit = 1e-5 if isinstance(rule, rc.Secant) else 0.02
    for layer in LAYERS:
        node = tree[layer].to_dataset()
        total = node["contribution"].sum(("sign", "channel"))
        gap = abs(total - (tree["value"] - tree["baseline_value"]))
        assert float(gap.median() / change.median()) < limit, layer
        np.testing.assert_allclose(
            (total - (tree["value"] - tree["baseline_value"])).values,
            node["residual"].values,
            atol=1e-6 * float(change.max()),
        )


@pytest.mark.parametrize("rule", [rc.Secant(4)], ids=repr)
@both_paths
def test_conv_norm_and_relu_taps_agree_channel_by_channel(circuit, rule, fast):
    tree = contributions(circuit, noise(), rc.Surprisal(), rule=rule, fast=fast, progress=False)
    for triple in (LAYERS[:3], LAYERS[3:]):
        first = tree[triple[0]]["contribution"].values
        for layer in triple[1:]:
            np.testing.assert_allclose(
                tree[layer]["contribution"].values, first, atol=2e-6 * abs(first).max()
            )


def test_conv_and_norm_taps_agree_for_the_trapezoid_too(circuit):
    rule = rc.IntegratedGradients(7)
    tree = contributions(circuit, noise(), rc.Surprisal(), rule=rule, progress=False)
    for a, b in (("conv1", "norm1"), ("conv2", "norm2"), ("relu1", "conv2")):
        first = tree[a]["contribution"].sum(("sign", "channel")).values
        second = tree[b]["contribution"].sum(("sign", "channel")).values
        np.testing.assert_allclose(first, second, atol=3e-6 * abs(first).max())


@pytest.mark.parametrize("rule", RULES, ids=repr)
@both_paths
def test_result_does_not_depend_on_batches(circuit, rule, fast):
    one, many = (
        contributions(
            circuit, noise(), rc.EachCell(), rule=rule, batch=size, fast=fast, progress=False
        )
        for size in (1, 64)
    )
    for layer in LAYERS:
        np.testing.assert_allclose(
            one[layer]["contribution"].values,
            many[layer]["contribution"].values,
            atol=1e-6 * float(abs(one["value"]).max()),
        )


def test_a_shift_in_time_shifts_the_result(circuit):
    early = contributions(circuit, noise(40), rc.Cell(0), progress=False)
    late = contributions(circuit, noise(37, shift=3), rc.Cell(0), progress=False)
    for layer in LAYERS:
        np.testing.assert_allclose(
            early[layer]["contribution"].values[3:], late[layer]["contribution"].values, atol=1e-6
        )


def test_zero_contrast_contributes_nothing(circuit):
    grey = make_stimulus(np.zeros((8, 12, 12)), frame_rate=60, pixel_um=50, name="grey")
    tree = contributions(circuit, grey, rc.EachCell(), progress=False)
    for layer in LAYERS:
        assert abs(tree[layer]["contribution"].values).max() == 0.0


def test_error_of_the_trapezoid_falls_with_its_steps(circuit):
    errors = []
    for steps in (5, 20, 80):
        rule = rc.IntegratedGradients(steps)
        tree = contributions(circuit, noise(), rc.Surprisal(), rule=rule, progress=False)
        errors.append(float(np.median(abs(tree["conv1"]["residual"].values))))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@both_paths
def test_left_rule_is_captums_layer_conductance(circuit, fast):
    captum = pytest.importorskip("captum.attr")
    movie = noise(8)
    windows = circuit.windows(torch.from_numpy(movie["contrast"].values)).contiguous()
    rule = rc.IntegratedGradients(10, "left")
    ours = contributions(
        circuit, movie, rc.Cell(2), rule=rule, maps=True, fast=fast, progress=False
    )
    model = retina()
    for module in (model.relu1, model.relu2):
        module.inplace = False
    for layer in ("conv1", "conv2"):
        conductance = captum.LayerConductance(model, getattr(model, layer))
        theirs = conductance.attribute(
            windows, target=2, n_steps=10, method="riemann_trapezoid"
        ).detach()
        mine = ours[layer]["contribution"].sum("sign").values
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-5 * float(abs(theirs).max()))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_fast_path_is_the_generic_path(circuit, rule):
    trees = [
        contributions(circuit, noise(), rc.EachCell(), rule=rule, fast=fast, progress=False)
        for fast in (True, False)
    ]
    assert [tree.attrs["path"] for tree in trees] == ["movie", "generic"]
    for layer in LAYERS:
        quick, plain = (tree[layer]["contribution"].values for tree in trees)
        assert np.linalg.norm(quick - plain) < 1e-5 * np.linalg.norm(plain)


@pytest.mark.gpu
def test_cpu_and_gpu_agree(circuit):
    cpu, gpu = (
        contributions(circuit, noise(), rc.EachCell(), device=device, progress=False)
        for device in ("cpu", "cuda")
    )
    for layer in LAYERS:
        np.testing.assert_allclose(
            cpu[layer]["contribution"].values, gpu[layer]["contribution"].values, atol=1e-4
        )
