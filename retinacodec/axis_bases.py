"""Functions along one axis of a field: smooth ones by their covariance, and cubic splines."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["cubic_splines", "smooth_basis"]

Array = npt.NDArray[Any]


def smooth_basis(size: int, scale: float, tolerance: float) -> Array:
    """Return functions whose products sum to a Gaussian covariance along an axis.

    Parameters
    ----------
    size : int
        Places along the axis.
    scale : float
        Standard deviation of the covariance, places.
    tolerance : float
        Functions with less than this share of the largest variance are left out.

    Returns
    -------
    ndarray (place, function)
        ``Q sqrt(variance)`` of the eigenvectors kept: ``B B^T`` is nearly the covariance.
    """
    apart = np.subtract.outer(np.arange(size), np.arange(size)) / scale
    values, vectors = np.linalg.eigh(np.exp(-0.5 * apart**2))
    kept = values > tolerance * values[-1]
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))[:, ::-1]


def cubic_splines(size: int, step: float) -> Array:
    """Return clamped cubic B-splines along an axis.

    Parameters
    ----------
    size : int
        Places along the axis.
    step : float
        Distance between knots, places; every place by itself where the axis is too short for
        fewer splines than places.

    Returns
    -------
    ndarray (place, function)
        Values of the splines, at least 0; each row sums to 1.

    Examples
    --------
    >>> cubic_splines(10, 3.0).shape, cubic_splines(4, 3.0).shape
    ((10, 6), (4, 4))
    """
    from scipy.interpolate import BSpline

    pieces = max(1, round((size - 1) / step))
    if pieces + 3 >= size:
        return np.eye(size)
    ends = [0.0] * 3, [float(size - 1)] * 3
    knots = np.concatenate([ends[0], np.linspace(0, size - 1, pieces + 1), ends[1]])
    return np.asarray(BSpline.design_matrix(np.arange(size, dtype=float), knots, 3).toarray())
