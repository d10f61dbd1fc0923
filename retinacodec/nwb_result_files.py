"""How a tree of plain datasets lies in an NWB file: series over time, tables, and a note."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import InputError
from retinacodec.nwb_traces import plain_name

__all__ = ["Shelf", "mark", "stored_tree", "tree_note"]

_ROOM = "analysis"
_SLAB_BYTES = 1 << 25
_CHUNK_BYTES = 1 << 18
_SMALL = 16  # values up to which an array is kept in the note where no table has room for it
_MOST_FILL = 1 << 28  # values of an array that is NaN throughout
_LOOKED_AT = 200  # rows that inspectors look at

Array = NDArray[Any]


@dataclass
class Shelf:
    """A place in an open file for the parts of one result.

    Parameters
    ----------
    file : h5py.File
        Open for writing.
    kind : str
        What the result is, such as "predictions"; names of its parts begin with it.
    words : str
        Where it comes from, for the descriptions.
    """

    file: h5py.File
    kind: str
    words: str

    def group(self, name: str, neurodata_type: str, namespace: str, description: str) -> h5py.Group:
        """Make a new object of NWB under a name that is free."""
        room = self.file.require_group(_ROOM)
        free, number = plain_name(name), 1
        while free in room:
            number += 1
            free = f"{plain_name(name)} {number}"
        made = room.create_group(free)
        mark(made, neurodata_type, namespace)
        made.attrs["description"] = f"{description}. {self.words}"
        return made


def tree_note(tree: xr.DataTree, shelf: Shelf) -> dict[str, Any]:
    """Write a tree and return the note from which `stored_tree` restores it.

    Parameters
    ----------
    tree : xarray.DataTree
        From `retinacodec.plain_trees.to_plain_tree`.
    shelf : Shelf
        Where to.

    Returns
    -------
    dict
        Nodes, their attributes, and the place of every variable; plain enough for JSON.

    Raises
    ------
    InputError
        If a variable holds neither numbers nor texts.

    Notes
    -----
    Variables over a rising ``time`` that are longer than wide become time series, with time
    first; others become columns of a table with one row for each entry of the first dimension
    that has several. More than four dimensions are folded from the back. A few values, and
    arrays that are NaN throughout, are kept in the note.
    """
    nodes = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        label = f"{shelf.kind} {node.path.strip('/')}".strip()
        nodes[node.path] = {
            "attrs": dict(dataset.attrs),
            "variables": _write_node(dataset, label, shelf),
        }
    return {"nodes": nodes}


def stored_tree(file: h5py.File, note: Mapping[str, Any]) -> xr.DataTree:
    """Read a tree again.

    Parameters
    ----------
    file : h5py.File
        The open file.
    note : mapping
        From `tree_note`.

    Returns
    -------
    xarray.DataTree
        The same values, coordinates and attributes.
    """
    nodes = {}
    for path, node in note["nodes"].items():
        variables = {
            name: xr.Variable(how["dims"], _values(file, how), how["attrs"])
            for name, how in node["variables"].items()
        }
        coords = [name for name, how in node["variables"].items() if how["coordinate"]]
        dataset = xr.Dataset(
            {name: one for name, one in variables.items() if name not in coords},
            {name: variables[name] for name in coords},
            attrs=node["attrs"],
        )
        nodes[path] = dataset
    return xr.DataTree.from_dict(nodes)


def _write_node(dataset: xr.Dataset, label: str, shelf: Shelf) -> dict[str, Any]:
    """Write the variables of one node, each to where it fits."""
    notes: dict[str, Any] = {}
    tables: dict[str, dict[str, xr.Variable]] = {}
    clock = _clock(dataset)
    for name, variable in dataset.variables.items():
        values = _text_or_number(variable, f"{label} {name}")
        how = notes[str(name)] = {
            "dims": [str(dim) for dim in variable.dims],
            "shape": list(variable.shape),
            "dtype": str(values.dtype),
            "attrs": dict(variable.attrs),
            "coordinate": name in dataset.coords,
        }
        several = [str(dim) for dim, size in variable.sizes.items() if size > 1]
        if not several or not variable.size:
            how["values"] = values.values.tolist()
        elif clock is not None and _is_series(values, len(clock)):
            how |= _write_series(f"{label} {name}", values, clock, shelf)
        elif values.dtype.kind == "f" and _nothing_but_nan(values):
            how["fill"] = "nan"
        else:
            tables.setdefault(several[0], {})[str(name)] = values
    for dim, columns in tables.items():
        _write_table(f"{label} {dim}", dim, columns, shelf, notes)
    return notes


def _text_or_number(variable: xr.Variable, what: str) -> xr.Variable:
    if variable.dtype.kind in "biuf":
        return variable
    if variable.dtype.kind in "OUT":
        texts = np.asarray(variable.values, dtype=object)
        if all(isinstance(one, str) for one in texts.ravel()):
            return xr.Variable(variable.dims, texts.astype(str), variable.attrs)
    raise InputError(f"{what}: holds {variable.dtype}, expected numbers or texts")


def _clock(dataset: xr.Dataset) -> NDArray[np.float64] | None:
    """Return the times of a node if a series can have them."""
    if "time" not in dataset.coords or dataset["time"].dims != ("time",):
        return None
    time = dataset["time"].values
    fine = time.size > 1 and time.dtype.kind in "iuf" and np.isfinite(time).all()
    if not fine or time[0] < 0 or (np.diff(time) <= 0).any():
        return None
    return np.asarray(time, np.float64)


def _is_series(variable: xr.Variable, frames: int) -> bool:
    if "time" not in variable.dims or variable.dtype.kind not in "biuf":
        return False
    return max(_folded(_time_first(variable).shape)[1:], default=1) <= frames


def _time_first(variable: xr.Variable) -> xr.Variable:
    return variable.transpose("time", ...)


def _folded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Fold what is beyond four dimensions into the last."""
    return shape if len(shape) <= 4 else (*shape[:3], int(np.prod(shape[3:])))


