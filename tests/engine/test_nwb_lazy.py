"""A recording that is open gives any frames on demand, and says so when it is closed."""

import h5py
import numpy as np
import pytest

import retinacodec as rc
from retinacodec.errors import RecordingError
from retinacodec.schema import make_stimulus


@pytest.fixture
def path(tmp_path):
    """Nine seconds of noise in two presentations, two cells, in a file of other software."""
    rng = np.random.default_rng(0)
    movie = make_stimulus(
        rng.normal(size=(120, 5, 7)),
        frame_rate=30,
        pixel_um=40,
        name="noise",
        time=2 + np.arange(120) / 30,
    )
    trains = {cell: np.sort(rng.uniform(2, 6, 90)) for cell in ("a", "b")}
    return rc.write_nwb(tmp_path / "cells.nwb", movie, spike_times=trains)


@pytest.fixture
def foreign(path):
    with h5py.File(path, "r+") as file:
        series = file["stimulus/presentation/noise"]
        del series.attrs["comments"]
        pixels = np.random.default_rng(1).integers(0, 255, (120, 5, 7)).astype(np.uint8)
        del series["data"]
        series["data"] = pixels
        series["data"].attrs.update(conversion=1.0, offset=0.0, unit="n.a.")
        series["field_of_view"][...] = [5 * 40e-6, 7 * 40e-6]
    return path


def same(part, whole):
    np.testing.assert_allclose(part, whole, rtol=1e-6, atol=1e-6)


def test_any_part_equals_that_part_of_the_whole(path, foreign):
    for order in ("xy", "yx"):
        whole = rc.read_stimulus(foreign, spatial_order=order, pixel_um=40)
        with rc.open_recording(foreign, spatial_order=order) as cells:
            assert cells.shape == whole["contrast"].shape
            same(cells.frames(17, 40), whole["contrast"][17:40])
            pieces = [piece for _, piece in cells.slabs()]
            same(np.concatenate(pieces), whole["contrast"])
    crop = (1, 4, 2, 5)
    part = rc.read_stimulus(foreign, crop=crop, pixel_um=40)
    with rc.open_recording(foreign, crop=crop) as cells:
        same(cells.frames(0, 120), part["contrast"])


def test_a_movie_of_this_package_is_exact(path):
    whole = rc.read_stimulus(path)
    with rc.open_recording(path) as cells:
        np.testing.assert_array_equal(cells.frames(3, 50), whole["contrast"][3:50])
        assert cells.frame_rate == 30


def test_spikes_and_counts_stay_when_the_movie_is_closed(path):
    with rc.open_recording(path) as cells:
        pass
    expected = rc.read_nwb(path)["spike_count"]
    np.testing.assert_array_equal(cells.counts()[0], expected)
    assert cells.cells == ("a", "b") and cells.spike_times["b"].size == 90
    with pytest.raises(RecordingError, match="is closed; read frames inside the with"):
        cells.frames(0, 1)


def test_a_movie_without_cells_opens_and_has_no_counts(path):
    with h5py.File(path, "r+") as file:
        del file["units"]
    with rc.open_recording(path) as cells:
        assert cells.frames(0, 2).shape == (2, 5, 7) and cells.spike_times == {}
    with pytest.raises(RecordingError, match="has no cells to count spikes of"):
        cells.counts()


def test_frames_that_are_not_there_are_named(path):
    with rc.open_recording(path) as cells, pytest.raises(RecordingError, match="frames 100 to 121"):
        cells.frames(100, 121)


def test_broken_units_are_an_error_and_not_a_file_without_cells(path):
    with h5py.File(path, "r+") as file:
        file["units/spike_times"][3] = np.nan
    with pytest.raises(RecordingError, match="NaN"), rc.open_recording(path):
        pass


def test_an_error_of_the_user_stays_the_user_s(path):
    with pytest.raises(ZeroDivisionError), rc.open_recording(path) as cells:
        1 / 0  # noqa: B018
    with pytest.raises(RecordingError, match="is closed"):
        cells.frames(0, 1)
