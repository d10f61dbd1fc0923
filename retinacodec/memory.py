"""Memory: how much a computation will take, measured on one sample before it begins."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from retinacodec.errors import InputError
from retinacodec.generic_path import GenericPath, path_rows, run_starts
from retinacodec.passes import Ends
from retinacodec.rules import PathRule, refines

__all__ = ["Need", "Plan", "divide", "measure_need"]

_log = logging.getLogger(__name__)
_MOST_SAMPLES = 256
_SLACK = 1.5  # what allocators keep beyond what they are asked for
_SCRATCH = 30
_CARRYING = 1.4  # of a row, where values that are carried over lie scattered between the rows
_HEAP_BYTES = 32 << 20  # larger blocks are asked of the system each time, page by page
_MOST_ROWS = 1 << 16
_FEWEST_ROWS = 8  # with fewer the point that runs share would cost too much


@dataclass(frozen=True)
class Need:
    """What one sample of a computation takes, bytes.

    Parameters
    ----------
    row : int
        Each point of a path while it is computed.
    widest : int
        The largest single output of a layer for each point.
    scratch : int
        Once, for what kernels and allocators hold.
    held : int
        Each sample for as long as its path is computed.
    carried : int
        Each sample besides, where a path is computed in runs.
    kept : int
        Each sample in the result.
    """

    row: int
    widest: int
    scratch: int
    held: int
    carried: int
    kept: int


@dataclass(frozen=True)
class Plan:
    """How a computation is divided, and what it takes.

    Parameters
    ----------
    path : str
        ``"movie"`` for the fast path of convolutional circuits, ``"generic"`` for any, or
        ``"adaptive"`` for steps that are refined.
    samples : int
        Frames or images in all.
    batch : int
        Frames or images at a time.
    longest : int
        Points of a path at a time.
    working_gb : float
        Memory while it runs, GB, besides the movie and the model.
    result_gb : float
        Memory or disk space of the result, GB.
    """

    path: str
    samples: int
    batch: int
    longest: int
    working_gb: float
    result_gb: float

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.path} path, {self.batch} of {self.samples} samples and {self.longest} points "
            f"at a time; about {self.working_gb:.2g} GB at work, {self.result_gb:.2g} GB of result"
        )


def measure_need(job: GenericPath, sample: Tensor) -> Need:
    """Return what a computation takes for each sample, by trying one.

    Parameters
    ----------
    job : GenericPath
        The computation, with its model in evaluation mode.
    sample : torch.Tensor (1, ...)
        One sample.

    Returns
    -------
    Need
        Measured from the tensors that autograd keeps for one interval of a path.
    """
    stride = job.rule.stride if isinstance(job.rule, PathRule) else 0
    points = torch.linspace(0, 1, 2 * stride + 1, dtype=torch.float64) if stride else torch.ones(1)
    rows = path_rows(sample, run_starts(job.starts, sample)[0], points)
    parameters = {one.untyped_storage().data_ptr() for one in job.circuit.model.parameters()}
    stored: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    ends = Ends(None, torch.zeros(1, dtype=torch.long))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        _widest(job.circuit.model) as widest,
    ):
        one = job.forward(rows, ends)
    count = max(rows.shape[1] - job.rule.chords, 1)  # slopes belong to intervals
    captured = [tensor for calls in one.captured.values() for tensor in calls]
    apart = sum(_bytes(one) for one in captured if one.untyped_storage().data_ptr() not in stored)
    taps = sum(_bytes(tensor) for tensor in captured) // count
    targets = one.score.shape[-1]
    model, all_taps = job.circuit.model, job.circuit.taps
    channels = sum(
        all_taps[label].by_channel(model.get_submodule(all_taps[label].name), calls[0]).shape[1]
        for label, calls in one.captured.items()
    )
    adaptive = refines(job.rule)
    several = adaptive or (job.starts is not None and len(job.starts) > 1)
    kept = 2 * targets * (taps if job.wish.maps else 8 * channels)
    rows_held = (targets - 1) * taps if adaptive else 0  # every target's gradients at once
    return Need(
        row=rows_held + int(_SLACK * sum(stored.values()) + apart + 4 * max(widest)) // count,
        widest=max(widest) // count,
        scratch=_SCRATCH * max(widest) // count,
        held=(1 + (targets if several else 1)) * taps + (3 * kept if job.wish.maps else 0),
        carried=(targets - 1 + 2 * targets) * taps,
        kept=kept,
    )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@contextlib.contextmanager
def _widest(model: nn.Module) -> Iterator[list[int]]:
    """Gather the bytes of what the modules of a model put out while it runs."""
    found = [0]

    def note(module: nn.Module, inputs: object, output: object) -> None:  # noqa: ARG001
        if isinstance(output, Tensor):
            found.append(_bytes(output))

    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def divide(
    job: GenericPath, need: Need, samples: int, budget_gb: float, batch: int | None, adaptive: bool
) -> tuple[GenericPath, Plan]:
    """Divide a computation so that it stays within a budget.

    Parameters
    ----------
    job : GenericPath
        The computation.
    need : Need
        What one sample takes.
    samples : int
        Samples in all.
    budget_gb : float
        Working memory, GB.
    batch : int or None
        Samples at a time, if the caller wants to say.
    adaptive : bool
        Whether steps are refined, which takes whole paths at first.

    Returns
    -------
    job : GenericPath
        The same computation, with the length of its runs.
    plan : Plan
        How it is divided.

    Raises
    ------
    InputError
        If not even one interval of one sample fits.
    """
    points = len(job.rule.points())
    split = isinstance(job.rule, PathRule) and not adaptive
    stride = job.rule.stride if isinstance(job.rule, PathRule) else points
    smooth = max(_HEAP_BYTES // need.widest, 1) if job.device.type == "cpu" else _MOST_ROWS
    budget = budget_gb * 1e9 - need.scratch
    fits = _fitting(budget, points, need, smooth if points <= smooth else points)
    longest, held, row = points, need.held, need.row
    if split and (fits < 1 or points > smooth):
        scattered = need.row if job.rule.chords else int(_CARRYING * need.row)
        room = int((budget - need.held - need.carried) // max(scattered, 1))
        run = (min(room, points, max(smooth, _FEWEST_ROWS)) - 1) // stride * stride + 1
        if run > stride:
            fits, longest, held, row = 1, run, need.held + need.carried, scattered
    if fits < 1:
        least = need.scratch + held
        least += (stride + 1) * need.row + need.carried if split else points * need.row
        raise InputError(
            f"contributions: one sample takes {least / 1e9:.2g} GB, the budget is "
            f"{budget_gb:g} GB; raise budget_gb, or tap fewer layers"
        )
    size = max(1, min(fits if batch is None else batch, samples))
    if size > fits:
        _log.warning("batch=%d takes more than the budget of %g GB", size, budget_gb)
    working = (size * (longest * row + held) + need.scratch) / 1e9
    name = "adaptive" if adaptive else "generic"
    plan = Plan(name, samples, size, longest, working, samples * need.kept / 1e9)
    return replace(job, longest=longest if longest < points else None), plan


def _fitting(budget: float, points: int, need: Need, rows: int) -> int:
    """Return how many whole paths fit a budget, bytes, and a number of rows."""
    whole = points * need.row + need.held
    return int(min(budget // max(whole, 1), max(rows // points, 1), _MOST_SAMPLES))
