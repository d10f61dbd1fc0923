"""Exact finite-difference factors of what divides by a sum: softmax and standardisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retinacodec.path_rows import FIRST, PathRows
from retinacodec.slopes import exponential, in_blocks

__all__ = ["log_softmax", "log_sum_exp", "softmax", "standardise"]


def _powers(logs: Tensor, powers: Tensor, rows: PathRows) -> Tensor:
    """Return the chord slopes of exp for log-probabilities and probabilities."""
    return in_blocks(exponential, *rows.ends(logs), *rows.ends(powers))


def _shares(logs: Tensor, dim: int, rows: PathRows) -> Tensor:
    """Return the factors of the log of a sum of powers; along the dimension they sum to 1."""
    slopes = _powers(logs, logs.exp(), rows)
    return slopes.div_(slopes.sum(dim, keepdim=True))


class _Softmax(torch.autograd.Function):
    """Probabilities; their sum is 1 at both ends, which gives the log of the denominator."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dim: int, rows: PathRows) -> Tensor:
        logs = values.log_softmax(dim)
        out = logs.exp()
        ctx.dim, ctx.rows = dim, rows
        ctx.save_for_backward(_powers(logs, out, rows))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        pulled = ctx.rows.scaled(gradients[0], slope)
        later = ctx.rows.later(pulled)
        shared = later.sum(ctx.dim, keepdim=True).div_(slope.sum(ctx.dim, keepdim=True))
        later.addcmul_(shared, slope, value=-1)
        return pulled, None, None


class _LogSoftmax(torch.autograd.Function):
    """Log-probabilities: the values less the log of the sum of their powers."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dim: int, rows: PathRows) -> Tensor:
        logs = values.log_softmax(dim)
        ctx.dim, ctx.rows = dim, rows
        ctx.save_for_backward(_shares(logs, dim, rows))
        return logs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].sum(ctx.dim, keepdim=True).expand_as(gradients[0])
        return gradients[0] - ctx.rows.scaled(total, *ctx.saved_tensors), None, None


class _LogSumExp(torch.autograd.Function):
    """Log of a sum of powers."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dim: int, rows: PathRows) -> Tensor:
        ctx.rows, ctx.shape = rows, values.shape
        ctx.save_for_backward(_shares(values.log_softmax(dim), dim, rows))
        return values.logsumexp(dim, keepdim=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        whole = gradients[0].expand(ctx.shape)
        return ctx.rows.scaled(whole, *ctx.saved_tensors), None, None


def softmax(values: Tensor, dim: int, rows: PathRows = FIRST) -> Tensor:
    """Return the softmax along a dimension on which no points of a path lie.

    Notes
    -----
    With log-probabilities ``u = z - L`` and ``e = (p' - p) / (u' - u)``, the chord of exp,
    ``dp = e (dz - dL)``. Both ends sum to 1, so ``dL = sum(e dz) / sum(e)``.
    """
    return _Softmax.apply(values, dim, rows)


def log_softmax(values: Tensor, dim: int, rows: PathRows = FIRST) -> Tensor:
    """Return the log-softmax along a dimension; see `softmax`."""
    return _LogSoftmax.apply(values, dim, rows)


def log_sum_exp(values: Tensor, dim: int, rows: PathRows = FIRST) -> Tensor:
    """Return the log of the sum of powers along a dimension, kept with size 1; see `softmax`."""
    return _LogSumExp.apply(values, dim, rows)


class _Standardise(torch.autograd.Function):
    """Values divided by the root of their mean square."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, dims: tuple[int, ...], eps: float, centre: bool, rows: PathRows
    ) -> Tensor:
        centred = values - values.mean(dims, keepdim=True) if centre else values
        scale = centred.square().mean(dims, keepdim=True).add_(eps).rsqrt_()
        before, after = rows.ends(scale)
        slope = rows.whole(-((before * after) ** 2) / (before + after), scale.shape)
        ctx.dims, ctx.centre = dims, centre
        ctx.save_for_backward(rows.mean(centred), rows.mean(scale), slope)
        return centred * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        centred, scale, slope = ctx.saved_tensors
        into_scale = (gradients[0] * centred).mean(ctx.dims, keepdim=True).mul_(slope).mul_(2)
        pulled = torch.addcmul(gradients[0] * scale, centred, into_scale)
        if ctx.centre:
            pulled -= pulled.mean(ctx.dims, keepdim=True)
        return pulled, None, None, None, None


def standardise(
    values: Tensor,
    dims: tuple[int, ...],
    eps: float,
    rows: PathRows = FIRST,
    *,
    centre: bool = True,
) -> Tensor:
    """Divide values, less their mean, by the root of their variance over dimensions.

    Parameters
    ----------
    values : torch.Tensor (row, ...)
        Paths of consecutive points.
    dims : tuple of int
        What is averaged over; no points of a path lie there.
    eps : float
        Added to the variance.
    rows : PathRows, default the first dimension
        Where the points lie.
    centre : bool, default True
        Take the mean off first.

    Notes
    -----
    ``y = c s`` with ``s = (mean(c**2) + eps)**-1/2``: ``dy = mean(s) dc + mean(c) ds``, the
    means over the two ends, with ``ds = -(s s')**2 / (s + s') d mean(c**2)`` and
    ``d(c**2) = 2 mean(c) dc``.
    """
    return _Standardise.apply(values, dims, eps, centre, rows)
