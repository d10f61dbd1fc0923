"""What is known about modes: what they explain, which of them are needed, and which come back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atom_search import atom_costs
from retinacodec.atoms import Decomposition, Dictionary
from retinacodec.bootstrap import Interval
from retinacodec.dictionary_scores import (
    fixed_size,
    half_cosines,
    held_out,
    row_r2,
    seed_cosines,
    shuffled_stability,
)
from retinacodec.metrics import explained_variance
from retinacodec.row_splits import RowSplit, TimeBlocks
from retinacodec.rows import Rows

__all__ = ["ModeReport", "mode_gains", "report_modes"]

Array = npt.NDArray[Any]
_NULL_ATOMS = 20
_STABLE = 0.9
_WORTH = 0.012


@dataclass(frozen=True, eq=False)
class ModeReport:
    """How far modes can be trusted.

    Attributes
    ----------
    r2 : Interval
        Share of the variance of rows held out that modes fitted to the others explain, with its
        95 % interval over blocks of those rows.
    r2_fitted : float
        The same of the rows fitted.
    l0 : float
        Mean number of active modes in a row.
    alive, dead : int
        Modes that any row uses, and atoms that were tried and none uses.
    row_r2 : ndarray (sample,)
        Share of each row's energy explained; NaN where the row is 0.
    row_active : ndarray (sample,) of bool
        Rows in which a mode is active; the others are too small for any.
    seed_cosine : ndarray (mode, partner)
        Cosine of each mode with the partner of each mode in a fit from another seed, mean over
        such fits; NaN without any.
    half_cosine : ndarray (mode, partner)
        Cosine between the partners of modes in two halves of the data; NaN if not asked for.
    stability_null : float
        95th percentile of the mean matched cosine with atoms of shuffled entries.
    gain : ndarray (mode,)
        Share of the energy of all rows that is lost without the mode, the others taking over
        what they can (`mode_gains`).
    gain_null : float
        95th percentile of the same for an atom of shuffled entries added to the modes.
    surplus : ndarray (mode,) of bool
        Modes that the others can replace: their gain is no more than that of such an atom or
        than 0.012 of an equal share of the energy, which is what `DirectPursuit` asks of a mode.
        Whether a mode merely fits noise is a question to its stability between halves.
    """

    r2: Interval
    r2_fitted: float
    l0: float
    alive: int
    dead: int
    row_r2: Array = field(repr=False)
    row_active: npt.NDArray[np.bool_] = field(repr=False)
    seed_cosine: Array = field(repr=False)
    half_cosine: Array = field(repr=False)
    stability_null: float
    gain: Array
    gain_null: float
    surplus: npt.NDArray[np.bool_]

    @property
    def seed_stability(self) -> npt.NDArray[np.float64]:
        """Mean cosine of each mode with its partner in fits from other seeds (mode,)."""
        return np.diagonal(self.seed_cosine).copy()

    @property
    def half_stability(self) -> npt.NDArray[np.float64]:
        """Cosine between each mode's partners in two halves of the data (mode,)."""
        return np.diagonal(self.half_cosine).copy()

    @property
    def stable(self) -> npt.NDArray[np.bool_]:
        """Modes found again, from other seeds and in both halves, with a cosine above 0.9."""
        known = np.stack([self.seed_stability, self.half_stability])
        return np.asarray((np.where(np.isnan(known), 1.0, known) > _STABLE).all(axis=0))

    def __str__(self) -> str:
        low, high = float(self.r2.low), float(self.r2.high)
        lines = [
            f"modes: {self.alive} in use, {self.dead} atoms dead, {self.l0:.2f} active in a row",
            f"R2: {float(self.r2.value):.3f} of rows held out ({low:.3f} to {high:.3f}), "
            f"{self.r2_fitted:.3f} of rows fitted; median "
            f"{_median(self.row_r2[self.row_active]):.3f} of the {self.row_active.mean():.0%} of "
            "rows with a mode",
            f"stability: {_mean(self.seed_stability):.3f} between seeds, "
            f"{_mean(self.half_stability):.3f} between halves of the data, "
            f"{self.stability_null:.3f} for shuffled atoms; {int(self.stable.sum())} modes above "
            f"{_STABLE:g} in both",
            f"surplus: {int(self.surplus.sum())} modes that the others can replace"
            + (f" ({_list(np.flatnonzero(self.surplus))})" if self.surplus.any() else ""),
        ]
        return "\n".join(lines)


