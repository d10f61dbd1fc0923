"""MobileNet v1 in plain torch, with TensorFlow's padding, out of an archive of folded weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MobileNet", "mobilenet"]

_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class Same(nn.Module):
    """A convolution with as many zeros around as TensorFlow's SAME asks for, then a rectifier."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, groups=groups)
        self.act = nn.ReLU6()
        self.kernel, self.stride = kernel, stride

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, width, y, x)."""
        around = []
        for size in images.shape[:1:-1]:
            whole = (-(-size // self.stride) - 1) * self.stride + self.kernel - size
            around += [max(whole, 0) // 2, max(whole, 0) - max(whole, 0) // 2]
        return self.act(self.conv(F.pad(images, around)))


class Separable(nn.Module):
    """A convolution of each channel by itself, then one of all channels in each place."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.depthwise = Same(channels, channels, 3, stride, channels)
        self.pointwise = Same(channels, width, 1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, width, y, x)."""
        return self.pointwise(self.depthwise(images))


class MobileNet(nn.Module):
    """A stem, thirteen separable blocks and a linear map; 1001 classes, the first background."""

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.stem = Same(3, widths[0], 3, 2, 1)
        pairs = zip(widths, widths[1:], _STRIDES, strict=False)
        self.blocks = nn.Sequential(*(Separable(*one) for one in pairs))
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, class) of images (batch, 3, y, x)."""
        return self.classifier(self.blocks(self.stem(images)).mean((2, 3)))


def mobilenet(path: Path) -> MobileNet:
    """Return the network of an archive with NN_weight and NN_bias for each of 28 layers."""
    with np.load(path) as stored:
        pairs = [
            (torch.from_numpy(stored[f"{number:02d}_weight"]), stored[f"{number:02d}_bias"])
            for number in range(28)
        ]
    widths = tuple(len(weight) for weight, _ in [pairs[0], *pairs[2:27:2]])
    model = MobileNet(widths, len(pairs[-1][0]))
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for module, (weight, bias) in zip(layers, pairs, strict=True):
            module.weight.copy_(weight.view_as(module.weight))
            module.bias.copy_(torch.from_numpy(bias))
    return model.eval()
