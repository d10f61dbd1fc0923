"""Loadings of rows on given atoms by nonnegative least squares, all or only the largest."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Dictionary, Table, by_use
from retinacodec.nonnegative import row_products, solve_nonnegative

__all__ = ["NonnegativeCoder", "nonnegative_dictionary", "nonnegative_loadings"]

Array = npt.NDArray[Any]

_CHUNK_VALUES = 2**23
_SETTLE = 5


@dataclass(frozen=True, eq=False)
class NonnegativeCoder:
    """Loadings by nonnegative least squares, few of them where that is asked for.

    Attributes
    ----------
    atoms : ndarray (mode, feature)
        Atoms of unit norm, float32.
    penalty : float
        Weight of the sum of loadings, in units of the scaled rows.
    active : int or None
        Most modes active in a row.
    refit : bool
        Fit the loadings above 0 again without the penalty.
    """

    atoms: npt.NDArray[np.float32]
    penalty: float = 0.0
    active: int | None = None
    refit: bool = False

    def __call__(self, x: Array) -> npt.NDArray[np.float32]:
        """Return loadings (sample, mode) of scaled rows."""
        return nonnegative_loadings(
            x, self.atoms, penalty=self.penalty, active=self.active, refit=self.refit
        )

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and settings that make the coder again."""
        settings = {"penalty": self.penalty, "active": self.active, "refit": self.refit}
        return {"atoms": self.atoms}, {"kind": "nonnegative", **settings}

    @classmethod
    def unpack(cls, arrays: dict[str, Array], config: dict[str, Any]) -> NonnegativeCoder:
        """Return the coder that was packed."""
        atoms = np.asarray(arrays["atoms"], dtype=np.float32)
        return cls(atoms, config["penalty"], config["active"], config["refit"])


def nonnegative_loadings(
    x: Array,
    atoms: Array,
    *,
    penalty: float = 0.0,
    active: int | None = None,
    refit: bool = False,
) -> npt.NDArray[np.float32]:
    """Return the nonnegative loadings of rows on atoms.

    Parameters
    ----------
    x : ndarray (sample, feature)
        Rows.
    atoms : ndarray (mode, feature)
        Atoms.
    penalty : float, default 0
        Weight of the sum of loadings, in units of `x`.
    active : int, optional
        Most loadings above 0 in a row: the largest are kept and fitted again.
    refit : bool, default False
        Fit the loadings above 0 again without the penalty.

    Returns
    -------
    ndarray (sample, mode)
        Loadings, float32.

    Notes
    -----
    ``min 1/2 |x - z D|^2 + penalty * sum z`` over ``z >= 0``, solved in float64 by active sets
    from where a few passes of coordinate descent end. No row depends on those beside it.

    References
    ----------
    .. [1] Lawson, Hanson, Solving Least Squares Problems (1974), chapter 23.
    .. [2] Bro, de Jong, J Chemometrics 11, 393 (1997), the same from overlaps alone.

    Examples
    --------
    >>> nonnegative_loadings(np.array([[3.0, -1.0], [1.0, 2.0]]), np.eye(2)).tolist()
    [[3.0, 0.0], [1.0, 2.0]]
    """
    given = np.asarray(atoms, dtype=np.float64)
    gram = row_products(given, given)
    free = np.ones((1, len(given)), dtype=np.bool_)
    loadings = np.empty((len(x), len(given)), dtype=np.float32)
    step = max(1, _CHUNK_VALUES // max(1, len(given)))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        correlation = row_products(x[rows], given)
        solved = solve_nonnegative(correlation, gram, free, penalty)
        support = solved > 0
        if active is not None:
            support = _largest(solved, active)
        if (active is not None and active < len(given)) or (refit and penalty):
            solved = solve_nonnegative(correlation, gram, support, 0.0 if refit else penalty)
        loadings[rows] = solved
    return loadings


def nonnegative_dictionary(
    method: Any,
    table: Table,
    coder: NonnegativeCoder,
    *,
    seed: int,
    tried: int,
    log: dict[str, Array],
) -> Dictionary:
    """Return the dictionary of atoms that any row uses, by falling summed loading.

    Parameters
    ----------
    method : object
        The method, whose repr is kept.
    table : Table
        The rows.
    coder : NonnegativeCoder
        All atoms, of unit norm or 0, and how they are used.
    seed : int
        Seed of the fit.
    tried : int
        Number of atoms tried.
    log : dict of str to ndarray
        How they were found.

    Returns
    -------
    Dictionary
        Its coder has the alive atoms only, and its loadings are those of the coder.
    """
    loadings = table.weight * coder(table.x)
    for _ in range(_SETTLE):
        alive = by_use(loadings)
        if np.array_equal(alive, np.arange(len(coder.atoms))):
            break
        coder = dataclasses.replace(coder, atoms=np.ascontiguousarray(coder.atoms[alive]))
        loadings = table.weight * coder(table.x)
    return Dictionary(
        atoms=coder.atoms,
        loadings=loadings,
        scale=table.scale,
        method=repr(method),
        seed=seed,
        coder=coder,
        agreement=np.full(len(coder.atoms), np.nan),
        tried=tried,
        log=log,
    )


def _largest(loadings: Array, active: int) -> npt.NDArray[np.bool_]:
    """Return where the largest loadings of each row are, as far as they are above 0."""
    order = np.argsort(-loadings, axis=1, kind="stable")[:, :active]
    kept = np.zeros(loadings.shape, dtype=np.bool_)
    kept[np.arange(len(kept))[:, None], order] = True
    return kept & (loadings > 0)
