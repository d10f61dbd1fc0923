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
    "chord_slope",
    "derivative",
    "einsum_product",
    "layer_norm",
    "log_softmax",
    "log_sum_exp",
    "matmul_product",
    "max_pool",
    "previous",
    "product",
    "softmax",
]

Function = Callable[[Tensor], Tensor]
_KINK = 1e-5


def _small(change: Tensor, values: Tensor, kinked: bool) -> Tensor:
    """Return where the derivative at the midpoint is more accurate than the chord.

    The chord of a change d loses ``eps / d`` to rounding, the derivative at the midpoint of a
    smooth function ``d**2 / 24``: equal at ``d = (24 eps)**(1/3)``. Across a kink only the
    chord is right, so there the derivative is kept for changes that are all rounding.
    """
    limit = _KINK if kinked else (24 * torch.finfo(values.dtype).eps) ** (1 / 3)
    return change.abs() < limit * (1 + values.abs())


def previous(values: Tensor, points: int) -> Tensor:
    """Return for each row the row before it on the same path (the last one for the first)."""
    return values.reshape(-1, points, *values.shape[1:]).roll(1, dims=1).reshape(values.shape)


def derivative(function: Function, at: Tensor) -> Tensor:
    """Return the derivative of an element-wise function."""
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at)[0]


def chord_slope(
    function: Function, values: Tensor, out: Tensor, points: int, kinked: bool
) -> Tensor:
    """Return the chord slope of an element-wise function on each interval.

    Parameters
    ----------
    function : callable
        Element-wise.
    values, out : torch.Tensor (rows, ...)
        Arguments and values of the function, in paths of ``points`` consecutive rows each.
    points : int
        Rows of a path.
    kinked : bool
        Whether the function is piecewise linear.

    Returns
    -------
    torch.Tensor (rows, ...)
        ``(f(z_k) - f(z_{k-1})) / (z_k - z_{k-1})``, and ``f'`` at the midpoint where the change
        is tiny; the first row of a path is without meaning.
    """
    before, out_before = previous(values, points), previous(out, points)
    change = values - before
    small = _small(change, values, kinked)
    slope = (out - out_before) / change.masked_fill(small, 1)
    if bool(small.any()):
        middle = (values[small] + before[small]) / 2
        slope[small] = derivative(function, middle).to(slope.dtype)
    return slope


class _Chord(torch.autograd.Function):
    """An element-wise function that passes gradients with its chord slope."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, function: Function, points: int, kinked: bool) -> Tensor:
        out = function(values)
        slope = chord_slope(function, values, out, points, kinked)
        ctx.save_for_backward(slope)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None, None


def chord(function: Function, values: Tensor, points: int, *, kinked: bool = False) -> Tensor:
    """Apply an element-wise function whose backward uses the chord of each interval.

    Parameters
    ----------
    function : callable
        Element-wise; also called on a flat selection of the values.
    values : torch.Tensor (rows, ...)
        Paths of ``points`` consecutive rows each.
    points : int
        Rows of a path.
    kinked : bool, default False
        Whether the slope of the function jumps somewhere.

    Returns
    -------
    torch.Tensor (rows, ...)
        Values of the function; slopes are ``(f(z_k) - f(z_{k-1})) / (z_k - z_{k-1})``, and
        ``f'`` at the midpoint where the change is so small that this is more accurate.
    """
    if not values.requires_grad:
        return function(values)
    return _Chord.apply(values, function, points, kinked)


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


class _LogSumExp(torch.autograd.Function):
    """Log of a sum of powers; each term's factor is a chord of log times a chord of exp."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dim: int, points: int) -> Tensor:
        out = values.logsumexp(dim, keepdim=True)
        before, out_before = previous(values, points), previous(out, points)
        # A shift shared by the two ends of an interval cancels; with the larger one every
        # power is at most 1 and no sum of the two is lost, however far apart they are.
        shift = torch.maximum(values, before).amax(dim, keepdim=True)
        powers, powers_before = (values - shift).exp(), (before - shift).exp()
        change = values - before
        small = _small(change, values, kinked=False)
        slope = (powers - powers_before) / change.masked_fill(small, 1)
        slope = torch.where(small, ((values + before) / 2 - shift).exp(), slope)
        total, total_before = (part.sum(dim, keepdim=True) for part in (powers, powers_before))
        log_slope = _log_chord(total, total_before, out - out_before)
        ctx.save_for_backward(slope * log_slope)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None


def _log_chord(after: Tensor, before: Tensor, log_ratio: Tensor) -> Tensor:
    """Return ``log(after / before) / (after - before)``, by series where the two are close."""
    gain = after - before
    share = gain / (after + before)
    near = share.abs() < 0.1
    # log(after / before) = 2 artanh(share), and artanh(s) / s is a short even series.
    square = torch.where(near, share, 0) ** 2
    series = 1 + square / 3 + square**2 / 5 + square**3 / 7 + square**4 / 9 + square**5 / 11
    return torch.where(near, 2 * series / (after + before), log_ratio / gain.masked_fill(near, 1))


def log_sum_exp(values: Tensor, dim: int, points: int) -> Tensor:
    """Return the log of the sum of powers along a dimension, which is kept with size 1."""
    if not values.requires_grad:
        return values.logsumexp(dim, keepdim=True)
    return _LogSumExp.apply(values, dim, points)


def log_softmax(values: Tensor, dim: int, points: int) -> Tensor:
    """Log-softmax: the values less the log of the sum of their powers."""
    return values - log_sum_exp(values, dim, points)


def softmax(values: Tensor, dim: int, points: int) -> Tensor:
    """Softmax: the chord of exp of the log-softmax."""
    return chord(torch.exp, log_softmax(values, dim, points), points)


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
