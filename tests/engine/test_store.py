"""Results come back exactly as they were saved, and nothing is ever half-written."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import retinacodec
from retinacodec.errors import InputError
from retinacodec.schema import (
    check_contributions,
    check_fields,
    check_modes,
    check_recording,
    check_stimulus,
    make_recording,
    make_stimulus,
)
from retinacodec.store import ResultError, file_sha256, open_result, replacing, save

SUFFIXES = (".zarr", ".nc")


def stimulus() -> xr.Dataset:
    contrast = np.random.default_rng(0).normal(size=(20, 6, 5)).astype(np.float32)
    return make_stimulus(
        contrast,
        frame_rate=60.0,
        pixel_um=50.0,
        name="noise",
        parameters={"sigma": 0.3},
        seed=7,
        truth={
            "object_x": (np.linspace(0, 10, 20), "um"),
            "saccade": (np.arange(20) % 5 == 0, "1"),
        },
        first_frame=13,
    )


def recording() -> xr.Dataset:
    counts = np.random.default_rng(1).poisson(1.0, size=(3, 20, 2)).astype(np.float32)
    counts[:, 4, 1] = np.nan
    return make_recording(
        counts.mean(axis=0),
        time=np.arange(20) / 60,
        frame_rate=60.0,
        cells=["u7", "längere-Zelle"],
        repeats=counts,
        name="unit test",
    )


def contributions() -> xr.DataTree:
    random = np.random.default_rng(2)
    time = ("time", np.arange(18) / 60, {"units": "s"})

    def node(side: int) -> xr.Dataset:
        return xr.Dataset(
            {
                "contribution": (
                    ("time", "sign", "channel", "y", "x"),
                    random.normal(size=(18, 2, 3, side, side)).astype(np.float32),
                    {"units": "Hz"},
                ),
                "residual": ("time", random.normal(size=18).astype(np.float32), {"units": "Hz"}),
            },
            coords={
                "time": time,
                "sign": ["negative", "positive"],
                "channel": np.arange(3),
                "y": np.arange(side) * 50.0,
                "x": np.arange(side) * 50.0,
            },
            attrs={"layer": f"conv{side}"},
        )

    rate = (("time", "cell"), random.random((18, 2)).astype(np.float32), {"units": "Hz"})
    root = xr.Dataset(
        {"rate": rate, "baseline_value": ((), np.float64(1.5))},
        coords={"time": time, "cell": ["a", "bb"]},
        attrs={
            "rule": "Secant(steps=10)",
            "seeds": {"model": 0, "modes": [1, 2]},
            "device": None,
            "exact": True,
            "tolerance": float("nan"),
            "odd": "json:{",
        },
    )
    nodes = {"/": root, "/later": node(4), "/conv2": node(3), "/a": node(2), "/conv1": node(5)}
    return xr.DataTree.from_dict(nodes, name="parts")


def modes() -> xr.Dataset:
    random = np.random.default_rng(3)
    return xr.Dataset(
        {
            "atom": (("mode", "sign", "channel"), random.random((5, 2, 3))),
            "loading": (("time", "mode"), random.random((18, 5)).astype(np.float32)),
            "stability": ("mode", np.array([0.9, np.nan, 1, 0.5, 0.25])),
            "chosen": ("mode", np.array([True, False, True, True, False])),
        },
        coords={"mode": np.arange(5), "sign": ["negative", "positive"], "time": np.arange(18) / 60},
        attrs={"scale": 0.25, "seed": 0, "r2": 0.875},
    )


def fields() -> xr.DataArray:
    values = np.random.default_rng(4).normal(size=(3, 2, 4, 6, 5)).astype(np.float32)
    return xr.DataArray(
        values,
        dims=("time", "cell", "lag", "y", "x"),
        coords={
            "time": [0.1, 0.2, 0.3],
            "cell": ["a", "bb"],
            "lag": ("lag", np.arange(-3, 1) / 60, {"units": "s"}),
        },
        name="field",
        attrs={"units": "Hz"},
    )


NOUNS = {
    "stimulus": (stimulus, check_stimulus),
    "recording": (recording, check_recording),
    "contributions": (contributions, check_contributions),
    "modes": (modes, check_modes),
    "fields": (fields, check_fields),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("noun", NOUNS)
def test_save_then_open_is_the_identity(noun: str, suffix: str, tmp_path: Path) -> None:
    build, check = NOUNS[noun]
    original = build()
    before = original.copy(deep=True)

    again = open_result(save(original, tmp_path / f"result{suffix}"))

    assert type(again) is type(original)
    assert original.identical(before), "saving changed the result in memory"
    assert_same(again, original)
    check(again)
    assert again.name == original.name if hasattr(original, "name") else True


def assert_same(left: object, right: object) -> None:
    """Compare contents, attributes and dtypes; attributes also by type."""
    if isinstance(left, xr.DataTree):
        assert [node.path for node in left.subtree] == [node.path for node in right.subtree]
        for one, other in zip(left.subtree, right.subtree, strict=True):
            assert_same(one.to_dataset(False), other.to_dataset(False))
        return
    left, right = (
        item.to_dataset(name="it") if isinstance(item, xr.DataArray) else item
        for item in (left, right)
    )
    assert json.dumps(left.attrs) == json.dumps(right.attrs)
    assert list(left.data_vars) == list(right.data_vars)
    assert set(left.coords) == set(right.coords)
    for name, variable in right.variables.items():
        assert left[name].dims == variable.dims
        assert left[name].dtype == variable.dtype, name
        np.testing.assert_array_equal(left[name].values, variable.values, err_msg=str(name))
        assert json.dumps(left[name].attrs) == json.dumps(variable.attrs), name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_branch_of_a_tree_and_odd_arrays_survive(suffix: str, tmp_path: Path) -> None:
    branch = contributions()["conv2"]
    again = open_result(save(branch, tmp_path / f"branch{suffix}"))
    assert again.name == "conv2"
    assert_same(again.to_dataset(), branch.to_dataset())

    nameless = xr.DataArray(np.zeros((0, 3), np.int16), dims=("time", "y"), attrs={"units": "ms"})
    again = open_result(save(nameless, tmp_path / f"nameless{suffix}"))
    assert again.name is None
    assert again.dtype == np.int16 and again.shape == (0, 3)
    assert again.attrs == {"units": "ms"}

    # A DataArray may be called like one of its own coordinates.
    clash = xr.DataArray([1.0, 2.0], dims="time", coords={"time": [0.0, 1.0]}, name="time")
    assert open_result(save(clash, tmp_path / f"clash{suffix}")).identical(clash)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_opened_can_be_saved_in_the_other_format(suffix: str, tmp_path: Path) -> None:
    other = next(entry for entry in SUFFIXES if entry != suffix)
    first = open_result(save(contributions(), tmp_path / f"one{suffix}"))
    second = open_result(save(first, tmp_path / f"two{other}"))
    assert_same(second, contributions())


def test_other_readers_see_cf_attributes_and_units(tmp_path: Path) -> None:
    with xr.open_dataset(save(stimulus(), tmp_path / "s.nc"), engine="h5netcdf") as seen:
        assert seen.attrs["Conventions"] == "CF-1.11"
        assert seen.attrs["retinacodec_version"] == retinacodec.__version__
        assert seen["time"].attrs["units"] == "s"
    with h5py.File(tmp_path / "s.nc") as file:
        assert (file["contrast"].compression, file["contrast"].shuffle) == ("gzip", True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_long_arrays_are_cut_along_time(suffix: str, tmp_path: Path) -> None:
    long = xr.DataArray(np.zeros((5000, 40, 25), np.float32), dims=("time", "y", "x"), name="v")
    path = save(long, tmp_path / f"long{suffix}")
    if suffix == ".zarr":
        with xr.open_zarr(path, consolidated=False) as seen:
            assert seen["v"].encoding["chunks"] == (2000, 40, 25)
    else:
        with xr.open_dataset(path, engine="h5netcdf") as seen:
            assert seen["v"].encoding["chunksizes"] == (2000, 40, 25)
    lazy = open_result(path, load=False)
    assert float(lazy[4999, 3, 3]) == 0.0
    lazy.close()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_overwritten_unless_asked(suffix: str, tmp_path: Path) -> None:
    path = save(modes(), tmp_path / f"r{suffix}")
    before = file_sha256(path)
    with pytest.raises(InputError, match=r"exists already.*overwrite=True"):
        save(fields(), path)
    assert file_sha256(path) == before

    save(fields(), path, overwrite=True)
    assert_same(open_result(path), fields())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_is_no_result_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "thesis.zarr"
    folder.mkdir()
    (folder / "chapter1.txt").write_text("years of work")
    with pytest.raises(InputError, match="is a folder that is no result"):
        save(modes(), folder, overwrite=True)
    assert (folder / "chapter1.txt").read_text() == "years of work"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_save_leaves_the_earlier_state(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(modes(), tmp_path / f"r{suffix}")
    before = file_sha256(path)
    bad = modes().assign(thing=("mode", np.array([object()] * 5)))
    with pytest.raises(InputError, match=r"save: r") as caught:
        save(bad, path, overwrite=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        save(bad, tmp_path / f"new{suffix}")

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("retinacodec.atomic.os.fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        save(fields(), path, overwrite=True)
    assert file_sha256(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_kill_in_mid_write_leaves_the_earlier_result(tmp_path: Path) -> None:
    path = save(modes(), tmp_path / "r.zarr")
    program = textwrap.dedent(f"""
        import os, signal
        from retinacodec.atomic import replacing
        with replacing({str(path)!r}, overwrite=True) as temporary:
            temporary.mkdir()
            (temporary / "zarr.json").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert_same(open_result(path), modes())
    save(fields(), path, overwrite=True)
    assert_same(open_result(path), fields())


