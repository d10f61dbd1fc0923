"""Rules: how a path of activations and gradients becomes a contribution.

A rule says at which points between a baseline and the sample the circuit is evaluated, and
how the activations and gradients there are summed. Points are given as fractions of the way,
0 at the baseline and 1 at the sample, in rising order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from retinacodec.errors import InputError

__all__ = ["IntegratedGradients", "Rule", "Secant"]


@runtime_checkable
class Rule(Protocol):
    """How a path of gradients becomes a contribution."""

    @property
    def chords(self) -> bool:
        """Whether gradients are the chord slopes of each interval, not local derivatives."""

    def points(self) -> Tensor:
        """Return the fractions (point,) of the way at which the circuit is evaluated."""

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Sum (batch, point, ...) activations and gradients to contributions (batch, ...)."""


def _steps(steps: int) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"rule: expected a whole number of steps of at least 1, got {steps!r}")
    return steps


@dataclass(frozen=True)
class Secant:
    """Chord slopes in place of derivatives: complete at any number of steps.

    Parameters
    ----------
    steps : int, default 10
        Intervals of the path.

    Notes
    -----
    On each interval every nonlinearity f passes gradients with its chord slope
    ``(f(z_k) - f(z_{k-1})) / (z_k - z_{k-1})``, so that
    ``C = sum_k g_k (a_k - a_{k-1})`` sums over a full cut to the change of the target, for any
    number of steps; the limit of many steps is the integrated gradient.

    References
    ----------
    Rescale rule of Shrikumar, Greenside, Kundaje, ICML 2017, on each interval of the path of
    Sundararajan, Taly, Yan, ICML 2017.
    """

    steps: int = 10

    def __post_init__(self) -> None:
        _steps(self.steps)

    @property
    def chords(self) -> bool:
        """Gradients are chord slopes."""
        return True

    def points(self) -> Tensor:
        """Return ``steps + 1`` equally spaced fractions of the way."""
        return torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Sum slope times change; the slope of interval k is stored at its later point."""
        return (gradient[:, 1:] * activation.diff(dim=1)).sum(dim=1)


def _trapezoid(gradient: Tensor) -> Tensor:
    return (gradient[:, 1:] + gradient[:, :-1]) / 2


def _left(gradient: Tensor) -> Tensor:
    return gradient[:, :-1]


def _right(gradient: Tensor) -> Tensor:
    return gradient[:, 1:]


_QUADRATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "trapezoid": _trapezoid,
    "left": _left,
    "right": _right,
}


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients at the hidden layer, the paper's method.

    Parameters
    ----------
    steps : int, default 20
        Intervals of the path.
    quadrature : {"trapezoid", "left", "right"}, default "trapezoid"
        Which gradient stands for an interval: the mean of its two ends, or one of them.

    Notes
    -----
    ``C = sum_k 1/2 (g_k + g_{k-1}) (a_k - a_{k-1})`` for the trapezoid, with activation a and
    gradient g of the whole circuit at ``x0 + k/n (x - x0)``.

    References
    ----------
    Melander et al., ICLR 2026; Sundararajan, Taly, Yan, ICML 2017.
    """

    steps: int = 20
    quadrature: str = "trapezoid"

    def __post_init__(self) -> None:
        _steps(self.steps)
        if self.quadrature not in _QUADRATURES:
            raise InputError(
                f"rule: expected quadrature {', '.join(_QUADRATURES)}, got {self.quadrature!r}"
            )

    @property
    def chords(self) -> bool:
        """Gradients are local derivatives."""
        return False

    def points(self) -> Tensor:
        """Return ``steps + 1`` equally spaced fractions of the way."""
        return torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Sum the interval's gradient times the change of the activation."""
        return (_QUADRATURES[self.quadrature](gradient) * activation.diff(dim=1)).sum(dim=1)
