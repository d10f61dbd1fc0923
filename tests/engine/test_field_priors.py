"""Priors of receptive fields against scikit-learn, scipy and closed forms."""

import numpy as np
import pytest
import scipy.stats
from scipy.interpolate import BSpline

from retinacodec.axis_bases import cubic_splines, smooth_basis
from retinacodec.errors import InputError
from retinacodec.field_priors import Ridge, Smooth, Splines
from retinacodec.lagged_products import CentredMoments
from retinacodec.penalised_fields import (
    dependence,
    evidence,
    held_out_gain,
    in_basis,
    reduced,
    solve,
    solve_path,
    weights_to_field,
)

_SHAPE = (4, 5, 6)


def _table(frames=300, cells=2, seed=0):
    rng = np.random.default_rng(seed)
    entries = int(np.prod(_SHAPE))
    design = rng.normal(size=(frames, entries)) @ np.diag(np.linspace(0.3, 2, entries))
    truth = np.add.outer(np.linspace(-1, 1, entries), np.zeros(cells))
    answer = design @ truth + rng.normal(size=(frames, cells)) * 5
    return design - design.mean(axis=0), answer - answer.mean(axis=0)


def _moments(design, answer):
    return CentredMoments(
        len(design), design.T @ design, design.T @ answer, (answer**2).sum(axis=0)
    )


def _whole(bases):
    return np.kron(np.kron(bases[0], bases[1]), bases[2])


def _some_bases(seed=1):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(size, size - 1)) for size in _SHAPE)


def test_a_basis_applied_axis_by_axis_is_the_kronecker_product():
    bases, (design, answer) = _some_bases(), _table()
    whole, moments = _whole(bases), _moments(design, answer)
    np.testing.assert_allclose(in_basis(moments.cross, bases), whole.T @ moments.cross)
    weights = np.random.default_rng(2).normal(size=(whole.shape[1], 3))
    np.testing.assert_allclose(weights_to_field(weights, bases), whole @ weights)
    small = reduced(moments, bases)
    np.testing.assert_allclose(small.second, whole.T @ moments.second @ whole, rtol=1e-9, atol=1e-6)


def test_ridge_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge as Reference

    design, answer = _table()
    found = solve_path(_moments(design, answer), [0.0, 1.0, 300.0])
    for place, penalty in enumerate([1e-12, 1.0, 300.0]):
        expected = Reference(penalty, fit_intercept=False).fit(design, answer).coef_.T
        np.testing.assert_allclose(found[place], expected, atol=1e-8)
    bases = tuple(np.eye(size) for size in _SHAPE)
    one = solve(_moments(design, answer), bases, 300.0, 1)
    np.testing.assert_allclose(one.weights, found[2][:, 1], atol=1e-10)
    hat = design @ np.linalg.solve(design.T @ design + 300 * np.eye(design.shape[1]), design.T)
    assert one.freedom == pytest.approx(np.trace(hat))


def test_the_bias_expected_is_that_of_the_prior():
    """Over truths drawn from the prior, the squared bias of the estimate averages to its square."""
    bases, (design, answer) = _some_bases(), _table()
    moments = _moments(design, answer)
    penalty = 50.0
    found = solve(moments, bases, penalty, 0)
    whole = _whole(bases)
    prior = found.variance / penalty * whole @ whole.T
    resolution = whole @ found.response @ moments.second
    off = np.eye(len(prior)) - resolution
    # the coefficients' own covariance, projected: a truth outside the basis is not in the prior
    expected = np.sqrt(np.diag(off @ prior @ off.T))
    np.testing.assert_allclose(found.shrinkage, expected, rtol=1e-6, atol=1e-9)


