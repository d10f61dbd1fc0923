"""Spikes and rates as weights of a movie's frames: aligned by time, and refused where unfit."""

import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses.receptive_fields import spike_triggered_average, sta_peaks
from retinacodec.analyses.triggered_responses import triggered_responses
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError
from retinacodec.models import LinearNonlinear
from retinacodec.schema import make_recording, make_stimulus


def _movie(frames, height=3, width=4, seed=0):
    contrast = np.random.default_rng(seed).choice([-1.0, 1.0], (frames, height, width))
    return make_stimulus(contrast, frame_rate=60, pixel_um=50, name="white", first_frame=30)


def _rate(values, times):
    names = [str(cell) for cell in range(values.shape[1])]
    return xr.DataArray(values, [("time", times), ("cell", names)], name="rate")


def test_a_rate_weighs_windows_as_so_many_spikes_would():
    movie = _movie(80)
    counts = np.random.default_rng(1).poisson(0.8, (80, 2)).astype(float)
    spikes = make_recording(counts, time=movie["time"], frame_rate=60, cells=["0", "1"])
    rate = _rate(60 * counts, movie["time"].values)
    wanted = spike_triggered_average(movie, spikes, history=5, latency=1)
    for response in (rate, rate.to_dataset(), rate.transpose("cell", "time")):
        found = spike_triggered_average(movie, response, history=5, latency=1)
        for name in ("sta", "spikes", "effective_spikes"):
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)
        scale = np.sqrt(wanted["effective_spikes"] / wanted["spikes"])
        np.testing.assert_allclose(found["z"], wanted["z"] * scale, rtol=1e-4, atol=1e-5)


def test_a_rate_that_starts_later_or_has_gaps_is_laid_on_the_movie_by_its_time():
    movie = _movie(60)
    values = np.random.default_rng(2).random((60, 1))
    rows = np.r_[10:30, 41:60]
    part = _rate(values[rows], movie["time"].values[rows] + 0.001)
    found = triggered_responses(movie, part, history=3)
    expected = np.zeros((60, 1))
    expected[rows] = values[rows] / 60
    np.testing.assert_allclose(found.weights, expected, rtol=1e-6)
    assert np.flatnonzero(found.known[:, 0]).tolist() == rows.tolist()
    np.testing.assert_allclose(found.centred.sum(), 0, atol=1e-6)
    some = triggered_responses(movie, part, history=3, frames=[5, 12, 45])
    assert np.flatnonzero(some.weights[:, 0]).tolist() == [12, 45]


@pytest.mark.parametrize("latency", [0, 2])
def test_the_average_of_a_model_is_the_same_sparse_or_dense_and_finds_its_filter(latency):
    model = LinearNonlinear(2, size=(3, 4), history=6, rank=1, latency=latency, seed=3)
    movie = _movie(4000)
    rate = predict(Circuit(model, layers=["rate"]), movie)
    assert rate.sizes["time"] == 4000 - 5 - latency
    options = {"history": 6, "latency": latency}
    dense, sparse = (
        spike_triggered_average(movie, rate, sparse=way, **options) for way in (False, True)
    )
    np.testing.assert_allclose(dense["sta"], sparse["sta"], atol=1e-6)
    for average, kernel in zip(dense["sta"].values, model.filters().detach().numpy(), strict=True):
        noise = average.std()
        assert noise > 0 and np.corrcoef(average.ravel(), kernel.ravel())[0, 1] > 0.5
    assert (sta_peaks(dense)["lag_frames"] >= latency).all()


def test_unfit_responses_are_refused_with_a_reason():
    movie = _movie(20)
    times = movie["time"].values
    good = np.ones((20, 1))
    bad = good.copy()
    bad[3], bad[4] = -1, np.inf
    with pytest.raises(InputError, match=r"infinite.*below zero"):
        triggered_responses(movie, _rate(bad, times), history=2)
    with pytest.raises(InputError, match="onsets of frames"):
        triggered_responses(movie, _rate(good, times + 0.008), history=2)
    with pytest.raises(InputError, match="two times lie on one frame"):
        triggered_responses(movie, _rate(good[:2], times[[4, 4]]), history=2)
    with pytest.raises(InputError, match="'spike_count' or 'rate'"):
        triggered_responses(movie, movie, history=2)
    with pytest.raises(InputError, match="no coordinate 'cell'"):
        triggered_responses(movie, _rate(good, times).drop_vars("cell"), history=2)
    with pytest.raises(InputError, match="dims must be"):
        triggered_responses(movie, _rate(good, times).isel(cell=0), history=2)
    with pytest.raises(InputError, match="empty"):
        triggered_responses(movie, _rate(good[:0], times[:0]), history=2)
