"""Reductions over named axes: split by sign first, then sum over space."""

from __future__ import annotations

import torch
from torch import Tensor

from retinacodec.errors import InputError

__all__ = ["channel_last", "split_signs", "sum_space"]


def channel_last(values: Tensor) -> bool:
    """Return whether the channels of a layer's output (batch, ...) are its last axis.

    Parameters
    ----------
    values : torch.Tensor (batch, channel) or (batch, token, channel) or (batch, channel, y, x)
        Output of a layer.

    Returns
    -------
    bool
        True for token layers and for linear layers, False for convolutional layers.

    Raises
    ------
    InputError
        If the output has another number of axes.
    """
    if values.ndim not in (2, 3, 4):
        raise InputError(
            "layer: expected an output of (batch, channel), (batch, token, channel) or "
            f"(batch, channel, y, x), got {tuple(values.shape)}"
        )
    return values.ndim != 4


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


def sum_space(values: Tensor, *, last: bool, batch_dims: int = 1) -> Tensor:
    """Sum over positions or tokens, in float64.

    Parameters
    ----------
    values : torch.Tensor (*batch_dims, channel, ...) or (*batch_dims, ..., channel)
        Values of each position of a layer.
    last : bool
        Whether channels are the last axis; else they follow the batch axes.
    batch_dims : int, default 1
        Number of leading axes that are kept.

    Returns
    -------
    torch.Tensor (*batch_dims, channel)
        Sums over all other axes, float64.
    """
    space = range(batch_dims, values.ndim - 1) if last else range(batch_dims + 1, values.ndim)
    wide = values.to(torch.float64)
    return wide.sum(dim=tuple(space)) if len(space) else wide
