"""The command compare: the same scores as the functions, held-out frames, one-line refusals."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pynwb
import pytest
from pynwb.image import ImageSeries
from pynwb.misc import Units

import retinacodec as rc
from retinacodec.cli import main
from retinacodec.models import CircuitRetina, DeepRetina, save_model
from retinacodec.recordings import split_blocks

FRAMES, HISTORY = 1200, 10


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
def files(tmp_path_factory):
    """A small simulated recording, and two untrained networks of different histories."""
    folder = tmp_path_factory.mktemp("compare")
    movie = rc.stimuli.white_noise(seconds=20, size=(6, 6), seed=0)
    assert movie.sizes["time"] == FRAMES
    retina = CircuitRetina(size=(6, 6), cells=3)
    rc.write_nwb(folder / "cells.nwb", movie, retina.simulate(movie, seed=0))
    for name, history in (("one", HISTORY), ("two", 12)):
        network = DeepRetina(3, size=(6, 6), history=history, channels=(2, 2), kernels=(3, 3))
        save_model(network.eval(), folder / f"{name}.safetensors")
    return folder


def test_scores_are_those_of_the_functions_on_held_out_frames(files, tmp_path, capsys):
    path = files / "cells.nwb"
    words = ["compare", path, files / "one.safetensors", "--out", tmp_path, "--draws", "50"]
    code, out, err = call(capsys, *words)
    assert code == 0, err
    test = split_blocks(FRAMES, history=HISTORY).test
    assert f"scored on {test.size} held-out frames" in out
    assert "\none - LN\n" in out and "\nLN - GLM\n" in out
    assert max(map(len, out.splitlines())) <= 100
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert set(table["model"]) == {"one", "LN", "GLM"} and len(table) == 9
    movie, cells = rc.read_stimulus(path), rc.read_nwb(path)
    split = split_blocks(FRAMES, history=HISTORY)
    rate = rc.analyses.fit_ln(movie, cells, split, history=HISTORY).predict(movie)
    scores = rc.analyses.compare_models({"LN": rate}, cells, test, draws=2)
    mine = table[table["model"] == "LN"]["r"].to_numpy()
    assert mine == pytest.approx(scores["r"].values[0], rel=1e-6, nan_ok=True)
    assert (tmp_path / "comparison.pdf").stat().st_size > 5000
    code, _, err = call(capsys, *words)
    assert code == 2 and "comparison.csv" in err and err.count("\n") == 1


def test_all_frames_are_scored_only_when_asked_for(files, capsys):
    given = ["compare", files / "cells.nwb", files / "one.safetensors", "--no-ln", "--no-glm"]
    code, out, err = call(capsys, *given, "--all-frames", "--draws", "20")
    assert code == 0, err
    assert "scored on all frames, also those" in out
    assert f"{FRAMES - HISTORY + 1} frames in" in out


def test_a_movie_that_repeats_is_said(files, tmp_path, capsys):
    once = rc.stimuli.white_noise(seconds=4, size=(4, 4), seed=3)
    movie = once.isel(time=np.tile(np.arange(once.sizes["time"]), 5))
    movie = movie.assign_coords(time=np.arange(movie.sizes["time"]) / 60)
    recording = CircuitRetina(size=(4, 4), cells=2).simulate(movie, seed=0)
    rc.write_nwb(tmp_path / "again.nwb", movie, recording)
    brief = ["--no-glm", "--history", "6", "--draws", "20"]
    code, out, _ = call(capsys, "compare", tmp_path / "again.nwb", *brief)
    test = split_blocks(1200, history=6).test.size
    assert code == 0 and f"{test} of {test} test windows repeat what was trained on" in out
    code, out, _ = call(capsys, "compare", files / "cells.nwb", *brief)
    assert code == 0 and "repeat" not in out


def test_outputs_belong_to_the_cells_in_their_order_whatever_their_names(files, tmp_path, capsys):
    movie, cells = (read(files / "cells.nwb") for read in (rc.read_stimulus, rc.read_nwb))
    turned = cells.assign_coords(cell=["2", "0", "1"])
    rc.write_nwb(tmp_path / "turned.nwb", movie, turned)
    tables = []
    for path in (files / "cells.nwb", tmp_path / "turned.nwb"):
        out = tmp_path / path.stem
        given = ["compare", path, files / "one.safetensors", "--no-ln", "--no-glm", "--draws", "20"]
        code, _, err = call(capsys, *given, "--out", out)
        assert code == 0, err
        tables.append(pd.read_csv(out / "comparison.csv")["r"])
    np.testing.assert_allclose(*tables)


def test_bad_calls_are_one_line(files, capsys):
    path = files / "cells.nwb"
    for words, message in (
        ([path, "--no-ln", "--no-glm"], "expected a model or a baseline"),
        ([path, files / "none.safetensors"], "none"),
        ([path, files / "one.safetensors", files / "one.safetensors"], "called one"),
    ):
        code, _, err = call(capsys, "compare", *words)
        assert code == 2 and message in err and err.count("\n") == 1


def test_any_laboratory_file_is_compared_with_the_settings_of_the_other_commands(
    foreign, tmp_path, capsys
):
    """Bars of (row, column), no size of pixels, two tables of units, a folder that is not yet."""
    given = ["compare", foreign, "--no-glm", "--history", "4", "--draws", "20"]
    code, _, err = call(capsys, *given)
    assert code == 1 and err.count("\n") == 1 and "pixel_um=" in err
    reading = ["--units", "units", "--pixel-um", "40", "--spatial-order", "yx"]
    code, _, err = call(capsys, *given, *reading, "--out", tmp_path / "new" / "folder")
    assert code == 0, err
    assert (tmp_path / "new" / "folder" / "comparison.csv").is_file()
    movie = rc.read_stimulus(foreign, pixel_um=40, spatial_order="yx")
    assert dict(movie.sizes) == {"time": 600, "y": 4, "x": 6}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A file as other laboratories write them."""
    path = tmp_path_factory.mktemp("foreign") / "cells.nwb"
    rng = np.random.default_rng(0)
    nwb = pynwb.NWBFile("two tables of units", "foreign", datetime(2020, 1, 1, tzinfo=UTC))
    frames = rng.integers(0, 256, (600, 4, 6), dtype=np.uint8)
    film = {"unit": "n.a.", "format": "raw", "starting_time": 0.0, "rate": 30.0}
    nwb.add_stimulus(ImageSeries(name="noise", data=frames, **film))
    other = Units(name="again", description="the same, sorted by another program")
    for cell in range(2):
        times = np.sort(rng.uniform(0, 20, 400))
        nwb.add_unit(spike_times=times, id=cell)
        other.add_unit(spike_times=times, id=cell)
    nwb.create_processing_module("ecephys", "sorting").add(other)
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return path
