"""Where the points of a path lie in a tensor: on which dimension, and how far apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["FIRST", "PathRows", "tensors"]


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

    def ends(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of the values at the start and at the end of each interval."""
        return self.earlier(values), self.later(values)

    def mean(self, values: Tensor) -> Tensor:
        """Return each interval's mean, at its end; the first entries are as they were."""
        mean = values.clone()
        self.later(mean).add_(self.earlier(values)).div_(2)
        return mean

    def whole(self, factors: Tensor, shape: torch.Size) -> Tensor:
        """Return what belongs to the intervals at their ends, with zeros before the first."""
        last = factors.ndim == 4 and factors.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if last else torch.contiguous_format
        whole = torch.empty(shape, dtype=factors.dtype, device=factors.device, memory_format=order)
        whole.narrow(self.dim, 0, self.inner).zero_()
        self.later(whole).copy_(factors)
        return whole

    def scaled(self, gradient: Tensor, factors: Tensor) -> Tensor:
        """Return a gradient times the factors of the intervals, with zeros before the first."""
        out = torch.empty_like(gradient)  # in the same order in memory, for speed
        out.narrow(self.dim, 0, self.inner).zero_()
        torch.mul(self.later(gradient), factors, out=self.later(out))
        return out


FIRST = PathRows()
"""Points in consecutive rows of the first dimension."""


def tensors(value: Any) -> Iterable[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
