"""What a table is divided by before it is decomposed, and how loadings get their size back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError

__all__ = ["BalancedRows", "OneScale", "Scale", "Scaling", "unpack_scale"]

Array = npt.NDArray[Any]
_CHUNK = 2**16


@dataclass(frozen=True)
class Scale:
    """The numbers that rows are divided by, known from the rows a method was fitted to.

    Attributes
    ----------
    deviation : float
        Standard deviation of the whole (balanced) table, in its units.
    power : float
        Rows are divided by their relative norm to this power; 0 leaves them as they are.
    size : float
        Norm of a row, in the units of the table, that is left as it is; 1 without balance.
    least : float
        Share of the size below which rows are not made larger any more.
    """

    deviation: float
    power: float = 0.0
    size: float = 1.0
    least: float = 1.0

    def divide(self, x: Array) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return scaled rows and the weight of each.

        Parameters
        ----------
        x : ndarray (sample, feature)
            Rows, in their units.

        Returns
        -------
        scaled : ndarray (sample, feature)
            ``x / (deviation * weight)``, float32.
        weight : ndarray (sample, 1)
            What a loading of the scaled row is multiplied with to be one of the row itself.
        """
        weight = self.weight(x)
        divisor = self.deviation if self.power == 0 else self.deviation * weight
        return np.ascontiguousarray(x / divisor, dtype=np.float32), weight

    def weight(self, x: Array) -> npt.NDArray[np.float32]:
        """Return the weight of each row (sample, 1)."""
        if self.power == 0:
            return np.ones((len(x), 1), dtype=np.float32)
        norm = np.linalg.norm(np.asarray(x, dtype=np.float64), axis=1, keepdims=True)
        weight: npt.NDArray[np.float32] = (
            np.maximum(norm / self.size, self.least) ** self.power
        ).astype(np.float32)
        return weight

    def pack(self) -> dict[str, float]:
        """Return the numbers, as JSON holds them."""
        return asdict(self)


class Scaling(Protocol):
    """How the scale of a table is found."""

    def of(self, x: Array) -> Scale:
        """Return the scale of these rows (sample, feature)."""
        ...


@dataclass(frozen=True)
class OneScale:
    """Divide the whole table by its one standard deviation; no mean is subtracted.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, arXiv 2603.06557, normalisation before decomposition.

    Examples
    --------
    >>> OneScale().of(np.array([[0.0, 2.0], [0.0, 2.0]]))
    Scale(deviation=1.0, power=0.0, size=1.0, least=1.0)
    """

    def of(self, x: Array) -> Scale:
        """Return the scale of these rows (sample, feature)."""
        return Scale(deviation=table_deviation(x))


@dataclass(frozen=True)
class BalancedRows:
    """Divide rows by a power of their norm as well, so that few huge ones do not decide alone.

    A surprisal grows with the square of the rates: in a table of its contributions a handful of
    frames can hold most of the squared error.

    Parameters
    ----------
    power : float, default 0.5
        0 leaves rows as they are, 1 gives them all the same norm.
    least : float, default 0.04
        Share of the root mean square norm below which rows are not made larger any more, so that
        silent frames are not blown up.

    Notes
    -----
    ``w = max(|x| / rms|x|, least)**power``, ``scaled = x / (w * std(x / w))``. Loadings are
    multiplied with ``w`` again, so that they and the reconstruction stay in units of the table.
    """

    power: float = 0.5
    least: float = 0.04

    def __post_init__(self) -> None:
        if not (0 <= self.power <= 1 and 0 < self.least <= 1):
            raise InputError(
                f"BalancedRows: expected a power from 0 to 1 and a least share above 0 and at most "
                f"1, got {self.power} and {self.least}"
            )

    def of(self, x: Array) -> Scale:
        """Return the scale of these rows (sample, feature)."""
        norm = np.linalg.norm(np.asarray(x, dtype=np.float64), axis=1)
        size = float(np.sqrt(np.mean(norm**2))) if len(norm) else 0.0
        if size == 0:
            return Scale(0.0)
        scale = Scale(1.0, self.power, size, self.least)
        return Scale(table_deviation(scale.divide(x)[0]), self.power, size, self.least)


def table_deviation(x: Array) -> float:
    """Return the standard deviation of a whole table, 0 if all its values are the same."""
    if not x.size:
        return 0.0
    first = float(x.flat[0])
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(x), _CHUNK):
        part = x[start : start + _CHUNK].astype(np.float64) - first
        count, total = count + part.size, total + float(part.sum())
        squares += float(np.vdot(part, part))
    return float(np.sqrt(max(squares / count - (total / count) ** 2, 0.0)))


def unpack_scale(config: Mapping[str, Any]) -> Scale:
    """Return the scale that `Scale.pack` wrote."""
    return Scale(**{name: float(value) for name, value in config.items()})
