"""Poisson regression with a log link and a ridge: Newton's method along a path of penalties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from retinacodec.errors import InputError, Problems

__all__ = ["PoissonFit", "choose_penalty", "fit_poisson", "poisson_loss"]

Array = npt.NDArray[Any]

_LARGEST = 30.0  # largest logarithm of an expected count; far beyond any cell's
_HALVINGS = 30
_PATIENCE = 2  # weaker penalties that may be worse on held-out rows before the path ends


@dataclass(frozen=True)
class PoissonFit:
    """Weights of a Poisson regression.

    Attributes
    ----------
    weights : ndarray (column,)
        Coefficients, log expected count per unit of a column.
    penalty : float
        Ridge penalty they were fitted with, in the units of `fit_poisson`.
    loss : float
        Mean negative log-likelihood on the rows it was chosen by, nats a row, without ``log k!``;
        NaN where nothing was chosen.
    converged : bool
        Whether Newton's method came to its end.
    """

    weights: Array
    penalty: float
    loss: float
    converged: bool


def poisson_loss(design: npt.ArrayLike, counts: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Return the mean negative Poisson log-likelihood without its constant.

    Parameters
    ----------
    design : array_like (row, column)
        Regressors.
    counts : array_like (row,)
        Counts, at least 0.
    weights : array_like (column,)
        Coefficients.

    Returns
    -------
    float
        ``mean(exp(X w) - k X w)``, nats a row.

    Examples
    --------
    >>> poisson_loss([[1.0], [1.0]], [0, 2], [0.0])
    1.0
    """
    predictor = np.asarray(np.asarray(design) @ np.asarray(weights), dtype=np.float64)
    expected = np.exp(np.minimum(predictor, _LARGEST))
    return float((expected - np.asarray(counts) * predictor).mean())


def fit_poisson(
    design: npt.ArrayLike,
    counts: npt.ArrayLike,
    ridge: npt.ArrayLike,
    *,
    start: npt.ArrayLike | None = None,
    steps: int = 50,
    tolerance: float = 1e-11,
) -> PoissonFit:
    """Fit counts by the exponential of a weighted sum of regressors.

    Parameters
    ----------
    design : array_like (row, column)
        Regressors; a column of ones if there is to be a constant.
    counts : array_like (row,)
        Counts, at least 0.
    ridge : array_like (column,)
        Penalty of each coefficient, nats per squared coefficient times two; 0 for none.
    start : array_like (column,), optional
        Where the search begins; zeros if left out.
    steps : int, default 50
        Most steps of Newton's method.
    tolerance : float, default 1e-11
        The search ends where a step would lower the penalised loss by less than this share of
        the number of rows, nats.

    Returns
    -------
    PoissonFit
        The weights of least penalised loss.

    Raises
    ------
    InputError
        If shapes do not fit, or a value is not finite or negative where it must not be.

    Notes
    -----
    Minimises ``sum_t exp(x_t w) - k_t x_t w + 1/2 sum_j ridge_j w_j^2``, which is convex. Newton's
    step is ``(X^T diag(mu) X + ridge)^-1 (X^T (k - mu) - ridge w)``, halved until the loss falls.

    References
    ----------
    .. [1] Pillow et al., Nature 454, 995 (2008). McCullagh and Nelder, Generalized Linear Models
       (1989), iteratively reweighted least squares.
    """
    x, k, penalty = _checked(design, counts, ridge)
    weights = np.zeros(x.shape[1]) if start is None else np.array(start, dtype=np.float64)
    loss, expected = _objective(x, k, penalty, weights)
    for _ in range(steps):
        gradient = (x.T @ (k - expected).astype(x.dtype)).astype(np.float64) - penalty * weights
        curvature = (x * expected[:, None].astype(x.dtype)).T @ x + np.diag(penalty)
        step = _solved(curvature.astype(np.float64), gradient)
        promised = float(step @ gradient)
        if promised <= 2 * tolerance * len(k):
            return PoissonFit(weights, float(penalty.max(initial=0)), np.nan, True)
        for halving in range(_HALVINGS):
            trial = weights + step * 0.5**halving
            lower, found = _objective(x, k, penalty, trial)
            if lower < loss:
                break
        else:
            return PoissonFit(weights, float(penalty.max(initial=0)), np.nan, True)
        weights, loss, expected = trial, lower, found
    return PoissonFit(weights, float(penalty.max(initial=0)), np.nan, False)


