"""Regularised fields against explicit regressions, statsmodels, and a cell of known filter."""

import numpy as np
import pytest
import torch
import xarray as xr

from retinacodec.analyses.regularised_fields import (
    draw_regularised,
    draw_regularised_course,
    regularised_fields,
)
from retinacodec.errors import InputError
from retinacodec.field_priors import Ridge, Smooth, Splines
from retinacodec.lagged_products import filtered
from retinacodec.models import LinearNonlinear
from retinacodec.plotting import figure
from retinacodec.schema import make_recording, make_stimulus
from retinacodec.stimuli import natural_movie
from retinacodec.triggered_sums import triggered_sum

_HISTORY = 10


def _noise(frames=1500, size=4, seed=0):
    contrast = np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], (frames, size, size))
    return make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")


def _recording(movie, counts):
    names = [f"cell_{number}" for number in range(counts.shape[1])]
    return make_recording(counts, time=movie["time"], frame_rate=60, cells=names)


def _windows(movie, rows, history, latency):
    reach = np.arange(1 - history, 1) - latency
    return movie["contrast"].values[rows[:, None] + reach].reshape(rows.size, -1).astype(float)


@pytest.fixture(scope="module")
def known():
    """A natural movie, a linear-nonlinear cell with a centre, surround and biphasic course."""
    movie = natural_movie(frames=20_000, size=(14, 14), seed=1, scene_seconds=1)
    row, column = np.mgrid[:14, :14]
    far = (row - 6) ** 2 + (column - 7) ** 2
    place = np.exp(-far / 4.5) - 0.25 * np.exp(-far / 24.5)
    back = np.arange(_HISTORY)[::-1]
    course = np.exp(-((back - 3) ** 2) / 2.9) - 0.6 * np.exp(-((back - 7) ** 2) / 6.5)
    model = LinearNonlinear(1, size=(14, 14), history=_HISTORY, rank=None, bands=_HISTORY)
    wanted = torch.tensor(course[:, None, None] * place, dtype=torch.float32)
    with torch.no_grad():
        model.spatial.copy_(torch.einsum("bh,hyx->byx", model.basis, wanted)[None])
        drive = filtered(movie["contrast"].values, model.filters().numpy())
        model.spatial.mul_(1.5 / np.nanstd(drive))
        model.bias.fill_(-0.5)
        model.rate_scale.fill_(30.0)
        rate = model.rates_along(torch.from_numpy(movie["contrast"].values)[None])[0].numpy()
    rate = np.concatenate([np.zeros((_HISTORY - 1, 1)), rate])
    truth = model.filters().detach().numpy()[0]
    drive = np.nan_to_num(filtered(movie["contrast"].values, truth[None]))
    slope = (drive * (rate - rate.mean())).sum() / (drive**2).sum()
    counts = np.random.default_rng(2).poisson(rate / 60)
    return movie, _recording(movie, counts), truth * slope, rate


def _alike(fields, truth, inside):
    return np.corrcoef(fields[:, inside].ravel(), truth[:, inside].ravel())[0, 1]


def test_ridge_is_that_of_scikit_learn_on_the_windows():
    from sklearn.linear_model import Ridge as Reference

    movie = _noise()
    counts = np.random.default_rng(1).poisson(0.5, (1500, 2)).astype(float)
    counts[300:310] = np.nan
    counts[700, 1] = np.nan
    found = regularised_fields(
        movie, _recording(movie, counts), history=3, latency=2, prior=Ridge((0.5,)), window=None
    )
    for cell in range(2):
        rows = np.flatnonzero(np.isfinite(counts[:, cell]))
        rows = rows[rows >= 4]
        design = _windows(movie, rows, 3, 2)
        fit = Reference(float(found["penalty"][cell])).fit(design, counts[rows, cell] * 60)
        scale = np.abs(fit.coef_).max()
        mine = found["field"].values[cell].ravel()
        np.testing.assert_allclose(mine, fit.coef_, atol=1e-6 * scale)
        assert found["baseline"][cell] == pytest.approx(fit.intercept_, rel=1e-5)
        assert found["frames_used"][cell] == rows.size
    np.testing.assert_allclose(found["lag"], np.array([-4, -3, -2]) / 60)


