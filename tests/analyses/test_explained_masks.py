"""Masks and concepts against torch's interpolation, numpy's quantiles and sets written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from retinacodec.analyses.concept_masks import attribute_concepts, label_concepts, pixel_concepts
from retinacodec.analyses.explained_masks import (
    channel_masks,
    map_masks,
    mode_masks,
    resample_map,
)
from retinacodec.errors import InputError

DIMS = ("image", "channel", "y", "x")


def test_interpolation_is_that_of_torch():
    maps = np.random.default_rng(0).normal(size=(3, 5, 7))
    for shape in ((20, 21), (5, 7), (13, 50), (3, 4)):
        expected = torch.nn.functional.interpolate(
            torch.tensor(maps)[None], size=shape, mode="bilinear", align_corners=False
        )[0].numpy()
        places = [(np.arange(size) + 0.5) / size for size in shape]
        np.testing.assert_allclose(resample_map(maps, *places), expected, atol=1e-12)
    one = resample_map(maps[:, :1, :1], [0.1, 0.9], [0.5])
    np.testing.assert_allclose(one, np.repeat(maps[:, :1, :1], 2, axis=1))


def test_channel_masks_are_the_top_share_of_interpolated_maps():
    rng = np.random.default_rng(1)
    maps = xr.DataArray(rng.normal(size=(4, 3, 6, 8)), dims=DIMS)
    concepts = pixel_concepts(rng.integers(0, 3, (4, 24, 32)), {0: "a", 1: "b"}, stride=3)
    masks = channel_masks(maps, like=concepts, share=0.05)
    assert masks.dims == ("mask", "position")
    np.testing.assert_array_equal(masks["y"], concepts["y"])
    full = torch.nn.functional.interpolate(
        torch.tensor(maps.values), size=(24, 32), mode="bilinear", align_corners=False
    ).numpy()
    here = (concepts["image"].values, slice(None), concepts["y"].values, concepts["x"].values)
    values = full[here].T
    count = round(0.05 * values.shape[1])
    for channel in range(3):
        expected = values[channel] >= np.sort(values[channel])[-count]
        np.testing.assert_array_equal(masks.values[channel], expected)
        assert masks.values[channel].sum() == count


def test_channel_masks_without_concepts_lie_on_the_maps():
    values = np.random.default_rng(2).normal(size=(10, 2, 4, 5))
    masks = channel_masks(xr.DataArray(values, dims=DIMS), share=0.1)
    for channel in range(2):
        flat = values[:, channel].ravel()
        np.testing.assert_array_equal(masks.values[channel], flat > np.sort(flat)[-21])
    assert masks["image"].values[:20].tolist() == [0] * 20
    assert masks["x"].values[:6].tolist() == [0, 1, 2, 3, 4, 0]
    plain = channel_masks(xr.DataArray(values[..., 0, 0], dims=DIMS[:2]), share=0.2)
    assert plain.dims == ("mask", "image")
    assert plain.values.sum(axis=1).tolist() == [2, 2]


def test_constant_channels_are_never_on_and_ties_stay_below_the_share():
    values = np.zeros((5, 2, 3, 3))
    values[0, 1] = 1.0
    masks = channel_masks(xr.DataArray(values, dims=DIMS), share=0.1)
    assert masks.values.sum(axis=1).tolist() == [0, 0]
    assert channel_masks(xr.DataArray(values, dims=DIMS), share=0.2).values[1].sum() == 9


def test_signs_of_maps_are_apart():
    values = np.random.default_rng(3).normal(size=(6, 2, 5, 5))
    values[:, 1] = np.abs(values[:, 1])
    masks = map_masks(xr.DataArray(values, dims=DIMS), share=0.1)
    assert masks["mask"].values.tolist() == ["0+", "0-", "1+", "1-"]
    flat = values[:, 0].ravel()
    np.testing.assert_array_equal(masks.values[0], flat >= np.sort(flat)[-15])
    np.testing.assert_array_equal(masks.values[1], flat <= np.sort(flat)[14])
    assert masks.values[3].sum() == 0


def test_modes_are_on_above_zero_and_around():
    loading = xr.DataArray(
        [[0.0, 1.0], [0.2, 0.0], [0.0, 0.0], [0.0, np.nan]], dims=("time", "mode")
    )
    assert mode_masks(loading).values.astype(int).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    wide = mode_masks(xr.Dataset({"loading": loading}), within=1)
    assert wide.values.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert mode_masks(loading, threshold=0.5).values.sum() == 1
    assert mode_masks(loading)["mask"].values.tolist() == ["0", "1"]


def test_pixels_become_concepts_on_a_grid():
    labels = np.random.default_rng(4).integers(0, 5, (3, 10, 14))
    found = pixel_concepts(labels, {0: "sky", 1: "car", 2: "car", 3: "tree", 9: "none"}, stride=4)
    assert found["concept"].values.tolist() == ["sky", "car", "tree"]
    small = labels[:, 1::4, 1::4]
    np.testing.assert_array_equal(found.values[1], np.isin(small, (1, 2)).ravel())
    np.testing.assert_array_equal(
        labels[found["image"], found["y"], found["x"]] == 3, found.sel(concept="tree")
    )
    assert found.attrs["pixels"] == (10, 14)


def test_ancestors_hold_what_their_children_hold():
    labels = ["pug", "cat", "pug", "oak", "husky", "fig"]
    parents = {
        "pug": "dog",
        "husky": ["dog", "worker"],
        "dog": "animal",
        "cat": "animal",
        "oak": "tree",
        "fig": "tree",
        "tree": "plant",
    }
    found = label_concepts(labels, parents)
    names = found["concept"].values.tolist()
    assert names == ["cat", "fig", "husky", "oak", "pug", "animal", "dog", "tree"]
    expected = {"dog": [1, 0, 1, 0, 1, 0], "animal": [1, 1, 1, 0, 1, 0], "tree": [0, 0, 0, 1, 0, 1]}
    for name, on in expected.items():
        assert found.sel(concept=name).astype(int).values.tolist() == on
    synonyms = dict(zip(names, found["synonyms"].values.tolist(), strict=True))
    assert synonyms["husky"] == "worker"
    assert synonyms["tree"] == "plant"
    assert "cat" not in label_concepts(labels, parents, least=2)["concept"]
    with pytest.raises(InputError, match="own ancestor"):
        label_concepts(["a"], {"a": "b", "b": "a"})


def test_attributes_come_from_classes():
    found = attribute_concepts(
        ["pug", "cat", "oak"], {"pug": ["furry", "barks"], "cat": ["furry"], "ape": ["tall"]}
    )
    assert found["concept"].values.tolist() == ["barks", "furry"]
    assert found.values.tolist() == [[True, False, False], [True, True, False]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mode_masks(xr.DataArray(np.ones((2, 2)), dims=("a", "b"))), "loadings"),
        (
            lambda: mode_masks(xr.DataArray([[1.0]], dims=("image", "mode")), within=1),
            "of a movie",
        ),
        (lambda: channel_masks(np.ones((2, 2))), "DataArray"),
        (lambda: channel_masks(xr.DataArray(np.ones((2, 2)), dims=("a", "b")), share=2), "share"),
        (lambda: channel_masks(xr.DataArray([[np.nan]], dims=DIMS[:2])), "NaN"),
        (
            lambda: channel_masks(
                xr.DataArray(np.ones((3, 1, 2, 2)), dims=DIMS),
                like=pixel_concepts(np.zeros((2, 4, 4), int), {0: "a"}),
            ),
            "2 images, maps of 3",
        ),
        (lambda: pixel_concepts(np.ones((2, 3)), {0: "a"}), "whole numbers"),
        (lambda: pixel_concepts(np.ones((1, 2, 2), int), {0: "a"}), "none of the named"),
        (lambda: label_concepts([]), "no images"),
        (lambda: attribute_concepts(["a"], {"b": ["c"]}), "no image has"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
