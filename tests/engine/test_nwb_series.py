import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO
from pynwb.ophys import Fluorescence, RoiResponseSeries

from retinacodec.errors import InputError, RecordingError
from retinacodec.hdf5_safety import open_hdf5
from retinacodec.nwb_series import quantity_of, read_series

RNG = np.random.default_rng(0)
TRACES = RNG.normal(size=(90, 4))


def in_units(path, place):
    """What pynwb itself says the values are."""
    with NWBHDF5IO(path, "r") as io:
        return next(x for x in io.read().objects.values() if x.name == place).get_data_in_units()


def put(place, **attrs):
    def change(file):
        file[place].attrs.update(attrs)

    return change


def replace(place, data):
    def change(file):
        attrs = dict(file[place].attrs)
        del file[place]
        file[place] = data
        file[place].attrs.update(attrs)

    return change


@pytest.mark.parametrize("box", ["Fluorescence", "DfOverF", None])
def test_fluorescence_keeps_its_own_clock_and_the_ids_of_its_regions(lab, box):
    lab.fluorescence(TRACES, box=box)
    series = lab.read()
    place = "processing/ophys/" + (f"{box}/" if box else "") + "RoiResponseSeries"
    assert (series.name, series.kind, series.unit) == (place, "RoiResponseSeries", "lumens")
    assert series.cells == ("13", "10", "14", "11") and series.sweeps == ((0, 90),)
    np.testing.assert_allclose(series.times, 2 + np.arange(90) / 7.5, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(series.values, TRACES)
    chosen = lab.read(cells=["14", "13"])
    np.testing.assert_array_equal(chosen.values, TRACES[:, [2, 0]])
    assert chosen.cells == ("14", "13")
    with pytest.raises(RecordingError, match=r"has no cells 7, 8; it has \['13', '10', '14', '11'"):
        lab.read(cells=["7", "8"])


def test_fluorescence_with_timestamps_and_whole_numbers_in_compressed_pieces(lab):
    times = 3 + np.cumsum(RNG.uniform(0.1, 0.2, 90))
    lab.fluorescence(TRACES, timestamps=times)
    stored = RNG.integers(0, 4000, (90, 4)).astype(np.uint16)

    def change(file):
        group = file["processing/ophys/Fluorescence/RoiResponseSeries"]
        attrs = dict(group["data"].attrs)
        del group["data"]
        group.create_dataset("data", data=stored, chunks=(7, 2), compression="gzip")
        group["data"].attrs.update(attrs | {"conversion": 0.25, "offset": -3.0})

    series = lab.read(change=change)
    np.testing.assert_array_equal(series.times, times)
    np.testing.assert_allclose(series.values, stored * 0.25 - 3, rtol=1e-15)
    np.testing.assert_array_equal(series.values, in_units(lab.path, "RoiResponseSeries"))


def test_a_conversion_for_each_column_is_applied(lab):
    lab.fluorescence(TRACES)
    place = "processing/ophys/Fluorescence/RoiResponseSeries"

    def change(file):
        file[f"{place}/channel_conversion"] = [1.0, 2.0, 3.0, 4.0]
        file[f"{place}/data"].attrs.update({"conversion": 10.0, "offset": 1.0})

    expected = TRACES * 10 * [1, 2, 3, 4] + 1
    np.testing.assert_allclose(lab.read(change=change).values, expected, rtol=1e-14)
    np.testing.assert_allclose(lab.read(cells=["14"], scale=2).values, 2 * expected[:, [2]])
    with pytest.raises(RecordingError, match=r"channel_conversion has shape \(3,\) for 4 columns"):
        lab.read(change=replace(f"{place}/channel_conversion", [1.0, 2.0, 3.0]))


def test_one_region_may_come_without_a_second_axis(lab):
    rois = lab.regions([5, 6], [1])
    series = RoiResponseSeries("one", TRACES[:, 0], unit="n.a.", rois=rois, rate=5.0)
    lab.module().add(Fluorescence(roi_response_series=[series]))
    read = lab.read()
    assert read.cells == ("6",) and read.values.shape == (90, 1)


def test_fluorescence_and_its_normalised_form_need_a_choice(lab):
    lab.fluorescence(TRACES)
    lab.fluorescence(TRACES + 1, box="DfOverF")
    lab.fluorescence(TRACES + 2, box=None, name="raw")
    assert list(lab.found().values()) == ["RoiResponseSeries"] * 3
    with pytest.raises(
        RecordingError, match=r"has 3 responses; choose one by name: .*DfOverF/RoiRe"
    ):
        lab.read()
    with pytest.raises(RecordingError, match="has 2 responses 'RoiResponseSeries'; say which"):
        lab.read("RoiResponseSeries")
    assert lab.read("raw").values[0, 0] == TRACES[0, 0] + 2
    assert lab.read("/processing/ophys/DfOverF/RoiResponseSeries").values[0, 0] == TRACES[0, 0] + 1
    with pytest.raises(RecordingError, match="has no response 'green'; it has processing/ophys"):
        lab.read("green")


def test_a_trace_of_cell_by_time_is_refused(lab):
    lab.fluorescence(TRACES, timestamps=np.arange(90.0))
    place = "processing/ophys/Fluorescence/RoiResponseSeries"
    words = r"RoiResponseSeries holds 4 by 90 values, which is \(cell, time\); NWB wants \(time, ce"
    with pytest.raises(RecordingError, match=words):
        lab.read(change=replace(f"{place}/data", TRACES.T))

    def at_a_rate(file):
        del file[f"{place}/timestamps"]
        file[f"{place}/starting_time"] = 0.0
        file[f"{place}/starting_time"].attrs["rate"] = 10.0

    with pytest.raises(RecordingError, match=words):
        lab.read(change=at_a_rate)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("CurrentClampSeries", -60.0, r"reaches 79 volts, .*; mV stored as volts\? try scale=1e-3"),
        ("CurrentClampSeries", -6e4, r"reaches 6\.002e\+04 volts, .* try scale=1e-6"),
        ("VoltageClampSeries", 300.0, "pA or nA stored as amperes"),
    ],
)
def test_values_that_no_cell_has_are_refused_with_the_factor(lab, kind, values, message):
    ramp = np.linspace(-19, 19, 200) + values
    lab.sweep("Vm", lab.electrode(), ramp, kind, conversion=1.0)
    with pytest.raises(RecordingError, match=message):
        lab.read()
    scale = {-60.0: 1e-3, -6e4: 1e-6, 300.0: 1e-12}[values]
    np.testing.assert_allclose(lab.read(scale=scale).values[:, 0], ramp * scale)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_conversion_that_is_none_is_refused(lab, bad):
    lab.sweep("Vm", lab.electrode(), np.arange(20.0))
    with pytest.raises(
        RecordingError, match=r"/acquisition/Vm/data has a conversion of (0|nan|inf)"
    ):
        lab.read(change=put("acquisition/Vm/data", conversion=bad))
    with pytest.raises(InputError, match="scale: expected a number other than 0"):
        lab.read(scale=0.0)


