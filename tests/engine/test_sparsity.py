"""Sparsity of rows: closed forms, scipy and sklearn, units, rows that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from retinacodec.errors import InputError
from retinacodec.sparsity import (
    entropy_specificity,
    excess_kurtosis,
    gini,
    hoyer,
    inverse_participation,
    participation_ratio,
    top_share,
)

ALL = [
    hoyer,
    participation_ratio,
    inverse_participation,
    excess_kurtosis,
    gini,
    entropy_specificity,
    top_share,
]


@pytest.fixture
def rows():
    return np.random.default_rng(0).standard_t(3, size=(7, 40))


@pytest.mark.parametrize("d,k", [(9, 1), (9, 4), (100, 25)])
def test_k_equal_entries_of_d(d, k):
    row = np.r_[np.full(k, -3.0), np.zeros(d - k)]
    assert hoyer(row, epsilon=0) == pytest.approx((np.sqrt(d) - np.sqrt(k)) / (np.sqrt(d) - 1))
    assert participation_ratio(row) == pytest.approx(k)
    assert inverse_participation(row, epsilon=0) == pytest.approx(1 / k)
    assert gini(-row) == pytest.approx(1 - k / d)
    assert entropy_specificity(-row) == pytest.approx(1 - np.log(k) / np.log(d))
    assert top_share(-row, 1) == pytest.approx(1 / k)
    assert top_share(-row, k) == pytest.approx(1)


def test_published_formulas_to_rounding(rows):
    d = rows.shape[1]
    l1, l2 = np.abs(rows).sum(1), np.sqrt((rows**2).sum(1))
    for scale in (1.0, 1e-4):
        expected = (np.sqrt(d) - scale * l1 / (scale * l2 + 1e-6)) / (np.sqrt(d) - 1)
        np.testing.assert_allclose(hoyer(scale * rows), expected, rtol=1e-12)
    squares = (rows**2).sum(1)
    kappa = (rows**4).sum(1) / (squares**2 + 1e-6)
    np.testing.assert_allclose(inverse_participation(rows), kappa, rtol=1e-12)


def test_epsilon_is_what_makes_the_unit_matter(rows):
    free = hoyer(rows, epsilon=0)
    np.testing.assert_allclose(hoyer(1e-7 * rows, epsilon=0), free, rtol=1e-12)
    norm = 1e-4 * np.linalg.norm(rows, axis=1)
    with_epsilon = hoyer(1e-4 * rows)
    assert (with_epsilon > free).all()
    d = rows.shape[1]
    ratio = np.abs(rows).sum(1) / np.linalg.norm(rows, axis=1) / (np.sqrt(d) - 1)
    np.testing.assert_allclose(with_epsilon - free, ratio * 1e-6 / norm, rtol=0.02)


def test_kurtosis_is_that_of_scipy_and_kappa_is_not(rows):
    expected = stats.kurtosis(rows, axis=1)
    np.testing.assert_allclose(excess_kurtosis(rows), expected, rtol=1e-12)
    np.testing.assert_allclose(excess_kurtosis(rows.T, axis=0), expected, rtol=1e-12)
    np.testing.assert_allclose(excess_kurtosis(1e-60 * rows), expected, rtol=1e-12)
    centred = rows - rows.mean(1, keepdims=True)
    np.testing.assert_allclose(
        40 * inverse_participation(centred, epsilon=0) - 3, expected, rtol=1e-10
    )
    assert not np.allclose(inverse_participation(rows), expected)


def test_gini_is_half_the_mean_difference(rows):
    positive = np.abs(rows)
    differences = np.abs(positive[:, :, None] - positive[:, None]).mean((1, 2))
    np.testing.assert_allclose(gini(positive), differences / (2 * positive.mean(1)), rtol=1e-12)


def test_entropy_is_that_of_scipy(rows):
    clipped = np.clip(rows, 0, None)
    expected = 1 - stats.entropy(clipped, axis=1) / np.log(40)
    np.testing.assert_allclose(entropy_specificity(rows), expected, rtol=1e-10)
    top = np.sort(clipped, axis=1)[:, -5:].sum(1) / clipped.sum(1)
    np.testing.assert_allclose(top_share(rows, 5), top, rtol=1e-12)


@pytest.mark.parametrize("function", ALL)
def test_shape_axis_and_nan(function, rows):
    block = np.stack([rows, 2 * rows + 1])
    assert function(block).shape == (2, 7)
    np.testing.assert_allclose(function(np.moveaxis(block, -1, 0), axis=0), function(block))
    broken = rows.copy()
    broken[3, 5] = np.nan
    assert np.flatnonzero(np.isnan(function(broken))).tolist() == [3]
    with pytest.raises(InputError, match="at least one entry"):
        function(np.zeros((3, 0)))


def test_rows_of_zeros_and_constants():
    zero = np.zeros((1, 6))
    assert np.isnan(hoyer(zero)).all()
    assert np.isnan(excess_kurtosis(zero)).all()
    assert np.isnan(excess_kurtosis(zero + 0.1)).all()
    assert np.isnan(inverse_participation(zero, epsilon=0)).all()
    assert np.isnan(hoyer([[2.0]])).all()
    assert np.isnan(entropy_specificity([[2.0]])).all()
    for function in (participation_ratio, inverse_participation, gini, entropy_specificity):
        assert function(zero).tolist() == [0.0]
    assert top_share(-np.ones((1, 6)), 2).tolist() == [0.0]
    for k in (0, 7):
        with pytest.raises(InputError, match="from 1 to 6"):
            top_share(zero, k)
