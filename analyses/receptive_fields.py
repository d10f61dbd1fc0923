"""Spike-triggered averages: the mean stimulus before a spike, for all cells at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from scipy.stats import norm

from retinacodec.errors import InputError, Problems
from retinacodec.plotting import COLOURS, field_map, trace
from retinacodec.schema import check_pair, check_recording, check_stimulus
from retinacodec.triggered_sums import triggered_sum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_sta", "draw_time_course", "spike_triggered_average", "sta_peaks"]

Array = npt.NDArray[Any]


def spike_triggered_average(
    movie: xr.Dataset,
    recording: xr.Dataset,
    *,
    history: int,
    latency: int = 0,
    frames: npt.ArrayLike | None = None,
    chunk: int = 4096,
) -> xr.Dataset:
    """Average the stimulus before each spike, for all cells at once.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x); white noise for an unbiased estimate.
    recording : xarray.Dataset
        Recording with ``spike_count`` (time, cell) on the frames of the movie.
    history : int
        Frames that the average reaches back.
    latency : int, default 0
        Frames between the newest frame of the window and the spike's own frame.
    frames : array_like of int, optional
        Response frames whose spikes count, such as ``split.train``; all if left out.
    chunk : int, default 4096
        Movie frames multiplied at a time; the result does not depend on it.

    Returns
    -------
    xarray.Dataset
        ``sta`` (cell, lag, y, x), mean contrast before a spike; ``z`` (cell, lag, y, x), the same
        in standard errors of white noise; ``spikes`` (cell), how many were averaged;
        ``effective_spikes`` (cell), ``(sum k)^2 / sum k^2`` of the counts, smaller where spikes
        share frames. NaN for a cell without spikes. Lag 0 is the frame on screen in the spike's
        own bin, the past is negative, s.

    Raises
    ------
    InputError
        If movie and recording do not fit, or a number is out of range.

    Notes
    -----
    ``sta[n, l] = sum_t k_n(t) s(t - l) / sum_t k_n(t)`` over response frames with a whole window
    ``t - latency - history + 1 .. t - latency``, and ``z = sta sqrt(sum_t k_n(t)) / sd(s)``. All
    cells and lags are one matrix product of the lagged counts with the movie; windows of the
    movie are never copied.

    References
    ----------
    .. [1] Chichilnisky, Network: Computation in Neural Systems 12, 199 (2001).
    """
    check_stimulus(movie)
    check_recording(recording)
    check_pair(movie, recording)
    counts = _usable_counts(recording, history, latency, frames)
    contrast = movie["contrast"].values
    shown, weights = torch.from_numpy(contrast), torch.from_numpy(counts)
    total = triggered_sum(shown, weights, history, latency, chunk=chunk).numpy()
    spikes = counts.sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / spikes[:, None, None, None]
        effective = spikes**2 / (counts**2).sum(axis=0, dtype=np.float64)
        error = contrast.std(dtype=np.float64) / np.sqrt(spikes)[:, None, None, None]
    dims = ("cell", "lag", "y", "x")
    lag = (np.arange(1 - history, 1) - latency) / movie.attrs["frame_rate"]
    words = {"units": "1", "long_name": "mean contrast before a spike"}
    return xr.Dataset(
        {
            "sta": (dims, mean.astype(np.float32), words),
            "z": (dims, (mean / error).astype(np.float32), {"units": "1"}),
            "spikes": ("cell", spikes, {"units": "1", "long_name": "spikes averaged"}),
            "effective_spikes": ("cell", effective, {"units": "1"}),
        },
        coords={
            "cell": recording["cell"],
            "lag": ("lag", lag, {"units": "s", "long_name": "time before the spike's frame"}),
            "y": movie["y"],
            "x": movie["x"],
        },
        attrs={
            "kind": "receptive_fields",
            "frame_rate": movie.attrs["frame_rate"],
            "history": history,
            "latency": latency,
        },
    )


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
    """
    one = _one_cell(averages, cell)
    peak = sta_peaks(one).isel(cell=0)
    frame = one["sta"].isel(cell=0).sel(lag=peak["lag"], method="nearest")
    field_map(ax, frame)
    ax.set_title(f"{one['cell'].item()}\n{1000 * float(peak['lag']):.0f} ms, z {peak['z']:.1f}")
    return ax


def draw_time_course(averages: xr.Dataset, ax: Axes, *, cell: int | str = 0) -> Axes:
    """Draw the contrast at a cell's strongest pixel against the time before the spike.

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
    """
    one = _one_cell(averages, cell)
    peak = sta_peaks(one).isel(cell=0)
    course = one["sta"].isel(cell=0, y=int(peak["row"]), x=int(peak["column"]))
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    trace(ax, 1000 * one["lag"], course, colour=COLOURS.on if peak["z"] > 0 else COLOURS.off)
    ax.set(xlabel="time before spike (ms)", ylabel="mean contrast")
    return ax


def _one_cell(averages: xr.Dataset, cell: int | str) -> xr.Dataset:
    """Select a cell by position or name, and keep its dimension."""
    if isinstance(cell, str):
        if cell not in averages["cell"].values:
            raise InputError(f"no cell {cell!r}; there are {averages['cell'].values.tolist()}")
        return averages.sel(cell=[cell])
    return averages.isel(cell=[cell])


def _usable_counts(
    recording: xr.Dataset, history: int, latency: int, frames: npt.ArrayLike | None
) -> Array:
    """Return counts (time, cell) with 0 wherever a spike must not count."""
    counts = np.nan_to_num(recording["spike_count"].values).astype(np.float32)
    length = len(counts)
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
    problems.raise_as("spike_triggered_average")
    used = np.zeros(length, dtype=bool)
    used[chosen] = True
    used[: history - 1 + latency] = False
    counts[~used] = 0
    return counts
