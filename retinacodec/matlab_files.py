"""Variables of MATLAB files of either kind, as plain arrays, texts, lists and dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from retinacodec.errors import RecordingError, RetinacodecError
from retinacodec.hdf5_safety import is_hdf5, open_hdf5

__all__ = ["guarding", "matlab_variables", "read_matlab"]

_DEEPEST = 6  # cells in structures in cells ...


@contextmanager
def guarding(path: str | Path) -> Iterator[None]:
    """Blame a file for every unexpected error inside the ``with`` block.

    Parameters
    ----------
    path : str or Path
        The file that is being read.

    Raises
    ------
    RecordingError
        In place of any error that this package did not raise on purpose.
    """
    try:
        yield
    except RetinacodecError as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(path, str(error)) from error
    except MemoryError as error:
        raise RecordingError(path, "does not fit into memory") from error
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise RecordingError(
            path, f"cannot be read: {type(error).__name__}: {words}", "it may be damaged"
        ) from error


def matlab_variables(path: Path) -> dict[str, Path]:
    """Return which variables there are, and in which file.

    Parameters
    ----------
    path : Path
        A ``.mat`` file, or a folder of them.

    Returns
    -------
    dict of str to Path
        File of each variable.

    Raises
    ------
    RecordingError
        If a file is no MATLAB file, or two files of a folder hold one variable.
    """
    files = sorted(path.glob("*.mat")) if path.is_dir() else [path]
    found: dict[str, Path] = {}
    for file in files:
        for name in _names(file):
            if name in found:
                raise RecordingError(
                    path,
                    f"{found[name].name} and {file.name} both hold {name}",
                    "keep one of them in the folder",
                )
            found[name] = file
    return found


def read_matlab(there: Mapping[str, Path], names: Iterable[str]) -> dict[str, Any]:
    """Read some variables.

    Parameters
    ----------
    there : mapping of str to Path
        From `matlab_variables`.
    names : iterable of str
        Those wanted; the ones that are not there are left out.

    Returns
    -------
    dict
        Numbers as arrays without axes of length 1, structures as a list with one dictionary for
        each element, cell arrays as lists (column by column) and characters as texts.

    Raises
    ------
    RecordingError
        If a file is damaged or unsafe.
    """
    wanted: dict[Path, list[str]] = {}
    for name in names:
        if name in there:
            wanted.setdefault(there[name], []).append(name)
    values: dict[str, Any] = {}
    for file, mine in wanted.items():
        values |= _read_new(file, mine) if is_hdf5(file) else _read_old(file, mine)
    return values


def _names(file: Path) -> list[str]:
    if not file.is_file() or file.stat().st_size == 0:
        raise RecordingError(file, "is empty or no file", "copy or download it again")
    if is_hdf5(file):
        with open_hdf5(file) as stored:
            return [name for name in stored if not name.startswith("#")]
    from scipy.io import whosmat

    with guarding(file):
        return [str(name) for name, _, _ in whosmat(str(file))]


def _read_old(file: Path, names: list[str]) -> dict[str, Any]:
    from scipy.io import loadmat

    with guarding(file):
        stored = loadmat(str(file), variable_names=names, chars_as_strings=True)
        return {name: _old(stored[name]) for name in names}


def _old(value: Any, depth: int = 0) -> Any:
    """Return what scipy read of a file before version 7.3."""
    array = np.asarray(value)
    if depth > _DEEPEST:
        raise ValueError(f"structures are nested more than {_DEEPEST} deep")
    if array.dtype.names:
        return [
            {name: _old(one[name], depth + 1) for name in array.dtype.names}
            for one in array.ravel(order="F")
        ]
    if array.dtype == object:
        return [_old(one, depth + 1) for one in array.ravel(order="F")]
    if array.dtype.kind == "U":
        return "".join(array.ravel().tolist())
    return np.squeeze(array)


def _read_new(file: Path, names: list[str]) -> dict[str, Any]:
    with open_hdf5(file) as stored:
        return {name: _new(stored, stored[name]) for name in names}


def _new(file: h5py.File, thing: Any, depth: int = 0) -> Any:
    """Return a variable of a file of version 7.3, which is HDF5 with axes in reverse."""
    if depth > _DEEPEST:
        raise ValueError(f"structures are nested more than {_DEEPEST} deep")
    if isinstance(thing, h5py.Group):
        return _structure(file, thing, depth)
    kind = thing.attrs.get("MATLAB_class", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if "MATLAB_empty" in thing.attrs:
        return {"char": "", "cell": []}.get(kind, np.empty(0))
    values = thing[()]
    if thing.dtype == h5py.ref_dtype:
        return [_new(file, file[one], depth + 1) for one in np.ravel(values)]
    if kind == "char":
        return "".join(chr(code) for code in np.ravel(values))
    return np.squeeze(np.asarray(values).T)


def _structure(file: h5py.File, group: h5py.Group, depth: int) -> list[dict[str, Any]]:
    """Return the elements of a structure; arrays of them keep references for each field."""
    many = all(
        isinstance(one, h5py.Dataset)
        and one.dtype == h5py.ref_dtype
        and "MATLAB_class" not in one.attrs
        for one in group.values()
    )
    if not many:
        return [{name: _new(file, one, depth + 1) for name, one in group.items()}]
    columns = {name: _new(file, one, depth) for name, one in group.items()}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"fields of {group.name} have {sorted(lengths)} elements")
    return [{name: values[k] for name, values in columns.items()} for k in range(lengths.pop())]
