"""Atoms of any method coded in one way, so that methods can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Dictionary
from retinacodec.coding import relax, strict_loadings
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance

__all__ = ["predicted_rows", "r2_at_l0"]

Array = npt.NDArray[Any]

_L0_TRIES = 30
_FOLDS = 16
_RIDGE = 0.02
_GAIN = 0.04


def predicted_rows(found: Dictionary, x: Array, *, folds: int = _FOLDS) -> Array:
    """Return each column of rows as modes predict it from the other columns.

    More modes always describe rows better, also noise in rows never seen, because loadings are
    fitted to the very row. Only true modes predict a channel from the others.

    Parameters
    ----------
    found : Dictionary
        Modes fitted to other rows.
    x : ndarray (sample, feature)
        Rows.
    folds : int, default 16
        Parts into which the columns are divided; at most one for each column.

    Returns
    -------
    ndarray (sample, feature)
        Predictions in the units of the rows.

    Notes
    -----
    For each part of the columns (every so-many-th), rows are coded from the others:
    ``min 1/2 |x - z D|^2 + 0.01 |z|^2 + 0.02 r sum n z`` over ``z >= 0``, with r the root mean
    square norm of the rows and ``n^2 = |d|^2 + 0.02`` of each atom; the second term keeps atoms
    that lie almost wholly in the part from being multiplied up.

    References
    ----------
    .. [1] Owen, Perry, Annals of Applied Statistics 3, 564 (2009), bi-cross-validation.
    """
    scaled, weight = found.scale.divide(x)
    centre = np.zeros(scaled.shape[1], np.float32) if found.centre is None else found.centre
    rest = (scaled - centre).astype(np.float32)
    atoms = np.concatenate([found.atoms, -found.atoms]) if found.signed else found.atoms
    columns, made = np.arange(scaled.shape[1]), np.zeros_like(rest)
    for fold in range(min(folds, len(columns))):
        asked = columns % folds == fold
        made[:, asked] = _ridged(rest[:, ~asked], atoms[:, ~asked]) @ atoms[:, asked]
    return np.asarray(found.scale.deviation * weight * (made + centre))


def _ridged(x: Array, atoms: Array) -> npt.NDArray[np.float32]:
    """Return penalised loadings (sample, mode) of rows on atoms of any norm."""
    norm = np.sqrt((atoms.astype(np.float64) ** 2).sum(axis=1) + _RIDGE)
    gram = (atoms @ atoms.T) / np.outer(norm, norm)
    np.fill_diagonal(gram, 1.0)
    penalty = _GAIN / 2 * float(np.sqrt((x.astype(np.float64) ** 2).sum() / max(1, len(x))))
    loadings = np.zeros((len(x), len(atoms)), np.float32)
    correlation = np.ascontiguousarray((x @ atoms.T) / norm, dtype=np.float32)
    if penalty > 0:
        small = np.float32(penalty / 500)
        relax(correlation, gram.astype(np.float32), np.float32(penalty), loadings, 60, small)
    return (loadings / norm).astype(np.float32)


def r2_at_l0(found: Dictionary, x: npt.ArrayLike, l0: float) -> tuple[float, float]:
    """Return what atoms explain when rows are coded with a given mean number of them.

    The yardstick for atoms of different methods: all are coded in the same way.

    Parameters
    ----------
    found : Dictionary
        Atoms, with their scale and centre.
    x : array_like (sample, feature)
        Rows it was not fitted to.
    l0 : float
        Mean number of active modes in a row that is asked for, above 0.

    Returns
    -------
    r2, reached : float
        Share of variance explained, and the mean number of active modes it was reached with: the
        one asked for, or all that the rows have a use for.

    Notes
    -----
    Nonnegative lasso with a refit (as `DirectPursuit` codes rows), whose floor is bisected until
    the number is met. Atoms whose loadings have signs count with both of them.
    """
    if not l0 > 0:
        raise InputError(f"r2_at_l0: expected a mean number of modes above 0, got {l0}")
    rows = np.asarray(x)
    scaled, weight = found.scale.divide(rows)
    scaled = scaled if found.centre is None else (scaled - found.centre).astype(np.float32)
    norm = np.linalg.norm(found.atoms, axis=1, keepdims=True)
    atoms = (found.atoms / np.maximum(norm, 1e-12)).astype(np.float32)
    atoms = np.concatenate([atoms, -atoms]) if found.signed else atoms
    top = float(np.linalg.norm(scaled, axis=1).max())
    low, high = 1e-4 * top, top
    best = (0.0, np.zeros((len(rows), len(atoms)), np.float32))
    for _ in range(_L0_TRIES):
        floor = float(np.sqrt(low * high))
        loadings = strict_loadings(scaled, atoms, floor=floor)
        reached = float((loadings > 0).sum(axis=1).mean())
        if best[0] < reached <= l0 * 1.01:
            best = (reached, loadings)
        low, high = (floor, high) if reached > l0 else (low, floor)
        if abs(reached - l0) < 0.01 * l0 or high < 1.001 * low:
            break
    made = best[1] @ atoms + (0 if found.centre is None else found.centre)
    return explained_variance(rows, found.scale.deviation * weight * made), best[0]
