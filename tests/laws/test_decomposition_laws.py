"""Laws that hold for every decomposition: its face, rows, seeds, sizes, poor tables and files."""

from __future__ import annotations

import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from retinacodec.citations import references
from retinacodec.dictionaries import METHODS
from retinacodec.dictionary_files import open_dictionary, save_dictionary
from retinacodec.errors import InputError
from retinacodec.row_splits import RandomRows, TimeBlocks

MODES = 4
FEATURES = 8
QUICK = {
    "epochs": 8,
    "evaluate_every": 4,
    "batch": 32,
    "starts": 1,
    "iterations": 60,
    "sweeps": 10,
    "consensus_seeds": 2,
}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.parametrize("name", list(METHODS)),
]


def quick(name, modes=MODES):
    """Return the method with so many modes, made fast."""
    method = METHODS[name](modes)
    known = {field.name for field in dataclasses.fields(method)}
    return dataclasses.replace(method, **{k: v for k, v in QUICK.items() if k in known})


def table(rows=320, seed=0):
    """Return rows made of modes, the first half of the features negative, and their signs."""
    generator = np.random.default_rng(seed)
    atoms = (generator.random((MODES, FEATURES)) < 0.4) * generator.gamma(2, 1, (MODES, FEATURES))
    atoms[np.arange(MODES), 2 * np.arange(MODES)] += 1
    loadings = (generator.random((rows, MODES)) < 0.5) * generator.gamma(2, 0.5, (rows, MODES))
    x = np.maximum(loadings @ atoms + 0.05 * generator.standard_normal((rows, FEATURES)), 0)
    signs = np.where(np.arange(FEATURES) < FEATURES // 2, -1, 1)
    return x * signs, signs


X, SIGNS = table()
NEW = 1.7 * table(40, seed=1)[0]
_found = {}


def fit(name, x=X, signs=SIGNS, **options):
    return quick(name).fit(x, signs=signs, progress=False, **options)


@pytest.fixture
def found(name):
    """What the method found in the table, fitted once."""
    if name not in _found:
        _found[name] = fit(name)
    return _found[name]


def close(one, other, share=1e-5):
    largest = max(float(np.abs(other).max(initial=0)), 1e-12)
    np.testing.assert_allclose(one, other, atol=share * largest)


def test_what_comes_back_is_a_dictionary(name, found):
    modes = len(found.atoms)
    assert found.atoms.dtype == found.loadings.dtype == np.float32
    assert found.atoms.shape == (modes, FEATURES)
    assert found.loadings.shape == (len(X), modes)
    assert found.agreement.shape == (modes,)
    assert np.isfinite(found.atoms).all() and np.isfinite(found.loadings).all()
    assert found.method == repr(quick(name)) and found.seed == 0
    assert found.centre is None or found.centre.shape == (FEATURES,)
    for values in found.log.values():
        assert np.asarray(values).dtype.kind in "biuf"


def test_only_atoms_that_a_row_uses_are_returned_by_falling_use(name, found):
    use = np.abs(found.loadings).sum(axis=0, dtype=np.float64)
    assert (use > 0).all() and found.alive.all()
    assert (np.diff(use) <= 1e-3 * use.max(initial=0)).all()
    assert found.tried >= len(found.atoms)
    assert found.dead == found.tried - len(found.atoms)


def test_loadings_have_a_sign_but_for_components_about_a_mean(name, found):
    assert (found.loadings >= 0).all() or found.centre is not None


def test_rows_fitted_get_their_loadings_again(name, found):
    close(found.transform(X), found.loadings)
    close(found.reconstruct(found.transform(X)), found.reconstruct())


def test_loadings_do_not_depend_on_how_rows_are_divided(name, found):
    parts = [found.transform(NEW[start : start + 7]) for start in range(0, len(NEW), 7)]
    close(np.concatenate(parts), found.transform(NEW))
    order = np.random.default_rng(0).permutation(len(NEW))
    close(found.transform(NEW[order]), found.transform(NEW)[order])
    assert found.transform(NEW[:0]).shape == (0, len(found.atoms))


def test_same_seed_same_modes_and_no_shared_random_state(name, found):
    state = (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    torch_state = torch.random.get_rng_state()
    again = fit(name)
    np.testing.assert_array_equal(again.atoms, found.atoms)
    np.testing.assert_array_equal(again.loadings, found.loadings)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_fits_side_by_side_do_not_disturb_each_other(name, found):
    with ThreadPoolExecutor(3) as pool:
        many = list(pool.map(lambda seed: fit(name, seed=seed), [0, 1, 0]))
    for one in (many[0], many[2]):
        close(one.atoms, found.atoms)
    assert many[1].seed == 1


@pytest.mark.parametrize("factor", [1000.0, 2.0**-20])
def test_larger_rows_have_the_same_atoms(name, found, factor):
    larger = fit(name, factor * X)
    assert larger.scale.deviation == pytest.approx(factor * found.scale.deviation)
    close(larger.atoms, found.atoms, 1e-3)
    close(larger.loadings, found.loadings, 1e-3)
    close(larger.reconstruct(), factor * found.reconstruct(), 1e-3)


def test_a_file_gives_the_same_bits_again(name, found, tmp_path):
    again = open_dictionary(save_dictionary(found, tmp_path / "modes"))
    np.testing.assert_array_equal(again.transform(NEW), found.transform(NEW))
    np.testing.assert_array_equal(again.reconstruct(), found.reconstruct())
    np.testing.assert_array_equal(again.agreement, found.agreement)
    assert repr(again) == repr(found)
    assert again.dead == found.dead and set(again.log) == set(found.log)


def bad(case):
    x = X.copy()
    if case == "nan":
        x[3, 2] = np.nan
    return {
        "nan": (x, "1 of 320 rows are NaN or infinite, first row 3"),
        "still": (np.full((60, FEATURES), 2.0), "do not vary"),
        "zero": (np.zeros((60, FEATURES)), "do not vary"),
        "empty": (X[:0], "rows"),
        "flat": (X[0], "expected numbers"),
    }[case]


@pytest.mark.parametrize("case", ["nan", "still", "zero", "empty", "flat"])
def test_what_cannot_be_decomposed_is_refused(name, case):
    x, said = bad(case)
    with pytest.raises(InputError, match=said) as caught:
        fit(name, x, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", ["constant", "few", "alike", "one"])
def test_what_is_poor_is_refused_or_gives_finite_numbers(name, case):
    x = {
        "constant": np.column_stack([X[:, :6], np.zeros(len(X)), np.full(len(X), 3.0)]),
        "few": X[: MODES - 1],
        "alike": np.repeat(X[:2], 40, axis=0),
        "one": X[:, -1:],
    }[case]
    try:
        found = fit(name, x, None)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert np.isfinite(found.atoms).all() and np.isfinite(found.loadings).all()
    close(found.transform(x), found.loadings)


def test_rows_may_be_of_whole_numbers_or_half_precision(name, found):
    counts = np.round(8 * X).astype(np.int64)
    close(fit(name, counts).atoms, fit(name, counts.astype(np.float64)).atoms)
    close(fit(name, X.astype(np.float32)).atoms, found.atoms, 1e-2)


def test_it_can_be_cited_and_typed_again(name):
    method = quick(name)
    assert references(method)
    from retinacodec import dictionaries

    names = {one: getattr(dictionaries, one) for one in dictionaries.__all__}
    assert (
        eval(repr(method), names | {"RandomRows": RandomRows, "TimeBlocks": TimeBlocks}) == method
    )
