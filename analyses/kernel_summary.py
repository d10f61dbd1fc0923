"""Time courses of fields in few numbers: when they peak and cross zero, and how biphasic."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.interpolate import CubicSpline

from retinacodec.bootstrap import percentiles
from retinacodec.errors import InputError, Problems

__all__ = ["kernel_summary"]

Array = npt.NDArray[Any]

_FINE = 32  # points of the spline between two frames
_COLUMNS = {
    "time_to_peak": ("ms", "time from the peak to the response"),
    "zero_crossing": ("ms", "time from the zero crossing before the peak to the response"),
    "time_to_trough": ("ms", "time from the trough to the response"),
    "biphasic_index": ("1", "height of the trough over that of the peak"),
    "duration": ("ms", "width of the peak at half of its height"),
}


def kernel_summary(
    temporal: xr.DataArray,
    *,
    standard_error: float | xr.DataArray | None = None,
    replicates: xr.DataArray | None = None,
    lobe: float = 0.5,
    least: float = 0.05,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Summarise time courses: latency, zero crossing, biphasic index and duration.

    Parameters
    ----------
    temporal : xarray.DataArray (..., lag)
        Time courses, with ``lag`` in s, rising and regular: 0 is the response, the past negative.
    standard_error : float or xarray.DataArray (...) or (..., lag), optional
        Standard error of a value of a time course. With it a trough counts above 3 standard
        errors only, and intervals come from drawn time courses.
    replicates : xarray.DataArray (replicate, ..., lag), optional
        The time courses of resampled recordings, for the intervals instead of drawn ones.
    lobe : float, default 0.5
        The peak is that of the first lobe, going back from the response, that is at least this
        share as high as the highest.
    least : float, default 0.05
        A trough counts if it is deeper than this share of the peak.
    draws : int, default 200
        Time courses drawn for the intervals.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        Over the outer dims: ``polarity``, the sign of the peak; ``time_to_peak``,
        ``zero_crossing``, ``time_to_trough`` and ``duration`` (the peak's full width at half
        height) in ms, positive; ``biphasic_index``, 0 for a time course without a trough;
        ``reason``, why a number is missing. With a standard error or replicates also
        ``<name>_low`` and ``<name>_high``. What there is not is NaN.

    Raises
    ------
    InputError
        If lags are not regular or fewer than four, dims do not fit, or a number is out of range.

    Notes
    -----
    A cubic spline through the frames is read at 32 points to a frame. Peak and trough are the
    extremes of the spline, between its points by a parabola; zeros and half heights by a line. The
    trough is the deepest value of the other sign before the peak, farther from the response, and
    the zero crossing is the one next to the peak. With peak ``k1``
    and trough ``k2`` the biphasic index is ``|k2| / |k1|``, a ratio of heights; other authors
    take areas. A drawn time course is ``temporal + standard_error * normal``, independent over
    lags; draws without a zero crossing do not enter its interval.

    References
    ----------
    .. [1] Chichilnisky and Kalmar, Journal of Neuroscience 22, 2737 (2002), time courses of
       spike-triggered averages by their peak, zero crossing and second lobe.

    Examples
    --------
    >>> lag = np.arange(-40, 1) / 100
    >>> course = xr.DataArray(np.sin(2 * np.pi * lag / 0.4) * np.exp(lag / 0.1), {"lag": lag})
    >>> round(float(kernel_summary(course)["zero_crossing"]))
    200
    """
    courses, back = _courses(temporal)
    problems = Problems()
    problems.require(0 < lobe <= 1, f"lobe: expected above 0, at most 1, got {lobe}")
    problems.require(0 <= least < 1, f"least: expected from 0 to below 1, got {least}")
    problems.require(draws >= 2, f"draws: expected at least 2, got {draws}")
    problems.raise_as("kernel_summary")
    flat = courses.values.reshape(-1, back.size).astype(np.float64)
    error = _errors(standard_error, courses)
    floor = np.zeros(len(flat)) if error is None else 3 * np.median(error, axis=1)
    rows = [_row(*found, lobe, least, floor[k]) for k, found in enumerate(_fine(flat, back))]
    again = _again(replicates, courses)
    if again is None and error is not None:
        again = _drawn(flat, error, draws, seed)
    for row, drawn in zip(rows, [] if again is None else again.swapaxes(0, 1), strict=False):
        samples = [_row(*found, lobe, least, 0.0) for found in _fine(drawn, back)]
        _add_intervals(row, samples, level)
    return _dataset(rows, courses).assign_attrs(lobe=lobe, level=level, seed=seed)


