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
