"""Sampled and binned responses of an NWB 2 file, put on the frames of each showing of a movie."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import InputError, RecordingError
from retinacodec.frame_averages import mean_of_repeats, median_interval, on_frames
from retinacodec.nwb_series import BINNED, quantity_of, read_series
from retinacodec.recordings import frame_durations
from retinacodec.sampled import Series

__all__ = ["binned_on_flips", "traces_on_flips"]

_log = logging.getLogger(__name__)

Flips = Sequence[NDArray[np.float64]]
OnFrames = tuple[NDArray[np.float32], NDArray[np.float32] | None, Series]


def traces_on_flips(
    file: h5py.File,
    path: str,
    flips: Flips,
    *,
    name: str | None = None,
    cells: Sequence[str] | None = None,
    scale: float = 1.0,
    max_gap: float = 3.0,
) -> OnFrames:
    """Read sampled traces and give every frame of a movie one value of each.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.
    flips : sequence of ndarray (time,)
        Flip times of each presentation of the movie, s, equally many in each.
    name : str, optional
        Which response, as in `retinacodec.nwb_series.read_series`.
    cells : sequence of str, optional
        Cells to keep, in this order; by default all.
    scale : float, default 1
        Factor by which the file's conversion is wrong.
    max_gap : float, default 3
        Longer intervals, in median intervals, are gaps.

    Returns
    -------
    trace : ndarray (time, cell) float32
        Values in the unit of the series, averaged over the presentations; NaN where no sample is.
    repeats : ndarray (repeat, time, cell) float32 or None
        One for each presentation, None where there is one only.
    series : Series
        The samples.

    Raises
    ------
    RecordingError
        If the series cannot be read or no frame of the movie has a sample.
    """
    series = read_series(file, path, name, cells=cells, scale=scale)
    each = [on_frames(series.times, series.values, shown, max_gap=max_gap) for shown in flips]
    return _put_together(each, series, flips, path)


def binned_on_flips(
    file: h5py.File,
    path: str,
    flips: Flips,
    *,
    name: str | None = None,
    quantity: Literal["rate", "count"] | None = None,
    cells: Sequence[str] | None = None,
    max_gap: float = 3.0,
) -> OnFrames:
    """Read responses that are already binned as spike counts on the frames of a movie.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.
    flips : sequence of ndarray (time,)
        Flip times of each presentation of the movie, s, equally many in each.
    name : str, optional
        Which ``TimeSeries``, as in `retinacodec.nwb_series.read_series`.
    quantity : {"rate", "count"}, optional
        Whether the numbers are spikes per second or spikes per bin; needed unless the unit is a
        rate. It overrules the unit, with a notice.
    cells : sequence of str, optional
        Cells to keep, in this order; by default all.
    max_gap : float, default 3
        Longer intervals, in median intervals, are gaps.

    Returns
    -------
    spike_count : ndarray (time, cell) float32
        Spikes in each frame, averaged over the presentations; NaN where there is no bin.
    repeats : ndarray (repeat, time, cell) float32 or None
        One for each presentation, None where there is one only.
    series : Series
        The bins.

    Raises
    ------
    InputError
        If `quantity` is neither.
    RecordingError
        If it is needed, if the bins are not the frames, or if a number is negative.

    Notes
    -----
    The time of a bin is taken to be its start. Frame k takes the bins that begin less than half a
    bin before ``t_k`` and no later than half a bin before its end: one, or several where the
    frame stayed for several, and then their sum. A rate becomes ``count = rate * width of bin``.
    """
    if quantity not in (None, "rate", "count"):
        raise InputError(f"quantity: expected 'rate' or 'count', got {quantity!r}")
    series = read_series(file, path, name, cells=cells, kinds=(BINNED,))
    widths = frame_durations(series.times, max_gap=max_gap)
    counts = _as_counts(series, widths, quantity, path)
    each = [_taken(counts, series, shown, max_gap, path) for shown in flips]
    return _put_together(each, series, flips, path)


def _put_together(
    each: list[NDArray[np.float32]], series: Series, flips: Flips, path: str
) -> OnFrames:
    if not any(np.isfinite(one).any() for one in each):
        raise RecordingError(
            path,
            f"no frame of the movie has a value of {series.name}: samples span "
            f"{series.times[0]:.6g} to {series.times[-1]:.6g} and the movie "
            f"{flips[0][0]:.6g} to {flips[-1][-1]:.6g} s",
            "are samples and flips on different clocks?",
        )
    repeats = np.stack(each) if len(each) > 1 else None
    return mean_of_repeats(each), repeats, series


def _as_counts(
    series: Series, widths: NDArray[np.float64], quantity: str | None, path: str
) -> NDArray[np.float64]:
    """Return spikes per bin."""
    if series.kind != BINNED:
        raise RecordingError(
            path,
            f"{series.name} is a {series.kind} in {series.unit}, which is no count of spikes",
            "read it as a trace",
        )
    stated = quantity_of(series.unit)
    if stated is None and quantity is None:
        raise RecordingError(
            path,
            f"{series.name} is in {series.unit!r}, which may be counts or rates",
            'say which: quantity="count" (spikes per bin) or "rate" (spikes per second)',
        )
    if stated and quantity == "count":
        _log.warning("%s: %s is in %s, but read as counts", path, series.name, series.unit)
    lowest = float(np.nanmin(series.values))
    if lowest < 0:
        raise RecordingError(
            path,
            f"{series.name} goes down to {lowest:g}, and spikes cannot be fewer than none",
            "if it is a contrast or a score, read it as a trace",
        )
    is_rate = (quantity or stated) == "rate"
    return series.values * widths[:, None] if is_rate else series.values


def _taken(
    counts: NDArray[np.float64],
    series: Series,
    flips: NDArray[np.float64],
    max_gap: float,
    path: str,
) -> NDArray[np.float32]:
    """Give each frame of one presentation its bin, or its bins where it stayed for several."""
    lengths = frame_durations(flips, max_gap=max_gap)
    width, frame = median_interval(series.times), float(np.median(lengths))
    _refuse_other_bins(series, width, frame, path)
    first = np.searchsorted(series.times, flips - width / 2)
    end = np.searchsorted(series.times, flips + lengths - width / 2)
    wanted = np.maximum(np.rint(lengths / frame), 1)
    held_long = np.abs(_lengths_of(series, first, max_gap) - lengths) < frame / 2
    wanted[held_long] = 1  # one bin as long as the frame: the bins are the frames
    inside = (flips >= series.times[0] - width / 2) & (
        flips + lengths <= series.times[-1] + 1.5 * width
    )
    if inside.any():
        _check_offset(series, flips[inside], width, path)
    gone = inside & (end > first) & (end - first != wanted)
    held = inside & (end - first == wanted)
    between = inside & (end == first)  # in a gap between bins, or where bins drift past frames
    drift = between & ~_in_gap(series.times, flips, max_gap * width)
    if gone.any() or drift.any():
        count = int(gone.sum() + drift.sum())
        raise RecordingError(
            path,
            f"bins of {series.name} drift against the frames: {count} of {flips.size} frames "
            "hold none or too many",
            "give the spike times, or bins that begin at the flips",
        )
    out = np.full((flips.size, counts.shape[1]), np.nan, np.float32)
    total = counts[np.minimum(first, len(counts) - 1)].astype(np.float64)
    for more in range(1, int(wanted.max())):
        longer = held & (wanted > more)
        total[longer] += counts[first[longer] + more]
    out[held] = total[held]
    return out


def _lengths_of(series: Series, bins: NDArray[np.intp], max_gap: float) -> NDArray[np.float64]:
    """Return how long some bins lasted, s."""
    lengths = frame_durations(series.times, max_gap=max_gap)
    return lengths[np.minimum(bins, lengths.size - 1)]


def _in_gap(
    times: NDArray[np.float64], flips: NDArray[np.float64], limit: float
) -> NDArray[np.bool_]:
    """Tell which flips lie between two bins that are further apart than the limit."""
    after = np.clip(np.searchsorted(times, flips, side="right"), 1, times.size - 1)
    return times[after] - times[after - 1] > limit


def _refuse_other_bins(series: Series, width: float, frame: float, path: str) -> None:
    if abs(width - frame) > 0.02 * frame:
        raise RecordingError(
            path,
            f"{series.name} has bins of {width * 1e3:.4g} ms against frames of "
            f"{frame * 1e3:.4g} ms",
            "give the spike times, or resample it to the frames",
        )


def _check_offset(series: Series, flips: NDArray[np.float64], width: float, path: str) -> None:
    """Say where bins begin well off the flips, and refuse half a bin, which could be either."""
    after = np.minimum(np.searchsorted(series.times, flips), series.times.size - 1)
    phases = np.exp(2j * np.pi * (series.times[after] - flips) / width)
    together = phases.mean()
    offset = float(np.angle(together)) / (2 * np.pi)
    if abs(together) < 0.9 or abs(offset) < 0.1:
        return  # bins that drift are told by their number in each frame
    if abs(offset) > 0.45:
        raise RecordingError(
            path,
            f"bins of {series.name} begin half a bin ({width * 500:.4g} ms) off the flips",
            "are these the centres of the bins? their starts are needed",
        )
    words = "%s: bins of %s begin %.3g ms off the flips; they are taken as the frames"
    _log.warning(words, path, series.name, offset * width * 1e3)
