"""Linear-nonlinear and generalised linear models of populations: statsmodels and planted cells."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from retinacodec.analyses.comparison import compare_models
from retinacodec.analyses.glm_design import history_terms, log_cosines, stimulus_terms
from retinacodec.analyses.population_glm import fit_glm
from retinacodec.analyses.population_ln import fit_ln
from retinacodec.analyses.rate_curves import curve_values
from retinacodec.axis_bases import cubic_splines
from retinacodec.errors import InputError
from retinacodec.field_priors import Ridge, Splines
from retinacodec.lagged_products import filtered
from retinacodec.metrics import pearson
from retinacodec.recordings import Split, split_blocks
from retinacodec.schema import make_recording, make_stimulus

RATE, HISTORY, FRAMES = 60.0, 6, 9000


def _movie(frames=FRAMES, size=5, seed=0, rate=RATE):
    contrast = np.random.default_rng(seed).choice([-1.0, 1.0], size=(frames, size, size))
    return make_stimulus(contrast, frame_rate=rate, pixel_um=50, name="noise")


def _filters(size=5):
    """Return two local filters (cell, lag, y, x) of biphasic time course."""
    place = np.arange(size)
    course = np.array([0.0, -0.2, -0.4, 0.3, 1.0, 0.5])
    maps = [
        np.exp(-((place[:, None] - row) ** 2 + (place - column) ** 2) / 2)
        for row, column in ((1, 2), (3, 3))
    ]
    return 0.35 * np.stack([course[:, None, None] * one for one in maps])


def _recording(counts, movie):
    names = [f"cell {k}" for k in range(counts.shape[1])]
    return make_recording(counts, time=movie["time"].values, frame_rate=RATE, cells=names)


@pytest.fixture(scope="module")
def planted():
    """Poisson cells with an exponential of a linear filter, a third that is silent."""
    movie, fields = _movie(), _filters()
    drive = np.nan_to_num(filtered(movie["contrast"].values, fields))
    truth = np.exp(drive - 2.0)
    counts = np.random.default_rng(1).poisson(truth).astype(float)
    counts = np.column_stack([counts, np.zeros(len(counts))])
    split = split_blocks(FRAMES, history=HISTORY, blocks=30)
    return movie, _recording(counts, movie), split, fields, truth


def _design(model, movie, counts, after):
    """Return the regressors that a GLM of 3 pixels and splines of step 2 has, and its terms."""
    rows, columns = (np.flatnonzero(model.filters.values[0].any(axis=k)) for k in ((0, 2), (0, 1)))
    crop = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    bases = tuple(cubic_splines(size, 2.0) for size in (HISTORY, 3, 3))
    terms = stimulus_terms(movie["contrast"].values[:, *crop], bases, 0, 200)
    past = history_terms(counts, after)
    return np.column_stack([np.ones(FRAMES), terms.columns, past]).astype(float), terms, crop


def test_glm_without_penalty_equals_statsmodels(planted):
    import statsmodels.api as sm

    movie, recording, split, _, _ = planted
    prior = Splines(lag=(2.0,), space=(2.0,), penalties=(1.0,))
    given = {"history": HISTORY, "prior": prior, "window": 3, "penalties": (1e-12,)}
    ours = fit_glm(movie, recording, split, **given)
    counts = recording["spike_count"].values[:, 0].astype(float)
    design, terms, crop = _design(ours, movie, counts, log_cosines(0, 2))
    family = sm.families.Poisson()
    peer = sm.GLM(counts[split.train], design[split.train], family=family).fit(tol=1e-13)
    np.testing.assert_allclose(
        ours.filters.values[0][:, *crop], terms.field(peer.params[1:]), atol=1e-4
    )
    assert ours.bias[0] == pytest.approx(peer.params[0], abs=1e-4)


def test_post_spike_filter_is_the_mode_of_its_posterior(planted):
    """Statsmodels, offset by the prior's pull on the log gains, is at the same place."""
    import statsmodels.api as sm

    movie, recording, split, _, _ = planted
    prior = Splines(lag=(2.0,), space=(2.0,), penalties=(1.0,))
    given = {"history": HISTORY, "prior": prior, "window": 3, "penalties": (1e-12,)}
    ours = fit_glm(movie, recording, split, post_spike=4, post_spike_functions=2, **given)
    counts, after = recording["spike_count"].values[:, 0].astype(float), log_cosines(4, 2)
    design, _, _ = _design(ours, movie, counts, after)
    family = sm.families.Poisson()
    peer = sm.GLM(counts[split.train], design[split.train], family=family).fit(tol=1e-13)
    own = np.linalg.lstsq(after, ours.post_spike.values[0], rcond=None)[0]
    information = np.linalg.inv(peer.cov_params())
    pull = np.zeros_like(information)
    pull[-2:, -2:] = np.eye(2)
    expected = np.linalg.solve(information + pull, information @ peer.params)
    np.testing.assert_allclose(own, expected[-2:], atol=2e-3)
    assert np.abs(own - peer.params[-2:]).max() > 2 * np.abs(own - expected[-2:]).max()


