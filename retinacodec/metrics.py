"""Numbers that compare arrays: correlation, explained variance, spike likelihood, atoms."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError

__all__ = [
    "UndefinedMetric",
    "bits_per_spike",
    "explained_deviance",
    "explained_variance",
    "log_likelihood",
    "match_atoms",
    "matched_cosine",
    "pearson",
    "positive_or_nan",
    "unit_rows",
]

Array = npt.NDArray[Any]


class UndefinedMetric(RuntimeWarning):
    """A metric has no value for some cells; the message says why, the value is NaN."""


def pearson(a: npt.ArrayLike, b: npt.ArrayLike, axis: int = 0) -> Array:
    """Return the Pearson correlation along an axis.

    Parameters
    ----------
    a, b : array_like
        Arrays of one shape, or broadcastable; pairs with a NaN are left out.
    axis : int, default 0
        Axis of the samples.

    Returns
    -------
    ndarray
        Correlation, -1 to 1; NaN where one side does not vary.

    Examples
    --------
    >>> float(pearson([1, 2, 3], [2, 4, 6]))
    1.0
    """
    first, second = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    gap = np.isnan(first) | np.isnan(second)
    first, second = np.where(gap, np.nan, first), np.where(gap, np.nan, second)
    first, second = _centred(first, axis), _centred(second, axis)
    scale = np.sqrt(np.nansum(first**2, axis=axis) * np.nansum(second**2, axis=axis))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, np.nansum(first * second, axis=axis) / scale, np.nan)


def bits_per_spike(
    counts: npt.ArrayLike, expected: npt.ArrayLike, *, mean: npt.ArrayLike | None = None
) -> Array:
    """Return the Poisson log-likelihood gained over a constant rate, in bits per spike.

    Parameters
    ----------
    counts : array_like (time, ...)
        Spikes in each frame; NaN is not observed.
    expected : array_like (time, ...)
        Predicted spikes in each frame (rate divided by frame rate), at least 0.
    mean : array_like (...), optional
        Spikes per frame of the constant model; the mean of `counts` if left out.

    Returns
    -------
    ndarray (...)
        Bits per spike; 0 for the constant model, minus infinity where a spike came in a frame
        predicted to be silent. NaN with an `UndefinedMetric` warning where there is no spike.

    Raises
    ------
    InputError
        If a prediction is below zero.

    Notes
    -----
    ``(LL(p) - LL(mean)) / (n_spikes ln 2)`` with ``LL(p) = sum_t k log p - p - log k!``.

    References
    ----------
    .. [1] Brenner et al., Neural Computation 12, 1531 (2000); Pillow et al., Nature 454, 995
       (2008), single-spike information.

    Examples
    --------
    >>> round(float(bits_per_spike([0, 2], [0.5, 1.5])), 4)
    0.585
    """
    spikes, rate = _spikes(counts, expected)
    total = positive_or_nan(np.nansum(spikes, axis=0), "no spike")
    flat = np.nanmean(spikes, axis=0) if mean is None else np.asarray(mean, dtype=np.float64)
    gained = log_likelihood(spikes, rate) - log_likelihood(spikes, flat)
    return np.asarray(np.nansum(gained, axis=0) / (total * np.log(2)))


def explained_deviance(counts: npt.ArrayLike, expected: npt.ArrayLike) -> Array:
    """Return the share of the Poisson deviance of a constant rate that a prediction removes.

    Parameters
    ----------
    counts : array_like (time, ...)
        Spikes in each frame; NaN is not observed.
    expected : array_like (time, ...)
        Predicted spikes in each frame, at least 0.

    Returns
    -------
    ndarray (...)
        1 for a perfect prediction, 0 for the mean count, below zero for worse; NaN with an
        `UndefinedMetric` warning where the counts do not vary.

    Raises
    ------
    InputError
        If a prediction is below zero.

    Notes
    -----
    ``1 - D(p) / D(mean)`` with ``D(p) = 2 sum_t k log(k / p) - (k - p)``.
    """
    spikes, rate = _spikes(counts, expected)
    best = log_likelihood(spikes, spikes)
    flat = log_likelihood(spikes, np.nanmean(spikes, axis=0))
    most = positive_or_nan(np.nansum(best - flat, axis=0), "the counts do not vary", 1e-9)
    return np.asarray(1 - np.nansum(best - log_likelihood(spikes, rate), axis=0) / most)


def log_likelihood(counts: npt.ArrayLike, expected: npt.ArrayLike) -> Array:
    """Return the Poisson log-likelihood of each count, less the term without the prediction.

    Parameters
    ----------
    counts : array_like
        Spikes; NaN stays NaN.
    expected : array_like
        Predicted spikes, at least 0, one shape with `counts` or broadcastable.

    Returns
    -------
    ndarray
        ``k log p - p`` in nats, with ``0 log 0 = 0``.
    """
    spikes, rate = np.broadcast_arrays(np.asarray(counts, float), np.asarray(expected, float))
    with np.errstate(divide="ignore"):
        log = np.log(rate, out=np.zeros_like(rate), where=spikes != 0)
    return np.asarray(spikes * log - np.where(np.isnan(spikes), np.nan, rate))


def explained_variance(x: npt.ArrayLike, estimate: npt.ArrayLike) -> float:
    """Return the share of the variance of a matrix that an estimate explains.

    Parameters
    ----------
    x, estimate : array_like
        Data and estimate, one shape.

    Returns
    -------
    float
        ``1 - mean((x - estimate)**2) / mean((x - mean(x))**2)`` with one mean over the whole
        array; at most 1, NaN where the data do not vary.

    References
    ----------
    Melander et al., ICLR 2026 (R2 of the sparse autoencoder).
    """
    data = np.asarray(x, dtype=np.float64)
    spread = np.mean((data - data.mean()) ** 2)
    if not spread > 0:
        return float("nan")
    return float(1 - np.mean((data - np.asarray(estimate, dtype=np.float64)) ** 2) / spread)


def matched_cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Return the cosines of the best one-to-one match between two sets of atoms.

    Parameters
    ----------
    a : array_like (mode, feature)
        One set of atoms.
    b : array_like (other_mode, feature)
        The other set.

    Returns
    -------
    ndarray (min(mode, other_mode),)
        Cosine of each matched pair, -1 to 1, by the assignment with the largest sum.
    """
    partner, cosine = match_atoms(a, b)
    return cosine[partner >= 0]


