"""Sums along a path written out in plain torch, to measure the engine against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from retinacodec.secant import SecantMode

__all__ = ["plain_sums", "reference_sums"]

Sums = dict[str, Tensor]


def plain_sums(
    model: nn.Module,
    layers: Sequence[str],
    sample: Tensor,
    target: Callable[[Tensor], Tensor],
    steps: int,
    *,
    chords: bool,
    run: int = 25,
) -> Sums:
    """Return the contributions of one sample (1, ...) at each layer, all positions.

    The trapezoid, or with chords the secant rule; some points at a time, each run repeating the
    last point of the run before.
    """
    fractions = torch.linspace(0, 1, steps + 1, dtype=torch.float64).to(sample.dtype)
    sums: Sums = {}
    for first in range(0, steps, run):
        points = fractions[first : first + run + 1].view(-1, *[1] * (sample.ndim - 1)) * sample
        values, slopes = _slopes(model, layers, points, target, chords)
        for layer, value, slope in zip(layers, values, slopes, strict=True):
            weight = slope[1:] if chords else (slope[1:] + slope[:-1]) / 2
            part = (weight * value.detach().diff(dim=0)).sum(dim=0)
            sums[layer] = sums[layer] + part if layer in sums else part
    return sums


def reference_sums(
    model: nn.Module,
    layers: Sequence[str],
    sample: Tensor,
    target: Callable[[Tensor], Tensor],
    steps: int = 300,
) -> tuple[Sums, float]:
    """Return the mean of the trapezoid and the secant rule, and how far the two are apart."""
    both = [
        plain_sums(model, layers, sample, target, steps, chords=chords) for chords in (False, True)
    ]
    mean = {layer: (both[0][layer] + both[1][layer]) / 2 for layer in layers}
    apart = [float((both[0][one] - mean[one]).norm() / mean[one].norm()) for one in layers]
    return mean, sorted(apart)[len(apart) // 2]


def _slopes(
    model: nn.Module,
    layers: Sequence[str],
    points: Tensor,
    target: Callable[[Tensor], Tensor],
    chords: bool,
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Return the values of layers at points of one path, and the gradients there."""
    points = points.detach().requires_grad_()
    kept: dict[str, Tensor] = {}

    def keep(layer: str) -> Callable[..., Tensor]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            kept[layer] = output
            return output.clone()

        return hook

    handles = [model.get_submodule(one).register_forward_hook(keep(one)) for one in layers]
    try:
        with SecantMode(len(points), [points]) if chords else nullcontext():
            score = target(model(points))
    finally:
        for handle in handles:
            handle.remove()
    weights = torch.ones_like(score)
    if chords:
        weights[0] = 0
    values = [kept[layer] for layer in layers]
    return values, torch.autograd.grad(score, values, weights)
