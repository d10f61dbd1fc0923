"""Resuming: a model is run on from a layer, without computing again what comes before it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from retinacodec.changes import Resample, other_samples
from retinacodec.circuit import Circuit, evaluating
from retinacodec.cuts import bypass
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError
from retinacodec.interventions import Intervention, opened
from retinacodec.layer_values import layer_values, pick, tap_of
from retinacodec.samples import Samples

__all__ = ["Resumed"]

_BATCH = 128
_GIVING = threading.Lock()


@dataclass(frozen=True)
class Resumed:
    """A circuit that answers again and again, for the same samples, under interventions.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    samples : Samples
        What it reads.
    layers : tuple of str
        Layers that are intervened in; the first that a pass comes to is where passes begin.
    start : str or None
        That layer, if everything after it follows from it alone; else None, and every pass is a
        whole one.
    values : dict of str to torch.Tensor (sample, channel, ...)
        What the layers give without interventions, for those that had to be kept.
    skipped : tuple of (str, tuple of int)
        Modules before that layer and the shape of what they give for one sample.
    device : torch.device
        Where it is computed.
    """

    circuit: Circuit
    samples: Samples
    layers: tuple[str, ...]
    start: str | None
    values: dict[str, Tensor] = field(repr=False)
    skipped: tuple[tuple[str, tuple[int, ...]], ...] = field(repr=False)
    device: torch.device

    @classmethod
    def prepare(
        cls,
        circuit: Circuit,
        samples: Samples,
        layers: Sequence[str],
        *,
        budget_gb: float = 1.0,
        device: str | torch.device | None = None,
    ) -> Resumed:
        """Compute what the layers give, once, and find out where passes may begin.

        Parameters
        ----------
        circuit : Circuit
            The circuit.
        samples : Samples
            What it reads.
        layers : sequence of str
            Layers that will be intervened in.
        budget_gb : float, default 1.0
            Memory for what the first layer gives for all samples, GB; passes are whole where it
            is not enough.
        device : str or torch.device, optional
            Where to compute; the model's own device if left out.

        Returns
        -------
        Resumed
            Ready to answer.

        Raises
        ------
        InputError
            If a layer is unknown.
        """
        where = resolve_device(device, circuit.model)
        taps = [tap_of(circuit, layer) for layer in layers]
        if not taps:
            raise InputError("resumed: expected at least one layer")
        one = samples.take(0, 1).contiguous().to(where)
        whole = cls(circuit, samples, tuple(layers), None, {}, (), where)
        with evaluating(circuit.model, where) as model, torch.no_grad():
            first, before = _before(model, {tap.name: tap.label for tap in taps}, one)
        if first is None or circuit.taps[first].side != "output":
            return whole
        sides = {first: (circuit.taps[first].name, "output")}
        with evaluating(circuit.model, where):
            if bypass(circuit.model, sides, one)[first] is not None:
                return whole
        size = layer_values(circuit, first, samples, [0], device=where)
        if size.nbytes * len(samples) > budget_gb * 1e9 or circuit.taps[first].heads is not None:
            return whole
        values = layer_values(circuit, first, samples, device=where)
        found = replace(whole, start=first, values={first: values}, skipped=before)
        return found if found._faithful() else whole

    def outputs(
        self, actions: Sequence[Intervention] = (), numbers: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the outputs under interventions.

        Parameters
        ----------
        actions : sequence of Intervention, optional
            Interventions in the layers, done together.
        numbers : array_like of int (row,), optional
            Which samples; all if left out.

        Returns
        -------
        ndarray (row, output), float64
            Outputs.

        Raises
        ------
        InputError
            As `retinacodec.interventions.intervening`.
        """
        chosen = np.arange(len(self.samples)) if numbers is None else np.asarray(numbers)
        parts = []
        with evaluating(self.circuit.model, self.device) as model, torch.no_grad():
            for at in range(0, len(chosen), _BATCH):
                part = chosen[at : at + _BATCH]
                now = [self._with_donors(action, part) for action in actions]
                with contextlib.ExitStack() as stack:
                    stack.enter_context(self._skipping(part))
                    for action in now:
                        stack.enter_context(opened(self.circuit, action, part))
                    parts.append(model(self._rows(part)).double().cpu())
        return torch.cat(parts).numpy() if parts else np.empty((0, 0))

    def _rows(self, numbers: npt.NDArray[Any]) -> Tensor:
        """Return what the model is given: samples, or as many empty ones where none is read."""
        if self.start is None:
            return pick(self.samples, numbers).to(self.device)
        shape, kind = (len(numbers), *self.samples.shape), self.samples.frames.dtype
        return torch.zeros(shape, dtype=kind, device=self.device)

    def _with_donors(self, action: Intervention, numbers: npt.NDArray[Any]) -> Intervention:
        """Return an intervention with what the samples are given by others."""
        how = action.how
        if not isinstance(how, Resample) or how.donated is not None:
            return action
        givers = other_samples(len(self.samples), how.seed)[numbers]
        if action.layer in self.values:
            donated = self.values[action.layer][givers]
        else:
            donated = layer_values(
                self.circuit, action.layer, self.samples, givers, device=self.device
            )
        return replace(action, how=replace(how, donated=donated))

    @contextlib.contextmanager
    def _skipping(self, numbers: npt.NDArray[Any]) -> Iterator[None]:
        """Let modules before the layer give nothing of the right shape, and the layer its own."""
        if self.start is None:
            yield
            return
        tap = self.circuit.taps[self.start]
        kept = self.values[self.start][numbers].to(self.device)
        axis = tap.axis_in(self.circuit.model.get_submodule(tap.name), kept)
        given = {tap.name: kept.movedim(1, axis)}
        given |= {name: kept.new_zeros(len(kept), *shape) for name, shape in self.skipped}
        with contextlib.ExitStack() as stack:
            for name, result in given.items():
                stack.enter_context(_giving(self.circuit.model.get_submodule(name), result))
            yield

    def _faithful(self) -> bool:
        """Whether passes from the layer give what whole passes give."""
        numbers = np.unique([0, len(self.samples) - 1])
        whole = replace(self, start=None).outputs((), numbers)
        try:
            again = self.outputs((), numbers)
        except (RuntimeError, IndexError, ValueError, TypeError):
            return False
        return again.shape == whole.shape and np.allclose(again, whole, rtol=1e-4, atol=1e-6)


