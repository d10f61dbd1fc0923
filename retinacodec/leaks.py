"""Whether held-out responses were predicted from frames that a fit has seen."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import InputError
from retinacodec.recordings import Split

__all__ = ["repeated_windows", "seen_windows", "shared_windows"]

_SETS = ("train", "validation", "test")
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers never vanish modulo 2**64


def shared_windows(split: Split, history: int) -> dict[tuple[str, str], int]:
    """Count the windows of each set that share a frame of the movie with one of another set.

    Parameters
    ----------
    split : Split
        Response frames of the sets.
    history : int
        Frames of a stimulus window, 1 or more.

    Returns
    -------
    dict of (str, str) to int
        For every ordered pair of sets of which some windows overlap: the number of windows of
        the first that share a frame with a window of the second. Empty for a split without leaks.

    Notes
    -----
    The window of response t holds ``history`` frames and ends ``latency`` frames before t, so
    that the windows of a and b share a frame if and only if ``|a - b| < history``, whatever the
    latency.

    Examples
    --------
    >>> split = Split(train=np.arange(10, 20), validation=np.arange(0), test=np.arange(22, 30))
    >>> shared_windows(split, 3)
    {}
    >>> shared_windows(split, 5)
    {('train', 'test'): 2, ('test', 'train'): 2}
    """
    found = {}
    for first, second in permutations(_SETS, 2):
        one, other = (np.sort(getattr(split, name)) for name in (first, second))
        if not (one.size and other.size):
            continue
        after = np.clip(np.searchsorted(other, one), 1, max(1, other.size - 1))
        near = np.minimum(
            np.abs(other[np.minimum(after, other.size - 1)] - one), np.abs(one - other[after - 1])
        )
        overlap = int((near < history).sum())
        if overlap:
            found[first, second] = overlap
    return found


def repeated_windows(
    movie: xr.Dataset, split: Split, history: int, latency: int = 0
) -> NDArray[np.bool_]:
    """Tell which test windows show, frame by frame, what a training window showed.

    A split can be free of shared frames and leak all the same, where the movie itself repeats.

    Parameters
    ----------
    movie : Stimulus
        ``contrast`` (time, y, x).
    split : Split
        Response frames of the sets.
    history : int
        Frames of a stimulus window.
    latency : int, default 0
        Frames between the end of the window and the response.

    Returns
    -------
    ndarray of bool (test,)
        True where the same window was trained on. Windows without any change in them (a grey
        pause) do not count.

    Raises
    ------
    InputError
        If a response has no whole window in the movie.

    Notes
    -----
    Windows are compared by a 64-bit rolling hash of the hashes of their frames; a false match
    among n windows has a chance of about ``n**2 / 2**64``.
    """
    _check_history(history, movie)
    windows, moving = _windows(movie, history)
    begin = np.asarray(split.test, np.intp) - latency - history + 1
    trained = np.asarray(split.train, np.intp) - latency - history + 1
    for name, first in (("test", begin), ("train", trained)):
        if first.size and (first.min() < 0 or first.max() >= windows.size):
            raise InputError(
                f"{name}: expected responses with a whole window of {history} frames, latency "
                f"{latency}, in a movie of {movie.sizes['time']} frames"
            )
    return np.isin(windows[begin], windows[trained]) & moving[begin]


def seen_windows(movie: xr.Dataset, other: xr.Dataset, history: int) -> NDArray[np.bool_]:
    """Tell which windows of another movie were already shown in this one.

    Two movies of one file can share a stretch: then a model that was fitted to the responses to
    one of them is not tested by the other.

    Parameters
    ----------
    movie : Stimulus
        ``contrast`` (time, y, x) of the movie that a model was, or is to be, fitted to.
    other : Stimulus
        The movie that it is to be tested on, with the same pixels.
    history : int
        Frames of a stimulus window, 1 or more.

    Returns
    -------
    ndarray of bool (time - history + 1,)
        For each window of `other`, by its first frame: whether the same frames follow each other
        somewhere in `movie`. Windows without any change in them do not count.

    Raises
    ------
    InputError
        If the movies have other pixels, or one is shorter than a window.

    Notes
    -----
    Contrast is compared bit by bit, so that both must have been read with the same mapping of
    pixel values; windows as in `repeated_windows`. With ``movie`` cut to the frames that are
    fitted to, the result says what leaks.

    Examples
    --------
    >>> shown = np.random.default_rng(0).normal(size=(30, 1, 1)).astype(np.float32)
    >>> long = xr.Dataset({"contrast": (("time", "y", "x"), shown)})
    >>> again = long.isel(time=slice(20, 30))
    >>> int(seen_windows(long, again, 4).sum()), int(seen_windows(again, long, 4).sum())
    (7, 7)
    >>> bool(seen_windows(long.isel(time=slice(20)), again, 4).any())
    False
    """
    for one in (movie, other):
        _check_history(history, one)
    sides = [(one.sizes["y"], one.sizes["x"]) for one in (movie, other)]
    if sides[0] != sides[1]:
        raise InputError(f"seen_windows: expected one number of pixels (y, x), got {sides}")
    windows, moving = _windows(other, history)
    return np.isin(windows, _windows(movie, history)[0]) & moving


def _check_history(history: int, movie: xr.Dataset) -> None:
    frames = movie.sizes["time"]
    if not 1 <= history <= frames:
        raise InputError(f"history: expected 1 to {frames} frames, got {history}")


def _windows(movie: xr.Dataset, history: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the key of each window of a movie, and whether anything changes in it."""
    keys = _frame_keys(movie["contrast"].transpose("time", "y", "x").values)
    changes = np.concatenate([[0], np.cumsum(keys[1:] != keys[:-1])])
    moving = changes[history - 1 :] > changes[: len(changes) - history + 1]
    return _window_keys(keys, history), moving


def _frame_keys(contrast: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return a 64-bit key of each frame: a random weighting of its pixels' bits, modulo 2**64."""
    values = np.ascontiguousarray(contrast, np.float32).reshape(len(contrast), -1)
    weights = np.random.default_rng(0).integers(1, 1 << 63, values.shape[1], dtype=np.uint64)
    weights = weights * np.uint64(2) + np.uint64(1)
    keys = np.empty(len(values), np.uint64)
    step = max(1, (1 << 22) // values.shape[1])
    for start in range(0, len(values), step):
        same = values[start : start + step] + np.float32(0)  # -0 and 0 are one value
        part = same.view(np.uint32).astype(np.uint64)
        part ^= part << np.uint64(29)  # so that no simple pattern of pixels cancels
        keys[start : start + step] = (part * weights).sum(axis=1, dtype=np.uint64)
    return keys


def _window_keys(keys: NDArray[np.uint64], history: int) -> NDArray[np.uint64]:
    """Return the key of each window of `history` frames, by its first frame."""
    count = len(keys) - history + 1
    total, power = np.zeros(count, np.uint64), np.uint64(1)
    with np.errstate(over="ignore"):
        for lag in range(history):
            total += keys[lag : lag + count] * power
            power = power * _BASE
    return total
