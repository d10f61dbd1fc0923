"""The distilled encoder: what it loses, its start, its gate, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.linear_model import Lasso

from retinacodec.dictionaries import (
    PCA,
    BalancedRows,
    DirectPursuit,
    Transcoder,
    distil,
    load_dictionary,
)
from retinacodec.distillation import UnrolledCoder, _Steps
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance


@pytest.fixture(scope="module")
def small(planted):
    table = planted(2000, 16, 8)
    found = DirectPursuit(modes=8).fit(table.x, signs=table.signs, progress=False)
    return table, found, distil(found, table.x, progress=False)


def test_little_is_lost_on_held_out_rows(planted):
    table = planted(4000, 128, 48, active=5, support=0.06)
    found = DirectPursuit(modes=48).fit(table.x, signs=table.signs, progress=False)
    log = distil(found, table.x, progress=False).log
    assert log["pursuit_r2"] - log["encoder_r2"] < 0.0025
    assert log["support_f1"] > 0.98
    assert 0 < log["encoder_batch_seconds"] < 10 * log["pursuit_batch_seconds"]


def test_atoms_and_scale_stay_and_loadings_are_near(small):
    table, found, fast = small
    assert fast.atoms is found.atoms and fast.scale == found.scale
    np.testing.assert_array_equal(fast.transform(table.x), fast.loadings)
    assert np.corrcoef(fast.loadings.ravel(), found.loadings.ravel())[0, 1] > 0.995
    used = fast.loadings[fast.loadings > 0]
    assert used.min() >= np.float32(found.coder.floor)
    assert explained_variance(table.x, fast.reconstruct()) > 0.99
    alone = np.concatenate([fast.transform(row[None]) for row in table.x[:50]])
    np.testing.assert_allclose(alone, fast.loadings[:50], atol=1e-4)


def test_scores_are_those_of_rows_held_out(small):
    from retinacodec.row_splits import TimeBlocks

    table, found, fast = small
    rows = table.x[TimeBlocks(every=10).thirds(2000)[2]]
    slow, quick = found.transform(rows), fast.transform(rows)
    for name, one, loadings in (("pursuit", found, slow), ("encoder", fast, quick)):
        score = explained_variance(rows, one.reconstruct(loadings))
        assert float(fast.log[f"{name}_r2"]) == pytest.approx(score, abs=1e-5)
    truth, guess = slow > 0, quick > 0
    precision, recall = (truth & guess).sum() / guess.sum(), (truth & guess).sum() / truth.sum()
    expected = 2 * precision * recall / (precision + recall)
    assert float(fast.log["support_f1"]) == pytest.approx(expected, abs=1e-6)
    assert all(fast.log[f"{name}_seconds"] > 0 for name in ("pursuit", "encoder"))


def test_many_steps_at_the_start_are_the_nonnegative_lasso():
    import torch

    random = np.random.default_rng(0)
    atoms = random.random((6, 12))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    x = (random.random((20, 6)) < 0.4) @ atoms + 0.05 * random.standard_normal((20, 12))
    floor = 0.2
    lasso = Lasso(alpha=floor / 2 / 12, positive=True, fit_intercept=False, tol=1e-10)
    expected = np.stack([lasso.fit(atoms.T, row).coef_ for row in x])
    start = _Steps(torch.from_numpy(atoms.astype(np.float32)), floor, 3000)
    weights = {name: value.detach().numpy() for name, value in start.named_parameters()}
    coder = UnrolledCoder(**weights, floor=0.0)
    np.testing.assert_allclose(coder(x.astype(np.float32)), expected, atol=1e-4)


def test_it_is_packed_repeated_and_works_on_balanced_rows(small, planted):
    table, found, fast = small
    arrays, config = fast.pack()
    again = load_dictionary(arrays, json.loads(json.dumps(config)))
    np.testing.assert_array_equal(again.transform(table.x), fast.loadings)
    one, two = (distil(found, table.x, epochs=2, steps=1, progress=False) for _ in range(2))
    np.testing.assert_array_equal(one.loadings, two.loadings)
    assert one.coder.mixing.shape == (0, 8, 8)
    balanced = DirectPursuit(modes=8, scaling=BalancedRows()).fit(table.x, progress=False)
    log = distil(balanced, table.x, progress=False).log
    assert log["pursuit_r2"] - log["encoder_r2"] < 0.01


def test_what_cannot_be_distilled_is_refused(small):
    table, found, _ = small
    with pytest.raises(InputError, match="expected 16 features, got 15"):
        distil(found, table.x[:, 1:], progress=False)
    with pytest.raises(InputError, match="less than a batch of 128"):
        distil(found, table.x[:100], progress=False)
    with pytest.raises(InputError, match=r"steps must .*learning_rate must"):
        distil(found, table.x, steps=0, learning_rate=0)
    linear = PCA(3).fit(table.x, progress=False)
    with pytest.raises(InputError, match="a linear method such as PCA"):
        distil(linear, table.x, progress=False)
    empty = dataclasses.replace(found, atoms=found.atoms[:0], loadings=found.loadings[:, :0])
    with pytest.raises(InputError, match="all are dead"):
        distil(empty, table.x, progress=False)
    reads = Transcoder(4, epochs=1).fit(table.x, inputs=table.x, progress=False)
    with pytest.raises(InputError, match="reads inputs"):
        distil(reads, table.x, progress=False)
