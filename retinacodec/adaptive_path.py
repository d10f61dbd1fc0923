"""Paths whose intervals are divided, for each sample by itself, until little is unexplained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from retinacodec.errors import InputError
from retinacodec.generic_path import GenericPath, path_rows, run_starts
from retinacodec.passes import Ends, Slopes
from retinacodec.rules import IntegratedGradients
from retinacodec.tally import Array, Tally

__all__ = ["AdaptivePath"]

_SHORTEST = 1e-6


@dataclass(frozen=True)
class _Pieces:
    """Pieces of paths that wait to be computed.

    Parameters
    ----------
    owners : torch.Tensor (piece,)
        Sample of each.
    low, high : torch.Tensor (piece,)
        Where on the way each begins and ends, float64.
    intervals : int
        Intervals that each is divided into.
    """

    owners: Tensor
    low: Tensor
    high: Tensor
    intervals: int

    @classmethod
    def whole(cls, samples: int, intervals: int) -> _Pieces:
        zero = torch.zeros(samples, dtype=torch.float64)
        return cls(torch.arange(samples), zero, zero + 1, intervals)

    def bounds(self, stride: int = 1) -> Tensor:
        """Return the points (piece, point)."""
        way = torch.linspace(0, 1, self.intervals * stride + 1, dtype=torch.float64)
        return torch.lerp(self.low[:, None], self.high[:, None], way[None])

    def split(self, count: int) -> Iterator[_Pieces]:
        """Yield up to a number of each sample's pieces at a time.

        What comes together does not depend on the other samples.
        """
        order = self.owners.argsort(stable=True)
        sizes = torch.bincount(self.owners)
        first = sizes.cumsum(0) - sizes
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order)) - first[self.owners[order]]
        for turn in range(0, int(sizes.max()), count):
            cut = (rank >= turn) & (rank < turn + count)
            yield replace(self, owners=self.owners[cut], low=self.low[cut], high=self.high[cut])

    def halves(self, chosen: Tensor) -> _Pieces:
        """Return the chosen (piece, interval) intervals, each as a piece of two."""
        points = self.bounds()
        piece, interval = chosen.nonzero(as_tuple=True)
        low, high = points[piece, interval], points[piece, interval + 1]
        return _Pieces(self.owners[piece], low, high, 2)

    @staticmethod
    def join(parts: list[_Pieces]) -> _Pieces:
        """Put pieces together."""
        owners, low, high = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("owners", "low", "high")
        )
        return _Pieces(owners, low, high, parts[0].intervals)


@dataclass(frozen=True)
class AdaptivePath:
    """Refines integrated gradients where their residual says that it is needed.

    Parameters
    ----------
    path : GenericPath
        What is computed; its rule is an `IntegratedGradients` with a tolerance.
    cuts : frozenset of str
        The layers that are full cuts, whose residuals say something.

    Raises
    ------
    InputError
        If no layer is a full cut.
    """

    path: GenericPath
    cuts: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if not self.cuts:
            raise InputError(
                "rule: a tolerance needs a layer that is a full cut of the circuit, by whose "
                "residual steps are refined; tap one too, or leave the tolerance out"
            )

    @property
    def rule(self) -> IntegratedGradients:
        """The rule."""
        assert isinstance(self.path.rule, IntegratedGradients)
        return self.path.rule

    def run(self, samples: Tensor, numbers: Tensor | None = None) -> dict[str, Array]:
        """Return the contributions of a batch of samples.

        Parameters
        ----------
        samples : torch.Tensor (sample, ...)
            Inputs of the model; the first pass holds all their first intervals at once.
        numbers : torch.Tensor (sample,), optional
            Numbers of their frames or images.

        Returns
        -------
        dict of str to ndarray (sample, target, ...)
            As from `GenericPath.run`, and ``steps`` (sample,), the intervals used.
        """
        samples = samples.to(self.path.device)
        numbers = torch.arange(len(samples)) if numbers is None else numbers
        outputs = self.path.model_outputs(samples)
        starts = run_starts(self.path.starts, samples)
        tally = Tally(self.path.circuit, self.rule, self.path.wish, 1 / len(starts))
        ends = Ends(outputs, numbers)
        walks = [_Walk(self, tally, samples, start, ends) for start in starts]
        for walk in walks:
            walk.go()
        for number in range(walks[0].score.shape[-1]):
            tally.close(number)
        begun = torch.stack([walk.score[:, 0] for walk in walks]).mean(dim=0)
        found = tally.found(walks[-1].score[:, -1], begun, outputs)
        found["steps"] = torch.stack([walk.counts for walk in walks]).amax(dim=0).numpy()
        return found


@dataclass
class _Walk:
    """The refinement of the paths from one start."""

    job: AdaptivePath
    tally: Tally
    samples: Tensor
    start: Tensor
    to: Ends
    score: Tensor = field(default_factory=lambda: torch.empty(0))
    counts: Tensor = field(default_factory=lambda: torch.empty(0))
    left: Tensor = field(default_factory=lambda: torch.empty(0))

    def go(self) -> None:
        """Add everything to the tally."""
        rule = self.job.rule
        self.counts = torch.full((len(self.samples),), rule.steps)
        self.left = torch.full((len(self.samples),), rule.tolerance or 0.0, dtype=torch.float64)
        waiting = _Pieces.whole(len(self.samples), rule.steps)
        rows = rule.steps * rule.stride + 1
        while len(waiting.owners):
            each = waiting.intervals * rule.stride + 1
            pending = torch.bincount(waiting.owners, minlength=len(self.samples))
            parts = waiting.split(max(rows // each, 1))
            waiting = _Pieces.join([self._add(part, pending) for part in parts])

    def _add(self, pieces: _Pieces, pending: Tensor) -> _Pieces:
        """Compute pieces, add the intervals that are good, and return halves of the others.

        Of the residual that a sample may still leave (`left`), these pieces may take the share
        that they are of the sample's `pending` pieces.
        """
        owners = pieces.owners
        here = self.samples[owners.to(self.samples.device)]
        rows = path_rows(here, self.start, pieces.bounds(self.job.rule.stride))
        outputs = None if self.to.outputs is None else self.to.outputs[owners]
        ends = Ends(outputs, self.to.numbers[owners])
        one = self.job.path.forward(rows, ends)
        slopes = [one.slopes(number) for number in range(one.score.shape[-1])]
        score = one.score.detach().double().cpu()
        if not len(self.score):
            self.score = score
            for number, each in enumerate(slopes):
                for item in each.items(number):
                    self.tally.end(*item)
        chosen = self._worst(self._residuals(slopes, score, owners), pieces, pending)
        weight = (~chosen).to(rows.dtype).to(rows.device)
        for number, each in enumerate(slopes):
            where = owners.to(rows.device)
            self.tally.add_parts(each, number, weight, where, len(self.samples))
        self.counts += torch.bincount(owners, chosen.sum(dim=1), len(self.samples)).long()
        return pieces.halves(chosen)

    def _residuals(self, slopes: list[Slopes], score: Tensor, owners: Tensor) -> Tensor:
        """Return each interval's unexplained share (piece, interval) of its sample's change."""
        rule = self.job.rule
        steps = score[:, :: rule.stride].diff(dim=1)
        ends = self.score[owners][:, [0, -1]]
        scale = (ends[:, 1] - ends[:, 0]).abs() + 1e-6 * ends.abs().sum(dim=1) + 1e-30
        worst = torch.zeros(steps.shape[:2], dtype=torch.float64)
        for number, each in enumerate(slopes):
            for layer in self.job.cuts:
                sums = sum(_interval_sums(rule, a, g) for a, g in each.layers[layer])
                gap = (sums - steps[..., number]).abs() / scale[:, number, None]
                worst = torch.maximum(worst, gap)
        return worst

    def _worst(self, residuals: Tensor, pieces: _Pieces, pending: Tensor) -> Tensor:
        """Return which intervals (piece, interval) are divided further: the worst ones.

        If all residuals together are allowed, none is. Else the smallest ones are left that
        together take half of what is allowed, so that there is something for the halves.
        """
        owners = pieces.owners
        length = (pieces.high - pieces.low) / pieces.intervals
        chosen = torch.zeros(residuals.shape, dtype=torch.bool)
        for sample in owners.unique().tolist():
            rows = (owners == sample).nonzero().flatten()
            mine = residuals[rows].flatten()
            allowed = float(self.left[sample]) * len(rows) / int(pending[sample])
            order = mine.argsort(descending=True)
            rest = mine.sum() - mine[order].cumsum(0) + mine[order]
            over = float(mine.sum()) > allowed
            wanted = (rest > allowed / 2) & (
                length[rows].repeat_interleave(residuals.shape[1])[order] > _SHORTEST
            )
            wanted[max(self.job.rule.most_steps - int(self.counts[sample]), 0) :] = False
            picked = torch.zeros_like(wanted)
            picked[order[wanted]] = over
            self.left[sample] -= float(mine[~picked].sum())
            self.left[sample].clamp_(min=0)
            chosen[rows] = picked.view(len(rows), -1)
        return chosen


def _interval_sums(rule: IntegratedGradients, activation: Tensor, gradient: Tensor) -> Tensor:
    """Return the sum over a layer of each interval's contributions, (piece, interval)."""
    a, g, width = activation.unbind(1), gradient.unbind(1), rule.stride
    sums = []
    for at in range(0, len(a) - 1, width):
        cut = slice(at, at + width + 1)
        part = rule.add(torch.zeros_like(a[0]), a[cut], g[cut], None)
        sums.append(part.flatten(1).sum(dim=1, dtype=torch.float64))
    return torch.stack(sums, dim=1).cpu()
