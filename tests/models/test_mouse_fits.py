"""Fits to real mouse cells under white noise: held-out numbers that must not get worse."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr

from retinacodec import metrics
from retinacodec.models import DeepRetina, LinearNonlinear, OnePositionReadout
from retinacodec.recordings import bin_spikes
from retinacodec.runs import segments
from retinacodec.schema import make_recording, make_stimulus
from retinacodec.training import Fit, train

pytestmark = pytest.mark.realdata

HISTORY = 24


@pytest.fixture(scope="module")
def mouse(data_dir: Path) -> tuple[xr.Dataset, xr.Dataset]:
    folder = data_dir / "rgc_mouse_ret1"
    packed = np.load(folder / "checkers_64x48_crop_x20-44_y12-36.npz")
    bits = np.unpackbits(packed["packed"], axis=1)[:, :576].reshape(packed["shape"])
    contrast = 2.0 * bits.transpose(0, 2, 1)[:, 3:19, 4:20] - 1  # around all receptive fields
    with h5py.File(folder / "20080606_R2.nwb") as file:
        flips = file["stimulus/presentation/rec_stim_2/timestamps"][:]
        units = file["processing/Cells/UnitTimes"]
        names = [f"cell_{number}" for number in range(1, 7)]
        spikes = [units[name]["times"][:] for name in names]
    rate = float(1 / np.median(np.diff(flips)))
    movie = make_stimulus(
        contrast, frame_rate=rate, pixel_um=50, name="checkers", time=flips - flips[0]
    )
    counts = bin_spikes(spikes, flips)
    return movie, make_recording(counts, time=movie["time"], frame_rate=rate, cells=names)


def _held_out(result: Fit, movie: xr.Dataset, recording: xr.Dataset) -> tuple[float, float]:
    """Return mean correlation and bits per spike over cells on the test blocks."""
    contrast = torch.from_numpy(movie["contrast"].values)
    rate, counts = movie.attrs["frame_rate"], recording["spike_count"].values
    with torch.no_grad():
        parts = [
            result.model.rates_along(contrast[None, part[0] - HISTORY + 1 : part[-1] + 1])[0]
            for part in segments(result.split.test)
        ]
    expected, seen = torch.cat(parts).numpy() / rate, counts[result.split.test]
    bits = metrics.bits_per_spike(seen, expected, mean=counts[result.split.train].mean(0))
    return float(metrics.pearson(expected, seen).mean()), float(bits.mean())


@pytest.mark.slow
def test_the_network_beats_a_fair_baseline(mouse):
    baseline = LinearNonlinear(6, size=(16, 16), history=HISTORY)
    linear = _held_out(train(baseline, *mouse, progress=False), *mouse)
    assert linear[0] > 0.195 and linear[1] > 0.52, linear
    network = DeepRetina(
        6,
        size=(16, 16),
        history=HISTORY,
        kernels=(3, 3),
        readout=OnePositionReadout(3),
        dropout=0.0,
        bands=8,
    )
    deep = _held_out(train(network, *mouse, progress=False), *mouse)
    assert deep[0] > 0.215 and deep[1] > 0.62, deep
