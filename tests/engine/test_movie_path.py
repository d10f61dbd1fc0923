"""The fast path gives the numbers of the generic path, for every piece a stack can have."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import retinacodec as rc
from retinacodec.circuit import evaluating, predict
from retinacodec.contribute import contributions
from retinacodec.dense_path import DensePath
from retinacodec.errors import InputError
from retinacodec.event_path import EventPath
from retinacodec.generic_path import GenericPath
from retinacodec.models.deep_retina import DeepRetina
from retinacodec.models.readouts import OnePositionReadout
from retinacodec.models.toy import ToyCircuit
from retinacodec.movie_path import MoviePath
from retinacodec.quadrature import Quadrature
from retinacodec.schema import make_stimulus
from retinacodec.stack_reader import recognise
from retinacodec.tally import Wish
from retinacodec.targets import bind_target

CPU = torch.device("cpu")
SIZE = (14, 13)
FRAMES = torch.randn(16, *SIZE, generator=torch.Generator().manual_seed(3))
RULES = [rc.Secant(4), rc.IntegratedGradients(5), rc.IntegratedGradients(3, "left")]
MODELS = {
    "channel norm": {},
    "unit norm": {"norm": "unit"},
    "one position": {"readout": OnePositionReadout(3)},
    "one layer": {"channels": (4,), "kernels": (5,)},
    "three layers": {"channels": (4, 3, 5), "kernels": (5, 3, 2)},
    "two blocks of cells": {"cells": 37},
}


def scatter(model, seed=1):
    """Give every normalisation statistics of its own, as in a fitted network."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.weight.data.normal_(1, 0.3, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.05, 0.2, generator=generator)
    return model.eval()


def retina(cells=3, **options):
    options = {"channels": (4, 3), "kernels": (5, 3), **options}
    model = scatter(DeepRetina(cells, size=SIZE, history=6, **options))
    model.contrast_scale.fill_(0.3)
    model.rate_scale.copy_(torch.linspace(1, 9, cells))
    return model


def stack(*modules, history=6):
    torch.manual_seed(0)
    model = scatter(nn.Sequential(*[make() for make in modules]))
    model.history = history
    return model


def both(model, layers, rule, target, frames=FRAMES, engine=None, **kept):
    """Return what the generic and the fast path give, and the fast path."""
    circuit = rc.Circuit(model, layers)
    wish = Wish(**({"maps": False, "activations": False, "gradients": False} | kept))
    options = (wish, CPU)
    fast = MoviePath.match(circuit, target, rule, tuple(frames.shape[1:]), *options)
    assert fast is not None
    if engine is not None:
        branch = fast.branches[0]
        fast = replace(fast, branches=(replace(branch, engine=engine(branch.engine)),))
    windows = circuit.windows(frames).contiguous()
    with torch.no_grad(), evaluating(model):
        rates = model(windows)
    names = circuit.output_names(rates.shape[1])
    target = bind_target(target, names, lambda: rates)
    with evaluating(model):
        slow = GenericPath(circuit, target, rule, *options).run(windows)
        quick = fast.bound(target).run(frames, 0, len(windows))
    return slow, quick, fast


def agree(slow, quick, limit=1e-5):
    assert slow.keys() == quick.keys()
    for key, wanted in slow.items():
        found = quick[key]
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), key
        scale = np.linalg.norm(slow["value"] if key.endswith("residual") else wanted)
        assert np.linalg.norm(found - wanted) <= limit * scale + 1e-12, key


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_fast_path_is_the_generic_path_at_every_layer(name, rule):
    model = retina(**MODELS[name])
    slow, quick, fast = both(model, [*model.layers, "readout", "rate"], rule, rc.EachCell())
    assert isinstance(fast.branches[0].engine, EventPath)
    agree(slow, quick)


