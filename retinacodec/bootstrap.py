"""How sure a number is that was computed from a stretch of time: block bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError, Problems

__all__ = ["Interval", "block_bootstrap", "block_labels", "draw_blocks", "percentiles"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval, all three in the value's own unit and shape."""

    value: Array
    low: Array
    high: Array


def block_labels(frames: int | npt.ArrayLike, length: int) -> npt.NDArray[np.intp]:
    """Number the contiguous blocks into which frames are cut for resampling.

    Parameters
    ----------
    frames : int or array_like (time,)
        Number of contiguous frames, or the rising frame numbers themselves; a block never
        reaches over a gap of `length` frames or more between them.
    length : int
        Least frames from the first of a block to the last, both included. A stretch shorter than
        that is one block. Frames that are missing here and there, such as every other one, do not
        make blocks of single frames, which would be taken for independent.

    Returns
    -------
    ndarray (time,)
        Block of each frame, 0 on, never falling.

    Raises
    ------
    InputError
        If there are no frames, they do not rise, or `length` is below 1.

    Examples
    --------
    >>> block_labels(7, 3).tolist()
    [0, 0, 0, 0, 1, 1, 1]
    >>> block_labels([0, 1, 2, 3, 10, 11], 2).tolist()
    [0, 0, 1, 1, 2, 2]
    >>> block_labels([0, 2, 4, 6, 8, 10], 6).tolist()
    [0, 0, 0, 0, 0, 0]
    """
    numbers = np.arange(frames) if isinstance(frames, int) else np.asarray(frames)
    problems = Problems()
    problems.require(numbers.size > 0, "no frames")
    problems.require(bool((np.diff(numbers) > 0).all()), "frame numbers must rise")
    problems.require(length >= 1, f"length: expected at least 1 frame, got {length}")
    problems.raise_as("blocks")
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - length - 1) > length)
    sizes = np.diff(starts, append=numbers.size)
    spans = numbers[starts + sizes - 1] - numbers[starts] + 1
    blocks = np.maximum(spans // length, 1)
    place = numbers - np.repeat(numbers[starts], sizes)
    within = place * np.repeat(blocks, sizes) // np.repeat(spans, sizes)
    return within + np.repeat(np.cumsum(blocks) - blocks, sizes)


def draw_blocks(blocks: int, draws: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw as many blocks as there are, with replacement, again and again.

    Parameters
    ----------
    blocks : int
        Number of blocks.
    draws : int
        Number of resamples.
    seed : int
        Seed of the draws.

    Returns
    -------
    ndarray (draw, block)
        How often each block was drawn; every row sums to `blocks`.
    """
    chance = np.full(blocks, 1 / blocks)
    return np.random.default_rng(seed).multinomial(blocks, chance, size=draws)


def percentiles(
    samples: npt.ArrayLike, level: float = 0.95, *, blocks: int | None = None
) -> tuple[Array, Array]:
    """Return the percentile interval of resampled values.

    Parameters
    ----------
    samples : array_like (draw, ...)
        Resampled values; NaN draws (a statistic undefined in that resample) are left out.
    level : float, default 0.95
        Coverage asked for, above 0 and below 1.
    blocks : int, optional
        Number of blocks that were resampled. If it is given, the percentiles lie further out by
        as much as a t interval of so many values is wider than a normal one.

    Returns
    -------
    (ndarray, ndarray)
        Low and high end, each of shape (...); NaN where every draw is NaN.

    Raises
    ------
    InputError
        If `level` is not between 0 and 1.

    Notes
    -----
    Percentiles of few blocks are too narrow. With n blocks they are taken at
    ``Phi(-sqrt(n / (n - 1)) t_(n-1, (1 + level)/2))`` and its counterpart.

    References
    ----------
    .. [1] Hesterberg, The American Statistician 69, 371 (2015), expanded percentile interval.
    """
    if not 0 < level < 1:
        raise InputError(f"level: expected a share above 0 and below 1, got {level}")
    tail = (1 - level) / 2
    if blocks is not None and blocks > 1:
        from scipy.stats import norm, t

        tail = float(norm.cdf(t.ppf(tail, blocks - 1) * np.sqrt(blocks / (blocks - 1))))
    values = np.asarray(samples, dtype=np.float64)
    empty = np.isnan(values).all(axis=0)
    filled = np.where(empty, 0.0, values)
    with np.errstate(invalid="ignore"):  # between an infinite value and another
        low, high = np.nanquantile(filled, [tail, 1 - tail], axis=0)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def block_bootstrap(
    statistic: Callable[..., npt.ArrayLike],
    *arrays: npt.ArrayLike,
    block: int,
    frames: npt.ArrayLike | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compute a statistic of time series with a confidence interval that respects correlations.

    Parameters
    ----------
    statistic : callable
        Takes the arrays, returns a number or an array.
    *arrays : array_like (time, ...)
        Series that are resampled together.
    block : int
        Frames that are kept together; at least as long as the series are correlated, and at
        least one second for responses of the retina.
    frames : array_like (time,), optional
        Frame numbers, where the series have gaps; contiguous if left out.
    draws : int, default 1000
        Number of resamples.
    level : float, default 0.95
        Coverage of the interval.
    seed : int, default 0
        Seed of the resamples.

    Returns
    -------
    Interval
        The statistic of the series as they are, and the percentile interval. With fewer than
        two blocks nothing can be resampled and the ends are NaN.

    Raises
    ------
    InputError
        If the arrays differ in length or a number is out of range.

    Notes
    -----
    The frames are cut into non-overlapping blocks of at least `block` frames; each resample
    draws as many blocks as there are, with replacement, and the interval is the
    ``(1 - level) / 2`` and ``(1 + level) / 2`` quantile of the resampled statistic.

    References
    ----------
    .. [1] Carlstein, Annals of Statistics 14, 1171 (1986); Kuensch, Annals of Statistics 17, 1217
       (1989), for blocks that overlap.

    Examples
    --------
    >>> found = block_bootstrap(np.mean, np.arange(100) % 10, block=10)
    >>> float(found.low), float(found.high)
    (4.5, 4.5)
    """
    series = [np.asarray(array) for array in arrays]
    if len({len(array) for array in series}) != 1:
        raise InputError(f"arrays: expected one length, got {[len(array) for array in series]}")
    labels = block_labels(len(series[0]) if frames is None else frames, block)
    value = np.asarray(statistic(*series), dtype=np.float64)
    members = np.split(np.arange(labels.size), np.flatnonzero(np.diff(labels)) + 1)
    if len(members) < 2:
        return Interval(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    samples = []
    for counts in draw_blocks(len(members), draws, seed):
        chosen = np.concatenate([members[k] for k in np.repeat(np.arange(len(members)), counts)])
        samples.append(np.asarray(statistic(*(array[chosen] for array in series))))
    return Interval(value, *percentiles(np.stack(samples), level))
