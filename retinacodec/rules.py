"""Rules: how a path of activations and gradients becomes a contribution.

A rule says at which points between a baseline and the sample the circuit is evaluated, and
how the activations and gradients there are summed. Points are given as fractions of the way,
0 at the baseline and 1 at the sample, in rising order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from retinacodec.baselines import Baseline, ZeroContrast
from retinacodec.errors import InputError

__all__ = ["IntegratedGradients", "PathRule", "Rule", "Secant"]

Rows = Sequence[Tensor]


@runtime_checkable
class Rule(Protocol):
    """How activations and gradients become contributions."""

    @property
    def chords(self) -> bool:
        """Whether gradients are the chord slopes of each interval, not local derivatives."""

    @property
    def complete(self) -> bool:
        """Whether contributions of a full cut should sum to the change of the target."""

    def points(self) -> Tensor:
        """Return the fractions (point,) of the way at which the circuit is evaluated."""

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Sum (batch, point, ...) activations and gradients to contributions (batch, ...)."""


@runtime_checkable
class PathRule(Rule, Protocol):
    """A rule that sums over the intervals of a path, each by itself.

    So a path can be computed in runs of points, and single intervals can be divided further.
    """

    @property
    def baseline(self) -> Baseline:
        """Where paths start."""

    @property
    def stride(self) -> int:
        """Points from the start of an interval to the start of the next."""

    def add(self, total: Tensor, activation: Rows, gradient: Rows, weight: Tensor | None) -> Tensor:
        """Add the contributions of a run of points to a total, in place.

        Parameters
        ----------
        total : torch.Tensor (batch, ...)
            What it is added to.
        activation, gradient : sequence of torch.Tensor (batch, ...)
            One for each point of the run.
        weight : torch.Tensor (batch, interval) or None
            Factor of each interval; 1 if None.
        """


def brief(rule: Any) -> str:
    """Return a rule as it would be written: the first field, and the others if not default."""
    plain = type(rule)()
    said = [
        f"{one.name}={getattr(rule, one.name)!r}"
        for number, one in enumerate(fields(rule))
        if not number or getattr(rule, one.name) != getattr(plain, one.name)
    ]
    return f"{type(rule).__name__}({', '.join(said)})"


def whole_steps(steps: int) -> int:
    """Return a number of steps, or raise `InputError`."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"rule: expected a whole number of steps of at least 1, got {steps!r}")
    return steps


def refines(rule: Rule) -> bool:
    """Return whether a rule divides its steps further, for each sample by itself."""
    return getattr(rule, "tolerance", None) is not None


def _combine(rule: PathRule, activation: Tensor, gradient: Tensor) -> Tensor:
    total = torch.zeros_like(activation[:, 0])
    return rule.add(total, activation.unbind(1), gradient.unbind(1), None)


def _even(intervals: int) -> Tensor:
    return torch.linspace(0, 1, intervals + 1, dtype=torch.float64)


def _add_interval(
    total: Tensor, change: Tensor, gradient: Tensor, weight: Tensor | None, number: int
) -> None:
    if weight is not None:
        shape = (-1, *[1] * (change.ndim - 1))
        change = change * weight[:, number].view(shape).to(change.dtype)
    total.addcmul_(gradient, change)


@dataclass(frozen=True, repr=False)
class IntegratedGradients:
    """Integrated gradients at the hidden layer, the paper's method.

    Parameters
    ----------
    steps : int, default 20
        Intervals of the path.
    quadrature : {"trapezoid", "left", "right", "midpoint"}, default "trapezoid"
        Which gradient stands for an interval: the mean of its two ends, one of them, or the
        one in its middle, for which the circuit is evaluated there too.
    baseline : Baseline, optional
        Where the path starts: `ZeroContrast` if left out.
    tolerance : float, optional
        Halve the intervals with the largest residuals, for each sample by itself, until the
        absolute residuals of its intervals sum to less than this share of the sample's change
        of the target. Not done if left out.
    most_steps : int, default 640
        Intervals of a sample beyond which none is divided further.

    Raises
    ------
    InputError
        If the quadrature is not one of these, or a number is out of range.

    Notes
    -----
    ``C = sum_k 1/2 (g_k + g_{k-1}) (a_k - a_{k-1})`` for the trapezoid, with activation a and
    gradient g of the whole circuit at ``x0 + k/n (x - x0)``. The residual of an interval is the
    sum of its contributions less its change of the target, the worst of all layers that are
    full cuts.

    References
    ----------
    Melander et al., ICLR 2026; Sundararajan, Taly, Yan, ICML 2017.
    """

    steps: int = 20
    quadrature: str = "trapezoid"
    baseline: Baseline = field(default_factory=ZeroContrast)
    tolerance: float | None = None
    most_steps: int = 640
    chords: ClassVar[bool] = False
    complete: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_steps(self.steps)
        if self.quadrature not in _ADDERS:
            raise InputError(
                f"rule: expected quadrature {', '.join(_ADDERS)}, got {self.quadrature!r}"
            )
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise InputError(f"rule: expected a tolerance in 0 to 1, got {self.tolerance}")
        if whole_steps(self.most_steps) < self.steps and self.tolerance is not None:
            raise InputError(f"rule: {self.steps} steps to begin with, at most {self.most_steps}")

    def __repr__(self) -> str:
        """Say what differs from the default."""
        return brief(self)

    @property
    def stride(self) -> int:
        """Two for the midpoint, else one."""
        return 2 if self.quadrature == "midpoint" else 1

    def points(self) -> Tensor:
        """Return equally spaced fractions of the way."""
        return _even(self.steps * self.stride)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Sum each interval's gradient times its change of the activation."""
        return _combine(self, activation, gradient)

    def add(self, total: Tensor, activation: Rows, gradient: Rows, weight: Tensor | None) -> Tensor:
        """Add the intervals of a run of points to a total (batch, ...), in place."""
        _ADDERS[self.quadrature](total, activation, gradient, weight)
        return total


