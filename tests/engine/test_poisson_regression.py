"""Poisson regression against statsmodels, scikit-learn and the closed form of a constant."""

import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor

from retinacodec.errors import InputError
from retinacodec.poisson_regression import choose_penalty, fit_poisson, poisson_loss


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 8))
    design = np.column_stack([np.ones(3000), x])
    truth = np.concatenate([[-1.0], 0.3 * rng.normal(size=8)])
    return design, rng.poisson(np.exp(design @ truth)).astype(float), truth


def test_weights_equal_statsmodels(problem):
    import statsmodels.api as sm

    design, counts, _ = problem
    peer = sm.GLM(counts, design, family=sm.families.Poisson()).fit(tol=1e-12)
    ours = fit_poisson(design, counts, 0.0)
    assert ours.converged
    np.testing.assert_allclose(ours.weights, peer.params, atol=1e-6)
    single = fit_poisson(design.astype(np.float32), counts, 0.0)
    np.testing.assert_allclose(single.weights, peer.params, atol=1e-4)


def test_ridge_equals_scikit_learn(problem):
    design, counts, _ = problem
    peer = PoissonRegressor(alpha=0.02, tol=1e-10, max_iter=1000).fit(design[:, 1:], counts)
    ridge = np.full(9, 0.02 * len(counts))
    ridge[0] = 0
    ours = fit_poisson(design, counts, ridge)
    np.testing.assert_allclose(ours.weights[1:], peer.coef_, atol=1e-5)
    assert ours.weights[0] == pytest.approx(peer.intercept_, abs=1e-5)


def test_constant_has_the_log_of_the_mean():
    counts = np.array([0.0, 1.0, 5.0, 2.0])
    found = fit_poisson(np.ones((4, 1)), counts, 0.0)
    assert found.weights[0] == pytest.approx(np.log(2.0), abs=1e-6)
    assert poisson_loss(np.ones((4, 1)), counts, found.weights) == pytest.approx(2 - 2 * np.log(2))


def test_gradient_vanishes_from_a_far_start_and_with_columns_that_depend(problem):
    design, counts, _ = problem
    twice = np.column_stack([design, design[:, 3]])
    for x in (design, twice):
        found = fit_poisson(x, counts, 0.0, start=np.full(x.shape[1], 1.0))
        slope = x.T @ (counts - np.exp(x @ found.weights))
        assert np.abs(slope).max() < 0.05
        assert poisson_loss(x, counts, found.weights) == pytest.approx(
            poisson_loss(design, counts, fit_poisson(design, counts, 0.0).weights), abs=1e-8
        )


def test_penalty_is_the_one_that_predicts_other_rows_best(problem):
    design, counts, _ = problem
    ridge = np.r_[0.0, np.ones(8)]
    train, other = slice(0, 60), slice(60, None)
    path = [0.01, 1.0, 10.0, 100.0, 1000.0]
    found = choose_penalty(
        design[train], counts[train], ridge, path, (design[other], counts[other])
    )
    losses = [
        poisson_loss(
            design[other],
            counts[other],
            fit_poisson(design[train], counts[train], one * ridge).weights,
        )
        for one in path
    ]
    assert found.penalty == path[int(np.argmin(losses))]
    assert found.loss == pytest.approx(min(losses), rel=1e-4)
    assert 0.01 < found.penalty < 1000


def test_bad_problems_are_refused(problem):
    design, counts, _ = problem
    with pytest.raises(InputError, match="counts: expected"):
        fit_poisson(design, -counts - 1, 0.0)
    with pytest.raises(InputError, match=r"counts: expected \(3000"):
        fit_poisson(design, counts[:5], 0.0)
    with pytest.raises(InputError, match="not finite"):
        fit_poisson(np.full((3, 1), np.nan), np.ones(3), 0.0)
    with pytest.raises(InputError, match="ridge"):
        fit_poisson(design, counts, -1.0)
