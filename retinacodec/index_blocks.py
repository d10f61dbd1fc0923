"""Repeats in a sequence of whole numbers: its period, or a block that comes back between others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["equal_blocks", "period_of"]

_TRIED = 8  # counts of equal windows that are followed up
_SURE = 10.0  # bits beyond what chance explains

Index = NDArray[np.intp]


def period_of(index: Index, shortest: int) -> int | None:
    """Return after how many entries a sequence repeats itself to its end.

    Parameters
    ----------
    index : ndarray (entry,)
        Whole numbers.
    shortest : int
        Shortest period that counts, 1 or more. A sequence with a shorter one, such as two numbers
        in turn, has no period in this sense.

    Returns
    -------
    int or None
        The period, at most half of the sequence.

    Examples
    --------
    >>> period_of(np.array([3, 1, 4, 1, 3, 1, 4, 1, 3, 1]), 2)
    4
    """
    half = index.size // 2
    if half < shortest or any(_repeats(index, step) for step in range(1, min(shortest, half))):
        return None
    keys = _window_keys(index, shortest)
    candidates = np.flatnonzero(keys[: half + 1] == keys[0])
    steps = (int(step) for step in candidates if step >= shortest and _repeats(index, int(step)))
    return next(steps, None)


def equal_blocks(index: Index, shortest: int) -> tuple[list[int], int] | None:
    """Find the block of a sequence that comes back unchanged, between others or not.

    Parameters
    ----------
    index : ndarray (entry,)
        Whole numbers.
    shortest : int
        Shortest block that counts.

    Returns
    -------
    (list of int, int) or None
        Where the block begins each time, and its length: of all such blocks the one that covers
        most of the sequence. None if no block comes back that is longer than chance explains.

    Notes
    -----
    In n independent draws with an entropy of H bits each, the longest block that comes back by
    chance has about ``2 log2(n) / H`` entries. A block counts if it has ten bits more:
    ``L H > 2 log2(n) + 10``.

    References
    ----------
    Karlin, Ost, Counts of long aligned word matches among random letter sequences, Advances in
    Applied Probability 19:293 (1987).

    Examples
    --------
    >>> numbers = np.random.default_rng(0).permutation(400)
    >>> clip = numbers[:50]
    >>> equal_blocks(np.concatenate([numbers[100:130], clip, numbers[200:220], clip]), 20)
    ([30, 100], 50)
    """
    if index.size < 2 * shortest:
        return None
    _, inverse, counts = np.unique(
        _window_keys(index, shortest), return_inverse=True, return_counts=True
    )
    of_window = counts[inverse]
    needed = max(float(shortest), _needed(index))
    best: tuple[int, list[int], int] = (0, [], 0)
    for count in np.unique(counts[counts >= 2])[::-1][:_TRIED]:
        first = int(np.flatnonzero(of_window == count)[0])
        places = np.flatnonzero(inverse == inverse[first])
        for chosen in (places, places[:-1]):
            if chosen.size < 2 or np.diff(chosen).min() < shortest:
                continue
            start, length = _extended(index, chosen, shortest)
            if length >= needed and chosen.size * length > best[0]:
                best = (chosen.size * length, (chosen + start).tolist(), length)
    return (best[1], best[2]) if best[0] else None


def _repeats(index: Index, step: int) -> bool:
    return np.array_equal(index[step:], index[:-step])


def _needed(index: Index) -> float:
    """Return the length beyond which a block does not come back by chance."""
    _, counts = np.unique(index, return_counts=True)
    shares = counts / index.size
    entropy = float(-(shares * np.log2(shares)).sum())
    return np.inf if entropy <= 0 else (2 * np.log2(index.size) + _SURE) / entropy


def _extended(index: Index, places: Index, length: int) -> tuple[int, int]:
    """Return how far before the places the block begins, and its length, as long as all agree."""
    room = int(np.diff(places).min())
    before = 0
    while length + before < room and places[0] - before > 0:
        if np.ptp(index[places - before - 1]):
            break
        before += 1
    after = length
    while after + before < room and places[-1] + after < index.size:
        if np.ptp(index[places + after]):
            break
        after += 1
    return -before, before + after


def _window_keys(index: Index, width: int) -> NDArray[np.uint64]:
    """Return a 64-bit key of each window, by its first entry."""
    weights = np.random.default_rng(0).integers(1, 1 << 63, width, dtype=np.uint64)
    count = index.size - width + 1
    values = index.astype(np.uint64) + np.uint64(1)
    keys = np.zeros(count, np.uint64)
    for lag in range(width):
        keys += values[lag : lag + count] * (weights[lag] * np.uint64(2) + np.uint64(1))
    return keys
