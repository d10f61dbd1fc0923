"""How far a decomposition can be trusted: on rows it never saw, and from other seeds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Decomposition, Dictionary
from retinacodec.metrics import explained_variance
from retinacodec.row_splits import RowSplit, TimeBlocks

__all__ = ["fixed_size", "held_out_r2", "seed_stability", "shuffled_stability"]

Array = npt.NDArray[Any]


def held_out_r2(
    method: Decomposition,
    x: npt.ArrayLike,
    *,
    signs: npt.ArrayLike | None = None,
    seed: int = 0,
    split: RowSplit | None = None,
) -> float:
    """Return the share of variance explained on rows that the method never saw.

    Parameters
    ----------
    method : Decomposition
        The method.
    x : array_like (sample, feature)
        Rows in time order.
    signs : array_like (feature,), optional
        As in the method's ``fit``.
    seed : int, default 0
        Seed of the fit.
    split : RowSplit, optional
        Which rows are held out; ``TimeBlocks()`` if left out.

    Returns
    -------
    float
        ``1 - mean((x - xh)**2) / var(x)`` over the held-out rows.
    """
    rows = np.asarray(x)
    fitted, held = (split or TimeBlocks()).split(len(rows))
    found = method.fit(rows[fitted], signs=signs, seed=seed, progress=False)
    return explained_variance(rows[held], found.reconstruct(found.transform(rows[held])))


def seed_stability(
    method: Decomposition,
    x: npt.ArrayLike,
    found: Dictionary,
    *,
    signs: npt.ArrayLike | None = None,
    seeds: int = 2,
) -> npt.NDArray[np.float64]:
    """Return how well each mode is found again from other seeds.

    Parameters
    ----------
    method : Decomposition
        The method that found it.
    x : array_like (sample, feature)
        The rows it was found in.
    found : Dictionary
        The modes asked about.
    signs : array_like (feature,), optional
        As in the method's ``fit``.
    seeds : int, default 2
        Number of further fits.

    Returns
    -------
    ndarray (mode,)
        Mean over the fits of the cosine with the mode matched to it one to one, 0 where it has
        no match.
    """
    scores = [
        _matched(found.atoms, method.fit(x, signs=signs, seed=seed, progress=False).atoms)
        for seed in range(found.seed + 1, found.seed + 1 + seeds)
    ]
    return np.mean(scores, axis=0) if scores else np.full(len(found.atoms), np.nan)


def shuffled_stability(
    atoms: Array, *, seed: int = 0, shuffles: int = 20
) -> npt.NDArray[np.float64]:
    """Return the matched cosine of atoms with atoms whose entries are dealt out anew.

    Parameters
    ----------
    atoms : ndarray (mode, feature)
        Atoms.
    seed : int, default 0
        Seed of the shuffles.
    shuffles : int, default 20
        Number of shuffles.

    Returns
    -------
    ndarray (shuffle,)
        Mean matched cosine of each shuffle. Every feature keeps its entries, given to other
        modes, so this is what signs and common features alone make alike.
    """
    generator = np.random.default_rng(seed)
    return np.asarray(
        [_matched(atoms, generator.permuted(atoms, axis=0)).mean() for _ in range(shuffles)]
    )


def fixed_size(method: Decomposition, modes: int) -> Decomposition:
    """Return the method with this number of modes, where it would choose one itself."""
    chooses = dataclasses.is_dataclass(method) and getattr(method, "modes", modes) is None
    if not chooses:
        return method
    changed: Any = dataclasses.replace(method, modes=modes)  # type: ignore[type-var]
    return changed  # type: ignore[no-any-return]


def _matched(atoms: Array, others: Array) -> npt.NDArray[np.float64]:
    """Return the cosine of each atom with the other matched to it, 0 without a match."""
    from scipy.optimize import linear_sum_assignment

    scores = np.zeros(len(atoms))
    if len(atoms) and len(others):
        sizes = [np.maximum(np.linalg.norm(a, axis=1), 1e-12) for a in (atoms, others)]
        cosine = (atoms @ others.T) / np.outer(*sizes)
        rows, columns = linear_sum_assignment(-cosine)
        scores[rows] = cosine[rows, columns]
    return scores
