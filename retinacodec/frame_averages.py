"""From samples of a trace to one value in each frame of a movie, on the real flips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retinacodec.errors import Problems
from retinacodec.recordings import frame_durations

__all__ = ["mean_of_repeats", "median_interval", "on_frames"]

_MANY = 200_000  # intervals that are enough for a median
_BLOCK = 1 << 20  # values looked at in one go
_AT_FLIP = 1e-4  # of a frame: a sample this near to a flip is taken at it
_SLACK = 1e-6  # of an interval: rounding of times that were computed from a rate

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


def on_frames(
    times: ArrayLike, values: ArrayLike, flips: ArrayLike, *, max_gap: float = 3.0
) -> NDArray[np.float32]:
    """Give every frame of a movie one value of each sampled trace.

    Parameters
    ----------
    times : array_like (sample,)
        When each sample was taken, s, strictly increasing.
    values : array_like (sample, cell)
        The traces, in any unit; NaN where there is no value.
    flips : array_like (time,)
        Onset of every frame in seconds, on the same clock, strictly increasing.
    max_gap : float, default 3.0
        Intervals longer than this many median intervals are gaps, between samples (as between
        two sweeps) and between flips alike.

    Returns
    -------
    ndarray (time, cell) float32
        In the unit of `values`. NaN in frames that reach beyond the samples or into a gap, and
        where the samples themselves are NaN.

    Raises
    ------
    InputError
        If times are not finite and increasing, or their number is not that of the samples.

    Notes
    -----
    Frame k is ``[t_k, t_k + d_k)`` exactly as in `retinacodec.recordings.bin_spikes`.
    Where the median frame holds two samples or more, the value is the mean of the samples in the
    frame; samples that are NaN are left out and a frame needs half of its samples. A frame counts
    as reaching beyond the samples if more than one median interval of it has none.
    Slower samples are interpolated linearly at the centre ``t_k + d_k / 2`` of the frame, between
    the sample before and the one after; nothing is extrapolated. But where there is one sample a
    frame and every sample is taken at a flip, it is the value of that frame.
    Between one and two samples a frame a mean would be of one sample or of two by turns, and so
    would move in time from frame to frame, which is why interpolation begins there and not at one.

    Examples
    --------
    >>> on_frames([0, 1, 2, 3], [[0.0], [1.0], [2.0], [3.0]], [0, 2])[:, 0].tolist()
    [0.5, 2.5]
    >>> on_frames([0, 2, 4], [[0.0], [2.0], [4.0]], [0, 1, 2, 3, 4])[:, 0].tolist()
    [0.5, 1.5, 2.5, 3.5, nan]
    """
    onsets = np.asarray(flips, np.float64)
    lengths = frame_durations(onsets, max_gap=max_gap)
    when, what = _checked(times, values)
    step = median_interval(when)
    holes = _wide(when, max_gap * step)
    if 2 * step <= np.median(lengths) * (1 + _SLACK):
        return _averaged(when, what, onsets, onsets + lengths, holes, step)
    own = _own_frames(when, onsets, float(np.median(lengths)), step)
    if own is not None:
        samples, frames = own
        out = np.full((onsets.size, what.shape[1]), np.nan, np.float32)
        out[frames] = what[samples]
        return out
    return _interpolated(when, what, onsets + lengths / 2, holes)


def mean_of_repeats(repeats: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Average over the repeats in which there is a value.

    Parameters
    ----------
    repeats : sequence of ndarray (time, cell)
        One for each presentation of the same movie.

    Returns
    -------
    ndarray (time, cell) float32
        Means in the same unit; NaN where no repeat has a value.

    Examples
    --------
    >>> import numpy as np
    >>> mean_of_repeats([np.float32([[1, np.nan]]), np.float32([[2, np.nan]])]).tolist()
    [[1.5, nan]]
    """
    if len(repeats) == 1:
        return repeats[0]
    total = np.zeros(repeats[0].shape)
    seen = np.zeros(repeats[0].shape, np.intp)
    for one in repeats:
        there = ~np.isnan(one)
        seen += there
        np.add(total, one, out=total, where=there)
    return np.where(seen > 0, total / np.maximum(seen, 1), np.nan).astype(np.float32)


