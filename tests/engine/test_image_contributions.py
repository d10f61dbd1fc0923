"""Contributions streamed from a source of images equal those of all images at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import retinacodec as rc
from retinacodec.classifiers import classifier
from retinacodec.errors import InputError
from retinacodec.image_contributions import image_contributions
from retinacodec.preprocessing import Preprocess

PLAIN = Preprocess(None, mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="module")
def circuit():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    return classifier(model.eval(), preprocess=PLAIN)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(7):
        home = tmp_path / "set" / f"c{number % 3}"
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
            home / f"{number}.png"
        )
    return tmp_path / "set"


@pytest.mark.parametrize("target", [rc.TopK(1), rc.Margin(), rc.Entropy()], ids=repr)
def test_the_result_is_that_of_all_at_once(circuit, folder, tmp_path, target):
    from retinacodec.image_files import open_images

    (whole,) = open_images(folder).batches(PLAIN)
    wanted = rc.contributions(circuit, whole.images, target, activations=True, progress=False)
    found = image_contributions(
        circuit,
        folder,
        target,
        out=tmp_path / "parts.zarr",
        activations=True,
        held=3,
        progress=False,
    )
    assert found["label"].values.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert found["image"].values.tolist() == list(range(7))
    assert found.attrs["images"] == 7 and found.attrs["rule"] == wanted.attrs["rule"]
    for name, node in wanted.children.items():
        for quantity in ("contribution", "activation", "residual"):
            np.testing.assert_allclose(found[name][quantity], node[quantity], atol=1e-6)
        share = found[name].attrs["relative_residual"]
        assert share == pytest.approx(node.attrs["relative_residual"], abs=1e-6)
    found.close()


def test_a_broken_image_is_left_out_or_nothing_is_written(circuit, folder, tmp_path):
    (folder / "c1" / "1.png").write_text("no picture")
    out = tmp_path / "parts.zarr"
    with pytest.raises(InputError, match=r"1\.png"):
        image_contributions(circuit, folder, rc.TopK(1), out=out, held=2, progress=False)
    assert not out.exists()
    found = image_contributions(
        circuit, folder, rc.TopK(1), out=out, held=2, on_error="skip", progress=False
    )
    assert found["image"].values.tolist() == [0, 1, 2, 4, 5, 6]
    found.close()


def test_what_depends_on_all_images_is_refused(circuit, folder, tmp_path):
    out = tmp_path / "parts.zarr"
    with pytest.raises(InputError, match="may depend on all images"):
        image_contributions(circuit, folder, rc.Surprisal(), out=out, progress=False)
    rule = rc.Secant(2, baseline=rc.MeanFrame())
    with pytest.raises(InputError, match="depends on the other images"):
        image_contributions(circuit, folder, rc.TopK(1), out=out, rule=rule, progress=False)
