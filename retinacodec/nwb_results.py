"""The doors for results: what was computed goes into an NWB file beside what was recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import xarray as xr

import retinacodec
from retinacodec.errors import InputError, RecordingError
from retinacodec.hdf5_safety import open_hdf5
from retinacodec.nwb_result_files import Shelf, mark, stored_tree, tree_note
from retinacodec.nwb_spikes import text
from retinacodec.nwb_writer import creating
from retinacodec.plain_trees import Result, from_plain_tree, to_plain_tree

__all__ = ["add_results", "read_results"]

_NOTES = "scratch/retinacodec_results"
_MOST_WORDS = 1500


def add_results(
    path: str | Path,
    out: str | Path | None = None,
    *,
    predictions: xr.DataArray | Mapping[str, xr.DataArray] | None = None,
    contributions: xr.DataTree | None = None,
    modes: xr.Dataset | None = None,
    fields: xr.Dataset | xr.DataArray | None = None,
    comparison: xr.Dataset | None = None,
    overwrite: bool = False,
) -> Path:
    """Write results into a copy of an NWB file.

    Parameters
    ----------
    path : str or Path
        An NWB 2 file of any laboratory.
    out : str or Path, optional
        The copy. By default the file itself is replaced once the copy is complete.
    predictions : xarray.DataArray (time, cell) or mapping of str to xarray.DataArray, optional
        Predicted rates, Hz, of one model or of several by name.
    contributions : xarray.DataTree, optional
        Contributions with one node a layer; values that are still on disk are read in slabs.
    modes : xarray.Dataset, optional
        Modes.
    fields : xarray.Dataset or xarray.DataArray, optional
        Fields, such as ``spatial`` (cell, y, x) and ``temporal`` (cell, lag), or a table of them.
    comparison : xarray.Dataset, optional
        Scores of models.
    overwrite : bool, default False
        Replace `out`, and results of the same kind that the file holds already.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    RecordingError
        If the file cannot be read or is not NWB 2.
    InputError
        If there is nothing to write, something is of the wrong type, or would be replaced
        unasked. The file is then as it was.

    Notes
    -----
    Results lie in ``/analysis``, the place of NWB for them: time series with the times of the
    movie, tables with described columns; descriptions say where they come from. ``/scratch``
    keeps the note from which `read_results` puts them together again.

    Examples
    --------
    >>> add_results("cells.nwb", "shared.nwb", predictions={"CNN": rate})  # doctest: +SKIP
    """
    given = {
        "predictions": (predictions, (xr.DataArray, Mapping)),
        "contributions": (contributions, (xr.DataTree,)),
        "modes": (modes, (xr.Dataset,)),
        "fields": (fields, (xr.Dataset, xr.DataArray)),
        "comparison": (comparison, (xr.Dataset,)),
    }
    results = {kind: _checked(kind, *one) for kind, one in given.items() if one[0] is not None}
    if not results:
        raise InputError("add_results: expected at least one result, got none")
    target = Path(path if out is None else out)
    notes = _notes(path)
    twice = [kind for kind in results if kind in notes]
    if twice and not overwrite:
        raise InputError(f"{path}: holds {', '.join(twice)} already; pass overwrite=True")
    with creating(target, overwrite=overwrite or out is None) as temporary:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+") as file:
            for kind, trees in results.items():
                _forget(file, notes.pop(kind, {}))
                notes[kind] = _write(file, kind, trees)
            _keep(file, notes)
    return target


def read_results(path: str | Path) -> dict[str, Any]:
    """Read the results that `add_results` wrote into an NWB file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        The results by the names of the arguments of `add_results`, equal to what was written in
        values, types, coordinates and attributes; empty if there are none.

    Raises
    ------
    RecordingError
        If the file cannot be read, or its results are damaged.
    """
    with open_hdf5(path, first=lambda file: _check(file, path)) as file:
        found = {}
        for kind, note in _read_notes(file, path).items():
            trees = {
                name: from_plain_tree(stored_tree(file, one))
                for name, one in note["results"].items()
            }
            found[kind] = trees if note["several"] else next(iter(trees.values()))
        return found


def _checked(kind: str, result: Any, types: tuple[Any, ...]) -> dict[str, Any]:
    """Return results by name with whether they came as a mapping."""
    names = " or ".join(one.__name__ for one in types)
    if not isinstance(result, types):
        raise InputError(f"{kind}: expected {names}, got {type(result).__name__}")
    if not isinstance(result, Mapping) or isinstance(result, (xr.Dataset, xr.DataTree)):
        return {"several": False, "results": {"": result}}
    for name, one in result.items():
        if not isinstance(one, xr.DataArray):
            raise InputError(f"{kind} of {name}: expected DataArray, got {type(one).__name__}")
    if not result:
        raise InputError(f"{kind}: expected at least one model, got none")
    return {"several": True, "results": {str(name): one for name, one in result.items()}}


def _write(file: h5py.File, kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    notes = {}
    for name, result in given["results"].items():
        shelf = Shelf(file, f"{kind} {name}".strip(), _origin(result))
        notes[name] = tree_note(to_plain_tree(result), shelf)
    return {"several": given["several"], "results": notes}


def _origin(result: Result) -> str:
    """Say by which version and with which settings something was made."""
    attrs = {**result.attrs}
    for child in getattr(result, "children", {}).values():
        attrs |= {key: value for key, value in child.attrs.items() if key not in attrs}
    words = ", ".join(f"{key} = {value}" for key, value in attrs.items() if str(value))
    made = f"Made with retinacodec {retinacodec.__version__}"
    return f"{made}: {words}"[:_MOST_WORDS]


def _notes(path: str | Path) -> dict[str, Any]:
    with open_hdf5(path, first=lambda file: _check(file, path)) as file:
        return _read_notes(file, path)


def _check(file: h5py.File, path: str | Path) -> None:
    if not text(file.attrs.get("nwb_version", "")).startswith("2"):
        name = Path(path).name
        raise RecordingError(path, "is not NWB 2", f"see what it is: retinacodec info {name}")


def _read_notes(file: h5py.File, path: str | Path) -> dict[str, Any]:
    stored = file.get(_NOTES)
    if not isinstance(stored, h5py.Dataset):
        return {}
    try:
        notes = json.loads(text(stored[()]))
        return dict(notes["kinds"])
    except (ValueError, KeyError, TypeError) as error:
        raise RecordingError(
            path, "the note of its results is damaged", "add them again"
        ) from error


def _keep(file: h5py.File, notes: Mapping[str, Any]) -> None:
    """Write the note anew."""
    if _NOTES in file:
        del file[_NOTES]
    words = json.dumps({"version": retinacodec.__version__, "kinds": notes})
    data = file.create_dataset(_NOTES, data=words, dtype=h5py.string_dtype())
    mark(data, "ScratchData", "core")
    data.attrs["notes"] = "how retinacodec puts the results in /analysis together again"


def _forget(file: h5py.File, note: Mapping[str, Any]) -> None:
    """Take the objects of an earlier result away."""
    places = {
        how["at"].rsplit("/", 1)[0]
        for one in note.get("results", {}).values()
        for node in one["nodes"].values()
        for how in node["variables"].values()
        if "at" in how
    }
    for place in places:
        if place.startswith("/analysis/") and place in file:
            del file[place]
