"""Capture: what passes the taps of a model while it runs, and handles for the gradients there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from retinacodec.errors import InputError
from retinacodec.taps import Tap

__all__ = ["Captured", "first_replaced", "tapped"]

Captured = dict[str, list[Tensor]]


@contextlib.contextmanager
def tapped(model: nn.Module, layers: Sequence[str] | Mapping[str, Tap]) -> Iterator[Captured]:
    """Record what passes taps, ready to be differentiated with respect to.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    layers : sequence of str, or dict of str to Tap
        Names of modules whose outputs are recorded, or taps by their labels.

    Yields
    ------
    dict of str to list of torch.Tensor
        For each layer the tensors recorded, one for each time it was called. The list is
        filled while the model runs inside the ``with``; the hooks are gone after it.

    Notes
    -----
    The graph starts at the first tap: what lies before it is computed without gradients. The
    rest of the model gets a copy of each tensor, so that a later operation in place does not
    change what was recorded.
    """
    taps = layers if isinstance(layers, Mapping) else {name: Tap(name) for name in layers}
    records: Captured = {label: [] for label in taps}
    modules = dict(model.named_modules())
    handles = []
    try:
        for label, tap in taps.items():
            module, record = modules[tap.name], records[label]
            if tap.side == "input":
                hook = _input_recorder(record, label)
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(_output_recorder(record, label)))
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _output_recorder(record: list[Tensor], label: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:  # noqa: ARG001
        if isinstance(output, tuple) and output:
            return first_replaced(output, _record(output[0], record, label))
        return _record(output, record, label)

    return hook


def first_replaced(values: tuple[Any, ...], first: Tensor) -> tuple[Any, ...]:
    """Return a tuple, named or not, with another first value."""
    if hasattr(values, "_fields"):
        return type(values)(first, *values[1:])
    return (first, *values[1:])


def _input_recorder(record: list[Tensor], label: str) -> Any:
    def hook(module: nn.Module, inputs: Any, named: dict[str, Any]) -> Any:  # noqa: ARG001
        if inputs:
            return (_record(inputs[0], record, label), *inputs[1:]), named
        first = next(iter(named), None)
        if first is None:
            raise InputError(f"layer {label!r}: nothing enters it; tap its output")
        return inputs, {**named, first: _record(named[first], record, label)}

    return hook


def _record(value: Any, record: list[Tensor], label: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError(
            f"layer {label!r}: expected a tensor or a tuple that starts with one, got "
            f"{type(value).__name__}; tap a layer inside it"
        )
    if not value.requires_grad:
        value = value.detach().requires_grad_(torch.is_grad_enabled())
    record.append(value)
    return value.clone()
