"""Spike-triggered averages: the mean stimulus before a spike, for all cells at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from scipy.stats import norm

from retinacodec.analyses.named_rows import position_of
from retinacodec.analyses.triggered_responses import TriggeredResponses, triggered_responses
from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS, field_map, trace
from retinacodec.schema import lag_axis
from retinacodec.triggered_sums import triggered_sum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "draw_sta",
    "draw_time_course",
    "field_frame",
    "pixel_moments",
    "spike_triggered_average",
    "sta_peaks",
    "triggered_average",
]

Array = npt.NDArray[Any]

_FRAMES = 64  # of a movie that are looked at together: they fit into the cache


def spike_triggered_average(
    movie: xr.Dataset,
    response: xr.Dataset | xr.DataArray,
    *,
    history: int,
    latency: int = 0,
    frames: npt.ArrayLike | None = None,
    chunk: int = 4096,
    sparse: bool | None = None,
) -> xr.Dataset:
    """Average the stimulus before each spike, for all cells at once.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x); white noise for an unbiased estimate.
    response : xarray.Dataset or xarray.DataArray
        Recording with ``spike_count`` (time, cell) on the frames of the movie; or ``rate``
        (time, cell), Hz, of a recording or of a model (what ``predict`` returns), laid on the
        movie by its ``time``. Frames with NaN are left out.
    history : int
        Frames that the average reaches back.
    latency : int, default 0
        Frames between the newest frame of the window and the spike's own frame.
    frames : array_like of int, optional
        Movie frames whose responses count, such as ``split.train``; all if left out.
    chunk : int, default 4096
        Movie frames summed at a time; the result does not depend on it.
    sparse : bool, optional
        Visit frames with spikes only, else multiply all; the faster if left out.

    Returns
    -------
    xarray.Dataset
        ``sta`` (cell, lag, y, x), mean contrast before a spike; ``z`` (cell, lag, y, x), the same
        less the mean of its pixel, in standard errors of white noise; ``spikes`` (cell), how many
        were averaged, or were expected at these rates; ``effective_spikes`` (cell), ``(sum k)^2 /
        sum k^2`` of the counts, smaller where spikes share frames. NaN for a cell without spikes.
        Lag 0 is the frame on screen in the spike's own bin, the past is negative, s.

    Raises
    ------
    InputError
        If movie and response do not fit, a weight is negative, or a number is out of range.

    Notes
    -----
    ``sta[n, l] = sum_t k_n(t) s(t - l) / sum_t k_n(t)`` over response frames with a whole window
    ``t - latency - history + 1 .. t - latency``, with spikes or rates ``k``, and
    ``z = (sta - m) sqrt(N) / sd(s - m)`` with N the spikes, and for rates the effective ones, and
    m the mean of each pixel over the movie. Windows of the movie are never copied: see
    `retinacodec.triggered_sums.triggered_sum`. For responses to correlated stimuli or many spikes
    a frame, ask `sta_significance` in place of ``z``.

    References
    ----------
    .. [1] Chichilnisky, Network: Computation in Neural Systems 12, 199 (2001).
    """
    found = triggered_responses(movie, response, history=history, latency=latency, frames=frames)
    return triggered_average(movie, found, history, latency, chunk=chunk, sparse=sparse)


def triggered_average(
    movie: xr.Dataset,
    found: TriggeredResponses,
    history: int,
    latency: int,
    *,
    chunk: int = 4096,
    sparse: bool | None = None,
) -> xr.Dataset:
    """Average the stimulus before responses that are already laid on the movie.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    found : TriggeredResponses
        Weights of its windows.
    history, latency, chunk, sparse
        As in `spike_triggered_average`.

    Returns
    -------
    xarray.Dataset
        What `spike_triggered_average` returns.
    """
    contrast = movie["contrast"].values
    shown, weights = torch.from_numpy(contrast), torch.from_numpy(found.weights)
    mean = triggered_sum(shown, weights, history, latency, chunk=chunk, sparse=sparse).numpy()
    middle, deviation = pixel_moments(contrast)
    spread = np.sqrt(np.square(deviation).mean())
    windows = found.total if found.counted else found.effective
    with np.errstate(invalid="ignore", divide="ignore"):
        mean /= found.total.astype(mean.dtype)[:, None, None, None]
        middle = middle.astype(mean.dtype)
        z = (mean - middle) * (np.sqrt(windows) / spread).astype(mean.dtype)[:, None, None, None]
    dims = ("cell", "lag", "y", "x")
    words = {"units": "1", "long_name": "mean contrast before a spike"}
    averaged = {"units": "1", "long_name": "spikes averaged"}
    return xr.Dataset(
        {
            "sta": (dims, mean.astype(np.float32, copy=False), words),
            "z": (dims, z.astype(np.float32, copy=False), {"units": "1"}),
            "spikes": ("cell", found.total, averaged),
            "effective_spikes": ("cell", found.effective, {"units": "1"}),
        },
        **field_frame(movie, found, history, latency),
    )


def field_frame(
    movie: xr.Dataset, responses: TriggeredResponses, history: int, latency: int
) -> dict[str, Any]:
    """Return coordinates and attributes of fields that were averaged over windows.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    responses : TriggeredResponses
        What was averaged.
    history, latency : int
        The window, frames.

    Returns
    -------
    dict
        ``coords`` (cell, lag in s, y and x in um) and ``attrs``, for ``xarray.Dataset``.
    """
    return {
        "coords": {
            "cell": responses.cell,
            "lag": lag_axis(history, latency, movie.attrs["frame_rate"]),
            "y": movie["y"],
            "x": movie["x"],
        },
        "attrs": {
            "kind": "receptive_fields",
            "frame_rate": movie.attrs["frame_rate"],
            "history": history,
            "latency": latency,
        },
    }


def pixel_moments(contrast: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return mean and standard deviation of each pixel, without another movie in memory.

    Parameters
    ----------
    contrast : ndarray (time, ...)
        Movie, or some of its pixels.

    Returns
    -------
    (ndarray, ndarray)
        Mean and deviation (...), float64; the deviation of a pixel that never changes is 0.
    """
    kind = np.result_type(contrast, np.float32)
    flat = contrast.reshape(len(contrast), -1)
    total: npt.NDArray[Any] = np.zeros(flat.shape[1])
    ones, room = np.ones(_FRAMES, dtype=kind), np.empty((_FRAMES, flat.shape[1]), dtype=kind)
    parts = [slice(start, start + _FRAMES) for start in range(0, len(flat), _FRAMES)]
    for part in parts:
        shown = flat[part]
        total += ones[: len(shown)] @ shown.astype(kind, copy=False)
    squares: npt.NDArray[Any] = np.zeros_like(total)
    middle = (total / len(flat)).astype(kind)
    for part in parts:
        far = np.subtract(flat[part], middle, out=room[: len(flat[part])])
        squares += np.einsum("tp,tp->p", far, far)
    mean, squares = (part.reshape(contrast.shape[1:]) for part in (total / len(flat), squares))
    still = squares <= len(contrast) * (1e-6 * mean) ** 2
    still[still] = np.ptp(contrast[:, still], axis=0) == 0
    squares[still] = 0
    return mean, np.sqrt(squares / len(contrast))


