import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError

RNG = np.random.default_rng(0)
TRACES = RNG.normal(size=(90, 4))


def test_one_sweep_is_named_by_the_cell_of_its_electrode(lab):
    volts = RNG.normal(-55, 3, 500).astype(np.float32)
    lab.sweep("Vm", lab.electrode(cell_id="amacrine 1"), volts, starting_time=4.5)
    assert lab.found() == {"acquisition/Vm": "CurrentClampSeries"}
    series = lab.read()
    assert series.cells == ("amacrine 1",) and series.unit == "volts"
    np.testing.assert_array_equal(series.values[:, 0], volts.astype(float) * 1e-3)
    np.testing.assert_allclose(series.times, 4.5 + np.arange(500) / 100)
    np.testing.assert_array_equal(lab.read("amacrine 1").values, series.values)


@pytest.mark.parametrize("numbers", [None, (0, 1, 2), (2, 1, 0)])
def test_sweeps_of_one_electrode_are_joined_in_order_of_time(lab, numbers, caplog):
    electrode = lab.electrode()
    sweeps = RNG.normal(-60, 2, (3, 50))
    for place in (1, 2, 0):  # names and order of writing say nothing
        more = {} if numbers is None else {"sweep_number": np.uint64(numbers[place])}
        name = f"sweep{2 - place}"
        lab.sweep(name, electrode, sweeps[place], starting_time=10.0 * place, **more)
    place = "general/intracellular_ephys/electrode0"
    assert lab.found() == {place: "CurrentClampSeries"}
    series = lab.read()
    assert series.cells == ("electrode0",)
    assert series.sweeps == ((0, 50), (50, 100), (100, 150))
    np.testing.assert_allclose(series.values[:, 0], sweeps.ravel() * 1e-3)
    expected = np.concatenate([10.0 * k + np.arange(50) / 100 for k in range(3)])
    np.testing.assert_allclose(series.times, expected, atol=1e-12)
    assert ("not numbered in order of time" in caplog.text) == (numbers == (2, 1, 0))
    one = lab.read("sweep1")
    np.testing.assert_allclose(one.values[:, 0], sweeps[1] * 1e-3)


