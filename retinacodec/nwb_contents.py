"""What an NWB 2 file holds in rows of words, and the command to type next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import h5py

from retinacodec.errors import RecordingError
from retinacodec.findings import Finding
from retinacodec.nwb_contrast import pixel_size
from retinacodec.nwb_movies import NwbMovie
from retinacodec.nwb_series import BINNED
from retinacodec.nwb_spikes import Spikes, text
from retinacodec.nwb_tables import plain_columns, stimulus_tables
from retinacodec.recordings import dropped_frames, frame_durations
from retinacodec.validation import Examined, examine

__all__ = ["Contents", "nwb_contents"]

_MOST_ROWS = 20
_MOST_NAMES = 8
_LEAST_SIDE = 15  # pixels: what the kernels that a fit takes by default need

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Contents:
    """What is in a file, what is wrong with it, what to do next.

    Parameters
    ----------
    rows : tuple of (str, str)
        Name and words.
    findings : tuple of Finding
        Errors first.
    next : str
        The next command, empty where there is none.
    """

    rows: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    next: str


def nwb_contents(file: h5py.File, path: Path) -> Contents:
    """Describe an open NWB 2 file; its pixels are not read.

    Parameters
    ----------
    file : h5py.File
        The file.
    path : Path
        Its name.

    Returns
    -------
    Contents
        Rows, findings and the next command.
    """
    seen = examine(file, str(path), whole=False)
    rows: Rows = []
    try:
        rows.append(("session", text(file["session_start_time"][()])))
    except (KeyError, OSError, ValueError, RuntimeError):
        rows.append(("session", "start unknown"))  # which is among the findings
    if seen.spikes is not None:
        rows.append(("cells", _about_spikes(seen.spikes)))
    elif not any(finding.level == "error" for finding in seen.findings):
        rows.append(("cells", "none"))
    rows += _few([(f"movie {movie.name}", about_movie(movie)) for movie in seen.movies.values()])
    rows += _few([(f"response {name}", kind) for name, kind in seen.responses.items()])
    rows += _few(_tables(file, str(path)))
    wrong = [finding for finding in seen.findings if finding.level == "error"]
    settled = all("pixel_um=" in finding.hint for finding in wrong)
    return Contents(tuple(rows), seen.findings, _step(seen, path) if settled else "")


def about_movie(movie: NwbMovie) -> str:
    """Return frames, times, repeats, pixels and dropped frames of a movie in words."""
    flips = movie.flips
    last = flips[-1][-1] + frame_durations(flips[-1])[-1]
    words = (
        f"{flips[0].size} frames at {movie.frame_rate:.4g} Hz, {flips[0][0]:.1f} to {last:.1f} s"
    )
    if len(flips) > 1:
        words += f", {len(flips)} repeats (found by: {movie.found_by})"
    size = _size(movie)
    if size is not None:
        words += f", {size[0]} x {size[1]} pixels"
    lost = sum(dropped_frames(shown).size for shown in flips)
    return words + (f", {lost} dropped frames" if lost else "")


def _about_spikes(spikes: Spikes) -> str:
    counts = [train.size for train in spikes.times]
    filled = [train for train in spikes.times if train.size]
    span = ""
    if filled:
        first, last = min(train[0] for train in filled), max(train[-1] for train in filled)
        span = f", {first:.1f} to {last:.1f} s"
    silent = f", {counts.count(0)} without a spike" if 0 in counts else ""
    more = " ..." if len(counts) > _MOST_NAMES else ""
    names = ", ".join(spikes.cells[:_MOST_NAMES]) + more
    return f"{len(counts)} ({names}), {sum(counts)} spikes{span}{silent}"


def _tables(file: h5py.File, path: str) -> Rows:
    """Return what tables of stimuli say: how many rows, and which columns."""
    rows = []
    for place, table in stimulus_tables(file):
        columns = plain_columns(table, path)
        count = max((values.size for values in columns.values()), default=0)
        names = [*columns][:_MOST_NAMES] + (["..."] if len(columns) > _MOST_NAMES else [])
        rows.append((f"table {place}", f"{count} rows of {', '.join(names)}"))
    return rows


def _few(rows: Rows) -> Rows:
    more = [("...", f"{len(rows) - _MOST_ROWS} more")] if len(rows) > _MOST_ROWS else []
    return rows[:_MOST_ROWS] + more


def _step(seen: Examined, path: Path) -> str:
    """Return the command that makes most of what the file holds."""
    name = shlex.quote(str(path))
    movies = seen.movies
    if seen.spikes is not None and movies:
        best = max(movies, key=lambda movie: _shorter_side(movies[movie]))
        which = f" --stimulus {shlex.quote(best)}" if len(movies) > 1 else ""
        which += _settings(movies[best], path)
        side = _shorter_side(movies[best])
        if side < 5:
            return f"retinacodec sta {name} --out sta.zarr{which}"
        small = " --kernels 3 --kernels 3" if side < _LEAST_SIDE else ""
        return f"retinacodec fit {name} --out model.safetensors{which}{small}"
    if seen.spikes is not None:
        return (
            f"in Python: retinacodec.read_nwb({str(path)!r}, stimulus=MOVIE); give stimulus= a "
            "movie whose time is on the clock of the file"
        )
    if movies and seen.responses:
        return _in_python(seen, path)
    if len(movies) == 1:
        return f"retinacodec contributions MODEL {name} --out parts.zarr"
    if movies:
        return f"in Python: retinacodec.read_stimulus({str(path)!r}, {next(iter(movies))!r})"
    return ""


def _in_python(seen: Examined, path: Path) -> str:
    """Return how responses that are no spike trains are read."""
    place, kind = next(iter(seen.responses.items()))
    which = f", stimulus={next(iter(seen.movies))!r}" if len(seen.movies) > 1 else ""
    if kind == BINNED:
        return f"in Python: retinacodec.read_nwb({str(path)!r}, responses={place!r}{which})"
    return f"in Python: retinacodec.read_traces({str(path)!r}, {place!r}{which})"


def _settings(movie: NwbMovie, path: Path) -> str:
    """Return the options without which the pixels of a movie have no size."""
    if movie.note is not None:
        return ""
    try:
        pixels = movie.open_pixels()
    except RecordingError:
        return ""
    for across, option in ((True, ""), (False, " --spatial-order yx")):
        try:
            pixel_size(movie.group, pixels.size, across, path)
        except RecordingError:
            continue
        return option
    return " --pixel-um UM"


def _shorter_side(movie: NwbMovie) -> int:
    """Return the length of the shorter side, which is 1 for bars, or 0 if it is not known."""
    return min(_size(movie) or (0,))


def _size(movie: NwbMovie) -> tuple[int, int] | None:
    """Return the second and third axis of the pictures, wherever the file keeps them."""
    try:
        return movie.open_pixels().size
    except RecordingError:
        return None
