"""How atoms are found: spread start, block updates, swaps of useless atoms, pruning."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.coding import relaxed_loadings, removal_cost, strict_loadings
from retinacodec.compiled import compiled

__all__ = ["atom_costs", "lasso_loss", "polish", "prune", "repair", "search_atoms"]

Array = npt.NDArray[Any]
Atoms = npt.NDArray[np.float32]

_SWAP_EVERY = 3
_SWAP_SHARE = 0.15
_SWAP_LEAST = 2
_APART = 0.3
_STILL = 1e-3
_TURN = 1e-6
_REPAIRS = 2
_CALM = 3
_COST_ROWS = 2000


def search_atoms(
    x: Array,
    modes: int,
    *,
    positive: Array,
    penalty: float,
    sweeps: int,
    generator: np.random.Generator,
) -> Atoms:
    """Find atoms from one random start.

    Parameters
    ----------
    x : ndarray (sample, feature)
        Rows to decompose, float32.
    modes : int
        Number of atoms, at most the number of rows.
    positive : ndarray (feature,) of bool
        Features in which atoms must be at least 0.
    penalty : float
        Weight of the sum of loadings, in units of `x`.
    sweeps : int
        Most alternations between loadings and atoms; fewer once nothing changes.
    generator : numpy.random.Generator
        Source of the start and of new atoms.

    Returns
    -------
    ndarray (mode, feature)
        Atoms of unit norm.

    Notes
    -----
    Loadings solve a nonnegative lasso from where they were; atoms are updated one after the other
    (hierarchical alternating least squares). In the first part of the sweeps, atoms that the
    others can replace are exchanged for directions of the residual that would explain more.
    """
    atoms = _spread_rows(x, modes, generator)
    loadings = np.zeros((len(x), modes), dtype=np.float32)
    least, calm = np.inf, 0
    for sweep in range(sweeps):
        loss = _sweep(x, atoms, loadings, positive, penalty, 2 if sweep else 5)
        if sweep % _SWAP_EVERY == _SWAP_EVERY - 1:
            calm = 0 if loss < (1 - _STILL) * least else calm + 1
            least = min(loss, least)
            if calm >= _CALM:
                break
            if sweep < 0.7 * sweeps:
                _swap(x, atoms, loadings, positive, penalty, generator)
    return atoms


def prune(
    x: Array,
    atoms: Atoms,
    *,
    positive: Array,
    penalty: float,
    modes: int | None = None,
    worth: Array | None = None,
) -> Atoms:
    """Take away the atoms that the others can best replace.

    Parameters
    ----------
    x : ndarray (sample, feature)
        Rows to decompose, float32.
    atoms : ndarray (mode, feature)
        Atoms of unit norm.
    positive, penalty
        As in `search_atoms`.
    modes : int, optional
        Number of atoms to keep.
    worth : ndarray (mode,), optional
        Without `modes`: an atom kept explains, beyond what the others can, at least its multiple
        of an equal share of the energy, ``sum(x**2) / len(atoms)``.

    Returns
    -------
    ndarray (mode, feature)
        The atoms kept, fitted again.
    """
    least = np.ones(len(atoms)) if worth is None else worth * float(np.vdot(x, x))
    while len(atoms) > 1:
        cost = atom_costs(x, atoms, penalty=penalty) / least
        excess = len(atoms) - modes if modes else int((cost * len(atoms) < 1).sum())
        if excess <= 0:
            break
        order = np.argsort(cost, kind="stable")[:excess]
        gone = _apart(order, atoms @ atoms.T, most=1 + excess // 5)
        atoms, least = np.delete(atoms, gone, axis=0), np.delete(least, gone)
        loadings = np.zeros((len(x), len(atoms)), dtype=np.float32)
        _sweep(x, atoms, loadings, positive, penalty, 10)
    return atoms


def repair(
    x: Array, atoms: Atoms, *, positive: Array, penalty: float, generator: np.random.Generator
) -> Atoms:
    """Exchange atoms for what the residual of all rows still holds, as long as that helps.

    Parameters
    ----------
    x : ndarray (sample, feature)
        Rows to decompose, float32; all of them, where the search saw a part.
    atoms : ndarray (mode, feature)
        Atoms of unit norm.
    positive, penalty, generator
        As in `search_atoms`.

    Returns
    -------
    ndarray (mode, feature)
        As many atoms, at least as good.
    """
    atoms = atoms.copy()
    loadings = np.zeros((len(x), len(atoms)), dtype=np.float32)
    loss = _sweep(x, atoms, loadings, positive, penalty, 10)
    failed = 0
    while failed < _REPAIRS:
        changed, codes = atoms.copy(), loadings.copy()
        if not _swap(x, changed, codes, positive, penalty, generator):
            break
        for _ in range(4):
            after = _sweep(x, changed, codes, positive, penalty, 3)
        failed += 1
        if after < (1 - _STILL) * loss:
            atoms, loadings, loss, failed = changed, codes, after, 0
    return atoms


def polish(
    x: Array, atoms: Atoms, *, positive: Array, floor: float, active: int | None, sweeps: int = 30
) -> Atoms:
    """Fit atoms to loadings without penalty, which neither shrinks nor tilts them.

    Parameters
    ----------
    x : ndarray (sample, feature)
        Rows to decompose, float32.
    atoms : ndarray (mode, feature)
        Atoms of unit norm.
    positive : ndarray (feature,) of bool
        Features in which atoms must be at least 0.
    floor, active
        As in `retinacodec.coding.strict_loadings`.
    sweeps : int, default 30
        Most alternations between loadings and atoms; fewer once no atom turns any more.

    Returns
    -------
    ndarray (mode, feature)
        Atoms of unit norm.
    """
    atoms = atoms.copy()
    for _ in range(sweeps):
        before = atoms.copy()
        loadings = strict_loadings(x, atoms, floor=floor, active=active)
        update_atoms(atoms, loadings.T @ loadings, loadings.T @ x, positive, 4)
        if ((atoms - before) ** 2).sum(axis=1).max() < _TURN:
            break
    return atoms


def atom_costs(x: Array, atoms: Atoms, *, penalty: float) -> npt.NDArray[np.float64]:
    """Return how much the squared error of all rows rises without each atom (mode,)."""
    rows = x[:: max(1, len(x) // _COST_ROWS)]
    loadings = np.zeros((len(rows), len(atoms)), dtype=np.float32)
    relaxed_loadings(rows, atoms, loadings, penalty=penalty, passes=40)
    return _costs(rows, atoms, loadings, penalty) * len(x) / len(rows)


def lasso_loss(x: Array, atoms: Atoms, *, penalty: float) -> float:
    """Return the squared error of all rows plus twice the penalty of their loadings."""
    loadings = np.zeros((len(x), len(atoms)), dtype=np.float32)
    relaxed_loadings(x, atoms, loadings, penalty=penalty, passes=40)
    left = float(np.sum((x - loadings @ atoms) ** 2, dtype=np.float64))
    return left + 2 * penalty * float(loadings.sum(dtype=np.float64))


def _sweep(
    x: Array, atoms: Atoms, loadings: Array, positive: Array, penalty: float, passes: int
) -> float:
    """Improve loadings, then atoms, in place; return the squared error with its penalty."""
    relaxed_loadings(x, atoms, loadings, penalty=penalty, passes=passes)
    overlap, moment = loadings.T @ loadings, loadings.T @ x
    update_atoms(atoms, overlap, moment, positive, 2)
    gain = 2 * float(np.vdot(moment, atoms)) - float(np.vdot(overlap, atoms @ atoms.T))
    return float(np.vdot(x, x)) - gain + 2 * penalty * float(loadings.sum(dtype=np.float64))


def _costs(
    rows: Array, atoms: Atoms, loadings: Array, penalty: float, limit: float = np.inf
) -> Array:
    """Return the removal cost of each atom on these rows, exact up to the limit."""
    weight, gram = np.float32(penalty), atoms @ atoms.T
    tolerance = np.float32(0.05) * weight
    return removal_cost(rows @ atoms.T, gram, weight, loadings, 6, tolerance, limit)


def _swap(
    x: Array,
    atoms: Atoms,
    loadings: Array,
    positive: Array,
    penalty: float,
    generator: np.random.Generator,
) -> int:
    """Exchange, in place, atoms worth less than a direction of the residual; return how many."""
    residual = x - loadings @ atoms
    np.maximum(residual, 0, out=residual, where=positive)
    fresh = _spread_rows(residual, _SWAP_LEAST + int(np.ceil(_SWAP_SHARE * len(atoms))), generator)
    reach = np.maximum(residual @ fresh.T, 0)
    nearest = reach.argmax(axis=1)
    best = reach[np.arange(len(reach)), nearest].astype(np.float64) ** 2
    gain = np.bincount(nearest, weights=best, minlength=len(fresh))
    step = max(1, len(x) // _COST_ROWS)
    rows, used = np.ascontiguousarray(x[::step]), np.ascontiguousarray(loadings[::step])
    part = len(rows) / len(x)
    cost = _costs(rows, atoms, used, penalty, float(gain.max()) * part) / part
    rank = np.argsort(-gain, kind="stable")
    weakest = _apart(np.argsort(cost, kind="stable"), atoms @ atoms.T, most=len(fresh))
    swapped = 0
    for old, new in zip(weakest, rank, strict=False):
        if cost[old] > gain[new]:
            break
        atoms[old], loadings[:, old] = fresh[new], 0
        swapped += 1
    return swapped


def _apart(order: Array, gram: Array, *, most: int) -> list[int]:
    """Return the first of these atoms that hardly overlap with each other."""
    chosen: list[int] = []
    for atom in order:
        if len(chosen) == most:
            break
        if not chosen or gram[atom, chosen].max() < _APART:
            chosen.append(int(atom))
    return chosen


def _spread_rows(x: Array, count: int, generator: np.random.Generator) -> Atoms:
    """Return rows of unit norm, drawn by their size and how far they are from those drawn."""
    size = np.linalg.norm(x, axis=1)
    unit = x / np.maximum(size, 1e-12)[:, None]
    weight = size.astype(np.float64)
    chosen: list[int] = []
    nearest = np.zeros(len(x), dtype=np.float32)
    for _ in range(count):
        chance = weight * (1 - np.clip(nearest, 0, 1)) ** 2
        total = np.cumsum(chance if chance.sum() > 0 else weight + 1e-12)
        chosen.append(int(np.searchsorted(total, generator.random() * total[-1], side="right")))
        np.maximum(nearest, unit @ unit[chosen[-1]], out=nearest)
    return unit[chosen].astype(np.float32)


@compiled
def update_atoms(atoms: Any, overlap: Any, moment: Any, positive: Any, passes: Any) -> None:
    """Fit unit atoms to loadings one after the other, in place.

    Parameters
    ----------
    atoms : ndarray (mode, feature)
        Atoms; one without loadings stays as it is.
    overlap : ndarray (mode, mode)
        Loadings times loadings.
    moment : ndarray (mode, feature)
        Loadings times rows.
    positive : ndarray (feature,) of bool
        Features in which atoms must be at least 0.
    passes : int
        Passes over the atoms.
    """
    modes, features = atoms.shape
    new = np.empty(features, np.float32)
    for _ in range(passes):
        for j in range(modes):
            if overlap[j, j] <= 1e-12:
                continue
            for f in range(features):
                new[f] = moment[j, f] + overlap[j, j] * atoms[j, f]
            for i in range(modes):
                if overlap[j, i] != 0:
                    for f in range(features):
                        new[f] -= overlap[j, i] * atoms[i, f]
            norm = 0.0
            for f in range(features):
                if positive[f] and new[f] < 0:
                    new[f] = 0
                norm += new[f] * new[f]
            if norm > 0:
                norm = np.sqrt(norm)
                for f in range(features):
                    atoms[j, f] = new[f] / norm
