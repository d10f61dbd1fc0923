"""Mean, spread and range of each column of a table that is seen a stretch of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ColumnStatistics"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ColumnStatistics:
    """What is known of the columns of some rows, all in float64.

    Attributes
    ----------
    count : int
        Number of rows.
    mean : ndarray (feature,)
        Mean of each column.
    spread : ndarray (feature,)
        Sum of the squared distances from the mean.
    low, high : ndarray (feature,)
        Smallest and largest value.
    """

    count: int
    mean: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, features: int) -> ColumnStatistics:
        """Return the statistics of no rows."""
        zero, far = np.zeros(features), np.full(features, np.inf)
        return cls(0, zero, zero, far, -far)

    @classmethod
    def of(cls, x: Array) -> ColumnStatistics:
        """Return the statistics of rows (sample, feature)."""
        if not len(x):
            return cls.empty(x.shape[1])
        rows = x.astype(np.float64)
        low, high, first = rows.min(axis=0), rows.max(axis=0), rows[0].copy()
        rows -= first
        total = rows.sum(axis=0)
        np.square(rows, out=rows)
        spread = np.maximum(rows.sum(axis=0) - total**2 / len(x), 0)
        return cls(len(x), first + total / len(x), spread, low, high)

    def merge(self, other: ColumnStatistics) -> ColumnStatistics:
        """Return the statistics of the rows of both.

        Notes
        -----
        ``spread = spread_a + spread_b + (mean_b - mean_a)^2 n_a n_b / (n_a + n_b)``.

        References
        ----------
        .. [1] Chan, Golub, LeVeque, The American Statistician 37, 242 (1983), eq. 2.1.
        """
        if not (self.count and other.count):
            return other if other.count else self
        count = self.count + other.count
        away = other.mean - self.mean
        return ColumnStatistics(
            count,
            self.mean + away * (other.count / count),
            self.spread + other.spread + away**2 * (self.count * other.count / count),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def deviation(self) -> float:
        """Standard deviation of the whole table, 0 if all its values are the same."""
        if not self.count:
            return 0.0
        away = self.mean - self.mean.mean()
        return float(np.sqrt(np.mean(self.spread / self.count + away**2)))

    @property
    def size(self) -> float:
        """Root mean square norm of the rows."""
        if not self.count:
            return 0.0
        return float(np.sqrt(np.sum(self.spread / self.count + self.mean**2)))

    @property
    def signs(self) -> npt.NDArray[np.int8]:
        """Sign of the columns (feature,): 1 never negative, -1 never positive, 0 both."""
        never_negative, never_positive = self.low >= 0, self.high <= 0
        return np.where(never_negative, 1, np.where(never_positive, -1, 0)).astype(np.int8)

    def pack(self) -> Array:
        """Return all numbers as one array (5, feature)."""
        count = np.full_like(self.mean, self.count)
        return np.stack([count, self.mean, self.spread, self.low, self.high])

    @classmethod
    def unpack(cls, packed: Array) -> ColumnStatistics:
        """Return the statistics that were packed."""
        return cls(int(packed[0, 0]), *packed[1:])
