"""The secant mode: runs any model so that gradients are chord slopes along paths.

Inside the mode every tensor that depends on the paths is known; linear operations pass, the
nonlinear ones are exchanged for those with exact factors, and an operation that is neither is
named in an error, so that a result is never silently wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from retinacodec.errors import InputError
from retinacodec.path_layouts import (
    LINEAR,
    Call,
    RowsLostError,
    base_layout,
    layouts,
    written_layout,
)
from retinacodec.path_rows import FIRST, PathRows, tensors
from retinacodec.secant_operations import (
    CONSTANT,
    ELEMENTWISE,
    FIRST_ONLY,
    KINKED,
    ONE_FACTOR,
    plain_function,
    plain_name,
)
from retinacodec.secant_rules import RULES, Operation
from retinacodec.written_out import WRITTEN_OUT

__all__ = [
    "ELEMENTWISE",
    "KINKED",
    "NoExactFactorError",
    "SecantMode",
    "plain_function",
    "tensors",
]


class NoExactFactorError(InputError):
    """A model uses an operation that has no exact factor on an interval of a path."""


@dataclass(frozen=True)
class _Mark:
    """What is known of a tensor on the path.

    Parameters
    ----------
    rows : PathRows or None
        Where the points of the path lie; None if that could not be followed.
    lost : str or None
        The operation, such as a comparison, at which its gradient was lost.
    apart : bool
        Whether single points were taken out of their path.
    """

    rows: PathRows | None
    lost: str | None = None
    apart: bool = False


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
    NoExactFactorError
        From inside the model, when an operation has no exact factor: the message names it.

    Notes
    -----
    Only what requires gradients has to have a factor; before that, values alone are followed.
    A value that was made by a step (a comparison, an index, rounding) or cut off by ``detach``
    may not meet again what carries a gradient.

    References
    ----------
    Shrikumar, Greenside, Kundaje, ICML 2017 (rescale rule), applied to each interval.
    """

    def __init__(self, points: int, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self.points = points
        self._known = WeakTensorKeyDictionary()
        for tensor in inputs:
            self._known[tensor] = _Mark(FIRST)

    def check(self, outputs: Tensor) -> None:
        """Raise `NoExactFactorError` unless outputs (row, ...) carry gradients of the paths.

        Parameters
        ----------
        outputs : torch.Tensor (row, ...)
            What came of the model or the target. The mode itself sees only what is handed to
            operations, so that nothing else notices a step at the very end.
        """
        self._check_stranger(outputs, "output")
        mark = self._known.get(outputs)
        if mark is None:
            _refuse("output", "it does not come from the path by operations that are followed")
        if mark.lost is not None:
            _refuse(mark.lost, "the output would depend on it alone")
        if mark.rows != FIRST:
            _refuse("output", "its first dimension is not that of the batch")

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        marks: list[tuple[Tensor, _Mark]] = []
        for tensor in tensors((args, kwargs)):
            mark = self._known.get(tensor)
            if mark is not None:
                marks.append((tensor, mark))
            elif tensor.requires_grad and tensor.grad_fn is not None:
                self._check_stranger(tensor, plain_name(func)[0])
        if not marks:
            return func(*args, **kwargs)
        for key in ("input", "tensors"):
            if not args and key in kwargs:
                args = (kwargs[key],)
                kwargs = {name: value for name, value in kwargs.items() if name != key}
        name, inplace = plain_name(func)
        if name in FIRST_ONLY:
            marks = [(tensor, mark) for tensor, mark in marks if tensor is args[0]]
        if not marks or name in CONSTANT:
            return func(*args, **kwargs)
        return self._follow(Operation(self, name, func, args, kwargs, inplace), marks)

    def _follow(self, operation: Operation, marks: list[tuple[Tensor, _Mark]]) -> Any:
        """Run an operation on tensors on the path, and mark what comes of it."""
        name, lost = operation.name, next((m.lost for _, m in marks if m.lost is not None), None)
        for tensor, mark in marks:
            if tensor.requires_grad and mark.lost is not None and not mark.apart:
                _refuse(name, f"it takes a value made by {mark.lost!r}")
        live = any(tensor.requires_grad for tensor, mark in marks if mark.lost is None)
        if live and torch.is_grad_enabled():
            numbers = all(tensor.is_floating_point() for tensor, _ in marks)
            if lost is not None or not numbers:
                return self._after_step(operation, lost or "an operation before the first layer")
            result = self._differentiable(operation, marks)
        else:
            if live and operation.inplace:
                _refuse(name, "it changes a tensor in place without gradients")
            lost = lost or (f"{name} without gradients" if live else None)
            live, result = False, operation.plain()
        if name == "requires_grad" and operation.inplace and lost is None:
            self._known[result] = _Mark(marks[0][1].rows or FIRST)
            return result
        self._mark(operation, result, marks, lost, live)
        return result

    def _differentiable(self, operation: Operation, marks: list[tuple[Tensor, _Mark]]) -> Any:
        """Run an operation whose gradient has to be exact."""
        name = operation.name
        others = [tensor for tensor, _ in marks if tensor is not operation.first]
        if name in ONE_FACTOR and others:
            _refuse(name, "its weights depend on the path")
        if isinstance(operation.kwargs.get("out"), Tensor):
            _refuse(name, "it writes into a given tensor (out=...)")
        if name in ("numpy", "tolist", "__array__", "array"):
            _refuse(name, "its values leave torch")
        if name in ELEMENTWISE or name in RULES:
            return RULES.get(name, RULES["elementwise"])(operation)
        if name in WRITTEN_OUT:
            with self:
                result = WRITTEN_OUT[name](*operation.args, **operation.kwargs)
            return operation.args[0].copy_(result) if operation.inplace else result
        result = operation.plain()
        known = name in LINEAR or name == "setitem"
        if not known and any(_is_value(tensor) for tensor in tensors(result)):
            _refuse(name)
        return result

    def _after_step(self, operation: Operation, lost: str) -> Any:
        """Run an operation on what was lost: its result may be another step, not a value."""
        result = None if operation.inplace else operation.plain()
        if operation.inplace or any(_is_value(tensor) for tensor in tensors(result)):
            _refuse(operation.name, f"it takes a condition, an index or a value made by {lost!r}")
        for tensor in tensors(result):
            self._known[tensor] = _Mark(None, lost)
        return result

    def _mark(
        self,
        operation: Operation,
        result: Any,
        marks: list[tuple[Tensor, _Mark]],
        lost: str | None,
        live: bool,
    ) -> None:
        """Write down for all results where the path lies, or where its gradient was lost."""
        found = list(tensors(result))
        if operation.inplace or isinstance(operation.kwargs.get("out"), Tensor):
            found = [operation.args[0] if operation.inplace else operation.kwargs["out"]]
        apart = any(mark.apart for _, mark in marks)
        followed = []
        for tensor in found:
            if lost is not None or (live and not tensor.requires_grad):
                self._known[tensor] = _Mark(None, lost or operation.name, apart)
                self._mark_base(operation, tensor, self._known[tensor])
            elif operation.inplace or tensor not in self._known:
                followed.append(tensor)
        if not followed:
            return
        places = self._places(operation, found[0] if len(found) == 1 else found, marks, live)
        for tensor, mark in zip(found, places, strict=True):
            if any(tensor is one for one in followed):
                self._known[tensor] = mark
                self._mark_base(operation, tensor, mark)

    def _places(
        self, operation: Operation, result: Any, marks: list[tuple[Tensor, _Mark]], live: bool
    ) -> list[_Mark]:
        """Return where the points of the path lie in each result."""
        sources = [(tensor, mark.rows) for tensor, mark in marks if mark.rows is not None]
        name, count = operation.name, len(list(tensors(result)))
        call = Call(name, operation.func, operation.args, operation.kwargs, sources, self.points)
        try:
            if not sources:
                raise RowsLostError("the points of the path were lost before it")
            if operation.inplace and any(tensor is result for tensor, _ in sources):
                return [_Mark(self._unmoved(call, result))]
            if name == "setitem":
                return [_Mark(written_layout(call, result))]
            return [_Mark(place) for place in layouts(call, result)]
        except RowsLostError as reason:
            if live and name in ("getitem", "select", "narrow", "unbind"):
                return [_Mark(None, name, apart=True)] * count
            if live:
                _refuse(name, str(reason))
        except (TypeError, ValueError, IndexError, AttributeError, KeyError, RuntimeError):
            if live:
                raise
        return [_Mark(None)] * count

    def _unmoved(self, call: Call, buffer: Tensor) -> PathRows:
        """Return where the points lie in a tensor on the path that was changed in place."""
        rows = next(rows for tensor, rows in call.sources if tensor is buffer)
        values = [source for source in call.sources if source[0] is not buffer]
        if call.name == "setitem" and values:
            written = replace(call, sources=values)
            if written_layout(written, buffer, (rows.dim,)) != rows:
                raise RowsLostError("it writes the points of the path to other places")
        return rows

    def _mark_base(self, operation: Operation, tensor: Tensor, mark: _Mark) -> None:
        """Mark also the tensor of which a part was written in place."""
        base = tensor._base if operation.inplace else None
        if base is None or base in self._known:
            return
        try:
            place = None if mark.rows is None else base_layout(base, tensor, mark.rows)
        except RowsLostError as reason:
            _refuse(operation.name, str(reason))
        self._known[base] = _Mark(place, mark.lost)

    def rows(self, value: Any) -> PathRows | None:
        """Return where the points lie in a tensor, None if it is not on the path."""
        mark = self._known.get(value) if isinstance(value, Tensor) else None
        if mark is None:
            return None
        if mark.rows is None:
            _refuse("product", "the points of the path cannot be followed through a factor")
        return mark.rows

    def refuse(self, name: str, why: str = "") -> NoReturn:
        """Raise the error for an operation without an exact factor."""
        _refuse(name, why)

    def _check_stranger(self, tensor: Tensor, name: str) -> None:
        """Raise if a tensor that was never seen has gradients of the path all the same."""
        if tensor.grad_fn is None or tensor in self._known:
            return
        stack: list[Any] = [tensor.grad_fn]
        seen: set[Any] = set()
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            variable = getattr(node, "variable", None)
            if variable is not None and variable in self._known:
                _refuse(tensor.grad_fn.name(), f"it is out of sight, and {name!r} takes its result")
            stack += [parent for parent, _ in node.next_functions]


def _is_value(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _refuse(name: str, why: str = "") -> NoReturn:
    raise NoExactFactorError(
        f"secant: no exact factor is known for the operation {name!r}{': ' if why else ''}{why}; "
        "use IntegratedGradients, or write the model without it"
    )
