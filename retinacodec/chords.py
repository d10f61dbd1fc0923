"""Exact finite-difference factors: what a nonlinear operation passes back on an interval.

All points of a sample's path are consecutive rows of one batch. The factor of row k belongs
to the interval from row k - 1 to row k; the factor of a path's first row is unused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "attention",
    "chord",
    "einsum_product",
    "layer_norm",
    "log_softmax",
    "matmul_product",
    "max_pool",
    "product",
    "softmax",
]

Function = Callable[[Tensor], Tensor]
_SMALL = 1e-5


def previous(values: Tensor, points: int) -> Tensor:
    """Return for each row the row before it on the same path (the last one for the first)."""
    return values.reshape(-1, points, *values.shape[1:]).roll(1, dims=1).reshape(values.shape)


def _derivative(function: Function, at: Tensor) -> Tensor:
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at)[0]


class _Chord(torch.autograd.Function):
    """An element-wise function that passes gradients with its chord slope."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, function: Function, points: int) -> Tensor:
        out = function(values)
        before, out_before = previous(values, points), previous(out, points)
        change = values - before
        small = change.abs() < _SMALL * (1 + values.abs())
        slope = (out - out_before) / change.masked_fill(small, 1)
        if bool(small.any()):
            middle = (values[small] + before[small]) / 2
            slope[small] = _derivative(function, middle).to(slope.dtype)
        ctx.save_for_backward(slope)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None


def chord(function: Function, values: Tensor, points: int) -> Tensor:
    """Apply an element-wise function whose backward uses the chord of each interval.

    Parameters
    ----------
    function : callable
        Element-wise; also called on a flat selection of the values.
    values : torch.Tensor (rows, ...)
        Paths of ``points`` consecutive rows each.
    points : int
        Rows of a path.

    Returns
    -------
    torch.Tensor (rows, ...)
        Values of the function; slopes are ``(f(z_k) - f(z_{k-1})) / (z_k - z_{k-1})``, and
        ``f'`` at the midpoint where the change is below 1e-5 of the value.
    """
    if not values.requires_grad:
        return function(values)
    return _Chord.apply(values, function, points)


class _Bilinear(torch.autograd.Function):
    """A bilinear map whose backward uses each factor's mean over the interval."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        function: Callable[[Tensor, Tensor], Tensor],
        points: tuple[int, int],
    ) -> Tensor:
        ctx.function = function
        mean_a = (a + previous(a, points[0])) / 2 if points[0] else a
        mean_b = (b + previous(b, points[1])) / 2 if points[1] else b
        ctx.save_for_backward(mean_a, mean_b)
        return function(a, b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        mean_a, mean_b = (tensor.detach() for tensor in ctx.saved_tensors)
        with torch.enable_grad():
            mean_a, mean_b = mean_a.requires_grad_(), mean_b.requires_grad_()
            out = ctx.function(mean_a, mean_b)
        wanted = [
            tensor
            for tensor, needed in zip((mean_a, mean_b), ctx.needs_input_grad[:2], strict=True)
            if needed
        ]
        found = iter(torch.autograd.grad(out, wanted, gradients[0]))
        first = next(found) if ctx.needs_input_grad[0] else None
        second = next(found) if ctx.needs_input_grad[1] else None
        return first, second, None, None


def _bilinear(
    function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, points: int
) -> Tensor:
    return _Bilinear.apply(a, b, function, (points, points))


def product(a: Tensor, b: Tensor, points: int) -> Tensor:
    """Multiply element-wise, both factors on the path: ``d(ab) = mean(a) db + mean(b) da``."""
    return _bilinear(torch.mul, a, b, points)


def matmul_product(a: Tensor, b: Tensor, points: int) -> Tensor:
    """Multiply as matrices, both factors on the path."""
    return _bilinear(torch.matmul, a, b, points)


def einsum_product(equation: str, a: Tensor, b: Tensor, points: int) -> Tensor:
    """Contract two tensors by an Einstein sum, both on the path."""
    return _bilinear(lambda left, right: torch.einsum(equation, left, right), a, b, points)


class _MaxPool(torch.autograd.Function):
    """Max-pool; the winners before and after share the gradient by where they cross."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, options: dict[str, Any], points: int) -> Tensor:
        out, after = F.max_pool2d(values, **options, return_indices=True)
        flat, flat_before = values.flatten(2), previous(values, points).flatten(2)
        after, before = after.flatten(2), previous(after, points).flatten(2)
        lead_after = flat.gather(2, after) - flat.gather(2, before)
        lead_before = flat_before.gather(2, before) - flat_before.gather(2, after)
        total = lead_after + lead_before
        share = torch.where(total > 0, lead_after / total.masked_fill(total <= 0, 1), 1.0)
        ctx.save_for_backward(after, before, share.to(values.dtype))
        ctx.shape = values.shape
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        after, before, share = ctx.saved_tensors
        flat = gradients[0].flatten(2)
        out = flat.new_zeros((*ctx.shape[:2], ctx.shape[2] * ctx.shape[3]))
        out.scatter_add_(2, after, flat * share).scatter_add_(2, before, flat * (1 - share))
        return out.view(ctx.shape), None, None


def max_pool(values: Tensor, options: dict[str, Any], points: int) -> Tensor:
    """Max-pool images (rows, channel, y, x) with exact factors on each interval."""
    if not values.requires_grad:
        return F.max_pool2d(values, **options)
    return _MaxPool.apply(values, options, points)


def _path_max(values: Tensor, dim: int, points: int) -> Tensor:
    """Return the maximum along a dimension and over the whole path, one for every row."""
    top = values.detach().amax(dim, keepdim=True)
    shape = top.shape
    paths = top.reshape(-1, points, *shape[1:]).amax(1, keepdim=True)
    return paths.expand(-1, points, *shape[1:]).reshape(shape)


def softmax(values: Tensor, dim: int, points: int) -> Tensor:
    """Softmax as chord of exp, chord of the reciprocal of the sum, and their product."""
    powers = chord(torch.exp, values - _path_max(values, dim, points), points)
    scale = chord(torch.reciprocal, powers.sum(dim, keepdim=True), points)
    return product(powers, scale.expand_as(powers), points)


def log_softmax(values: Tensor, dim: int, points: int) -> Tensor:
    """Log-softmax as the shifted values less the chord of the log of the sum of powers."""
    shifted = values - _path_max(values, dim, points)
    total = chord(torch.exp, shifted, points).sum(dim, keepdim=True)
    return shifted - chord(torch.log, total, points)


def layer_norm(
    values: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    points: int,
) -> Tensor:
    """Layer norm: centring is linear, variance a product, then chord and product."""
    dims = tuple(range(-len(shape), 0))
    centred = values - values.mean(dims, keepdim=True)
    variance = product(centred, centred, points).mean(dims, keepdim=True)
    scale = chord(lambda v: (v + eps).rsqrt(), variance, points)
    out = product(centred, scale.expand_as(centred), points)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None, points: int
) -> Tensor:
    """Scaled dot-product attention as products and a softmax, without mask or dropout."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = matmul_product(query, key.transpose(-1, -2), points) * factor
    return matmul_product(softmax(scores, -1, points), value, points)
