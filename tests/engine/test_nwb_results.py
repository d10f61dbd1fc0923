import h5py
import numpy as np
import pytest
import xarray as xr

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb import read_nwb, read_stimulus, write_nwb
from retinacodec.nwb_results import add_results, read_results
from retinacodec.schema import make_recording, make_stimulus
from retinacodec.separable import separable
from retinacodec.store import open_result, save

RNG = np.random.default_rng(0)
FRAMES, CELLS = 300, ["c/1", "ä2", "c:3"]


def movie(jitter=0.0):
    time = 5 + np.arange(FRAMES) / 30 + jitter * RNG.uniform(0, 0.01, FRAMES)
    contrast = RNG.choice([-1.0, 1.0], (FRAMES, 4, 5))
    return make_stimulus(contrast, frame_rate=30.0, pixel_um=50.0, name="noise", time=time)


@pytest.fixture
def source(tmp_path):
    return recorded(tmp_path, 0.0)


@pytest.fixture(params=[0.0, 1.0], ids=["regular", "jittered"])
def either(request, tmp_path):
    return recorded(tmp_path, request.param)


def recorded(tmp_path, jitter):
    shown = movie(jitter)
    cells = make_recording(
        RNG.poisson(0.5, (FRAMES, 3)), time=shown["time"], frame_rate=30.0, cells=CELLS
    )
    return write_nwb(tmp_path / "cells.nwb", shown, cells)


def rates(time, name="rate"):
    values = RNG.gamma(2.0, 5.0, (time.size, 3)).astype(np.float32)
    values[:24] = np.nan
    attrs = {"units": "Hz", "long_name": "predicted rate", "model": "CNN", "seed": 3}
    return xr.DataArray(
        values, dims=("time", "cell"), coords={"time": time, "cell": CELLS}, name=name, attrs=attrs
    )


def tree(time, pixels=6):
    """Contributions of two layers that differ in their pixels, as the verb returns them."""
    nodes = {"/": xr.Dataset(attrs={"rule": "Secant(steps=10)", "provenance": {"seed": 1}})}
    for layer, channels, side in (("conv1/a", 3, pixels), ("conv2", 2, pixels - 2)):
        shape = (time.size, 2, channels, side, side)
        parts = RNG.normal(size=shape).astype(np.float32)
        nodes[layer] = xr.Dataset(
            {
                "contribution": (
                    ("time", "sign", "channel", "y", "x"),
                    parts,
                    {"units": "Hz", "long_name": "contribution"},
                ),
                "residual": ("time", RNG.normal(size=time.size), {"units": "Hz"}),
                "area": (("channel", "y", "x"), RNG.normal(size=(channels, side, side))),
            },
            coords={
                "time": time,
                "sign": ["negative", "positive"],
                "channel": np.arange(channels),
                "y": ("y", np.arange(side) * 50.0, {"units": "um"}),
                "x": ("x", np.arange(side) * 50.0, {"units": "um"}),
            },
            attrs={"layer": layer, "done": True, "nothing": None},
        )
    return xr.DataTree.from_dict(nodes, name="parts")


def modes(time):
    return xr.Dataset(
        {
            "atom": (("mode", "sign", "channel"), RNG.random((5, 2, 8)).astype(np.float32)),
            "loading": (("time", "mode"), RNG.random((time.size, 5)).astype(np.float32)),
            "r2": ("mode", [0.1, np.nan, 0.3, -0.0, 1.0]),
            "dead": ("mode", np.array([True, False, False, False, True])),
            "score": ((), 0.25, {"units": "1"}),
        },
        coords={"time": time, "mode": np.arange(5), "sign": ["negative", "positive"]},
        attrs={"scale": 2.5, "kind": "modes", "seeds": [1, 2]},
    )


