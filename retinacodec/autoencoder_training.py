"""The loop that trains every sparse network: seeded batches, held-out scores, best state kept."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from retinacodec.errors import InputError, Problems
from retinacodec.fitting import count_problems
from retinacodec.metrics import explained_variance
from retinacodec.progress import track
from retinacodec.recordings import Split
from retinacodec.row_splits import RowSplit

__all__ = ["Course", "Learner", "check_training", "split_rows", "train", "warn_all_dead"]

_log = logging.getLogger(__name__)
_CHUNK_ROWS = 2**13
Array = npt.NDArray[Any]


class Learner(Protocol):
    """A network that is being trained, and what is special about its training."""

    @property
    def network(self) -> nn.Module:
        """The network, whose state is copied where it is best."""
        ...

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """What changes the network."""
        ...

    @property
    def schedule(self) -> torch.optim.lr_scheduler.LRScheduler:
        """How the learning rate falls, by epochs."""
        ...

    def loss(self, rows: Tensor, epoch: int) -> Tensor:
        """Return the loss of these rows of the table."""
        ...

    def hold(self) -> None:
        """Change the gradients so that the step keeps what must be kept."""
        ...

    def settle(self) -> None:
        """Bring the network back to what must hold after the step."""
        ...

    def decode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes (row, atom) and estimates (row, feature), as after training."""
        ...


@dataclass(frozen=True)
class Course:
    """How long a network is trained, and how often it is looked at.

    Attributes
    ----------
    epochs : int
        Passes over the rows to fit.
    batch : int
        Rows in a step; an incomplete last batch is dropped.
    evaluate_every : int
        Epochs between evaluations; the last epoch is always evaluated.
    """

    epochs: int
    batch: int
    evaluate_every: int


def split_rows(split: RowSplit, rows: int, batch: int, name: str) -> Split:
    """Return rows to fit, to select the state by and to score it on.

    Parameters
    ----------
    split : RowSplit
        How rows are divided.
    rows : int
        Number of rows.
    batch : int
        Rows in a step.
    name : str
        Method that is to be trained, for the error.

    Returns
    -------
    Split
        The three parts.

    Raises
    ------
    InputError
        If the rows do not suffice for the parts or for a batch.
    """
    parts = Split(*split.thirds(rows))
    if len(parts.train) < batch:
        raise InputError(
            f"{name}: {len(parts.train)} rows to fit are less than a batch of {batch}; "
            "use more rows or a smaller batch"
        )
    return parts


def train(
    learner: Learner,
    x: Tensor,
    split: Split,
    course: Course,
    generator: torch.Generator,
    *,
    progress: bool = True,
) -> dict[str, Array]:
    """Train a network and leave it in the state that is best on rows it was not fitted to.

    Parameters
    ----------
    learner : Learner
        The network and its loss.
    x : Tensor (sample, feature)
        What the estimates should be, scaled.
    split : Split
        Rows to fit, to select the state by and to score it on.
    course : Course
        How long.
    generator : torch.Generator
        Source of the order of rows.
    progress : bool, default True
        Show how far the training has come.

    Returns
    -------
    dict of str to ndarray
        For each evaluation ``epoch``, ``train_r2``, ``selection_r2``, ``alive`` (atoms that a row
        to fit uses) and ``l0`` (atoms in such a row); of the state kept, ``best_epoch`` and
        ``held_out_r2`` on the third part, which neither fitted nor chose it.

    Raises
    ------
    InputError
        If the rows to select by do not vary, or the training diverges.
    """
    log: dict[str, list[float]] = {
        name: [] for name in ("epoch", "train_r2", "selection_r2", "alive", "l0")
    }
    if not bool((x[torch.from_numpy(split.validation)] != x[split.validation[0]]).any()):
        raise InputError("split: the rows to select the state by do not vary; split them otherwise")
    best = copy.deepcopy(learner.network.state_dict())
    for epoch in track(range(course.epochs), "autoencoder: epochs", enabled=progress):
        for rows in _batches(split.train, course.batch, generator):
            loss = learner.loss(rows, epoch)
            learner.optimiser.zero_grad()
            loss.backward()
            learner.hold()
            learner.optimiser.step()
            learner.settle()
        learner.schedule.step()
        if (epoch + 1) % course.evaluate_every == 0 or epoch + 1 == course.epochs:
            scores = _evaluate(learner, x, split, epoch + 1)
            if scores["selection_r2"] > np.nanmax([-np.inf, *log["selection_r2"]]):
                best = copy.deepcopy(learner.network.state_dict())
            for name, values in log.items():
                values.append(scores[name])
    learner.network.load_state_dict(best)
    if np.isnan(log["selection_r2"]).all():
        raise InputError("training: the loss grew beyond all bounds; use a smaller learning_rate")
    kept = log["epoch"][int(np.nanargmax(log["selection_r2"]))]
    held = _score(learner, x, split.test)["r2"]
    noted = {name: np.asarray(values) for name, values in log.items()}
    return noted | {"best_epoch": np.asarray(kept), "held_out_r2": np.asarray(held)}


def warn_all_dead(alive: Array, tried: int, remedy: str) -> None:
    """Log a warning that names the remedy if no row uses any atom."""
    if not len(alive):
        _log.warning("all %d atoms are dead; %s", tried, remedy)


def check_training(method: Any, *counts: str) -> Problems:
    """Return what is wrong with the settings of a training and with further counts."""
    problems = count_problems(method, *counts, "epochs", "batch", "evaluate_every")
    rate, auxiliary = method.learning_rate, getattr(method, "auxiliary", 0)
    problems.require(rate > 0, f"learning_rate must be > 0: {rate}")
    problems.require(auxiliary >= 0, f"auxiliary must be at least 0: {auxiliary}")
    return problems


def _batches(train: Array, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield shuffled rows; an incomplete last batch is dropped."""
    rows = torch.from_numpy(train)
    order = rows[torch.randperm(len(rows), generator=generator)]
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]


def _evaluate(learner: Learner, x: Tensor, split: Split, epoch: int) -> dict[str, float]:
    """Return how good the state is on the rows to fit and to select by."""
    fitted, chosen = _score(learner, x, split.train), _score(learner, x, split.validation)
    return {
        "epoch": epoch,
        "train_r2": fitted["r2"],
        "selection_r2": chosen["r2"],
        "alive": fitted["alive"],
        "l0": fitted["l0"],
    }


def _score(learner: Learner, x: Tensor, rows: Array) -> dict[str, float]:
    """Return R2 on some rows, the atoms they use, and the mean number in a row."""
    place = torch.from_numpy(rows)
    estimates, used, active = [], torch.zeros(1, dtype=torch.bool), 0
    with torch.no_grad():
        for part in place.split(_CHUNK_ROWS):
            codes, estimate = learner.decode(part)
            used, active = used | (codes != 0).any(0), active + int((codes != 0).sum())
            estimates.append(estimate)
    r2 = explained_variance(x[place].numpy(), torch.cat(estimates).numpy())
    return {"r2": r2, "alive": int(used.sum()), "l0": active / len(rows)}
