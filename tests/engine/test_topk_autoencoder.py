"""Top-k and matching pursuit autoencoders: planted modes, signs, centre, dead atoms, packing."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from retinacodec.dictionaries import (
    METHODS,
    BalancedRows,
    MatchingPursuitSAE,
    RandomRows,
    TopKSAE,
    held_out_r2,
    load_dictionary,
)
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance, matched_cosine

TOPK = TopKSAE(modes=8, active=4, epochs=60, batch=32)
MATCHING = MatchingPursuitSAE(modes=8, active=5, epochs=30, batch=32)
BOTH = pytest.mark.parametrize("method", [TOPK, MATCHING], ids=["topk", "matching"])


@pytest.fixture(scope="module")
def table(planted):
    return planted(1000, 16, 8)


@pytest.fixture(scope="module")
def found(table):
    return {
        method: method.fit(table.x, signs=table.signs, seed=1, progress=False)
        for method in (TOPK, MATCHING)
    }


@pytest.mark.parametrize(
    ("method", "least"),
    [(TopKSAE(48), 0.97), (MatchingPursuitSAE(48), 0.98)],
    ids=["topk", "matching"],
)
def test_planted_modes_are_recovered(planted, method, least):
    table = planted(4000, 128, 48, active=5, support=0.06)
    found = method.fit(table.x, signs=table.signs, progress=False)
    assert len(found.atoms) == 48
    cosine = matched_cosine(table.atoms, found.atoms)
    assert cosine.mean() > least and np.median(cosine) > 0.995
    assert found.log["held_out_r2"] > 0.96
    best = (table.atoms @ found.atoms.T).argmax(axis=1)
    pairs = zip(table.loadings.T, found.loadings.T[best], strict=True)
    correlation = [np.corrcoef(true, loading)[0, 1] for true, loading in pairs]
    assert np.median(correlation) > 0.97


@BOTH
def test_atoms_have_signs_and_unit_norm_and_rows_few_modes(table, found, method):
    result = found[method]
    assert (result.atoms * table.signs >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(result.atoms, axis=1), 1, atol=1e-5)
    assert (result.loadings >= 0).all()
    assert (result.loadings > 0).sum(axis=1).max() <= method.active
    total = result.loadings.sum(axis=0)
    assert (np.diff(total) <= 0).all() and (total > 0).all()
    assert result.tried == 8 and np.isnan(result.agreement).all()


@BOTH
def test_scores_are_those_of_the_state_kept(table, found, method):
    result = found[method]
    _, chosen, held = method.split.thirds(1000)
    for rows, score in ((chosen, result.log["selection_r2"].max()), (held, None)):
        given = explained_variance(
            table.x[rows], result.reconstruct(result.transform(table.x[rows]))
        )
        wanted = float(result.log["held_out_r2"]) if score is None else score
        assert given == pytest.approx(wanted, abs=1e-5)
    assert float(result.log["held_out_r2"]) > 0.85
    assert held_out_r2(method, table.x, signs=table.signs) > 0.8


@BOTH
def test_transform_and_packing_give_the_loadings_again(table, found, method):
    result = found[method]
    np.testing.assert_array_equal(result.transform(table.x), result.loadings)
    np.testing.assert_allclose(result.transform(table.x[10:20]), result.loadings[10:20], atol=1e-4)
    arrays, config = result.pack()
    again = load_dictionary(arrays, json.loads(json.dumps(config)))
    np.testing.assert_array_equal(again.transform(table.x), result.loadings)


@BOTH
def test_same_seed_same_modes_and_no_global_random_state(table, method):
    quick = dataclasses.replace(method, epochs=3)
    torch.manual_seed(99)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    one, two = (quick.fit(table.x, seed=5, progress=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    np.testing.assert_array_equal(one.atoms, two.atoms)
    np.testing.assert_array_equal(one.loadings, two.loadings)
    other = quick.fit(table.x, seed=6, progress=False)
    assert not np.array_equal(one.atoms[0], other.atoms[0])


@BOTH
def test_a_centre_is_learned_where_it_is_asked_for(table, method):
    x = np.abs(table.x) * np.where(np.arange(16) % 2, 1, -1) + np.linspace(-8, 8, 16)
    options = {"constrained": False, "epochs": 40}
    plain = dataclasses.replace(method, **options).fit(x, progress=False)
    centred = dataclasses.replace(method, **options, centred=True).fit(x, progress=False)
    assert plain.centre is None
    distance = centred.scale.deviation * centred.centre - np.linspace(-8, 8, 16)
    assert np.abs(distance).max() < 2 * table.x.std()
    assert centred.log["held_out_r2"] > 0.99
    np.testing.assert_array_equal(centred.transform(x), centred.loadings)
    assert explained_variance(x, centred.reconstruct()) > 0.99
    arrays, config = centred.pack()
    again = load_dictionary(arrays, json.loads(json.dumps(config)))
    np.testing.assert_array_equal(again.reconstruct(), centred.reconstruct())
    with pytest.raises(InputError, match="expected one scale for all rows"):
        dataclasses.replace(method, scaling=BalancedRows(), centred=True).fit(x, progress=False)


@BOTH
def test_rows_balanced_or_drawn_at_random_are_decomposed_too(table, method):
    other = dataclasses.replace(method, scaling=BalancedRows(), split=RandomRows(every=5))
    found = other.fit(table.x, signs=table.signs, progress=False)
    assert explained_variance(table.x, found.reconstruct()) > 0.85
    np.testing.assert_array_equal(found.transform(table.x), found.loadings)


def test_the_auxiliary_loss_brings_atoms_to_life(planted):
    table = planted(1000, 16, 8)
    options = {"ratio": 10, "active": 3, "start_active": 3, "batch": 32, "epochs": 40}
    without, with_it = (
        TopKSAE(**options, auxiliary=weight).fit(table.x, signs=table.signs, progress=False)
        for weight in (0.0, 1 / 32)
    )
    assert without.tried == with_it.tried == 160
    assert with_it.dead < 0.7 * without.dead


def test_dead_atoms_are_told(caplog):
    x = np.random.default_rng(0).standard_normal((400, 12))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    method = MatchingPursuitSAE(modes=4, gain=0.98, epochs=1, learning_rate=1e-6, batch=32)
    found = method.fit(x, progress=False)
    assert found.atoms.shape == (0, 12) and found.dead == 4
    assert "all 4 atoms are dead; use a smaller gain" in caplog.text
    assert (found.reconstruct() == 0).all() and found.transform(x).shape == (400, 0)


def test_what_cannot_be_trained_is_refused():
    random = np.random.default_rng(0)
    for method in (TopKSAE(4), MatchingPursuitSAE(4)):
        name = type(method).__name__
        with pytest.raises(InputError, match=f"{name}: .*less than a batch of 128"):
            method.fit(random.random((100, 4)), progress=False)
        with pytest.raises(InputError, match="do not vary"):
            method.fit(np.ones((300, 4)), progress=False)
        with pytest.raises(InputError, match="1 of 300 rows are NaN or infinite, first row 7"):
            x = random.random((300, 4))
            x[7, 2] = np.nan
            method.fit(x, progress=False)
    with pytest.raises(InputError, match=r"modes must .*active must .*learning_rate must"):
        TopKSAE(modes=0, active=0, learning_rate=0)
    with pytest.raises(InputError, match=r"epochs must .*gain must"):
        MatchingPursuitSAE(epochs=0, gain=1)


def test_they_are_listed_with_the_number_of_modes():
    assert METHODS["TopKSAE"](7) == TopKSAE(modes=7)
    assert METHODS["MatchingPursuitSAE"](7) == MatchingPursuitSAE(modes=7)
