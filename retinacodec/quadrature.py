"""A rule as a matrix: how gradients and activations along a path are weighed."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from retinacodec.rules import Rule, refines

__all__ = ["Quadrature"]

_MOST_POINTS = 513


@dataclass(frozen=True)
class Quadrature:
    """A rule that is bilinear in gradients and changes of activations.

    Parameters
    ----------
    fractions : torch.Tensor (point,)
        Points of the path, float64.
    matrix : torch.Tensor (point, point)
        ``C = sum_l g_l sum_k matrix[l, k] a_k``, float64.
    chords : bool
        Whether gradients are chord slopes, each of the interval that ends at its point.

    Notes
    -----
    Rows of the matrix sum to zero, so that constants do not count. With
    ``Q[k, l] = sum_{i >= k} matrix[l, i]`` the same sum is ``sum_k (sum_l Q[k, l] g_l)
    (a_k - a_{k-1})``: the rule's gradient on each interval.
    """

    fractions: Tensor = field(repr=False)
    matrix: Tensor = field(repr=False)
    chords: bool

    @classmethod
    def of(cls, rule: Rule) -> Quadrature | None:
        """Return a rule as a matrix, or None if it is not bilinear in changes."""
        if refines(rule):
            return None
        fractions = rule.points().to(torch.float64)
        points = len(fractions)
        if not 2 <= points <= _MOST_POINTS or not bool((fractions.diff() > 0).all()):
            return None
        if fractions[0] != 0 or fractions[-1] != 1:
            return None
        one = torch.eye(points, dtype=torch.float64)
        matrix = torch.stack([rule.combine(one, row.expand_as(one)) for row in one])
        generator = torch.Generator().manual_seed(0)
        a, g = torch.randn((2, 1, points), generator=generator, dtype=torch.float64)
        straight = torch.allclose(rule.combine(a, g), (g @ matrix @ a.T)[0])
        constant = matrix.sum(dim=1).abs().max() > 1e-9
        if not straight or constant or (rule.chords and bool(matrix[0].any())):
            return None
        return cls(fractions, matrix, rule.chords)

    @property
    def points(self) -> int:
        """Number of points of the path."""
        return len(self.fractions)

    @property
    def at_points(self) -> Tensor:
        """Weight (point, point) of the gradient at each point, for what is linear on the path."""
        return torch.diag(self.matrix @ self.fractions)

    @property
    def at_intervals(self) -> Tensor:
        """Weight (interval, point) of gradients on each interval, times the interval's length."""
        later = self.matrix.flip(1).cumsum(1).flip(1)[:, 1:].T
        return later * self.fractions.diff()[:, None]
