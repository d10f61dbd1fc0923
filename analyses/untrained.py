"""A circuit's double with weights that nothing was fitted to."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from retinacodec.circuit import Circuit
from retinacodec.errors import InputError

__all__ = ["untrained_like"]


def untrained_like(circuit: Circuit, seed: int = 0) -> Circuit:
    """Return a circuit of the same shape whose weights are drawn anew; the original stays.

    Parameters
    ----------
    circuit : Circuit
        A fitted circuit.
    seed : int, default 0
        Seed of the weights; several seeds show how much chance there is in such a control.

    Returns
    -------
    Circuit
        Same layers, history, latency and outputs; a model of its own.

    Raises
    ------
    InputError
        If the model has weights that it does not know how to draw.

    Notes
    -----
    A model with ``config`` and ``from_config`` is built again with this seed, as if it was never
    fitted. Of any other a copy is made, and every module with ``reset_parameters`` is asked to,
    normalisation included. Buffers of the model itself, such as the scale of contrast, are kept.

    Examples
    --------
    >>> from retinacodec.models import DeepRetina
    >>> model = DeepRetina(2, size=(12, 12), history=6, channels=(4, 3), kernels=(5, 3), seed=3)
    >>> other = untrained_like(Circuit(model, ["relu1"]), seed=3)
    >>> bool((other.model.conv1.weight == model.conv1.weight).all())
    True
    """
    model = _rebuilt(circuit.model, seed)
    model = _reset(circuit.model, seed) if model is None else model
    model.train(circuit.model.training)
    return Circuit(
        model,
        list(circuit.taps.values()),
        circuit.history,
        circuit.latency,
        circuit.outputs,
        circuit.sample,
        circuit.output,
    )


def _rebuilt(model: nn.Module, seed: int) -> nn.Module | None:
    """Build the model again with another seed, if it says how."""
    config: Any = getattr(model, "config", None)
    build: Any = getattr(type(model), "from_config", None)
    options = config() if callable(config) and callable(build) else {}
    if "seed" not in options:
        return None
    new: nn.Module = build({**options, "seed": seed})
    kept = dict(new.named_buffers(recurse=False))
    with torch.no_grad():
        for name, values in model.named_buffers(recurse=False):
            if name in kept and kept[name].shape == values.shape:
                kept[name].copy_(values)
    return new.to(next(iter(model.parameters())).device)


def _reset(model: nn.Module, seed: int) -> nn.Module:
    """Copy the model and draw the weights of every module that knows how."""
    places = {one.device for one in model.parameters()}
    new = copy.deepcopy(model).cpu()
    lost = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, module in new.named_modules():
            own = [key for key, _ in module.named_parameters(recurse=False)]
            reset: Any = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                lost += [f"{name}.{key}" if name else key for key in own]
    if lost or not places:
        what = f"it cannot draw {', '.join(lost[:5])}" if lost else "it has no weights"
        raise InputError(
            f"untrained_like: expected a model whose weights can be drawn anew, but {what}; give "
            f"{type(model).__name__} config and from_config with a seed, or pass a control of "
            "your own"
        )
    return new.to(next(iter(places)))
