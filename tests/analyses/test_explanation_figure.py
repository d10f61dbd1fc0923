"""Figures of explanations: what is drawn is what was found."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses.concept_masks import pixel_concepts
from retinacodec.analyses.explained_masks import channel_masks
from retinacodec.analyses.explanation_figure import (
    draw_explained_image,
    draw_explanations,
    explanation_gallery,
    explanation_rows,
    explanation_words,
    explanations_figure,
)
from retinacodec.analyses.explanations import explain
from retinacodec.errors import InputError


@pytest.fixture(scope="module")
def explained():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (30, 6, 8)).repeat(2, 1).repeat(2, 2)
    concepts = pixel_concepts(labels, {0: "sky", 1: "road", 2: "tree", 3: "car"}, stride=2)
    maps = np.stack([(labels == k) + rng.random(labels.shape) for k in (0, 2)], 1)
    maps = np.concatenate([maps, np.zeros_like(maps[:, :1])], 1)
    activation = xr.DataArray(maps, dims=("image", "channel", "y", "x"))
    masks = channel_masks(activation, like=concepts, share=0.1)
    return explain(masks, concepts, progress=False), masks, labels / 4


def test_lines_are_the_means(explained):
    found, _, _ = explained
    _, ax = plt.subplots()
    draw_explanations(found, ax, lengths=[1, 3])
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    known = found.isel(mask=[0, 1]).sel(length=[1, 3])
    for part in ("fitted", "held out"):
        expected = known["score"].sel(part=part).mean("mask")
        np.testing.assert_allclose(lines[f"mean, {part}"], expected)
    chance = known["null_mean"].sel(part="held out").mean("mask")
    np.testing.assert_allclose(lines["chance"], chance)
    assert ax.get_ylabel() == "IoU"
    plt.close("all")
    with pytest.raises(InputError, match="lengths"):
        draw_explanations(found, ax, lengths=[9])
    with pytest.raises(InputError, match="no mask"):
        draw_explanations(found.isel(mask=[2]), ax)


def test_rows_are_sorted_and_say_why_a_mask_is_left_out(explained):
    found, _, _ = explained
    rows = explanation_rows(found)
    assert rows[0]["held_out"] >= rows[1]["held_out"]
    assert {rows[0]["concept"], rows[1]["concept"]} == {"sky", "tree"}
    assert rows[2]["mask"] == "2"
    assert rows[2]["reason"] == "not explained: never on"
    words = explanation_words(found, most=2).splitlines()
    assert words[0].split()[:2] == ["mask", "fitted"]
    assert words[-1] == "... and 1 more"


def test_gallery_and_table_hold_every_mask(explained):
    found, masks, pictures = explained
    gallery = explanation_gallery(found, masks, pictures, chosen=["0", "1"], images=3)
    titles = [text.get_text() for ax in gallery.axes for text in ax.texts]
    assert [title.split(":")[0] for title in titles] == ["0", "1"]
    assert len(gallery.axes) == 6
    drawing = explanations_figure(found)
    words = [text.get_text() for text in drawing.axes[1].texts]
    assert str(found["formula"].values[0, -1]) in words
    with pytest.raises(InputError, match="names of masks"):
        explanation_gallery(found, masks, pictures, chosen=["9"])
    with pytest.raises(InputError, match="pictures"):
        explanation_gallery(found, masks, pictures[:5])
    plt.close("all")


def test_image_is_dimmed_where_the_mask_is_off():
    _, ax = plt.subplots()
    mask = np.array([[True, False]])
    draw_explained_image(ax, np.ones((4, 4)), mask)
    drawn = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(drawn[:, :2], 1.0)
    np.testing.assert_allclose(drawn[:, 2:], 0.6)
    plt.close("all")
