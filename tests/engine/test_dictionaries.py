"""Decompositions against planted modes: recovery, signs, scale, number, counters, packing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retinacodec.dictionaries import BalancedRows, DirectPursuit, load_dictionary
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance, matched_cosine


def _fit(table, method=None, **options):
    method = method or DirectPursuit(modes=len(table.atoms))
    return method.fit(table.x, signs=table.signs, progress=False, **options)


@pytest.fixture(scope="module")
def small(planted):
    table = planted(1000, 16, 8)
    return table, _fit(table)


@pytest.mark.parametrize("seed", range(3))
def test_planted_modes_and_loadings_are_recovered(planted, seed):
    table = planted(4000, 128, 48, active=5, support=0.06, seed=seed)
    found = _fit(table, seed=seed)
    assert matched_cosine(table.atoms, found.atoms).min() > 0.99
    best = (table.atoms @ found.atoms.T).argmax(axis=1)
    pairs = zip(table.loadings.T, found.loadings.T[best], strict=True)
    assert np.mean([np.corrcoef(true, loading)[0, 1] for true, loading in pairs]) > 0.99
    assert found.l0 == pytest.approx((table.loadings > 0).sum(axis=1).mean(), rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_modes_of_retina_size_are_recovered_from_every_seed(planted, seed):
    table = planted(3000, 16, 14, active=2.5, support=0.3, seed=seed)
    one, other = _fit(table, seed=seed), _fit(table, seed=seed + 100)
    assert matched_cosine(table.atoms, one.atoms).mean() > 0.98
    assert matched_cosine(one.atoms, other.atoms).mean() > 0.95


def test_atoms_keep_their_signs_and_unit_norm(small):
    table, found = small
    assert (found.atoms * table.signs >= 0).all()
    assert (found.loadings >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.atoms, axis=1), 1, atol=1e-5)


def test_signs_are_read_from_the_rows_if_they_are_not_given(small):
    table, found = small
    again = DirectPursuit(modes=8).fit(table.x, progress=False)
    np.testing.assert_array_equal(again.atoms, found.atoms)
    free = DirectPursuit(modes=3).fit(table.x - table.x.mean(axis=0), progress=False)
    assert (free.atoms < 0).any() and (free.atoms > 0).any()


def test_free_modes_are_recovered_too():
    random = np.random.default_rng(0)
    atoms = random.standard_normal((6, 20))
    loadings = (random.random((1500, 6)) < 0.3) * random.gamma(2.0, 0.5, (1500, 6))
    found = DirectPursuit(modes=6).fit(loadings @ atoms, progress=False)
    assert matched_cosine(atoms, found.atoms).min() > 0.99


def test_transform_of_the_rows_fitted_gives_their_loadings(small):
    table, found = small
    np.testing.assert_array_equal(found.transform(table.x), found.loadings)
    part = found.transform(table.x[100:200])
    np.testing.assert_allclose(part, found.loadings[100:200], atol=1e-5)


def test_scale_is_one_number_and_comes_back(small):
    table, found = small
    assert found.scale.deviation == pytest.approx(table.x.std(), rel=1e-6)
    larger = DirectPursuit(modes=8).fit(1000 * table.x, signs=table.signs, progress=False)
    np.testing.assert_allclose(larger.atoms, found.atoms, atol=1e-4)
    np.testing.assert_allclose(larger.reconstruct(), 1000 * found.reconstruct(), rtol=1e-2, atol=1)
    assert explained_variance(table.x, found.reconstruct()) > 0.99
    # half the rows, alone, are still divided by the scale of all
    quiet = found.transform(0.5 * table.x)
    assert quiet.sum() == pytest.approx(0.5 * found.loadings.sum(), rel=0.05)


def test_same_seed_same_modes_and_no_global_random_state(planted):
    table = planted(500, 16, 6)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two = _fit(table, seed=3), _fit(table, seed=3)
    np.testing.assert_array_equal(one.atoms, two.atoms)
    np.testing.assert_array_equal(one.loadings, two.loadings)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(("modes", "seed"), [(8, 0), (14, 1), (20, 2)])
def test_number_of_modes_is_chosen_near_the_truth(planted, modes, seed):
    table = planted(3000, 24, modes, active=2.5, seed=seed)
    found = _fit(table, DirectPursuit(), seed=seed)
    assert 0 <= len(found.atoms) - modes <= 2
    assert matched_cosine(table.atoms, found.atoms).min() > 0.95
    tried = found.log["tried_modes"]
    assert int(found.log["chosen"]) in tried.tolist()
    assert (np.diff(tried) > 0).all()
    assert found.log["tried_r2"][0] < found.log["tried_r2"][-1]


def test_agreement_says_which_atoms_every_start_found(planted):
    table = planted(1500, 24, 8)
    found = _fit(table, DirectPursuit(modes=12))
    true = (found.atoms @ table.atoms.T).max(axis=1) > 0.99
    assert true.sum() == 8
    assert found.agreement[true].min() > 0.98
    assert found.agreement[true].mean() > found.agreement[~true].mean()


def test_modes_come_by_falling_summed_loading(small):
    total = small[1].loadings.sum(axis=0)
    assert (np.diff(total) <= 1e-3).all()


def test_counters_of_alive_and_dead_atoms_are_right():
    random = np.random.default_rng(0)
    x = random.gamma(1.0, 1.0, (200, 2)) @ np.array([[1.0, 0, 0, 1], [0, 1, 1, 0]])
    found = DirectPursuit(modes=6, gain=0.2).fit(x, progress=False)
    used = (found.loadings > 0).any(axis=0)
    np.testing.assert_array_equal(found.alive, used)
    assert found.tried == 6
    assert found.dead == 6 - used.sum()
    assert found.l0 == pytest.approx((found.loadings > 0).sum() / 200)
    assert explained_variance(x, found.reconstruct()) > 0.99


def test_active_limits_the_modes_of_a_row(planted):
    found = _fit(planted(500, 16, 8, active=5), DirectPursuit(modes=8, active=2))
    assert (found.loadings > 0).sum(axis=1).max() == 2


def test_balance_lets_small_rows_count(planted):
    table = planted(2000, 24, 8, noise=0.02)
    size = np.geomspace(1e-3, 1, 2000)[:, None]
    x = table.x * size
    rows = (table.x**2).sum(axis=1) > 0
    quiet = rows & (np.arange(2000) < 700)

    def share(balance):
        method = DirectPursuit(modes=8, scaling=BalancedRows(balance))
        found = method.fit(x, signs=table.signs, progress=False)
        np.testing.assert_array_equal(found.transform(x), found.loadings)
        left = ((x - found.reconstruct()) ** 2).sum(axis=1)[quiet]
        return np.median(1 - left / (x**2).sum(axis=1)[quiet])

    assert share(0.0) < 0.1
    assert share(1.0) > 0.95


def test_a_packed_dictionary_comes_back_through_json(small):
    table, found = small
    arrays, config = found.pack()
    again = load_dictionary(arrays, json.loads(json.dumps(config)))
    np.testing.assert_array_equal(again.transform(table.x), found.loadings)
    np.testing.assert_array_equal(again.reconstruct(), found.reconstruct())
    assert (again.scale, again.method, again.seed) == (found.scale, found.method, found.seed)
    assert repr(again) == repr(found)
    with pytest.raises(InputError, match="expected a coder of"):
        load_dictionary(arrays, config | {"coder": {"kind": "other"}})


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.zeros((50, 3)), "do not vary"),
        (np.full((50, 3), 2.0), "do not vary"),
        (np.eye(3)[:2], "at least 4 rows, got 2"),
        (np.ones(5), "expected numbers"),
        (np.array([["a", "b"]]), "expected numbers"),
    ],
)
def test_what_cannot_be_decomposed_is_refused(x, match):
    with pytest.raises(InputError, match=match):
        DirectPursuit(modes=4).fit(x, progress=False)


def test_rows_that_are_not_finite_are_named():
    x = np.random.default_rng(0).random((50, 3))
    x[[7, 9], 1] = np.nan, np.inf
    with pytest.raises(InputError, match="2 of 50 rows are NaN or infinite, first row 7"):
        DirectPursuit(modes=2).fit(x, progress=False)
    found = DirectPursuit(modes=2).fit(x[10:], progress=False)
    with pytest.raises(InputError, match="first row 7"):
        found.transform(x)
    with pytest.raises(InputError, match="expected 3 features, got 2"):
        found.transform(x[10:, :2])
    with pytest.raises(InputError, match=r"expected loadings \(sample, 2\)"):
        found.reconstruct(np.zeros((4, 3)))


def test_all_wrong_settings_are_named_at_once():
    with pytest.raises(InputError, match=r"modes must .* got 0.*gain must .* got 2"):
        DirectPursuit(modes=0, gain=2)
    with pytest.raises(InputError, match="signs: expected -1, 0 or 1 for each of 3 features"):
        DirectPursuit(modes=1).fit(np.eye(3), signs=[1, 2, 3], progress=False)


def test_constant_and_zero_columns_do_no_harm(planted):
    table = planted(800, 16, 6, active=2)
    x = np.column_stack([table.x, np.zeros(800)])
    found = DirectPursuit(modes=6).fit(x, signs=[*table.signs, 1], progress=False)
    assert (found.atoms[:, -1] == 0).all()
    assert matched_cosine(table.atoms, found.atoms[:, :-1]).min() > 0.98


def test_noise_is_not_called_reliable(caplog):
    noise = np.random.default_rng(0).standard_normal((300, 12))
    DirectPursuit(agreement=0.999).fit(noise, progress=False)
    assert "not reliable" in caplog.text


def test_half_precision_and_byte_order_change_nothing(planted):
    table = planted(300, 8, 3)
    half = (table.x * 1e-6).astype(np.float16)
    method = DirectPursuit(modes=3, consensus_seeds=1)
    single = method.fit(half.astype(np.float32), progress=False)
    for rows in (half, half.astype(">f4"), half.astype(np.float64)):
        found = method.fit(rows, progress=False)
        np.testing.assert_allclose(found.atoms, single.atoms, atol=1e-5)
        np.testing.assert_allclose(found.transform(rows), single.loadings, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="not complex, got complex128"):
        method.fit(table.x + 0j)
