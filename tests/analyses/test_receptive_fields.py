"""Spike-triggered averages of planted filters, of a single spike and of real mouse cells."""

import numpy as np
import pytest

from retinacodec.analyses.receptive_fields import (
    draw_sta,
    draw_time_course,
    spike_triggered_average,
    sta_peaks,
)
from retinacodec.errors import InputError
from retinacodec.plotting import figure
from retinacodec.schema import make_recording, make_stimulus


def _movie(frames, height, width, seed=0):
    contrast = np.random.default_rng(seed).choice([-1.0, 1.0], (frames, height, width))
    return make_stimulus(contrast, frame_rate=60, pixel_um=50, name="white noise")


def _recording(movie, counts):
    names = [f"cell_{number}" for number in range(counts.shape[1])]
    return make_recording(counts, time=movie["time"], frame_rate=60, cells=names)


@pytest.mark.parametrize(("latency", "chunk"), [(0, 4096), (2, 4096), (2, 7)])
def test_average_of_one_spike_is_the_window_before_it(latency, chunk):
    movie = _movie(50, 3, 4)
    counts = np.zeros((50, 2))
    counts[20, 0] = 1
    counts[[30, 49], 1] = 2, 1
    found = spike_triggered_average(
        movie, _recording(movie, counts), history=5, latency=latency, chunk=chunk
    )
    contrast = movie["contrast"].values
    window = {t: contrast[t - latency - 4 : t - latency + 1] for t in (20, 30, 49)}
    np.testing.assert_allclose(found["sta"][0], window[20], atol=1e-6)
    np.testing.assert_allclose(found["sta"][1], (2 * window[30] + window[49]) / 3, atol=1e-6)
    assert found["lag"].values[-1] == pytest.approx(-latency / 60)
    assert found["spikes"].values.tolist() == [1, 3]
    np.testing.assert_allclose(found["effective_spikes"], [1, 9 / 5])


def test_spikes_without_a_whole_window_or_outside_the_frames_or_unobserved_do_not_count():
    movie = _movie(50, 3, 4)
    counts = np.zeros((50, 1))
    counts[[3, 20, 25, 30]] = 1
    counts[40] = np.nan
    recording = _recording(movie, counts)
    found = spike_triggered_average(movie, recording, history=5, frames=np.arange(26))
    assert found["spikes"].item() == 2
    expected = (movie["contrast"].values[16:21] + movie["contrast"].values[21:26]) / 2
    np.testing.assert_allclose(found["sta"][0], expected, atol=1e-6)


def test_planted_filters_are_recovered_with_their_sign_and_lag():
    """For an exponential rate the average is proportional to the filter (Bussgang)."""
    movie = _movie(30_000, 6, 6)
    rng = np.random.default_rng(1)
    filters = np.zeros((2, 8, 6, 6))
    filters[0, 4, 2, 3], filters[0, 3, 2, 3], filters[0, 4, 2, 4] = 0.4, 0.2, 0.2
    filters[1, 6, 4, 1], filters[1, 5, 4, 1] = -0.4, -0.2
    contrast = movie["contrast"].values
    windows = np.lib.stride_tricks.sliding_window_view(contrast, 8, axis=0)
    drive = np.einsum("tyxl,nlyx->tn", windows, filters, optimize=True)
    rate = np.concatenate([np.zeros((7, 2)), 0.15 * np.exp(drive)])
    found = spike_triggered_average(movie, _recording(movie, rng.poisson(rate)), history=8)
    tanh = np.tanh(filters)
    np.testing.assert_allclose(found["sta"], tanh, atol=5 / np.sqrt(found["spikes"].min()))
    peaks = sta_peaks(found)
    assert peaks["lag_frames"].values.tolist() == [3, 1]
    assert peaks["row"].values.tolist() == [2, 4]
    assert peaks["column"].values.tolist() == [3, 1]
    assert peaks["z"][0] > 10 > -10 > peaks["z"][1]
    np.testing.assert_allclose(peaks["x"], movie["x"].values[[3, 1]])
    np.testing.assert_allclose(peaks["lag"], [-3 / 60, -1 / 60])


@pytest.mark.parametrize(("per_frame", "level"), [(0.1, 0.0), (3.0, 0.0), (0.3, 5.0)])
def test_z_of_pure_noise_is_standard_normal_and_stays_below_chance(per_frame, level):
    movie = _movie(6000, 8, 8)
    movie["contrast"] += level * np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    counts = np.random.default_rng(2).poisson(per_frame, (6000, 20)).astype(float)
    found = spike_triggered_average(movie, _recording(movie, counts), history=10)
    assert found["z"].std() == pytest.approx(1, abs=0.02)
    peaks = sta_peaks(found)
    assert peaks.attrs["chance"] == pytest.approx(3.95, abs=0.01)
    assert (abs(peaks["z"]) > peaks.attrs["chance"]).sum() <= 3


