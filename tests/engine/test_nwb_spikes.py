import datetime
import tracemalloc

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile
from pynwb.misc import Units

from retinacodec.errors import InputError, RecordingError
from retinacodec.hdf5_safety import open_hdf5
from retinacodec.nwb_spikes import Spikes, check_clock, find_units, read_spikes
from retinacodec.recordings import bin_spikes

TRAINS = [
    np.sort(np.random.default_rng(k).uniform(0, 60, size)) for k, size in enumerate((90, 7, 0))
]


def table(name="units", trains=TRAINS, ids=(12, 3, 40), **columns):
    units = Units(name=name, description="sorted")
    for column in columns:
        units.add_column(column, "what the laboratory knows")
    for row, (train, one) in enumerate(zip(trains, ids, strict=True)):
        more = {column: values[row] for column, values in columns.items()}
        intervals = [[0.0, 20.0], [30.0, 60.0 + row]]
        units.add_unit(spike_times=train, id=one, obs_intervals=intervals, **more)
    return units


@pytest.fixture
def written(tmp_path):
    """Write tables of units with pynwb and change them afterwards."""

    def write(main=None, change=None, **others):
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        nwb = NWBFile("a retina", "lab", start)
        if main is not None:
            nwb.units = main
        if others:
            module = nwb.create_processing_module("ecephys", "sorted spikes")
            for units in others.values():
                module.add(units)
        path = tmp_path / "lab.nwb"
        with NWBHDF5IO(path, "w") as io:
            io.write(nwb)
        if change is not None:
            with h5py.File(path, "a") as file:
                change(file)
        return path

    return write


def read(path, **settings):
    with open_hdf5(path) as file:
        return read_spikes(file, str(path), **settings)


def put(place, values):
    def change(file):
        attrs = dict(file[place].attrs)
        del file[place]
        file[place] = values
        file[place].attrs.update(attrs)

    return change


def test_units_in_a_processing_module_are_those_that_pynwb_wrote(written, caplog):
    path = written(sorted=table("sorted"))
    spikes = read(path)
    assert spikes.cells == ("12", "3", "40")
    with NWBHDF5IO(path, "r") as io:
        units = io.read().processing["ecephys"]["sorted"]
        for row, train in enumerate(spikes.times):
            np.testing.assert_array_equal(train, units.get_unit_spike_times(row))
            np.testing.assert_array_equal(
                spikes.observed[row], units.get_unit_obs_intervals(row).reshape(-1, 2)
            )
    assert "cell 40 without a single spike; kept" in caplog.text


def test_two_tables_need_a_choice_wherever_they_lie(written):
    path = written(table(), curated=table("curated", TRAINS[:2], (1, 2)))
    with pytest.raises(
        RecordingError,
        match=r"2 tables of units; choose one with units=: \['/units', '/processing/ecephys/cura",
    ):
        read(path)
    assert read(path, table="units").cells == ("12", "3", "40")
    assert read(path, table="/processing/ecephys/curated").cells == ("1", "2")
    with h5py.File(path, "a") as file:
        file.move("processing/ecephys/curated", "analysis/curated")
        with pytest.raises(RecordingError, match="2 tables of units"):
            find_units(file, "lab")
        del file["units/spike_times"], file["units/spike_times_index"]
        assert find_units(file, "lab").name == "/analysis/curated"  # the only one with spikes


def test_a_file_of_fluorescence_alone_says_how_it_is_read(written):
    def fluorescence(file):
        file.create_group("acquisition/green").attrs["neurodata_type"] = "RoiResponseSeries"

    with pytest.raises(
        RecordingError,
        match=r"no sorted units .*; the file holds 1 RoiResponseSeries; read_traces reads RoiRes",
    ):
        read(written(None, fluorescence))


def test_names_come_from_a_column_and_ids_may_be_words(written, caplog):
    path = written(table(unit_name=["a", "b", "c"], kind=["on", "off", "on"]))
    assert read(path).cells == ("a", "b", "c")
    with pytest.raises(RecordingError, match=r"unit ids are not unique: \['on'\]; name a column"):
        read(path, names="kind")
    with pytest.raises(RecordingError, match=r"column 'spike_times' has 97 entries for 3 units"):
        read(path, names="spike_times")
    words = np.array(["ch1_a", "ch1_b", "ünit/3"], h5py.string_dtype())
    with h5py.File(path, "a") as file:
        put("units/id", words)(file)
        put("units/unit_name", words[[0, 0, 1]])(file)
    assert read(path).cells == ("ch1_a", "ch1_b", "ünit/3")
    assert "unit_name names several units ch1_a; ids are used" in caplog.text


