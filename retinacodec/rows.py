"""The rows that a decomposition is fitted to, with the signs of their columns and their inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Decomposition, Dictionary
from retinacodec.errors import InputError

__all__ = ["Rows"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Rows:
    """A table to decompose, from which parts can be taken.

    Attributes
    ----------
    x : ndarray (sample, feature)
        Rows, in order of time where they have one.
    signs : ndarray (feature,), optional
        Sign of each feature in every atom, as in a method's ``fit``.
    inputs : ndarray (sample, input feature), optional
        What loadings are read from instead of the rows, for a method that maps one table to
        another.
    """

    x: Array
    signs: Array | None = None
    inputs: Array | None = None

    def __post_init__(self) -> None:
        if self.inputs is not None and len(self.inputs) != len(self.x):
            raise InputError(
                f"inputs: expected a row for each of {len(self.x)} rows, got {len(self.inputs)}"
            )

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: npt.NDArray[np.intp]) -> Rows:
        """Return some of the rows."""
        inputs = None if self.inputs is None else self.inputs[rows]
        return replace(self, x=self.x[rows], inputs=inputs)

    def fit(self, method: Decomposition, seed: int, *, progress: bool = False) -> Dictionary:
        """Return what the method finds in these rows."""
        more: dict[str, Any] = {} if self.inputs is None else {"inputs": self.inputs}
        return method.fit(self.x, signs=self.signs, seed=seed, progress=progress, **more)

    def loadings(self, found: Dictionary) -> Array:
        """Return the loadings (sample, mode) of these rows on known atoms."""
        return found.transform(self.x if self.inputs is None else self.inputs)

    def estimate(self, found: Dictionary) -> Array:
        """Return the rows (sample, feature) as known atoms make them."""
        return found.reconstruct(self.loadings(found))
