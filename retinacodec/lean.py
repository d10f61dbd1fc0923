"""Lean operations: convolutions and norms that keep nothing for gradients of their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["LeanMode"]


class LeanMode(TorchFunctionMode):
    """While it is on, fixed convolutions and norms keep no activations for the backward pass.

    Notes
    -----
    torch keeps the input of every convolution and batch norm, which only the gradient of their
    weights needs. Here a convolution's backward is the transposed convolution, and a batch norm
    in evaluation mode is a factor and a shift: the same numbers to rounding, at less than half
    of the memory. What has weights that carry gradients is left alone.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d:
            return _convolution(func, *args, **kwargs)
        if func is functional.batch_norm:
            return _norm(func, *args, **kwargs)
        return func(*args, **kwargs)


def _fixed(input: Tensor, *weights: Tensor | None) -> bool:
    """Return whether gradients are wanted of an input, and of no weight."""
    wanted = torch.is_grad_enabled() and input.requires_grad
    return wanted and not any(one is not None and one.requires_grad for one in weights)


class _Convolution(torch.autograd.Function):
    """A convolution that keeps its weight only."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        out = torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        ctx.save_for_backward(weight)
        ctx.options = (stride, padding, dilation, groups)
        spans = ((out.shape[-2], input.shape[-2]), (out.shape[-1], input.shape[-1]))
        ctx.rest = tuple(
            size - ((count - 1) * stride[i] - 2 * padding[i] + dilation[i] * (reach - 1) + 1)
            for i, ((count, size), reach) in enumerate(zip(spans, weight.shape[2:], strict=True))
        )
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        found = functional.conv_transpose2d(
            gradients[0], weight, None, stride, padding, ctx.rest, groups, dilation
        )
        return (found, *[None] * 6)


def _pair(value: Any) -> tuple[int, int] | None:
    """Return a number for both axes, or None if it is given in words."""
    if isinstance(value, str):
        return None
    if isinstance(value, int):
        return value, value
    both = tuple(int(one) for one in value)
    return (both[0], both[-1]) if len(both) in (1, 2) else None


def _convolution(
    func: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    pairs = [_pair(value) for value in (stride, padding, dilation)]
    if None in pairs or input.ndim != 4 or not _fixed(input, weight, bias):
        plain: Tensor = func(input, weight, bias, stride, padding, dilation, groups)
        return plain
    out: Tensor = _Convolution.apply(input, weight, bias, *pairs, groups)
    return out


class _Affine(torch.autograd.Function):
    """A factor and a shift of each channel that keep the factor only."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return torch.addcmul(shift, input, factor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return gradients[0] * factor, None, None


def _norm(
    func: Any,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    known = running_mean is not None and running_var is not None and not training
    if not known or not _fixed(input, running_mean, running_var, weight, bias):
        plain: Tensor = func(
            input, running_mean, running_var, weight, bias, training, momentum, eps
        )
        return plain
    assert running_mean is not None
    assert running_var is not None
    with torch.no_grad():
        factor = (running_var.double() + eps).rsqrt()
        factor = factor if weight is None else factor * weight.double()
        shift = -running_mean.double() * factor
        shift = shift if bias is None else shift + bias.double()
        shape = (1, -1, *[1] * (input.ndim - 2))
        pieces = (one.to(input.dtype).view(shape) for one in (factor, shift))
    out: Tensor = _Affine.apply(input, *pieces)
    return out
