"""Principal and independent components about a mean, loadings of any sign, by scikit-learn."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Dictionary, Table, by_use, prepare
from retinacodec.errors import InputError
from retinacodec.fitting import check_counts, local_state
from retinacodec.nonnegative import row_products
from retinacodec.scaling import OneScale, Scaling

__all__ = ["ICA", "PCA", "LinearCoder"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]

_FLAT = 1e-10


@dataclass(frozen=True, eq=False)
class LinearCoder:
    """Loadings as products of rows, less their mean, with one filter for each mode.

    Attributes
    ----------
    filters : ndarray (mode, feature)
        What rows are multiplied with, float64.
    centre : ndarray (feature,)
        What is subtracted from them first, float32.
    """

    filters: npt.NDArray[np.float64]
    centre: npt.NDArray[np.float32]

    def __call__(self, x: Array) -> npt.NDArray[np.float32]:
        """Return loadings (sample, mode) of scaled rows."""
        moved = x.astype(np.float64) - self.centre
        return row_products(moved, self.filters).astype(np.float32)

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and settings that make the coder again."""
        return {"filters": self.filters, "centre": self.centre}, {"kind": "linear"}

    @classmethod
    def unpack(cls, arrays: dict[str, Array], _config: dict[str, Any]) -> LinearCoder:
        """Return the coder that was packed."""
        filters = np.asarray(arrays["filters"], dtype=np.float64)
        return cls(filters, np.asarray(arrays["centre"], dtype=np.float32))


