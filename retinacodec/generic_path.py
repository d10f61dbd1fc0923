"""The generic path: any circuit, evaluated and differentiated along its samples' paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retinacodec.capture import Taps, output_bytes, tapped
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.reduce import channel_last, split_signs, sum_space
from retinacodec.rules import Rule
from retinacodec.secant import SecantMode
from retinacodec.targets import Target

__all__ = ["GenericPath"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class GenericPath:
    """Runs any circuit along its samples' paths, whatever it is made of.

    Parameters
    ----------
    circuit : Circuit
        The circuit, in evaluation mode and on the device.
    target : Target
        A target bound to the circuit.
    rule : Rule
        Which points of the path are run and how they are summed.
    maps : bool
        Keep every position of the contributions.
    activations, gradients : bool
        Keep the values at the end of the path.
    device : torch.device
        Where to compute.
    """

    circuit: Circuit
    target: Target
    rule: Rule
    maps: bool
    activations: bool
    gradients: bool
    device: torch.device

    def run(self, samples: Tensor) -> dict[str, Array]:
        """Return the contributions of a batch of samples.

        Parameters
        ----------
        samples : torch.Tensor (batch, ...)
            Inputs of the model.

        Returns
        -------
        dict of str to ndarray (batch, target, ...)
            ``rate`` (batch, output), ``value``, ``baseline_value`` and for each layer
            ``<layer>/contribution`` (batch, target, sign, channel[, ...]), ``<layer>/residual``,
            ``<layer>/total`` and, where asked for, ``<layer>/activation`` and
            ``<layer>/gradient``.
        """
        path = _path(samples.to(self.device), self.rule.points())
        return self.along(self.circuit.model, path)[0]

    def run_windows(self, movie: Tensor, start: int, stop: int) -> dict[str, Array]:
        """Return the contributions of some windows of a movie (time, y, x), as `run`."""
        return self.run(self.circuit.windows(movie)[start:stop].contiguous())

    def along(
        self, model: Callable[[Tensor], Tensor], path: Tensor
    ) -> tuple[dict[str, Array], list[Tensor]]:
        """Explain the target of what a model makes of paths.

        Parameters
        ----------
        model : callable
            The circuit's model, or a part of it that ends at its outputs.
        path : torch.Tensor (batch * point, ...)
            What enters it, each sample's path in consecutive rows.

        Returns
        -------
        found : dict of str to ndarray
            As from `run`.
        gradients : list of torch.Tensor (batch * point, ...)
            For each target the gradient with respect to the path, if that requires gradients.
        """
        points = len(self.rule.points())
        with torch.enable_grad(), tapped(self.circuit.model, self.circuit.layers) as taps:
            mode = SecantMode(points, [path]) if self.rule.chords else nullcontext()
            with mode:
                outputs = model(path)
            target = self._at_end(outputs, points)
            with mode:
                score = target(outputs)
            score = score.unflatten(0, (-1, points))
            score = score if score.ndim == 3 else score.unsqueeze(-1)
            weights = torch.ones_like(score[..., 0])
            if self.rule.chords:
                weights[:, 0] = 0
            found, gradients = self._collect(taps, score, weights, path)
        found["rate"] = _numpy(outputs[points - 1 :: points])
        ends = score.detach()[:, [0, -1]].to(torch.float64)
        found["baseline_value"], found["value"] = (_numpy(ends[:, i]) for i in (0, 1))
        change = found["value"] - found["baseline_value"]
        for layer in self.circuit.layers:
            found[f"{layer}/residual"] = found[f"{layer}/total"] - change
        return found, gradients

    def _at_end(self, outputs: Tensor, points: int) -> Target:
        at = getattr(self.target, "at", None)
        if at is None:
            return self.target
        end = outputs.detach()[points - 1 :: points]
        return at(end.repeat_interleave(points, dim=0))

    def _collect(
        self, taps: Taps, score: Tensor, weights: Tensor, path: Tensor
    ) -> tuple[dict[str, Array], list[Tensor]]:
        """Differentiate each target and reduce each layer, one target at a time."""
        for layer in self.circuit.layers:
            if not taps[layer]:
                raise InputError(f"layer {layer!r} was not called while the model ran; tap another")
        tensors = [tensor for layer in self.circuit.layers for tensor in taps[layer]]
        entries = [path] if path.requires_grad else []
        rows: dict[str, list[Array]] = {}
        gradients: list[Tensor] = []
        for number in range(score.shape[-1]):
            slopes = iter(
                torch.autograd.grad(
                    score[..., number],
                    tensors + entries,
                    weights,
                    retain_graph=number < score.shape[-1] - 1,
                    allow_unused=True,
                )
            )
            for layer in self.circuit.layers:
                calls = [(tensor.detach(), next(slopes)) for tensor in taps[layer]]
                for key, values in self._reduce(calls, weights.shape[1]).items():
                    rows.setdefault(f"{layer}/{key}", []).append(values)
            gradients += [torch.zeros_like(path) if one is None else one for one in slopes]
        stacked = {key: np.stack(values, axis=1) for key, values in rows.items()}
        for layer in self.circuit.layers:
            if f"{layer}/activation" in stacked:
                stacked[f"{layer}/activation"] = stacked[f"{layer}/activation"][:, 0]
        return stacked, gradients

    def _reduce(
        self, calls: Sequence[tuple[Tensor, Tensor | None]], points: int
    ) -> dict[str, Array]:
        """Return the split and summed contribution of a layer, over all its calls."""
        found: dict[str, Array] = {}
        for values, slope in calls:
            activation = values.unflatten(0, (-1, points))
            gradient = torch.zeros_like(values) if slope is None else slope
            gradient = gradient.unflatten(0, (-1, points))
            part = self.rule.combine(activation, gradient)
            last = channel_last(part)
            pieces = {"contribution": self._sums(part, last, self.maps)}
            pieces["total"] = _numpy(part.to(torch.float64).flatten(1).sum(dim=1))
            if self.activations:
                pieces["activation"] = self._sums(activation[:, -1], last, False)
            if self.gradients:
                pieces["gradient"] = self._sums(gradient[:, -1], last, False)
            for key, piece in pieces.items():
                found[key] = found[key] + piece if key in found else piece
        return found

    def _sums(self, part: Tensor, last: bool, maps: bool) -> Array:
        """Return (batch, sign, channel[, ...]) of signed values (batch, ...)."""
        signs = split_signs(part).transpose(0, 1)
        if maps:
            return _numpy(signs.movedim(-1, 2) if last else signs).astype(np.float32)
        return _numpy(sum_space(signs, last=last, batch_dims=2))

    def batch_for(self, windows: Tensor, budget_gb: float) -> int:
        """Return how many windows fit the budget along a whole path."""
        points = len(self.rule.points())
        sample = windows[:1].contiguous().to(self.device)
        layers = output_bytes(self.circuit.model, sample)
        need = points * (6 * layers + 3 * sample.numel() * sample.element_size())
        return int(max(1, min(256, budget_gb * 1e9 // max(need, 1), len(windows))))

    def check_size(self, windows: Tensor, targets: int, budget_gb: float) -> None:
        """Raise `InputError` if full maps would not fit the budget."""
        if not self.maps:
            return
        with torch.no_grad(), tapped(self.circuit.model, self.circuit.layers) as taps:
            self.circuit.model(windows[:1].contiguous().to(self.device))
        values = sum(tensor.numel() for calls in taps.values() for tensor in calls)
        size = 2 * 4 * values * len(windows) * targets / 1e9
        if size > budget_gb:
            raise InputError(
                f"contributions: full maps would take {size:.1f} GB of {budget_gb:g} GB; take a "
                "shorter movie, fewer targets, or maps=False"
            )


def _path(samples: Tensor, fractions: Tensor) -> Tensor:
    """Return (batch * point, ...): each sample's path from zero contrast, points together."""
    steps = fractions.to(samples.device, samples.dtype)
    steps = steps.view(1, -1, *([1] * (samples.ndim - 1)))
    return (samples.unsqueeze(1) * steps).flatten(0, 1)


def _numpy(values: Tensor) -> Array:
    return values.detach().cpu().numpy()
