"""Whole networks and targets under the secant rule: complete at one, two and seven steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

GENERATOR = torch.Generator().manual_seed(1)
SAMPLES = torch.randn(4, 24, generator=GENERATOR, dtype=torch.float64)

WEIGHT = torch.randn(24, 5, generator=GENERATOR, dtype=torch.float64)


TARGETS = {
    "logit": lambda y: y[:, 1],
    "probability": lambda y: (4 * y).softmax(-1)[:, 1],
    "entropy": lambda y: -(y.softmax(-1) * y.log_softmax(-1)).sum(-1),
    "entropy of probabilities": lambda y: -(y.softmax(-1) * (y.softmax(-1) + 1e-9).log()).sum(-1),
    "two largest": lambda y: y.topk(2).values.sum(-1),
    "margin": lambda y: y.topk(2).values.diff(dim=-1)[:, 0],
}


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("target", TARGETS)
def test_targets_are_complete_with_outputs_chosen_anew_along_the_path(target, steps, along):
    def model(z):
        return F.gelu(z) @ WEIGHT.to(z)

    assert along.residual(model, along.paths(SAMPLES, steps), steps, TARGETS[target]) < 1e-12


def test_a_module_used_twice_counts_both_calls(along):
    read = torch.nn.Linear(24, 24).double().requires_grad_(False)
    act = nn.ReLU(inplace=True)
    assert along.residual(lambda z: act(read(act(read(z)) + z)), along.paths(SAMPLES, 2), 2) < 1e-12


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
            for _ in range(2)
        )
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.act(self.convs[0](x))
        out = self.convs[1](out)
        out += x
        return self.act(out)


class Vision(nn.Module):
    """A transformer over patches with a class token."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.place = nn.Parameter(torch.randn(1, 17, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.place
        x = self.body(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.norm(x)[:, 0])


def residual_network():
    stem = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    return nn.Sequential(*stem, Block(6), Block(6), *end)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [residual_network, Vision])
def test_whole_networks_are_complete(make, target, steps, along):
    torch.manual_seed(3)
    model = make().double().eval().requires_grad_(False)
    with torch.no_grad():
        list(model.modules())[-1].weight.mul_(3)
    images = along.paths(3 * torch.randn(2, 1, 8, 8, dtype=torch.float64), steps)
    assert along.residual(model, images, steps, TARGETS[target]) < 1e-12
    assert along.residual(model.float(), images.float(), steps, TARGETS[target]) < 1e-5
