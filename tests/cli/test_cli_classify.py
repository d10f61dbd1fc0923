"""The command for classifiers: the numbers of the functions, files whole or not at all."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from retinacodec.classification import classify
from retinacodec.classifiers import classifier
from retinacodec.cli import main
from retinacodec.preprocessing import TF

NETWORK = '''
"""A network of three convolutions."""
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 6, 3, 2), nn.ReLU(),
        nn.Conv2d(6, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )

def wrong():
    return 3
'''


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
    """A network in a file, its weights, twelve pictures of three classes, and labels."""
    home = tmp_path_factory.mktemp("classify")
    (home / "net.py").write_text(NETWORK)
    (home / "labels.txt").write_text("red\ngreen\nblue\n")
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = home / "set" / "rgb"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
    torch.manual_seed(5)
    space: dict = {}
    exec(NETWORK, space)
    model = space["make"]()
    for one in model.parameters():
        nn.init.normal_(one)
    torch.save(model.state_dict(), home / "net.pth")
    torch.jit.save(torch.jit.script(model.eval()), home / "net.pt")
    return home, model


def test_predictions_and_curves_are_those_of_the_functions(files, tmp_path, capsys):
    home, model = files
    out = tmp_path / "new"
    words = ["classify", f"{home / 'net.py'}:make", home / "set", "--weights", home / "net.pth"]
    words += ["--preprocess", "tf", "--size", "32", "--labels", home / "labels.txt"]
    words += ["--out", out, "--depth", "8"]
    code, said, err = call(capsys, *words)
    assert code == 0, err
    way = TF.__class__(32, mean=TF.mean, scale=TF.scale)
    circuit = classifier(model, preprocess=way, labels=["red", "green", "blue"])
    wanted = classify(circuit, home / "set", progress=False)
    assert f"top-1: {float(wanted['accuracy']):.1%}" in said and "12 images, 0 left out" in said
    with (out / "predictions.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["class_1"] for row in rows] == wanted["prediction"].values[:, 0].tolist()
    shares = [float(row["probability_1"]) for row in rows]
    np.testing.assert_allclose(shares, wanted["probability"].values[:, 0], rtol=1e-4)
    # folders b, g, r are classes 0, 1, 2
    assert [row["label"] for row in rows] == ["red"] * 4 + ["green"] * 4 + ["blue"] * 4
    table = pd.read_csv(out / "depth.csv")
    assert len(table) == 6 and set(table["quantity"]) == {"contribution", "activation"}
    assert table["hoyer"].between(0, 1).all()
    assert (out / "depth.png").stat().st_size > 10_000
    code, _, err = call(capsys, *words)
    assert code == 2 and "predictions.csv" in err and err.count("\n") == 1


def test_a_scripted_network_is_classified_without_layers(files, capsys):
    home, _ = files
    words = [home / "net.pt", home / "set", "--preprocess", "tf", "--size", "32"]
    code, said, err = call(capsys, "classify", *words, "--first", "5")
    assert code == 0, err
    assert "5 images" in said and "top-3" in said
    code, _, err = call(capsys, "classify", *words, "--depth", "4", "--out", home / "out")
    assert code == 2 and "pass layers=" in err


def test_bad_calls_are_one_line(files, tmp_path, capsys):
    home, _ = files
    net, pictures = f"{home / 'net.py'}:make", home / "set"
    for words, message in (
        ([f"{home / 'net.py'}:none", pictures], "no 'none'"),
        ([f"{home / 'net.py'}:wrong", pictures], "made int"),
        (["nowhere_to_be_found:make", pictures], "cannot import"),
        ([home / "labels.txt", pictures], "expected module:function"),
        ([home / "net.pth", pictures], "expected module:function"),
        ([net, home / "none"], "expected a folder"),
        ([net, pictures, "--weights", home / "net.pt"], "net.pt"),
        ([net, pictures, "--depth", "4"], "--out"),
        ([net, pictures, "--first", "13"], "1 to 12"),
    ):
        code, _, err = call(capsys, "classify", *words)
        assert code == 2 and message in err and err.count("\n") == 1, (words, err)
