"""Held-out blocks, stability over seeds and its null."""

from __future__ import annotations

import numpy as np
import pytest

from retinacodec.dictionaries import (
    DirectPursuit,
    PaperSAE,
    fixed_size,
    held_out_r2,
    seed_stability,
    shuffled_stability,
)
from retinacodec.dictionary_scores import held_out_rows
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance


def test_held_out_blocks_are_contiguous_and_keep_their_distance():
    fitted, held = held_out_rows(2000, gap=30)
    assert len(held) == 400
    assert len(np.flatnonzero(np.diff(held) > 1)) == 3
    assert np.abs(fitted[:, None] - held[None]).min() == 31
    assert len(fitted) == 2000 - 400 - 8 * 30


def test_a_gap_as_long_as_blocks_leaves_rows_to_fit():
    fitted, held = held_out_rows(100, gap=1000)
    assert len(fitted) >= 40
    assert len(held) == 20


def test_too_few_rows_are_refused():
    with pytest.raises(InputError, match="at least 20 rows, got 7"):
        held_out_rows(7)


def test_held_out_r2_is_a_little_below_that_of_the_rows_fitted(planted):
    table = planted(1000, 16, 8, noise=0.2)
    method = DirectPursuit(modes=8)
    found = method.fit(table.x, signs=table.signs, progress=False)
    fitted = explained_variance(table.x, found.reconstruct())
    held = held_out_r2(method, table.x, signs=table.signs)
    assert 0.8 < held < fitted < 1
    assert fitted - held < 0.02


def test_held_out_r2_sees_memorised_noise():
    x = np.random.default_rng(0).standard_normal((60, 30))
    method = DirectPursuit(modes=40, active=1)
    fitted = explained_variance(x, method.fit(x, progress=False).reconstruct())
    assert fitted - held_out_r2(method, x, gap=0) > 0.3


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


def test_only_a_method_that_chooses_its_size_gets_one():
    assert fixed_size(DirectPursuit(gain=0.1), 7) == DirectPursuit(modes=7, gain=0.1)
    assert fixed_size(DirectPursuit(modes=3), 7) == DirectPursuit(modes=3)
    assert fixed_size(PaperSAE(), 7) == PaperSAE()
