"""Linear filters in a basis with a Gaussian prior: solution, evidence, errors and shrinkage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from retinacodec.errors import InputError
from retinacodec.lagged_products import CentredMoments

__all__ = [
    "AxisBases",
    "Solution",
    "dependence",
    "evidence",
    "held_out_gain",
    "in_basis",
    "reduced",
    "singular",
    "solve",
    "solve_field",
    "solve_path",
    "weights_to_field",
]

Array = npt.NDArray[Any]
AxisBases = tuple[Array, Array, Array]
"""Basis functions (place, function) along lag, y and x; a field is a sum of their products."""

_NULL = 1e-9  # eigenvalues below this share of the largest hold rounding, not stimulus


@dataclass(frozen=True)
class Solution:
    """Filters of one cell in a basis, with what is needed to judge them.

    Attributes
    ----------
    weights : ndarray (function,)
        Coefficients of the basis.
    response : ndarray (function, entry)
        ``A^-1 B^T`` with ``A = B^T S B + penalty``: turns sums of windows into coefficients.
    variance : float
        Residual variance, response squared.
    freedom : float
        Effective degrees of freedom, ``trace(A^-1 B^T S B)``.
    shrinkage : ndarray (entry,)
        Standard deviation of the bias to expect if the prior is right, Hz per unit contrast.
    """

    weights: Array
    response: Array
    variance: float
    freedom: float
    shrinkage: Array


def in_basis(values: npt.ArrayLike, bases: AxisBases) -> Array:
    """Return ``B^T values`` for values (entry, column), without building the product basis."""
    given = np.asarray(values, dtype=np.float64)
    return _along(given, bases, transposed=True)


def weights_to_field(weights: npt.ArrayLike, bases: AxisBases) -> Array:
    """Return ``B weights`` (entry, column) for weights (function, column)."""
    return _along(np.asarray(weights, dtype=np.float64), bases, transposed=False)


def reduced(moments: CentredMoments, bases: AxisBases) -> CentredMoments:
    """Return the moments of the movie's projections on a basis.

    Parameters
    ----------
    moments : CentredMoments
        Of whole windows.
    bases : tuple of ndarray (place, function)
        Functions along lag, y and x.

    Returns
    -------
    CentredMoments
        ``B^T S B``, ``B^T c`` and what does not change.
    """
    if all(_is_identity(axis) for axis in bases):
        return moments
    half = in_basis(moments.second, bases)
    second = in_basis(half.T, bases)
    return CentredMoments(
        moments.frames, (second + second.T) / 2, in_basis(moments.cross, bases), moments.power
    )


def singular(moments: CentredMoments) -> int:
    """Return how many directions of a basis the stimulus never took."""
    values = np.linalg.eigvalsh(moments.second)
    return int((values <= _NULL * max(values[-1], 0.0)).sum())


def solve_path(moments: CentredMoments, penalties: npt.ArrayLike) -> Array:
    """Solve penalised least squares for many penalties at once.

    Parameters
    ----------
    moments : CentredMoments
        In the basis of the coefficients.
    penalties : array_like (penalty,)
        Added to the diagonal of the second moment, at least 0.

    Returns
    -------
    ndarray (penalty, function, cell)
        ``(S + penalty)^-1 c``; NaN where the penalty is 0 and S has no inverse.
    """
    amounts = np.asarray(penalties, dtype=np.float64)
    values, vectors = scipy.linalg.eigh(moments.second, driver="evd")
    null = values <= _NULL * max(values[-1], 0.0)
    turned = vectors.T @ moments.cross
    paths = []
    for amount in amounts:
        if amount == 0 and null.any():
            paths.append(np.full_like(moments.cross, np.nan))
            continue
        paths.append(vectors @ (turned / (np.maximum(values, 0.0) + amount)[:, None]))
    return np.stack(paths)


def held_out_gain(weights: Array, moments: CentredMoments) -> Array:
    """Return the share of held-out variance explained, (penalty, cell), from moments alone.

    Parameters
    ----------
    weights : ndarray (penalty, function, cell)
        Filters fitted elsewhere.
    moments : CentredMoments
        Of the held-out frames, in the same basis.

    Returns
    -------
    ndarray (penalty, cell)
        ``(2 w^T c - w^T S w) / power``, minus infinity where a filter is NaN.
    """
    known = np.where(np.isnan(weights), 0.0, weights)
    spread = np.stack([(part * (moments.second @ part)).sum(axis=0) for part in known])
    shared = (known * moments.cross).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = (2 * shared - spread) / moments.power
    return np.where(np.isnan(weights).any(axis=1), -np.inf, np.nan_to_num(gain, nan=-np.inf))


def evidence(moments: CentredMoments, penalty: float, cell: int) -> tuple[float, float]:
    """Return the log evidence of a prior, with the noise variance that makes it largest.

    Parameters
    ----------
    moments : CentredMoments
        In a basis whose coefficients are, before the data, independent and of equal variance.
    penalty : float
        Noise variance over prior variance, above 0.
    cell : int
        Position of the cell.

    Returns
    -------
    log_evidence : float
        Nats.
    variance : float
        Noise variance, response squared.

    Notes
    -----
    ``log N(y; 0, v (I + X B B^T X^T / penalty))`` of the T centred responses, with
    ``v = (y^T y - c^T A^-1 c) / T``, ``A = S + penalty``:
    ``-1/2 (T log(2 pi v) + T + log det(A / penalty))``.
    """
    cross = moments.cross[:, cell]
    factor = _factor(moments.second, penalty)
    explained = float(cross @ scipy.linalg.cho_solve(factor, cross))
    count = moments.frames
    variance = max(float(moments.power[cell]) - explained, np.finfo(float).tiny) / count
    volume = 2 * np.log(np.diag(factor[0])).sum() - len(cross) * np.log(penalty)
    return -0.5 * (count * np.log(2 * np.pi * variance) + count + volume), variance


def dependence(fitted: CentredMoments, chosen: CentredMoments, penalty: float, cell: int) -> float:
    """Return how many frames count as one independent frame, at least 1.

    Parameters
    ----------
    fitted, chosen : CentredMoments
        Of two parts of a movie, in the basis of the coefficients.
    penalty : float
        Noise variance over prior variance, above 0.
    cell : int
        Position of the cell.

    Returns
    -------
    float
        1 for residuals that are independent of each other and of the stimulus.

    Notes
    -----
    With w fitted on one part, the sum ``g = c - S w`` of windows times residuals on the other has
    the covariance ``V = v (S + S A^-1 (S_fitted + penalty) A^-1 S) = v (S + S A^-1 S)`` if
    residuals of variance v are independent and the prior is right. The result is
    ``g^T V^-1 g / functions``. It is above 1 where neighbouring residuals are alike, where they
    are larger for stronger stimuli, and where the cell is not linear.
    """
    factor = _factor(fitted.second, penalty)
    weights = scipy.linalg.cho_solve(factor, fitted.cross[:, cell])
    score = chosen.cross[:, cell] - chosen.second @ weights
    rest = chosen.power[cell] - weights @ (chosen.cross[:, cell] + score)
    variance = max(float(rest) / chosen.frames, np.finfo(float).tiny)
    spread = chosen.second + chosen.second @ scipy.linalg.cho_solve(factor, chosen.second)
    values, vectors = scipy.linalg.eigh((spread + spread.T) / 2, driver="evd")
    seen = values > _NULL * max(values[-1], 0.0)
    size = (vectors.T @ score)[seen] ** 2 / values[seen]
    return max(1.0, float(size.mean()) / variance) if seen.any() else 1.0


def solve_field(moments: CentredMoments, bases: AxisBases, penalty: float, cell: int) -> Array:
    """Return the filter (entry,) of one cell and nothing else; see `solve`."""
    small = _checked(moments, bases, penalty)
    weights = scipy.linalg.cho_solve(_factor(small.second, penalty), small.cross[:, cell])
    return weights_to_field(weights[:, None], bases)[:, 0]


def solve(moments: CentredMoments, bases: AxisBases, penalty: float, cell: int) -> Solution:
    """Solve for the filter of one cell and say how it shrinks.

    Parameters
    ----------
    moments : CentredMoments
        Of whole windows.
    bases : tuple of ndarray (place, function)
        Functions along lag, y and x.
    penalty : float
        Added to the diagonal in the basis, at least 0.
    cell : int
        Position of the cell among the columns of ``moments.cross``.

    Returns
    -------
    Solution
        The filter.

    Raises
    ------
    InputError
        If the penalty is 0 and the movie leaves a direction of the basis untouched.

    Notes
    -----
    ``w = A^-1 B^T c`` and ``A = B^T S B + penalty``. A prior of independent coefficients of
    variance ``v / penalty`` expects the bias ``penalty A^-1 w``, whose covariance in the field is
    ``v penalty B A^-2 B^T``; its diagonal is ``shrinkage`` squared.
    """
    small = _checked(moments, bases, penalty)
    factor = _factor(small.second, penalty)
    entries = int(np.prod([len(axis) for axis in bases]))
    functions = in_basis(np.eye(entries), bases)
    response = scipy.linalg.cho_solve(factor, functions)
    cross = small.cross[:, cell]
    weights = scipy.linalg.cho_solve(factor, cross)
    inverse = scipy.linalg.cho_solve(factor, np.eye(len(cross)))
    freedom = len(cross) - penalty * float(np.trace(inverse))
    rest = float(small.power[cell] - 2 * weights @ cross + weights @ small.second @ weights)
    variance = max(rest, 0.0) / max(moments.frames - 1 - freedom, 1.0)
    shrinkage = np.sqrt(variance * penalty * (response**2).sum(axis=0))
    return Solution(weights, response, variance, freedom, shrinkage)


def _checked(moments: CentredMoments, bases: AxisBases, penalty: float) -> CentredMoments:
    """Return the moments in a basis, or say that there is no solution."""
    small = reduced(moments, bases)
    if penalty == 0 and (missing := singular(small)):
        raise InputError(
            f"penalty 0: the movie never varies along {missing} of {len(small.second)} directions "
            "of the window; use a penalty above 0, a smaller window or more frames"
        )
    return small


def _factor(second: Array, penalty: float) -> Any:
    """Return the Cholesky factor of the second moment with a penalty on its diagonal."""
    return scipy.linalg.cho_factor(second + penalty * np.eye(len(second)), lower=True)


def _is_identity(axis: Array) -> bool:
    """Return whether a basis is every place by itself."""
    return axis.shape[0] == axis.shape[1] and np.array_equal(axis, np.eye(len(axis)))


def _along(values: Array, bases: AxisBases, *, transposed: bool) -> Array:
    """Apply the three bases to the three axes that make up the rows of a table."""
    columns = values.shape[1]
    sizes = [axis.shape[0 if transposed else 1] for axis in bases]
    done = 1
    for number, axis in enumerate(bases):
        matrix = axis.T if transposed else axis
        after = int(np.prod(sizes[number + 1 :])) * columns
        if not _is_identity(axis):
            values = matrix @ values.reshape(done, sizes[number], after)
        done *= len(matrix)
    return values.reshape(done, columns)
