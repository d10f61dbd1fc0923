"""What a study works on: a movie, a recording on its frames, a split, and the network to fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr

from retinacodec import models, stimuli
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.recordings import Split, split_blocks
from retinacodec.schema import check_pair
from retinacodec.study_recording import read_recorded

if TYPE_CHECKING:
    from retinacodec.settings import ModelSettings
    from retinacodec.study import Study

__all__ = ["Inputs", "check_inputs", "load_inputs", "new_network"]


@dataclass(frozen=True)
class Inputs:
    """What a study works on.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus.
    recording : xarray.Dataset
        Recording on the frames of the movie.
    split : Split
        Frames for training, validation and test.
    retina : CircuitRetina, optional
        The simulated retina that was recorded, where there is one.
    """

    movie: xr.Dataset
    recording: xr.Dataset
    split: Split
    retina: models.CircuitRetina | None = None


def check_inputs(study: Study) -> None:
    """Read the inputs and build the network, so that what cannot work ends before any step."""
    settings = study.settings
    if settings.recording is None and settings.movie is None:
        raise InputError("study: give a [recording] with a file, or a [movie]")
    if settings.movie is not None and settings.model.pretrained is None:
        raise InputError("study: a [movie] needs [model] pretrained, since nothing was recorded")
    if settings.recording is not None and settings.model.pretrained is not None:
        raise InputError("study: a [recording] is fitted anew; leave [model] pretrained out")
    inputs = study.inputs
    check_pair(inputs.movie, inputs.recording)
    size = (inputs.movie.sizes["y"], inputs.movie.sizes["x"])
    new_network(study, inputs.recording, size)


def load_inputs(study: Study) -> Inputs:
    """Return the movie and recording of a study, rendered or read from its file."""
    if study.settings.movie is not None:
        return _simulated(study)
    return _recorded(study)


def _simulated(study: Study) -> Inputs:
    """Show a movie to the simulated retina that the shipped model was fitted to."""
    settings = study.settings
    assert settings.movie is not None
    retina = models.CircuitRetina()
    movie = stimuli.natural_movie(
        settings.movie.source,
        seconds=settings.movie.seconds,
        size=retina.size,
        frame_rate=retina.frame_rate,
        pixel_um=retina.pixel_um,
        seed=settings.seed,
    )
    recording = retina.simulate(movie, repeats=10, seed=settings.seed)
    frames = np.arange(Circuit(retina, []).first_frame, movie.sizes["time"])
    none = np.empty(0, dtype=frames.dtype)
    return Inputs(movie, recording, Split(train=none, validation=none, test=frames), retina)


def _recorded(study: Study) -> Inputs:
    """Read the recording and split it into blocks."""
    movie, recording = read_recorded(study)
    model = study.settings.model
    split = split_blocks(
        movie.sizes["time"],
        history=model.history,
        latency=model.latency,
        blocks=study.settings.split.blocks,
        test_every=study.settings.split.test_every,
        validation_every=study.settings.split.validation_every,
    )
    return Inputs(movie, recording, split)


def new_network(study: Study, recording: xr.Dataset, size: tuple[int, int]) -> torch.nn.Module:
    """Return the network of the settings, untrained, or the shipped one."""
    wanted = study.settings.model
    if wanted.pretrained is not None:
        return models.pretrained(wanted.pretrained)
    return models.DeepRetina(
        cells=recording.sizes["cell"],
        size=size,
        history=wanted.history,
        latency=wanted.latency,
        channels=wanted.channels,
        kernels=wanted.kernels,
        norm=wanted.norm,
        readout=_readout(wanted),
        bands=wanted.bands,
        noise=wanted.noise,
        dropout=wanted.dropout,
        seed=study.settings.seed,
    )


def _readout(wanted: ModelSettings) -> models.LinearReadout | models.OnePositionReadout:
    if wanted.readout == "one_position":
        return models.OnePositionReadout(wanted.readout_kernel)
    return models.LinearReadout()
