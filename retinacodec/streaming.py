"""Results larger than memory: written a stretch of samples at a time, complete or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from retinacodec.atomic import replacing
from retinacodec.errors import InputError, Problems
from retinacodec.plain_trees import Result, plain_attrs, to_plain_tree
from retinacodec.zarr_column import Column
from retinacodec.zarr_folder import chunk_rows, seal, variable_length_strings, write_zarr

__all__ = ["StreamWriter", "streamed"]

_HELD_BYTES = 64_000_000
_SAMPLES = ("time", "image")

Nodes = dict[str, xr.Dataset]
"""Plain datasets by their paths in a tree."""


@contextlib.contextmanager
def streamed(
    path: str | Path, *, along: str | None = None, overwrite: bool = False
) -> Iterator[StreamWriter]:
    """Write a result part by part, and leave what `save` would have written of the whole.

    Parameters
    ----------
    path : str or Path
        Where to, with a name that ends in .zarr.
    along : str, optional
        Dimension that the parts follow each other along; ``time`` or ``image``, whichever the
        first part has, if left out.
    overwrite : bool, default False
        Replace an earlier result of this name.

    Yields
    ------
    StreamWriter
        Takes the parts.

    Raises
    ------
    InputError
        If the path cannot be used, something is there already, parts do not fit each other,
        or no part came.

    Notes
    -----
    Everything is written beside its destination and renamed when the block ends well; after
    an exception the earlier state is left. Memory does not grow with the number of parts: values
    are collected until they fill a chunk of 8 MB, at most about 64 MB of all variables together.

    Examples
    --------
    >>> import tempfile
    >>> from retinacodec.store import open_result
    >>> rate = xr.Dataset({"rate": ("time", [1.0, 2.0, 0.0, 3.0])})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with streamed(Path(folder) / "rate.zarr") as writer:
    ...         writer.append(rate.isel(time=slice(0, 3)))
    ...         writer.append(rate.isel(time=slice(3, 4)))
    ...     same = open_result(Path(folder) / "rate.zarr")
    >>> same.identical(rate)
    True
    """
    target = Path(path)
    if target.suffix != ".zarr":
        raise InputError(f"{target}: expected a name ending in .zarr, got {target.name!r}")
    with replacing(target, overwrite=overwrite) as temporary:
        writer = StreamWriter(temporary, along)
        yield writer
        writer.finish()


class StreamWriter:
    """Takes the parts of a result in their order; made by `streamed`.

    Parameters
    ----------
    path : Path
        The folder to be.
    along : str, optional
        See `streamed`.
    """

    def __init__(self, path: Path, along: str | None = None) -> None:
        self._path, self._along = path, along or ""
        self._first: Nodes = {}
        self._columns: list[Column] = []
        self._parts = 0
        self._finished = False

    def append(self, part: Result) -> None:
        """Add the next stretch of samples.

        Parameters
        ----------
        part : xarray.DataTree or xarray.Dataset
            With the same nodes, variables, dims and dtypes as the first part; what does not
            lie along the samples must be equal. Attributes are those of the first part.

        Raises
        ------
        InputError
            If the part does not fit the first one; all differences in one message.
        """
        if self._finished:
            raise InputError("streamed: the result is finished; append parts before finish()")
        tree = to_plain_tree(part)
        nodes = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
        if not self._first:
            self._along = self._along or _samples(nodes)
            _check_first(nodes, self._along)
            self._first = _head(nodes, self._along)
        self._parts += 1
        _check_part(nodes, self._first, self._along, self._parts)
        if not any(node.sizes.get(self._along) for node in nodes.values()):
            return
        if not self._columns:
            self._lay_out(_head(nodes, self._along))
        for column in self._columns:
            column.take(nodes[column.node].variables[column.name].values)
        while sum(column.size for column in self._columns) > _HELD_BYTES:
            max(self._columns, key=lambda column: column.size).write()

    def finish(
        self,
        attrs: Mapping[str, Any] | None = None,
        node_attrs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write what is left, and attributes that are known only now; `streamed` calls it too.

        Parameters
        ----------
        attrs : mapping, optional
            Attributes of the root, added to those of the first part or in their place.
        node_attrs : mapping of str to mapping, optional
            The same for nodes by name.

        Raises
        ------
        InputError
            If no sample came, a node does not exist, or attributes come after the end.
        """
        import zarr

        if self._finished:
            if attrs or node_attrs:
                raise InputError("streamed: the result is finished; give attributes only once")
            return
        said = {"/": dict(attrs or {})}
        said |= {f"/{name.strip('/')}": dict(one) for name, one in (node_attrs or {}).items()}
        strange = sorted(set(said) - set(self._first) - {"/"})
        if strange:
            raise InputError(f"streamed: no node {', '.join(strange)} in the result")
        if not self._columns:
            raise InputError("streamed: expected at least one sample, got none; append parts")
        for column in self._columns:
            column.end()
        for path in self._first:
            group = zarr.open_group(self._path, path=path, mode="r+")
            group.attrs.update(plain_attrs(said.get(path, {})))
        seal(self._path)
        self._finished = True

    def _lay_out(self, head: Nodes) -> None:
        """Make the folder, with the first sample in place of all."""
        write_zarr(xr.DataTree.from_dict(head), self._path)
        self._columns = [
            Column(self._path, path, name, chunk_rows(variable_length_strings(node)[name].variable))
            for path, node in head.items()
            for name in _growing(node, self._along)
        ]


