"""Pasted concepts and ablated channels: closed forms, scipy's permutation tests, real silencing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import permutation_test

import retinacodec as rc
from retinacodec.analyses.explanation_tests import (
    ablation_test,
    edit_test,
    paste_patches,
    paste_test,
)
from retinacodec.errors import InputError
from retinacodec.interventions import Intervention, predict_under


def scenes(images=12):
    """Grey images, every second with a bright square, and where it is."""
    concept = np.zeros((images, 8, 8), bool)
    for k in range(0, images, 2):
        concept[k, k % 4 : k % 4 + 3, 2:5] = True
    values = np.full((images, 3, 8, 8), 0.25, np.float32)
    values += np.arange(images)[:, None, None, None] / 64
    return np.where(concept[:, None], np.float32(1), values), concept


def test_pasted_pixels_are_those_of_a_donor_and_of_an_image_without():
    images, concept = scenes()
    originals, edited, controls = paste_patches(images, concept, count=40, seed=3)
    shades = {float(image[0, 7, 7]) for image in images[1::2]}
    for before, after, control in zip(originals, edited, controls, strict=True):
        assert float(before[0, 7, 7]) in shades
        changed = after != before
        assert changed.sum() == 27
        assert (after[changed] == 1).all()
        np.testing.assert_array_equal(control != before, changed)
        assert len(np.unique(control[changed])) == 1
        assert float(control[changed][0]) in shades - {float(before[0, 7, 7])}


def test_change_is_the_area_of_the_patch():
    images, concept = scenes()
    flat = np.where(concept[:, None], images, np.float32(0))
    found = paste_test(lambda x: (x > 0.9).mean(axis=(1, 2, 3)), flat, concept, count=30)
    np.testing.assert_allclose(found["change"], 9 / 64)
    np.testing.assert_array_equal(found["control_change"], 0)
    for name in ("effect", "low", "high", "mean_change"):
        assert found[name].item() == pytest.approx(9 / 64)
    assert found["p"].item() == pytest.approx(1 / 2001)


def test_blind_response_has_no_effect():
    images, concept = scenes()
    found = paste_test(lambda x: np.stack([x[:, 0, 7, 7], x[:, 1, 7, 7]], 1), images, concept)
    np.testing.assert_array_equal(found["effect"], [0, 0])
    np.testing.assert_array_equal(found["p"], [1, 1])


def test_p_of_edits_is_that_of_scipy():
    rng = np.random.default_rng(0)
    difference = rng.normal(0.35, 1, 25)
    zeros = np.zeros((25, 1))
    found = edit_test(lambda x: x[:, 0], zeros, difference[:, None], zeros, draws=20000)
    theirs = permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=20000, rng=1
    )
    assert found["p"].item() == pytest.approx(theirs.pvalue, abs=0.01)
    assert found["effect"].item() == pytest.approx(difference.mean())
    error = difference.std(ddof=1) / 5
    assert found["low"].item() == pytest.approx(difference.mean() - 1.96 * error, abs=0.05)
    assert found["high"].item() == pytest.approx(difference.mean() + 1.96 * error, abs=0.05)


def test_p_of_ablation_is_that_of_scipy():
    rng = np.random.default_rng(1)
    holds = np.arange(40) % 4 == 0
    drop = rng.normal(size=40) - 0.5 * holds
    found = ablation_test(
        lambda x: np.zeros(len(x)), lambda x: x[:, 0], drop[:, None], holds, draws=5000
    )
    theirs = permutation_test(
        (drop[holds], drop[~holds]),
        lambda a, b: a.mean() - b.mean(),
        vectorized=False,
        n_resamples=5000,
        rng=2,
    )
    assert found["p"].item() == pytest.approx(theirs.pvalue, abs=0.025)
    expected = drop[holds].mean() - drop[~holds].mean()
    assert found["effect"].item() == pytest.approx(expected)
    assert found["low"].item() < expected < found["high"].item()


def test_silenced_channel_matters_where_its_concept_is():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 1, bias=False), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(128, 2, bias=False),
    )  # fmt: skip
    with torch.no_grad():
        model[0].weight[:] = 0
        model[0].weight[0, 0] = 1.0
        model[3].weight[:] = 1 / 64
    circuit = rc.Circuit(model.eval(), ["1"], sample="image", output="class")
    images, concept = scenes()
    images = np.where(concept[:, None], images, np.float32(0))
    found = ablation_test(
        lambda x: predict_under(circuit, x, ()).values,
        lambda x: predict_under(circuit, x, Intervention("1", [0])).values,
        images,
        concept.any(axis=(1, 2)),
    )
    np.testing.assert_allclose(found["mean_holding"], -9 / 64, rtol=1e-5)
    np.testing.assert_allclose(found["mean_other"], 0, atol=1e-7)
    assert (found["p"] < 0.01).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, c: paste_test(np.mean, x, c), "response: expected"),
        (lambda x, c: paste_test(len, x, c[:3]), "concept: expected"),
        (lambda x, c: paste_test(len, x[:, 0], c), "images: expected"),
        (lambda x, c: paste_test(len, x, np.ones_like(c)), "there are 0 and 12"),
        (lambda x, c: paste_test(len, x, c, least=50), "with 50 pixels"),
        (lambda x, c: edit_test(len, x, x[:3], x), "three sets"),
        (lambda x, c: ablation_test(len, len, x, np.ones(12, bool)), "12 True"),
    ],
)
def test_bad_calls_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(*scenes())
