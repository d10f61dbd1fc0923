"""Direct nonnegative pursuit: few sign-constrained atoms that several seeds agree on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atom_search import lasso_loss, polish, prune, repair, search_atoms
from retinacodec.atoms import Dictionary, Table, prepare
from retinacodec.coding import strict_loadings
from retinacodec.fitting import count_problems
from retinacodec.metrics import explained_variance
from retinacodec.progress import track
from retinacodec.row_splits import RowSplit, TimeBlocks
from retinacodec.scaling import OneScale, Scaling

__all__ = ["DirectPursuit", "PursuitCoder"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]

_SAME = 0.97
_ENOUGH = 0.002
_LEFT = 0.1
_DOUBT = 10
_LEAST_ROWS = 2000
_ROWS_PER_MODE = 20


@dataclass(frozen=True, eq=False)
class PursuitCoder:
    """Loadings that are 0 or at least a floor, by lasso, refit and dropping.

    Attributes
    ----------
    atoms : ndarray (mode, feature)
        Atoms of unit norm, float32.
    floor : float
        Smallest loading of a scaled row.
    active : int or None
        Most modes active in a row.
    """

    atoms: npt.NDArray[np.float32]
    floor: float
    active: int | None

    def __call__(self, x: Array) -> Array:
        """Return loadings (sample, mode) of scaled rows."""
        return strict_loadings(x, self.atoms, floor=self.floor, active=self.active)

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and settings that make the coder again."""
        settings = {"kind": "pursuit", "floor": self.floor, "active": self.active}
        return {"atoms": self.atoms}, settings

    @classmethod
    def unpack(cls, arrays: dict[str, Array], config: dict[str, Any]) -> PursuitCoder:
        """Return the coder that was packed."""
        return cls(arrays["atoms"].astype(np.float32), config["floor"], config["active"])


