"""Atoms learnt in small batches with sparse nonnegative codes, by scikit-learn."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Dictionary, prepare
from retinacodec.errors import InputError
from retinacodec.fitting import check_counts, contained, local_state, unit_atoms
from retinacodec.nonnegative_coding import NonnegativeCoder, nonnegative_dictionary
from retinacodec.scaling import OneScale, Scaling

__all__ = ["DictionaryLearning"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DictionaryLearning:
    """Sparse nonnegative codes on learnt atoms, in small batches.

    Parameters
    ----------
    modes : int
        Number of modes.
    penalty : float, default 0.3
        Weight of the sum of codes, in units of the scaled rows (standard deviation 1).
    refit : bool, default True
        Fit the loadings that are above 0 again without the penalty, which otherwise shrinks
        them.
    epochs : int, default 20
        Passes over the rows.
    batch : int, default 256
        Rows in a step.
    scaling : Scaling, default OneScale()
        What rows are divided by.

    Notes
    -----
    ``min 1/2 |x - z D|^2 + penalty * sum z`` over ``z >= 0`` and atoms of at most unit norm, by
    scikit-learn's ``MiniBatchDictionaryLearning`` from singular vectors; the seed decides the
    batches. Where every feature has a sign, atoms keep it; scikit-learn cannot hold some features
    only, so with any feature free all of them are, which ``held`` in the log says.

    References
    ----------
    .. [1] Mairal et al., JMLR 11, 19 (2010), online learning.

    Examples
    --------
    >>> x = np.repeat([[1.0, -1, 0], [0, 0, 2], [0.5, -0.5, 0]], 20, axis=0)
    >>> found = DictionaryLearning(2).fit(x, progress=False)
    >>> abs(np.round(found.atoms.astype(float), 1)).tolist()
    [[0.7, 0.7, 0.0], [0.0, 0.0, 1.0]]
    """

    modes: int
    penalty: float = 0.3
    refit: bool = True
    epochs: int = 20
    batch: int = 256
    scaling: Scaling = field(default_factory=OneScale)

    def __post_init__(self) -> None:
        check_counts(self, "modes", "epochs", "batch")
        if self.penalty <= 0:
            raise InputError(f"DictionaryLearning: penalty must be above 0, got {self.penalty}")

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
            As in `Decomposition.fit`; the seed is that of the batches and of new atoms.

        Returns
        -------
        Dictionary
            Atoms of unit norm by falling summed loading. Its log holds ``objective`` (mean over
            the rows of what is minimised, at the end) and ``held``.

        Raises
        ------
        InputError
            If the table is not finite, does not vary, or has fewer rows than modes.
        """
        table = prepare(x, signs, scaling=self.scaling, least_rows=max(2, self.modes))
        held = bool((table.signs != 0).all())
        if not held and (table.signs != 0).any():
            _log.warning("DictionaryLearning: some features have no sign, so none is held to one")
        flip = np.where(table.signs < 0, -1, 1).astype(np.float32)
        if progress:
            _log.info("dictionary learning: %d epochs of %d rows", self.epochs, len(table.x))
        atoms = unit_atoms(self._learn(table.x * flip, held, seed).components_) * flip
        coder = NonnegativeCoder(atoms, self.penalty, None, self.refit)
        codes = NonnegativeCoder(atoms, self.penalty)(table.x)
        error = 0.5 * np.sum((table.x - codes @ atoms) ** 2, dtype=np.float64)
        objective = (error + self.penalty * codes.sum(dtype=np.float64)) / len(codes)
        log = {"objective": objective, "held": held}
        noted = {name: np.asarray(value) for name, value in log.items()}
        return nonnegative_dictionary(self, table, coder, seed=seed, tried=self.modes, log=noted)

    def _learn(self, rows: Array, held: bool, seed: int) -> Any:
        """Return the fitted model of scikit-learn."""
        from sklearn.decomposition import MiniBatchDictionaryLearning

        model = MiniBatchDictionaryLearning(
            self.modes,
            alpha=self.penalty,
            max_iter=self.epochs,
            batch_size=min(self.batch, len(rows)),
            fit_algorithm="cd",
            transform_algorithm="lasso_cd",
            positive_code=True,
            positive_dict=held,
            tol=0,
            max_no_improvement=None,
            random_state=local_state(seed),
        )
        with contained():
            return model.fit(rows.astype(np.float64))