def test_held_out_gain_is_the_share_of_variance_explained():
    design, answer = _table()
    weights = solve_path(_moments(design[:200], answer[:200]), [1.0, 100.0])
    rest, truth = design[200:], answer[200:]
    found = held_out_gain(weights, _moments(rest, truth))
    for place in range(2):
        left = ((truth - rest @ weights[place]) ** 2).sum(axis=0)
        np.testing.assert_allclose(found[place], 1 - left / (truth**2).sum(axis=0))
    assert np.isneginf(held_out_gain(np.full_like(weights, np.nan), _moments(rest, truth))).all()


def test_evidence_is_the_density_of_the_responses():
    design, answer = _table(frames=60)
    prior = Smooth(tolerance=1e-13)
    bases = prior.bases((1.2, 1.5, 0.9), _SHAPE)
    penalty = 7.0
    log_evidence, variance = evidence(reduced(_moments(design, answer), bases), penalty, 1)
    apart = [np.subtract.outer(np.arange(size), np.arange(size)) for size in _SHAPE]
    parts = [np.exp(-0.5 * (a / s) ** 2) for a, s in zip(apart, (1.2, 1.5, 0.9), strict=True)]
    covariance = design @ _whole(parts) @ design.T / penalty + np.eye(60)
    normal = scipy.stats.multivariate_normal(np.zeros(60), variance * covariance)
    assert log_evidence == pytest.approx(normal.logpdf(answer[:, 1]), abs=1e-4)
    best = answer[:, 1] @ np.linalg.solve(covariance, answer[:, 1]) / 60
    assert variance == pytest.approx(best, rel=1e-6)


def test_the_posterior_mean_is_that_of_a_gaussian_process_regression():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct

    design, answer = _table(frames=80)
    bases = Smooth(tolerance=1e-13).bases((1.2, 1.5, 0.9), _SHAPE)
    found = solve(_moments(design, answer), bases, 7.0, 0)
    projected = design @ _whole(bases)
    kernel = ConstantKernel(1.0, "fixed") * DotProduct(0.0, "fixed")
    process = GaussianProcessRegressor(kernel, alpha=7.0, optimizer=None)
    process.fit(projected, answer[:, 0])
    np.testing.assert_allclose(projected @ found.weights, process.predict(projected), atol=1e-6)


def test_smoothness_is_found_again():
    """Fields drawn from the prior: the evidence finds the scales it was drawn with."""
    rng = np.random.default_rng(3)
    shape, scales = (12, 7, 7), (2.5, 1.5, 1.5)
    entries = int(np.prod(shape))
    design = rng.normal(size=(4000, entries))
    field = _whole(Smooth().bases(scales, shape)) @ rng.normal(size=(_size(shape, scales), 3))
    answer = design @ field + rng.normal(size=(4000, 3)) * 10
    moments = _moments(design - design.mean(axis=0), answer - answer.mean(axis=0))
    found = Smooth(frames_as_one=1.0).choose(moments, moments, moments, shape)
    for name, scale in zip(("scale_lag", "scale_y", "scale_x"), scales, strict=True):
        values = [choice.words[name] for choice in found]
        assert np.median(values) == pytest.approx(scale, rel=0.2)
    ratio = [choice.penalty for choice in found]
    assert np.median(ratio) == pytest.approx(100, rel=0.5)


def _size(shape, scales):
    return _whole(Smooth().bases(scales, shape)).shape[1]


def test_fixed_scales_are_kept():
    design, answer = _table()
    moments = _moments(design, answer)
    (found, _) = Smooth(scales=(2.0, 1.0, 1.5)).choose(moments, moments, moments, _SHAPE)
    assert found.words["scale_lag"] == pytest.approx(2.0)
    assert found.words["scale_x"] == pytest.approx(1.5)


