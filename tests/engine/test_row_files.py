"""Tables on disk give the rows that were written, and say what is wrong with a broken one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import retinacodec as rc
from retinacodec.analyses.modes import mode_rows
from retinacodec.errors import InputError
from retinacodec.row_files import open_rows
from retinacodec.store import open_result, save


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(57, 6)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ">f4", "int16"])
@pytest.mark.parametrize("kind", ["npy", "zarr"])
def test_rows_are_those_written(kind, dtype, x, tmp_path):
    import zarr

    values = (10 * x).astype(dtype)
    path = tmp_path / "x.npy"
    if kind == "npy":
        np.save(path, values)
    else:
        path = tmp_path / "x"
        zarr.create_array(path, data=values, chunks=(10, 4))
    source = open_rows(path)
    assert source.shape == (57, 6)
    for start, stop in [(0, 57), (9, 31), (56, 57), (50, 99), (57, 60)]:
        np.testing.assert_array_equal(source.read(start, stop), values[start:stop])
    assert source.unit_rows == (1 if kind == "npy" else 10)
    before = source.stamp()
    np.save(path if kind == "npy" else path / "more.npy", values[1:])
    assert before and source.stamp() != before


def test_named_channels_are_split_by_sign(x):
    columns = open_rows(x, channels=["a", "b", "c"]).columns
    assert dict(columns.sizes) == {"sign": 2, "channel": 3}
    assert columns.signs.tolist() == [-1, -1, -1, 1, 1, 1]
    with pytest.raises(InputError, match=r"a name for each of 3 channels .* got 2"):
        open_rows(x, channels=["a", "b"])


def test_broken_files_are_named(x, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, x)
    source = open_rows(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"x\.npy: cannot be read as a table .* truncated"):
        open_rows(path)
    with pytest.raises(InputError, match=r"x\.npy: truncated at row 52"):
        source.read(40, 57)
    path.write_bytes(b"no table at all")
    with pytest.raises(InputError, match="cannot be read as a table"):
        open_rows(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read as a table"):
        open_rows(path)
    np.save(path, np.asfortranarray(x))
    with pytest.raises(InputError, match="its rows lie apart"):
        open_rows(path)
    np.save(path, np.asarray([[1, "a"]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read as a table"):
        open_rows(path)
    with pytest.raises(InputError, match="no such file or folder"):
        open_rows(tmp_path / "none.npy")
    with pytest.raises(InputError, match="expected a zarr array"):
        open_rows(tmp_path)


@pytest.mark.parametrize(
    "values",
    [np.zeros(5), np.zeros((2, 3, 4)), np.zeros((0, 3)), np.zeros((3, 2), complex), [["a"]]],
    ids=["line", "cube", "empty", "complex", "text"],
)
def test_what_is_no_table_is_refused(values, tmp_path):
    import zarr

    with pytest.raises(InputError, match=r"expected real numbers \(sample, feature\), got"):
        open_rows(values)
    if np.asarray(values).dtype.kind in "fc":
        np.save(tmp_path / "x.npy", values)
        zarr.create_array(tmp_path / "x", data=values)
        for name in ("x.npy", "x"):
            with pytest.raises(InputError, match="expected real numbers"):
                open_rows(tmp_path / name)


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("targets", [False, True])
def test_a_layer_is_the_table_that_modes_are_found_in(maps, targets, tmp_path):
    from retinacodec.models import ToyCircuit

    toy = ToyCircuit()
    frames = np.random.default_rng(0).normal(size=(40, *toy.size))
    movie = rc.schema.make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    target = rc.EachCell() if targets else rc.Cell(0)
    out = tmp_path / "parts.zarr"
    circuit = rc.Circuit(toy, ["relu1"])
    with torch.no_grad():
        rc.contributions(circuit, movie, target, maps=maps, out=out, progress=False).close()
    parts = open_result(out)
    label = parts["relu1"]["target"].values.tolist()[-1] if targets else None
    values, rows = mode_rows(parts["relu1"], target=label)
    source = open_rows(out, layer="relu1", target=label)
    assert source.shape == rows.x.shape and source.columns.sample == values.dims[0]
    np.testing.assert_allclose(source.read(3, 17), rows.x[3:17], rtol=1e-6, atol=1e-7)
    small = replace(source, unit_rows=7)
    np.testing.assert_array_equal(small.read(3, 39), source.read(3, 39))
    assert small.read(3, 99).shape == (source.shape[0] - 3, source.shape[1])
    np.testing.assert_array_equal(source.columns.signs, rows.signs)
    np.testing.assert_array_equal(source.columns.coords["time"], values["time"])
    with pytest.raises(InputError, match=r"no layer 'conv9'; it has layers \['relu1'\]"):
        open_rows(out, layer="conv9")
    with pytest.raises(
        InputError, match=r"parts.zarr: layer: no variable 'weight' among .* keep it with"
    ):
        open_rows(out, layer="relu1", quantity="weight")
    if targets:
        with pytest.raises(InputError, match="choose one with target="):
            open_rows(out, layer="relu1")


def test_a_layer_that_is_not_split_by_sign_is_refused(tmp_path):
    node = xr.Dataset({"contribution": (("time", "channel"), np.zeros((4, 3)))})
    save(xr.DataTree.from_dict({"/conv1": node}), tmp_path / "parts.zarr")
    with pytest.raises(
        InputError, match=r"parts.zarr: layer: expected contribution over .* got dims"
    ):
        open_rows(tmp_path / "parts.zarr", layer="conv1")