def report_modes(
    method: Decomposition,
    rows: Rows,
    found: Dictionary,
    *,
    split: RowSplit | None = None,
    seeds: int = 2,
    halves: bool = True,
) -> ModeReport:
    """Ask of modes what they explain, which are needed, and which are found again.

    Parameters
    ----------
    method : Decomposition
        The method that found them; where it chose their number, it is now given this number.
    rows : Rows
        The rows they were found in.
    found : Dictionary
        The modes, at least one.
    split : RowSplit, optional
        Which rows are held out, and what the halves are; ``TimeBlocks()`` if left out.
    seeds : int, default 2
        Further fits from other seeds; 0 leaves them out.
    halves : bool, default True
        Fit both halves of the data.

    Returns
    -------
    ModeReport
        All of it.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, arXiv 2603.06557, which gives R2 of the rows fitted.
    """
    split = split or TimeBlocks()
    same = fixed_size(method, len(found.atoms))
    other = held_out(same, rows, split=split, seed=found.seed)
    gain, surplus, gain_null = mode_gains(found, rows.x, seed=found.seed)
    unknown = np.full((len(found.atoms),) * 2, np.nan)
    estimate = found.reconstruct()
    null = shuffled_stability(found.atoms, signed=found.signed, seed=found.seed)
    return ModeReport(
        r2=other.r2,
        r2_fitted=explained_variance(rows.x, estimate),
        l0=found.l0,
        alive=int(found.alive.sum()),
        dead=found.dead,
        row_r2=row_r2(rows.x, estimate),
        row_active=(found.loadings != 0).any(axis=1),
        seed_cosine=seed_cosines(same, rows, found, seeds),
        half_cosine=half_cosines(same, rows, found, split=split) if halves else unknown,
        stability_null=float(np.quantile(null, 0.95)),
        gain=gain,
        gain_null=gain_null,
        surplus=surplus,
    )


def mode_gains(
    found: Dictionary, x: Array, *, seed: int = 0, null_atoms: int = _NULL_ATOMS
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], float]:
    """Return what each mode explains beyond the others, and which of them can be done without.

    Parameters
    ----------
    found : Dictionary
        Modes.
    x : ndarray (sample, feature)
        Rows.
    seed : int, default 0
        Seed of the shuffled atoms.
    null_atoms : int, default 20
        Number of shuffled atoms.

    Returns
    -------
    gain : ndarray (mode,)
        Share of the energy of the scaled rows that is lost without the mode.
    surplus : ndarray (mode,) of bool
        Modes that were taken away.
    null : float
        95th percentile of the gain of one more atom, each entry of which is taken from a mode
        drawn at random.

    Notes
    -----
    All modes are coded alike, by a nonnegative lasso whose penalty is 0.02 of the root mean
    square norm of the rows; the gain is the rise of its penalised squared error when the mode is
    taken away and the others of the row take over. Modes are taken away one after the other, the
    least needed first, until each left gains more than the null and than 0.012 of an equal share;
    so one of two modes that are the same stays. The gain of a mode is that among those left, or,
    if it was taken away, at that moment. Modes whose loadings have signs count with both.
    """
    scaled, _ = found.scale.divide(x)
    if found.centre is not None:
        scaled = (scaled - found.centre).astype(np.float32)
    energy = float(np.vdot(scaled.astype(np.float64), scaled))
    gain, left = np.zeros(len(found.atoms)), np.arange(len(found.atoms))
    if not len(left) or energy == 0:
        return gain, np.ones(len(left), dtype=bool), 0.0
    norm = np.linalg.norm(found.atoms, axis=1, keepdims=True)
    atoms = (found.atoms / np.maximum(norm, 1e-12)).astype(np.float32)
    penalty = 0.02 * float(np.sqrt(energy / len(scaled)))

    def gains(kept: Array) -> npt.NDArray[np.float64]:
        both = np.concatenate([kept, -kept]) if found.signed else kept
        cost = atom_costs(scaled, both, penalty=penalty) / energy
        return np.asarray(cost.reshape(-1, len(kept)).sum(axis=0))

    extra = _shuffled(atoms, null_atoms, seed)
    null = float(np.quantile([gains(np.concatenate([atoms, [one]]))[-1] for one in extra], 0.95))
    least = max(null, _WORTH / len(atoms))
    while True:
        gain[left] = gains(atoms[left])
        if gain[left].min() > least or len(left) == 1:
            break
        left = np.delete(left, gain[left].argmin())
    surplus = ~np.isin(np.arange(len(atoms)), left)
    return gain, surplus, null


def _shuffled(atoms: Array, count: int, seed: int) -> npt.NDArray[np.float32]:
    """Return atoms of unit norm, each entry of which is one of that feature's entries."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(atoms), (count, atoms.shape[1]))
    mixed = np.take_along_axis(atoms, drawn, axis=0)
    empty = ~mixed.any(axis=1)
    mixed[empty] = atoms[drawn[empty, 0]]
    unit: npt.NDArray[np.float32] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return unit


def _mean(values: Array) -> float:
    return float(np.mean(values)) if np.isfinite(values).all() and values.size else float("nan")


def _median(values: Array) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")


def _list(numbers: Array, most: int = 12) -> str:
    more = "" if len(numbers) <= most else f" and {len(numbers) - most} more"
    return ", ".join(str(number) for number in numbers[:most]) + more
