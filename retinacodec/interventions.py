"""Interventions: channels of a layer are changed while the model runs, which stays as it is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.capture import first_replaced
from retinacodec.changes import (
    Change,
    Clamp,
    Corrupt,
    Mean,
    Offset,
    Resample,
    Scale,
    Silence,
    SimilarityOffset,
    fade,
    other_samples,
)
from retinacodec.circuit import Circuit, evaluating
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError, Problems
from retinacodec.layer_values import layer_values, mean_over, tap_of
from retinacodec.mode_channels import channels_of, mode_weights
from retinacodec.samples import Images, Samples, rows_for

__all__ = [
    "Change",
    "Clamp",
    "Corrupt",
    "Intervention",
    "Mean",
    "Offset",
    "Resample",
    "Scale",
    "Silence",
    "SimilarityOffset",
    "channels_of",
    "fade",
    "intervening",
    "layer_values",
    "mean_over",
    "mode_weights",
    "predict_under",
]

Channels = npt.ArrayLike | None


@dataclass(frozen=True, eq=False)
class Intervention:
    """What is done to which channels of which layer.

    Parameters
    ----------
    layer : str
        A layer of the circuit, by its label.
    channels : array_like of int, or array_like of bool (channel,), optional
        Numbers of the channels, or for each whether it is meant; all of them if left out.
    how : Change, default Silence()
        What becomes of them.
    """

    layer: str
    channels: Channels = None
    how: Change = field(default_factory=Silence)


@contextlib.contextmanager
def intervening(
    circuit: Circuit, layer: str, channels: Channels = None, how: Change | None = None
) -> Iterator[Circuit]:
    """Change channels of a layer whenever the model runs inside the ``with``.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    layer, channels
        As in `Intervention`.
    how : Change, optional
        What becomes of them; ``Silence()`` if left out.

    Yields
    ------
    Circuit
        The same circuit; its model is never changed, and the hooks are gone after the ``with``,
        also after an error.

    Raises
    ------
    InputError
        If there is no such layer or channel, the layer gives no tensor, or the model ran without
        its layer being called, so that nothing was changed.

    Notes
    -----
    The rest of the model gets a new tensor: ``h'_c = how(h)_c`` for the channels chosen and
    ``h'_c = h_c`` for the others. Of several interventions on one layer the later sees what the
    earlier made. Only calls from the thread that opened the ``with`` are changed: others that use
    the model meanwhile get what it always gives. Contributions inside the ``with`` are those of
    the changed circuit.

    Examples
    --------
    >>> from retinacodec.models import ToyCircuit
    >>> circuit = Circuit(ToyCircuit(depth=1), ["relu1"])
    >>> with intervening(circuit, "relu1", [0, 1], Silence()):
    ...     circuit.model(torch.ones(1, 3, 3, 3))
    tensor([[1.0000, 1.8000]])
    """
    action = Intervention(layer, channels, Silence() if how is None else how)
    with opened(circuit, action):
        yield circuit


def predict_under(
    circuit: Circuit,
    samples: xr.Dataset | Images,
    interventions: Intervention | Sequence[Intervention],
    *,
    batch: int = 64,
    device: str | torch.device | None = None,
) -> xr.DataArray:
    """Return the outputs of a circuit under interventions.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    samples : xarray.Dataset, or xarray.DataArray, ndarray or torch.Tensor
        Movie, or images (image, channel, y, x).
    interventions : Intervention or sequence of Intervention
        Done together, in this order; none for the circuit as it is.
    batch : int, default 64
        Samples computed at a time; the result does not depend on it.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.

    Returns
    -------
    xarray.DataArray (time, cell) or (image, class)
        Outputs: rates in Hz, or scores.

    Raises
    ------
    InputError
        As `intervening`, and if the samples do not fit the circuit.

    Notes
    -----
    `Resample` draws among all samples; what they give is computed without interventions.
    """
    if batch < 1:
        raise InputError(f"predict_under: expected a batch of at least 1, got {batch}")
    rows = rows_for(circuit, samples)
    actions = [interventions] if isinstance(interventions, Intervention) else list(interventions)
    where = resolve_device(device, circuit.model)
    parts = []
    with torch.no_grad(), evaluating(circuit.model, where) as model:
        for start in range(0, len(rows), batch):
            stop = min(start + batch, len(rows))
            now = [_with_donors(one, rows, start, stop, where) for one in actions]
            with contextlib.ExitStack() as stack:
                for action in now:
                    stack.enter_context(opened(circuit, action, np.arange(start, stop)))
                parts.append(model(rows.take(start, stop).contiguous().to(where)).cpu())
    values = torch.cat(parts).numpy()
    dims = (circuit.sample, circuit.output)
    names = np.asarray(circuit.output_names(values.shape[1]))
    coords = {circuit.sample: rows.coordinate.values, circuit.output: names}
    attrs = {"units": "Hz"} if rows.moving else {}
    attrs["interventions"] = "; ".join(map(describe, actions)) or "none"
    return xr.DataArray(values, coords, dims, name="rate" if rows.moving else "score", attrs=attrs)


def describe(action: Intervention) -> str:
    """Return an intervention in words."""
    if action.channels is None:
        return f"{action.how!r} on all channels of {action.layer}"
    return f"{action.how!r} on channels {np.asarray(action.channels).tolist()} of {action.layer}"


def _with_donors(
    action: Intervention, rows: Samples, start: int, stop: int, device: torch.device
) -> Intervention:
    """Return an intervention with what the rows are given by others, where it resamples."""
    how = action.how
    if not isinstance(how, Resample) or how.donated is not None:
        return action
    givers = other_samples(len(rows), how.seed)[start:stop]
    values = layer_values(rows.circuit, action.layer, rows, givers, device=device)
    return replace(action, how=replace(how, donated=values))


@contextlib.contextmanager
def opened(
    circuit: Circuit, action: Intervention, numbers: npt.NDArray[Any] | None = None
) -> Iterator[None]:
    """Intervene while open.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    action : Intervention
        What is done.
    numbers : ndarray of int (row,), optional
        Numbers of the samples of one pass; if left out, rows are counted over all passes.

    Raises
    ------
    InputError
        As `intervening`.
    """
    tap = tap_of(circuit, action.layer)
    module = circuit.model.get_submodule(tap.name)
    hooks = _Hooks(tap, module, action, threading.get_ident(), numbers)
    whole = circuit.model.register_forward_pre_hook(hooks.count, with_kwargs=True)
    try:
        if tap.side == "input":
            here = module.register_forward_pre_hook(hooks.entering, with_kwargs=True)
        else:
            here = module.register_forward_hook(hooks.leaving)
        try:
            yield
        finally:
            here.remove()
    finally:
        whole.remove()
    if hooks.passes and not hooks.calls:
        raise InputError(
            f"layer {action.layer!r}: the model ran without calling it, so that nothing was "
            "changed; tap a layer whose module is called"
        )


@dataclass
class _Hooks:
    """What one intervention hangs on a model, for the thread that opened it."""

    tap: Any
    module: torch.nn.Module
    action: Intervention
    thread: int
    numbers: npt.NDArray[Any] | None
    start: int = 0
    rows: int = 0
    passes: int = 0
    calls: int = 0

    def count(self, module: Any, inputs: Any, named: dict[str, Any]) -> None:  # noqa: ARG002
        """Note how many rows enter the model."""
        if threading.get_ident() != self.thread:
            return
        given = next((one for one in (*inputs, *named.values()) if isinstance(one, Tensor)), None)
        self.start += self.rows
        self.rows = 0 if given is None or not given.ndim else len(given)
        self.passes += 1

    def leaving(self, module: Any, inputs: Any, output: Any) -> Any:  # noqa: ARG002
        """Change what leaves the module."""
        if threading.get_ident() != self.thread:
            return None
        if isinstance(output, tuple) and output:
            return first_replaced(output, self.changed(output[0]))
        return self.changed(output)

    def entering(self, module: Any, inputs: Any, named: dict[str, Any]) -> Any:  # noqa: ARG002
        """Change what enters the module."""
        if threading.get_ident() != self.thread:
            return None
        if inputs:
            return (self.changed(inputs[0]), *inputs[1:]), named
        for name, value in named.items():
            return inputs, {**named, name: self.changed(value)}
        raise InputError(f"layer {self.action.layer!r}: nothing enters it; tap its output")

    def changed(self, values: Any) -> Tensor:
        """Return new values of the layer in its own order of axes."""
        if not isinstance(values, Tensor):
            raise InputError(
                f"layer {self.action.layer!r}: expected a tensor or a tuple that starts with one, "
                f"got {type(values).__name__}; tap a layer inside it"
            )
        self.calls += 1
        view = self.tap.by_channel(self.module, values)
        chosen = chosen_channels(self.action.channels, view.shape[1], self.action.layer)
        keep = torch.ones(view.shape[1], dtype=torch.bool, device=view.device)
        keep[chosen] = False
        keep = keep.view(1, -1, *[1] * (view.ndim - 2))
        new = self.action.how(view, self.counted(len(view)))
        mixed = torch.where(keep, view, new)
        axis = self.tap.axis_in(self.module, values)
        back = mixed.movedim(1, axis)
        return back if self.tap.heads is None else back.flatten(axis, axis + 1)

    def counted(self, rows: int) -> Tensor:
        """Return the numbers of the samples in a pass."""
        if self.numbers is not None and len(self.numbers) == rows:
            return torch.as_tensor(self.numbers)
        return torch.arange(rows) + self.start


def chosen_channels(channels: Channels, count: int, layer: str) -> npt.NDArray[np.int64]:
    """Return numbers of channels, checked.

    Parameters
    ----------
    channels : array_like of int or bool, or None
        As in `Intervention`.
    count : int
        Channels of the layer.
    layer : str
        Its label, for the message.

    Raises
    ------
    InputError
        If they are not channels of the layer, or one is named twice.
    """
    if channels is None:
        return np.arange(count)
    given = np.asarray(channels)
    if given.dtype == bool and given.shape == (count,):
        return np.flatnonzero(given)
    problems = Problems()
    whole = given.size == 0 or np.issubdtype(given.dtype, np.integer)
    if problems.require(
        whole and given.ndim == 1,
        f"expected channel numbers (n,) or bool ({count},), got {given.dtype} {given.shape}",
    ):
        inside = bool(((given >= 0) & (given < count)).all())
        problems.require(inside, f"expected channels 0 to {count - 1}, got {given.tolist()[:20]}")
        once = len(set(given.tolist())) == given.size
        problems.require(once, f"a channel is named twice: {given.tolist()[:20]}")
    problems.raise_as(f"layer {layer!r}")
    return given.astype(np.int64)
