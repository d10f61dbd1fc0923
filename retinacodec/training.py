"""The fit of a model to a recording: what goes in, what is checked, and what comes back."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import xarray as xr
from torch import nn

from retinacodec.devices import resolve_device
from retinacodec.recordings import Split, split_blocks
from retinacodec.training_checks import (
    check_cells,
    check_split,
    checked_circuit,
    warn_of_repeats,
)
from retinacodec.training_loop import Job, Plan, own_randomness, run_loop

__all__ = ["Fit", "fit", "train"]


@dataclass(frozen=True)
class Fit:
    """A fitted model and how it came about.

    Parameters
    ----------
    model : torch.nn.Module
        The fitted copy, in evaluation mode, with the weights of the best epoch.
    log : xarray.Dataset
        ``train_loss`` and ``validation_loss``, nats per training spike, and
        ``validation_correlation``, mean over cells, for each ``epoch``; NaN where there is no
        validation set.
    split : Split
        Response frames used for training and validation, and those left for testing.
    best_epoch : int
        Epoch whose weights were kept: lowest validation loss, or the last without validation.
    """

    model: nn.Module
    log: xr.Dataset
    split: Split
    best_epoch: int


def fit(
    model: nn.Module,
    movie: xr.Dataset,
    recording: xr.Dataset,
    *,
    seed: int = 0,
    split: Split | None = None,
    epochs: int = 10,
    batch: int = 512,
    lr: float = 5e-3,
    weight_decay: float = 1e-2,
    activity_l1: float = 0.0,
    patience: int | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> nn.Module:
    """Fit a model to a recording and return the fitted copy; `train` explains the arguments.

    Returns
    -------
    torch.nn.Module
        A fitted copy in evaluation mode; the model passed in is untouched.

    Raises
    ------
    InputError, RetinacodecError
        As `train`.
    """
    return train(
        model,
        movie,
        recording,
        seed=seed,
        split=split,
        epochs=epochs,
        batch=batch,
        lr=lr,
        weight_decay=weight_decay,
        activity_l1=activity_l1,
        patience=patience,
        device=device,
        progress=progress,
    ).model


def train(
    model: nn.Module,
    movie: xr.Dataset,
    recording: xr.Dataset,
    *,
    seed: int = 0,
    split: Split | None = None,
    epochs: int = 10,
    batch: int = 512,
    lr: float = 5e-3,
    weight_decay: float = 1e-2,
    activity_l1: float = 0.0,
    patience: int | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Fit:
    """Fit a model to a recording by the Poisson likelihood of its spike counts.

    Parameters
    ----------
    model : torch.nn.Module
        From (batch, history, y, x) contrast to (batch, cell) rates in Hz, with an attribute
        ``history`` and optionally ``latency``. It is copied, not changed.
    movie : xarray.Dataset
        Stimulus on the frames of the recording.
    recording : xarray.Dataset
        Recording; bins whose count is NaN are left out.
    seed : int, default 0
        Seed of the order of the batches, and of noise and dropout.
    split : Split, optional
        Response frames of the three sets; `split_blocks` with its defaults if left out.
    epochs : int, default 10
        Passes through the training set.
    batch : int, default 512
        Responses of an optimiser step.
    lr : float, default 5e-3
        Largest learning rate of the one-cycle schedule.
    weight_decay : float, default 1e-2
        Decoupled decay of weights; biases and other vectors are spared.
    activity_l1 : float, default 0
        Weight of the predicted over the recorded mean rate, nats per spike.
    patience : int, optional
        Stop after this many epochs without a lower validation loss; never if left out.
    device : str or torch.device, optional
        Where to train, and where the fitted copy lives; the model's own device if left out.
    progress : bool, default True
        Show progress.

    Returns
    -------
    Fit
        The fitted copy, the log over epochs, the split and the best epoch.

    Raises
    ------
    InputError
        If movie, recording, model and split do not fit each other, the movie is not finite or
        does not vary, or a cell has no spike in the training set.
    RetinacodecError
        If the loss stops being a number.

    Notes
    -----
    With ``r = rate / frame_rate`` and counts k, the loss of a batch is ``(mean(r - k log r) +
    activity_l1 mean(r)) / mean training count + penalty / training spikes``: nats per spike,
    whatever the batch size. AdamW with a one-cycle schedule. The kept state is that of the epoch
    with the lowest validation loss.

    A model may have members that help: buffers ``contrast_scale`` and ``rate_scale`` (set to
    the movie's standard deviation and to the cells' mean rates in the training set),
    ``initialise(movie, counts)`` (called before the first step; counts are NaN outside the
    training set), ``penalty()`` (its negative log prior, nats), ``constrain()`` (called after
    each step) and ``rates_along(movie)`` (rates along runs of contiguous frames). With the last,
    a batch is a handful of runs, otherwise as many random windows. No batch touches a frame
    outside the windows of the training set.

    References
    ----------
    Loshchilov and Hutter, ICLR 2019 (AdamW). Smith and Topin, 2019 (one-cycle schedule).
    """
    circuit = checked_circuit(model, movie, recording)
    if split is None:
        split = split_blocks(
            movie.sizes["time"], history=circuit.history or 1, latency=circuit.latency or 0
        )
    plan = Plan(epochs, batch, lr, weight_decay, activity_l1, patience, seed)
    plan.check()
    check_split(split, movie.sizes["time"], circuit.first_frame, history=circuit.history or 1)
    warn_of_repeats(movie, split, circuit)
    where = resolve_device(device, model)
    job = Job.of(copy.deepcopy(model), circuit, movie, recording, split, where)
    check_cells(recording, job.training)
    with own_randomness(seed, where):
        job.prepare(recording)
        log, best = run_loop(job, plan, progress)
    return Fit(job.model.eval(), log, split, best)