def summaries():
    values = RNG.normal(size=(3, 6, 7, 8)).astype(np.float32)
    coords = {
        "cell": CELLS,
        "lag": ("lag", np.arange(-5, 1) / 30, {"units": "s"}),
        "y": np.arange(7) * 50.0,
        "x": np.arange(8) * 50.0,
    }
    fields = xr.DataArray(
        values, dims=("cell", "lag", "y", "x"), coords=coords, attrs={"units": "Hz"}
    )
    found = separable(fields)
    found["type"] = ("cell", ["OFF", "", "ON"])
    found["missing"] = ("cell", np.full(3, np.nan, np.float32))
    found["binary"] = (("cell", "y", "x"), RNG.integers(0, 2, (3, 7, 8)).astype(float))
    return found


def comparison():
    shape = (2, 3)
    data = {name: (("model", "cell"), RNG.normal(size=shape)) for name in ("r", "r_low", "r_high")}
    data["reason"] = (("metric", "model", "cell"), np.full((1, 2, 3), "silent"), {})
    coords = {"model": ["CNN", "LN"], "cell": CELLS, "metric": ["r"]}
    return xr.Dataset(data, coords, attrs={"kind": "comparison", "frames": 30, "level": 0.95})


def everything(path):
    time = read_nwb(path)["time"]
    return {
        "predictions": {"CNN": rates(time[24:]), "LN/2": rates(time, None)},
        "contributions": tree(time),
        "modes": modes(time),
        "fields": summaries(),
        "comparison": comparison(),
    }


def assert_same(found, given):
    if isinstance(given, dict):
        assert list(found) == list(given)
        for name, one in given.items():
            assert_same(found[name], one)
        return
    if isinstance(given, xr.DataTree):
        assert found.isomorphic(given) and found.name == given.name
        for node in given.subtree:
            assert_same(found[node.path].to_dataset(inherit=False), node.to_dataset(inherit=False))
        assert found.attrs == given.attrs
        return
    xr.testing.assert_identical(found, given)
    variables = given.variables if isinstance(given, xr.Dataset) else {"": given}
    for name, one in variables.items():
        read = found[name] if name != "" else found
        assert read.dtype == one.dtype or one.dtype.kind in "UT"
        if one.dtype.kind in "biuf":
            assert read.values.tobytes() == np.ascontiguousarray(one.values).tobytes(), name


def silent(path):
    from nwbinspector import inspect_nwbfile

    messages = [
        (m.check_function_name, m.object_name, m.message)
        for m in inspect_nwbfile(nwbfile_path=path)
    ]
    assert messages == []  # those of pynwb's validation are among them


def test_everything_comes_back_bit_for_bit_and_the_inspector_finds_nothing(either, tmp_path):
    given = everything(either)
    before = either.read_bytes()
    out = add_results(either, tmp_path / "shared.nwb", **given)
    assert_same(read_results(out), given)
    silent(out)
    assert either.read_bytes() == before
    xr.testing.assert_identical(read_stimulus(out), read_stimulus(either))
    np.testing.assert_array_equal(read_nwb(out)["spike_count"], read_nwb(either)["spike_count"])


def test_others_can_read_the_results_without_this_package(either, tmp_path):
    from pynwb import NWBHDF5IO

    given = everything(either)
    out = add_results(either, tmp_path / "shared.nwb", **given)
    with NWBHDF5IO(out, "r") as io:
        room = io.read().analysis
        rate = room["predictions CNN rate"]
        np.testing.assert_array_equal(rate.data[:], given["predictions"]["CNN"])
        assert rate.unit == "Hz" and "seed = 3" in rate.description
        time = given["predictions"]["CNN"]["time"].values
        if rate.timestamps is None:
            stamps = rate.starting_time + np.arange(len(time)) / rate.rate
            np.testing.assert_allclose(stamps, time, atol=1e-9)
        else:
            np.testing.assert_array_equal(rate.timestamps[:], time)
        table = room["fields cell"]
        np.testing.assert_array_equal(table["spatial"].data[:], given["fields"]["spatial"])
        assert table["type"].data[:].tolist() == ["OFF", "", "ON"]
        assert table["spatial"].description.endswith("axes (cell 3, y 7, x 8)")
        parts = room["contributions conv2 contribution"].data
        assert parts.shape == (FRAMES, 2, 2, 16) and parts.compression == "gzip"


