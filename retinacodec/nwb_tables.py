"""Tables of an NWB 2 file (intervals, events, parameters of stimuli) as plain columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.nwb_spikes import text

__all__ = ["is_table", "plain_columns", "stimulus_parameters", "stimulus_tables"]

_TIMES = ("start_time", "stop_time")
_NO_PARAMETERS = {*_TIMES, "id", "tags", "timeseries", "stimulus_name", "repeat"}

Array = NDArray[Any]


def is_table(thing: Any) -> bool:
    """Tell whether something in a file is a table.

    Parameters
    ----------
    thing : object
        What lies in a file.

    Returns
    -------
    bool
        True for a group that lists its columns, or has a start and a stop time for each row.
    """
    return isinstance(thing, h5py.Group) and (
        "colnames" in thing.attrs
        or all(isinstance(thing.get(column), h5py.Dataset) for column in _TIMES)
    )


def plain_columns(table: h5py.Group, path: str) -> dict[str, Array]:
    """Return the columns of a table that hold numbers or words, in the order of their names.

    Parameters
    ----------
    table : h5py.Group
        The table.
    path : str
        Name of the file, for messages.

    Returns
    -------
    dict of str to ndarray (row,)
        Numbers, or words as ``object``. A row that points into another table becomes the words
        of that row; columns of references and of several numbers a row are left out.

    Raises
    ------
    RecordingError
        If columns are of different lengths.
    """
    found: dict[str, Array] = {}
    for name, column in table.items():
        if name == "id" or not isinstance(column, h5py.Dataset) or column.ndim != 1:
            continue
        if name.endswith("_index") or f"{name}_index" in table:
            continue
        values = _plain(column, table)
        if values is not None:
            found[name] = values
    lengths = {name: values.size for name, values in found.items()}
    if len(set(lengths.values())) > 1:
        raise RecordingError(
            path, f"columns of {table.name} have different lengths: {lengths}", "write it again"
        )
    return found


def _plain(column: h5py.Dataset, table: h5py.Group) -> Array | None:
    if "table" in column.attrs and column.dtype.kind in "iu":
        target = column.attrs["table"]
        words = _row_words(table.file[target]) if isinstance(target, h5py.Reference) else None
        rows = np.asarray(column[()])
        if words is None or (rows.size and not 0 <= rows.min() <= rows.max() < words.size):
            return rows
        return words[rows]
    if column.dtype.kind in "biuf":
        return np.asarray(column[()])
    if h5py.check_string_dtype(column.dtype) is None:
        return None
    return np.array([text(value) for value in column[()].tolist()], object)


def _row_words(table: Any) -> Array | None:
    """Return the first column of words of a table, which names its rows."""
    for column in table.values() if isinstance(table, h5py.Group) else ():
        if isinstance(column, h5py.Dataset) and h5py.check_string_dtype(column.dtype) is not None:
            return np.array([text(value) for value in column[()].tolist()], object)
    return None


def stimulus_tables(file: h5py.File) -> Iterator[tuple[str, h5py.Group]]:
    """Yield the place and the group of every table that may describe stimuli.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.

    Yields
    ------
    (str, h5py.Group)
        Tables of ``/intervals`` and of ``/stimulus``.
    """
    for room in ("intervals", "stimulus/presentation", "stimulus/templates"):
        held = file.get(room)
        for name, group in held.items() if isinstance(held, h5py.Group) else ():
            if is_table(group):
                yield f"{room}/{name}", group


def stimulus_parameters(file: h5py.File, path: str) -> dict[str, xr.Dataset]:
    """Return what a file says in numbers and words about stimuli of which it keeps no picture.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.

    Returns
    -------
    dict of str to xarray.Dataset
        By place in the file: tables with columns beside times, names and repeats, one variable
        (row) for each column, words as ``object``; and series of features, one variable (time)
        for each feature with its units.

    Raises
    ------
    RecordingError
        If a table or series is broken.
    """
    found: dict[str, xr.Dataset] = {}
    for place, table in stimulus_tables(file):
        columns = plain_columns(table, path)
        if set(columns) - _NO_PARAMETERS:
            found[place] = xr.Dataset({name: ("row", values) for name, values in columns.items()})
    held = file.get("stimulus/presentation")
    for name, group in held.items() if isinstance(held, h5py.Group) else ():
        if isinstance(group, h5py.Group) and isinstance(group.get("features"), h5py.Dataset):
            found[f"stimulus/presentation/{name}"] = _features(group, path)
    return found


def _features(group: h5py.Group, path: str) -> xr.Dataset:
    """Return a series of features over time."""
    from retinacodec.nwb_times import stated_times

    names = [text(name) for name in group["features"][()].tolist()]
    data = np.asarray(group["data"][()])
    data = data[:, None] if data.ndim == 1 else data
    units = [text(unit) for unit in group["feature_units"][()]] if "feature_units" in group else []
    if data.ndim != 2 or data.shape[1] != len(names):
        raise RecordingError(
            path, f"{group.name} has {len(names)} features, but data of shape {data.shape}"
        )
    units = units if len(units) == len(names) else [""] * len(names)
    times = stated_times(group, path, len(data), what="value")
    return xr.Dataset(
        {
            name: ("time", data[:, place], {"units": unit})
            for place, (name, unit) in enumerate(zip(names, units, strict=True))
        },
        coords={"time": ("time", times, {"units": "s"})},
    )
