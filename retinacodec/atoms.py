"""What a decomposition returns: atoms, loadings, their scale, and how new rows are coded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError, Problems
from retinacodec.scaling import OneScale, Scale, Scaling

__all__ = ["Coder", "Decomposition", "Dictionary", "Table", "by_use", "checked_rows", "prepare"]

Array = npt.NDArray[Any]


class Coder(Protocol):
    """How the loadings of rows are found."""

    def __call__(self, x: Array) -> Array:
        """Return loadings (sample, mode) of scaled rows (sample, feature)."""
        ...

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and the JSON-able settings that make the coder again."""
        ...


class Decomposition(Protocol):
    """A method that writes rows as sums of few atoms."""

    def fit(
        self,
        x: npt.ArrayLike,
        *,
        signs: npt.ArrayLike | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Dictionary:
        """Return the atoms found in a table, and its loadings on them.

        Parameters
        ----------
        x : array_like (sample, feature)
            Rows, real and finite; in time order for a method that holds rows out by time.
        signs : array_like (feature,) of int, optional
            Sign of each feature in every atom: -1, 1, or 0 for any. If left out, a feature that
            never changes its sign in `x` keeps it, and any other is free.
        seed : int, default 0
            Seed of whatever is random: starts, weights and batches.
        progress : bool, default True
            Show how far the fit has come, or log what is about to be done.

        Returns
        -------
        Dictionary
            Atoms that any row uses, by falling summed size of their loadings. Its log says how
            they were found.

        Raises
        ------
        InputError
            If the table is not finite, does not vary or has too few rows, or the signs do not fit.
        """
        ...


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Atoms found in a table, its loadings on them, and how new rows are coded.

    Attributes
    ----------
    atoms : ndarray (mode, feature)
        Modes as rows, float32, in units of the scale; by falling summed loading.
    loadings : ndarray (sample, mode)
        How much of each mode is in each row, float32; at least 0 but for methods whose
        components have no sign (PCA and ICA).
    scale : Scale
        What rows are divided by before they are coded.
    method : str
        The method that found them, as it would be typed.
    seed : int
        Seed it was found with.
    coder : Coder
        Finds loadings of scaled rows.
    agreement : ndarray (mode,)
        Smallest, over the seeds of a consensus, of the best cosine with an atom found from that
        seed; NaN for a method without a consensus.
    tried : int
        Number of atoms the method had, also those that no row uses.
    log : mapping of str to ndarray
        How it was found, such as the R2 on held-out rows.
    centre : ndarray (feature,), optional
        What a row without any loading is, in units of the scale; 0 for methods that subtract no
        mean.
    reads : Scale, optional
        What inputs are divided by before they are coded, for a method that reads loadings from
        another table than the one its atoms make up.
    """

    atoms: Array
    loadings: Array = field(repr=False)
    scale: Scale
    method: str
    seed: int
    coder: Coder = field(repr=False)
    agreement: Array = field(repr=False)
    tried: int
    log: Mapping[str, Array] = field(default_factory=dict, repr=False)
    centre: Array | None = field(default=None, repr=False)
    reads: Scale | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        rows, modes = self.loadings.shape
        return f"Dictionary({modes} modes of {rows} rows, {self.method}, seed={self.seed})"

    @property
    def alive(self) -> npt.NDArray[np.bool_]:
        """Whether any row uses the mode (mode,)."""
        return np.asarray((self.loadings != 0).any(axis=0))

    @property
    def signed(self) -> bool:
        """Whether loadings have both signs, so that an atom and its negative are the same."""
        return bool((self.loadings < 0).any())

    @property
    def dead(self) -> int:
        """Number of atoms tried that no row uses."""
        return self.tried - int(self.alive.sum())

    @property
    def l0(self) -> float:
        """Mean number of active modes in a row."""
        return float((self.loadings != 0).sum(axis=1).mean())

    def transform(self, x: npt.ArrayLike) -> Array:
        """Return the loadings of rows, with the scale of the rows it was fitted to.

        Parameters
        ----------
        x : array_like (sample, feature)
            Rows in the units of the table it was fitted to; inputs (sample, input feature) if it
            has `reads`.

        Returns
        -------
        ndarray (sample, mode)
            Loadings.

        Raises
        ------
        InputError
            If the rows have another number of features, or are not finite.
        """
        rows = checked_rows(x)
        if self.reads is None and rows.shape[1] != self.atoms.shape[1]:
            raise InputError(
                f"transform: expected {self.atoms.shape[1]} features, got {rows.shape[1]}"
            )
        scaled, weight = (self.reads or self.scale).divide(rows)
        return weight * self.coder(scaled)

    def reconstruct(self, loadings: npt.ArrayLike | None = None) -> Array:
        """Return rows made of the atoms, in the units of the table it was fitted to.

        Parameters
        ----------
        loadings : array_like (sample, mode), optional
            Loadings; those it was fitted with if left out.

        Returns
        -------
        ndarray (sample, feature)
            ``deviation * (loadings @ atoms + centre)``.
        """
        given = self.loadings if loadings is None else np.asarray(loadings, dtype=np.float32)
        if given.ndim != 2 or given.shape[1] != len(self.atoms):
            raise InputError(
                f"reconstruct: expected loadings (sample, {len(self.atoms)}), got {given.shape}"
            )
        rows = given @ self.atoms
        return np.asarray(
            self.scale.deviation * (rows if self.centre is None else rows + self.centre)
        )

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return arrays and JSON-able settings; `load_dictionary` makes them a dictionary again.

        Returns
        -------
        arrays : dict of str to ndarray
            Atoms, loadings, agreement, the log and what the coder needs.
        config : dict
            Scale, method, seed and the settings of the coder.
        """
        coded, settings = self.coder.pack()
        arrays = {"atoms": self.atoms, "loadings": self.loadings, "agreement": self.agreement}
        arrays |= {f"log_{name}": np.asarray(values) for name, values in self.log.items()}
        arrays |= {f"coder_{name}": values for name, values in coded.items()}
        arrays |= {} if self.centre is None else {"centre": self.centre}
        config = {
            "scale": self.scale.pack(),
            "method": self.method,
            "seed": self.seed,
            "tried": self.tried,
            "coder": settings,
        }
        config |= {} if self.reads is None else {"reads": self.reads.pack()}
        return arrays, config


@dataclass(frozen=True, eq=False)
class Table:
    """Rows made ready for a decomposition.

    Attributes
    ----------
    x : ndarray (sample, feature)
        Scaled rows, float32.
    weight : ndarray (sample, 1)
        What loadings of the scaled rows are multiplied with, float32.
    scale : Scale
        What the rows were divided by.
    signs : ndarray (feature,) of int8
        Sign that atoms must have: -1, 1, or 0 for any.
    """

    x: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    scale: Scale
    signs: npt.NDArray[np.int8]


def prepare(
    x: npt.ArrayLike,
    signs: npt.ArrayLike | None,
    *,
    scaling: Scaling | None = None,
    least_rows: int = 2,
) -> Table:
    """Check a table and divide it by its scale.

    Parameters
    ----------
    x : array_like (sample, feature)
        The table.
    signs : array_like (feature,) of int, optional
        Sign of each feature's atoms; if left out, a feature that is never positive gets -1, one
        that is never negative 1, any other 0.
    scaling : Scaling, optional
        How the scale is found; ``OneScale()`` if left out.
    least_rows : int, default 2
        Fewest rows that will do.

    Returns
    -------
    Table
        The rows, their scale and the signs.

    Raises
    ------
    InputError
        If the table is not finite, does not vary or has too few rows, or the signs do not fit.
    """
    rows = checked_rows(x)
    problems = Problems()
    problems.require(
        len(rows) >= least_rows, f"expected at least {least_rows} rows, got {len(rows)}"
    )
    scale = (scaling or OneScale()).of(rows)
    problems.require(scale.deviation > 0, "the values do not vary (standard deviation 0)")
    problems.raise_as("decomposition")
    return Table(*scale.divide(rows), scale, _signs(rows, signs))


def by_use(loadings: Array) -> npt.NDArray[np.intp]:
    """Return the modes that any row uses, by falling summed size of their loadings.

    Parameters
    ----------
    loadings : ndarray (sample, mode)
        Loadings.

    Returns
    -------
    ndarray of int
        Places of the modes; those that are never active are left out.
    """
    total = np.abs(loadings).sum(axis=0, dtype=np.float64)
    order: npt.NDArray[np.intp] = np.argsort(-total, kind="stable")[: int((total > 0).sum())]
    return order


def checked_rows(x: npt.ArrayLike) -> Array:
    """Return a table as an array, or raise `InputError` that says which rows are not finite.

    Half precision becomes single precision, in which a small scale is not rounded to 0.
    """
    rows = np.asarray(x)
    if rows.ndim != 2 or rows.dtype.kind not in "iuf":
        raise InputError(
            "decomposition: expected numbers (sample, feature), real and not complex, got "
            f"{rows.dtype} of shape {rows.shape}"
        )
    rows = rows.astype(np.float32) if rows.dtype == np.float16 else rows
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise InputError(
            f"decomposition: {bad.size} of {len(rows)} rows are NaN or infinite, first row "
            f"{bad[0]}; leave these rows out"
        )
    return rows


def _signs(rows: Array, signs: npt.ArrayLike | None) -> npt.NDArray[np.int8]:
    """Return the signs asked for, or read from the rows."""
    if signs is None:
        return np.asarray((rows >= 0).all(axis=0), np.int8) - np.asarray(
            (rows <= 0).all(axis=0) & ~(rows >= 0).all(axis=0), np.int8
        )
    given = np.asarray(signs)
    if given.shape != (rows.shape[1],) or not np.isin(given, (-1, 0, 1)).all():
        raise InputError(
            f"signs: expected -1, 0 or 1 for each of {rows.shape[1]} features, got "
            f"{np.unique(given)[:5].tolist()} of shape {given.shape}"
        )
    return given.astype(np.int8)