def test_errors_are_those_of_statsmodels_clustered_by_block():
    sm = pytest.importorskip("statsmodels.api")
    movie = _noise(frames=1200)
    rng = np.random.default_rng(2)
    contrast = movie["contrast"].values
    counts = rng.poisson(np.exp(0.6 * np.roll(contrast[:, 1, 2], 1)))[:, None].astype(float)
    found = regularised_fields(
        movie, _recording(movie, counts), history=2, prior=Ridge((0.0,)), window=None
    )
    rows = np.arange(1, 1200)
    design = sm.add_constant(_windows(movie, rows, 2, 0))
    groups = np.concatenate([np.full(len(p), k) for k, p in enumerate(np.array_split(rows, 20))])
    labels = np.concatenate(
        [np.full(len(p), k) for k, p in enumerate(np.array_split(np.arange(1200), 20))]
    )[1:]
    assert len(np.unique(groups)) == 20
    fit = sm.OLS(counts[rows, 0] * 60, design).fit(
        cov_type="cluster", cov_kwds={"groups": labels, "use_correction": True}
    )
    size, terms = design.shape
    ours = np.sqrt((size / (size - terms)) / ((size - 1) / (size - terms)))
    np.testing.assert_allclose(found["field"].values.ravel(), fit.params[1:], atol=1e-4)
    np.testing.assert_allclose(found["error"].values.ravel(), ours * fit.bse[1:], rtol=1e-4)
    np.testing.assert_allclose(found["bias"], 0)
    t = 2.093024  # 97.5 % of Student's t with 19 degrees of freedom
    half = (found["high"] - found["low"]) / 2
    np.testing.assert_allclose(half, t * found["error"], rtol=1e-4)


def test_held_out_scores_are_of_a_fit_without_those_frames():
    from sklearn.linear_model import Ridge as Reference

    movie = _noise(frames=2000)
    contrast = movie["contrast"].values
    rate = np.exp(0.8 * np.roll(contrast[:, 1, 2], 1) - 1)
    counts = np.random.default_rng(3).poisson(rate)[:, None].astype(float)
    found = regularised_fields(
        movie, _recording(movie, counts), history=3, prior=Ridge((0.1,)), window=None
    )
    from retinacodec.row_splits import TimeBlocks

    fitted, chosen, scored = TimeBlocks(gap=3).thirds(1998)
    train, test = np.sort(np.r_[fitted, chosen]) + 2, scored + 2
    fit = Reference(float(found["penalty"][0])).fit(
        _windows(movie, train, 3, 0), counts[train, 0] * 60
    )
    guess, truth = fit.predict(_windows(movie, test, 3, 0)), counts[test, 0] * 60
    assert found["held_out_r"][0] == pytest.approx(np.corrcoef(guess, truth)[0, 1], abs=1e-5)
    r2 = 1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert found["held_out_r2"][0] == pytest.approx(r2, abs=1e-5)
    assert found["held_out_r_low"][0] < found["held_out_r"][0] < found["held_out_r_high"][0]


@pytest.mark.parametrize(("prior", "least"), [(Smooth(), 0.9), (Splines(), 0.87), (Ridge(), 0.7)])
def test_a_known_filter_is_recovered_from_a_natural_movie(known, prior, least):
    """The raw average is blurred by the movie's correlations; a prior sharpens it again."""
    movie, recording, truth, _ = known
    found = regularised_fields(movie, recording, history=_HISTORY, prior=prior, window=10)
    inside = found["inside"].values[0]
    counts = recording["spike_count"].values
    raw = triggered_sum(
        torch.from_numpy(movie["contrast"].values),
        torch.from_numpy(counts - counts.mean(axis=0)),
        _HISTORY,
    )[0].numpy()
    field = found["field"].values[0]
    assert inside[6, 7] and inside.sum() == 100
    assert _alike(field, truth, inside) > least > _alike(raw, truth, inside) + 0.05
    assert _alike(raw, truth, inside) < 0.6
    near = (found["low"].values[0] <= truth) & (truth <= found["high"].values[0])
    assert near[:, inside].mean() > 0.9
    assert (field[:, ~inside] == 0).all() and np.isnan(found["error"].values[0][:, ~inside]).all()


def test_bands_of_an_unbiased_estimate_cover_the_truth_as_often_as_they_say(known):
    movie, recording, truth, _ = known
    found = regularised_fields(movie, recording, history=_HISTORY, prior=Ridge((0.0,)), window=10)
    inside = found["inside"].values[0]
    near = (found["low"].values[0] <= truth) & (truth <= found["high"].values[0])
    assert near[:, inside].mean() == pytest.approx(0.95, abs=0.03)
    assert found["recovered"] == pytest.approx(1)
    assert found["spread_x"] == pytest.approx(0, abs=1)


def test_what_is_said_of_shrinkage_is_what_happens_to_a_linear_cell():
    """A linear cell without noise: the estimate is the resolution matrix times the filter."""
    movie = _noise(frames=600, size=5)
    point = np.zeros((1, 3, 5, 5))
    point[0, 1, 2, 2] = 10.0
    rate = 100 + filtered(movie["contrast"].values, point)
    rate = xr.DataArray(
        rate[2:], dims=("time", "cell"), coords={"time": movie["time"][2:], "cell": ["a"]}
    )
    prior = Smooth(scales=(1.0, 1.0, 1.0))
    found = regularised_fields(movie, rate, history=3, prior=prior, window=None)
    field = found["field"].values[0] / 10
    assert field[1, 2, 2] == pytest.approx(float(found["recovered_peak"][0]), rel=1e-3)
    share = field**2 / (field**2).sum()
    far = np.sqrt((share * (np.arange(5) - 2) ** 2).sum())
    assert found["spread_x"][0] == pytest.approx(50 * far, rel=1e-3, abs=1e-3)


