"""Summaries, transitions and persistence of fields against numpy, scipy and known sequences."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import circmean, circvar, iqr

from retinacodec.analyses.dynamic_fields import dynamic_fields
from retinacodec.analyses.field_dynamics import draw_dynamics, field_dynamics
from retinacodec.analyses.field_frames import consecutive_frames, frame_weights
from retinacodec.analyses.field_persistence import draw_persistence, field_persistence
from retinacodec.analyses.field_transitions import (
    draw_transitions,
    polarity_states,
    state_transitions,
)
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError
from retinacodec.gradients import latent_fields
from retinacodec.models import LinearNonlinear
from retinacodec.plotting import figure
from retinacodec.schema import make_stimulus

HISTORY = 6


def _described(rng, time=400, cells=2):
    """Independent values in every frame, in the form of what dynamic_fields returns."""
    grid = ("time", "cell")
    gain = rng.gamma(3, 2, size=(time, cells))
    columns = {
        "gain": gain,
        "rate": 2 * gain + rng.normal(0, 2, size=gain.shape) + 20,
        "separability": rng.uniform(0.5, 1, size=gain.shape),
        "size": rng.normal(200, 20, size=gain.shape),
        "elongation": rng.uniform(1.1, 3, size=gain.shape),
        "latency": rng.choice([0.05, 0.1], size=gain.shape),
        "polarity": np.where(rng.uniform(size=gain.shape) < 0.7, -1.0, 1.0),
        "orientation": rng.vonmises(1, 1.5, size=gain.shape) * 90 / np.pi % 180,
        "centre_y": rng.normal(0, 30, size=gain.shape),
        "centre_x": rng.normal(100, 40, size=gain.shape),
        "firing": rng.uniform(size=gain.shape) < 0.8,
    }
    return xr.Dataset(
        {name: (grid, values) for name, values in columns.items()},
        coords={"frame": ("time", np.arange(time) * 3), "cell": ["a", "b"][:cells]},
    )


@pytest.fixture(scope="module")
def described():
    return _described(np.random.default_rng(0))


@pytest.fixture(scope="module")
def summary(described):
    return field_dynamics(described, history=HISTORY, frame_rate=60, draws=400)


def test_summaries_are_those_of_the_firing_frames(described, summary):
    one = described.isel(cell=1, time=described["firing"].values[:, 1])
    for name in ("gain", "rate", "size", "latency"):
        found = summary.sel(quantity=name).isel(cell=1)
        assert float(found["median"]) == pytest.approx(np.median(one[name]))
        expected = iqr(one[name], interpolation="inverted_cdf")
        assert float(found["spread"]) == pytest.approx(expected)
    cell = summary.isel(cell=1)
    assert float(cell["frames"]) == one.sizes["time"]
    assert float(cell["off_share"]) == pytest.approx((one["polarity"] < 0).mean().item())
    centre = np.stack([one["centre_y"], one["centre_x"]])
    assert float(cell["displacement"]) == pytest.approx(np.sqrt(centre.var(axis=1).sum()))
    assert float(cell["orientation"]) == pytest.approx(circmean(one["orientation"], high=180))
    assert float(cell["alignment"]) == pytest.approx(1 - circvar(one["orientation"], high=180))
    assert float(cell["gain_rate"]) == pytest.approx(np.corrcoef(one["gain"], one["rate"])[0, 1])


def test_intervals_hold_the_truth_and_have_the_width_of_independent_frames(summary):
    assert (summary["off_share_low"] < 0.7).all() and (summary["off_share_high"] > 0.7).all()
    width = summary["off_share_high"] - summary["off_share_low"]
    expected = 2 * 1.96 * np.sqrt(0.7 * 0.3 / summary["frames"])
    np.testing.assert_allclose(width, expected, rtol=0.4)
    assert (summary["displacement_low"] < 50).all() and (summary["displacement_high"] > 50).all()
    assert (abs(summary["orientation"] - 90 / np.pi) < 2 * summary["orientation_error"]).all()


def test_frames_may_count_by_their_rate(described):
    found = field_dynamics(described, described["rate"], history=6, frame_rate=60, draws=20)
    weight = described["rate"].values[:, 0]
    expected = np.average(described["polarity"].values[:, 0] < 0, weights=weight)
    assert found["off_share"].values[0] == pytest.approx(expected)


def test_frames_without_a_value_do_not_count(described):
    some = described.copy(deep=True)
    for place, name in enumerate(("centre_y", "centre_x", "gain", "rate")):
        some[name][place::7] = np.nan
    found = field_dynamics(some, history=HISTORY, frame_rate=60, draws=2).isel(cell=1)
    one = some.isel(cell=1, time=described["firing"].values[:, 1])
    spread = [np.nanvar(one[f"centre_{axis}"]) for axis in "yx"]
    assert float(found["displacement"]) == pytest.approx(np.sqrt(sum(spread)))
    pair = one[["gain", "rate"]].dropna("time")
    assert pair.sizes["time"] < one.sizes["time"]
    expected = np.corrcoef(pair["gain"], pair["rate"])[0, 1]
    assert float(found["gain_rate"]) == pytest.approx(expected)


def test_a_silent_cell_is_unknown_and_bad_calls_are_refused(described):
    quiet = described.assign(firing=described["firing"] & (described["cell"] == "a"))
    found = field_dynamics(quiet, history=HISTORY, frame_rate=60, draws=20)
    unknown = found.isel(cell=1).drop_vars(("frames", "seed"), errors="ignore")
    assert all(np.isnan(unknown[name]).all() for name in unknown.data_vars)
    assert np.isfinite(found["median"][:, 0]).all()
    with pytest.raises(InputError, match=r"'gain'.*history"):
        field_dynamics(described.drop_vars("gain"), history=0, frame_rate=60)
    with pytest.raises(InputError, match="negative"):
        field_dynamics(described, -described["rate"], history=6, frame_rate=60)


def test_drawing_shows_every_cell(summary):
    ax = draw_dynamics(summary, figure().subplots(), name="displacement")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), summary["displacement"])
    ax = draw_dynamics(summary, figure().subplots(), name="size")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), summary["median"].sel(quantity="size"))
    with pytest.raises(InputError, match="off_share"):
        draw_dynamics(summary, figure().subplots(), name="colour")


def test_transitions_of_a_markov_chain_are_recovered():
    rng = np.random.default_rng(1)
    matrix = np.array([[0.9, 0.06, 0.04], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9]])
    state = [0]
    for _ in range(29999):
        state.append(int(rng.choice(3, p=matrix[state[-1]])))
    states = xr.DataArray(np.array(["OFF", "ON", "silent"])[state], dims="time")
    options = {"frame_rate": 50, "history": HISTORY, "draws": 200}
    found = state_transitions(states, np.arange(30000), among=("OFF", "ON"), **options)
    np.testing.assert_allclose(found["probability"], matrix, atol=0.01)
    np.testing.assert_allclose(found["dwell"], 1 / (1 - np.diag(matrix)) / 50, rtol=0.06)
    share = np.linalg.matrix_power(matrix, 99)[0]
    inside = share[0] * matrix[0, :2].sum() + share[1] * matrix[1, :2].sum()
    flips = 50 * (share[0] * matrix[0, 1] + share[1] * matrix[1, 0]) / inside
    assert found["change_rate"].item() == pytest.approx(flips, rel=0.05)
    assert found["change_rate_low"] < flips < found["change_rate_high"]
    assert 0.05 * flips < found["change_rate_high"] - found["change_rate_low"] < 0.3 * flips
    ax = draw_transitions(found, figure().subplots())
    np.testing.assert_allclose(ax.images[0].get_array(), found["probability"])


def test_known_flips_are_counted_across_no_gap():
    states = xr.DataArray(
        np.array([list("aabbaa"), list("aaaaaa")]).T, dims=("time", "cell"), coords={"cell": [3, 4]}
    )
    found = state_transitions(states, [0, 1, 2, 5, 6, 7], frame_rate=10, history=1, draws=10)
    assert found["count"].sel(cell=3).values.tolist() == [[2, 1], [1, 0]]
    assert found["change_rate"].values.tolist() == [5.0, 0.0]
    assert found["dwell"].sel(cell=3).values.tolist() == pytest.approx([0.3, 0.1])
    assert found["dwell"].sel(cell=4, state="a") == np.inf
    shares = 10 * (1 - (3 / 4) ** 2 - (1 / 4) ** 2)
    assert found["change_rate_chance"].sel(cell=3).item() == pytest.approx(shares)


def test_rare_states_are_one_and_bad_calls_are_refused():
    names = xr.DataArray(["a", "a", "b", "c", "a", ""], dims="time")
    found = state_transitions(names, range(6), frame_rate=1, history=1, most_states=1, draws=5)
    assert found["state"].values.tolist() == ["a", "other"]
    assert found["count"].values.tolist() == [[1, 2], [1, 1]]
    with pytest.raises(InputError, match="consecutive_frames"):
        state_transitions(names, np.arange(6) * 2, frame_rate=1, history=1)
    with pytest.raises(InputError, match="with 5 times"):
        state_transitions(names, range(5), frame_rate=1, history=1)


def _linear(cells=1, seed=0, size=12):
    """A movie of noise and a linear-nonlinear cell."""
    contrast = np.random.default_rng(seed).normal(0, 1, (700, size, size))
    movie = make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")
    model = LinearNonlinear(cells=cells, size=(size, size), history=HISTORY)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return Circuit(model.eval(), []), movie


def test_the_field_of_a_linear_nonlinear_cell_has_one_shape():
    circuit, movie = _linear()
    rate = predict(circuit, movie)
    frames = consecutive_frames(circuit, rate, seconds=1, max_frames=300)
    assert frames.size == 300 and np.count_nonzero(np.diff(frames) > 1) == 4
    floor = float(rate.min()) / 2
    described = dynamic_fields(circuit, movie, frames=frames, minimum_rate=floor, progress=False)
    summary = field_dynamics(described, history=HISTORY, frame_rate=60, draws=50)
    assert summary["off_share"].item() in (0.0, 1.0)
    assert summary["displacement"].item() < 1e-2
    assert summary["spread"].sel(quantity="size").item() == 0
    assert summary["spread"].sel(quantity="gain").item() > 0
    states = polarity_states(described)
    changes = state_transitions(states, frames, frame_rate=60, history=HISTORY, draws=20)
    assert changes["change_rate"].item() == 0
    latents = latent_fields(circuit, movie, frames=frames, progress=False)
    lasting = field_persistence(
        latents, frame_rate=60, history=HISTORY, minimum_rate=floor, null_shifts=20, draws=20
    )
    np.testing.assert_allclose(lasting["cosine"], 1, atol=1e-5)
    np.testing.assert_allclose(lasting["null"], 1, atol=1e-5)
    assert np.isnan(lasting["half_time"]).all()


def test_persistence_of_a_slow_process_is_its_autocorrelation():
    rng = np.random.default_rng(2)
    memory, noise = 0.8, rng.normal(size=(800, 40))
    for t in range(1, 800):
        noise[t] = memory * noise[t - 1] + 0.6 * noise[t]
    fields = xr.Dataset(
        {
            "spatial": (("time", "cell", "y", "x"), noise.reshape(800, 1, 5, 8)),
            "rate": (("time", "cell"), np.full((800, 1), 10.0)),
        },
        coords={"frame": ("time", np.arange(800)), "cell": ["a"]},
    )
    found = field_persistence(fields, frame_rate=60, history=10, null_shifts=99, draws=200)
    lag = np.arange(21)
    np.testing.assert_allclose(found["cosine"][0], memory**lag, atol=0.05)
    assert found["pairs"].values[0].tolist() == (800 - lag).tolist()
    assert abs(found["null"]).max() < 0.05
    assert found["half_time"].item() == pytest.approx(np.ceil(np.log(2) / -np.log(0.8)) / 60)
    np.testing.assert_allclose(found["p_value"][0, :6], 0.01)
    inside = (found["cosine_low"] < memory**lag) & (found["cosine_high"] > memory**lag)
    assert inside[:, 1:].mean() > 0.7
    ax = draw_persistence(found, figure().subplots(), cell=0)
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), found["cosine"][0])
    draw_persistence(found, figure().subplots())
    gaps = fields.isel(time=np.flatnonzero(np.arange(800) % 4 == 0))
    sparse = field_persistence(gaps, frame_rate=60, history=10, null_shifts=5, draws=5)
    assert np.isnan(sparse["cosine"].values[0, 1]) and np.isfinite(sparse["cosine"].values[0, 4])
    with pytest.raises(InputError, match=r"history.*null_shifts"):
        field_persistence(fields, frame_rate=60, history=0, null_shifts=0)


def test_stretches_cover_the_movie_and_resamples_keep_blocks_whole():
    circuit, movie = _linear()
    rate = predict(circuit, movie)
    every = consecutive_frames(circuit, rate, max_frames=1000)
    np.testing.assert_array_equal(every, circuit.first_frame + np.arange(rate.sizes["time"]))
    frames = consecutive_frames(circuit, rate, seconds=0.5, max_frames=90)
    assert frames[0] == every[0] and frames[-1] == every[-1] and frames.size == 90
    with pytest.raises(InputError, match="stretch of 300"):
        consecutive_frames(circuit, rate, seconds=5, max_frames=90)
    weights = frame_weights([0, 1, 2, 50, 51, 52, 120], 50, 30, 0)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 3, 6]].sum(axis=1) == 3).all()
