"""Sources of fields: they sum to the field, twice complete, and zero where a pathway is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from captum.attr import LayerGradientXActivation

import retinacodec as rc
from retinacodec import models
from retinacodec.channel_parts import field_sources
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.gradients import instantaneous_fields
from retinacodec.schema import make_stimulus

MADE = {
    "ToyCircuit": {},
    "DeepRetina": {"cells": 3, "size": (14, 15), "history": 6, "kernels": (5, 3)},
    "CircuitRetina": {"cells": 3, "size": (20, 20)},
}
LAYERS = [
    ("ToyCircuit", "conv1"),
    ("ToyCircuit", "relu2"),
    ("DeepRetina", "conv1"),
    ("DeepRetina", "norm1"),
    ("DeepRetina", "relu1"),
    ("DeepRetina", "conv2"),
    ("DeepRetina", "relu2"),
    ("CircuitRetina", "bipolar"),
    ("CircuitRetina", "interneurons"),
]


def _made(name, dtype=torch.float32, frames=4, **options):
    model = getattr(models, name)(**MADE[name] | options).to(dtype).eval()
    circuit = Circuit(model, layers=[])
    contrast = np.random.default_rng(0).normal(0, 0.6, (circuit.first_frame + frames, *model.size))
    return circuit, make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")


def _close(found, wanted, limit):
    assert abs(np.asarray(found) - np.asarray(wanted)).max() < limit * abs(np.asarray(wanted)).max()


@pytest.mark.parametrize(("name", "layer"), LAYERS)
@pytest.mark.parametrize("split", [False, True])
def test_parts_sum_to_the_instantaneous_field(name, layer, split):
    circuit, movie = _made(name)
    parts = field_sources(circuit, movie, layer=layer, split_signs=split, progress=False)
    whole = instantaneous_fields(circuit, movie, progress=False)
    assert parts.dims == (("source", "sign") if split else ("source",))
    summed = parts.project().sum(parts.dims)
    assert summed.dims == whole.dims
    _close(summed, whole, 1e-5)
    assert abs(parts.rest.latent).max() < 1e-5 * abs(parts.total.latent).max()
    assert parts.bypass is None


@pytest.mark.parametrize(("name", "layer"), LAYERS[1:7:2])
def test_parts_sum_to_the_field_in_double_precision(name, layer):
    circuit, movie = _made(name, torch.float64)
    parts = field_sources(circuit, movie, layer=layer, progress=False)
    whole = instantaneous_fields(circuit, movie, progress=False)
    assert parts.latent.dtype == np.float64
    _close(parts.project().sum(parts.dims), whole, 1e-12)


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_integrated_parts_times_stimulus_are_contributions(name, layer):
    """Double completeness: over pixels the channel's contribution, over channels the field."""
    circuit, movie = _made(name)
    parts = field_sources(circuit, movie, layer=layer, integrated=True, progress=False)
    _close(parts.project().sum(parts.dims), parts.total.project(), 1e-5)
    windows = circuit.windows(torch.from_numpy(movie["contrast"].values)).numpy()
    pixels = np.einsum("tgslyx,tlyx->tsg", parts.project().isel(cell=1).values, windows)
    tapped = Circuit(circuit.model, [layer])
    tree = rc.contributions(tapped, movie, rc.Cell(1), progress=False)
    truth = tree[layer]["contribution"].values
    _close(pixels, truth, 1e-5)
    own = parts.contribution.isel(cell=1).transpose("time", "sign", "source")
    _close(own, truth, 1e-5)


@pytest.mark.parametrize("layer", ["relu1", "relu2"])
def test_each_part_is_the_loop_over_interneurons(layer):
    circuit, movie = _made("DeepRetina", torch.float64, frames=1, size=(9, 9), kernels=(5, 3))
    frame = circuit.first_frame
    found = field_sources(circuit, movie, layer=layer, frames=[frame], cells=1, progress=False)
    model = circuit.model
    kept = []
    hook = model.get_submodule(layer).register_forward_hook(lambda *args: kept.append(args[2]))
    window = circuit.windows(torch.from_numpy(movie["contrast"].values).double())
    window = window.clone().requires_grad_()
    rate = model(window)[0, 1]
    hook.remove()
    slope = torch.autograd.grad(rate, kept[0], retain_graph=True)[0][0]
    tree = rc.contributions(Circuit(model, [layer]), movie, rc.Cell(1), maps=True, progress=False)
    positive = tree[layer]["contribution"].sel(sign="positive").values[0] > 0
    wanted = np.zeros((len(slope), 2, *window.shape[1:]))
    for place in np.ndindex(*slope.shape):
        field = torch.autograd.grad(kept[0][(0, *place)], window, retain_graph=True)[0][0]
        wanted[place[0], int(positive[place])] += (slope[place] * field).detach().numpy()
    _close(found.project().values[0, 0], wanted, 1e-10)


def test_groups_are_weighted_sums_with_their_names():
    circuit, movie = _made("DeepRetina")
    one = field_sources(circuit, movie, layer="conv2", progress=False)
    count = one.latent.sizes["source"]
    weight = np.random.default_rng(1).normal(size=(2, count))
    names = xr.DataArray(weight, dims=("group", "channel"), coords={"group": ["a", "b"]})
    two = field_sources(circuit, movie, layer="conv2", groups=names, batch=3, progress=False)
    wanted = np.einsum("gc,tncskyx->tngskyx", weight, one.latent.values)
    _close(two.latent, wanted, 1e-5)
    assert two.latent["source"].values.tolist() == ["a", "b"]
    _close(two.contribution, np.einsum("gc,tncs->tngs", weight, one.contribution.values), 1e-6)
    rest = two.total.latent - two.latent.sum(two.dims)
    _close(two.rest.latent, rest, 1e-5)
    assert two.labels() == ["a −", "a +", "b −", "b +"]


