"""The command compare: the same scores as the functions, held-out frames, one-line refusals."""

import pandas as pd
import pytest

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
    movie = rc.stimuli.white_noise(seconds=20, size=(8, 8), seed=0)
    assert movie.sizes["time"] == FRAMES
    retina = CircuitRetina(size=(8, 8), cells=3)
    rc.write_nwb(folder / "cells.nwb", movie, retina.simulate(movie, seed=0))
    for name, history in (("one", HISTORY), ("two", 12)):
        network = DeepRetina(3, size=(8, 8), history=history, channels=(2, 2), kernels=(3, 3))
        save_model(network.eval(), folder / f"{name}.safetensors")
    return folder


def test_scores_are_those_of_the_functions_on_held_out_frames(files, tmp_path, capsys):
    path = files / "cells.nwb"
    words = ["compare", path, files / "one.safetensors", "--out", tmp_path, "--draws", "50"]
    code, out, err = call(capsys, *words)
    assert code == 0, err
    test = split_blocks(FRAMES, history=HISTORY).test
    assert f"scored on {test.size} held-out frames" in out
    assert "one - LN, r:" in out and "LN - GLM" in out
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


def test_bad_calls_are_one_line(files, capsys):
    path = files / "cells.nwb"
    for words, message in (
        ([path, "--no-ln", "--no-glm"], "expected a model or a baseline"),
        ([path, files / "none.safetensors"], "none"),
        ([path, files / "one.safetensors", files / "one.safetensors"], "called one"),
    ):
        code, _, err = call(capsys, "compare", *words)
        assert code == 2 and message in err and err.count("\n") == 1
