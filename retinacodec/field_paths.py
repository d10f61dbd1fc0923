"""Gradients of rates along paths, pulled back to where fields are stored: the first convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.circuit import Circuit, evaluating
from retinacodec.errors import InputError
from retinacodec.generic_path import GenericPath, path_rows, run_starts
from retinacodec.job import Job
from retinacodec.latents import LatentFields
from retinacodec.passes import Ends, Pass, forward
from retinacodec.rules import PathRule, Rule, refines
from retinacodec.samples import Samples
from retinacodec.tally import Wish
from retinacodec.targets import EachCell, Target

__all__ = ["FieldPaths", "Run", "cell_positions", "like", "path_rule"]

_OTHERS = "take Secant, or IntegratedGradients without a tolerance"


@dataclass(frozen=True)
class Run:
    """One pass of a circuit along the paths of a batch of frames.

    Parameters
    ----------
    one : Pass
        What came of it; its score is that of every output.
    root : torch.Tensor (path * point, ...)
        The first convolution's output, or the windows, where fields are stored.
    points : int
        Points of each path.
    """

    one: Pass
    root: Tensor
    points: int

    def by_path(self, values: Tensor) -> Tensor:
        """Return values (path * point, ...) as (path, point, ...)."""
        return values.unflatten(0, (-1, self.points))


@dataclass(frozen=True)
class FieldPaths:
    """Runs a circuit along paths to some frames, and averages gradients over them.

    Parameters
    ----------
    circuit : Circuit
        The circuit; its layers are what a run captures.
    samples : Samples
        The windows of the movie.
    generic : GenericPath
        Rule, target, device and where paths start.
    root : str
        Label of the first convolution; empty where fields are stored whole.
    bypasses : dict of str to (str or None)
        For each layer the reason why it is not a full cut; None for one.
    """

    circuit: Circuit
    samples: Samples
    generic: GenericPath
    root: str
    bypasses: dict[str, str | None]

    @classmethod
    def prepare(
        cls,
        circuit: Circuit,
        movie: xr.Dataset,
        rule: Rule,
        *,
        root: str,
        layers: Sequence[str] = (),
        target: Target | None = None,
        device: str | torch.device | None = None,
    ) -> FieldPaths:
        """Check what was asked for, and bind the target.

        Parameters
        ----------
        circuit : Circuit
            The circuit.
        movie : xarray.Dataset
            Stimulus with ``contrast`` (time, y, x).
        rule : Rule
            Which points of the path are run.
        root : str
            The first convolution, as `LatentFields` names it; empty for whole fields.
        layers : sequence of str
            Further layers to capture.
        target : Target, optional
            What is differentiated; the rate of every cell if left out.
        device : str or torch.device, optional
            Where to compute; the model's own device if left out.

        Raises
        ------
        InputError
            If the rule has no gradients along one path, or something does not fit.
        """
        if hasattr(rule, "perturb") or refines(rule):
            raise InputError(f"fields: {rule!r} has no gradients along one path; {_OTHERS}")
        taps = dict.fromkeys([*([root] if root else []), *layers])
        asked = replace(circuit, layers=tuple(taps) or circuit.layers[:1])
        wish = Wish(False, False, False)
        target = EachCell() if target is None else target
        ready = Job.prepare(asked, movie, target, rule, wish, False, device)
        starts = ready.generic.starts
        if starts is not None and len(starts) > 1:
            raise InputError(
                f"fields: expected a baseline with one start, got {len(starts)}; their paths have "
                "no common field, take ZeroContrast() or MeanFrame()"
            )
        where = replace(asked, layers=tuple(taps))
        return cls(where, ready.samples, ready.generic, root, ready.bypasses)

    @property
    def rule(self) -> Rule:
        """How gradients along a path are summed."""
        return self.generic.rule

    def rows(self, frames: npt.ArrayLike) -> tuple[Tensor, Tensor]:
        """Return windows (frame, history, y, x) of movie frames, and their numbers."""
        numbers = np.asarray(frames, dtype=np.intp)
        first = self.circuit.first_frame
        parts = [self.samples.take(int(one), int(one) + 1) for one in numbers - first]
        return torch.cat(parts).to(self.generic.device), torch.from_numpy(numbers)

    def run(self, frames: npt.ArrayLike, *, local: bool = False) -> Run:
        """Run the circuit along the paths to some frames; to be called inside `evaluating`.

        Parameters
        ----------
        frames : array_like of int
            Movie frames.
        local : bool, default False
            Only the frames themselves, with plain derivatives.

        Returns
        -------
        Run
            Captured layers, and scores of every output.
        """
        samples, numbers = self.rows(frames)
        if local:
            paths = samples.unsqueeze(1)
        else:
            start = run_starts(self.generic.starts, samples)[0].to(samples.device)
            paths = path_rows(samples, start, self.rule.points())
        points = paths.shape[1]
        inputs = paths.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        inputs = inputs.detach().requires_grad_(not self.root)
        chords = self.rule.chords and not local
        ends = Ends(None, numbers)
        target = self.generic.target
        one = forward(self.circuit, self.circuit.model, target, inputs, points, ends, chords)
        root = one.captured[self.root][0] if self.root else inputs
        return Run(one, root, points)

    def average(self, gradient: Tensor) -> Tensor:
        """Return the mean gradient (path, ...) of gradients (path, point, ...) by the rule.

        Notes
        -----
        The rule's own sum with the fraction of the way in place of the activation, so that its
        product with ``x - x0`` is the rule's sum of gradients times changes of the stimulus.
        """
        if gradient.shape[1] == 1:
            return gradient[:, 0]
        way = self.rule.points().to(gradient.device, gradient.dtype)
        way = way.view(1, -1, *[1] * (gradient.ndim - 2)).expand_as(gradient)
        return self.rule.combine(way.contiguous(), gradient)

    def upstream(self, layer: str, frames: npt.ArrayLike) -> bool:
        """Return whether a layer lies before the first convolution."""
        if not self.root or layer == self.root:
            return False
        with evaluating(self.circuit.model, self.generic.device):
            run = self.run(np.asarray(frames)[:1], local=True)
        calls = run.one.captured[layer]
        if all(call.grad_fn is None for call in calls):
            return True
        ones = [torch.ones_like(call) for call in calls]
        found = torch.autograd.grad(calls, run.root, ones, allow_unused=True)
        return found[0] is None


def path_rule(rule: Rule) -> PathRule:
    """Return a rule that sums over a path, or raise `InputError`."""
    if not isinstance(rule, PathRule):
        raise InputError(f"fields: {rule!r} has no path from a baseline; {_OTHERS}")
    return rule


def cell_positions(circuit: Circuit, fields: LatentFields) -> list[int]:
    """Return the positions of the cells of a record among the circuit's outputs."""
    names = fields.rate["cell"].values.tolist()
    if circuit.outputs is None:
        return [int(name) for name in names]
    known = list(circuit.outputs)
    if len(set(known)) < len(known):
        raise InputError("fields: expected a name of its own for each cell; pass outputs=")
    return [known.index(name) for name in names]


def like(fields: LatentFields, values: Tensor) -> xr.DataArray:
    """Return latents (time, cell, channel, y, x) with the names of a record's own."""
    return fields.latent.copy(data=values.cpu().numpy())
