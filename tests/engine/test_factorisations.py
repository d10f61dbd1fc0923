"""NMF, components, codebooks and dictionary learning against scikit-learn and planted modes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn import cluster, decomposition

from retinacodec.codebooks import KMeans
from retinacodec.components import ICA, PCA
from retinacodec.dictionary_learning import DictionaryLearning
from retinacodec.errors import InputError
from retinacodec.factorisations import NMF
from retinacodec.fitting import local_state
from retinacodec.metrics import explained_variance, matched_cosine
from retinacodec.scaling import BalancedRows


@pytest.fixture(scope="module")
def table(planted):
    return planted(800, 16, 6)


def scaled(x):
    return (x / x.std()).astype(np.float32)


def paired(atoms, others):
    """Return the others in the order of the atoms, turned to their side."""
    cosine = atoms @ others.T
    order = linear_sum_assignment(-np.abs(cosine))[1]
    return others[order] * np.sign(np.take_along_axis(cosine, order[:, None], axis=1))


def free_table(rows=3000, seed=0):
    random = np.random.default_rng(seed)
    atoms = random.standard_normal((4, 10))
    return atoms, random.laplace(size=(rows, 4)) @ atoms + 3.0


# nonnegative matrix factorisation


def test_nmf_finds_planted_modes_and_their_signs(table):
    found = NMF(6).fit(table.x, signs=table.signs, progress=False)
    assert matched_cosine(table.atoms, found.atoms).min() > 0.98
    assert (found.atoms * table.signs >= 0).all() and (found.loadings >= 0).all()
    assert found.log["converged"].all()


def test_nmf_is_as_good_as_scikit_learn(table):
    method = NMF(6, starts=2)
    found = method.fit(table.x, signs=table.signs, progress=False)
    rows = scaled(table.x) * table.signs
    errors = []
    for start in range(2):
        model = decomposition.NMF(
            6, init="random", max_iter=1000, random_state=local_state(0, start)
        ).fit(rows)
        errors.append(model.reconstruction_err_**2)
    np.testing.assert_allclose(found.log["objective"], errors, rtol=1e-4)
    left = ((rows * table.signs - found.loadings @ found.atoms) ** 2).sum()
    assert left <= min(errors) * (1 + 1e-4)


def test_nmf_codes_rows_as_the_model_of_scikit_learn_does(table):
    found = NMF(6).fit(table.x, signs=table.signs, progress=False)
    model = decomposition.NMF(6, tol=1e-12, max_iter=20000)
    rows = (table.x[:100] * table.signs / found.scale.deviation).astype(np.float64)
    model.components_ = np.abs(found.atoms).astype(np.float64)
    model.n_components_, model.n_features_in_ = 6, 16
    theirs = model.transform(rows)
    np.testing.assert_allclose(found.transform(table.x[:100]), theirs, atol=1e-4)


def test_nmf_names_features_without_one_sign(table):
    x = table.x.copy()
    x[5, 3], x[6, 12] = 1.0, -1.0
    with pytest.raises(InputError, match=r"2 of 16 features .* \(columns 3, 12\); use SemiNMF"):
        NMF(3).fit(x, progress=False)
    with pytest.raises(InputError, match=r"1 of 16 features .* against their sign \(columns 0\)"):
        NMF(3).fit(table.x, signs=[1, *table.signs[1:]], progress=False)
    read = NMF(6).fit(table.x, signs=np.zeros(16, int), progress=False)
    given = NMF(6).fit(table.x, signs=table.signs, progress=False)
    np.testing.assert_array_equal(read.atoms, given.atoms)


def test_a_start_that_does_not_converge_is_said(table, caplog):
    found = NMF(6, iterations=2, starts=1).fit(table.x, progress=False)
    assert not found.log["converged"].any()
    assert "1 of 1 starts did not converge" in caplog.text


def test_nmf_takes_balanced_rows(table):
    size = np.geomspace(1e-3, 1, len(table.x))[:, None]
    method = NMF(6, scaling=BalancedRows(1.0, least=1e-3))
    found = method.fit(table.x * size, signs=table.signs, progress=False)
    assert matched_cosine(table.atoms, found.atoms).mean() > 0.95
    np.testing.assert_array_equal(found.transform(table.x * size), found.loadings)
    assert explained_variance(table.x * size, found.reconstruct()) > 0.98


# components about a mean


def test_principal_components_are_those_of_scikit_learn(table):
    found = PCA(5).fit(table.x, progress=False)
    model = decomposition.PCA(5).fit(table.x)
    theirs = paired(found.atoms, model.components_)
    np.testing.assert_allclose(found.atoms, theirs, atol=1e-5)
    np.testing.assert_allclose(
        found.reconstruct(), model.inverse_transform(model.transform(table.x)), atol=1e-5
    )
    assert found.log["variance"].sum() == pytest.approx(model.explained_variance_ratio_.sum())
    np.testing.assert_allclose(found.centre, model.mean_ / found.scale.deviation, atol=1e-6)


@pytest.mark.parametrize("method", [PCA, ICA])
def test_the_largest_entry_of_a_component_is_positive(method, table):
    atoms = method(5).fit(table.x, progress=False).atoms
    turned = method(5).fit(-table.x, progress=False).atoms
    for found in (atoms, turned):
        assert (found[np.arange(5), np.abs(found).argmax(axis=1)] > 0).all()
    if method is PCA:
        np.testing.assert_allclose(atoms, turned, atol=1e-5)


def test_all_components_give_the_rows_back(table):
    found = PCA(16).fit(table.x, progress=False)
    np.testing.assert_allclose(found.reconstruct(), table.x, atol=1e-5)


def test_independent_components_are_found_and_are_those_of_scikit_learn():
    atoms, x = free_table()
    found = ICA(4).fit(x, progress=False)
    unit = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    assert np.abs(np.sum(paired(found.atoms, unit) * found.atoms, axis=1)).min() > 0.995
    model = decomposition.FastICA(4, whiten="unit-variance", max_iter=1000, random_state=0)
    theirs = model.fit(x / x.std()).mixing_.T
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(found.atoms, paired(found.atoms, theirs), atol=0.01)
    assert bool(found.log["converged"])
    np.testing.assert_allclose(found.reconstruct(), x, atol=1e-4)
    assert found.log["variance"].sum() == pytest.approx(1, abs=1e-6)


def test_ica_that_does_not_converge_is_said(caplog):
    noise = np.random.default_rng(0).standard_normal((200, 8))
    found = ICA(8, iterations=3).fit(noise, progress=False)
    assert not bool(found.log["converged"])
    assert "did not converge" in caplog.text


@pytest.mark.parametrize("method", [PCA, ICA])
def test_directions_without_variance_are_not_returned(method):
    _, x = free_table(rows=500)
    found = method(8).fit(np.column_stack([x, np.ones(500)]), progress=False)
    assert (len(found.atoms), found.tried, found.dead) == (4, 8, 4)
    np.testing.assert_allclose(found.reconstruct()[:, :-1], x, atol=1e-4)


@pytest.mark.parametrize("method", [PCA, ICA])
def test_what_does_not_go_with_a_mean_is_refused(method, table):
    with pytest.raises(InputError, match="rows of different weight"):
        method(3, scaling=BalancedRows()).fit(table.x, progress=False)
    with pytest.raises(InputError, match="at most 16 modes, one for each feature, got 17"):
        method(17).fit(table.x, progress=False)


# codebooks


def test_k_means_is_that_of_scikit_learn(table):
    found = KMeans(6).fit(table.x, progress=False)
    model = cluster.KMeans(6, n_init=10, random_state=local_state(0)).fit(scaled(table.x))
    assert float(found.log["objective"]) == pytest.approx(model.inertia_, rel=1e-5)
    theirs = model.cluster_centers_[model.predict(scaled(table.x))]
    np.testing.assert_allclose(found.reconstruct(), table.x.std() * theirs, atol=1e-4)
    assert ((found.loadings > 0).sum(axis=1) == 1).all()


def test_silent_rows_have_no_mode():
    x = np.repeat([[0.0, 0, 0], [2, 2, 0], [0, 0, 5]], 30, axis=0)
    found = KMeans(3).fit(x, progress=False)
    assert (len(found.atoms), found.tried) == (2, 3)
    np.testing.assert_allclose(found.reconstruct(), x, atol=1e-6)
    np.testing.assert_allclose(found.transform([[0.1, 0, 0], [2, 2.2, 0]])[0], 0)


def test_a_gain_leaves_only_directions_to_be_found():
    random = np.random.default_rng(0)
    atoms = np.eye(8)[:4] + 0.2 * random.random((4, 8))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    place, gain = random.integers(4, size=600), random.gamma(2.0, 1.0, 600)
    x = gain[:, None] * atoms[place] + 0.02 * random.standard_normal((600, 8))
    found = KMeans(4, gain=True).fit(x, progress=False)
    assert matched_cosine(atoms, found.atoms).min() > 0.999
    np.testing.assert_allclose(found.loadings.max(axis=1) * found.scale.deviation, gain, atol=0.1)
    rows = scaled(x)
    true = np.linalg.norm(rows, axis=1) @ (rows @ atoms.T).max(axis=1)
    assert found.log["objective"].max() >= true * (1 - 1e-6)
    plain = KMeans(4).fit(x, progress=False)
    assert explained_variance(x, found.reconstruct()) > 0.99
    assert explained_variance(x, plain.reconstruct()) < 0.9


def test_a_gain_weighs_rows_with_their_energy():
    loud, quiet = np.array([[10.0, 1.0]]), np.array([[1.0, 0.0]])
    found = KMeans(1, gain=True).fit(np.vstack([loud, quiet, quiet]), progress=False)
    unit = loud / np.linalg.norm(loud)
    expected = (loud**2).sum() * unit + 2 * quiet
    np.testing.assert_allclose(found.atoms, expected / np.linalg.norm(expected), atol=1e-6)


# dictionary learning


def test_dictionary_learning_is_that_of_scikit_learn(table):
    found = DictionaryLearning(6, refit=False).fit(table.x, signs=table.signs, progress=False)
    rows = (scaled(table.x) * table.signs).astype(np.float64)
    model = decomposition.MiniBatchDictionaryLearning(
        6,
        alpha=0.3,
        max_iter=20,
        batch_size=256,
        tol=0,
        max_no_improvement=None,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        positive_code=True,
        positive_dict=True,
        random_state=local_state(0),
    ).fit(rows)
    theirs = model.components_ / np.linalg.norm(model.components_, axis=1, keepdims=True)
    np.testing.assert_allclose(found.atoms, paired(found.atoms, theirs * table.signs), atol=1e-5)
    model.components_ = np.abs(found.atoms).astype(np.float64)
    codes = model.transform(rows)
    np.testing.assert_allclose(found.loadings, codes, atol=0.02)
    assert found.loadings.sum() == pytest.approx(codes.sum(), rel=1e-3)


def test_dictionary_learning_finds_planted_modes(table):
    found = DictionaryLearning(6).fit(table.x, signs=table.signs, progress=False)
    assert matched_cosine(table.atoms, found.atoms).mean() > 0.95
    assert (found.atoms * table.signs >= 0).all() and bool(found.log["held"])
    assert explained_variance(table.x, found.reconstruct()) > 0.97


def test_features_are_held_to_signs_together_or_not_at_all(table, caplog):
    signs = [*table.signs[:-1], 0]
    found = DictionaryLearning(6, epochs=2).fit(table.x, signs=signs, progress=False)
    assert not bool(found.log["held"])
    assert "none is held" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda: NMF(0, starts=0), "NMF: modes must be at least 1, got 0; starts must"),
        (lambda: ICA(2, iterations=0), "ICA: iterations must be at least 1"),
        (lambda: KMeans(0), "KMeans: modes must be at least 1"),
        (lambda: DictionaryLearning(3, penalty=0), "penalty must be above 0"),
    ],
)
def test_wrong_settings_are_named(wrong, match):
    with pytest.raises(InputError, match=match):
        wrong()
