"""Modules of spike-triggered pictures: their factorisation, held-out gain and localisation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from retinacodec.errors import InputError
from retinacodec.nulls import p_value
from retinacodec.semi_nmf import SemiNMF

__all__ = [
    "ModuleRule",
    "best_count",
    "held_out_gains",
    "moments_of",
    "both_halves",
    "matched",
    "morans_i",
    "second_moments",
    "stable_by_count",
    "standard_error",
]

Array = npt.NDArray[Any]

_FIRM = 1e-6  # share of the mean variance that keeps a root of a covariance regular


@dataclass(frozen=True)
class ModuleRule:
    """How modules are found.

    Attributes
    ----------
    largest : int
        Most modules tried.
    overlap : int
        Most modules that share a pixel.
    seed : int
        Seed of the starts.
    """

    largest: int
    overlap: int
    seed: int

    def modules(self, gram: Array, count: int, starts: int = 4) -> Array:
        """Return modules (module, pixel) of norm 1 from the second moments of pixels."""
        firm = gram + _FIRM * np.trace(gram) / len(gram) * np.eye(len(gram))
        overlap = None if self.overlap >= count else self.overlap
        method = SemiNMF(count, active=overlap, starts=starts, iterations=20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = method.fit(np.linalg.cholesky(firm), seed=self.seed, progress=False)
        loadings = np.asarray(found.loadings.T, dtype=np.float64)
        size = np.linalg.norm(loadings, axis=1, keepdims=True)
        return np.asarray((loadings / np.where(size > 0, size, 1))[size[:, 0] > 0])


def moments_of(effective: Array, counts: Array, fold: Array) -> Array:
    """Return sums of ``e e^T`` over the spikes of each stretch, the number of spikes last."""
    spiking = counts > 0
    grams = []
    for k in range(int(fold.max()) + 1):
        rows = spiking & (fold == k)
        weighted = effective[rows] * counts[rows, None]
        gram = np.zeros((effective.shape[1] + 1,) * 2)
        gram[:-1, :-1], gram[-1, -1] = weighted.T @ effective[rows], counts[rows].sum()
        grams.append(gram)
    return np.stack(grams)


def second_moments(gram: Array) -> Array:
    """Return the mean of ``e e^T`` over spikes."""
    return np.asarray(gram[:-1, :-1] / max(gram[-1, -1], 1.0))


def held_out_gains(
    effective: Array, counts: Array, fold: Array, base: Array, rule: ModuleRule
) -> Array:
    """Return the excess variance of held-out spikes in the span of the modules of the others.

    Parameters
    ----------
    effective : ndarray (time, pixel)
        Effective pictures.
    counts : ndarray (time,)
        Spikes.
    fold : ndarray of int (time,)
        Stretch of each frame, -1 for none.
    base : ndarray (pixel, pixel)
        Second moments of all pictures.
    rule : ModuleRule
        How modules are found.

    Returns
    -------
    ndarray (fold, count)
        Gain for 1, 2, ... modules.
    """
    grams = moments_of(effective, counts, fold)
    gains = np.empty((len(grams), rule.largest))
    for k, held in enumerate(grams):
        rest, excess = second_moments(grams.sum(axis=0) - held), second_moments(held) - base
        for count in range(1, rule.largest + 1):
            span = np.linalg.qr(rule.modules(rest, count).T)[0]
            gains[k, count - 1] = np.trace(span.T @ excess @ span)
    return gains


def standard_error(gains: Array) -> Array:
    """Return the standard error of the mean over stretches."""
    return np.asarray(gains.std(axis=0, ddof=1) / np.sqrt(len(gains)))


def best_count(gains: Array) -> int:
    """Return the number of modules whose mean gain is best."""
    return int(gains.mean(axis=0).argmax()) + 1


def matched(one: Array, other: Array) -> Array:
    """Return the cosine of each module with its partner in another set, 0 without one."""
    cosines = one @ other.T
    rows, columns = linear_sum_assignment(-cosines)
    found = np.zeros(len(one))
    found[rows] = cosines[rows, columns]
    return found


def both_halves(grams: Array) -> tuple[Array, Array]:
    """Return the mean of ``e e^T`` over the spikes of every other stretch, and of the rest."""
    return second_moments(grams[::2].sum(axis=0)), second_moments(grams[1::2].sum(axis=0))


def stable_by_count(grams: Array, rule: ModuleRule) -> Array:
    """Return the mean cosine of modules between halves, by their number."""
    halves = both_halves(grams)
    return np.asarray(
        [
            matched(*(rule.modules(half, count) for half in halves)).mean()
            for count in range(1, rule.largest + 1)
        ]
    )


def morans_i(picture: npt.ArrayLike, *, draws: int = 999, seed: int = 0) -> tuple[float, float]:
    """Measure whether neighbouring pixels of a map are alike.

    Parameters
    ----------
    picture : array_like (y, x)
        A map.
    draws : int, default 999
        Maps with permuted pixels for the p-value.
    seed : int, default 0
        Seed of the permutations.

    Returns
    -------
    moran : float
        Moran's I, near -1/(n - 1) for n pixels in random order; NaN for a constant map.
    p : float
        Share of permuted maps with at least that value.

    Raises
    ------
    InputError
        If the map has fewer than two pixels or is not finite.

    Notes
    -----
    ``I = n / W sum_ij w_ij d_i d_j / sum_i d_i^2`` with ``d`` the deviations from the mean and
    ``w_ij = 1`` for pixels that share a side, W their sum.

    References
    ----------
    .. [1] Moran, Biometrika 37, 17 (1950).

    Examples
    --------
    >>> morans_i([[1.0, 0.0], [0.0, 1.0]])[0]
    -1.0
    """
    values = np.asarray(picture, dtype=np.float64)
    if values.ndim != 2 or values.size < 2 or not np.isfinite(values).all():
        raise InputError(f"morans_i: expected a finite map (y, x), got shape {values.shape}")
    apart = values - values.mean()
    if not apart.any():
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    flat = np.tile(apart.ravel(), (draws, 1))
    null = _neighbours(generator.permuted(flat, axis=1).reshape(draws, *values.shape))
    moran = float(_neighbours(apart[None])[0])
    return moran, float(p_value(moran, null))


def _neighbours(apart: Array) -> Array:
    """Return Moran's I of maps (map, y, x) of mean 0."""
    _, height, width = apart.shape
    pairs = height * (width - 1) + width * (height - 1)
    down = (apart[:, 1:] * apart[:, :-1]).sum(axis=(1, 2))
    across = (apart[:, :, 1:] * apart[:, :, :-1]).sum(axis=(1, 2))
    return np.asarray(height * width / pairs * (down + across) / (apart**2).sum(axis=(1, 2)))
