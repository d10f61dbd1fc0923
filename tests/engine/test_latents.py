"""Means, cosines and separable forms of latent fields against those of the fields."""

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.first_layer import Filters
from retinacodec.latents import LatentFields
from retinacodec.separable import field_shape, separable

SHAPES = {
    "plain": ({}, (9, 13)),
    "wide": ({}, (7, 17)),
    "strided": ({"stride": (2, 1), "padding": (1, 0)}, (10, 12)),
    "dilated": ({"dilation": (2, 2)}, (12, 11)),
}


def _record(options, size, channels=2, dtype=torch.float64, courses=6):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((channels, courses, 3, 4), generator=generator, dtype=dtype)
    if courses < 6:
        time = torch.randn((6, courses), generator=generator, dtype=dtype)
        weight = torch.einsum("lr,crhw->clhw", time, weight)
    filters = Filters(name="conv1", weight=weight, size=size, **options)
    probe = torch.nn.functional.conv2d(torch.zeros(1, 6, *size, dtype=dtype), weight, **options)
    shape = (7, 3, channels, *probe.shape[2:])
    values = torch.randn(shape, generator=generator, dtype=dtype).numpy()
    names = {"time": np.arange(7) / 10, "cell": ["a", "b", "c"]}
    axes = {"lag": np.arange(-5, 1) / 10, "y": np.arange(size[0]), "x": np.arange(size[1])}
    return LatentFields(
        latent=xr.DataArray(values, dims=("time", "cell", "channel", "y", "x"), coords=names),
        rate=xr.DataArray(np.ones((7, 3)), dims=("time", "cell"), coords=names),
        filters=filters,
        **{name: xr.DataArray(value, coords={name: value}) for name, value in axes.items()},
    )


@pytest.fixture(params=SHAPES)
def kept(request):
    return _record(*SHAPES[request.param])


def _vectors(kept):
    fields = kept.project().values
    return fields.reshape(*fields.shape[:2], -1)


def test_projection_is_the_gradient_of_the_convolution(kept):
    options = {k: getattr(kept.filters, k) for k in ("stride", "padding", "dilation", "groups")}
    window = torch.zeros((1, 6, *kept.filters.size), dtype=torch.float64, requires_grad=True)
    out = torch.nn.functional.conv2d(window, kept.filters.weight, **options)
    pull = torch.from_numpy(kept.latent.values[3, 1])[None]
    (truth,) = torch.autograd.grad(out, window, pull)
    np.testing.assert_allclose(kept.project().values[3, 1], truth[0], atol=1e-12)


def test_cosines_equal_those_of_the_projected_fields(kept):
    vectors = _vectors(kept)
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    expected = np.einsum("icf,jcf->cij", unit, unit)
    np.testing.assert_allclose(kept.cosines().values, expected, atol=1e-12)


def test_features_are_shorter_than_fields():
    kept = _record({}, (20, 20))
    vectors = kept.filters.features(torch.from_numpy(kept.latent.values[:, 0]))
    assert vectors.shape[1] <= 2 * 2 * 20 * 11 < 6 * 20 * 20


def test_cosines_with_more_channels_than_lags_are_right_too():
    kept = _record({}, (8, 9), channels=8)
    vectors = _vectors(kept)[:, 0]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(kept.cosines().values[0], unit @ unit.T, atol=1e-12)


def test_a_zero_field_has_no_cosine():
    kept = _record({}, (8, 9))
    kept.latent.values[2, 1] = 0
    found = kept.cosines()
    assert np.isnan(found.values[1, 2]).all() and np.isfinite(found.values[0]).all()


def test_weighted_means_of_sets_equal_the_means_of_fields(kept):
    fields = kept.project()
    np.testing.assert_allclose(kept.mean(), fields.mean("time"), atol=1e-12)
    mask = np.array([1, 0, 1, 1, 0, 0, 0], bool)
    np.testing.assert_allclose(kept.mean(mask), fields[mask].mean("time"), atol=1e-12)
    weights = np.random.default_rng(0).uniform(size=(7, 3))
    expected = fields.weighted(xr.DataArray(weights, dims=("time", "cell"))).mean("time")
    np.testing.assert_allclose(kept.mean(weights), expected, atol=1e-12)


def test_many_sets_are_averaged_at_once_and_an_empty_one_is_nan():
    kept = _record({}, (8, 9))
    loading = xr.DataArray(np.zeros((7, 3)), dims=("time", "mode"))
    loading[2:4, 0], loading[5, 1] = [1.0, 3.0], 0.2
    means = kept.mean(loading)
    fields = kept.project()
    assert means.dims == ("mode", "cell", "lag", "y", "x")
    np.testing.assert_allclose(means[0], (fields[2] + 3 * fields[3]) / 4, atol=1e-12)
    np.testing.assert_allclose(means[1], fields[5], atol=1e-12)
    assert np.isnan(means[2]).all()


def test_separable_forms_equal_those_of_the_fields(kept):
    parts = kept.separable()
    fields = kept.project().values
    around = fields - fields.mean((2, 3, 4), keepdims=True)
    left, sizes, right = np.linalg.svd(around.reshape(7, 3, 6, -1), full_matrices=False)
    share = sizes[..., 0] ** 2 / (sizes**2).sum(-1)
    np.testing.assert_allclose(parts["separability"], share, rtol=1e-10)
    best = (left[..., :1] * sizes[..., None, :1]) @ right[..., :1, :]
    found = parts["temporal"] * parts["spatial"]
    found = found.transpose("time", "cell", "lag", "y", "x").values.reshape(best.shape)
    np.testing.assert_allclose(found, best, atol=1e-9)
    np.testing.assert_allclose(parts["gain"], np.linalg.norm(_vectors(kept), axis=-1), rtol=1e-10)


