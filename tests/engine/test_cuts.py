"""Cuts of small networks of every shape, and their meaning: which layers' contributions add up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import retinacodec as rc
from retinacodec.cuts import bypass
from retinacodec.errors import InputError

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def cuts(model, *layers, sample=IMAGE):
    taps = {}
    for layer in layers:
        name, _, side = layer.partition(":")
        taps[layer] = (name, side or "output")
    return bypass(model, taps, sample)


def around(layer, course):
    return f"the stimulus also reaches the outputs around {layer!r}, {course}"


def retina():
    model = nn.Sequential()
    for name, module in {
        "conv1": nn.Conv2d(3, 4, 3),
        "norm1": nn.BatchNorm2d(4),
        "relu1": nn.ReLU(inplace=True),
        "conv2": nn.Conv2d(4, 4, 3),
        "relu2": nn.ReLU(inplace=True),
        "flat": nn.Flatten(),
        "gate": nn.ReLU(inplace=True),
        "readout": nn.Linear(64, 2),
        "rate": nn.Softplus(),
    }.items():
        model.add_module(name, module)
    return model


class Residual(nn.Module):
    """A block as ResNet has it; the stride asks for a shortcut of its own."""

    def __init__(self, inputs, channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, channels, 1, stride) if stride > 1 else None

    def forward(self, x):
        y = self.conv2(self.relu(self.bn1(self.conv1(x))))
        y += x if self.shortcut is None else self.shortcut(x)
        return torch.relu_(y)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.one = Residual(4, 4)
        self.two = Residual(4, 8, stride=2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.two(self.one(self.stem(x))).mean((2, 3)))


class VitBlock(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 5, 8))
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.Sequential(VitBlock(), VitBlock())
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.deep = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)
        self.merge = nn.Conv2d(8, 4, 3, padding=1)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        high = self.down(x)
        low = self.up(self.deep(self.pool(high)))
        return self.out(self.merge(torch.cat([high, low], 1)).mean((2, 3)))


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.narrow = nn.Conv2d(3, 4, 1)
        self.broad = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.mixed = nn.Identity()
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        mixed = torch.cat([self.narrow(x), self.broad(x)], 1)
        return self.out(self.mixed(mixed).mean((2, 3)))


def test_every_layer_of_a_chain_is_a_cut_even_in_place():
    names = list(dict(retina().named_children()))
    found = cuts(retina(), *names, *(f"{name}:input" for name in names))
    assert found == dict.fromkeys(found)


def test_blocks_of_a_residual_network_are_cuts_and_what_is_inside_them_not():
    found = cuts(
        ResNet(), "stem", "one", "one.conv1", "one:input", "two", "two.shortcut", "two.bn1"
    )
    assert found == {
        "stem": None,
        "one": None,
        "one.conv1": around("one.conv1", "by a shortcut that ends at 'one'"),
        "one:input": None,
        "two": None,
        "two.shortcut": around("two.shortcut", "by way of 'two.conv1'"),
        "two.bn1": around("two.bn1", "by way of 'two.shortcut'"),
    }


def test_blocks_of_a_vision_transformer_are_cuts_and_its_attention_and_mlp_not():
    found = cuts(
        Vit(),
        *("patch", "blocks.0", "blocks.1", "norm", "blocks.1:input"),
        *("blocks.0.attn", "blocks.0.mlp", "blocks.1.mlp.1", "blocks.1.norm2"),
    )
    assert [layer for layer, reason in found.items() if reason is None] == [
        *("patch", "blocks.0", "blocks.1", "norm", "blocks.1:input")
    ]
    assert found["blocks.0.mlp"] == around("blocks.0.mlp", "by a shortcut that ends at 'blocks.0'")
    assert "ends at 'blocks.1'" in found["blocks.1.mlp.1"]


def test_a_skip_goes_around_the_deep_layers_of_a_u_net():
    found = cuts(Unet(), "down", "deep", "up", "merge")
    assert found["down"] is None and found["merge"] is None
    assert found["deep"] == around("deep", "by a shortcut that ends at 'merge'")
    assert found["up"] == around("up", "by a shortcut that ends at 'merge'")


def test_each_of_two_branches_goes_around_the_other():
    found = cuts(Inception(), "narrow", "broad", "broad.0", "mixed", "mixed:input", "narrow:input")
    assert found == {
        "narrow": around("narrow", "by way of 'broad.0'"),
        "broad": around("broad", "by way of 'narrow'"),
        "broad.0": around("broad.0", "by way of 'narrow'"),
        "mixed": None,
        "mixed:input": None,
        "narrow:input": (
            "the stimulus also reaches the outputs around the input of 'narrow', "
            "by way of 'broad.0'"
        ),
    }


class Reused(nn.Module):
    """One convolution over both eyes, one rectifier twice in a row."""

    def __init__(self):
        super().__init__()
        self.eye = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        left, right = self.eye(x), self.eye(x.flip(-1))
        return self.relu(self.out(self.relu(torch.cat([left, right], 1)).mean((2, 3))))


def test_calls_of_a_reused_module_are_one_layer_unless_they_follow_each_other():
    found = cuts(Reused(), "eye", "relu")
    assert found["eye"] is None
    assert (
        found["relu"]
        == "a way from the stimulus crosses 'relu' more than once and is counted as often"
    )


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.state = nn.GRU(4, 4, batch_first=True)
        self.aside = nn.Linear(4, 4)
        self.never = nn.Linear(4, 4)
        self.bias = nn.Linear(1, 4)
        self.named = Named()
        self.both = Both()

    def forward(self, x):
        x = self.body(x)
        self.aside(x)
        x = x + self.bias(torch.ones(len(x), 1))
        steps, _ = self.state(x[:, None])
        x = self.named(values=steps[:, 0], scale=2)
        return sum(self.both(x))


class Named(nn.Module):
    def forward(self, values, scale):
        return scale * values


class Both(nn.Module):
    def forward(self, x):
        return x.sin(), x.cos()


def test_layers_that_are_not_on_the_way_say_so():
    sample = torch.randn(1, 4)
    found = cuts(Strange(), "aside", "never", "bias", "body", "state", "both", sample=sample)
    assert found == {
        "aside": "nothing of 'aside' reaches the outputs",
        "never": "'never' was not called while the model ran",
        "bias": "the stimulus does not reach 'bias' in a way that can be differentiated",
        "body": None,
        "state": None,
        "both": around("both", "by way of 'both'"),
    }
    entering = cuts(Strange(), "named:input", "bias:input", "aside:input", sample=sample)
    assert entering == {
        "named:input": None,
        "bias:input": "the stimulus does not reach the input of 'bias' in a way that can be "
        "differentiated",
        "aside:input": "nothing of the input of 'aside' reaches the outputs",
    }


@pytest.mark.parametrize("make", [ResNet, Vit, Unet, Inception, Reused])
def test_a_layer_is_a_cut_exactly_where_contributions_are_complete(make):
    """In a network made linear, gradient times value at a layer sums to the output for cuts."""
    torch.manual_seed(0)
    model = make().eval()
    names = [name for name, _ in model.named_modules() if name]
    reasons = cuts(model, *names)
    if make is Vit:
        return  # its attention and norms are not linear; the shapes above stand for it
    for module in list(model.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.ReLU):
            module.forward = torch.Tensor.clone
    kept = {name: [] for name in names}

    def keep(name):
        def hook(module, inputs, output):
            kept[name].append(output)
            return output.clone()

        return hook

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(keep(name))
    positive = (parameter.data.abs_() for parameter in model.parameters())
    assert all(bool((values >= 0).all()) for values in positive)
    sample = IMAGE[:1].abs().double().requires_grad_()
    output = model.double()(sample)[0, 0]
    value = output.item()
    for name in names:
        if not kept[name]:
            continue
        slopes = torch.autograd.grad(output, kept[name], retain_graph=True, allow_unused=True)
        pairs = zip(slopes, kept[name], strict=True)
        total = sum((slope * one).sum().item() for slope, one in pairs if slope is not None)
        complete = np.isclose(total, value, rtol=1e-9)
        assert complete == (reasons[name] is None), (name, reasons[name])


def footprint(model):
    return [
        *(
            (module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
            for module in model.modules()
        ),
        *((one.requires_grad, one.grad) for one in model.parameters()),
        *(one.clone().sum().item() for one in model.buffers()),
    ]


class Failing(ResNet):
    def forward(self, x):
        super().forward(x)
        raise RuntimeError("in mid run")


@pytest.mark.parametrize("gradients", [True, False])
def test_nothing_is_left_behind_even_after_an_exception(gradients):
    for model in (ResNet(), Failing()):
        model.requires_grad_(gradients)
        model.train()
        before = footprint(model)
        sample = IMAGE.clone()
        if isinstance(model, Failing):
            with pytest.raises(RuntimeError, match="in mid run"):
                cuts(model, "one", sample=sample)
            with pytest.raises(InputError, match="no 'output' of a module 'three'"):
                cuts(model, "one", "three", sample=sample)
        else:
            with torch.no_grad():
                assert cuts(model, "one", sample=sample)["one"] is None
        assert footprint(model) == before
        assert torch.equal(sample, IMAGE) and not sample.requires_grad


def test_models_that_write_into_their_input_and_views_are_followed():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat = nn.Flatten()
            self.out = nn.Linear(192, 2)

        def forward(self, x):
            x -= 0.5
            flat = self.flat(x)
            flat[:, :3].relu_()
            return self.out(flat)

    model, layers = InPlace(), ["flat", "out", "flat:input"]
    with torch.inference_mode():
        assert cuts(model, *layers) == dict.fromkeys(layers)


def test_what_cannot_be_followed_is_refused():
    with pytest.raises(InputError, match="floating point"):
        cuts(retina(), "conv1", sample=torch.zeros(1, 3, 8, 8, dtype=torch.int64))

    class Listing(nn.Module):
        def forward(self, x):
            return {"x": x}

    with pytest.raises(InputError, match="got dict"):
        cuts(nn.Sequential(Listing()), "0")


def test_a_beginning_without_gradients_is_a_reason_and_no_error():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.out = nn.Linear(192, 4), nn.Linear(4, 2)

        def forward(self, x):
            with torch.no_grad():
                seen = torch.relu(self.stem(x.flatten(1)))
            return self.out(seen)

    model = Frozen()
    found = cuts(model, "out", "stem")
    assert "does not reach 'out' in a way that can be differentiated" in found["out"]
    assert "does not reach 'stem' in a way" in found["stem"]
    images = torch.randn(3, 3, 8, 8)
    circuit = rc.Circuit(model, ["out:input"], sample="image")
    tree = rc.contributions(circuit, images, rc.Class(1), rule=rc.Secant(3), progress=False)
    assert float(abs(tree["out_input"]["residual"]).max()) < 1e-6 < abs(tree["value"]).max()
