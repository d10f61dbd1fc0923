"""Gaussian fits of fields against closed forms, scipy's curve_fit and simulated noise."""

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import curve_fit
from scipy.special import erf

from retinacodec.analyses.field_fits import DifferenceOfGaussians, Gaussian, fit_gaussians
from retinacodec.analyses.field_models import Grid
from retinacodec.errors import InputError

PLACE = 50.0 * np.arange(15)


def _map(values, y=PLACE, x=PLACE):
    values = np.asarray(values)
    if values.ndim == 2:
        values = values[None]
    cells = [f"cell_{k}" for k in range(len(values))]
    return xr.DataArray(values, [("cell", cells), ("y", y), ("x", x)], attrs={"units": "Hz"})


def _ellipse(y, x, amplitude, cy, cx, major, minor, degrees, offset):
    """A rotated Gaussian written out, at points."""
    turn = np.radians(degrees)
    along = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
    across = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
    return offset + amplitude * np.exp(-((along / major) ** 2 + (across / minor) ** 2) / 2)


def _pixels(place, parameters):
    """Means over pixels by Gauss-Legendre, five points to a side."""
    nodes, weights = np.polynomial.legendre.leggauss(5)
    fine = (place[:, None] + (place[1] - place[0]) / 2 * nodes).ravel()
    values = _ellipse(*np.meshgrid(fine, fine, indexing="ij"), *parameters)
    values = values.reshape(len(place), 5, len(place), 5)
    return np.einsum("aibj,i,j->ab", values, weights / 2, weights / 2)


TRUTH = {
    "amplitude": 1.0,
    "centre_y": 340.0,
    "centre_x": 365.0,
    "sigma_major": 90.0,
    "sigma_minor": 60.0,
    "orientation": 30.0,
    "offset": 0.1,
}


def test_integral_of_a_gaussian_over_pixels_is_recovered_in_closed_form():
    """Integrals over pixels by the error function; a sigma of 0.9 pixels."""

    def means(centre, sigma):
        edges = np.r_[PLACE - 25, PLACE[-1] + 25]
        return np.diff(erf((edges - centre) / (np.sqrt(2) * sigma))) * sigma * 1.2533141 / 50

    picture = -3 * np.outer(means(310, 45), means(372, 80)) + 0.5
    found = fit_gaussians(_map(picture)).isel(cell=0)
    assert found["polarity"] == -1 and bool(found["fitted"]) and found["r2"] > 0.9999
    expected = [310, 372, 80, 45, 2 * np.sqrt(80 * 45), 80 / 45, -3, 0.5]
    names = ["centre_y", "centre_x", "sigma_major", "sigma_minor", "size", "elongation"]
    got = [float(found[name]) for name in (*names, "amplitude", "offset")]
    np.testing.assert_allclose(got, expected, rtol=5e-3)
    assert min(float(found["orientation"]), 180 - float(found["orientation"])) < 0.1
    assert found["amplitude"].attrs["units"] == "Hz" and found["size"].attrs["units"] == "um"


def test_parameters_and_errors_equal_those_of_curve_fit():
    rng = np.random.default_rng(0)
    parameters = [TRUTH[k] for k in ("amplitude", "centre_y", "centre_x")]
    parameters += [TRUTH[k] for k in ("sigma_major", "sigma_minor", "orientation", "offset")]
    picture = _pixels(PLACE, parameters) + 0.05 * rng.normal(size=(15, 15))

    def shape(_, *values):
        return _pixels(PLACE, values).ravel()

    best, covariance = curve_fit(
        shape,
        None,
        picture.ravel(),
        p0=parameters,
        sigma=np.full(225, 0.05),
        absolute_sigma=True,
    )
    found = fit_gaussians(_map(picture), noise=0.05).isel(cell=0)
    errors = np.sqrt(np.diag(covariance))
    names = ["amplitude", "centre_y", "centre_x", "sigma_major", "sigma_minor", "orientation"]
    for k, name in enumerate([*names, "offset"]):
        assert float(found[name]) == pytest.approx(best[k], rel=2e-3), name
        assert float(found[f"{name}_error"]) == pytest.approx(errors[k], rel=0.01), name
    residual = picture.ravel() - shape(None, *best)
    assert float(found["chi2"]) == pytest.approx((residual**2).sum() / 0.05**2, rel=1e-3)
    assert int(found["degrees"]) == 225 - 7


