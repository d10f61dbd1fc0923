"""Everything that is wrong with a recording, by the checks of the readers themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from retinacodec import oddities
from retinacodec.errors import RecordingError
from retinacodec.findings import Finding, Findings, Level
from retinacodec.hdf5_safety import scan
from retinacodec.nwb import open_nwb
from retinacodec.nwb_contrast import Part, pixel_size
from retinacodec.nwb_movies import NwbMovie, find_movies, open_movie
from retinacodec.nwb_series import find_responses, read_series
from retinacodec.nwb_spikes import Spikes, check_clock, find_units, read_spikes, seconds, text
from retinacodec.train_checks import check_trains, row_ends

__all__ = ["Examined", "examine", "validate"]

_MOST_UNITS = 20  # broken units that are named one by one


@dataclass(frozen=True)
class Examined:
    """What was found in a file and what could be read of it.

    Parameters
    ----------
    findings : tuple of Finding
        Errors first.
    spikes : Spikes or None
        The trains, where they can be read.
    movies : dict of str to NwbMovie
        The movies that can be opened; usable while the file is open.
    responses : dict of str to str
        Places and types of the responses that are no spike trains.
    """

    findings: tuple[Finding, ...]
    spikes: Spikes | None
    movies: dict[str, NwbMovie]
    responses: dict[str, str]


def validate(
    path: str | Path,
    *,
    stimulus: str | None = None,
    units: str | None = None,
    inspector: bool = False,
) -> tuple[Finding, ...]:
    """Return everything that is wrong with an NWB 2 file, or worth knowing about it.

    Parameters
    ----------
    path : str or Path
        The file.
    stimulus : str, optional
        The only movie to look at; by default all of them.
    units : str, optional
        Place of the units table, where the file has several.
    inspector : bool, default False
        Add what nwbinspector says about the file, where it is installed.

    Returns
    -------
    tuple of Finding
        Errors, then warnings, then notes; without errors the readers of this package take the
        file.

    Raises
    ------
    RecordingError
        If the file cannot be opened at all, or is not NWB 2.

    Notes
    -----
    The readers themselves are called on every part of the file: what they refuse is an error,
    what they notice is a warning. Beside that it is told what a single part does not show.
    """
    unsafe = scan(path)
    if unsafe:
        hint = "ask for a self-contained copy (h5repack makes one)"
        return tuple(Finding("error", "/", f"unsafe: {what}", hint) for what in unsafe)
    with open_nwb(path) as file:
        found = list(examine(file, str(path), stimulus=stimulus, units=units).findings)
    return tuple(found + (_inspected(path) if inspector else []))


def examine(
    file: h5py.File,
    path: str,
    *,
    stimulus: str | None = None,
    units: str | None = None,
    whole: bool = True,
) -> Examined:
    """Go through an open file with the readers of this package and note what they say.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name.
    stimulus, units : str, optional
        As in `validate`.
    whole : bool, default True
        Read all pixels and all samples; without, only what is quick.

    Returns
    -------
    Examined
        Findings and what could be read.
    """
    found = Findings(path)
    for look in (oddities.session, oddities.types):
        found.attempt("/", lambda look=look: look(file, found))  # type: ignore[misc]
    responses = found.attempt("/", lambda: find_responses(file)) or {}
    names = list(found.attempt("/stimulus", lambda: find_movies(file)) or {})
    names = names if stimulus is None else [stimulus]
    spikes, table = _units(file, path, units, found, needed=not (names or responses))
    movies = {}
    for name in names:
        movie = _movie(file, path, name, found, whole=whole)
        if movie is not None:
            movies[name] = movie
    if not names:
        level: Level = "error" if spikes is None and not responses else "warning"
        found.attempt("/stimulus/presentation", lambda: open_movie(file, path), level)
    if spikes is not None:
        _together(spikes, movies, table, path, found)
    for name in responses if whole else ():
        found.attempt(f"/{name}", lambda name=name: read_series(file, path, name))  # type: ignore[misc]
    return Examined(tuple(found), spikes, movies, responses)


def _units(
    file: h5py.File, path: str, units: str | None, found: Findings, *, needed: bool
) -> tuple[Spikes | None, str]:
    """Read the spikes; a file of movies or of other responses alone needs none."""
    try:
        table = find_units(file, path, units)
    except RecordingError as error:
        if needed or units is not None or "no sorted units" not in error.what:
            found.add("error", units or "/units", error.what, error.hint)
        elif "not spike-sorted" in error.hint:
            found.add("warning", "/units", error.what, error.hint)
        return None, ""
    place = str(table.name)
    spikes = found.attempt(place, lambda: read_spikes(file, path, table=place))
    if spikes is None:
        _each_unit(table, path, found)
    else:
        found.attempt(place, lambda: oddities.refractoriness(spikes, place, found))
    return spikes, place


def _each_unit(table: h5py.Group, path: str, found: Findings) -> None:
    """Look at the units one by one where not all of them can be read."""
    try:
        flat = seconds(table["spike_times"], path)
        ids = tuple(text(value) for value in table["id"][()].tolist())
        ends = row_ends(
            table["spike_times_index"][()], flat.shape, len(ids), ids, path, "spike_times"
        )
    except Exception:  # the reader has said already what is wrong with the table
        return
    starts = [0, *ends.tolist()][: len(ids)]
    broken = 0
    for name, start, stop in zip(ids, starts, ends.tolist(), strict=True):
        try:
            check_trains((name,), (flat[start:stop],), path, sort=False)
        except RecordingError as error:
            broken += 1
            if broken <= _MOST_UNITS:
                found.add("error", str(table.name), error.what, error.hint)
    if broken > _MOST_UNITS:
        found.add("error", str(table.name), f"{broken} units are broken in all")


def _movie(
    file: h5py.File, path: str, name: str, found: Findings, *, whole: bool
) -> NwbMovie | None:
    movie = found.attempt(f"movie {name}", lambda: open_movie(file, path, name))
    if movie is None:
        return None
    place = str(movie.group.name)
    if not place.startswith("/stimulus/presentation"):
        found.add("note", place, "is taken for a movie, but does not lie in /stimulus/presentation")
    for look in (oddities.dropped, oddities.values_unit):
        found.attempt(place, lambda look=look: look(movie, found))  # type: ignore[misc]
    pixels = found.attempt(place, movie.open_pixels)
    if pixels is None:
        return movie
    if movie.note is None:
        found.attempt(place, lambda: pixel_size(movie.group, pixels.size, True, path))
        found.attempt(place, lambda: oddities.axis_order(movie, pixels, path, found))
    if whole:
        found.attempt(place, lambda: _look_through(movie, pixels, path))
    return movie


def _look_through(movie: NwbMovie, pixels: Any, path: str) -> None:
    """Read every frame as the reader does, keeping one pixel."""
    Part.of(movie, pixels, None, (0, 1, 0, 1), True, path).read(None, budget_gb=8.0)


def _together(
    spikes: Spikes, movies: dict[str, NwbMovie], table: str, path: str, found: Findings
) -> None:
    """Hold spikes against movies; with several movies, each cell may have seen only some."""
    level: Level = "error" if len(movies) == 1 else "warning"
    for movie in movies.values():
        start, stop = float(movie.flips[0][0]), float(movie.flips[-1][-1])
        found.attempt(
            str(movie.group.name),
            lambda start=start, stop=stop: check_clock(spikes, start, stop, path),  # type: ignore[misc]
            level,
        )
        found.attempt(
            table,
            lambda movie=movie: oddities.observation(spikes, movie, table, found),  # type: ignore[misc]
        )
    every = list(movies.values())
    found.attempt(table, lambda: oddities.placement(spikes, every, table, found))


def _inspected(path: str | Path) -> list[Finding]:
    """Return what nwbinspector says about a file."""
    try:
        from nwbinspector import inspect_nwbfile
    except ImportError:
        return [Finding("note", "/", "nwbinspector is not installed", "pip install nwbinspector")]
    found = Findings(str(path))
    found.attempt("nwbinspector", lambda: _messages(inspect_nwbfile(nwbfile_path=str(path)), found))
    return list(found)


def _messages(messages: Any, found: Findings) -> None:
    for message in messages:
        grave = not message.importance.name.startswith("BEST_PRACTICE")
        where = f"nwbinspector {message.location or '/'}"
        words = " ".join(str(message.message).split())
        found.add("warning" if grave else "note", where, f"{words} ({message.check_function_name})")
