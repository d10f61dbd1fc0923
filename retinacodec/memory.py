"""Memory: how much a computation will take, measured on one sample before it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from retinacodec.errors import InputError
from retinacodec.generic_path import GenericPath, path_rows, run_starts
from retinacodec.passes import Ends
from retinacodec.rules import PathRule

__all__ = ["Need", "Plan", "divide", "measure_need", "widest_output"]

_MOST_SAMPLES = 256


@dataclass(frozen=True)
class Need:
    """What one sample of a computation takes, bytes.

    Parameters
    ----------
    row : int
        Each point of a path while it is computed.
    held : int
        Each sample for as long as its path is computed.
    carried : int
        Each sample besides, where a path is computed in runs.
    kept : int
        Each sample in the result.
    """

    row: int
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
    ends = Ends(job.model_outputs(sample), torch.zeros(1, dtype=torch.long))
    start = run_starts(job.starts, sample)[0]
    points = torch.linspace(0, 1, stride + 1, dtype=torch.float64) if stride else torch.ones(1)
    rows = path_rows(sample, start, points)
    parameters = {one.untyped_storage().data_ptr() for one in job.circuit.model.parameters()}
    stored: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        one = job.forward(rows, ends)
    count = rows.shape[1]
    taps = sum(_bytes(t) for calls in one.captured.values() for t in calls) // count
    targets = one.score.shape[-1]
    widest = widest_output(job.circuit.model, sample)
    narrow = 0 if job.wish.maps else 1
    channels = sum(16 * targets for _ in job.circuit.taps)
    return Need(
        row=sum(stored.values()) // count + 3 * taps + 3 * widest,
        held=3 * taps,
        carried=(targets - 1 + 2 * targets) * taps,
        kept=channels if narrow else 2 * targets * taps,
    )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def widest_output(model: nn.Module, sample: Tensor) -> int:
    """Return the bytes of the largest tensor that a module of a model puts out for a sample."""
    widest = _bytes(sample)

    def note(module: nn.Module, inputs: object, output: object) -> None:  # noqa: ARG001
        nonlocal widest
        if isinstance(output, Tensor):
            widest = max(widest, _bytes(output))

    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            model(sample)
    finally:
        for handle in handles:
            handle.remove()
    return widest


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
    room = budget_gb * 1e9
    whole = points * need.row + need.held
    fits = int(min(room // max(whole, 1), _MOST_SAMPLES, samples))
    stride = job.rule.stride if isinstance(job.rule, PathRule) else points
    longest, held = points, need.held
    if fits < 1 and not adaptive and isinstance(job.rule, PathRule):
        held = need.held + need.carried
        longest = int(min((room - held) // max(need.row, 1), points))
        longest = (longest - 1) // stride * stride + 1
        fits = 1 if longest > stride else 0
    if fits < 1:
        least = (points if adaptive else stride + 1) * need.row + held
        raise InputError(
            f"contributions: one sample takes {least / 1e9:.2g} GB, the budget is "
            f"{budget_gb:g} GB; raise budget_gb, or tap fewer layers"
        )
    size = fits if batch is None else max(1, min(batch, samples))
    working = size * (longest * need.row + held) / 1e9
    name = "adaptive" if adaptive else "generic"
    plan = Plan(name, samples, size, longest, working, samples * need.kept / 1e9)
    return replace(job, longest=longest if longest < points else None), plan
