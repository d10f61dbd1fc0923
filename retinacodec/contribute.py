"""The verb: what every interneuron contributed to the target at every moment."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from retinacodec.assembly import Summary
from retinacodec.circuit import Circuit, evaluating
from retinacodec.errors import InputError
from retinacodec.job import Job
from retinacodec.memory import Plan
from retinacodec.progress import track
from retinacodec.rules import Rule, Secant
from retinacodec.samples import Images
from retinacodec.schema import check_contributions
from retinacodec.store import open_result
from retinacodec.streaming import streamed
from retinacodec.tally import Array, Wish
from retinacodec.targets import Target

__all__ = ["contributions", "plan_contributions"]

_log = logging.getLogger(__name__)


def contributions(
    circuit: Circuit,
    movie: xr.Dataset | Images,
    target: Target,
    *,
    rule: Rule | None = None,
    maps: bool = False,
    activations: bool = False,
    gradients: bool = False,
    fast: bool = True,
    out: str | Path | None = None,
    overwrite: bool = False,
    batch: int | None = None,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.DataTree:
    """Return what every interneuron contributed to the target at every moment.

    Parameters
    ----------
    circuit : Circuit
        The model and the layers whose interneurons are asked about.
    movie : xarray.Dataset, or xarray.DataArray, ndarray or torch.Tensor
        Stimulus with ``contrast`` (time, y, x); or, for a circuit whose `sample` is
        ``"image"``, preprocessed images (image, channel, y, x).
    target : Target
        The scalar of the outputs that is explained, or several of them.
    rule : Rule, optional
        How gradients along the path from a baseline to the movie are summed; ``Secant(10)``
        if left out.
    maps : bool, default False
        Keep the contribution of every position; else only the sum over positions, tokens or
        heads.
    activations : bool, default False
        Keep the activation at the movie too, split and summed like the contributions.
    gradients : bool, default False
        Keep the gradient at the movie too, split and summed like the contributions.
    fast : bool, default True
        Take the fast path where the model is a stack of convolutions: the same numbers to
        rounding, hundreds of times sooner. The attribute ``path`` says which one was taken.
    out : str or Path, optional
        Write the result to this ``.zarr`` folder while it is computed, for results that do not
        fit into memory; it is returned opened, not read.
    overwrite : bool, default False
        Replace an earlier result of this name.
    batch : int, optional
        Frames or images computed at a time; chosen from the budget if left out. The result
        does not depend on it.
    budget_gb : float, default 2.0
        Memory for what is computed at a time, and, unless `out` is given, for full maps, GB.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far the computation has come.

    Returns
    -------
    xarray.DataTree
        A node for each layer, called like it with underscores for dots and, where that name is
        taken, a number, with ``contribution`` (time[, target], sign, channel[, y, x]) in
        units of the target, split by sign before the sum over positions, and ``residual``
        (time[, target]), the sum of all contributions less the change of the target; the root
        holds ``rate`` (time, cell) in Hz, ``value`` and ``baseline_value`` of the target, and
        ``steps`` (time) where they were refined. For images the dimension is ``image``, and the
        outputs are called ``output``.

    Raises
    ------
    InputError
        If the movie does not fit the circuit, an operation of the model has no exact factor
        (and the rule no fallback), or a result would not fit the budget.

    Notes
    -----
    For a layer with activation a and gradient g of the target along ``x0 + t (x - x0)``,
    ``C = sum_k g_k (a_k - a_{k-1})`` with g by the rule. If every way from the stimulus to
    the outputs crosses the layer once, the contributions sum to ``S(x) - S(x0)``; of other
    layers the attributes ``full_cut`` and ``bypass`` say why they need not.

    References
    ----------
    Melander et al., "Causal interpretation of neural network computations with contribution
    decomposition", ICLR 2026.

    Examples
    --------
    >>> import numpy as np
    >>> from retinacodec.models import ToyCircuit
    >>> from retinacodec.schema import make_stimulus
    >>> from retinacodec.targets import Cell
    >>> toy = ToyCircuit()
    >>> frames = np.random.default_rng(0).normal(size=(8, *toy.size))
    >>> movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    >>> parts = contributions(Circuit(toy, ["relu1"]), movie, Cell(0), progress=False)
    >>> bool(abs(parts["relu1"]["residual"]).max() < 1e-5)
    True
    """
    rule = Secant() if rule is None else rule
    _check_division(batch, budget_gb)
    wish = Wish(maps, activations, gradients)
    job = Job.prepare(circuit, movie, target, rule, wish, fast, device)
    with evaluating(circuit.model, job.device):
        job, plan = job.divided(batch, budget_gb, whole=out is None)
        level = logging.INFO if progress else logging.DEBUG
        _log.log(level, "%s", plan)
        starts = range(0, len(job.samples), plan.batch)
        summary = Summary(job.bypasses, rule.complete)

        def stretches() -> Iterator[tuple[int, dict[str, Array]]]:
            for start in track(starts, "contributions", enabled=progress):
                found = job.compute(start, min(start + plan.batch, len(job.samples)))
                summary.add(found)
                yield start, found

        if out is not None:
            tree = _streamed(job, stretches(), summary, Path(out), overwrite)
        else:
            tree = job.assembler.tree(_joined(stretches(), len(job.samples)), 0)
            _note(tree, job.attrs(), summary.shares())
    summary.say(level)
    return check_contributions(tree)


def _check_division(batch: int | None, budget_gb: float) -> None:
    whole = isinstance(batch, int) and not isinstance(batch, bool) and batch > 0
    if batch is not None and not whole:
        raise InputError(f"contributions: expected a whole batch of at least 1, got {batch!r}")
    if not budget_gb > 0:
        raise InputError(f"contributions: expected a budget above 0 GB, got {budget_gb}")


def _joined(stretches: Iterator[tuple[int, dict[str, Array]]], samples: int) -> dict[str, Array]:
    """Return the arrays of all stretches in one, which is there from the first stretch on."""
    whole: dict[str, Array] = {}
    for start, found in stretches:
        for key, values in found.items():
            if key not in whole:
                whole[key] = np.empty((samples, *values.shape[1:]), values.dtype)
            whole[key][start : start + len(values)] = values
    return whole


def _note(tree: xr.DataTree, attrs: dict[str, Any], shares: dict[str, float]) -> None:
    """Write provenance to the root, and to each node what it leaves unexplained."""
    tree.attrs.update(attrs)
    for node in tree.children.values():
        node.attrs["relative_residual"] = shares[node.attrs["layer"]]


def _streamed(
    job: Job,
    stretches: Iterator[tuple[int, dict[str, Array]]],
    summary: Summary,
    out: Path,
    overwrite: bool,
) -> xr.DataTree:
    """Write stretches as they come, and open what was written."""
    with streamed(out, overwrite=overwrite) as writer:
        for start, found in stretches:
            writer.append(job.assembler.tree(found, start))
        shares = summary.shares()
        names = job.assembler.nodes
        nodes = {names[layer]: {"relative_residual": share} for layer, share in shares.items()}
        writer.finish(job.attrs(), nodes)
    opened: xr.DataTree = open_result(out, load=False)
    return opened


def plan_contributions(
    circuit: Circuit,
    movie: xr.Dataset | Images,
    target: Target,
    *,
    rule: Rule | None = None,
    maps: bool = False,
    fast: bool = True,
    out: str | Path | None = None,
    batch: int | None = None,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
) -> Plan:
    """Return how `contributions` would divide its work and what it would take, without doing it.

    Parameters
    ----------
    circuit, movie, target, rule, maps, fast, out, batch, budget_gb, device
        As in `contributions`.

    Returns
    -------
    Plan
        Path, batch, working memory and size of the result.

    Raises
    ------
    InputError
        As `contributions` would.
    """
    rule = Secant() if rule is None else rule
    _check_division(batch, budget_gb)
    job = Job.prepare(circuit, movie, target, rule, Wish(maps, False, False), fast, device)
    _check_division(batch, budget_gb)
    with evaluating(circuit.model, job.device):
        return job.divided(batch, budget_gb, whole=out is None)[1]
