"""Results on disk: saved whole or not at all, and read back exactly as they were."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

import retinacodec
from retinacodec.atomic import replacing
from retinacodec.errors import InputError, RecordingError
from retinacodec.provenance import file_sha256, provenance

__all__ = ["ResultError", "file_sha256", "open_result", "provenance", "replacing", "save"]

Result = xr.Dataset | xr.DataArray | xr.DataTree

_CHUNK_BYTES = 8_000_000
_MARK = "retinacodec_"
_JSON = "json:"
_NAMELESS = "values"
_INTEGER_LIMIT = 2**63


class ResultError(RecordingError):
    """A saved result cannot be opened; ``path``, ``what`` and ``hint`` say why."""


def save(result: Result, path: str | Path, *, overwrite: bool = False) -> Path:
    """Save a result under a name that ends in .zarr (large results) or .nc (to share).

    Parameters
    ----------
    result : xarray.Dataset, xarray.DataArray or xarray.DataTree
        Any noun of this package: Stimulus, Recording, Contributions, Modes, Fields, rates.
    path : str or Path
        Where to. ``.zarr`` is a folder (Zarr 3), ``.nc`` a netCDF-4 file compressed with gzip,
        which MATLAB, R and Julia read.
    overwrite : bool, default False
        Replace an earlier result of this name.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    InputError
        If the path cannot be used, something is there already, or the result holds what a file
        cannot.

    Notes
    -----
    Everything is written beside its destination under a temporary name and renamed when it is
    complete, so that an interrupted call leaves the earlier state. Attributes that a file format
    does not know (None, booleans, lists, dictionaries) are kept as JSON text.

    Examples
    --------
    >>> import tempfile
    >>> rate = xr.DataArray([1.0, 2.0], dims="time", name="rate", attrs={"units": "Hz"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     same = open_result(save(rate, Path(folder) / "rate.nc"))
    >>> same.identical(rate)
    True
    """
    target = Path(path)
    layout = _layout(target)
    if not isinstance(result, (xr.Dataset, xr.DataArray, xr.DataTree)):
        raise InputError(
            f"save: expected an xarray Dataset, DataArray or DataTree, got {type(result).__name__}"
        )
    with replacing(target, overwrite=overwrite) as temporary:
        try:
            layout.write(_to_tree(result), temporary)
        except (ValueError, TypeError, NotImplementedError, KeyError) as error:
            raise InputError(f"save: {target.name}: {_first_line(error)}") from error
    return target


def open_result(path: str | Path, *, load: bool = True) -> Any:
    """Open a result that `save` wrote, as the same kind of object with the same contents.

    Parameters
    ----------
    path : str or Path
        The ``.zarr`` folder or ``.nc`` file.
    load : bool, default True
        Read everything into memory. If False, values are read when they are used, and the caller
        closes the result.

    Returns
    -------
    xarray.Dataset, xarray.DataArray or xarray.DataTree
        What was saved.

    Raises
    ------
    InputError
        If there is nothing at the path or its name ends in neither .zarr nor .nc.
    ResultError
        If the file is damaged, incomplete, or was not written by this package.
    """
    target = Path(path)
    layout = _layout(target)
    if not target.exists():
        raise InputError(f"{target}: no such file or folder; check the name")
    layout.check(target)
    try:
        tree = layout.read(target)
    except Exception as error:
        raise ResultError(
            target, f"cannot be read ({_first_line(error)})", "it may be damaged: make it again"
        ) from error
    if f"{_MARK}order" not in tree.attrs:
        tree.close()
        raise ResultError(
            target, "not a result of this package", "open it with xarray, or import a recording"
        )
    if load:
        with contextlib.closing(tree):
            return _from_tree(tree.load())
    result = _from_tree(tree)
    result.set_close(tree.close)
    return result


class _Layout(Protocol):
    """How a tree becomes files."""

    def write(self, tree: xr.DataTree, path: Path) -> None: ...

    def check(self, path: Path) -> None: ...

    def read(self, path: Path) -> xr.DataTree: ...


@dataclass(frozen=True)
class _Zarr:
    """A Zarr 3 folder; the root notes how many files and bytes it must have."""

    def write(self, tree: xr.DataTree, path: Path) -> None:
        import zarr

        tree = tree.map_over_datasets(_variable_length_strings)
        encoding = _encoding(tree, lambda chunks: {"chunks": chunks})
        tree.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
        count, size = _contents(path)
        marks = {f"{_MARK}files": count, f"{_MARK}bytes": size}
        zarr.open_group(path, mode="r+", zarr_format=3).attrs.update(marks)

    def check(self, path: Path) -> None:
        root = path / "zarr.json"
        if not root.is_file():
            raise ResultError(path, "not a Zarr 3 folder", "check the name")
        try:
            attrs = json.loads(root.read_text(encoding="utf-8"))["attributes"]
        except (ValueError, KeyError, OSError) as error:
            raise ResultError(path, "zarr.json is damaged", "make the result again") from error
        wanted = (attrs.get(f"{_MARK}files"), attrs.get(f"{_MARK}bytes"))
        have = _contents(path)
        if wanted[0] is not None and wanted != have:
            raise ResultError(
                path,
                f"incomplete: {have[0]} of {wanted[0]} files, {have[1]} of {wanted[1]} bytes",
                "copy it again, or make it again",
            )

    def read(self, path: Path) -> xr.DataTree:
        return xr.open_datatree(path, engine="zarr", consolidated=False, decode_timedelta=False)


@dataclass(frozen=True)
class _Netcdf:
    """A netCDF-4 file with gzip and byte shuffle, the filters that every reader has."""

    def write(self, tree: xr.DataTree, path: Path) -> None:
        packing = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        encoding = _encoding(tree, lambda chunks: {**packing, "chunksizes": chunks})
        tree.to_netcdf(path, engine="h5netcdf", format="NETCDF4", encoding=encoding)

    def check(self, path: Path) -> None:
        import h5py

        if not path.is_file() or not h5py.is_hdf5(path):
            raise ResultError(path, "not a netCDF-4 file", "check the name")

    def read(self, path: Path) -> xr.DataTree:
        return xr.open_datatree(path, engine="h5netcdf", decode_timedelta=False)


_LAYOUTS: dict[str, _Layout] = {".zarr": _Zarr(), ".nc": _Netcdf()}


def _layout(path: Path) -> _Layout:
    """Return the layout that the name of a result asks for."""
    if path.suffix not in _LAYOUTS:
        raise InputError(f"{path}: expected a name ending in .zarr or .nc, got {path.name!r}")
    return _LAYOUTS[path.suffix]


def _to_tree(result: Result) -> xr.DataTree:
    """Return any result as a tree of plain datasets whose attributes a file can hold."""
    marks: dict[str, Any] = {f"{_MARK}kind": type(result).__name__}
    if isinstance(result, xr.DataArray):
        marks[f"{_MARK}name"] = result.name
        taken = result.name is None or result.name in result.coords
        result = result.to_dataset(name=_NAMELESS if taken else result.name)
        marks[f"{_MARK}variable"] = str(next(iter(result.data_vars)))
    tree = result if isinstance(result, xr.DataTree) else xr.DataTree(result)
    plain = {_below(tree, node): _plain(node.to_dataset(node is tree)) for node in tree.subtree}
    order = {path: [str(name) for name in node.variables] for path, node in plain.items()}
    marks |= {f"{_MARK}root": tree.name, f"{_MARK}order": order}
    marks |= {f"{_MARK}version": retinacodec.__version__}
    if "Conventions" not in plain["/"].attrs:
        marks |= {f"{_MARK}added": ["Conventions"], "Conventions": "CF-1.11"}
    plain["/"].attrs.update(_to_plain_attrs(marks))
    return xr.DataTree.from_dict(plain)


def _from_tree(tree: xr.DataTree) -> Result:
    """Undo `_to_tree`."""
    nodes = {node.path: _rich(node.to_dataset(False)) for node in tree.subtree}
    root = nodes["/"].attrs
    marks = {key: root.pop(key) for key in list(root) if key.startswith(_MARK)}
    for key in marks.get(f"{_MARK}added", []):
        root.pop(key, None)
    nodes = {path: _ordered(nodes[path], names) for path, names in marks[f"{_MARK}order"].items()}
    if marks[f"{_MARK}kind"] == "DataTree":
        return xr.DataTree.from_dict(nodes, name=marks[f"{_MARK}root"])
    if marks[f"{_MARK}kind"] == "DataArray":
        return nodes["/"][marks[f"{_MARK}variable"]].rename(marks[f"{_MARK}name"])
    return nodes["/"]


def _ordered(dataset: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Return the dataset with its variables in this order."""
    return (
        dataset.drop_vars(list(dataset.variables))
        .assign_coords({name: dataset[name] for name in names if name in dataset.coords})
        .assign({name: dataset[name] for name in names if name not in dataset.coords})
    )


def _below(tree: xr.DataTree, node: xr.DataTree) -> str:
    """Return the path of a node as seen from a tree that hangs below another."""
    return "/" + node.path.removeprefix(tree.path).lstrip("/")


def _plain(dataset: xr.Dataset) -> xr.Dataset:
    """Return a copy without leftovers of earlier files, with attributes a file can hold."""
    copy = dataset.drop_encoding()
    copy.attrs = _to_plain_attrs(dataset.attrs)
    for name in copy.variables:
        copy[name].attrs = _to_plain_attrs(dataset[name].attrs)
    return copy


def _rich(dataset: xr.Dataset) -> xr.Dataset:
    """Return a copy with string arrays and attributes as they were before saving."""
    copy = dataset.drop_encoding()
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "OT":
            copy[name] = (variable.dims, _texts(variable.values), variable.attrs)
    copy.attrs = _from_plain_attrs(dataset.attrs)
    for name in copy.variables:
        copy[name].attrs = _from_plain_attrs(dataset[name].attrs)
    return copy


def _texts(values: Any) -> Any:
    """Return strings of any kind as a plain numpy string array."""
    return np.asarray(values, dtype=object).astype(str)


def _variable_length_strings(dataset: xr.Dataset) -> xr.Dataset:
    """Return a copy whose strings are of the kind that the Zarr 3 format defines."""
    texts = {
        name: (variable.dims, variable.values.astype(object), variable.attrs)
        for name, variable in dataset.variables.items()
        if variable.dtype.kind == "U"
    }
    return dataset.assign_coords({k: v for k, v in texts.items() if k in dataset.coords}).assign(
        {k: v for k, v in texts.items() if k not in dataset.coords}
    )


def _to_plain_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Keep texts and finite numbers; turn everything else into JSON text."""
    return {str(key): _to_plain(value) for key, value in attrs.items()}


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and not value.startswith(_JSON):
        return value
    if isinstance(value, float) and np.isfinite(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INTEGER_LIMIT:
        return value
    return _JSON + json.dumps(value, default=_listed)


def _listed(value: Any) -> Any:
    """Turn arrays and paths inside an attribute into what JSON knows."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)


def _from_plain_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _from_plain(value) for key, value in attrs.items()}


def _from_plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and value.startswith(_JSON):
        return json.loads(value.removeprefix(_JSON))
    return value


def _encoding(tree: xr.DataTree, wrap: Any) -> dict[str, dict[str, Any]]:
    """Return how each numeric array of each node is cut into chunks along its first dim."""
    return {
        node.path: {
            str(name): wrap(_chunks(variable))
            for name, variable in node.to_dataset(False).variables.items()
            if variable.ndim and variable.size and variable.dtype.kind in "fiub"
        }
        for node in tree.subtree
    }


def _chunks(variable: xr.Variable) -> tuple[int, ...]:
    """Return a chunk of at most about 8 MB: a run of the first dim, all of the others."""
    row = variable.nbytes / variable.shape[0]
    rows = int(np.clip(_CHUNK_BYTES // max(row, 1), 1, variable.shape[0]))
    return (rows, *variable.shape[1:])


def _contents(folder: Path) -> tuple[int, int]:
    """Return the number and total size of the files of a folder, but for its own zarr.json."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes) - 1, sum(sizes) - (folder / "zarr.json").stat().st_size


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
