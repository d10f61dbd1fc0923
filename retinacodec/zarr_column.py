"""An array of a Zarr folder that grows along its first axis, in whole chunks where it can."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Column"]

Array = npt.NDArray[Any]


@dataclass
class Column:
    """A variable along the samples: what is written of it, and what waits to fill a chunk.

    Parameters
    ----------
    folder : Path
        A Zarr 3 folder that holds the array with one sample, which is forgotten.
    node : str
        Path of its group.
    name : str
        Its name.
    rows : int
        Samples of a full chunk.
    written : int, default 0
        Samples on the disk.
    held : list of ndarray (sample, ...)
        Values that wait.
    """

    folder: Path
    node: str
    name: str
    rows: int
    written: int = 0
    held: list[Array] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(values.nbytes for values in self.held)

    def take(self, values: Array) -> None:
        """Add values, and write the chunks that are full."""
        self.held.append(values)
        waiting = sum(map(len, self.held))
        full = (self.written + waiting) // self.rows * self.rows - self.written
        if full > 0:
            self.write(full)
        else:
            self.held[-1] = values.copy()

    def write(self, count: int | None = None) -> None:
        """Write the first values that wait, or all of them."""
        whole = self.held[0] if len(self.held) == 1 else np.concatenate(self.held)
        first, rest = whole[:count], whole[len(whole) if count is None else count :]
        self.held = [rest.copy()] if len(rest) else []
        array = self._array() if self.written else self._array(rows=0, chunk=self.rows)
        array.resize((self.written + len(first), *first.shape[1:]))
        array[self.written :] = _storable(first)
        self.written += len(first)

    def end(self) -> None:
        """Write what waits; a single chunk becomes no longer than the array."""
        waiting = sum(map(len, self.held))
        if self.written + waiting >= self.rows:
            if waiting:
                self.write()
            return
        before = [_storable(self._array()[...])] if self.written else []
        values = np.concatenate([*before, *(_storable(one) for one in self.held)])
        self._array(rows=len(values), chunk=len(values))[...] = values
        self.written, self.held = len(values), []

    def _array(self, rows: int | None = None, chunk: int = 1) -> Any:
        """Return the array, made anew if a number of rows is given."""
        import zarr

        group = zarr.open_group(self.folder, path=self.node, mode="r+")
        array: Any = group[self.name]
        if rows is None:
            return array
        return group.create_array(
            self.name,
            shape=(rows, *array.shape[1:]),
            dtype=array.dtype,
            chunks=(chunk, *array.shape[1:]),
            filters=array.filters,
            serializer=array.serializer,
            compressors=array.compressors,
            fill_value=array.fill_value,
            attributes=dict(array.attrs),
            dimension_names=array.metadata.dimension_names,
            overwrite=True,
        )


def _storable(values: Array) -> Array:
    """Return texts as Python objects, which an array stores at any length."""
    return values.astype(object) if values.dtype.kind in "UT" else values
