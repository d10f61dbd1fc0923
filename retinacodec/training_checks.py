"""What must hold before a fit starts: model, movie, recording and split fit each other."""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr
from torch import nn

from retinacodec.circuit import Circuit, check_circuit
from retinacodec.errors import InputError, Problems
from retinacodec.leaks import repeated_windows, shared_windows
from retinacodec.recordings import Split
from retinacodec.runs import Runs
from retinacodec.schema import check_pair, check_recording, check_stimulus

__all__ = ["check_cells", "check_split", "checked_circuit", "warn_of_repeats"]

_log = logging.getLogger(__name__)


def checked_circuit(model: nn.Module, movie: xr.Dataset, recording: xr.Dataset) -> Circuit:
    """Return the model as a circuit, if it fits the movie and the recording."""
    check_stimulus(movie)
    check_recording(recording)
    check_pair(movie, recording)
    circuit = Circuit(model, layers=())
    problems = Problems()
    size = (movie.sizes["y"], movie.sizes["x"])
    wanted = getattr(model, "size", size)
    problems.require(
        tuple(wanted) == size,
        f"the model sees frames of {tuple(wanted)} pixels (y, x) but the movie has {size}",
    )
    have, cells = getattr(model, "cells", None), recording.sizes["cell"]
    problems.require(
        have is None or have == cells,
        f"the model has {have} cells but the recording {cells}",
    )
    problems.require(
        movie.sizes["time"] > circuit.first_frame,
        f"the movie has {movie.sizes['time']} frames, no more than the model's history "
        f"{circuit.history} and latency {circuit.latency}",
    )
    trained = any(parameter.requires_grad for parameter in model.parameters())
    problems.require(trained, "the model has no parameter that may change")
    problems.raise_as("fit")
    check_circuit(circuit, size)
    return circuit


def check_split(split: Split, frames: int, first: int, *, history: int) -> None:
    """Raise unless the sets are disjoint, in order, inside the movie and share no frame of it."""
    problems = Problems()
    problems.require(len(split.train) > 0, "the training set is empty")
    for name in ("train", "validation", "test"):
        part = getattr(split, name)
        inside = not len(part) or (part[0] >= first and part[-1] < frames)
        problems.require(
            bool(inside) and bool((np.diff(part) > 0).all()),
            f"{name}: expected increasing frames from {first} to {frames - 1}",
        )
    both = np.intersect1d(split.train, np.concatenate([split.validation, split.test]))
    problems.require(
        both.size == 0, f"{both.size} training frames are also used for validation or testing"
    )
    leaks = shared_windows(split, history) if both.size == 0 else {}
    words = ", ".join(f"{count} of {one} with {other}" for (one, other), count in leaks.items())
    problems.require(
        not leaks,
        f"stimulus windows of {history} frames share frames between sets ({words}); leave out "
        "the first responses of each block, as split_blocks does",
    )
    problems.raise_as("split")


def warn_of_repeats(movie: xr.Dataset, split: Split, circuit: Circuit) -> None:
    """Log a warning where the movie shows in the test set what it showed in the training set."""
    if not len(split.test):
        return
    again = repeated_windows(movie, split, circuit.history or 1, circuit.latency or 0)
    if again.any():
        _log.warning(
            "%d of %d test windows repeat, frame by frame, what was trained on; scores on them "
            "say nothing about new stimuli",
            again.sum(),
            again.size,
        )


def check_cells(recording: xr.Dataset, training: Runs) -> None:
    """Raise if a cell has nothing to be fitted to."""
    silent = ~(training.spikes() > 0)
    if silent.any():
        names = ", ".join(map(str, recording["cell"].values[silent]))
        raise InputError(
            f"recording: no spike in the training set from cell(s) {names}; leave them out with "
            "recording.sel(cell=...)"
        )