def test_the_old_folder_returns_when_the_swap_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(modes(), tmp_path / "r.zarr")
    rename = Path.replace

    def fail_on_temporary(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_on_temporary)
    with pytest.raises(OSError, match="cross-device"):
        save(fields(), path, overwrite=True)
    monkeypatch.undo()
    assert_same(open_result(path), modes())
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.zarr"]


def _empty_folder(folder: Path) -> Path:
    (folder / "a.zarr").mkdir()
    return folder / "a.zarr"


def _foreign_zarr(folder: Path) -> Path:
    xr.Dataset({"v": ("time", [1.0])}).to_zarr(folder / "b.zarr", zarr_format=3, consolidated=False)
    return folder / "b.zarr"


def _foreign_netcdf(folder: Path) -> Path:
    xr.Dataset({"v": ("time", [1.0])}).to_netcdf(folder / "c.nc", engine="h5netcdf")
    return folder / "c.nc"


def _text(folder: Path) -> Path:
    (folder / "d.nc").write_text("not a file of numbers")
    return folder / "d.nc"


def _truncated(folder: Path) -> Path:
    path = save(contributions(), folder / "e.nc")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _chunk_missing(folder: Path) -> Path:
    path = save(contributions(), folder / "f.zarr")
    (path / "conv1/contribution/c/0/0/0/0/0").unlink()
    return path


