"""How far a decomposition can be trusted: on rows it never saw, and when it is found again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Decomposition, Dictionary
from retinacodec.bootstrap import Interval, block_labels, draw_blocks, percentiles
from retinacodec.metrics import match_atoms, unit_rows
from retinacodec.row_splits import RowSplit, TimeBlocks
from retinacodec.rows import Rows

__all__ = [
    "HeldOut",
    "fixed_size",
    "half_cosines",
    "held_out",
    "held_out_r2",
    "partner_cosines",
    "r2_interval",
    "row_r2",
    "seed_cosines",
    "seed_stability",
    "shuffled_stability",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a method fitted to a part of the rows makes of the others.

    Attributes
    ----------
    found : Dictionary
        Fitted to the part.
    rows : ndarray of int
        The rows held out.
    loadings : ndarray (held-out row, mode)
        Their loadings.
    r2 : Interval
        Share of their variance explained, with the percentile interval over blocks of them.
    """

    found: Dictionary
    rows: npt.NDArray[np.intp]
    loadings: Array
    r2: Interval

    @property
    def l0(self) -> float:
        """Mean number of active modes in a held-out row."""
        return float((self.loadings != 0).sum(axis=1).mean())


def held_out(
    method: Decomposition,
    rows: Rows,
    *,
    split: RowSplit | None = None,
    seed: int = 0,
    draws: int = 1000,
    block: int = 40,
) -> HeldOut:
    """Fit a method to a part of the rows and score it on the others.

    Parameters
    ----------
    method : Decomposition
        The method.
    rows : Rows
        The table.
    split : RowSplit, optional
        Which rows are held out; ``TimeBlocks()`` if left out.
    seed : int, default 0
        Seed of the fit and of the resamples.
    draws : int, default 1000
        Number of resamples for the interval.
    block : int, default 40
        Held-out rows that are resampled together where they follow each other.

    Returns
    -------
    HeldOut
        Dictionary, rows, their loadings and R2.

    Notes
    -----
    ``R2 = 1 - sum (x - xh)^2 / sum (x - mean(x))^2`` with one mean over the held-out table. For
    the interval, blocks of held-out rows are drawn with replacement; the fit stays as it is.
    """
    fitted, held = (split or TimeBlocks()).split(len(rows))
    found = rows.take(fitted).fit(method, seed)
    kept = rows.take(held)
    loadings = kept.loadings(found)
    estimate = found.reconstruct(loadings)
    r2 = r2_interval(kept.x, estimate, held, block=block, draws=draws, seed=seed)
    return HeldOut(found, held, loadings, r2)


