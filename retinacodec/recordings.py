"""From spike times to counts on the movie's own frames, and from frames to leak-free splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retinacodec.errors import InputError, Problems

__all__ = ["Split", "bin_spikes", "dropped_frames", "frame_durations", "split_blocks"]


_AT_ONCE = 1 << 20  # spikes looked up at once, so that one long train takes little memory


def frame_durations(frame_times: ArrayLike, *, max_gap: float = 3.0) -> NDArray[np.float64]:
    """Return how long each frame stayed on the screen.

    Parameters
    ----------
    frame_times : array_like (time,)
        Onset (flip) of every frame in seconds, increasing.
    max_gap : float, default 3.0
        An interval longer than this many median intervals is a gap in the movie and not a long
        frame: the frame before it is taken to end after one median interval.

    Returns
    -------
    ndarray (time,)
        Durations in seconds. The last frame gets the median interval.

    Raises
    ------
    InputError
        If the times are not a finite, strictly increasing, one-dimensional sequence of at least
        two, or `max_gap` is below 1.

    Examples
    --------
    >>> frame_durations([0.0, 1.0, 2.0, 9.0, 10.0]).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    flips = _checked_flips(frame_times)
    if not max_gap >= 1:
        raise InputError(f"max_gap: expected at least 1 median frame interval, got {max_gap}")
    intervals = np.diff(flips)
    median = float(np.median(intervals))
    intervals[intervals > max_gap * median] = median
    return np.append(intervals, median)


def dropped_frames(frame_times: ArrayLike) -> NDArray[np.intp]:
    """Return the frames after which at least one flip is missing.

    Parameters
    ----------
    frame_times : array_like (time,)
        Onset of every frame in seconds, increasing.

    Returns
    -------
    ndarray of int
        Indices k with ``t[k+1] - t[k]`` above 1.5 median intervals.

    Raises
    ------
    InputError
        If the times are not finite and strictly increasing.

    Examples
    --------
    >>> dropped_frames([0.0, 0.1, 0.2, 0.4, 0.5]).tolist()
    [2]
    """
    intervals = np.diff(_checked_flips(frame_times))
    return np.flatnonzero(intervals > 1.5 * np.median(intervals))


def bin_spikes(
    spike_times: Sequence[ArrayLike],
    frame_times: ArrayLike,
    *,
    obs_intervals: ArrayLike | Sequence[ArrayLike] | None = None,
    max_gap: float = 3.0,
) -> NDArray[np.float32]:
    """Count the spikes of every cell in every frame of a movie, on the real flip times.

    Parameters
    ----------
    spike_times : sequence of array_like
        Spike times of each cell in seconds, on the clock of `frame_times`, in any order.
    frame_times : array_like (time,)
        Onset (flip) of every frame in seconds, strictly increasing.
    obs_intervals : array_like (interval, 2) or sequence of them, optional
        Seconds in which all cells (one array) or each cell (one array a cell) were observed.
        Bins that are not wholly inside are NaN. By default every bin was observed.
    max_gap : float, default 3.0
        Intervals longer than this many median intervals are gaps: only one median interval
        belongs to the frame before, and spikes later in the gap belong to no frame.

    Returns
    -------
    ndarray (time, cell) float32
        Spike counts, 0 or more; NaN where a cell was not observed.

    Raises
    ------
    InputError
        If times are not finite, flips do not increase, or the numbers of cells differ.

    Notes
    -----
    Frame k is the half-open interval ``[t_k, t_k + d_k)`` with ``d_k = t_{k+1} - t_k``, and
    the median interval for the last frame and before gaps. Nothing is rebuilt from a nominal
    frame rate, so a dropped frame moves no spike.

    Examples
    --------
    >>> bin_spikes([[0.05, 0.11, 0.39]], [0.0, 0.1, 0.2, 0.3])[:, 0].tolist()
    [1.0, 1.0, 0.0, 1.0]
    """
    flips = _checked_flips(frame_times)
    ends = _ends(flips, max_gap)
    trains = _checked_trains(spike_times)
    frames = _Frames(flips, ends)
    counts = np.empty((len(trains), flips.size), np.float32)
    for row, train in zip(counts, trains, strict=True):
        row[:] = sum(
            np.bincount(frames.of(train[start : start + _AT_ONCE]), minlength=flips.size)
            for start in range(0, max(1, train.size), _AT_ONCE)
        )
    if obs_intervals is not None:
        for row, intervals in zip(counts, _per_cell(obs_intervals, len(trains)), strict=True):
            row[~_observed(intervals, flips, ends)] = np.nan
    return counts.T