def _chunk_cut(folder: Path) -> Path:
    path = save(contributions(), folder / "g.zarr")
    chunk = next(path.glob("conv1/residual/c/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    return path


def _json_damaged(folder: Path) -> Path:
    path = save(modes(), folder / "h.zarr")
    (path / "zarr.json").write_text("{")
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty_folder, "not a Zarr 3 folder"),
        (_foreign_zarr, "not a result of this package"),
        (_foreign_netcdf, "not a result of this package"),
        (_text, "not a netCDF-4 file"),
        (_truncated, "cannot be read .*truncated"),
        (_chunk_missing, r"incomplete: \d+ of \d+ files"),
        (_chunk_cut, r"incomplete: .* bytes"),
        (_json_damaged, "zarr.json is damaged"),
    ],
)
def test_bad_files_end_in_one_line(make: object, message: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(ResultError, match=message) as caught:
        open_result(path)
    assert "\n" not in str(caught.value)
    assert caught.value.path == str(path) and caught.value.hint


def test_bad_calls_end_in_one_line(tmp_path: Path) -> None:
    for call, message in (
        (lambda: open_result(tmp_path / "none.nc"), "no such file"),
        (lambda: open_result(tmp_path / "none.txt"), r"\.zarr or \.nc"),
        (lambda: save(modes(), tmp_path / "r.h5"), r"\.zarr or \.nc"),
        (lambda: save(modes(), tmp_path / "no" / "r.nc"), "folder .* does not exist"),
        (lambda: save([1.0], tmp_path / "r.nc"), "got list"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_replacing_guards_plain_files(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    with replacing(path) as temporary:
        temporary.write_text("one")
    with pytest.raises(InputError, match="exists already"), replacing(path) as temporary:
        pytest.fail("the block must not run")
    with pytest.raises(KeyError), replacing(path, overwrite=True) as temporary:
        temporary.write_text("two")
        raise KeyError
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_file_sha256_of_files_and_folders(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.write_bytes(b"abc")
    assert file_sha256(one) == hashlib.sha256(b"abc").hexdigest()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"abc")
    first = file_sha256(folder)
    (folder / "a").rename(folder / "b")
    renamed = file_sha256(folder)
    (folder / "b").write_bytes(b"abd")
    assert len({first, renamed, file_sha256(folder)}) == 3
    with pytest.raises(InputError, match="no such file"):
        file_sha256(tmp_path / "gone")
