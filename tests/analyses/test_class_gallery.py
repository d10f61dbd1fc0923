"""Modes of a classifier in pictures: a network whose contributions are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from retinacodec.analyses import class_gallery, class_gallery_figure, draw_mode_pictures
from retinacodec.classifiers import classifier
from retinacodec.errors import InputError
from retinacodec.image_files import image_arrays
from retinacodec.plotting import figure
from retinacodec.preprocessing import Preprocess
from retinacodec.rules import Secant

NAMES = ("red", "green", "blue")
SIDE = 16


@pytest.fixture(scope="module")
def circuit():
    """Channels that each copy one colour; the logit of a class is the sum of its colour."""
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 3, bias=False),
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3)[:, :, None, None])
        model[4].weight.copy_(SIDE**2 * torch.eye(3))
    return classifier(model.eval(), ["1"], preprocess=Preprocess(size=None), labels=NAMES)


@pytest.fixture(scope="module")
def pictures():
    """Black pictures with a square of one colour, and where it is."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    corner = rng.integers(0, SIDE - 6, (30, 2))
    values = np.zeros((30, SIDE, SIDE, 3), np.uint8)
    for picture, label, (y, x) in zip(values, labels, corner, strict=True):
        picture[y : y + 6, x : x + 6, label] = rng.integers(60, 256)
    return values, labels, corner


@pytest.fixture(scope="module")
def gallery(circuit, pictures):
    source = image_arrays(pictures[0], pictures[1])
    return class_gallery(circuit, source, modes=3, channels=1, progress=False)


def test_modes_are_the_colours_and_their_classes(gallery, pictures):
    values, labels, _ = pictures
    assert gallery.attrs["layer"] == "1" and gallery.attrs["classes"] == "true"
    assert gallery.attrs["relative_residual"] < 1e-5 and gallery.attrs["r2"] > 0.99
    assert sorted(gallery["top_class"].values) == sorted(NAMES)
    logits = values.sum((1, 2)) / 255
    for mode in gallery["mode"].values:
        row = gallery.sel(mode=mode)
        label = NAMES.index(row["top_class"].item())
        r = scipy.stats.pearsonr(logits[:, label], labels == label).statistic
        assert float(row["top_correlation"]) == pytest.approx(r, abs=1e-4)
        # what is contributed is the logit itself
        loading = row["loading"].values
        assert scipy.stats.pearsonr(loading, logits[:, label]).statistic > 1 - 1e-6
        best = np.argsort(-logits[:, label], kind="stable")[:3]
        shown = row["best_image"].values
        np.testing.assert_array_equal(logits[shown, label], logits[best, label])
        np.testing.assert_allclose(row["best_loading"], loading[shown], rtol=1e-6)
    # three modes and three classes of one size: no shuffled order is as good as the true one
    assert (gallery["p"] == gallery.attrs["p_least"]).all() and (gallery["p"] < 0.02).all()
    assert (gallery["q"] < 0.05).all()


@pytest.mark.parametrize("rule", [None, Secant(2)], ids=["local", "path"])
def test_masks_show_the_square_and_nothing_else(circuit, pictures, gallery, rule):
    values, labels, corner = pictures
    if rule is not None:
        source = image_arrays(values, labels)
        options = {"modes": 3, "channels": 1, "map_rule": rule, "progress": False}
        gallery = class_gallery(circuit, source, **options)
    for mode in range(3):
        for place, picture, mask in zip(
            *(gallery[name].values[mode] for name in ("best_image", "picture", "mask")),
            strict=True,
        ):
            y, x = corner[place]
            np.testing.assert_allclose(picture, values[place] / 255, atol=1e-6)
            np.testing.assert_allclose(mask[y + 2 : y + 4, x + 2 : x + 4], 1)
            away = np.ones((SIDE, SIDE), dtype=bool)
            away[max(y - 2, 0) : y + 8, max(x - 2, 0) : x + 8] = False
            assert not mask[away].any()


def test_the_gain_is_that_of_the_masks(circuit, pictures, gallery):
    options = {"modes": 3, "channels": 1, "gain": 0.5, "progress": False}
    faint = class_gallery(circuit, image_arrays(pictures[0], pictures[1]), **options)["mask"]
    assert float(faint.max()) == 0.5
    np.testing.assert_allclose(gallery["mask"], (14 * faint).clip(0, 1), atol=1e-5)


def test_a_mode_active_in_fewer_images_leaves_places_empty(circuit, pictures):
    values, labels, _ = pictures
    kept = np.flatnonzero((labels != 2) | (np.arange(30) < 3))
    found = class_gallery(circuit, image_arrays(values[kept]), modes=3, channels=1, progress=False)
    assert found.attrs["classes"] == "seen" and "true" not in found.coords
    blue = int(np.flatnonzero(found["top_class"].values == "blue")[0])
    assert (found["best_image"].values[blue] >= 0).tolist() == [True, False, False]
    assert np.isnan(found["best_loading"].values[blue, 1:]).all()
    axes = list(figure().subplots(1, 6))
    draw_mode_pictures(found, blue, axes)
    assert [len(ax.images) for ax in axes] == [1, 1, 0, 0, 0, 0]
    assert axes[0].get_title() == "blue"


def test_the_figure_holds_every_picture(gallery):
    made = class_gallery_figure(gallery)
    assert sum(len(ax.images) for ax in made.axes) == 18
    said = " ".join(text.get_text() for ax in made.axes for text in ax.texts)
    assert all(name in said for name in NAMES) and "Mode 2" in said


def test_bad_calls(circuit, pictures, gallery):
    values = pictures[0]
    with pytest.raises(InputError, match="at least 20 images for 10 modes, got 12"):
        class_gallery(circuit, values[:12], modes=10, progress=False)
    with pytest.raises(InputError, match=r"best: .*got 0"):
        class_gallery(circuit, values, best=0, progress=False)
    with pytest.raises(InputError, match="nowhere"):
        class_gallery(circuit, values, layer="nowhere", progress=False)
    with pytest.raises(InputError, match="expected 6 axes, got 2"):
        draw_mode_pictures(gallery, 0, list(figure().subplots(1, 2)))
