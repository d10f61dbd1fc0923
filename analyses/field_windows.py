"""Which pixels and frames a receptive field is estimated from, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from retinacodec.analyses.triggered_responses import TriggeredResponses
from retinacodec.errors import InputError
from retinacodec.triggered_sums import triggered_sum

__all__ = ["Square", "same_windows", "window_squares"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Square:
    """A rectangle of pixels: the first row and column, and how many of each."""

    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Rows and columns, to index the last two axes of a movie or field."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )

    @classmethod
    def around(cls, middle: npt.ArrayLike, window: int | None, whole: tuple[int, ...]) -> Square:
        """Return the pixels around one of them, moved where the frame ends.

        Parameters
        ----------
        middle : array_like of int (2,)
            Row and column.
        window : int or None
            Pixels on each side, as far as the frame has them; the whole frame if None.
        whole : tuple of int
            Rows and columns of the frame.

        Returns
        -------
        Square
            Inside the frame.
        """
        size = [side if window is None else min(window, side) for side in whole]
        top, left = (
            int(np.clip(int(place) - length // 2, 0, side - length))
            for place, length, side in zip(np.asarray(middle), size, whole, strict=True)
        )
        return cls(top, left, *size)


def window_squares(
    contrast: Array,
    given: TriggeredResponses,
    history: int,
    latency: int,
    window: int | None,
    centres: npt.ArrayLike | None = None,
) -> list[Square]:
    """Return the rectangle of pixels in which each cell's field is looked for.

    Parameters
    ----------
    contrast : ndarray (time, y, x)
        Movie.
    given : TriggeredResponses
        Responses on its frames.
    history, latency : int
        Frames of a window, and between its newest frame and the response.
    window : int or None
        Pixels on each side, as far as the movie has them; the whole frame if None.
    centres : array_like of int (cell, 2), optional
        Row and column of the middle; the pixel with the strongest correlation between response
        and contrast at any lag if left out.

    Returns
    -------
    list of Square
        One a cell.

    Raises
    ------
    InputError
        If `window` or `centres` cannot be used.
    """
    whole, cells = contrast.shape[1:], given.weights.shape[1]
    if window is not None and window < 1:
        raise InputError(f"window: expected at least 1 pixel or None, got {window}")
    if centres is None:
        middles = _peaks(contrast, given, history, latency)
    else:
        middles = np.asarray(centres)
        inside = middles.shape == (cells, 2) and bool(
            ((middles >= 0) & (middles < np.array(whole))).all()
        )
        if not inside:
            raise InputError(f"centres: expected {cells} rows and columns inside {whole}")
    return [Square.around(middle, window, whole) for middle in middles]


def same_windows(squares: list[Square], observed: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Group cells that share their pixels and the frames in which they were observed.

    Parameters
    ----------
    squares : list of Square
        One a cell.
    observed : ndarray of bool (time, cell)
        Frames that count for each cell.

    Returns
    -------
    list of list of int
        Positions of the cells of each group.
    """
    groups: dict[tuple[Square, bytes], list[int]] = {}
    for cell, square in enumerate(squares):
        seen = np.packbits(observed[:, cell]).tobytes()
        groups.setdefault((square, seen), []).append(cell)
    return list(groups.values())


def _peaks(contrast: Array, given: TriggeredResponses, history: int, latency: int) -> Array:
    """Return row and column of the strongest correlation of each cell with a pixel."""
    movie, weights = torch.from_numpy(contrast), torch.from_numpy(given.centred)
    shared = triggered_sum(movie, weights, history, latency)
    spread = contrast.std(axis=0, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = np.where(spread > 0, np.abs(shared.numpy()).max(axis=1) / spread, 0.0)
    best = strength.reshape(len(strength), -1).argmax(axis=1)
    return np.column_stack(np.unravel_index(best, contrast.shape[1:]))
