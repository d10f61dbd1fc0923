"""Chance for spike-triggered averages: brute force, its level, planted fields, real cells."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from retinacodec.analyses.sta_significance import (
    ShiftNull,
    WhiteNull,
    largest_at_shifts,
    sta_significance,
)
from retinacodec.errors import InputError
from retinacodec.schema import make_recording, make_stimulus


def _movie(frames, height, width, seed=0, hold=1):
    contrast = np.random.default_rng(seed).choice([-1.0, 1.0], (frames // hold, height, width))
    return make_stimulus(np.repeat(contrast, hold, 0), frame_rate=60, pixel_um=50, name="noise")


def _recording(movie, counts):
    names = [f"cell_{number}" for number in range(counts.shape[1])]
    return make_recording(counts, time=movie["time"], frame_rate=60, cells=names)


@pytest.mark.parametrize(("frames", "latency"), [(60, 0), (61, 2)])
def test_every_shift_equals_the_covariance_of_shifted_responses(frames, latency):
    rng = np.random.default_rng(1)
    movie = rng.normal(2, 3, (frames, 3, 4)) * np.arange(1, 5)
    responses = rng.normal(size=(frames, 2))
    null = largest_at_shifts(movie, responses, 5, latency)
    standard = scipy.stats.zscore(movie, axis=0)
    for shift in (0, 1, 7, frames - 1):
        moved = np.roll(responses, shift, axis=0)
        fields = [
            np.einsum("tn,tyx->nyx", moved, np.roll(standard, lag, axis=0))
            for lag in range(latency, latency + 5)
        ]
        np.testing.assert_allclose(null[shift], np.abs(fields).max(axis=(0, 2, 3)), rtol=1e-4)


def test_z_is_the_correlation_of_response_and_contrast_of_a_pixel():
    movie = _movie(3000, 2, 2)
    counts = np.random.default_rng(2).poisson(0.6 + 0.3 * movie["contrast"].values[:, 0, :])
    found = sta_significance(movie, _recording(movie, counts), history=1, null=WhiteNull())
    pixels = movie["contrast"].values.reshape(3000, 4)
    r = np.corrcoef(counts.T, pixels.T)[:2, 2:]
    np.testing.assert_allclose(found["z"].values.reshape(2, 4), r * np.sqrt(3000), rtol=1e-4)


@pytest.mark.parametrize("null", [ShiftNull(), ShiftNull(199, seed=3), WhiteNull()])
def test_unrelated_cells_are_named_at_the_level_and_driven_ones_always(null):
    movie = _movie(3000, 5, 5)
    rng = np.random.default_rng(4)
    counts = rng.poisson(0.3, size=(3000, 402))
    counts[4:, 400] = rng.poisson(0.3 * np.exp(0.5 * movie["contrast"].values[:-4, 1, 2]))
    counts[2:, 401] = rng.poisson(0.3 * np.exp(-0.5 * movie["contrast"].values[:-2, 3, 4]))
    found = sta_significance(movie, _recording(movie, counts), history=6, null=null)
    false = found["significant"][:400].any(("lag", "y", "x")).mean().item()
    assert 0.02 < false < 0.09
    assert (found["p"][:400] < 0.05).mean().item() == pytest.approx(false, abs=0.01)
    assert scipy.stats.kstest(found["p"][:400].values, "uniform").pvalue > 0.001
    assert (found["p"][400:] <= 0.005).all()
    if null != ShiftNull(199, seed=3):  # whose least p is too large for one cell among 200
        assert found["found"][400:].all() and found["found"][:400].sum() <= 3
    assert set(zip(*np.nonzero(found["significant"].values[400]), strict=True)) >= {(1, 1, 2)}
    assert set(zip(*np.nonzero(found["significant"].values[401]), strict=True)) >= {(3, 3, 4)}
    assert found["significant"][400:].sum() <= 5


def test_correlated_frames_and_bursts_mislead_the_white_null_but_not_the_shifted_one():
    movie = _movie(6000, 4, 4, hold=6)
    rng = np.random.default_rng(5)
    counts = np.repeat(rng.poisson(0.3, size=(1000, 100)), 6, axis=0)
    recording = _recording(movie, counts)
    white = sta_significance(movie, recording, history=6, null=WhiteNull())
    shifted = sta_significance(movie, recording, history=6)
    assert (white["p"] < 0.05).mean() > 0.5
    assert (shifted["p"] < 0.05).mean() < 0.12


def test_rates_and_their_scale_give_the_same_answer_as_counts():
    movie = _movie(1000, 3, 3)
    counts = np.random.default_rng(6).poisson(1.0, size=(1000, 3)).astype(float)
    rate = xr.DataArray(
        7 * counts[3:], [("time", movie["time"].values[3:]), ("cell", ["a", "b", "c"])]
    )
    counts[:3] = np.nan
    one = sta_significance(movie, _recording(movie, counts), history=4)
    other = sta_significance(movie, rate, history=4)
    for name in ("z", "p", "q", "threshold"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-4)


def test_silent_and_constant_cells_and_dead_pixels_are_flagged():
    movie = _movie(400, 3, 3)
    movie["contrast"][:, 1, 1] = 0.25
    counts = np.zeros((400, 3))
    counts[:, 1] = 2
    counts[:, 2] = np.random.default_rng(7).poisson(0.5, 400)
    found = sta_significance(movie, _recording(movie, counts), history=3)
    for name in ("peak", "p", "q", "threshold"):
        assert np.isnan(found[name].values).tolist() == [True, True, False]
    assert not found["significant"][:2].any()
    assert np.isnan(found["z"][2]).sum() == 3 and np.isnan(found["z"][2, :, 1, 1]).all()


def test_bad_calls_are_refused():
    movie = _movie(50, 2, 2)
    recording = _recording(movie, np.ones((50, 1)))
    with pytest.raises(InputError, match="level"):
        sta_significance(movie, recording, history=3, level=1.5)
    with pytest.raises(InputError, match="cannot be moved by 30"):
        sta_significance(movie, recording, history=3, null=ShiftNull(least=30))


@pytest.mark.realdata
def test_mouse_cells_peak_where_they_are_known_to_and_beyond_chance(mouse_checkers):
    """Six cells under checkers; peaks (lag in frames, x, y) as they are listed for these data."""
    movie, recording, first = mouse_checkers
    found = sta_significance(movie, recording, history=24, level=0.01)
    assert found["found"].all() and (found["p"] < 0.001).all()
    assert (found["threshold"] < 5.5).all()
    known = [(9, 30, 21), (10, 31, 20), (7, 31, 20), (8, 33, 25), (10, 33, 25), (10, 31, 24)]
    for cell, (frames, x, y) in enumerate(known):
        place = (23 - frames, y - first[0], x - first[1])
        assert np.unravel_index(np.abs(found["z"][cell]).values.argmax(), (24, 24, 24)) == place
        assert found["significant"].values[cell][place]
        assert found["significant"][cell].sum() < 300
    np.testing.assert_allclose(found["lag"][-1], 0)


@pytest.mark.realdata
def test_salamander_cells_under_full_field_flicker_are_off_and_beyond_chance(data_dir):
    """251 ganglion cells; nearly all respond to a decrement 67 to 100 ms before the spike."""
    import scipy.io

    from retinacodec.recordings import bin_spikes

    folder = Path(data_dir) / "rgc_salamander"
    stored = {}
    for name in ("Stim", "stimtimes", "SpTimes"):
        stored |= scipy.io.loadmat(folder / f"{name}.mat", squeeze_me=True)
    onset = stored["stimtimes"] / 10_000
    trains = [np.atleast_1d(train) / 10_000 for train in stored["SpTimes"]["sp"]]
    rate = 1 / np.median(np.diff(onset))
    contrast = stored["Stim"][:, None, None]
    movie = make_stimulus(contrast, frame_rate=rate, pixel_um=1, name="flicker", time=onset)
    recording = make_recording(
        bin_spikes(trains, onset),
        time=onset,
        frame_rate=rate,
        cells=[str(number) for number in range(len(trains))],
    )
    found = sta_significance(movie, recording, history=20, level=0.01)
    assert found["found"].sum() >= 248
    z = found["z"].values[:, :, 0, 0]
    strongest = np.abs(z).argmax(axis=1)
    sure = found["peak"].values > 10
    off = np.take_along_axis(z, strongest[:, None], 1)[:, 0] < 0
    assert sure.sum() >= 240 and (off & sure).sum() >= 240
    delays = -found["lag"].values[strongest[sure & off]]
    assert np.mean((delays > 0.06) & (delays < 0.105)) > 0.97
    assert found["significant"].values[sure, strongest[sure]].all()
    late = found["significant"].values[:, found["lag"].values < -0.5]
    assert late.mean() < 0.05