def _courses(temporal: xr.DataArray) -> tuple[xr.DataArray, Array]:
    """Return time courses from the response back, and the time before the response in ms."""
    problems = Problems()
    problems.require(
        "lag" in temporal.dims, f"temporal: expected dims (..., lag), got {temporal.dims}"
    )
    problems.require("lag" in temporal.coords, "temporal: expected the coordinate 'lag' in s")
    problems.raise_as("kernel_summary")
    courses = temporal.transpose(..., "lag").isel(lag=slice(None, None, -1))
    back = -1000.0 * np.asarray(courses["lag"].values, dtype=np.float64)
    steps = np.diff(back)
    problems.require(back.size >= 4, f"temporal: expected at least 4 lags, got {back.size}")
    regular = (
        bool((steps > 0).all() and np.ptp(steps) <= 0.01 * steps.mean()) if back.size > 1 else True
    )
    problems.require(regular, "temporal: lags must rise in equal steps, the response last")
    problems.require(courses.size > 0, "temporal: there is no time course")
    problems.raise_as("kernel_summary")
    return courses, back


def _errors(error: float | xr.DataArray | None, courses: xr.DataArray) -> Array | None:
    """Return standard errors (course, lag) from the response back, None where there are none."""
    if error is None:
        return None
    if isinstance(error, xr.DataArray):
        if not set(error.dims) <= set(courses.dims):
            raise InputError(f"standard_error: expected dims of {courses.dims}, got {error.dims}")
        if "lag" in error.dims:
            error = error.isel(lag=slice(None, None, -1))
        values = error.broadcast_like(courses).transpose(*courses.dims).values
    else:
        values = np.full(courses.shape, float(error))
    if values.shape != courses.shape or (values < 0).any():
        raise InputError("standard_error: expected values of at least 0, one for each time course")
    return np.nan_to_num(values).reshape(-1, courses.shape[-1])


def _again(replicates: xr.DataArray | None, courses: xr.DataArray) -> Array | None:
    """Return replicates (replicate, course, lag) from the response back."""
    if replicates is None:
        return None
    if set(replicates.dims) != {"replicate", *courses.dims}:
        raise InputError(
            f"replicates: expected dims {('replicate', *courses.dims)}, got {replicates.dims}"
        )
    again = replicates.transpose("replicate", *courses.dims).isel(lag=slice(None, None, -1))
    if again.shape[1:] != courses.shape:
        raise InputError(f"replicates: expected shape {courses.shape}, got {again.shape[1:]}")
    return again.values.reshape(len(again), -1, courses.shape[-1]).astype(np.float64)


def _drawn(flat: Array, error: Array, draws: int, seed: int) -> Array:
    """Return drawn time courses (draw, course, lag)."""
    noise = [
        np.random.default_rng([seed, k]).normal(size=(draws, error.shape[1]))
        for k in range(len(flat))
    ]
    return np.asarray(flat + error * np.stack(noise, axis=1))


def _fine(courses: Array, back: Array) -> list[tuple[Array, Array]]:
    """Return each time course on fine times, and the times in ms."""
    fine = np.linspace(back[0], back[-1], _FINE * (back.size - 1) + 1)
    known = np.asarray(np.isfinite(courses).all(axis=1))
    curves = CubicSpline(back, np.where(known[:, None], courses, 0.0), axis=1)(fine)
    curves[~known] = np.nan
    return [(curve, fine) for curve in curves]