def test_trains_out_of_order_are_sorted_only_when_asked(written, caplog):
    mixed = [TRAINS[0][::-1], TRAINS[1], TRAINS[2]]
    path = written(table(trains=mixed))
    words = r"unit 12 has unsorted spike times, the first after spike 0; .*; sort_spikes=True"
    with pytest.raises(RecordingError, match=words):
        read(path)
    for ours, expected in zip(read(path, sort=True).times, TRAINS, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert "spike times of cell 12 were out of order and are sorted" in caplog.text


def test_spikes_at_the_same_time_are_counted_and_kept(written, caplog):
    twice = np.sort(np.r_[TRAINS[0], TRAINS[0][:4]])
    spikes = read(written(table(trains=[twice, *TRAINS[1:]])))
    np.testing.assert_array_equal(spikes.times[0], twice)
    assert "4 spikes of cell 12 come at the very time of the spike before" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("units/spike_times_index", [90, 98, 98]), "unit 3 ends at 98, but there are only 97"),
        (put("units/spike_times_index", [90, 80, 97]), "index decreases at unit 3"),
        (put("units/spike_times_index", [-1, 97, 97]), "index decreases at unit 12"),
        (
            put("units/spike_times_index", [[90, 97, 97]]),
            r"shape \(1, 3\) of int64, expected 3 who",
        ),
        (put("units/spike_times", np.zeros((97, 1))), r"have shape \(97, 1\), expected one list"),
        (put("units/spike_times", np.full(97, np.nan)), "unit 12 has 90 spike times that are NaN"),
        (put("units/id", [3, 3, 4]), r"unit ids are not unique: \['3'\]"),
        (put("units/obs_intervals", np.zeros((6, 3))), r"shape \(6, 3\), expected \(interval, 2\)"),
        (put("units/obs_intervals", np.ones((6, 2)) * [1, 0]), "stop before they start"),
        (lambda file: file["units"].pop("obs_intervals_index"), "obs_intervals have no index"),
    ],
)
def test_a_broken_table_is_refused_in_one_line(written, change, message):
    path = written(table(), change)
    with pytest.raises(RecordingError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_intervals_of_no_length_are_dropped(written):
    path = written(table())
    with h5py.File(path, "a") as file:
        file["units/obs_intervals"][1] = [7.0, 7.0]
    assert [len(intervals) for intervals in read(path).observed] == [1, 2, 2]


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_a_scale_that_is_none_is_refused(written, scale):
    with pytest.raises(InputError, match="scale: expected seconds in one step"):
        read(written(table()), scale=scale)


def test_columns_that_are_missing_are_not_needed(written):
    def bare(file):
        for column in set(file["units"]) - {"id", "spike_times", "spike_times_index"}:
            del file["units"][column]

    spikes = read(written(table(), bare), scale=2.0)
    assert spikes.observed is None
    np.testing.assert_array_equal(spikes.times[1], TRAINS[1] * 2)


def test_whole_numbers_of_samples_are_scaled_exactly(written):
    samples = np.sort(np.random.default_rng(3).integers(0, 10**6, 97))
    samples[90:].sort()
    path = written(table(), put("units/spike_times", samples.astype(np.uint32)))
    got = np.concatenate(read(path, scale=1 / 20_000).times)
    np.testing.assert_allclose(got, samples / 20_000, rtol=1e-15)


def test_cells_outside_the_movie_and_spikes_before_time_0_are_named(caplog):
    trains = (np.array([-2.0, -1.0, 5.0]), np.array([30.0, 31.0]), np.array([]), np.array([12.0]))
    spikes = Spikes(("a", "b", "c", "d"), trains, None)
    check_clock(spikes, 4.0, 20.0, "lab")
    assert "no spike of cell b falls into the movie" in caplog.text
    assert "2 spikes come before time 0, the first at -2 s; the movie begins at 4 s" in caplog.text
    caplog.clear()
    check_clock(spikes, -3.0, 40.0, "lab")  # a clock that begins before 0
    assert caplog.text == ""


def test_ten_thousand_cells_are_read_in_one_go(tmp_path):
    noise = np.random.default_rng(4)
    sizes = noise.integers(0, 200, 10_000)
    flat = np.concatenate([np.sort(noise.uniform(0, 60, size)) for size in sizes])
    with h5py.File(tmp_path / "many.nwb", "w") as file:
        file["units/id"] = np.arange(10_000)
        file["units/spike_times"], file["units/spike_times_index"] = flat, np.cumsum(sizes)
    reads = []
    with open_hdf5(tmp_path / "many.nwb") as file:
        tracemalloc.start()
        spikes = read_spikes(file, "many")
        reads.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert reads[0] < 1.1 * flat.nbytes + 6e6  # the names and the parts, and no second copy
    assert np.shares_memory(spikes.times[0].base, spikes.times[-1].base)
    chosen = spikes.choose([str(k) for k in range(9_999, -1, -1)], "many")
    np.testing.assert_array_equal(chosen.times[0], spikes.times[-1])
    flips = np.arange(0, 60, 1 / 15)
    counts = bin_spikes(spikes.times[:50], flips)
    assert counts.sum() == sizes[:50].sum()
