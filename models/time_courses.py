"""Smooth time courses that the temporal filters of models are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["cosines"]


def cosines(count: int, length: int) -> Tensor:
    """Return the slowest orthonormal cosines over a window.

    Parameters
    ----------
    count : int
        How many, from 1 to `length`; the first is constant.
    length : int
        Frames of the window.

    Returns
    -------
    torch.Tensor (count, length)
        ``cos(pi b (h + 1/2) / length)`` for b = 0 to count - 1, each of norm 1.

    Examples
    --------
    >>> cosines(2, 2).round(decimals=2)
    tensor([[ 0.7100,  0.7100],
            [ 0.7100, -0.7100]])
    """
    time = (torch.arange(length) + 0.5) / length
    waves = torch.cos(math.pi * torch.arange(count)[:, None] * time)
    return functional.normalize(waves, dim=1)