@dataclass(frozen=True)
class PCA:
    """Principal components: orthogonal directions of largest variance about the mean.

    Parameters
    ----------
    modes : int
        Number of components, at most the number of features.
    scaling : Scaling, default OneScale()
        What rows are divided by; it may not weigh rows, since a mean is subtracted.

    Notes
    -----
    ``x = centre + z V``, ``z = (x - centre) V.T``, with the eigenvectors of the covariance as
    rows of ``V``, by scikit-learn. The largest entry of every atom is positive. Atoms and
    loadings have any sign. Directions without variance are not returned.

    References
    ----------
    .. [1] Jolliffe, Cadima, Phil Trans R Soc A 374, 20150202 (2016).

    Examples
    --------
    >>> x = np.outer(np.arange(20.0), [3.0, 4.0]) + 1
    >>> found = PCA(2).fit(x, progress=False)
    >>> np.round(found.atoms.astype(float), 2).tolist(), found.tried
    ([[0.6, 0.8]], 2)
    """

    modes: int
    scaling: Scaling = field(default_factory=OneScale)

    def __post_init__(self) -> None:
        check_counts(self, "modes")

    def fit(
        self,
        x: npt.ArrayLike,
        *,
        signs: npt.ArrayLike | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Dictionary:
        """Return the components of a table.

        Parameters
        ----------
        x, signs, seed, progress
            As in `Decomposition.fit`; signs are checked, but of no effect, and the seed is that
            of the randomised solver that scikit-learn takes for large tables.

        Returns
        -------
        Dictionary
            Atoms of unit norm by falling summed size of their loadings, and the centre. Its log
            holds ``variance`` (mode,), the share of the variance along each.

        Raises
        ------
        InputError
            If there are fewer rows or features than components, rows are weighed, or the table is
            not finite or does not vary.
        """
        table = _centred(self, x, signs)
        if progress:
            _log.info("%r of %d rows", self, len(table.x))
        centre, directions, share = _principal(table, self.modes, seed)
        kept = share > _FLAT
        atoms = _oriented(directions[kept])
        filters = atoms.astype(np.float64)
        return _dictionary(self, table, atoms, LinearCoder(filters, centre), seed, {}, share[kept])


@dataclass(frozen=True)
class ICA:
    """Independent components: directions along which loadings are least Gaussian.

    Parameters
    ----------
    modes : int
        Number of components, at most the number of features.
    iterations : int, default 1000
        Most iterations.
    tolerance : float, default 1e-4
        Done when no direction turns by more, as ``|1 - |cos||``.
    scaling : Scaling, default OneScale()
        What rows are divided by; it may not weigh rows, since a mean is subtracted.

    Notes
    -----
    ``x = centre + z A``: rows are whitened along the first principal components and rotated by
    the symmetric fixed-point iteration of [1]_ with contrast ``log cosh``, by scikit-learn. Atoms
    have unit norm, their largest entry is positive, and loadings have any sign. Only as many
    components are sought as the table has dimensions. ``converged`` in the log, and a warning,
    say whether the iteration came to rest; where it did not, as on Gaussian rows, the atoms mean
    little.

    References
    ----------
    .. [1] Hyvarinen, Oja, Neural Networks 13, 411 (2000), section 6.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> x = generator.laplace(size=(2000, 2)) @ np.array([[1.0, 0], [3.0, 4.0]])
    >>> abs(np.round(ICA(2).fit(x, progress=False).atoms.astype(float), 1)).tolist()
    [[0.6, 0.8], [1.0, 0.0]]
    """

    modes: int
    iterations: int = 1000
    tolerance: float = 1e-4
    scaling: Scaling = field(default_factory=OneScale)

    def __post_init__(self) -> None:
        check_counts(self, "modes", "iterations")

    def fit(
        self,
        x: npt.ArrayLike,
        *,
        signs: npt.ArrayLike | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Dictionary:
        """Return the components of a table.

        Parameters
        ----------
        x, signs, seed, progress
            As in `Decomposition.fit`; signs are checked, but of no effect, and the seed is that
            of the first rotation.

        Returns
        -------
        Dictionary
            Atoms of unit norm by falling summed size of their loadings, and the centre. Its log
            holds ``iterations``, ``converged`` and ``variance`` (mode,), the share of the variance
            of the table that each adds.

        Raises
        ------
        InputError
            If there are fewer rows or features than components, rows are weighed, or the table is
            not finite or does not vary.
        """
        from sklearn.decomposition import FastICA

        table = _centred(self, x, signs)
        if progress:
            _log.info("%r of %d rows", self, len(table.x))
        centre, directions, share = _principal(table, self.modes, seed)
        directions = directions[share > _FLAT]
        inner = row_products(table.x.astype(np.float64) - centre, directions)
        model = FastICA(
            whiten="unit-variance",
            max_iter=self.iterations,
            tol=self.tolerance,
            random_state=local_state(seed),
        ).fit(inner)
        converged = model.n_iter_ < self.iterations
        if not converged:
            _log.warning("ICA did not converge in %d iterations", self.iterations)
        mixing = model.mixing_.T @ directions
        norm = np.linalg.norm(mixing, axis=1, keepdims=True)
        atoms = _oriented(mixing / norm)
        turned = norm * np.sign(np.sum(mixing * atoms, axis=1, keepdims=True))
        coder = LinearCoder((model.components_ @ directions) * turned, centre)
        total = np.sum(table.x.var(axis=0, dtype=np.float64))
        log = {"iterations": np.asarray(model.n_iter_), "converged": np.asarray(converged)}
        return _dictionary(self, table, atoms, coder, seed, log, norm[:, 0] ** 2 / total)


def _centred(method: PCA | ICA, x: npt.ArrayLike, signs: npt.ArrayLike | None) -> Table:
    """Return the table, or raise `InputError` where a mean does not go with it."""
    table = prepare(x, signs, scaling=method.scaling, least_rows=max(2, method.modes))
    name, features = type(method).__name__, table.x.shape[1]
    if table.scale.power != 0:
        raise InputError(
            f"{name}: a mean is subtracted, which rows of different weight do not share; use "
            f"scaling=OneScale() instead of {method.scaling!r}"
        )
    if method.modes > features:
        raise InputError(
            f"{name}: expected at most {features} modes, one for each feature, got {method.modes}"
        )
    return table


def _principal(table: Table, modes: int, seed: int) -> tuple[npt.NDArray[np.float32], Array, Array]:
    """Return the mean, the first principal directions and their shares of the variance."""
    from sklearn import decomposition

    model = decomposition.PCA(modes, random_state=local_state(seed)).fit(table.x.astype(np.float64))
    share = model.explained_variance_ratio_
    return model.mean_.astype(np.float32), model.components_, share


def _oriented(atoms: Array) -> npt.NDArray[np.float32]:
    """Return atoms turned so that the largest entry of each is positive."""
    largest = np.take_along_axis(atoms, np.abs(atoms).argmax(axis=1)[:, None], axis=1)
    return np.asarray(atoms * np.where(largest < 0, -1, 1), dtype=np.float32)


def _dictionary(
    method: PCA | ICA,
    table: Table,
    atoms: npt.NDArray[np.float32],
    coder: LinearCoder,
    seed: int,
    log: dict[str, Array],
    share: Array,
) -> Dictionary:
    """Return the dictionary, ordered by use."""
    order = by_use(coder(table.x))
    coder = LinearCoder(np.ascontiguousarray(coder.filters[order]), coder.centre)
    return Dictionary(
        atoms=atoms[order],
        loadings=coder(table.x),
        scale=table.scale,
        method=repr(method),
        seed=seed,
        coder=coder,
        agreement=np.full(len(order), np.nan),
        tried=method.modes,
        log=log | {"variance": share[order]},
        centre=coder.centre,
    )
