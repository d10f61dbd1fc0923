"""Responses of an NWB 2 file that are no spike trains: fluorescence, potentials, binned rates."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from retinacodec.errors import RecordingError
from retinacodec.nwb_coding import read_note
from retinacodec.nwb_spikes import elsewhere, text
from retinacodec.nwb_sweeps import (
    ELECTRODE_KINDS,
    Electrode,
    Sweep,
    cell_of,
    find_electrodes,
    find_sweeps,
    followed,
)
from retinacodec.nwb_times import stated_times
from retinacodec.sample_values import check_values, read_values, shape_of
from retinacodec.sampled import Series, sampled_together
from retinacodec.train_checks import listed

__all__ = ["BINNED", "Series", "find_responses", "quantity_of", "read_series"]

_log = logging.getLogger(__name__)

BINNED = "TimeSeries"
"""Kind of a response that is already binned."""

_RATES = {"hz", "hertz", "spikes/s", "spikes/sec", "spikes/second", "spikes per second", "1/s"}
_RATES |= {"s-1", "s^-1", "spike/s", "sp/s", "events/s"}
_OPEN = {"count", "counts", "spike", "spikes", "spike count", "spike counts", "events", "1"}
_OPEN |= {"n.a.", "n/a", "na", "unknown", "", "a.u.", "au", "df/f", "dff"}
_ROI = "RoiResponseSeries"
_VOLTAGES = ("ElectricalSeries", "SpikeEventSeries")
_ROOMS = ("acquisition", "processing", "analysis")


def find_responses(file: h5py.File) -> dict[str, str]:
    """Return the responses of a file that are no spike trains, and of which kind each is.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.

    Returns
    -------
    dict of str to str
        Place in the file to type in NWB. All sweeps of one electrode and type are one response,
        under the place of the electrode where there are several. A ``TimeSeries`` in
        ``/processing`` or ``/analysis`` is listed if its unit is a rate, or if it has a row a
        time and a unit that may be a count.
    """
    found = {}
    for series in _series(file):
        kind, place = _kind(series), _place(series)
        if kind == _ROI or (kind == BINNED and _may_be_binned(file, series)):
            found[place] = kind
    return found | {name: group.kind for name, group in find_electrodes(file).items()}


def quantity_of(unit: str) -> str | None:
    """Return "rate" if a unit is that of a rate, None if it may be a count or anything else.

    Parameters
    ----------
    unit : str
        Unit as a file states it.

    Returns
    -------
    str or None
        "rate" for Hz, spikes/s, 1/s and their like.
    """
    return "rate" if _plain(unit) in _RATES else None


def read_series(
    file: h5py.File,
    path: str,
    name: str | None = None,
    *,
    cells: Sequence[str] | None = None,
    scale: float = 1.0,
    kinds: Collection[str] | None = None,
) -> Series:
    """Read a response that is no spike train, in the unit that the file states.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.
    name : str, optional
        Place of the response in the file as `find_responses` lists it, the last part of it where
        that is enough, the cell of an electrode, the place of any one series, or a kind of
        electrode series (``CurrentClampSeries`` ...) for all electrodes of that kind, if one
        clock sampled them; needed where there are several responses.
    cells : sequence of str, optional
        Names of the cells to keep, in this order; by default all.
    scale : float, default 1
        Factor by which the file's conversion is wrong, such as 1e-3 for mV stored as volts.
    kinds : collection of str, optional
        Types to choose from; by default all.

    Returns
    -------
    Series
        Fluorescence of regions is named by the ids of the regions, sweeps of one electrode are
        joined in order of time into the cell of the electrode, and columns of a binned series
        are numbered from 0. Series of this package know the names of their cells.

    Raises
    ------
    RecordingError
        If there is none or more than one to choose from, its shape, times or conversion are
        broken, or its potentials are larger than any cell's.

    Notes
    -----
    ``value = stored * conversion * channel_conversion * scale + offset * scale``. Numbers that
    are NaN stay NaN, with a notice of how many; constant traces are named in a notice.
    """
    electrodes = find_electrodes(file)
    if name in ELECTRODE_KINDS and (kinds is None or name in kinds):
        return _all_electrodes(file, path, electrodes, name, cells, scale)
    chosen = _choose(file, path, name, kinds)
    if chosen in electrodes:
        sweeps = find_sweeps(file, path, electrodes[chosen].series)
        return _joined(path, chosen, sweeps, cells, scale)
    series = file[chosen]
    kind = _kind(series)
    if kind in ELECTRODE_KINDS:
        return _joined(path, chosen, find_sweeps(file, path, (series,)), cells, scale)
    if kind in _VOLTAGES:
        raise RecordingError(path, f"{chosen} holds voltages that are not spike-sorted yet")
    return _across(path, chosen, series, cells, scale)


def _all_electrodes(
    file: h5py.File,
    path: str,
    electrodes: Mapping[str, Electrode],
    kind: str,
    cells: Sequence[str] | None,
    scale: float,
) -> Series:
    """Read all electrodes of one kind, or those in the cells asked for."""
    homes = {place: group for place, group in electrodes.items() if group.kind == kind}
    if not homes:
        raise RecordingError(path, f"has no {kind}", elsewhere(file))
    names = tuple(cell_of(group.series[0]) for group in homes.values())
    _, places = _kept(names, cells, path, kind)
    wanted = [list(homes)[place] for place in places]
    return sampled_together(
        [
            _joined(path, place, find_sweeps(file, path, homes[place].series), None, scale)
            for place in wanted
        ],
        path,
    )


def _across(
    path: str, name: str, series: h5py.Group, cells: Sequence[str] | None, scale: float
) -> Series:
    """Read a series with one column a cell."""
    count, columns = shape_of(series, path)
    names = _stated_names(series, columns) or _region_names(series, path)
    _refuse_transposed(series, path, count, columns, names)
    if names is None:
        names = tuple(str(place) for place in range(columns))
    elif len(names) != columns:
        raise RecordingError(path, f"{name} has {columns} columns for {len(names)} regions")
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise RecordingError(path, f"{name} has regions of the same id: {twice[:5]}")
    times = stated_times(series, path, count, what="sample")
    kept, places = _kept(names, cells, path, name)
    values, unit = read_values(series, path, slice(0, count), places, scale)
    check_values(values, kept, unit, path, name)
    return Series(name, _kind(series), unit, kept, times, values, ((0, count),))


def _joined(
    path: str, name: str, sweeps: Sequence[Sweep], cells: Sequence[str] | None, scale: float
) -> Series:
    """Join sweeps of one electrode in order of time."""
    lengths = [sweep.stop - sweep.start for sweep in sweeps]
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends[:-1]]
    alone = len(sweeps) == 1
    times = sweeps[0].times if alone else np.concatenate([sweep.times for sweep in sweeps])
    values = np.empty((ends[-1], 1))
    units = []
    for sweep, start, end in zip(sweeps, starts, ends, strict=True):
        part = slice(sweep.start, sweep.stop)
        _, unit = read_values(sweep.series, path, part, (0,), scale, out=values[start:end])
        units.append(unit)
    if len(set(units)) > 1:
        raise RecordingError(
            path, f"sweeps of {name} are in {sorted(set(units))}", "choose one with name="
        )
    kept, _ = _kept((cell_of(sweeps[0].series),), cells, path, name)
    check_values(values, kept, units[0], path, name)
    ranges = tuple(zip(starts, ends, strict=True))
    return Series(name, _kind(sweeps[0].series), units[0], kept, times, values, ranges)


def _choose(file: h5py.File, path: str, name: str | None, kinds: Collection[str] | None) -> str:
    """Return the place of the response asked for, or of the only one."""
    found = {
        place: kind for place, kind in find_responses(file).items() if not kinds or kind in kinds
    }
    if name is None:
        return _only(file, path, found)
    wanted = name.strip("/")
    if wanted in found:
        return wanted
    same = [place for place in found if place.rsplit("/", 1)[-1] == wanted]
    same = same or [
        place
        for place, group in find_electrodes(file).items()
        if place in found and cell_of(group.series[0]) == wanted
    ]
    same = same or [
        _place(series) for series in _series(file) if _place(series).rsplit("/", 1)[-1] == wanted
    ]
    if len(same) > 1:
        raise RecordingError(path, f"has {len(same)} responses {name!r}", f"say which: {same}")
    if same:
        return same[0]
    thing = file.get(wanted)
    if not (isinstance(thing, h5py.Group) and isinstance(thing.get("data"), h5py.Dataset)):
        raise RecordingError(
            path, f"has no response {name!r}", f"it has {', '.join(found) or 'none'}"
        )
    return wanted


def _only(file: h5py.File, path: str, found: Mapping[str, str]) -> str:
    """Return the only response, or say what there is."""
    if not found:
        hint = "its spikes are read as spikes" if "units" in file else elsewhere(file)
        raise RecordingError(path, "has no sampled responses of cells", hint)
    if len(found) > 1:
        words = ", ".join(f"{place} ({kind})" for place, kind in found.items())
        alike = set(found.values())
        if len(alike) == 1 and alike <= set(ELECTRODE_KINDS):
            words += f", or all of them: {alike.pop()}"
        raise RecordingError(path, f"has {len(found)} responses", f"choose one by name: {words}")
    return next(iter(found))


def _series(file: h5py.File) -> list[h5py.Group]:
    """Return every series that could be a response, in the order of the file."""
    found: list[h5py.Group] = []

    def visit(_: str, thing: Any) -> None:
        if not isinstance(thing, h5py.Group) or not isinstance(thing.get("data"), h5py.Dataset):
            return
        if _kind(thing) in (_ROI, BINNED, *ELECTRODE_KINDS):
            found.append(thing)

    for room in _ROOMS:
        if isinstance(file.get(room), h5py.Group):
            file[room].visititems(visit)
    return found


def _may_be_binned(file: h5py.File, series: h5py.Group) -> bool:
    """Tell whether a plain series may hold counts or rates of cells."""
    place, data = _place(series), series["data"]
    if _stated_names(series, data.shape[1] if data.ndim == 2 else 1):
        return True
    if place.startswith("acquisition/") or data.ndim not in (1, 2) or data.dtype.kind not in "iuf":
        return False
    shown = file.get("stimulus/presentation")
    films = list(shown) if isinstance(shown, h5py.Group) else []
    if any(place.startswith(f"processing/misc/{film}_") for film in films):
        return False  # what this package writes about the frames of a movie
    unit = _plain(text(data.attrs.get("unit", "")))
    return unit in _RATES or (data.ndim == 2 and unit in _OPEN)


def _stated_names(series: h5py.Group, columns: int) -> tuple[str, ...] | None:
    """Return the cells that this package noted when it wrote a series, None for other files."""
    note = read_note(text(series.attrs.get("comments", "")))
    names = note.get("cells") if note and note.get("kind") == "trace" else None
    return tuple(map(str, names)) if isinstance(names, list) and len(names) == columns else None


def _region_names(series: h5py.Group, path: str) -> tuple[str, ...] | None:
    """Return the ids of the regions of a series, None if it does not refer to any."""
    rois = series.get("rois")
    if not isinstance(rois, h5py.Dataset) or "table" not in rois.attrs:
        if _kind(series) == _ROI:
            _log.warning("%s: %s names no regions; they are numbered", path, series.name)
        return None
    table = followed(series.file, rois.attrs["table"], path, str(rois.name))
    ids, rows = np.ravel(table["id"][()]), np.ravel(rois[()])
    if rows.dtype.kind not in "iu" or (rows.size and not 0 <= rows.min() <= rows.max() < ids.size):
        raise RecordingError(
            path,
            f"{series.name} refers to regions that are not among the {ids.size} of {table.name}",
            "write the file again",
        )
    return tuple(text(one) for one in ids[rows].tolist())


def _refuse_transposed(
    series: h5py.Group, path: str, count: int, columns: int, names: tuple[str, ...] | None
) -> None:
    stamps = series.get("timestamps")
    times = stamps.size if isinstance(stamps, h5py.Dataset) else None
    turned = times == columns != count
    if times is None and names is not None:
        turned = len(names) == count != columns
    if turned:
        raise RecordingError(
            path,
            f"{series.name} holds {count} by {columns} values, which is (cell, time)",
            "NWB wants (time, cell): write the transposed data",
        )


def _kept(
    names: tuple[str, ...], cells: Sequence[str] | None, path: str, series: str
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if cells is None:
        return names, tuple(range(len(names)))
    wanted = tuple(str(cell) for cell in cells)
    missing = [cell for cell in wanted if cell not in names]
    if missing or not wanted:
        raise RecordingError(path, f"{series} has no {listed(missing)}", f"it has {list(names)}")
    return wanted, tuple(names.index(cell) for cell in wanted)


def _kind(thing: h5py.Group) -> str:
    return text(thing.attrs.get("neurodata_type", ""))


def _place(thing: h5py.Group) -> str:
    return str(thing.name).strip("/")


def _plain(unit: str) -> str:
    return unit.strip().lower()
