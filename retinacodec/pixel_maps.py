"""Input maps: which pixels made a layer's channels contribute what they did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.circuit import Circuit, evaluating
from retinacodec.errors import InputError
from retinacodec.generic_path import GenericPath, path_rows, run_starts
from retinacodec.job import Job
from retinacodec.passes import Ends, forward
from retinacodec.progress import track
from retinacodec.rules import PathRule, Rule, Secant, refines
from retinacodec.samples import Images, Samples
from retinacodec.schema import SIGNS, lag_axis
from retinacodec.tally import Wish, as_numpy
from retinacodec.targets import Target

__all__ = ["input_maps"]

Array = npt.NDArray[Any]


def input_maps(
    circuit: Circuit,
    movie: xr.Dataset | Images,
    target: Target,
    *,
    layer: str | None = None,
    groups: npt.ArrayLike | None = None,
    rule: Rule | None = None,
    rows: Sequence[int] | npt.NDArray[Any] | None = None,
    batch: int = 1,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.DataArray:
    """Return how the stimulus made each channel, or group of channels, contribute.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset, or xarray.DataArray, ndarray or torch.Tensor
        A Stimulus, or preprocessed images (image, channel, y, x).
    target : Target
        One scalar of the outputs.
    layer : str, optional
        A layer of the circuit; its first if left out.
    groups : array_like (group, channel), optional
        Weight of each channel in each group, such as the atoms of modes; each channel by
        itself if left out.
    rule : Rule, optional
        `Secant` (10 steps) if left out: maps along the path from the baseline, which are
        complete. With `ActivationGradient` the local map at the sample.
    rows : sequence of int, optional
        Which responses, or images, counted from 0; all if left out.
    batch : int, default 1
        Responses computed at a time; the result does not depend on it.
    budget_gb : float, default 2.0
        Largest result, GB.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.DataArray (time, group, sign, lag, y, x) or (image, group, sign, channel, y, x)
        Contribution of each pixel through the interneurons of each group, split by the sign of
        the interneurons' own contributions, in units of the target.

    Raises
    ------
    InputError
        If the layer or a row does not exist, groups do not fit the layer's channels, there is
        more than one target, or the result would not fit the budget.

    Notes
    -----
    For interneuron u and pixel i, ``C_ui = integral (dS/dh_u) (dh_u/dx_i) (x_i - x0_i) dt``:
    summed over pixels the interneuron's contribution, summed over the interneurons of a full
    cut the pixel's; with the secant rule both exactly. A group's map is one product of its
    masked gradient with the Jacobian, whatever the number of interneurons. The local form is
    ``(dS/dh_u) (dh_u/dx_i) x_i``.

    References
    ----------
    Melander et al., ICLR 2026, Definition 1.

    Examples
    --------
    >>> from retinacodec.models import ToyCircuit
    >>> from retinacodec.schema import make_stimulus
    >>> from retinacodec.targets import Cell
    >>> movie = make_stimulus(np.ones((4, 3, 3)), frame_rate=60, pixel_um=50, name="white")
    >>> toy = Circuit(ToyCircuit(), ["relu1"])
    >>> input_maps(toy, movie, Cell(0), progress=False).dims
    ('time', 'group', 'sign', 'lag', 'y', 'x')
    """
    rule = Secant() if rule is None else rule
    job = _Maps.prepare(circuit, movie, target, layer, groups, rule, rows, device)
    size = 2 * 4 * len(job.rows) * len(job.weights) * float(np.prod(job.samples.shape)) / 1e9
    if size > budget_gb:
        raise InputError(
            f"input maps: {len(job.rows)} responses of {len(job.weights)} groups take {size:.2g} "
            f"GB, the budget is {budget_gb:g} GB; pass fewer rows= or groups="
        )
    with evaluating(circuit.model, job.path.device):
        starts = range(0, len(job.rows), batch)
        parts = [
            job.compute(job.rows[at : at + batch])
            for at in track(starts, "input maps", enabled=progress)
        ]
    return job.named(np.concatenate(parts))


@dataclass(frozen=True)
class _Maps:
    """What to compute, on which responses."""

    samples: Samples
    path: GenericPath
    weights: Tensor
    rows: npt.NDArray[np.intp]

    @classmethod
    def prepare(
        cls,
        circuit: Circuit,
        source: xr.Dataset | Images,
        target: Target,
        layer: str | None,
        groups: npt.ArrayLike | None,
        rule: Rule,
        rows: Sequence[int] | npt.NDArray[Any] | None,
        device: str | torch.device | None,
    ) -> _Maps:
        """Check what was asked for."""
        layer = next(iter(circuit.taps), None) if layer is None else layer
        if layer not in circuit.taps:
            raise InputError(f"input maps: no layer {layer!r}; there are {', '.join(circuit.taps)}")
        if hasattr(rule, "perturb") or refines(rule):
            raise InputError(
                f"input maps: {rule!r} has no maps; take Secant, IntegratedGradients without a "
                "tolerance, or ActivationGradient"
            )
        one = replace(circuit, layers=(layer,))
        ready = Job.prepare(one, source, target, rule, Wish(False, False, False), False, device)
        if ready.assembler.labels is not None:
            raise InputError(f"input maps: expected one target, got {len(ready.assembler.labels)}")
        samples, path = ready.samples, ready.generic
        chosen = np.arange(len(samples)) if rows is None else np.asarray(rows, dtype=np.intp)
        if chosen.ndim != 1 or not len(chosen) or chosen.min() < 0 or chosen.max() >= len(samples):
            raise InputError(f"input maps: expected rows in 0 to {len(samples) - 1}")
        job = cls(samples, path, torch.empty(0), chosen)
        return replace(job, weights=job._weights(groups))

    def _weights(self, groups: npt.ArrayLike | None) -> Tensor:
        """Return the weights (group, channel), each channel by itself if none are given."""
        label, tap = next(iter(self.path.circuit.taps.items()))
        rows, ends = self._paths(self.samples.take(0, 1).contiguous())
        with evaluating(self.path.circuit.model, self.path.device):
            one = self.path.forward(rows, ends)
        module = self.path.circuit.model.get_submodule(tap.name)
        channels = tap.by_channel(module, one.captured[label][0]).shape[1]
        if groups is None:
            return torch.eye(channels)
        weights = torch.as_tensor(np.asarray(groups), dtype=torch.float32)
        if weights.ndim != 2 or weights.shape[1] != channels or not bool(weights.isfinite().all()):
            raise InputError(
                f"input maps: expected finite weights (group, {channels}), got "
                f"{tuple(weights.shape)}"
            )
        return weights

    def _paths(self, samples: Tensor, start: Tensor | None = None) -> tuple[Tensor, Ends]:
        """Return paths (sample, point, ...) from one start, and where they lead."""
        samples = samples.to(self.path.device)
        start = run_starts(self.path.starts, samples)[0] if start is None else start
        numbers = torch.arange(len(samples))
        return path_rows(samples, start, self.path.rule.points()), Ends(None, numbers)

    def compute(self, chosen: npt.NDArray[np.intp]) -> Array:
        """Return the maps (sample, group, sign, ...) of some responses."""
        samples = torch.cat([self.samples.take(int(one), int(one) + 1) for one in chosen])
        starts = run_starts(self.path.starts, samples)
        numbers = torch.cat([self.samples.numbers(int(one), int(one) + 1) for one in chosen])
        return np.mean([self._from(samples, start, numbers) for start in starts], axis=0)

    def _from(self, samples: Tensor, start: Tensor, numbers: Tensor) -> Array:
        """Return the maps of paths from one start."""
        path = self.path
        paths, _ = self._paths(samples, start.to(path.device))
        points = paths.shape[1]
        inputs = paths.flatten(0, 1).requires_grad_()
        one = forward(
            path.circuit,
            path.circuit.model,
            path.target,
            inputs,
            points,
            Ends(None, numbers),
            path.rule.chords,
        )
        label, tap = next(iter(path.circuit.taps.items()))
        calls = one.captured[label]
        slopes = torch.autograd.grad(one.score[..., 0], calls, one.weights, retain_graph=True)
        module = path.circuit.model.get_submodule(tap.name)
        found = []
        for weight in self.weights.to(path.device):
            for positive in (False, True):
                masked = []
                for call, slope in zip(calls, slopes, strict=True):
                    mask = torch.zeros_like(slope, memory_format=torch.contiguous_format)
                    view = tap.by_channel(module, mask)
                    view.copy_(weight.view(1, -1, *[1] * (view.ndim - 2)).expand_as(view))
                    masked.append(slope * mask * self._sign(call, slope, points, positive))
                pulled = torch.autograd.grad(calls, inputs, masked, retain_graph=True)[0]
                found.append(self._combine(paths.detach(), pulled.unflatten(0, (-1, points))))
        stacked = torch.stack(found, dim=1).unflatten(1, (len(self.weights), 2))
        return as_numpy(stacked)

    def _sign(self, call: Tensor, slope: Tensor, points: int, positive: bool) -> Tensor:
        """Return 1 at the rows of interneurons whose contribution has a sign, else 0."""
        own = self.path.rule.combine(
            call.detach().unflatten(0, (-1, points)), slope.unflatten(0, (-1, points))
        )
        has = (own > 0) == positive
        return has.to(slope.dtype).repeat_interleave(points, dim=0)

    def _combine(self, paths: Tensor, pulled: Tensor) -> Tensor:
        if isinstance(self.path.rule, PathRule):
            return self.path.rule.combine(paths, pulled)
        return paths[:, -1] * pulled[:, -1]

    def named(self, values: Array) -> xr.DataArray:
        """Put names and places to the numbers."""
        samples, sample = self.samples, self.path.circuit.sample
        inner = ("lag", "y", "x") if samples.moving else ("channel", "y", "x")
        array = xr.DataArray(
            values,
            dims=(sample, "group", "sign", *inner),
            coords={
                sample: samples.coordinate[self.rows],
                "group": np.arange(values.shape[1]),
                "sign": ("sign", np.asarray(SIGNS)),
            },
            name="input_map",
            attrs={
                "layer": next(iter(self.path.circuit.taps)),
                "rule": repr(self.path.rule),
                "units": getattr(self.path.target, "units", ""),
                "long_name": "contribution of pixels through channels",
            },
        )
        if samples.moving:
            circuit = self.path.circuit
            past = circuit.history or 1, circuit.latency or 0
            array = array.assign_coords(lag=lag_axis(*past, samples.attrs["frame_rate"]))
        return array
