"""The Zarr folder of a result: how its arrays are cut into chunks, and when it is complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from retinacodec.plain_trees import MARK

__all__ = [
    "chunk_rows",
    "encoding",
    "fault",
    "seal",
    "variable_length_strings",
    "write_zarr",
]

_CHUNK_BYTES = 8_000_000


def write_zarr(tree: xr.DataTree, path: Path) -> None:
    """Write a tree of plain datasets as a new Zarr 3 folder, not yet sealed.

    Parameters
    ----------
    tree : xarray.DataTree
        As from `to_plain_tree`.
    path : Path
        The folder to be.
    """
    tree = tree.map_over_datasets(variable_length_strings)
    chunks = encoding(tree, lambda chunks: {"chunks": chunks}, kinds="fiubO")
    tree.to_zarr(path, zarr_format=3, consolidated=False, encoding=chunks)


def seal(path: Path) -> None:
    """Note in the root of a complete folder how many files and bytes it must have."""
    import zarr

    count, size = _contents(path)
    marks = {f"{MARK}files": count, f"{MARK}bytes": size}
    zarr.open_group(path, mode="r+", zarr_format=3).attrs.update(marks)


def fault(path: Path) -> tuple[str, str] | None:
    """Return what is wrong with a sealed folder and what to do, or None for a whole one."""
    root = path / "zarr.json"
    if not root.is_file():
        return "not a Zarr 3 folder", "check the name"
    try:
        attrs = json.loads(root.read_text(encoding="utf-8"))["attributes"]
    except (ValueError, KeyError, OSError):
        return "zarr.json is damaged", "make the result again"
    wanted = (attrs.get(f"{MARK}files"), attrs.get(f"{MARK}bytes"))
    have = _contents(path)
    if wanted[0] is not None and wanted != have:
        return (
            f"incomplete: {have[0]} of {wanted[0]} files, {have[1]} of {wanted[1]} bytes",
            "copy it again, or make it again",
        )
    return None


def variable_length_strings(dataset: xr.Dataset) -> xr.Dataset:
    """Return a copy whose strings are Python objects, which Zarr 3 stores at any length.

    Parameters
    ----------
    dataset : xarray.Dataset
        Any dataset.

    Returns
    -------
    xarray.Dataset
        The same, strings with dtype object.
    """
    texts = {
        name: (variable.dims, variable.values.astype(object), variable.attrs)
        for name, variable in dataset.variables.items()
        if variable.dtype.kind == "U"
    }
    return dataset.assign_coords({k: v for k, v in texts.items() if k in dataset.coords}).assign(
        {k: v for k, v in texts.items() if k not in dataset.coords}
    )


def encoding(
    tree: xr.DataTree,
    wrap: Callable[[tuple[int, ...]], Any],
    kinds: str = "fiub",
) -> dict[str, dict[str, Any]]:
    """Return how each array of each node is cut into chunks along its first dim.

    Parameters
    ----------
    tree : xarray.DataTree
        Plain datasets.
    wrap : callable
        Makes the encoding of an array from the shape of its chunks.
    kinds : str, default "fiub"
        Kinds of dtypes that are cut.

    Returns
    -------
    dict of str to dict of str to object
        For each node and variable what ``wrap`` returned.
    """
    return {
        node.path: {
            str(name): wrap(_chunks(variable))
            for name, variable in node.to_dataset(False).variables.items()
            if variable.ndim and variable.size and variable.dtype.kind in kinds
        }
        for node in tree.subtree
    }


def chunk_rows(variable: xr.Variable) -> int:
    """Return how many entries of the first dim make a chunk of at most about 8 MB.

    Parameters
    ----------
    variable : xarray.Variable
        Of at least one entry.

    Returns
    -------
    int
        At least 1; may be more than the variable has.
    """
    row = variable.nbytes / variable.shape[0]
    return int(max(_CHUNK_BYTES // max(row, 1), 1))


def _chunks(variable: xr.Variable) -> tuple[int, ...]:
    """Return the shape of a chunk: a run of the first dim, all of the others."""
    return (min(chunk_rows(variable), variable.shape[0]), *variable.shape[1:])


def _contents(folder: Path) -> tuple[int, int]:
    """Return the number and total size of the files of a folder, but for its own zarr.json."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes) - 1, sum(sizes) - (folder / "zarr.json").stat().st_size