@pytest.mark.parametrize("copies", [1, 4])
def test_frames_that_are_copies_count_as_one(copies):
    rng = np.random.default_rng(4)
    shape = (6, 6, 6)
    parts = []
    field = rng.normal(size=216) * 0.5
    for _ in range(2):
        design = rng.normal(size=(3000, 216))
        answer = (design @ field + rng.normal(size=3000) * 10)[:, None]
        rows = np.repeat(np.arange(3000), copies)
        parts.append(_moments(design[rows], answer[rows]))
    bases = tuple(np.eye(6) for _ in range(3))
    found = dependence(*(reduced(part, bases) for part in parts), 400.0 * copies, 0)
    assert found == pytest.approx(copies, rel=0.25)
    both = CentredMoments(*(sum(getattr(p, n) for p in parts) for n in vars(parts[0])))
    (choice,) = Smooth(scales=(0.4, 0.4, 0.4)).choose(*parts, both, shape)
    assert choice.words["frames_as_one"] == pytest.approx(copies, rel=0.25)
    assert choice.penalty == pytest.approx(400 * copies, rel=0.4)


def test_smooth_basis_makes_the_covariance():
    basis = smooth_basis(15, 2.0, 1e-12)
    apart = np.subtract.outer(np.arange(15), np.arange(15))
    np.testing.assert_allclose(basis @ basis.T, np.exp(-(apart**2) / 8), atol=1e-9)
    assert smooth_basis(15, 4.0, 1e-4).shape[1] < 9


@pytest.mark.parametrize(("size", "step"), [(20, 3.0), (12, 2.0), (40, 5.0)])
def test_splines_are_those_of_scipy(size, step):
    found = cubic_splines(size, step)
    functions = found.shape[1]
    inner = np.linspace(0, size - 1, functions - 2)
    knots = np.concatenate([[0] * 3, inner, [size - 1] * 3])
    for place in range(functions):
        one = BSpline(knots, np.eye(functions)[place], 3)
        np.testing.assert_allclose(found[:, place], one(np.arange(size)), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_splines_are_least_squares_in_their_basis():
    design, answer = _table()
    prior = Splines(lag=(1.0,), space=(2.0,), penalties=(0.0,))
    moments = _moments(design, answer)
    (choice, _) = prior.choose(moments, moments, moments, _SHAPE)
    found = weights_to_field(solve(moments, choice.bases, 0.0, 0).weights[:, None], choice.bases)[
        :, 0
    ]
    whole = _whole(choice.bases)
    expected = whole @ np.linalg.lstsq(design @ whole, answer[:, 0], rcond=None)[0]
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_the_numbers_that_predict_best_are_chosen():
    design, answer = _table()
    fitted, chosen = _moments(design[:200], answer[:200]), _moments(design[200:], answer[200:])
    tried = (0.01, 0.3, 1.0, 30.0)
    found = Ridge(tried).choose(fitted, chosen, fitted, _SHAPE)
    unit = np.trace(fitted.second) / len(fitted.second)
    for cell, choice in enumerate(found):
        left = [
            ((answer[200:, cell] - design[200:] @ weights[:, cell]) ** 2).sum()
            for weights in solve_path(fitted, np.multiply(tried, unit))
        ]
        assert choice.words["relative_penalty"] == tried[int(np.argmin(left))]
        assert choice.penalty == pytest.approx(tried[int(np.argmin(left))] * unit)


def test_too_few_frames_without_a_penalty_are_refused_in_words():
    design, answer = _table(frames=50)
    moments = _moments(design, answer)
    bases = tuple(np.eye(size) for size in _SHAPE)
    with pytest.raises(InputError, match="never varies along 71 of 120 directions"):
        solve(moments, bases, 0.0, 0)
    assert np.isfinite(solve(moments, bases, 1.0, 0).weights).all()
    with pytest.raises(InputError, match="no choice has a solution"):
        Ridge((0.0, 0.0)).choose(moments, moments, moments, _SHAPE)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ridge(()), "penalties"),
        (lambda: Ridge((-1.0,)), "at least 0"),
        (lambda: Splines(lag=(0.5,)), "lag must be"),
        (lambda: Smooth(scales=(1.0, 0.0, 1.0)), "above 0"),
        (lambda: Smooth(tolerance=2.0, steps=0), "tolerance.*steps"),
    ],
)
def test_bad_priors_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