def test_sums_of_parts_make_the_mean_of_the_whole():
    kept = _record({}, (8, 9))
    loading = xr.DataArray(np.random.default_rng(0).uniform(size=(7, 2)), dims=("time", "mode"))
    loading = loading.assign_coords(mode=["p", "q"])
    parts = [(kept.select(time=part), loading[part]) for part in (slice(0, 3), slice(3, 7))]
    total = sum(record.weighted_sum(weights) for record, weights in parts)
    mean = kept.field(total / loading.sum("time"))
    np.testing.assert_allclose(mean, kept.mean(loading), atol=1e-12)
    assert mean["mode"].values.tolist() == ["p", "q"] and mean.dims[:2] == ("mode", "cell")
    forms = kept.separable(total / loading.sum("time"))
    np.testing.assert_allclose(forms["gain"], np.sqrt((mean**2).sum(("lag", "y", "x"))), rtol=1e-10)
    with pytest.raises(InputError, match="7 frames"):
        kept.mean(np.ones(3))


def test_separable_form_of_an_unknown_field_is_unknown():
    kept = _record({}, (8, 9))
    kept.latent.values[2, 1] = np.nan
    forms = kept.separable()
    assert np.isnan(forms["spatial"][2, 1]).all() and np.isnan(forms["separability"][2, 1])
    assert int(np.isnan(forms["separability"]).sum()) == 1
    assert np.isnan(field_shape(forms)["latency"][2, 1])


@pytest.mark.parametrize("options", [{}, {"stride": (2, 1)}])
@pytest.mark.parametrize("courses", [1, 2, 3])
def test_few_time_courses_give_the_same_fields_and_forms(courses, options):
    kept = _record(options, (8, 9), courses=courses)
    basis, reduced = kept.filters.temporal
    assert basis.shape == (6, courses) and reduced.weight.shape[1] == courses
    plain = kept.filters._transpose(torch.from_numpy(kept.latent.values).flatten(0, 1))
    fields = plain.reshape(7, 3, 6, 8, 9).numpy()
    np.testing.assert_allclose(kept.project(), fields, atol=1e-11)
    forms, expected = kept.separable(), separable(kept.project())
    for name in ("spatial", "temporal", "separability", "gain"):
        np.testing.assert_allclose(forms[name], expected[name], atol=1e-9, err_msg=name)
    products = np.einsum("ica,jca->cij", *(2 * [fields.reshape(7, 3, -1)]))
    np.testing.assert_allclose(kept.gram(), products, atol=1e-10)


def test_filters_of_many_time_courses_are_left_as_they_are():
    assert _record({}, (8, 9), courses=4).filters.temporal is None
    assert _record({}, (8, 9)).filters.temporal is None


def test_separable_form_of_a_constant_time_course():
    kept = _record({}, (8, 9), courses=1)
    flat = torch.ones_like(kept.filters.weight) * kept.filters.weight[:, :1]
    constant = dataclasses.replace(kept, filters=dataclasses.replace(kept.filters, weight=flat))
    forms, expected = constant.separable(), separable(constant.project())
    np.testing.assert_allclose(forms["spatial"], expected["spatial"], atol=1e-9)
    np.testing.assert_allclose(forms["temporal"], expected["temporal"], atol=1e-9)


def test_inner_products_are_those_of_the_fields(kept):
    vectors = _vectors(kept)
    expected = np.einsum("icf,jcf->cij", vectors, vectors)
    np.testing.assert_allclose(kept.gram().values, expected, atol=1e-10)


@pytest.mark.parametrize("rows", [slice(0, 3), slice(2, 6), slice(5, None), slice(None)])
def test_a_window_of_the_frame_is_the_cut_field(rows):
    kept = _record({}, (9, 13))
    columns = slice(4, 12)
    cut = kept.window(rows, columns)
    whole = kept.project()[..., rows, columns]
    np.testing.assert_allclose(cut.project(), whole, atol=1e-12)
    assert cut.project()["y"].equals(whole["y"]) and cut.project()["x"].equals(whole["x"])
    assert set(cut.latent["y"].values) <= set(kept.latent["y"].values)
    flat = whole.values.reshape(7, 3, -1)
    unit = flat / np.linalg.norm(flat, axis=-1, keepdims=True)
    np.testing.assert_allclose(cut.cosines(), np.einsum("ica,jca->cij", unit, unit), atol=1e-12)
    again = cut.window(slice(1, 3), slice(0, 2))
    np.testing.assert_allclose(again.project(), whole[..., 1:3, 0:2], atol=1e-12)


def test_a_window_that_is_empty_or_of_a_strided_layer_is_refused():
    with pytest.raises(InputError, match="some rows"):
        _record({}, (9, 13)).window(slice(4, 4), slice(0, 3))
    with pytest.raises(InputError, match="stride"):
        _record(*SHAPES["strided"]).window(slice(0, 4), slice(0, 3))