def sta_peaks(averages: xr.Dataset, *, significance: float = 0.05) -> xr.Dataset:
    """Find the strongest pixel and lag of each spike-triggered average.

    Parameters
    ----------
    averages : xarray.Dataset
        What `spike_triggered_average` returns.
    significance : float, default 0.05
        Chance of a false peak anywhere in a field of white noise, for ``chance``.

    Returns
    -------
    xarray.Dataset
        For each cell ``z`` (signed), ``lag_frames`` (0 is the spike's own frame), ``lag`` in s,
        ``row`` and ``column`` of the pixel, ``y`` and ``x`` in um; the largest ``abs(z)``
        to expect by chance is the attribute ``chance``. Positions of a cell without spikes
        are -1 or NaN.

    Raises
    ------
    InputError
        If there is no variable ``z``.

    Notes
    -----
    ``chance`` is the normal quantile at ``significance / 2`` divided by the pixels and lags.
    """
    if "z" not in averages:
        raise InputError("sta_peaks: no variable 'z'; pass what spike_triggered_average returns")
    z = averages["z"].transpose("cell", "lag", "y", "x").values
    flat = z.reshape(len(z), -1)
    known = np.isfinite(flat).all(axis=1)
    best = np.abs(np.nan_to_num(flat)).argmax(axis=1)
    lag, row, column = np.unravel_index(best, z.shape[1:])
    behind = z.shape[1] - 1 - lag + averages.attrs["latency"]
    place = {name: averages[name].values for name in ("lag", "y", "x")}
    columns = {
        "z": (np.where(known, flat[np.arange(len(z)), best], np.nan), "1"),
        "lag_frames": (np.where(known, behind, -1), "1"),
        "lag": (np.where(known, place["lag"][lag], np.nan), "s"),
        "row": (np.where(known, row, -1), "1"),
        "column": (np.where(known, column, -1), "1"),
        "y": (np.where(known, place["y"][row], np.nan), "um"),
        "x": (np.where(known, place["x"][column], np.nan), "um"),
    }
    table = {name: ("cell", values, {"units": units}) for name, (values, units) in columns.items()}
    chance = float(norm.isf(significance / 2 / flat.shape[1]))
    return xr.Dataset(table, coords={"cell": averages["cell"]}, attrs={"chance": chance})


