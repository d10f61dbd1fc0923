"""Files and folders that appear whole or not at all, and never replace others unasked."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from retinacodec.errors import InputError

__all__ = ["check_free", "replacing"]


@contextlib.contextmanager
def replacing(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write to a temporary name beside the path, and rename it when the block ends well.

    Parameters
    ----------
    path : str or Path
        The file or folder to be.
    overwrite : bool, default False
        Replace a file, or a Zarr folder, that has this name. Other folders are never replaced.

    Yields
    ------
    Path
        The temporary name; the block must create a file or folder there.

    Raises
    ------
    InputError
        If the path's folder does not exist, or something is there that may not be replaced.
    """
    target = Path(path)
    check_free(target, overwrite)
    token = uuid.uuid4().hex[:12]
    temporary = target.with_name(f".{target.name}.{token}.tmp")
    try:
        yield temporary
        _flush(temporary)
        check_free(target, overwrite)
        _swap(temporary, target, token)
    finally:
        _remove(temporary)


def check_free(target: Path, overwrite: bool) -> None:
    """Raise `InputError` unless a path may be written.

    Parameters
    ----------
    target : Path
        The file or folder to be.
    overwrite : bool
        Whether an earlier file or Zarr folder may be replaced.

    Raises
    ------
    InputError
        If the path's folder does not exist, or something is there that may not be replaced.
    """
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist; make it first")
    if not (target.exists() or target.is_symlink()):
        return
    if not overwrite:
        raise InputError(f"{target}: exists already; choose another name or pass overwrite=True")
    if target.is_dir() and not (target / "zarr.json").is_file():
        raise InputError(f"{target}: is a folder that is no result; it is not replaced")


def _swap(temporary: Path, target: Path, token: str) -> None:
    """Give the temporary file or folder its final name; the old one stays if that fails."""
    if not target.is_dir():
        temporary.replace(target)
        return
    old = target.with_name(f".{target.name}.{token}.old")
    target.replace(old)
    try:
        temporary.replace(target)
    except OSError:
        old.replace(target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or every file of a folder, is on the disk."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
