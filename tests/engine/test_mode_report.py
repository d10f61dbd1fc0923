"""The report of modes: what it finds in planted tables, and that its numbers are the plain ones."""

from __future__ import annotations

import numpy as np
import pytest

from retinacodec.common_coding import predicted_rows, r2_at_l0
from retinacodec.dictionaries import DirectPursuit, RandomRows
from retinacodec.dictionary_scores import (
    half_cosines,
    held_out,
    partner_cosines,
    row_r2,
)
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance, match_atoms, matched_cosine
from retinacodec.mode_report import mode_gains, report_modes
from retinacodec.rows import Rows


@pytest.fixture(scope="module")
def table(planted):
    return planted(2000, 16, 8, noise=0.1)


@pytest.fixture(scope="module")
def rows(table):
    return Rows(table.x, table.signs)


@pytest.fixture(scope="module")
def found(rows):
    return rows.fit(DirectPursuit(modes=8), 0)


def test_held_out_r2_is_the_plain_one_within_its_interval(rows):
    other = held_out(DirectPursuit(modes=8), rows, seed=0)
    x = rows.x[other.rows]
    plain = explained_variance(x, other.found.reconstruct(other.found.transform(x)))
    assert float(other.r2.value) == pytest.approx(plain, abs=1e-6)
    assert other.r2.low < plain < other.r2.high < other.r2.low + 0.05
    assert other.l0 == pytest.approx(float((other.loadings > 0).sum(axis=1).mean()))


def test_the_interval_narrows_with_more_rows(planted):
    width = []
    for count in (400, 6400):
        table = planted(count, 16, 4, noise=0.3)
        r2 = held_out(DirectPursuit(modes=4), Rows(table.x, table.signs), block=10).r2
        width.append(float(r2.high - r2.low))
    assert 2 < width[0] / width[1] < 8  # the root of sixteen times the rows is four


def test_planted_modes_are_stable_needed_and_not_surplus(rows, found):
    report = report_modes(DirectPursuit(modes=8), rows, found)
    assert report.stable.all() and not report.surplus.any()
    assert report.seed_stability.min() > 0.99 and report.half_stability.min() > 0.98
    assert report.stability_null < 0.9
    assert report.alive == 8 and report.dead == 0
    np.testing.assert_allclose(report.row_r2, row_r2(rows.x, found.reconstruct()))
    assert "8 in use" in str(report) and "surplus: 0 modes" in str(report)


def test_noise_has_no_modes_that_come_back(planted):
    x = np.random.default_rng(1).standard_normal((600, 12))
    method = DirectPursuit(modes=10)
    rows = Rows(x)
    found = rows.fit(method, 0)
    report = report_modes(method, rows, found, seeds=1)
    assert report.half_stability.mean() < 0.8
    assert report.stable.sum() <= 1
    assert report.r2.low < report.r2_fitted


def _with(found, **changed):
    return type(found)(**{**vars(found), **changed})


def test_one_of_two_modes_that_are_the_same_is_surplus(rows, found):
    twice = np.concatenate([found.atoms, found.atoms[:1]])
    both = _with(found, atoms=twice, loadings=found.loadings[:, [*range(8), 0]])
    gain, surplus, null = mode_gains(both, rows.x)
    alone, none, _ = mode_gains(found, rows.x)
    assert not none.any()
    assert surplus.sum() == 1 and (surplus[0] or surplus[8])
    np.testing.assert_allclose(gain[1:8], alone[1:], rtol=0.02)
    assert gain[surplus] < 0.1 * alone[0]
    assert gain[[0, 8]].max() == pytest.approx(alone[0], rel=0.02)
    assert 0 <= null < alone.min()


def test_gains_of_orthogonal_modes_are_in_closed_form(found):
    eye = np.eye(4, dtype=np.float32)
    loadings = np.random.default_rng(0).gamma(2.0, 1.0, (500, 4)).astype(np.float32) + 1
    one = _with(found, atoms=eye, loadings=loadings, agreement=np.ones(4), tried=4)
    energy = float((loadings.astype(np.float64) ** 2).sum())
    penalty = 0.02 * np.sqrt(energy / 500)
    gain, surplus, _ = mode_gains(one, found.scale.deviation * loadings)
    # without a mode its z = x - penalty is lost: x^2 - (penalty^2 + 2 penalty z) = z^2
    np.testing.assert_allclose(gain, ((loadings - penalty) ** 2).sum(axis=0) / energy, rtol=1e-3)
    assert not surplus.any()