@dataclass(frozen=True)
class DirectPursuit:
    """Write rows as sparse nonnegative sums of sign-constrained atoms, directly.

    Parameters
    ----------
    modes : int, optional
        Number of modes; chosen on held-out rows if left out.
    gain : float, default 0.08
        A mode is active in a row where its loading is at least this share of the root mean
        square norm of the scaled rows, so that it explains ``gain**2`` of their energy. As it
        grows, rows get fewer modes, and modes are found again more surely.
    active : int, optional
        Most modes active in a row.
    sweeps : int, default 60
        Most alternations between loadings and atoms from each seed.
    consensus_seeds : int, default 3
        Number of random starts whose atoms are pooled.
    agreement : float, default 0.9
        Cosine above which an atom counts as found from another start.
    worth : float, default 0.012
        Where the number is chosen, a mode must explain, beyond what the others can, this
        multiple of an equal share of the energy; ten times as much if it was not found in both
        halves of the rows.
    scaling : Scaling, default OneScale()
        What rows are divided by; ``BalancedRows()`` keeps few huge rows from deciding alone.
    split : RowSplit, default TimeBlocks()
        Which rows are held out where the number is chosen; ``RandomRows()`` for images.

    Notes
    -----
    From each seed, atoms start at rows that lie far apart; loadings by nonnegative lasso
    alternate with block updates of the atoms, and atoms that the others can replace are
    exchanged for directions of the residual. The atoms of all seeds are pooled, and those that
    cost least to lose are taken away until the number is reached; the seed with the smallest
    penalised error is kept if this is no better. Atoms and loadings are then fitted without the
    penalty.

    The number of modes, if not given: sizes 2, 3, 4, 6, 8, 12, ... are tried on the rows
    to fit. A gain of R2 on the rows held out counts if it is more than 0.002 and more than a
    tenth of what was left. When two sizes in a row bring none, the smallest size within that
    of the best is searched from every seed, the seeds seeing the one and the other half of the rows
    in turn, and of the pooled atoms those stay that are worth it.

    References
    ----------
    .. [1] Mairal et al., JMLR 11, 19 (2010), alternation of sparse codes and block updates.
    .. [2] Cichocki, Phan, IEICE Trans E92-A, 708 (2009), hierarchical alternating least squares.

    Examples
    --------
    >>> x = np.repeat([[1.0, 1, 0], [0, 0, 2], [1, 1, 2]], 20, axis=0)
    >>> found = DirectPursuit(modes=2).fit(x, progress=False)
    >>> np.round(found.atoms.astype(float), 1).tolist()
    [[0.0, 0.0, 1.0], [0.7, 0.7, 0.0]]
    >>> bool(np.allclose(found.reconstruct(), x, atol=0.01))
    True
    """

    modes: int | None = None
    gain: float = 0.08
    active: int | None = None
    sweeps: int = 60
    consensus_seeds: int = 3
    agreement: float = 0.9
    worth: float = 0.012
    scaling: Scaling = field(default_factory=OneScale)
    split: RowSplit = field(default_factory=TimeBlocks)

    def __post_init__(self) -> None:
        problems = count_problems(self, "modes", "active", "sweeps", "consensus_seeds")
        problems.require(0 < self.gain < 1, f"gain must lie between 0 and 1, got {self.gain}")
        problems.require(self.worth >= 0, f"worth must be at least 0, got {self.worth}")
        problems.raise_as("DirectPursuit")

    def fit(
        self,
        x: npt.ArrayLike,
        *,
        signs: npt.ArrayLike | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Dictionary:
        """Return the modes of a table.

        Parameters
        ----------
        x, signs, seed, progress
            As in `Decomposition.fit`, rows in time order.

        Returns
        -------
        Dictionary
            Atoms of unit norm (in units of the scale) by falling summed loading. Its log holds
            ``tried_modes`` and ``tried_r2`` where the number was chosen.

        Raises
        ------
        InputError
            If the table is not finite, does not vary, or has fewer rows than modes.
        """
        table = prepare(x, signs, scaling=self.scaling, least_rows=max(2, self.modes or 20))
        work = _Work.of(table, self)
        log: dict[str, Array] = {}
        if self.modes is None:
            log = work.try_sizes(seed, progress)
        size = self.modes or int(log["chosen"])
        starts = track(
            range(self.consensus_seeds), "modes: search from random starts", enabled=progress
        )
        parts = work.parts()
        runs = [
            work.search(size, [seed, start], rows=parts[start % len(parts)]) for start in starts
        ]
        atoms = work.settle(runs, size)
        coder = PursuitCoder(atoms * work.flip, work.floor, self.active)
        return Dictionary(
            atoms=coder.atoms,
            loadings=table.weight * coder(table.x),
            scale=table.scale,
            method=repr(self),
            seed=seed,
            coder=coder,
            agreement=_cosines(atoms, runs).min(axis=0),
            tried=len(atoms),
            log=log,
        )


@dataclass(frozen=True, eq=False)
class _Work:
    """Scaled rows, flipped so that constrained features are at least 0, and their settings."""

    method: DirectPursuit
    x: npt.NDArray[np.float32]
    flip: npt.NDArray[np.float32]
    positive: npt.NDArray[np.bool_]
    floor: float

    @classmethod
    def of(cls, table: Table, method: DirectPursuit) -> _Work:
        flip = np.where(table.signs < 0, -1, 1).astype(np.float32)
        x = table.x * flip
        return cls(method, x, flip, table.signs != 0, method.gain * _size(x))

    @property
    def options(self) -> dict[str, Any]:
        return {"positive": self.positive, "penalty": self.floor / 2}

    def search(
        self, modes: int, seed: list[int], *, rows: Array | None = None, share: int = 1
    ) -> Array:
        """Return the atoms of one start, on a random part of many rows."""
        generator = np.random.default_rng([*seed, modes])
        x = self._part(self.x if rows is None else self.x[rows], modes, generator)
        sweeps = max(10, self.method.sweeps // share)
        return search_atoms(x, modes, sweeps=sweeps, generator=generator, **self.options)

    def _part(self, x: Array, modes: int, generator: np.random.Generator) -> Array:
        """Return the rows that an atom can explain, or as many of them as the search needs."""
        told = x[np.linalg.norm(x, axis=1) > self.floor / 2]
        x = told if len(told) >= modes else x
        most = max(_LEAST_ROWS, _ROWS_PER_MODE * modes)
        if len(x) <= most:
            return x
        return x[np.sort(generator.choice(len(x), most, replace=False))]

    def parts(self) -> list[Array | None]:
        """Return the rows each start sees: all, or halves in turn where the number is chosen."""
        if self.method.modes is not None or self.method.consensus_seeds == 1:
            return [None]
        return list(self.method.split.halves(len(self.x)))

    def settle(self, runs: list[Array], size: int) -> Array:
        """Pool the atoms of all starts, keep those that matter, fit them, order them by loading."""
        pool, penalty = _distinct(runs), self.options["penalty"]
        part = self._part(self.x, size, np.random.default_rng(size))
        if self.method.modes is not None:
            pruned = prune(part, pool, modes=size, **self.options)
            atoms = min([pruned, *runs], key=lambda one: lasso_loss(part, one, penalty=penalty))
        else:
            agreed = self._agreed(_cosines(pool, runs))
            if not agreed.any():
                _log.warning(
                    "no atom was found in both halves of the rows; the modes are not reliable"
                )
            worth = self.method.worth * np.where(agreed, 1, _DOUBT)
            atoms = prune(part, pool, worth=worth, **self.options)
        atoms = repair(self.x, atoms, generator=np.random.default_rng(size), **self.options)
        limits: dict[str, Any] = {"floor": self.floor, "active": self.method.active}
        atoms = polish(self.x, atoms, positive=self.positive, **limits)
        total = strict_loadings(self.x, atoms, **limits).sum(axis=0, dtype=np.float64)
        return atoms[np.argsort(-total, kind="stable")]

    def _agreed(self, cosines: Array) -> npt.NDArray[np.bool_]:
        """Return which atoms were found in every half of the rows that starts have seen."""
        halves = [cosines[part::2].max(axis=0) for part in range(min(2, len(cosines)))]
        return np.asarray(np.min(halves, axis=0) > self.method.agreement)

    def try_sizes(self, seed: int, progress: bool) -> dict[str, Array]:
        """Return the sizes tried, R2 on held-out blocks, and the size chosen."""
        fitted, held = self.method.split.split(len(self.x))
        tried: list[int] = []
        scores: list[float] = []
        least = min(len(fitted), 4 * self.x.shape[1])
        for size in track(_sizes(least), "modes: try sizes", enabled=progress):
            atoms = self.search(size, [seed], rows=fitted, share=3)
            codes = strict_loadings(
                self.x[held], atoms, floor=self.floor, active=self.method.active
            )
            scores.append(explained_variance(self.x[held], codes @ atoms))
            tried.append(size)
            if len(scores) > 3 and max(scores[-2:]) <= max(scores[:-2]) + _step(max(scores[:-2])):
                break
        enough = np.flatnonzero(np.asarray(scores) >= max(scores) - _step(max(scores)))[0]
        return {
            "tried_modes": np.asarray(tried),
            "tried_r2": np.asarray(scores),
            "chosen": np.asarray(tried[enough]),
        }


def _size(x: Array) -> float:
    """Return the root mean square norm of the rows."""
    return float(np.sqrt(np.mean(np.sum(x.astype(np.float64) ** 2, axis=1))))


def _step(r2: float) -> float:
    """Return the gain of R2 that is worth a larger dictionary."""
    return max(_ENOUGH, _LEFT * (1 - r2))


def _sizes(most: int) -> Iterator[int]:
    """Yield 2, 3, 4, 6, 8, 12, ... up to the most."""
    size = 2
    while size <= max(2, most):
        yield size
        if size * 3 // 2 <= most:
            yield size * 3 // 2
        size *= 2


def _distinct(runs: list[Array]) -> Array:
    """Return the atoms of the first start and those of the others that it does not have."""
    pool = runs[0]
    for atoms in runs[1:]:
        new = (atoms @ pool.T).max(axis=1) < _SAME
        pool = np.concatenate([pool, atoms[new]])
    return pool


def _cosines(atoms: Array, runs: list[Array]) -> npt.NDArray[np.float64]:
    """Return the best cosine of each atom with an atom of each start (start, mode)."""
    return np.stack([(atoms @ run.T).max(axis=1) for run in runs]).astype(np.float64)
