"""Where a result came from: versions, command, machine, seeds and input hashes, by code."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import retinacodec
from retinacodec.errors import InputError

__all__ = ["file_sha256", "provenance"]

_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "xarray",
    "h5py",
    "pynwb",
    "zarr",
    "h5netcdf",
    "scikit-learn",
    "numba",
    "matplotlib",
    "safetensors",
    "av",
)
_INTERACTIVE = "(interactive session)"


def provenance(**extra: Any) -> dict[str, Any]:
    """Return a record of the software, machine and command of this moment.

    Parameters
    ----------
    **extra : object
        What else belongs to the record, such as ``seeds={"model": 0}`` or
        ``inputs={"cells.nwb": file_sha256("cells.nwb")}``; kept as it is.

    Returns
    -------
    dict
        ``retinacodec`` (version), ``git_commit`` and ``git_modified`` (None where the package is
        not run from a checkout), ``python``, ``packages`` (versions), ``platform``, ``threads``,
        ``device`` (CUDA devices that this process has opened), ``command`` and ``time_utc``,
        followed by the extra entries. It names no folder, user or host of this machine beyond
        what the user typed on the command line.

    Examples
    --------
    >>> record = provenance(seeds={"model": 0})
    >>> record["retinacodec"] == retinacodec.__version__, record["seeds"]
    (True, {'model': 0})
    """
    commit, modified = _checkout()
    return {
        "retinacodec": retinacodec.__version__,
        "git_commit": commit,
        "git_modified": modified,
        "python": platform.python_version(),
        "packages": _versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": _threads(),
        "device": _devices(),
        "command": _command(sys.argv),
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        **extra,
    }


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files of a folder.

    Parameters
    ----------
    path : str or Path
        A file, read in pieces, or a folder such as a Zarr store.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    InputError
        If there is nothing at the path.
    """
    target = Path(path)
    if target.is_file():
        with target.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    if not target.is_dir():
        raise InputError(f"{target}: no such file or folder; check the name")
    digest = hashlib.sha256()
    for file in sorted(entry for entry in target.rglob("*") if entry.is_file()):
        digest.update(file.relative_to(target).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(file_sha256(file)))
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on, without importing them."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _threads() -> int:
    """Return the number of threads that computations of this process use."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() else (os.cpu_count() or 1)


def _devices() -> list[str]:
    """Return the names of the CUDA devices that this process has opened."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _command(argv: list[str]) -> str:
    """Return the command as it was typed; a program by its name, a notebook as such."""
    program = Path(argv[0]).name if argv and argv[0] else ""
    if program in {"", "-c"} or "ipykernel" in program:
        return _INTERACTIVE
    if program == "__main__.py":
        program = Path(argv[0]).parent.name
    return shlex.join([program, *argv[1:]])


@functools.cache
def _checkout() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that holds this file, and whether it was changed."""
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None, None
    commit = _git(here.parent, "rev-parse", "HEAD")
    status = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def _git(folder: Path, *words: str) -> str | None:
    """Return what git answers, or None if it cannot."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