def choose_penalty(
    design: Array,
    counts: Array,
    ridge: npt.ArrayLike,
    penalties: npt.ArrayLike,
    chosen: tuple[Array, Array],
    *,
    fixed: npt.ArrayLike = 0.0,
    tolerance: float = 1e-7,
) -> PoissonFit:
    """Fit along a path of penalties, and keep the one that predicts other rows best.

    Parameters
    ----------
    design, counts
        As in `fit_poisson`.
    ridge : array_like (column,)
        Penalty of each coefficient at ``penalty = 1``.
    penalties : array_like (penalty,)
        Factors of `ridge`, tried from the largest down.
    chosen : (ndarray (row, column), ndarray (row,))
        Regressors and counts of the rows to choose by.
    fixed : array_like (column,), default 0
        Penalty that every fit has besides.
    tolerance : float, default 1e-7
        As in `fit_poisson`.

    Returns
    -------
    PoissonFit
        The fit with the least loss on the rows to choose by.

    Notes
    -----
    Each fit starts at the weights of the penalty before, and the one kept is fitted to the end. The
    path ends early after two penalties in a row that are worse than the best.
    """
    shape = np.broadcast_to(np.asarray(ridge, np.float64), design.shape[1:])
    best: PoissonFit | None = None
    worse, start = 0, None
    always = np.asarray(fixed, dtype=np.float64)
    for penalty in np.sort(np.asarray(penalties, dtype=np.float64))[::-1]:
        ridge_now = penalty * shape + always
        found = fit_poisson(design, counts, ridge_now, start=start, tolerance=tolerance)
        start = found.weights
        loss = poisson_loss(*chosen, found.weights)
        if best is None or loss < best.loss:
            best = PoissonFit(found.weights, float(penalty), loss, found.converged)
            worse = 0
        else:
            worse += 1
        if worse >= _PATIENCE:
            break
    if best is None:
        raise InputError("penalties: expected at least one, got none")
    last = fit_poisson(design, counts, best.penalty * shape + always, start=best.weights)
    return PoissonFit(last.weights, best.penalty, best.loss, last.converged)


def _objective(x: Array, k: Array, penalty: Array, weights: Array) -> tuple[float, Array]:
    """Return the penalised loss and the expected counts (row,)."""
    predictor = (x @ weights.astype(x.dtype)).astype(np.float64)
    expected = np.exp(np.minimum(predictor, _LARGEST))
    loss = float(expected.sum() - k @ predictor + 0.5 * (penalty * weights**2).sum())
    return loss, expected


def _solved(curvature: Array, gradient: Array) -> Array:
    """Return the Newton step; the least one where columns depend on each other."""
    scale = np.sqrt(np.maximum(np.diag(curvature), np.finfo(float).tiny))
    scaled = curvature / np.outer(scale, scale)
    try:
        factor = scipy.linalg.cho_factor(scaled + 1e-12 * np.eye(len(scaled)))
        step = scipy.linalg.cho_solve(factor, gradient / scale)
    except scipy.linalg.LinAlgError:
        step = scipy.linalg.lstsq(scaled, gradient / scale, cond=1e-9)[0]
    return np.asarray(step / scale)


def _checked(
    design: npt.ArrayLike, counts: npt.ArrayLike, ridge: npt.ArrayLike
) -> tuple[Array, Array, Array]:
    """Return the problem as arrays, or raise one error that names all that is wrong."""
    x, k = np.asarray(design), np.asarray(counts, dtype=np.float64)
    x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)
    problems = Problems()
    problems.require(x.ndim == 2 and x.size > 0, f"design: expected (row, column), got {x.shape}")
    problems.require(
        k.ndim == 1 and len(k) == len(x), f"counts: expected ({len(x)},), got {k.shape}"
    )
    problems.require(bool((k >= 0).all()) and bool(np.isfinite(k).all()), "counts: expected >= 0")
    problems.raise_as("fit_poisson")
    penalty = np.broadcast_to(np.asarray(ridge, np.float64), (x.shape[1],))
    problems.require(bool(np.isfinite(x).all()), "design: a value is not finite")
    problems.require(bool((penalty >= 0).all()), "ridge: expected penalties of at least 0")
    problems.raise_as("fit_poisson")
    return x, k, np.array(penalty)
