"""The secant mode: runs any model so that gradients are chord slopes along paths.

Inside the mode every tensor that depends on the paths is known; linear operations pass, the
nonlinear ones are exchanged for those of `chords`, and an operation that is neither is named
in an error, so that a result is never silently wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from retinacodec import chords
from retinacodec.errors import InputError

__all__ = ["ELEMENTWISE", "KINKED", "SecantMode", "plain_function", "tensors"]

_LINEAR = frozenset(
    """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear
    add __add__ __radd__ __iadd__ sub __sub__ __rsub__ rsub subtract neg __neg__
    reshape view view_as reshape_as flatten unflatten ravel permute transpose swapaxes movedim
    moveaxis t T mT __get__ adjoint unsqueeze squeeze expand expand_as broadcast_to repeat
    contiguous clone detach to float double type type_as cpu cuda requires_grad_ alias
    cat concat concatenate stack hstack vstack chunk split tensor_split unbind
    __getitem__ select narrow index_select gather take_along_dim unfold fold roll flip diff
    sum mean nansum cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample pad pixel_shuffle
    pixel_unshuffle tril triu diagonal copy_ masked_fill where zeros_like ones_like
    empty_like full_like new_zeros new_ones new_full new_empty rand_like randn_like
    register_hook retain_grad is_floating_point size dim numel stride set_ resize_as_
    """.split()
)

ELEMENTWISE = frozenset(
    """
    relu relu6 leaky_relu elu celu selu gelu silu mish softplus hardtanh hardswish hardsigmoid
    logsigmoid softsign tanhshrink softshrink hardshrink threshold sigmoid tanh exp expm1 log
    log1p log2 log10 sqrt rsqrt reciprocal square abs absolute sin cos erf clamp clip clamp_min
    clamp_max pow float_power sign
    """.split()
)

KINKED = frozenset(
    """
    relu relu6 leaky_relu celu selu elu hardtanh hardswish hardsigmoid softshrink hardshrink
    threshold abs absolute clamp clip clamp_min clamp_max sign
    """.split()
)

_PRODUCTS = frozenset("mul multiply __mul__ __rmul__ __imul__".split())
_MATRIX_PRODUCTS = frozenset("matmul __matmul__ __rmatmul__ bmm mm".split())
_QUOTIENTS = frozenset("div divide true_divide __truediv__ __itruediv__".split())
_STOCHASTIC = frozenset(
    "dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout".split()
)


class SecantMode(TorchFunctionMode):
    """While it is on, nonlinear operations pass gradients with their chord slopes.

    Parameters
    ----------
    points : int
        Consecutive rows of the batch that are one sample's path.
    inputs : iterable of torch.Tensor
        The tensors that hold the paths.

    Raises
    ------
    InputError
        From inside the model, when an operation has no exact factor.

    References
    ----------
    Shrikumar, Greenside, Kundaje, ICML 2017 (rescale rule), applied to each interval.
    """

    def __init__(self, points: int, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self.points = points
        self._on_path = WeakTensorKeyDictionary()
        for tensor in inputs:
            self._on_path[tensor] = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not any(self._depends(tensor) for tensor in tensors((args, kwargs))):
            return func(*args, **kwargs)
        result = self._apply(func, args, kwargs)
        for tensor in tensors(result):
            self._on_path[tensor] = True
        return result

    def _depends(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value in self._on_path

    def _apply(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = getattr(func, "__name__", str(func))
        inplace = name.endswith("_") and not name.startswith("__")
        base = name.rstrip("_") if inplace else name
        rule = self._rule(base, func, args, kwargs)
        if rule is None:
            result = func(*args, **kwargs)
            if any(tensor.is_floating_point() for tensor in tensors(result)) and not (
                base in _LINEAR or name in _LINEAR
            ):
                raise InputError(
                    f"secant: no exact factor is known for the operation {name!r}; use "
                    "IntegratedGradients, or write the model without it"
                )
            return result
        result = rule()
        inplace = inplace or name in ("__imul__", "__itruediv__") or kwargs.get("inplace") is True
        return args[0].copy_(result) if inplace else result

    def _rule(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[], Tensor] | None:
        """Return what computes a nonlinear operation here, or None for all others."""
        if name in ELEMENTWISE:
            return partial(self._elementwise, name, func, args, kwargs)
        if name in _STOCHASTIC or name.endswith(("batch_norm", "instance_norm")):
            return partial(self._only_in_eval, name, func, args, kwargs)
        special = _SPECIAL.get(name)
        if special is not None:
            return partial(special, self, func, *args, **kwargs)
        return None

    def _elementwise(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        values = args[0] if args else kwargs["input"]
        rest = args[1:]
        options = {k: v for k, v in kwargs.items() if k not in ("input", "inplace")}
        if any(self._depends(other) for other in tensors((rest, options))):
            raise InputError(f"secant: {name!r} with two arguments on the path has no exact factor")
        plain = plain_function(name, func, rest, options)
        return chords.chord(plain, values, self.points, kinked=name in KINKED)

    def _only_in_eval(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        uses_batch = kwargs.get("training", kwargs.get("use_input_stats", False))
        if not uses_batch and name in _STOCHASTIC:
            uses_batch = len(args) > 2 and args[2] is True
        if not uses_batch and name.endswith("batch_norm"):
            uses_batch = len(args) > 5 and args[5] is True
        if not uses_batch and name.endswith("instance_norm"):
            uses_batch = len(args) <= 5 or args[5] is not False
        if uses_batch:
            raise InputError(f"secant: {name!r} must be in eval mode, without batch statistics")
        return func(*args, **kwargs)

    def _multiply(self, func: Any, a: Any, b: Any, **kwargs: Any) -> Tensor:
        if self._depends(a) and self._depends(b):
            return chords.product(a, b, self.points)
        return func(a, b, **kwargs)

    def _matrix_multiply(self, func: Any, a: Any, b: Any, **kwargs: Any) -> Tensor:
        if self._depends(a) and self._depends(b):
            return chords.matmul_product(a, b, self.points)
        return func(a, b, **kwargs)

    def _divide(self, func: Any, a: Any, b: Any, **kwargs: Any) -> Tensor:
        if not self._depends(b):
            return func(a, b, **kwargs)
        if kwargs.get("rounding_mode"):
            raise InputError("secant: rounded division has no exact factor")
        inverse = chords.chord(torch.reciprocal, b, self.points)
        return chords.product(a, inverse, self.points) if self._depends(a) else a * inverse

    def _divide_into(self, func: Any, b: Any, a: Any, **kwargs: Any) -> Tensor:
        return self._divide(func, a, b, **kwargs)

    def _einsum(self, func: Any, equation: str, *operands: Any) -> Tensor:
        tensors = operands[0] if isinstance(operands[0], (list, tuple)) else operands
        dependent = [self._depends(tensor) for tensor in tensors]
        if sum(dependent) <= 1:
            return func(equation, *operands)
        if len(tensors) != 2:
            raise InputError("secant: an Einstein sum with three factors on the path; use two")
        return chords.einsum_product(equation, tensors[0], tensors[1], self.points)

    def _larger(self, func: Any, a: Any, b: Any = None, *rest: Any, **kwargs: Any) -> Any:
        if not isinstance(b, Tensor) or rest or kwargs:
            raise InputError("secant: a maximum along an axis has no exact factor; use max-pooling")
        lead = chords.chord(torch.relu, a - b, self.points, kinked=True)
        return b + lead if func.__name__ in ("max", "maximum") else a - lead

    def _softmax(self, func: Any, input: Tensor, dim: int = -1, *_: Any, **__: Any) -> Tensor:
        return chords.softmax(input, _axis(dim, input), self.points)

    def _log_softmax(self, func: Any, input: Tensor, dim: int = -1, *_: Any, **__: Any) -> Tensor:
        return chords.log_softmax(input, _axis(dim, input), self.points)

    def _logsumexp(self, func: Any, input: Tensor, dim: int, keepdim: bool = False) -> Tensor:
        axis = _axis(dim, input)
        out = chords.log_sum_exp(input, axis, self.points)
        return out if keepdim else out.squeeze(axis)

    def _layer_norm(
        self,
        func: Any,
        input: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *_: Any,
    ) -> Tensor:
        shape = tuple(normalized_shape)
        return chords.layer_norm(input, shape, weight, bias, eps, self.points)

    def _attention(
        self,
        func: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if attn_mask is not None or is_causal or enable_gqa or dropout_p:
            raise InputError("secant: attention with a mask, groups or dropout is not covered")
        return chords.attention(query, key, value, scale, self.points)

    def _max_pool(
        self,
        func: Any,
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor:
        if return_indices:
            raise InputError("secant: max-pooling that returns indices is not covered")
        options = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "ceil_mode": ceil_mode,
        }
        return chords.max_pool(input, options, self.points)


_SPECIAL: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_PRODUCTS, SecantMode._multiply),
    **dict.fromkeys(_MATRIX_PRODUCTS, SecantMode._matrix_multiply),
    **dict.fromkeys(_QUOTIENTS, SecantMode._divide),
    "__rtruediv__": SecantMode._divide_into,
    "__rdiv__": SecantMode._divide_into,
    **dict.fromkeys(("max", "maximum", "min", "minimum"), SecantMode._larger),
    "einsum": SecantMode._einsum,
    "softmax": SecantMode._softmax,
    "log_softmax": SecantMode._log_softmax,
    "logsumexp": SecantMode._logsumexp,
    "layer_norm": SecantMode._layer_norm,
    "scaled_dot_product_attention": SecantMode._attention,
    "max_pool2d": SecantMode._max_pool,
    "max_pool2d_with_indices": SecantMode._max_pool,
    "_max_pool2d": SecantMode._max_pool,
    "boolean_dispatch": SecantMode._max_pool,
}


def plain_function(
    name: str, func: Callable[..., Tensor], rest: tuple[Any, ...], options: dict[str, Any]
) -> Callable[[Tensor], Tensor]:
    """Return an element-wise function of one argument that changes nothing in place."""
    plain = getattr(F, name, None) or getattr(torch, name, None) or func
    if name in ("relu", "relu6", "elu", "celu", "selu", "silu", "mish", "leaky_relu"):
        rest = tuple(value for value in rest if not isinstance(value, bool))
    return lambda values: plain(values, *rest, **options)


def _axis(dim: int, values: Tensor) -> int:
    return dim % values.ndim


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
