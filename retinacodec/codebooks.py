"""Codebooks: every row has one mode, the nearest centroid, with or without a gain of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Dictionary, Table, by_use, prepare
from retinacodec.fitting import check_counts, local_state, unit_atoms
from retinacodec.nonnegative import row_products
from retinacodec.progress import track
from retinacodec.scaling import OneScale, Scaling

__all__ = ["CodebookCoder", "KMeans"]

Array = npt.NDArray[Any]

_SILENT = 1e-6


@dataclass(frozen=True, eq=False)
class CodebookCoder:
    """One loading in each row: that of the nearest centroid.

    Attributes
    ----------
    atoms : ndarray (mode, feature)
        Centroids divided by their norm, float32.
    norms : ndarray (mode,)
        Norms of the centroids, in units of the scaled rows; empty where rows have gains.
    silent : bool
        Whether 0 is a centroid too.
    """

    atoms: npt.NDArray[np.float32]
    norms: npt.NDArray[np.float32]
    silent: bool = False

    def __call__(self, x: Array) -> npt.NDArray[np.float32]:
        """Return loadings (sample, mode) of scaled rows."""
        loadings = np.zeros((len(x), len(self.atoms)), dtype=np.float32)
        nearest, reach = self.nearest(x)
        used = np.flatnonzero(nearest >= 0)
        size = self.norms[nearest[used]] if len(self.norms) else np.maximum(reach[used], 0)
        loadings[used, nearest[used]] = size
        return loadings

    def nearest(self, x: Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Return the place of the nearest centroid, -1 for 0, and the row's product with its atom.

        Parameters
        ----------
        x : ndarray (sample, feature)
            Scaled rows.

        Returns
        -------
        nearest : ndarray of int (sample,)
            Places among the atoms.
        reach : ndarray (sample,)
            Product of row and atom; of no meaning for 0.
        """
        reach = row_products(x, self.atoms)
        norms = self.norms.astype(np.float64)
        score = norms * (2 * reach - norms) if len(norms) else reach
        if not score.shape[1]:
            return np.full(len(x), -1), np.zeros(len(x))
        best = score.argmax(axis=1)
        rows = np.arange(len(x))
        nothing = self.silent & (score[rows, best] <= 0)
        return np.where(nothing, -1, best), reach[rows, best]

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and settings that make the coder again."""
        settings = {"kind": "codebook", "silent": self.silent}
        return {"atoms": self.atoms, "norms": self.norms}, settings

    @classmethod
    def unpack(cls, arrays: dict[str, Array], config: dict[str, Any]) -> CodebookCoder:
        """Return the coder that was packed."""
        atoms, norms = (np.asarray(arrays[name], np.float32) for name in ("atoms", "norms"))
        return cls(atoms, norms, bool(config["silent"]))


@dataclass(frozen=True)
class KMeans:
    """A codebook: each row is one of few patterns, or one of few patterns times a gain.

    Parameters
    ----------
    modes : int
        Number of centroids.
    gain : bool, default False
        Give each row a gain of its own: spherical k-means.
    starts : int, default 10
        Random starts, of which the best is kept.
    iterations : int, default 300
        Most iterations from each start.
    scaling : Scaling, default OneScale()
        What rows are divided by.

    Notes
    -----
    Without gain, scikit-learn's k-means: ``min sum |x - c_k(x)|^2``. An atom is a centroid
    divided by its norm, and the norm is the loading of every row of the cluster. A centroid at 0
    stands for silent rows, which then have no loading.

    With gain, directions ``d`` of unit norm: ``max sum |x| (x . d_k(x))``, which is k-means on
    rows of unit norm, weighed with their energy, with centroids put back to unit norm after each
    step [3]_. The loading is the projection ``max(x . d, 0)`` on the direction with the smallest
    angle.

    References
    ----------
    .. [1] Lloyd, IEEE Trans Inf Theory 28, 129 (1982).
    .. [2] Arthur, Vassilvitskii, SODA, 1027 (2007), starts.
    .. [3] Dhillon, Modha, Machine Learning 42, 143 (2001), spherical.

    Examples
    --------
    >>> x = np.repeat([[1.0, 1, 0], [0, 0, 2], [3, 3, 0]], 20, axis=0)
    >>> found = KMeans(2, gain=True).fit(x, progress=False)
    >>> np.round(found.atoms.astype(float), 1).tolist()
    [[0.7, 0.7, 0.0], [0.0, 0.0, 1.0]]
    >>> bool(np.allclose(found.reconstruct(), x, atol=1e-5)), found.l0
    (True, 1.0)
    """

    modes: int
    gain: bool = False
    starts: int = 10
    iterations: int = 300
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
        """Return the centroids of a table.

        Parameters
        ----------
        x, signs, seed, progress
            As in `Decomposition.fit`; signs are checked, but of no effect: means of rows have
            the signs of the rows.

        Returns
        -------
        Dictionary
            Atoms of unit norm by falling summed loading. Its log holds ``objective``, the
            squared distance of all scaled rows from their centroids (with gain, one for each
            start: the sum above).

        Raises
        ------
        InputError
            If the table is not finite, does not vary, or has fewer rows than centroids.
        """
        table = prepare(x, signs, scaling=self.scaling, least_rows=max(2, self.modes))
        if self.gain:
            runs = [
                _spherical(table.x, self.modes, self.iterations, local_state(seed, start))
                for start in track(range(self.starts), "k-means: starts", enabled=progress)
            ]
            scores = np.asarray([score for _, score in runs])
            coder = CodebookCoder(runs[int(scores.argmax())][0], np.zeros(0, np.float32))
        else:
            coder, scores = self._centroids(table.x, seed)
        return _dictionary(self, table, coder, seed, {"objective": scores})

    def _centroids(self, x: Array, seed: int) -> tuple[CodebookCoder, Array]:
        """Return the codebook of plain k-means, and its squared distance."""
        from sklearn.cluster import KMeans as Model

        model = Model(
            self.modes, n_init=self.starts, max_iter=self.iterations, random_state=local_state(seed)
        ).fit(x)
        used, place = np.unique(model.labels_, return_inverse=True)
        total = np.zeros((len(used), x.shape[1]))
        np.add.at(total, place, x.astype(np.float64))
        centroids = total / np.bincount(place)[:, None]
        norms = np.linalg.norm(centroids, axis=1)
        kept = norms > _SILENT
        coder = CodebookCoder(
            unit_atoms(centroids[kept]), norms[kept].astype(np.float32), bool((~kept).any())
        )
        return coder, np.asarray(np.sum((x - centroids[place]) ** 2))


def _spherical(
    x: Array, modes: int, iterations: int, state: np.random.RandomState
) -> tuple[npt.NDArray[np.float32], float]:
    """Return directions of unit norm from one start, and how much of the rows lies along them."""
    from sklearn.cluster import kmeans_plusplus

    size = np.linalg.norm(x, axis=1).astype(np.float64)
    used = size > 0
    rows, energy = x[used].astype(np.float64), size[used] ** 2
    unit = rows / size[used][:, None]
    count = min(modes, len(unit))
    atoms, _ = kmeans_plusplus(unit, count, sample_weight=energy, random_state=state)
    place, score = np.full(len(unit), -1), -np.inf
    for _ in range(iterations):
        cosine = row_products(unit, atoms)
        now = cosine.argmax(axis=1)
        reached = cosine[np.arange(len(unit)), now]
        score = float(energy @ reached)
        if np.array_equal(now, place):
            break
        place = now
        total = np.zeros(atoms.shape)
        np.add.at(total, place, energy[:, None] * unit)
        lonely = np.linalg.norm(total, axis=1) == 0
        furthest = np.argsort(energy * (reached - 1), kind="stable")[: int(lonely.sum())]
        total[lonely] = unit[furthest]
        atoms = total / np.linalg.norm(total, axis=1, keepdims=True)
    return atoms.astype(np.float32), score


def _dictionary(
    method: KMeans, table: Table, coder: CodebookCoder, seed: int, log: dict[str, Array]
) -> Dictionary:
    """Return the dictionary of the centroids that any row has, by falling summed loading."""
    loadings = table.weight * coder(table.x)
    alive = by_use(loadings)
    norms = coder.norms[alive] if len(coder.norms) else coder.norms
    coder = CodebookCoder(np.ascontiguousarray(coder.atoms[alive]), norms, coder.silent)
    return Dictionary(
        atoms=coder.atoms,
        loadings=table.weight * coder(table.x),
        scale=table.scale,
        method=repr(method),
        seed=seed,
        coder=coder,
        agreement=np.full(len(alive), np.nan),
        tried=method.modes,
        log=log,
    )
