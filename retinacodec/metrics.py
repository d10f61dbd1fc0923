"""Numbers that compare arrays: correlation, explained variance, matched atoms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["explained_variance", "matched_cosine", "pearson"]

Array = npt.NDArray[Any]


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
    first = first - np.nanmean(first, axis=axis, keepdims=True)
    second = second - np.nanmean(second, axis=axis, keepdims=True)
    scale = np.sqrt(np.nansum(first**2, axis=axis) * np.nansum(second**2, axis=axis))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, np.nansum(first * second, axis=axis) / scale, np.nan)


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
    from scipy.optimize import linear_sum_assignment

    cosine = _unit(a) @ _unit(b).T
    rows, columns = linear_sum_assignment(-cosine)
    return cosine[rows, columns]


def _unit(atoms: npt.ArrayLike) -> Array:
    values = np.asarray(atoms, dtype=np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
