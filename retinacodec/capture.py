"""Taps: what the layers of a model put out while it runs, and handles for their gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from retinacodec.errors import InputError

__all__ = ["Taps", "output_bytes", "tapped"]

Taps = dict[str, list[Tensor]]


@contextlib.contextmanager
def tapped(model: nn.Module, layers: Sequence[str]) -> Iterator[Taps]:
    """Record the outputs of layers, ready to be differentiated with respect to.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    layers : sequence of str
        Names of its modules.

    Yields
    ------
    dict of str to list of torch.Tensor
        For each layer the tensors it put out, one for each time it was called. The list is
        filled while the model runs inside the ``with``; the hooks are gone after it.

    Notes
    -----
    The graph starts at the first tap: what lies before it is computed without gradients. The
    rest of the model gets a copy of each output, so that a later operation in place does not
    change what was recorded.
    """
    records: Taps = {layer: [] for layer in layers}
    modules = dict(model.named_modules())
    handles = []
    try:
        for layer in layers:
            handles.append(modules[layer].register_forward_hook(_recorder(records[layer], layer)))
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _recorder(record: list[Tensor], layer: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:  # noqa: ARG001
        if isinstance(output, tuple):
            return (_tap(output[0], record, layer), *output[1:])
        return _tap(output, record, layer)

    return hook


def _tap(output: Any, record: list[Tensor], layer: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise InputError(
            f"layer {layer!r}: expected a tensor or a tuple that starts with one, got "
            f"{type(output).__name__}; tap a layer inside it"
        )
    if not output.requires_grad:
        output = output.detach().requires_grad_(torch.is_grad_enabled())
    record.append(output)
    return output.clone()


def output_bytes(model: nn.Module, sample: Tensor) -> int:
    """Return the bytes that all layers of a model put out for one batch.

    Parameters
    ----------
    model : torch.nn.Module
        The model; run once without gradients.
    sample : torch.Tensor (batch, ...)
        Its input.

    Returns
    -------
    int
        Sum over the outputs of all modules without children.
    """
    total = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
        nonlocal total
        if isinstance(output, Tensor):
            total += output.numel() * output.element_size()

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    try:
        with torch.no_grad():
            model(sample)
    finally:
        for handle in handles:
            handle.remove()
    return total
