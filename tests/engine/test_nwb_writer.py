from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import retinacodec.stimuli as stimuli
from retinacodec.errors import InputError
from retinacodec.nwb import Session, read_nwb, read_stimulus, write_nwb
from retinacodec.schema import make_recording, make_stimulus

RNG = np.random.default_rng(0)
FLIPS = 12.0 + np.cumsum(RNG.uniform(0.03, 0.036, 90))  # a screen that is not quite regular


def noise(frames=120, **changes):
    settings = {
        "frame_rate": 30.0,
        "pixel_um": 50.0,
        "name": "noise",
        "seed": 3,
        "parameters": {"contrast": 0.35, "words": "50 µm"},
    } | changes
    return make_stimulus(np.random.default_rng(1).choice([-0.35, 0.35], (frames, 7, 9)), **settings)


def natural(**changes):
    greys = np.random.default_rng(2).integers(10, 200, (90, 7, 9))
    settings = {
        "frame_rate": 30.0,
        "pixel_um": 12.5,
        "name": "natural",
        "time": FLIPS,
        "origin_um": (3.0, -120.0),
    } | changes
    return make_stimulus((greys - 90.3) / 90.3, **settings)


def objects(**changes):
    rng = np.random.default_rng(3)
    settings = {
        "frame_rate": 60.0,
        "pixel_um": 20.0,
        "name": "objects",
        "first_frame": 77,
        "truth": {
            "object_x": (rng.normal(size=100), "um"),
            "saccade": (rng.random(100) > 0.8, "1"),
            "scene": (rng.integers(0, 5, 100), "1"),
        },
    } | changes
    movie = make_stimulus(rng.normal(size=(100, 6, 8)), **settings)
    movie["scene"].attrs["files"] = ["one.jpg", "two.jpg"]
    return movie


def recording(movie, cells=("a", "b", "c"), repeats=None):
    rng = np.random.default_rng(4)
    shape = (movie.sizes["time"], len(cells))
    if repeats is None:
        return make_recording(
            rng.poisson(0.8, shape),
            time=movie["time"],
            cells=cells,
            frame_rate=movie.attrs["frame_rate"],
        )
    counts = rng.poisson(0.8, (repeats, *shape)).astype(float)
    return make_recording(
        counts.mean(0),
        repeats=counts,
        time=movie["time"],
        cells=cells,
        frame_rate=movie.attrs["frame_rate"],
    )


@pytest.mark.parametrize(
    ("make", "dtype"), [(noise, "uint8"), (natural, "uint8"), (objects, "float32")]
)
def test_a_stimulus_comes_back_exactly(tmp_path, make, dtype):
    movie = make()
    path = write_nwb(tmp_path / "movie.nwb", movie)
    xr.testing.assert_identical(read_stimulus(path), movie)
    with h5py.File(path) as file:
        data = file[f"stimulus/presentation/{movie.attrs['name']}/data"]
        assert data.dtype == dtype and data.shape == (len(movie.time), *movie.contrast.shape[:0:-1])


@pytest.mark.parametrize("name", stimuli.__all__)
def test_every_stimulus_of_the_package_comes_back_exactly(tmp_path, name):
    movie = getattr(stimuli, name)(seconds=1, size=(12, 14), seed=5)
    xr.testing.assert_identical(read_stimulus(write_nwb(tmp_path / "movie.nwb", movie)), movie)


def test_flips_that_are_regular_only_to_a_nanosecond_come_back_exactly(tmp_path):
    flips = 9.687 + np.arange(200) * 0.0166718062 + RNG.uniform(0, 1e-11, 200)
    movie = noise(200, time=flips)
    path = write_nwb(tmp_path / "movie.nwb", movie)
    with h5py.File(path) as file:
        assert "timestamps" not in file["stimulus/presentation/noise"]
    np.testing.assert_array_equal(read_stimulus(path)["time"], flips)


def test_a_part_equals_the_part_of_the_whole(tmp_path):
    movie = objects()
    path = write_nwb(tmp_path / "movie.nwb", movie)
    part = read_stimulus(path, frames=(10, 60), crop=(1, 5, 3, 8))
    xr.testing.assert_identical(part, movie.isel(time=slice(10, 60), y=slice(1, 5), x=slice(3, 8)))


def test_other_readers_get_the_contrast_from_conversion_and_offset(tmp_path):
    from pynwb import NWBHDF5IO

    movie = natural()
    path = write_nwb(tmp_path / "movie.nwb", movie)
    with NWBHDF5IO(str(path), "r") as io:
        series = io.read().stimulus["natural"]
        values = np.asarray(series.get_data_in_units()).transpose(0, 2, 1)
        np.testing.assert_allclose(values, movie["contrast"], atol=1e-6)
        np.testing.assert_allclose(series.field_of_view[:], [9 * 12.5e-6, 7 * 12.5e-6])


