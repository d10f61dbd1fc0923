"""Reading the spike times of an NWB 2 file in bulk, with every silent fault of the table caught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError

__all__ = ["Spikes", "check_clock", "find_units", "read_spikes", "seconds", "text"]

_NAMES = "unit_name"
_FAR = 20.0  # times the session: spikes beyond this are not in seconds


@dataclass(frozen=True)
class Spikes:
    """The spike trains of a file.

    Parameters
    ----------
    cells : tuple of str
        The file's own ids, or names where it has them.
    times : tuple of ndarray (spike,)
        Spike times of each cell in seconds, sorted.
    observed : tuple of ndarray (interval, 2) or None
        Seconds in which each cell was observed; None where the file does not say.
    """

    cells: tuple[str, ...]
    times: tuple[NDArray[np.float64], ...]
    observed: tuple[NDArray[np.float64], ...] | None

    def choose(self, cells: Sequence[str], path: str) -> Spikes:
        """Return the cells asked for, in that order; `RecordingError` if one is missing."""
        wanted = [str(cell) for cell in cells]
        missing = [cell for cell in wanted if cell not in self.cells]
        if missing:
            raise RecordingError(path, f"has no cells {missing}", f"it has {list(self.cells)}")
        places = [self.cells.index(cell) for cell in wanted]
        observed = None if self.observed is None else tuple(self.observed[k] for k in places)
        return Spikes(tuple(wanted), tuple(self.times[k] for k in places), observed)


def find_units(file: h5py.File, path: str, table: str | None = None) -> h5py.Group:
    """Return the table of sorted units.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.
    table : str, optional
        Place of the table in the file, where there are several.

    Returns
    -------
    h5py.Group
        ``/units``, or the one table with spike times in ``/processing`` or ``/analysis``.

    Raises
    ------
    RecordingError
        If there is none or more than one; the message says what the file has instead.
    """
    if table is not None:
        if not isinstance(file.get(table), h5py.Group):
            raise RecordingError(path, f"has no table {table!r}", _elsewhere(file))
        return file[table]
    if isinstance(file.get("units"), h5py.Group):
        return file["units"]
    found: list[h5py.Group] = []

    def visit(_: str, thing: Any) -> None:
        if isinstance(thing, h5py.Group) and "spike_times_index" in thing:
            found.append(thing)

    for room in ("processing", "analysis"):
        if room in file:
            file[room].visititems(visit)
    if len(found) > 1:
        raise RecordingError(
            path,
            f"has {len(found)} tables of units",
            f"choose one with units=: {[group.name for group in found]}",
        )
    if not found:
        raise RecordingError(path, "has no sorted units (no spike times)", _elsewhere(file))
    return found[0]


def read_spikes(
    file: h5py.File,
    path: str,
    *,
    table: str | None = None,
    names: str | None = None,
    scale: float = 1.0,
) -> Spikes:
    """Read all spike trains of a file and check what no reader checks.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.
    table : str, optional
        Place of the units table in the file.
    names : str, optional
        Column with the names of the cells; by default ``unit_name`` where present, else the ids.
    scale : float, default 1
        Factor from the numbers in the file to seconds.

    Returns
    -------
    Spikes
        Ids, times and observed intervals.

    Raises
    ------
    RecordingError
        If the ragged index does not fit the spike times, or spikes are unsorted or not finite.
    """
    units = find_units(file, path, table)
    for column in ("spike_times", "spike_times_index", "id"):
        if not isinstance(units.get(column), h5py.Dataset):
            raise RecordingError(path, f"{units.name} has no column {column!r}", _elsewhere(file))
    flat = seconds(units["spike_times"], path) * scale
    cells = _cell_names(units, path, names)
    ends = _checked_index(
        units["spike_times_index"][()], flat.shape, len(cells), cells, path, "spike_times"
    )
    times = tuple(np.split(flat, ends[:-1])) if len(cells) else ()
    _check_trains(cells, times, path)
    return Spikes(cells, times, _observed(units, cells, path))


def check_clock(spikes: Spikes, start: float, stop: float, path: str) -> None:
    """Refuse spikes that cannot be in seconds on the clock of the movie.

    Parameters
    ----------
    spikes : Spikes
        Trains of a file.
    start, stop : float
        First flip and end of the movie, s.
    path : str
        Name of the file, for the message.

    Raises
    ------
    RecordingError
        If spikes reach far beyond the movie or none falls into it.
    """
    filled = [train for train in spikes.times if train.size]
    if not filled:
        raise RecordingError(path, "has units but not a single spike")
    first, last = min(train[0] for train in filled), max(train[-1] for train in filled)
    where = f"spikes span {first:.6g} to {last:.6g} and the movie {start:.6g} to {stop:.6g} s"
    if last > _FAR * max(stop, 1.0):
        whole = all((train == train.round()).all() for train in filled)
        rate = min(
            (10e3, 20e3, 25e3, 30e3, 40e3, 50e3),
            key=lambda guess: abs(np.log(last / stop / guess)),
        )
        guess = f"samples at about {rate:g} Hz? try spike_scale=1/{rate:g}"
        if not whole or last < 5e3 * stop:
            guess = "milliseconds? try spike_scale=1e-3"
        raise RecordingError(path, f"spike times are not in seconds: {where}", guess)
    if not any(((train >= start) & (train < stop)).any() for train in filled):
        raise RecordingError(
            path,
            f"no spike falls into the movie: {where}",
            "are spikes and flips on different clocks?",
        )


def seconds(dataset: h5py.Dataset, path: str) -> NDArray[np.float64]:
    """Return the numbers of a dataset of times.

    Parameters
    ----------
    dataset : h5py.Dataset
        Times.
    path : str
        Name of the file, for the message.

    Returns
    -------
    ndarray
        The same in float64.

    Raises
    ------
    RecordingError
        If they are no numbers.
    """
    if dataset.dtype.kind not in "iuf":
        raise RecordingError(path, f"{dataset.name} holds {dataset.dtype}, expected seconds")
    return np.asarray(dataset[()], np.float64)


def text(value: Any) -> str:
    """Return a string of an HDF5 file, which may come as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _elsewhere(file: h5py.File) -> str:
    """Say what a file has instead of what was looked for."""
    kinds: dict[str, int] = {}

    def visit(_: str, thing: Any) -> None:
        kind = text(thing.attrs.get("neurodata_type", ""))
        if isinstance(thing, h5py.Group) and kind:
            kinds[kind] = kinds.get(kind, 0) + 1

    for room in ("acquisition", "processing", "analysis", "stimulus", "units", "intervals"):
        if isinstance(file.get(room), h5py.Group):
            file[room].visititems(visit)
    if any(kind in kinds for kind in ("ElectricalSeries", "SpikeEventSeries")):
        return "its voltage traces are not spike-sorted yet"
    held = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"
    return f"the file holds {held}"


