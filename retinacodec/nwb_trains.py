"""Spike trains as an NWB file wants them: made from counts, checked when given as times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import InputError, Problems
from retinacodec.nwb_coding import Block
from retinacodec.recordings import frame_durations
from retinacodec.schema import check_recording

__all__ = ["CellColumn", "Train", "trains_of_counts", "trains_of_times"]


@dataclass(frozen=True)
class Train:
    """The spikes of one cell.

    Parameters
    ----------
    cell : str
        Name of the cell.
    times : ndarray (spike,)
        Spike times in seconds, not decreasing.
    observed : ndarray (interval, 2), optional
        Seconds in which the cell was observed; everything where None.
    """

    cell: str
    times: NDArray[np.float64]
    observed: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class CellColumn:
    """One fact about every cell, such as where it was recorded.

    Parameters
    ----------
    name, description : str
        Name of the column and plain words, with the unit.
    values : sequence
        One value a cell.
    """

    name: str
    description: str
    values: Sequence[float | int | str]


def trains_of_times(spike_times: Mapping[str, npt.ArrayLike]) -> list[Train]:
    """Check spike times and put them in order of time.

    Parameters
    ----------
    spike_times : mapping of str to array_like
        Spike times of each cell in seconds.

    Returns
    -------
    list of Train
        One for each cell.

    Raises
    ------
    InputError
        If times are not finite or not one-dimensional; all cells in one message.
    """
    problems, trains = Problems(), []
    for cell, times in spike_times.items():
        train = np.asarray(times, np.float64)
        fine = train.ndim == 1 and bool(np.isfinite(train).all())
        if problems.require(fine, f"cell {cell}: expected finite seconds in one dimension"):
            trains.append(Train(str(cell), np.sort(train)))
    problems.raise_as("spike_times")
    return trains


def trains_of_counts(recordings: Sequence[xr.Dataset], blocks: Sequence[Block]) -> list[Train]:
    """Turn counts into spikes that give the same counts when binned again.

    Parameters
    ----------
    recordings : sequence of Recording
        Counts on the frames of each movie, or on each of its repeats.
    blocks : sequence of Block
        The movies.

    Returns
    -------
    list of Train
        One for each cell of any of the recordings.

    Raises
    ------
    InputError
        If a recording does not lie on the frames of its movie or holds broken counts.

    Notes
    -----
    The n spikes of the frame from t to t + d lie at ``t + d (j + 1/2) / n``, j = 0 .. n - 1.
    Frames with NaN are left out of the observed intervals.
    """
    times: dict[str, list[NDArray[np.float64]]] = {}
    observed: dict[str, list[NDArray[np.float64]]] = {}
    for recording, block in zip(recordings, blocks, strict=True):
        counts = _counts(recording, block)
        onsets = block.all_onsets()
        durations = frame_durations(onsets)
        for cell, column in zip(recording["cell"].values.tolist(), counts.T, strict=True):
            times.setdefault(cell, []).append(_spread(column, onsets, durations))
            observed.setdefault(cell, []).append(_runs(column, onsets, durations))
    order = [int(k) for k in np.argsort([block.onsets[0] for block in blocks])]
    if any(len(parts) != len(blocks) for parts in times.values()):
        raise InputError("write_nwb: expected the same cells in all recordings")
    return [
        Train(
            cell,
            np.concatenate([times[cell][k] for k in order]),
            np.concatenate([observed[cell][k] for k in order]),
        )
        for cell in times
    ]


def _counts(recording: xr.Dataset, block: Block) -> NDArray[np.float64]:
    """Return whole counts (presentation x frame, cell) after checking them."""
    check_recording(recording)
    source = "repeats" if "repeats" in recording else "spike_count"
    counts = recording[source].values.astype(np.float64)
    counts = counts.reshape(-1, counts.shape[-1])
    frames = block.shape[0] * block.presentations
    problems = Problems()
    problems.require(len(counts) == frames, f"{len(counts)} bins for {frames} frames shown")
    broken = np.argwhere(np.isfinite(counts) & (counts != counts.round()))
    if broken.size:
        frame, cell = broken[0]
        problems.add(
            f"{source} of cell {recording['cell'].values[cell]} is "
            f"{counts[frame, cell]:g} in frame {frame}: only whole counts can be written "
            "as spikes; give spike_times"
        )
    problems.raise_as(f"recording of {block.name!r}")
    return counts


def _spread(
    counts: NDArray[np.float64], onsets: NDArray[np.float64], durations: NDArray[np.float64]
) -> NDArray[np.float64]:
    number = np.nan_to_num(counts).astype(np.intp)
    frame = np.repeat(np.arange(number.size), number)
    place = np.arange(frame.size) - np.repeat(np.cumsum(number) - number, number)
    return onsets[frame] + durations[frame] * (place + 0.5) / number[frame]


def _runs(
    counts: NDArray[np.float64], onsets: NDArray[np.float64], durations: NDArray[np.float64]
) -> NDArray[np.float64]:
    seen = np.isfinite(counts)
    edges = np.flatnonzero(np.diff(seen, prepend=False, append=False))
    first, last = edges[::2], edges[1::2] - 1
    return np.stack([onsets[first], onsets[last] + durations[last]], axis=1)
