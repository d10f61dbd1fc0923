"""Tables of concepts in files: which named things hold at which frame or image."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, RecordingError

__all__ = ["read_concepts"]

Array = npt.NDArray[Any]
_TRUTHS = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False}
_TRUTHS |= {"1.0": True, "0.0": False}


def read_concepts(path: str | Path, *, dim: str = "image") -> xr.DataArray:
    """Read which concepts hold where, from a table.

    Parameters
    ----------
    path : str or Path
        ``.csv``: a column for each concept, named in the first line, a line for each frame or
        image, with 0 and 1 or true and false; a column called like `dim` holds their times or
        numbers. ``.npz``: one array (position,) for each concept, or two arrays, ``concept`` of
        names and ``values`` (concept, position). ``.zarr`` or ``.nc``: a result with two dims.
    dim : str, default "image"
        What the positions are: ``"time"`` or ``"image"``.

    Returns
    -------
    xarray.DataArray of bool (concept, `dim`)
        The table.

    Raises
    ------
    RecordingError
        If the file cannot be read as such a table.
    InputError
        If its name has another ending.
    """
    place = Path(path)
    readers = {".csv": _csv, ".npz": _npz, ".zarr": _result, ".nc": _result}
    if place.suffix not in readers:
        raise InputError(f"concepts: expected .csv, .npz, .zarr or .nc, got {place.name}")
    if not place.exists():
        raise RecordingError(place, "there is no such file")
    return readers[place.suffix](place, dim)


def _csv(path: Path, dim: str) -> xr.DataArray:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(path, f"not a table of text: {error}") from error
    if len(rows) < 2:
        raise RecordingError(path, "no rows", "name the concepts in the first line")
    names = [name.strip() for name in rows[0]]
    columns: dict[str, list[str]] = {name: [] for name in names}
    if len(columns) < len(names):
        raise RecordingError(path, "two columns have one name")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise RecordingError(path, f"line {line} has {len(row)} values, expected {len(names)}")
        for name, value in zip(names, row, strict=True):
            columns[name].append(value.strip())
    coords = {}
    if dim in columns:
        coords[dim] = _numbers(path, columns.pop(dim))
    table = [_truths(path, name, values) for name, values in columns.items()]
    return _made(path, list(columns), table, dim, coords)


def _numbers(path: Path, values: Sequence[str]) -> Array:
    try:
        return np.array([float(one) for one in values])
    except ValueError as error:
        raise RecordingError(path, f"a time or number is none: {error}") from error


def _truths(path: Path, name: str, values: Sequence[str]) -> Array:
    wrong = [value for value in values if value.lower() not in _TRUTHS]
    if wrong:
        raise RecordingError(
            path, f"column {name!r} holds {wrong[0]!r}", "write 0 and 1, or true and false"
        )
    return np.array([_TRUTHS[value.lower()] for value in values])


def _npz(path: Path, dim: str) -> xr.DataArray:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise RecordingError(path, f"not an .npz of plain arrays: {error}") from error
    coords = {dim: arrays.pop(dim)} if dim in arrays else {}
    if set(arrays) == {"concept", "values"}:
        arrays = _named(path, arrays["concept"].astype(str).tolist(), arrays["values"])
    table = [_binary(path, name, values) for name, values in arrays.items()]
    return _made(path, list(arrays), table, dim, coords)


def _named(path: Path, names: list[str], values: Array) -> dict[str, Array]:
    """Return the rows of a table by their names."""
    if values.ndim != 2 or len(names) != len(values):
        raise RecordingError(path, f"{len(names)} names for values of shape {values.shape}")
    if len(set(names)) < len(names):
        raise RecordingError(path, "two concepts have one name")
    return dict(zip(names, values, strict=True))


def _binary(path: Path, name: str, values: Array) -> Array:
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise RecordingError(path, f"{name!r} holds more than 0 and 1", "compare with a threshold")
    return np.asarray(values.astype(np.bool_))


def _result(path: Path, dim: str) -> xr.DataArray:
    from retinacodec.store import open_result

    found = open_result(path)
    if isinstance(found, xr.Dataset):
        tables = [one for one in found.data_vars.values() if one.ndim == 2 and dim in one.dims]
        if len(tables) != 1:
            raise RecordingError(path, f"{len(tables)} tables over {dim}, expected one")
        found = tables[0]
    if not isinstance(found, xr.DataArray) or found.ndim != 2 or dim not in found.dims:
        raise RecordingError(path, f"expected a table (concept, {dim})")
    table = found.transpose(..., dim)
    values = _binary(path, str(found.name or "table"), np.asarray(table.values))
    named = table.copy(data=values)
    return named.rename({table.dims[0]: "concept"}) if table.dims[0] != "concept" else named


def _made(
    path: Path, names: list[str], table: list[Array], dim: str, coords: dict[str, Array]
) -> xr.DataArray:
    lengths = {one.shape for one in [*table, *coords.values()]}
    if not table or len(lengths) != 1 or len(lengths.pop()) != 1:
        raise RecordingError(path, f"expected one row of values along {dim} for each concept")
    return xr.DataArray(
        np.stack(table), {"concept": names, **coords}, ("concept", dim), name="concept_mask"
    )
