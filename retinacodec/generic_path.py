"""The generic path: any circuit, evaluated and differentiated along its samples' paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from retinacodec.circuit import Circuit
from retinacodec.passes import Ends, Pass, forward
from retinacodec.rules import PathRule, Rule
from retinacodec.tally import Array, Tally, Wish
from retinacodec.targets import Target

__all__ = ["GenericPath", "path_rows", "run_starts"]


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
    wish : Wish
        What is kept of each layer.
    device : torch.device
        Where to compute.
    starts : torch.Tensor (baseline, ...), optional
        Where the paths start, contributions being averaged over baselines; zeros if left out.
    longest : int, optional
        Most points of a path that are run at once; all if left out. Where gradients are chord
        slopes, successive runs share a point; else the last point's values are carried over.
    """

    circuit: Circuit
    target: Target
    rule: Rule
    wish: Wish = field(default_factory=lambda: Wish(False, False, False))
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    starts: Tensor | None = field(default=None, repr=False)
    longest: int | None = None

    def run(self, samples: Tensor, numbers: Tensor | None = None) -> dict[str, Array]:
        """Return the contributions of a batch of samples.

        Parameters
        ----------
        samples : torch.Tensor (sample, ...)
            Inputs of the model.
        numbers : torch.Tensor (sample,), optional
            Numbers of their frames or images; counted from 0 if left out.

        Returns
        -------
        dict of str to ndarray (sample, target, ...)
            As from `Tally.found`.
        """
        samples = samples.to(self.device)
        numbers = torch.arange(len(samples)) if numbers is None else numbers
        ahead = self._split() and hasattr(self.target, "at")
        ends = Ends(self.model_outputs(samples) if ahead else None, numbers)
        starts, fractions = run_starts(self.starts, samples), self.rule.points()
        tally = Tally(self.circuit, self.rule, self.wish, 1 / len(starts))
        begun: list[Tensor] = []
        for start in starts:
            tally.restart()
            for first, last in self._runs(len(fractions)):
                rows = self._rows(samples, start, fractions[first : last + 1], ends)
                done = last == len(fractions) - 1 and len(begun) == len(starts) - 1 + (first > 0)
                score, outputs = self._add(tally, rows, ends, done)
                if first == 0:
                    begun.append(score[:, 0])
        baseline = torch.stack(begun).mean(dim=0)
        if float(fractions[0]) != 0:
            baseline = self._at_baseline(starts[:1], outputs, ends)
        return tally.found(score[:, -1], baseline, outputs)

    def _add(self, tally: Tally, rows: Tensor, ends: Ends, done: bool) -> tuple[Tensor, Tensor]:
        """Add a run of points to the tally, and close each target after the last run.

        Returns the target (sample, point, target) in float64 and the last outputs of the run.
        """
        one = self.forward(rows, ends)
        carry = self._split() and not self.rule.chords
        for number in range(one.score.shape[-1]):

            def take(layer: str, call: int, activation: Tensor, gradient: Tensor) -> None:
                key = (layer, call, number)  # noqa: B023
                tally.add(key, activation, gradient, carry=carry)
                if done:
                    tally.end(key, activation, gradient)

            one.feed(number, take)
            if done:
                tally.close(number)
        return one.score.detach().double(), one.outputs[one.points - 1 :: one.points]

    def _split(self) -> bool:
        return self.longest is not None and self.longest < len(self.rule.points())

    def _rows(self, samples: Tensor, start: Tensor, fractions: Tensor, ends: Ends) -> Tensor:
        """Return points (sample, point, ...) of the paths from one start."""
        rows = path_rows(samples, start, fractions)
        perturb = getattr(self.rule, "perturb", None)
        return rows if perturb is None else perturb(rows, ends.numbers)

    def _runs(self, points: int) -> Iterator[tuple[int, int]]:
        """Yield the first and the last point of each run."""
        if not self._split():
            yield 0, points - 1
            return
        assert self.longest is not None
        stride = self.rule.stride if isinstance(self.rule, PathRule) else 1
        whole = max((self.longest - 1) // stride, 1) * stride
        for first in range(0, points - 1, whole):
            last = min(first + whole, points - 1)
            yield (first if first == 0 or self.rule.chords else first + 1), last

    def forward(self, path: Tensor, ends: Ends) -> Pass:
        """Run the model along paths (path, point, ...)."""
        points = path.shape[1]
        rows = path.flatten(0, 1)
        if rows.ndim == 4:  # several times faster so, forward and backward
            rows = rows.contiguous(memory_format=torch.channels_last)
        chords = self.rule.chords
        return forward(self.circuit, self.circuit.model, self.target, rows, points, ends, chords)

    def model_outputs(self, samples: Tensor) -> Tensor:
        """Return the outputs (sample, output) at samples (sample, ...)."""
        with torch.no_grad():
            outputs: Tensor = self.circuit.model(samples.contiguous())
        return outputs

    def _at_baseline(self, start: Tensor, last: Tensor, ends: Ends) -> Tensor:
        """Return the target (sample, target) of the start's outputs, for rules without a path."""
        with torch.no_grad():
            outputs = self.circuit.model(start)
            target = Ends(last, ends.numbers).target(self.target, last, 1)
            score = target(outputs.expand(len(last), -1)).double()
        return score if score.ndim == 2 else score.unsqueeze(-1)

    def along(
        self, model: Callable[[Tensor], Tensor], path: Tensor, numbers: Tensor
    ) -> tuple[dict[str, Array], list[Tensor]]:
        """Explain the target of what a part of the model makes of paths.

        Parameters
        ----------
        model : callable
            A part of the circuit's model that ends at its outputs.
        path : torch.Tensor (sample * point, ...)
            What enters it, each sample's path in consecutive rows.
        numbers : torch.Tensor (sample,)
            Numbers of the frames.

        Returns
        -------
        found : dict of str to ndarray
            As from `run`.
        gradients : list of torch.Tensor (sample * point, ...)
            For each target the gradient with respect to the path.
        """
        points, ends = len(self.rule.points()), Ends(None, numbers)
        one = forward(self.circuit, model, self.target, path, points, ends, self.rule.chords)
        tally, gradients = Tally(self.circuit, self.rule, self.wish), []
        for number in range(one.score.shape[-1]):
            slopes = one.slopes(number, [path])
            gradients += slopes.entries
            for key, activation, gradient in slopes.items(number):
                tally.add(key, activation, gradient)
                tally.end(key, activation, gradient)
            tally.close(number)
        score = one.score.detach().double()
        found = tally.found(score[:, -1], score[:, 0], one.outputs[points - 1 :: points])
        return found, gradients


def run_starts(starts: Tensor | None, samples: Tensor) -> Tensor:
    """Return where paths start (baseline, ...), zeros if nothing is given."""
    if starts is None:
        return torch.zeros_like(samples[:1])
    return starts.to(samples.device, samples.dtype)


def path_rows(samples: Tensor, start: Tensor, fractions: Tensor) -> Tensor:
    """Return points on the way from a start to samples.

    Parameters
    ----------
    samples : torch.Tensor (sample, ...)
        Where the paths end.
    start : torch.Tensor (...)
        Where they start.
    fractions : torch.Tensor (point,) or (sample, point)
        Fractions of the way.

    Returns
    -------
    torch.Tensor (sample, point, ...)
        The points; those of fraction 1 are the samples themselves.
    """
    way = fractions.to(samples.device, samples.dtype)
    way = way if way.ndim == 2 else way[None]
    way = way.view(*way.shape, *[1] * (samples.ndim - 1))
    if not bool(start.any()):
        return samples.unsqueeze(1) * way
    return torch.lerp(start[None, None].expand_as(samples.unsqueeze(1)), samples.unsqueeze(1), way)
