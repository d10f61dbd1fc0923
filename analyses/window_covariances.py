"""Covariances of stimulus windows under any weights, and which of their axes beat shifted ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from retinacodec.errors import InputError
from retinacodec.lagged_products import window_moments
from retinacodec.nulls import p_value, shift_steps

__all__ = ["NestedShifts", "NestedTest", "WindowCovariance", "prior_covariance"]

Array = npt.NDArray[Any]

_CHUNK = 2048  # stimulus windows gathered at a time
_SMALL = 128  # dimensions up to which whole spectra are faster than their ends


@dataclass(frozen=True)
class WindowCovariance:
    """How the covariance of weighted windows differs from that of all windows.

    Attributes
    ----------
    patch : ndarray (time, y, x)
        Contrast of the pixels looked at, less the mean of each, float32.
    history, latency : int
        The window, frames.
    prior : ndarray (dimension, dimension)
        Covariance of all windows.
    """

    patch: Array
    history: int
    latency: int
    prior: Array

    def change(self, weights: Array, axes: Array) -> Array:
        """Return the change of covariance outside some axes.

        Parameters
        ----------
        weights : ndarray (time,)
            Spikes or rates; 0 where there is no whole window.
        axes : ndarray (dimension, axis)
            Orthonormal directions that are projected out.

        Returns
        -------
        ndarray (dimension, dimension)
            ``P (sum_t k v v^T / sum_t k - prior) P`` with ``P = 1 - axes axes^T``.
        """
        second = np.zeros_like(self.prior)
        for windows in self._weighted(weights):
            second += windows.T @ windows
        change = second / weights.sum(dtype=np.float64) - self.prior
        change -= axes @ (axes.T @ change)
        change -= (change @ axes) @ axes.T
        return np.asarray((change + change.T) / 2)

    def _weighted(self, weights: Array) -> Iterator[Array]:
        """Yield windows (frame, dimension) with a weight, times its square root."""
        flat = self.patch.reshape(len(self.patch), -1)
        reach = np.arange(1 - self.history, 1) - self.latency
        used = np.flatnonzero(weights)
        for start in range(0, used.size, _CHUNK):
            part = used[start : start + _CHUNK]
            windows = flat[part[:, None] + reach].reshape(part.size, -1)
            windows *= np.sqrt(weights[part], dtype=windows.dtype)[:, None]
            yield windows


def prior_covariance(
    patch: Array, known: npt.NDArray[np.bool_], history: int, latency: int, correlated: bool
) -> Array:
    """Return the covariance of all windows that a response could have had.

    Parameters
    ----------
    patch : ndarray (time, y, x)
        Contrast less the mean of each pixel.
    known : ndarray of bool (time,)
        Response frames that count.
    history, latency : int
        The window, frames.
    correlated : bool
        Measure it, every window with the same weight; else that of white noise.

    Returns
    -------
    ndarray (dimension, dimension)
        ``mean_t v v^T``, or ``sd^2 1``.
    """
    if not correlated:
        power = float(np.square(patch, dtype=np.float64).mean())
        return power * np.eye(history * patch[0].size)
    nothing = np.zeros((len(patch), 1))
    moments = window_moments(patch, nothing, known, history=history, latency=latency)
    return np.asarray(moments.second / max(moments.frames, 1))


@dataclass(frozen=True)
class NestedTest:
    """Which axes of a spectrum are more than chance.

    Attributes
    ----------
    p : ndarray (component,)
        Chance of so extreme an eigenvalue at either end, given the axes before it; NaN for
        components that were not reached.
    significant : ndarray of bool (component,)
        Those below the level.
    low, high : float
        Ends of the null of the first step, at the level.
    """

    p: Array
    significant: npt.NDArray[np.bool_]
    low: float
    high: float


@dataclass(frozen=True)
class NestedShifts:
    """Test eigenvalues one after another against those of shifted responses.

    Parameters
    ----------
    shifts : int, default 100
        Number of circular shifts of the responses against the movie.
    level : float, default 0.05
        Chance of naming an axis where there is none left.
    least : int, optional
        Smallest shift in either direction, frames; the length of a window if left out.
    seed : int, default 0
        Seed of the draws.

    Notes
    -----
    The largest and the smallest eigenvalue are compared with those of shifted responses. The
    farther out of the two, if it is outside, is named, projected out of data and shifted data
    alike, and the rest is tested again, until nothing is outside. A p-value is doubled for the
    two ends, and never below that of a step before.

    References
    ----------
    .. [1] Schwartz, Pillow, Rust, Simoncelli, Journal of Vision 6, 484 (2006), appendix C.
    """

    shifts: int = 100
    level: float = 0.05
    least: int | None = None
    seed: int = 0

    def __call__(
        self, covariance: WindowCovariance, weights: Array, axes: Array, found: Array, values: Array
    ) -> NestedTest:
        """Test axes (dimension, component) whose eigenvalues (component,) fall."""
        if not 0 < self.level < 1:
            raise InputError(f"level: expected between 0 and 1, got {self.level}")
        p, named = np.full(values.size, np.nan), np.zeros(values.size, dtype=bool)
        ends: Array = np.empty((0, 2))
        floor = 0.0
        while not named.all():
            gone = np.column_stack([axes, found[:, named]])
            null = np.array([_ends(one) for one in self._moved(covariance, weights, gone)])
            ends = null if not ends.size else ends
            left = np.flatnonzero(~named)
            chance = [
                p_value(values[left[0]], null[:, 1]),
                p_value(-values[left[-1]], -null[:, 0]),
            ]
            spread = np.maximum(null.std(axis=0), 1e-12 * np.abs(values).max())[::-1]
            away = np.abs(values[left[[0, -1]]] - null.mean(axis=0)[::-1]) / spread
            side = int(np.lexsort((-away, chance))[0])
            place = left[-side]
            floor = p[place] = max(floor, min(1.0, 2 * float(chance[side])))
            if floor > self.level:
                break
            named[place] = True
        low = float(np.quantile(ends[:, 0], self.level / 2))
        high = float(np.quantile(ends[:, 1], 1 - self.level / 2))
        return NestedTest(p, named, low, high)

    def _moved(self, covariance: WindowCovariance, weights: Array, axes: Array) -> Iterator[Array]:
        """Yield changes of covariance for shifted weights, which keep to whole windows."""
        first = covariance.history - 1 + covariance.latency
        least = first + 1 if self.least is None else self.least
        inside = weights[first:]
        moved = np.zeros_like(weights)
        for step in shift_steps(inside.size, self.shifts, seed=self.seed, least=least):
            moved[first:] = np.roll(inside, step)
            yield covariance.change(moved, axes)


def _ends(matrix: Array) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of a symmetric matrix."""
    if len(matrix) <= _SMALL:
        values = scipy.linalg.eigvalsh(matrix)
        return float(values[0]), float(values[-1])
    from scipy.sparse.linalg import eigsh

    begin = np.random.default_rng(0).standard_normal(len(matrix))
    low, high = eigsh(matrix, k=2, which="BE", tol=1e-4, v0=begin, return_eigenvectors=False)
    return float(low), float(high)
