"""Nonnegative least squares for many rows at once, each row exactly and by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.compiled import compiled

__all__ = ["row_products", "solve_nonnegative"]

Array = npt.NDArray[Any]

_DEPENDENT = 1e-9
_SOLVED = 1e-10
_PASSES = 8


def row_products(x: Array, vectors: Array) -> npt.NDArray[np.float64]:
    """Return ``x @ vectors.T`` in float64, each row added up in the same order whatever others.

    Parameters
    ----------
    x : ndarray (sample, feature)
        Rows.
    vectors : ndarray (mode, feature)
        What each row is multiplied with.

    Returns
    -------
    ndarray (sample, mode)
        Products.
    """
    across = np.ascontiguousarray(np.asarray(vectors, dtype=np.float64).T)
    product = np.zeros((len(x), len(vectors)))
    _add_products(np.ascontiguousarray(x), across, product)
    return product


def solve_nonnegative(
    correlation: Array, gram: Array, free: Array, penalty: float = 0.0
) -> npt.NDArray[np.float64]:
    """Solve nonnegative least squares from overlaps.

    Parameters
    ----------
    correlation : ndarray (sample, mode)
        Rows times atoms, float64.
    gram : ndarray (mode, mode)
        Atoms times atoms, float64.
    free : ndarray (sample or 1, mode) of bool
        Loadings that may be above 0; one row stands for all.
    penalty : float, default 0
        Weight of the sum of loadings.

    Returns
    -------
    ndarray (sample, mode)
        Loadings that minimise ``1/2 z G z - (c - penalty) z``.
    """
    loadings = np.zeros(correlation.shape)
    _solve_rows(correlation - penalty, gram, free, loadings)
    return loadings


@compiled
def _add_products(x: Any, across: Any, product: Any) -> None:
    """Add ``x @ across`` to the product, feature by feature, in place."""
    rows, features = x.shape
    for row in range(rows):
        for f in range(features):
            value = np.float64(x[row, f])
            if value != 0:
                for j in range(across.shape[1]):
                    product[row, j] += value * across[f, j]


@compiled
def _solve_rows(correlation: Any, gram: Any, free: Any, loadings: Any) -> None:
    """Solve every row by active sets, in place, from loadings of 0."""
    count, modes = correlation.shape
    slope, trial = np.empty(modes), np.empty(modes)
    blocked, chosen = np.empty(modes, np.bool_), np.empty(modes, np.int64)
    root = np.empty((modes, modes))
    for row in range(count):
        z, allowed = loadings[row], free[row if len(free) > 1 else 0]
        largest = 0.0
        for j in range(modes):
            slope[j] = correlation[row, j]
            blocked[j] = not allowed[j] or gram[j, j] <= 0
            if not blocked[j]:
                largest = max(largest, slope[j])
        if largest <= 0:
            continue
        _descend(gram, blocked, slope, z)
        size = 0
        for j in range(modes):
            if z[j] > 0:
                chosen[size] = j
                if _grow(root, gram, chosen, size):
                    size += 1
                else:
                    z[j] = 0
        size = _step_to_solution(correlation[row], gram, root, chosen, size, z, trial)
        for _ in range(3 * modes):
            best = _steepest(correlation[row], gram, chosen[:size], z, blocked, _SOLVED * largest)
            if best < 0:
                break
            chosen[size] = best
            if not _grow(root, gram, chosen, size):
                blocked[best] = True
                continue
            before = size
            size = _step_to_solution(correlation[row], gram, root, chosen, size + 1, z, trial)
            if size == before and z[best] == 0:
                blocked[best] = True


@compiled
def _steepest(
    correlation: Any, gram: Any, chosen: Any, z: Any, blocked: Any, tolerance: Any
) -> Any:
    """Return the loading at 0 that the error falls most with, or -1 if it falls with none."""
    best, steepest = -1, tolerance
    for j in range(len(z)):
        if z[j] == 0 and not blocked[j]:
            value = correlation[j]
            for a in chosen:
                value -= gram[j, a] * z[a]
            if value > steepest:
                best, steepest = j, value
    return best


@compiled
def _descend(gram: Any, blocked: Any, slope: Any, z: Any) -> None:
    """Improve loadings by a few passes of coordinate descent, in place."""
    for _ in range(_PASSES):
        for j in range(len(z)):
            if blocked[j]:
                continue
            change = max(z[j] + slope[j] / gram[j, j], 0.0) - z[j]
            if change != 0:
                z[j] += change
                for i in range(len(z)):
                    slope[i] -= change * gram[j, i]


@compiled
def _grow(root: Any, gram: Any, chosen: Any, size: Any) -> Any:
    """Add the atom at this place to the Cholesky factor; False if it depends on the others."""
    j = chosen[size]
    rest = gram[j, j]
    for b in range(size):
        entry = gram[j, chosen[b]]
        for c in range(b):
            entry -= root[size, c] * root[b, c]
        root[size, b] = entry / root[b, b]
        rest -= root[size, b] ** 2
    if rest <= _DEPENDENT * gram[j, j]:
        return False
    root[size, size] = np.sqrt(rest)
    return True


@compiled
def _step_to_solution(
    correlation: Any, gram: Any, root: Any, chosen: Any, size: Any, z: Any, trial: Any
) -> Any:
    """Go to the least squares of the chosen atoms, dropping those that reach 0; how many stay."""
    while size > 0:
        for a in range(size):
            value = correlation[chosen[a]]
            for c in range(a):
                value -= root[a, c] * trial[c]
            trial[a] = value / root[a, a]
        share = 1.0
        for a in range(size - 1, -1, -1):
            for c in range(a + 1, size):
                trial[a] -= root[c, a] * trial[c]
            trial[a] /= root[a, a]
        limit = -1
        for a in range(size):
            if trial[a] <= 0:
                part = z[chosen[a]] / (z[chosen[a]] - trial[a]) if z[chosen[a]] > 0 else 0.0
                if limit < 0 or part < share:
                    limit, share = a, part
        for a in range(size):
            z[chosen[a]] += share * (trial[a] - z[chosen[a]])
        if limit < 0:
            return size
        z[chosen[limit]] = 0
        kept = 0
        for a in range(size):
            j = chosen[a]
            if z[j] > 0:
                chosen[kept] = j
                if _grow(root, gram, chosen, kept):
                    kept += 1
                else:
                    z[j] = 0
            else:
                z[j] = 0
        size = kept
    return size
