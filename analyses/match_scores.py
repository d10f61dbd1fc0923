"""Scores of matches: how they are planned, resampled, and tested against shifted traces."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.bootstrap import block_labels, draw_blocks, percentiles
from retinacodec.nulls import discoveries, p_value

__all__ = ["MatchPlan", "Scores", "families", "resampled", "summarised"]

Array = npt.NDArray[Any]
Slices = tuple[slice, ...]

_LEAST = 10  # moments of a block
_ROUNDING = 1e-10  # share of a sum of squares, below which a variance is none


@dataclass(frozen=True)
class MatchPlan:
    """How one call matches.

    Parameters
    ----------
    blocks : int
        Contiguous blocks of time: each is scored with the unit that the others chose.
    gap : int
        Moments left out at the start of every block but the first.
    shifts : ndarray (shift,)
        Shifts of the null, as shares of the circle of time, above 0 and below 1.
    draws, resampled : int
        Number of resamples, and least moments of what is resampled.
    seed : int
        Seed of the resamples.
    floors : (float, float)
        Least mean size and least standard deviation of a unit that counts.
    """

    blocks: int
    gap: int
    shifts: Array
    draws: int
    resampled: int
    seed: int
    floors: tuple[float, float]

    def slices(self, moments: int) -> Slices | None:
        """Return the blocks of so many moments; None if they are too few."""
        edges = np.linspace(0, moments, self.blocks + 1).round().astype(int)
        parts = tuple(
            slice(int(low) + (self.gap if low else 0), int(high))
            for low, high in itertools.pairwise(edges)
        )
        return parts if all(part.stop - part.start >= _LEAST for part in parts) else None

    def steps(self, moments: int) -> Array:
        """Return the shifts of so many moments."""
        return np.clip(np.round(self.shifts * moments).astype(int), 1, moments - 1)


@dataclass(frozen=True)
class Scores:
    """Correlations of rows with the unit that all other blocks chose.

    Parameters
    ----------
    chosen, scored : ndarray (block, row)
        Mean r of that unit on the other blocks, and its r on the block; NaN without one.
    null_chosen, null_scored : ndarray (block, row, shift)
        The same for shifted rows.
    samples : ndarray (block, row, draw)
        Resamples of `scored`.
    """

    chosen: Array
    scored: Array
    null_chosen: Array
    null_scored: Array
    samples: Array

    @classmethod
    def empty(cls, plan: MatchPlan, rows: int) -> Scores:
        """Return scores of no unit."""
        shapes = ((), (), (plan.shifts.size,), (plan.shifts.size,), (plan.draws,))
        return cls(*(np.full((plan.blocks, rows, *tail), np.nan, np.float32) for tail in shapes))

    def put(self, rows: Array, other: Scores) -> None:
        """Take over the scores of some rows."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[:, rows] = getattr(other, name)

    @classmethod
    def mean_of(cls, members: Sequence[Scores]) -> Scores:
        """Return the mean scores of several networks."""
        names = cls.__dataclass_fields__
        return cls(*(np.mean([getattr(one, name) for one in members], axis=0) for name in names))

    @classmethod
    def best_of(cls, layers: Sequence[Scores]) -> Scores:
        """Return the scores where the choice is among the units of several layers."""
        chosen = np.stack([each.chosen for each in layers])
        shifted = np.stack([each.null_chosen for each in layers])
        best, moved = (
            np.nan_to_num(values, nan=-9.0).argmax(0)[None] for values in (chosen, shifted)
        )
        samples = np.stack([each.samples for each in layers])
        return cls(
            np.take_along_axis(chosen, best, 0)[0],
            np.take_along_axis(np.stack([each.scored for each in layers]), best, 0)[0],
            np.take_along_axis(shifted, moved, 0)[0],
            np.take_along_axis(np.stack([each.null_scored for each in layers]), moved, 0)[0],
            np.take_along_axis(samples, best[..., None], 0)[0],
        )


def resampled(x: Sequence[Array], y: Sequence[Array], plan: MatchPlan) -> Array:
    """Return correlations (block, row, draw) of resampled rows (row, moment) of each block.

    Notes
    -----
    Stretches of at least ``plan.resampled`` moments are drawn within each block, the same for all
    rows, layers and models, so that differences are paired. NaN for a block of one stretch.
    """
    found = np.full((len(x), len(x[0]), plan.draws), np.nan, np.float32)
    for k, (one, other) in enumerate(zip(x, y, strict=True)):
        labels = block_labels(one.shape[1], plan.resampled)
        starts = np.flatnonzero(np.diff(labels, prepend=-1))
        if len(starts) < 2:
            continue
        counts = draw_blocks(len(starts), plan.draws, plan.seed + k).T.astype(np.float64)
        a, b = (
            values.astype(np.float64) - values.mean(axis=1, keepdims=True, dtype=np.float64)
            for values in (one, other)
        )
        terms = np.stack([np.ones_like(a), a, b, a * a, b * b, a * b])
        n, sa, sb, aa, bb, ab = np.add.reduceat(terms, starts, axis=2) @ counts
        va, vb = aa - sa**2 / n, bb - sb**2 / n
        varies = (va > _ROUNDING * aa) & (vb > _ROUNDING * bb)
        product = np.sqrt(np.where(varies, va * vb, 1.0))
        found[k] = np.where(varies, (ab - sa * sb / n) / product, np.nan)
    return found


def summarised(scores: Scores, level: float) -> dict[str, Array]:
    """Return mean scores (row,) with intervals and p, and the null (row, shift)."""
    value, null = scores.scored.mean(axis=0), scores.null_scored.mean(axis=0)
    low, high = percentiles(np.moveaxis(scores.samples.mean(axis=0), -1, 0), level)
    return {
        "correlation": value,
        "low": low,
        "high": high,
        "selected": scores.chosen.mean(axis=0),
        "p_value": p_value(value, null.T),
        "null": null,
    }


def families(result: xr.Dataset) -> dict[str, Any]:
    """Return p against the best of all tests of each shift, and false discovery rates."""
    value, null = result["correlation"], result["null"]
    others = [dim for dim in null.dims if dim != "shift"]
    top = null.max(others)
    most = top.values.reshape(-1, *[1] * value.ndim)
    family = p_value(value.values, np.broadcast_to(most, (top.size, *value.shape)))
    q = discoveries(result["p_value"].values).q
    return {"p_family": (value.dims, family), "q_value": (value.dims, q)}
