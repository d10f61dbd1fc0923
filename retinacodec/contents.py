"""What is in a file, what is wrong with it, and the next command to type, for any kind of file."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from retinacodec.errors import InputError, RecordingError, printable
from retinacodec.hdf5_safety import is_hdf5, open_hdf5
from retinacodec.import_formats import UNREAD, PathFormat, recognised, recognised_path
from retinacodec.nwb_contents import nwb_contents
from retinacodec.nwb_spikes import text

__all__ = ["FileInfo", "describe"]

_MOST_ROWS = 20
_WIDEST = 40  # characters of a name that the words beside it still line up with

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class FileInfo:
    """What `describe` found out about a file.

    Parameters
    ----------
    path : str
        The file.
    kind : str
        What it is.
    contents : tuple of (str, str)
        Rows of name and words.
    problems : tuple of str
        What stands in the way of using it; empty for a good file.
    next : str
        The command to type next, empty where there is none.
    notices : tuple of str
        How the file is read where that should be known; it can be used all the same.
    """

    path: str
    kind: str
    contents: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    next: str = ""
    notices: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain dictionaries and lists."""
        lists = {"problems": list(self.problems), "notices": list(self.notices)}
        return {**asdict(self), "contents": dict(self.contents), **lists}

    def text(self) -> str:
        """Return the same for a reader, one fact a line."""
        width = max((len(name) for name, _ in self.contents), default=0)
        lines = [f"{self.path}: {self.kind}"]
        lines += [f"  {name:<{min(width, _WIDEST)}}  {words}" for name, words in self.contents]
        lines += [f"  problem: {problem}" for problem in self.problems]
        lines += [f"  notice: {notice}" for notice in self.notices]
        return "\n".join(map(printable, [*lines, f"next: {self.next}"] if self.next else lines))


def describe(path: str | Path) -> FileInfo:
    """Say what is in a file, what is wrong with it, and what to do next.

    Parameters
    ----------
    path : str or Path
        An NWB 2 or NWB 1 file, other HDF5, a saved result, a model, arrays or a film clip.

    Returns
    -------
    FileInfo
        Contents, problems and the next command. Broken contents are problems and no errors.

    Raises
    ------
    RecordingError
        If there is no such file, or it cannot be opened at all.
    """
    target = Path(path)
    if not target.exists():
        raise RecordingError(target, "no such file", "check the name")
    if target.is_dir():
        return _folder(target)
    other = recognised_path(target)
    if other is not None:
        return _importable(target, other)
    known = _READERS.get(target.suffix.lower())
    return (known or (_hdf5 if is_hdf5(target) else _clip))(target)


def _folder(path: Path) -> FileInfo:
    if (path / "zarr.json").is_file():
        return _result(path)
    if (path / "provenance.json").is_file():
        return FileInfo(str(path), "run folder", next=f"retinacodec report {_quoted(path)}")
    other = recognised_path(path)
    if other is not None:
        return _importable(path, other)
    names = sorted(entry.name for entry in path.iterdir())
    held = f"{len(names)} entries: {', '.join(names[:8])}"
    return FileInfo(str(path), "folder", (("holds", held),), ("is a folder, not a file",))


def _importable(path: Path, layout: PathFormat) -> FileInfo:
    """Describe files that are no HDF5 and can be imported, or say what is wrong with them."""
    step = f"retinacodec import {_quoted(path)} --out {_quoted(Path(path.stem + '_nwb2.nwb'))}"
    try:
        return FileInfo(str(path), layout.kind, tuple(layout.contents(path)), next=step)
    except RecordingError as error:
        return FileInfo(str(path), layout.kind, problems=(str(error),))


def _hdf5(path: Path) -> FileInfo:
    with open_hdf5(path, unread=UNREAD) as file:
        if not text(file.attrs.get("nwb_version", "")).startswith("2"):
            return _foreign(file, path)
    with open_hdf5(path) as file:  # here pixels are looked at, so no link may lead elsewhere
        return _nwb2(file, path)


