"""Which spike-triggered averages, and which of their pixels and lags, are more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.fft
import torch
import xarray as xr
from scipy.stats import norm

from retinacodec.analyses.receptive_fields import field_frame, pixel_moments
from retinacodec.analyses.triggered_responses import TriggeredResponses, triggered_responses
from retinacodec.errors import InputError
from retinacodec.nulls import discoveries, p_value, shift_steps
from retinacodec.triggered_sums import triggered_sum

__all__ = ["ShiftNull", "StaNull", "StaPeaks", "WhiteNull", "largest_at_shifts", "sta_significance"]

Array = npt.NDArray[Any]

_VALUES = 2**20  # values of the movie that are transformed at a time


@dataclass(frozen=True)
class StaPeaks:
    """The largest covariances of a movie with responses, and what they were found in.

    Attributes
    ----------
    peak : ndarray (cell,)
        Largest ``abs(z)`` over pixels and lags; NaN where there is none.
    movie : ndarray (time, y, x)
        Contrast.
    responses : ndarray (time, cell)
        Responses of mean 0 and norm 1.
    history, latency : int
        The window, frames.
    tests : int
        Pixels that change, times lags.
    level : float
        Chance of a false pixel anywhere in a field.
    """

    peak: Array
    movie: Array
    responses: Array
    history: int
    latency: int
    tests: int
    level: float


class StaNull(Protocol):
    """What is true where a cell does not respond to the stimulus."""

    def __call__(self, peaks: StaPeaks) -> tuple[Array, Array]:
        """Return p-values of the peaks and the threshold at the level, both (cell,)."""
        ...


@dataclass(frozen=True)
class ShiftNull:
    """Responses moved around the circle of time against the movie.

    Right for any stimulus and any train of spikes, as both keep their correlations in time and
    space. Every shift is computed exactly, all of them for the price of a Fourier transform a
    pixel and cell.

    Parameters
    ----------
    shifts : int, optional
        Number of shifts drawn; all there are if left out.
    least : int, optional
        Smallest shift in either direction, frames; the length of a window if left out.
    seed : int, default 0
        Seed of the draws.
    """

    shifts: int | None = None
    least: int | None = None
    seed: int = 0

    def __call__(self, peaks: StaPeaks) -> tuple[Array, Array]:
        """Return p-values of the peaks and the threshold at the level, both (cell,)."""
        frames, window = len(peaks.movie), (peaks.history, peaks.latency)
        least = sum(window) if self.least is None else self.least
        if 2 * least >= frames:
            raise InputError(
                f"least: {frames} frames cannot be moved by {least} in both directions; use a "
                "longer movie or the WhiteNull"
            )
        steps = np.arange(least, frames - least + 1)
        if self.shifts is not None:
            steps = shift_steps(frames, self.shifts, seed=self.seed, least=least)
        null = largest_at_shifts(peaks.movie, peaks.responses, *window)[steps]
        rank = int(np.floor(peaks.level * (1 + len(null)) + 1e-9))
        reached = np.sort(null, axis=0)[::-1]
        threshold = reached[rank - 1] if rank else np.full(null.shape[1], np.inf)
        return p_value(peaks.peak, null), threshold


@dataclass(frozen=True)
class WhiteNull:
    """The normal distribution of averages of white noise.

    Right where neighbouring frames and pixels of the stimulus are independent; at once.
    """

    def __call__(self, peaks: StaPeaks) -> tuple[Array, Array]:
        """Return p-values of the peaks and the threshold at the level, both (cell,)."""
        tests = max(peaks.tests, 1)
        one = -np.expm1(np.log1p(-peaks.level) / tests)
        p = -np.expm1(tests * np.log1p(-np.minimum(2 * norm.sf(peaks.peak), 1 - 1e-16)))
        return p, np.full(p.shape, norm.isf(one / 2))


def sta_significance(
    movie: xr.Dataset,
    response: xr.Dataset | xr.DataArray,
    *,
    history: int,
    latency: int = 0,
    null: StaNull = ShiftNull(),
    level: float = 0.05,
    frames: npt.ArrayLike | None = None,
) -> xr.Dataset:
    """Test each cell's spike-triggered average, its pixels and its lags against chance.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    response : xarray.Dataset or xarray.DataArray
        Recording, or rates, as in `spike_triggered_average`.
    history, latency, frames
        As in `spike_triggered_average`.
    null : ShiftNull or WhiteNull
        What chance is: responses shifted against the movie, or the normal law of white noise.
    level : float, default 0.05
        Chance of naming any pixel of a cell that does not respond, and share of false ones
        among the cells that are named.

    Returns
    -------
    xarray.Dataset
        ``z`` (cell, lag, y, x), covariance of response and contrast in standard errors of white
        noise; ``significant`` (cell, lag, y, x), pixels and lags above the threshold; for each
        cell ``peak``, the largest ``abs(z)``; ``threshold``; ``p``, the chance of such a peak
        anywhere in the field; ``q`` and ``found``, after a bound on the false ones among all
        cells. NaN and False for a cell that does not fire or never changes, and for pixels that
        never change.

    Raises
    ------
    InputError
        If movie and response do not fit, a number is out of range, or the movie is too short to
        be shifted.

    Notes
    -----
    ``z[n, l, p] = sum_t (k_n(t) - mean k_n) s_p(t - l) / (sd_p sqrt(sum_t (k_n(t) - mean
    k_n)^2))``, with contrast less the mean of its pixel. The maximum of ``abs(z)`` over pixels
    and lags is compared with its null, which bounds the chance of any false pixel whatever the
    correlations between pixels; over cells the bound is that of Benjamini and Hochberg.

    References
    ----------
    .. [1] Westfall and Young, "Resampling-based multiple testing", 1993 (maximum statistic).
    .. [2] Nichols and Holmes, Human Brain Mapping 15, 1 (2001).
    """
    if not 0 < level < 1:
        raise InputError(f"level: expected between 0 and 1, got {level}")
    found = triggered_responses(movie, response, history=history, latency=latency, frames=frames)
    contrast = movie["contrast"].values
    z, responses = _covariances(contrast, found, history, latency)
    flat = np.abs(z).reshape(len(z), -1)
    alive = ~np.isnan(flat).all(axis=1)
    peak = np.where(alive, np.nan_to_num(flat).max(axis=1), np.nan)
    tests = int(np.isfinite(flat).sum(axis=1).max(initial=0))
    p, threshold = null(StaPeaks(peak, contrast, responses, history, latency, tests, level))
    p, threshold = np.where(alive, p, np.nan), np.where(alive, threshold, np.nan)
    mask = np.nan_to_num(np.abs(z)) > np.expand_dims(threshold, (1, 2, 3))
    cells = discoveries(p, level)
    dims = ("cell", "lag", "y", "x")
    frame = field_frame(movie, found, history, latency)
    frame["attrs"] |= {"kind": "sta_significance", "null": repr(null), "level": level}
    one = {"units": "1"}
    return xr.Dataset(
        {
            "z": (dims, z, one),
            "significant": (dims, mask, one),
            "peak": ("cell", peak, {"units": "1", "long_name": "largest absolute z"}),
            "threshold": ("cell", threshold, one),
            "p": ("cell", p, {"units": "1", "long_name": "chance of such a peak in the field"}),
            "q": ("cell", cells.q, one),
            "found": ("cell", cells.found, one),
        },
        **frame,
    )


def largest_at_shifts(movie: Array, responses: Array, history: int, latency: int) -> Array:
    """Return the largest absolute covariance in a field, for every circular shift of responses.

    Parameters
    ----------
    movie : ndarray (time, y, x)
        Contrast.
    responses : ndarray (time, cell)
        Responses, of mean 0 and norm 1.
    history, latency : int
        The window.

    Returns
    -------
    ndarray (shift, cell)
        For responses moved later by 0, 1, ... frames, the end joined to the start: the maximum
        over pixels and lags of ``abs(sum_t k(t - shift) s_p(t - l)) / sd_p``.

    Notes
    -----
    The circular cross-correlation ``c_p(u) = sum_t k(t) s_p(t - u)`` holds all shifts at once,
    lag l at shift s being ``c_p(l - s)``. Its maximum over pixels is kept while pixels are
    transformed a few at a time, and then its maximum over any `history` neighbouring values.
    """
    frames, cells = responses.shape
    spectra = scipy.fft.rfft(responses.T.astype(np.float32), axis=1)
    pixels = movie.reshape(frames, -1)
    largest = np.zeros((cells, frames), dtype=np.float32)
    step = max(_VALUES // frames, 1)
    for start in range(0, pixels.shape[1], step):
        part = _standardised(pixels[:, start : start + step]).T
        seen = scipy.fft.rfft(np.ascontiguousarray(part), axis=1).conj()
        for cell in range(cells):
            products = scipy.fft.irfft(seen * spectra[cell], n=frames, axis=1)
            highest = np.abs(products, out=products).max(axis=0)
            np.maximum(largest[cell], highest, out=largest[cell])
    around = np.concatenate([largest, largest[:, : history - 1]], axis=1)
    fields = np.lib.stride_tricks.sliding_window_view(around, history, axis=1).max(axis=2)
    return np.asarray(fields[:, (latency - np.arange(frames)) % frames].T)


def _covariances(
    contrast: Array, found: TriggeredResponses, history: int, latency: int
) -> tuple[Array, Array]:
    """Return z (cell, lag, y, x), and the responses (time, cell) of mean 0 and norm 1."""
    responses = found.centred
    norms = np.sqrt(np.square(responses, dtype=np.float64).sum(axis=0))
    alive = norms > 1e-6 * np.sqrt(np.square(found.weights, dtype=np.float64).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        responses = np.where(alive, responses / norms, 0).astype(np.float32)
        mean, spread = pixel_moments(contrast)
        sums = _window_sums(contrast, responses, mean, history, latency)
        z = np.where(spread > 0, sums / spread, np.nan)
    z[~alive] = np.nan
    return z.astype(np.float32), responses


def _window_sums(
    contrast: Array, responses: Array, mean: Array, history: int, latency: int
) -> Array:
    """Return sums (cell, lag, y, x) of windows less the mean of each pixel."""
    seen, weights = torch.from_numpy(contrast), torch.from_numpy(responses)
    sums = triggered_sum(seen, weights, history, latency).double().numpy()
    total = responses.sum(axis=0, dtype=np.float64)
    return np.asarray(sums - total[:, None, None, None] * mean)


def _standardised(pixels: Array) -> Array:
    """Return pixels (time, pixel) less their mean over their deviation; 0 where constant."""
    mean, spread = pixel_moments(pixels)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (pixels - mean) / spread, 0).astype(np.float32)
