"""A plain fit loop: Poisson likelihood, contiguous batches, early stopping, the best state kept."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from retinacodec import metrics
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError, Problems, RetinacodecError
from retinacodec.progress import track
from retinacodec.recordings import Split
from retinacodec.runs import Runs

__all__ = ["Job", "Plan", "own_randomness", "poisson_loss", "run_loop"]

_log = logging.getLogger(__name__)

_HISTORIES = 5  # a training run of responses is this many histories long: little overlap
_PREDICTED = 256  # responses predicted at a time
_FLOOR = 1e-9  # fewer expected spikes count as this many, so that the logarithm is finite


def poisson_loss(expected: Tensor, counts: Tensor) -> Tensor:
    """Return the mean Poisson negative log-likelihood of the observed bins.

    Parameters
    ----------
    expected : torch.Tensor
        Expected spikes in each bin, at least 0.
    counts : torch.Tensor
        Spikes in each bin; NaN is not observed.

    Returns
    -------
    torch.Tensor ()
        ``mean(r - k log r)``, nats per bin, less the term without r; 0 if nothing was observed.
    """
    seen = counts.isfinite()
    each = expected - counts.nan_to_num() * expected.clamp_min(_FLOOR).log()
    return (each * seen).sum() / seen.sum().clamp_min(1)


@dataclass(frozen=True)
class Plan:
    """The numbers that steer the loop."""

    epochs: int
    batch: int
    lr: float
    weight_decay: float
    activity_l1: float
    patience: int | None
    seed: int

    def check(self) -> None:
        """Raise one `InputError` that names every number out of range."""
        problems = Problems()
        for name in ("epochs", "batch", "patience"):
            value = getattr(self, name)
            problems.require(
                value is None or value >= 1, f"{name}: expected 1 or more, got {value}"
            )
        problems.require(self.lr > 0, f"lr: expected more than 0, got {self.lr}")
        for name in ("weight_decay", "activity_l1"):
            value = getattr(self, name)
            problems.require(value >= 0, f"{name}: expected 0 or more, got {value}")
        problems.raise_as("fit")


@dataclass(frozen=True)
class Job:
    """A model in training, and what every step needs of the data."""

    model: nn.Module
    training: Runs
    validation: Runs
    frame_rate: float
    mean_count: float
    device: torch.device

    @classmethod
    def of(
        cls,
        model: nn.Module,
        circuit: Circuit,
        movie: xr.Dataset,
        recording: xr.Dataset,
        split: Split,
        device: torch.device,
    ) -> Job:
        """Put model and data together, and choose how responses are cut into runs."""
        contrast = torch.from_numpy(np.ascontiguousarray(movie["contrast"].values, np.float32))
        counts = torch.from_numpy(np.array(recording["spike_count"].values, np.float32))
        history, latency = circuit.history or 1, circuit.latency or 0
        along = hasattr(model, "rates_along")
        training, validation = (
            Runs(contrast, counts, history, latency, length if along else 1, frames)
            for length, frames in (
                (_HISTORIES * history + 1, split.train),
                (_PREDICTED, split.validation),
            )
        )
        mean = float(np.nanmean(counts[torch.from_numpy(split.train)]))
        rate = float(recording.attrs["frame_rate"])
        return cls(model.to(device), training, validation, rate, mean, device)

    def prepare(self, recording: xr.Dataset) -> None:
        """Set names and scales from the training set, and let the model choose its start."""
        model, training = self.model, self.training
        deviation = training.deviation()
        if not deviation > 0:
            raise InputError("movie: the contrast does not vary in the training set")
        if isinstance(getattr(model, "contrast_scale", None), Tensor):
            model.contrast_scale.fill_(deviation)  # type: ignore[operator, union-attr]
        if isinstance(getattr(model, "rate_scale", None), Tensor):
            rates = torch.from_numpy(training.mean_counts() * self.frame_rate)
            model.rate_scale.copy_(rates)  # type: ignore[operator, union-attr]
        if hasattr(model, "cell_names"):
            names = tuple(map(str, recording["cell"].values))
            model.cell_names = names  # type: ignore[assignment]
        if hasattr(model, "initialise"):
            places = (training.contrast.to(self.device), training.only_here().to(self.device))
            model.initialise(*places)  # type: ignore[operator]

    def loss(self, starts: Tensor, activity_l1: float) -> tuple[Tensor, Tensor]:
        """Return the likelihood part of a batch's loss, and all that is added to it."""
        expected = self._expected(self.training, starts)
        counts = self.training.counts[self.training.responses(starts)].to(self.device)
        extra = activity_l1 * expected.mean() / self.mean_count
        if hasattr(self.model, "penalty"):
            nats = self.model.penalty()  # type: ignore[operator]
            extra = extra + nats / float(self.training.spikes().sum())
        return poisson_loss(expected, counts) / self.mean_count, extra

    def score(self) -> tuple[float, float]:
        """Return loss and mean correlation on the validation set, in evaluation mode."""
        runs = self.validation
        if not len(runs.frames):
            return float("nan"), float("nan")
        self.model.eval()
        found = torch.empty_like(runs.counts)
        with torch.no_grad():
            for part in runs.starts.split(max(1, _PREDICTED // runs.length)):
                found[runs.responses(part)] = self._expected(runs, part).cpu()
        at = torch.from_numpy(runs.frames)
        expected, counts = found[at].double(), runs.counts[at].double()
        _require_finite(float(expected.sum()))
        correlation = metrics.pearson(expected.numpy(), counts.numpy())
        known = correlation[np.isfinite(correlation)]
        return (
            float(poisson_loss(expected, counts)) / self.mean_count,
            float(known.mean()) if known.size else float("nan"),
        )

    def _expected(self, runs: Runs, starts: Tensor) -> Tensor:
        """Return expected spikes (run, length, cell)."""
        movie = runs.movie(starts).to(self.device)
        if hasattr(self.model, "rates_along"):
            rates: Tensor = self.model.rates_along(movie)  # type: ignore[operator]
        else:
            rates = self.model(movie)[:, None]
        return rates / self.frame_rate


def run_loop(job: Job, plan: Plan, progress: bool) -> tuple[xr.Dataset, int]:
    """Train, leave the best state in the model, and return the log and the best epoch."""
    order = torch.Generator().manual_seed(plan.seed)
    starts = job.training.starts
    steps = max(1, round(len(starts) * job.training.length / plan.batch))
    optimiser, schedule = _optimiser(job.model, plan, steps)
    rows: list[tuple[float, float, float]] = []
    best, kept = 0, _copied_state(job.model)
    for epoch in track(range(plan.epochs), "fit", total=plan.epochs, enabled=progress):
        shuffled = starts[torch.randperm(len(starts), generator=order)]
        loss = _epoch(job, plan, shuffled.tensor_split(steps), optimiser, schedule)
        rows.append((loss, *job.score()))
        _log.info("epoch %d: loss %.4f, validation loss %.4f, correlation %.3f", epoch, *rows[-1])
        if not rows[-1][1] >= min(row[1] for row in rows[: best + 1]) or epoch == 0:
            best, kept = epoch, _copied_state(job.model)
        elif plan.patience is not None and epoch - best >= plan.patience:
            break
    job.model.load_state_dict(kept)
    return _as_dataset(rows), best


def _epoch(job: Job, plan: Plan, batches: Sequence[Tensor], optimiser: Any, schedule: Any) -> float:
    """Take one step for each batch, and return the mean likelihood part of the loss."""
    job.model.train()
    total = 0.0
    for starts in batches:
        likelihood, extra = job.loss(starts, plan.activity_l1)
        optimiser.zero_grad()
        (likelihood + extra).backward()
        optimiser.step()
        schedule.step()
        if hasattr(job.model, "constrain"):
            job.model.constrain()  # type: ignore[operator]
        total += float(likelihood.detach())
    _require_finite(total)
    return total / len(batches)


def _require_finite(value: float) -> None:
    if not np.isfinite(value):
        raise RetinacodecError("fit: the loss is no longer a number; use a smaller lr")


def _optimiser(model: nn.Module, plan: Plan, steps: int) -> tuple[Any, Any]:
    """Return AdamW that spares vectors from decay, and its one-cycle schedule."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=plan.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.lr, total_steps=steps * plan.epochs + 1
    )
    return optimiser, schedule


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the library's generators inside, and put them back as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _copied_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _as_dataset(rows: list[tuple[float, float, float]]) -> xr.Dataset:
    columns = np.asarray(rows).T
    names = ("train_loss", "validation_loss", "validation_correlation")
    units = ("nats per spike", "nats per spike", "1")
    return xr.Dataset(
        {
            name: ("epoch", values, {"units": unit})
            for name, values, unit in zip(names, columns, units, strict=True)
        },
        coords={"epoch": np.arange(len(rows))},
    )
