"""Spike-triggered covariance: stimulus features that excite or suppress whatever their sign."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import xarray as xr

from retinacodec.analyses.receptive_fields import spike_triggered_average, sta_peaks
from retinacodec.errors import Problems
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_eigenvalues", "spike_triggered_covariance"]

Array = npt.NDArray[Any]

_MOST_DIMENSIONS = 6000  # a covariance of this size takes 0.3 GB and a minute
_CHUNK = 2048  # stimulus windows gathered at a time


def spike_triggered_covariance(
    movie: xr.Dataset,
    recording: xr.Dataset,
    *,
    history: int,
    latency: int = 0,
    window: int = 8,
    components: int = 4,
    centres: npt.ArrayLike | None = None,
    frames: npt.ArrayLike | None = None,
) -> xr.Dataset:
    """Find features along which the variance of the stimulus before spikes differs.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x) of white noise.
    recording : xarray.Dataset
        Recording with ``spike_count`` (time, cell) on the frames of the movie.
    history : int
        Frames that a feature reaches back.
    latency : int, default 0
        Frames between the newest frame of the window and the spike's own frame.
    window : int, default 8
        Pixels on each side of the square around the peak of the cell's spike-triggered average
        that is looked at; all pixels of an axis that has fewer.
    components : int, default 4
        Features kept at each end of the spectrum.
    centres : array_like of int (cell, 2), optional
        Row and column of the pixel in the middle of each cell's square, for cells without an
        average; the peak of the average if left out.
    frames : array_like of int, optional
        Response frames whose spikes count; all if left out.

    Returns
    -------
    xarray.Dataset
        ``eigenvalue`` (cell, component), change of variance in contrast squared, the largest
        first and the most negative last; ``feature`` (cell, component, lag, row, column), unit
        norm, with a positive strongest value; ``y`` and ``x`` (cell, row or column), um;
        ``chance_low`` and ``chance_high`` (cell), where eigenvalues of as many unrelated windows
        would end; ``sta`` (cell, lag, row, column); ``spikes`` (cell). NaN for a cell without
        two spikes.

    Raises
    ------
    InputError
        If movie and recording do not fit, a number is out of range, or a window would have more
        than 6000 dimensions.

    Notes
    -----
    ``C = sum_t k(t) v(t) v(t)^T / sum_t k(t) - sd^2 (1 - u u^T)`` with ``v`` the window less its
    projection on the unit average ``u``, where the average has a peak above chance, else with the
    window itself and no ``u``. A spike counts once, so that a frame with k spikes has weight k.
    Chance is the Marchenko-Pastur law, ``sd^2 ((1 -+ sqrt(D / n))^2 - 1)`` for D dimensions and
    ``n = (sum k)^2 / sum k^2`` windows. Windows are gathered for frames with spikes only, a chunk
    at a time.

    References
    ----------
    .. [1] Schwartz, Pillow, Rust, Simoncelli, Journal of Vision 6, 484 (2006).
    """
    averages = spike_triggered_average(
        movie, recording, history=history, latency=latency, frames=frames
    )
    shape = history, min(window, movie.sizes["y"]), min(window, movie.sizes["x"])
    problems = _shape_problems(shape, window, components)
    counts = recording["spike_count"].transpose("time", "cell").values
    peaks = sta_peaks(averages)
    middles = np.column_stack([peaks["row"], peaks["column"]]) if centres is None else centres
    middles = np.asarray(middles, dtype=int)
    problems.require(
        middles.shape == (counts.shape[1], 2),
        f"centres: expected ({counts.shape[1]}, 2), got {middles.shape}",
    )
    problems.raise_as("spike_triggered_covariance")
    driven = _driven(averages, peaks)
    pixels = movie["contrast"].values
    cells = [
        _one_cell(
            pixels,
            _counted(counts[:, cell], history - 1 + latency, frames),
            averages["sta"].values[cell],
            bool(driven[cell]),
            (int(middles[cell, 0]), int(middles[cell, 1])),
            shape,
            latency,
            components,
        )
        for cell in range(counts.shape[1])
    ]
    return _dataset(cells, averages, movie)


def _shape_problems(shape: tuple[int, int, int], window: int, components: int) -> Problems:
    """Collect what is wrong with the size of the covariance."""
    dimensions = int(np.prod(shape))
    problems = Problems()
    problems.require(window >= 1, f"window: expected at least 1 pixel, got {window}")
    problems.require(
        1 <= components <= dimensions // 2,
        f"components: expected 1 to {dimensions // 2}, got {components}",
    )
    problems.require(
        dimensions <= _MOST_DIMENSIONS,
        f"window: {dimensions} dimensions (at most {_MOST_DIMENSIONS}); use a smaller window= or "
        "history=",
    )
    return problems


def _driven(averages: xr.Dataset, peaks: xr.Dataset) -> npt.NDArray[np.bool_]:
    """Return which cells have an average that stands out of chance."""
    z = peaks["z"] * np.sqrt(averages["effective_spikes"] / averages["spikes"])
    return np.asarray(np.abs(z.values) > peaks.attrs["chance"])


def draw_eigenvalues(covariances: xr.Dataset, ax: Axes, *, cell: int = 0) -> Axes:
    """Draw the ends of a cell's spectrum against what chance allows.

    Parameters
    ----------
    covariances : xarray.Dataset
        What `spike_triggered_covariance` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int, default 0
        Position of the cell.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: dots are eigenvalues, the grey band is chance.
    """
    one = covariances.isel(cell=cell)
    ax.axhspan(
        float(one["chance_low"]), float(one["chance_high"]), color=COLOURS.paper, linewidth=0
    )
    place = np.arange(one.sizes["component"])
    ax.plot(place, one["eigenvalue"], "o", color=COLOURS.ink, markersize=3)
    ax.set(xlabel="component", ylabel="change of variance (contrast²)")
    return ax


def _counted(counts: Array, first: int, frames: npt.ArrayLike | None) -> Array:
    """Return counts of a cell with 0 wherever a spike must not count."""
    used = np.zeros(counts.size, dtype=bool)
    used[slice(None) if frames is None else np.asarray(frames)] = True
    used[:first] = False
    return np.where(used, np.nan_to_num(counts), 0.0).astype(np.float64)


def _one_cell(
    contrast: Array,
    counts: Array,
    average: Array,
    driven: bool,
    peak: tuple[int, int],
    shape: tuple[int, int, int],
    latency: int,
    components: int,
) -> dict[str, Any]:
    """Return spectrum, features and place of one cell."""
    history, height, width = shape
    top, left = (
        int(np.clip(middle - size // 2, 0, whole - size))
        for middle, size, whole in zip(peak, (height, width), contrast.shape[1:], strict=True)
    )
    near = (slice(None), slice(top, top + height), slice(left, left + width))
    mean = average[near].astype(np.float64).ravel()
    result = {"sta": average[near], "spikes": counts.sum(), "top": top, "left": left}
    if counts.sum() < 2:
        nothing = np.full(2 * components, np.nan), np.full((2 * components, *shape), np.nan)
        return {**result, "values": nothing[0], "features": nothing[1], "chance": (np.nan,) * 2}
    second = np.zeros((mean.size, mean.size))
    for windows, weight in _windows(contrast[near], counts, history, latency):
        second += (windows * weight).T @ windows
    power = float(contrast.var(dtype=np.float64))
    change = second / counts.sum() - power * np.eye(mean.size)
    if driven:
        axis = (mean / np.linalg.norm(mean))[:, None]
        change -= axis @ (axis.T @ change)
        change -= (change @ axis) @ axis.T
    values, vectors = scipy.linalg.eigh((change + change.T) / 2, driver="evd")
    kept = np.r_[-1 : -components - 1 : -1, components - 1 : -1 : -1]
    features = vectors[:, kept].T
    strongest = np.abs(features).argmax(axis=1)
    features *= np.sign(features[np.arange(len(kept)), strongest])[:, None]
    ratio = np.sqrt(mean.size * (counts**2).sum() / counts.sum() ** 2)
    chance = power * (max(1 - ratio, 0) ** 2 - 1), power * ((1 + ratio) ** 2 - 1)
    features = features.reshape(-1, *shape)
    return {**result, "values": values[kept], "features": features, "chance": chance}


def _windows(
    contrast: Array, counts: Array, history: int, latency: int
) -> Iterator[tuple[Array, Array]]:
    """Yield windows (spike frame, lag and pixel) of frames with spikes, and their counts."""
    flat = contrast.reshape(len(contrast), -1)
    reach = np.arange(1 - history, 1) - latency
    spiking = np.flatnonzero(counts)
    for start in range(0, spiking.size, _CHUNK):
        part = spiking[start : start + _CHUNK]
        windows = flat[part[:, None] + reach].reshape(part.size, -1)
        yield windows, counts[part][:, None].astype(windows.dtype)


def _dataset(cells: list[dict[str, Any]], averages: xr.Dataset, movie: xr.Dataset) -> xr.Dataset:
    """Put the cells into one dataset."""
    height, width = cells[0]["sta"].shape[1:]
    stack = {name: np.stack([cell[name] for cell in cells]) for name in cells[0]}
    places = {
        axis: np.stack([movie[axis].values[cell[edge] : cell[edge] + size] for cell in cells])
        for axis, edge, size in (("y", "top", height), ("x", "left", width))
    }
    square = {"units": "1", "long_name": "change of variance, contrast squared"}
    field = ("lag", "row", "column")
    return xr.Dataset(
        {
            "eigenvalue": (("cell", "component"), stack["values"], square),
            "feature": (("cell", "component", *field), stack["features"], {"units": "1"}),
            "chance_low": ("cell", stack["chance"][:, 0], square),
            "chance_high": ("cell", stack["chance"][:, 1], square),
            "sta": (("cell", *field), stack["sta"], averages["sta"].attrs),
            "spikes": ("cell", stack["spikes"], {"units": "1"}),
            "y": (("cell", "row"), places["y"], {"units": "um"}),
            "x": (("cell", "column"), places["x"], {"units": "um"}),
        },
        coords={"cell": averages["cell"], "lag": averages["lag"]},
        attrs={**averages.attrs, "kind": "spike_covariance"},
    )
