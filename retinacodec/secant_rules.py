"""How the secant mode runs the operations that have exact factors of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from retinacodec import attention_written_out, chords, norm_chords, pooling_chords, written_out
from retinacodec.path_rows import PathRows, tensors
from retinacodec.secant_operations import STOCHASTIC, plain_function
from retinacodec.slopes import SLOPES, in_blocks

__all__ = ["RULES", "Operation"]


class Mode(Protocol):
    """What the rules need of the mode that runs them."""

    def rows(self, value: Any) -> PathRows | None:
        """Return where the points of the path lie in a tensor, None if it is not on it."""

    def refuse(self, name: str, why: str = "") -> NoReturn:
        """Raise the error for an operation without an exact factor."""

    def __enter__(self) -> Any:
        """Follow operations from here on."""

    def __exit__(self, *error: Any) -> None:
        """Follow them no longer."""


@dataclass(frozen=True)
class Operation:
    """One operation as the model called it.

    Parameters
    ----------
    mode : Mode
        The mode that met it.
    name : str
        Its plain name.
    func : callable
        What was called.
    args, kwargs : tuple, dict
        With what.
    inplace : bool
        Whether it writes into its first argument.
    """

    mode: Mode
    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inplace: bool

    @property
    def first(self) -> Any:
        """Its first argument."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()), None)

    def plain(self) -> Any:
        """Run it as torch does."""
        return self.func(*self.args, **self.kwargs)

    def option(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument by its position or its name."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if len(self.args) > position else default

    def refuse(self, why: str = "") -> NoReturn:
        """Raise the error that names it."""
        self.mode.refuse(self.name, why)

    def written(self, result: Any) -> Any:
        """Return a result, written into the first argument if it has to be there."""
        return self.args[0].copy_(result) if self.inplace else result


Rule = Callable[[Operation], Any]


def _elementwise(op: Operation) -> Tensor:
    name, values, rest = op.name, op.first, op.args[1:]
    if name == "pow" and op.mode.rows(values) is None:
        name, values, rest = "rpow", op.args[1], (values,)
    if name == "rrelu" and op.option(3, "training", False):
        op.refuse("it must be in eval mode")
    inplace = op.inplace or op.kwargs.get("inplace") is True or any(v is True for v in rest)
    if name == "relu":
        return chords.rectify(values, op.mode.rows(values), inplace=inplace)  # type: ignore[arg-type]
    rest = tuple(value for value in rest if not isinstance(value, bool))
    options = {
        k: v for k, v in op.kwargs.items() if not (k == "input" or v is None or isinstance(v, bool))
    }
    plain = plain_function(name, op.func, rest, options)
    values = _expanded(op, values, list(tensors((rest, options))))
    form = SLOPES.get(name) and partial(_formed, SLOPES[name], rest, options)
    if form and not list(tensors((rest, options))):
        form = partial(in_blocks, form)
    return chords.chord(plain, values, form, op.mode.rows(values), inplace=inplace)  # type: ignore[arg-type]


def _expanded(op: Operation, values: Tensor, others: list[Tensor]) -> Tensor:
    """Return values in the shape that they have together with further arguments."""
    if any(op.mode.rows(other) is not None for other in others):
        op.refuse("two of its arguments depend on the path")
    if op.name == "prelu" or not others:
        return values
    shape = torch.broadcast_shapes(values.shape, *(other.shape for other in others))
    if shape != values.shape:
        with op.mode:
            values = values.expand(shape)
    rows = op.mode.rows(values)
    for other in others:
        dim = other.ndim - values.ndim + (0 if rows is None else rows.dim)
        if dim >= 0 and other.shape[dim] > 1:
            op.refuse("one of its arguments has a value for each point of the path")
    return values


def _formed(
    form: Callable[..., Tensor], rest: tuple[Any, ...], options: dict[str, Any], *ends: Tensor
) -> Tensor:
    return form(*ends, *rest, **options)


def _dropout(op: Operation) -> Any:
    share = op.option(1, "p", 0.5)
    training = op.kwargs.get("train", op.option(2, "training", STOCHASTIC[op.name]))
    if training and share:
        op.refuse("it must be in eval mode")
    return op.plain()


def _batch_norm(op: Operation) -> Any:
    if op.option(5, "training", False):
        op.refuse("it must be in eval mode, without batch statistics")
    return op.plain()


def _instance_norm(op: Operation) -> Any:
    if op.option(5, "use_input_stats", True):
        return _written_out(op)
    return op.plain()


def _written_out(op: Operation) -> Any:
    table = {**written_out.WRITTEN_OUT, **_ATTENTION}
    with op.mode:
        return op.written(table[op.name](*op.args, **op.kwargs))


def _multiply(op: Operation) -> Any:
    a, b = op.first, op.option(1, "other")
    rows_a, rows_b = op.mode.rows(a), op.mode.rows(b)
    if rows_a is None or rows_b is None:
        return op.plain()
    if a is b:
        return op.written(chords.chord(torch.square, a, SLOPES["square"], rows_a))
    return op.written(chords.product(a, b, rows_a, rows_b))


def _matrix_multiply(op: Operation) -> Any:
    a, b = op.first, op.args[1] if len(op.args) > 1 else next(iter(op.kwargs.values()))
    rows_a, rows_b = op.mode.rows(a), op.mode.rows(b)
    if rows_a is None or rows_b is None:
        return op.plain()
    if a.ndim < 2 or b.ndim < 2:
        op.refuse("it sums over the points of the path")
    return op.written(chords.matmul_product(a, b, rows_a, rows_b))


def _reflected_matrix_multiply(op: Operation) -> Any:
    with op.mode:
        return torch.matmul(op.args[1], op.args[0])


def _einsum(op: Operation) -> Any:
    equation, *operands = op.args
    given = operands[0] if isinstance(operands[0], (list, tuple)) else operands
    places = [op.mode.rows(operand) for operand in given]
    if sum(place is not None for place in places) <= 1:
        return op.plain()
    if not isinstance(equation, str):
        op.refuse("its subscripts are not given as text")
    if len(given) > 2:
        return _written_out(op)
    return chords.einsum_product(equation, given[0], given[1], places[0], places[1])


def _divide(op: Operation) -> Any:
    a, b = op.first, op.option(1, "other")
    if op.kwargs.get("rounding_mode"):
        op.refuse("it rounds")
    if op.mode.rows(b) is None:
        return op.plain()
    with op.mode:
        return op.written(torch.mul(torch.reciprocal(b), a))


def _divide_into(op: Operation) -> Any:
    with op.mode:
        return torch.mul(torch.reciprocal(op.args[0]), op.args[1])


def _axis(op: Operation) -> int:
    dim = op.option(1, "dim")
    if dim is None:
        op.refuse("it is not told along which dimension")
    return int(dim) % op.first.ndim


def _softmax(op: Operation) -> Tensor:
    values, dim, rows = op.first, _axis(op), op.mode.rows(op.first)
    if rows is None or rows.dim == dim:
        op.refuse("it works along the points of the path")
    form = norm_chords.softmax if op.name == "softmax" else norm_chords.log_softmax
    dtype = op.kwargs.get("dtype")
    return form(values if dtype is None else values.to(dtype), dim, rows)


def _log_sum_exp(op: Operation) -> Tensor:
    values, dims, keepdim = op.first, op.option(1, "dim"), op.option(2, "keepdim", False)
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(dims) > 1:
        with op.mode:
            for dim in sorted((one % values.ndim for one in dims), reverse=True):
                values = torch.logsumexp(values, dim, keepdim)
            return values
    rows, dim = op.mode.rows(values), dims[0] % values.ndim
    if rows is None or rows.dim == dim:
        op.refuse("it works along the points of the path")
    out = norm_chords.log_sum_exp(values, dim, rows)
    return out if keepdim else out.squeeze(dim)


def _standardise(op: Operation) -> Tensor:
    values, centre = op.first, op.name == "layer_norm"
    weight = op.option(2, "weight")
    bias = op.option(3, "bias") if centre else None
    eps = op.option(4, "eps", 1e-5) if centre else op.option(3, "eps")
    eps = torch.finfo(values.dtype).eps if eps is None else eps
    count = len(tuple(op.option(1, "normalized_shape")))
    dims, rows = tuple(range(values.ndim - count, values.ndim)), op.mode.rows(values)
    if rows is None or rows.dim in dims:
        op.refuse("it averages over the points of the path")
    out = norm_chords.standardise(values, dims, eps, rows, centre=centre)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _max_pool(op: Operation) -> Tensor:
    position = 2 if op.name.startswith("adaptive") else 6
    if op.option(position, "return_indices", False) or "indices" in op.func.__name__:
        op.refuse("it returns indices")
    values, rows = op.first, op.mode.rows(op.first)
    args = tuple(op.args[1:position])
    options = {k: v for k, v in op.kwargs.items() if k not in ("return_indices", "input")}
    if rows is None or rows.dim != 0 or values.ndim != int(op.name[-2]) + 2:
        op.refuse("it needs the points of the path in the first dimension, the batch")
    pool = getattr(F, f"{op.name}_with_indices")
    return pooling_chords.max_pool(values, lambda v: pool(v, *args, **options), rows)


def _top(op: Operation) -> Any:
    values, k = op.first, op.option(1, "k")
    if _at_end(op) and op.option(3, "largest", True):
        rows = op.mode.rows(values)
        if rows is None or rows.dim == values.ndim - 1:
            op.refuse("it compares the points of the path with each other")
        return torch.return_types.topk(pooling_chords.top_values(values, k, rows))  # type: ignore[attr-defined]
    return _written_out(op)


def _at_end(op: Operation) -> bool:
    return op.option(2, "dim", -1) in (-1, op.first.ndim - 1)


_ATTENTION: dict[str, Callable[..., Any]] = {
    name: getattr(attention_written_out, name) for name in attention_written_out.__all__
}

RULES: dict[str, Rule] = {
    "elementwise": _elementwise,
    **dict.fromkeys(STOCHASTIC, _dropout),
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "mul": _multiply,
    "matmul": _matrix_multiply,
    "rmatmul": _reflected_matrix_multiply,
    "einsum": _einsum,
    "div": _divide,
    "rdiv": _divide_into,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "logsumexp": _log_sum_exp,
    "layer_norm": _standardise,
    "rms_norm": _standardise,
    "topk": _top,
    **dict.fromkeys(_ATTENTION, _written_out),
    **{f"{kind}max_pool{count}d": _max_pool for kind in ("", "adaptive_") for count in (1, 2, 3)},
}
"""Operations by their plain names, and how they are run."""
