"""Semi-nonnegative matrix factorisation: loadings at least 0, atoms of any sign, few in a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Dictionary, prepare
from retinacodec.fitting import check_counts, local_state, unit_atoms
from retinacodec.nonnegative import solve_nonnegative
from retinacodec.nonnegative_coding import (
    NonnegativeCoder,
    nonnegative_dictionary,
    nonnegative_loadings,
)
from retinacodec.progress import track
from retinacodec.scaling import OneScale, Scaling

__all__ = ["SemiNMF", "multiplied_loadings"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

_OFFSET = 0.2
_TINY = 1e-12
_FLAT = 1e-15  # share of the largest eigenvalue below which one is 0
_CALM = 3


@dataclass(frozen=True)
class SemiNMF:
    """Semi-nonnegative matrix factorisation with few loadings in a row.

    Parameters
    ----------
    modes : int
        Number of modes.
    active : int, optional
        Most modes active in a row: the largest loadings are kept and fitted again. All may be
        active if left out.
    constrained : bool, default False
        Give the atoms the signs of the features.
    starts : int, default 3
        Random starts, of which the one with the smallest error is kept.
    iterations : int, default 300
        Most multiplicative updates from each start.
    sweeps : int, default 50
        Most alternations with few loadings after them, where `active` is given.
    tolerance : float, default 1e-5
        Done when the squared error falls by a smaller share.
    scaling : Scaling, default OneScale()
        What rows are divided by.

    Notes
    -----
    ``min |x - Z D|^2`` over ``Z >= 0``. In turns, atoms are the least squares
    ``D = (Z'Z)^-1 Z'x`` (held to the signs, if ``constrained``, by nonnegative least squares),
    and loadings are multiplied with

    ``Z <- Z * sqrt(((x D')+ + Z (D D')-) / ((x D')- + Z (D D')+))``,

    with ``A+ = (|A| + A) / 2`` and ``A- = (|A| - A) / 2``; the error never rises [1]_. ``Z``
    starts at the clusters of k-means, plus 0.2. Then, where `active` is given, loadings are by
    nonnegative least squares, the largest of each row kept and fitted again, and atoms are least
    squares, in turns; the state with the smallest error is kept.

    Without `active`, the factorisation is not unique: atoms can turn as long as loadings stay at
    least 0. [2]_ makes sparse atoms, of few interneurons each, of the same factorisation; here
    sparse are the loadings, so that a moment has few modes.

    References
    ----------
    .. [1] Ding, Li, Jordan, IEEE PAMI 32, 45 (2010), equations 10 and 11.
    .. [2] Shafran, Geiger, Geva, arXiv 2506.10920 (2025).

    Examples
    --------
    >>> x = np.repeat([[1.0, -1, 0], [0, 0, 2], [3, -3, 0]], 20, axis=0)
    >>> found = SemiNMF(2, active=1).fit(x, progress=False)
    >>> np.round(found.atoms.astype(float), 1).tolist()
    [[0.7, -0.7, 0.0], [0.0, 0.0, 1.0]]
    """

    modes: int
    active: int | None = None
    constrained: bool = False
    starts: int = 3
    iterations: int = 300
    sweeps: int = 50
    tolerance: float = 1e-5
    scaling: Scaling = field(default_factory=OneScale)

    def __post_init__(self) -> None:
        check_counts(self, "modes", "active", "starts", "iterations", "sweeps")

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
            As in `Decomposition.fit`; signs are used if ``constrained``.

        Returns
        -------
        Dictionary
            Atoms of unit norm by falling summed loading. Its log holds the squared error of the
            scaled rows: ``final`` of each start, and of the start kept ``objective`` after each
            multiplicative update and ``sparse_objective`` after each alternation.

        Raises
        ------
        InputError
            If the table is not finite, does not vary, or has fewer rows than modes.
        """
        table = prepare(x, signs, scaling=self.scaling, least_rows=max(2, self.modes))
        held = table.signs if self.constrained else np.zeros_like(table.signs)
        rows = table.x.astype(np.float64)
        starts = track(range(self.starts), "semi-NMF: starts", enabled=progress)
        runs = [self._run(rows, held, local_state(seed, start)) for start in starts]
        atoms, log = min(runs, key=lambda run: float(run[1]["final"]))
        log = log | {"final": np.asarray([run[1]["final"] for run in runs])}
        coder = NonnegativeCoder(unit_atoms(atoms), active=self.active)
        return nonnegative_dictionary(self, table, coder, seed=seed, tried=self.modes, log=log)

    def _run(
        self, x: Float, signs: npt.NDArray[np.int8], state: np.random.RandomState
    ) -> tuple[Float, dict[str, Array]]:
        """Return the atoms of one start and how its error fell."""
        loadings = _clusters(x, self.modes, state)
        atoms = _best_atoms(x, loadings, signs)
        objective = [_error(x, loadings, atoms)]
        for _ in range(self.iterations):
            loadings = multiplied_loadings(x, loadings, atoms)
            atoms = _best_atoms(x, loadings, signs)
            objective.append(_error(x, loadings, atoms))
            if objective[-2] - objective[-1] <= self.tolerance * objective[-2]:
                break
        log = {"objective": np.asarray(objective), "final": np.asarray(objective[-1])}
        if self.active is None or self.active >= self.modes:
            return atoms, log | {"sparse_objective": np.zeros(0)}
        atoms, sparse = self._thin(x, atoms, signs)
        return atoms, log | {"sparse_objective": sparse, "final": sparse.min()}

    def _thin(self, x: Float, atoms: Float, signs: npt.NDArray[np.int8]) -> tuple[Float, Float]:
        """Return the best atoms for few loadings in a row, and the error of each alternation."""
        errors: list[float] = []
        best = atoms
        for _ in range(self.sweeps):
            unit = unit_atoms(atoms)
            loadings = nonnegative_loadings(x, unit, active=self.active).astype(np.float64)
            errors.append(_error(x, loadings, unit.astype(np.float64)))
            if errors[-1] <= min(errors):
                best = atoms
            if len(errors) > _CALM and min(errors[-_CALM:]) >= (1 - self.tolerance) * min(
                errors[:-_CALM]
            ):
                break
            atoms = _best_atoms(x, loadings, signs)
        return best, np.asarray(errors)


def multiplied_loadings(x: Float, loadings: Float, atoms: Float) -> Float:
    """Return loadings after one multiplicative update.

    Parameters
    ----------
    x : ndarray (sample, feature)
        Rows.
    loadings : ndarray (sample, mode)
        Loadings, at least 0.
    atoms : ndarray (mode, feature)
        Atoms, any sign.

    Returns
    -------
    ndarray (sample, mode)
        Loadings at least 0, of no larger squared error.

    Notes
    -----
    Equation 11 of Ding, Li, Jordan (2010).
    """
    moment, overlap = x @ atoms.T, atoms @ atoms.T
    rise = np.maximum(moment, 0) + loadings @ np.maximum(-overlap, 0)
    fall = np.maximum(-moment, 0) + loadings @ np.maximum(overlap, 0)
    return np.asarray(loadings * np.sqrt(rise / np.maximum(fall, _TINY)))


def _clusters(x: Float, modes: int, state: np.random.RandomState) -> Float:
    """Return loadings that say which cluster of k-means a row is in, plus an offset."""
    from sklearn.cluster import KMeans

    labels = KMeans(modes, n_init=1, random_state=state).fit(x).labels_
    return np.asarray(np.eye(modes)[labels] + _OFFSET)


def _best_atoms(x: Float, loadings: Float, signs: npt.NDArray[np.int8]) -> Float:
    """Return the atoms of least squares for given loadings, held to the signs."""
    overlap, moment = loadings.T @ loadings, loadings.T @ x
    atoms = _solved(overlap, moment)
    held = signs != 0
    if held.any():
        flipped = np.ascontiguousarray((moment[:, held] * signs[held]).T)
        free = np.ones((1, len(overlap)), dtype=np.bool_)
        atoms[:, held] = solve_nonnegative(flipped, overlap, free).T * signs[held]
    return atoms


def _solved(overlap: Float, moment: Float) -> Float:
    """Return the shortest solution of the normal equations, without directions that are not."""
    values, vectors = np.linalg.eigh(overlap)
    kept = values > _FLAT * values[-1]
    vectors = vectors[:, kept]
    return np.asarray(vectors @ ((vectors.T @ moment) / values[kept, None]))


def _error(x: Float, loadings: Float, atoms: Float) -> float:
    return float(np.sum((x - loadings @ atoms) ** 2))
