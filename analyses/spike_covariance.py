"""Spike-triggered covariance: stimulus features that excite or suppress whatever their sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import xarray as xr

from retinacodec.analyses.field_windows import Square
from retinacodec.analyses.receptive_fields import (
    sta_peaks,
    triggered_average,
)
from retinacodec.analyses.triggered_responses import TriggeredResponses, triggered_responses
from retinacodec.analyses.window_covariances import (
    NestedShifts,
    WindowCovariance,
    prior_covariance,
)
from retinacodec.errors import Problems
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_eigenvalues", "spike_triggered_covariance"]

Array = npt.NDArray[Any]

_MOST_DIMENSIONS = 6000  # a covariance of this size takes 0.3 GB and a minute


def spike_triggered_covariance(
    movie: xr.Dataset,
    response: xr.Dataset | xr.DataArray,
    *,
    history: int,
    latency: int = 0,
    window: int = 8,
    components: int = 4,
    centres: npt.ArrayLike | None = None,
    correlated: bool = False,
    null: NestedShifts | None = None,
    frames: npt.ArrayLike | None = None,
) -> xr.Dataset:
    """Find features along which the variance of the stimulus before spikes differs.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    response : xarray.Dataset or xarray.DataArray
        Recording, or rates, as in `spike_triggered_average`.
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
    correlated : bool, default False
        Subtract the measured covariance of all windows, for stimuli that are not white noise;
        else that of white noise of the same power.
    null : NestedShifts, optional
        Test the kept eigenvalues against shifted responses.
    frames : array_like of int, optional
        Movie frames whose responses count; all if left out.

    Returns
    -------
    xarray.Dataset
        ``eigenvalue`` (cell, component), change of variance in contrast squared, the largest
        first and the most negative last; ``feature`` (cell, component, lag, row, column), unit
        norm, with a positive strongest value; ``y`` and ``x`` (cell, row or column), um;
        ``chance_low`` and ``chance_high`` (cell), where eigenvalues of as many unrelated windows
        of white noise would end (NaN if ``correlated``); ``sta`` (cell, lag, row, column);
        ``spikes`` (cell). With a null also ``p`` and ``significant`` (cell, component), and
        ``null_low`` and ``null_high`` (cell), the ends for shifted responses. NaN for a cell
        without two windows.

    Raises
    ------
    InputError
        If movie and response do not fit, a number is out of range, or a window would have more
        than 6000 dimensions.

    Notes
    -----
    ``C = P (sum_t k(t) v(t) v(t)^T / sum_t k(t) - prior) P`` with ``v`` the window less the mean
    of each pixel, ``P = 1 - u u^T`` where the average has a peak above chance, ``u`` of unit norm
    along it, else ``P = 1``; the prior is ``sd^2 1``, or ``mean_t v(t) v(t)^T`` if correlated. A
    spike counts once, so that a frame with k spikes has weight k. Chance is the Marchenko-Pastur
    law, ``sd^2 ((1 -+ sqrt(D / n))^2 - 1)`` for D dimensions and ``n = (sum k)^2 / sum k^2``
    windows. Windows are gathered for frames with spikes only, a chunk at a time.

    References
    ----------
    .. [1] Schwartz, Pillow, Rust, Simoncelli, Journal of Vision 6, 484 (2006).
    """
    found = triggered_responses(movie, response, history=history, latency=latency, frames=frames)
    averages = triggered_average(movie, found, history, latency)
    shape = history, min(window, movie.sizes["y"]), min(window, movie.sizes["x"])
    problems = _shape_problems(shape, window, components)
    contrast = movie["contrast"].values
    mean = contrast.mean(axis=0, dtype=np.float64).astype(np.float32)
    peaks = sta_peaks(averages.assign(z=averages["z"] * _share_of_spikes(averages, found)))
    middles = np.column_stack([peaks["row"], peaks["column"]]) if centres is None else centres
    middles = np.asarray(middles, dtype=int)
    cells = found.weights.shape[1]
    problems.require(
        middles.shape == (cells, 2), f"centres: expected ({cells}, 2), got {middles.shape}"
    )
    problems.raise_as("spike_triggered_covariance")
    driven = np.abs(peaks["z"].values) > peaks.attrs["chance"]
    plan = _Plan(contrast, mean, found, shape, window, latency, components, correlated, null)
    parts = [
        plan.cell(cell, averages["sta"].values[cell], bool(driven[cell]), middles[cell])
        for cell in range(cells)
    ]
    result = _dataset(parts, averages, movie)
    return result.assign_attrs(correlated=int(correlated), null=repr(null))


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


def _share_of_spikes(averages: xr.Dataset, found: TriggeredResponses) -> xr.DataArray:
    """Return what z is multiplied by where spikes that share a frame count as one (cell)."""
    windows = averages["spikes"] if found.counted else averages["effective_spikes"]
    return (averages["effective_spikes"] / windows) ** 0.5


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
        The axis: dots are eigenvalues, coloured where significant; the band is chance, that of
        shifted responses where they were asked for.
    """
    one = covariances.isel(cell=cell)
    kind = "null" if "null_low" in one else "chance"
    low, high = float(one[f"{kind}_low"]), float(one[f"{kind}_high"])
    if np.isfinite([low, high]).all():
        ax.axhspan(low, high, color=COLOURS.paper, linewidth=0)
    place = np.arange(one.sizes["component"])
    ax.plot(place, one["eigenvalue"], "o", color=COLOURS.ink, markersize=3)
    if "significant" in one:
        sure = one["significant"].values
        ax.plot(place[sure], one["eigenvalue"][sure], "o", color=COLOURS.highlight, markersize=3)
    ax.set(xlabel="component", ylabel="change of variance (contrast²)")
    return ax


