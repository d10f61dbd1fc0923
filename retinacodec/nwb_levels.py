"""A lossless 8-bit code for movies in which few contrasts occur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels", "find_levels"]

_SLAB = 1 << 24  # values looked at in one go

Array = NDArray[Any]


@dataclass(frozen=True)
class Levels:
    """A lossless code for movies of at most 256 different contrasts.

    Parameters
    ----------
    codes : tuple of int
        Grey values in the file, 0 to 255, increasing.
    values : tuple of float
        The exact float32 contrast of each.
    """

    codes: tuple[int, ...]
    values: tuple[float, ...]

    def encode(self, contrast: Array) -> NDArray[np.uint8]:
        """Return the grey value of each contrast, which must be one of the levels."""
        place = np.searchsorted(np.asarray(self.values, np.float32), contrast)
        return np.asarray(self.codes, np.uint8)[place]

    def table(self) -> NDArray[np.float32]:
        """Return the contrast of each of the 256 grey values, NaN for those not in use."""
        table = np.full(256, np.nan, np.float32)
        table[list(self.codes)] = self.values
        return table

    def line(self) -> tuple[float, float]:
        """Return slope and offset with which grey values become (nearly) contrasts."""
        rise = self.values[-1] - self.values[0]
        slope = rise / (self.codes[-1] - self.codes[0]) if rise else 1.0
        return slope, self.values[0] - slope * self.codes[0]


def find_levels(contrast: Array) -> Levels | None:
    """Find the at most 256 contrasts of a movie and a grey value for each.

    Parameters
    ----------
    contrast : ndarray (time, y, x) float32
        The movie.

    Returns
    -------
    Levels or None
        Evenly spaced contrasts get evenly spaced grey values; None where there are more than
        256 contrasts or two of them are too close for 8 bits.
    """
    values = np.empty(0, np.float32)
    step = max(1, _SLAB // max(1, contrast[0].size))
    for start in range(0, len(contrast), step):
        slab = np.asarray(contrast[start : start + step]).ravel()
        for part in (slab[:4096], slab):
            if values.size:
                near = values[np.searchsorted(values, part).clip(max=values.size - 1)]
                part = part[near != part]
            values = np.union1d(values, part)
            if values.size > 256:
                return None
    codes = _codes(values.astype(np.float64))
    if codes is None:
        return None
    return Levels(tuple(codes.tolist()), tuple(values.astype(np.float64).tolist()))


def _codes(values: NDArray[np.float64]) -> NDArray[np.intp] | None:
    if values.size == 1:
        return np.array([128])
    span = values[-1] - values[0]
    place = (values - values[0]) / np.diff(values).min()
    even = place[-1] < 255.5 and bool((np.abs(place - place.round()) < 0.01).all())
    if even:
        codes = place.round() * (255 // int(place[-1].round()))
    else:
        codes = ((values - values[0]) / span * 255).round()
    return codes.astype(np.intp) if (np.diff(codes) > 0).all() else None