def test_error_bars_cover_the_truth_at_their_level():
    """200 noisy maps: 1.96 standard errors cover near 95 %, and z has a spread near 1."""
    rng = np.random.default_rng(1)
    place = PLACE[:11]
    truth = dict(TRUTH, centre_y=240.0, centre_x=265.0)
    order = ("amplitude", "centre_y", "centre_x", "sigma_major", "sigma_minor", "orientation")
    clean = _pixels(place, [truth[k] for k in (*order, "offset")])
    noisy = clean + 0.06 * rng.normal(size=(200, 11, 11))
    found = fit_gaussians(_map(noisy, place, place), noise=0.06)
    truth |= {"size": 2 * np.sqrt(5400), "elongation": 1.5}
    for name, value in truth.items():
        z = (found[name] - value) / found[f"{name}_error"]
        assert 0.90 <= float((abs(z) < 1.96).mean()) <= 0.99, name
        assert 0.85 < float(z.std()) < 1.15, name
    assert float((found["chi2"] / found["degrees"]).mean()) == pytest.approx(1, abs=0.03)
    assert float((found["preferred"] == "Gaussian").mean()) > 0.95


@pytest.mark.parametrize("model", [Gaussian(), DifferenceOfGaussians()])
@pytest.mark.parametrize(("rows", "columns"), [(7, 9), (1, 9), (9, 1)])
@pytest.mark.parametrize("round_", [False, True])
def test_slopes_of_a_shape_are_those_of_complex_steps(model, rows, columns, round_):
    grid = Grid.of(-30.0 * np.arange(rows), 40.0 * np.arange(columns))
    names = model.names(len(grid.axes))
    values = 0.4 * np.random.default_rng(7).normal(size=len(names))
    values[:2], values[2 : 2 + len(grid.axes)] = (1.3, 0.2), grid.centres.mean(axis=1) + 0.3
    if round_ and "q" in names:
        values[names.index("q") : names.index("r") + 1] = 0
    moved = values[:, None] + 1e-30j * np.eye(values.size)
    exact = model(moved[:, :, None, None], grid).imag.T / 1e-30
    np.testing.assert_allclose(model.slopes(values, grid), exact, atol=1e-12)
    assert np.abs(exact).max(axis=0).min() > 1e-3


def test_turning_mirroring_and_scaling_a_map_turns_mirrors_and_scales_the_fit():
    order = ("amplitude", "centre_y", "centre_x", "sigma_major", "sigma_minor", "orientation")
    picture = _pixels(PLACE, [TRUTH[k] for k in (*order, "offset")])
    upright = fit_gaussians(_map(picture)).isel(cell=0)
    turned = fit_gaussians(_map(picture.T)).isel(cell=0)
    assert float(turned["centre_y"]) == pytest.approx(float(upright["centre_x"]), abs=0.1)
    assert float(turned["orientation"]) == pytest.approx(60, abs=0.2)
    mirrored = fit_gaussians(_map(picture[:, ::-1])).isel(cell=0)
    assert float(mirrored["orientation"]) == pytest.approx(150, abs=0.2)
    assert float(mirrored["centre_x"]) == pytest.approx(700 - 365, abs=0.2)
    large = fit_gaussians(_map(picture, 3 * PLACE + 100, 3 * PLACE)).isel(cell=0)
    assert float(large["size"]) == pytest.approx(3 * float(upright["size"]), rel=1e-4)
    assert float(large["centre_y"]) == pytest.approx(3 * 340 + 100, abs=0.5)
    assert float(large["orientation"]) == pytest.approx(float(upright["orientation"]), abs=0.01)
    np.testing.assert_allclose(large["size_error"] / upright["size_error"], 3, rtol=1e-2)


def test_surround_is_recovered_with_its_errors_and_preferred_where_it_is():
    y, x = np.meshgrid(PLACE, PLACE, indexing="ij")
    squared = (y - 350) ** 2 + (x - 350) ** 2
    clean = np.exp(-squared / (2 * 70**2)) - 0.8 / 9 * np.exp(-squared / (2 * 210**2))
    rng = np.random.default_rng(2)
    noisy = clean + 0.01 * rng.normal(size=(30, 15, 15))
    found = fit_gaussians(_map(noisy), model=DifferenceOfGaussians(), noise=0.01)
    assert (found["preferred"] == "DifferenceOfGaussians").all()
    truth = {"surround_ratio": 3, "surround_weight": 0.8, "sigma_major": 70, "centre_x": 350}
    for name in ("surround_ratio", "surround_weight", "centre_x"):
        z = (found[name] - truth[name]) / found[f"{name}_error"]
        assert float((abs(z) < 2.6).mean()) > 0.9, name
    assert float(found["size"].mean()) == pytest.approx(140, rel=0.03)
    assert float(found["surround_ratio"].mean()) == pytest.approx(3, rel=0.1)
    alone = fit_gaussians(_map(noisy[:1]), noise=0.01)
    assert alone["preferred"].item() == "DifferenceOfGaussians" and "surround_ratio" not in alone