@pytest.mark.parametrize(
    "target",
    [
        rc.Cell(1),
        rc.Population(),
        rc.Surprisal(shrinkage=0.1),
        rc.TopK(2),
        lambda rates: rates[:, :2] * rates[:, 2:],
    ],
    ids=["cell", "population", "surprisal", "top", "two mixed targets"],
)
@pytest.mark.parametrize("rule", RULES[:2], ids=repr)
def test_fast_path_takes_every_function_of_the_rates(target, rule):
    model = retina()
    slow, quick, _ = both(model, model.layers, rule, target)
    agree(slow, quick)


@pytest.mark.parametrize("name", ["channel norm", "one layer", "three layers"])
@pytest.mark.parametrize("rule", RULES[:2], ids=repr)
@pytest.mark.parametrize("target", [rc.EachCell(), rc.Surprisal(shrinkage=0.1)], ids=repr)
def test_maps_activations_and_gradients_agree(name, rule, target):
    model = retina(**MODELS[name])
    kept = {"maps": True, "activations": True, "gradients": True}
    slow, quick, _ = both(model, [*model.layers, "rate"], rule, target, **kept)
    agree(slow, quick)


@pytest.mark.parametrize("name", ["channel norm", "one layer", "three layers"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_dense_form_agrees(name, rule):
    model = retina(**MODELS[name])
    for kept in ({}, {"maps": True, "activations": True, "gradients": True}):
        slow, quick, fast = both(
            model,
            model.layers,
            rule,
            rc.EachCell(),
            engine=lambda one: DensePath(one.dense.stack, one.dense.quadrature),
            **kept,
        )
        assert isinstance(fast.branches[0].engine, DensePath)
        agree(slow, quick)


SHAPES = {
    "no bias, no norm": (
        lambda: nn.Conv2d(6, 4, 5, bias=False),
        nn.ReLU,
        lambda: nn.Conv2d(4, 3, 3, bias=False),
        nn.ReLU,
        nn.Flatten,
        lambda: nn.Linear(3 * 8 * 7, 2),
    ),
    "padding": (
        lambda: nn.Conv2d(6, 9, (5, 3), padding=(1, 2)),
        nn.ReLU,
        lambda: nn.Conv2d(9, 3, (3, 5), padding=(2, 1)),
        nn.ReLU,
        nn.Flatten,
        lambda: nn.Linear(3 * 14 * 13, 2),
        nn.Softplus,
    ),
    "strides and dilation": (
        lambda: nn.Conv2d(6, 4, 3, stride=(2, 1)),
        nn.ReLU,
        lambda: nn.Conv2d(4, 4, 2, stride=2, groups=2, dilation=2),
        nn.ReLU,
        nn.Flatten,
        lambda: nn.Linear(4 * 2 * 5, 2),
    ),
    "dilated first": (
        lambda: nn.Conv2d(6, 4, 3, dilation=2),
        nn.ReLU,
        nn.Flatten,
        lambda: nn.Linear(4 * 10 * 9, 2),
    ),
    "smooth": (
        lambda: nn.Conv2d(6, 4, 5),
        lambda: nn.BatchNorm2d(4),
        nn.Softplus,
        lambda: nn.Conv2d(4, 3, 3),
        nn.SiLU,
        nn.Flatten,
        lambda: nn.Linear(3 * 8 * 7, 2),
    ),
    "smooth second": (
        lambda: nn.Conv2d(6, 4, 5),
        nn.ReLU,
        lambda: nn.Conv2d(4, 3, 3),
        nn.Tanh,
        nn.Flatten,
        lambda: nn.Linear(3 * 8 * 7, 2),
    ),
    "head of several layers": (
        lambda: nn.Conv2d(6, 4, 5),
        lambda: nn.ReLU(inplace=True),
        nn.Dropout,
        lambda: nn.Conv2d(4, 3, 3),
        lambda: nn.ReLU(inplace=True),
        nn.Flatten,
        lambda: nn.Linear(3 * 8 * 7, 5),
        nn.ReLU,
        lambda: nn.Linear(5, 2),
        nn.Softplus,
    ),
    "values flattened before their norm": (
        lambda: nn.Conv2d(6, 4, 5),
        nn.Flatten,
        lambda: nn.BatchNorm1d(4 * 10 * 9),
        nn.ReLU,
        lambda: nn.Unflatten(1, (4, 10, 9)),
        lambda: nn.Conv2d(4, 3, 3),
        nn.ReLU,
        nn.Flatten,
        lambda: nn.Linear(3 * 8 * 7, 2),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("rule", RULES[:2], ids=repr)
def test_every_shape_of_stack_agrees(name, rule):
    model = stack(*SHAPES[name])
    kinds = (nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.ReLU, nn.Softplus, nn.SiLU, nn.Tanh)
    layers = [str(i) for i, module in enumerate(model) if isinstance(module, kinds)]
    kept = {"activations": True, "gradients": True}
    agree(*both(model, layers, rule, rc.EachCell(), **kept)[:2])


def test_fast_path_is_closer_to_double_precision_than_asked():
    model = retina()
    rule = rc.IntegratedGradients(20)
    _, quick, _ = both(model, model.layers, rule, rc.EachCell())
    wide = copy.deepcopy(model).double()
    circuit = rc.Circuit(wide, model.layers)
    windows = circuit.windows(FRAMES).double()
    with evaluating(wide):
        exact = GenericPath(circuit, rc.EachCell(), rule, Wish(False, False, False), CPU).run(
            windows
        )
    for layer in model.layers:
        wanted = exact[f"{layer}/contribution"]
        gap = np.abs(quick[f"{layer}/contribution"] - wanted).max()
        assert gap < 3e-6 * np.abs(wanted).max(), layer


def test_result_depends_neither_on_pieces_nor_on_threads():
    model = retina()
    _, whole, fast = both(model, model.layers, RULES[0], rc.EachCell())
    pieces = [fast.run(FRAMES, start, min(start + 3, 11)) for start in range(0, 11, 3)]
    joined = {key: np.concatenate([piece[key] for piece in pieces]) for key in whole}
    batches = replace(fast, frames=3).run(FRAMES, 0, 11)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        shared = fast.run(FRAMES, 0, 11)
    finally:
        torch.set_num_threads(threads)
    for key, wanted in whole.items():
        largest = "conv1/contribution" if key.endswith(("residual", "total")) else key
        scale = np.abs(whole[largest]).max()
        np.testing.assert_allclose(batches[key], wanted, atol=1e-6 * scale, err_msg=key)
        np.testing.assert_allclose(shared[key], wanted, atol=1e-6 * scale, err_msg=key)
        np.testing.assert_allclose(joined[key], wanted, atol=1e-5 * scale, err_msg=key)


def movie():
    return make_stimulus(FRAMES.numpy(), frame_rate=60, pixel_um=50, name="noise")


def test_one_switch_turns_it_off_and_the_result_says_which_path_was_taken():
    circuit = rc.Circuit(retina(latency=2), ["relu1", "conv2"])
    fast, slow = (
        contributions(circuit, movie(), rc.Surprisal(), fast=switch, progress=False)
        for switch in (True, False)
    )
    assert (fast.attrs["path"], slow.attrs["path"]) == ("movie", "generic")
    np.testing.assert_allclose(fast["rate"].values, slow["rate"].values, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(fast["time"].values, slow["time"].values)
    for layer in circuit.layers:
        wanted = slow[layer]["contribution"].values
        gap = np.abs(fast[layer]["contribution"].values - wanted).max()
        assert gap < 1e-5 * np.abs(wanted).max()


def test_rates_are_the_models():
    circuit = rc.Circuit(retina(), ["conv1"])
    fast = MoviePath.match(circuit, rc.EachCell(), RULES[0], SIZE, Wish(False, False, False), CPU)
    wanted = predict(circuit, movie()).values
    np.testing.assert_allclose(fast.rates(FRAMES).numpy(), wanted, rtol=1e-5, atol=1e-5)


class Functional(nn.Module):
    """A stack without modules: everything is called by hand."""

    history = 6

    def __init__(self, wrong=""):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shapes = ((4, 6, 5, 5), (3, 4, 3, 3), (2, 3 * 56))
        for number, shape in enumerate(shapes):
            weight = 0.2 * torch.randn(shape, generator=generator)
            self.register_parameter(f"weight{number}", nn.Parameter(weight))
        self.mark = nn.Identity()
        self.wrong = wrong

    def forward(self, x):
        hidden = (functional.conv2d(2 * x, self.weight0) - 0.1).relu()
        hidden = self.mark(hidden)
        if self.wrong == "branches":
            hidden = hidden + hidden.square()
        if self.wrong == "pools":
            hidden = hidden + functional.avg_pool2d(hidden, 3, 1, 1)
        if self.wrong == "scales by position":
            hidden = hidden * torch.arange(9)
        last = torch.clamp(functional.conv2d(hidden, self.weight1), min=0.0)
        if self.wrong == "normalises":
            last = functional.layer_norm(last, last.shape[1:])
        rates = functional.softplus(torch.einsum("bi,oi->bo", last.flatten(1), self.weight2))
        return rates.sort(dim=1).values if self.wrong == "sorts" else rates


@pytest.mark.parametrize("rule", RULES[:2], ids=repr)
def test_model_written_by_hand_is_recognised(rule):
    agree(*both(Functional(), ["mark"], rule, rc.EachCell())[:2])


@pytest.mark.parametrize(
    "wrong", ["branches", "pools", "scales by position", "normalises", "sorts"]
)
def test_what_is_not_a_stack_takes_the_generic_path(wrong):
    model = Functional(wrong)
    circuit = rc.Circuit(model, ["mark"])
    assert recognise(circuit, SIZE) is None
    assert not model.mark._forward_hooks
    rule = rc.IntegratedGradients(3)
    tree = contributions(circuit, movie(), rc.Cell(0), rule=rule, progress=False)
    assert tree.attrs["path"] == "generic"


def test_layer_inside_the_readout_takes_the_generic_path():
    model = retina(readout=OnePositionReadout(3))
    assert recognise(rc.Circuit(model, ["relu2"]), SIZE) is not None
    assert recognise(rc.Circuit(model, ["readout.conv"]), SIZE) is None


@pytest.mark.parametrize("rule", [*RULES, rc.IntegratedGradients(4, "right")], ids=repr)
def test_quadrature_is_the_rule(rule):
    quadrature = Quadrature.of(rule)
    generator = torch.Generator().manual_seed(0)
    a, g = torch.randn((2, 7, quadrature.points), generator=generator, dtype=torch.float64)
    found = torch.einsum("bl,lk,bk->b", g, quadrature.matrix, a)
    torch.testing.assert_close(found, rule.combine(a, g))
    straight = rule.combine(quadrature.fractions.expand_as(g), g)
    torch.testing.assert_close(g @ quadrature.at_points.sum(0), straight)
    torch.testing.assert_close(g @ quadrature.at_intervals.sum(0), straight)


def test_too_many_points_take_the_generic_path():
    assert Quadrature.of(rc.Secant(1000)) is None


def test_the_budget_holds_on_the_fast_path():
    circuit = rc.Circuit(ToyCircuit(), ["relu1"])
    frames = np.random.default_rng(0).normal(size=(300, *circuit.model.size))
    stimulus = make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    wide = rc.plan_contributions(circuit, stimulus, rc.EachCell(), maps=True)
    budget = 0.5 * wide.working_gb
    options = {"maps": True, "budget_gb": budget, "out": "parts.zarr"}
    plan = rc.plan_contributions(circuit, stimulus, rc.EachCell(), **options)
    assert (wide.path, plan.path) == ("movie", "movie")
    assert plan.working_gb <= budget
    with pytest.raises(InputError, match=r"one window takes .* GB, the budget is 1e-09 GB"):
        rc.plan_contributions(circuit, stimulus, rc.EachCell(), budget_gb=1e-9)
    whole = rc.contributions(circuit, stimulus, rc.EachCell(), progress=False)
    for options in ({"batch": 3}, {"budget_gb": budget}):
        parts = rc.contributions(circuit, stimulus, rc.EachCell(), progress=False, **options)
        np.testing.assert_allclose(
            parts["relu1"]["contribution"], whole["relu1"]["contribution"], atol=1e-6
        )