def median_interval(times: Floats) -> float:
    """Return the median interval between neighbouring times.

    Parameters
    ----------
    times : ndarray (sample,)
        At least two, increasing.

    Returns
    -------
    float
        In the unit of the times; of 200 000 intervals spread evenly where there are more.
    """
    every = max(1, (times.size - 1) // _MANY)
    return float(np.median(times[1::every] - times[:-1:every]))


def _checked(times: ArrayLike, values: ArrayLike) -> tuple[Floats, NDArray[np.floating]]:
    when, what = np.asarray(times, np.float64), np.asarray(values)
    if what.dtype.kind != "f":
        what = what.astype(np.float64)
    problems = Problems()
    problems.require(
        when.ndim == 1 and what.ndim == 2 and len(when) == len(what) and when.size > 1,
        f"expected (sample,) and (sample, cell) with 2 samples or more, "
        f"got {when.shape} and {what.shape}",
    )
    if when.ndim == 1:
        problems.require(
            bool(np.isfinite(when).all() and (when[1:] > when[:-1]).all()),
            "expected finite times that increase",
        )
    problems.raise_as("times and values")
    return when, what


def _wide(times: Floats, limit: float) -> Places:
    """Return the samples after which a gap follows, looking at a part of the times at a time."""
    found = [
        start + np.flatnonzero(np.diff(times[start : start + _BLOCK + 1]) > limit)
        for start in range(0, times.size - 1, _BLOCK)
    ]
    return np.concatenate(found)


def _own_frames(
    times: Floats, flips: Floats, frame: float, step: float
) -> tuple[Places, Places] | None:
    """Return the samples at the flips and their frames, None if some are not at a flip."""
    slack = _AT_FLIP * frame
    during = np.flatnonzero((times > flips[0] - slack) & (times < flips[-1] + frame - slack))
    if not during.size or abs(step - frame) > 0.01 * frame:
        return None
    nearest = np.searchsorted(flips, times[during] - slack)
    at_flip = np.abs(times[during] - flips[np.minimum(nearest, flips.size - 1)]) <= slack
    return (during, nearest) if at_flip.all() else None


def _averaged(
    times: Floats,
    values: NDArray[np.floating],
    starts: Floats,
    stops: Floats,
    holes: Places,
    step: float,
) -> NDArray[np.float32]:
    """Average the samples in each frame that is covered by them."""
    first, end = np.searchsorted(times, starts), np.searchsorted(times, stops)
    frames = np.flatnonzero(_covered(times, starts, stops, first, end, holes, step))
    first, end = first[frames], end[frames]
    out = np.full((starts.size, values.shape[1]), np.nan, np.float32)
    if not frames.size:
        return out
    bounds = np.stack([first, end], axis=1).ravel()
    if bounds[-1] == times.size:
        bounds = bounds[:-1]  # which reduceat takes as: to the end
    for cell in range(values.shape[1]):
        trace = values[:, cell]
        gone = np.isnan(trace)
        count = end - first
        if gone.any():
            count = count - np.add.reduceat(gone, bounds, dtype=np.intp)[::2]
            trace = np.where(gone, 0, trace)
        total = np.add.reduceat(trace, bounds, dtype=np.float64)[::2]
        enough = 2 * count >= end - first
        out[frames[enough], cell] = total[enough] / count[enough]
    return out


def _covered(
    times: Floats,
    starts: Floats,
    stops: Floats,
    first: Places,
    end: Places,
    holes: Places,
    step: float,
) -> NDArray[np.bool_]:
    """Tell which frames have samples all through, from `first` to before `end`."""
    some = end > first
    last = np.maximum(end - 1, 0)
    at_start = np.minimum(first, times.size - 1)
    inner = np.searchsorted(holes, last) > np.searchsorted(holes, at_start)
    opens = (first == 0) | np.isin(first - 1, holes)  # no sample leads up to the frame
    closes = (end == times.size) | np.isin(last, holes)
    reach = step * (1 + _SLACK)
    late = opens & (times[at_start] - starts > reach)
    early = closes & (stops - times[last] > reach)
    return some & ~inner & ~late & ~early


def _interpolated(
    times: Floats, values: NDArray[np.floating], centres: Floats, holes: Places
) -> NDArray[np.float32]:
    """Interpolate between the samples on both sides of each centre."""
    after = np.searchsorted(times, centres, side="right")
    left = np.clip(after - 1, 0, times.size - 2)
    weight = (centres - times[left]) / (times[left + 1] - times[left])
    inside = (weight >= 0) & (weight <= 1) & ~(np.isin(left, holes) & (weight > 0) & (weight < 1))
    out = np.full((centres.size, values.shape[1]), np.nan, np.float32)
    frames = np.flatnonzero(inside)
    for some in np.array_split(frames, 1 + frames.size * values.shape[1] // _BLOCK):
        low = values[left[some]].astype(np.float64)
        high = values[left[some] + 1].astype(np.float64)
        part = weight[some, None]
        between = np.where(part == 1, high, low + part * (high - low))
        out[some] = np.where(part == 0, low, between)
    return out
