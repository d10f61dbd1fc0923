"""Which way to the fields of a circuit is the fastest that is exact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.circuit import Circuit
from retinacodec.field_sweep import Cells, Sweep, SweepFields
from retinacodec.packed import PackedFields
from retinacodec.stack_fields import StackFields

__all__ = ["FieldEngine", "field_engine"]


class FieldEngine(Protocol):
    """What computes the fields of a sweep, row by row."""

    @property
    def sweep(self) -> Sweep:
        """Frames and cells."""
        ...  # pragma: no cover

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a latent."""
        ...  # pragma: no cover

    def rest(self, done: int) -> FieldEngine:
        """Return what computes the frames after the first `done`."""
        ...  # pragma: no cover

    def packed(self, rows: xr.Dataset) -> PackedFields:
        """Return rows as fields."""
        ...  # pragma: no cover

    def rows(self, batch: int, progress: bool) -> Iterator[xr.Dataset]:
        """Yield rows of `PackedFields`, some frames at a time, in order."""
        ...  # pragma: no cover


def field_engine(
    circuit: Circuit,
    movie: xr.Dataset,
    layer: str | None,
    cells: Cells,
    frames: npt.ArrayLike | None,
    device: str | torch.device | None,
) -> FieldEngine:
    """Return the fastest exact way to the fields of a circuit.

    Parameters
    ----------
    circuit, movie, layer, cells, frames, device
        As in `latent_fields`.

    Returns
    -------
    FieldEngine
        `StackFields` for stacks of convolutions, else `SweepFields`.

    Raises
    ------
    InputError
        As in `latent_fields`, but for the budget.
    """
    sweep = Sweep.plan(circuit, movie, cells, frames, device)
    found = StackFields.match(sweep, layer)
    return SweepFields(sweep, sweep.filters(layer)) if found is None else found
