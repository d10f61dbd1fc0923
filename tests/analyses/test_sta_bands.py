"""Bands of spike-triggered averages: against definitions, and how often they hold the truth."""

import numpy as np
import pytest

from retinacodec.analyses.receptive_fields import draw_time_course, spike_triggered_average
from retinacodec.analyses.sta_bands import sta_bands, sta_profiles
from retinacodec.errors import InputError
from retinacodec.plotting import figure
from retinacodec.schema import make_recording, make_stimulus


def _movie(frames, height, width, seed=0, hold=1):
    contrast = np.random.default_rng(seed).choice([-1.0, 1.0], (frames // hold, height, width))
    return make_stimulus(np.repeat(contrast, hold, 0), frame_rate=60, pixel_um=50, name="noise")


def _recording(movie, counts):
    names = [f"cell_{number}" for number in range(counts.shape[1])]
    return make_recording(counts, time=movie["time"], frame_rate=60, cells=names)


def test_blocks_of_one_frame_give_the_spread_of_the_triggered_windows():
    movie = _movie(500, 3, 4)
    counts = np.random.default_rng(1).binomial(1, 0.2, (500, 1))
    counts[:4] = 0
    found = sta_bands(movie, _recording(movie, counts), history=5, block_s=1 / 60)
    views = np.lib.stride_tricks.sliding_window_view(movie["contrast"].values, 5, axis=0)
    windows = views[counts[4:, 0] > 0].transpose(0, 3, 1, 2)
    n = len(windows)
    np.testing.assert_allclose(found["sta"][0], windows.mean(0), atol=1e-6)
    np.testing.assert_allclose(
        found["standard_error"][0], windows.std(0, ddof=1) / np.sqrt(n), rtol=1e-4
    )
    assert found["blocks"].item() == n


def test_blocks_equal_the_sum_of_clusters_written_out():
    movie = _movie(364, 2, 3)
    counts = np.random.default_rng(2).poisson(0.4, (364, 2)).astype(float)
    counts[30:70, 1] = np.nan
    found = sta_bands(movie, _recording(movie, counts), history=4, latency=1, block_s=0.5)
    contrast = movie["contrast"].values
    for cell, blocks in enumerate((12, 11)):
        sta, k = found["sta"].values[cell], np.nan_to_num(counts[:, cell])
        sums = np.zeros((12, 4, 2, 3))
        for t in range(4, 364):
            sums[(t - 4) // 30] += k[t] * (contrast[t - 4 : t] - sta)
        assert found["blocks"].values[cell] == blocks == (np.abs(sums).max((1, 2, 3)) > 0).sum()
        expected = np.sqrt(np.square(sums).sum(0) * blocks / (blocks - 1)) / k[4:].sum()
        np.testing.assert_allclose(found["standard_error"][cell], expected, rtol=1e-4)


@pytest.mark.parametrize("hold", [1, 4])
def test_bands_hold_the_truth_as_often_as_they_say(hold):
    """Binary noise through an exponential: the average is tanh of the weight (Bussgang)."""
    inside, naive, at_peak = [], [], []
    for seed in range(12):
        movie = _movie(3600, 5, 5, seed, hold)
        drive = movie["contrast"].values[:, 1:3, :].reshape(3600, 10)
        counts = np.random.default_rng(100 + seed).poisson(0.2 * np.exp(0.4 * drive))
        found = sta_bands(movie, _recording(movie, counts), history=1, block_s=2.0)
        truth = np.zeros((10, 1, 5, 5))
        for cell in range(10):
            truth[cell, 0, 1 + cell // 5, cell % 5] = np.tanh(0.4)
        covered = ((found["low"] <= truth) & (found["high"] >= truth)).values
        inside.append(covered.mean())
        at_peak.append(covered[truth > 0].mean())
        error = 1 / np.sqrt(found["spikes"].values)[:, None, None, None]
        naive.append((np.abs(found["sta"].values - truth) < 1.96 * error).mean())
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)
    assert np.mean(at_peak) == pytest.approx(0.95, abs=0.05)
    if hold > 1:
        assert np.mean(naive) < 0.9


def test_profiles_run_through_the_peak():
    movie = _movie(2000, 4, 5)
    counts = np.zeros((2000, 2))
    counts[3:, 0] = movie["contrast"].values[1:-2, 2, 3] > 0
    bands = sta_bands(movie, _recording(movie, counts), history=4, latency=1)
    found = sta_profiles(bands)
    np.testing.assert_array_equal(found["course"][0], bands["sta"][0, :, 2, 3])
    np.testing.assert_array_equal(found["profile"][0], bands["sta"][0, 2])
    np.testing.assert_array_equal(found["course_high"][0], bands["high"][0, :, 2, 3])
    np.testing.assert_array_equal(found["profile_low"][0], bands["low"][0, 2])
    assert (
        found["profile"][0].values.max() == pytest.approx(1) and np.isnan(found["course"][1]).all()
    )
    plain = spike_triggered_average(movie, _recording(movie, counts), history=4, latency=1)
    assert set(sta_profiles(plain).data_vars) == {"course", "profile"}
    ax = draw_time_course(bands, figure().subplots())
    band = ax.collections[0].get_paths()[0].vertices
    low, high = bands["low"][0, :, 2, 3], bands["high"][0, :, 2, 3]
    assert band[:, 1].min() == pytest.approx(low.min().item(), abs=1e-6)
    assert band[:, 1].max() == pytest.approx(high.max().item(), abs=1e-6)


def test_too_little_is_flagged_and_bad_calls_are_refused():
    movie = _movie(300, 2, 2)
    counts = np.zeros((300, 2))
    counts[50, 0] = 2
    found = sta_bands(movie, _recording(movie, counts), history=3)
    assert found["blocks"].values.tolist() == [1, 0]
    assert np.isnan(found["low"]).all() and np.isnan(found["standard_error"]).all()
    with pytest.raises(InputError, match=r"level.*block_s"):
        sta_bands(movie, _recording(movie, counts), history=3, level=2, block_s=0)
    with pytest.raises(InputError, match="no variable 'sta'"):
        sta_profiles(movie)
