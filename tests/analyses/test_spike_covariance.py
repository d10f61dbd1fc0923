"""Spike-triggered covariance against its definition and against planted features."""

import numpy as np
import pytest

from retinacodec.analyses.spike_covariance import draw_eigenvalues, spike_triggered_covariance
from retinacodec.errors import InputError
from retinacodec.plotting import figure
from retinacodec.schema import make_recording, make_stimulus


def _noise(frames, side=5, seed=0):
    contrast = np.random.default_rng(seed).normal(0, 0.5, (frames, side, side))
    return make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")


def _recording(movie, counts):
    names = [str(cell) for cell in range(counts.shape[1])]
    return make_recording(counts, time=movie["time"], frame_rate=60, cells=names)


def _windows(movie, history, latency=0):
    contrast = movie["contrast"].values[: len(movie["time"]) - latency]
    views = np.lib.stride_tricks.sliding_window_view(contrast, history, axis=0)
    return views.transpose(0, 3, 1, 2).reshape(len(views), -1).astype(np.float64)


@pytest.mark.parametrize(("latency", "driven"), [(0, True), (2, True), (0, False)])
def test_spectrum_equals_the_definition_with_each_spike_counted_once(latency, driven):
    movie = _noise(300, side=3)
    rng = np.random.default_rng(1)
    pixel = movie["contrast"].values[:, 1, 2]
    pixel = np.concatenate([np.zeros(latency), pixel])[:300] if driven else np.zeros(300)
    counts = rng.poisson(0.8 * np.exp(2 * pixel)).astype(float)[:, None]
    found = spike_triggered_covariance(
        movie, _recording(movie, counts), history=2, latency=latency, window=3, components=9
    )
    windows, k = _windows(movie, 2, latency), counts[1 + latency :, 0]
    mean = k @ windows / k.sum()
    centre = np.tile(movie["contrast"].values.mean(0, dtype=float).ravel(), 2)
    windows = windows - centre
    unit = (mean - centre) / np.linalg.norm(mean - centre) * driven
    left = windows - np.outer(windows @ unit, unit)
    power = movie["contrast"].values.var(axis=0, dtype=float).mean()
    matrix = (left * k[:, None]).T @ left / k.sum() - power * (np.eye(18) - np.outer(unit, unit))
    values = np.sort(np.linalg.eigvalsh(matrix))[::-1]
    np.testing.assert_allclose(found["eigenvalue"][0], values, atol=1e-6)
    np.testing.assert_allclose(found["sta"][0].values.ravel(), mean, atol=1e-6)
    features = found["feature"].values[0].reshape(18, -1)
    np.testing.assert_allclose(matrix @ features.T, features.T * values, atol=1e-5)


def test_planted_features_are_recovered_and_the_rest_is_chance():
    """One feature excites whatever its sign and one suppresses; neither has an average."""
    movie = _noise(40_000, side=4)
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(48, 2)))[0].T
    drive = _windows(movie, 3) @ basis.T / 0.5
    rate = 0.35 * np.exp(0.15 * drive[:, 0] ** 2 - 0.6 * drive[:, 1] ** 2)
    counts = np.concatenate([np.zeros(2), rng.poisson(rate)])[:, None]
    found = spike_triggered_covariance(
        movie, _recording(movie, counts), history=3, window=4, components=3
    ).isel(cell=0)
    features = found["feature"].values.reshape(6, -1)
    assert abs(features[0] @ basis[0]) > 0.97
    assert abs(features[-1] @ basis[1]) > 0.97
    values = found["eigenvalue"].values
    outside = (values > float(found["chance_high"])) | (values < float(found["chance_low"]))
    assert outside[[0, -1]].all() and not outside[1:-1].any()
    assert values[0] == pytest.approx(0.25 * (1 / (1 - 0.3) - 1), rel=0.15)
    assert values[-1] == pytest.approx(0.25 * (1 / (1 + 1.2) - 1), rel=0.15)


def test_unrelated_spikes_stay_within_chance():
    movie = _noise(8000, side=6)
    counts = np.random.default_rng(3).poisson(0.3, size=(8000, 3)).astype(float)
    found = spike_triggered_covariance(
        movie, _recording(movie, counts), history=4, window=6, components=1
    )
    assert (found["eigenvalue"][:, 0] < 1.1 * found["chance_high"]).all()
    assert (found["eigenvalue"][:, 1] > 1.1 * found["chance_low"]).all()
    assert (found["eigenvalue"][:, 0] > 0.8 * found["chance_high"]).all()


def test_square_lies_around_the_peak_and_inside_the_movie():
    movie = _noise(2000, side=9)
    contrast = movie["contrast"].values
    counts = np.stack([contrast[:, 8, 0] > 0.3, contrast[:, 4, 5] > 0.3], axis=1).astype(float)
    found = spike_triggered_covariance(
        movie, _recording(movie, counts), history=1, window=4, components=1
    )
    np.testing.assert_allclose(found["y"][0], movie["y"].values[5:9])
    np.testing.assert_allclose(found["x"][0], movie["x"].values[0:4])
    np.testing.assert_allclose(found["y"][1], movie["y"].values[2:6])
    np.testing.assert_allclose(found["x"][1], movie["x"].values[3:7])
    assert np.unravel_index(found["sta"][1].values.argmax(), (1, 4, 4)) == (0, 2, 2)
    moved = spike_triggered_covariance(
        movie,
        _recording(movie, counts),
        history=1,
        window=4,
        components=1,
        centres=[[2, 2], [2, 2]],
    )
    np.testing.assert_allclose(moved["y"][1], movie["y"].values[0:4])


def test_silent_cell_is_nan_and_bad_calls_are_refused():
    movie = _noise(100, side=3)
    recording = _recording(movie, np.zeros((100, 1)))
    found = spike_triggered_covariance(movie, recording, history=2, window=3, components=2)
    assert np.isnan(found["eigenvalue"]).all() and found["spikes"] == 0
    with pytest.raises(InputError, match=r"window.*components.*centres"):
        spike_triggered_covariance(
            movie, recording, history=2, window=0, components=0, centres=[[1, 1]] * 2
        )
    large = _noise(300, side=30)
    with pytest.raises(InputError, match="9000 dimensions"):
        spike_triggered_covariance(
            large, _recording(large, np.ones((300, 1))), history=10, window=30
        )


def test_drawing_shows_spectrum_and_chance():
    movie = _noise(2000, side=4)
    counts = np.random.default_rng(3).poisson(0.3, size=(2000, 1)).astype(float)
    found = spike_triggered_covariance(
        movie, _recording(movie, counts), history=2, window=4, components=2
    )
    ax = draw_eigenvalues(found, figure().subplots())
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found["eigenvalue"][0])
