"""The command ablate: the numbers of the functions, for a retina and for a classifier."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import retinacodec as rc
from retinacodec.cli import main
from retinacodec.models import DeepRetina, save_model

NETWORK = """
import torch
import retinacodec as rc


def make():
    model = torch.nn.Sequential(
        torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    return rc.Circuit(model.eval(), ["0"], sample="image", output="class")


def wrong():
    return 3
"""


def call(capsys, *words):
    """Run the command line here and return exit code, output and errors."""
    try:
        main([str(word) for word in words])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def modes_of(sample, loading, channels):
    atoms = np.zeros((loading.shape[1], 2, channels))
    atoms[:, 1] = np.eye(loading.shape[1], channels)
    return xr.Dataset(
        {
            "atom": (("mode", "sign", "channel"), atoms),
            "loading": ((sample, "mode"), loading),
        },
        {"mode": np.arange(loading.shape[1]), "sign": ["negative", "positive"]},
    )


def test_retina(tmp_path, capsys):
    torch.manual_seed(0)
    model = DeepRetina(2, size=(8, 8), history=4, channels=(3, 3), kernels=(3, 3)).eval()
    save_model(model, tmp_path / "model.safetensors")
    movie = rc.stimuli.white_noise(seconds=2, size=(8, 8), seed=0)
    rc.save(movie, tmp_path / "movie.nc")
    on = (np.random.default_rng(0).random((117, 3)) < 0.3) * 1.0
    modes = modes_of("time", on, 3)
    rc.save(modes, tmp_path / "modes.nc")
    names = ("model.safetensors", "movie.nc", "modes.nc")
    words = ["ablate", *(tmp_path / name for name in names), "conv2", "--share", "0.34"]
    code, _, err = call(capsys, *words, "--out", tmp_path / "out")
    assert code == 0, err
    table = pd.read_csv(tmp_path / "out" / "effects.csv")
    circuit = rc.Circuit(model, ["conv2"])
    expected = rc.analyses.mode_output_effects(
        circuit, movie, "conv2", modes, share=0.34, progress=False
    )
    assert table["contrast"].to_numpy() == pytest.approx(expected["contrast"].values.ravel())
    assert (tmp_path / "out" / "ablation.png").stat().st_size > 3000
    code, _, err = call(capsys, *words, "--out", tmp_path / "out")
    assert code == 2 and "effects.csv" in err and err.count("\n") == 1


def test_classifier(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small_network.py").write_text(NETWORK)
    labels = np.repeat(np.arange(4), 8)
    rng = np.random.default_rng(0)
    images = 0.3 * rng.random((32, 4, 3, 3)) + np.eye(4)[labels][:, :, None, None]
    np.savez(tmp_path / "images.npz", images=images.astype(np.float32), labels=labels)
    rc.save(modes_of("image", np.eye(4)[labels], 4), tmp_path / "modes.nc")
    words = ["small_network:make", "images.npz", "modes.nc", "0", "--out", "out"]
    code, out, err = call(capsys, "ablate", *words, "--trials", "3", "--images-each", "4")
    assert code == 0, err
    assert "relative_auc" in out
    curves = pd.read_csv("out/curves.csv")
    one = curves[(curves.selection == "modes") & (curves.direction == "ablate")]
    quarter = one[one.percent == 25].set_index("group")["ratio"]
    assert quarter.to_dict() == {"target": 0.0, "off": 1.0}
    for changed, message in (
        ("small_network:wrong", "must return a Circuit"),
        ("small_network:none", "cannot be had"),
        ("nothing", "module:function"),
    ):
        code, _, err = call(capsys, "ablate", changed, *words[1:4], "--out", "other")
        assert code == 2 and message in err and err.count("\n") == 1
    code, _, err = call(capsys, "ablate", words[0], "modes.nc", *words[2:4], "--out", "other")
    assert code == 2 and "npz" in err
