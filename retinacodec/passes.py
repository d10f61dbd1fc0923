"""One pass of a model along runs of its samples' paths, ready to be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from retinacodec.capture import Captured, tapped
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.lean import LeanMode
from retinacodec.secant import SecantMode
from retinacodec.targets import Target

__all__ = ["Ends", "Pass", "forward"]

Model = Callable[[Tensor], Tensor]
Take = Callable[[str, int, Tensor, Tensor], None]


@dataclass(frozen=True)
class Ends:
    """What a target may want to know of the ends of paths.

    Parameters
    ----------
    outputs : torch.Tensor (path, output) or None
        Outputs there; None if they are the last of the run.
    numbers : torch.Tensor (path,)
        Movie frames or images that the paths lead to.
    """

    outputs: Tensor | None
    numbers: Tensor

    def target(self, target: Target, outputs: Tensor, points: int) -> Target:
        """Return the target as it is for these ends, for outputs (path * point, output)."""
        at = getattr(target, "at", None)
        if at is None:
            return target
        last = outputs.detach()[points - 1 :: points] if self.outputs is None else self.outputs
        rows = last.repeat_interleave(points, dim=0)
        bound: Target = at(rows, self.numbers.repeat_interleave(points))
        return bound


@dataclass(frozen=True)
class Pass:
    """What came of one pass.

    Parameters
    ----------
    captured : dict of str to list of torch.Tensor (path * point, ...)
        Activations at each tap, one for each call.
    outputs : torch.Tensor (path * point, output)
        Outputs of the circuit.
    score : torch.Tensor (path, point, target)
        The target at each point.
    weights : torch.Tensor (path, point)
        Which points' gradients are wanted.
    """

    captured: Captured
    outputs: Tensor
    score: Tensor
    weights: Tensor

    @property
    def points(self) -> int:
        """Points of each run."""
        return self.score.shape[1]

    def feed(self, number: int, take: Take) -> None:
        """Differentiate one target, and hand over each layer's gradient as soon as it is known.

        Parameters
        ----------
        number : int
            Which target; from the first to the last, since the graph is let go after it.
        take : callable
            Called with layer, call, activation and gradient, both (path, point, ...). What it
            does not keep is let go before the next layer's gradient is computed.
        """
        calls = {
            (layer, call): tensor
            for layer, tensors in self.captured.items()
            for call, tensor in enumerate(tensors)
        }
        waiting = set(calls)

        def hand_over(key: tuple[str, int], gradient: Tensor) -> None:
            waiting.discard(key)
            take(*key, self._by_path(calls[key].detach()), self._by_path(gradient.detach()))

        handles = [tensor.register_hook(partial(hand_over, key)) for key, tensor in calls.items()]
        roots = [tensor for tensor in calls.values() if tensor.is_leaf] or list(calls.values())
        try:
            self._gradients(number, roots)
        finally:
            for handle in handles:
                handle.remove()
        for key in sorted(waiting):
            hand_over(key, torch.zeros_like(calls[key]))

    def _by_path(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (-1, self.points))

    def _gradients(self, number: int, wanted: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            one = self.score[..., number]
        more = number < self.score.shape[-1] - 1
        return torch.autograd.grad(one, wanted, self.weights, retain_graph=more, allow_unused=True)

    def slopes(self, number: int, entries: Sequence[Tensor] = ()) -> Slopes:
        """Differentiate one target with respect to the taps, and to further tensors.

        Parameters
        ----------
        number : int
            Which target; from the first to the last, since the graph is let go after it.
        entries : sequence of torch.Tensor (path * point, ...)
            Other tensors on the way.

        Returns
        -------
        Slopes
            Activations and gradients.
        """
        labels = [label for label, calls in self.captured.items() for _ in calls]
        activations = [tensor for calls in self.captured.values() for tensor in calls]
        wanted = [*activations, *entries]
        found = self._gradients(number, wanted)
        whole = [
            torch.zeros_like(one) if slope is None else slope
            for one, slope in zip(wanted, found, strict=True)
        ]
        rows: dict[str, list[tuple[Tensor, Tensor]]] = {label: [] for label in self.captured}
        for label, activation, slope in zip(labels, activations, whole, strict=False):
            rows[label].append((self._by_path(activation.detach()), self._by_path(slope)))
        return Slopes(rows, whole[len(activations) :])


@dataclass(frozen=True)
class Slopes:
    """Activations and gradients of one target.

    Parameters
    ----------
    layers : dict of str to list of (torch.Tensor, torch.Tensor), each (path, point, ...)
        Activations and gradients at each tap, one pair for each call.
    entries : list of torch.Tensor
        Gradients at the further tensors.
    """

    layers: Mapping[str, list[tuple[Tensor, Tensor]]]
    entries: list[Tensor]

    def items(self, number: int) -> Iterator[tuple[tuple[str, int, int], Tensor, Tensor]]:
        """Yield layer, call and target, with activation and gradient (path, point, ...)."""
        for layer, calls in self.layers.items():
            for call, (activation, gradient) in enumerate(calls):
                yield (layer, call, number), activation, gradient


def forward(
    circuit: Circuit,
    model: Model,
    target: Target,
    path: Tensor,
    points: int,
    ends: Ends,
    chords: bool,
) -> Pass:
    """Run a model along paths.

    Parameters
    ----------
    circuit : Circuit
        The circuit whose taps are recorded.
    model : callable
        Its model, or a part of it that ends at its outputs.
    target : Target
        A target bound to the circuit.
    path : torch.Tensor (path * point, ...)
        What enters, the points of each path in consecutive rows.
    points : int
        Rows of a path.
    ends : Ends
        Where the paths lead.
    chords : bool
        Whether gradients shall be chord slopes; that of row k belongs to the interval from row
        k - 1, and the first row of a path has none.

    Returns
    -------
    Pass
        What came of it.

    Raises
    ------
    InputError
        If a layer was not called, or the target is not what a target must be.
    """
    with torch.enable_grad(), tapped(circuit.model, circuit.taps) as captured:
        mode = SecantMode(points, [path]) if chords else None
        with LeanMode(), mode or nullcontext():
            outputs = model(path)
        there = ends.target(target, outputs, points)
        with mode or nullcontext():
            scored = _checked(there(outputs), len(outputs))
        if mode is not None:
            mode.check(scored)
        score = scored if scored.ndim == 2 else scored.unsqueeze(-1)
        score = score.unflatten(0, (-1, points))
    for label, calls in captured.items():
        if not calls:
            raise InputError(f"layer {label!r} was not called while the model ran; tap another")
        if not all(tensor.requires_grad for tensor in calls):
            raise InputError(
                f"layer {label!r} runs without gradients (no_grad or inference_mode in the model); "
                "tap a later one"
            )
    if not score.requires_grad:
        raise InputError(
            "target: it does not depend on any of the layers "
            f"({', '.join(captured)}) in a way that can be differentiated; tap other layers"
        )
    weights = torch.ones_like(score[..., 0])
    if chords:
        weights[:, 0] = 0
    return Pass(captured, outputs.detach(), score, weights)


def _checked(score: Tensor, rows: int) -> Tensor:
    """Return what a target returned for some rows, or raise `InputError`."""
    if not isinstance(score, Tensor) or score.ndim not in (1, 2) or len(score) != rows:
        raise InputError(
            f"target: expected (batch,) or (batch, target) for a batch of {rows}, got "
            f"{tuple(getattr(score, 'shape', ())) or type(score).__name__}"
        )
    return score
