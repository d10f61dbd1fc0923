"""Classifiers as circuits: blocks by architecture, weights from files, labels, pixels."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import retinacodec as rc
from retinacodec.classifiers import block_taps, classifier, load_weights
from retinacodec.errors import InputError
from retinacodec.preprocessing import CIFAR, IMAGENET, LITE, TF, Preprocess, read_pixels


def kind(name):
    """Make a class of a name, such as packages of vision networks have."""

    class Made(nn.Module):
        def __init__(self, channels=4):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
            self.bn1 = nn.BatchNorm2d(channels)
            self.downsample = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(4))

        def forward(self, images):
            return torch.relu(self.bn1(self.conv1(images)) + self.downsample(images))

    Made.__name__ = name
    return Made


class Head(nn.Module):
    """Named parts in a row, means over pixels, and a linear map of a given name."""

    def __init__(self, parts, last="fc"):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.names = list(parts)
        self.add_module(last, nn.Linear(4, 3))
        self.last = last

    def forward(self, images):
        for name in self.names:
            images = getattr(self, name)(images)
        return getattr(self, self.last)(images.mean((2, 3)))


def stem():
    return nn.Conv2d(3, 4, 3, padding=1)


def cna(i, o):
    """A convolution with norm and rectifier as torchvision writes it."""
    made = type("Conv2dNormActivation", (nn.Sequential,), {})
    return made(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU6(inplace=True))


def residual(name):
    block = kind(name)
    stages = {f"layer{k}": nn.Sequential(*(block() for _ in range(n))) for k, n in ((1, 2), (2, 1))}
    return Head({"conv1": stem(), **stages})


def mobilenet_v2():
    block = kind("InvertedResidual")
    return Head({"features": nn.Sequential(cna(3, 4), block(), block(), cna(4, 4))}, "classifier")


def timm_efficientnet():
    first, block = kind("DepthwiseSeparableConv"), kind("InvertedResidual")
    stages = nn.Sequential(nn.Sequential(first()), nn.Sequential(block(), block()))
    return Head({"conv_stem": stem(), "blocks": stages}, "classifier")


def torchvision_efficientnet():
    block, fused = kind("MBConv"), kind("FusedMBConv")
    stages = nn.Sequential(cna(3, 4), nn.Sequential(fused()), nn.Sequential(block()), cna(4, 4))
    return Head({"features": stages}, "classifier")


class ConvNeXtStage(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(kind("ConvNeXtBlock")(), kind("ConvNeXtBlock")())

    def forward(self, images):
        return self.blocks(images)


def convnext():
    stages = nn.Sequential(ConvNeXtStage())
    return Head({"stem": nn.Sequential(stem()), "stages": stages}, "head")


def mobilenet_v1():
    def part(i):
        return nn.Sequential(
            nn.Conv2d(i, 4, 3, padding=1), nn.ReLU6(), nn.Conv2d(4, 4, 1), nn.ReLU6()
        )

    return Head({"model": nn.Sequential(part(3), part(4), part(4))})


def alexnet():
    layers = [stem(), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1)]
    return Head(
        {"features": nn.Sequential(*layers, nn.BatchNorm2d(4), nn.ReLU(inplace=True))}, "classifier"
    )


def own():
    """Blocks of a class nobody knows."""
    block = kind("Whatever")
    return Head({"begin": stem(), "stack": nn.Sequential(block(), block(), block())})


NETWORKS = {
    "resnet18": (lambda: residual("BasicBlock"), "layer1.0 layer1.1 layer2.0"),
    "resnet50": (lambda: residual("Bottleneck"), "layer1.0 layer1.1 layer2.0"),
    "mobilenet_v2": (mobilenet_v2, "features.1 features.2"),
    "timm efficientnet": (timm_efficientnet, "blocks.0.0 blocks.1.0 blocks.1.1"),
    "torchvision efficientnet": (torchvision_efficientnet, "features.1.0 features.2.0"),
    "convnext": (convnext, "stages.0.blocks.0 stages.0.blocks.1"),
    "mobilenet_v1": (mobilenet_v1, "model.0 model.1 model.2"),
    "alexnet": (alexnet, "features.1 features.5"),
    "any other": (own, "stack.0 stack.1 stack.2"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_found_and_explain_the_whole_target(name):
    make, expected = NETWORKS[name]
    torch.manual_seed(0)
    model = make().eval()
    circuit = classifier(model, labels=["a", "b", "c"])
    assert circuit.layers == tuple(expected.split())
    assert (circuit.sample, circuit.output) == ("image", "class")
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    parts = rc.contributions(circuit, images, rc.Class("b"), progress=False)
    change = abs(parts["value"] - parts["baseline_value"]).values
    for node in parts.children.values():
        assert (abs(node["residual"].values) < 2e-5 * np.maximum(change, 0.1)).all()


class Attention(nn.Module):
    def __init__(self, dim=8, heads=2):
        super().__init__()
        self.num_heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, tokens):
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        score = (torch.einsum("bthd,bshd->bhts", query, key) / 2).softmax(-1)
        return self.proj(torch.einsum("bhts,bshd->bthd", score, value).flatten(2))


class Mlp(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, 12), nn.GELU(), nn.Linear(12, dim)

    def forward(self, tokens):
        return self.fc2(self.act(self.fc1(tokens)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(8), Attention()
        self.norm2, self.mlp = nn.LayerNorm(8), Mlp()

    def forward(self, tokens):
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        return self.head(self.blocks(self.patch_embed(images).flatten(2).mT).mean(1))


def test_parts_of_a_transformer_have_their_channels():
    torch.manual_seed(0)
    model = Transformer().eval()
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    for which, name, channels in (
        ("blocks", "blocks.{}", 8),
        ("mlp", "blocks.{}.mlp.fc2:input", 12),
        ("attention", "blocks.{}.attn.proj:input", 8),
        ("heads", "blocks.{}.attn.proj:input:2heads", 2),
    ):
        taps = block_taps(model, which)
        assert taps == (name.format(0), name.format(1))
        parts = rc.contributions(classifier(model, taps), images, rc.TopK(1), progress=False)
        assert [node.sizes["channel"] for node in parts.children.values()] == [channels] * 2
    with pytest.raises(InputError, match="no mlp in Head"):
        block_taps(residual("BasicBlock"), "mlp")
    with pytest.raises(InputError, match="expected one of blocks, mlp"):
        block_taps(model, "neurons")


def test_fused_attention_is_refused_with_what_to_take_instead():
    class EncoderBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.self_attention = nn.MultiheadAttention(8, 2)
            self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Dropout(), nn.Linear(12, 8))

    model = nn.Sequential(EncoderBlock())
    assert block_taps(model) == ("0",) and block_taps(model, "mlp") == ("0.mlp.3:input",)
    with pytest.raises(InputError, match="kind='blocks' or 'mlp'"):
        block_taps(model, "heads")


def test_vision_packages_are_not_imported():
    code = (
        "import sys, torch, retinacodec.classifiers as c; c.block_taps(torch.nn.Sequential("
        "torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())); "
        "assert not {'torchvision', 'timm', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("ending", [".pth", ".th", ".safetensors", ".npz"])
def test_weights_come_back_from_every_format(tmp_path, ending):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    source, target = residual("BasicBlock"), residual("BasicBlock")
    state = {f"module.{name}": one for name, one in source.state_dict().items()}
    path = tmp_path / f"weights{ending}"
    if ending == ".safetensors":
        save_file(state, path)
    elif ending == ".npz":
        np.savez(path, **{name: one.numpy() for name, one in state.items()})
    else:
        torch.save({"state_dict": state, "best": np.float64(0.9), "epoch": 3}, path)
    assert load_weights(target, path) is target and not target.training
    for name, one in source.state_dict().items():
        assert torch.equal(one, target.state_dict()[name])


def test_weights_that_do_not_fit_are_all_named_and_nothing_is_loaded(tmp_path):
    model = residual("BasicBlock")
    before = {name: one.clone() for name, one in model.state_dict().items()}
    state = dict(model.state_dict())
    del state["conv1.bias"]
    state |= {"fc.weight": torch.zeros(5, 4), "strange": torch.zeros(1)}
    state["fc.bias"] = torch.full((3,), float("nan"))
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError) as caught:
        load_weights(model, tmp_path / "w.pth")
    for words in (
        "missing conv1.bias",
        "unexpected strange",
        "fc.weight (5, 4) for (3, 4)",
        "NaN or infinite: fc.bias",
    ):
        assert words in str(caught.value)
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())


def test_pickles_with_code_are_not_executed(tmp_path):
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "whole.pth")
    with pytest.raises(InputError, match=r"not executed.*state_dict"):
        load_weights(nn.Linear(2, 2), tmp_path / "whole.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "text.npz").write_text("no weights")
    for ending in ("pth", "safetensors", "npz"):
        with pytest.raises(InputError, match=rf"text\.{ending}"):
            load_weights(nn.Linear(2, 2), tmp_path / f"text.{ending}")
    with pytest.raises(InputError, match=r"expected \.pth"):
        load_weights(nn.Linear(2, 2), tmp_path / "w.onnx")


def test_labels_are_unique_and_read_from_a_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("crane\nmaillot\ncrane\n\n")
    circuit = classifier(own(), labels=path)
    assert circuit.outputs == ("crane", "maillot", "crane (2)")
    path.write_bytes("\ufeffcrane\r\nmaillot \x85 swimsuit\r\nkite\r\n".encode())
    assert classifier(own(), labels=path).outputs == ("crane", "maillot \x85 swimsuit", "kite")
    path.write_text("")
    with pytest.raises(InputError, match="empty"):
        classifier(own(), labels=path)
    with pytest.raises(InputError, match="expected a Preprocess"):
        classifier(own(), preprocess="imagenet")


def test_preprocessing_is_what_the_papers_say():
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    channels = pixels.transpose(2, 0, 1).astype(np.float64)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    whole = {"crop": 1.0}
    found = Preprocess(**whole, mean=IMAGENET.mean, std=IMAGENET.std)(pixels)
    wanted = (channels / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    flat = np.full((300, 280, 3), 200, dtype=np.uint8)
    assert TF(flat).shape == (3, 224, 224) and CIFAR(flat).shape == (3, 32, 32)
    np.testing.assert_allclose(TF(flat), 200 / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(LITE(flat), (200 - 127) / 128, atol=1e-6)
    np.testing.assert_allclose(LITE.pixels(LITE(flat)), 200 / 255, atol=1e-6)
    blue = Preprocess(None, colours="BGR")(pixels)
    np.testing.assert_allclose(blue, channels[::-1] / 255, atol=1e-6)
    np.testing.assert_allclose(
        Preprocess(None, colours="BGR").pixels(blue), pixels / 255, atol=1e-6
    )


def test_the_crop_is_centred_and_as_wide_as_stated():
    ramp = np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, 256))
    seen = Preprocess(224)(ramp)[0] * 255
    np.testing.assert_allclose(seen[:, 0], np.arange(16, 240), atol=1e-4)
    half = Preprocess(128, crop=1.0, interpolation="box")(ramp)[0, :, 0] * 255
    np.testing.assert_allclose(half, np.arange(128) * 2 + 0.5, atol=0.51)


def test_bad_settings_and_pictures_are_named(tmp_path):
    with pytest.raises(InputError, match=r"size.*crop.*interpolation.*colours.*std"):
        Preprocess(0, crop=2, interpolation="magic", colours="RBG", std=(0.0,))
    with pytest.raises(InputError, match="8-bit"):
        TF(np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match=r"\(4, 4, 4\)"):
        TF(np.zeros((4, 4, 4), dtype=np.uint8))
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(InputError, match=r"bad\.png.*expected an image"):
        read_pixels(tmp_path / "bad.png")
    Image.fromarray(np.zeros((4, 5), dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="8 bits"):
        read_pixels(tmp_path / "deep.png")
    Image.fromarray(np.full((4, 5, 4), 9, dtype=np.uint8)).save(tmp_path / "clear.png")
    assert read_pixels(tmp_path / "clear.png").shape == (4, 5, 3)