@dataclass(frozen=True)
class _Plan:
    """What is the same for all cells."""

    contrast: Array
    mean: Array
    responses: TriggeredResponses
    shape: tuple[int, int, int]
    window: int
    latency: int
    components: int
    correlated: bool
    null: NestedShifts | None

    def cell(self, cell: int, average: Array, driven: bool, middle: Array) -> dict[str, Any]:
        """Return spectrum, features and place of one cell."""
        history = self.shape[0]
        square = Square.around(middle, self.window, self.contrast.shape[1:])
        near = (slice(None), *square.pixels)
        weights = self.responses.weights[:, cell].astype(np.float64)
        known = self.responses.known[:, cell]
        result = {"sta": average[near], "spikes": weights.sum(), "top": square.top}
        result["left"] = square.left
        if weights.sum() == 0 or (self.responses.counted and weights.sum() < 2):
            return {**result, **self._nothing()}
        patch = np.ascontiguousarray(self.contrast[near] - self.mean[near[1:]])
        prior = prior_covariance(patch, known, history, self.latency, self.correlated)
        covariance = WindowCovariance(patch, history, self.latency, prior)
        axes = (average[near] - self.mean[near[1:]]).astype(np.float64).reshape(-1, 1)
        axes = axes[:, : int(driven)] / np.linalg.norm(axes)
        return {**result, **self._spectrum(covariance, weights, axes)}

    def _spectrum(
        self, covariance: WindowCovariance, weights: Array, axes: Array
    ) -> dict[str, Any]:
        """Return the ends of the spectrum, their features, and what chance allows."""
        change = covariance.change(weights, axes)
        values, vectors = scipy.linalg.eigh(change, driver="evd", overwrite_a=True)
        kept = np.r_[-1 : -self.components - 1 : -1, self.components - 1 : -1 : -1]
        features = vectors[:, kept]
        strongest = np.abs(features).argmax(axis=0)
        features = features * np.sign(features[strongest, np.arange(len(kept))])
        result: dict[str, Any] = {
            "eigenvalue": values[kept],
            "feature": features.T.reshape(-1, *self.shape),
            "chance_low": np.nan,
            "chance_high": np.nan,
        }
        if not self.correlated:
            ratio = np.sqrt(len(axes) * (weights**2).sum() / weights.sum() ** 2)
            power = covariance.prior[0, 0]
            result["chance_low"] = power * (max(1 - ratio, 0) ** 2 - 1)
            result["chance_high"] = power * ((1 + ratio) ** 2 - 1)
        if self.null is not None:
            test = self.null(covariance, weights, axes, features, values[kept])
            result |= {"p": test.p, "significant": test.significant}
            result |= {"null_low": test.low, "null_high": test.high}
        return result

    def _nothing(self) -> dict[str, Any]:
        """Return what is known of a silent cell."""
        count = 2 * self.components
        result: dict[str, Any] = {
            "eigenvalue": np.full(count, np.nan),
            "feature": np.full((count, *self.shape), np.nan),
            "chance_low": np.nan,
            "chance_high": np.nan,
        }
        if self.null is not None:
            result |= {"p": np.full(count, np.nan), "significant": np.zeros(count, dtype=bool)}
            result |= {"null_low": np.nan, "null_high": np.nan}
        return result


def _dataset(cells: list[dict[str, Any]], averages: xr.Dataset, movie: xr.Dataset) -> xr.Dataset:
    """Put the cells into one dataset."""
    height, width = cells[0]["sta"].shape[1:]
    stack = {name: np.stack([cell[name] for cell in cells]) for name in cells[0]}
    places = {
        axis: np.stack([movie[axis].values[cell[edge] : cell[edge] + size] for cell in cells])
        for axis, edge, size in (("y", "top", height), ("x", "left", width))
    }
    square = {"units": "1", "long_name": "change of variance, contrast squared"}
    one, field = {"units": "1"}, ("lag", "row", "column")
    told: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "eigenvalue": (("cell", "component"), square),
        "feature": (("cell", "component", *field), one),
        "chance_low": (("cell",), square),
        "chance_high": (("cell",), square),
        "null_low": (("cell",), square),
        "null_high": (("cell",), square),
        "p": (("cell", "component"), one),
        "significant": (("cell", "component"), one),
        "sta": (("cell", *field), averages["sta"].attrs),
        "spikes": (("cell",), one),
    }
    table = {
        name: (dims, stack[name], words) for name, (dims, words) in told.items() if name in stack
    }
    return xr.Dataset(
        {
            **table,
            "y": (("cell", "row"), places["y"], {"units": "um"}),
            "x": (("cell", "column"), places["x"], {"units": "um"}),
        },
        coords={"cell": averages["cell"], "lag": averages["lag"]},
        attrs={**averages.attrs, "kind": "spike_covariance"},
    )
