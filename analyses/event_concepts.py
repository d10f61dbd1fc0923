"""Events as concepts for explanations: some time ago, and which cells fire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems

__all__ = ["lagged_events", "response_events"]

Array = npt.NDArray[Any]


def lagged_events(
    events: xr.DataArray, lags_s: Sequence[tuple[float, float]] = ((0.0, 0.05), (0.05, 0.1))
) -> xr.DataArray:
    """Make a concept of each event at each lag: whether it happened so long ago.

    Parameters
    ----------
    events : xarray.DataArray of bool (event, time)
        Such as those of `stimulus_events`.
    lags_s : sequence of (float, float), default 0 to 50 and 50 to 100 ms
        From and to how long ago, s; the first is included, the last is not.

    Returns
    -------
    xarray.DataArray of bool (event, time)
        Named like "centre step up, 50-100 ms ago", with further coordinates ``base``, the
        event's own name, and ``lag_from`` and ``lag_to``, s. Before the first frame nothing has
        happened.

    Raises
    ------
    InputError
        If there is no frame rate, or a lag holds no frame or is not in the past.

    Notes
    -----
    ``concept(t) = any of event(t - k), from <= k / frame_rate < to``.

    Examples
    --------
    >>> once = xr.DataArray([[False, True, False, False]], {"event": ["flash"]}, ("event", "time"))
    >>> later = lagged_events(once.assign_attrs(frame_rate=20.0), [(0.05, 0.15)])
    >>> later["event"].item(), later.values.tolist()
    ('flash, 50-150 ms ago', [[False, False, True, True]])
    """
    _check(events, lags_s)
    rate = float(events.attrs["frame_rate"])
    given = events.transpose("event", "time")
    parts = []
    for low, high in lags_s:
        first, last = (int(np.ceil(end * rate - 1e-6)) for end in (low, high))
        if last <= first:
            raise InputError(f"lags_s: {low} to {high} s holds no frame at {rate:g} Hz")
        words = f"{1000 * low:g}-{1000 * high:g} ms ago"
        names = given["event"].values.astype(str)
        parts.append(
            given.copy(data=_recent(given.values, first, last)).assign_coords(
                event=[f"{name}, {words}" for name in names],
                base=("event", names),
                lag_from=("event", np.full(len(names), low), {"units": "s"}),
                lag_to=("event", np.full(len(names), high), {"units": "s"}),
            )
        )
    joined: xr.DataArray = xr.concat(parts, "event", combine_attrs="override")
    return joined


def response_events(rate: xr.DataArray, *, least: float = 30.0) -> xr.DataArray:
    """Say which cells fire in each frame.

    Parameters
    ----------
    rate : xarray.DataArray (time, cell)
        Firing rates, Hz.
    least : float, default 30
        Rate from which a cell fires, Hz.

    Returns
    -------
    xarray.DataArray of bool (event, time)
        Named like "ON 3 fires"; False where the rate is unknown. The attribute ``frame_rate``
        is read from the times.

    Raises
    ------
    InputError
        If there are other dims, or fewer than two frames.

    Examples
    --------
    >>> rate = xr.DataArray([[0.0], [50.0]], {"time": [0, 0.01], "cell": ["a"]}, ("time", "cell"))
    >>> response_events(rate)["event"].values.tolist()
    ['a fires']
    """
    if set(rate.dims) != {"time", "cell"} or rate.sizes["time"] < 2:
        raise InputError(f"rate: expected (time, cell) of two frames at least, got {rate.dims}")
    values = rate.transpose("cell", "time")
    fires = np.nan_to_num(values.values, nan=-np.inf) >= least
    step = float(np.median(np.diff(values["time"].values)))
    return xr.DataArray(
        fires,
        dims=("event", "time"),
        coords={
            "event": [f"{name} fires" for name in values["cell"].values],
            "time": values["time"].values,
        },
        attrs={"kind": "events", "frame_rate": 1 / step, "least": least},
    )


def _recent(on: Array, first: int, last: int) -> npt.NDArray[np.bool_]:
    """Return whether events (event, time) were on between `first` and `last` frames before."""
    total = np.concatenate([np.zeros((len(on), 1), int), np.cumsum(on, axis=1)], axis=1)
    here = np.arange(on.shape[1])
    late, early = np.maximum(here + 1 - first, 0), np.maximum(here + 1 - last, 0)
    return np.asarray(total[:, late] > total[:, early])


def _check(events: xr.DataArray, lags_s: Sequence[tuple[float, float]]) -> None:
    problems = Problems()
    fits = isinstance(events, xr.DataArray) and set(events.dims) == {"event", "time"}
    problems.require(fits, "events: expected a DataArray (event, time)")
    if fits:
        logical = events.dtype == np.bool_
        problems.require(logical, f"events: expected True and False, got {events.dtype}")
        known = events.attrs.get("frame_rate", 0) > 0
        problems.require(known, "events: expected the attribute frame_rate, Hz")
    problems.require(len(lags_s) > 0, "lags_s: expected at least one lag")
    for pair in lags_s:
        good = len(pair) == 2 and 0 <= pair[0] < pair[1]
        problems.require(good, f"lags_s: expected (from, to) with 0 <= from < to, got {pair}")
    problems.raise_as("lagged_events")
