"""Semi-nonnegative factorisation: its updates, few loadings, signs, planted modes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.cluster import KMeans

from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance, matched_cosine
from retinacodec.semi_nmf import SemiNMF, multiplied_loadings


def free_table(rows=1200, noise=0.05, seed=0):
    """Return atoms of any sign and rows that are sparse sums of them."""
    random = np.random.default_rng(seed)
    atoms = random.standard_normal((6, 20))
    loadings = (random.random((rows, 6)) < 0.3) * random.gamma(2.0, 0.5, (rows, 6))
    x = loadings @ atoms
    return atoms, loadings, x + noise * x.std() * random.standard_normal(x.shape)


def test_an_update_is_the_equation_of_the_paper():
    # Ding, Li, Jordan (2010), equation 11, in their letters: X (feature, sample), F, G
    random = np.random.default_rng(1)
    X, F, G = random.standard_normal((5, 7)), random.standard_normal((5, 2)), random.random((7, 2))

    def plus(a):
        return (np.abs(a) + a) / 2

    def minus(a):
        return (np.abs(a) - a) / 2

    new = G * np.sqrt((plus(X.T @ F) + G @ minus(F.T @ F)) / (minus(X.T @ F) + G @ plus(F.T @ F)))
    np.testing.assert_allclose(multiplied_loadings(X.T, G, F.T), new, rtol=1e-12)


def test_updates_for_given_atoms_end_at_nonnegative_least_squares():
    random = np.random.default_rng(0)
    atoms, x = random.standard_normal((3, 8)), random.standard_normal((20, 8))
    loadings = np.ones((20, 3))
    for _ in range(5000):
        loadings = multiplied_loadings(x, loadings, atoms)
    best = np.stack([nnls(atoms.T, row)[0] for row in x])
    np.testing.assert_allclose(loadings, best, atol=1e-3)


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_error_never_rises_before_loadings_are_dropped(planted, constrained, seed):
    table = planted(400, 16, 8, seed=seed)
    method = SemiNMF(8, constrained=constrained, starts=1, tolerance=0)
    objective = method.fit(table.x, signs=table.signs, seed=seed, progress=False).log["objective"]
    assert len(objective) == 301
    assert np.diff(objective).max() <= 1e-9 * objective[0]
    assert objective[-1] < 0.5 * objective[0]


def test_it_is_better_than_the_clusters_it_starts_from():
    _, _, x = free_table(300)
    found = SemiNMF(6).fit(x, progress=False)
    clusters = KMeans(6, n_init=10, random_state=0).fit(x / x.std())
    assert found.log["final"].min() < 0.5 * clusters.inertia_
    left = ((x - found.reconstruct()) ** 2).sum() / x.std() ** 2
    assert left <= found.log["final"].min() * (1 + 1e-6)


def test_few_loadings_find_planted_modes_of_any_sign():
    atoms, loadings, x = free_table()
    found = SemiNMF(6, active=3).fit(x, progress=False)
    assert matched_cosine(atoms, found.atoms).min() > 0.999
    unit = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    best = (unit @ found.atoms.T).argmax(axis=1)
    pairs = zip(loadings.T, found.loadings.T[best], strict=True)
    assert min(np.corrcoef(true, loading)[0, 1] for true, loading in pairs) > 0.98
    assert (found.loadings > 0).sum(axis=1).max() == 3
    assert (found.loadings >= 0).all()


def test_without_a_limit_loadings_are_nonnegative_least_squares():
    _, _, x = free_table(200)
    found = SemiNMF(4).fit(x, progress=False)
    across = found.atoms.T.astype(np.float64)
    expected = np.stack([nnls(across, row / found.scale.deviation)[0] for row in x])
    np.testing.assert_allclose(found.loadings, expected, atol=1e-5)


def test_atoms_are_held_to_signs_where_that_is_asked_for(planted):
    table = planted(1000, 16, 8)
    held = SemiNMF(8, active=5, constrained=True).fit(table.x, signs=table.signs, progress=False)
    assert (held.atoms * table.signs >= 0).all()
    assert matched_cosine(table.atoms, held.atoms).min() > 0.99
    assert explained_variance(table.x, held.reconstruct()) > 0.99
    some = np.where(np.arange(16) < 4, table.signs, 0)
    part = SemiNMF(8, active=5, constrained=True).fit(table.x, signs=some, progress=False)
    assert ((part.atoms * some) >= 0).all() and (part.atoms[:, 4:8] > 0).any()


def test_the_best_state_with_few_loadings_is_kept(planted):
    table = planted(1000, 16, 8)
    found = SemiNMF(8, active=2, constrained=True).fit(table.x, signs=table.signs, progress=False)
    sparse = found.log["sparse_objective"]
    left = ((table.x - found.reconstruct()) ** 2).sum() / found.scale.deviation**2
    assert left == pytest.approx(sparse.min(), rel=1e-4)
    assert sparse.min() < sparse[0]
    assert found.log["final"].min() == sparse.min()


def test_wrong_settings_are_named():
    with pytest.raises(InputError, match="modes must be at least 1, got 0; active must be"):
        SemiNMF(0, active=0)