def _cell_names(units: h5py.Group, path: str, names: str | None) -> tuple[str, ...]:
    if names is not None and names not in units:
        columns = sorted(key for key in units if not key.endswith("_index"))
        raise RecordingError(path, f"units have no column {names!r}", f"they have {columns}")
    ids = tuple(text(value) for value in units["id"][()].tolist())
    column = names or (_NAMES if _NAMES in units else None)
    cells = ids if column is None else tuple(text(value) for value in units[column][()].tolist())
    if len(set(cells)) != len(cells):
        twice = sorted({cell for cell in cells if cells.count(cell) > 1})
        if names is None and len(set(ids)) == len(ids):
            return ids
        raise RecordingError(
            path,
            f"unit ids are not unique: {twice[:5]}",
            "name a column with unique names (names=)",
        )
    return cells


def _checked_index(
    index: Any,
    shape: tuple[int, ...],
    rows: int,
    cells: tuple[str, ...],
    path: str,
    column: str,
) -> NDArray[np.intp]:
    """Return the end of each row in the flat column, or say where the index is broken."""
    ends = np.asarray(index)
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or ends.size != rows:
        raise RecordingError(
            path,
            f"{column}_index has shape {ends.shape} of {ends.dtype}, expected {rows} whole numbers",
        )
    ends = ends.astype(np.int64)
    falls = np.flatnonzero(np.diff(ends, prepend=0) < 0)
    if falls.size:
        raise RecordingError(
            path,
            f"{column}_index decreases at unit {cells[falls[0]]}",
            "the spikes of the units cannot be told apart; write the file again",
        )
    past = np.flatnonzero(ends > shape[0])
    if past.size:
        raise RecordingError(
            path,
            f"{column}_index of unit {cells[past[0]]} ends at "
            f"{ends[past[0]]}, but there are only {shape[0]} entries",
            "write the file again",
        )
    total = int(ends[-1]) if rows else 0
    if total < shape[0]:
        raise RecordingError(
            path,
            f"{column}_index ends at {total}, but there are {shape[0]} entries",
            "write the file again",
        )
    return ends


def _check_trains(
    cells: tuple[str, ...], times: tuple[NDArray[np.float64], ...], path: str
) -> None:
    for cell, train in zip(cells, times, strict=True):
        broken = np.flatnonzero(~np.isfinite(train))
        if broken.size:
            raise RecordingError(
                path,
                f"unit {cell} has {broken.size} spike times that are NaN or "
                f"infinite, the first at {broken[0]}",
                "sort the recording again",
            )
        falls = np.flatnonzero(np.diff(train) < 0)
        if falls.size:
            raise RecordingError(
                path,
                f"unit {cell} has unsorted spike times, the first after spike {falls[0]}",
                "times of separate sweeps may have been put one after another",
            )


def _observed(
    units: h5py.Group, cells: tuple[str, ...], path: str
) -> tuple[NDArray[np.float64], ...] | None:
    if "obs_intervals" not in units or "obs_intervals_index" not in units:
        return None
    flat = np.asarray(units["obs_intervals"][()], np.float64).reshape(-1, 2)
    ends = _checked_index(
        units["obs_intervals_index"][()], flat.shape, len(cells), cells, path, "obs_intervals"
    )
    if not np.isfinite(flat).all() or (flat[:, 1] < flat[:, 0]).any():
        raise RecordingError(
            path, "obs_intervals hold times that are not finite or stop before they start"
        )
    return tuple(np.split(flat, ends[:-1])) if cells else ()