def test_signs_of_a_shared_target_are_those_of_its_contributions():
    circuit, movie = _made("DeepRetina", frames=30)
    frames = circuit.first_frame + np.arange(4, 9)
    options = {"layer": "relu2", "frames": frames, "target": rc.Surprisal(), "progress": False}
    parts = field_sources(circuit, movie, **options)
    assert parts.contribution.dims == ("time", "source", "sign")
    tree = rc.contributions(
        Circuit(circuit.model, ["relu2"]), movie, rc.Surprisal(), progress=False
    )
    truth = tree["relu2"]["contribution"].values[4:9]
    _close(parts.contribution.transpose("time", "sign", "source"), truth, 1e-4)
    _close(parts.latent.sum(parts.dims), parts.total.latent, 1e-5)
    single = field_sources(circuit, movie, batch=1, **options)
    _close(single.latent, parts.latent, 1e-4)


@pytest.mark.parametrize("layer", ["conv1", "relu2"])
def test_local_signs_are_those_of_captums_gradient_times_activation(layer):
    circuit, movie = _made("DeepRetina")
    rule = rc.ActivationGradient()
    found = field_sources(circuit, movie, layer=layer, cells=2, rule=rule, progress=False)
    windows = circuit.windows(torch.from_numpy(movie["contrast"].values)).float().contiguous()
    method = LayerGradientXActivation(circuit.model, circuit.model.get_submodule(layer))
    peer = method.attribute(windows, target=2).detach().numpy()
    sums = np.stack([np.minimum(peer, 0).sum((2, 3)), np.maximum(peer, 0).sum((2, 3))], axis=-1)
    _close(found.contribution.values[:, 0], sums, 1e-5)


def test_a_silenced_pathway_has_no_part_and_a_bypassed_layer_leaves_a_rest():
    circuit, movie = _made("CircuitRetina", pathways=("ON", "OFF"))
    parts = field_sources(circuit, movie, layer="interneurons", progress=False)
    amacrine = parts.part(source=[4, 5, 6])
    assert float(abs(amacrine.latent).max()) == 0
    assert float(abs(parts.part(source=[0, 1, 2, 3]).latent).max()) > 0
    circuit, movie = _made("CircuitRetina")
    through = field_sources(circuit, movie, layer="amacrine", progress=False)
    cut = field_sources(circuit, movie, layer="interneurons", progress=False)
    assert "around 'amacrine'" in through.bypass
    direct = cut.part(source=[0, 1, 2, 3]).latent
    _close(through.rest.latent, direct, 1e-5)
    _close(through.latent.sel(source=1), cut.latent.sel(source=5), 1e-5)


def test_parts_are_selected_summed_and_weighted():
    circuit, movie = _made("DeepRetina")
    parts = field_sources(circuit, movie, layer="conv1", progress=False)
    some = parts.select(time=[2, 0], cell=[1])
    np.testing.assert_array_equal(some.latent, parts.latent.values[[2, 0]][:, [1]])
    np.testing.assert_array_equal(some.contribution, parts.contribution.values[[2, 0]][:, [1]])
    _close(parts.part().latent, parts.total.latent, 1e-5)
    one = parts.part(source=2, sign="positive")
    np.testing.assert_allclose(one.latent, parts.latent.values[:, :, 2, 1], rtol=1e-6)
    _close(one.mean(), one.project().mean("time"), 1e-5)
    weights = xr.DataArray(np.eye(2), dims=("kind", "sign")).expand_dims(source=8)
    kinds = parts.weighted(weights)
    assert kinds.dims == ("kind",)
    _close(kinds.latent, parts.latent.sum("source").values, 1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": "conv9"}, "no layer 'conv9'"),
        ({"layer": None}, "no layer; pass layer="),
        ({"layer": "conv1:input"}, "lies before the first convolution"),
        ({"groups": np.ones((2, 5))}, r"weights \(group, 8\)"),
        ({"groups": np.full((2, 8), np.nan)}, "finite weights"),
        ({"target": rc.EachCell()}, "expected one target, got 3"),
        ({"budget_gb": 1e-5}, "the budget is"),
        ({"rule": rc.SmoothGradient()}, "has no gradients along one path"),
        ({"rule": rc.ActivationGradient(), "integrated": True}, "has no path"),
    ],
)
def test_what_cannot_be_divided_is_refused(options, said):
    circuit, movie = _made("DeepRetina")
    with pytest.raises(InputError, match=said):
        field_sources(circuit, movie, **{"layer": "conv1"} | options, progress=False)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda parts: parts.part(source=99), "no source 99"),
        (lambda parts: parts.part(mode=0), "no dimension 'mode'"),
        (lambda parts: parts.project(budget_gb=1e-6), "the budget is"),
        (lambda parts: parts.weighted(xr.DataArray(np.ones(8), dims="source")), "expected dims"),
    ],
)
def test_parts_that_are_not_there_are_refused(call, said):
    circuit, movie = _made("DeepRetina", frames=1)
    parts = field_sources(circuit, movie, layer="conv1", progress=False)
    with pytest.raises(InputError, match=said):
        call(parts)
