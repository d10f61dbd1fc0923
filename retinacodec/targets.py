"""Targets: which scalar of the outputs the contributions explain.

A target is any callable from outputs (batch, output) to (batch,) or (batch, target) that
torch can differentiate. A target that needs more may have further methods: ``bind``
(called once with the names of the outputs and a function that returns the outputs of the
whole movie), ``at`` (called for each batch with the outputs at the end of each row's path,
(row, output), and the numbers of the movie frames or images of the rows, (row,)) and
``labels`` (the names along its own target dimension); and an attribute ``units``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from retinacodec.class_targets import Class, Entropy, Margin, TopK
from retinacodec.errors import InputError
from retinacodec.likelihood import PoissonLogLikelihood
from retinacodec.outputs import Outputs, describe_target, position
from retinacodec.surprisal import Surprisal

__all__ = [
    "Cell",
    "Class",
    "EachCell",
    "Entropy",
    "Margin",
    "Mean",
    "Outputs",
    "PoissonLogLikelihood",
    "Population",
    "Surprisal",
    "Target",
    "TopK",
    "bind_target",
    "describe_target",
    "target_labels",
]


@runtime_checkable
class Target(Protocol):
    """A differentiable scalar, or several, of a circuit's outputs."""

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the target (batch,) or (batch, target) of outputs (batch, output)."""


def bind_target(target: Target, names: Sequence[str], outputs: Outputs) -> Target:
    """Return the target made ready for one circuit and movie.

    Parameters
    ----------
    target : Target
        Any target.
    names : sequence of str
        Names of the outputs.
    outputs : callable
        Returns the outputs (time, output) over the whole movie; called only if needed.

    Returns
    -------
    Target
        The target itself, or what its ``bind`` returns.
    """
    bind = getattr(target, "bind", None)
    return target if bind is None else bind(names, outputs)


def target_labels(target: Target, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names along the target dimension, or None for a target that is one scalar."""
    labels = getattr(target, "labels", None)
    return None if labels is None else tuple(labels(names))


@dataclass(frozen=True)
class Cell:
    """The rate of one cell, Hz.

    Parameters
    ----------
    cell : int or str
        Its position, counted from 0, or its name.

    Examples
    --------
    >>> import torch
    >>> Cell(1)(torch.tensor([[2.0, 5.0]]))
    tensor([5.])
    """

    cell: int | str
    units: ClassVar[str] = "Hz"

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the rate (batch,) of the cell."""
        if isinstance(self.cell, str):
            raise InputError(f"target: the name {self.cell!r} is not bound to a circuit yet")
        return outputs[:, self.cell]

    def bind(self, names: Sequence[str], outputs: Outputs) -> Cell:  # noqa: ARG002
        """Return the same target with the cell's position in place of its name."""
        return Cell(position(self.cell, names, "cell"))


@dataclass(frozen=True)
class EachCell:
    """The rate of every cell, Hz: one target a cell, all in one run.

    Examples
    --------
    >>> import torch
    >>> EachCell()(torch.tensor([[2.0, 5.0]]))
    tensor([[2., 5.]])
    """

    units: ClassVar[str] = "Hz"

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the rates (batch, target)."""
        return outputs

    def labels(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the cells' names."""
        return tuple(names)


@dataclass(frozen=True)
class Population:
    """The summed rate of all cells, Hz.

    Examples
    --------
    >>> import torch
    >>> Population()(torch.tensor([[2.0, 5.0]]))
    tensor([7.])
    """

    units: ClassVar[str] = "Hz"

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the sum (batch,) of the rates."""
        return outputs.sum(dim=-1)


@dataclass(frozen=True)
class Mean:
    """The mean rate over cells, Hz.

    Examples
    --------
    >>> import torch
    >>> Mean()(torch.tensor([[2.0, 5.0]]))
    tensor([3.5000])
    """

    units: ClassVar[str] = "Hz"

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the mean (batch,) of the rates."""
        return outputs.mean(dim=-1)
