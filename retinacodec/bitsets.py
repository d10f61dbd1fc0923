"""Sets of positions as packed bits, 64 to a word, and how many two of them share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic as numba_intrinsic

from retinacodec.compiled import compiled
from retinacodec.errors import InputError

__all__ = ["Bitsets", "count_and", "count_and_not", "count_or", "pack", "popcount"]

Array = npt.NDArray[Any]
Words = npt.NDArray[np.uint64]
intrinsic: Any = numba_intrinsic
_TILE = 32


@intrinsic
def popcount(typing: Any, word: Any) -> Any:  # noqa: ARG001
    """Return the number of bits set in a word of 64, inside compiled functions."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), emit


@dataclass(frozen=True)
class Bitsets:
    """Sets of positions, one a row.

    Parameters
    ----------
    words : ndarray (row, word), uint64
        Bit ``i % 64`` of word ``i // 64`` says whether position i belongs to the set; the bits
        beyond the last position are 0.
    positions : int
        Number of positions.

    Examples
    --------
    >>> sets = pack(np.eye(3, 70, dtype=bool))
    >>> sets.words.shape, sets.sizes().tolist()
    ((3, 2), [1, 1, 1])
    """

    words: Words
    positions: int

    def __len__(self) -> int:
        return len(self.words)

    def sizes(self) -> npt.NDArray[np.int64]:
        """Return the number of positions in each set (row,)."""
        sizes: npt.NDArray[np.int64] = np.zeros(len(self.words), np.int64)
        _count(self.words, sizes)
        return sizes

    def unpack(self) -> npt.NDArray[np.bool_]:
        """Return the sets as True and False (row, position)."""
        bits = np.unpackbits(
            self.words.view(np.uint8), axis=1, count=self.positions, bitorder="little"
        )
        return bits.view(np.bool_)

    def complement(self) -> Bitsets:
        """Return the positions that are not in each set."""
        words = ~self.words
        if self.positions % 64:
            words[:, -1] &= np.uint64((1 << self.positions % 64) - 1)
        return Bitsets(words, self.positions)


def pack(sets: npt.ArrayLike) -> Bitsets:
    """Pack sets of positions into bits.

    Parameters
    ----------
    sets : array_like of bool (row, position)
        True where a position belongs to the set; at least one position.

    Returns
    -------
    Bitsets
        The same sets in an eighth of the memory.

    Raises
    ------
    InputError
        If the values are not True and False, or there is no position.
    """
    values = np.asarray(sets)
    if values.dtype != np.bool_ or values.ndim != 2 or not values.shape[1]:
        raise InputError(
            "pack: expected True and False over (row, position), got shape "
            f"{values.shape} of {values.dtype}; compare with a threshold first"
        )
    count = -(-values.shape[1] // 64)
    padded = np.zeros((len(values), count * 8), np.uint8)
    packed = np.packbits(np.ascontiguousarray(values), axis=1, bitorder="little")
    padded[:, : packed.shape[1]] = packed
    return Bitsets(padded.view(np.dtype("<u8")).astype(np.uint64, copy=False), values.shape[1])


def count_and(one: Bitsets, other: Bitsets, *, threads: int = 1) -> npt.NDArray[np.int64]:
    """Count the positions that each set of one table shares with each set of another.

    Parameters
    ----------
    one, other : Bitsets
        Sets over the same positions.
    threads : int, default 1
        Rows of the first table are divided among so many threads; the counts are the same.

    Returns
    -------
    ndarray (row of one, row of other)
        ``|A and B|``, positions.

    Raises
    ------
    InputError
        If the tables have different numbers of positions.

    Examples
    --------
    >>> a, b = pack(np.array([[True, True, False]])), pack(np.array([[False, True, True]]))
    >>> int(count_and(a, b)[0, 0]), int(count_or(a, b)[0, 0]), int(count_and_not(a, b)[0, 0])
    (1, 3, 1)
    """
    if one.positions != other.positions:
        raise InputError(
            f"bitsets: expected the same positions, got {one.positions} and {other.positions}"
        )
    counts = np.zeros((len(one), len(other)), np.int64)
    parts = [part for part in np.array_split(np.arange(len(one)), max(threads, 1)) if part.size]

    def fill(part: Array) -> None:
        rows = slice(part[0], part[-1] + 1)
        _count_and(one.words[rows], other.words, counts[rows])

    if len(parts) < 2:
        for part in parts:
            fill(part)
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(fill, parts))
    return counts


def count_or(one: Bitsets, other: Bitsets, *, threads: int = 1) -> npt.NDArray[np.int64]:
    """Count the positions in either of two sets, ``|A| + |B| - |A and B|``; see `count_and`."""
    both = count_and(one, other, threads=threads)
    return one.sizes()[:, None] + other.sizes() - both


def count_and_not(one: Bitsets, other: Bitsets, *, threads: int = 1) -> npt.NDArray[np.int64]:
    """Count the positions in the first set only, ``|A| - |A and B|``; see `count_and`."""
    return one.sizes()[:, None] - count_and(one, other, threads=threads)


@compiled
def _count(words: Any, sizes: Any) -> None:
    for i in range(len(words)):
        total = 0
        for k in range(words.shape[1]):
            total += popcount(words[i, k])
        sizes[i] = total


@compiled
def _count_and(one: Any, other: Any, counts: Any) -> None:
    """Fill counts (row of one, row of other), a few rows at a time while they are at hand."""
    for start in range(0, len(other), _TILE):
        stop = min(start + _TILE, len(other))
        for i in range(len(one)):
            for j in range(start, stop):
                total = 0
                for k in range(one.shape[1]):
                    total += popcount(one[i, k] & other[j, k])
                counts[i, j] = total
