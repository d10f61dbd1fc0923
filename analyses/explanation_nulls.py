"""What overlap chance gives: masks moved in time or dealt to other images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError
from retinacodec.nulls import different_steps, permutations

__all__ = ["MaskNull", "PermutedImages", "ShiftedMasks"]

Array = npt.NDArray[Any]


class MaskNull(Protocol):
    """How masks lose their relation to the concepts; whole images or frames are moved."""

    @property
    def search(self) -> bool:
        """Whether the search is repeated on every sample."""
        ...

    def orders(self, images: int, *, seed: int) -> Iterator[Array]:
        """Yield, for each sample, the image (image,) whose mask is put in each place."""
        ...


@dataclass(frozen=True)
class ShiftedMasks:
    """Masks moved around the circle of time; for frames of a movie, which depend on each other.

    Parameters
    ----------
    shifts : int, default 200
        Number of shifts drawn, with repetition; where there are no more different ones, each
        once, so that no p-value is smaller than they allow.
    least : int, default 1
        Smallest shift in either direction, frames (or images): at least as long as masks and
        concepts are correlated with themselves. A quarter of the frames where there are too few.
    search : bool, default False
        Repeat the search on each shifted mask, else move the masks of the held-out part under
        the formulas that were found without it.
    """

    shifts: int = 200
    least: int = 1
    search: bool = False

    def orders(self, images: int, *, seed: int) -> Iterator[Array]:
        """Yield orders of so many frames."""
        least = min(self.least, max(1, images // 4))
        places = np.arange(images)
        for step in different_steps(images, self.shifts, seed=seed, least=max(least, 1)):
            yield (places + step) % images


@dataclass(frozen=True)
class PermutedImages:
    """Masks dealt to other images; for images that do not depend on each other.

    The positions of a mask in its image stay where they are.

    Parameters
    ----------
    count : int, default 200
        Number of permutations.
    search : bool, default False
        Repeat the search on each permuted mask, else permute the masks of the held-out part
        under the formulas that were found without it.
    """

    count: int = 200
    search: bool = False

    def orders(self, images: int, *, seed: int) -> Iterator[Array]:
        """Yield orders of so many images."""
        if self.count < 1:
            raise InputError(f"PermutedImages: expected a count of at least 1, got {self.count}")
        yield from permutations(np.arange(images), self.count, seed=seed)
