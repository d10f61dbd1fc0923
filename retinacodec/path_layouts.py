"""Where an operation puts the points of a path: which dimension of the result they lie on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from retinacodec.path_rows import PathRows, tensors

__all__ = ["LINEAR", "Call", "RowsLostError", "base_layout", "layouts", "letters", "written_layout"]


class RowsLostError(Exception):
    """An operation mixes the points of a path or takes some of them away."""


@dataclass(frozen=True)
class Call:
    """One call of an operation on tensors on the path.

    Parameters
    ----------
    name : str
        Plain name of the operation, without underscores.
    function : callable
        The operation.
    args, kwargs : tuple, dict
        Its arguments.
    sources : sequence of (torch.Tensor, PathRows)
        Those among them that are on the path, and where their points lie.
    points : int
        Points of a path.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    sources: Sequence[tuple[Tensor, PathRows]]
    points: int

    def option(self, position: int, *names: str, default: Any = None) -> Any:
        """Return an argument by its position or one of its names."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[position] if len(self.args) > position else default

    def dims(self, position: int, ndim: int, default: Any = None) -> tuple[int, ...]:
        """Return the dimensions in an argument, counted from the front; all if it is missing."""
        given = self.option(position, "dim", "axis", "dims", default=default)
        if given is None or given == ():
            return tuple(range(ndim))
        if self.name == "flip" and isinstance(given, int):
            given = self.args[position:]
        return tuple(one % ndim for one in ((given,) if isinstance(given, int) else given))


def _same(places: Sequence[PathRows]) -> PathRows:
    if len(set(places)) != 1:
        raise RowsLostError("its operands have the points of the path in different places")
    return places[0]


def _aligned(call: Call, out: Tensor) -> PathRows:
    """Shapes broadcast, from the last dimension on."""
    places = []
    for tensor, rows in call.sources:
        dim = rows.dim + out.ndim - tensor.ndim
        if dim < 0 or out.shape[dim] != tensor.shape[rows.dim]:
            raise RowsLostError("it changes the number of points")
        places.append(PathRows(dim, rows.inner))
    return _same(places)


def _batched(call: Call, out: Tensor) -> PathRows:
    """Images (batch, channel, ...): points have to lie in the batch."""
    digits = re.findall(r"(\d)d", call.name)
    tensor, rows = call.sources[0]
    least = int(digits[0]) + 2 if digits else 2
    if rows.dim != 0 or tensor.ndim < least or out.shape[0] != tensor.shape[0]:
        raise RowsLostError("it needs the points of the path in the first dimension, the batch")
    return rows


def _reshaped(call: Call, out: Tensor) -> PathRows:
    """The same entries in the same order, cut into other dimensions."""
    tensor, rows = call.sources[0]
    step = rows.inner * prod(tensor.shape[rows.dim + 1 :])
    after = 1
    for dim in reversed(range(out.ndim)):
        whole = after * out.shape[dim]
        if whole > step:
            if step % after or whole % (step * call.points):
                break
            return PathRows(dim, step // after)
        after = whole
    raise RowsLostError("it cuts through the points of the path")


def _viewed(call: Call, out: Any) -> list[PathRows]:
    """Views: what the operation does to a stand-in whose entries differ only along the points."""
    tensor, rows = call.sources[0]
    size = tensor.shape[rows.dim]
    strides = [int(dim == rows.dim) for dim in range(tensor.ndim)]
    # A view costs nothing on any device; an index has to lie on the same one.
    indexed = any(one is not tensor for one in tensors((call.args, call.kwargs)))
    device = tensor.device if indexed else "cpu"
    stand_in = torch.arange(size, device=device).as_strided(tensor.shape, strides)
    arguments = [stand_in if value is tensor else value for value in call.args]
    results = call.function(*arguments, **call.kwargs)
    return [PathRows(_counting(one, stand_in), rows.inner) for one in _several(results)]


def _several(results: Any) -> list[Tensor]:
    return [results] if isinstance(results, Tensor) else list(results)


def _counting(numbers: Tensor, stand_in: Tensor) -> int:
    """Return along which dimension all numbers of the stand-in follow each other."""
    size = max(stand_in.shape[dim] for dim in range(stand_in.ndim) if stand_in.stride(dim))
    moving = [d for d in range(numbers.ndim) if numbers.shape[d] > 1 and numbers.stride(d)]
    if numbers.data_ptr() == stand_in.data_ptr():
        if len(moving) == 1 and numbers.stride(moving[0]) == 1 and numbers.shape[moving[0]] == size:
            return moving[0]
        raise RowsLostError("it takes some points of the path away")
    for dim in (d for d in range(numbers.ndim) if numbers.shape[d] == size):
        shape = [size if one == dim else 1 for one in range(numbers.ndim)]
        if bool((numbers == torch.arange(size, device=numbers.device).view(shape)).all()):
            return dim
    raise RowsLostError("it takes some points of the path away or changes their order")


def _reduced(call: Call, out: Tensor) -> PathRows:
    """Sums and the like over dimensions that hold no points."""
    tensor, rows = call.sources[0]
    dims = call.dims(1, tensor.ndim)
    if rows.dim in dims:
        raise RowsLostError("it sums over the points of the path or over the whole batch")
    kept = out.ndim == tensor.ndim
    return PathRows(rows.dim - (0 if kept else sum(one < rows.dim for one in dims)), rows.inner)


_POSITION = {"cumsum": 1, "flip": 1, "fliplr": 9, "flipud": 9, "roll": 2, "diff": 2, "softmax": 1}
_POSITION |= {"log_softmax": 1, "index_select": 1, "gather": 1, "take_along_dim": 2}
_POSITION |= {"index_add": 1, "index_copy": 1, "scatter": 1, "scatter_add": 1, "index_fill": 1}
_POSITION |= {"repeat_interleave": 2, "select_scatter": 2, "slice_scatter": 2}


def _along(call: Call, out: Tensor) -> PathRows:
    """What works along dimensions that hold no points."""
    tensor, rows = call.sources[0]
    default = {"diff": -1, "fliplr": 1, "flipud": 0, "slice_scatter": 0}.get(call.name)
    if rows.dim in call.dims(_POSITION[call.name], tensor.ndim, default):
        raise RowsLostError("it works along the points of the path or over the whole batch")
    if out.shape[rows.dim] != tensor.shape[rows.dim]:
        raise RowsLostError("it takes some points of the path away")
    return _same([place for _, place in call.sources])


def _triangle(call: Call, out: Tensor) -> PathRows:
    rows = _aligned(call, out)
    if rows.dim >= out.ndim - 2:
        raise RowsLostError("it works along the points of the path")
    return rows


def _padded(call: Call, out: Tensor) -> PathRows:
    tensor, rows = call.sources[0]
    if rows.dim >= tensor.ndim - len(call.option(1, "pad")) // 2:
        rows = _aligned(call, out)
    return rows


def _joined(call: Call, out: Tensor) -> PathRows:
    rows = _same([place for _, place in call.sources])
    default = {"hstack": 1 if out.ndim > 1 else 0, "vstack": 0, "dstack": 2}.get(call.name, 0)
    dim = call.option(1, "dim", "axis", default=default) % out.ndim
    if call.name == "stack":
        return PathRows(rows.dim + (dim <= rows.dim), rows.inner)
    if dim == rows.dim:
        raise RowsLostError("it joins tensors along the points of the path")
    return rows


def _linear_map(call: Call, out: Tensor) -> PathRows:
    tensor, rows = call.sources[0]
    if rows.dim == tensor.ndim - 1:
        raise RowsLostError("it sums over the points of the path")
    return rows


def _matrix_product(call: Call, out: Tensor) -> PathRows:
    left, right = call.args[:2]
    places = []
    for tensor, rows in call.sources:
        from_end = tensor.ndim - rows.dim
        summed = 1 if tensor is left or right.ndim == 1 else min(2, right.ndim)
        if from_end == summed:
            raise RowsLostError("it sums over the points of the path")
        lost = int(tensor is right and left.ndim == 1 and from_end > 1)
        lost += int(tensor is left and right.ndim == 1)
        places.append(PathRows(out.ndim - from_end + lost, rows.inner))
    return _same(places)


def _summed_letters(call: Call, out: Tensor) -> PathRows:
    """Einstein sums: the letter of the dimension with the points."""
    given = call.args[1:]
    operands = given[0] if isinstance(given[0], (list, tuple)) else given
    inputs, output = letters(call.args[0])
    places = []
    for subscript, operand in zip(inputs, operands, strict=True):
        for tensor, rows in call.sources:
            if tensor is operand:
                places.append(PathRows(_letter(subscript, output, tensor, out, rows), rows.inner))
    return _same(places)


def letters(equation: str) -> tuple[list[str], str]:
    """Return the subscripts of the operands and of the result of an Einstein sum."""
    left, arrow, output = equation.replace(" ", "").replace("...", ".").partition("->")
    if not arrow:
        found = [one for one in sorted(set(left) - {",", "."}) if left.count(one) == 1]
        output = ("." if "." in left else "") + "".join(found)
    return left.split(","), output


def _letter(subscript: str, output: str, tensor: Tensor, out: Tensor, rows: PathRows) -> int:
    """Return the dimension of the result where a dimension of an operand ends up."""
    dots = tensor.ndim - len(subscript) + 1 if "." in subscript else 0
    wide = subscript.replace(".", "".join(chr(0x2000 + i) for i in reversed(range(dots))))
    dots_out = out.ndim - len(output) + 1 if "." in output else 0
    wide_out = output.replace(".", "".join(chr(0x2000 + i) for i in reversed(range(dots_out))))
    letter = wide[rows.dim]
    if letter not in wide_out:
        raise RowsLostError("it sums over the points of the path")
    return wide_out.index(letter)


Rule = Callable[[Call, Any], PathRows | list[PathRows]]


def _table(*entries: tuple[Rule, str]) -> dict[str, Rule]:
    return {name: rule for rule, names in entries for name in names.split()}


LINEAR: dict[str, Rule] = _table(
    (
        _aligned,
        "add sub rsub subtract neg negative positive clone contiguous detach data to float double "
        "half bfloat16 type type_as cpu cuda requires_grad alias real where masked_fill copy "
        "repeat tile expand expand_as broadcast_to resolve_conj resolve_neg identity fill zero "
        "zero_ sum_to_size",
    ),
    (
        _batched,
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d avg_pool1d "
        "avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
        "interpolate upsample upsample_nearest upsample_bilinear pixel_shuffle pixel_unshuffle "
        "channel_shuffle fold im2col col2im grid_sample",
    ),
    (_reshaped, "reshape view view_as reshape_as flatten unflatten ravel unsafe_view"),
    (
        _viewed,
        "permute transpose swapaxes swapdims movedim moveaxis t T mT H mH adjoint unsqueeze "
        "squeeze chunk split tensor_split hsplit vsplit unbind getitem select narrow diagonal "
        "unfold rot90",
    ),
    (_reduced, "sum mean"),
    (
        _along,
        "cumsum flip fliplr flipud roll diff index_select gather take_along_dim index_add "
        "index_copy scatter scatter_add index_fill repeat_interleave",
    ),
    (_triangle, "tril triu"),
    (_padded, "pad constant_pad_nd"),
    (_joined, "cat concat concatenate stack hstack vstack"),
    (_linear_map, "linear"),
)
"""Operations that are linear in what is on the path, and where they put the points."""

_OTHERS: dict[str, Rule] = _table(
    (_matrix_product, "matmul bmm mm mv"),
    (_summed_letters, "einsum"),
    (_along, "softmax log_softmax"),
    (_reduced, "logsumexp"),
    (
        _batched,
        "batch_norm instance_norm max_pool1d max_pool2d max_pool3d adaptive_max_pool1d "
        "adaptive_max_pool2d adaptive_max_pool3d",
    ),
)


def layouts(call: Call, result: Any) -> list[PathRows]:
    """Return where the points of the path lie in each tensor that an operation gave.

    Parameters
    ----------
    call : Call
        The call; with at least one source.
    result : torch.Tensor or sequence of torch.Tensor
        What came of it.

    Raises
    ------
    RowsLostError
        If points were mixed, taken away or brought into another order.
    """
    rule = LINEAR.get(call.name) or _OTHERS.get(call.name, _aligned)
    if rule is _viewed:
        return _viewed(call, result)
    return [rule(call, one) for one in _several(result)]  # type: ignore[misc]


def written_layout(call: Call, buffer: Tensor, dims: Sequence[int] | None = None) -> PathRows:
    """Return where the points lie in a buffer after ``buffer[index] = value``.

    Parameters
    ----------
    call : Call
        The assignment, with the value as its only source.
    buffer : torch.Tensor
        What was written into.
    dims : sequence of int, optional
        Where the points may lie; on any dimension if left out.
    """
    index = call.args[1]
    value, rows = call.sources[0]
    for dim in range(buffer.ndim) if dims is None else dims:
        place = PathRows(dim, rows.inner)
        read = Call("getitem", torch.Tensor.__getitem__, (buffer, index), {}, [(buffer, place)], 0)
        part = buffer.detach()[index]
        wanted = PathRows(rows.dim + part.ndim - value.ndim, rows.inner)
        try:
            if _viewed(read, part) == [wanted]:
                return place
        except RowsLostError:
            continue
    raise RowsLostError("it writes the points of the path to where they cannot be followed")


def base_layout(buffer: Tensor, part: Tensor, place: PathRows) -> PathRows:
    """Return where the points lie in a buffer of which a part was filled from the path.

    Parameters
    ----------
    buffer, part : torch.Tensor
        The whole, and a view of it.
    place : PathRows
        Where the points lie in the part.
    """
    for dim in range(buffer.ndim):
        same = buffer.stride(dim) == part.stride(place.dim)
        if same and buffer.shape[dim] == part.shape[place.dim]:
            return PathRows(dim, place.inner)
    raise RowsLostError("it writes the points of the path to where they cannot be followed")
