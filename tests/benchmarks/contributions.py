"""Contributions of a convolutional retina over a movie, beside captum's layer conductance.

The model has the size of the paper's and weights with the structure of fitted ones: smooth
space-time filters, readouts that look at one place, normalisations with offsets, so that about a
third of the rectifiers are always open, a third never, and a third switch along the path.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import xarray as xr
from accuracy import secant_accuracy
from meter import main, matrix_rate, measure, report
from resnet_blocks import resnet50_blocks
from retina_errors import retina_errors
from scaling import scaling
from scenes import CELLS, HISTORY, SIDE, jittered_movie, structured_retina
from torch import Tensor, nn
from vit import vit_blocks

import retinacodec as rc
from retinacodec.circuit import Circuit, evaluating
from retinacodec.contribute import contributions
from retinacodec.generic_path import GenericPath
from retinacodec.targets import Target, bind_target

STEPS = 20
LAYERS = ("conv1", "conv2")
RULE = rc.IntegratedGradients(STEPS)


class _Score(nn.Module):
    """A model with its target as the output, for captum."""

    def __init__(self, model: nn.Module, target: Target) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, windows: Tensor) -> Tensor:
        return self.target(self.model(windows)).float()


def captum_seconds(circuit: Circuit, movie: xr.Dataset, target: Target, frames: int = 4) -> float:
    """Return the CPU seconds that captum takes for a frame, a target and all layers."""
    from captum.attr import LayerConductance

    windows = circuit.windows(torch.from_numpy(movie["contrast"].values))[:frames].contiguous()
    score = _Score(circuit.model, target)

    def attribute() -> None:
        for layer in LAYERS:
            conductance = LayerConductance(score, score.model.get_submodule(layer))
            conductance.attribute(windows, n_steps=STEPS, method="riemann_trapezoid")

    return measure(attribute).cpu_s / frames


def distance(circuit: Circuit, movie: xr.Dataset, target: Target, tree: xr.DataTree) -> float:
    """Return the relative distance to a plain run in double precision, of a typical frame.

    The median over frames of the worse layer. Where a rectifier's input at a point is zero to
    rounding, single and double precision count that point differently, in any implementation.
    """
    wide = Circuit(copy.deepcopy(circuit.model).double(), LAYERS)
    windows = wide.windows(torch.from_numpy(movie["contrast"].values))[:5].double()
    with evaluating(wide.model):
        path = GenericPath(wide, target, RULE)
        exact = path.run(windows)
    gaps = []
    for layer in LAYERS:
        wanted = exact[f"{layer}/contribution"]
        found = tree[layer]["contribution"].values[: len(wanted)].reshape(wanted.shape)
        rows = (values.reshape(len(wanted), -1) for values in (found - wanted, wanted))
        gaps.append(np.divide(*(np.linalg.norm(values, axis=1) for values in rows)))
    return float(np.median(np.max(gaps, axis=0)))


def limit_seconds(frames: int, lanes: int) -> float:
    """Return the CPU seconds that the arithmetic needs at the rate of a matrix product.

    One convolution by the second kernel for the forward pass and one transposed convolution for
    each lane; two products of points by lanes for every value of the second layer; the first
    convolution's products of spectra and transforms.
    """
    values, second = 8 * 26 * 26, 2 * 8 * 121 * 8 * 26 * 26
    transform = 9 * 2.5 * SIDE * SIDE * np.log2(256 * SIDE * SIDE) + 8 * 8 * SIDE * SIDE / 2
    products = 2 * 2 * (STEPS + 1) * values * lanes
    return float(frames * (second * (1 + lanes) + products + transform) / matrix_rate())


def _run(name: str, target: Target, peer_target: Target, lanes: int, quick: bool) -> None:
    frames = 200 if quick else 2000
    circuit, movie = Circuit(structured_retina(), LAYERS), jittered_movie(frames)
    options: dict[str, Any] = {"rule": RULE, "progress": False}
    contributions(circuit, jittered_movie(2), target, **options)
    ours = measure(lambda: contributions(circuit, movie, target, **options), repeats=3)
    rates = torch.from_numpy(ours.result["rate"].values)
    names = circuit.output_names(CELLS)
    peer = captum_seconds(circuit, movie, bind_target(peer_target, names, lambda: rates))
    report(
        name,
        ours,
        n={
            "frames": frames,
            "cells": CELLS,
            "size": [SIDE, SIDE],
            "history": HISTORY,
            "steps": STEPS,
            "layers": len(LAYERS),
        },
        peer="captum LayerConductance",
        peer_cpu_s=peer * frames * lanes,
        limit_cpu_s=limit_seconds(frames, lanes),
        error=distance(circuit, movie, bind_target(target, names, lambda: rates), ours.result),
        path=ours.result.attrs["path"],
    )


def retina_all_cells(quick: bool) -> None:
    """Every cell of 26 as a target of its own."""
    _run("retina_all_cells", rc.EachCell(), rc.Cell(3), CELLS, quick)


def retina_surprisal(quick: bool) -> None:
    """One target, the surprisal of the population."""
    _run("retina_surprisal", rc.Surprisal(), rc.Surprisal(), 1, quick)


if __name__ == "__main__":
    main(
        {
            "retina_all_cells": retina_all_cells,
            "retina_surprisal": retina_surprisal,
            "resnet50_blocks": resnet50_blocks,
            "secant_accuracy": secant_accuracy,
            "retina_errors": retina_errors,
            "vit_blocks": vit_blocks,
            "scaling": scaling,
        },
        {"retina_errors": retina_errors},
    )