def _before(
    model: nn.Module, names: dict[str, str], sample: Tensor
) -> tuple[str | None, tuple[tuple[str, tuple[int, ...]], ...]]:
    """Return which layer a pass comes to first, and the modules that are done before it.

    None where that layer is called again. Of modules one in another only the outer is named, and
    none that is called more than once or gives no tensor.
    """
    calls: dict[str, int] = {}
    done: dict[str, Any] = {}
    first: list[str] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
            calls[name] = calls.get(name, 0) + 1
            if not first:
                if name in names:
                    first.append(name)
                done[name] = output

        return hook

    handles = [
        module.register_forward_hook(note(name)) for name, module in model.named_modules() if name
    ]
    try:
        model(sample)
    finally:
        for handle in handles:
            handle.remove()
    if not first or calls[first[0]] != 1:
        return None, ()
    plain = {
        name: tuple(output.shape[1:])
        for name, output in done.items()
        if isinstance(output, Tensor)
        and len(output) == len(sample)
        and calls[name] == 1
        and not (name == first[0] or name.startswith(f"{first[0]}."))
    }
    outer = [
        (name, shape)
        for name, shape in plain.items()
        if not any(name.startswith(f"{other}.") for other in plain)
    ]
    return names[first[0]], tuple(outer)


class _Giver:
    """What a module does while threads give results in its place, each its own."""

    def __init__(self, module: nn.Module) -> None:
        self.own, self.usual = module.__dict__.get("forward"), module.forward
        self.results: dict[int, Any] = {}

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        found = self.results.get(threading.get_ident(), self)
        return self.usual(*inputs, **named) if found is self else found


@contextlib.contextmanager
def _giving(module: nn.Module, result: Tensor) -> Iterator[None]:
    """Let a module give a result at once, to this thread alone."""
    thread = threading.get_ident()
    with _GIVING:
        giver = module.__dict__.get("forward")
        if not isinstance(giver, _Giver):
            giver = module.__dict__["forward"] = _Giver(module)
        earlier = giver.results.get(thread, giver)
        giver.results[thread] = result
    try:
        yield
    finally:
        with _GIVING:
            if earlier is giver:
                del giver.results[thread]
            else:
                giver.results[thread] = earlier
            if not giver.results:
                if giver.own is None:
                    del module.__dict__["forward"]
                else:
                    module.__dict__["forward"] = giver.own
