"""Nulls: shifts, permutations, p-values, correlations at all shifts, discoveries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal, stats

from retinacodec.errors import InputError
from retinacodec.nulls import (
    circular_shifts,
    discoveries,
    p_value,
    permutation_p,
    permutations,
    shift_p,
    shift_steps,
)
from retinacodec.shifted_correlation import correlations_at_shifts, shifted_correlation


def _slow(random, frames, columns, memory=0.9):
    """Series that are correlated with themselves over many frames."""
    return signal.lfilter([1], [1, -memory], random.normal(size=(frames + 200, columns)), axis=0)[
        200:
    ]


def test_shifts_are_rolls_by_the_steps():
    table = np.random.default_rng(0).normal(size=(30, 3))
    steps = shift_steps(30, 8, seed=4, least=5)
    assert steps.min() >= 5
    assert steps.max() <= 25
    for step, moved in zip(steps, circular_shifts(table, 8, seed=4, least=5), strict=True):
        np.testing.assert_array_equal(moved, np.roll(table, -step, axis=0))
    own = shift_steps(30, 8, seed=4, columns=3)
    for step, moved in zip(own, circular_shifts(table, 8, seed=4, together=False), strict=True):
        for column in range(3):
            np.testing.assert_array_equal(
                moved[:, column], np.roll(table[:, column], -step[column])
            )


def test_every_shift_from_the_least_on_is_drawn():
    assert np.unique(shift_steps(9, 2000, least=2)).tolist() == list(range(2, 8))
    assert np.unique(shift_steps(4, 2000, least=0)).tolist() == [0, 1, 2, 3]
    for frames, least in ((9, 5), (1, 1), (10, -1)):
        with pytest.raises(InputError, match="least"):
            shift_steps(frames, 10, least=least)
    with pytest.raises(InputError, match="shifts"):
        shift_steps(9, 0)


def test_permutations_keep_rows_or_columns():
    table = np.arange(24).reshape(8, 3)
    for moved in permutations(table, 5, seed=1):
        assert sorted(map(tuple, moved)) == sorted(map(tuple, table))
    apart = next(permutations(table, 1, seed=1, together=False))
    np.testing.assert_array_equal(np.sort(apart, axis=0), table)
    assert sorted(map(tuple, apart)) != sorted(map(tuple, table))
    with pytest.raises(InputError, match="at least one"):
        next(permutations(table[:1], 5))


def test_p_value_counts_itself_and_skips_nan():
    null = np.array([[0.0, 5.0], [1.0, np.nan], [2.0, 7.0]])
    np.testing.assert_allclose(p_value([1.0, 6.0], null), [3 / 4, 2 / 3])
    assert np.isnan(p_value(np.nan, [1.0, 2.0]))


def test_permutation_p_is_that_of_scipy():
    random = np.random.default_rng(3)
    one = random.normal(size=40)
    other = 0.3 * one + random.normal(size=40)

    def product(a, b):
        return np.dot(a, b)

    found = permutation_p(product, one, other, count=4999, seed=0)
    expected = stats.permutation_test(
        (other,),
        lambda b: product(one, b),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=4999,
        rng=np.random.default_rng(1),
    ).pvalue
    assert found.null.shape == (4999,)
    assert float(found.p) == pytest.approx(expected, abs=3 * np.sqrt(expected / 4999))


def test_shift_p_is_uniform_where_permutations_are_not():
    random = np.random.default_rng(5)
    shifted, permuted = [], []
    for number in range(150):
        one, other = _slow(random, 400, 1)[:, 0], _slow(random, 400, 1)[:, 0]

        def size(a, b):
            return abs(np.corrcoef(a, b)[0, 1])

        shifted.append(shift_p(size, one, other, shifts=99, seed=number, least=40).p)
        permuted.append(permutation_p(size, one, other, count=99, seed=number).p)
    assert stats.kstest(shifted, "uniform").pvalue > 0.01
    assert np.mean(np.asarray(shifted) <= 0.05) < 0.1
    assert np.mean(np.asarray(permuted) <= 0.05) > 0.3
    with pytest.raises(InputError, match="one length"):
        shift_p(size, one, other[:-1])


@pytest.mark.parametrize("frames", [64, 97])
def test_correlations_at_shifts_are_those_of_rolled_series(frames):
    random = np.random.default_rng(6)
    one, other = random.normal(size=(frames, 3)) + 50, random.normal(size=(frames, 2))
    found = correlations_at_shifts(one, other)
    for shift in range(frames):
        both = np.corrcoef(one.T, np.roll(other, shift, axis=0).T)[:3, 3:]
        np.testing.assert_allclose(found[shift], both, atol=1e-12)


def test_p_counts_all_shifts_of_at_least():
    random = np.random.default_rng(7)
    one, other = _slow(random, 211, 4), _slow(random, 211, 3)
    every = correlations_at_shifts(one, other)
    two = shifted_correlation(one, other, least=10)
    assert two.shifts == 211 - 2 * 10 + 1
    null = np.abs(every[10:202])
    np.testing.assert_allclose(two.p, p_value(np.abs(every[0]), null))
    np.testing.assert_allclose(two.r, every[0])
    np.testing.assert_allclose(two.low, np.quantile(every[10:202], 0.025, axis=0))
    np.testing.assert_allclose(
        two.z, (every[0] - every[10:202].mean(0)) / every[10:202].std(0), rtol=1e-9
    )
    upper = shifted_correlation(one, other, least=10, two_sided=False)
    np.testing.assert_allclose(upper.p, p_value(every[0], every[10:202]))


def test_a_lag_is_found_and_its_search_is_in_the_null():
    random = np.random.default_rng(8)
    events = (random.random((3000, 2)) < 0.03).astype(float)
    loading = random.normal(size=(3000, 3))
    loading[:, 1] -= 2 * np.roll(events[:, 0], 7)
    found = shifted_correlation(loading, events, least=20, most_lag=10)
    assert found.lag[1, 0] == 7
    assert found.r[1, 0] == pytest.approx(
        np.corrcoef(loading[:, 1], np.roll(events[:, 0], 7))[0, 1]
    )
    assert found.r[1, 0] < -0.2
    assert found.p[1, 0] == 1 / (1 + found.shifts)
    independent = shifted_correlation(
        random.normal(size=(600, 30)), random.normal(size=(600, 30)), least=11, most_lag=10
    )
    assert stats.kstest(independent.p.ravel(), "uniform").statistic < 0.06
    assert shifted_correlation(loading, events, least=20).p[1, 0] > 0.001


def test_slow_series_give_uniform_p_and_no_discoveries():
    random = np.random.default_rng(9)
    found = shifted_correlation(_slow(random, 3000, 40), _slow(random, 3000, 40), least=60)
    p = found.p.ravel()
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert stats.kstest(p, "uniform").statistic < 0.05
    assert discoveries(found.p).found.sum() == 0


def test_the_strongest_of_few_independent_shifts_is_not_called_one_in_all_shifts():
    p = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        one, other = _slow(random, 3000, 12, 0.97), _slow(random, 3000, 10, 0.97)
        p.append(shifted_correlation(one, other, least=150).p)
    assert np.mean(np.concatenate(p) <= 0.001) < 0.004
    assert np.mean([discoveries(each).found.any() for each in p]) <= 0.25


def test_the_null_does_not_hold_the_lags_that_are_searched():
    events = (np.random.default_rng(8).random((2000, 1)) < 0.03).astype(float)
    found = shifted_correlation(np.roll(events, 5, axis=0), events, most_lag=10)
    assert found.lag.item() == 5
    assert found.shifts == 2000 - 1 - 10 - 11 + 1
    assert found.p.item() == pytest.approx(1 / (1 + found.shifts))


def test_constants_are_nan_ties_count_and_bad_series_are_refused():
    wave = np.tile([0.0, 1.0, 0.0, 0.0], 25)[:, None]
    found = shifted_correlation(np.hstack([wave, wave * 0 + 0.1]), wave)
    assert found.p[0, 0] == pytest.approx((1 + 24) / (1 + 99))
    for values in (found.r, found.p, found.z, found.low):
        assert np.isnan(values[1, 0])
    assert found.lag[1, 0] == -1
    with pytest.raises(InputError, match="second: 1 values are NaN"):
        shifted_correlation(wave, np.r_[np.nan, wave[1:, 0]][:, None])
    with pytest.raises(InputError, match="of one length"):
        shifted_correlation(wave, wave[1:])
    with pytest.raises(InputError, match="too few"):
        shifted_correlation(wave, wave, least=51)


def test_discoveries_are_those_of_scipy_without_nan():
    random = np.random.default_rng(10)
    p = np.r_[random.random(80), random.random(20) * 1e-3]
    for dependent, method in ((False, "bh"), (True, "by")):
        expected = stats.false_discovery_control(p, method=method)
        gaps = np.insert(p, [3, 50], np.nan).reshape(2, 51)
        found = discoveries(gaps, 0.1, any_dependence=dependent)
        np.testing.assert_allclose(found.q[~np.isnan(gaps)], expected, rtol=1e-12)
        np.testing.assert_array_equal(found.found[~np.isnan(gaps)], expected <= 0.1)
        assert np.isnan(found.q[np.isnan(gaps)]).all()
        assert not found.found[np.isnan(gaps)].any()
    assert not discoveries([np.nan, np.nan]).found.any()
    with pytest.raises(InputError, match="level"):
        discoveries(p, 0.0)
    with pytest.raises(InputError, match="above 1"):
        discoveries([0.1, 1.2])


def test_few_of_the_discoveries_are_false():
    random = np.random.default_rng(11)
    shares = []
    for _ in range(200):
        effect = np.r_[np.full(20, 3.0), np.zeros(80)]
        p = stats.norm.sf(effect + random.normal(size=100))
        found = discoveries(p, 0.2).found
        shares.append(found[20:].sum() / max(found.sum(), 1))
    assert np.mean(shares) == pytest.approx(0.2 * 0.8, abs=0.03)


def test_few_shifts_are_each_taken_once():
    """Eleven ways to move 60 frames by 25 at least: the least p is 1/12 however many are asked."""
    moved = [int(one[0]) for one in circular_shifts(np.arange(60), 500, least=25)]
    assert moved == list(range(25, 36))
    assert len(list(circular_shifts(np.arange(60), 10, least=25))) == 10
