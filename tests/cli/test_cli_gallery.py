"""The page of a classifier: its numbers are those of the functions, its files whole."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

from retinacodec.analyses import class_gallery
from retinacodec.classification import classify
from retinacodec.classifiers import classifier
from retinacodec.cli import main
from retinacodec.image_files import open_images
from retinacodec.named_networks import load_network
from retinacodec.preprocessing import TF
from retinacodec.report import format_number

NETWORK = '''
"""A network of two convolutions."""
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 6, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )
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
def home(tmp_path_factory):
    """A network in a file and twenty noisy pictures of three colours."""
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (20, 24, 24, 3))
    labels = np.arange(20) % 3
    for picture, label in zip(images, labels, strict=True):
        picture[8:16, 8:16, label] += 130
    classes = np.array(["<red>", "green", "blue"])
    np.savez(folder / "set.npz", images=images.astype(np.uint8), labels=labels, classes=classes)
    return folder


def test_the_page_says_what_the_functions_return(home, tmp_path, capsys):
    net, out = f"{home / 'net.py'}:make", tmp_path / "new"
    (home / "labels.txt").write_text("<red>\ngreen\nblue\n")
    words = ["classify", net, home / "set.npz", "--preprocess", "tf", "--size", "24"]
    save_file(load_network(net).state_dict(), home / "net.safetensors")
    words += ["--weights", home / "net.safetensors"]
    words += ["--labels", home / "labels.txt", "--out", out, "--seed", "3", "--depth", "8"]
    words += ["--gallery", "16", "--modes", "3", "--layer", "1"]
    code, said, err = call(capsys, *words)
    assert code == 0, err
    assert said.strip().endswith("gallery.html")
    way = TF.__class__(24, mean=TF.mean, scale=TF.scale)
    circuit = classifier(load_network(net), preprocess=way, labels=["<red>", "green", "blue"])
    source = open_images(home / "set.npz")
    seen = classify(circuit, source, progress=False)
    some = source.subset(16, seed=3)
    wanted = class_gallery(circuit, some, layer="1", modes=3, seed=3, progress=False)
    page = (out / "gallery.html").read_text(encoding="utf-8")
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert f"accuracy {format_number(float(seen['accuracy']))}" in text
    assert f"R² of the modes {format_number(wanted.attrs['r2'])}" in text
    assert "20 images classified. In 16 images the contributions of the channels of “1”" in text
    digest = hashlib.sha256((home / "net.safetensors").read_bytes()).hexdigest()
    assert digest in text
    least = max(0.9, wanted.attrs["stability_null"])
    again = int((wanted["stability"] > least).sum())
    assert f"{again} found again from other seeds (cosine &gt; {least:.2f})" in text
    # too few images for an interval of R2: none is said
    assert np.isnan(wanted.attrs["r2_low"]) and "– to –" not in text
    assert page.count("data:image/png;base64,") == 2
    assert "<red>" not in page and "http" not in re.sub(r"http-equiv", "", page)
    table = pd.read_csv(out / "gallery_modes.csv")
    assert table["top_class"].tolist() == wanted["top_class"].values.tolist()
    for name in ("share", "top_correlation", "p", "q", "stability"):
        np.testing.assert_allclose(table[name], wanted[name], rtol=1e-5)
        assert all(format_number(float(one)) in text for one in wanted[name].values)
    for name in ("gallery.png", "gallery.pdf"):
        assert (out / name).stat().st_size > 5000
    (out / "predictions.csv").unlink()
    (out / "depth.png").unlink()
    (out / "depth.csv").unlink()
    code, _, err = call(capsys, *words)
    assert code == 2 and "gallery.html" in err and not (out / "predictions.csv").exists()


def test_bad_calls_are_refused_before_the_work(home, tmp_path, capsys):
    net, out = f"{home / 'net.py'}:make", tmp_path / "none"
    for words, message in (
        (["--gallery", "16"], "--out"),
        (["--layer", "1"], "--gallery"),
        (["--gallery", "6", "--out", out], "at least 10 images"),
        (["--gallery", "-1", "--out", out], "got -1"),
        (["--gallery", "16", "--layer", "7x", "--out", out], "7x"),
    ):
        code, said, err = call(capsys, "classify", net, home / "set.npz", *words)
        assert code == 2 and message in err and err.count("\n") == 1, (words, err)
        assert "top-1" not in said and not out.exists()
