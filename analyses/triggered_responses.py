"""How responses become weights of a movie's frames: spikes recorded, or rates of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems
from retinacodec.lagged_products import whole_windows
from retinacodec.schema import check_pair, check_recording, check_stimulus

__all__ = ["TriggeredResponses", "triggered_responses"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TriggeredResponses:
    """Weights of the windows of a movie.

    Attributes
    ----------
    weights : ndarray (time, cell)
        Spikes in each frame of the movie, or expected spikes of a rate, float32; 0 wherever a
        response must not count.
    known : ndarray of bool (time, cell)
        Where a response counts: asked for, observed, and with a whole window before it.
    cell : xarray.DataArray (cell,)
        Names of the cells.
    counted : bool
        Whether these are spikes that were counted, not rates.
    """

    weights: Array
    known: npt.NDArray[np.bool_]
    cell: xr.DataArray
    counted: bool

    @property
    def total(self) -> Array:
        """Spikes (cell,), float64."""
        return np.asarray(self.weights.sum(axis=0, dtype=np.float64))

    @property
    def effective(self) -> Array:
        """Windows of equal weight that would average as well, ``(sum k)^2 / sum k^2`` (cell,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = np.square(self.weights, dtype=np.float64).sum(axis=0)
            return np.asarray(self.total**2 / squares)

    @property
    def centred(self) -> Array:
        """Weights less each cell's mean where it is known, 0 elsewhere (time, cell), float32."""
        mean = self.total / np.maximum(self.known.sum(axis=0), 1)
        return np.where(self.known, self.weights - mean, 0).astype(np.float32)


def triggered_responses(
    movie: xr.Dataset,
    response: xr.Dataset | xr.DataArray,
    *,
    history: int,
    latency: int = 0,
    frames: npt.ArrayLike | None = None,
) -> TriggeredResponses:
    """Lay responses on the frames of a movie, as weights of the windows before them.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    response : xarray.Dataset or xarray.DataArray
        Recording with ``spike_count`` (time, cell) on the frames of the movie; or ``rate``
        (time, cell) in Hz, such as what ``predict`` returns, which may start later or leave out
        frames and is laid on the movie by its ``time``. NaN is left out.
    history : int
        Frames of a window, at least 1.
    latency : int, default 0
        Frames between the newest frame of the window and the response, at least 0.
    frames : array_like of int, optional
        Movie frames whose responses count; all if left out.

    Returns
    -------
    TriggeredResponses
        The weights; a rate counts as the spikes it lets expect, ``rate / frame_rate``.

    Raises
    ------
    InputError
        If movie and response do not fit, a weight is negative or infinite, or a number is out of
        range.
    """
    check_stimulus(movie)
    counted = False
    if isinstance(response, xr.Dataset) and "spike_count" in response:
        counted = True
        check_recording(response)
        check_pair(movie, response)
        values = response["spike_count"].values
    else:
        values = _rates_on_frames(movie, response) / movie.attrs["frame_rate"]
    used = _used_frames(len(values), history, latency, frames)
    known = used[:, None] & np.isfinite(values)
    weights = np.where(known, values, 0).astype(np.float32)
    return TriggeredResponses(weights, known, response["cell"], counted)


def _rates_on_frames(movie: xr.Dataset, response: xr.Dataset | xr.DataArray) -> Array:
    """Return rates (time, cell) on all frames of the movie, NaN where there is none."""
    if isinstance(response, xr.Dataset):
        if "rate" not in response:
            raise InputError("responses: expected a variable 'spike_count' or 'rate', got neither")
        response = response["rate"]
    problems = Problems()
    problems.require(
        set(response.dims) == {"time", "cell"},
        f"rate: dims must be ('time', 'cell'), got {response.dims}",
    )
    for name in {"time", "cell"} & set(response.dims):
        problems.require(name in response.coords, f"rate: no coordinate {name!r}")
    problems.raise_as("responses")
    rate = response.transpose("time", "cell").values
    problems.require(rate.size > 0, "rate is empty")
    problems.require(not np.isinf(rate).any(), "rate is infinite somewhere")
    problems.require(not (rate < 0).any(), "rate is below zero somewhere; rectify it first")
    rows = _frames_shown(movie, response["time"].values, problems)
    problems.raise_as("responses")
    whole = np.full((movie.sizes["time"], rate.shape[1]), np.nan)
    whole[rows] = rate
    return whole


def _frames_shown(movie: xr.Dataset, moments: Array, problems: Problems) -> npt.NDArray[np.intp]:
    """Return the frame of the movie that begins at each moment, or note that there is none."""
    onset = movie["time"].values
    rows = np.searchsorted((onset[1:] + onset[:-1]) / 2, moments)
    apart = np.abs(onset[rows] - moments)
    problems.require(
        bool((apart <= 0.1 / movie.attrs["frame_rate"]).all()),
        f"rate: times must be onsets of frames of the movie ({onset[0]:.6g} to {onset[-1]:.6g} "
        f"s), the farthest is {apart.max(initial=0):.3g} s off",
    )
    problems.require(bool((np.diff(rows) > 0).all()), "rate: two times lie on one frame")
    return rows


def _used_frames(
    length: int, history: int, latency: int, frames: npt.ArrayLike | None
) -> npt.NDArray[np.bool_]:
    """Return which frames are asked for and have a whole window."""
    chosen = np.arange(length) if frames is None else np.asarray(frames)
    problems = Problems()
    problems.require(history >= 1, f"history: expected at least 1 frame, got {history}")
    problems.require(latency >= 0, f"latency: expected at least 0 frames, got {latency}")
    problems.require(
        history - 1 + latency < length,
        f"history: {history} frames and latency {latency} reach beyond the {length} frames shown",
    )
    inside = np.issubdtype(chosen.dtype, np.integer) and bool(
        ((chosen >= 0) & (chosen < length)).all()
    )
    problems.require(inside, f"frames: expected whole numbers from 0 to {length - 1}")
    problems.raise_as("responses")
    used = np.zeros(length, dtype=bool)
    used[chosen] = True
    return whole_windows(used, history, latency)