def test_glm_recovers_planted_filters_and_rates(planted):
    movie, recording, split, fields, truth = planted
    model = fit_glm(movie, recording, split, history=HISTORY, window=5)
    for cell in range(2):
        assert np.corrcoef(model.filters.values[cell].ravel(), fields[cell].ravel())[0, 1] > 0.95
        assert model.bias[cell] == pytest.approx(-2.0, abs=0.15)
    assert np.isnan(model.bias[2]) and not model.converged[2]
    rates = model.predict(movie)
    assert rates.dims == ("time", "cell") and rates.sizes["time"] == FRAMES - HISTORY + 1
    held = rates.values[split.test - HISTORY + 1, :2] / RATE
    assert (pearson(held, truth[split.test]) > 0.95).all()
    assert np.isnan(rates.values[:, 2]).all()


def test_ln_recovers_planted_filters_and_comes_near_the_truth(planted):
    movie, recording, split, fields, truth = planted
    model = fit_ln(movie, recording, split, history=HISTORY, window=5)
    for cell in range(2):
        assert np.corrcoef(model.filters.values[cell].ravel(), fields[cell].ravel())[0, 1] > 0.95
    assert model.curve[2] == "" and np.isnan(model.filters.values[2]).all()
    rates = model.predict(movie)
    held = rates.values[split.test - HISTORY + 1, :2] / RATE
    assert (pearson(held, truth[split.test]) > 0.93).all()
    np.testing.assert_allclose(held.mean(0), truth[split.test].mean(0), rtol=0.1)
    scores = compare_models({"LN": rates}, recording, split.test, draws=20)
    best = compare_models(
        {"truth": rates.copy(data=np.column_stack([truth, truth[:, 0]])[HISTORY - 1 :] * RATE)},
        recording, split.test, draws=20,
    )  # fmt: skip
    for cell in range(2):
        ratio = scores["bits_per_spike"][0, cell] / best["bits_per_spike"][0, cell]
        assert 0.85 < float(ratio) < 1.05


def test_nothing_outside_the_split_is_looked_at(planted):
    movie, recording, split, _, _ = planted
    spoiled = recording.copy(deep=True)
    spoiled["spike_count"][split.test] = 50.0
    for fit in (fit_ln, fit_glm):
        given = {"history": HISTORY, "prior": Ridge(), "window": 3}
        one, other = (fit(movie, each, split, **given) for each in (recording, spoiled))
        np.testing.assert_array_equal(one.filters, other.filters)
        np.testing.assert_array_equal(one.predict(movie), other.predict(movie))


def test_post_spike_filters_are_recovered_and_simulated():
    movie, fields = _movie(seed=3), _filters()[:1]
    drive = np.nan_to_num(filtered(movie["contrast"].values, fields))[:, 0] - 1.0
    kernel = np.array([-3.0, -1.0, 0.2, 0.0])
    rng, trains, truth = np.random.default_rng(4), np.zeros((FRAMES, 100)), np.zeros(FRAMES)
    for t in range(FRAMES):
        past = sum(kernel[j - 1] * trains[t - j] for j in range(1, 5) if t >= j)
        expected = np.exp(drive[t] + past * np.ones(100))
        trains[t], truth[t] = rng.poisson(expected), expected.mean()
    counts = trains[:, 0]
    split = split_blocks(FRAMES, history=HISTORY, blocks=30)
    recording = _recording(counts[:, None], movie)
    given = {"history": HISTORY, "window": 5}
    model = fit_glm(movie, recording, split, post_spike=4, post_spike_functions=4, **given)
    np.testing.assert_allclose(model.post_spike.values[0], kernel, atol=0.45)
    rates = model.predict(movie, simulations=100, seed=1)
    again = model.predict(movie, simulations=100, seed=1)
    np.testing.assert_array_equal(rates, again)
    assert float(rates["runaway"][0]) == 0
    assert float(rates.mean()) == pytest.approx(counts.mean() * RATE, rel=0.06)
    own = model.post_spike.copy(data=kernel[None])
    field = model.filters.copy(data=fields)
    planted = replace(model, filters=field, bias=np.array([-1.0]), post_spike=own)
    forgetful = replace(planted, post_spike=own * 0)
    r = [
        float(pearson(one.predict(movie, simulations=200).values[:, 0], truth[HISTORY - 1 :]))
        for one in (planted, forgetful, model)
    ]
    assert r[0] > 0.97 and r[0] > r[1] + 0.02 and r[2] > 0.85