def _add_trapezoid(total: Tensor, a: Rows, g: Rows, weight: Tensor | None) -> None:
    if weight is not None:
        for k in range(1, len(a)):
            _add_interval(total, a[k] - a[k - 1], (g[k] + g[k - 1]) / 2, weight, k - 1)
        return
    last = len(a) - 1
    for k in range(len(a)):  # each gradient meets the change from its neighbour to the next
        total.addcmul_(g[k], a[min(k + 1, last)] - a[max(k - 1, 0)], value=0.5)


def _add_left(total: Tensor, a: Rows, g: Rows, weight: Tensor | None) -> None:
    for k in range(1, len(a)):
        _add_interval(total, a[k] - a[k - 1], g[k - 1], weight, k - 1)


def _add_right(total: Tensor, a: Rows, g: Rows, weight: Tensor | None) -> None:
    for k in range(1, len(a)):
        _add_interval(total, a[k] - a[k - 1], g[k], weight, k - 1)


def _add_midpoint(total: Tensor, a: Rows, g: Rows, weight: Tensor | None) -> None:
    for k in range(2, len(a), 2):
        _add_interval(total, a[k] - a[k - 2], g[k - 1], weight, k // 2 - 1)


_ADDERS = {
    "trapezoid": _add_trapezoid,
    "left": _add_left,
    "right": _add_right,
    "midpoint": _add_midpoint,
}


@dataclass(frozen=True, repr=False)
class Secant:
    """Chord slopes in place of derivatives: complete at any number of steps.

    Parameters
    ----------
    steps : int, default 10
        Intervals of the path.
    baseline : Baseline, optional
        Where the path starts: `ZeroContrast` if left out.
    fallback : IntegratedGradients, optional
        What is done for the whole network where one of its operations has no exact factor; if
        left out, an error names the operation.

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
    baseline: Baseline = field(default_factory=ZeroContrast)
    fallback: IntegratedGradients | None = None
    chords: ClassVar[bool] = True
    complete: ClassVar[bool] = True
    stride: ClassVar[int] = 1

    def __post_init__(self) -> None:
        whole_steps(self.steps)

    def __repr__(self) -> str:
        """Say what differs from the default."""
        return brief(self)

    def points(self) -> Tensor:
        """Return ``steps + 1`` equally spaced fractions of the way."""
        return _even(self.steps)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Sum slope times change; the slope of interval k is stored at its later point."""
        return _combine(self, activation, gradient)

    def add(self, total: Tensor, activation: Rows, gradient: Rows, weight: Tensor | None) -> Tensor:
        """Add the intervals of a run of points to a total (batch, ...), in place."""
        _add_right(total, activation, gradient, weight)
        return total