def test_gains_of_modes_whose_loadings_have_signs(found):
    eye = np.eye(3, dtype=np.float32)
    loadings = np.random.default_rng(0).normal(0, [3, 2, 1], (800, 3)).astype(np.float32)
    one = _with(found, atoms=eye, loadings=loadings, agreement=np.ones(3), tried=3)
    gain, _, _ = mode_gains(one, found.scale.deviation * loadings)
    np.testing.assert_allclose(gain, np.array([9, 4, 1]) / 14, atol=0.05)


def test_half_stability_compares_fits_that_share_no_row(rows, found):
    method, split = DirectPursuit(modes=8), RandomRows()
    one, other = split.halves(len(rows))
    atoms = [rows.take(half).fit(method, 0).atoms for half in (one, other)]
    expected = matched_cosine(*atoms)
    scored = half_cosines(method, rows, found, split=split)
    assert scored.diagonal().mean() == pytest.approx(expected.mean(), abs=1e-4)
    plain = matched_cosine(atoms[0], atoms[1])
    assert scored.max(axis=1) == pytest.approx(scored.diagonal()) and len(plain) == 8


def test_partners_of_modes_stand_on_the_diagonal(found):
    order = np.random.default_rng(2).permutation(8)
    table = partner_cosines(found, found.atoms[order])
    np.testing.assert_allclose(table.diagonal(), 1, atol=1e-5)
    np.testing.assert_allclose(table, found.atoms @ found.atoms.T, atol=1e-5)
    few = partner_cosines(found, found.atoms[:5])
    np.testing.assert_allclose(few.diagonal(), [1, 1, 1, 1, 1, 0, 0, 0], atol=1e-5)
    assert (partner_cosines(found, np.zeros((0, 16), np.float32)) == 0).all()


def test_matching_is_one_to_one_and_says_who_is_alone():
    eye = np.eye(4)
    partner, cosine = match_atoms(eye[:3], eye[[2, 0]])
    assert partner.tolist() == [1, -1, 0] and cosine.tolist() == [1, 0, 1]
    assert match_atoms(eye[:2], -eye[:2])[1].max() <= 0
    assert match_atoms(eye[:2], -eye[[1, 0]], signed=True)[1].tolist() == [1, 1]
    partner, cosine = match_atoms(eye, np.zeros((0, 4)))
    assert partner.tolist() == [-1] * 4 and cosine.tolist() == [0] * 4


def test_r2_at_an_l0_meets_it_and_rises_with_it(rows, found):
    scores = [r2_at_l0(found, rows.x, l0) for l0 in (0.5, 1.0, 2.0)]
    for asked, (_, reached) in zip((0.5, 1.0, 2.0), scores, strict=True):
        assert reached == pytest.approx(asked, rel=0.03)
    assert scores[0][0] < scores[1][0] < scores[2][0] < 1
    most, reached = r2_at_l0(found, rows.x, 50.0)
    assert reached <= 8 and most > 0.99 * explained_variance(rows.x, found.reconstruct())
    with pytest.raises(InputError, match="above 0, got 0"):
        r2_at_l0(found, rows.x, 0)


def test_true_modes_predict_columns_from_the_others(table, rows, found):
    made = predicted_rows(found, rows.x)
    assert explained_variance(rows.x, made) > 0.9
    alone = predicted_rows(found, rows.x, folds=2)
    assert explained_variance(rows.x, alone) < explained_variance(rows.x, made)
    # a column that is asked for does not enter its own prediction
    changed = rows.x.copy()
    changed[:, 3] *= 5
    again = predicted_rows(_with(found, scale=found.scale), changed)
    np.testing.assert_allclose(again[:, 3], made[:, 3], atol=1e-4)
    noise = np.random.default_rng(0).standard_normal((500, 12))
    some = DirectPursuit(modes=10).fit(noise, progress=False)
    assert explained_variance(noise, some.reconstruct()) > 0.5
    assert explained_variance(noise, predicted_rows(some, noise)) < 0


def test_inputs_must_belong_to_the_rows(rows):
    with pytest.raises(InputError, match="a row for each of 2000 rows, got 3"):
        Rows(rows.x, inputs=np.zeros((3, 2)))
