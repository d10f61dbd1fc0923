"""Finding the movies of an NWB 2 file, their flip times, repeats and pixels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.nwb_coding import read_note
from retinacodec.nwb_pixels import Pixels, pixels_of
from retinacodec.nwb_spikes import text
from retinacodec.nwb_times import checked_times, stated_times

__all__ = ["NwbMovie", "find_movies", "open_movie"]

_log = logging.getLogger(__name__)
_ROOMS = ("stimulus/presentation", "acquisition", "stimulus/templates")

Times = NDArray[np.float64]


@dataclass(frozen=True)
class NwbMovie:
    """One movie of an open NWB file.

    Parameters
    ----------
    name : str
        Its name in the file.
    group : h5py.Group
        Where it lies.
    note : dict or None
        What this package wrote about it, None for other files.
    flips : tuple of ndarray (frame,)
        Flip times of each presentation, s; one unless the movie was repeated.
    first_frames : tuple of int
        Place of the first frame of each presentation in the file.
    open_pixels : callable () -> Pixels
        Opens the pixels, which flip times do not need.
    """

    name: str
    group: h5py.Group
    note: dict[str, Any] | None
    flips: tuple[Times, ...]
    first_frames: tuple[int, ...]
    open_pixels: Callable[[], Pixels]

    @property
    def frame_rate(self) -> float:
        """Frames per second: as written by this package, else from the median interval."""
        if self.note:
            return float(self.note["attrs"]["frame_rate"])
        return float(1 / np.median(np.diff(self.flips[0])))


def find_movies(file: h5py.File) -> dict[str, h5py.Group]:
    """Return the movies of a file by name.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.

    Returns
    -------
    dict of str to h5py.Group
        Series of pictures or of picture numbers in ``/stimulus/presentation``; where there are
        none, those that were put into ``/acquisition`` or ``/stimulus/templates``.
    """
    for room in _ROOMS:
        if isinstance(file.get(room), h5py.Group):
            found = {name: group for name, group in file[room].items() if _is_movie(group)}
            if found:
                return found
    return {}


def open_movie(
    file: h5py.File, path: str, name: str | None = None, *, repeat_frames: int | None = None
) -> NwbMovie:
    """Choose a movie of a file and read its flip times and repeats.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.
    name : str, optional
        Name of the movie, or its place in the file; needed where there are several.
    repeat_frames : int, optional
        Frames of one repeat, where the same frames were shown again and again and the file has
        no table of intervals with columns ``stimulus_name`` and ``repeat``.

    Returns
    -------
    NwbMovie
        The movie; its pixels are not read.

    Raises
    ------
    RecordingError
        If there is no such movie, several to choose from, or its times are broken.
    """
    movies = find_movies(file)
    if name is None:
        if not movies:
            raise RecordingError(
                path,
                "has no movie in /stimulus/presentation",
                "a fit needs the frames that were shown",
            )
        if len(movies) > 1:
            raise RecordingError(
                path, f"has {len(movies)} movies", f"choose one with stimulus=: {', '.join(movies)}"
            )
        name = next(iter(movies))
    group = movies.get(name)
    if group is None and isinstance(file.get(name), h5py.Group) and _is_movie(file[name]):
        group = file[name]
    if group is None:
        raise RecordingError(
            path, f"has no movie {name!r}", f"it has {', '.join(movies) or 'none at all'}"
        )
    return _opened(file, path, group, repeat_frames)


def _is_movie(thing: Any) -> bool:
    if not isinstance(thing, h5py.Group):
        return False
    kind = text(thing.attrs.get("neurodata_type", ""))
    if kind == "IndexSeries" or "external_file" in thing:
        return True
    data = thing.get("data")
    return isinstance(data, h5py.Dataset) and data.ndim in (3, 4)


def _opened(file: h5py.File, path: str, group: h5py.Group, repeat_frames: int | None) -> NwbMovie:
    name = group.name.rsplit("/", 1)[-1]
    note = read_note(text(group.attrs.get("comments", "")))
    flips = _flips(file, group, name, path, note)
    ranges = _written_presentations(note, flips.size)
    if ranges is None:
        ranges = (
            None if repeat_frames else _listed_presentations(file, name, flips, path)
        ) or _stated_presentations(repeat_frames, flips.size, name, path)
    shown = [flips[start:stop] for start, stop in ranges]
    if note and note.get("first_frame") is not None:
        rate = float(note["attrs"]["frame_rate"])
        shown[0] = (note["first_frame"] + np.arange(shown[0].size)) / rate
    return NwbMovie(
        name,
        group,
        note,
        tuple(shown),
        tuple(start for start, _ in ranges),
        lambda: pixels_of(group, path),
    )


def _flips(
    file: h5py.File, group: h5py.Group, name: str, path: str, note: dict[str, Any] | None
) -> Times:
    """Return the onset of every frame, checked."""
    frames = _frame_count(group)
    exact = file.get(f"processing/misc/{name}_frame_onsets/data") if note else None
    if exact is not None and exact.shape == (frames,):
        return checked_times(np.asarray(exact[()], np.float64), name, path)
    return stated_times(group, path, frames)


def _frame_count(group: h5py.Group) -> int | None:
    data = group.get("data")
    if isinstance(data, h5py.Dataset) and data.ndim and len(data):
        return len(data)
    count = group.get("num_samples")
    return int(count[()]) if isinstance(count, h5py.Dataset) else None


def _written_presentations(
    note: dict[str, Any] | None, frames: int
) -> list[tuple[int, int]] | None:
    if not note:
        return None
    length = int(note["frames"])
    return [(start, start + length) for start in range(0, frames - length + 1, length)]


def _listed_presentations(
    file: h5py.File, name: str, flips: Times, path: str
) -> list[tuple[int, int]] | None:
    """Find repeats in a table of intervals with columns ``stimulus_name`` and ``repeat``."""
    for table in file["intervals"].values() if "intervals" in file else ():
        wanted = ("start_time", "stop_time", "stimulus_name", "repeat")
        if not all(isinstance(table.get(column), h5py.Dataset) for column in wanted):
            continue
        start, stop, named, repeat = (table[column][()] for column in wanted)
        mine = np.array([text(value) == name for value in named]) & (np.asarray(repeat) >= 0)
        if mine.sum() < 2:
            continue
        order = np.argsort(start[mine], kind="stable")
        slack = 0.5 * np.median(np.diff(flips))
        begins = np.searchsorted(flips, start[mine][order] - slack)
        ends = np.searchsorted(flips, stop[mine][order] - slack)
        return _equal_lengths(begins, ends, name, path)
    return None


def _equal_lengths(
    begins: NDArray[np.intp], ends: NDArray[np.intp], name: str, path: str
) -> list[tuple[int, int]]:
    lengths = ends - begins
    least = int(lengths.min())
    if least < 2 or lengths.max() - least > 1:
        raise RecordingError(
            path,
            f"repeats of {name} have {least} to {lengths.max()} frames",
            "repeats must show the same frames; correct the table of intervals",
        )
    if lengths.max() > least:
        _log.warning("%s: repeats of %s differ by one frame; all are cut to %d", path, name, least)
    return [(int(begin), int(begin) + least) for begin in begins]


def _stated_presentations(
    repeat_frames: int | None, frames: int, name: str, path: str
) -> list[tuple[int, int]]:
    length = repeat_frames or frames
    if length < 2 or frames % length:
        raise RecordingError(
            path,
            f"{name} has {frames} frames, which are no whole number of repeats of {length}",
            "correct repeat_frames=",
        )
    return [(start, start + length) for start in range(0, frames, length)]
