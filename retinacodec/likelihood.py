"""Poisson log-likelihood: how well the rates of a model account for recorded spikes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from scipy.special import gammaln
from torch import Tensor

from retinacodec.errors import InputError, Problems
from retinacodec.outputs import Outputs, columns, readable

__all__ = ["PoissonLogLikelihood"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class PoissonLogLikelihood:
    """How well the rates of all cells account for the spikes of each frame, in nats.

    Parameters
    ----------
    counts : array_like or xarray.DataArray (time, cell) or (repeat, time, cell)
        Spikes per bin, whole numbers from 0; row i of time belongs to frame i of the movie.
        NaN is not recorded and left out. Given repeats, the target is the mean over those
        recorded. The mean count of repeats is not Poisson distributed and refused: give the
        repeats themselves, ``recording["repeats"]``.
    bin_s : float
        Duration of a bin, s.
    floor_hz : float, default 1e-3
        Rates below it, Hz, count as this one, so that a spike of a silent model cell has a
        finite penalty.

    Raises
    ------
    InputError
        If counts are negative, infinite or not whole, or the numbers do not fit; later on, if
        the cells are not those of the circuit or a frame has no counts.

    Notes
    -----
    ``S = sum_cells n log(r dt) - r dt - log n!`` over the recorded cells of the frame, with
    ``r = max(rate, floor)``; over repeats the mean of S. A frame without any recorded cell
    has S = 0 and contributions of 0. Cells with names are found by name.

    Examples
    --------
    >>> target = PoissonLogLikelihood(np.array([[0.0], [1.0]]), bin_s=0.1)
    >>> rates = torch.tensor([[10.0], [10.0]])
    >>> target.at(rates, torch.tensor([0, 1]))(rates)
    tensor([-1., -1.], dtype=torch.float64)
    """

    counts: Array
    bin_s: float
    floor_hz: float = 1e-3
    cells: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    units: ClassVar[str] = "nat"

    def __post_init__(self) -> None:
        counts, cells = _table(self.counts)
        problems = Problems()
        fits = counts.ndim in (2, 3) and counts.size > 0
        problems.require(fits, f"counts must be ([repeat,] time, cell), got {counts.shape}")
        known = counts[~np.isnan(counts)]
        problems.require(not np.isinf(known).any(), "counts are infinite somewhere")
        problems.require(not (known < 0).any(), "counts are below zero somewhere")
        whole = bool((np.isinf(known) | (known == np.floor(known))).all())
        problems.require(
            whole,
            "counts are not whole numbers somewhere; give the repeats (repeat, time, cell) "
            "themselves in place of their mean, and spikes per bin in place of rates",
        )
        for name in ("bin_s", "floor_hz"):
            value = getattr(self, name)
            positive = bool(np.isfinite(value) and value > 0)
            problems.require(positive, f"{name} must be above 0, got {value}")
        problems.raise_as("Poisson log-likelihood")
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "cells", cells)

    def __repr__(self) -> str:
        return readable(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and repr(other) == repr(self)

    def __hash__(self) -> int:
        return hash(repr(self))

    def bind(self, names: Sequence[str], outputs: Outputs) -> PoissonLogLikelihood:  # noqa: ARG002
        """Return the target with one column of counts for each output, in their order."""
        order = columns(self.cells, self.counts.shape[-1], names)
        if order == list(range(self.counts.shape[-1])):
            return self
        return replace(self, counts=self.counts[..., order])

    def at(self, end: Tensor, frames: Tensor | None = None) -> _FramesLikelihood:
        """Return the target of the frames (batch,) that the outputs (batch, output) belong to."""
        if frames is None:
            raise InputError("Poisson log-likelihood: expected the frames of the outputs, got none")
        rows = np.asarray(torch.as_tensor(frames).cpu(), dtype=np.int64)
        length, cells = self.counts.shape[-2:]
        if cells != end.shape[-1]:
            raise InputError(
                f"Poisson log-likelihood: counts of {cells} cells for a circuit of {end.shape[-1]}"
            )
        if rows.size and not 0 <= rows.min() <= rows.max() < length:
            raise InputError(
                f"Poisson log-likelihood: frames {rows.min()} to {rows.max()} of a recording of "
                f"{length}; give the counts of the whole movie"
            )
        single = self.counts.reshape(-1, length, cells)
        frame, back = np.unique(rows, return_inverse=True)
        found = _statistics(single[:, frame])
        weight, mean, factorial = (torch.from_numpy(one[back]).to(end.device) for one in found)
        return _FramesLikelihood(weight, mean, factorial, self.bin_s, self.floor_hz)

    def __call__(self, outputs: Tensor) -> Tensor:
        """Refuse: the counts of a frame are chosen by ``at(end, frames)``."""
        raise InputError(
            f"Poisson log-likelihood: {len(outputs)} outputs of unknown frames; choose the frames "
            "first, with at(outputs, frames)"
        )


@dataclass(frozen=True)
class _FramesLikelihood:
    """The same target for rows whose frames are known; arrays (batch, output) in float64."""

    weight: Tensor = field(repr=False)
    mean: Tensor = field(repr=False)
    factorial: Tensor = field(repr=False)
    bin_s: float
    floor_hz: float
    units: ClassVar[str] = "nat"

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the log-likelihood (batch,) of rates (batch, output) in Hz, float64."""
        expected = outputs.to(torch.float64).clamp(min=self.floor_hz) * self.bin_s
        each = self.mean * expected.log() - self.weight * expected - self.factorial
        return each.sum(dim=-1)


def _table(counts: Any) -> tuple[Array, tuple[str, ...] | None]:
    """Return counts as float64 ([repeat,] time, cell), and the names of the cells, if any."""
    cells = None
    if isinstance(counts, xr.DataArray):
        order = [name for name in ("repeat", "time", "cell") if name in counts.dims]
        if set(order) == set(counts.dims):
            counts = counts.transpose(*order)
        if "cell" in counts.coords and counts["cell"].ndim == 1:
            cells = tuple(str(name) for name in counts["cell"].values)
        counts = counts.values
    if isinstance(counts, Tensor):
        counts = counts.detach().cpu().numpy()
    return np.array(counts, dtype=np.float64), cells


def _statistics(counts: Array) -> tuple[Array, Array, Array]:
    """Return over repeats (frame, cell): whether recorded, the mean n and the mean log n!."""
    known = ~np.isnan(counts)
    number = np.maximum(np.sum(known, axis=0), 1)
    filled = np.where(known, counts, 0.0)
    factorial = np.where(known, gammaln(filled + 1), 0.0)
    recorded = np.asarray(known.any(axis=0), dtype=np.float64)
    mean = np.asarray(np.sum(filled, axis=0) / number)
    return recorded, mean, np.asarray(np.sum(factorial, axis=0) / number)
