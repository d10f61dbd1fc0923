"""Mode maps: the loop over interneurons, sums, signs, margins, paths."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import retinacodec as rc
from retinacodec.classifiers import classifier
from retinacodec.errors import InputError
from retinacodec.local_maps import mode_maps, strongest_channels

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))


class Small(nn.Module):
    """Two convolutions with a norm and rectifiers in place, a shortcut, four classes."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(5, 5, 3, padding=1)
        self.relu2 = nn.ReLU6(inplace=True)
        self.fc = nn.Linear(5, 4)
        nn.init.normal_(self.bn1.bias)

    def forward(self, images):
        first = self.relu1(self.bn1(self.conv1(images)))
        return self.fc(self.relu2(self.conv2(first) + first).mean((2, 3)))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Small().double().eval()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(3, 3, 6, 6))


def loop(model, layer, image, score, channels):
    """Sum the maps of single interneurons, each by its own backward pass."""
    held = []
    module = model.get_submodule(layer)
    hook = module.register_forward_hook(lambda m, i, o: held.append(o) or o.clone())
    x = torch.from_numpy(image)[None].requires_grad_()
    outputs = model(x)
    hook.remove()
    (hidden,) = held
    slope = torch.autograd.grad(score(outputs), hidden, retain_graph=True)[0]
    maps = torch.zeros(2, *image.shape, dtype=torch.float64)
    for channel in channels:
        for place in np.ndindex(*hidden.shape[2:]):
            at = (0, channel, *place)
            field = torch.autograd.grad(hidden[at], x, retain_graph=True)[0][0]
            own = slope[at] * (field * x.detach()[0]).sum()
            maps[int(own > 0)] += (slope[at] * field * x.detach()[0]).detach()
    return maps.numpy()


@pytest.mark.parametrize("layer", ["conv1", "relu1", "relu2"])
@pytest.mark.parametrize("target", [rc.Class(2), rc.Margin(), rc.TopK(2)], ids=repr)
def test_maps_equal_the_loop_over_interneurons(model, images, layer, target):
    circuit = classifier(model, [layer])
    atoms = np.random.default_rng(1).normal(size=(2, 5))
    maps = mode_maps(circuit, images, atoms, target, channels=2, progress=False)
    assert maps.dims == ("image", "mode", "sign", "channel", "y", "x")
    for number, image in enumerate(images):
        for mode, atom in enumerate(atoms):
            best = np.argsort(-atom)[:2]
            wanted = loop(model, layer, image, lambda out: target(out)[0], best)
            np.testing.assert_allclose(maps[number, mode].values, wanted, atol=1e-9)
            assert np.abs(wanted).max() > 1e-3
    assert maps.sel(sign="positive").sum(("channel", "y", "x")).min() >= 0
    assert maps.sel(sign="negative").sum(("channel", "y", "x")).max() <= 0
    one = mode_maps(circuit, images, atoms, target, channels=2, batch=1, progress=False)
    np.testing.assert_allclose(one, maps, atol=1e-12)
    whole = mode_maps(circuit, images, atoms, target, channels=2, signs=False, progress=False)
    assert whole.dims == ("image", "mode", "channel", "y", "x")
    np.testing.assert_allclose(whole, maps.sum("sign"), atol=1e-12)


def test_single_precision_is_near(images):
    torch.manual_seed(0)
    single, double = Small().eval(), Small().double().eval()
    double.load_state_dict({k: v.double() for k, v in single.state_dict().items()})
    atoms = np.eye(5)
    near = mode_maps(classifier(single, ["relu1"]), images, atoms, rc.Class(0), progress=False)
    exact = mode_maps(classifier(double, ["relu1"]), images, atoms, rc.Class(0), progress=False)
    assert np.abs(near - exact).max() < 1e-5 * np.abs(exact).max()
    assert near.dtype == np.float32


def test_a_network_without_offsets_is_explained_whole(images):
    """Then sum of C over a full cut is the logit itself, and pixels share it out."""
    torch.manual_seed(0)
    model = Small().double().eval()
    model.relu2 = nn.ReLU()
    for module in (model.conv1, model.bn1, model.conv2, model.fc):
        nn.init.zeros_(module.bias)
    circuit = classifier(model, ["relu2"])
    maps = mode_maps(circuit, images, np.ones((1, 5)), rc.Class(1), channels=None, progress=False)
    with torch.no_grad():
        logits = model(torch.from_numpy(images))[:, 1].numpy()
    np.testing.assert_allclose(maps.sum(("mode", "sign", "channel", "y", "x")), logits, atol=1e-10)


def test_along_a_path_they_are_the_input_maps(model, images):
    circuit = classifier(model, ["relu1"])
    atoms = xr.DataArray(
        np.random.default_rng(2).random((2, 5)), dims=("mode", "channel"), coords={"mode": [7, 9]}
    )
    rule = rc.Secant(3)
    maps = mode_maps(circuit, images, atoms, rc.Class(2), channels=None, rule=rule, progress=False)
    assert maps["mode"].values.tolist() == [7, 9] and "Secant" in maps.attrs["rule"]
    parts = rc.contributions(circuit, images, rc.Class(2), rule=rule, progress=False)
    whole = parts["relu1"]["contribution"].sum("channel")
    for mode in (7, 9):
        total = maps.sel(mode=mode).sum(("channel", "y", "x"))
        np.testing.assert_allclose(total, whole, atol=1e-9)
    local = mode_maps(circuit, images, atoms, rc.Class(2), progress=False)
    assert local["mode"].values.tolist() == [7, 9]