def test_a_models_rates_do_as_well_as_counts(known):
    movie, _, truth, rate = known
    array = xr.DataArray(
        rate[_HISTORY:],
        dims=("time", "cell"),
        coords={"time": movie["time"][_HISTORY:], "cell": ["model"]},
        name="rate",
    )
    found = regularised_fields(
        movie, array.to_dataset(), history=_HISTORY, prior=Splines(), window=12
    )
    inside = found["inside"].values[0]
    assert _alike(found["field"].values[0], truth, inside) > 0.9
    assert found["held_out_r"] > 0.75  # the cell is not linear: a straight line cannot do better
    assert found["cell"].values.tolist() == ["model"]


def test_cells_that_share_frames_and_pixels_do_not_depend_on_each_other():
    movie = _noise()
    counts = np.random.default_rng(5).poisson(0.5, (1500, 3)).astype(float)
    counts[40:60, 2] = np.nan
    whole = regularised_fields(movie, _recording(movie, counts), history=3, prior=Ridge())
    for cell in range(3):
        alone = regularised_fields(
            movie, _recording(movie, counts[:, [cell]]), history=3, prior=Ridge()
        )
        np.testing.assert_allclose(whole["field"][cell], alone["field"][0], atol=1e-5)
        np.testing.assert_allclose(whole["held_out_r"][cell], alone["held_out_r"][0], atol=1e-5)


def test_silent_and_unobserved_cells_and_constant_pixels_are_flagged():
    movie = _noise()
    movie["contrast"][:, 0, 1] = 0.5
    counts = np.random.default_rng(6).poisson(0.5, (1500, 3)).astype(float)
    counts[:, 1], counts[:, 2] = 0, np.nan
    found = regularised_fields(movie, _recording(movie, counts), history=3, window=None)
    assert np.isnan(found["field"].values[0, :, 0, 1]).all()
    assert np.isfinite(np.delete(found["field"].values[0].reshape(3, 16), 1, axis=1)).all()
    for cell in (1, 2):
        for name in ("field", "error", "low", "penalty", "held_out_r", "recovered"):
            assert np.isnan(found[name].values[cell]).all(), name
    with pytest.raises(InputError, match="has no field"):
        draw_regularised(found, figure().subplots(), cell=1)


def test_bad_calls_are_refused_in_words():
    movie = _noise(frames=200)
    recording = _recording(movie, np.random.default_rng(7).poisson(1, (200, 1)))
    with pytest.raises(InputError, match="5000 entries"):
        big = make_stimulus(np.zeros((500, 10, 10)), frame_rate=60, pixel_um=50, name="big")
        regularised_fields(big, _recording(big, np.ones((500, 1))), history=50)
    with pytest.raises(InputError, match=r"never varies|no choice"):
        regularised_fields(movie, recording, history=20, prior=Ridge((0.0,)))
    with pytest.raises(InputError, match="centres: expected 1 rows"):
        regularised_fields(movie, recording, history=2, centres=[[0, 9]])
    with pytest.raises(InputError, match="window"):
        regularised_fields(movie, recording, history=2, window=0)
    with pytest.raises(InputError, match="level"):
        regularised_fields(movie, recording, history=2, level=95)


def test_drawings_show_the_peak_and_its_band(known):
    movie, recording, _, _ = known
    found = regularised_fields(
        movie, recording, history=_HISTORY, prior=Smooth(scales=(1.5, 1.5, 1.5))
    )
    left, right = figure().subplots(1, 2)
    draw_regularised(found, left, cell="cell_0")
    draw_regularised_course(found, right)
    assert "-50 ms" in left.get_title() and "held-out r 0.4" in left.get_title()
    assert np.asarray(left.images[0].get_array()).shape == (10, 10)
    curve = right.lines[-1].get_xydata()
    assert curve[curve[:, 1].argmax(), 0] == pytest.approx(-50)
    assert len(right.collections) == 1
    with pytest.raises(InputError, match="no cell 'x'"):
        draw_regularised(found, left, cell="x")


@pytest.mark.realdata
def test_a_smooth_field_of_a_mouse_cell_predicts_better_than_the_average(mouse_checkers):
    """A ganglion cell under checkers; the average of the same window reaches .132."""
    movie, recording, _ = mouse_checkers
    recording = recording.isel(cell=[5])
    prior = Smooth(scales=(3.8, 1.3, 1.4))
    found = regularised_fields(movie, recording, history=24, prior=prior, window=8)
    np.testing.assert_allclose(found["held_out_r"], 0.166, atol=0.01)
    assert found["held_out_r_low"] > 0.132
    assert float(found["frames_as_one"].max()) < 1.1  # noise that is white, frames on their own
    peak = found["lag"].values[abs(found["field"]).max(("y", "x")).argmax("lag").values]
    np.testing.assert_allclose(peak * movie.attrs["frame_rate"], -10, atol=1)
