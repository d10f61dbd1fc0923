"""Which rows of a table are fitted and which are held out, for movies and for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError, Problems

__all__ = ["RandomRows", "RowSplit", "TimeBlocks"]

Index = npt.NDArray[np.intp]


class RowSplit(Protocol):
    """How rows are divided into parts that share nothing."""

    def split(self, rows: int) -> tuple[Index, Index]:
        """Return rows to fit and rows to hold out."""
        ...

    def halves(self, rows: int) -> tuple[Index, Index]:
        """Return two parts, each about half of the rows less those left out between them."""
        ...

    def thirds(self, rows: int) -> tuple[Index, Index, Index]:
        """Return rows to fit, rows to select a state by, and rows to score it on."""
        ...


@dataclass(frozen=True)
class TimeBlocks:
    """Rows of a movie: contiguous blocks, with rows left out between parts.

    Parameters
    ----------
    gap : int, default 40
        Rows left out between parts, so that no two share stimulus frames: at least the history
        of the model. At most half a block, where the table is too short even for `every` blocks
        of two gaps.
    blocks : int, default 20
        Most blocks; fewer where the table is short, so that each is at least two gaps long, but
        at least `every`.
    every : int, default 5
        One block in this many is held out.

    Examples
    --------
    >>> fitted, held = TimeBlocks(gap=1, blocks=5).split(100)
    >>> held.tolist() == list(range(40, 60)), len(fitted)
    (True, 78)
    """

    gap: int = 40
    blocks: int = 20
    every: int = 5

    def __post_init__(self) -> None:
        problems = Problems()
        problems.require(self.gap >= 0, f"gap must be at least 0, got {self.gap}")
        problems.require(self.every >= 2, f"every must be at least 2, got {self.every}")
        least = f"blocks must be at least every ({self.every}), got {self.blocks}"
        problems.require(self.blocks >= self.every, least)
        problems.raise_as("TimeBlocks")

    def split(self, rows: int) -> tuple[Index, Index]:
        """Return rows to fit and rows to hold out.

        Parameters
        ----------
        rows : int
            Number of rows, in time order; at least one for each block.

        Returns
        -------
        fitted, held : ndarray of int
            Rows of the two parts.

        Raises
        ------
        InputError
            If there are fewer rows than blocks.
        """
        held = self._block(rows) % self.every == self.every // 2
        return np.flatnonzero(~self._near(held)), np.flatnonzero(held)

    def halves(self, rows: int) -> tuple[Index, Index]:
        """Return the even and the odd blocks; rows left out between them are missing in the first.

        Blocks are joined until each is at least four gaps long, as far as two are left.
        """
        most = min(self.blocks, rows // max(1, 4 * self.gap))
        joined = TimeBlocks(self.gap, max(2, most - most % 2), 2)
        one, other = joined.split(rows)
        return one, other

    def thirds(self, rows: int) -> tuple[Index, Index, Index]:
        """Return rows to fit, to select by, and to score on; the last two are a block in `every`.

        Raises
        ------
        InputError
            If there are fewer rows than blocks, or only two blocks in a round.
        """
        if self.every < 3:
            raise InputError("TimeBlocks: three parts need every of at least 3")
        place = self._block(rows) % self.every
        chosen, scored = place == self.every // 2, place == self.every - 1
        fitted = ~self._near(chosen | scored)
        return tuple(  # type: ignore[return-value]
            np.flatnonzero(part) for part in (fitted, chosen & ~self._near(scored), scored)
        )

    def _block(self, rows: int) -> Index:
        if rows < self.blocks:
            raise InputError(f"TimeBlocks: expected at least {self.blocks} rows, got {rows}")
        return np.arange(rows) * self._count(rows) // rows

    def _count(self, rows: int) -> int:
        """Return into how many blocks so many rows are cut."""
        return max(self.every, min(self.blocks, rows // max(1, 2 * self.gap)))

    def _near(self, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return these rows and those within the gap of one of them."""
        gap = min(self.gap, len(rows) // self._count(len(rows)) // 2)
        return np.asarray(np.convolve(rows, np.ones(2 * gap + 1), mode="same") > 0.5)


@dataclass(frozen=True)
class RandomRows:
    """Rows that do not depend on each other, such as images: drawn at random.

    Parameters
    ----------
    every : int, default 5
        One row in this many is held out.
    seed : int, default 0
        Seed of the draw.

    Examples
    --------
    >>> fitted, held = RandomRows().split(50)
    >>> len(fitted), len(held), len(np.intersect1d(fitted, held))
    (40, 10, 0)
    """

    every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.every < 2:
            raise InputError(f"RandomRows: every must be at least 2, got {self.every}")

    def split(self, rows: int) -> tuple[Index, Index]:
        """Return rows to fit and rows to hold out, each in rising order."""
        fitted, held = self._parts(rows, [rows // self.every])
        return fitted, held

    def halves(self, rows: int) -> tuple[Index, Index]:
        """Return two random halves, each in rising order."""
        one, other = self._parts(rows, [rows // 2])
        return one, other

    def thirds(self, rows: int) -> tuple[Index, Index, Index]:
        """Return rows to fit, to select by, and to score on, each in rising order.

        Raises
        ------
        InputError
            If there are fewer than `every` rows, or nothing is left to fit.
        """
        if self.every < 3:
            raise InputError("RandomRows: three parts need every of at least 3")
        fitted, chosen, scored = self._parts(rows, [rows // self.every] * 2)
        return fitted, chosen, scored

    def _parts(self, rows: int, sizes: list[int]) -> tuple[Index, ...]:
        """Return what is left, and then parts of these sizes."""
        if min(sizes) < 1:
            raise InputError(f"RandomRows: expected at least {self.every} rows, got {rows}")
        order = np.random.default_rng(self.seed).permutation(rows)
        held = np.split(order[: sum(sizes)], np.cumsum(sizes)[:-1])
        return tuple(np.sort(part) for part in (order[sum(sizes) :], *held))
