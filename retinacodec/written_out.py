"""Composite functions of torch, written out in operations that have exact factors.

Each has the signature of the function that it stands for, and is called with the secant mode
on, so that everything in it is followed like the model's own operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from retinacodec.errors import InputError
from retinacodec.path_layouts import letters

__all__ = ["WRITTEN_OUT"]

Dims = int | Sequence[int] | None


def _dims(dim: Dims, ndim: int) -> tuple[int, ...]:
    if dim is None:
        return tuple(range(ndim))
    return tuple(one % ndim for one in ((dim,) if isinstance(dim, int) else dim))


def addmm(input: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Add a matrix product; also for matrices with a vector and for batches."""
    out = torch.matmul(a, b)
    return (out if alpha == 1 else alpha * out) + (input if beta == 1 else beta * input)


def addbmm(input: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Add the sum over a batch of matrix products."""
    return beta * input + alpha * torch.matmul(a, b).sum(0)


def addr(input: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Add an outer product."""
    return beta * input + alpha * outer(a, b)


def addcmul(input: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """Add an element-wise product."""
    return input + value * (a * b)


def addcdiv(input: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """Add an element-wise quotient."""
    return input + value * (a / b)


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """Mix two tensors."""
    return input + weight * (end - input)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Multiply each with each."""
    return input.unsqueeze(-1) * vec2.unsqueeze(0)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Sum the products along the last dimension."""
    return (input * tensor).sum(-1)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sum the products of the last dimensions, each with each."""
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    return tensordot(input, other, ([-1], [-1]))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: None = None) -> Tensor:
    """Sum products over pairs of dimensions."""
    if isinstance(dims, int):
        dims = (range(a.ndim - dims, a.ndim), range(dims))
    ours, theirs = (list(_dims(one, t.ndim)) for one, t in zip(dims, (a, b), strict=True))
    left = [chr(97 + i) for i in range(a.ndim)]
    right = [chr(65 + i) for i in range(b.ndim)]
    for one, other in zip(ours, theirs, strict=True):
        right[other] = left[one]
    kept = [c for i, c in enumerate(left) if i not in ours]
    kept += [c for i, c in enumerate(right) if i not in theirs]
    return torch.einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", a, b)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Contract operands in pairs, from left to right."""
    given = list(operands[0] if isinstance(operands[0], (list, tuple)) else operands)
    inputs, output = letters(equation)
    while len(given) > 2:
        rest = "".join(inputs[2:]) + output
        kept = "".join(c for c in dict.fromkeys(inputs[0] + inputs[1]) if c in rest)
        joined = _dotted(f"{inputs[0]},{inputs[1]}->{kept}")
        given[:2] = [torch.einsum(joined, given[0], given[1])]
        inputs[:2] = [kept]
    return torch.einsum(_dotted(f"{','.join(inputs)}->{output}"), *given)


def _dotted(equation: str) -> str:
    left, right = equation.split("->")
    return f"{left.replace('.', '...')}->{right.replace('.', '...')}"


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a bilinear form for each output."""
    out = torch.einsum("...i,oij,...j->...o", input1, weight, input2)
    return out if bias is None else out + bias


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Gate one half with the other."""
    value, gate = input.chunk(2, dim)
    return value * gate.sigmoid()


def softmin(input: Tensor, dim: int = -1, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """Return the softmax of the negative."""
    return torch.softmax(-input, dim, dtype=dtype)


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """Return the log of the sum of two powers."""
    return torch.stack(broadcast_tensors(input, other), -1).logsumexp(-1)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Return tensors expanded to one shape."""
    given = tensors[0] if isinstance(tensors[0], (list, tuple)) else tensors
    shape = torch.broadcast_shapes(*(one.shape for one in given))
    return tuple(one.expand(shape) for one in given)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """Return the larger of two."""
    return other + torch.relu(input - other)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """Return the smaller of two."""
    return input - torch.relu(input - other)


def amax(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Return the largest over dimensions."""
    dims = _dims(None if dim == () else dim, input.ndim)
    kept = [one for one in range(input.ndim) if one not in dims]
    flat = input.permute(*kept, *dims).reshape(*(input.shape[one] for one in kept), -1)
    out = flat.topk(1)[0].squeeze(-1)
    shape = [1 if one in dims else input.shape[one] for one in range(input.ndim)]
    return out.reshape(shape) if keepdim else out


def amin(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Return the smallest over dimensions."""
    return -amax(-input, dim, keepdim)


def _extreme(largest: bool) -> Callable[..., Any]:
    kind: Any = torch.return_types.max if largest else torch.return_types.min

    def extreme(input: Tensor, dim: Any = None, keepdim: bool = False, **other: Any) -> Any:
        against = other.get("other", dim)
        if isinstance(against, Tensor):
            return (maximum if largest else minimum)(input, against)
        if dim is None:
            return (amax if largest else amin)(input)
        values, places = input.topk(1, dim, largest)
        return kind((values, places) if keepdim else (values.squeeze(dim), places.squeeze(dim)))

    return extreme


def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the largest, or smallest, values along any dimension, and their places."""
    moved = input.movedim(dim, -1)
    values, places = (moved if largest else -moved).topk(k)
    values = values if largest else -values
    kind: Any = torch.return_types.topk
    return kind((values.movedim(-1, dim), places.movedim(-1, dim)))


def normalize(
    input: Tensor, p: float = 2.0, dim: Dims = 1, eps: float = 1e-12, out: None = None
) -> Tensor:
    """Divide by the norm over dimensions."""
    return input / vector_norm(input, p, dim, True).clamp_min(eps).expand_as(input)


def vector_norm(
    input: Tensor, p: Any = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Return the norm over dimensions, for p of 1, 2 or infinity."""
    dims = _dims(dim, input.ndim)
    values = input if dtype is None else input.to(dtype)
    if p in (2, None, "fro"):
        return (values * values).sum(dims, keepdim).sqrt()
    if p == 1:
        return values.abs().sum(dims, keepdim)
    if p == float("inf"):
        return amax(values.abs(), dims, keepdim)
    raise InputError(
        f"secant: expected a norm with p of 1, 2 or infinity, got {p}; use one of them"
    )


def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Dims = None,
    keepdim: bool = False,
    out: None = None,
    dtype: Any = None,
) -> Tensor:
    """Return a norm; see `vector_norm`."""
    return vector_norm(input, p, dim, keepdim, dtype=dtype)


def linalg_norm(
    A: Tensor, ord: Any = None, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Return a norm of vectors, or the Frobenius norm of matrices."""
    matrices = ord not in (None, "fro") and not isinstance(dim, int) and A.ndim > 1
    if matrices and len(_dims(dim, A.ndim)) > 1:
        raise InputError(f"secant: expected the Frobenius norm of a matrix, got ord={ord!r}")
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


def _spread(input: Tensor, dim: Any, unbiased: Any, correction: Any) -> tuple[Any, ...]:
    """Return dimensions, correction, centred values and mean."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    dims = _dims(None if dim == () else dim, input.ndim)
    less = (
        int(unbiased) if isinstance(unbiased, bool) else (1 if correction is None else correction)
    )
    mean = input.mean(dims, keepdim=True)
    return dims, prod(input.shape[one] for one in dims) - less, input - mean, mean


def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Return the variance over dimensions."""
    dims, count, centred, _ = _spread(input, dim, unbiased, correction)
    return (centred * centred).sum(dims, keepdim) / count


def std(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return the standard deviation over dimensions."""
    return var(input, *args, **kwargs).sqrt()


def var_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return variance and mean over dimensions."""
    dims, count, centred, mean = _spread(input, dim, unbiased, correction)
    mean = mean if keepdim else input.mean(dims)
    return (centred * centred).sum(dims, keepdim) / count, mean


def std_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Return standard deviation and mean over dimensions."""
    variance, mean = var_mean(input, *args, **kwargs)
    return variance.sqrt(), mean


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return the cosine of the angle between vectors."""
    norms = [vector_norm(one, 2, dim).clamp_min(eps) for one in (x1, x2)]
    return (x1 * x2).sum(dim) / (norms[0] * norms[1])


def xlogy(input: Tensor, other: Tensor) -> Tensor:
    """Return one times the log of the other."""
    return input * other.log()


def entr(input: Tensor) -> Tensor:
    """Return the entropy of each probability."""
    return -(input * input.log())


def _affine(out: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift channels, which lie on the second dimension."""
    shape = (1, -1, *([1] * (out.ndim - 2)))
    out = out if weight is None else out * weight.view(shape)
    return out if bias is None else out + bias.view(shape)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Standardise groups of channels of each image."""
    groups = input.reshape(input.shape[0], num_groups, -1)
    return _affine(F.layer_norm(groups, groups.shape[2:], eps=eps).view(input.shape), weight, bias)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Standardise each channel of each image by its own mean and variance."""
    return group_norm(input, input.shape[1], weight, bias, eps)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Divide each channel by a power of the mean square of its neighbours."""
    squares = input.square().flatten(2).unsqueeze(1)
    squares = F.pad(squares, (0, 0, size // 2, (size - 1) // 2))
    mean = F.avg_pool2d(squares, (size, 1), stride=1).squeeze(1).reshape(input.shape)
    return input / (alpha * mean + k) ** beta


WRITTEN_OUT: dict[str, Callable[..., Any]] = {
    "addmv": addmm,
    "baddbmm": addmm,
    "max": _extreme(True),
    "min": _extreme(False),
    "fmax": maximum,
    "fmin": minimum,
    "ger": outer,
    "vdot": dot,
    "vecdot": dot,
    "linalg_vector_norm": vector_norm,
    **{
        one.__name__: one
        for one in (
            addmm,
            addbmm,
            addr,
            addcmul,
            addcdiv,
            lerp,
            outer,
            dot,
            inner,
            tensordot,
            einsum,
            bilinear,
            glu,
            softmin,
            logaddexp,
            broadcast_tensors,
            maximum,
            minimum,
            amax,
            amin,
            topk,
            normalize,
            norm,
            linalg_norm,
            var,
            std,
            var_mean,
            std_mean,
            cosine_similarity,
            xlogy,
            entr,
            group_norm,
            instance_norm,
            local_response_norm,
        )
    },
}
"""Composite functions by their names in torch."""
