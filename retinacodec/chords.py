"""Exact finite-difference factors: what a nonlinear operation passes back on an interval.

All points of a sample's path lie behind one another in one batch. The factor at a point
belongs to the interval that ends there; that of a path's first point is unused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retinacodec.path_rows import FIRST, PathRows

__all__ = [
    "chord",
    "chord_slope",
    "derivative",
    "einsum_product",
    "matmul_product",
    "product",
    "rectify",
]

Function = Callable[[Tensor], Tensor]
Form = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_KINK = 1e-5


def _small(change: Tensor, values: Tensor, kinked: bool) -> Tensor:
    """Return where the derivative at the midpoint is more accurate than the chord.

    The chord of a change d loses ``eps / d`` to rounding, the derivative at the midpoint of a
    smooth function ``d**2 / 24``: equal at ``d = (24 eps)**(1/3)``. Across a kink only the
    chord is right, so there the derivative is kept for changes that are all rounding.
    """
    limit = _KINK if kinked else (24 * torch.finfo(values.dtype).eps) ** (1 / 3)
    return change.abs() < values.abs().add_(1).mul_(limit)


def derivative(function: Function, at: Tensor) -> Tensor:
    """Return the derivative of an element-wise function."""
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at)[0]


def chord_slope(
    function: Function, values: Tensor, out: Tensor, kinked: bool, rows: PathRows = FIRST
) -> Tensor:
    """Return the chord slope of an element-wise function on each interval.

    Parameters
    ----------
    function : callable
        Element-wise; also called on a flat selection of the values.
    values, out : torch.Tensor (row, ...)
        Arguments and values of the function, in paths of consecutive points.
    kinked : bool
        Whether the slope of the function jumps somewhere.
    rows : PathRows, default the first dimension
        Where the points lie.

    Returns
    -------
    torch.Tensor (row, ...)
        ``(f(z_k) - f(z_{k-1})) / (z_k - z_{k-1})``, and ``f'`` at the midpoint where the change
        is tiny; zero at the first point of all.
    """
    return rows.whole(_later_slope(function, values, out, kinked, rows), values.shape)


def _later_slope(
    function: Function, values: Tensor, out: Tensor, kinked: bool, rows: PathRows
) -> Tensor:
    """Return the chord slopes of the intervals alone."""
    before, after = rows.earlier(values), rows.later(values)
    change = after - before
    small = _small(change, after, kinked)
    slope = (rows.later(out) - rows.earlier(out)).div_(change.masked_fill_(small, 1))
    if values.is_cuda:
        return torch.where(small, derivative(function, (after + before) / 2), slope)
    if bool(small.any()):
        middle = (after[small] + before[small]) / 2
        slope[small] = derivative(function, middle).to(slope.dtype)
    return slope


class _Chord(torch.autograd.Function):
    """An element-wise function that passes gradients with its chord slope."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        function: Function,
        form: Form | None,
        rows: PathRows,
        inplace: bool,
    ) -> Tensor:
        out = function(values)
        if form is None:
            slope = _later_slope(function, values, out, False, rows)
        else:
            slope = form(*rows.ends(values), *rows.ends(out))
        ctx.rows = rows
        ctx.save_for_backward(slope)
        if inplace:
            ctx.mark_dirty(values)
            return values.copy_(out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        return ctx.rows.scaled(gradients[0], *ctx.saved_tensors), None, None, None, None


class _Rectifier(torch.autograd.Function):
    """The rectifier; a share of each interval lies above zero."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: PathRows, inplace: bool) -> Tensor:
        size = values.abs()
        total = rows.earlier(size) + rows.later(size)
        total.clamp_min_(torch.finfo(values.dtype).tiny)
        out = values.clamp_min_(0) if inplace else values.clamp_min(0)
        above = torch.add(rows.earlier(out), rows.later(out), out=rows.later(size))
        ctx.rows = rows
        ctx.save_for_backward(torch.div(above, total, out=total))
        if inplace:
            ctx.mark_dirty(values)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rows.scaled(gradients[0], *ctx.saved_tensors), None, None


def rectify(values: Tensor, rows: PathRows = FIRST, *, inplace: bool = False) -> Tensor:
    """Return max(z, 0); the same as `chord`, in fewer passes over memory.

    Notes
    -----
    The slope is ``(max(z, 0) + max(z', 0)) / (|z| + |z'|)``: 1 or 0 but where z crosses zero,
    without any difference of nearly equal numbers.
    """
    return _Rectifier.apply(values, rows, inplace)


def chord(
    function: Function,
    values: Tensor,
    form: Form | None = None,
    rows: PathRows = FIRST,
    *,
    inplace: bool = False,
) -> Tensor:
    """Apply an element-wise function whose backward uses the chord of each interval.

    Parameters
    ----------
    function : callable
        Element-wise. Without a closed form it has to be smooth, and is also called on a flat
        selection of the values.
    values : torch.Tensor (row, ...)
        Paths of consecutive points.
    form : callable, optional
        The chord slope of the function in closed form, see `retinacodec.slopes`.
    rows : PathRows, default the first dimension
        Where the points lie.
    inplace : bool, default False
        Write the result into `values`.

    Returns
    -------
    torch.Tensor (row, ...)
        Values of the function; slopes are ``(f(z_k) - f(z_{k-1})) / (z_k - z_{k-1})``.
    """
    return _Chord.apply(values, function, form, rows, inplace)


class _Product(torch.autograd.Function):
    """A bilinear map whose backward uses each factor's mean over the interval."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        forms: tuple[Callable[..., Tensor], Callable[..., tuple[Tensor | None, Tensor | None]]],
        rows: tuple[PathRows | None, PathRows | None],
    ) -> Tensor:
        function, ctx.pull = forms
        means: list[Tensor | None] = [None, None]
        for number, (factor, place) in enumerate(zip((a, b), rows, strict=True)):
            if ctx.needs_input_grad[1 - number]:
                means[number] = factor if place is None else place.mean(factor)
        ctx.shapes = a.shape, b.shape
        ctx.save_for_backward(*means)
        return function(a, b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        return (*ctx.pull(gradients[0], *ctx.saved_tensors, *ctx.shapes), None, None)


Factors = tuple[Tensor | None, Tensor | None]
Shapes = tuple[torch.Size, torch.Size]


def _pull_product(
    gradient: Tensor, a: Tensor | None, b: Tensor | None, *shapes: torch.Size
) -> Factors:
    """Return the gradients with respect to the factors of an element-wise product."""
    first = None if b is None else (gradient * b).sum_to_size(shapes[0])
    return first, None if a is None else (gradient * a).sum_to_size(shapes[1])


def _pull_matmul(
    gradient: Tensor, a: Tensor | None, b: Tensor | None, *shapes: torch.Size
) -> Factors:
    """Return the gradients with respect to the factors of a product of matrices."""
    first = None if b is None else (gradient @ b.mT).sum_to_size(shapes[0])
    return first, None if a is None else (a.mT @ gradient).sum_to_size(shapes[1])


def product(
    a: Tensor, b: Tensor, rows_a: PathRows | None = FIRST, rows_b: PathRows | None = FIRST
) -> Tensor:
    """Multiply element-wise: ``d(ab) = mean(a) db + mean(b) da``.

    Parameters
    ----------
    a, b : torch.Tensor (row, ...)
        Factors, that broadcast.
    rows_a, rows_b : PathRows or None, default the first dimension
        Where the points lie in each; None for a factor that is the same along the path.
    """
    return _Product.apply(a, b, (torch.mul, _pull_product), (rows_a, rows_b))


def matmul_product(
    a: Tensor, b: Tensor, rows_a: PathRows | None = FIRST, rows_b: PathRows | None = FIRST
) -> Tensor:
    """Multiply matrices, of at least two dimensions each, both on the path; see `product`."""
    return _Product.apply(a, b, (torch.matmul, _pull_matmul), (rows_a, rows_b))


def einsum_product(
    equation: str,
    a: Tensor,
    b: Tensor,
    rows_a: PathRows | None = FIRST,
    rows_b: PathRows | None = FIRST,
) -> Tensor:
    """Contract two tensors by an Einstein sum, both on the path; see `product`."""

    def contract(left: Tensor, right: Tensor) -> Tensor:
        return torch.einsum(equation, left, right)

    def pull(
        gradient: Tensor, left: Tensor | None, right: Tensor | None, *shapes: torch.Size
    ) -> Factors:
        wanted = (right is not None, left is not None)
        factors = [
            gradient.new_zeros(shape) if mean is None else mean.detach()
            for mean, shape in zip((left, right), shapes, strict=True)
        ]
        with torch.enable_grad():
            asked = [
                factor.requires_grad_()
                for factor, want in zip(factors, wanted, strict=True)
                if want
            ]
            found = iter(torch.autograd.grad(contract(*factors), asked, gradient))
        return (next(found) if wanted[0] else None), (next(found) if wanted[1] else None)

    return _Product.apply(a, b, (contract, pull), (rows_a, rows_b))
