"""Nonnegative least squares against scipy and scikit-learn, row by row."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.decomposition import sparse_encode

from retinacodec.nonnegative import row_products, solve_nonnegative
from retinacodec.nonnegative_coding import nonnegative_loadings


def atoms_and_rows(modes, features, *, rows=120, positive=True, seed=0):
    random = np.random.default_rng(seed)
    atoms = random.standard_normal((modes, features))
    atoms = np.abs(atoms) if positive else atoms
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    loadings = (random.random((rows, modes)) < 0.2) * random.gamma(2.0, 1.0, (rows, modes))
    x = loadings @ atoms + 0.3 * random.standard_normal((rows, features))
    return atoms.astype(np.float32), x.astype(np.float32)


def by_scipy(x, atoms):
    across = atoms.T.astype(np.float64)
    return np.stack([nnls(across, row.astype(np.float64))[0] for row in x])


def error(x, loadings, atoms):
    return ((x.astype(np.float64) - loadings.astype(np.float64) @ atoms) ** 2).sum(axis=1)


@pytest.mark.parametrize(("modes", "features"), [(1, 3), (6, 16), (14, 16), (48, 128)])
@pytest.mark.parametrize("positive", [True, False])
def test_loadings_are_those_of_scipy(modes, features, positive):
    atoms, x = atoms_and_rows(modes, features, positive=positive)
    np.testing.assert_allclose(nonnegative_loadings(x, atoms), by_scipy(x, atoms), atol=2e-6)


@pytest.mark.parametrize("positive", [True, False])
def test_with_more_atoms_than_features_the_error_is_that_of_scipy(positive):
    atoms, x = atoms_and_rows(40, 16, positive=positive)
    ours, theirs = nonnegative_loadings(x, atoms), by_scipy(x, atoms)
    np.testing.assert_allclose(error(x, ours, atoms), error(x, theirs, atoms), atol=1e-9)
    assert (ours >= 0).all()


def test_dependent_atoms_and_atoms_of_zero_do_no_harm():
    atoms = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)
    atoms = np.vstack([atoms, np.zeros((1, 3), np.float32)])
    x = np.random.default_rng(0).random((20, 3)).astype(np.float32)
    found = nonnegative_loadings(x, atoms)
    np.testing.assert_allclose(found @ atoms, x, atol=1e-6)
    assert (found[:, -1] == 0).all()
    assert (nonnegative_loadings(-x, atoms) == 0).all()
    assert (nonnegative_loadings(np.zeros((4, 3), np.float32), atoms) == 0).all()


@pytest.mark.parametrize("penalty", [0.05, 0.5, 2.0])
def test_penalty_is_the_nonnegative_lasso_of_scikit_learn(penalty):
    atoms, x = atoms_and_rows(14, 16)
    theirs = sparse_encode(
        x.astype(np.float64),
        atoms.astype(np.float64),
        algorithm="lasso_cd",
        alpha=penalty,
        positive=True,
        max_iter=20000,
    )
    ours = nonnegative_loadings(x, atoms, penalty=penalty)

    def objective(z):
        return 0.5 * error(x, z, atoms) + penalty * z.sum(axis=1, dtype=np.float64)

    assert (objective(ours) <= objective(theirs) + 1e-6).all()
    np.testing.assert_allclose(objective(ours), objective(theirs), rtol=1e-3)
    assert ours.sum() == pytest.approx(theirs.sum(), rel=5e-3)


def test_largest_loadings_are_kept_and_fitted_again():
    atoms, x = atoms_and_rows(14, 16)
    full, few = by_scipy(x, atoms), nonnegative_loadings(x, atoms, active=3)
    for row, all_loadings, kept in zip(x, full, few, strict=True):
        support = np.argsort(-all_loadings)[:3]
        support = support[all_loadings[support] > 0]
        expected = np.zeros(14)
        expected[support] = nnls(atoms[support].T.astype(np.float64), row.astype(np.float64))[0]
        np.testing.assert_allclose(kept, expected, atol=2e-6)
    assert (few > 0).sum(axis=1).max() == 3


def test_refit_takes_the_penalty_away_on_the_support():
    atoms, x = atoms_and_rows(6, 16)
    lasso = nonnegative_loadings(x, atoms, penalty=0.5)
    refit = nonnegative_loadings(x, atoms, penalty=0.5, refit=True)
    for row, before, after in zip(x, lasso, refit, strict=True):
        support = np.flatnonzero(before > 0)
        if len(support):
            expected = nnls(atoms[support].T.astype(np.float64), row.astype(np.float64))[0]
            np.testing.assert_allclose(after[support], expected, atol=2e-6)
        assert (after[before == 0] == 0).all()
    assert refit.sum() > lasso.sum()


@pytest.mark.parametrize("size", [1, 7])
def test_a_row_does_not_depend_on_those_beside_it(size):
    atoms, x = atoms_and_rows(14, 16)
    whole = nonnegative_loadings(x, atoms, active=4)
    parts = [
        nonnegative_loadings(x[start : start + size], atoms, active=4)
        for start in range(0, len(x), size)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert nonnegative_loadings(x[:0], atoms).shape == (0, 14)
    assert nonnegative_loadings(x, atoms[:0]).shape == (120, 0)


def test_columns_are_solved_by_the_same_overlaps():
    atoms, x = atoms_and_rows(6, 16)
    gram = atoms.astype(np.float64) @ atoms.T
    found = solve_nonnegative(x.astype(np.float64) @ atoms.T, gram, np.ones((1, 6), bool))
    np.testing.assert_allclose(found, by_scipy(x, atoms), atol=1e-8)


def test_products_are_those_of_numpy():
    atoms, x = atoms_and_rows(14, 16)
    np.testing.assert_allclose(row_products(x, atoms), x.astype(np.float64) @ atoms.T, atol=1e-12)
