"""Tables on disk, of which only the rows read are in memory: .npy, zarr, layers of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.layer_tables import POSITIONS, layer_quantity
from retinacodec.row_source import ArrayRows, Columns, RowSource, check_table
from retinacodec.store import open_result
from retinacodec.zarr_folder import chunk_rows

__all__ = ["LayerRows", "NumpyRows", "ZarrRows", "open_rows"]

Array = npt.NDArray[Any]

_SPLIT = ("sign", "channel")


@dataclass(frozen=True, eq=False)
class NumpyRows:
    """A table in an ``.npy`` file, of which only the rows read are in memory.

    Parameters
    ----------
    path : Path
        The file.
    columns : Columns
        What its columns are.
    shape : tuple of int
        Rows and columns.
    dtype : numpy.dtype
        Type of the values.
    offset : int
        Bytes before the first value.

    Notes
    -----
    Blocks are read, not mapped: pages of a mapped file count as memory of the process until the
    system takes them away.
    """

    path: Path
    columns: Columns
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    offset: int
    unit_rows: int = 1

    @classmethod
    def open(cls, path: Path, channels: Sequence[Any] | None = None) -> NumpyRows:
        """Read the head of a file and check that all its rows are there."""
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(
                f"{path}: cannot be read as a table ({_first_line(error)}); it may be truncated: "
                "write it again with numpy.save"
            ) from error
        check_table(str(path), mapped.shape, mapped.dtype)
        if not mapped.flags.c_contiguous:
            raise InputError(f"{path}: its rows lie apart; save numpy.ascontiguousarray of it")
        columns = Columns.plain(mapped.shape[1], channels)
        return cls(path, columns, mapped.shape, mapped.dtype, mapped.offset)

    def read(self, start: int, stop: int) -> Array:
        """Return a copy of rows (row, feature)."""
        count, width = max(0, min(stop, self.shape[0]) - start), self.shape[1]
        row = width * self.dtype.itemsize
        x = np.fromfile(self.path, self.dtype, count * width, offset=self.offset + start * row)
        if x.size != count * width:
            raise InputError(f"{self.path}: truncated at row {start + x.size // width}")
        return x.reshape(count, width)

    def stamp(self) -> str:
        """Return size and time of the file."""
        return _stamp(self.path)


@dataclass(frozen=True, eq=False)
class ZarrRows:
    """A table that is one zarr array.

    Parameters
    ----------
    path : Path
        Folder of the array.
    columns : Columns
        What its columns are.
    array : zarr.Array
        The array, opened to be read.
    """

    path: Path
    columns: Columns
    array: Any = field(repr=False)

    @classmethod
    def open(cls, path: Path, channels: Sequence[Any] | None = None) -> ZarrRows:
        """Open an array; a chunk without a file counts as its fill value, as zarr has it."""
        import zarr

        try:
            array = zarr.open_array(path, mode="r")
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: expected a zarr array ({_first_line(error)}); name the layer of a result "
                "with layer=, or give the folder of one array"
            ) from error
        check_table(str(path), array.shape, array.dtype)
        return cls(path, Columns.plain(array.shape[1], channels), array)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.array.shape[0], self.array.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(self.array.dtype)

    @property
    def unit_rows(self) -> int:
        """Rows of a chunk, which is decoded whole."""
        return int(self.array.chunks[0])

    def read(self, start: int, stop: int) -> Array:
        """Return rows (row, feature)."""
        return np.asarray(self.array[start:stop])

    def stamp(self) -> str:
        """Return number, size and time of the files."""
        return _stamp(self.path)


@dataclass(frozen=True, eq=False)
class LayerRows:
    """A layer of a result on disk, as (sample, sign and channel), positions summed.

    Parameters
    ----------
    path : Path
        The ``.zarr`` folder that ``contributions(out=...)`` wrote.
    columns : Columns
        Signs and channels, with their names and the times of the rows.
    values : xarray.DataArray
        The quantity of one target, not read yet.
    unit_rows : int
        Rows of a chunk.
    """

    path: Path
    columns: Columns
    values: xr.DataArray = field(repr=False)
    unit_rows: int

    @classmethod
    def open(cls, path: Path, layer: str, quantity: str, target: Any) -> LayerRows:
        """Open a quantity of a layer and check that it is split by sign."""
        tree = open_result(path, load=False)
        children = list(getattr(tree, "children", {}))
        if layer not in children:
            raise InputError(f"{path}: no layer {layer!r}; it has layers {children}")
        try:
            values = layer_quantity(tree[layer], quantity, target=target)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        rest = [str(dim) for dim in values.dims if dim not in (*_SPLIT, *POSITIONS)]
        sizes = {name: values.sizes[name] for name in _SPLIT}
        coords = {n: values[n].values for n in (rest[0], *_SPLIT) if n in values.coords}
        signs = np.repeat(np.asarray([-1, 1], np.int8), sizes["channel"])
        columns = Columns(sizes, coords, rest[0], signs, quantity)
        return cls(path, columns, values, chunk_rows(tree[layer][quantity].variable))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        sizes = self.columns.sizes
        return self.values.sizes[self.columns.sample], sizes["sign"] * sizes["channel"]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.values.dtype

    def read(self, start: int, stop: int) -> Array:
        """Return rows (row, feature); positions are summed a chunk at a time."""
        stop = min(stop, self.shape[0])
        x = np.empty((max(0, stop - start), self.shape[1]), self.dtype)
        first = start
        while first < stop:
            last = min(stop, (first // self.unit_rows + 1) * self.unit_rows)
            part = self.values.isel({self.columns.sample: slice(first, last)})
            part = part.sum([dim for dim in POSITIONS if dim in part.dims])
            part = part.transpose(self.columns.sample, *_SPLIT)
            x[first - start : last - start] = part.values.reshape(last - first, -1)
            first = last
        return x

    def stamp(self) -> str:
        """Return number, size and time of the files."""
        return _stamp(self.path)


def open_rows(
    table: npt.ArrayLike | str | Path,
    *,
    layer: str | None = None,
    quantity: str = "contribution",
    target: Any = None,
    channels: Sequence[Any] | None = None,
) -> RowSource:
    """Open a table whose rows are read block by block.

    Parameters
    ----------
    table : str, Path or array_like (sample, feature)
        An ``.npy`` file, a zarr array, a result of ``contributions(out=...)``, or an array.
    layer : str, optional
        Layer of a result.
    quantity : str, default "contribution"
        Variable of the layer.
    target : object, optional
        Which target, by its label, where the contributions were computed for several.
    channels : sequence, optional
        Names of the channels of a file or array whose columns are first all their negative and
        then all their positive parts.

    Returns
    -------
    RowSource
        The table.

    Raises
    ------
    InputError
        If nothing is there, it is no table of numbers, or rows are missing.

    Examples
    --------
    >>> source = open_rows(np.zeros((3, 4)), channels=["a", "b"])
    >>> source.shape, dict(source.columns.sizes)
    ((3, 4), {'sign': 2, 'channel': 2})
    """
    if not isinstance(table, (str, Path)):
        x = np.asarray(table)
        check_table("table", x.shape, x.dtype)
        return ArrayRows(x, Columns.plain(x.shape[1], channels))
    path = Path(table)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the name")
    if layer is not None:
        return LayerRows.open(path, layer, quantity, target)
    if path.is_dir():
        return ZarrRows.open(path, channels)
    return NumpyRows.open(path, channels)


def _stamp(path: Path) -> str:
    """Return number, size and latest time of the files below a path."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    found = [one.stat() for one in files]
    latest = max(one.st_mtime_ns for one in found)
    return f"{len(found)} files, {sum(one.st_size for one in found)} bytes, {latest}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