def test_the_table_of_recordings_says_which_samples_are_sweeps(lab, caplog):
    electrode = lab.electrode(cell_id="bipolar")
    long = lab.sweep("long", electrode, np.arange(400.0) / 100)
    late = lab.sweep("late", electrode, np.arange(50.0) / 100, starting_time=20.0)
    lab.sweep("aborted", electrode, np.arange(30.0) / 100, starting_time=30.0)
    for series, start, count in ((long, 250, 100), (long, 20, 80), (late, 0, 50)):
        lab.nwb.add_intracellular_recording(
            electrode=electrode,
            response=series,
            response_start_index=start,
            response_index_count=count,
        )
    series = lab.read()
    assert series.sweeps == ((0, 80), (80, 180), (180, 230))
    expected = np.r_[20:100, 250:350, 0:50] * 1e-5
    np.testing.assert_allclose(series.values[:, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(series.times[[0, 80, 180]], [0.2, 2.5, 20.0])
    assert "1 series of bipolar are in no row of the table of recordings" in caplog.text
    assert "not numbered in order of time" in caplog.text

    def too_long(file):
        column = file["general/intracellular_ephys/intracellular_recordings/responses/response"]
        rows = column[()]
        rows["count"][2] = 51
        column[...] = rows

    with pytest.raises(RecordingError, match="samples 0 to 51 of /acquisition/late, which has 50"):
        lab.read(change=too_long)


def test_a_clock_that_restarts_with_each_sweep_is_refused(lab):
    electrode = lab.electrode()
    for k in range(2):
        lab.sweep(f"sweep{k}", electrode, np.full(50, -60.0) + np.arange(50))
    with pytest.raises(RecordingError, match=r"sweep0 and /acquisition/sweep1 overlap at 0 s; if"):
        lab.read()
    assert lab.read("sweep1").values.shape == (50, 1)


def test_two_electrodes_and_two_settings_of_one_are_told_apart(lab):
    first, second = lab.electrode(cell_id="a"), lab.electrode("electrode1", cell_id="b")
    ramp = np.arange(20.0)
    lab.sweep("v0", first, ramp)
    lab.sweep("v1", first, ramp, starting_time=1.0)
    lab.sweep("i0", first, ramp * 1e-9, "VoltageClampSeries", starting_time=2.0)
    lab.sweep("i1", first, ramp * 1e-9, "VoltageClampSeries", starting_time=3.0)
    lab.sweep("z", second, ramp, "IZeroClampSeries")
    home = "general/intracellular_ephys/electrode0"
    assert lab.found() == {
        f"{home} CurrentClampSeries": "CurrentClampSeries",
        f"{home} VoltageClampSeries": "VoltageClampSeries",
        "acquisition/z": "IZeroClampSeries",
    }
    assert lab.read("b").kind == "IZeroClampSeries"
    assert lab.read("electrode0 VoltageClampSeries").unit == "amperes"
    with pytest.raises(RecordingError, match="has 2 responses 'a'; say which"):
        lab.read("a")


def test_electrodes_of_one_clock_are_read_side_by_side(lab):
    noise = RNG.normal(-60, 2, (3, 50))
    for k, name in enumerate("abc"):
        electrode = lab.electrode(f"electrode{k}", cell_id=name)
        lab.sweep(f"v{k}", electrode, noise[k], starting_time=0.1 * (k == 2))
    words = (
        r"has 3 responses; .*acquisition/v2 \(CurrentClampSeries\), or all of them: CurrentClamp"
    )
    with pytest.raises(RecordingError, match=words):
        lab.read()
    both = lab.read("CurrentClampSeries", cells=["b", "a"])
    assert both.cells == ("b", "a") and both.sweeps == ((0, 50),)
    np.testing.assert_allclose(both.values, noise[[1, 0]].T * 1e-3)
    every = lab.read("CurrentClampSeries")
    assert every.times.size == 60 and np.isnan(every.values[:10, 2]).all()
    np.testing.assert_allclose(every.values[10:, 2], noise[2] * 1e-3)
    with pytest.raises(RecordingError, match="has no VoltageClampSeries; the file holds"):
        lab.read("VoltageClampSeries")
    with pytest.raises(RecordingError, match=r"v0, acquisition/v1, .* at different moments; read"):
        lab.read("CurrentClampSeries", change=lambda f: put_start(f["acquisition/v1"], 0.004))


def put_start(series, start):
    series["starting_time"][()] = start


def test_references_that_lead_nowhere_are_refused(lab, tmp_path):
    lab.fluorescence(TRACES)
    electrode = lab.electrode()
    response = lab.sweep("Vm", electrode, np.arange(20.0))
    lab.nwb.add_intracellular_recording(electrode=electrode, response=response)
    lab.write()
    with h5py.File(lab.path) as file, h5py.File(tmp_path / "part.nwb", "w") as part:
        for room in ("acquisition", "general", "processing"):
            file.copy(room, part)  # which leaves references behind
    lab.path = tmp_path / "part.nwb"
    for name, source in (("RoiResponseSeries", "rois"), ("Vm", "responses/response")):
        with pytest.raises(RecordingError, match=f"{source} refers to something that is not in th"):
            lab.read(name)


def test_lists_of_one_number_are_as_good_as_the_number(lab):
    electrode = lab.electrode(cell_id="bipolar")
    lab.sweep("Vm", electrode, np.arange(20.0), starting_time=4.0, sweep_number=np.uint64(3))
    plain = lab.read()

    def listed(file):
        file["acquisition/Vm/data"].attrs["conversion"] = [1e-3]
        file["acquisition/Vm/starting_time"].attrs["rate"] = [100.0]
        file["acquisition/Vm"].attrs["sweep_number"] = [3]
        put_list(file, "general/intracellular_ephys/electrode0/cell_id", ["bipolar"])

    def put_list(file, place, values):
        del file[place]
        file[place] = values

    again = lab.read(change=listed)
    np.testing.assert_array_equal(again.values, plain.values)
    np.testing.assert_array_equal(again.times, plain.times)
    assert again.cells == ("bipolar",)
