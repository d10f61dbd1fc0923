"""Results as trees of plain datasets, whose values and attributes every file can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

import retinacodec

__all__ = ["MARK", "Result", "from_plain_tree", "plain_attrs", "to_plain_tree"]

Result = xr.Dataset | xr.DataArray | xr.DataTree

MARK = "retinacodec_"
"""How the names of the attributes begin that say how to undo `to_plain_tree`."""

_JSON = "json:"
_NAMELESS = "values"
_INTEGER_LIMIT = 2**63


def to_plain_tree(result: Result) -> xr.DataTree:
    """Return any result as a tree of plain datasets whose attributes a file can hold.

    Parameters
    ----------
    result : xarray.Dataset, xarray.DataArray or xarray.DataTree
        Any result.

    Returns
    -------
    xarray.DataTree
        The same values; attributes of the root say how `from_plain_tree` undoes it.
    """
    marks: dict[str, Any] = {f"{MARK}kind": type(result).__name__}
    if isinstance(result, xr.DataArray):
        marks[f"{MARK}name"] = result.name
        taken = result.name is None or result.name in result.coords
        result = result.to_dataset(name=_NAMELESS if taken else result.name)
        marks[f"{MARK}variable"] = str(next(iter(result.data_vars)))
    tree = result if isinstance(result, xr.DataTree) else xr.DataTree(result)
    plain = {_below(tree, node): _plain(node.to_dataset(node is tree)) for node in tree.subtree}
    order = {path: [str(name) for name in node.variables] for path, node in plain.items()}
    marks |= {f"{MARK}root": tree.name, f"{MARK}order": order}
    marks |= {f"{MARK}version": retinacodec.__version__}
    if "Conventions" not in plain["/"].attrs:
        marks |= {f"{MARK}added": ["Conventions"], "Conventions": "CF-1.11"}
    plain["/"].attrs.update(plain_attrs(marks))
    return xr.DataTree.from_dict(plain)


def from_plain_tree(tree: xr.DataTree) -> Result:
    """Return the result that `to_plain_tree` made a tree of.

    Parameters
    ----------
    tree : xarray.DataTree
        As read from a file.

    Returns
    -------
    xarray.Dataset, xarray.DataArray or xarray.DataTree
        The same kind of object, with the same contents in the same order.
    """
    nodes = {node.path: _rich(node.to_dataset(False)) for node in tree.subtree}
    root = nodes["/"].attrs
    marks = {key: root.pop(key) for key in list(root) if key.startswith(MARK)}
    for key in marks.get(f"{MARK}added", []):
        root.pop(key, None)
    nodes = {path: _ordered(nodes[path], names) for path, names in marks[f"{MARK}order"].items()}
    if marks[f"{MARK}kind"] == "DataTree":
        return xr.DataTree.from_dict(nodes, name=marks[f"{MARK}root"])
    if marks[f"{MARK}kind"] == "DataArray":
        return nodes["/"][marks[f"{MARK}variable"]].rename(marks[f"{MARK}name"])
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
    copy.attrs = plain_attrs(dataset.attrs)
    for name in copy.variables:
        copy[name].attrs = plain_attrs(dataset[name].attrs)
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


def plain_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes as a file can hold them: texts, finite numbers, and JSON text for others.

    Parameters
    ----------
    attrs : mapping
        Attributes of a dataset or variable.

    Returns
    -------
    dict of str to (str, int or float)
        The same attributes.
    """
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
