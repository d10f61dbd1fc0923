"""Whatever keeps the clock and the responses, the doors give the same counts and traces."""

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, TimeSeries
from pynwb.icephys import CurrentClampSeries

import retinacodec as rc
from retinacodec.errors import RecordingError
from retinacodec.schema import make_stimulus

FRAMES, RATE = 240, 30.0


@pytest.fixture
def truth():
    """Real flips with a dropped frame, a movie, and spikes of three cells with their counts."""
    rng = np.random.default_rng(0)
    flips = 5.0 + np.cumsum(rng.normal(1 / RATE, 2e-4, FRAMES))
    flips[130:] += 1 / RATE
    movie = make_stimulus(
        rng.choice([-1.0, 1.0], (FRAMES, 6, 4)), frame_rate=RATE, pixel_um=40, name="noise",
        time=flips,
    )  # fmt: skip
    trains = {cell: np.sort(rng.uniform(4, 14, 200)) for cell in "abc"}
    ends = np.append(flips[1:], flips[-1] + np.median(np.diff(flips)))
    counts = [
        [((t >= a) & (t < b)).sum() for t in trains.values()]
        for a, b in zip(flips, ends, strict=True)
    ]
    return movie, trains, np.array(counts)


@pytest.fixture
def path(tmp_path, truth):
    movie, trains, _ = truth
    return rc.write_nwb(tmp_path / "cells.nwb", movie, spike_times=trains)


def add(path, thing, *, room="acquisition"):
    """Add something with pynwb, the writer that nobody here wrote."""
    with NWBHDF5IO(path, "a") as io:
        file = io.read()
        if room == "acquisition":
            file.add_acquisition(thing(file))
        else:
            module = file.create_processing_module(name=room, description="responses")
            module.add(thing(file))
        io.write(file)


def as_of_others(path, *, pixels=True):
    """Take the note of this package and, if asked, the pixels and times of the movie away."""
    with h5py.File(path, "r+") as file:
        series = file["stimulus/presentation/noise"]
        del series.attrs["comments"]
        if not pixels:
            del file["stimulus/presentation/noise"]


def test_counts_of_a_file_and_of_its_own_movie_given_from_outside_agree(path, truth):
    movie, _, counts = truth
    np.testing.assert_array_equal(rc.read_nwb(path)["spike_count"], counts)
    as_of_others(path, pixels=False)
    found = rc.read_nwb(path, stimulus=movie)
    np.testing.assert_array_equal(found["spike_count"], counts)
    with pytest.raises(RecordingError, match="no movie"):
        rc.read_nwb(path)


def test_triggers_every_third_frame_give_the_counts_of_the_flips(path, truth):
    movie, trains, _ = truth
    flips = 5.0 + np.arange(FRAMES) / RATE + 1e-3 * np.sin(np.arange(FRAMES) // 3)
    pulses = flips[::3]
    pulse = {"data": np.ones(pulses.size), "timestamps": pulses, "unit": "n.a."}
    add(path, lambda _: TimeSeries(name="photodiode", description="every third frame", **pulse))
    as_of_others(path, pixels=False)
    triggers = rc.Triggers("acquisition/photodiode", every=3)
    still = movie.drop_vars("time").assign_coords(time=np.arange(FRAMES) / RATE)
    found = rc.read_nwb(path, stimulus=still, triggers=triggers)
    expected = np.interp(np.arange(FRAMES), np.arange(0, FRAMES, 3), pulses)
    np.testing.assert_allclose(found["time"][: FRAMES - 2], expected[: FRAMES - 2], atol=1e-9)
    edges = found["time"].values
    for cell, train in trains.items():
        inside = np.histogram(train, edges)[0]
        np.testing.assert_array_equal(found["spike_count"].sel(cell=cell)[:-1], inside)


def test_binned_rates_become_counts_on_the_frames(path, truth):
    _, _, counts = truth
    with h5py.File(path) as file:
        flips = file["stimulus/presentation/noise/timestamps"][()]
    widths = np.append(np.diff(flips), np.median(np.diff(flips)))
    rates = counts / widths[:, None]
    bins = {"data": rates, "timestamps": flips, "unit": "Hz"}
    add(path, lambda _: TimeSeries(name="rates", description="rates", **bins), room="responses")
    found = rc.read_nwb(path, responses="rates")
    np.testing.assert_allclose(found["spike_count"], counts, atol=2e-6)


def test_a_potential_at_ten_kilohertz_is_averaged_over_each_frame(path, truth):
    movie, _, _ = truth
    flips, fast = movie["time"].values, 10_000.0
    times = np.arange(0, 14, 1 / fast)
    wave = -60 + 5 * np.sin(2 * np.pi * 1.3 * times)

    def series(file):
        device = file.create_device(name="amplifier")
        electrode = file.create_icephys_electrode(
            name="pipette", device=device, description="sharp", cell_id="amacrine 1"
        )
        sampled = {"conversion": 1e-3, "starting_time": 0.0, "rate": fast, "gain": 1.0}
        return CurrentClampSeries("vm", wave.astype(np.float32), electrode, **sampled)

    add(path, series)
    found = rc.read_traces(path, "vm")
    assert found.attrs["units"] == "volts" and found["cell"].values.tolist() == ["amacrine 1"]
    ends = np.append(flips[1:], flips[-1] + np.median(np.diff(flips)))
    plain = [
        1e-3 * wave[(times >= a) & (times < b)].mean() for a, b in zip(flips, ends, strict=True)
    ]
    np.testing.assert_allclose(found["trace"][:, 0], plain, atol=2e-7)


def test_a_movie_kept_as_a_seed_is_drawn_by_the_declared_generator(path, truth):
    _, _, counts = truth
    noise = rc.BinaryNoise(size=(4, 6), rng="PCG64", seed=7)
    with h5py.File(path, "r+") as file:
        series = file["stimulus/presentation/noise"]
        del series.attrs["comments"], series["data"]
        series.create_dataset("data", shape=(0, 0, 0), dtype="u1")
        series["data"].attrs.update(conversion=1.0, unit="n.a.")
        series.attrs["description"] = "binary noise, seed = 7"
    with pytest.raises(RecordingError, match="generator="):
        rc.read_stimulus(path)
    drawn = rc.read_stimulus(path, generator=noise, pixel_um=40)
    assert drawn["contrast"].shape == (FRAMES, 6, 4)
    assert set(np.unique(drawn["contrast"])) == {-1.0, 1.0}
    found = rc.read_nwb(path, generator=noise)
    np.testing.assert_array_equal(found["spike_count"], counts)
    np.testing.assert_array_equal(found["time"], drawn["time"])


def test_a_film_from_elsewhere_has_no_place_among_the_names_of_a_file(path, truth):
    with pytest.raises(RecordingError, match="has no movie 'other'"):
        rc.read_nwb(path, stimulus="other")
