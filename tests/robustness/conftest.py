"""A valid file as other laboratories write it, copies of it to break, and the command line."""

import shutil

import h5py
import numpy as np
import pytest

from retinacodec.cli import main
from retinacodec.nwb import write_nwb
from retinacodec.schema import make_stimulus

MOVIE = "stimulus/presentation/noise"


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A valid file of the kind other laboratories write: real flips, no note of this package."""
    rng = np.random.default_rng(0)
    flips = 2.0 + np.cumsum(rng.uniform(0.033, 0.034, 300))
    movie = make_stimulus(
        rng.choice([-1, 1], (300, 12, 10)), frame_rate=30, pixel_um=50, name="noise", time=flips
    )
    trains = {str(cell): np.sort(rng.uniform(0, 14, 150)) for cell in range(4)}
    path = write_nwb(tmp_path_factory.mktemp("good") / "good.nwb", movie, spike_times=trains)
    with h5py.File(path, "r+") as file:
        del file[MOVIE].attrs["comments"], file["units/unit_name"]
        file[f"{MOVIE}/data"].attrs.update(conversion=1.0, offset=0.0)
    return path


@pytest.fixture(scope="session")
def lean(good):
    """The good file without the schema it carries, which takes most of the time to look through."""
    path = shutil.copy(good, good.with_name("lean.nwb"))
    with h5py.File(path, "r+") as file:
        del file["specifications"], file.attrs[".specloc"]
    return path


@pytest.fixture
def bad(lean, tmp_path):
    """Copy the lean file and break the copy."""

    def broken(change):
        path = tmp_path / "bad.nwb"
        shutil.copy(lean, path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return broken


@pytest.fixture
def call(capsys):
    """Run the command line here; returns exit code, output and errors."""

    def run(*words):
        try:
            main([str(word) for word in words])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return (code, *capsys.readouterr())

    return run
