"""How sure a spike-triggered average is, pixel by pixel: standard errors and bands."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from scipy.stats import t as student

from retinacodec.analyses.receptive_fields import sta_peaks, triggered_average
from retinacodec.analyses.triggered_responses import TriggeredResponses, triggered_responses
from retinacodec.bootstrap import block_labels
from retinacodec.errors import InputError, Problems
from retinacodec.triggered_sums import stretch_sum

__all__ = ["sta_bands", "sta_profiles"]

Array = npt.NDArray[Any]


def sta_bands(
    movie: xr.Dataset,
    response: xr.Dataset | xr.DataArray,
    *,
    history: int,
    latency: int = 0,
    level: float = 0.95,
    block_s: float = 1.0,
    frames: npt.ArrayLike | None = None,
) -> xr.Dataset:
    """Average the stimulus before spikes, with a confidence band at every pixel and lag.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    response : xarray.Dataset or xarray.DataArray
        Recording, or rates, as in `spike_triggered_average`.
    history, latency, frames
        As in `spike_triggered_average`.
    level : float, default 0.95
        Coverage of the band at each pixel and lag by itself.
    block_s : float, default 1.0
        Seconds of response that are kept together; at least as long as responses and stimulus
        are correlated.

    Returns
    -------
    xarray.Dataset
        What `spike_triggered_average` returns, and ``standard_error``, ``low`` and ``high``
        (cell, lag, y, x), contrast; ``blocks`` (cell), how many held a spike. NaN for a cell
        that fired in fewer than two blocks.

    Raises
    ------
    InputError
        If movie and response do not fit, a number is out of range or there is only one block.

    Notes
    -----
    The average is a ratio, whose error is that of the sum of ``k(t) (v(t) - sta)``. With block
    sums ``D_b`` of it, ``standard_error = sqrt(B / (B - 1) sum_b D_b^2) / sum_t k(t)`` over the
    B blocks with spikes, and the band is ``sta -+ t_(B-1) standard_error``. With blocks of one
    frame it is the spread of the triggered windows.

    References
    ----------
    .. [1] Liang and Zeger, Biometrika 73, 13 (1986), the variance of clustered sums.
    """
    problems = Problems()
    problems.require(0 < level < 1, f"level: expected between 0 and 1, got {level}")
    problems.require(block_s > 0, f"block_s: expected seconds > 0, got {block_s}")
    problems.raise_as("sta_bands")
    found = triggered_responses(movie, response, history=history, latency=latency, frames=frames)
    averages = triggered_average(movie, found, history, latency)
    block = max(round(block_s * movie.attrs["frame_rate"]), 1)
    mean = averages["sta"].values
    squares, blocks = _block_squares(movie["contrast"].values, found, mean, latency, block)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(blocks > 1, blocks / (blocks - 1), np.nan)
        factor = (np.sqrt(share) / found.total).astype(np.float32)
        quantile = student.isf((1 - level) / 2, np.maximum(blocks - 1, 1)).astype(np.float32)
    error = np.sqrt(squares, out=squares)
    error *= np.expand_dims(factor, (1, 2, 3))
    half = error * np.expand_dims(quantile, (1, 2, 3))
    dims = averages["sta"].dims
    one = {"units": "1"}
    return averages.assign(
        standard_error=(dims, error, one),
        low=(dims, mean - half, one),
        high=(dims, mean + half, one),
        blocks=("cell", blocks, one),
    ).assign_attrs(level=level, block_s=block_s)


def sta_profiles(averages: xr.Dataset) -> xr.Dataset:
    """Return the time course through each cell's peak pixel, and the map at its peak lag.

    Parameters
    ----------
    averages : xarray.Dataset
        What `sta_bands` or `spike_triggered_average` returns.

    Returns
    -------
    xarray.Dataset
        ``course`` (cell, lag) and ``profile`` (cell, y, x), contrast; and where there are bands
        ``course_low``, ``course_high``, ``profile_low`` and ``profile_high``. NaN for a cell
        without spikes. The peak is that of `sta_peaks`.

    Raises
    ------
    InputError
        If there is no average in the dataset.
    """
    if "sta" not in averages:
        raise InputError("sta_profiles: no variable 'sta'; pass what sta_bands returns")
    peaks = sta_peaks(averages)
    row, column = (np.maximum(peaks[name].values, 0) for name in ("row", "column"))
    frames = peaks["lag_frames"].values - averages.attrs["latency"]
    lag = np.clip(averages.sizes["lag"] - 1 - frames, 0, averages.sizes["lag"] - 1)
    cell = np.arange(averages.sizes["cell"])
    table: dict[str, Any] = {}
    for name, end in (("sta", ""), ("low", "_low"), ("high", "_high")):
        if name in averages:
            values = averages[name].transpose("cell", "lag", "y", "x").values
            course, profile = values[cell, :, row, column], values[cell, lag]
            table[f"course{end}"] = (("cell", "lag"), course, {"units": "1"})
            table[f"profile{end}"] = (("cell", "y", "x"), profile, {"units": "1"})
    coords = {name: averages[name] for name in ("cell", "lag", "y", "x")}
    return xr.Dataset(table, coords=coords, attrs=averages.attrs)


def _block_squares(
    contrast: Array, found: TriggeredResponses, mean: Array, latency: int, block: int
) -> tuple[Array, Array]:
    """Return sums over blocks of squared deviations (cell, lag, y, x), and blocks (cell,)."""
    movie, weights = torch.from_numpy(contrast), torch.from_numpy(found.weights)
    average = torch.from_numpy(np.nan_to_num(mean))
    history = mean.shape[1]
    used = np.flatnonzero(found.known.any(axis=1))
    labels = block_labels(used, block) if used.size else np.zeros(0, dtype=int)
    edges = np.flatnonzero(np.diff(labels, prepend=-1, append=-2))
    total = torch.zeros_like(average)
    blocks = np.zeros(mean.shape[0], dtype=int)
    for first, last in pairwise(edges):
        start, stop = used[first], used[last - 1] + 1
        inside = weights[start:stop]
        if not inside.any():
            continue
        sums = stretch_sum(movie, weights, start, stop, history, latency)
        sums -= inside.sum(0).view(-1, 1, 1, 1) * average
        total.addcmul_(sums, sums)
        blocks += (inside > 0).any(dim=0).numpy()
    return total.numpy(), blocks
