"""Depth curves of a classifier: single numbers by hand, planted sparsity, class means, pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from sklearn.decomposition import PCA
from torch import nn

import retinacodec as rc
from retinacodec.analyses import compare_quantities, depth_curves, depth_overview
from retinacodec.analyses.map_pictures import draw_masked, map_mask, masked_picture
from retinacodec.classifiers import classifier
from retinacodec.errors import InputError

CLASSES = 4


@pytest.fixture(scope="module")
def circuit():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, CLASSES))
    return classifier(model.eval())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)


LABELS = np.tile(np.arange(CLASSES), 10)


@pytest.fixture(scope="module")
def curves(circuit, images):
    return depth_curves(circuit, images, rc.TopK(1), labels=LABELS, draws=40, progress=False)


def test_every_number_is_that_of_the_definitions(circuit, images, curves):
    parts = rc.contributions(circuit, images, rc.TopK(1), activations=True, progress=False)
    for number, name in enumerate(("1", "3")):
        split = parts[name]["contribution"].transpose("image", "sign", "channel").values
        active = parts[name]["activation"].transpose("image", "sign", "channel").values
        for quantity, rows in (("contribution", split.sum(1)), ("activation", active[:, 1])):
            rows = rows.astype(np.float64)
            one = curves.sel(quantity=quantity).isel(layer=number)
            d = rows.shape[1]
            ratio = np.abs(rows).sum(1) / np.linalg.norm(rows, axis=1)
            assert float(one["hoyer"]) == pytest.approx(
                np.median((np.sqrt(d) - ratio) / (np.sqrt(d) - 1)), abs=1e-5
            )
            fourth = (rows**4).sum(1) / (rows**2).sum(1) ** 2
            assert float(one["kappa4"]) == pytest.approx(np.median(fourth), rel=1e-5)
            assert float(one["participation"]) == pytest.approx(np.median(1 / fourth), rel=1e-5)
            share = np.cumsum(PCA().fit(rows).explained_variance_ratio_)
            assert int(one["dimensions"]) == int(np.argmax(share >= 0.95)) + 1
            means = np.stack([rows[label == LABELS].mean(0) for label in range(CLASSES)])
            share = np.cumsum(PCA().fit(means).explained_variance_ratio_)
            assert int(one["class_dimensions"]) == int(np.argmax(share >= 0.95)) + 1
            assert float(one["hoyer_low"]) <= float(one["hoyer"]) <= float(one["hoyer_high"])
        signs = [-np.corrcoef(a, b)[0, 1] for a, b in split.transpose(0, 1, 2)]
        one = curves.sel(quantity="contribution").isel(layer=number)
        assert float(one["sign_correlation"]) == pytest.approx(np.median(signs), abs=1e-5)
    assert curves.attrs["images"] == 40 and curves.attrs["classes"] == CLASSES
    assert "TopK" in curves.attrs["target"]


def test_contributions_computed_before_give_the_same(circuit, images, curves):
    parts = rc.contributions(circuit, images, rc.TopK(1), activations=True, progress=False)
    again = depth_curves(circuit, parts, labels=LABELS, draws=40)
    for name in ("hoyer", "dimensions", "class_dimensions", "hoyer_low", "difference_hoyer"):
        np.testing.assert_allclose(again[name], curves[name], atol=1e-6)


def test_one_image_a_class_has_no_class_means_of_its_own(circuit, images):
    some = depth_curves(
        circuit, images[:4], rc.TopK(1), labels=np.arange(4), draws=10, progress=False
    )
    assert "class_dimensions" not in some and (some["dimensions"] <= 3).all()
    with pytest.raises(InputError, match="expected a target"):
        depth_curves(circuit, images)


def test_each_quantity_may_have_its_part(circuit, images):
    parts = rc.contributions(circuit, images, rc.TopK(1), activations=True, progress=False)
    both = compare_quantities(parts, part=("positive", "net"), draws=5)
    alone = compare_quantities(parts, part="positive", draws=5)
    np.testing.assert_allclose(
        both["hoyer"].sel(quantity="contribution"), alone["hoyer"].sel(quantity="contribution")
    )
    with pytest.raises(InputError, match="expected one, or 2"):
        compare_quantities(parts, part=("net",), draws=5)


def test_the_overview_has_a_row_a_network_and_no_empty_panel(curves):
    made = depth_overview({"small": curves, "bare": curves.drop_vars("class_dimensions")})
    axes = [ax for part in made.subfigs for ax in part.axes]
    assert len(axes) == 10 and [bool(ax.lines) for ax in axes] == [True] * 9 + [False]
    assert not axes[9].axison
    heights = axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(heights, curves["hoyer"].sel(quantity="contribution"))
    assert axes[0].get_ylabel() == "Hoyer sparsity" and axes[0].get_xlabel() == "Block"
    with pytest.raises(InputError, match="at least one network"):
        depth_overview({})


def test_a_mask_follows_its_equation():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 12, 10))
    wanted = np.mean([median_filter(np.abs(one), size=4) for one in maps], axis=0)
    wanted = (wanted - wanted.min()) / (wanted - wanted.min()).max()
    np.testing.assert_allclose(map_mask(maps), np.clip(7 * wanted, 0, 1))
    single = np.abs(maps).max(0)
    single = (single - single.min()) / (single - single.min()).max()
    np.testing.assert_allclose(map_mask(maps, window=1, gain=1, colour="max"), single)
    assert not map_mask(np.zeros((3, 4, 4))).any()
    picture = rng.random((12, 10, 3))
    np.testing.assert_allclose(
        masked_picture(picture, wanted), np.einsum("yxc,yx->yxc", picture, wanted)
    )


def test_a_masked_picture_is_drawn_or_refused():
    import matplotlib.pyplot as plt

    made, ax = plt.subplots()
    picture = np.random.default_rng(0).random((8, 8, 3))
    maps = np.random.default_rng(1).normal(size=(3, 8, 8))
    draw_masked(picture, maps, ax, title="mode 3")
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shown, masked_picture(picture, map_mask(maps)))
    plt.close(made)
    with pytest.raises(InputError, match="one map"):
        map_mask(maps[None])
    with pytest.raises(InputError, match=r"NaN.*window.*gain.*colour"):
        map_mask(maps * np.nan, window=0, gain=0, colour="sum")
    with pytest.raises(InputError, match="mask"):
        masked_picture(picture, np.ones((4, 4)))
