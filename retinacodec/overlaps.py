"""How well one set of positions covers another: overlap, F1, precision and recall as one rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError

__all__ = ["F1", "IOU", "PRECISION", "RECALL", "Overlap"]


@dataclass(frozen=True)
class Overlap:
    """Agreement of a guessed set with a true one, with a price for each kind of error.

    Parameters
    ----------
    excess : float, default 1
        Price of a position that is guessed and not true, at least 0.
    missed : float, default 1
        Price of a position that is true and not guessed, at least 0.

    Notes
    -----
    ``score = b / (b + excess (g - b) + missed (t - b))`` with b positions in both, g guessed and
    t true; 0 where both sets are empty. Prices (1, 1) give the intersection over union `IOU`,
    (1/2, 1/2) the harmonic mean of precision and recall `F1`, (1, 0) the `PRECISION` and (0, 1)
    the `RECALL`.

    References
    ----------
    .. [1] Tversky, Psychological Review 84, 327 (1977), ratio model.

    Examples
    --------
    >>> [float(rule(2, 4, 3)) for rule in (IOU, PRECISION)], round(float(RECALL(2, 4, 3)), 3)
    ([0.4, 0.5], 0.667)
    """

    excess: float = 1.0
    missed: float = 1.0

    def __post_init__(self) -> None:
        if not (self.excess >= 0 and self.missed >= 0 and np.isfinite(self.excess + self.missed)):
            raise InputError(
                f"Overlap: expected two finite prices of at least 0, got {self.excess} and "
                f"{self.missed}"
            )

    def __call__(
        self, both: npt.ArrayLike, guessed: npt.ArrayLike, true: npt.ArrayLike
    ) -> npt.NDArray[np.float64]:
        """Return the score, 0 to 1, of counts that broadcast against each other."""
        b, g, t = (np.asarray(one, dtype=np.float64) for one in (both, guessed, true))
        whole: Any = b + self.excess * (g - b) + self.missed * (t - b)
        return np.asarray(np.where(b > 0, b, 0.0) / np.where(b > 0, whole, 1.0))


IOU = Overlap()
F1 = Overlap(0.5, 0.5)
PRECISION = Overlap(1.0, 0.0)
RECALL = Overlap(0.0, 1.0)
