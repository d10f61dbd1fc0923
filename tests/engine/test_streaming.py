"""A streamed result is, file by file, what saving the whole would have left."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.schema import check_contributions
from retinacodec.store import file_sha256, open_result, save
from retinacodec.streaming import streamed


def contributions(images=23, channels=3, side=4, seed=0, maps=True) -> xr.DataTree:
    """A tree with every kind of variable that grows with the images, and some that do not."""
    random = np.random.default_rng(seed)

    def node(name, side):
        dims = ("image", "sign", "channel", "y", "x")[: 5 if maps else 3]
        shape = (images, 2, channels, side, side)[: len(dims)]
        return xr.Dataset(
            {
                "contribution": (dims, random.normal(size=shape).astype(np.float32), {"units": ""}),
                "residual": ("image", random.normal(size=images)),
                "kept": ("image", random.random(images) > 0.5),
                "scale": ("channel", np.array([1.0, np.nan, 2.0])[:channels]),
            },
            coords={"sign": ["negative", "positive"], "channel": np.arange(channels)},
            attrs={"layer": name, "relative_residual": 1e-6, "exact": True},
        )

    names = np.array([f"bird-{number**3}.jpg" for number in range(images)])
    root = xr.Dataset(
        {
            "output": (("image", "class"), random.normal(size=(images, 5)).astype(np.float32)),
            "guess": ("image", np.array(["eagle", "wren", "längste Ente"])[np.arange(images) % 3]),
        },
        coords={
            "image": names,
            "number": ("image", np.arange(images), {"long_name": "place in the folder"}),
            "class": list("abcde"),
            "seed": seed,
        },
        attrs={"target": "Class(label=3)", "baseline": None, "seeds": [1, 2]},
    )
    nodes = {"/": root, "/stem": node("stem", side), "/blocks.0": node("blocks.0", 1)}
    return xr.DataTree.from_dict(nodes, name="parts")


def part(tree, start, stop):
    return tree.isel(image=slice(start, stop))


def write(tree, path, cuts, **options):
    edges = [0, *cuts, len(tree["image"])]
    with streamed(path, **options) as writer:
        for start, stop in itertools.pairwise(edges):
            writer.append(part(tree, start, stop))
    return path


@pytest.mark.parametrize("cuts", [[], [7, 7, 15], range(1, 23)], ids=str)
@pytest.mark.parametrize("held", [0, 64_000_000])
def test_a_streamed_result_is_that_of_save_file_by_file(cuts, held, tmp_path, monkeypatch):
    monkeypatch.setattr("retinacodec.streaming._HELD_BYTES", held)
    monkeypatch.setattr("retinacodec.zarr_folder._CHUNK_BYTES", 20_000)
    whole = contributions()
    saved = save(whole, tmp_path / "saved.zarr")
    path = write(whole, tmp_path / "streamed.zarr", cuts)
    assert file_sha256(path) == file_sha256(saved)
    check_contributions(open_result(path))
    again = open_result(path)
    assert again.identical(whole) and again.name == "parts"
    lazy = open_result(path, load=False)
    one = lazy["stem"]["contribution"][11].values
    np.testing.assert_array_equal(one, whole["stem"]["contribution"][11].values)
    lazy.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["saved.zarr", "streamed.zarr"]


@pytest.mark.parametrize("held", [0, 2_000])
def test_chunks_and_all_files_are_those_of_save_where_arrays_have_many(held, tmp_path, monkeypatch):
    monkeypatch.setattr("retinacodec.streaming._HELD_BYTES", held)
    monkeypatch.setattr("retinacodec.zarr_folder._CHUNK_BYTES", 500)
    whole = contributions(images=61)
    saved = save(whole, tmp_path / "saved.zarr")
    path = write(whole, tmp_path / "streamed.zarr", [10, 11, 48])
    assert len(list(saved.glob("image/c/*"))) == 1 and len(list(saved.glob("output/c/*/*"))) > 1
    assert file_sha256(path) == file_sha256(saved)


def test_a_movie_is_streamed_along_its_time_and_a_dataset_too(tmp_path):
    time = ("time", np.arange(9) / 60, {"units": "s"})
    node = xr.Dataset({"contribution": (("time", "sign", "channel"), np.ones((9, 2, 3)))})
    root = xr.Dataset({"rate": (("time", "cell"), np.ones((9, 2)))}, coords={"time": time})
    tree = xr.DataTree.from_dict({"/": root, "/conv1": node})
    for number, whole in enumerate((tree, root)):
        with streamed(tmp_path / f"{number}.zarr") as writer:
            for start in (0, 4, 8):
                writer.append(whole.isel(time=slice(start, start + 4)))
        assert file_sha256(tmp_path / f"{number}.zarr") == file_sha256(
            save(whole, tmp_path / f"saved{number}.zarr")
        )


def test_attributes_that_are_known_at_the_end_are_added_or_replaced(tmp_path):
    whole = contributions()
    with streamed(tmp_path / "r.zarr") as writer:
        writer.append(part(whole, 0, 9))
        writer.append(part(whole, 9, 23))
        said = {"relative_residual": 3e-7, "worst": None}
        writer.finish({"duration_s": 2.5, "seeds": [3]}, {"stem": said})
        with pytest.raises(InputError, match="append parts before"):
            writer.append(part(whole, 0, 9))
        with pytest.raises(InputError, match="only once"):
            writer.finish({"late": 1})
    whole.attrs.update({"duration_s": 2.5, "seeds": [3]})
    whole["stem"].attrs.update(said)
    assert open_result(tmp_path / "r.zarr").identical(whole)


def test_changing_a_part_after_it_was_taken_changes_nothing(tmp_path):
    whole = contributions()
    first = part(whole, 0, 9).copy(deep=True)
    with streamed(tmp_path / "r.zarr") as writer:
        writer.append(first)
        first["stem"]["contribution"].values[:] = 0
        writer.append(part(whole, 9, 23))
    assert open_result(tmp_path / "r.zarr").identical(whole)


def peak(path: Path, parts: int) -> float:
    """Peak memory in MB of streaming so many parts of 3 MB."""
    piece = contributions(images=64, channels=3, side=44)
    tracemalloc.start()
    with streamed(path) as writer:
        for _ in range(parts):
            writer.append(piece)
    used = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return used


def test_memory_does_not_grow_with_the_number_of_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("retinacodec.streaming._HELD_BYTES", 8_000_000)
    few, many = peak(tmp_path / "few.zarr", 10), peak(tmp_path / "many.zarr", 40)
    size = sum(one.nbytes for one in open_result(tmp_path / "many.zarr")["stem"].data_vars.values())
    assert size > 115e6
    assert many < 1.2 * few and many < 0.5 * size / 1e6


@pytest.mark.parametrize("held", [0, 64_000_000])
def test_an_exception_leaves_the_earlier_state(held, tmp_path, monkeypatch):
    monkeypatch.setattr("retinacodec.streaming._HELD_BYTES", held)
    monkeypatch.setattr("retinacodec.zarr_folder._CHUNK_BYTES", 20_000)
    whole = contributions()
    with pytest.raises(KeyError), streamed(tmp_path / "r.zarr") as writer:
        writer.append(part(whole, 0, 9))
        raise KeyError
    assert not list(tmp_path.iterdir())

    path = save(whole, tmp_path / "r.zarr")
    before = file_sha256(path)
    with pytest.raises(InputError, match="overwrite=True"), streamed(path):
        pytest.fail("the block must not run")
    with pytest.raises(KeyError), streamed(path, overwrite=True) as writer:
        writer.append(part(whole, 0, 9))
        raise KeyError
    with pytest.raises(InputError, match="at least one sample"), streamed(path, overwrite=True):
        pass
    assert file_sha256(path) == before and [one.name for one in tmp_path.iterdir()] == [path.name]

    write(part(whole, 0, 5), path, [2], overwrite=True)
    assert open_result(path).identical(part(whole, 0, 5))
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def without_layer(tree):
    return xr.DataTree.from_dict({"/": tree.to_dataset(), "/stem": tree["stem"].to_dataset(False)})


def changed(tree, **variables):
    tree = tree.copy()
    tree["stem"] = xr.DataTree(tree["stem"].to_dataset(False).assign(**variables))
    return tree


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_layer, r"node /blocks.0 is missing"),
        (lambda tree: changed(tree, other=("image", np.zeros(14))), "/stem other is new"),
        (
            lambda tree: contributions(channels=2),
            r"/stem contribution: expected shape \(2, 3, 4, 4",
        ),
        (lambda tree: contributions(maps=False), "/stem contribution: expected dims"),
        (
            lambda tree: changed(tree, residual=("image", np.zeros(14, np.float32))),
            "/stem residual: expected float64, got float32",
        ),
        (
            lambda tree: changed(tree, scale=("channel", np.zeros(3))),
            "/stem scale: its values differ",
        ),
    ],
)
def test_parts_that_do_not_fit_the_first_are_refused(change, message, tmp_path):
    whole = contributions()
    with (
        pytest.raises(InputError, match=message) as caught,
        streamed(tmp_path / "r.zarr") as writer,
    ):
        writer.append(part(whole, 0, 9))
        writer.append(change(part(whole, 9, 23)))
    assert "part 2 does not fit" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("result", "along", "message"),
    [
        (xr.Dataset({"v": ("y", [1.0])}), None, "along time or image, got none"),
        (xr.Dataset({"v": (("time", "image"), [[1.0]])}), None, "got time and image"),
        (xr.Dataset({"v": ("time", [1.0])}), "image", "no dimension 'image'"),
        (xr.Dataset({"v": (("y", "time"), [[1.0]])}), None, "time must be the first"),
        (
            xr.Dataset({"v": ("time", np.array(["2020-01-01"], "datetime64[ns]"))}),
            None,
            "expected numbers or texts",
        ),
    ],
)
def test_results_that_cannot_be_streamed_say_why(result, along, message, tmp_path):
    with (
        pytest.raises(InputError, match=message),
        streamed(tmp_path / "r.zarr", along=along) as writer,
    ):
        writer.append(result)
    with pytest.raises(InputError, match=r"ending in \.zarr"), streamed(tmp_path / "r.nc"):
        pytest.fail("the block must not run")
    with pytest.raises(InputError, match="no node /deep"), streamed(tmp_path / "n.zarr") as writer:
        writer.append(xr.Dataset({"v": ("time", [1.0])}))
        writer.finish(node_attrs={"deep": {"a": 1}})
    assert not list(tmp_path.iterdir())
