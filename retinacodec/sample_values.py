"""Values of a sampled series of an NWB 2 file: read in its unit, piece by piece, and checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb_spikes import text
from retinacodec.nwb_times import number
from retinacodec.train_checks import listed

__all__ = ["check_values", "read_values", "shape_of"]

_log = logging.getLogger(__name__)
_BLOCK = 1 << 21  # values read in one go

_VOLT, _AMPERE = 1.0, 1e-6  # more than any cell gives, in V and A
_LIMITS = {"volts": _VOLT, "volt": _VOLT, "v": _VOLT, "mv": _VOLT * 1e3, "millivolts": _VOLT * 1e3}
_LIMITS |= {"amperes": _AMPERE, "ampere": _AMPERE, "amps": _AMPERE, "a": _AMPERE}
_LIMITS |= {"na": _AMPERE * 1e9, "pa": _AMPERE * 1e12}


def shape_of(series: h5py.Group, path: str) -> tuple[int, int]:
    """Return how many samples and columns a series has.

    Parameters
    ----------
    series : h5py.Group
        With numbers in ``data``.
    path : str
        Name of the file, for messages.

    Returns
    -------
    (int, int)
        Samples, 2 or more, and columns, 1 or more.

    Raises
    ------
    RecordingError
        If the data are no numbers, empty, or not (time,) or (time, cell).
    """
    data = series["data"]
    if data.dtype.kind not in "iuf":
        raise RecordingError(path, f"{data.name} holds {data.dtype}, expected numbers")
    if data.ndim not in (1, 2) or data.size < 2:
        raise RecordingError(
            path, f"{data.name} has shape {data.shape}, expected (time,) or (time, cell)"
        )
    return int(data.shape[0]), int(data.shape[1]) if data.ndim == 2 else 1


def read_values(
    series: h5py.Group,
    path: str,
    samples: slice,
    columns: Sequence[int],
    scale: float = 1.0,
    *,
    out: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], str]:
    """Read some samples and columns of a series in the unit that the file states.

    Parameters
    ----------
    series : h5py.Group
        With ``data`` and its ``conversion``, ``offset`` and ``unit``.
    path : str
        Name of the file, for messages.
    samples : slice
        First sample and the one after the last.
    columns : sequence of int
        Columns to keep, in this order.
    scale : float, default 1
        Factor by which the stated conversion is wrong.
    out : ndarray (sample, column), optional
        Where to put the values; by default a new array.

    Returns
    -------
    (ndarray (sample, column), str)
        ``(stored * conversion * channel_conversion + offset) * scale`` and the unit.

    Raises
    ------
    RecordingError
        If a conversion is 0 or not finite.
    InputError
        If `scale` is 0 or not finite.
    """
    if not (np.isfinite(scale) and scale != 0):
        raise InputError(f"scale: expected a number other than 0, got {scale}")
    data = series["data"]
    factor, offset = _line(series, path, np.asarray(columns), scale)
    if out is None:
        out = np.empty((samples.stop - samples.start, len(columns)))
    width = 1 if data.ndim == 1 else data.shape[1]
    rows = max(1, _BLOCK // width)
    chunk = data.chunks[0] if data.chunks else 1
    rows = max(chunk, rows // chunk * chunk)
    for start in range(samples.start, samples.stop, rows):
        stop = min(start + rows, samples.stop)
        part = data[start:stop]
        block = part[:, None] if data.ndim == 1 else part[:, list(columns)]
        where = out[start - samples.start : stop - samples.start]
        np.multiply(block, factor, out=where, dtype=np.float64)
        if offset:
            where += offset
    return out, text(data.attrs.get("unit", ""))


def check_values(
    values: NDArray[np.float64], cells: Sequence[str], unit: str, path: str, name: str
) -> None:
    """Refuse values that no cell can have, and say what is odd about the others.

    Parameters
    ----------
    values : ndarray (sample, cell)
        Values in `unit`.
    cells : sequence of str
        Names of the cells.
    unit : str
        Unit of the values; of volts and amperes it is known how large they can be.
    path : str
        Name of the file, for messages.
    name : str
        Name of the series, for messages.

    Raises
    ------
    RecordingError
        If a value is infinite, all are NaN, or potentials reach 1 V or currents 1 uA.
    """
    lowest = np.fmin.reduce(values, axis=0)
    highest = np.fmax.reduce(values, axis=0)
    empty = [cell for cell, value in zip(cells, highest, strict=True) if np.isnan(value)]
    if len(empty) == len(cells):
        raise RecordingError(path, f"{name} holds nothing but NaN", "choose others with cells=")
    if empty:
        _log.warning("%s: %s holds nothing but NaN for %s", path, name, listed(empty))
    if np.isinf(lowest).any() or np.isinf(highest).any():
        raise RecordingError(path, f"{name} holds infinite values", "write NaN where none is known")
    _refuse_giants(float(max(-np.nanmin(lowest), np.nanmax(highest))), unit, path, name)
    missing = sum(int(np.isnan(values[:, cell]).sum()) for cell in range(values.shape[1]))
    if missing:
        _log.warning("%s: %s has %d values that are NaN; they stay NaN", path, name, missing)
    flat = [cell for cell, a, b in zip(cells, lowest, highest, strict=True) if a == b]
    if flat:
        _log.warning("%s: %s never changes in %s", path, name, listed(flat))


def _line(
    series: h5py.Group, path: str, columns: NDArray[np.intp], scale: float
) -> tuple[Any, float]:
    """Return the factor, one or one a column, and the offset from stored numbers to values."""
    data = series["data"]
    if "conversion" not in data.attrs:
        _log.warning("%s: %s states no conversion; 1 is used", path, series.name)
    factor: Any = number(data.attrs.get("conversion", 1.0))
    offset = number(data.attrs.get("offset", 0.0))
    each = series.get("channel_conversion")
    if isinstance(each, h5py.Dataset):
        wanted = 1 if data.ndim == 1 else data.shape[1]
        if each.shape != (wanted,):
            raise RecordingError(path, f"{each.name} has shape {each.shape} for {wanted} columns")
        factor = factor * np.asarray(each[()], np.float64)[columns]
    if not np.isfinite(factor).all() or (np.asarray(factor) == 0).any() or not np.isfinite(offset):
        raise RecordingError(
            path,
            f"{data.name} has a conversion of {np.min(factor):g} and an offset of {offset:g}",
            "correct them in the file: expected finite numbers, and no conversion of 0",
        )
    return factor * scale, offset * scale


def _refuse_giants(largest: float, unit: str, path: str, name: str) -> None:
    plain = unit.strip().lower()
    limit = _LIMITS.get(plain)
    if limit is None or largest <= limit:
        return
    words = f"{name} reaches {largest:.4g} {unit}, more than any cell"
    if limit == _VOLT and largest <= _VOLT * 1e3:
        raise RecordingError(path, words, "mV stored as volts? try scale=1e-3")
    if limit == _VOLT:
        raise RecordingError(path, words, "uV or raw samples stored as volts? try scale=1e-6")
    if limit == _AMPERE:
        raise RecordingError(path, words, "pA or nA stored as amperes? try scale=1e-12 or 1e-9")
    raise RecordingError(path, words, "correct it with scale=")
