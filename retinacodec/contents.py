"""What is in a file, what is wrong with it, and the next command to type, for any kind of file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from retinacodec.errors import InputError, RecordingError
from retinacodec.hdf5_safety import is_hdf5, open_hdf5
from retinacodec.import_formats import UNREAD, recognised
from retinacodec.nwb_contrast import pixel_size
from retinacodec.nwb_movies import NwbMovie, find_movies, open_movie
from retinacodec.nwb_spikes import Spikes, check_clock, find_units, read_spikes, text
from retinacodec.recordings import dropped_frames, frame_durations

__all__ = ["FileInfo", "describe"]

_MOST_ROWS = 20

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
    """

    path: str
    kind: str
    contents: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    next: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain dictionaries and lists."""
        return {**asdict(self), "contents": dict(self.contents), "problems": list(self.problems)}

    def text(self) -> str:
        """Return the same for a reader, one fact a line."""
        width = max((len(name) for name, _ in self.contents), default=0)
        lines = [f"{self.path}: {self.kind}"]
        lines += [f"  {name:<{width}}  {words}" for name, words in self.contents]
        lines += [f"  problem: {problem}" for problem in self.problems]
        return "\n".join([*lines, f"next: {self.next}"] if self.next else lines)


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
    known = _READERS.get(target.suffix.lower())
    return (known or (_hdf5 if is_hdf5(target) else _clip))(target)


def _folder(path: Path) -> FileInfo:
    if (path / "zarr.json").is_file():
        return _result(path)
    if (path / "provenance.json").is_file():
        return FileInfo(str(path), "run folder", next=f"retinacodec report {path}")
    names = sorted(entry.name for entry in path.iterdir())
    held = f"{len(names)} entries: {', '.join(names[:8])}"
    return FileInfo(str(path), "folder", (("holds", held),), ("is a folder, not a file",))


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
    step = f"retinacodec import {path} --out {path.stem}_nwb2.nwb"
    return FileInfo(str(path), found.kind, tuple(found.contents(file)), next=step)


def _nwb2(file: h5py.File, path: Path) -> FileInfo:
    found = _Findings()
    start = file.get("session_start_time")
    if isinstance(start, h5py.Dataset):
        found.rows.append(("session", text(start[()])))
    groups = find_movies(file)
    spikes = _cells(file, path, found, needed=not groups)
    movies = [found.attempt(open_movie, file, str(path), name) for name in groups]
    for movie in filter(None, movies):
        _movie(movie, spikes, path, found)
    if not groups:
        found.attempt(open_movie, file, str(path))
    step = ""
    if not found.problems and spikes is None:
        step = f"retinacodec contributions MODEL {path} --out parts.zarr"
    elif not found.problems:
        step = f"retinacodec fit {path} --out model.safetensors"
        if len(groups) > 1:
            step += f" --stimulus {max(groups, key=lambda name: _shorter_side(groups[name]))}"
    kind = f"NWB {text(file.attrs['nwb_version'])}"
    return FileInfo(str(path), kind, tuple(found.rows), tuple(found.problems), step)


class _Findings:
    """Rows and problems while a file is gone through."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self.problems: list[str] = []

    def attempt(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the action returns, or note why it cannot and return None."""
        try:
            return action(*arguments)
        except RecordingError as error:
            self.problems.append(error.what + (f"; {error.hint}" if error.hint else ""))
            return None


def _cells(file: h5py.File, path: Path, found: _Findings, *, needed: bool) -> Spikes | None:
    """Describe the cells; a file of movies alone needs none."""
    try:
        find_units(file, str(path))
    except RecordingError as error:
        if not needed and "no sorted units" in error.what:
            found.rows.append(("cells", "none"))
            return None
    spikes: Spikes | None = found.attempt(read_spikes, file, str(path))
    if spikes is not None:
        found.rows.append(("cells", _about_spikes(spikes)))
    return spikes


def _movie(movie: NwbMovie, spikes: Spikes | None, path: Path, found: _Findings) -> None:
    found.rows.append((f"movie {movie.name}", _about_movie(movie)))
    pixels = found.attempt(movie.open_pixels)
    if pixels is not None and not movie.note:
        found.attempt(pixel_size, movie.group, pixels.size, True, path)
    if spikes is not None:
        first, last = float(movie.flips[0][0]), float(movie.flips[-1][-1])
        found.attempt(check_clock, spikes, first, last, str(path))


def _shorter_side(group: h5py.Group) -> int:
    """Return the length of the shorter side, which is 1 for bars, or 0 if it is not known."""
    data = group.get("data")
    return min(data.shape[1:3]) if isinstance(data, h5py.Dataset) and data.ndim >= 3 else 0


def _about_spikes(spikes: Spikes) -> str:
    counts = [train.size for train in spikes.times]
    filled = [train for train in spikes.times if train.size]
    span = ""
    if filled:
        first, last = min(train[0] for train in filled), max(train[-1] for train in filled)
        span = f", {first:.1f} to {last:.1f} s"
    silent = f", {counts.count(0)} without a spike" if 0 in counts else ""
    names = ", ".join(spikes.cells[:8]) + (" ..." if len(spikes.cells) > 8 else "")
    return f"{len(counts)} ({names}), {sum(counts)} spikes{span}{silent}"


def _about_movie(movie: NwbMovie) -> str:
    flips = movie.flips
    last = flips[-1][-1] + frame_durations(flips[-1])[-1]
    words = (
        f"{flips[0].size} frames at {movie.frame_rate:.4g} Hz, {flips[0][0]:.1f} to {last:.1f} s"
    )
    if len(flips) > 1:
        words += f", {len(flips)} repeats"
    data = movie.group.get("data")
    if isinstance(data, h5py.Dataset) and data.ndim >= 3 and data.size:
        words += f", {data.shape[1]} x {data.shape[2]} pixels"
    lost = sum(dropped_frames(shown).size for shown in flips)
    return words + (f", {lost} dropped frames" if lost else "")


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
            step = f"retinacodec modes {path} {next(iter(result.children), '')} --out modes.nc"
            return FileInfo(str(path), "result (tree of layers)", tuple(rows), next=step)
        dataset = result.to_dataset(name="values") if isinstance(result, xr.DataArray) else result
        kind = str(dataset.attrs.get("kind", "result"))
        rows = [(str(name), _dims(variable)) for name, variable in dataset.data_vars.items()]
        step = f"retinacodec contributions MODEL {path} --out parts.zarr"
        return FileInfo(str(path), kind, tuple(rows), next=step if kind == "stimulus" else "")
    finally:
        result.close()


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
    step = f"retinacodec contributions {path} MOVIE --out parts.zarr"
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
    step = f"retinacodec stimulus natural_movie --source {path} --out movie.nwb"
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