def _row(curve: Array, time: Array, lobe: float, least: float, floor: float) -> dict[str, Any]:
    """Return the columns of one time course, from the response back."""
    row: dict[str, Any] = dict.fromkeys((*_COLUMNS, "polarity"), np.nan) | {"reason": ""}
    top = np.abs(curve).max()
    if not np.isfinite(top) or top == 0:
        return row | {"reason": "the time course is zero" if top == 0 else "it is not finite"}
    peak = _first_peak(curve, lobe * top)
    sign = row["polarity"] = float(np.sign(curve[peak]))
    upright = sign * curve
    if peak in (0, curve.size - 1):
        return row | {"reason": "the peak lies at the end of the window"}
    row["time_to_peak"], height = _extreme(upright, time, peak)
    after = _falls(upright[peak::-1], time[peak::-1], height / 2)
    before = _falls(upright[peak:], time[peak:], height / 2)
    row["duration"] = before - after
    row["biphasic_index"] = 0.0
    trough = peak + int(upright[peak:].argmin())
    if -upright[trough] <= max(least * height, floor, 0.0):
        return row | {"reason": "monophasic: no trough before the peak"}
    row["zero_crossing"] = _falls(upright[peak:], time[peak:], 0.0)
    row["biphasic_index"] = -float(upright[trough]) / height
    if trough == curve.size - 1:
        return row | {"reason": "the trough lies at the end of the window"}
    row["time_to_trough"], depth = _extreme(-upright, time, trough)
    row["biphasic_index"] = depth / height
    return row | ({} if np.isfinite(row["duration"]) else {"reason": "the peak is cut off"})


def _first_peak(curve: Array, height: float) -> int:
    """Return the extreme of the first lobe, from the response back, that is this high."""
    ends = np.flatnonzero(np.diff(np.signbit(curve))) + 1
    for first, last in zip(np.r_[0, ends], np.r_[ends, curve.size], strict=True):
        found = int(first) + int(np.abs(curve[first:last]).argmax())
        if abs(curve[found]) >= height:
            return found
    raise AssertionError("the highest lobe is as high as itself")


def _extreme(curve: Array, time: Array, at: int) -> tuple[float, float]:
    """Return place and height of a maximum, by a parabola through three points."""
    left, middle, right = curve[at - 1 : at + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(time[at] + shift * (time[1] - time[0])), float(
        middle - 0.25 * (left - right) * shift
    )


def _falls(curve: Array, time: Array, level: float) -> float:
    """Return when a curve first falls to a level, NaN if it never does."""
    below = np.flatnonzero(curve <= level)
    if not below.size:
        return float("nan")
    at = int(below[0])
    share = (curve[at - 1] - level) / (curve[at - 1] - curve[at])
    return float(time[at - 1] + share * (time[at] - time[at - 1]))


def _add_intervals(row: dict[str, Any], samples: list[dict[str, Any]], level: float) -> None:
    """Add the interval of each number, from time courses of the same polarity."""
    for name in _COLUMNS:
        values = [one[name] for one in samples if one["polarity"] == row["polarity"]]
        low, high = percentiles(np.asarray(values or [np.nan]), level)
        known = np.isfinite(row[name])
        row[f"{name}_low"], row[f"{name}_high"] = (
            float(end) if known else np.nan for end in (low, high)
        )


def _dataset(rows: list[dict[str, Any]], courses: xr.DataArray) -> xr.Dataset:
    """Put the rows of all time courses into one dataset."""
    outer, shape = courses.dims[:-1], courses.shape[:-1]

    def column(name: str) -> Array:
        return np.asarray([row[name] for row in rows]).reshape(shape)

    table: dict[str, Any] = {}
    for name, (units, words) in _COLUMNS.items():
        for end in ("", "_low", "_high"):
            if name + end in rows[0]:
                long_name = words + {"": "", "_low": ", low end", "_high": ", high end"}[end]
                table[name + end] = (
                    outer,
                    column(name + end),
                    {"units": units, "long_name": long_name},
                )
    table["polarity"] = (outer, column("polarity"), {"units": "1"})
    table["reason"] = (outer, column("reason").astype(str))
    coords = {name: courses[name] for name in outer if name in courses.coords}
    return xr.Dataset(table, coords=coords, attrs={"kind": "kernel_summary"})
