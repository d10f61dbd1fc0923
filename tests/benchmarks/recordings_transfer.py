"""How models fitted under noise predict a simulated retina under a natural movie, and back.

Run alone: ``python tests/benchmarks/recordings_transfer.py [--figure FILE]``. The retina is
`CircuitRetina`, so that its true rate stands beside the models.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from meter import Measured, main, measure, report

from retinacodec.analyses import compare_stimuli, draw_loss, draw_transfer, fit_ln
from retinacodec.circuit import Circuit, predict
from retinacodec.models import CircuitRetina
from retinacodec.recordings import split_blocks
from retinacodec.stimuli import natural_movie, white_noise

__all__ = ["transfer"]

_SIZE, _HISTORY, _SPACING_UM = (12, 12), 20, 100.0
_NAMES = ("white noise", "natural movie")


@cache
def _compared(quick: bool) -> tuple[Measured, xr.Dataset]:
    """Fit to each class, score on the repeats of both; also the true rate on each."""
    seconds, tests = (40.0, 10.0) if quick else (240.0, 40.0)
    retina = CircuitRetina(_SIZE, cells=4, spacing_um=_SPACING_UM)
    noise: dict[str, Any] = {"size": _SIZE, "check": 2, "hold": 2}
    long = [
        white_noise(seconds, seed=0, **noise),
        natural_movie(seconds=seconds, size=_SIZE, scene_seconds=2.0, seed=0),
    ]
    short = [
        white_noise(tests, seed=1, **noise),
        natural_movie(seconds=tests, size=_SIZE, scene_seconds=2.0, seed=1),
    ]
    recorded = [retina.simulate(movie, repeats=20, seed=2) for movie in short]

    def work() -> xr.Dataset:
        fitted = {}
        for name, movie in zip(_NAMES, long, strict=True):
            split = split_blocks(movie.sizes["time"], history=_HISTORY, test_every=0)
            recording = retina.simulate(movie, seed=3)
            fitted[name] = fit_ln(movie, recording, split, history=_HISTORY)
        tested = {
            name: ({key: one.predict(movie) for key, one in fitted.items()}, recording, None)
            for name, movie, recording in zip(_NAMES, short, recorded, strict=True)
        }
        return compare_stimuli(tested, metric="cc_norm")

    ours = measure(work, repeats=1)
    circuit = Circuit(retina, [])
    truth = [
        np.corrcoef(
            predict(circuit, movie).values.T,
            recording["repeats"].mean("repeat").values[circuit.first_frame :].T,
        )
        for movie, recording in zip(short, recorded, strict=True)
    ]
    cells = recorded[0].sizes["cell"]
    ceilings = [float(np.diag(one[:cells, cells:]).mean()) for one in truth]
    return ours, ours.result.assign(true_r=("tested", ceilings))


def transfer(quick: bool) -> None:
    """Print mean scores and losses between classes."""
    ours, found = _compared(quick)
    for tested in _NAMES:
        for trained in _NAMES:
            one = found.sel(trained=trained, tested=tested)
            more = {
                name: [round(float(one[f"mean_{name}{end}"]), 3) for end in ("", "_low", "_high")]
                for name in ("score", "loss")
            }
            size = {"trained": trained, "tested": tested, "cells": int(found.sizes["cell"])}
            report("recordings_transfer", ours, n=size, better=float(one["better"]), **more,
                   true_r=round(float(one["true_r"]), 3))  # fmt: skip


def _figure(quick: bool, path: Path) -> None:
    """Draw scores within and between classes, and the loss of every cell."""
    from retinacodec.plotting import FULL_MM, figure, panel_letter, style

    _, found = _compared(quick)
    with style():
        drawing = figure(width_mm=FULL_MM, height_mm=70)
        axes = drawing.subplots(1, 2, width_ratios=(1, 1.2))
        draw_transfer(found, axes[0])
        draw_loss(found, axes[1])
        for ax, letter in zip(axes, "AB", strict=True):
            panel_letter(ax, letter)
        drawing.savefig(path, dpi=200)


if __name__ == "__main__":
    main({"recordings_transfer": transfer}, {"recordings_transfer": _figure})
