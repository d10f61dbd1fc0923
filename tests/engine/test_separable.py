"""Separable forms of synthetic ON and OFF fields whose every number is known."""

import numpy as np
import pytest
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.separable import crop, field_shape, separable

PIXEL = 25.0
LAG = np.arange(-19, 1) / 60
Y, X = (np.arange(30) - 14.5) * PIXEL, (np.arange(34) - 16.5) * PIXEL


def _field(polarity, centre=(60.0, -110.0), sigma=60.0, gain=3.0, noise=0.0, seed=0):
    """A Gaussian centre times a biphasic time course that peaks 5 frames before the response."""
    frames = np.arange(19, -1, -1)
    course = np.exp(-((frames - 5) ** 2) / 4) - 0.4 * np.exp(-((frames - 10) ** 2) / 8)
    course /= np.linalg.norm(course)
    distance = (Y[:, None] - centre[0]) ** 2 + (X - centre[1]) ** 2
    place = np.exp(-distance / (2 * sigma**2))
    values = polarity * gain * course[:, None, None] * place
    values = values + noise * np.random.default_rng(seed).normal(size=values.shape)
    field = xr.DataArray(values, coords={"lag": LAG, "y": Y, "x": X}, attrs={"units": "Hz"})
    return field, course, place


@pytest.mark.parametrize("polarity", [1, -1])
def test_form_of_a_separable_field_is_the_field_with_the_polarity_in_space(polarity):
    field, course, place = _field(polarity)
    parts = separable(field)
    assert parts["separability"] > 0.99
    assert abs(np.corrcoef(parts["temporal"], course)[0, 1] - 1) < 0.01
    assert parts["temporal"].values[14] == parts["temporal"].values.max()
    assert np.corrcoef(parts["spatial"].values.ravel(), place.ravel())[0, 1] * polarity > 0.999
    assert parts["spatial"].attrs["units"] == "Hz"
    np.testing.assert_allclose(parts["gain"], np.linalg.norm(field.values), rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(parts["temporal"]), 1, rtol=1e-12)


@pytest.mark.parametrize("polarity", [1, -1])
def test_shape_recovers_place_size_latency_and_polarity(polarity):
    field, _, _ = _field(polarity, noise=0.02)
    shape = field_shape(separable(field))
    assert shape["polarity"] == polarity
    assert shape["centre_y"] == pytest.approx(60, abs=4)
    assert shape["centre_x"] == pytest.approx(-110, abs=4)
    assert shape["size"] == pytest.approx(2 * 60 * np.sqrt(2 * np.log(2)), rel=0.05)
    assert shape["latency"] == pytest.approx(5 / 60)


@pytest.mark.parametrize("angle", [0, 30, 90, 135, 179])
@pytest.mark.parametrize("polarity", [1, -1])
def test_shape_recovers_the_long_axis_of_an_ellipse(angle, polarity):
    turn = np.deg2rad(angle)
    along = X * np.cos(turn) + Y[:, None] * np.sin(turn)
    across = -X * np.sin(turn) + Y[:, None] * np.cos(turn)
    place = polarity * np.exp(-((along / 120) ** 2 + (across / 60) ** 2) / 2)
    course = np.array([0.0, 0.6, 0.8, 0.0])
    field = xr.DataArray(
        course[:, None, None] * place, coords={"lag": np.arange(-3.0, 1.0), "y": Y, "x": X}
    )
    shape = field_shape(separable(field))
    assert float(shape["elongation"]) == pytest.approx(2, rel=0.06)
    assert abs((float(shape["orientation"]) - angle + 90) % 180 - 90) < 3
    assert shape["orientation"].attrs["units"] == "degree"


def test_a_round_centre_and_a_single_pixel_have_no_orientation():
    field, _, _ = _field(1, centre=(PIXEL / 2, PIXEL / 2))
    dot = xr.zeros_like(field)
    dot[5, 7, 8], dot[5, 20, 20] = -2.0, -1.9
    shape = field_shape(separable(xr.concat([field, dot], dim="cell")))
    np.testing.assert_allclose(shape["elongation"], 1, atol=0.02)
    assert np.isnan(shape["orientation"]).all()
    assert shape["size"][1] == pytest.approx(2 * PIXEL / np.sqrt(np.pi))
    assert (shape["centre_y"][1], shape["centre_x"][1]) == (Y[7], X[8])


def test_two_orthogonal_parts_have_the_share_of_the_larger():
    lag, y, x = np.eye(4), np.ones(5) / np.sqrt(5), np.eye(6)
    wave = [x[0] - x[1], x[2] - x[3]]
    values = [k * lag[j][:, None, None] * y[:, None] * wave[j] for j, k in enumerate((3.0, 2.0))]
    parts = separable(xr.DataArray(sum(values), dims=("lag", "y", "x")))
    assert float(parts["separability"]) == pytest.approx(9 / 13)
    np.testing.assert_allclose(parts["temporal"], [1, 0, 0, 0], atol=1e-12)


def test_many_fields_at_once_equal_each_alone_in_any_order_of_dims():
    fields = xr.concat([_field(1, noise=0.3)[0], _field(-1, noise=0.3, seed=1)[0]], dim="cell")
    together = separable(fields.transpose("y", "lag", "cell", "x"))
    for number in range(2):
        alone = separable(fields[number])
        np.testing.assert_allclose(together["spatial"][number], alone["spatial"], atol=1e-10)
        np.testing.assert_allclose(together["temporal"][number], alone["temporal"], atol=1e-10)


def test_single_precision_is_enough():
    field, _, _ = _field(1, noise=0.1)
    exact, rough = separable(field), separable(field.astype(np.float32))
    np.testing.assert_allclose(rough["separability"], exact["separability"], rtol=1e-5)
    np.testing.assert_allclose(rough["temporal"], exact["temporal"], atol=1e-5)


def test_field_without_variance_is_flagged():
    flat = xr.DataArray(np.full((2, 4, 5, 5), 0.1), dims=("cell", "lag", "y", "x"))
    flat[1] = 0
    parts = separable(flat)
    assert np.isnan(parts["separability"]).all() and not parts["spatial"].any()
    shape = field_shape(parts)
    assert all(np.isnan(shape[name]).all() for name in shape)


def test_crop_puts_the_strongest_pixel_in_the_middle_and_zeros_outside():
    values = np.zeros((2, 30, 34))
    values[0, 12, 17], values[0, 13, 17] = -5, 2
    values[1, 1, 33] = 3
    maps = xr.DataArray(values, dims=("cell", "y", "x"), coords={"y": Y, "x": X})
    window = crop(maps)
    assert window.shape == (2, 20, 20)
    assert window.values[0, 10, 10] == -5 and window.values[0, 11, 10] == 2
    assert window.values[1, 10, 10] == 3 and np.count_nonzero(window.values[1]) == 1
    np.testing.assert_allclose(window["y"], np.arange(-10, 10) * PIXEL)
    np.testing.assert_array_equal(window.values[0], values[0, 2:22, 7:27])
    with pytest.raises(InputError, match="crop"):
        crop(maps, 0)


def test_missing_dims_are_named():
    with pytest.raises(InputError, match="lag, y, x"):
        separable(xr.DataArray(np.zeros((3, 3)), dims=("y", "x")))
