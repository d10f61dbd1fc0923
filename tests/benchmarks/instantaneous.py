"""Instantaneous receptive fields of a population over a movie, beside one backward pass each."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from meter import Measured, matrix_rate, measure, report
from scenes import HISTORY, SIDE, jittered_movie, structured_retina

from retinacodec.circuit import Circuit
from retinacodec.gradients import instantaneous_fields, packed_fields
from retinacodec.latents import LatentFields
from retinacodec.packed import PackedFields

__all__ = ["instantaneous"]

CELLS = 17


def one_by_one(circuit: Circuit, movie: xr.Dataset, frames: int, cells: int) -> Measured:
    """Return what one backward pass for each frame and cell takes, as in a plain loop."""
    model, windows = circuit.model, circuit.windows(torch.from_numpy(movie["contrast"].values))

    def loop() -> np.ndarray:
        fields = np.empty((frames, cells, *windows.shape[1:]), np.float32)
        for frame in range(frames):
            for cell in range(cells):
                window = windows[frame : frame + 1].clone().requires_grad_()
                model(window)[0, cell].backward(inputs=[window])
                fields[frame, cell] = window.grad[0].numpy()
        return fields

    return measure(loop)


def through(packed: PackedFields, work: Callable[[LatentFields], object]) -> None:
    """Do something with some frames at a time, and keep nothing."""
    for block in packed.blocks(20):
        work(block)


def distances(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the relative distance of each field from its truth."""
    rows = (values.reshape(*values.shape[:2], -1) for values in (found - truth, truth))
    over, under = (np.linalg.norm(values, axis=-1) for values in rows)
    return over / under


def limit_seconds(cell_frames: int) -> float:
    """Return the CPU seconds that the transposed second convolution needs for every field.

    Projecting adds, as products of spectra and transforms, those of the first one.
    """
    second = 2 * 8 * 121 * 8 * 26 * 26
    grid = SIDE * (SIDE // 2 + 1)
    first = 8 * grid * 8 * HISTORY + (8 + HISTORY) * 2.5 * SIDE * SIDE * np.log2(SIDE * SIDE)
    return float(cell_frames * (second + first) / matrix_rate())


def instantaneous(quick: bool) -> None:
    """Fields of 17 cells at 6000 frames: kept, unpacked, projected, separated."""
    frames = 300 if quick else 6000
    circuit = Circuit(structured_retina(CELLS), ["conv1"])
    movie = jittered_movie(frames)
    peer = one_by_one(circuit, movie, 3, CELLS)
    each_peer = peer.cpu_s / peer.result[..., 0, 0, 0].size
    kept = measure(lambda: packed_fields(circuit, movie, progress=False), repeats=1)
    packed: PackedFields = kept.result
    some = packed.select(time=np.arange(0, frames, frames // 60))
    count = some.rate.size
    steps = {
        "latents": measure(lambda: through(some, lambda block: block)),
        "fields": measure(lambda: through(some, LatentFields.project)),
        "separable": measure(lambda: through(some, LatentFields.separable)),
    }
    wide = Circuit(copy.deepcopy(circuit.model).double(), ["conv1"])
    truth = instantaneous_fields(wide, movie, frames=np.arange(39, 42), progress=False).values
    ours = packed.select(time=slice(0, 3)).latents().project().values
    whole = 4.0 * HISTORY * SIDE * SIDE
    each = {name: 1e3 * step.cpu_s / count for name, step in steps.items()}
    report(
        "instantaneous",
        kept,
        n={"frames": frames, "cells": CELLS, "size": [SIDE, SIDE], "history": HISTORY},
        peer="one backward pass for each frame and cell",
        peer_cpu_s=each_peer * frames * CELLS,
        limit_cpu_s=limit_seconds(frames * CELLS),
        error=float(np.median(distances(ours, truth))),
        error_most=float(distances(ours, truth).max()),
        peer_error_most=float(distances(peer.result, truth).max()),
        peer_ms_each=1e3 * each_peer,
        kept_ms_each=1e3 * kept.cpu_s / packed.rate.size,
        latents_ms_each=each["latents"],
        fields_ms_each=each["fields"],
        separable_ms_each=each["separable"],
        ratio_fields=1e3 * each_peer / (each["fields"] + 1e3 * kept.cpu_s / packed.rate.size),
        ratio_separable=1e3 * each_peer / (each["separable"] + 1e3 * kept.cpu_s / packed.rate.size),
        bytes_each=packed.nbytes / packed.rate.size,
        bytes_whole=whole,
        bytes_ratio=whole / (packed.nbytes / packed.rate.size),
    )
