"""Explained variance of fields: planted shares, a null without relation, and scikit-learn."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import kstest
from sklearn.linear_model import Ridge

from retinacodec.analyses.field_regression import (
    Predictor,
    TimeFolds,
    explained_share,
    field_gram,
    group_errors,
    ridge_errors,
    span,
)
from retinacodec.analyses.field_variance import draw_variance, field_variance
from retinacodec.errors import InputError
from retinacodec.first_layer import Filters
from retinacodec.latents import LatentFields
from retinacodec.nulls import p_value
from retinacodec.plotting import figure

SIZE, LAGS, STEP = (6, 7), 4, 5


def _stored(values, rates=None, step=STEP):
    """Fields (time, cell, lag, y, x) as they are, at every `step`-th frame of a movie."""
    time, cells = values.shape[:2]
    coords = {
        "time": np.arange(time) * step / 60,
        "cell": np.arange(cells),
        "frame": ("time", np.arange(time) * step),
    }
    rates = np.full((time, cells), 10.0) if rates is None else rates
    return LatentFields(
        latent=xr.DataArray(values, dims=("time", "cell", "channel", "y", "x")),
        rate=xr.DataArray(rates, dims=("time", "cell"), coords=coords),
        filters=Filters(name="", weight=torch.zeros(1, 1, 1, 1), size=values.shape[3:]),
        lag=xr.DataArray(np.arange(values.shape[2]), dims="lag"),
        y=xr.DataArray(np.arange(values.shape[3]), dims="y"),
        x=xr.DataArray(np.arange(values.shape[4]), dims="x"),
    )


def _loading(rng, time, modes=4, stay=0.7):
    """Loadings that come and go slowly, 0 or between 1 and 2."""
    on = np.zeros((time, modes), dtype=bool)
    for t in range(1, time):
        again = rng.uniform(size=modes) > stay
        on[t] = np.where(again, rng.uniform(size=modes) < 0.4, on[t - 1])
    values = on * rng.uniform(1, 2, size=on.shape)
    return xr.DataArray(values, dims=("time", "mode"))


def _noise(rng, shape, memory=0.6):
    noise = rng.normal(size=shape)
    for t in range(1, shape[0]):
        noise[t] = memory * noise[t - 1] + np.sqrt(1 - memory**2) * noise[t]
    return noise


def _convolved(time=90, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((3, 6, 3, 3), generator=generator, dtype=dtype)
    base = _stored(np.zeros((time, 2, 3, 8, 9)))
    latent = torch.randn((time, 2, 3, 8, 9), generator=generator, dtype=dtype).numpy()
    return LatentFields(
        latent=base.latent.copy(data=latent),
        rate=base.rate,
        filters=Filters(name="conv1", weight=weight, size=(10, 11)),
        lag=xr.DataArray(np.arange(6), dims="lag"),
        y=xr.DataArray(np.arange(10), dims="y"),
        x=xr.DataArray(np.arange(11), dims="x"),
    )


@pytest.mark.parametrize("shape", [False, True])
def test_errors_equal_ridge_and_group_means_of_the_projected_fields(shape):
    kept = _convolved()
    whole = kept.project().values[:, 1].reshape(90, -1)
    if shape:
        whole = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    points = span(field_gram(kept, 1, np.arange(90)), shape=shape)
    rng = np.random.default_rng(0)
    columns, groups = rng.normal(size=(90, 5)) + 3, rng.integers(4, size=90)
    folds = TimeFolds.of(np.arange(90) * STEP, gap=12)
    ridge = ridge_errors(points, columns, folds, penalties=[2.5])
    group = group_errors(points, groups, folds, fewest=1)
    for fitted, held in zip(folds.fitted, folds.held, strict=True):
        scaled = (columns - columns[fitted].mean(0)) / columns[fitted].std(0)
        model = Ridge(alpha=2.5).fit(scaled[fitted], whole[fitted])
        expected = ((whole[held] - model.predict(scaled[held])) ** 2).sum(1)
        np.testing.assert_allclose(ridge[0, held], expected, rtol=1e-7)
        means = np.stack([whole[fitted & (groups == g)].mean(0) for g in range(4)])
        expected = ((whole[held] - means[groups[held]]) ** 2).sum(1)
        np.testing.assert_allclose(group[0, held], expected, rtol=1e-7)
        expected = ((whole[held] - whole[fitted].mean(0)) ** 2).sum(1)
        np.testing.assert_allclose(group[1, held], expected, rtol=1e-7)
    assert np.isfinite(ridge).all()


def test_free_columns_come_first_and_ridge_predicts_what_they_leave():
    rng = np.random.default_rng(7)
    free = rng.normal(size=(120, 3))
    columns = rng.normal(size=(120, 5)) + free[:, :1]
    points = columns @ rng.normal(size=(5, 8)) + free @ rng.normal(size=(3, 8))
    points += rng.normal(size=(120, 8))
    folds = TimeFolds.of(np.arange(120) * STEP, gap=12)
    found = ridge_errors(points, columns, folds, penalties=[30.0], free=free)
    for fitted, held in zip(folds.fitted, folds.held, strict=True):
        scaled = free / free[fitted].std(0)
        wide = np.column_stack([points, columns / columns[fitted].std(0)])
        first = Ridge(alpha=0.01 * fitted.sum()).fit(scaled[fitted], wide[fitted])
        left = wide - first.predict(scaled)
        second = Ridge(alpha=30.0, fit_intercept=False).fit(left[fitted, 8:], left[fitted, :8])
        expected = ((left[held, :8] - second.predict(left[held, 8:])) ** 2).sum(1)
        np.testing.assert_allclose(found[0, held], expected, rtol=1e-7)


def test_no_fitted_frame_is_near_a_predicted_one_and_each_is_predicted_once():
    frames = np.sort(np.random.default_rng(0).choice(6000, size=500, replace=False))
    folds = TimeFolds.of(frames, gap=40)
    np.testing.assert_array_equal(sum(held.astype(int) for held in folds.held), 1)
    for fitted, held in zip(folds.fitted, folds.held, strict=True):
        apart = np.abs(frames[fitted][:, None] - frames[held])
        assert apart.min() >= 40 and fitted.sum() > 250
    with pytest.raises(InputError, match="more frames"):
        TimeFolds.of(np.arange(30), gap=40)


def test_the_penalty_is_the_one_that_serves_the_other_folds():
    """Noise is best left alone: the largest penalty; a plain relation wants the smallest."""
    rng = np.random.default_rng(1)
    columns, points = rng.normal(size=(300, 40)), rng.normal(size=(300, 30))
    folds = TimeFolds.of(np.arange(300) * STEP, gap=10)
    noise = ridge_errors(points, columns, folds)
    strong = ridge_errors(points, columns, folds, penalties=[1e5])
    assert noise[0].sum() == pytest.approx(strong[0].sum(), rel=2e-3)
    hasty = ridge_errors(points, columns, folds, penalties=[1e-1])
    assert noise[0].sum() < 0.9 * hasty[0].sum()
    plain = columns @ rng.normal(size=(40, 30))
    weak = ridge_errors(plain, columns, folds, penalties=[1e-1])
    np.testing.assert_allclose(ridge_errors(plain, columns, folds), weak)


@pytest.fixture(scope="module")
def planted():
    """Two cells: field = sum of loadings times fields of modes, plus a known share of noise."""
    rng = np.random.default_rng(2)
    loading = _loading(rng, 500)
    shapes = np.linalg.qr(rng.normal(size=(LAGS * SIZE[0] * SIZE[1], 4)))[0].T
    signal = loading.values @ shapes
    power = ((signal - signal.mean(0)) ** 2).sum(1).mean()
    noise = rng.normal(size=(500, 2, signal.shape[1]))
    noise *= np.sqrt(power * np.array([0.25, 1.0]) / signal.shape[1])[:, None]
    values = (signal[:, None] + noise).reshape(500, 2, LAGS, *SIZE)
    return _stored(values), loading


def test_planted_shares_are_recovered(planted):
    fields, loading = planted
    other = _loading(np.random.default_rng(9), 500).rename(mode="column")
    found = field_variance(
        fields, loading, {"other": other}, history=20, frame_rate=60, null_shifts=9, draws=200
    )
    truth = [1 / 1.25, 1 / 2]
    best = found.sel(form="field", predictor="loadings")
    np.testing.assert_allclose(best["explained"], truth, atol=0.05)
    assert (best["explained_low"] < truth).all() and (best["explained_high"] > truth).all()
    np.testing.assert_allclose(best["p_value"], 0.1)
    assert best["pooled"] == pytest.approx(best["explained"].mean().item())
    sets = found.sel(form="field", predictor="mode set")["explained"]
    assert (sets < best["explained"]).all() and (sets > 0.6 * best["explained"]).all()
    assert (abs(found.sel(predictor=["rate", "other"])["explained"]) < 0.05).all()
    np.testing.assert_allclose(found["beyond"].sel(form="field"), best["explained"] - 0, atol=0.05)
    assert (found["frames"] == 500).all() and (found["reason"] == "").all()
    assert abs(found["null"]).max() < 0.25
    ax = draw_variance(found, figure().subplots(), form="field", predictors=("loadings",))
    np.testing.assert_allclose(ax.lines[0].get_ydata()[:2], best["explained"])


def test_a_gain_that_follows_the_modes_is_variance_of_fields_but_not_of_shape():
    rng = np.random.default_rng(3)
    loading = _loading(rng, 300)
    gain = 1 + loading.values @ [1.0, 2.0, 0.5, 0.0]
    shape = rng.normal(size=(LAGS, *SIZE)) + 0.3 * rng.normal(size=(300, LAGS, *SIZE))
    shape /= np.linalg.norm(shape.reshape(300, -1), axis=1)[:, None, None, None]
    fields = _stored((gain[:, None, None, None] * shape)[:, None])
    found = field_variance(fields, loading, history=20, frame_rate=60, null_shifts=9, draws=50)
    explained = found["explained"].sel(predictor="loadings").isel(cell=0)
    assert explained.sel(form="field") > 0.6
    assert explained.sel(form="shape") < 0.02


def test_the_rate_alone_is_found_as_such():
    """A field that is a curved function of the rate; loadings follow the rate with noise."""
    rng = np.random.default_rng(4)
    rates = rng.uniform(2, 50, size=(400, 1))
    angle = rates[:, 0] / 50 * np.pi
    basis = rng.normal(size=(2, LAGS * SIZE[0] * SIZE[1]))
    values = np.column_stack([np.cos(angle), np.sin(angle)]) @ basis
    fields = _stored(values.reshape(400, 1, LAGS, *SIZE), rates)
    loading = xr.DataArray(
        np.maximum(rates - [[10, 20, 30]] + rng.normal(0, 3, (400, 3)), 0), dims=("time", "mode")
    )
    found = field_variance(fields, loading, history=20, frame_rate=60, null_shifts=9, draws=50)
    one = found["explained"].sel(form="field").isel(cell=0)
    assert one.sel(predictor="rate") > 0.98
    assert one.sel(predictor="loadings") > 0.8
    assert abs(found["beyond"].sel(form="field").item()) < 0.02


@pytest.mark.parametrize("errors", [ridge_errors, group_errors])
def test_p_values_are_uniform_when_fields_ignore_the_modes(errors):
    """Fields and loadings are both correlated over time but independent of each other."""
    rng = np.random.default_rng(5)
    folds = TimeFolds.of(np.arange(160) * STEP, gap=20, folds=3)
    p = []
    for _ in range(40):
        loading = _loading(rng, 160, modes=3).values
        table = np.unique(loading > 0, axis=0, return_inverse=True)[1].ravel()
        predictor = Predictor(table if errors is group_errors else loading, errors)
        steps = rng.integers(16, 144, size=19)
        value, null = predictor.shares([_noise(rng, (160, 9))], folds, steps)
        p.append(p_value(explained_share(value[0]), null[:, 0]))
    p = np.array(p)
    assert kstest(p - rng.uniform(0, 0.05, size=p.size), "uniform").pvalue > 0.01
    assert np.mean(p <= 0.05) < 0.13


def test_an_overlap_of_windows_alone_explains_nothing():
    """Neighbouring frames share field and loading; without a gap they would tell of each other."""
    rng = np.random.default_rng(6)
    values = np.repeat(rng.normal(size=(60, 2, 1, 4, 4)), 5, axis=0)
    loading = xr.DataArray(np.repeat(rng.uniform(size=(60, 8)), 5, axis=0), dims=("time", "mode"))
    fields = _stored(values, step=1)
    points = span(field_gram(fields, 0, np.arange(300)))
    leaky = np.arange(300) % 2 == 0
    apart = TimeFolds((leaky, ~leaky), (~leaky, leaky))
    errors = ridge_errors(points, loading.values, apart, penalties=[1.0])
    assert 1 - errors[0].sum() / errors[1].sum() > 0.1
    found = field_variance(fields, loading, history=6, frame_rate=60, null_shifts=9, draws=20)
    assert (found["explained"].sel(predictor="loadings") < 0.03).all()


def test_cells_that_cannot_be_judged_say_why_and_bad_calls_are_refused(planted):
    fields, loading = planted
    rates = np.full((500, 2), 10.0)
    rates[40:, 1] = 0.1
    quiet = _stored(fields.latent.values, rates)
    options = {"history": 20, "frame_rate": 60, "null_shifts": 2, "draws": 20}
    found = field_variance(quiet, loading, **options)
    assert "40 frames" in found["reason"].values[1] and found["reason"].values[0] == ""
    assert np.isnan(found["explained"][..., 1]).all() and np.isnan(found["p_value"][..., 1]).all()
    np.testing.assert_allclose(found["pooled"], found["explained"][..., 0])
    dead = _stored(np.zeros_like(fields.latent.values))
    assert (field_variance(dead, loading, **options)["reason"] != "").all()
    with pytest.raises(InputError, match=r"500 times.*folds"):
        field_variance(fields, loading[:5], **options, folds=1)
    with pytest.raises(InputError, match="1 times are not finite"):
        field_variance(fields, loading.where(loading["time"] != 3), **options)
    one, two = (field_variance(quiet, loading, **options, seed=1) for _ in range(2))
    xr.testing.assert_identical(one, two)
