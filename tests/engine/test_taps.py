"""Taps: names, patterns, sides, heads and axes."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import retinacodec as rc
from retinacodec.capture import tapped
from retinacodec.errors import InputError
from retinacodec.taps import Tap, find_taps


class Block(nn.Module):
    def __init__(self, width=8, heads=2):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        parts = self.mix(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts)
        return x + self.proj(seen.transpose(1, 2).flatten(2))


class Tokens(nn.Module):
    """A small network over 4 x 4 images: patches, two attention blocks, a readout."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 2, 2)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.blocks(self.patch(x).flatten(2).mT).mean(dim=1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Tokens().eval()


@pytest.fixture
def images():
    return torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "tap",
    [Tap("a.b"), Tap("a", "input"), Tap("a", heads=3), Tap("a.*", "input", 2, -1)],
    ids=lambda tap: tap.label,
)
def test_labels_are_read_back(tap):
    assert Tap.parse(tap.label) == tap


def test_patterns_stand_for_modules_in_the_models_order(model):
    assert list(find_taps(model, ["blocks.*"])) == ["blocks.0", "blocks.1"]
    assert list(find_taps(model, ["**.norm"])) == ["blocks.0.norm", "blocks.1.norm"]
    assert list(find_taps(model, ["blocks.?", "blocks.*.proj:input"])) == [
        "blocks.0",
        "blocks.1",
        "blocks.0.proj:input",
        "blocks.1.proj:input",
    ]


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (["blocks.0", "block.1"], "no layer 'block.1' in the model; did you mean 'blocks.1'"),
        (["blocks.*.nothing"], "no layer fits 'blocks.*.nothing'"),
        (["blocks.0", "blocks.?"], "named twice: 'blocks.0'"),
        (["blocks.0:left"], "expected 'input', 'output', '4heads' or 'axis1'"),
        ([3], "expected layers as names or Tap, got 3"),
    ],
)
def test_what_is_not_in_the_model_is_named(model, layers, said):
    with pytest.raises(InputError) as error:
        find_taps(model, layers)
    assert said in str(error.value)


def test_the_input_of_a_module_is_the_output_of_the_one_before(model, images):
    circuit = rc.Circuit(model, ["blocks.0", "blocks.1:input"], sample="image", output="class")
    tree = rc.contributions(circuit, images, rc.Class(1), rule=rc.Secant(3), progress=False)
    np.testing.assert_allclose(
        tree["blocks_1_input"]["contribution"].values, tree["blocks_0"]["contribution"].values
    )


def test_heads_are_the_channels_of_attention_vectors(model, images):
    circuit = rc.Circuit(
        model,
        ["blocks.1.proj:input", Tap("blocks.1.proj", "input", heads=2)],
        sample="image",
        output="class",
    )
    tree = rc.contributions(
        circuit, images, rc.Class(1), rule=rc.Secant(3), maps=True, progress=False
    )
    vectors = tree["blocks_1_proj_input"]["contribution"].values
    heads = tree["blocks_1_proj_input_2heads"]["contribution"].values
    assert vectors.shape == (3, 2, 8, 4)
    assert heads.shape == (3, 2, 2, 4, 4)
    np.testing.assert_array_equal(
        heads, vectors.reshape(3, 2, 2, 4, 4).transpose(0, 1, 2, 4, 3).copy()
    )


def test_channels_lie_where_the_module_puts_them():
    tokens, maps = torch.zeros(2, 5, 7), torch.zeros(2, 5, 7, 6)
    assert Tap("a").axis_in(nn.LayerNorm(7), tokens) == 2
    assert Tap("a").axis_in(nn.Conv1d(5, 5, 1), tokens) == 1
    assert Tap("a").axis_in(nn.GELU(), tokens) == 2
    assert Tap("a").axis_in(nn.GELU(), maps) == 1
    assert Tap("a").axis_in(nn.Linear(6, 6), maps) == 3
    assert Tap("a", channel_axis=-1).axis_in(nn.GELU(), maps) == 3
    with pytest.raises(InputError, match="no axis 4"):
        Tap("a", channel_axis=4).axis_in(nn.GELU(), maps)
    with pytest.raises(InputError, match="cannot be divided into 4 heads"):
        Tap("a", heads=4).by_channel(nn.GELU(), tokens)


def test_recording_leaves_no_hook_and_survives_changes_in_place(model, images):
    circuit = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten())
    taps = find_taps(circuit, ["0", "1:input"])
    with tapped(circuit, taps) as captured:
        circuit(images)
    plain = circuit[0](images)
    for calls in captured.values():
        np.testing.assert_array_equal(calls[0].detach(), plain.detach())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in circuit.modules())


def test_an_input_given_by_name_is_tapped_too():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 2)

        def forward(self, x):
            return self.inner(input=x.flatten(1)[:, :4])

    with tapped(model := Named(), find_taps(model, ["inner:input"])) as captured:
        model(torch.ones(2, 1, 2, 3))
    assert captured["inner:input"][0].shape == (2, 4)


def test_named_tuples_keep_their_names():
    Pair = namedtuple("Pair", "seen state")

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, x):
            seen = self.inner(x)
            return Pair(seen, seen.detach())

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = Two()

        def forward(self, x):
            return torch.relu(self.two(x.flatten(1)).seen)

    torch.manual_seed(0)
    circuit = rc.Circuit(Reader(), ["two"], sample="image")
    tree = rc.contributions(circuit, torch.randn(5, 1, 2, 2), rc.Class(0), progress=False)
    assert tree["two"].attrs["full_cut"]
    assert float(abs(tree["two"]["residual"]).max()) < 1e-6 < float(abs(tree["value"]).max())
