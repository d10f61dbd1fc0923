"""Finding the movies of an NWB 2 file, their flip times, repeats and pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb_coding import read_note
from retinacodec.nwb_external import film_frames
from retinacodec.nwb_flips import read_flips, tell_gaps
from retinacodec.nwb_generators import Generator, drawn, mentions_seed, seed_of, undeclared
from retinacodec.nwb_pixels import Pixels, has_pixels, is_flicker, pixels_of
from retinacodec.nwb_presentations import find_presentations
from retinacodec.nwb_seed_rows import seed_rows
from retinacodec.nwb_spikes import text
from retinacodec.nwb_tables import is_table, stimulus_parameters, stimulus_tables
from retinacodec.nwb_triggers import Triggers, flips_of

__all__ = ["NwbMovie", "find_movies", "open_movie"]

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
        Place of the first frame of each presentation among the pixels.
    open_pixels : callable () -> Pixels
        Opens the pixels, which flip times do not need.
    found_by : str
        What in the file says that these are repeats; ``"one showing"`` for a movie without.
    """

    name: str
    group: h5py.Group
    note: dict[str, Any] | None
    flips: tuple[Times, ...]
    first_frames: tuple[int, ...]
    open_pixels: Callable[[], Pixels]
    found_by: str = "one showing"

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
        Series of pictures or of picture numbers in ``/stimulus/presentation``, and those without
        pictures whose description has a seed; where there are none, those that were put into
        ``/acquisition`` or ``/stimulus/templates``.
    """
    for room in _ROOMS:
        if isinstance(file.get(room), h5py.Group):
            found = {
                name: group
                for name, group in file[room].items()
                if _is_movie(group) or (room == _ROOMS[0] and _is_seed(group))
            }
            if found:
                return found
    return {}


def open_movie(
    file: h5py.File,
    path: str,
    name: str | None = None,
    *,
    repeat_frames: int | None = None,
    triggers: Triggers | None = None,
    generator: Generator | None = None,
    allow_external: Sequence[str | Path] = (),
    frame_rate: float | None = None,
) -> NwbMovie:
    """Choose a movie of a file and read its flip times and repeats.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.
    name : str, optional
        Name of the movie, or its place in the file; needed where there are several. The
        ``stimulus_name`` of rows of a table of intervals reads the frames shown under it. By name,
        a series of one value a frame is a movie of one pixel (full-field flicker), one of a row of
        values a frame is a movie of bars along the second axis, and a table with a seed in each
        row is a movie if `generator` is given.
    repeat_frames : int, optional
        Frames of one repeat, in place of what the file says about repeats; as many as the movie
        has to read it as one.
    triggers : Triggers, optional
        Where the file keeps the pulses of the display, in place of the movie's own times.
    generator : Generator, optional
        How to draw a movie again that is kept as a seed only.
    allow_external : sequence of str or Path
        Films, or folders of films, that may be opened although they do not lie in the folder of
        the NWB file.
    frame_rate : float, optional
        Hz, in place of the rate that the file states, where it has no timestamps.

    Returns
    -------
    NwbMovie
        The movie; its pixels are not read, unless repeats must be compared.

    Raises
    ------
    RecordingError
        If there is no such movie, several to choose from, or its times are broken.
    """
    if triggers is not None and frame_rate is not None:
        raise InputError("open_movie: expected triggers= or frame_rate=, got both")
    group, clip = _chosen(file, path, name, generator)
    if generator is not None and is_table(group):
        return _of_rows(file, path, group, generator, triggers, frame_rate)
    if triggers is None and str(group.name).startswith("/stimulus/templates/"):
        _refuse_rows_of_frames(file, path, group)
    name = str(group.name).rsplit("/", 1)[-1]
    note = read_note(text(group.attrs.get("comments", "")))
    frames = _frame_count(group, path, allow_external)
    if frames is None and triggers is None and _without_times(group):
        raise _untimed(group, path, generator)
    if triggers is not None:
        flips = flips_of(triggers.pulses(file, path), triggers.every, frames, name=name, path=path)
    else:
        flips = read_flips(file, group, path, frames=frames, note=note, frame_rate=frame_rate)
    open_pixels = cache(partial(_pixels, group, path, generator, tuple(allow_external), flips.size))
    found = find_presentations(
        file, group, flips, path, open_pixels, note=note, repeat_frames=repeat_frames, clip=clip
    )
    shown = [flips[start:stop] for start, stop in found.ranges]
    if note and note.get("first_frame") is not None and triggers is None:
        rate = float(note["attrs"]["frame_rate"])
        shown[0] = (note["first_frame"] + np.arange(shown[0].size)) / rate
    tell_gaps(shown, name, path)
    starts = tuple(start for start, _ in found.ranges)
    shown_as = clip or name
    return NwbMovie(shown_as, group, note, tuple(shown), starts, open_pixels, found.found_by)


def _chosen(
    file: h5py.File, path: str, name: str | None, generator: Generator | None
) -> tuple[h5py.Group, str | None]:
    """Return the series or table asked for, or the only movie, and the clip in it."""
    movies = find_movies(file)
    if name is None and len(movies) == 1:
        return next(iter(movies.values())), None
    if name is None and not movies:
        _refuse_without_movie(file, path)
    if name is None:
        raise RecordingError(
            path, f"has {len(movies)} movies", f"choose one with stimulus=: {', '.join(movies)}"
        )
    if name in movies:
        return movies[name], None
    for place in (name, f"stimulus/presentation/{name}", f"intervals/{name}"):
        thing = file.get(place)
        if _is_movie(thing) or _is_seed(thing) or is_flicker(thing):
            return thing, None
        drawable = isinstance(thing, h5py.Group) and (is_table(thing) or _has_times(thing))
        if drawable and generator is not None:
            return thing, None
        if drawable and "seed" in thing:
            raise undeclared(thing, path)
    clips = _clips(file)
    if name in clips and len(movies) == 1:
        return next(iter(movies.values())), name
    held = ", ".join(movies) or "none at all"
    if movies and clips:
        held += "; rows of " + ", ".join(sorted(clips)[:8])
    raise RecordingError(path, f"has no movie {name!r}", f"it has {held}")


def _clips(file: h5py.File) -> set[str]:
    """Return the names under which tables of intervals say that something was shown."""
    held = file.get("intervals")
    names: set[str] = set()
    for table in held.values() if isinstance(held, h5py.Group) else ():
        column = table.get("stimulus_name") if isinstance(table, h5py.Group) else None
        if isinstance(column, h5py.Dataset):
            names |= {text(value) for value in np.ravel(column[()]).tolist()}
    return names


def _refuse_without_movie(file: h5py.File, path: str) -> None:
    tables = stimulus_parameters(file, path)
    if not tables:
        raise RecordingError(
            path,
            "has no movie in /stimulus/presentation",
            "a fit needs the frames that were shown",
        )
    held = "; ".join(
        f"{place} ({', '.join(map(str, table.data_vars))})" for place, table in tables.items()
    )
    seeds = [place for place, table in tables.items() if "seed" in table]
    hint = "render it and pass stimulus="
    if seeds:
        hint += f", or name {seeds[0]} and declare generator="
    raise RecordingError(path, f"has no movie but tables of parameters: {held}", hint)


def _refuse_rows_of_frames(file: h5py.File, path: str, template: h5py.Group) -> None:
    """Refuse the times of a template where a table says, frame by frame, when it was shown."""
    name = str(template.name).rsplit("/", 1)[-1]
    for place, table in stimulus_tables(file):
        column, names = table.get("frame"), table.get("stimulus_name")
        if not (isinstance(column, h5py.Dataset) and (column.size or 0) > 1):
            continue
        words = np.ravel(names[()]).tolist() if isinstance(names, h5py.Dataset) else []
        if name in place or any(text(word) in (name, "") for word in words):
            raise RecordingError(
                path,
                f"{name} is a template, of which {place} says in {column.size} rows when each "
                "frame was shown",
                "make the movie that was shown: make_stimulus(frames[row], time=start_time, ...), "
                "and pass it as stimulus=",
            )


def _is_movie(thing: Any) -> bool:
    if not isinstance(thing, h5py.Group):
        return False
    kind = text(thing.attrs.get("neurodata_type", ""))
    if kind == "IndexSeries" or "external_file" in thing:
        return True
    data = thing.get("data")
    return isinstance(data, h5py.Dataset) and data.ndim in (3, 4)


def _is_seed(thing: Any) -> bool:
    """Tell whether a series has times and a seed in its description instead of pixels."""
    return _has_times(thing) and mentions_seed(thing)


def _has_times(thing: Any) -> bool:
    times = ("timestamps", "starting_time")
    return isinstance(thing, h5py.Group) and any(key in thing for key in times)


def _pixels(
    group: h5py.Group,
    path: str,
    generator: Generator | None,
    allow_external: tuple[str | Path, ...],
    frames: int,
) -> Pixels:
    """Open the pixels of a series, or draw them."""
    name = str(group.name).rsplit("/", 1)[-1]
    kept = text(group.attrs.get("neurodata_type", "")) == "IndexSeries" or has_pixels(group)
    flicker = is_flicker(group) and generator is None and not mentions_seed(group)
    if kept or flicker or "external_file" in group:
        if generator is not None:
            raise RecordingError(
                path, f"{name} has pixels", "generator= is for movies kept as a seed; leave it out"
            )
        return pixels_of(group, path, allow_external)
    if generator is None:
        raise undeclared(group, path)
    return drawn(generator, frames, seed_of(group, path, generator), name, path)


def _frame_count(group: h5py.Group, path: str, allow_external: Sequence[str | Path]) -> int | None:
    data = group.get("data")
    if isinstance(data, h5py.Dataset) and data.ndim and len(data) and not _holds_seed(group):
        return len(data)
    count = group.get("num_samples")
    if isinstance(count, h5py.Dataset):
        return int(count[()])
    return film_frames(group, path, allow_external) if "external_file" in group else None


def _holds_seed(group: h5py.Group) -> bool:
    """Tell whether the one number in a series is a seed (or a filler) and no frame."""
    data = group["data"]
    return bool(data.ndim == 1 and data.size == 1) and mentions_seed(group)


def _without_times(group: h5py.Group) -> bool:
    """Tell whether a series has no more than the time at which its movie began."""
    stamps = group.get("timestamps")
    few = isinstance(stamps, h5py.Dataset) and (stamps.size or 0) < 2
    return few and not has_pixels(group) and mentions_seed(group)


def _untimed(group: h5py.Group, path: str, generator: Generator | None) -> RecordingError:
    """Return the error for a seed of which the series says when it began, but no flips."""
    name = str(group.name).rsplit("/", 1)[-1]
    hint = "say where the pulses of the display are: triggers=Triggers('PLACE', every=FRAMES)"
    if generator is None:
        hint += ", and " + undeclared(group, path).hint
    return RecordingError(path, f"{name} says when it began, but not the flips of its frames", hint)


def _of_rows(
    file: h5py.File,
    path: str,
    table: h5py.Group,
    generator: Generator,
    triggers: Triggers | None,
    frame_rate: float | None,
) -> NwbMovie:
    """Make a movie of the rows of a table with seeds."""
    rows = seed_rows(file, table, path, generator, frame_rate=frame_rate, triggers=triggers)
    shown = rows.showings(path)
    tell_gaps(shown, rows.name, path)
    return NwbMovie(
        name=rows.name.rsplit("/", 1)[-1],
        group=table,
        note=None,
        flips=shown,
        first_frames=(0,) * len(shown),
        open_pixels=cache(partial(rows.pixels, generator, path)),
        found_by=f"rows of {rows.name} with one seed" if rows.repeated else "one showing",
    )