def _foreign(file: h5py.File, path: Path) -> FileInfo:
    found = recognised(file)
    if found is None:
        rows = _datasets(file)
        return FileInfo(str(path), "HDF5", tuple(rows), ("no layout that can be imported",))
    step = f"retinacodec import {_quoted(path)} --out {_quoted(path.stem + '_nwb2.nwb')}"
    return FileInfo(str(path), found.kind, tuple(found.contents(file)), next=step)


def _nwb2(file: h5py.File, path: Path) -> FileInfo:
    held = nwb_contents(file, path)
    told: dict[str, list[str]] = {"error": [], "warning": [], "note": []}
    for finding in held.findings:
        words = f"{finding.what}; {finding.hint}" if finding.hint else finding.what
        told[finding.level].append(f"{finding.place}: {words}")
    return FileInfo(
        str(path),
        f"NWB {text(file.attrs['nwb_version'])}",
        held.rows,
        tuple(told["error"]),
        held.next,
        tuple(told["warning"]),
    )


def _datasets(file: h5py.File) -> Rows:
    rows: Rows = []

    def visit(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset):
            rows.append((name, f"{thing.dtype} {thing.shape}"))

    file.visititems(visit)
    more = [("...", f"{len(rows) - _MOST_ROWS} more")] if len(rows) > _MOST_ROWS else []
    return rows[:_MOST_ROWS] + more


def _result(path: Path) -> FileInfo:
    import xarray as xr

    from retinacodec.store import open_result

    try:
        result = open_result(path, load=False)
    except InputError as error:
        raise RecordingError(path, str(error)) from error
    try:
        if isinstance(result, xr.DataTree):
            rows = [(name, _dims(node.to_dataset())) for name, node in result.children.items()]
            layer = next(iter(result.children), "")
            step = f"retinacodec modes {_quoted(path)} {_quoted(layer)} --out modes.nc"
            return FileInfo(str(path), "result (tree of layers)", tuple(rows), next=step)
        dataset = result.to_dataset(name="values") if isinstance(result, xr.DataArray) else result
        kind = str(dataset.attrs.get("kind", "result"))
        rows = [(str(name), _dims(variable)) for name, variable in dataset.data_vars.items()]
        step = f"retinacodec contributions MODEL {_quoted(path)} --out parts.zarr"
        return FileInfo(str(path), kind, tuple(rows), next=step if kind == "stimulus" else "")
    finally:
        result.close()


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))


def _dims(thing: Any) -> str:
    return " x ".join(f"{size} {dim}" for dim, size in thing.sizes.items()) or "a single value"


def _model(path: Path) -> FileInfo:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as weights:
            keys = sorted(weights.keys())
            rows = [(key, str(tuple(weights.get_slice(key).get_shape()))) for key in keys]
    except (SafetensorError, OSError) as error:
        raise RecordingError(path, f"is no readable model: {error}") from error
    step = f"retinacodec contributions {_quoted(path)} MOVIE --out parts.zarr"
    return FileInfo(str(path), "model weights", tuple(rows[:_MOST_ROWS]), next=step)


def _arrays(path: Path) -> FileInfo:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = dict(loaded) if path.suffix.lower() == ".npz" else {"array": loaded}
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise RecordingError(path, f"holds no plain arrays: {error}") from error
    rows = tuple((name, f"{array.dtype} {array.shape}") for name, array in arrays.items())
    return FileInfo(str(path), "numpy arrays", rows)


def _clip(path: Path) -> FileInfo:
    import av

    try:
        with av.open(str(path)) as film:
            video = film.streams.video[0]
            rate = float(video.average_rate or 0)
            words = f"{video.width} x {video.height} pixels, {rate:.4g} frames per second"
            frames = f", {video.frames} frames" if video.frames else ""
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise RecordingError(
            path,
            "is of no kind known here",
            "known are NWB, HDF5, .nc, .zarr, .npy, .npz, .safetensors and film clips",
        ) from error
    step = f"retinacodec stimulus natural_movie --source {_quoted(path)} --out movie.nwb"
    return FileInfo(str(path), "film clip", (("film", words + frames),), next=step)


_READERS: dict[str, Callable[[Path], FileInfo]] = {
    ".nc": _result,
    ".nwb": _hdf5,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".npy": _arrays,
    ".npz": _arrays,
    ".safetensors": _model,
}
