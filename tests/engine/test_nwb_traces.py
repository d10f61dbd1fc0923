import h5py
import numpy as np
import pytest
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.nwb import Session, read_stimulus, read_traces, write_nwb
from retinacodec.schema import make_stimulus

RNG = np.random.default_rng(0)


def movie(frames=60, name="noise", first=0):
    return make_stimulus(
        RNG.choice([-1.0, 1.0], (frames, 4, 5)),
        frame_rate=30.0,
        pixel_um=50.0,
        name=name,
        first_frame=first,
    )


def traces(shown, unit, cells=("a/1", "b:2"), repeats=None, name="trace"):
    values = RNG.normal(size=(shown.sizes["time"], len(cells))).astype(np.float32)
    data = {"trace": (("time", "cell"), values)}
    if repeats:
        more = RNG.normal(size=(repeats, *values.shape)).astype(np.float32)
        data["repeats"] = (("repeat", "time", "cell"), more)
    coords = {"time": shown["time"], "cell": list(cells)}
    return xr.Dataset(data, coords, attrs={"units": unit, "name": name})


@pytest.fixture
def silent():
    from nwbinspector import inspect_nwbfile

    def check(path):  # which validates with pynwb, too
        assert [
            (m.check_function_name, m.message) for m in inspect_nwbfile(nwbfile_path=path)
        ] == []

    return check


def test_potentials_are_kept_in_millivolts_for_each_cell(tmp_path, silent):
    shown = movie()
    given = traces(shown, "mV")
    given["trace"][10:13, 1] = np.nan
    path = write_nwb(tmp_path / "a.nwb", shown, traces=given)
    silent(path)
    with h5py.File(path) as file:
        first, second = (file[f"acquisition/{name}"] for name in ("a_1", "b_2"))
        np.testing.assert_array_equal(first["data"], given["trace"][:, 0])
        assert first["data"].attrs["conversion"] == 1e-3
        assert first["data"].attrs["unit"] == "volts"
        assert first["electrode/cell_id"][()] == b"a/1"
        seen = np.isfinite(given["trace"][:, 1].values)
        np.testing.assert_array_equal(second["data"], given["trace"][seen, 1])
        np.testing.assert_array_equal(second["timestamps"], given["time"][seen])
    xr.testing.assert_identical(read_stimulus(path), shown)


def test_fluorescence_of_repeats_is_one_series_of_regions(tmp_path, silent):
    movies = [movie(), movie(40, "clip", first=90)]
    given = [traces(movies[0], "dF/F"), traces(movies[1], "dF/F", repeats=3)]
    path = write_nwb(tmp_path / "a.nwb", movies, traces=given)
    silent(path)
    with h5py.File(path) as file:
        series = file["processing/ophys/DfOverF/trace"]
        both = np.concatenate([given[0]["trace"], given[1]["repeats"].values.reshape(-1, 2)])
        np.testing.assert_array_equal(series["data"], both)
        assert series["data"].attrs["unit"] == "dF/F"
        table = file["processing/ophys/ImageSegmentation/cells of trace"]
        assert table["cell_name"].asstr()[()].tolist() == ["a/1", "b:2"]


@pytest.mark.parametrize(("unit", "cells"), [("dF/F", ["a"]), ("Hz", ["a"]), ("Hz", ["ä", "b"])])
def test_other_traces_are_plain_series(tmp_path, silent, unit, cells):
    shown = movie()
    given = traces(shown, unit, cells, name="rate/10 ms")
    session = Session(species="Mus musculus")
    path = write_nwb(tmp_path / "a.nwb", shown, traces=given, session=session)
    silent(path)
    with h5py.File(path) as file:
        module = "ophys" if unit == "dF/F" else "ecephys"
        data = file[f"processing/{module}/rate_10 ms/data"]
        np.testing.assert_array_equal(data, given["trace"])
        assert data.attrs["unit"] == unit


def test_traces_of_a_mouse_are_as_good(tmp_path, silent):
    shown = movie()
    for unit in ("mV", "dF/F"):
        given = traces(shown, unit)
        session = Session(species="Mus musculus")
        silent(write_nwb(tmp_path / f"{unit[:2]}.nwb", shown, traces=given, session=session))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign_attrs(units="degrees"), "expected one of mV, dF/F, Hz, got 'degrees'"),
        (lambda t: t.isel(time=slice(9)), "9 samples for 60 frames"),
        (lambda t: t.rename(trace="x"), "no variable 'trace'"),
        (lambda t: t.transpose(), "dims must be"),
        (lambda t: t.assign_coords(cell=["a", "a"]), "not unique"),
        (lambda t: t * np.inf, "infinite"),
        (lambda t: t.where(t.cell == "a/1"), "cell b:2 has fewer than 2 samples"),
        (lambda t: [t, t], "one set of traces for each of 1 movies, got 2"),
    ],
)
def test_broken_traces_leave_nothing_behind(tmp_path, change, message):
    shown = movie()
    with xr.set_options(keep_attrs=True):
        given = change(traces(shown, "mV"))
    with pytest.raises(InputError, match=message):
        write_nwb(tmp_path / "a.nwb", shown, traces=given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("unit", "series"), [("mV", "CurrentClampSeries"), ("dF/F", None), ("Hz", None)]
)
def test_traces_come_back_on_the_frames_of_each_movie(tmp_path, unit, series):
    movies = [movie(), movie(40, "clip", first=90)]
    given = [traces(movies[0], unit), traces(movies[1], unit, repeats=3)]
    path = write_nwb(tmp_path / "a.nwb", movies, traces=given)
    first, second = (read_traces(path, series, stimulus=name) for name in ("noise", "clip"))
    read = first.attrs["units"]
    scale = 1.0 if read == unit else {("mV", "volts"): 1e-3}[unit, read]
    repeats = scale * given[1]["repeats"].values
    np.testing.assert_allclose(first["trace"], scale * given[0]["trace"], rtol=1e-6)
    np.testing.assert_allclose(second["repeats"], repeats, rtol=1e-6)
    np.testing.assert_allclose(second["trace"], repeats.mean(axis=0), rtol=1e-5, atol=1e-7)
    assert first["cell"].values.tolist() == ["a/1", "b:2"]


def test_what_was_read_can_be_written_again(tmp_path):
    shown = movie()
    path = write_nwb(tmp_path / "a.nwb", shown, traces=traces(shown, "mV"))
    first = read_traces(path, "CurrentClampSeries")
    assert first.attrs["units"] == "volts"
    again = read_traces(write_nwb(tmp_path / "b.nwb", shown, traces=first), "CurrentClampSeries")
    np.testing.assert_allclose(again["trace"], first["trace"], rtol=1e-6)