def draw_sta(averages: xr.Dataset, ax: Axes, *, cell: int | str = 0) -> Axes:
    """Draw the spike-triggered average of a cell at the lag of its peak.

    Parameters
    ----------
    averages : xarray.Dataset
        What `spike_triggered_average` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int or str, default 0
        Position or name of the cell.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.

    Raises
    ------
    InputError
        If there is no such cell, or it has no average.
    """
    one = _one_cell(averages, cell)
    peak = sta_peaks(one).isel(cell=0)
    if peak["row"] < 0:
        raise InputError(
            f"cell {one['cell'].values[0]!s} has no average: it has no spikes, or the movie never "
            "changes"
        )
    frame = one["sta"].isel(cell=0).sel(lag=peak["lag"], method="nearest")
    field_map(ax, frame)
    ax.set_title(f"{one['cell'].item()}\n{1000 * float(peak['lag']):.0f} ms, z {peak['z']:.1f}")
    return ax


def draw_time_course(averages: xr.Dataset, ax: Axes, *, cell: int | str = 0) -> Axes:
    """Draw the contrast at a cell's strongest pixel against the time before the spike.

    Parameters
    ----------
    averages : xarray.Dataset
        What `spike_triggered_average` returns, or `sta_bands`, whose band is shaded.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int or str, default 0
        Position or name of the cell.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.
    """
    one = _one_cell(averages, cell)
    peak = sta_peaks(one).isel(cell=0)
    row, column = int(peak["row"]), int(peak["column"])
    place = {"cell": 0, "y": row, "x": column}
    course = one["sta"].isel(place)
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    colour = COLOURS.on if peak["z"] > 0 else COLOURS.off
    band = None
    if "low" in one:
        band = one["low"].isel(place), one["high"].isel(place)
    trace(ax, 1000 * one["lag"], course, colour=colour, band=band)
    ax.set(xlabel="time before spike (ms)", ylabel="mean contrast")
    return ax


def _one_cell(averages: xr.Dataset, cell: int | str) -> xr.Dataset:
    """Select a cell by position or name, and keep its dimension."""
    return averages.isel(cell=[position_of(averages, "cell", cell)])
