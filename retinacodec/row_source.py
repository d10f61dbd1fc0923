"""What a table of many rows is to those who read it a block of rows at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError
from retinacodec.schema import SIGNS

__all__ = ["ArrayRows", "Columns", "RowSource", "check_table", "checked_signs"]

Array = npt.NDArray[Any]

_SPLIT = ("sign", "channel")


@dataclass(frozen=True, eq=False)
class Columns:
    """What the columns of a table are.

    Attributes
    ----------
    sizes : mapping of str to int
        Dimensions that a row is made of, slowest first; their product is the number of columns.
    coords : mapping of str to ndarray
        Names along those dimensions and along the samples, as far as they have any.
    sample : str
        Dimension of the rows: ``"time"``, ``"image"`` or ``"sample"``.
    signs : ndarray (feature,), optional
        Sign of each column, -1 or 1, where the table is split by sign.
    quantity : str
        What the values are.
    """

    sizes: Mapping[str, int]
    coords: Mapping[str, Array] = field(default_factory=dict)
    sample: str = "sample"
    signs: npt.NDArray[np.int8] | None = None
    quantity: str = "value"

    @classmethod
    def plain(cls, count: int, channels: Sequence[Any] | None = None) -> Columns:
        """Return columns without names, or the two signs of named channels, negative first."""
        if channels is None:
            return cls({"feature": count})
        if count != 2 * len(channels):
            raise InputError(
                f"channels: expected a name for each of {count / 2:g} channels (half the columns, "
                f"which are first their negative and then their positive parts), got "
                f"{len(channels)}"
            )
        return cls(
            dict(zip(_SPLIT, (2, len(channels)), strict=True)),
            {"sign": np.asarray(SIGNS), "channel": np.asarray(channels)},
            signs=np.repeat(np.asarray([-1, 1], np.int8), len(channels)),
            quantity="contribution",
        )


class RowSource(Protocol):
    """A table whose rows can be read in any stretch."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that `read` returns."""
        ...

    @property
    def columns(self) -> Columns:
        """What the columns are."""
        ...

    @property
    def unit_rows(self) -> int:
        """Rows that are in memory at least while any of them is read."""
        ...

    def read(self, start: int, stop: int) -> Array:
        """Return rows (row, feature) from the first up to the last, which is left out."""
        ...

    def stamp(self) -> str:
        """Return what changes when the file does, or nothing where that is not known."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayRows:
    """A table in memory.

    Parameters
    ----------
    x : ndarray (sample, feature)
        The table.
    columns : Columns
        What its columns are.
    """

    x: Array = field(repr=False)
    columns: Columns
    unit_rows: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.x.shape[0], self.x.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.x.dtype

    def read(self, start: int, stop: int) -> Array:
        """Return rows (row, feature); a view."""
        return self.x[start:stop]

    def stamp(self) -> str:
        """Return nothing: an array does not say when it was changed."""
        return ""


def check_table(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `InputError` unless this is a table of real numbers.

    Parameters
    ----------
    name : str
        What the table is called in the message.
    shape : tuple of int
        Its shape.
    dtype : numpy.dtype
        Type of its values.

    Raises
    ------
    InputError
        If it has not two dimensions of at least one entry, or no real numbers.
    """
    if len(shape) != 2 or 0 in shape or np.dtype(dtype).kind not in "fiu":
        raise InputError(
            f"{name}: expected real numbers (sample, feature), got {dtype} of shape {shape}"
        )


def checked_signs(signs: npt.ArrayLike | None, columns: int) -> npt.NDArray[np.int8] | None:
    """Return the signs of columns, or raise `InputError` unless there is one for each.

    Parameters
    ----------
    signs : array_like (feature,) of int, optional
        -1, 1, or 0 for any.
    columns : int
        Number of columns.

    Returns
    -------
    ndarray (feature,) of int8, or None
        The same.
    """
    if signs is None:
        return None
    given = np.asarray(signs)
    if given.shape != (columns,) or not np.isin(given, (-1, 0, 1)).all():
        raise InputError(
            f"signs: expected -1, 0 or 1 for each of {columns} columns, got "
            f"{np.unique(given)[:5].tolist()} of shape {given.shape}"
        )
    return given.astype(np.int8)