def test_silent_cell_is_flagged():
    movie = _movie(50, 3, 4)
    peaks = sta_peaks(
        spike_triggered_average(movie, _recording(movie, np.zeros((50, 1))), history=5)
    )
    assert np.isnan(peaks["z"].item()) and peaks["lag_frames"].item() == -1


def test_bad_calls_are_refused():
    movie = _movie(50, 3, 4)
    recording = _recording(movie, np.ones((50, 1)))
    with pytest.raises(InputError, match=r"history.*latency"):
        spike_triggered_average(movie, recording, history=0, latency=-1)
    with pytest.raises(InputError, match="reach beyond"):
        spike_triggered_average(movie, recording, history=60)
    with pytest.raises(InputError, match="from 0 to 49"):
        spike_triggered_average(movie, recording, history=5, frames=[50])


def test_drawings_show_the_peak():
    movie = _movie(400, 5, 6)
    counts = np.zeros((400, 1))
    counts[4:, 0] = movie["contrast"].values[2:-2, 1, 4] > 0
    found = spike_triggered_average(movie, _recording(movie, counts), history=5)
    left, right = figure().subplots(1, 2)
    draw_sta(found, left, cell="cell_0")
    draw_time_course(found, right)
    assert "-33 ms" in left.get_title()
    picture = np.asarray(left.images[0].get_array())
    assert np.unravel_index(np.abs(picture).argmax(), picture.shape) == (1, 4)
    curve = right.lines[-1].get_xydata()
    assert curve[curve[:, 1].argmax()] == pytest.approx([-2000 / 60, 1.0], abs=1e-4)


@pytest.mark.realdata
def test_mouse_cells_have_their_known_peaks(mouse_checkers):
    """Six ganglion cells under a binary checkerboard; peaks as DATA lists them."""
    movie, recording, first = mouse_checkers
    peaks = sta_peaks(spike_triggered_average(movie, recording, history=24))
    known = [
        (9.6, 9, 30, 21),
        (17.9, 10, 31, 20),
        (-17.8, 7, 31, 20),
        (-8.2, 8, 33, 25),
        (-12.3, 10, 33, 25),
        (9.6, 10, 31, 24),
    ]
    np.testing.assert_allclose(peaks["z"], [row[0] for row in known], atol=0.3)
    assert peaks["lag_frames"].values.tolist() == [row[1] for row in known]
    assert (peaks["column"].values + first[1]).tolist() == [row[2] for row in known]
    assert (peaks["row"].values + first[0]).tolist() == [row[3] for row in known]


def test_the_peak_is_not_at_a_pixel_that_never_changes():
    movie = _movie(3000, 5, 6)
    seen = movie["contrast"].values[:, 3, 4].copy()
    movie["contrast"][:, 0, 0] = 9.0
    counts = np.random.default_rng(4).poisson(np.exp(np.roll(seen, 2) - 2))[:, None]
    found = spike_triggered_average(movie, _recording(movie, counts.astype(float)), history=5)
    peak = sta_peaks(found).isel(cell=0)
    assert (int(peak["row"]), int(peak["column"]), int(peak["lag_frames"])) == (3, 4, 2)
    assert abs(found["z"][0, :, 0, 0]).max() < 1e-3


@pytest.mark.parametrize("kind", [np.uint8, np.float16, np.float64])
def test_movies_of_any_number_type_have_the_same_peak(kind):
    movie = _movie(3000, 4, 4)
    seen = movie["contrast"].values[:, 2, 1]
    counts = np.random.default_rng(4).poisson(np.exp(np.roll(seen, 1) - 2))[:, None]
    shown = movie.assign(contrast=(50 * (movie["contrast"] + 2)).astype(kind))
    recording = _recording(movie, counts.astype(float))
    one, other = (
        sta_peaks(spike_triggered_average(stimulus, recording, history=3, sparse=True))
        for stimulus in (movie, shown)
    )
    assert one["z"].item() == pytest.approx(other["z"].item(), rel=0.01)
    assert (one["row"] == other["row"]) and (one["lag_frames"] == other["lag_frames"])


def test_a_cell_without_an_average_is_not_drawn():
    movie = _movie(50, 3, 3)
    found = spike_triggered_average(movie, _recording(movie, np.zeros((50, 1))), history=5)
    with pytest.raises(InputError, match="has no average"):
        draw_sta(found, figure().subplots())
