"""Loadings against the conditions of the lasso, exact least squares and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from retinacodec.coding import relax, relaxed_loadings, removal_cost, strict_loadings


@pytest.fixture(scope="module")
def table():
    random = np.random.default_rng(0)
    atoms = np.abs(random.standard_normal((9, 12))).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    x = (random.gamma(1.0, 1.0, (40, 9)) * (random.random((40, 9)) < 0.4)) @ atoms
    return (x + 0.1 * random.standard_normal(x.shape)).astype(np.float32), atoms


def _solved(x, atoms, penalty):
    loadings = np.zeros((len(x), len(atoms)), np.float32)
    relax(x @ atoms.T, atoms @ atoms.T, np.float32(penalty), loadings, 5000, np.float32(1e-7))
    return loadings


def test_relaxed_loadings_meet_the_conditions_of_the_lasso(table):
    x, atoms = table
    penalty = 0.3
    loadings = _solved(x, atoms, penalty)
    slope = (x - loadings @ atoms) @ atoms.T - penalty
    assert np.abs(slope[loadings > 0]).max() < 1e-4
    assert slope[loadings == 0].max() < 1e-4
    assert (loadings > 0).any() and (loadings == 0).any()


def test_warm_and_cold_start_end_in_the_same_loadings(table):
    x, atoms = table
    warm = np.abs(np.random.default_rng(1).standard_normal((40, 9))).astype(np.float32)
    relaxed_loadings(x, atoms, warm, penalty=0.3, passes=3000)
    # one stops at a tolerance of a twentieth of the penalty, the other at 1e-7
    np.testing.assert_allclose(warm @ atoms, _solved(x, atoms, 0.3) @ atoms, atol=0.05)


def test_strict_loadings_of_a_tiny_floor_are_nonnegative_least_squares(table):
    x, atoms = table
    loadings = strict_loadings(x, atoms, floor=1e-4)
    exact = np.stack([nnls(atoms.T.astype(float), row)[0] for row in x.astype(float)])
    np.testing.assert_allclose(loadings @ atoms, exact @ atoms, atol=2e-3)


def test_strict_loadings_are_zero_or_above_the_floor_and_at_most_so_many(table):
    x, atoms = table
    loadings = strict_loadings(x, atoms, floor=0.5, active=2)
    assert loadings[loadings > 0].min() >= 0.5
    assert (loadings > 0).sum(axis=1).max() == 2


def test_strict_loadings_are_least_squares_on_their_support(table):
    x, atoms = table
    loadings = strict_loadings(x, atoms, floor=0.2)
    for row, found in zip(x, loadings, strict=True):
        used = np.flatnonzero(found)
        if used.size:
            exact, *_ = np.linalg.lstsq(atoms[used].T, row, rcond=None)
            np.testing.assert_allclose(found[used], exact, atol=2e-3)


def test_strict_loadings_do_not_depend_on_the_chunk(table, monkeypatch):
    x, atoms = table
    whole = strict_loadings(x, atoms, floor=0.1)
    monkeypatch.setattr("retinacodec.coding._CHUNK_VALUES", 30)
    np.testing.assert_allclose(strict_loadings(x, atoms, floor=0.1), whole, atol=1e-6)


def test_removal_cost_is_what_solving_without_the_atom_costs(table):
    x, atoms = table
    penalty = 0.2

    def objective(kept):
        loadings = _solved(x, atoms[kept], penalty)
        left = x - loadings @ atoms[kept]
        return (left.astype(float) ** 2).sum() + 2 * penalty * loadings.sum()

    every = np.arange(len(atoms))
    brute = [objective(np.delete(every, gone)) - objective(every) for gone in every]
    loadings = _solved(x, atoms, penalty)
    cost = removal_cost(
        x @ atoms.T, atoms @ atoms.T, np.float32(penalty), loadings, 3000, np.float32(1e-7)
    )
    np.testing.assert_allclose(cost, brute, rtol=1e-2, atol=1e-2)


def test_more_atoms_than_dimensions_keep_loadings_sane():
    random = np.random.default_rng(0)
    atoms = random.standard_normal((24, 8)).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    x = random.standard_normal((200, 8)).astype(np.float32)
    loadings = strict_loadings(x, atoms, floor=0.01)
    assert ((x - loadings @ atoms) ** 2).sum() < 0.05 * (x**2).sum()
    assert loadings.max() < 2 * np.linalg.norm(x, axis=1).max()
