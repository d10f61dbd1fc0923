"""Which intracellular sweeps of an NWB 2 file belong to one cell, and in which order they came."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.nwb_spikes import text
from retinacodec.nwb_times import number, stated_times
from retinacodec.sample_values import shape_of

__all__ = [
    "ELECTRODE_KINDS",
    "Electrode",
    "Sweep",
    "cell_of",
    "find_electrodes",
    "find_sweeps",
    "followed",
]

_log = logging.getLogger(__name__)

ELECTRODE_KINDS = (
    "CurrentClampSeries",
    "IZeroClampSeries",
    "VoltageClampSeries",
    "PatchClampSeries",
)
"""Types of series that were recorded through an electrode inside or on a cell."""

_ROOMS = ("acquisition", "processing", "analysis")
_TABLE = "general/intracellular_ephys/intracellular_recordings/responses/response"


@dataclass(frozen=True)
class Electrode:
    """What was recorded through one electrode with one kind of amplifier setting.

    Parameters
    ----------
    kind : str
        Type of the series in NWB.
    series : tuple of h5py.Group
        The series, in the order of the file.
    """

    kind: str
    series: tuple[h5py.Group, ...]


@dataclass(frozen=True)
class Sweep:
    """A run of samples of one series.

    Parameters
    ----------
    series : h5py.Group
        Where it lies.
    start, stop : int
        First sample and the one after the last.
    times : ndarray (sample,)
        When each was taken, s.
    """

    series: h5py.Group
    start: int
    stop: int
    times: NDArray[np.float64]


def find_electrodes(file: h5py.File) -> dict[str, Electrode]:
    """Return the intracellular recordings of a file, one for each electrode and kind.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.

    Returns
    -------
    dict of str to Electrode
        Under the place of the series where there is one, else of the electrode, with the kind
        behind it where an electrode was used in several ways.
    """
    groups: dict[tuple[str, str], list[h5py.Group]] = {}

    def visit(_: str, thing: Any) -> None:
        if not isinstance(thing, h5py.Group) or not isinstance(thing.get("data"), h5py.Dataset):
            return
        kind = text(thing.attrs.get("neurodata_type", ""))
        if kind in ELECTRODE_KINDS:
            groups.setdefault((str(_home(thing).name).strip("/"), kind), []).append(thing)

    for room in _ROOMS:
        if isinstance(file.get(room), h5py.Group):
            file[room].visititems(visit)
    homes = [home for home, _ in groups]
    found = {}
    for (home, kind), series in groups.items():
        several = f"{home} {kind}" if homes.count(home) > 1 else home
        place = str(series[0].name).strip("/") if len(series) == 1 else several
        found[place] = Electrode(kind, tuple(series))
    return found


def find_sweeps(file: h5py.File, path: str, series: Sequence[h5py.Group]) -> list[Sweep]:
    """Return the sweeps of some series in order of time.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.
    series : sequence of h5py.Group
        Series of one electrode.

    Returns
    -------
    list of Sweep
        Those that the file's table of intracellular recordings lists, if it lists any of the
        series, else each series as one sweep.

    Raises
    ------
    RecordingError
        If the table points beyond the data, or sweeps overlap in time.

    Notes
    -----
    Time alone orders the sweeps. Where ``sweep_number`` or the rows of the table say otherwise
    there is a notice.
    """
    listed = _listed_ranges(file, path, series)
    whole = listed is None
    parts = listed or [(place, 0, None) for place in range(len(series))]
    times: dict[int, NDArray[np.float64]] = {}
    sweeps = []
    for place, start, stop in parts:
        if place not in times:
            count, columns = shape_of(series[place], path)
            if columns != 1:
                name = series[place].name
                raise RecordingError(path, f"{name} has {columns} columns, expected one electrode")
            times[place] = stated_times(series[place], path, count, what="sample")
        end = times[place].size if stop is None else stop
        if not 0 <= start < end <= times[place].size:
            raise RecordingError(
                path,
                f"a recording is samples {start} to {end} of {series[place].name}, "
                f"which has {times[place].size}",
                "correct the table of intracellular recordings",
            )
        sweeps.append(Sweep(series[place], start, end, times[place][start:end]))
    order = sorted(range(len(sweeps)), key=lambda k: float(sweeps[k].times[0]))
    _refuse_overlap([sweeps[k] for k in order], path)
    numbers = [_sweep_number(sweeps[k].series) for k in order]
    stated = [one for one in numbers if one is not None]
    if stated != sorted(stated) or (not whole and order != sorted(order)):
        words = "%s: the sweeps of %s are not numbered in order of time; time is used"
        _log.warning(words, path, cell_of(series[0]))
    return [sweeps[k] for k in order]


def cell_of(series: h5py.Group) -> str:
    """Return the name of the cell that a series was recorded from.

    Parameters
    ----------
    series : h5py.Group
        An intracellular series.

    Returns
    -------
    str
        ``cell_id`` of its electrode, else the name of the electrode, else of the series.
    """
    home = _home(series)
    stated = home.get("cell_id")
    single = isinstance(stated, h5py.Dataset) and stated.size == 1
    named = text(np.ravel(stated[()])[0]) if single else ""
    return named or str(home.name).rsplit("/", 1)[-1]


def followed(file: h5py.File, reference: Any, path: str, source: str) -> h5py.Group:
    """Return the group that a reference in a file leads to.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    reference : h5py.Reference
        As read from the file.
    path : str
        Name of the file, for messages.
    source : str
        What holds the reference, for messages.

    Returns
    -------
    h5py.Group
        Where it leads.

    Raises
    ------
    RecordingError
        If it leads nowhere, as after copying a part of a file into another.
    """
    try:
        return file[reference]
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise RecordingError(
            path,
            f"{source} refers to something that is not in the file",
            "was it copied from another file? copy whole files, or export them with pynwb",
        ) from error


def _home(series: h5py.Group) -> h5py.Group:
    """Return the electrode of a series, else the series itself."""
    electrode = series.get("electrode")
    if not isinstance(electrode, h5py.Group):
        return series
    room = series.file.get("general/intracellular_ephys")
    known = list(room.values()) if isinstance(room, h5py.Group) else []
    return next((one for one in known if one == electrode), electrode)  # by its own name


def _listed_ranges(
    file: h5py.File, path: str, series: Sequence[h5py.Group]
) -> list[tuple[int, int, int | None]] | None:
    """Return the runs of samples that the table of recordings gives for some of the series."""
    column = file.get(_TABLE)
    if not isinstance(column, h5py.Dataset) or not column.dtype.names:
        return None
    places = {str(one.name): place for place, one in enumerate(series)}
    found: list[tuple[int, int, int | None]] = []
    for start, count, reference in column[()].tolist():
        if not reference or start < 0 or count < 0:
            continue  # rows without a response hold -1
        place = places.get(str(followed(file, reference, path, str(column.name)).name))
        row = None if place is None else (place, int(start), int(start) + int(count))
        if row is not None and row not in found:
            found.append(row)
    left_out = len(series) - len({place for place, _, _ in found})
    if found and left_out:
        words = "%s: %d series of %s are in no row of the table of recordings and are left out"
        _log.warning(words, path, left_out, cell_of(series[0]))
    return found or None


def _refuse_overlap(sweeps: Sequence[Sweep], path: str) -> None:
    for early, late in pairwise(sweeps):
        if late.times[0] <= early.times[-1]:
            raise RecordingError(
                path,
                f"sweeps {early.series.name} and {late.series.name} overlap at {late.times[0]:g} s",
                "if the clock restarts with each sweep, read one of them by name",
            )


def _sweep_number(series: h5py.Group) -> int | None:
    stated = number(series.attrs.get("sweep_number", []))
    return int(stated) if np.isfinite(stated) else None
