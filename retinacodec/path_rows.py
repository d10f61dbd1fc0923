"""Where the points of a path lie in a tensor: on which dimension, and how far apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["FIRST", "PathRows"]


@dataclass(frozen=True)
class PathRows:
    """The place of a path's points in a tensor.

    Parameters
    ----------
    dim : int, default 0
        The dimension they lie on, counted from the front.
    inner : int, default 1
        Entries on that dimension from one point to the next; more than 1 where heads, windows
        or frames are folded into the batch behind the points.

    Notes
    -----
    The point before entry i lies at i - inner. For the first point of a path this is an entry
    of another path, or none; what belongs to a first point has no meaning, but is finite.
    """

    dim: int = 0
    inner: int = 1

    def earlier(self, values: Tensor) -> Tensor:
        """Return a view of the values at the start of each interval."""
        return values.narrow(self.dim, 0, values.shape[self.dim] - self.inner)

    def later(self, values: Tensor) -> Tensor:
        """Return a view of the values at the end of each interval."""
        return values.narrow(self.dim, self.inner, values.shape[self.dim] - self.inner)

    def mean(self, values: Tensor) -> Tensor:
        """Return each interval's mean, at its end; the first entries are as they were."""
        mean = values.clone()
        self.later(mean).add_(self.earlier(values)).div_(2)
        return mean

    def empty(self, like: Tensor) -> Tensor:
        """Return an unfilled tensor for one factor an interval, but for zeros at the first."""
        whole = torch.empty_like(like, memory_format=torch.contiguous_format)
        whole.narrow(self.dim, 0, self.inner).zero_()
        return whole

    def whole(self, factors: Tensor, like: Tensor) -> Tensor:
        """Return the factors of the intervals at their ends, in the shape of the values."""
        whole = torch.empty(like.shape, dtype=factors.dtype, device=factors.device)
        whole.narrow(self.dim, 0, self.inner).zero_()
        self.later(whole).copy_(factors)
        return whole


FIRST = PathRows()
"""Points in consecutive rows of the first dimension."""
