"""The command `explain`: the same table as the function, from every kind of file."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import xarray as xr

import retinacodec as rc
from retinacodec import analyses
from retinacodec.cli import main
from retinacodec.concept_tables import read_concepts
from retinacodec.errors import InputError, RecordingError
from retinacodec.schema import make_stimulus


def call(capsys, *words):
    """Run the command line here and return exit code, output and errors."""
    try:
        main([str(word) for word in words])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Loadings over time, and concepts that some of them follow."""
    folder = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    on = rng.random((4, 1200)) < 0.2
    loading = np.stack([on[0] & ~on[1], on[2] | on[3], rng.random(1200) < 0.2], axis=1) * 1.5
    time = np.arange(1200) / 30
    modes = xr.Dataset({"loading": (("time", "mode"), loading)}, {"time": time})
    rc.save(modes, folder / "modes.nc")
    names = ["step up", "step down", "saccade", "motion"]
    with (folder / "concepts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *names])
        writer.writerows([moment, *row] for moment, row in zip(time, on.T.astype(int), strict=True))
    np.savez(folder / "concepts.npz", **dict(zip(names, on, strict=True)))
    np.savez(folder / "named.npz", concept=np.array(names), values=on)
    array = xr.DataArray(on, {"event": names, "time": time}, ("event", "time"), name="event_on")
    rc.save(array, folder / "concepts.nc")
    return folder, modes, array.rename(event="concept")


@pytest.mark.parametrize("name", ["concepts.csv", "concepts.npz", "named.npz", "concepts.nc"])
def test_every_kind_of_file_gives_the_same_table(tables, name):
    folder, _, concepts = tables
    found = read_concepts(folder / name, dim="time")
    assert found["concept"].values.tolist() == concepts["concept"].values.tolist()
    np.testing.assert_array_equal(found.values, concepts.values)
    assert found.dims == ("concept", "time")


def test_command_gives_what_the_function_gives(capsys, tmp_path, tables):
    folder, modes, concepts = tables
    out, drawing = tmp_path / "table.csv", tmp_path / "figure.png"
    words = ["explain", folder / "modes.nc", folder / "concepts.csv", "--out", out]
    words += ["--figure", drawing, "--samples", 50, "--seed", 3]
    code, text, err = call(capsys, *words)
    assert code == 0, err
    assert drawing.stat().st_size > 10_000
    found = analyses.explain(
        analyses.mode_masks(modes), concepts, null=analyses.ShiftedMasks(50, least=40), seed=3
    )
    with out.open() as file:
        rows = {row["mask"]: row for row in csv.DictReader(file)}
    assert rows["0"]["formula"] == '"step up" AND NOT "step down"'
    assert rows["1"]["formula"] == "motion OR saccade"
    for mode in range(3):
        held = found.isel(mask=mode, length=2).sel(part="held out")
        assert float(rows[str(mode)]["held_out"]) == pytest.approx(float(held["score"]))
        assert float(rows[str(mode)]["p"]) == pytest.approx(float(held["p"]))
    assert "motion OR saccade" in text
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "overwrite" in err


def test_result_is_stored_whole(capsys, tmp_path, tables):
    folder, *_ = tables
    out = tmp_path / "found.nc"
    words = ["explain", folder / "modes.nc", folder / "concepts.npz", "--out", out, "--samples", 0]
    assert call(capsys, *words)[0] == 0
    found = rc.open_result(out)
    assert found.sizes["length"] == 3
    assert "p" not in found


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x,y\n1,2\n", "'y' holds '2'"),
        ("a.csv", "x,y\n1\n", "line 2 has 1 values"),
        ("a.csv", "x,x\n1,1\n", "one name"),
        ("a.csv", "x\n", "no rows"),
        ("a.csv", "time,x\nlate,1\n", "time or number"),
        ("a.npz", "nothing", "not an .npz"),
        ("a.csv", "time\n1\n", "one row of values"),
    ],
)
def test_bad_tables_say_where(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(RecordingError, match=message):
        read_concepts(tmp_path / name, dim="time")


def test_bad_arrays_and_names_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", one=np.arange(4))
    with pytest.raises(RecordingError, match="more than 0 and 1"):
        read_concepts(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", one=np.ones(4), two=np.ones(5))
    with pytest.raises(RecordingError, match="one row of values"):
        read_concepts(tmp_path / "b.npz")
    with pytest.raises(InputError, match=r"expected \.csv"):
        read_concepts(tmp_path / "a.txt")
    with pytest.raises(RecordingError, match="no such file"):
        read_concepts(tmp_path / "c.csv")


def test_bad_calls_end_in_one_line(capsys, tmp_path, tables):
    folder, *_ = tables
    short = tmp_path / "short.csv"
    short.write_text("x\n1\n0\n")
    for words, message in (
        ([folder / "modes.nc", short, "--out", tmp_path / "t.csv"], "2 rows for 1200"),
        ([folder / "modes.nc", short, "--out", tmp_path / "t.txt"], "out: expected"),
        (
            [folder / "modes.nc", short, "--out", tmp_path / "t.csv", "--figure", tmp_path / "f.x"],
            "figure: expected",
        ),
    ):
        code, _, err = call(capsys, "explain", *words)
        assert code == 2
        assert message in err
        assert len(err.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short.csv"]


@pytest.mark.parametrize("name", ["movie.nc", "movie.nwb"])
def test_concepts_of_a_movie_are_its_events(capsys, tmp_path, name):
    shown = np.zeros((600, 24, 24), np.float32)
    rng = np.random.default_rng(1)
    shown[:] = np.repeat(rng.choice([-0.5, 0.0, 0.5], 60), 10)[:, None, None]
    movie = make_stimulus(shown, frame_rate=30, pixel_um=50, name="steps")
    up = np.diff(shown[:, 0, 0], prepend=0) > 0
    loading = np.roll(up, 2).astype(float)[:, None]  # a mode that follows steps up by two frames
    modes = xr.Dataset({"loading": (("time", "mode"), loading)}, {"time": movie["time"]})
    rc.save(modes, tmp_path / "modes.nc")
    if name.endswith(".nwb"):
        rc.write_nwb(tmp_path / name, movie)
    else:
        rc.save(movie, tmp_path / name)
    words = ["--out", tmp_path / "t.csv", "--samples", 20, "--length", 1, "--least", 5]
    code, _, err = call(capsys, "explain", tmp_path / "modes.nc", tmp_path / name, *words)
    assert code == 0, err
    with (tmp_path / "t.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert "step up, 50-100 ms ago" in row["formula"] or "flash" in row["formula"]
    assert float(row["score"]) > 0.4