def test_attention_has_maps_by_head(images):
    from networks import SmallViT

    torch.manual_seed(0)
    model = SmallViT(size=8, patch=4, dim=8, depth=2, heads=2).double().eval()
    pictures = np.random.default_rng(0).normal(size=(2, 3, 8, 8))
    for layer, channels in (("blocks.0.attn.proj:input:2heads", 2), ("blocks.1", 8)):
        maps = mode_maps(
            classifier(model, [layer]),
            pictures,
            np.eye(channels),
            rc.Class(1),
            channels=1,
            progress=False,
        )
        assert maps.sizes["mode"] == channels
        both = mode_maps(
            classifier(model, [layer]),
            pictures,
            np.ones((1, channels)),
            rc.Class(1),
            channels=None,
            progress=False,
        )
        total = maps.sum(("mode", "sign")).values
        np.testing.assert_allclose(total, both.sum(("mode", "sign")).values, atol=1e-12)
        assert np.abs(total).max() > 1e-6


def test_the_strongest_channels_by_plain_value():
    signed = xr.DataArray(
        [[[-9.0, 0, 0], [1, 2, 0]]],
        dims=("mode", "sign", "channel"),
        coords={"sign": ["negative", "positive"]},
    )
    assert strongest_channels(signed, 1).tolist() == [[0, 1, 0]]
    assert strongest_channels(signed, 3, weighted=True).tolist() == [[0.5, 1, 0]]
    for atoms, count, words in (
        ([[np.nan, 1]], 1, "finite"),
        ([[1.0, 2]], 3, "1 to 2"),
        ([1.0, 2], 1, "mode, channel"),
    ):
        with pytest.raises(InputError, match=words):
            strongest_channels(atoms, count)
    with pytest.raises(InputError, match="above 0"):
        strongest_channels([[-1.0, -2]], 1, weighted=True)


def test_what_has_no_map_is_refused(model, images):
    circuit = classifier(model, ["relu1"])
    with pytest.raises(InputError, match="4 channels, the layer has 5"):
        mode_maps(circuit, images, np.ones((1, 4)), rc.Class(0), progress=False)
    with pytest.raises(InputError, match="no layer 'relu3'"):
        mode_maps(circuit, images, np.ones((1, 5)), rc.Class(0), layer="relu3", progress=False)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.fc = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(self.relu(self.conv(self.relu(self.conv(x)))).mean((2, 3)))

    twice = classifier(Twice().double().eval(), ["relu"])
    with pytest.raises(InputError, match=r"runs 2 times; take rule=Secant\(\)"):
        mode_maps(twice, images, np.ones((1, 3)), rc.Class(0), progress=False)


def test_derivatives_along_are_those_of_torch():
    from torch.autograd import forward_ad
    from torch.nn import functional as F

    from retinacodec.linear_tangents import LinearTangents

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.ConstantPad2d(1, 0.0),
        nn.Conv2d(6, 4, 1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(100, 5),
    )
    model = model.double().eval()
    nn.init.normal_(model[1].running_mean)
    nn.init.normal_(model[1].bias)
    x, along = torch.randn(2, 2, 3, 6, 6, dtype=torch.float64)
    found = []
    for mode in (LinearTangents(), torch.no_grad()):
        with forward_ad.dual_level(), mode:
            dual = model(4 * F.pad(forward_ad.make_dual(x, along), (0, 0)))
            found.append(forward_ad.unpack_dual(dual))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_settled_norms_and_hard_tangents_take_the_short_way(monkeypatch):
    """Modules name their arguments; the derivative is still one product, in torch's numbers."""
    from torch.autograd import forward_ad

    from retinacodec import linear_tangents

    known = []
    carrier = linear_tangents._carrier

    def watched(func, args, named):
        found = carrier(func, args, named)
        known.append((func.__name__, found is not None))
        return found

    monkeypatch.setattr(linear_tangents, "_carrier", watched)
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(3, eps=0.1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norm.running_mean)
    nn.init.normal_(norm.weight)
    plain = nn.BatchNorm1d(3, affine=False)
    model = nn.Sequential(norm, nn.Hardtanh(-0.3, 0.8), plain).double().eval()
    x, along = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    found = []
    for mode in (linear_tangents.LinearTangents(), torch.no_grad()):
        with forward_ad.dual_level(), mode:
            moved = nn.functional.relu6(model(forward_ad.make_dual(x, along)))
            found.append(forward_ad.unpack_dual(moved))
    torch.testing.assert_close(found[0].primal, found[1].primal, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[0].tangent, found[1].tangent, rtol=1e-12, atol=1e-12)
    short = {name for name, yes in known if yes}
    assert {"batch_norm", "hardtanh", "relu6"} <= short
