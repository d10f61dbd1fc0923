"""Covariance of windows for correlated stimuli and rates, and nested tests by shifted responses."""

import numpy as np
import pytest
import scipy.ndimage
import xarray as xr

from retinacodec.analyses.spike_covariance import draw_eigenvalues, spike_triggered_covariance
from retinacodec.analyses.window_covariances import NestedShifts
from retinacodec.errors import InputError
from retinacodec.plotting import figure
from retinacodec.schema import make_recording, make_stimulus


def _noise(frames, side=4, seed=0, smooth=0.0):
    contrast = np.random.default_rng(seed).normal(0, 0.5, (frames, side, side))
    if smooth:
        contrast = scipy.ndimage.gaussian_filter(contrast, smooth, mode="wrap")
    return make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")


def _recording(movie, counts):
    names = [str(cell) for cell in range(counts.shape[1])]
    return make_recording(counts, time=movie["time"], frame_rate=60, cells=names)


def _windows(movie, history):
    contrast = movie["contrast"].values - movie["contrast"].values.mean(0)
    views = np.lib.stride_tricks.sliding_window_view(contrast, history, axis=0)
    return views.transpose(0, 3, 1, 2).reshape(len(views), -1).astype(np.float64)


def test_the_measured_prior_weighs_every_window_alike_and_spikes_once():
    movie = _noise(400, 3, smooth=0.7)
    counts = np.random.default_rng(1).poisson(1.5, (400, 1)).astype(float)
    counts[50:90] = np.nan
    found = spike_triggered_covariance(
        movie,
        _recording(movie, counts),
        history=2,
        window=3,
        components=9,
        correlated=True,
        frames=np.arange(20, 380),
    )
    windows, k = _windows(movie, 2), counts[1:, 0].copy()
    k[:19], k[379:] = np.nan, np.nan
    seen = np.isfinite(k)
    windows, k = windows[seen], k[seen]
    expected = (windows.T * k) @ windows / k.sum() - windows.T @ windows / len(windows)
    values = np.sort(np.linalg.eigvalsh(expected))[::-1]
    np.testing.assert_allclose(found["eigenvalue"][0], values, atol=1e-5)
    assert np.isnan(found["chance_high"]).all()


def test_rates_of_any_scale_give_the_covariance_of_as_many_spikes():
    movie = _noise(500, 3)
    counts = np.random.default_rng(2).poisson(0.7, (500, 2)).astype(float)
    rate = xr.DataArray(0.3 * counts, [("time", movie["time"].values), ("cell", ["0", "1"])])
    options = {"history": 2, "window": 3, "components": 2}
    spikes = spike_triggered_covariance(movie, _recording(movie, counts), **options)
    rates = spike_triggered_covariance(movie, rate, **options)
    for name in ("eigenvalue", "feature", "chance_low", "chance_high"):
        np.testing.assert_allclose(rates[name], spikes[name], atol=1e-4)


def test_planted_axes_are_named_one_by_one_and_nothing_else():
    movie = _noise(20_000)
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.normal(size=(48, 3)))[0].T
    drive = _windows(movie, 3) @ basis.T / 0.5
    power = drive**2 @ [0.17, 0.12, -0.5]
    counts = np.concatenate([np.zeros(2), rng.poisson(0.3 * np.exp(power))])[:, None]
    found = spike_triggered_covariance(
        movie,
        _recording(movie, counts),
        history=3,
        window=4,
        components=3,
        null=NestedShifts(60, level=0.05),
    )
    assert found["significant"][0].values.tolist() == [True, True, False, False, False, True]
    p = found["p"][0].values
    np.testing.assert_allclose(p[[0, 1, 5]], 2 / 61)
    assert np.isfinite(p).sum() == 4 and np.nanmax(p) > 0.05
    assert float(found["null_high"][0]) < float(found["eigenvalue"][0, 1])
    ax = draw_eigenvalues(found, figure().subplots())
    assert len(ax.lines[1].get_xdata()) == 3


@pytest.mark.parametrize("smooth", [0.0, 0.8])
def test_unrelated_bursts_are_named_no_more_often_than_the_level(smooth):
    """Spikes come in bursts, and neighbouring windows share frames; shifts keep both."""
    movie = _noise(1500, 3, smooth=smooth)
    rng = np.random.default_rng(4)
    counts = np.repeat(rng.poisson(0.15, (500, 60)), 3, axis=0).astype(float)
    found = spike_triggered_covariance(
        movie,
        _recording(movie, counts),
        history=3,
        window=3,
        components=1,
        centres=[[1, 1]] * 60,
        correlated=smooth > 0,
        null=NestedShifts(39, level=0.1),
    )
    assert found["significant"].any("component").sum() <= 12


def test_silent_cells_and_bad_levels():
    movie = _noise(200, 3)
    recording = _recording(movie, np.zeros((200, 1)))
    options = {"history": 2, "window": 3, "components": 1}
    found = spike_triggered_covariance(movie, recording, null=NestedShifts(5), **options)
    assert np.isnan(found["p"]).all() and not found["significant"].any()
    busy = _recording(movie, np.ones((200, 1)))
    with pytest.raises(InputError, match="level"):
        spike_triggered_covariance(movie, busy, null=NestedShifts(5, level=0), **options)


def test_large_spectra_have_the_same_ends_as_small_ones():
    from retinacodec.analyses.window_covariances import _ends

    matrix = np.random.default_rng(5).normal(size=(200, 200))
    matrix = matrix + matrix.T
    values = np.linalg.eigvalsh(matrix)
    np.testing.assert_allclose(_ends(matrix), values[[0, -1]], rtol=1e-4)