def test_results_that_are_on_disk_are_copied_in_slabs(source, tmp_path, monkeypatch):
    parts = tree(read_nwb(source)["time"], pixels=9)
    lazy = open_result(save(parts, tmp_path / "parts.zarr"), load=False)
    largest = []
    monkeypatch.setattr("retinacodec.nwb_result_files._SLAB_BYTES", 1 << 16)
    from retinacodec import nwb_result_files

    slabs = nwb_result_files._slabs

    def watched(variable):
        for start, slab in slabs(variable):
            largest.append(slab.nbytes)
            yield start, slab

    monkeypatch.setattr(nwb_result_files, "_slabs", watched)
    add_results(source, contributions=lazy)
    assert_same(read_results(source)["contributions"], parts)
    assert max(largest) <= 1 << 16 and sum(largest) > 4 * parts["conv1/a/contribution"].size


def test_results_are_replaced_only_when_asked(source, tmp_path):
    first, second = rates(read_nwb(source)["time"]), rates(read_nwb(source)["time"])
    assert read_results(source) == {}
    add_results(source, predictions=first, comparison=comparison())
    with pytest.raises(InputError, match="holds predictions already; pass overwrite=True"):
        add_results(source, predictions=second)
    xr.testing.assert_identical(read_results(source)["predictions"], first)
    add_results(source, predictions=second, overwrite=True)
    xr.testing.assert_identical(read_results(source)["predictions"], second)
    assert set(read_results(source)) == {"predictions", "comparison"}
    with h5py.File(source) as file:
        assert [name for name in file["analysis"] if "predictions" in name] == [
            "predictions rate",
            "predictions time",
        ]
    other = write_nwb(tmp_path / "other.nwb", movie())
    with pytest.raises(InputError, match="exists"):
        add_results(source, other, modes=modes(first["time"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected at least one result"),
        ({"modes": 3}, "modes: expected Dataset, got int"),
        ({"predictions": {"a": 3}}, "predictions of a: expected DataArray, got int"),
        ({"predictions": {}}, "at least one model"),
        ({"fields": xr.DataArray(np.zeros(3, complex), dims="cell")}, "holds complex128"),
        ({"fields": xr.DataArray(np.array([1, None, "x"]), dims="cell")}, "holds object"),
    ],
)
def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path, arguments, message):
    path = write_nwb(tmp_path / "cells.nwb", movie())
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        add_results(path, **arguments)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_damaged_results_and_other_files_are_refused(tmp_path):
    path = write_nwb(tmp_path / "cells.nwb", movie())
    add_results(path, modes=modes(read_stimulus(path)["time"]))
    with h5py.File(path, "r+") as file:
        del file["analysis/modes loading"]
    with pytest.raises(RecordingError, match=r"cells\.nwb"):
        read_results(path)
    with h5py.File(path, "r+") as file:
        del file["scratch/retinacodec_results"]
        file["scratch/retinacodec_results"] = "{}"
    with pytest.raises(RecordingError, match="note of its results is damaged"):
        read_results(path)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(RecordingError, match="is not NWB 2"):
        add_results(tmp_path / "plain.h5", modes=modes(np.arange(FRAMES)))


def test_awkward_sizes_come_back(tmp_path, source):
    one = xr.Dataset(
        {
            "empty": (("cell", "y"), np.zeros((0, 3), np.float32)),
            "single": (("a", "b"), np.array([[np.float32(0.1)]])),
            "wide": (("time", "x"), RNG.normal(size=(2, 50))),
            "texts": ("x", [f"é{k}" for k in range(50)]),
            "before": ("time", np.array([1, 2], np.int16)),
            "late_time": ("x", np.linspace(-1, 1, 50)),
        },
        coords={"time": [-1.0, 2.0]},
        attrs={"array": "json:{", "number": 1.5},
    )
    add_results(source, fields=one)
    assert_same(read_results(source)["fields"], one)
    silent(source)
