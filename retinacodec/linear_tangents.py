"""Derivatives along a direction of linear operations, without the products with zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["LinearTangents"]

_NORM = (
    "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
)  # fmt: skip
_WEIGHTED = frozenset({torch.conv1d, torch.conv2d, torch.conv3d, F.linear})


class LinearTangents(TorchFunctionMode):
    """Carry derivatives through convolutions, linear maps, norms that are settled, and padding.

    Notes
    -----
    Torch adds to ``W dx`` the product ``dW x`` even where the weights are constant, a second
    convolution with zeros. Here the derivative is ``W dx`` alone, and is not itself
    differentiable.

    Examples
    --------
    >>> layer, x = torch.nn.Conv2d(1, 1, 2).requires_grad_(False), torch.ones(1, 1, 2, 2)
    >>> with forward_ad.dual_level(), LinearTangents():
    ...     slope = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, x))).tangent
    >>> bool(torch.allclose(slope.flatten(), layer.weight.sum()))
    True
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute value and derivative of the operations that are known here."""
        named = dict(kwargs or {})
        carry = _carrier(func, args, named)
        if carry is None:
            return func(*args, **named)
        value, along = forward_ad.unpack_dual(args[0])
        if along is None or any(_moves(one) for one in (*args[1:], *named.values())):
            return func(*args, **named)
        whole = func(value, *args[1:], **named)
        with torch.no_grad():
            slope = carry(along, value, *args[1:])
        return forward_ad.make_dual(whole, slope)


def _carrier(
    func: Callable[..., Any], args: Sequence[Any], named: dict[str, Any]
) -> Callable[..., Tensor] | None:
    """Return what makes the derivative of a call out of that of its first argument."""
    if not args or not isinstance(args[0], Tensor):
        return None
    if func in _WEIGHTED and len(args) > 1:
        bare = {name: one for name, one in named.items() if name != "bias"}
        return lambda along, _, weight, *rest: func(along, weight, None, *rest[1:], **bare)
    if func is F.batch_norm:
        return _normed(**dict(zip(_NORM, args, strict=False)), **named)
    zeros = len(args) < 3 and named.get("mode", "constant") == "constant"
    if func is F.pad and zeros and not named.get("value"):
        return lambda along, _, *rest: func(along, *rest, **named)
    in_place = named.get("inplace", False) or args[-1] is True
    if func is F.relu and not in_place:
        return lambda along, value, *rest: along * (value > 0)  # noqa: ARG005
    if func in (F.hardtanh, F.relu6) and not in_place:
        low, high = (0.0, 6.0) if func is F.relu6 else _limits(args, named)
        return lambda along, value, *rest: along * ((value > low) & (value < high))  # noqa: ARG005
    return None


def _normed(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,  # noqa: ARG001
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> Callable[..., Tensor] | None:
    """Return what scales a derivative as a batch norm that is settled does."""
    if training or running_mean is None or running_var is None:
        return None
    factor = (running_var.detach() + eps).rsqrt()
    factor = factor if weight is None else factor * weight.detach()
    shaped = factor.to(input.dtype).view(-1, *[1] * (input.ndim - 2))
    return lambda along, *_: along * shaped


def _limits(args: Sequence[Any], named: Mapping[str, Any]) -> tuple[float, float]:
    """Return between what a hard tangent is a line."""
    given = {**dict(zip(("input", "min_val", "max_val"), args, strict=False)), **named}
    return given.get("min_val", -1.0), given.get("max_val", 1.0)


def _moves(value: Any) -> bool:
    """Tell whether a tensor has a derivative along the direction."""
    return isinstance(value, Tensor) and forward_ad.unpack_dual(value).tangent is not None
