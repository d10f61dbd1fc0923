"""The times of a series in an NWB 2 file: read from timestamps or a rate, and checked."""

from __future__ import annotations

import logging
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.nwb_spikes import seconds

__all__ = ["checked_times", "number", "stated_times"]

_log = logging.getLogger(__name__)


def stated_times(
    group: h5py.Group, path: str, count: int | None, *, what: str = "frame"
) -> NDArray[np.float64]:
    """Return the times of a series as its file states them, one for each of its entries.

    Parameters
    ----------
    group : h5py.Group
        The series: ``timestamps``, or ``starting_time`` with a ``rate``.
    path : str
        Name of the file, for messages.
    count : int or None
        How many entries the series has; None if it does not say, and then it needs timestamps.
    what : str, default "frame"
        Word for one entry.

    Returns
    -------
    ndarray (time,)
        Increasing times on the file's clock, s.

    Raises
    ------
    RecordingError
        If there are neither timestamps nor a usable rate, or the times fail `checked_times`.
    """
    name = str(group.name).rsplit("/", 1)[-1]
    if isinstance(group.get("timestamps"), h5py.Dataset):
        times = seconds(group["timestamps"], path)
        if count is not None and times.shape != (count,):
            raise RecordingError(
                path,
                f"{name} has {times.size} timestamps for {count} {what}s",
                f"one time for each {what} is needed; cut or repair the longer one",
            )
        return checked_times(times, name, path, what=what)
    return checked_times(_regular(group, name, count, path, what), name, path, what=what)


def checked_times(
    times: NDArray[np.float64], name: str, path: str, *, what: str = "frame"
) -> NDArray[np.float64]:
    """Return times that are finite and strictly increasing, at least two of them.

    Parameters
    ----------
    times : ndarray (time,)
        Seconds.
    name : str
        Name of the series they belong to, for messages.
    path : str
        Name of the file, for messages.
    what : str, default "frame"
        Word for one entry.

    Returns
    -------
    ndarray (time,)
        The same.

    Raises
    ------
    RecordingError
        If they are not; the message names the first offender.
    """
    if times.ndim != 1 or times.size < 2:
        raise RecordingError(
            path, f"{name} has {times.size} {what}s in shape {times.shape}, expected at least 2"
        )
    finite = np.isfinite(times)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        raise RecordingError(path, f"{name}: timestamp {first} is {times[first]}")
    falls = np.flatnonzero(times[1:] <= times[:-1])
    if falls.size:
        raise RecordingError(
            path,
            f"{name}: timestamps do not increase after {what} {falls[0]} ({falls.size} places)",
        )
    return times


def number(value: Any) -> float:
    """Return one number of a file, which some writers keep as a list of one.

    Parameters
    ----------
    value : number or array_like
        As HDF5 gives it.

    Returns
    -------
    float
        The number; NaN where there is not exactly one.

    Examples
    --------
    >>> import numpy as np
    >>> number(np.array([30])), number(2), number([1, 2])
    (30.0, 2.0, nan)
    """
    values = np.ravel(value)
    one = values.size == 1 and values.dtype.kind in "iufb"
    return float(values[0]) if one else float("nan")


def _regular(
    group: h5py.Group, name: str, count: int | None, path: str, what: str
) -> NDArray[np.float64]:
    start = group.get("starting_time")
    if not isinstance(start, h5py.Dataset) or "rate" not in start.attrs:
        raise RecordingError(
            path,
            f"{name} has neither timestamps nor a rate",
            f"without times its {what}s cannot be compared with spikes",
        )
    rate, first = number(start.attrs["rate"]), number(start[()])
    if not (np.isfinite(rate) and rate > 0 and np.isfinite(first)):
        raise RecordingError(path, f"{name} has a rate of {rate:g} Hz from {first:g} s")
    if count is None:
        raise RecordingError(path, f"{name} does not say how many {what}s it has")
    if rate < 1:
        _log.warning(
            "%s: %s runs at %g %ss per second; is that the period?", path, name, rate, what
        )
    times = np.arange(count, dtype=np.float64)
    times /= rate
    times += first
    return times