def _nothing_but_nan(variable: xr.Variable) -> bool:
    return all(bool(np.isnan(slab).all()) for _, slab in _slabs(variable))


def _slabs(variable: xr.Variable) -> Iterator[tuple[int, Array]]:
    """Yield parts along the first dimension, so that lazy variables are never whole in memory."""
    row = variable.dtype.itemsize * max(1, variable.size // max(1, len(variable)))
    step, first = max(1, _SLAB_BYTES // row), variable.dims[0]
    for start in range(0, len(variable), step):
        yield start, np.asarray(variable.isel({first: slice(start, start + step)}).values)


def _write_series(
    name: str, variable: xr.Variable, clock: NDArray[np.float64], shelf: Shelf
) -> dict[str, Any]:
    """Write a time series with a rate where its times are regular."""
    ordered = _time_first(variable)
    words = _words(name, ordered)
    group = shelf.group(name, "TimeSeries", "core", words)
    group.attrs["comments"] = "written by retinacodec"
    kind = np.dtype(np.uint8) if ordered.dtype == bool else ordered.dtype
    data = _fill(group, "data", ordered, kind)
    data.attrs.update(
        {
            "unit": str(variable.attrs.get("units", "") or "n.a."),
            "conversion": 1.0,
            "offset": 0.0,
            "resolution": -1.0,
        }
    )
    if np.unique(np.diff(clock).round(9)).size == 1:
        start = group.create_dataset("starting_time", data=float(clock[0]))
        start.attrs["rate"] = float((clock.size - 1) / (clock[-1] - clock[0]))
        start.attrs["unit"] = "seconds"
    else:
        times = group.create_dataset("timestamps", data=clock, compression="gzip", shuffle=True)
        times.attrs["interval"] = np.int32(1)
        times.attrs["unit"] = "seconds"
    return {"at": data.name, "stored": [str(dim) for dim in ordered.dims]}


def _write_table(
    name: str,
    dim: str,
    columns: Mapping[str, xr.Variable],
    shelf: Shelf,
    notes: dict[str, Any],
) -> None:
    """Write variables with one row for each entry of a dimension; a few values alone are noted."""
    if all(variable.size <= _SMALL for variable in columns.values()):
        for key, variable in columns.items():
            notes[key]["values"] = variable.values.tolist()
        return
    table = shelf.group(name, "DynamicTable", "hdmf-common", f"{name}: one row for each {dim}")
    rows = next(iter(columns.values())).sizes[dim]
    ids = table.create_dataset("id", data=np.arange(rows))
    mark(ids, "ElementIdentifiers", "hdmf-common")
    names: list[str] = []
    for key, variable in columns.items():
        ordered = variable.transpose(dim, ...)
        column = _column_name(key, names)
        names.append(column)
        data = _fill(table, column, ordered, _column_dtype(ordered))
        mark(data, "VectorData", "hdmf-common")
        data.attrs["description"] = _words(key, ordered)
        notes[key] |= {"at": data.name, "stored": [str(one) for one in ordered.dims]}
    table.attrs["colnames"] = np.array(names, dtype=h5py.string_dtype())


def _column_name(key: str, taken: list[str]) -> str:
    """Return a free name; ``_time`` at its end would promise seconds of the session."""
    name = plain_name(key)
    name = f"{name}s" if name.endswith("_time") or name in ("id", "") else name
    while name in taken:
        name += "_"
    return name


def _column_dtype(variable: xr.Variable) -> Any:
    """Return the type in the file; zeros and ones go into a byte, as inspectors ask."""
    if variable.dtype.kind == "U":
        return h5py.string_dtype()
    if variable.dtype.itemsize > 1:
        head = np.unique(variable[:_LOOKED_AT].values)
        if head.size == 2 and set(head.tolist()) == {0, 1}:
            values = variable.values
            if values.astype(np.int8).astype(values.dtype).tobytes() == values.tobytes():
                return np.dtype(np.int8)
    return variable.dtype


def _fill(group: h5py.Group, name: str, variable: xr.Variable, dtype: Any) -> h5py.Dataset:
    """Write a variable slab by slab, in chunks with gzip."""
    shape = _folded(variable.shape)
    packing: dict[str, Any] = {}
    if variable.dtype.kind != "U":
        row = max(1, variable.dtype.itemsize * (variable.size // len(variable)))
        chunk = (min(shape[0], max(1, _CHUNK_BYTES // row)), *shape[1:])
        packing = {"chunks": chunk, "compression": "gzip", "compression_opts": 4, "shuffle": True}
    data = group.create_dataset(name, shape=shape, dtype=dtype, **packing)
    for start, slab in _slabs(variable):
        flat = slab.reshape(len(slab), *shape[1:])
        data[start : start + len(slab)] = flat.astype(object) if slab.dtype.kind == "U" else flat
    return data


def _words(name: str, variable: xr.Variable) -> str:
    words = str(variable.attrs.get("long_name", "")) or name
    units = str(variable.attrs.get("units", ""))
    dims = ", ".join(f"{dim} {size}" for dim, size in variable.sizes.items())
    return f"{words}{f' in {units}' if units else ''}; axes ({dims})"


def mark(thing: Any, neurodata_type: str, namespace: str) -> None:
    """Give an object of HDF5 the type and id that NWB wants.

    Parameters
    ----------
    thing : h5py.Group or h5py.Dataset
        The object.
    neurodata_type, namespace : str
        Its type and where that is defined.
    """
    thing.attrs["neurodata_type"] = neurodata_type
    thing.attrs["namespace"] = namespace
    thing.attrs["object_id"] = str(uuid.uuid4())


def _values(file: h5py.File, how: Mapping[str, Any]) -> Array:
    """Read a variable back in its own type and order of dimensions."""
    shape, dtype = tuple(how["shape"]), np.dtype(how["dtype"])
    if "values" in how:
        return np.asarray(how["values"], dtype=dtype).reshape(shape)
    if "fill" in how:
        if np.prod(shape, dtype=float) > _MOST_FILL:
            raise ValueError(f"shape {shape} is absurd")
        return np.full(shape, np.nan, dtype)
    data = file[how["at"]]
    values = data.asstr()[()] if dtype.kind == "U" else data[()]
    stored, dims = how["stored"], how["dims"]
    ordered = np.asarray(values).reshape([shape[dims.index(dim)] for dim in stored])
    back = ordered.transpose([stored.index(dim) for dim in dims])
    return np.ascontiguousarray(back.astype(dtype, copy=False))
