"""Static nonlinearities of cells whose curve is known, and of a cell that only makes noise."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from retinacodec.analyses.nonlinearity import draw_nonlinearity, static_nonlinearity
from retinacodec.analyses.rate_curves import CURVES, curve_slopes, curve_values, fit_curve
from retinacodec.errors import InputError
from retinacodec.field_priors import Ridge
from retinacodec.lagged_products import filtered
from retinacodec.plotting import figure
from retinacodec.schema import make_recording, make_stimulus


@pytest.fixture(scope="module")
def cells():
    """White noise; a soft threshold, a cell that both signs excite, a straight line, and noise."""
    rng = np.random.default_rng(0)
    contrast = rng.normal(size=(30_000, 5, 5)).astype(np.float32)
    movie = make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")
    filters = np.zeros((1, 6, 5, 5))
    filters[0, 3:5, 2, 2:4] = 0.5
    drive = np.nan_to_num(filtered(contrast, filters)[:, 0])
    curves = [
        lambda x: 40 * np.logaddexp(0, 2 * (x - 0.5)) / 2,
        lambda x: 10 * (x + 0.2) ** 2,
        lambda x: 30 + 5 * np.clip(x, -5, 5),
        lambda x: np.full_like(x, 10.0),
    ]
    rate = np.stack([curve(drive) for curve in curves], axis=1)
    counts = rng.poisson(rate / 60).astype(float)
    recording = _recording(movie, counts)
    field = xr.DataArray(np.repeat(filters, 4, axis=0), dims=("cell", "lag", "y", "x"))
    return movie, recording, field, curves, rate


@pytest.fixture(scope="module")
def known(cells):
    """Curves of the four cells by their true filters."""
    movie, recording, field, _, _ = cells
    return static_nonlinearity(movie, recording, field)


def _recording(movie, counts):
    names = [f"cell_{number}" for number in range(counts.shape[1])]
    return make_recording(counts, time=movie["time"], frame_rate=60, cells=names)


def test_the_true_curve_lies_in_the_bands(cells, known):
    movie, recording, _, curves, _ = cells
    crossed = static_nonlinearity(movie, recording, history=6, window=None)
    covered = []
    for found, chosen in ((known, (0, 1, 2, 3)), (crossed, (0,))):
        for cell in chosen:
            one = found.isel(cell=cell)
            x = norm.ppf((np.arange(20 * 50) + 0.5) / 1000).reshape(20, 50)
            truth = curves[cell](x).mean(axis=1)
            covered.append((one["rate_low"] <= truth) & (truth <= one["rate_high"]))
    assert np.mean(covered[:4]) >= 0.9
    assert np.mean(covered[4:]) >= 0.9
    assert known.attrs["crossed"] == 0 and crossed.attrs["crossed"] == 1


def test_numbers_of_the_curve_are_those_of_the_cell(cells, known):
    curves = cells[3]
    soft, even, line, flat = (known.isel(cell=cell) for cell in range(4))
    assert abs(soft["threshold"] - 0.5) < 4 * soft["threshold_error"] < 1
    x = norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    for cell, one in enumerate((soft, even, line)):
        slope = (x * curves[cell](x)).mean()
        assert one["gain_low"] < slope < one["gain_high"]
        r = curves[cell](np.array([-1.0, 0.0, 1.0]))
        bend = (r[2] + r[0] - 2 * r[1]) / (r[2] - r[0])
        assert one["rectification_low"] - 0.15 < bend < one["rectification_high"] + 0.15
    assert line["rectification"] == pytest.approx(0, abs=0.15)
    assert 0.5 < soft["rectification"] < 1 and even["rectification"] > 1
    assert np.isnan(flat["rectification"]) and abs(flat["gain"]) < 0.3
    assert soft["best_curve"].item() == "softplus"
    parameters = soft["parameter"].sel(curve="softplus")
    assert parameters.sel(name="scale") == pytest.approx(40, rel=0.15)
    grid = np.linspace(-1.5, 2, 20)
    fitted = curve_values("softplus", parameters.values, grid)
    np.testing.assert_allclose(fitted, curves[0](grid), atol=2)


def test_a_cell_of_noise_has_a_flat_curve_only_if_the_filter_has_not_seen_the_frames():
    rng = np.random.default_rng(3)
    contrast = rng.normal(size=(6000, 8, 8)).astype(np.float32)
    movie = make_stimulus(contrast, frame_rate=60, pixel_um=50, name="noise")
    recording = _recording(movie, rng.poisson(0.3, (6000, 6)).astype(float))
    crossed = static_nonlinearity(movie, recording, history=10, window=None)
    flat = (crossed["rate_low"] <= 18) & (crossed["rate_high"] >= 18)
    assert flat.mean() >= 0.88
    error = 60 * np.sqrt(0.3 / 6000)
    assert abs(crossed["gain"].mean()) < 2.5 * error / np.sqrt(6)
    assert abs(crossed["gain"]).max() < 3 * error
    from retinacodec.analyses.receptive_fields import spike_triggered_average

    average = spike_triggered_average(movie, recording, history=10)["sta"]
    same = static_nonlinearity(movie, recording, average)
    assert same["gain"].min() > 2 > 4.5 * error


def test_a_models_rates_and_a_prior_do_as_well(cells):
    movie, _, _, curves, rate = cells
    array = xr.DataArray(
        rate[5:6000, [0]],
        dims=("time", "cell"),
        coords={"time": movie["time"][5:6000], "cell": ["model"]},
    )
    found = static_nonlinearity(
        movie.isel(time=slice(0, 6000)), array, history=6, prior=Ridge((0.01,)), window=4, folds=3
    ).isel(cell=0)
    x = norm.ppf((np.arange(20 * 50) + 0.5) / 1000).reshape(20, 50)
    np.testing.assert_allclose(found["rate"], curves[0](x).mean(axis=1), atol=2.5)
    assert found["best_curve"].item() == "softplus"


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_found_again_with_their_errors(name):
    rng = np.random.default_rng(5)
    x = np.linspace(-2, 2, 25)
    truth = np.array([3.0, 20.0, 2.0, 0.4]) if name != "exponential" else np.array([3.0, 5.0, 1.0])
    exact = curve_values(name, np.append(truth, np.nan)[:4], x)
    values = []
    for _ in range(30):
        found = fit_curve(name, x, exact + rng.normal(size=25), np.ones(25))
        count = len(truth)
        values.append((found.parameters[:count] - truth) / found.errors[:count])
    assert np.sqrt(np.mean(np.square(values))) == pytest.approx(1, abs=0.3)
    assert found.misfit == pytest.approx(1, abs=0.7)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("steepness", [-1.3, 2.0])
def test_slopes_of_curves_are_those_of_differences(name, steepness):
    from scipy.optimize import approx_fprime

    x = np.linspace(-2, 2, 9)
    values = np.array([3.0, 20.0, steepness, 0.4])[: 3 if name == "exponential" else 4]
    found = approx_fprime(values, lambda moved: curve_values(name, moved, x), 1e-6)
    np.testing.assert_allclose(curve_slopes(name, values, x), found, rtol=1e-4, atol=1e-4)


def test_falling_curves_are_fitted_too():
    x = np.linspace(-2, 2, 20)
    for name, truth in (("softplus", [1, 10, -2, 0]), ("exponential", [1, 5, -1, np.nan])):
        exact = curve_values(name, np.array(truth, dtype=float), x)
        found = fit_curve(name, x, exact, np.full(20, np.nan))
        np.testing.assert_allclose(found.parameters, truth, atol=0.05)


def test_cells_without_a_curve_are_flagged_or_refused(cells):
    movie, recording, field, _, _ = cells
    counts = recording["spike_count"].values.copy()
    counts[:, 1], counts[:, 2] = 0, np.nan
    found = static_nonlinearity(movie, _recording(movie, counts), field, draws=20)
    for cell in (1, 2):
        one = found.isel(cell=cell)
        assert np.isnan(one["rate"]).all() and np.isnan(one["gain"])
        assert one["best_curve"].item() == "none"
    with pytest.raises(InputError, match="has no curve"):
        draw_nonlinearity(found, figure().subplots(), cell=1)
    with pytest.raises(InputError, match="no cell has a curve"):
        static_nonlinearity(movie, _recording(movie, counts[:, [1]]), history=6)


def test_bad_calls_are_refused_in_words(cells):
    movie, recording, field, _, _ = cells
    with pytest.raises(InputError, match=r"folds.*bins.*draws.*level.*history"):
        static_nonlinearity(movie, recording, folds=1, bins=2, draws=1, level=2)
    with pytest.raises(InputError, match="expected 4 cells, got 2"):
        static_nonlinearity(movie, recording, field[:2])
    with pytest.raises(InputError, match=r"expected a DataArray \(cell"):
        static_nonlinearity(movie, recording, field[0])
    with pytest.raises(InputError, match="too few for 5 parts"):
        static_nonlinearity(
            movie.isel(time=slice(0, 300)), recording.isel(time=slice(0, 300)), history=30
        )


def test_drawing_shows_bins_and_the_best_curve(known):
    ax = figure().subplots()
    draw_nonlinearity(known, ax, cell="cell_0")
    assert "softplus" in ax.get_title()
    np.testing.assert_allclose(ax.lines[0].get_xydata()[:, 1], known["rate"][0])
    assert ax.get_ylim()[0] <= 0
    with pytest.raises(InputError, match="no cell 'x'"):
        draw_nonlinearity(known, ax, cell="x")
