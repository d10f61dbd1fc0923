"""Two real recordings under white noise, read from the folder of the data, and a finished study.

The data lie in the folder RETINACODEC_DATA; RETINACODEC_RUN names the folder of a study of the
mouse recording, whose network and baseline were fitted to its training blocks.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from real_networks import data_dir, skip

from retinacodec import models
from retinacodec.circuit import Circuit
from retinacodec.importers import import_recording
from retinacodec.leaks import seen_windows
from retinacodec.nwb import read_nwb, read_stimulus
from retinacodec.recordings import Split, split_blocks
from retinacodec.study import open_study
from retinacodec.training import train

__all__ = [
    "Fitted",
    "flicker",
    "flicker_before_repeats",
    "flicker_repeats",
    "mouse",
    "salamander",
]

_HISTORY = 20  # frames of the salamander's flicker, two thirds of a second


@dataclass(frozen=True)
class Fitted:
    """A recording, its stimulus and circuits fitted to a part of it.

    Parameters
    ----------
    movie, recording : xarray.Dataset
        Stimulus and spike counts on its frames.
    split : Split
        Frames that were fitted to, and those held out.
    circuits : dict of str to Circuit
        Fitted models by name.
    """

    movie: xr.Dataset
    recording: xr.Dataset
    split: Split
    circuits: dict[str, Circuit]


@cache
def mouse() -> Fitted | None:
    """Return the mouse recording with the models of a study, or print why it cannot be had."""
    folder = os.environ.get("RETINACODEC_RUN")
    if folder is None or not Path(folder).is_dir():
        skip("mouse", "no folder of a study of the mouse; set RETINACODEC_RUN")
        return None
    study = open_study(folder)
    circuits = {"CNN": study.circuit}
    for file in sorted((study.folder / "results").glob("ln*.safetensors")):
        circuits[file.stem.upper()] = Circuit(
            models.load_model(file), [], outputs=study.circuit.outputs
        )
    inputs = study.inputs
    return Fitted(inputs.movie, inputs.recording, inputs.split, circuits)


@cache
def salamander(*, quick: bool, fit: bool = True) -> Fitted | None:
    """Return the salamander recording and, where asked for, two models fitted to it."""
    folder = data_dir() / "rgc_salamander"
    if not folder.is_dir():
        skip("salamander", "no rgc_salamander in the data folder; set RETINACODEC_DATA")
        return None
    movie, recording = flicker()
    split = split_blocks(movie.sizes["time"], history=_HISTORY)
    cells, options = recording.sizes["cell"], {"size": (1, 1), "history": _HISTORY, "seed": 0}
    circuits = {}
    if fit:
        networks: dict[str, tuple[Any, int, float]] = {
            "LN": (models.LinearNonlinear(cells, rank=1, **options), 15, 0.01),
            "CNN": (_network(cells, **options), 20, 0.005),
        }
        for name, (model, epochs, rate) in networks.items():
            fitted = train(
                model,
                movie,
                recording,
                split=split,
                epochs=2 if quick else epochs,
                lr=rate,
                progress=False,
            )
            names = tuple(recording["cell"].values.tolist())
            circuits[name] = Circuit(fitted.model, [], outputs=names)
    return Fitted(movie, recording, split, circuits)


def _network(cells: int, **options: Any) -> models.DeepRetina:
    """Return a network for one pixel, with time courses enough for cells that differ."""
    return models.DeepRetina(cells, kernels=(1, 1), channels=(16, 32), bands=12, **options)


@cache
def _imported() -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    """Import the folder and read its two movies with their responses."""
    folder = data_dir() / "rgc_salamander"
    with tempfile.TemporaryDirectory() as scratch:
        file = import_recording(folder, Path(scratch) / "salamander.nwb")
        return {
            name: (read_stimulus(file, name), read_nwb(file, stimulus=name))
            for name in ("flicker", "flicker_repeats")
        }


def flicker() -> tuple[xr.Dataset, xr.Dataset]:
    """Return the long full-field flicker and its responses; the last 600 frames are the repeats.

    What is fitted to these must not be tested on the repeats: see `flicker_before_repeats`.
    """
    return _imported()["flicker"]


def flicker_repeats() -> tuple[xr.Dataset, xr.Dataset]:
    """Return the stretch that was shown nine times, and the responses to every repeat."""
    return _imported()["flicker_repeats"]


def flicker_before_repeats(history: int = _HISTORY) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the long flicker up to where the repeated stretch begins, and its responses."""
    movie, recording = flicker()
    again = np.flatnonzero(seen_windows(flicker_repeats()[0], movie, history))
    before = slice(int(again[0]) if again.size else None)
    return movie.isel(time=before), recording.isel(time=before)
