"""Reductions over named axes: split by sign first, then sum over space."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["split_signs", "sum_signs"]


def split_signs(values: Tensor) -> Tensor:
    """Split each value into its negative and its positive part.

    Parameters
    ----------
    values : torch.Tensor (...)
        Signed values.

    Returns
    -------
    torch.Tensor (sign, ...)
        Negative part (at most 0), then positive part (at least 0); they sum to the values.
    """
    return torch.stack([values.clamp(max=0), values.clamp(min=0)])


def sum_signs(values: Tensor) -> Tensor:
    """Split each value by sign, then sum over space, tokens or heads.

    Parameters
    ----------
    values : torch.Tensor (batch, channel, ...)
        Signed values.

    Returns
    -------
    torch.Tensor (batch, sign, channel)
        Sums of the negative and of the positive parts over all further axes, float64.
    """
    space = tuple(range(2, values.ndim))
    parts = (values.clamp(max=0), values.clamp(min=0))
    sums = [part.sum(space, dtype=torch.float64) if space else part.double() for part in parts]
    return torch.stack(sums, dim=1)