def _samples(nodes: Nodes) -> str:
    """Return the dimension of the samples."""
    found = [dim for dim in _SAMPLES if any(dim in node.dims for node in nodes.values())]
    if len(found) != 1:
        raise InputError(
            f"streamed: expected parts along time or image, got {' and '.join(found) or 'none'}; "
            "name the dimension with along="
        )
    return found[0]


def _check_first(nodes: Nodes, along: str) -> None:
    """Raise `InputError` unless variables can be appended to."""
    problems = Problems()
    found = any(along in node.dims for node in nodes.values())
    problems.require(found, f"no dimension {along!r} in the first part")
    for path, node in nodes.items():
        for name in _growing(node, along):
            one = node.variables[name]
            first = one.dims[0] == along
            problems.require(first, f"{path} {name}: {along} must be the first of {one.dims}")
            problems.require(
                one.dtype.kind in "fiubU",
                f"{path} {name}: expected numbers or texts, got {one.dtype}",
            )
    problems.raise_as("streamed")


def _check_part(nodes: Nodes, first: Nodes, along: str, number: int) -> None:
    """Raise `InputError` unless a part has the variables of the first one."""
    problems = Problems()
    for path in sorted(set(nodes) ^ set(first)):
        problems.add(f"node {path} is {'missing' if path in first else 'new'}")
    for path in sorted(set(nodes) & set(first)):
        have, want = nodes[path].variables, first[path].variables
        for name in sorted(map(str, set(have) ^ set(want))):
            problems.add(f"{path} {name} is {'missing' if name in want else 'new'}")
        for name in map(str, want):
            fault = _difference(have[name], want[name], along) if name in have else ""
            problems.require(not fault, f"{path} {name}: {fault}")
    lengths = {node.sizes[along] for node in nodes.values() if along in node.dims}
    problems.require(len(lengths) == 1, f"expected one length of {along}, got {sorted(lengths)}")
    problems.raise_as(f"streamed: part {number} does not fit the first")


def _difference(have: xr.Variable, want: xr.Variable, along: str) -> str:
    """Return how a variable differs from that of the first part."""
    grows = along in want.dims
    if have.dims != want.dims:
        return f"expected dims {want.dims}, got {have.dims}"
    if have.shape[grows:] != want.shape[grows:]:
        return f"expected shape {want.shape[grows:]}, got {have.shape[grows:]}"
    if have.dtype != want.dtype and {have.dtype.kind, want.dtype.kind} != {"U"}:
        return f"expected {want.dtype}, got {have.dtype}"
    return "" if grows or have.equals(want) else "its values differ"


def _growing(node: xr.Dataset, along: str) -> list[str]:
    return [str(name) for name, one in node.variables.items() if along in one.dims]


def _head(nodes: Nodes, along: str) -> Nodes:
    """Return a copy of the first sample, and of all that does not lie along the samples."""
    one = {along: slice(0, 1)}
    return {
        path: node.isel(one, missing_dims="ignore").copy(deep=True) for path, node in nodes.items()
    }
