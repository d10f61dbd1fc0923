"""Planted tables: the recipe to numbers, from rates and norms to correlations and tails."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from retinacodec.analyses import SCENARIOS, Planted
from retinacodec.errors import InputError

BASE = Planted(4000, 16, 8)


def test_the_table_is_the_product_of_its_parts():
    table = dataclasses.replace(BASE, noise=0.0).draw(0)
    np.testing.assert_allclose(table["x"], table["loading"].values @ table["atom"].values)
    np.testing.assert_allclose(np.linalg.norm(table["atom"], axis=1), 1)
    assert table["sign"].values.tolist() == [-1] * 8 + [1] * 8
    assert (table["atom"] * table["sign"] >= 0).all()


def test_noise_has_the_size_asked_for():
    recipe = Planted(4000, 16, 8, active=8.0, support=1.0, noise=0.1)
    table = recipe.draw(1)
    clean = np.abs(table["loading"].values @ table["atom"].values)
    left = (np.abs(table["x"].values) - clean)[clean > 0.5 * clean.std()]
    assert left.std() / clean.std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("smooth", [0.0, 4.0])
def test_modes_are_as_active_as_they_should_be(smooth):
    recipe = dataclasses.replace(BASE, rows=20000, active=1.5, smooth=smooth)
    on = recipe.draw(2)["loading"].values > 0
    assert on.sum(axis=1).mean() == pytest.approx(1.5, rel=0.05)


def test_only_smooth_loadings_remember():
    later = []
    for smooth in (0.0, 4.0):
        loading = dataclasses.replace(BASE, smooth=smooth).draw(3)["loading"].values
        later.append(np.corrcoef(loading[1:, 0], loading[:-1, 0])[0, 1])
    assert abs(later[0]) < 0.05
    assert later[1] > 0.6


@pytest.mark.parametrize("smooth", [0.0, 4.0])
def test_pairs_come_together_and_others_do_not(smooth):
    recipe = Planted(20000, 16, 7, active=2.0, together=0.8, smooth=smooth)
    on = recipe.draw(4)["loading"].values > 0
    r = np.corrcoef(on.T)
    assert min(r[0, 1], r[2, 3], r[4, 5]) > 0.3
    assert np.abs(np.delete(r[6], 6)).max() < 0.15
    assert abs(r[1, 2]) < 0.15


def test_atoms_of_shared_parts_span_only_the_parts():
    atoms = Planted(50, 40, 12, parts=7).draw(5)["atom"].values
    assert np.linalg.matrix_rank(atoms, tol=1e-8) == 7
    alone = Planted(50, 40, 12).draw(5)["atom"].values
    assert np.linalg.matrix_rank(alone, tol=1e-8) == 12
    assert len(np.unique(atoms.round(6), axis=0)) == 12


def test_a_tail_makes_few_rows_hold_most_of_the_energy():
    shares = []
    for tail in (0.0, 1.5):
        x = dataclasses.replace(BASE, tail=tail).draw(6)["x"].values
        energy = np.sort((x**2).sum(axis=1))
        shares.append(energy[-len(energy) // 100 :].sum() / energy.sum())
    assert shares[0] < 0.1
    assert shares[1] > 0.4
    loading = dataclasses.replace(BASE, tail=1.5).draw(6)["loading"].values
    log = np.log(loading[loading > 0])
    gamma = np.log(stats.gamma(2.0, scale=0.5).rvs(100_000, random_state=0)).var()
    assert log.var() == pytest.approx(gamma + 1.5**2, rel=0.05)


def test_rare_modes_are_rare():
    often = (Planted(20000, 16, 8, rare=3, seldom=0.005).draw(7)["loading"].values > 0).mean(axis=0)
    assert often[5:] == pytest.approx(0.005, rel=0.3)
    assert often[:5].min() > 0.02


def test_same_seed_same_table():
    assert BASE.draw(8).identical(BASE.draw(8))
    assert not np.array_equal(BASE.draw(8)["x"], BASE.draw(9)["x"])


def test_unsigned_tables_are_nonnegative_and_modes_may_be_asked_for():
    assert (SCENARIOS["large"].draw(0)["x"] >= 0).all()
    assert SCENARIOS["too_few"].wanted < SCENARIOS["clean"].wanted < SCENARIOS["too_many"].wanted


def test_wrong_numbers_are_named_at_once():
    with pytest.raises(InputError, match=r"rows: .*support: .*together: .*rare: .*parts: "):
        Planted(0, 8, 6, support=0.0, together=2.0, rare=7, parts=3)
