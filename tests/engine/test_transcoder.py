"""The transcoder against a layer whose reading and writing directions are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retinacodec.dictionaries import BalancedRows, Transcoder, load_dictionary
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance, matched_cosine

SMALL = Transcoder(16, epochs=30, batch=64)


def _world(rows, seed=0, *, inputs=32, features=24, modes=16):
    """Return inputs, reading directions, loadings, atoms, what is written, and its signs."""
    random = np.random.default_rng(seed)
    reading = random.standard_normal((modes, inputs))
    reading /= np.linalg.norm(reading, axis=1, keepdims=True)
    a = random.standard_normal((rows, inputs))
    loadings = np.maximum(a @ reading.T - 1, 0)
    signs = np.where(np.arange(features) < features // 2, -1, 1)
    atoms = (random.random((modes, features)) < 0.25) * random.gamma(2, 1, (modes, features))
    atoms[np.arange(modes), np.arange(modes) % features] += 1
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    x = loadings @ atoms
    x = np.maximum(x + 0.05 * x.std() * random.standard_normal(x.shape), 0)
    return a, reading, loadings, atoms * signs, x * signs, signs


@pytest.fixture(scope="module")
def small():
    world = _world(2000)
    a, x, signs = world[0], world[4], world[5]
    return world, SMALL.fit(x, inputs=3 * a, signs=signs, seed=1, progress=False)


@pytest.mark.parametrize("seed", range(2))
def test_what_modes_read_and_write_is_recovered(seed):
    a, reading, loadings, atoms, x, signs = _world(4000, seed)
    found = Transcoder(16).fit(x, inputs=a, signs=signs, seed=seed, progress=False)
    assert len(found.atoms) == 16
    assert matched_cosine(atoms, found.atoms).mean() > 0.99
    match = (atoms @ found.atoms.T).argmax(axis=1)
    read = found.coder.reading[match]
    cosine = (read * reading).sum(axis=1) / np.linalg.norm(read, axis=1)
    assert cosine.mean() > 0.98
    pairs = zip(loadings.T, found.loadings.T[match], strict=True)
    assert np.mean([np.corrcoef(true, loading)[0, 1] for true, loading in pairs]) > 0.98
    assert found.log["held_out_r2"] > 0.98


def test_loadings_come_from_inputs_alone_with_their_scale(small):
    (a, _, _, _, x, signs), found = small
    assert found.reads.deviation == pytest.approx(3 * a.std(), rel=1e-6)
    assert found.scale.deviation == pytest.approx(x.std(), rel=1e-6)
    np.testing.assert_array_equal(found.transform(3 * a), found.loadings)
    assert found.coder.reading.shape == (len(found.atoms), 32)
    assert (found.atoms * signs >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.atoms, axis=1), 1, atol=1e-5)
    new = _world(500, 7)[0]
    truth = np.maximum(new @ small[0][1].T - 1, 0) @ small[0][3]
    assert explained_variance(truth, found.reconstruct(found.transform(3 * new))) > 0.9


def test_it_is_packed_and_comes_back(small):
    (a, *_), found = small
    arrays, config = found.pack()
    again = load_dictionary(arrays, json.loads(json.dumps(config)))
    assert again.reads == found.reads
    np.testing.assert_array_equal(again.transform(3 * a), found.loadings)
    np.testing.assert_array_equal(again.coder.reading, found.coder.reading)


def test_inputs_can_be_balanced_and_a_centre_written():
    a, _, _, _, x, signs = _world(2000)
    size = np.exp(np.random.default_rng(1).standard_normal((2000, 1)))
    method = Transcoder(16, epochs=30, batch=64, scaling=BalancedRows(power=1.0))
    found = method.fit(size * x, inputs=size * a, signs=signs, progress=False)
    np.testing.assert_array_equal(found.transform(size * a), found.loadings)
    assert explained_variance(size * x, found.reconstruct()) > 0.5
    moved = Transcoder(16, epochs=30, batch=64, centred=True, constrained=False)
    found = moved.fit(x + 5, inputs=a, progress=False)
    assert np.abs(found.scale.deviation * found.centre - 5).max() < 0.3
    assert found.log["held_out_r2"] > 0.85


def test_tables_that_do_not_fit_are_refused(small):
    (a, _, _, _, x, _), found = small
    with pytest.raises(InputError, match=r"expected 32 input features.*got 24"):
        found.transform(x)
    with pytest.raises(InputError, match="expected inputs for each of 2000 rows, got 1999 rows"):
        SMALL.fit(x, inputs=a[1:], progress=False)
    with pytest.raises(InputError, match="the inputs do not vary"):
        SMALL.fit(x, inputs=np.ones((2000, 3)), progress=False)
    with pytest.raises(InputError, match="1 of 2000 rows are NaN"):
        SMALL.fit(x, inputs=np.where(np.arange(2000)[:, None] == 3, np.nan, a), progress=False)
    with pytest.raises(InputError, match="less than a batch of 64"):
        SMALL.fit(x[:60], inputs=a[:60], progress=False)
    with pytest.raises(InputError, match=r"modes must .*auxiliary must"):
        Transcoder(0, auxiliary=-1)
