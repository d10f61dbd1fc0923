"""The search: swaps out of bad starts, updates that only help, pruning of what is replaceable."""

from __future__ import annotations

import numpy as np

from retinacodec.atom_search import atom_costs, polish, prune, search_atoms, update_atoms
from retinacodec.metrics import matched_cosine


def _flipped(table):
    return (table.x * table.signs).astype(np.float32), np.ones(table.x.shape[1], bool)


def test_one_start_finds_planted_atoms(planted):
    table = planted(1500, 40, 12)
    x, positive = _flipped(table)
    penalty = 0.02 * np.sqrt((x**2).sum(axis=1).mean())
    found = [
        search_atoms(
            x,
            12,
            positive=positive,
            penalty=penalty,
            sweeps=60,
            generator=np.random.default_rng(seed),
        )
        for seed in range(3)
    ]
    scores = [matched_cosine(table.atoms * table.signs, atoms).min() for atoms in found]
    assert np.median(scores) > 0.98


def test_update_never_raises_the_error_and_keeps_unit_atoms(planted):
    x, positive = _flipped(planted(300, 20, 6))
    random = np.random.default_rng(0)
    atoms = np.abs(random.standard_normal((6, 20))).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    loadings = np.abs(random.standard_normal((300, 6))).astype(np.float32) * 0.1

    def best_error(rows):
        scale = np.linalg.lstsq(rows.T.astype(float), x.T.astype(float), rcond=None)[0]
        return ((x - scale.T @ rows) ** 2).sum()

    before = best_error(atoms)
    moved = atoms.copy()
    update_atoms(moved, loadings.T @ loadings, loadings.T @ x, positive, 4)
    assert best_error(moved) < before
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    assert moved.min() >= 0


def test_update_leaves_an_atom_without_loadings_alone():
    atoms = np.eye(3, dtype=np.float32)
    loadings = np.array([[1.0, 0, 2], [2, 0, 1]], np.float32)
    x = np.ones((2, 3), np.float32)
    update_atoms(atoms, loadings.T @ loadings, loadings.T @ x, np.ones(3, bool), 2)
    assert atoms[1].tolist() == [0, 1, 0]


def test_update_lets_free_features_be_negative():
    x = np.outer([1.0, 2, 3], [0.6, -0.8]).astype(np.float32)
    loadings = np.array([[1.0], [2], [3]], np.float32)
    atoms = np.array([[1.0, 0.0]], np.float32)
    update_atoms(atoms, loadings.T @ loadings, loadings.T @ x, np.zeros(2, bool), 3)
    np.testing.assert_allclose(atoms, [[0.6, -0.8]], atol=1e-6)
    update_atoms(atoms, loadings.T @ loadings, loadings.T @ x, np.ones(2, bool), 3)
    np.testing.assert_allclose(atoms, [[1, 0]], atol=1e-6)


def test_prune_takes_copies_and_mixtures_and_keeps_the_truth(planted):
    table = planted(1500, 40, 10)
    x, positive = _flipped(table)
    truth = (table.atoms * table.signs).astype(np.float32)
    mixtures = truth[:5] + truth[5:]
    mixtures /= np.linalg.norm(mixtures, axis=1, keepdims=True)
    penalty = 0.02 * np.sqrt((x**2).sum(axis=1).mean())
    pool = np.concatenate([mixtures, truth, truth[:3]])
    kept = prune(x, pool, positive=positive, penalty=penalty, modes=10)
    assert len(kept) == 10
    assert matched_cosine(truth, kept).min() > 0.98
    by_worth = prune(x, pool, positive=positive, penalty=penalty, worth=np.full(len(pool), 0.02))
    assert len(by_worth) == 10


def test_cost_of_the_only_atom_is_what_it_explains():
    x = np.outer(np.arange(1.0, 5.0), [0.6, 0.8]).astype(np.float32)
    cost = atom_costs(x, np.array([[0.6, 0.8]], np.float32), penalty=1e-4)
    np.testing.assert_allclose(cost, [(x**2).sum()], rtol=1e-3)


def test_polish_takes_away_the_tilt_of_the_penalty(planted):
    table = planted(2000, 40, 10, active=4, noise=0.02)
    x, positive = _flipped(table)
    truth = (table.atoms * table.signs).astype(np.float32)
    size = np.sqrt((x**2).sum(axis=1).mean())
    tilted = search_atoms(
        x,
        10,
        positive=positive,
        penalty=0.1 * size,
        sweeps=60,
        generator=np.random.default_rng(0),
    )
    polished = polish(x, tilted, positive=positive, floor=0.04 * size, active=None)
    before, after = matched_cosine(truth, tilted), matched_cosine(truth, polished)
    assert after.mean() > before.mean()
    assert after.min() > 0.98
