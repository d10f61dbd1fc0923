"""The course of the stimulus through a model: each operation in order, and re-entry midway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from retinacodec.secant import tensors
from retinacodec.taps import Tap

__all__ = ["NotAChainError", "Operation", "Trace", "record"]

Run = Callable[[Tensor], Tensor]
_SHAPE_OF_OTHER = frozenset("view_as reshape_as expand_as type_as".split())


class NotAChainError(Exception):
    """The model is not one chain of operations; the message says where."""


class _Reached(Exception):  # noqa: N818
    """What was asked for has been reached; the argument holds it."""


@dataclass(frozen=True)
class Operation:
    """One operation on the stimulus' way.

    Parameters
    ----------
    name : str
        Name of the function, such as ``"conv2d"``.
    function : callable
        The function.
    args, kwargs : tuple, dict
        Its arguments, with None in place of the tensor that depends on the stimulus.
    shape : tuple of int or None
        Shape of one sample of the result; None for an enquiry that computes no tensor.
    """

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: tuple[int, ...] | None


class _Following(TorchFunctionMode):
    """Knows which tensors depend on the stimulus and numbers the operations on them."""

    def __init__(self, stimulus: Tensor) -> None:
        super().__init__()
        self.number = -1
        self._on_path = WeakTensorKeyDictionary()
        self._on_path[stimulus] = True

    def depends(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value in self._on_path

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not any(self.depends(tensor) for tensor in tensors((args, kwargs))):
            return func(*args, **kwargs)
        self.number += 1
        result = self.pass_on(func, args, kwargs)
        for tensor in tensors(result):
            self._on_path[tensor] = True
        return result

    def pass_on(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise NotImplementedError


class _Recording(_Following):
    """Writes the operations down."""

    def __init__(self, stimulus: Tensor) -> None:
        super().__init__(stimulus)
        self.operations: list[Operation] = []
        self.last = stimulus

    def pass_on(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = str(getattr(func, "__name__", func))
        sources = [tensor for tensor in tensors((args, kwargs)) if self.depends(tensor)]
        before = self.last
        result = func(*args, **kwargs)
        if not list(tensors(result)):
            self.operations.append(Operation(name, func, (), {}, None))
            return result
        others = sources[1:] if name in _SHAPE_OF_OTHER else sources
        if not isinstance(result, Tensor):
            raise NotAChainError(f"{name} has several results")
        if sources[0] is not before or (others is sources and len(sources) > 1):
            raise NotAChainError(f"{name} joins branches")
        shape = tuple(result.shape[1:]) if result.ndim and len(result) == len(before) else None
        if shape is None:
            raise NotAChainError(f"{name} mixes samples")
        blank = [None if self.depends(value) else value for value in args]
        named = {key: None if self.depends(value) else value for key, value in kwargs.items()}
        self.operations.append(Operation(name, func, tuple(blank), named, shape))
        self.last = result
        return result


class _Resuming(_Following):
    """Skips the operations before a number, and enters there with a value of its own."""

    def __init__(
        self,
        stimulus: Tensor,
        operations: Sequence[Operation],
        entry: int,
        value: Tensor,
        keep: Sequence[int],
    ) -> None:
        super().__init__(stimulus)
        self.operations, self.entry, self.value = operations, entry, value
        self.keep, self.kept = frozenset(keep), dict[int, Tensor]()
        self.blank = torch.zeros(1, dtype=value.dtype, device=value.device)

    def pass_on(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        number = self.number
        if number > self.entry:
            result = func(*args, **kwargs)
        elif self.operations[number].name != str(getattr(func, "__name__", func)):
            raise NotAChainError("the model takes another course at another call")
        elif self.operations[number].shape is None:
            return func(*args, **kwargs)
        elif number == self.entry:
            result = self.value
        else:
            shape = (len(self.value), *(self.operations[number].shape or ()))
            result = self.blank.expand(shape)
        if number in self.keep:
            self.kept[number] = result.clone()
            if len(self.kept) == len(self.keep):
                raise _Reached(self.kept)
        return result


@dataclass(frozen=True)
class Trace:
    """The recorded course of one model.

    Parameters
    ----------
    operations : tuple of Operation
        In the order in which the stimulus passes them.
    taps : dict of str to int
        Number of the operation whose result each layer put out.
    sample : tuple of int
        Shape of a sample of the stimulus.
    """

    operations: tuple[Operation, ...]
    taps: dict[str, int]
    sample: tuple[int, ...]

    def resume(self, run: Run, entry: int, value: Tensor, stop: int | None = None) -> Tensor:
        """Run the model from the middle of its course.

        Parameters
        ----------
        run : callable
            The model.
        entry : int
            Operation whose result is replaced; -1 is the stimulus itself. What comes before
            is not computed.
        value : torch.Tensor (batch, ...)
            What takes its place.
        stop : int, optional
            Operation after which to stop; the end of the model if left out.

        Returns
        -------
        torch.Tensor (batch, ...)
            Result of the operation `stop`, or of the model.

        Raises
        ------
        NotAChainError
            If the model takes another course than the recorded one.
        """
        if stop is not None:
            return self._keep(run, entry, value, [stop])[stop]
        return self._enter(run, entry, value, [])[1]

    def watch(self, run: Run, stimulus: Tensor, numbers: Sequence[int]) -> dict[int, Tensor]:
        """Return the results of some operations in one run from the stimulus on."""
        return self._keep(run, -1, stimulus, numbers)

    def _keep(
        self, run: Run, entry: int, value: Tensor, numbers: Sequence[int]
    ) -> dict[int, Tensor]:
        if list(numbers) == [entry]:
            return {entry: value}
        try:
            mode, _ = self._enter(run, entry, value, numbers)
        except _Reached as reached:
            return reached.args[0]  # type: ignore[no-any-return]
        raise NotAChainError(f"only {sorted(mode.kept)} of {numbers} were reached")

    def _enter(
        self, run: Run, entry: int, value: Tensor, keep: Sequence[int]
    ) -> tuple[_Resuming, Tensor]:
        stimulus = value
        if entry >= 0:
            blank = torch.zeros(1, dtype=value.dtype, device=value.device)
            stimulus = blank.expand(len(value), *self.sample)
        mode = _Resuming(stimulus, self.operations, entry, value, keep)
        with mode:
            return mode, run(stimulus)


def record(run: Run, model: nn.Module, layers: Mapping[str, Tap], stimulus: Tensor) -> Trace:
    """Write down the operations that the stimulus passes in a model.

    Parameters
    ----------
    run : callable
        Calls the model.
    model : torch.nn.Module
        The model.
    layers : dict of str to Tap
        Taps whose place on the course is wanted, by their labels.
    stimulus : torch.Tensor (batch, ...)
        Any input of the model, two samples or more.

    Returns
    -------
    Trace
        The course.

    Raises
    ------
    NotAChainError
        If operations branch, join, mix samples or give several results, or if a layer is not
        called exactly once or puts out something else than the result of an operation.
    """
    mode = _Recording(stimulus)
    taps: dict[str, list[int]] = {layer: [] for layer in layers}

    def note(layer: str, passing: Any) -> None:
        if passing is not mode.last or mode.number < 0:
            raise NotAChainError(f"{layer} is not on the course")
        results = [i for i, one in enumerate(mode.operations) if one.shape is not None]
        taps[layer].append(results[-1])

    handles = [_watch(model, label, tap, note) for label, tap in layers.items()]
    try:
        with mode, torch.no_grad():
            outputs = run(stimulus)
    finally:
        for handle in handles:
            handle.remove()
    if outputs is not mode.last:
        raise NotAChainError("the outputs are not the end of the course")
    if any(len(calls) != 1 for calls in taps.values()):
        raise NotAChainError("a layer is not called exactly once")
    return Trace(
        tuple(mode.operations),
        {layer: calls[0] for layer, calls in taps.items()},
        tuple(stimulus.shape[1:]),
    )


def _watch(model: nn.Module, label: str, tap: Tap, note: Callable[[str, Any], None]) -> Any:
    """Hook what passes a tap, and return the handle."""
    if tap.heads is not None or tap.channel_axis is not None:
        raise NotAChainError(f"{label} divides its values in its own way")
    module = model.get_submodule(tap.name)
    if tap.side == "output":
        return module.register_forward_hook(lambda _, inputs, output: note(label, output))  # noqa: ARG005
    return module.register_forward_pre_hook(lambda _, inputs: note(label, (*inputs, None)[0]))