def test_runaway_is_reported_and_leaves_no_prediction():
    movie = _movie(frames=1200, size=2)
    counts = np.random.default_rng(0).poisson(0.3, size=(1200, 1)).astype(float)
    split = Split(np.arange(10, 900), np.arange(920, 1000), np.arange(1100, 1200))
    model = fit_glm(movie, _recording(counts, movie), split, history=4, post_spike=2)
    wild = replace(model, post_spike=model.post_spike * 0 + 2.0)
    rates = wild.predict(movie, simulations=5)
    assert float(rates["runaway"][0]) == 1 and np.isnan(rates).all()
    exact = fit_glm(movie, _recording(counts, movie), split, history=4).predict(movie)
    assert float(exact["runaway"][0]) == 0 and np.isfinite(exact).all()


def test_log_cosines_sum_to_one_and_history_is_causal():
    basis = log_cosines(12, 4)
    np.testing.assert_allclose(basis.sum(axis=1), 1)
    assert basis[0].argmax() == 0 and basis[-1].argmax() == 3
    terms = history_terms(np.array([1.0, 0, 2, 0, np.nan, 0, 0]), np.eye(2))
    np.testing.assert_array_equal(terms[2:5], [[0, 1], [2, 0], [0, 2]])
    assert np.isnan(terms[5:7]).any(axis=1).all() and np.isnan(terms[:2]).any(axis=1).all()


def test_bad_calls_are_refused(planted):
    movie, recording, split, _, _ = planted
    with pytest.raises(InputError, match="folds"):
        fit_ln(movie, recording, split, history=HISTORY, folds=1)
    with pytest.raises(InputError, match="post_spike"):
        fit_glm(movie, recording, split, history=HISTORY, post_spike=-1)
    with pytest.raises(InputError, match="share frames"):
        fit_ln(
            movie,
            recording,
            Split(np.arange(5, 500), np.arange(500, 600), np.arange(0)),
            history=HISTORY,
        )
    model = fit_ln(movie, recording, split, history=HISTORY, prior=Ridge(), window=3)
    with pytest.raises(InputError, match="fitted at 60 Hz"):
        model.predict(_movie(frames=100, rate=30.0))
    with pytest.raises(InputError, match="fewer than the window"):
        model.predict(_movie(frames=4))
    with pytest.raises(InputError, match="expected filters"):
        model.predict(_movie(frames=100, size=4))


def test_curves_of_no_drive_are_nan_and_say_nothing():
    drive = np.array([np.nan, -800.0, -1.0, 0.0, 2.0, 800.0])
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        found = curve_values("softplus", np.array([0.5, 2.0, 3.0, 0.2]), drive)
    expected = 0.5 + 2.0 * np.logaddexp(0, 3.0 * (drive[1:] - 0.2)) / 3.0
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], expected, rtol=1e-12)


def test_a_cell_observed_for_a_moment_has_no_model_and_stops_no_other():
    movie = _movie(frames=2000)
    rng = np.random.default_rng(8)
    counts = rng.poisson(0.3, size=(2000, 2)).astype(float)
    counts[60:, 1] = np.nan
    recording = make_recording(counts, time=movie["time"].values, frame_rate=RATE, cells=["a", "b"])
    split = split_blocks(2000, history=HISTORY)
    for fit in (fit_ln, fit_glm):
        rates = fit(movie, recording, split, history=HISTORY).predict(movie)
        assert np.isfinite(rates.sel(cell="a")).all() and np.isnan(rates.sel(cell="b")).all()
        with pytest.raises(InputError, match="training frames are too few for 5 parts"):
            fit(movie, recording.isel(cell=[1]), split, history=HISTORY)
