"""Convergence: whether a rule has enough steps, which completeness alone does not say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from retinacodec.circuit import Circuit, evaluating
from retinacodec.errors import InputError
from retinacodec.job import Job
from retinacodec.rules import IntegratedGradients, Rule, Secant, refines
from retinacodec.samples import Images
from retinacodec.tally import Array, Wish
from retinacodec.targets import Target

__all__ = ["step_change"]


def step_change(
    circuit: Circuit,
    movie: xr.Dataset | Images,
    target: Target,
    *,
    rule: Secant | IntegratedGradients | None = None,
    samples: int = 8,
    device: str | torch.device | None = None,
) -> xr.Dataset:
    """Return how much contributions change when the steps of a rule are doubled.

    Parameters
    ----------
    circuit, movie, target, device
        As in `contributions`.
    rule : Secant or IntegratedGradients, optional
        The rule in question; ``Secant(10)`` if left out.
    samples : int, default 8
        Frames or images that are tried, evenly spread over all.

    Returns
    -------
    xarray.Dataset
        ``change`` (layer), the L2 norm of the change of the channel sums, split by sign, over
        the norm at twice the steps; ``place_change`` (layer), the same for every place. Below
        about .05 the steps are enough for most purposes.

    Raises
    ------
    InputError
        If the rule has no steps, or `samples` is below 1.

    Notes
    -----
    The error of these rules falls about as one over their steps, so that the change is near the
    error that is left at the rule's own steps. The secant rule is complete at any number of
    steps; that its contributions are those of the integral is what is looked at here.

    Examples
    --------
    >>> import numpy as np
    >>> from retinacodec.models import ToyCircuit
    >>> from retinacodec.schema import make_stimulus
    >>> from retinacodec.targets import Cell
    >>> movie = make_stimulus(np.ones((6, 3, 3)), frame_rate=60, pixel_um=50, name="white")
    >>> found = step_change(Circuit(ToyCircuit(), ["relu2"]), movie, Cell(0))
    >>> bool(found["change"].max() < 0.05)
    True
    """
    rule = Secant() if rule is None else rule
    if not isinstance(rule, Secant | IntegratedGradients) or refines(rule):
        raise InputError(
            f"step change: expected Secant or IntegratedGradients without a tolerance, got {rule!r}"
        )
    if samples < 1:
        raise InputError(f"step change: expected samples of at least 1, got {samples}")
    job = Job.prepare(circuit, movie, target, rule, Wish(True, False, False), False, device)
    chosen = np.unique(np.linspace(0, len(job.samples) - 1, samples).astype(int))
    with evaluating(circuit.model, job.device):
        once, twice = (_explained(job, one, chosen) for one in (rule, _doubled(rule)))
    layers = list(circuit.taps)
    data: dict[str, Any] = {
        "change": ("layer", [_gap(once[one], twice[one], True) for one in layers]),
        "place_change": ("layer", [_gap(once[one], twice[one], False) for one in layers]),
    }
    attrs = {"rule": repr(rule), "samples": len(chosen)}
    return xr.Dataset(data, coords={"layer": layers}, attrs=attrs)


def _doubled(rule: Secant | IntegratedGradients) -> Rule:
    return replace(rule, steps=2 * rule.steps)


def _explained(job: Job, rule: Rule, chosen: Array) -> dict[str, Array]:
    """Return the maps (sample, target, sign, channel, ...) of each layer."""
    parts: list[dict[str, Array]] = []
    for number in chosen.tolist():
        rows = job.samples.take(number, number + 1).contiguous()
        path = replace(job.generic, rule=rule)
        parts.append(path.run(rows, job.samples.numbers(number, number + 1)))
    return {
        layer: np.concatenate([part[f"{layer}/contribution"] for part in parts])
        for layer in job.generic.circuit.taps
    }


def _gap(once: Array, twice: Array, summed: bool) -> float:
    """Return the relative distance of two maps, of sums over space if asked for."""
    if summed:
        once, twice = (one.reshape(*one.shape[:4], -1).sum(axis=-1) for one in (once, twice))
    return float(np.linalg.norm(once - twice)) / max(float(np.linalg.norm(twice)), 1e-30)
