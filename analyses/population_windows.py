"""What the linear filters of a whole population are chosen from: windows, moments and priors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_windows import Square, same_windows, window_squares
from retinacodec.analyses.triggered_responses import TriggeredResponses, triggered_responses
from retinacodec.errors import InputError, Problems
from retinacodec.field_priors import FieldChoice, FieldPrior, Smooth
from retinacodec.lagged_products import WindowMoments, window_moments
from retinacodec.penalised_fields import solve_field
from retinacodec.recordings import Split
from retinacodec.training_checks import check_split

__all__ = ["PopulationData", "WindowGroup", "window_groups"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PopulationData:
    """A movie and counts on its frames, and which frames a model may learn from.

    Attributes
    ----------
    contrast : ndarray (time, y, x)
        Movie, float32.
    counts : ndarray (time, cell)
        Spikes, NaN where not observed.
    train, validation : ndarray of bool (time, cell)
        Observed frames to fit to, and to choose by.
    cell : xarray.DataArray (cell,)
        Names.
    history, latency : int
        Frames of a window, and between its newest frame and the response.
    frame_rate : float
        Hz.
    """

    contrast: Array
    counts: Array
    train: Mask
    validation: Mask
    cell: xr.DataArray
    history: int
    latency: int
    frame_rate: float

    @classmethod
    def of(
        cls,
        movie: xr.Dataset,
        recording: xr.Dataset,
        split: Split,
        history: int,
        latency: int,
    ) -> PopulationData:
        """Lay counts on the movie and mark the frames of the split.

        Raises
        ------
        InputError
            If movie, recording and split do not fit, or nothing is left to fit to.
        """
        window = {"history": history, "latency": latency}
        given = [
            triggered_responses(movie, recording, **window, frames=part)
            for part in (split.train, split.validation)
        ]
        first = history + latency - 1
        check_split(split, movie.sizes["time"], first, history=history)
        problems = Problems()
        problems.require("spike_count" in recording, "expected spike counts, got a rate")
        problems.require(bool(given[0].known.any()), "no observed frame to fit to")
        problems.raise_as("population baselines")
        counts = recording["spike_count"].transpose("time", "cell").values.astype(np.float64)
        return cls(
            movie["contrast"].values.astype(np.float32, copy=False),
            counts,
            given[0].known,
            given[1].known,
            given[0].cell,
            history,
            latency,
            float(movie.attrs["frame_rate"]),
        )

    def live(self, cell: int) -> bool:
        """Return whether a cell changes its response in the frames to fit to."""
        seen = self.counts[self.train[:, cell], cell]
        return bool(seen.size > 1 and np.ptp(seen) > 0)

    def enough(self, cell: int, folds: int) -> bool:
        """Return whether a cell was observed long enough for so many parts."""
        return int(self.train[:, cell].sum()) >= folds * 4 * (self.history + self.latency)

    def folds(self, cell: int, count: int) -> list[Mask]:
        """Return contiguous parts (time,) of a cell's training frames that share no frame."""
        rows = np.flatnonzero(self.train[:, cell])
        gap = self.history + self.latency - 1
        if not self.enough(cell, count):
            raise InputError(
                f"folds: {rows.size} training frames are too few for {count} parts of "
                f"{4 * (gap + 1)} frames; use fewer folds= or a shorter history="
            )
        parts = []
        for part in np.array_split(rows, count):
            mask = np.zeros(len(self.train), dtype=bool)
            mask[part[part >= part[0] + gap]] = True
            parts.append(mask)
        return parts


@dataclass(frozen=True)
class WindowGroup:
    """Cells that share pixels and frames, with what their filters are solved from.

    Attributes
    ----------
    cells : list of int
        Positions of the cells.
    square : Square
        Their pixels.
    pixels : ndarray (time, y, x)
        The movie there.
    folds : list of ndarray of bool (time,)
        Parts of the training frames.
    moments : list of WindowMoments
        Of each part.
    choices : list of FieldChoice
        Basis and penalty of every cell.
    """

    cells: list[int]
    square: Square
    pixels: Array
    folds: list[Mask]
    moments: list[WindowMoments]
    choices: list[FieldChoice]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns of the pixels."""
        return self.pixels.shape[1:]

    def field(self, place: int, without: int | None = None) -> Array:
        """Return the filter (lag, y, x) of a cell, fitted to all parts or all but one."""
        kept = [part for number, part in enumerate(self.moments) if number != without]
        choice = self.choices[place]
        centred = reduce(WindowMoments.__add__, kept).centred()
        solved = solve_field(centred, choice.bases, choice.penalty, place)
        return solved.reshape(-1, *self.shape)


def window_groups(
    data: PopulationData, prior: FieldPrior | None, window: int | None, folds: int
) -> Iterator[WindowGroup]:
    """Choose the filters of all cells that respond, group by group.

    Parameters
    ----------
    data : PopulationData
        Movie, counts and frames.
    prior : FieldPrior or None
        What is assumed of a filter; `Smooth` if None.
    window : int or None
        Pixels on each side of the square around the strongest correlation; None is all.
    folds : int
        Parts of the training frames.

    Yields
    ------
    WindowGroup
        Cells of one window. The numbers of the prior are chosen on the validation frames, or on
        the last part of the training frames where there are none.
    """
    weights = np.where(data.train, data.counts, 0.0).astype(np.float32)
    given = TriggeredResponses(weights, data.train, data.cell, True)
    squares = window_squares(data.contrast, given, data.history, data.latency, window)
    seen = np.concatenate([data.train, data.validation])
    if not any(data.enough(cell, folds) for cell in range(data.counts.shape[1])):
        data.folds(int(data.train.sum(axis=0).argmax()), folds)  # raises, in words
    for group in same_windows(squares, seen):
        cells = [cell for cell in group if data.live(cell) and data.enough(cell, folds)]
        if cells:
            yield _group(data, prior or Smooth(), squares[cells[0]], cells, folds)


def _group(
    data: PopulationData, prior: FieldPrior, square: Square, cells: list[int], folds: int
) -> WindowGroup:
    """Sum the moments of cells of one window and choose basis and penalty of each."""
    pixels = np.ascontiguousarray(data.contrast[:, *square.pixels])
    parts = data.folds(cells[0], folds)
    hertz = data.counts[:, cells] * data.frame_rate
    reach = {"history": data.history, "latency": data.latency}
    moments = [window_moments(pixels, hertz, part, **reach) for part in parts]
    held = data.validation[:, cells[0]]
    chosen = window_moments(pixels, hertz, held, **reach) if held.any() else moments[-1]
    fitted = reduce(WindowMoments.__add__, moments if held.any() else moments[:-1])
    shape = (data.history, square.height, square.width)
    both = fitted + chosen
    choices = prior.choose(fitted.centred(), chosen.centred(), both.centred(), shape)
    return WindowGroup(cells, square, pixels, parts, moments, choices)
