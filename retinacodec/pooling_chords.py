"""Exact finite-difference factors of what picks the largest: max-pooling and top values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retinacodec.path_rows import FIRST, PathRows

__all__ = ["max_pool", "top_values"]

Pool = Callable[[Tensor], tuple[Tensor, Tensor]]


def _share(lead_before: Tensor, lead_after: Tensor) -> Tensor:
    """Return what the later winner gets: its lead at the end over both leads; 1 if none lead."""
    total = lead_before + lead_after
    return torch.where(total > 0, lead_after / total.masked_fill(total <= 0, 1), 1.0)


class _MaxPool(torch.autograd.Function):
    """Max-pool; the winners before and after share the gradient by where they cross."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, pool: Pool, rows: PathRows) -> Tensor:
        out, winners = pool(values)
        ctx.shape, ctx.rows = values.shape, rows
        flat, winners = values.flatten(2), winners.flatten(2)
        before, after = rows.earlier(winners), rows.later(winners)
        early, late = rows.earlier(flat), rows.later(flat)
        lead_before = early.gather(2, before) - early.gather(2, after)
        lead_after = late.gather(2, after) - late.gather(2, before)
        ctx.save_for_backward(winners, _share(lead_before, lead_after))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        winners, share = ctx.saved_tensors
        before, after = ctx.rows.earlier(winners), ctx.rows.later(winners)
        gradient = ctx.rows.later(gradients[0].flatten(2))
        out = gradients[0].new_zeros(ctx.shape)
        flat = ctx.rows.later(out.flatten(2))
        late = gradient * share
        flat.scatter_add_(2, after, late).scatter_add_(2, before, gradient - late)
        return out, None, None


def max_pool(values: Tensor, pool: Pool, rows: PathRows = FIRST) -> Tensor:
    """Max-pool with exact factors on each interval.

    Parameters
    ----------
    values : torch.Tensor (row, channel, ...)
        Paths of consecutive points, on the first dimension.
    pool : callable
        Returns the largest values and their places, counted over the last dimensions.
    rows : PathRows, default the first dimension
        Where the points lie.

    Notes
    -----
    Where the winner i before an interval leads the winner j after it by q at the start and
    trails by p at the end, j overtakes i at ``q / (p + q)`` of the way. Until there i carries
    the gradient, from there on j: their factors are ``q / (p + q)`` and ``p / (p + q)``.
    """
    return _MaxPool.apply(values, pool, rows)


class _TopValues(torch.autograd.Function):
    """The largest values along the last dimension, in falling order."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, k: int, rows: PathRows) -> tuple[Tensor, Tensor]:
        out, winners = values.topk(k)
        ctx.shape, ctx.rows = values.shape, rows
        ctx.save_for_backward(*_ends(values, winners, rows), winners)
        ctx.mark_non_differentiable(winners)
        return out, winners

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        *ends, winners = ctx.saved_tensors
        # The r-th value is the sum of the r largest less that of the r - 1 largest.
        gradient = ctx.rows.later(gradients[0])
        steps = gradient - torch.nn.functional.pad(gradient[..., 1:], (0, 1))
        out = gradients[0].new_zeros(ctx.shape)
        into = ctx.rows.later(out)
        used = steps.flatten(0, -2).any(dim=0).tolist()
        for number in (number for number, one in enumerate(used) if one):
            _pull_sum(into, steps[..., number : number + 1], winners, ends, number + 1, ctx.rows)
        return out, None, None


def _ends(values: Tensor, winners: Tensor, rows: PathRows) -> tuple[Tensor, ...]:
    """Return the values of earlier and later winners at the start and at the end."""
    early, late = rows.earlier(values), rows.later(values)
    before, after = rows.earlier(winners), rows.later(winners)
    return tuple(at.gather(-1, who) for who in (before, after) for at in (early, late))


def _pull_sum(
    into: Tensor,
    gradient: Tensor,
    winners: Tensor,
    ends: list[Tensor],
    count: int,
    rows: PathRows,
) -> None:
    """Add the gradient of the sum of the `count` largest values.

    Those who leave the top are paired with those who join it; a pair shares like two winners
    of a max-pool, and everyone who stays gets the whole.
    """
    before, after = rows.earlier(winners)[..., :count], rows.later(winners)[..., :count]
    leaving, joining = ~_among(before, after, into.shape), ~_among(after, before, into.shape)
    # Those who move first, each in order of rank; then position by position they are pairs.
    old = leaving.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    new = joining.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    old_start, old_end = (end[..., :count].gather(-1, old) for end in ends[:2])
    new_start, new_end = (end[..., :count].gather(-1, new) for end in ends[2:])
    share = _share(old_start - new_start, new_end - old_end)
    share = torch.where(joining.gather(-1, new), share, 1.0)
    into.scatter_add_(-1, after.gather(-1, new), gradient * share)
    into.scatter_add_(-1, before.gather(-1, old), gradient * (1 - share))


def _among(places: Tensor, others: Tensor, shape: torch.Size) -> Tensor:
    """Return which of the places along the last dimension are among the others."""
    marked = torch.zeros(shape, dtype=torch.bool, device=places.device)
    return marked.scatter_(-1, others, True).gather(-1, places)


def top_values(values: Tensor, k: int, rows: PathRows = FIRST) -> tuple[Tensor, Tensor]:
    """Return the k largest values along the last dimension, and their places.

    Parameters
    ----------
    values : torch.Tensor (row, ..., candidate)
        Paths of consecutive points, not along the last dimension.
    k : int
        How many, 1 to the number of candidates.
    rows : PathRows, default the first dimension
        Where the points lie.

    Returns
    -------
    torch.Tensor (row, ..., k)
        The values in falling order, with exact factors on each interval.
    torch.Tensor (row, ..., k)
        Places, without gradient.

    Notes
    -----
    Let A and B be the k largest before and after an interval. The change of their sum is
    ``sum over both (z'_i - z_i) + sum over pairs (z'_j - z_i)`` with i of A leaving and j of B
    joining; a pair's term is ``w_i dz_i + w_j dz_j`` with ``w_i = q / (p + q)`` and
    ``w_j = p / (p + q)``, where q is the lead of i before and p that of j after.
    """
    return _TopValues.apply(values, k, rows)
