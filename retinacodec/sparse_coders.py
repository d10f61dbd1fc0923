"""How trained sparse networks code new rows: the top codes of an encoder, or matching pursuit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retinacodec.errors import InputError
from retinacodec.unit_atoms import top_codes

__all__ = ["MatchingCoder", "TopKCoder", "matching_pursuit"]

Array = npt.NDArray[Any]
_CHUNK_VALUES = 2**24


@dataclass(frozen=True, eq=False)
class TopKCoder:
    """Loadings that are the largest of an encoder, those above 0.

    Attributes
    ----------
    reading : ndarray (mode, input feature)
        What each mode reads from scaled rows, float32.
    bias : ndarray (mode,)
        What is added to it, float32.
    active : int
        Most modes active in a row.
    """

    reading: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    active: int

    def __call__(self, x: Array) -> Array:
        """Return loadings (sample, mode) of scaled rows (sample, input feature).

        Raises
        ------
        InputError
            If the rows have another number of features than what is read.
        """
        if x.shape[1] != self.reading.shape[1]:
            raise InputError(
                f"transform: expected {self.reading.shape[1]} input features, which the loadings "
                f"are read from, got {x.shape[1]}"
            )
        loadings = np.zeros((len(x), len(self.reading)), dtype=np.float32)
        if self.reading.size:
            weights = torch.from_numpy(self.reading).T
            bias = torch.from_numpy(self.bias)
            for rows in _chunks(len(x), len(self.reading)):
                values = torch.addmm(bias, torch.from_numpy(x[rows]), weights)
                loadings[rows] = top_codes(values, self.active).numpy()
        return loadings

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and settings that make the coder again."""
        return {"reading": self.reading, "bias": self.bias}, {"kind": "topk", "active": self.active}

    @classmethod
    def unpack(cls, arrays: dict[str, Array], config: dict[str, Any]) -> TopKCoder:
        """Return the coder that was packed."""
        reading, bias = (np.asarray(arrays[name], np.float32) for name in ("reading", "bias"))
        return cls(reading, bias, int(config["active"]))


@dataclass(frozen=True, eq=False)
class MatchingCoder:
    """Loadings by nonnegative matching pursuit.

    Attributes
    ----------
    atoms : ndarray (mode, feature)
        Atoms of unit norm, float32.
    centre : ndarray (feature,)
        What is taken from a scaled row first, float32.
    active : int
        Steps of the pursuit: most modes active in a row.
    floor : float
        A row is done when no step would add as much as this, in units of a scaled row.
    """

    atoms: npt.NDArray[np.float32]
    centre: npt.NDArray[np.float32]
    active: int
    floor: float

    def __call__(self, x: Array) -> Array:
        """Return loadings (sample, mode) of scaled rows."""
        loadings = np.zeros((len(x), len(self.atoms)), dtype=np.float32)
        if self.atoms.size:
            atoms = torch.from_numpy(self.atoms)
            for rows in _chunks(len(x), len(self.atoms)):
                part = torch.from_numpy(x[rows] - self.centre)
                loadings[rows] = matching_pursuit(part, atoms, self.active, self.floor)[0].numpy()
        return loadings

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and settings that make the coder again."""
        settings = {"kind": "matching", "active": self.active, "floor": self.floor}
        return {"atoms": self.atoms, "centre": self.centre}, settings

    @classmethod
    def unpack(cls, arrays: dict[str, Array], config: dict[str, Any]) -> MatchingCoder:
        """Return the coder that was packed."""
        atoms, centre = (np.asarray(arrays[name], np.float32) for name in ("atoms", "centre"))
        return cls(atoms, centre, int(config["active"]), float(config["floor"]))


def matching_pursuit(x: Tensor, atoms: Tensor, steps: int, floor: float) -> tuple[Tensor, Tensor]:
    """Return nonnegative loadings and what they leave of the rows, step by step.

    Parameters
    ----------
    x : Tensor (sample, feature)
        Rows.
    atoms : Tensor (mode, feature)
        Atoms of unit norm.
    steps : int
        Number of steps.
    floor : float
        A step that would add less is not taken.

    Returns
    -------
    loadings : Tensor (sample, mode)
        At least 0; an atom chosen twice has the sum.
    left : Tensor (sample, feature)
        Residual.

    Notes
    -----
    Each step takes the atom with the largest product ``c = r . d`` and leaves ``r - c d``. The
    choice has no gradient; ``c`` has one in the atoms and in the residual, so that a loss of what
    is left trains the atoms through all steps.
    """
    loadings, left = x.new_zeros(len(x), len(atoms)), x
    for _ in range(steps):
        with torch.no_grad():
            place = (left @ atoms.T).argmax(dim=1)
        chosen = atoms[place]
        size = (left * chosen).sum(dim=1)
        size = torch.where(size > floor, size, 0.0)
        left = left - size.unsqueeze(1) * chosen
        loadings = loadings.scatter_add(1, place.unsqueeze(1), size.unsqueeze(1))
    return loadings, left


def _chunks(rows: int, atoms: int) -> list[slice]:
    step = max(1, _CHUNK_VALUES // atoms)
    return [slice(start, start + step) for start in range(0, rows, step)]
