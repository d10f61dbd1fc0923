"""Reading the spike times of an NWB 2 file in bulk, with every silent fault of the table caught."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import InputError, RecordingError
from retinacodec.train_checks import REWRITE, check_trains, listed, row_ends

__all__ = ["Spikes", "check_clock", "elsewhere", "find_units", "read_spikes", "seconds", "text"]

_log = logging.getLogger(__name__)
_NAMES = "unit_name"
_TRACES = ("RoiResponseSeries", "CurrentClampSeries", "VoltageClampSeries", "IZeroClampSeries")
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
        place_of = {cell: place for place, cell in enumerate(self.cells)}
        missing = [cell for cell in wanted if cell not in place_of]
        if missing:
            raise RecordingError(path, f"has no cells {missing}", f"it has {list(self.cells)}")
        places = [place_of[cell] for cell in wanted]
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
        The one table with spike times in ``/units``, ``/processing`` or ``/analysis``.

    Raises
    ------
    RecordingError
        If there is none or more than one; the message says what the file has instead.
    """
    if table is not None:
        if not isinstance(file.get(table), h5py.Group):
            raise RecordingError(path, f"has no table {table!r}", elsewhere(file))
        return file[table]
    main = file.get("units")
    found = [main] if isinstance(main, h5py.Group) and "spike_times_index" in main else []

    def visit(_: str, thing: Any) -> None:
        if isinstance(thing, h5py.Group) and "spike_times_index" in thing:
            found.append(thing)

    for room in ("processing", "analysis"):
        if isinstance(file.get(room), h5py.Group):
            file[room].visititems(visit)
    if len(found) > 1:
        raise RecordingError(
            path,
            f"has {len(found)} tables of units",
            f"choose one with units=: {[group.name for group in found]}",
        )
    if not found and isinstance(main, h5py.Group):
        return main  # what it lacks is said where its columns are read
    if not found:
        raise RecordingError(path, "has no sorted units (no spike times)", elsewhere(file))
    return found[0]


def read_spikes(
    file: h5py.File,
    path: str,
    *,
    table: str | None = None,
    names: str | None = None,
    scale: float = 1.0,
    sort: bool = False,
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
        Factor from the numbers in the file to seconds, above 0.
    sort : bool, default False
        Sort trains that are out of order, with a notice, in place of refusing them.

    Returns
    -------
    Spikes
        Ids, times and observed intervals; the trains are parts of one array, which is read once.

    Raises
    ------
    InputError
        If `scale` is not above 0.
    RecordingError
        If the ragged index does not fit the spike times, or spikes are unsorted or not finite.

    Notes
    -----
    Cells without a spike and spikes at the same time are kept, with a notice.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"scale: expected seconds in one step of the file's times, got {scale}")
    units = find_units(file, path, table)
    for column in ("spike_times", "spike_times_index", "id"):
        if not isinstance(units.get(column), h5py.Dataset):
            raise RecordingError(path, f"{units.name} has no column {column!r}", elsewhere(file))
    flat = seconds(units["spike_times"], path)
    if flat.ndim != 1:
        raise RecordingError(path, f"spike_times have shape {flat.shape}, expected one list")
    if scale != 1:
        flat *= scale
    cells = _cell_names(units, path, names)
    ends = row_ends(
        units["spike_times_index"][()], flat.shape, len(cells), cells, path, "spike_times"
    )
    times = tuple(np.split(flat, ends[:-1])) if len(cells) else ()
    check_trains(cells, times, path, sort=sort)
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

    Notes
    -----
    Cells with spikes of which none falls into the movie are named in a notice, and so are spikes
    before time 0 where the movie begins later.
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
    inside = [np.diff(np.searchsorted(train, [start, stop]))[0] for train in spikes.times]
    if not any(inside):
        raise RecordingError(
            path,
            f"no spike falls into the movie: {where}",
            "are spikes and flips on different clocks?",
        )
    away = [
        cell
        for cell, train, count in zip(spikes.cells, spikes.times, inside, strict=True)
        if train.size and not count
    ]
    if away:
        _log.warning("%s: no spike of %s falls into the movie", path, listed(away))
    before = sum(int(np.searchsorted(train, 0.0)) for train in filled)
    if before and start >= 0:
        words = "%s: %d spikes come before time 0, the first at %g s; the movie begins at %g s"
        _log.warning(words, path, before, first, start)


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
    if not dataset.size:
        return np.empty(dataset.shape or 0)
    numbers = np.empty(dataset.shape)
    dataset.read_direct(numbers)  # which changes the type piece by piece
    return numbers


