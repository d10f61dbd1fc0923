"""A recording that is open: spikes and times in memory, the movie read frame by frame on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import InputError, RecordingError
from retinacodec.hdf5_safety import blaming
from retinacodec.nwb import open_nwb
from retinacodec.nwb_clock import MovieClock
from retinacodec.nwb_contrast import Contrast, Part
from retinacodec.nwb_spikes import Spikes, check_clock, find_units, read_spikes
from retinacodec.recordings import bin_spikes

__all__ = ["OpenRecording", "has_units", "open_recording"]


@dataclass(frozen=True)
class OpenRecording:
    """An open recording; everything but the pixels stays usable after it is closed.

    Parameters
    ----------
    path : str
        The file.
    name : str
        The movie.
    flips : tuple of ndarray (frame,)
        Flip times of each presentation, s.
    frame_rate : float
        Frames per second.
    spikes : Spikes or None
        Spike times of all cells; None for a file without cells.
    """

    path: str
    name: str
    flips: tuple[NDArray[np.float64], ...]
    frame_rate: float
    spikes: Spikes | None
    _part: Part = field(repr=False)
    _contrast: Contrast | None = field(repr=False)
    _state: dict[str, bool] = field(default_factory=lambda: {"open": True}, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames of one presentation, pixels in y, pixels in x."""
        return self._part.shape

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells."""
        return () if self.spikes is None else self.spikes.cells

    @property
    def spike_times(self) -> Mapping[str, NDArray[np.float64]]:
        """Spike times of each cell, s."""
        if self.spikes is None:
            return {}
        return dict(zip(self.spikes.cells, self.spikes.times, strict=True))

    def counts(self, *, max_gap: float = 3.0) -> NDArray[np.float32]:
        """Return spikes on the real flips of each presentation (repeat, time, cell).

        Raises
        ------
        RecordingError
            If the file has no cells, or no spike falls into the movie.
        """
        if self.spikes is None:
            raise RecordingError(self.path, "has no cells to count spikes of")
        check_clock(self.spikes, float(self.flips[0][0]), float(self.flips[-1][-1]), self.path)
        observed = self.spikes.observed
        return np.stack(
            [
                bin_spikes(self.spikes.times, shown, obs_intervals=observed, max_gap=max_gap)
                for shown in self.flips
            ]
        )

    def frames(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read the contrast (time, y, x) of some frames of the first presentation.

        Parameters
        ----------
        start, stop : int
            First frame and the one after the last.

        Returns
        -------
        ndarray (time, y, x) float32
            The same values as `retinacodec.read_stimulus` returns, whatever part is read.

        Raises
        ------
        RecordingError
            If the recording is closed or has no such frames.
        """
        self._check_open()
        if not 0 <= start < stop <= self.shape[0]:
            raise RecordingError(
                self.path,
                f"frames {start} to {stop} are not inside {self.name}, which has {self.shape[0]}",
            )
        part = replace(self._part, frames=slice(start, stop))
        with blaming(self.path):
            return part.read(self._mapping, budget_gb=np.inf)

    def slabs(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield first frame and contrast of one piece of the movie after the other."""
        for start, stop in self._part.pixels.slabs(0, self.shape[0]):
            yield start, self.frames(start, stop)

    @cached_property
    def _mapping(self) -> Contrast | None:
        """How values become contrast; the mean grey of the whole movie is taken once."""
        return self._part.settled(self._contrast)

    def close(self) -> None:
        """Close the movie; `open_recording` does it."""
        self._state["open"] = False

    def _check_open(self) -> None:
        if not self._state["open"]:
            raise RecordingError(
                self.path, "the recording is closed", "read frames inside the with block"
            )


@contextmanager
def open_recording(
    path: str | Path,
    stimulus: str | None = None,
    *,
    spatial_order: Literal["xy", "yx"] = "xy",
    contrast: Contrast | None = None,
    crop: tuple[int, int, int, int] | None = None,
    names: str | None = None,
    units: str | None = None,
    spike_scale: float = 1.0,
    sort_spikes: bool = False,
    **clock: Any,
) -> Iterator[OpenRecording]:
    """Open a recording whose movie is too large for memory, or of which little is needed.

    Spikes and flip times are read and checked at once; pixels only when they are asked for.

    Parameters
    ----------
    path : str or Path
        An NWB 2 file with a movie.
    stimulus : str, optional
        Name of the movie, needed where there are several.
    spatial_order, contrast, crop
        As in `retinacodec.read_stimulus`.
    names, units, spike_scale, sort_spikes
        As in `retinacodec.read_nwb`.
    **clock
        ``repeat_frames``, ``triggers``, ``generator``, ``allow_external`` and ``frame_rate``, as
        in `retinacodec.read_nwb`.

    Yields
    ------
    OpenRecording
        Closed at the end of the ``with`` block; pixels cannot be read after it.

    Raises
    ------
    RecordingError
        If the file, its units or its movie are broken or cannot be told apart.

    Examples
    --------
    >>> with open_recording("cells.nwb") as cells:  # doctest: +SKIP
    ...     for start, contrast in cells.slabs():
    ...         use(contrast)
    """
    if spatial_order not in ("xy", "yx"):
        raise InputError(f"spatial_order: expected 'xy' or 'yx', got {spatial_order!r}")
    table: dict[str, Any] = {"table": units, "names": names, "scale": spike_scale}
    opening = open_nwb(path)
    with ExitStack() as until_open:
        file = until_open.enter_context(opening)
        movie = MovieClock(stimulus, **clock).movie(file, path)
        across = spatial_order == "xy" or movie.note is not None
        part = Part.of(movie, movie.open_pixels(), None, crop, across, path)
        spikes = None
        if has_units(file, units):
            spikes = read_spikes(file, str(path), sort=sort_spikes, **table)
        until_open.pop_all()  # from here on errors are the user's own and stay as they are
    opened = OpenRecording(
        str(path), movie.name, movie.flips, movie.frame_rate, spikes, part, contrast
    )
    try:
        yield opened
    finally:
        opened.close()
        opening.__exit__(None, None, None)


def has_units(file: h5py.File, table: str | None = None) -> bool:
    """Tell whether a file has spike times, or was said to have them."""
    if table is not None:
        return True
    try:
        find_units(file, str(file.filename))
    except RecordingError as error:
        return "no sorted units" not in error.what
    return True