def test_a_missing_conversion_is_one_with_a_notice(lab, caplog):
    lab.sweep("Vm", lab.electrode(), np.linspace(-0.07, -0.05, 20))
    lab.write(lambda file: file["acquisition/Vm/data"].attrs.pop("conversion"))
    assert lab.read().values[0, 0] == -0.07
    assert "states no conversion; 1 is used" in caplog.text


def test_nan_stay_and_odd_traces_are_named(lab, caplog):
    data = TRACES.copy()
    data[5:8, 1], data[:, 2], data[:, 3] = np.nan, 4.0, np.nan
    lab.fluorescence(data)
    np.testing.assert_array_equal(lab.read().values, data)
    assert "has 93 values that are NaN; they stay NaN" in caplog.text
    assert "never changes in cell 14" in caplog.text
    assert "holds nothing but NaN for cell 11" in caplog.text
    with pytest.raises(RecordingError, match="holds nothing but NaN; choose others"):
        lab.read(cells=["11"])
    data[0, 0] = np.inf
    place = "processing/ophys/Fluorescence/RoiResponseSeries/data"
    with pytest.raises(RecordingError, match="holds infinite values"):
        lab.read(change=replace(place, data))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.arange(89.0), "RoiResponseSeries has 89 timestamps for 90 samples"),
        (np.r_[np.arange(89.0), np.nan], "RoiResponseSeries: timestamp 89 is nan"),
        (np.r_[np.arange(89.0), 3], r"timestamps do not increase after sample 88 \(1 places\)"),
    ],
)
def test_broken_times_of_samples_are_refused(lab, times, message):
    lab.fluorescence(TRACES, timestamps=np.arange(90.0))
    place = "processing/ophys/Fluorescence/RoiResponseSeries/timestamps"
    with pytest.raises(RecordingError, match=message):
        lab.read(change=replace(place, times))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda group: group.pop("starting_time"), "has neither timestamps nor a rate"),
        (
            lambda group: group["starting_time"].attrs.update(rate=0.0),
            "has a rate of 0 Hz from 2 s",
        ),
        (lambda group: group["rois"].__setitem__(0, 7), "regions that are not among the 5"),
        (lambda group: group["rois"].__setitem__(0, 0), r"regions of the same id: \['10'\]"),
        (lambda group: group.__delitem__("data"), "no sampled responses of cells; the file holds"),
    ],
)
def test_a_broken_series_is_refused_in_one_line(lab, change, message):
    lab.fluorescence(TRACES)
    with pytest.raises(RecordingError, match=message) as caught:
        lab.read(
            change=lambda file: change(file["processing/ophys/Fluorescence/RoiResponseSeries"])
        )
    assert "\n" not in str(caught.value)