def match_atoms(
    atoms: npt.ArrayLike, others: npt.ArrayLike, *, signed: bool = False
) -> tuple[npt.NDArray[np.intp], Array]:
    """Match atoms with others one to one.

    Parameters
    ----------
    atoms : array_like (mode, feature)
        The atoms asked about.
    others : array_like (other mode, feature)
        Where their partners are sought, in any number.
    signed : bool, default False
        Loadings have signs, so that an atom and its negative are the same.

    Returns
    -------
    partner : ndarray (mode,) of int
        Place of each atom's partner, by the assignment with the largest sum of cosines; -1 for
        an atom without one.
    cosine : ndarray (mode,)
        Cosine with the partner, its size where loadings have signs, 0 without one.
    """
    from scipy.optimize import linear_sum_assignment

    one, other = unit_rows(atoms), unit_rows(others)
    partner, cosine = np.full(len(one), -1, dtype=np.intp), np.zeros(len(one))
    if len(one) and len(other):
        table = one @ other.T
        table = np.abs(table) if signed else table
        rows, columns = linear_sum_assignment(-table)
        partner[rows], cosine[rows] = columns, table[rows, columns]
    return partner, cosine


def unit_rows(rows: npt.ArrayLike) -> Array:
    """Return rows divided by their norm, in float64; a row of zeros stays as it is."""
    values = np.asarray(rows, dtype=np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def positive_or_nan(values: npt.ArrayLike, reason: str, floor: npt.ArrayLike = 0.0) -> Array:
    """Return the values, with NaN and a warning that says why for those not above a floor.

    Parameters
    ----------
    values : array_like
        What a metric divides by, or takes the root of.
    reason : str
        Why the metric has no value where this is not above the floor.
    floor : array_like, default 0
        Least value, not included.

    Returns
    -------
    ndarray
        The values above the floor, NaN elsewhere.
    """
    given = np.asarray(values, dtype=np.float64)
    kept = np.where(given > np.asarray(floor), given, np.nan)
    bad = np.flatnonzero(np.isnan(kept))
    if bad.size:
        where = f" in cells {bad.tolist()}" if kept.ndim else ""
        warnings.warn(f"{reason}{where}", UndefinedMetric, stacklevel=3)
    return kept


def _spikes(counts: npt.ArrayLike, expected: npt.ArrayLike) -> tuple[Array, Array]:
    """Return counts and predictions in double precision, after checking the predictions."""
    rate = np.asarray(expected, dtype=np.float64)
    if (rate < 0).any():
        raise InputError(f"expected: predicted spikes must be at least 0, got {np.nanmin(rate):g}")
    return np.asarray(counts, dtype=np.float64), rate


def _centred(values: Array, axis: int) -> Array:
    """Return the values less their mean, with what is only rounding of a constant set to 0."""
    rounding = 1e-12 * np.nan_to_num(np.abs(values)).max(axis=axis, keepdims=True, initial=0)
    around = values - np.nanmean(values, axis=axis, keepdims=True)
    return np.where(np.abs(around) <= rounding, 0.0, around)
