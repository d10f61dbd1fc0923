"""What every test may ask for: real data where they are, quiet threads, and a drawing backend."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import xarray as xr

matplotlib.use("Agg")


def _data_dir() -> Path:
    fallback = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("RETINACODEC_DATA", fallback))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real recordings."""
    return _data_dir()


@pytest.fixture(scope="session")
def mouse_checkers(data_dir: Path) -> tuple[xr.Dataset, xr.Dataset, tuple[int, int]]:
    """Checkers, six ganglion cells of a mouse on their frames, and the first row and column."""
    h5py = pytest.importorskip("h5py")
    from retinacodec.recordings import bin_spikes
    from retinacodec.schema import make_recording, make_stimulus

    folder = data_dir / "rgc_mouse_ret1"
    with h5py.File(folder / "20080606_R2.nwb") as file:
        flips = file["stimulus/presentation/rec_stim_2/timestamps"][:]
        trains = [file[f"processing/Cells/UnitTimes/cell_{k}/times"][:] for k in range(1, 7)]
    stored = np.load(folder / "checkers_64x48_crop_x20-44_y12-36.npz")
    bits = np.unpackbits(stored["packed"], axis=1)[:, :576].reshape(stored["shape"])
    contrast = (2.0 * bits - 1).astype(np.float32).transpose(0, 2, 1)
    rate = 1 / np.median(np.diff(flips))
    movie = make_stimulus(contrast, frame_rate=rate, pixel_um=50, name="checkers", time=flips)
    names = [f"cell_{k}" for k in range(1, 7)]
    recording = make_recording(bin_spikes(trains, flips), time=flips, frame_rate=rate, cells=names)
    return movie, recording, (int(stored["y0"]), int(stored["x0"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, with a reason; files with slow tests come first."""
    import torch

    no_data = pytest.mark.skip(reason="no real recordings here; set RETINACODEC_DATA")
    no_gpu = pytest.mark.skip(reason="no CUDA device here")
    for item in items:
        if "realdata" in item.keywords and not _data_dir().is_dir():
            item.add_marker(no_data)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(no_gpu)
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)