def text(value: Any) -> str:
    """Return a string of an HDF5 file, which may come as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def elsewhere(file: h5py.File) -> str:
    """Return words for what a file has instead of what was looked for."""
    kinds: dict[str, int] = {}

    def visit(_: str, thing: Any) -> None:
        kind = text(thing.attrs.get("neurodata_type", ""))
        if isinstance(thing, h5py.Group) and kind:
            kinds[kind] = kinds.get(kind, 0) + 1

    for room in ("acquisition", "processing", "analysis", "stimulus", "units", "intervals"):
        if isinstance(file.get(room), h5py.Group):
            file[room].visititems(visit)
    traces = sorted(kind for kind in kinds if kind in _TRACES)
    if not traces and any(kind in kinds for kind in ("ElectricalSeries", "SpikeEventSeries")):
        return "its voltage traces are not spike-sorted yet"
    held = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"
    return f"the file holds {held}" + (f"; read_traces reads {', '.join(traces)}" if traces else "")


def _cell_names(units: h5py.Group, path: str, names: str | None) -> tuple[str, ...]:
    if names is not None and names not in units:
        columns = sorted(key for key in units if not key.endswith("_index"))
        raise RecordingError(path, f"units have no column {names!r}", f"they have {columns}")
    ids = _column(units, "id")
    column = names or (_NAMES if _NAMES in units else None)
    cells = ids if column is None else _column(units, column)
    if len(cells) != len(ids):
        raise RecordingError(
            path,
            f"column {column!r} has {len(cells)} entries for {len(ids)} units",
            "name a column with one name for each (names=)",
        )
    if len(set(cells)) != len(cells):
        twice = sorted(cell for cell, count in Counter(cells).items() if count > 1)
        if names is None and column is not None and len(set(ids)) == len(ids):
            _log.warning("%s: %s names several units %s; ids are used", path, column, twice[0])
            return ids
        raise RecordingError(
            path,
            f"unit ids are not unique: {twice[:5]}",
            "name a column with unique names (names=)",
        )
    return cells


def _column(units: h5py.Group, column: str) -> tuple[str, ...]:
    return tuple(text(value) for value in np.ravel(units[column][()]).tolist())


def _observed(
    units: h5py.Group, cells: tuple[str, ...], path: str
) -> tuple[NDArray[np.float64], ...] | None:
    if "obs_intervals" not in units:
        return None
    if "obs_intervals_index" not in units:
        raise RecordingError(
            path, "obs_intervals have no index, so it is not known whose they are", REWRITE
        )
    flat = seconds(units["obs_intervals"], path)
    if flat.size % 2 or (flat.size and flat.shape[-1] != 2):
        raise RecordingError(
            path, f"obs_intervals have shape {flat.shape}, expected (interval, 2)", REWRITE
        )
    flat = flat.reshape(-1, 2)
    ends = row_ends(
        units["obs_intervals_index"][()], flat.shape, len(cells), cells, path, "obs_intervals"
    )
    if not np.isfinite(flat).all() or (flat[:, 1] < flat[:, 0]).any():
        raise RecordingError(
            path, "obs_intervals hold times that are not finite or stop before they start"
        )
    each = np.split(flat, ends[:-1]) if cells else []
    return tuple(intervals[intervals[:, 1] > intervals[:, 0]] for intervals in each)
