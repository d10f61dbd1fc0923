"""What chance gives: shifted and permuted data, p-values against them, and discoveries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError, Problems

__all__ = [
    "Discoveries",
    "NullTest",
    "circular_shifts",
    "different_steps",
    "discoveries",
    "p_value",
    "permutation_p",
    "permutations",
    "shift_p",
    "shift_steps",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class NullTest:
    """A statistic with its null.

    Attributes
    ----------
    value : ndarray (...)
        The statistic of the data.
    null : ndarray (sample, ...)
        The statistic of shifted or permuted data.
    p : ndarray (...)
        Share of the null at least as large, as `p_value` has it.
    """

    value: Array
    null: Array
    p: Array


@dataclass(frozen=True)
class Discoveries:
    """Which of many tests are called true, at a bounded share of false ones.

    Attributes
    ----------
    found : ndarray of bool (...)
        The tests that are called true; never one without a p-value.
    q : ndarray (...)
        Least level at which each test would be called true; NaN without a p-value.
    """

    found: npt.NDArray[np.bool_]
    q: Array


def shift_steps(
    frames: int, shifts: int, *, seed: int = 0, least: int = 1, columns: int | None = None
) -> Array:
    """Draw by how many frames series are moved around the circle of time.

    Parameters
    ----------
    frames : int
        Length of the series.
    shifts : int
        Number of draws.
    seed : int, default 0
        Seed of the draws.
    least : int, default 1
        Smallest shift in either direction; at least as long as the series are correlated with
        themselves, so that a shifted series has forgotten where it was.
    columns : int, optional
        Draw a shift for each of so many columns; one for all if left out.

    Returns
    -------
    ndarray (shift,) or (shift, column)
        Frames, ``least`` to ``frames - least``.

    Raises
    ------
    InputError
        If no shift is so long, or a number is out of range.
    """
    problems = Problems()
    problems.require(shifts >= 1, f"shifts: expected at least 1, got {shifts}")
    problems.require(least >= 0, f"least: expected at least 0 frames, got {least}")
    high = frames - least + 1 if least else frames
    problems.require(
        high > least, f"least: {frames} frames cannot be moved by {least} in both directions"
    )
    problems.raise_as("shifts")
    size = (shifts,) if columns is None else (shifts, columns)
    return np.random.default_rng(seed).integers(least, high, size)


def different_steps(frames: int, shifts: int, *, seed: int = 0, least: int = 1) -> Array:
    """Draw shifts (shift,) as `shift_steps`, but each once where no more than those asked differ.

    With few of them no p-value is then smaller than one over their number and one, which many
    draws of the same few would pretend; ``least`` is at least 1.

    Examples
    --------
    >>> different_steps(10, 200, least=4).tolist()
    [4, 5, 6]
    """
    drawn = shift_steps(frames, shifts, seed=seed, least=least)
    every = np.arange(max(least, 1), frames - max(least, 1) + 1)
    return drawn if every.size > shifts else every


def circular_shifts(
    series: npt.ArrayLike, shifts: int, *, seed: int = 0, least: int = 1, together: bool = True
) -> Iterator[Array]:
    """Yield the series moved around the circle of time, again and again.

    Each series keeps its values, its correlation with itself and, moved together, its relation
    to the other columns; what it had to do with anything that is not moved is gone.

    Parameters
    ----------
    series : array_like (time, ...)
        Series; the end is joined to the start.
    shifts : int
        Number of shifts; moved together by at least a frame, each different one once where there
        are no more, see `different_steps`.
    seed : int, default 0
        Seed of the shifts.
    least : int, default 1
        Smallest shift in either direction, frames; 0 allows the series as they are.
    together : bool, default True
        Move all columns by the same shift, else each column of (time, column) by its own.

    Yields
    ------
    ndarray (time, ...)
        Shifted series: row t holds what was at ``t + shift``.

    Raises
    ------
    InputError
        If the series are too short.

    Examples
    --------
    >>> [moved.tolist() for moved in circular_shifts([1, 2, 3, 4], 1, least=2)]
    [[3, 4, 1, 2]]
    """
    values = np.asarray(series)
    columns = None if together else values.shape[1]
    draw = different_steps if together and least else partial(shift_steps, columns=columns)
    steps = draw(len(values), shifts, seed=seed, least=least)
    frames = np.arange(len(values))
    for step in steps:
        if together:
            yield values[(frames + step) % len(values)]
        else:
            rows = (frames[:, None] + step) % len(values)
            yield np.take_along_axis(values, rows, axis=0)


def permutations(
    series: npt.ArrayLike, count: int, *, seed: int = 0, together: bool = True
) -> Iterator[Array]:
    """Yield the rows of a table in random order, again and again.

    Only for rows that do not depend on each other, such as images; for frames of a movie see
    `circular_shifts`.

    Parameters
    ----------
    series : array_like (sample, ...)
        Table.
    count : int
        Number of permutations.
    seed : int, default 0
        Seed of the permutations.
    together : bool, default True
        Move whole rows, else each column by itself.

    Yields
    ------
    ndarray (sample, ...)
        The same values in another order.

    Raises
    ------
    InputError
        If `count` is below 1 or there are fewer than two rows.
    """
    values = np.asarray(series)
    if count < 1 or len(values) < 2:
        raise InputError(
            f"permutations: expected at least one of 2 rows or more, got {count} of {len(values)}"
        )
    generator = np.random.default_rng(seed)
    for _ in range(count):
        if together:
            yield values[generator.permutation(len(values))]
        else:
            yield generator.permuted(values, axis=0)


def shift_p(
    statistic: Callable[[Array, Array], npt.ArrayLike],
    one: npt.ArrayLike,
    other: npt.ArrayLike,
    *,
    shifts: int = 200,
    seed: int = 0,
    least: int = 1,
) -> NullTest:
    """Ask whether two sets of series have to do with each other, against shifted ones.

    Parameters
    ----------
    statistic : callable
        Takes both, returns a number or an array that is larger the more they agree.
    one, other : array_like (time, ...)
        Series on the same frames; the second is shifted.
    shifts, seed, least
        As in `circular_shifts`.

    Returns
    -------
    NullTest
        Statistic, null and p.

    Raises
    ------
    InputError
        If the two differ in length or are too short.

    Examples
    --------
    >>> wave = np.random.default_rng(0).normal(size=500)
    >>> test = shift_p(lambda a, b: np.corrcoef(a, b)[0, 1], wave, wave, shifts=99)
    >>> float(test.p)
    0.01
    """
    first, second = _pair(one, other)
    moved = circular_shifts(second, shifts, seed=seed, least=least)
    return _tested(statistic, first, second, moved)


def permutation_p(
    statistic: Callable[[Array, Array], npt.ArrayLike],
    one: npt.ArrayLike,
    other: npt.ArrayLike,
    *,
    count: int = 999,
    seed: int = 0,
) -> NullTest:
    """Ask whether two sets of independent samples have to do with each other.

    Parameters
    ----------
    statistic : callable
        Takes both, returns a number or an array that is larger the more they agree.
    one, other : array_like (sample, ...)
        Values of the same samples; the rows of the second are permuted.
    count, seed
        As in `permutations`.

    Returns
    -------
    NullTest
        Statistic, null and p.

    Raises
    ------
    InputError
        If the two differ in length.
    """
    first, second = _pair(one, other)
    return _tested(statistic, first, second, permutations(second, count, seed=seed))


def p_value(value: npt.ArrayLike, null: npt.ArrayLike) -> Array:
    """Return the share of a null that is at least as large as a value.

    Parameters
    ----------
    value : array_like (...)
        The statistic of the data.
    null : array_like (sample, ...)
        The statistic of shifted or permuted data; NaN samples do not count.

    Returns
    -------
    ndarray (...)
        ``(1 + #{null >= value}) / (1 + samples)``: above 0 always, so that a test at a level
        holds it; NaN where the value is NaN.

    References
    ----------
    .. [1] Phipson and Smyth, Stat Appl Genet Mol Biol 9, 39 (2010).

    Examples
    --------
    >>> float(p_value(3.0, [0.0, 1.0, 3.0, np.nan]))
    0.5
    """
    data, samples = np.asarray(value, dtype=np.float64), np.asarray(null, dtype=np.float64)
    known = np.isfinite(samples)
    reached = ((samples >= data) & known).sum(axis=0)
    return np.where(np.isfinite(data), (1 + reached) / (1 + known.sum(axis=0)), np.nan)


def discoveries(
    p: npt.ArrayLike, level: float = 0.05, *, any_dependence: bool = False
) -> Discoveries:
    """Say which of many tests are true, such that few of those named are false.

    Parameters
    ----------
    p : array_like (...)
        p-values of one family of tests; NaN is no test.
    level : float, default 0.05
        Expected share of false ones among those called true.
    any_dependence : bool, default False
        Hold the level however the tests depend on each other (Benjamini and Yekutieli); else
        for tests that are independent or go up and down together (Benjamini and Hochberg).

    Returns
    -------
    Discoveries
        ``found`` and ``q``, in the shape of `p`.

    Raises
    ------
    InputError
        If `level` is not between 0 and 1, or a p-value is not from 0 to 1.

    Notes
    -----
    ``q_(i) = min_{j >= i} p_(j) n / j`` over the n sorted p-values, times ``sum_k 1 / k`` for
    any dependence. The least p-value of a null with m samples is ``1 / (1 + m)``: one true test
    among n needs ``m >= n / level`` samples to be found.

    References
    ----------
    .. [1] Benjamini and Hochberg, J R Stat Soc B 57, 289 (1995); Benjamini and Yekutieli, Ann Stat
       29, 1165 (2001).

    Examples
    --------
    >>> discoveries([0.001, 0.02, np.nan, 0.9]).found.tolist()
    [True, True, False, False]
    """
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p, dtype=np.float64)
    known = ~np.isnan(values)
    problems = Problems()
    problems.require(0 < level < 1, f"level: expected between 0 and 1, got {level}")
    tested = values[known]
    inside = bool(((tested >= 0) & (tested <= 1)).all())
    problems.require(inside, "p: a value is below 0 or above 1")
    problems.raise_as("discoveries")
    q = np.full(values.shape, np.nan)
    if tested.size:
        method = "fdr_by" if any_dependence else "fdr_bh"
        q[known] = multipletests(tested, alpha=level, method=method)[1]
    with np.errstate(invalid="ignore"):
        return Discoveries(np.asarray(q <= level), q)


def _pair(one: npt.ArrayLike, other: npt.ArrayLike) -> tuple[Array, Array]:
    first, second = np.asarray(one), np.asarray(other)
    if not first.ndim or not second.ndim or len(first) != len(second):
        raise InputError(
            f"null: expected two arrays of one length, got shapes {first.shape} and {second.shape}"
        )
    return first, second


def _tested(
    statistic: Callable[[Array, Array], npt.ArrayLike],
    first: Array,
    second: Array,
    moved: Iterator[Array],
) -> NullTest:
    null = np.stack([np.asarray(statistic(first, other), dtype=np.float64) for other in moved])
    value = np.asarray(statistic(first, second), dtype=np.float64)
    return NullTest(value, null, p_value(value, null))
