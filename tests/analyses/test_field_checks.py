"""Mean instantaneous fields against response-triggered averages, where they must agree."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from retinacodec.analyses import compare_with_average, draw_field_agreement
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError
from retinacodec.gradients import instantaneous_fields
from retinacodec.models import CircuitRetina, DeepRetina, LinearNonlinear
from retinacodec.schema import make_recording, make_stimulus


def _noise(frames, size, seed=0, spread=0.5):
    pixels = np.random.default_rng(seed).normal(0, spread, (frames, *size))
    return make_stimulus(pixels.astype(np.float32), frame_rate=60, pixel_um=50, name="noise")


@pytest.fixture(scope="module")
def movie():
    return _noise(6000, (10, 9))


@pytest.fixture(scope="module")
def circuit(movie):
    options = {"size": (10, 9), "history": 6, "channels": (4, 3), "kernels": (5, 3), "latency": 1}
    model = DeepRetina(3, seed=2, **options)
    with torch.no_grad():
        for weight in (model.conv1.weight, model.conv2.weight):
            weight.mul_(3)
    return Circuit(model.eval(), [])


def test_mean_field_on_gaussian_noise_is_the_average_within_sampling_error(movie, circuit):
    found = compare_with_average(circuit, movie, every=1, progress=False)
    np.testing.assert_allclose(found["chi2"], 1, atol=0.15)
    assert (found["correlation"] > 0.8).all() and (found["slope_low"] < 1.0).all()
    assert (found["slope_high"] > 1.0).all()
    fields = instantaneous_fields(circuit, movie, progress=False)
    scale = float(abs(fields.mean("time")).max())
    np.testing.assert_allclose(found["field"] / scale, fields.mean("time") / scale, atol=1e-4)
    rate = predict(circuit, movie)
    x = movie["contrast"].values
    for lag in range(6):
        frames = circuit.first_frame + np.arange(rate.sizes["time"])
        shown = x[frames - 1 - lag].reshape(len(frames), -1)
        around = rate.values - rate.values.mean(axis=0)
        expected = around.T.astype(float) @ shown / len(frames) / x.var()
        mine = found["average"].values[:, 5 - lag].reshape(3, -1)
        np.testing.assert_allclose(mine / scale, expected / scale, atol=0.003)


def test_a_wrong_lag_is_seen(movie, circuit):
    rate = predict(circuit, movie)
    late = rate.assign_coords(time=rate["time"] + 1 / 60).isel(time=slice(0, -1))
    right = compare_with_average(circuit, movie, rate, every=4, progress=False)
    wrong = compare_with_average(circuit, movie, late, every=4, progress=False)
    assert (wrong["correlation_high"] < right["correlation_low"]).all()
    assert np.isnan(right["chi2"]).all()


def test_noise_of_a_recording_is_corrected_for(movie, circuit):
    rate = predict(circuit, movie)
    counts = np.full((6000, 3), np.nan, np.float32)
    counts[circuit.first_frame :] = np.random.default_rng(1).poisson(rate * 600 / 60)
    recording = make_recording(
        counts, time=movie["time"].values, frame_rate=60, cells=rate["cell"].values.tolist()
    )
    own = compare_with_average(circuit, movie, every=2, progress=False)
    found = compare_with_average(circuit, movie, recording, every=2, progress=False)
    assert (found["correlation"] < own["correlation"]).all()
    known = np.isfinite(found["corrected"])
    assert known.any() and (found["reliability_low"][known] > 0).all()
    np.testing.assert_allclose(found["corrected"][known], 1, atol=0.35)
    np.testing.assert_allclose(found["slope"][known], 600, rtol=0.3)


def test_linear_nonlinear_and_simulated_retina_agree_with_their_averages():
    movie = _noise(5000, (12, 12), seed=3, spread=0.6)
    retina = Circuit(CircuitRetina((12, 12), 4, history=10, memory_ms=60), [])
    found = compare_with_average(retina, movie, every=1, progress=False)
    np.testing.assert_allclose(found["chi2"], 1, atol=0.2)
    linear = LinearNonlinear(2, size=(12, 12), history=5, seed=0).eval()
    found = compare_with_average(Circuit(linear, []), movie, every=1, progress=False)
    np.testing.assert_allclose(found["chi2"], 1, atol=0.2)


def test_figure_holds_every_cell(movie, circuit):
    found = compare_with_average(circuit, movie, every=4, progress=False)
    figure, ax = plt.subplots()
    draw_field_agreement(found, ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == found["cell"].values.tolist()
    plt.close(figure)


def test_refusals_are_in_words(movie, circuit):
    rate = predict(circuit, movie)
    with pytest.raises(InputError, match="none of its cells"):
        compare_with_average(
            circuit, movie, rate.assign_coords(cell=["p", "q", "r"]), progress=False
        )
    with pytest.raises(InputError, match="blocks: expected at least 5"):
        compare_with_average(circuit, movie, blocks=2, progress=False)
    with pytest.raises(InputError, match="too few for 20 blocks"):
        compare_with_average(circuit, movie, frames=[100, 101], progress=False)


def test_intervals_hold_the_score_and_cover_what_is_true(circuit):
    noise = [_noise(1500, (10, 9), seed=seed) for seed in range(12)]
    found = [compare_with_average(circuit, movie, every=5, progress=False) for movie in noise]
    for name in ("correlation", "slope"):
        low, value, high = (
            np.stack([one[f"{name}{end}"] for one in found]) for end in ("_low", "", "_high")
        )
        assert ((low <= value) & (value <= high)).all()
        truth = 1.0 if name == "slope" else value.mean(axis=0)
        assert ((low <= truth) & (truth <= high)).mean() > 0.8


def test_a_cell_that_was_not_always_observed_has_the_same_slope(movie, circuit):
    rate = predict(circuit, movie)
    holes = rate.copy(deep=True)
    holes[1000:4000, 0] = np.nan
    holes[:, 2] = np.nan
    whole, found = (
        compare_with_average(circuit, movie, one, every=4, progress=False) for one in (rate, holes)
    )
    assert found["slope"][0].item() == pytest.approx(whole["slope"][0].item(), rel=0.15)
    assert found["slope"][1].item() == pytest.approx(whole["slope"][1].item(), rel=1e-5)
    assert np.isnan(found["slope"][2]) and np.isnan(found["correlation"][2])


def test_few_spikes_leave_map_and_time_course_their_sign(movie, circuit):
    """The separable form of a noisy average is noise; the model's own weights are not."""
    rate = predict(circuit, movie)
    counts = np.full((6000, 3), np.nan, np.float32)
    counts[circuit.first_frame :] = np.random.default_rng(2).poisson(rate * 60 / 60)
    recording = make_recording(
        counts, time=movie["time"].values, frame_rate=60, cells=rate["cell"].values.tolist()
    )
    options = {"every": 40, "progress": False}
    found = compare_with_average(circuit, movie, recording, **options)
    near = compare_with_average(circuit, movie, recording, window=5, **options)
    for one in (found, near):
        assert (one["spatial_correlation"] > 0).all() and (one["temporal_correlation"] > 0).all()
    assert (near["correlation"] > found["correlation"]).all()
    assert (near["reliability"] > found["reliability"]).all()
    np.testing.assert_array_equal(near["average"], found["average"])


def test_reliability_is_the_correlation_of_two_recordings(circuit):
    """Two experiments, each with its own movie, in a square where there is a field."""
    found, averages = [], []
    for seed in range(4):
        movie = _noise(4000, (10, 9), seed=20 + seed)
        rate = predict(circuit, movie)
        counts = np.full((4000, 3), np.nan, np.float32)
        counts[circuit.first_frame :] = np.random.default_rng(seed).poisson(rate * 600 / 60)
        recording = make_recording(
            counts, time=movie["time"].values, frame_rate=60, cells=rate["cell"].values.tolist()
        )
        one = compare_with_average(circuit, movie, recording, every=200, progress=False)
        found.append(one["reliability"].values)
        averages.append(one["average"].values.reshape(3, -1))
        assert (one["reliability_low"] < one["reliability_high"]).all()
    between = [
        np.corrcoef([one[cell] for one in averages])[np.triu_indices(4, 1)].mean()
        for cell in range(3)
    ]
    np.testing.assert_allclose(np.mean(found, axis=0), between, atol=0.04)
