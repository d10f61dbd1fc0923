"""What each pass over a streamed table sums up, stretch by stretch, and how that is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.atom_search import update_atoms
from retinacodec.atoms import Coder
from retinacodec.bootstrap import Interval, draw_blocks, percentiles
from retinacodec.column_statistics import ColumnStatistics
from retinacodec.scaling import Scale

__all__ = ["ScaledTally", "ScanTally", "ScoreTally", "SweepTally", "Tally"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
_ATOM_PASSES = 4


class Tally(Protocol):
    """Sums over a table that are taken a stretch at a time, in order."""

    def take(self, first: int, x: Array) -> None:
        """Add rows (row, feature), of which the first has this number."""
        ...

    def pack(self) -> dict[str, Array]:
        """Return what has been summed up."""
        ...

    def restore(self, packed: Mapping[str, Array]) -> None:
        """Go on from what was packed."""
        ...


@dataclass
class ScanTally:
    """Columns of rows fitted and of the others, rows that are not finite, and a digest.

    Parameters
    ----------
    fitted : ndarray (row,) of bool
        Rows that atoms are fitted to.
    features : int
        Number of columns.

    Notes
    -----
    The digest is ``d_k = blake2b(d_{k-1} + bytes of stretch k)``, so that it can be interrupted.
    """

    fitted: Mask
    features: int
    bad: int = 0
    first_bad: int = -1
    digest: bytes = b""
    parts: list[ColumnStatistics] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parts = [ColumnStatistics.empty(self.features)] * 2

    def take(self, first: int, x: Array) -> None:
        """Add rows; those that are not finite are counted and left out."""
        self.digest = hashlib.blake2b(self.digest + np.ascontiguousarray(x).tobytes()).digest()
        sound = np.isfinite(x).all(axis=1)
        if not sound.all():
            self.first_bad = self.first_bad if self.bad else first + int(np.argmin(sound))
            self.bad += int((~sound).sum())
        fitted = self.fitted[first : first + len(x)]
        for place, chosen in enumerate((fitted & sound, ~fitted & sound)):
            part = ColumnStatistics.of(_take(x, chosen))
            self.parts[place] = self.parts[place].merge(part)

    def pack(self) -> dict[str, Array]:
        """Return what has been summed up."""
        return {
            "columns": np.stack([part.pack() for part in self.parts]),
            "bad": np.asarray([self.bad, self.first_bad]),
            "digest": np.frombuffer(self.digest, np.uint8),
        }

    def restore(self, packed: Mapping[str, Array]) -> None:
        """Go on from what was packed."""
        self.parts = [ColumnStatistics.unpack(part) for part in packed["columns"]]
        self.bad, self.first_bad = map(int, packed["bad"])
        self.digest = packed["digest"].tobytes()


@dataclass
class ScaledTally:
    """Columns of the rows fitted, after each was divided by its weight.

    Parameters
    ----------
    fitted : ndarray (row,) of bool
        Rows that count.
    scale : Scale
        What rows are divided by.
    statistics : ColumnStatistics
        Those of the rows so far.
    """

    fitted: Mask
    scale: Scale
    statistics: ColumnStatistics

    def take(self, first: int, x: Array) -> None:
        """Add rows."""
        chosen = _take(x, self.fitted[first : first + len(x)])
        part = ColumnStatistics.of(self.scale.divide(chosen)[0])
        self.statistics = self.statistics.merge(part)

    def pack(self) -> dict[str, Array]:
        """Return what has been summed up."""
        return {"columns": self.statistics.pack()}

    def restore(self, packed: Mapping[str, Array]) -> None:
        """Go on from what was packed."""
        self.statistics = ColumnStatistics.unpack(packed["columns"])


@dataclass
class SweepTally:
    """How loadings overlap with each other and with the rows fitted, for an update of the atoms.

    Parameters
    ----------
    fitted : ndarray (row,) of bool
        Rows that count.
    scale : Scale
        What rows are divided by.
    coder : Coder
        Finds loadings of scaled rows.
    atoms : ndarray (mode, feature)
        The atoms it codes with.
    """

    fitted: Mask
    scale: Scale
    coder: Coder
    atoms: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        modes, features = self.atoms.shape
        self.overlap, self.moment = np.zeros((modes, modes)), np.zeros((modes, features))
        self.total, self.energy = np.zeros(modes), np.zeros(1)

    def take(self, first: int, x: Array) -> None:
        """Add rows: products in float32, sums over stretches in float64."""
        chosen = _take(x, self.fitted[first : first + len(x)])
        if not len(chosen):
            return
        scaled, weight = self.scale.divide(chosen)
        loadings = self.coder(scaled)
        self.overlap += loadings.T @ loadings
        self.moment += loadings.T @ scaled
        self.total += (weight * loadings).sum(axis=0, dtype=np.float64)
        self.energy += np.einsum("ij,ij->", scaled, scaled, dtype=np.float64)

    @property
    def explained(self) -> float:
        """Share of the energy of the scaled rows that the atoms explain."""
        atoms = self.atoms.astype(np.float64)
        gain = 2 * np.vdot(self.moment, atoms) - np.vdot(self.overlap, atoms @ atoms.T)
        return float(gain / self.energy[0])

    def updated(self, signs: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
        """Return atoms that fit these loadings better, with the signs that they must have."""
        flip = np.where(signs < 0, -1, 1).astype(np.float32)
        atoms = np.ascontiguousarray(self.atoms * flip)
        overlap, moment = self.overlap.astype(np.float32), (self.moment * flip).astype(np.float32)
        update_atoms(atoms, overlap, moment, signs != 0, _ATOM_PASSES)
        return np.asarray(atoms * flip, np.float32)

    def pack(self) -> dict[str, Array]:
        """Return what has been summed up."""
        return {name: getattr(self, name) for name in ("overlap", "moment", "total", "energy")}

    def restore(self, packed: Mapping[str, Array]) -> None:
        """Go on from what was packed."""
        for name in ("overlap", "moment", "total", "energy"):
            setattr(self, name, packed[name])


@dataclass
class ScoreTally:
    """Loadings of all rows, handed on as they are found, and what they explain.

    Parameters
    ----------
    fitted : ndarray (row,) of bool
        Rows that atoms were fitted to.
    held : ndarray (row,) of int32
        Number of the block of held-out rows that a row belongs to, -1 for any other.
    scale : Scale
        What rows are divided by.
    coder : Coder
        Finds loadings of scaled rows.
    atoms : ndarray (mode, feature)
        The atoms.
    write : callable
        Takes the first row's number, loadings (row, mode) and R2 (row,).
    """

    fitted: Mask
    held: npt.NDArray[np.int32]
    scale: Scale
    coder: Coder
    atoms: npt.NDArray[np.float32]
    write: Callable[[int, Array, Array], None]

    def __post_init__(self) -> None:
        blocks = int(self.held.max(initial=-1)) + 1
        self.blocks, self.parts = np.zeros((4, blocks)), np.zeros(4)
        self.total, self.active = np.zeros(len(self.atoms)), np.zeros(1)

    def take(self, first: int, x: Array) -> None:
        """Add rows, and hand their loadings on."""
        scaled, weight = self.scale.divide(x)
        loadings = weight * self.coder(scaled)
        rows = x.astype(np.float64)
        energy, sums = np.einsum("ij,ij->i", rows, rows), rows.sum(axis=1)
        rows -= self.scale.deviation * (loadings @ self.atoms)
        left = np.einsum("ij,ij->i", rows, rows)
        terms = np.stack([left, energy, sums, np.full(len(x), float(x.shape[1]))])
        self.parts += terms[:, self.fitted[first : first + len(x)]].sum(axis=1)
        place = self.held[first : first + len(x)]
        if (place >= 0).any():
            start, of_held = place[place >= 0].min(), place >= 0
            for sums_of, term in zip(self.blocks, terms[:, of_held], strict=True):
                found = np.bincount(place[of_held] - start, weights=term)
                sums_of[start : start + len(found)] += found
        self.total += loadings.sum(axis=0, dtype=np.float64)
        self.active += float((loadings > 0).sum())
        self.write(first, loadings, 1 - np.divide(left, energy, where=energy > 0, out=_nans(x)))

    @property
    def r2_fitted(self) -> float:
        """Share of the variance of the rows fitted that is explained."""
        return float(_r2(self.parts))

    def r2(self, draws: int, seed: int) -> Interval:
        """Return the share of the variance of rows held out, with its interval over blocks.

        Notes
        -----
        As `retinacodec.dictionary_scores.held_out`: blocks are drawn with replacement.
        """
        value = _r2(self.blocks.sum(axis=1))
        count = self.blocks.shape[1]
        if count < 2:
            return Interval(value, np.asarray(np.nan), np.asarray(np.nan))
        scores = np.asarray([_r2(self.blocks @ one) for one in draw_blocks(count, draws, seed)])
        return Interval(value, *percentiles(scores, blocks=count))

    def pack(self) -> dict[str, Array]:
        """Return what has been summed up."""
        return {name: getattr(self, name) for name in ("blocks", "parts", "total", "active")}

    def restore(self, packed: Mapping[str, Array]) -> None:
        """Go on from what was packed."""
        for name in self.pack():
            setattr(self, name, packed[name])


def _take(x: Array, chosen: Mask) -> Array:
    """Return the rows chosen; all of them without a copy."""
    return x if chosen.all() else x[chosen]


def _nans(x: Array) -> npt.NDArray[np.float64]:
    return np.full(len(x), np.nan)


def _r2(terms: Array) -> Array:
    """Return R2 of summed squared errors, squares, values and their number."""
    left, squares, total, count = terms
    spread = squares - total**2 / count if count else 0.0
    return np.asarray(1 - left / spread if spread > 0 else np.nan)
