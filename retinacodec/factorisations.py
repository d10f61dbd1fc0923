"""Nonnegative matrix factorisation of rows whose features each have one sign, by scikit-learn."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Dictionary, Table, prepare
from retinacodec.errors import InputError
from retinacodec.fitting import check_counts, local_state, unit_atoms
from retinacodec.nonnegative_coding import NonnegativeCoder, nonnegative_dictionary
from retinacodec.progress import track
from retinacodec.scaling import OneScale, Scaling

__all__ = ["NMF"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class NMF:
    """Nonnegative matrix factorisation, for features that each have one sign.

    Parameters
    ----------
    modes : int
        Number of modes.
    starts : int, default 3
        Random starts, of which the one with the smallest error is kept.
    iterations : int, default 1000
        Most iterations from each start.
    tolerance : float, default 1e-4
        A start is done when the projected gradient has fallen to this share of its first value.
    scaling : Scaling, default OneScale()
        What rows are divided by.

    Notes
    -----
    ``min |s x - Z D|^2`` over ``Z >= 0``, ``D >= 0``, by scikit-learn's coordinate descent; ``s``
    is the sign of each feature, given back to the atoms. Rows are coded by nonnegative least
    squares on the atoms, each by itself; this is what scikit-learn's ``transform`` converges to.

    References
    ----------
    .. [1] Lee, Seung, Nature 401, 788 (1999).
    .. [2] Lee, Seung, NeurIPS 13, 556 (2001), algorithms.
    .. [3] Cichocki, Phan, IEICE Trans E92-A, 708 (2009), the solver.

    Examples
    --------
    >>> x = np.repeat([[1.0, -1, 0], [0, 0, 2], [1, -1, 2]], 20, axis=0)
    >>> found = NMF(2).fit(x, progress=False)
    >>> abs(np.round(found.atoms.astype(float), 1)).tolist()
    [[0.0, 0.0, 1.0], [0.7, 0.7, 0.0]]
    """

    modes: int
    starts: int = 3
    iterations: int = 1000
    tolerance: float = 1e-4
    scaling: Scaling = field(default_factory=OneScale)

    def __post_init__(self) -> None:
        check_counts(self, "modes", "starts", "iterations")

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
            As in `Decomposition.fit`; no feature may have values of both signs, and a sign
            that is 0 is read from the rows.

        Returns
        -------
        Dictionary
            Atoms of unit norm by falling summed loading. Its log holds, for each start,
            ``objective`` (squared error of the scaled rows), ``iterations`` and ``converged``.

        Raises
        ------
        InputError
            If a feature has values of both signs or against its sign, or the table is not finite,
            does not vary, or has fewer rows than modes.
        """
        from sklearn import decomposition

        table = prepare(x, signs, scaling=self.scaling, least_rows=max(2, self.modes))
        flip = _flips(table)
        rows = table.x * flip
        log: dict[str, list[Any]] = {"objective": [], "iterations": [], "converged": []}
        best, atoms = np.inf, np.zeros((0, rows.shape[1]))
        for start in track(range(self.starts), "NMF: random starts", enabled=progress):
            model = decomposition.NMF(
                self.modes,
                init="random",
                tol=self.tolerance,
                max_iter=self.iterations,
                random_state=local_state(seed, start),
            ).fit(rows)
            values = (model.reconstruction_err_**2, model.n_iter_, model.n_iter_ < self.iterations)
            for name, value in zip(log, values, strict=True):
                log[name].append(value)
            if values[0] < best:
                best, atoms = values[0], model.components_
        if not all(log["converged"]):
            _log.warning("NMF: %d of %d starts did not converge", _left(log), self.starts)
        coder = NonnegativeCoder(unit_atoms(atoms) * flip)
        noted = {name: np.asarray(values) for name, values in log.items()}
        return nonnegative_dictionary(self, table, coder, seed=seed, tried=self.modes, log=noted)


def _flips(table: Table) -> npt.NDArray[np.float32]:
    """Return the one sign of every feature, or raise `InputError` that names those with two."""
    rises, falls = (table.x > 0).any(axis=0), (table.x < 0).any(axis=0)
    both = (rises & falls) | (rises & (table.signs < 0)) | (falls & (table.signs > 0))
    if both.any():
        named = ", ".join(map(str, np.flatnonzero(both)[:5]))
        raise InputError(
            f"NMF: {both.sum()} of {len(both)} features have values of both signs or against "
            f"their sign (columns {named}{', ...' if both.sum() > 5 else ''}); use SemiNMF, or "
            "split positive from negative values into two features"
        )
    return np.where(falls | (table.signs < 0), -1, 1).astype(np.float32)


def _left(log: dict[str, list[Any]]) -> int:
    """Return how many starts did not converge."""
    return len(log["converged"]) - sum(map(bool, log["converged"]))
