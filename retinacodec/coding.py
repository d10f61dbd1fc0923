"""Loadings for given atoms: nonnegative, sparse, and as few as are worth it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.compiled import compiled

__all__ = ["relax", "relaxed_loadings", "removal_cost", "strict_loadings"]

Array = npt.NDArray[Any]

_CHUNK_VALUES = 2**24
_DEPENDENT = 1e-3


def strict_loadings(
    x: Array, atoms: Array, *, floor: float, active: int | None = None
) -> npt.NDArray[np.float32]:
    """Return few loadings for each row, each of them unpenalised and at least the floor.

    Parameters
    ----------
    x : ndarray (sample, feature)
        Rows to decompose, float32.
    atoms : ndarray (mode, feature)
        Atoms of unit norm, float32.
    floor : float
        Smallest loading, in units of `x`; above 0.
    active : int, optional
        Most loadings above 0 in a row.

    Returns
    -------
    ndarray (sample, mode)
        Loadings: 0, or at least the floor.

    Notes
    -----
    Nonnegative lasso, ``min 1/2 |x - z D|^2 + floor/2 * sum z``, chooses the atoms of a row all at
    once, which a greedy pursuit cannot undo. Their loadings are then fitted again without the
    penalty and the weakest is dropped until all are at least the floor: an atom stays if it
    explains at least ``floor**2`` of the row's energy by itself.
    """
    loadings = np.zeros((len(x), len(atoms)), dtype=np.float32)
    gram = atoms @ atoms.T
    most = len(atoms) if active is None else active
    step = max(1, _CHUNK_VALUES // max(1, len(atoms)))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        correlation = x[rows] @ atoms.T
        relax(correlation, gram, np.float32(floor / 2), loadings[rows], 60, np.float32(floor / 1e3))
        _refit(correlation, gram, np.float32(floor), most, loadings[rows])
        _solve(x[rows], atoms, gram, loadings[rows])
    return loadings


def relaxed_loadings(
    x: Array, atoms: Array, loadings: Array, *, penalty: float, passes: int
) -> Array:
    """Improve nonnegative lasso loadings in place, from where they are, and return them.

    Parameters
    ----------
    x : ndarray (sample, feature)
        Rows to decompose, float32.
    atoms : ndarray (mode, feature)
        Atoms of unit norm, float32.
    loadings : ndarray (sample, mode)
        Loadings to start from, float32; changed.
    penalty : float
        Weight of the sum of loadings, in units of `x`.
    passes : int
        Most passes over the atoms.

    Returns
    -------
    ndarray (sample, mode)
        The same array.
    """
    weight = np.float32(penalty)
    relax(x @ atoms.T, atoms @ atoms.T, weight, loadings, passes, np.float32(0.05) * weight)
    return loadings


@compiled
def relax(
    correlation: Any, gram: Any, penalty: Any, loadings: Any, passes: Any, tolerance: Any
) -> None:
    """Solve the nonnegative lasso of every row by coordinate descent, in place.

    Parameters
    ----------
    correlation : ndarray (sample, mode)
        Rows times atoms, float32.
    gram : ndarray (mode, mode)
        Atoms times atoms; the diagonal is 1.
    penalty : float32
        Weight of the sum of loadings.
    loadings : ndarray (sample, mode)
        Where to start and where the result goes.
    passes : int
        Most passes over the atoms of a row.
    tolerance : float32
        A row is done when no loading changed by more in a pass.
    """
    count, modes = correlation.shape
    left = np.empty(modes, np.float32)
    for row in range(count):
        for j in range(modes):
            left[j] = correlation[row, j] - penalty
        for j in range(modes):
            if loadings[row, j] > 0:
                value = loadings[row, j]
                for i in range(modes):
                    left[i] -= value * gram[j, i]
        for _ in range(passes):
            largest = np.float32(0)
            for j in range(modes):
                change = max(loadings[row, j] + left[j], np.float32(0)) - loadings[row, j]
                if abs(change) > 1e-7:
                    loadings[row, j] += change
                    largest = max(largest, abs(change))
                    for i in range(modes):
                        left[i] -= change * gram[j, i]
            if largest <= tolerance:
                break


@compiled
def _solve(x: Any, atoms: Any, gram: Any, loadings: Any) -> None:
    """Replace loadings above 0 by exact least squares, in float64, whatever rows stand beside.

    Rows whose atoms depend on each other, so that there is no one solution, stay as they are.
    """
    for row in range(len(x)):
        support = np.nonzero(loadings[row] > 0)[0]
        size = support.size
        root, value = np.zeros((size, size)), np.zeros(size)
        sound = True
        for a in range(size):
            for b in range(a + 1):
                entry = np.float64(gram[support[a], support[b]])
                for c in range(b):
                    entry -= root[a, c] * root[b, c]
                root[a, b] = entry / root[b, b] if b < a else np.sqrt(max(entry, _DEPENDENT))
                if b == a and entry <= _DEPENDENT:
                    sound = False
            for f in range(x.shape[1]):
                value[a] += np.float64(x[row, f]) * atoms[support[a], f]
            for c in range(a):
                value[a] -= root[a, c] * value[c]
            value[a] /= root[a, a]
        for a in range(size - 1, -1, -1):
            for c in range(a + 1, size):
                value[a] -= root[c, a] * value[c]
            value[a] /= root[a, a]
            if value[a] <= 0:
                sound = False
        if sound:
            for a in range(size):
                loadings[row, support[a]] = value[a]


@compiled
def _refit(correlation: Any, gram: Any, floor: Any, most: Any, loadings: Any) -> None:
    """Fit the loadings above 0 again without penalty, dropping the weakest, in place."""
    for row in range(len(correlation)):
        support = np.nonzero(loadings[row] > 0)[0]
        while support.size > 0:
            for _ in range(40):
                largest = np.float32(0)
                for a in support:
                    value = correlation[row, a]
                    for b in support:
                        if a != b:
                            value -= gram[a, b] * loadings[row, b]
                    value = max(value, np.float32(0))
                    largest = max(largest, abs(value - loadings[row, a]))
                    loadings[row, a] = value
                if largest <= 1e-4 * floor:
                    break
            weakest = support[np.argmin(loadings[row][support])]
            if loadings[row, weakest] >= floor and support.size <= most:
                break
            loadings[row, weakest] = 0
            support = support[support != weakest]


@compiled
def removal_cost(
    correlation: Any,
    gram: Any,
    penalty: Any,
    loadings: Any,
    passes: Any,
    tolerance: Any,
    limit: Any = np.inf,
) -> Any:
    """Return how much the lasso's squared error rises when an atom is taken away.

    The other atoms of each row that uses it take over what they can, from the given loadings.

    Parameters
    ----------
    correlation, gram, penalty, passes, tolerance
        As in `relax`.
    loadings : ndarray (sample, mode)
        Solved loadings; left as they are.
    limit : float, default inf
        Costs above it need not be known; summing stops there.

    Returns
    -------
    ndarray (mode,)
        Rise of ``|x - z D|^2 + 2 penalty sum z``, summed over rows.
    """
    count, modes = correlation.shape
    cost = np.zeros(modes)
    solved, left = np.empty(modes, np.float32), np.empty(modes, np.float32)
    now = np.empty(modes, np.float32)
    for row in range(count):
        for j in range(modes):
            solved[j] = correlation[row, j] - penalty
        for j in range(modes):
            if loadings[row, j] > 0:
                for i in range(modes):
                    solved[i] -= loadings[row, j] * gram[j, i]
        for gone in range(modes):
            lost = loadings[row, gone]
            if lost <= 0 or cost[gone] > limit:
                continue
            for j in range(modes):
                left[j] = solved[j] + lost * gram[gone, j]
                now[j] = loadings[row, j]
            now[gone] = 0
            rise = lost * solved[gone] + lost * lost / 2
            for _ in range(passes):
                largest = np.float32(0)
                for j in range(modes):
                    if j == gone:
                        continue
                    change = max(now[j] + left[j], np.float32(0)) - now[j]
                    if abs(change) > 1e-7:
                        rise -= change * left[j] - change * change / 2
                        largest = max(largest, abs(change))
                        now[j] += change
                        for i in range(modes):
                            left[i] -= change * gram[j, i]
                if largest <= tolerance:
                    break
            cost[gone] += 2 * rise
    return cost
