"""What parts of fields cost, and how often averages of unrelated spikes look like more."""

from __future__ import annotations

import numpy as np
import xarray as xr
from meter import measure, report
from scipy.signal import lfilter

import retinacodec as rc
from retinacodec.analyses import ShiftNull, sta_bands, sta_significance
from retinacodec.schema import make_recording, make_stimulus

__all__ = ["chance", "parts"]


def parts(quick: bool) -> None:
    """Parts of fields of the shipped network by channel and sign, at both layers."""
    frames = np.arange(100, 108 if quick else 164)
    circuit = rc.Circuit(rc.models.pretrained(), ["conv1", "conv2"])
    movie = rc.stimuli.natural_movie(seconds=4, size=circuit.model.size, seed=0)
    asked = {"frames": frames, "progress": False}
    for layer in ("conv1", "conv2"):
        for name, options in {
            "channels": {"split_signs": False},
            "signs": {},
            "integrated": {"integrated": True},
        }.items():
            found = measure(
                lambda layer=layer, options=options: rc.field_sources(
                    circuit, movie, layer=layer, **asked, **options
                ),
                repeats=1,
            )
            rest = float(abs(found.result.rest.latent).max() / abs(found.result.total.latent).max())
            count = found.result.total.rate.size
            report(
                f"parts_{layer}_{name}",
                found,
                n={"frames": frames.size, "cells": count // frames.size},
                error=rest,
                ms_each=1e3 * found.cpu_s / count,
            )


def chance(quick: bool) -> None:
    """False alarms of shifted spikes, and coverage of bands, for spikes of nothing."""
    movies, cells, frames = (2, 30, 1500) if quick else (20, 60, 3000)
    for name, memory, drifts in (
        ("white movie, steady rates", 0.0, False),
        ("slow movie, slow rates", 0.9, False),
        ("slow movie, drifting rates", 0.9, True),
    ):
        p, held, ours = [], [], None
        for seed in range(movies):
            movie, recording = _unrelated(frames, cells, memory, drifts, seed)
            ours = measure(
                lambda movie=movie, recording=recording: sta_significance(
                    movie, recording, history=8, null=ShiftNull()
                ),
                repeats=1,
            )
            p.append(ours.result["p"])
            bands = sta_bands(movie, recording, history=8)
            held.append((bands["low"] <= 0) & (bands["high"] >= 0))
        report(
            "chance",
            ours,
            n={"movies": movies, "cells": cells, "frames": frames, "regime": name},
            false_alarms=float((np.stack(p) <= 0.05).mean()),
            coverage=float(np.stack(held).mean()),
        )


def _unrelated(
    frames: int, cells: int, memory: float, drifts: bool, seed: int
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return a movie, and spikes that do not know of it, both with a memory."""
    generator = np.random.default_rng(seed)
    pixels = _remembering(generator.normal(size=(frames, 4, 4)), memory)
    level = _remembering(generator.normal(size=(frames, cells)), memory)
    if drifts:
        level = np.cumsum(level, axis=0) / np.sqrt(frames)
    rate = 0.2 * np.exp(0.7 * level) if memory else np.full((frames, cells), 0.2)
    movie = make_stimulus(pixels.astype(np.float32), frame_rate=60, pixel_um=50, name="movie")
    recording = make_recording(
        generator.poisson(rate).astype(np.float32),
        time=movie["time"].values,
        frame_rate=60,
        cells=[str(cell) for cell in range(cells)],
    )
    return movie, recording


def _remembering(noise: np.ndarray, memory: float) -> np.ndarray:
    """Return noise of deviation 1 whose neighbouring frames correlate."""
    return lfilter([np.sqrt(1 - memory**2)], [1, -memory], noise, axis=0)
