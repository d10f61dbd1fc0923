"""Held-out blocks, stability over seeds and its null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.pairwise import cosine_similarity

from retinacodec.dictionaries import (
    DirectPursuit,
    PaperSAE,
    fixed_size,
    held_out_r2,
    seed_stability,
    shuffled_stability,
)
from retinacodec.metrics import explained_variance, match_atoms
from retinacodec.row_splits import TimeBlocks


def test_held_out_r2_is_a_little_below_that_of_the_rows_fitted(planted):
    table = planted(1000, 16, 8, noise=0.2)
    method = DirectPursuit(modes=8)
    found = method.fit(table.x, signs=table.signs, progress=False)
    fitted = explained_variance(table.x, found.reconstruct())
    held = held_out_r2(method, table.x, signs=table.signs, split=TimeBlocks(gap=0))
    assert 0.8 < held < fitted < 1
    assert fitted - held < 0.02


def test_held_out_r2_sees_memorised_noise():
    x = np.random.default_rng(0).standard_normal((60, 30))
    method = DirectPursuit(modes=40, active=1)
    fitted = explained_variance(x, method.fit(x, progress=False).reconstruct())
    assert fitted - held_out_r2(method, x, split=TimeBlocks(gap=0)) > 0.3


def test_stability_is_near_one_for_planted_modes_and_low_for_noise(planted):
    table = planted(1500, 40, 12)
    method = DirectPursuit(modes=12)
    found = method.fit(table.x, signs=table.signs, progress=False)
    stability = seed_stability(method, table.x, found, signs=table.signs)
    assert stability.min() > 0.99
    assert shuffled_stability(found.atoms).mean() < 0.8
    noise = np.random.default_rng(0).standard_normal((300, 40))
    chance = method.fit(noise, progress=False)
    assert seed_stability(method, noise, chance).mean() < 0.9


def test_a_mode_without_a_match_has_no_stability(planted):
    table = planted(500, 16, 4)
    found = DirectPursuit(modes=6).fit(table.x, signs=table.signs, progress=False)
    stability = seed_stability(DirectPursuit(modes=4), table.x, found, signs=table.signs, seeds=1)
    assert (stability == 0).sum() == 2


def test_the_null_of_modes_without_a_sign_takes_a_mode_and_its_negative_as_the_same():
    atoms = np.random.default_rng(0).standard_normal((6, 12))
    same = shuffled_stability(atoms, signed=True)
    turned = atoms * np.array([1, -1, 1, -1, -1, 1])[:, None]
    assert same.mean() > shuffled_stability(atoms).mean() + 0.01
    shuffled = np.random.default_rng(0).permuted(atoms, axis=0)
    cosine = np.abs(cosine_similarity(atoms, shuffled))
    assert same[0] == pytest.approx(cosine[linear_sum_assignment(-cosine)].mean())
    assert match_atoms(atoms, turned, signed=True)[1].min() == pytest.approx(1)


def test_only_a_method_that_chooses_its_size_gets_one():
    assert fixed_size(DirectPursuit(gain=0.1), 7) == DirectPursuit(modes=7, gain=0.1)
    assert fixed_size(DirectPursuit(modes=3), 7) == DirectPursuit(modes=3)
    assert fixed_size(PaperSAE(), 7) == PaperSAE()