@dataclass(frozen=True)
class Split:
    """Response frames of a movie in three sets that share no stimulus frame.

    Parameters
    ----------
    train, validation, test : ndarray of int
        Indices of movie frames whose responses belong to the set, increasing.
    """

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


def split_blocks(
    frames: int,
    *,
    history: int,
    latency: int = 0,
    blocks: int = 60,
    test_every: int = 10,
    validation_every: int = 10,
) -> Split:
    """Split the frames of a movie into training, validation and test responses without leaks.

    Parameters
    ----------
    frames : int
        Number of frames of the movie.
    history : int
        Frames in a model's stimulus window.
    latency : int, default 0
        Frames between the end of the window and the response bin.
    blocks : int, default 60
        Number of contiguous blocks; short movies get fewer, each at least two windows long.
    test_every, validation_every : int, default 10
        One block in this many goes to the set, at least one; 0 leaves the set empty.

    Returns
    -------
    Split
        The three sets of response frames.

    Raises
    ------
    InputError
        If a number is out of range or the movie is too short for the sets asked for.

    Notes
    -----
    The response in frame t is predicted from frames ``t - latency - history + 1 .. t - latency``.
    Neighbouring blocks of one set are joined, and the first ``history + latency - 1`` responses
    of each joined run are removed, so that the span from the first frame of a window to its
    response never leaves the run. Held-out blocks are spread evenly over the movie.

    Examples
    --------
    >>> split = split_blocks(600, history=10, blocks=10)
    >>> len(split.train), len(split.validation), len(split.test)
    (462, 51, 51)
    """
    span = _checked_span(frames, history, latency, blocks, test_every, validation_every)
    sets = 1 + (test_every > 0) + (validation_every > 0)
    blocks = min(blocks, frames // (2 * span))
    if blocks < sets:
        raise InputError(
            f"split_blocks: {frames} frames are too few for {sets} sets with windows of {span} "
            f"frames (history + latency); expected at least {2 * span * sets} frames; "
            "use a longer movie or a shorter history"
        )
    labels = _labels(blocks, test_every, validation_every)
    edges = np.linspace(0, frames, blocks + 1).astype(np.intp)
    of_frame = np.repeat(labels, np.diff(edges))
    starts = np.flatnonzero(np.diff(of_frame, prepend=-1))
    run_start = np.repeat(starts, np.diff(np.append(starts, frames)))
    usable = np.arange(frames) - run_start >= span - 1
    return Split(*(np.flatnonzero(usable & (of_frame == label)) for label in range(3)))


def _checked_flips(frame_times: ArrayLike) -> NDArray[np.float64]:
    flips = np.asarray(frame_times, np.float64)
    if flips.ndim != 1 or flips.size < 2:
        raise InputError(
            f"frame_times: expected at least 2 times in one dimension, got shape {flips.shape}"
        )
    if not np.isfinite(flips).all():
        first = int(np.flatnonzero(~np.isfinite(flips))[0])
        raise InputError(f"frame_times: expected finite seconds, got {flips[first]} at {first}")
    falls = np.flatnonzero(np.diff(flips) <= 0)
    if falls.size:
        raise InputError(
            f"frame_times: expected increasing times, but frame {falls[0] + 1} "
            "does not come after the one before it"
        )
    return flips


def _checked_trains(spike_times: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    trains = [np.asarray(train, np.float64) for train in spike_times]
    problems = Problems()
    for cell, train in enumerate(trains):
        if problems.require(train.ndim == 1, f"cell {cell} has shape {train.shape}, not (spike,)"):
            bad = np.flatnonzero(~np.isfinite(train))
            problems.require(
                not bad.size,
                f"cell {cell} has {bad.size} spike times that are "
                f"not finite, the first at {bad[0] if bad.size else 0}",
            )
    problems.raise_as("spike_times")
    return trains


def _ends(flips: NDArray[np.float64], max_gap: float) -> NDArray[np.float64]:
    """Return the end of each frame: exactly the next flip, unless a gap follows."""
    durations = frame_durations(flips, max_gap=max_gap)
    ends = flips + durations
    shown = durations[:-1] == np.diff(flips)
    ends[:-1][shown] = flips[1:][shown]
    return ends


class _Frames:
    """Finds the frames of many spikes by a table of time, and by search where that is not enough.

    The table has one entry for each median interval and says how many flips came before it. One
    flip at most comes after that and before the spike, unless flips are very irregular.
    """

    def __init__(self, flips: NDArray[np.float64], ends: NDArray[np.float64]) -> None:
        self._flips, self._ends = flips, ends
        self._gaps = bool((ends[:-1] < flips[1:]).any())
        self._after = np.append(flips, np.inf)
        self._per_second = 1 / float(np.median(np.diff(flips)))
        size = int(min((ends[-1] - flips[0]) * self._per_second + 1, 4 * flips.size))
        self._begun = np.searchsorted(flips, flips[0] + np.arange(size) / self._per_second)

    def of(self, train: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the frame of each spike that falls into one."""
        flips, after = self._flips, self._after
        times = train[(train >= flips[0]) & (train < self._ends[-1])]
        place = ((times - flips[0]) * self._per_second).astype(np.intp)
        begun = self._begun.take(place, mode="clip")
        begun += times >= after[begun]
        lost = (times >= after[begun]) | (times < after[begun - 1])
        if lost.any():
            begun[lost] = np.searchsorted(flips, times[lost], side="right")
        frame = begun - 1
        return frame[times < self._ends[frame]] if self._gaps else frame


def _per_cell(
    obs_intervals: ArrayLike | Sequence[ArrayLike], cells: int
) -> list[NDArray[np.float64]]:
    """Give each cell its own (interval, 2) array."""
    given: list[Any] = list(obs_intervals)  # type: ignore[arg-type]
    shared = bool(given) and np.ndim(given[0]) == 1
    each: list[Any] = [np.asarray(given)] * cells if shared else given
    problems = Problems()
    problems.require(
        len(each) == cells, f"expected one array for each of {cells} cells, got {len(each)}"
    )
    arrays = [
        np.asarray(intervals, np.float64).reshape(-1, 2)
        if np.size(intervals) % 2 == 0
        else np.empty(0)
        for intervals in each
    ]
    for cell, intervals in enumerate(arrays):
        fine = intervals.ndim == 2 and bool((intervals[:, 1] > intervals[:, 0]).all())
        problems.require(fine, f"cell {cell}: expected (interval, 2) with start before stop")
    problems.raise_as("obs_intervals")
    return arrays


def _observed(
    intervals: NDArray[np.float64], flips: NDArray[np.float64], ends: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Tell which bins lie wholly inside one of the intervals, touching ones joined."""
    observed = np.zeros(flips.size, bool)
    slack = 1e-9 * float(np.abs(ends).max())  # rounding of a stop that equals a bin's end
    for start, stop in _joined(intervals):
        observed |= (flips >= start - slack) & (ends <= stop + slack)
    return observed


def _joined(intervals: NDArray[np.float64]) -> list[list[float]]:
    merged: list[list[float]] = []
    for start, stop in intervals[np.argsort(intervals[:, 0], kind="stable")].tolist():
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return merged


def _checked_span(
    frames: int, history: int, latency: int, blocks: int, test_every: int, validation_every: int
) -> int:
    """Return the frames from the first of a window to its response, both included."""
    problems = Problems()
    for name, value, least in (
        ("frames", frames, 1),
        ("history", history, 1),
        ("latency", latency, 0),
        ("blocks", blocks, 1),
    ):
        problems.require(value >= least, f"{name}: expected {least} or more, got {value}")
    for name, value in (("test_every", test_every), ("validation_every", validation_every)):
        problems.require(value == 0 or value >= 2, f"{name}: expected 0 or at least 2, got {value}")
    problems.raise_as("split_blocks")
    return history + latency


def _labels(blocks: int, test_every: int, validation_every: int) -> NDArray[np.intp]:
    """Label each block 0 (train), 1 (validation) or 2 (test), the last two spread evenly."""
    labels = np.zeros(blocks, np.intp)
    for label, every, offset in ((2, test_every, 0.5), (1, validation_every, 0.999)):
        wanted = max(1, blocks // every) if every else 0
        for place in range(wanted):
            aim = int((place + offset) * blocks / wanted)
            free = np.flatnonzero(labels == 0)
            if free.size > 1 or aim in free:
                labels[free[np.argmin(np.abs(free - aim))]] = label
    return labels