def r2_interval(
    x: Array,
    estimate: Array,
    rows: npt.NDArray[np.intp],
    *,
    block: int = 40,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the share of variance explained, with its 95 % interval over blocks of rows.

    Parameters
    ----------
    x, estimate : ndarray (sample, feature)
        Rows and what was made of them.
    rows : ndarray (sample,) of int
        Their numbers, rising; where they follow each other they are resampled together.
    block : int, default 40
        Length of a block.
    draws, seed : int
        Number of resamples and their seed.

    Returns
    -------
    Interval
        ``1 - sum (x - xh)^2 / sum (x - mean(x))^2``, and expanded percentiles of it over the
        resamples; NaN ends where there is one block only.
    """
    values = np.asarray(x, dtype=np.float64)
    terms = np.stack([((values - estimate) ** 2).sum(1), (values**2).sum(1), values.sum(1)])
    starts = np.flatnonzero(np.diff(block_labels(rows, block), prepend=-1))
    sums = np.add.reduceat(terms, starts, axis=1)
    counts = np.diff(starts, append=len(rows)) * values.shape[1]

    def score(weight: Array) -> Array:
        left, squares, total = (weight @ part for part in sums)
        spread = squares - total**2 / (weight @ counts)
        return np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), np.nan)

    low = high = np.asarray(np.nan)
    if len(starts) > 1:
        low, high = percentiles(score(draw_blocks(len(starts), draws, seed)), blocks=len(starts))
    return Interval(score(np.ones(len(starts))), low, high)


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
        ``1 - mean((x - xh)**2) / var(x)`` over the held-out rows; `held_out` gives its interval.
    """
    rows = _rows(x, signs)
    return float(held_out(method, rows, split=split, seed=seed, draws=1).r2.value)


def row_r2(x: Array, estimate: Array) -> npt.NDArray[np.float64]:
    """Return the share of each row's energy that is explained.

    Parameters
    ----------
    x, estimate : ndarray (sample, feature)
        Rows and their reconstruction.

    Returns
    -------
    ndarray (sample,)
        ``1 - |x - xh|^2 / |x|^2``; NaN where all of the row is 0.
    """
    left = ((np.asarray(x, np.float64) - estimate) ** 2).sum(axis=1)
    energy = (np.asarray(x, np.float64) ** 2).sum(axis=1)
    return np.where(energy > 0, 1 - left / np.where(energy > 0, energy, 1), np.nan)


def seed_stability(
    method: Decomposition,
    x: npt.ArrayLike | Rows,
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
    x : array_like (sample, feature) or Rows
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
    rows = x if isinstance(x, Rows) else _rows(x, signs)
    return np.diagonal(seed_cosines(method, rows, found, seeds)).copy()


def seed_cosines(
    method: Decomposition, rows: Rows, found: Dictionary, seeds: int
) -> npt.NDArray[np.float64]:
    """Return how alike modes are to those of fits from other seeds.

    Parameters
    ----------
    method, rows, found, seeds
        As in `seed_stability`.

    Returns
    -------
    ndarray (mode, partner)
        Mean over the fits of `partner_cosines`, NaN without any fit. The stability of a mode is
        on the diagonal.
    """
    others = range(found.seed + 1, found.seed + 1 + seeds)
    tables = [partner_cosines(found, rows.fit(method, seed).atoms) for seed in others]
    return np.mean(tables, axis=0) if tables else np.full((len(found.atoms),) * 2, np.nan)


def partner_cosines(
    found: Dictionary, others: Array, ones: Array | None = None
) -> npt.NDArray[np.float64]:
    """Return cosines between partners of modes, so that what was found again is the diagonal.

    Parameters
    ----------
    found : Dictionary
        The modes asked about.
    others : ndarray (other mode, feature)
        Atoms of another fit.
    ones : ndarray (other mode, feature), optional
        Atoms of a third fit, whose partners of the modes stand for them; the modes themselves if
        left out.

    Returns
    -------
    ndarray (mode, partner)
        Cosine of each mode (or its partner among `ones`) with the partner of each mode; its size
        where loadings have signs; 0 where there is no partner.
    """
    first = found.atoms if ones is None else _partners(found, ones)
    table = np.asarray(unit_rows(first) @ unit_rows(_partners(found, others)).T, dtype=np.float64)
    return np.abs(table) if found.signed else table


def half_cosines(
    method: Decomposition, rows: Rows, found: Dictionary, *, split: RowSplit | None = None
) -> npt.NDArray[np.float64]:
    """Return how alike modes are in two halves of the data that share nothing.

    Parameters
    ----------
    method : Decomposition
        The method that found them.
    rows : Rows
        The rows they were found in.
    found : Dictionary
        The modes asked about.
    split : RowSplit, optional
        How the halves are made; ``TimeBlocks()`` if left out.

    Returns
    -------
    ndarray (mode, partner)
        Cosine between the atom of the one half and the atom of the other half that match the two
        modes; 0 where a half has no match. The stability of a mode is on the diagonal.
    """
    halves = (split or TimeBlocks()).halves(len(rows))
    one, other = (rows.take(half).fit(method, found.seed).atoms for half in halves)
    return partner_cosines(found, other, one)


def shuffled_stability(
    atoms: Array, *, signed: bool = False, seed: int = 0, shuffles: int = 20
) -> npt.NDArray[np.float64]:
    """Return the matched cosine of atoms with atoms whose entries are dealt out anew.

    Parameters
    ----------
    atoms : ndarray (mode, feature)
        Atoms.
    signed : bool, default False
        As in `matched`.
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
    shuffled = (generator.permuted(atoms, axis=0) for _ in range(shuffles))
    return np.asarray([match_atoms(atoms, others, signed=signed)[1].mean() for others in shuffled])


def fixed_size(method: Decomposition, modes: int) -> Decomposition:
    """Return the method with this number of modes, where it would choose one itself."""
    chooses = dataclasses.is_dataclass(method) and getattr(method, "modes", modes) is None
    if not chooses:
        return method
    changed: Any = dataclasses.replace(method, modes=modes)  # type: ignore[type-var]
    return changed  # type: ignore[no-any-return]


def _rows(x: npt.ArrayLike, signs: npt.ArrayLike | None) -> Rows:
    return Rows(np.asarray(x), None if signs is None else np.asarray(signs))


def _partners(found: Dictionary, others: Array) -> Array:
    """Return the other atom matched to each mode, 0 where there is none."""
    place, _ = match_atoms(found.atoms, others, signed=found.signed)
    padded = np.concatenate([others, np.zeros((1, found.atoms.shape[1]), found.atoms.dtype)])
    return np.asarray(padded[place])
