"""Regressors of generalised linear models: the movie and a cell's own spikes in smooth bases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.penalised_fields import AxisBases

__all__ = ["Stimulus", "history_terms", "log_cosines", "stimulus_terms"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Stimulus:
    """The movie seen through basis functions of a filter.

    Attributes
    ----------
    columns : ndarray (time, function)
        Output of each basis function, float32; NaN where the window reaches before the movie.
    functions : ndarray (lag, function)
        Time course of each.
    maps : ndarray (function, y, x)
        Map of each.
    """

    columns: Array
    functions: Array
    maps: Array

    def field(self, weights: Array) -> Array:
        """Return the filter (lag, y, x) with these coefficients (function,)."""
        return np.asarray(np.einsum("hf,f,fyx->hyx", self.functions, weights, self.maps))


def stimulus_terms(
    pixels: npt.ArrayLike, bases: AxisBases, latency: int, functions: int
) -> Stimulus:
    """Pass a movie through the products of basis functions along lag, y and x.

    Parameters
    ----------
    pixels : array_like (time, y, x)
        Movie.
    bases : tuple of ndarray (place, function)
        Functions along each axis, oldest frame first.
    latency : int
        Frames between the newest frame of the window and the response.
    functions : int
        Most products that are kept, those of the largest norm.

    Returns
    -------
    Stimulus
        The outputs, and what made them.
    """
    movie = np.asarray(pixels, dtype=np.float32)
    lag, rows, columns = bases
    sizes = [np.linalg.norm(axis, axis=0) for axis in bases]
    norms = np.einsum("h,y,x->hyx", *sizes)
    kept = np.argsort(-norms, axis=None, kind="stable")[:functions]
    over = np.unravel_index(kept, norms.shape)
    places = np.unique(np.stack(over[1:]), axis=1)
    maps = np.einsum("yf,xf->fyx", rows[:, places[0]], columns[:, places[1]])
    seen = movie.reshape(len(movie), -1) @ maps.reshape(len(maps), -1).T.astype(np.float32)
    out = np.full((len(movie), len(kept)), np.nan, dtype=np.float32)
    history = len(lag)
    first = history - 1 + latency
    for place, where in enumerate(places.T):
        mine = np.flatnonzero((over[1] == where[0]) & (over[2] == where[1]))
        windows = np.lib.stride_tricks.sliding_window_view(seen[:, place], history)
        passed = windows[: len(movie) - first] @ lag[:, over[0][mine]].astype(np.float32)
        out[first:, mine] = passed
    each = np.einsum("yf,xf->fyx", rows[:, over[1]], columns[:, over[2]])
    return Stimulus(out, lag[:, over[0]], each)


def log_cosines(frames: int, count: int) -> Array:
    """Return raised cosines of logarithmic time after a spike.

    Parameters
    ----------
    frames : int
        Frames after the spike that they cover.
    count : int
        How many, at most `frames`.

    Returns
    -------
    ndarray (frame, function)
        The first frame after the spike first. Each is a bump ``(1 + cos(a)) / 2``, wider the
        later; neighbours sum to 1 from the first peak to the last.

    References
    ----------
    .. [1] Pillow et al., Journal of Neuroscience 25, 11003 (2005), basis of post-spike filters.

    Examples
    --------
    >>> log_cosines(8, 3).shape, log_cosines(0, 3).shape
    ((8, 3), (0, 0))
    """
    count = min(count, frames)
    if count < 2:
        return np.ones((frames, count))
    time = np.log(np.arange(frames) + 1.0)
    peaks = np.linspace(time[0], time[-1], count)
    apart = (time[:, None] - peaks) * np.pi / (2 * (peaks[1] - peaks[0]))
    return np.asarray(0.5 * (1 + np.cos(np.clip(2 * apart, -np.pi, np.pi))))


def history_terms(counts: npt.ArrayLike, after: Array) -> Array:
    """Return how a cell's own past spikes look through the functions after a spike.

    Parameters
    ----------
    counts : array_like (time,)
        Spikes; NaN where not observed.
    after : ndarray (frame, function)
        Functions of the frames after a spike.

    Returns
    -------
    ndarray (time, function)
        ``sum_j after[j - 1] k[t - j]``; NaN where a frame that it needs was not observed.
    """
    spikes = np.asarray(counts, dtype=np.float64)
    out = np.zeros((len(spikes), after.shape[1]))
    for back, weights in enumerate(after, start=1):
        before = np.concatenate([np.full(min(back, len(spikes)), np.nan), spikes[:-back]])
        out += before[: len(spikes), None] * weights
    return out
