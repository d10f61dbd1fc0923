"""What only a look at the whole of a recording tells: spikes beside movies, gaps, unknown words."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.findings import Findings
from retinacodec.nwb_contrast import pixel_size
from retinacodec.nwb_movies import NwbMovie
from retinacodec.nwb_pixels import Pixels
from retinacodec.nwb_spikes import Spikes, text
from retinacodec.recordings import dropped_frames, frame_durations

__all__ = [
    "axis_order",
    "dropped",
    "observation",
    "placement",
    "refractoriness",
    "session",
    "types",
    "values_unit",
]

_REFRACTORY = 1e-3  # s: no ganglion cell fires twice within this time
_MOST_NAMES = 5
_MOST_TIMES = 10
_CORE = ("core", "hdmf-common", "hdmf-experimental")
_MEANS_NOTHING = ("", "unknown", "n.a.", "n/a", "na", "none", "a.u.", "arbitrary", "pixel")


def session(file: h5py.File, found: Findings) -> None:
    """Note a start of the session without a time zone, or none at all.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    found : Findings
        Takes the notes.
    """
    place = "/session_start_time"
    start = file.get(place)
    if not isinstance(start, h5py.Dataset):
        found.add("warning", place, "the file does not say when the session began")
        return
    words = text(start[()])
    clock = words.partition("T")[2]
    if not (clock.endswith("Z") or "+" in clock or "-" in clock):
        found.add(
            "note",
            place,
            f"{words!r} has no time zone",
            "all times are relative to it, so nothing here depends on that",
        )


def types(file: h5py.File, found: Findings) -> None:
    """Note types of extensions, which are left alone.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    found : Findings
        Takes the notes.
    """
    places: dict[str, list[str]] = {}

    def visit(name: str, thing: h5py.Group | h5py.Dataset) -> None:
        space = text(thing.attrs.get("namespace", ""))
        if space and space not in _CORE:
            kind = text(thing.attrs.get("neurodata_type", "?"))
            places.setdefault(f"{space}:{kind}", []).append(f"/{name}")

    file.visititems(visit)
    for kind, where in sorted(places.items()):
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        found.add("note", where[0] + more, f"is of the extension type {kind}, which is not read")


def dropped(movie: NwbMovie, found: Findings) -> None:
    """Note when frames were dropped and for how long the frame before stayed.

    Parameters
    ----------
    movie : NwbMovie
        The movie.
    found : Findings
        Takes the notes.
    """
    late = []
    for flips in movie.flips:
        intervals, places = np.diff(flips), dropped_frames(flips)
        late += [(float(flips[k]), float(intervals[k] / np.median(intervals))) for k in places]
    if late:
        words = ", ".join(f"{time:.4f} s ({length:.3g})" for time, length in late[:_MOST_TIMES])
        more = f" and {len(late) - _MOST_TIMES} more" if len(late) > _MOST_TIMES else ""
        found.add(
            "note",
            movie.group.name,
            f"frames dropped after the flips at (length in frames): {words}{more}",
            "spikes are counted on the real flips",
        )


def placement(spikes: Spikes, movies: Sequence[NwbMovie], place: str, found: Findings) -> None:
    """Note which share of the spikes of each cell falls into no movie.

    Parameters
    ----------
    spikes : Spikes
        All trains.
    movies : sequence of NwbMovie
        All movies of the file.
    place : str
        The table of units.
    found : Findings
        Takes the notes.
    """
    spans = [span for movie in movies for span in _spans(movie)]
    filled = [
        (cell, train) for cell, train in zip(spikes.cells, spikes.times, strict=True) if train.size
    ]
    if not spans or not filled:
        return
    first, end = min(train[0] for _, train in filled), max(stop for _, stop in spans)
    if first >= end:
        what = f"the last movie ends at {end:.6g} s and the first spike comes at {first:.6g} s"
        found.add("error", place, what, "spikes and flips are on different clocks")
        return
    shares = [(1 - _inside(train, spans) / train.size, cell) for cell, train in filled]
    all_out = [cell for share, cell in shares if share == 1]
    if all_out:
        found.add("warning", place, f"no spike in any movie: {_named(all_out)}")
    partly = sorted(((share, cell) for share, cell in shares if 0 < share < 1), reverse=True)
    if partly:
        worst = [f"{cell} {100 * share:.3g} %" for share, cell in partly]
        found.add("note", place, f"spikes outside every movie: {_named(worst)}")


def refractoriness(spikes: Spikes, place: str, found: Findings) -> None:
    """Note which share of the intervals of each cell is shorter than a cell can fire.

    Parameters
    ----------
    spikes : Spikes
        All trains.
    place : str
        The table of units.
    found : Findings
        Takes the notes.
    """
    shares = []
    for cell, train in zip(spikes.cells, spikes.times, strict=True):
        short = np.count_nonzero(np.diff(train) < _REFRACTORY)
        if short:
            shares.append((short / (train.size - 1), cell))
    if shares:
        worst = [f"{cell} {100 * share:.3g} %" for share, cell in sorted(shares, reverse=True)]
        found.add(
            "note",
            place,
            f"intervals below 1 ms: {_named(worst)}",
            "more than about 1 % means that a cell holds spikes of another",
        )


def observation(spikes: Spikes, movie: NwbMovie, place: str, found: Findings) -> None:
    """Note cells that were observed during a part of a movie only.

    Parameters
    ----------
    spikes : Spikes
        All trains.
    movie : NwbMovie
        The movie.
    place : str
        The table of units.
    found : Findings
        Takes the notes.
    """
    spans = _spans(movie)
    whole = sum(stop - start for start, stop in spans)
    cut = []
    for cell, intervals in zip(spikes.cells, spikes.observed or (), strict=False):
        seen = sum(_overlap(intervals, start, stop) for start, stop in spans)
        if seen < 0.999 * whole:
            cut.append(f"{cell} {100 * seen / whole:.3g} %")
    if cut:
        found.add(
            "note",
            place,
            f"obs_intervals cover a part of {movie.name}: {_named(cut)}",
            "frames outside are NaN and not 0",
        )


def axis_order(movie: NwbMovie, pixels: Pixels, path: str, found: Findings) -> None:
    """Note that nothing in the file tells which axis of the pixels is x.

    Parameters
    ----------
    movie : NwbMovie
        The movie.
    pixels : Pixels
        Its pixels.
    path : str
        Name of the file.
    found : Findings
        Takes the notes.
    """
    if movie.note or 1 in pixels.size:
        return
    fits = []
    for across in (True, False):
        try:
            pixel_size(movie.group, pixels.size, across, path)
        except RecordingError as error:
            if "not square" in error.what:
                continue
        fits.append(across)
    if len(fits) == 2:
        first, second = pixels.size
        found.add(
            "note",
            movie.group.name,
            f"nothing tells whether the {first} x {second} pixels are (x, y) or (row, column)",
            "NWB says (x, y); compare a receptive field, and exchange them with spatial_order='yx'",
        )


def values_unit(movie: NwbMovie, found: Findings) -> None:
    """Note that the unit of the pixels says nothing about contrast.

    Parameters
    ----------
    movie : NwbMovie
        The movie.
    found : Findings
        Takes the notes.
    """
    data = movie.group.get("data")
    if movie.note or not isinstance(data, h5py.Dataset) or data.ndim < 3:
        return
    unit = text(data.attrs.get("unit", ""))
    if unit.lower() in _MEANS_NOTHING:
        found.add(
            "note",
            movie.group.name,
            f"values have the unit {unit!r}: contrast is (value - mean) / mean",
            "say which value is grey and which difference is 1 with contrast=",
        )


def _spans(movie: NwbMovie) -> list[tuple[float, float]]:
    """Return start and end of each presentation, s."""
    return [(float(f[0]), float(f[-1] + frame_durations(f)[-1])) for f in movie.flips]


def _inside(train: NDArray[np.float64], spans: Sequence[tuple[float, float]]) -> int:
    within = np.zeros(train.size, bool)
    for start, stop in spans:
        first, last = np.searchsorted(train, [start, stop])
        within[first:last] = True
    return int(within.sum())


def _overlap(intervals: NDArray[np.float64], start: float, stop: float) -> float:
    cut = np.clip(intervals, start, stop)
    return float((cut[:, 1] - cut[:, 0]).sum())


def _named(words: Sequence[str]) -> str:
    more = f" and {len(words) - _MOST_NAMES} more" if len(words) > _MOST_NAMES else ""
    return ", ".join(words[:_MOST_NAMES]) + more
