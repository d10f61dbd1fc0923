"""Sums over stimulus windows and responses that never build the windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from retinacodec.errors import InputError, Problems
from retinacodec.triggered_sums import triggered_sum

__all__ = ["CentredMoments", "WindowMoments", "filtered", "whole_windows", "window_moments"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CentredMoments:
    """Sums of products of windows and responses, each less its mean.

    Attributes
    ----------
    frames : float
        Frames summed; not a whole number where several count as one.
    second : ndarray (entry, entry)
        Sum of products of window entries, contrast squared.
    cross : ndarray (entry, cell)
        Sum of products of window entries and responses.
    power : ndarray (cell,)
        Sum of squared responses.
    """

    frames: float
    second: Array
    cross: Array
    power: Array


@dataclass(frozen=True)
class WindowMoments:
    """Sums over frames of windows, responses and their products; parts of a movie add up.

    Attributes
    ----------
    frames : int
        Frames summed.
    total : ndarray (entry,)
        Sum of windows; entries are (lag, y, x) in one, oldest frame first.
    second : ndarray (entry, entry)
        Sum of products of window entries.
    cross : ndarray (entry, cell)
        Sum of windows times response.
    response, power : ndarray (cell,)
        Sum of responses and of their squares.
    """

    frames: int
    total: Array
    second: Array
    cross: Array
    response: Array
    power: Array

    def __add__(self, other: WindowMoments) -> WindowMoments:
        """Return the sums over the frames of both; they must not share a frame."""
        return WindowMoments(
            self.frames + other.frames,
            self.total + other.total,
            self.second + other.second,
            self.cross + other.cross,
            self.response + other.response,
            self.power + other.power,
        )

    def centred(self) -> CentredMoments:
        """Return the sums about the means of these frames."""
        count = max(self.frames, 1)
        return CentredMoments(
            self.frames,
            self.second - np.outer(self.total, self.total / count),
            self.cross - np.outer(self.total, self.response / count),
            self.power - self.response**2 / count,
        )


def whole_windows(used: npt.NDArray[np.bool_], history: int, latency: int) -> Array:
    """Return which of the used frames have a window that was shown from its first frame on.

    Parameters
    ----------
    used : ndarray of bool (time,)
        Response frames that are wanted.
    history : int
        Frames of a window.
    latency : int
        Frames between the newest frame of the window and the response.

    Returns
    -------
    ndarray of bool (time,)
        The same without the first ``history - 1 + latency`` frames.
    """
    kept = np.array(used, dtype=bool)
    kept[: history - 1 + latency] = False
    return kept


def window_moments(
    contrast: npt.ArrayLike,
    responses: npt.ArrayLike,
    used: npt.ArrayLike,
    *,
    history: int,
    latency: int = 0,
    chunk: int = 4096,
) -> WindowMoments:
    """Sum windows, responses and all their products over frames.

    Parameters
    ----------
    contrast : array_like (time, y, x)
        Movie, of the pixels that are looked at.
    responses : array_like (time, cell)
        Counts or rates; finite in every used frame.
    used : array_like of bool (time,)
        Response frames to sum over; those without a whole window are left out.
    history : int
        Frames of a window, at least 1.
    latency : int, default 0
        Frames between the newest frame of the window and the response, at least 0.
    chunk : int, default 4096
        Frames multiplied at a time in single precision; sums over chunks are double.

    Returns
    -------
    WindowMoments
        The sums.

    Raises
    ------
    InputError
        If shapes do not fit, a number is out of range or a used response is not finite.

    Notes
    -----
    With lags l, m, pixels s and the used frames u, ``S[l, m] = sum_t u(t) s(t - l) s(t - m)^T``
    needs a product only for l = 0, since

        ``S[l + 1, m + 1] = S[l, m] + sum_t (u(t + 1) - u(t)) s(t - l) s(t - m)^T``,

    where the sum runs over the frames at which a run of used frames begins or ends. So the cost
    is that of one lag, ``2 T history pixels^2`` operations, not ``2 T (history pixels)^2``.
    """
    movie, rates = np.asarray(contrast, np.float32), np.asarray(responses, np.float64)
    kept = np.asarray(used, dtype=bool)
    _check(movie, rates, kept, history, latency)
    kept = whole_windows(kept, history, latency)
    if not np.isfinite(rates[kept]).all():
        raise InputError("window_moments: a used response is not finite; leave the frame out")
    flat = movie.reshape(len(movie), -1)
    row = _newest_products(flat, kept, history, latency, chunk)
    second = _all_products(row, _edge_products(flat, kept, history, latency))
    weights = np.column_stack([kept, np.where(kept[:, None], rates, 0.0)]).astype(np.float32)
    sums = triggered_sum(
        torch.from_numpy(movie), torch.from_numpy(weights), history, latency, chunk=chunk
    )
    summed = sums.flatten(1).double().numpy().T
    observed = rates[kept]
    return WindowMoments(
        int(kept.sum()),
        summed[:, 0],
        second,
        summed[:, 1:],
        observed.sum(axis=0),
        (observed**2).sum(axis=0),
    )


def filtered(
    contrast: npt.ArrayLike, fields: npt.ArrayLike, *, latency: int = 0, chunk: int = 4096
) -> Array:
    """Pass a movie through one space-time filter a cell.

    Parameters
    ----------
    contrast : array_like (time, y, x)
        Movie.
    fields : array_like (cell, lag, y, x)
        Filters, oldest frame first.
    latency : int, default 0
        Frames between the newest frame of the window and the response.
    chunk : int, default 4096
        Frames multiplied at a time.

    Returns
    -------
    ndarray (time, cell)
        ``sum_h,y,x field[h] s(t - latency - history + 1 + h)`` at response frame t, float64; NaN
        where the window reaches before the movie.

    Raises
    ------
    InputError
        If filters and movie differ in pixels.
    """
    movie, kernels = np.asarray(contrast, np.float32), np.asarray(fields, np.float32)
    if kernels.ndim != 4 or movie.shape[1:] != kernels.shape[2:]:
        raise InputError(
            f"filtered: expected filters (cell, lag, {movie.shape[1]}, {movie.shape[2]}), got "
            f"{kernels.shape}"
        )
    cells, history = kernels.shape[:2]
    frames = len(movie)
    out = np.zeros((frames, cells))
    flat, weights = movie.reshape(frames, -1), kernels.reshape(cells * history, -1).T
    for start in range(0, frames, chunk):
        seen = (flat[start : start + chunk] @ weights).reshape(-1, cells, history)
        for place in range(history):
            first = start + latency + history - 1 - place
            reached = out[first : first + len(seen)]
            reached += seen[: len(reached), :, place]
    out[: history - 1 + latency] = np.nan
    return out


def _check(movie: Array, rates: Array, used: Array, history: int, latency: int) -> None:
    """Raise one error that names everything that does not fit."""
    problems = Problems()
    problems.require(movie.ndim == 3, f"contrast: expected (time, y, x), got {movie.shape}")
    problems.require(
        rates.ndim == 2 and len(rates) == len(movie),
        f"responses: expected ({len(movie)}, cell), got {rates.shape}",
    )
    problems.require(
        used.shape == (len(movie),), f"used: expected ({len(movie)},), got {used.shape}"
    )
    problems.require(history >= 1, f"history: expected at least 1 frame, got {history}")
    problems.require(latency >= 0, f"latency: expected at least 0 frames, got {latency}")
    problems.raise_as("window_moments")


def _newest_products(flat: Array, kept: Array, history: int, latency: int, chunk: int) -> Array:
    """Return (history, pixel, pixel): products of the newest frame with each one before it."""
    rows = np.flatnonzero(kept) - latency
    total = np.zeros((history, flat.shape[1], flat.shape[1]))
    for start in range(0, rows.size, chunk):
        part = rows[start : start + chunk]
        newest = flat[part].T
        for back in range(history):
            total[back] += newest @ flat[part - back]
    return total


def _edge_products(flat: Array, kept: Array, history: int, latency: int) -> Array:
    """Return (history - 1, pixel, history - 1, pixel): what a shift by one frame changes."""
    change = np.diff(kept.astype(np.int8), append=np.int8(0))
    pixels = flat.shape[1]
    total = np.zeros(((history - 1) * pixels,) * 2)
    edges = np.flatnonzero(change) if history > 1 else np.zeros(0, dtype=int)
    for start in range(0, edges.size, 1024):
        at = edges[start : start + 1024]
        windows = flat[at[:, None] - latency - np.arange(history - 1)].reshape(at.size, -1)
        total += (windows * change[at, None]).T @ windows
    return total.reshape(history - 1, pixels, history - 1, pixels)


def _all_products(row: Array, edge: Array) -> Array:
    """Return (entry, entry) from the products of the newest frame; entries oldest frame first."""
    history, pixels = row.shape[:2]
    whole = np.empty((history, pixels, history, pixels))
    newest = history - 1
    for back in range(history):
        whole[newest, :, newest - back] = row[back]
        whole[newest - back, :, newest] = row[back].T
    for back in range(1, history):
        earlier = whole[history - back, :, 1:]
        whole[newest - back, :, :newest] = earlier + edge[back - 1, :, ::-1]
    return whole.reshape(history * pixels, history * pixels)
