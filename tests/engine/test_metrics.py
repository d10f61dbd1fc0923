"""Metrics against closed forms and hand calculations."""

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.metrics import (
    UndefinedMetric,
    bits_per_spike,
    explained_deviance,
    explained_variance,
    log_likelihood,
    matched_cosine,
    pearson,
)


def test_pearson_matches_the_closed_form_for_a_noisy_copy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200_000)
    y = 3 * x + 4 * rng.normal(size=x.size) + 7
    assert pearson(x, y) == pytest.approx(0.6, abs=0.005)
    assert pearson(x, -2 * x) == pytest.approx(-1, abs=1e-12)


def test_pearson_leaves_out_pairs_with_a_gap_and_flags_constants():
    a = np.array([[1.0, 0.1], [2.0, 0.1], [np.nan, 0.1], [4.0, 0.1]])
    b = np.array([[2.0, 1.0], [4.0, 2.0], [99.0, 3.0], [8.0, 5.0]])
    np.testing.assert_allclose(pearson(a, b), [1.0, np.nan])


def test_bits_per_spike_equals_a_hand_calculation():
    counts, expected = np.array([0.0, 2.0, 1.0, 0.0]), np.array([0.5, 1.5, 1.0, 0.5])
    model = 2 * np.log(1.5) + np.log(1.0) - 3.5
    flat = 3 * np.log(0.75) - 3.0
    by_hand = (model - flat) / (3 * np.log(2))
    assert bits_per_spike(counts, expected) == pytest.approx(by_hand, abs=1e-12)
    assert bits_per_spike(counts, np.full(4, 0.75)) == pytest.approx(0, abs=1e-12)


def test_bits_per_spike_skips_frames_that_were_not_observed():
    counts, expected = np.array([0.0, 2.0, 1.0, 0.0]), np.array([0.5, 1.5, 1.0, 0.5])
    longer = bits_per_spike(np.append(counts, np.nan), np.append(expected, 9.0))
    assert longer == pytest.approx(float(bits_per_spike(counts, expected)), abs=1e-12)


def test_bits_per_spike_of_the_true_rate_is_its_information():
    """E[p log p / mean p] / (E[p] ln 2) for a rate of two levels."""
    rng = np.random.default_rng(1)
    rate = np.where(np.arange(200_000) % 2, 0.9, 0.1)
    truth = (0.9 * np.log2(0.9 / 0.5) + 0.1 * np.log2(0.1 / 0.5)) / 1.0
    assert bits_per_spike(rng.poisson(rate), rate) == pytest.approx(truth, abs=0.01)


def test_bits_per_spike_without_a_value_is_flagged():
    with pytest.warns(UndefinedMetric, match=r"no spike in cells \[1\]"):
        found = bits_per_spike([[1.0, 0.0], [0.0, 0.0]], np.full((2, 2), 0.5))
    assert found[0] == 0 and np.isnan(found[1])
    assert bits_per_spike([1.0, 1.0], [0.0, 2.0]) == -np.inf
    with pytest.raises(InputError, match="at least 0"):
        bits_per_spike([1.0], [-0.5])


def test_explained_deviance_has_its_fixed_points():
    counts = np.array([0.0, 2.0, 1.0, 0.0])
    assert explained_deviance(counts, counts) == pytest.approx(1, abs=1e-12)
    assert explained_deviance(counts, np.full(4, 0.75)) == pytest.approx(0, abs=1e-12)
    worst = 2 * np.log(2 / 0.75) + np.log(1 / 0.75)
    expected = np.array([0.5, 1.5, 1.0, 0.5])
    left = 2 * np.log(2 / 1.5) - (2 - 1.5) + 0.5 + 0.5
    assert explained_deviance(counts, expected) == pytest.approx(1 - left / worst, abs=1e-12)
    with pytest.warns(UndefinedMetric, match="do not vary"):
        assert np.isnan(explained_deviance([1.0, 1.0], [0.5, 0.5]))


def test_log_likelihood_handles_silence_and_gaps():
    found = log_likelihood([0.0, 0.0, 1.0, np.nan], [0.0, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(found, [0.0, -0.5, np.log(0.5) - 0.5, np.nan])


def test_explained_variance_is_one_for_a_copy_and_zero_for_the_mean():
    x = np.random.default_rng(0).normal(2, 3, (500, 4))
    assert explained_variance(x, x) == 1
    assert explained_variance(x, np.full_like(x, x.mean())) == pytest.approx(0, abs=1e-12)
    noisy = x + np.random.default_rng(1).normal(0, 1.5, x.shape)
    assert explained_variance(x, noisy) == pytest.approx(0.75, abs=0.03)


def test_matched_cosine_undoes_a_permutation():
    atoms = np.random.default_rng(0).normal(size=(5, 9))
    np.testing.assert_allclose(matched_cosine(atoms, 3 * atoms[::-1]), np.ones(5), atol=1e-12)
