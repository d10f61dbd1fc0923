"""The only door to HDF5 files: scanned before they are read, and every failure in words."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from retinacodec.errors import InputError, RecordingError, RetinacodecError
from retinacodec.hdf5_heaps import has_endless_heap
from retinacodec.hdf5_scan import Limits, findings

__all__ = ["Limits", "blaming", "explained", "is_hdf5", "open_hdf5", "scan"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def scan(path: str | Path, limits: Limits | None = None) -> list[str]:
    """Return everything in an HDF5 file that reaches outside it or claims absurd sizes.

    Parameters
    ----------
    path : str or Path
        An HDF5 file.
    limits : Limits, optional
        What is absurd; by default ``Limits()``.

    Returns
    -------
    list of str
        One line for each finding; empty for a harmless file.

    Raises
    ------
    RecordingError
        If the file cannot be opened at all.

    Notes
    -----
    External links, virtual datasets and datasets with external raw storage would let a file show
    the bytes of any other file on the machine as if they were its own; a reference could lead to
    such a dataset past all links. `retinacodec.hdf5_scan.findings` says how they are found.
    """
    with _explaining(Path(path)), _opened(path) as file:
        return list(findings(file, limits or Limits()))


@contextmanager
def open_hdf5(
    path: str | Path,
    limits: Limits | None = None,
    *,
    first: Callable[[h5py.File], None] | None = None,
    unread: Collection[str] = (),
) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading once it has passed the scan; all failures say what to do.

    Parameters
    ----------
    path : str or Path
        The file.
    limits : Limits, optional
        What the scan refuses; by default ``Limits()``.
    first : callable, optional
        Looks at the root of the file before the scan and may raise.
    unread : collection of str, optional
        Patterns of places in the file that the caller never opens (``/movies/*/data``): links
        there may lead out of the file.

    Yields
    ------
    h5py.File
        The open file, closed at the end of the ``with`` block.

    Raises
    ------
    RecordingError
        If the file is missing, empty, cut short, not HDF5 or unsafe, if another program wrote
        into it while it was read, and in place of every unexpected error inside the block, with
        that error as its cause. Errors that this package raises on purpose pass as they are.
    """
    source = Path(path)
    with _explaining(source), _opened(source) as file:
        before = _state(file)
        if first is not None:
            first(file)
        found = list(findings(file, limits or Limits(), unread))
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise RecordingError(
                source,
                "unsafe: " + "; ".join(found[:3]) + more,
                "ask for a self-contained copy (h5repack makes one)",
            )
        try:
            yield file
        finally:
            if file and _state(file) != before:
                raise RecordingError(
                    source, "changed while it was read", "wait until it is written, then try again"
                )


@contextmanager
def _explaining(source: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file inside the ``with`` block into one line of words."""
    _check_outside(source)
    try:
        yield
    except RetinacodecError:
        raise
    except MemoryError as error:
        raise RecordingError(
            source, "does not fit into memory", "read a part of it (frames=, crop=)"
        ) from error
    except Exception as error:
        raise RecordingError(source, *explained(error)) from error


def is_hdf5(path: str | Path) -> bool:
    """Tell by its first bytes whether a file is HDF5.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    bool
        True if the signature stands at the start or behind a user block.
    """
    size = Path(path).stat().st_size
    with Path(path).open("rb") as raw:
        places = [0] + [1 << power for power in range(9, 21)]
        return any(_signature_at(raw, place) for place in places if place < size)


@contextmanager
def blaming(path: str | Path) -> Iterator[None]:
    """Blame a file for what turns out wrong with its contents inside the ``with`` block.

    Parameters
    ----------
    path : str or Path
        The file whose contents are being used.

    Raises
    ------
    RecordingError
        In place of an `InputError` or an error of the HDF5 library.
    """
    try:
        yield
    except InputError as error:
        raise RecordingError(path, str(error)) from error
    except OSError as error:
        raise RecordingError(path, *explained(error)) from error


def _opened(path: str | Path) -> h5py.File:
    """Open without locks, which network disks refuse, unless this program already holds one."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, "r")


def _state(file: h5py.File) -> tuple[int, int]:
    """Return size and time of the last change of the file that is open, whatever its name."""
    state = os.fstat(file.id.get_vfd_handle())
    return state.st_size, state.st_mtime_ns


def _check_outside(path: Path) -> None:
    """Raise for whatever can be seen of a file without opening it as HDF5."""
    if path.is_dir():
        zarr = any((path / name).exists() for name in (".zgroup", "zarr.json"))
        raise RecordingError(
            path,
            "is a folder" + (" (a Zarr store)" if zarr else ""),
            "export it to one HDF5 file" if zarr else "give the file in it",
        )
    if not path.exists():
        raise RecordingError(path, "no such file")
    try:
        size, signed = path.stat().st_size, is_hdf5(path)
    except OSError as error:
        raise RecordingError(path, f"cannot be opened: {error.strerror}") from error
    if size == 0:
        raise RecordingError(path, "is empty (0 bytes)", "copy or download it again")
    if not signed:
        raise RecordingError(path, "is not an HDF5 or NWB file")
    if has_endless_heap(path):
        raise RecordingError(
            path, "is damaged: a heap of its strings never ends", "copy or download it again"
        )


def _signature_at(raw: Any, place: int) -> bool:
    raw.seek(place)
    return bool(raw.read(len(_SIGNATURE)) == _SIGNATURE)


def explained(error: Exception) -> tuple[str, str]:
    """Turn an error of the HDF5 library into words.

    Parameters
    ----------
    error : Exception
        What it raised.

    Returns
    -------
    (str, str)
        What is wrong and what to do.
    """
    text = " ".join(str(error).split())
    ends = re.search(r"eof = (\d+).*stored_eof = (\d+)", text)
    if ends:
        have, whole = (int(size) / 1e6 for size in ends.groups())
        return f"is incomplete ({have:.3g} of {whole:.3g} MB)", "copy or download it again"
    if "already open for write" in text:
        return "is being written by another program, or was not closed by it", (
            "close it there, or repair a copy with h5clear -s"
        )
    if "filter" in text.lower() or "plugin" in text.lower():
        return f"holds data in a compression that is not installed here ({text})", (
            "install hdf5plugin, or rewrite it with gzip (h5repack -f GZIP=4)"
        )
    return f"cannot be read: {type(error).__name__}: {text[:200]}", "it may be damaged"
