"""Predictions put on the frames of a recording, and resamples done through block sums."""

import numpy as np
import pytest
import xarray as xr

from retinacodec.bootstrap import draw_blocks
from retinacodec.ceilings import cc_norm, feve, jackknife_oracle
from retinacodec.errors import InputError
from retinacodec.metrics import bits_per_spike, explained_deviance, pearson
from retinacodec.schema import make_recording
from retinacodec.scoring import Predictions


@pytest.fixture(scope="module")
def setting():
    rng = np.random.default_rng(0)
    rate = rng.gamma(2.0, 8.0, size=(500, 3))
    repeats = rng.poisson(rate / 50, size=(3, 500, 3)).astype(float)
    flips = np.cumsum(rng.uniform(0.0195, 0.0205, size=500)) + 3.0
    recording = make_recording(
        repeats.mean(0), time=flips, frame_rate=50, cells=["a", "b", "c"], repeats=repeats
    )
    times = {"time": flips[20:], "cell": ["a", "b", "c"]}
    return rate, repeats, xr.DataArray(rate[20:], dims=("time", "cell"), coords=times), recording


def test_a_resample_by_block_sums_equals_the_metrics_of_the_drawn_frames(setting):
    rate, repeats, prediction, recording = setting
    data = Predictions.of({"m": prediction}, recording, None)
    scores = data.scores(block_seconds=1.0, draws=4, seed=7)
    labels = data.blocks(1.0)
    counts = draw_blocks(labels[-1] + 1, 4, seed=7)
    for draw in range(4):
        drawn = np.repeat(data.frames, counts[draw][labels])
        spikes, expected = repeats[:, drawn], rate[drawn] / 50
        mean = spikes.mean(0)
        direct = {
            "r": pearson(mean, expected),
            "bits_per_spike": bits_per_spike(mean, expected),
            "explained_deviance": explained_deviance(mean, expected),
            "cc_norm": cc_norm(spikes, expected),
            "feve": feve(spikes, expected),
            "oracle": jackknife_oracle(spikes),
        }
        for name, truth in direct.items():
            np.testing.assert_allclose(
                scores[name].samples[draw].ravel(), truth, rtol=1e-5, err_msg=name
            )


def test_frames_are_found_by_their_real_times(setting):
    rate, _, prediction, recording = setting
    data = Predictions.of({"m": prediction}, recording, np.arange(100))
    assert data.frames.tolist() == list(range(20, 100))
    np.testing.assert_allclose(data.expected[:, 0], rate[20:100] / 50)
    near = prediction.assign_coords(time=prediction["time"] + 0.003)
    assert len(Predictions.of({"m": near}, recording, None).frames) == 480
    with pytest.raises(InputError, match="same times"):
        Predictions.of({"m": near.assign_coords(time=near["time"] + 0.005)}, recording, None)


def test_a_prediction_with_times_that_fit_no_frame_keeps_the_others_in_place(setting):
    rate, _, prediction, recording = setting
    times = prediction["time"].values.copy()
    times[100] += 0.009
    data = Predictions.of({"m": prediction.assign_coords(time=times)}, recording, None)
    assert data.frames.tolist() == [frame for frame in range(20, 500) if frame != 120]
    np.testing.assert_allclose(data.expected[:, 0], rate[data.frames] / 50)


def test_all_models_are_scored_on_the_frames_that_each_of_them_predicts(setting):
    _, _, prediction, recording = setting
    holes = prediction.copy(deep=True)
    holes[50:90, 0] = np.nan
    holes[:, 1] = np.nan
    data = Predictions.of({"whole": prediction, "holes": holes}, recording, None)
    both = data.scores(block_seconds=1.0, draws=3, seed=0)
    alone = np.flatnonzero(~np.isnan(holes[:, 0].values)) + 20
    cut = Predictions.of({"whole": prediction}, recording, alone)
    once = cut.scores(block_seconds=1.0, draws=0, seed=0)
    for name in ("r", "bits_per_spike", "explained_deviance", "cc_norm", "feve"):
        assert both[name].value[0, 0] == pytest.approx(both[name].value[1, 0])
        assert both[name].value[0, 0] == pytest.approx(once[name].value[0, 0])
        assert np.isfinite(both[name].value[0, 1]) and np.isnan(both[name].value[1, 1])
    for name in ("cc_max", "oracle"):
        assert both[name].value[0] == pytest.approx(once[name].value[0])


def test_a_spike_held_for_impossible_is_infinitely_wrong_in_the_resamples_that_hold_it(setting):
    _, _, prediction, recording = setting
    sure = prediction.copy(deep=True)
    counts = recording["spike_count"].values[20:, 0]
    sure[np.flatnonzero(counts)[0], 0] = 0.0
    data = Predictions.of({"sure": sure}, recording, None)
    bits = data.scores(block_seconds=1.0, draws=200, seed=0)["bits_per_spike"]
    assert np.isneginf(bits.value[0, 0]) and np.isfinite(bits.value[0, 1:]).all()
    share = np.isneginf(bits.samples[:, 0, 0]).mean()
    assert not np.isnan(bits.samples).any()
    assert share == pytest.approx(1 - (1 - 1 / 9) ** 9, abs=0.1)


def test_predictions_that_cannot_be_placed_are_refused(setting):
    _, _, prediction, recording = setting
    some = prediction.assign_coords(cell=["c", "b", "x"])
    with pytest.raises(InputError, match=r"2 of 3 cells have names of the recording \(b, c\)"):
        Predictions.of({"m": some}, recording, None)
    turned = prediction[:, ::-1]
    found = Predictions.of({"m": turned}, recording, None).expected
    np.testing.assert_array_equal(
        found, Predictions.of({"m": prediction}, recording, None).expected
    )
    numbered = prediction.assign_coords(cell=["0", "1", "2"])
    np.testing.assert_array_equal(found, Predictions.of({"m": numbered}, recording, None).expected)
    endless = prediction.copy(deep=True)
    endless[3, 1] = np.inf
    with pytest.raises(InputError, match="a rate is infinite"):
        Predictions.of({"m": endless}, recording, None)
    with pytest.raises(InputError, match="times must rise"):
        Predictions.of({"m": prediction[::-1]}, recording, None)
    for frames in (np.arange(500) > 100, [-1, 30, 40], [30, 500], [1.0, 2.0]):
        with pytest.raises(InputError, match="frame numbers from 0 to 499"):
            Predictions.of({"m": prediction}, recording, frames)


def test_times_off_by_rounding_lie_on_their_frames(setting):
    rate, _, prediction, recording = setting
    rounded = prediction.assign_coords(time=prediction["time"].values.astype(np.float32))
    data = Predictions.of({"m": rounded, "same": prediction}, recording, None)
    assert data.frames.tolist() == list(range(20, 500))
    np.testing.assert_allclose(data.expected[:, 0], rate[20:] / 50)


def test_frames_that_are_missing_here_and_there_make_no_blocks_of_one_frame(setting):
    _, _, prediction, recording = setting
    every = Predictions.of({"m": prediction}, recording, np.arange(20, 500, 3))
    labels = every.blocks(1.0)
    assert labels[-1] + 1 == 478 // 50
    for block in range(labels[-1] + 1):
        own = every.frames[labels == block]
        assert own[-1] - own[0] >= 45