def test_counts_come_back_exactly_with_unobserved_bins_and_repeats(tmp_path):
    movies = [noise(), natural()]
    plain, repeated = recording(movies[0]), recording(movies[1], repeats=4)
    plain["spike_count"][30:50, 1] = np.nan
    repeated["repeats"][2, 10:20, 0] = np.nan
    repeated["spike_count"][:] = repeated["repeats"].mean("repeat")
    path = write_nwb(tmp_path / "cells.nwb", movies, [plain, repeated])
    first, second = read_nwb(path, stimulus="noise"), read_nwb(path, stimulus="natural")
    np.testing.assert_array_equal(first["spike_count"], plain["spike_count"])
    np.testing.assert_array_equal(second["repeats"], repeated["repeats"])
    np.testing.assert_allclose(second["spike_count"], repeated["spike_count"], rtol=1e-6)
    np.testing.assert_array_equal(second["time"], FLIPS)
    assert first["cell"].values.tolist() == ["a", "b", "c"] and "repeats" not in first
    xr.testing.assert_identical(read_stimulus(path, "natural"), movies[1])


def test_spike_times_are_kept_to_the_last_bit(tmp_path):
    times = {"7": RNG.uniform(0, 4, 50), "9": np.array([])}
    path = write_nwb(tmp_path / "cells.nwb", noise(), spike_times=times)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["units/spike_times"], np.sort(times["7"]))
    counts = read_nwb(path)["spike_count"]
    assert counts.sum("time").values.tolist() == [50, 0]


def test_the_inspector_finds_nothing(tmp_path):
    from nwbinspector import inspect_nwbfile

    movies = [noise(), natural(), objects(first_frame=6000)]
    shown = [recording(movies[0]), recording(movies[1], repeats=3), recording(movies[2])]
    shown[0]["spike_count"][:20, 2] = np.nan
    path = write_nwb(tmp_path / "cells.nwb", movies, shown)
    single = write_nwb(tmp_path / "one.nwb", noise(), recording(noise()))
    for file in (path, single, write_nwb(tmp_path / "movie.nwb", objects())):
        messages = [(m.check_function_name, m.message) for m in inspect_nwbfile(nwbfile_path=file)]
        assert messages == []


def test_the_session_is_written(tmp_path):
    session = Session(experimenter=("Doe, Jane",), species="Mus musculus", session_id="3/4")
    path = write_nwb(tmp_path / "movie.nwb", noise(), session=session)
    with h5py.File(path) as file:
        assert file["general/subject/species"][()] == b"Mus musculus"
        assert file["general/session_id"][()] == b"3-4"
        assert file["general/experimenter"][0] == b"Doe, Jane"


def broken_counts():
    return (
        recording(noise())
        .copy(deep=True)
        .assign(spike_count=lambda dataset: dataset["spike_count"] + 0.5)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda: (noise(), broken_counts()), "only whole counts can be written"),
        (lambda: (noise(), recording(noise(100))), "100 bins for 120 frames"),
        (lambda: ([noise(), noise()],), "different names"),
        (lambda: ([noise(), objects()],), "'objects' starts at 1.28.* before 'noise' ends at 4 s"),
        (lambda: ([noise(), natural()], recording(noise())), "one recording for each of 2 movies"),
        (lambda: ([],), "at least one movie"),
        (lambda: (noise(1),), "at least 2 frames"),
    ],
)
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        write_nwb(tmp_path / "movie.nwb", *arguments())
    assert list(tmp_path.iterdir()) == []


def test_spike_times_and_counts_together_are_refused(tmp_path):
    with pytest.raises(InputError, match="got both"):
        write_nwb(tmp_path / "a.nwb", noise(), recording(noise()), spike_times={"a": [1.0]})
    with pytest.raises(InputError, match="cell b: expected finite"):
        write_nwb(tmp_path / "a.nwb", noise(), spike_times={"a": [1.0], "b": [np.nan]})


def test_nothing_is_overwritten_unasked_or_spoilt_by_a_failure(tmp_path, monkeypatch):
    path = write_nwb(tmp_path / "movie.nwb", noise())
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists"):
        write_nwb(path, natural())
    monkeypatch.setattr("retinacodec.nwb_writer._fill", full_disk)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_nwb(path, natural(), overwrite=True)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write_nwb(path, natural(), overwrite=True)
    xr.testing.assert_identical(read_stimulus(path), natural())


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        write_nwb(Path(tmp_path / "nowhere" / "movie.nwb"), noise())
