"""The flip times of an NWB movie: how far its clock may miss the frames, and what is noticed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.nwb_spikes import seconds
from retinacodec.nwb_times import checked_times, stated_times
from retinacodec.recordings import dropped_frames

__all__ = ["read_flips", "tell_gaps"]

_log = logging.getLogger(__name__)
_LONG_GAP = 3.0  # median intervals, as in `bin_spikes`
_PERIODS = (5.0, 500.0)  # a rate whose inverse lies here was probably meant as a period

Times = NDArray[np.float64]


def read_flips(
    file: h5py.File,
    group: h5py.Group,
    path: str,
    *,
    frames: int | None,
    note: dict[str, Any] | None = None,
    frame_rate: float | None = None,
) -> Times:
    """Return the onset of every frame of a movie.

    Parameters
    ----------
    file : h5py.File
        The open file.
    group : h5py.Group
        The movie.
    path : str
        Name of the file, for messages.
    frames : int or None
        How many frames of pixels there are; None if that is not known.
    note : dict, optional
        What this package wrote about the movie.
    frame_rate : float, optional
        Hz, in place of the rate that the file states.

    Returns
    -------
    ndarray (frame,)
        Increasing seconds. One fewer than `frames` where one flip time is missing at the end; a
        flip time too many, at the end, is left out. Both are noticed.

    Raises
    ------
    RecordingError
        If times are missing, broken, do not fit the frames, or the rate is a period.
    """
    name = str(group.name).rsplit("/", 1)[-1]
    exact = file.get(f"processing/misc/{name}_frame_onsets/data") if note else None
    if exact is not None and exact.shape == (frames,):
        return checked_times(np.asarray(exact[()], np.float64), name, path)
    stamps = group.get("timestamps")
    if not isinstance(stamps, h5py.Dataset):
        return _regular(group, name, path, frames, frame_rate)
    if frame_rate is not None:
        raise RecordingError(
            path,
            f"{name} has timestamps, and frame_rate= was given",
            "leave it out: the real flips are used",
        )
    times = seconds(stamps, path)
    if frames is not None and times.ndim == 1:
        times = _fitted(times, frames, name, path)
    return checked_times(times, name, path)


def _fitted(times: Times, frames: int, name: str, path: str) -> Times:
    """Leave out one flip time too many, accept one too few, refuse every other difference."""
    more = times.size - frames
    if more == 1:
        _log.warning(
            "%s: %s has %d timestamps for %d frames; the last timestamp is left out",
            path,
            name,
            times.size,
            frames,
        )
    elif more == -1:
        _log.warning(
            "%s: %s has %d timestamps for %d frames; the last frame is left out",
            path,
            name,
            times.size,
            frames,
        )
    elif more:
        twice = times.size == 2 * frames
        raise RecordingError(
            path,
            f"{name} has {times.size} timestamps for {frames} frames",
            "two timestamps a frame (on and off)? keep every other one"
            if twice
            else "one flip time a frame is needed; cut or repair the longer one",
        )
    return times[:frames]


def _regular(
    group: h5py.Group, name: str, path: str, frames: int | None, frame_rate: float | None
) -> Times:
    start = group.get("starting_time")
    if frame_rate is None:
        rate = start.attrs.get("rate") if isinstance(start, h5py.Dataset) else None
        if rate is not None and 0 < rate < 1 and _PERIODS[0] <= 1 / rate <= _PERIODS[1]:
            raise RecordingError(
                path,
                f"{name} has a rate of {rate:g} frames per second, which looks like the period",
                f"give the rate: frame_rate={float(f'{1 / rate:.6g}'):g}, or frame_rate={rate:g} "
                "if it is right",
            )
        return stated_times(group, path, frames)
    if not (np.isfinite(frame_rate) and frame_rate > 0):
        raise RecordingError(path, f"frame_rate is {frame_rate:g} Hz, expected a number above 0")
    if not isinstance(start, h5py.Dataset):
        raise RecordingError(
            path,
            f"{name} has neither timestamps nor a starting time",
            "frame_rate= alone does not say when it began; use triggers=",
        )
    if frames is None:
        raise RecordingError(path, f"{name} does not say how many frames it has")
    return checked_times(float(start[()]) + np.arange(frames) / frame_rate, name, path)


def tell_gaps(shown: Sequence[Times], name: str, path: str) -> None:
    """Notice dropped frames and long gaps of a movie in one line, with the first times.

    Parameters
    ----------
    shown : sequence of ndarray (frame,)
        Flip times of each presentation, s.
    name : str
        The movie.
    path : str
        Name of the file.

    Notes
    -----
    An interval above 1.5 medians holds dropped frames. Above 3 medians the movie paused: pictures
    have no offset time in NWB, so that the last one before a pause counts for one median
    interval and the screen as blank afterwards; spikes in the pause belong to no frame.
    """
    late: list[float] = []
    gaps = 0
    for flips in shown:
        intervals = np.diff(flips)
        places = dropped_frames(flips)
        late += [float(flips[place]) for place in places]
        gaps += int((intervals[places] > _LONG_GAP * np.median(intervals)).sum())
    if late:
        first = ", ".join(f"{time:.4g}" for time in late[:3])
        _log.warning(
            "%s: %s has %d intervals above 1.5 frames, %d of them gaps above %g, first at %s s",
            path,
            name,
            len(late),
            gaps,
            _LONG_GAP,
            first,
        )