def test_jackknife_equals_its_formula_and_the_known_noise():
    """Maps that are means of 16 blocks: the jackknife agrees with the noise of the mean."""
    order = ("amplitude", "centre_y", "centre_x", "sigma_major", "sigma_minor", "orientation")
    clean = _pixels(PLACE, [TRUTH[k] for k in (*order, "offset")])
    blocks = clean + 0.2 * np.random.default_rng(3).normal(size=(16, 15, 15))
    whole = _map(blocks.mean(axis=0))
    left = (blocks.sum(axis=0) - blocks) / 15
    again = _map(left).rename(cell="replicate").drop_vars("replicate").expand_dims(cell=1)
    again = again.assign_coords(cell=whole["cell"])
    found = fit_gaussians(whole, replicates=again, noise=0.05)
    plain = fit_gaussians(whole, noise=0.05)
    each = fit_gaussians(_map(left))
    for name in ("centre_y", "size", "orientation"):
        values = each[name].values
        formula = np.sqrt(15 / 16 * ((values - values.mean()) ** 2).sum())
        assert float(found[f"{name}_error"][0]) == pytest.approx(formula, rel=0.01)
        assert 0.5 < float((found[f"{name}_error"] / plain[f"{name}_error"])[0]) < 2


def test_bars_and_full_fields_say_what_they_have():
    place = 25.0 * np.arange(40)
    profile = 2 * np.exp(-((place - 430) ** 2) / (2 * 80**2)) + 0.3
    found = fit_gaussians(_map(profile[None], [0.0], place), noise=0.01).isel(cell=0)
    assert float(found["centre_x"]) == pytest.approx(430, abs=0.5)
    assert float(found["size"]) == pytest.approx(160, rel=0.01)
    for name in ("centre_y", "sigma_minor", "orientation", "elongation"):
        assert np.isnan(found[name]) and np.isnan(found[f"{name}_error"]), name
    assert "one pixel along y" in str(found["reason"].values) and bool(found["fitted"])
    upright = fit_gaussians(_map(profile[:, None], place, [0.0])).isel(cell=0)
    assert float(upright["centre_y"]) == pytest.approx(430, abs=0.5)
    flicker = fit_gaussians(_map([[-0.4]], [0.0], [0.0]), noise=0.02).isel(cell=0)
    assert flicker["polarity"] == -1 and flicker["amplitude"] == pytest.approx(-0.4)
    assert flicker["amplitude_error"] == pytest.approx(0.02) and not bool(flicker["fitted"])
    assert str(flicker["reason"].values) == "one pixel: no place and no size"


def test_what_cannot_be_fitted_is_nan_with_a_reason():
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(15, 15))
    edge = noise.copy()
    edge[0, 4] = 40
    lost = noise.copy()
    lost[3, 3] = np.nan
    found = fit_gaussians(_map([noise, edge, lost, np.ones((15, 15))]), noise=1.0)
    assert not found["fitted"].any() and np.isnan(found["size"]).all()
    reasons = found["reason"].values.tolist()
    assert reasons[0] == "no significant peak" and "edge" in reasons[1]
    assert "finite" in reasons[2] and "vary" in reasons[3]
    few = _map(np.eye(2)[None], PLACE[:2], PLACE[:2])
    assert "4 pixels for 7 parameters" in fit_gaussians(few)["reason"].item()


def test_false_peaks_are_as_rare_as_asked_for():
    noise = np.random.default_rng(5).normal(size=(250, 15, 15))
    found = fit_gaussians(_map(noise), noise=1.0, significance=0.05)
    share = float((found["reason"] != "no significant peak").mean())
    assert share < 0.05 + 1.65 * np.sqrt(0.05 * 0.95 / 250)


def test_the_same_maps_give_the_same_numbers_and_bad_calls_are_refused():
    rng = np.random.default_rng(6)
    maps = _map(_pixels(PLACE, [1, 340, 365, 90, 60, 30, 0]) + 0.05 * rng.normal(size=(15, 15)))
    xr.testing.assert_identical(fit_gaussians(maps), fit_gaussians(maps))
    named = fit_gaussians(xr.Dataset({"spatial": maps}), model=Gaussian())
    xr.testing.assert_identical(named, fit_gaussians(maps))
    with pytest.raises(InputError, match="'spatial'"):
        fit_gaussians(xr.Dataset({"sta": maps}))
    with pytest.raises(InputError, match="dims"):
        fit_gaussians(maps.rename(y="row"))
    with pytest.raises(InputError, match="above 0"):
        fit_gaussians(maps, noise=0.0)
    with pytest.raises(InputError, match=r"shape \(1,\)"):
        fit_gaussians(maps, noise=[1.0, 2.0])
    with pytest.raises(InputError, match="at least 2"):
        fit_gaussians(maps, replicates=maps.expand_dims(replicate=1))
    with pytest.raises(InputError, match="significance"):
        fit_gaussians(maps, significance=1.5)
    with pytest.raises(InputError, match="ratios"):
        DifferenceOfGaussians(ratios=(3, 2))
