"""Rows explained worst are drawn as often as they should be, and show modes that others lack."""

from __future__ import annotations

import numpy as np
import pytest

from retinacodec.hard_rows import HardRows, exchange_atoms


def test_each_row_is_drawn_as_often_as_its_error_asks_for():
    x = np.zeros((400, 1), np.float32)
    x[:, 0] = np.sqrt(np.tile([1.0, 2.0, 4.0, 0.0], 100))
    labelled = np.concatenate([x, np.zeros((400, 1), np.float32)], axis=1)
    labelled[:, 1] = np.arange(400)
    estimate = labelled.copy()
    estimate[:, 0] = 0
    drawn = np.zeros(400)
    for seed in range(600):
        hard = HardRows(2, (seed,), count=1)
        for first in range(0, 400, 50):
            part = slice(first, first + 50)
            hard.take(first, labelled[part], estimate[part])
        drawn[hard.x[:, 1].astype(int)] += 1
    share = drawn.reshape(100, 4).sum(axis=0) / 600
    np.testing.assert_allclose(share, [1 / 7, 2 / 7, 4 / 7, 0], atol=0.05)


def test_it_goes_on_from_what_was_packed():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4)).astype(np.float32)
    whole, first, second = (HardRows(4, (1, 2), count=20) for _ in range(3))
    for hard, starts in ((whole, (0, 100, 200)), (first, (0, 100))):
        for start in starts:
            hard.take(start, x[start : start + 100], 0 * x[:100])
    second.restore(first.pack())
    second.take(200, x[200:], 0 * x[:100])
    np.testing.assert_array_equal(second.x, whole.x)
    assert whole.x.shape == (20, 4)


@pytest.mark.parametrize("spare", [True, False])
def test_a_mode_that_the_sample_lacks_takes_the_place_of_a_spare_atom(spare, planted):
    table = planted(4000, 24, 6, own=1.0, signed=False)
    atoms, random = table.atoms.astype(np.float32), np.random.default_rng(0)
    x = table.x.astype(np.float32)
    lacks = table.loadings[:, 5] == 0
    rare = x[~lacks][:40]
    known = np.concatenate([atoms[:5], atoms[[0]]]) if spare else atoms[:5]
    found, exchanged = exchange_atoms(
        known,
        x[lacks],
        np.concatenate([rare, x[lacks][:200]]),
        witness=x[:0],
        rows=len(x),
        positive=np.ones(24, dtype=bool),
        penalty=0.02 * float(np.linalg.norm(x, axis=1).mean()),
        generator=random,
    )
    cosine = (atoms @ found.T).max(axis=1)
    assert cosine[:5].min() > 0.999 and len(found) == len(known)
    assert exchanged == spare and (cosine[5] > 0.7) == spare


def test_rows_that_are_explained_ask_for_nothing():
    atoms = np.eye(3, dtype=np.float32)
    options = {"positive": np.ones(3, dtype=bool), "penalty": 1e-6, "rows": 9, "witness": atoms[:0]}
    random = np.random.default_rng(0)
    for rows in (np.zeros((5, 3), np.float32), np.zeros((0, 3), np.float32)):
        same, exchanged = exchange_atoms(atoms, atoms, rows, generator=random, **options)
        assert exchanged == 0 and same is atoms


def test_what_was_found_before_is_not_given_up(planted):
    table = planted(4000, 24, 6, own=1.0, signed=False)
    atoms, x = table.atoms.astype(np.float32), table.x.astype(np.float32)
    often = (table.loadings[:, 4:] == 0).all(axis=1)
    found = []
    for witness in (x[:0], x[table.loadings[:, 5] > 0][:40]):
        _, exchanged = exchange_atoms(
            atoms[[0, 1, 2, 3, 5]],
            x[often],
            x[table.loadings[:, 4] > 0][:20],
            witness=witness,
            rows=len(x),
            positive=np.ones(24, dtype=bool),
            penalty=0.02 * float(np.linalg.norm(x, axis=1).mean()),
            generator=np.random.default_rng(0),
        )
        found.append(exchanged)
    assert found == [1, 0]
