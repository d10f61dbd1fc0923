"""Which operations have exact factors of their own, by their names in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "CONSTANT",
    "ELEMENTWISE",
    "FIRST_ONLY",
    "KINKED",
    "ONE_FACTOR",
    "STOCHASTIC",
    "plain_function",
    "plain_name",
]

ELEMENTWISE = frozenset(
    """
    relu relu6 leaky_relu prelu rrelu elu celu selu gelu silu mish softplus hardtanh hardswish
    hardsigmoid logsigmoid softsign tanhshrink softshrink hardshrink threshold sigmoid expit tanh
    exp exp2 expm1 log log1p log2 log10 sqrt rsqrt reciprocal square abs absolute sin cos sinh
    cosh atan arctan asinh arcsinh erf erfc clamp clip clamp_min clamp_max pow float_power rpow
    sign sgn
    """.split()
)

KINKED = frozenset(
    """
    relu relu6 leaky_relu prelu rrelu celu selu elu hardtanh hardswish hardsigmoid softshrink
    hardshrink threshold abs absolute clamp clip clamp_min clamp_max sign sgn
    """.split()
)

STOCHASTIC = {
    **dict.fromkeys("dropout dropout1d dropout2d dropout3d feature_dropout".split(), True),
    **dict.fromkeys("alpha_dropout feature_alpha_dropout".split(), False),
}
"""Dropouts, and whether they are on unless told otherwise."""

CONSTANT = frozenset(
    """
    zeros_like ones_like full_like empty_like rand_like randn_like randint_like new_zeros new_ones
    new_full new_empty new_tensor grad
    """.split()
)
"""What takes no more than shape and kind from a tensor."""

FIRST_ONLY = frozenset("view_as reshape_as expand_as type_as to sum_to_size".split())
"""What takes values from its first argument alone."""

ONE_FACTOR = frozenset(
    """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear grid_sample
    batch_norm layer_norm rms_norm
    """.split()
)
"""What is linear in its first argument, while all others stay the same along the path."""

_ALIASES = {
    "multiply": "mul",
    "truediv": "div",
    "divide": "div",
    "true_divide": "div",
    "rtruediv": "rdiv",
    "radd": "add",
    "rmul": "mul",
    "concatenate": "cat",
    "concat": "cat",
    "mm": "matmul",
    "bmm": "matmul",
    "mv": "matmul",
    "log_sigmoid": "logsigmoid",
    "native_layer_norm": "layer_norm",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool1d_with_indices": "max_pool1d",
    "max_pool3d_with_indices": "max_pool3d",
}


def plain_name(function: Any) -> tuple[str, bool]:
    """Return the name of an operation without its underscores, and whether it is in place.

    Parameters
    ----------
    function : callable
        As torch hands it to a mode.

    Returns
    -------
    str
        One name for the operator, the method and the functions, such as ``"mul"``.
    bool
        Whether it writes into its first argument.

    Examples
    --------
    >>> plain_name(torch.Tensor.add_), plain_name(torch.Tensor.__rmul__)
    (('add', True), ('mul', False))
    """
    name = str(getattr(function, "__name__", function))
    if name in ("__get__", "__set__"):
        attribute = function.__self__.__name__
        return (attribute, False) if name == "__get__" else (f"{attribute} = ...", False)
    if name == "__setitem__":
        return "setitem", True
    if name.startswith("__"):
        name = name.strip("_")
        operators = ("iadd", "isub", "imul", "itruediv", "idiv", "ipow", "imatmul", "ifloordiv")
        inplace = name in operators
        name = name[1:] if inplace else name
    else:
        inplace = name.endswith("_")
        name = name.rstrip("_").lstrip("_")
    name = name.removeprefix("special_")
    if function is F.unfold:
        name = "im2col"
    return _ALIASES.get(name, name), inplace


def plain_function(
    name: str, func: Callable[..., Tensor], rest: tuple[Any, ...], options: dict[str, Any]
) -> Callable[[Tensor], Tensor]:
    """Return an element-wise function of one argument that changes nothing in place.

    Parameters
    ----------
    name : str
        Its plain name.
    func : callable
        The function as it was called.
    rest, options : tuple, dict
        What it was called with besides the values; flags by position, which ask for a change
        in place, are left out.
    """
    if name == "rpow":
        return lambda values: torch.pow(rest[0], values)
    places = (F, torch, torch.special)
    plain = next((getattr(one, name) for one in places if hasattr(one, name)), func)
    rest = tuple(value for value in rest if not isinstance(value, bool))
    return lambda values: plain(values, *rest, **options)
