"""Explanations: scores as scikit-learn has them, planted formulas, chance, and what is flagged."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import hypergeom
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from retinacodec.analyses.explanation_nulls import PermutedImages, ShiftedMasks
from retinacodec.analyses.explanations import explain
from retinacodec.errors import InputError
from retinacodec.formulas import evaluate, parse_formula
from retinacodec.overlaps import F1
from retinacodec.row_splits import RandomRows, TimeBlocks

NAMES = ["dog", "puppy", "cat", "car", "traffic light", "grass", "sky", "road"]


def tables(images=400, pixels=1, seed=0, noise=0.1, dim="image"):
    """Concepts, and masks that follow a formula, another with noise, and none."""
    rng = np.random.default_rng(seed)
    size = images * pixels
    values = rng.random((8, size)) < rng.uniform(0.1, 0.4, (8, 1))
    masks = np.stack([
        values[0] & ~values[1],
        ((values[2] | values[3]) & ~values[6]) ^ (rng.random(size) < noise),
        rng.random(size) < 0.2,
    ])  # fmt: skip
    coords = {"image": ("position", np.repeat(np.arange(images), pixels))} if pixels > 1 else {}
    where = "position" if pixels > 1 else dim
    concepts = xr.DataArray(values, {"concept": NAMES} | coords, ("concept", where))
    return xr.DataArray(masks, {"mask": ["a", "b", "c"]} | coords, ("mask", where)), concepts


def test_scores_are_those_of_scikit_learn_on_both_parts():
    masks, concepts = tables(pixels=5)
    split = RandomRows(every=4, seed=2)
    found = explain(masks, concepts, held_out=split, null=None)
    values = {name: concepts.sel(concept=name).values for name in NAMES}
    image = masks["image"].values
    for part, rows in zip(("fitted", "held out"), split.split(400), strict=True):
        here = np.isin(image, rows)
        for m in range(3):
            for length in (1, 2, 3):
                one = found.sel(part=part, length=length).isel(mask=m)
                guess = evaluate(parse_formula(str(one["formula"].item())), values)[here]
                true = masks.values[m, here]
                pairs = (
                    ("score", jaccard_score),
                    ("precision", precision_score),
                    ("recall", recall_score),
                )
                for name, theirs in pairs:
                    assert one[name].item() == pytest.approx(theirs(true, guess), abs=1e-12)
                assert one["covered"].item() == guess.sum()
                assert one["size"].item() == true.sum()


def test_planted_formulas_are_named_and_hold_on_new_images():
    masks, concepts = tables(images=2000)
    found = explain(masks, concepts)
    assert found["formula"].sel(mask="a", length=2).item() == "dog AND NOT puppy"
    assert found["formula"].sel(mask="b", length=3).item() == "(car OR cat) AND NOT sky"
    assert found["formula"].sel(mask="a", length=1).item() == "dog"
    last = found.sel(part="held out", length=3)
    assert last["score"].sel(mask="a").item() == 1
    assert 0.6 < last["score"].sel(mask="b").item() < 0.9
    assert last["discovered"].values.tolist() == [True, True, False]
    assert last["p"].sel(mask="a").item() == pytest.approx(1 / 201)
    assert np.isnan(found["p"].sel(part="fitted")).all()
    assert (np.diff(found["score"].sel(part="fitted"), axis=1) >= -1e-12).all()


def test_other_metrics_are_sought_and_scored():
    masks, concepts = tables(pixels=3)
    found = explain(masks, concepts, metric=F1, null=None, held_out=None)
    values = {name: concepts.sel(concept=name).values for name in NAMES}
    for m in range(3):
        guess = evaluate(parse_formula(str(found["formula"].values[m, 2])), values)
        expected = f1_score(masks.values[m], guess)
        assert found["score"].values[m, 2, 0] == pytest.approx(expected, abs=1e-12)
    assert found["part"].values.tolist() == ["fitted"]


def test_names_and_order_of_dims_do_not_matter():
    masks, concepts = tables()
    one = explain(masks, concepts)
    two = explain(masks.rename(mask="mode").T, concepts.rename(concept="event").T, threads=2)
    xr.testing.assert_identical(one.drop_attrs(), two.drop_attrs())


def test_permutation_p_of_single_positions_is_that_of_fisher():
    masks, concepts = tables(noise=0.35, seed=3)
    found = explain(masks, concepts, null=PermutedImages(3000), seed=1)
    for m in range(3):
        one = found.isel(mask=m, length=2).sel(part="held out")
        size, covered = int(one["size"]), int(one["covered"])
        both = round(float(one["recall"]) * size)
        exact = hypergeom.sf(both - 1, 80, covered, size)
        spread = 4 * np.sqrt(exact * (1 - exact) / 3000) + 1 / 3000
        assert abs(float(one["p"]) - exact) < spread
        mean = both_mean = size * covered / 80
        assert one["null_mean"].item() == pytest.approx(
            both_mean / (size + covered - mean), abs=0.02
        )


def test_p_of_unrelated_masks_is_uniform_under_both_nulls():
    rng = np.random.default_rng(5)
    slow = rng.normal(size=(70, 1300)).cumsum(axis=1)
    slow = (slow[:, 25:] - slow[:, :-25]) > 4.0
    masks = xr.DataArray(slow[:60], dims=("mask", "time"))
    concepts = xr.DataArray(
        slow[60:], {"concept": [f"c{k}" for k in range(10)]}, ("concept", "time")
    )
    split = TimeBlocks(gap=25, blocks=10, every=2)
    for null in (ShiftedMasks(100, least=30), ShiftedMasks(40, least=30, search=True)):
        found = explain(
            masks, concepts, held_out=split, null=null, length=2, progress=False, least=5
        )
        p = found["p"].sel(part="held out", length=2).values
        p = p[np.isfinite(p)]
        assert 0.35 < p.mean() < 0.7
        assert (p <= 0.1).mean() < 0.25


def test_null_of_the_search_is_above_that_of_a_fixed_formula():
    rng = np.random.default_rng(6)
    masks = xr.DataArray(rng.random((4, 300)) < 0.2, dims=("mask", "image"))
    table = rng.random((60, 300)) < 0.2
    concepts = xr.DataArray(table, {"concept": np.arange(60)}, ("concept", "image"))
    found = explain(masks, concepts, null=PermutedImages(40, search=True), progress=False)
    mean = found["null_mean"].sel(length=3)
    assert (mean.sel(part="fitted") > mean.sel(part="held out") + 0.05).all()
    assert (found["p"].sel(part="fitted", length=3) > 0.02).all()
    score = found["score"].sel(part="fitted", length=3)
    np.testing.assert_allclose(score, mean.sel(part="fitted"), atol=0.08)


def test_images_are_moved_whole_and_held_out_whole():
    """Pixels of an image agree: only whole images are exchanged, so one image in ten is chance."""
    images, pixels = 40, 50
    on = np.zeros(images, bool)
    on[::4] = True
    coords = {"image": ("position", np.repeat(np.arange(images), pixels))}
    table = np.repeat(on, pixels)[None]
    masks = xr.DataArray(table, coords, dims=("mask", "position"))
    concepts = xr.DataArray(table, coords | {"concept": ["c"]}, dims=("concept", "position"))
    found = explain(masks, concepts, length=1, null=PermutedImages(2000), held_out=RandomRows())
    held = RandomRows().split(images)[1]
    count = int(on[held].sum())
    one = found.sel(part="held out", length=1).isel(mask=0)
    assert one["size"].item() == count * pixels
    chance = hypergeom.sf(count - 1, held.size, count, count)
    assert one["p"].item() == pytest.approx(chance, abs=4 * np.sqrt(chance / 2000) + 1e-3)


def test_shifts_move_frames_by_at_least_so_many():
    for order in ShiftedMasks(50, least=7).orders(40, seed=0):
        step = int(order[0])
        assert 7 <= step <= 33
        np.testing.assert_array_equal(order, (np.arange(40) + step) % 40)
    assert next(ShiftedMasks(1, least=99).orders(8, seed=0)).size == 8


def test_concepts_of_other_images_are_left_out_only_where_images_have_pixels():
    coords = {"image": ("position", np.repeat(np.arange(20), 10))}
    values = np.zeros((2, 200), bool)
    values[0, :100], values[1, 50:] = True, True
    mask = values[0] & (np.arange(200) < 50)
    concepts = xr.DataArray(values, coords | {"concept": ["p", "q"]}, ("concept", "position"))
    masks = xr.DataArray(mask[None], coords, ("mask", "position"))
    settings = {"length": 2, "held_out": None, "null": None}
    assert explain(masks, concepts, **settings)["formula"].values[0, 1] == "p"
    free = explain(masks, concepts, occurring=False, **settings)
    assert free["formula"].values[0, 1] == "p AND NOT q"
    flat = explain(masks.drop_vars("image"), concepts.drop_vars("image"), **settings)
    assert flat["formula"].values[0, 1] == "p AND NOT q"


def test_masks_that_cannot_be_explained_say_why():
    masks, concepts = tables()
    values = np.concatenate([masks.values, np.zeros((4, 400), bool)])
    values[4] = True
    values[5, RandomRows().split(400)[0][:6]] = True
    fitted = RandomRows().split(400)[0]
    values[6, fitted[~concepts.values[:, fitted].any(axis=0)][:15]] = True
    found = explain(xr.DataArray(values, dims=("mask", "image")), concepts)
    reasons = found["reason"].values.tolist()
    assert reasons[:3] == ["", "", ""]
    assert reasons[3:] == [
        "not explained: never on",
        "not explained: always on",
        "not explained: on at 6 positions, expected 10",
        "not explained: no concept meets it",
    ]
    bad = found.isel(mask=slice(3, None))
    assert (bad["formula"] == "").all()
    for name in ("score", "precision", "recall", "p", "q"):
        assert np.isnan(bad[name]).all(), name
    assert not bad["discovered"].any()


def test_mask_absent_from_the_held_out_part_is_said():
    masks, concepts = tables()
    values = masks.values.copy()
    values[:, RandomRows().split(400)[1]] = False
    found = explain(masks.copy(data=values), concepts)
    assert (found["reason"] == "never on where held out").all()
    assert np.isnan(found["score"].sel(part="held out")).all()
    assert np.isfinite(found["score"].sel(part="fitted")).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, c: (m.astype(float), c), "True and False"),
        (lambda m, c: (m.values, c), "masks: expected a DataArray"),
        (lambda m, c: (m, c.rename(image="frame")), "share one dim"),
        (lambda m, c: (m[:, :50], c), "same positions"),
        (lambda m, c: (m, c.isel(concept=[0, 0])), "dog named twice"),
        (lambda m, c: (m, c[:0]), "no concepts"),
    ],
)
def test_masks_and_concepts_that_do_not_fit_are_refused(change, message):
    masks, concepts = tables()
    with pytest.raises((InputError, ValueError), match=message):
        explain(*change(masks, concepts))


def test_other_positions_are_noticed():
    masks, concepts = tables()
    moved = concepts.assign_coords(image=np.arange(1, 401))
    with pytest.raises(InputError, match="image: masks and concepts have other values"):
        explain(masks.assign_coords(image=np.arange(400)), moved)


def test_null_needs_something_to_test_on():
    masks, concepts = tables()
    with pytest.raises(InputError, match="held-out"):
        explain(masks, concepts, held_out=None, null=PermutedImages())
    coords = {"image": np.repeat([0, 1, 2], [100, 150, 150])}
    uneven = [one.rename(image="position").assign_coords(image=("position", coords["image"]))
              for one in (masks, concepts)]  # fmt: skip
    with pytest.raises(InputError, match="equally many"):
        explain(*uneven, held_out=TimeBlocks(0, 3, 3))
    with pytest.raises(InputError, match=r"metric: .*level: "):
        explain(masks, concepts, metric="iou", level=2.0)
    with pytest.raises(InputError, match="RowSplit"):
        explain(masks, concepts, held_out="blocks")


def test_few_shifts_are_each_taken_once_and_bound_the_p_value():
    """Of 12 frames moved by at least 3, seven orders exist, so that no p is below 1/8."""
    orders = list(ShiftedMasks(shifts=200, least=3).orders(12, seed=0))
    assert [int(order[0]) for order in orders] == [3, 4, 5, 6, 7, 8, 9]
    assert len(list(ShiftedMasks(shifts=5, least=3).orders(12, seed=0))) == 5
    on = np.zeros((1, 40), bool)
    on[0, [1, 4, 9, 11, 18, 22, 24, 29, 31, 38]] = True
    masks = xr.DataArray(on, {"mask": ["m"]}, ("mask", "time"))
    concepts = xr.DataArray(on, {"concept": ["c"]}, ("concept", "time"))
    found = explain(masks, concepts, length=1, least=1, held_out=None,
                    null=ShiftedMasks(least=10, search=True), progress=False)  # fmt: skip
    assert found.attrs["samples"] == 21
    assert float(found["p"].squeeze()) == pytest.approx(1 / 22)


def test_no_masks_are_said():
    masks = xr.DataArray(np.zeros((0, 30), bool), dims=("mask", "image"))
    concepts = xr.DataArray(np.ones((1, 30), bool), {"concept": ["a"]}, ("concept", "image"))
    with pytest.raises(InputError, match="no masks"):
        explain(masks, concepts)
