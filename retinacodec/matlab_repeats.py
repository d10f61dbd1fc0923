"""Repeats of a movie that a MATLAB file keeps as the light at every sample of every repeat."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError

__all__ = ["Repeats", "repeats_of"]

_log = logging.getLogger(__name__)

Array = NDArray[Any]


@dataclass(frozen=True)
class Repeats:
    """One movie that was shown several times.

    Parameters
    ----------
    pixels : ndarray (time,)
        Light in each frame.
    shown : ndarray (repeat, time)
        Samples at which the frames began.
    """

    pixels: Array
    shown: Array


def repeats_of(values: Mapping[str, Any], path: str) -> Repeats:
    """Find the frames of a repeated movie.

    Parameters
    ----------
    values : mapping
        ``repeatStimulusTimes``, the first sample of every repeat and the end of the last, and
        ``RepStimulusExtended``, whose first row is the light at every sample.
    path : str
        Name of the file, for messages.

    Returns
    -------
    Repeats
        The movie that most repeats show, cut to the frames that all of them have.

    Raises
    ------
    RecordingError
        If shapes do not fit, or no movie is shown by more than half of the repeats.

    Notes
    -----
    A frame ends where the light changes; one of n frames' length counts as n. Repeats whose
    stored light is that of the others some frames later or earlier are taken to have shown the
    same movie at the same time, with a notice: in the published recording the first repeat is
    stored one frame late, and its spikes are not.
    """
    starts = np.asarray(values["repeatStimulusTimes"]).astype(np.int64).ravel()
    light = np.atleast_2d(values["RepStimulusExtended"])[0]
    if starts.size < 3 or (np.diff(starts) < 2).any() or light.size < starts[-1] - starts[0]:
        raise RecordingError(
            path,
            f"repeatStimulusTimes {starts.tolist()[:12]} do not cut the {light.size} samples of "
            "RepStimulusExtended into repeats",
        )
    cuts = starts - starts[0]
    trials = [_frames(light[a:b]) for a, b in pairwise(cuts)]
    frames = min(len(onsets) for onsets, _ in trials)
    movies = [pixels[:frames] for _, pixels in trials]
    common, times = Counter(movie.tobytes() for movie in movies).most_common(1)[0]
    if 2 * times <= len(movies):
        raise RecordingError(path, "repeats do not show one movie", "import the arrays instead")
    pixels = np.frombuffer(common, movies[0].dtype)
    _report(movies, pixels, path)
    shown = np.stack(
        [start + onsets[:frames] for start, (onsets, _) in zip(starts[:-1], trials, strict=True)]
    )
    return Repeats(pixels, shown)


def _frames(light: Array) -> tuple[Array, Array]:
    """Return the first sample and the light of each frame of one repeat."""
    begins = np.concatenate([[0], np.flatnonzero(np.diff(light)) + 1])
    lengths = np.diff(begins, append=light.size)
    number = np.maximum(1, np.rint(lengths / np.median(lengths))).astype(np.int64)
    place = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    steps = np.repeat(lengths / number, number)
    return np.rint(np.repeat(begins, number) + place * steps).astype(np.int64), np.repeat(
        light[begins], number
    )


def _report(movies: list[Array], pixels: Array, path: str) -> None:
    """Tell which repeats are stored with other frames than most."""
    for number, movie in enumerate(movies, 1):
        if np.array_equal(movie, pixels):
            continue
        late = next(
            (
                shift
                for shift in (1, 2, 3)
                if np.array_equal(movie[shift:], pixels[: len(pixels) - shift])
            ),
            None,
        )
        how = "with other frames" if late is None else f"{late} frame(s) late"
        if late is None and not np.mean(movie == pixels) > 0.9:
            raise RecordingError(path, f"repeat {number} shows another movie than the others")
        _log.warning("%s: repeat %d is stored %s; it counts as the others", path, number, how)