def test_data_that_fit_no_series_are_refused(lab):
    lab.fluorescence(TRACES)
    place = "processing/ophys/Fluorescence/RoiResponseSeries/data"
    with pytest.raises(RecordingError, match=r"has 3 columns for 4 regions"):
        lab.read(change=replace(place, TRACES[:, :3]))
    with pytest.raises(RecordingError, match=r"shape \(90, 2, 2\), expected \(time,\) or \(time, "):
        lab.read(change=replace(place, TRACES.reshape(90, 2, 2)))
    with pytest.raises(RecordingError, match=r"holds \|S3, expected numbers"):
        lab.read(change=replace(place, np.zeros((90, 4), "S3")))


@pytest.mark.parametrize("room", ["ecephys", "analysis"])
def test_binned_rates_are_found_and_their_columns_numbered(lab, room):
    rates = RNG.poisson(3, (80, 3)).astype(float)
    lab.rates(rates, "Hz", room=room)
    lab.rates(RNG.normal(size=80), "m/s", name="running")
    lab.rates(RNG.normal(size=(80, 2)), "m", name="position")
    place = "analysis/rates" if room == "analysis" else "processing/ecephys/rates"
    assert lab.found() == {place: "TimeSeries"}
    series = lab.read()
    assert series.cells == ("0", "1", "2") and series.unit == "Hz"
    np.testing.assert_array_equal(series.values, rates)
    assert lab.read("position").cells == ("0", "1")  # whoever names it may have it


def test_units_of_rates_are_known_and_others_left_open():
    assert {quantity_of(unit) for unit in ("Hz", "spikes/s", " 1/s ", "Spikes per second")} == {
        "rate"
    }
    assert {quantity_of(unit) for unit in ("counts", "spikes", "n.a.", "", "volts")} == {None}


def test_voltages_of_an_array_are_refused_as_not_sorted(lab):
    from pynwb.ecephys import ElectricalSeries

    group = lab.nwb.create_electrode_group("shank", "array", "retina", lab.device)
    for _ in range(2):
        lab.nwb.add_electrode(group=group, location="retina")
    region = lab.nwb.create_electrode_table_region([0, 1], "all")
    lab.nwb.add_acquisition(ElectricalSeries("raw", np.zeros((50, 2)), region, rate=2e4))
    assert lab.found() == {}
    with pytest.raises(RecordingError, match=r"no sampled responses.*not spike-sorted yet"):
        lab.read()
    with pytest.raises(
        RecordingError, match="acquisition/raw holds voltages that are not spike-so"
    ):
        lab.read("acquisition/raw")


def test_twenty_minutes_at_10_khz_take_little_more_than_themselves(tmp_path):
    import tracemalloc

    samples = 2_000_000  # a sixth of twenty minutes: the peak is a ratio
    with h5py.File(tmp_path / "long.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
        series = file.create_group("acquisition/Vm")
        series.attrs["neurodata_type"] = "CurrentClampSeries"
        series["data"] = RNG.normal(-0.06, 0.002, samples).astype(np.float32)
        series["data"].attrs.update({"unit": "volts", "conversion": 1.0})
        series["starting_time"] = 0.0
        series["starting_time"].attrs["rate"] = 1e4
    with open_hdf5(tmp_path / "long.nwb") as file:
        tracemalloc.start()
        read = read_series(file, "long.nwb")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1.6 * (read.times.nbytes + read.values.nbytes)
    np.testing.assert_allclose(read.values[[0, -1], 0], -0.06, atol=0.02)
