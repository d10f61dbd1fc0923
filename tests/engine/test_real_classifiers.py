"""Trained networks: right as often as known, complete at every block, mode maps that sum up."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import retinacodec as rc
from retinacodec.classification import classify
from retinacodec.classifiers import classifier, load_weights
from retinacodec.image_files import open_images
from retinacodec.local_maps import mode_maps
from retinacodec.preprocessing import CIFAR, TF

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def resnet(data_dir):
    from real_networks import _ResNet20

    model = load_weights(_ResNet20(), data_dir / "classifiers" / "resnet20-12fca82f.th")
    return classifier(model, preprocess=CIFAR)


@pytest.fixture(scope="module")
def mobile(data_dir):
    from mobilenet import mobilenet

    model = mobilenet(data_dir / "classifiers" / "mobilenet_v1_0.25_128_dequantised.npz")
    labels = data_dir / "classifiers" / "imagenet_labels.txt"
    return classifier(model, preprocess=replace(TF, size=128), labels=labels)


def test_accuracies_are_those_that_are_known(resnet, mobile, data_dir):
    source = open_images(data_dir / "cifar10" / "cifar10_test_jpg_1000.npz")
    found = classify(resnet, source.subset(250, seed=0), progress=False)
    assert float(found["accuracy_low"]) < 0.80 < float(found["accuracy_high"])
    photos = open_images(data_dir / "imagenet_photos").subset(100, seed=0)
    found = classify(mobile, replace(photos, labels=photos.labels + 1), progress=False)
    assert float(found["accuracy_low"]) < 0.475 < float(found["accuracy_high"])
    assert float(found["accuracy_top_low"]) < 0.74 < float(found["accuracy_top_high"])
    assert mobile.outputs[1] == "tench, Tinca tinca" and len(mobile.layers) == 13


def test_every_block_explains_the_whole_class(resnet, mobile, data_dir):
    small = open_images(data_dir / "cifar10" / "cifar10_test_jpg_1000.npz").subset(4, seed=1)
    large = open_images(data_dir / "imagenet_photos").subset(2, seed=1)
    for circuit, source in ((resnet, small), (mobile, large)):
        (part,) = source.batches(circuit.preprocess)
        parts = rc.contributions(circuit, part.images, rc.TopK(1), progress=False)
        change = abs(parts["value"] - parts["baseline_value"]).values
        for node in parts.children.values():
            assert (abs(node["residual"].values) < 2e-5 * change).all()
            assert node.attrs["full_cut"]
        first, last = (parts[circuit.layers[k].replace(".", "_")] for k in (0, -1))
        # the early block excites and inhibits with the same channels, the last does not
        early, late = (rc.analyses.sign_correlation(one).median() for one in (first, last))
        assert early > 0.8 > 0.3 > late


def test_a_mode_map_sums_to_the_contributions_of_its_channels(mobile, data_dir):
    (part,) = open_images(data_dir / "imagenet_photos").subset(2, seed=2).batches(mobile.preprocess)
    atoms = np.eye(64)[:2]
    asked = (mobile, part.images, atoms, rc.Margin())
    both = mode_maps(*asked, layer="blocks.4", channels=1, progress=False)
    single = mode_maps(*asked, layer="blocks.4", channels=1, batch=1, progress=False)
    np.testing.assert_allclose(both, single, atol=1e-5 * float(abs(both).max()))
    assert (both.sum(("channel", "y", "x")).sel(sign="positive") >= 0).all()
