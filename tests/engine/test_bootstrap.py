"""Block bootstrap: blocks, coverage on correlated noise, edge cases."""

import numpy as np
import pytest

from retinacodec.bootstrap import block_bootstrap, block_labels, draw_blocks, percentiles
from retinacodec.errors import InputError


def test_blocks_are_long_enough_and_stay_within_runs():
    frames = np.concatenate([np.arange(100), np.arange(150, 230), np.arange(300, 305)])
    labels = block_labels(frames, 15)
    sizes = np.bincount(labels)
    assert sizes[:-1].min() >= 15 and sizes[-1] == 5
    for label in range(labels.max() + 1):
        assert np.ptp(frames[labels == label]) == sizes[label] - 1
    assert (np.diff(labels) >= 0).all() and len(sizes) == 6 + 5 + 1


def test_draws_keep_the_number_of_blocks_and_repeat_with_the_seed():
    counts = draw_blocks(12, 300, seed=4)
    assert (counts.sum(1) == 12).all()
    assert counts.mean() == pytest.approx(1, abs=1e-12)
    assert counts.var() == pytest.approx(1 - 1 / 12, abs=0.05)
    np.testing.assert_array_equal(counts, draw_blocks(12, 300, seed=4))
    assert (counts != draw_blocks(12, 300, seed=5)).any()


def _autoregressive(rng, size, memory=0.9):
    noise = rng.normal(size=size)
    for t in range(1, size[0]):
        noise[t] += memory * noise[t - 1]
    return noise


def test_interval_of_a_mean_covers_the_truth_for_correlated_noise():
    """95 % asked for; with blocks of one frame the same noise is covered less than half."""
    series = _autoregressive(np.random.default_rng(0), (2000, 300))
    blocks = block_bootstrap(lambda a: a.mean(0), series, block=50, draws=200)
    single = block_bootstrap(lambda a: a.mean(0), series, block=1, draws=200)
    assert 0.87 <= np.mean((blocks.low < 0) & (blocks.high > 0)) <= 0.98
    assert np.mean((single.low < 0) & (single.high > 0)) < 0.5


def test_interval_of_independent_noise_equals_the_textbook_width():
    x = np.random.default_rng(1).normal(size=20_000)
    found = block_bootstrap(np.mean, x, block=10, draws=2000)
    assert found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(x.size), rel=0.1)
    assert found.value == x.mean()


def test_series_are_resampled_together():
    x = np.random.default_rng(2).normal(size=500)
    found = block_bootstrap(lambda a, b: np.corrcoef(a, b)[0, 1], x, -x, block=20, draws=50)
    assert found.low == pytest.approx(-1) and found.high == pytest.approx(-1)


def test_what_cannot_be_resampled_is_nan():
    found = block_bootstrap(np.mean, np.arange(10.0), block=10)
    assert found.value == 4.5 and np.isnan(found.low) and np.isnan(found.high)
    low, high = percentiles([[np.nan, 1.0], [np.nan, 1.0]])
    np.testing.assert_array_equal([low, high], [[np.nan, 1.0]] * 2)


def test_bad_calls_are_refused():
    with pytest.raises(InputError, match="one length"):
        block_bootstrap(np.mean, np.zeros(3), np.zeros(4), block=1)
    with pytest.raises(InputError, match=r"must rise.*at least 1 frame"):
        block_labels([3, 2], 0)
    with pytest.raises(InputError, match="level"):
        percentiles([0.0, 1.0], level=95)


@pytest.mark.parametrize("blocks", [10, 20])
def test_percentiles_of_few_blocks_cover_as_often_as_asked(blocks):
    random = np.random.default_rng(0)
    plain = expanded = 0
    for _ in range(400):
        values = random.standard_normal(blocks)
        means = draw_blocks(blocks, 400, int(random.integers(2**31))) @ values / blocks
        low, high = percentiles(means)
        plain += low <= 0 <= high
        low, high = percentiles(means, blocks=blocks)
        expanded += low <= 0 <= high
    assert 0.92 < expanded / 400 < 0.98 and plain < expanded
    assert plain / 400 < {10: 0.93, 20: 0.96}[blocks]
