"""Results on disk: saved whole or not at all, and read back exactly as they were."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

from retinacodec.atomic import replacing
from retinacodec.errors import InputError, RecordingError
from retinacodec.plain_trees import MARK, Result, from_plain_tree, to_plain_tree
from retinacodec.provenance import file_sha256, provenance
from retinacodec.zarr_folder import encoding, fault, seal, write_zarr

__all__ = ["ResultError", "file_sha256", "open_result", "provenance", "replacing", "save"]


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
            layout.write(to_plain_tree(result), temporary)
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
    if f"{MARK}order" not in tree.attrs:
        tree.close()
        raise ResultError(
            target, "not a result of this package", "open it with xarray, or import a recording"
        )
    if load:
        with contextlib.closing(tree):
            return from_plain_tree(tree.load())
    result = from_plain_tree(tree)
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
        write_zarr(tree, path)
        seal(path)

    def check(self, path: Path) -> None:
        found = fault(path)
        if found is not None:
            raise ResultError(path, *found)

    def read(self, path: Path) -> xr.DataTree:
        return xr.open_datatree(path, engine="zarr", consolidated=False, decode_timedelta=False)


@dataclass(frozen=True)
class _Netcdf:
    """A netCDF-4 file with gzip and byte shuffle, the filters that every reader has."""

    def write(self, tree: xr.DataTree, path: Path) -> None:
        packing = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        chunks = encoding(tree, lambda chunks: {**packing, "chunksizes": chunks})
        tree.to_netcdf(path, engine="h5netcdf", format="NETCDF4", encoding=chunks)

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


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
