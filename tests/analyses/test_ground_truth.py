"""Scores against known modes: scikit-learn's areas, perfect and hopeless modes, failing methods."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from retinacodec.analyses import (
    Planted,
    draw_ground_truth,
    ground_truth_markdown,
    ground_truth_table,
    score_modes,
)
from retinacodec.analyses.mode_matching import roc_auc, roc_auc_shifted, true_partners
from retinacodec.dictionaries import DirectPursuit
from retinacodec.errors import InputError
from retinacodec.metrics import matched_cosine

RECIPE = Planted(600, 16, 5, active=1.5)


@pytest.fixture(scope="module")
def truth():
    return RECIPE.draw(0)


def _modes(atoms, loadings):
    return xr.Dataset(
        {"atom": (("mode", "feature"), atoms), "loading": (("sample", "mode"), loadings)}
    )


def test_areas_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    active = random.random((300, 3)) < [0.1, 0.5, 0.9]
    loading = np.maximum(random.normal(size=(300, 4)) + active[:, :1], 0).round(1)
    expected = [[roc_auc_score(on, z) for z in loading.T] for on in active.T]
    np.testing.assert_allclose(roc_auc(active, loading), expected, rtol=1e-12)


def test_shifted_areas_are_those_of_rolled_loadings():
    random = np.random.default_rng(1)
    active, loading = random.random((50, 2)) < 0.3, random.random((50, 3)).round(1)
    every = {
        tuple(np.round(roc_auc(active, np.roll(loading, k, axis=0)), 9).ravel()) for k in range(50)
    }
    null = roc_auc_shifted(active, loading, shifts=40, least=5, seed=0)
    assert {tuple(row.ravel()) for row in np.round(null, 9)} <= every
    near = [np.round(roc_auc(active, np.roll(loading, k, axis=0)), 9) for k in range(-4, 5)]
    assert not any(np.array_equal(row, bad) for row in np.round(null, 9) for bad in near)
    rows = np.arange(10, 40)
    part = roc_auc_shifted(active, loading, shifts=5, least=5, seed=0, rows=rows)
    some = [roc_auc(active[rows], np.roll(loading, k, axis=0)[rows]) for k in range(50)]
    assert all(any(np.allclose(row, one) for one in some) for row in part)


def test_the_match_is_one_to_one_and_best_in_sum(truth):
    random = np.random.default_rng(2)
    found = np.abs(random.normal(size=(9, 16))) * truth["sign"].values
    partner, cosine = true_partners(truth["atom"].values, found)
    assert len(set(partner)) == 5
    np.testing.assert_allclose(
        np.sort(cosine), np.sort(matched_cosine(truth["atom"].values, found)), rtol=1e-9
    )


def test_the_truth_finds_itself_in_any_order_and_size(truth):
    order = np.random.default_rng(3).permutation(5)
    again = _modes(truth["atom"].values[order] * 3, truth["loading"].values[:, order] / 3)
    scores = score_modes(truth, again)
    np.testing.assert_allclose(scores["cosine"], 1)
    np.testing.assert_allclose(scores["auc"], 1)
    np.testing.assert_allclose(scores["correlation"], 1)
    assert order[scores["partner"].values].tolist() == list(range(5))
    assert (scores.attrs["found"], scores.attrs["missed"], scores.attrs["surplus"]) == (5, 0, 0)
    assert (scores["auc_p"] == 1 / 101).all()
    assert abs(float(scores["auc_null"].mean()) - 0.5) < 0.02


def test_modes_of_another_table_are_no_better_than_their_nulls(truth):
    other = RECIPE.draw(17)
    scores = score_modes(truth, other)
    assert float(scores["cosine"].mean()) < float(scores["cosine_null"].mean("mode").max()) + 0.1
    assert scores.attrs["missed"] >= 4
    assert (scores["auc_p"] > 0.01).all()
    assert np.abs(scores["auc"] - 0.5).max() < 0.1


def test_a_missed_mode_counts_as_chance_and_a_further_one_as_surplus(truth):
    atoms, loadings = truth["atom"].values, truth["loading"].values
    fewer = score_modes(truth, _modes(atoms[:3], loadings[:, :3]))
    assert fewer["partner"].values.tolist() == [0, 1, 2, -1, -1]
    assert fewer["cosine"].values[3:].tolist() == [0, 0]
    assert fewer["auc"].values[3:].tolist() == [0.5, 0.5]
    assert fewer["correlation"].values[3:].tolist() == [0, 0]
    assert fewer.attrs["missed"] == 2
    more = score_modes(truth, _modes(np.tile(atoms, (2, 1)), np.tile(loadings, (1, 2))))
    assert (more.attrs["found"], more.attrs["missed"], more.attrs["surplus"]) == (10, 0, 5)
    none = score_modes(truth, _modes(atoms[:0], loadings[:, :0]))
    assert none["auc"].values.tolist() == [0.5] * 5
    assert none.attrs["missed"] == 5


def test_a_mode_that_is_never_active_has_no_area(truth):
    quiet = truth.copy(deep=True)
    quiet["loading"][:, 2] = 0.0
    scores = score_modes(quiet, truth)
    assert np.isnan(scores["auc"].values[2]) and np.isnan(scores["auc_p"].values[2])
    assert np.isfinite(np.delete(scores["auc"].values, 2)).all()


def test_components_without_a_sign_are_turned():
    one = Planted(500, 8, 1, active=0.3, noise=0.0).draw(0)
    model = PCA(1).fit(one["x"].values)
    for turn in (1, -1):
        found = _modes(turn * model.components_, turn * model.transform(one["x"].values))
        scores = score_modes(one, found)
        assert float(scores["cosine"][0]) == pytest.approx(1, abs=1e-6)
        assert float(scores["auc"][0]) == pytest.approx(1, abs=1e-6)


def test_modes_of_another_size_or_with_nan_are_refused(truth):
    with pytest.raises(InputError, match="600 rows of 16 features"):
        score_modes(truth, Planted(500, 16, 5).draw(0))
    broken = truth.copy(deep=True)
    broken["loading"][3, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        score_modes(truth, broken)


class Broken:
    def fit(self, x, **_):
        raise RuntimeError("out of luck")


class Sometimes:
    def fit(self, x, *, seed=0, **options):
        if seed:
            raise ValueError("odd seed")
        return DirectPursuit(modes=5).fit(x, seed=seed, **options)


@pytest.fixture(scope="module")
def table():
    methods = {
        "pursuit": lambda modes: DirectPursuit(modes=modes),
        "broken": lambda modes: Broken(),
        "sometimes": lambda modes: Sometimes(),
    }
    smooth = Planted(900, 16, 5, active=1.5, smooth=3.0)
    scenarios = {"plain": RECIPE, "smooth": smooth}
    return ground_truth_table(methods, scenarios, seeds=(0, 1), progress=False)


def test_the_table_goes_on_where_a_method_fails(table):
    assert dict(table.sizes) == {"scenario": 2, "decomposition": 3, "seed": 2}
    good = table.sel(decomposition="pursuit")
    assert float(good["cosine"].min()) > 0.97
    assert float(good["auc"].min()) > 0.93
    assert float(good["held_out_r2"].min()) > 0.95
    assert (good["found"] == 5).all() and (good["cpu_s"] > 0).all()
    assert float(good["auc_null"].mean()) == pytest.approx(0.5, abs=0.03)
    bad = table.sel(decomposition="broken")
    assert bad["cosine"].isnull().all() and bad["cpu_s"].isnull().all()
    assert set(bad["problem"].values.ravel()) == {"RuntimeError: out of luck"}


def test_held_out_rows_are_not_those_fitted(table):
    from retinacodec.metrics import explained_variance
    from retinacodec.row_splits import RandomRows

    x = RECIPE.draw(0)
    fitted, held = RandomRows().split(600)
    rows = x["x"].values
    signs = x["sign"].values
    found = DirectPursuit(modes=5).fit(rows[fitted], signs=signs, seed=0, progress=False)
    expected = explained_variance(rows[held], found.reconstruct(found.transform(rows[held])))
    scored = float(table["held_out_r2"].sel(scenario="plain", decomposition="pursuit", seed=0))
    assert scored == pytest.approx(expected, abs=1e-6)


def test_markdown_says_mean_spread_and_failures(table):
    lines = ground_truth_markdown(table, "cosine").splitlines()
    assert lines[:2] == ["| scenario | pursuit | broken | sometimes |", "| --- | --- | --- | --- |"]
    values = table["cosine"].sel(scenario="plain", decomposition="pursuit").values
    pursuit, broken, sometimes = (part.strip() for part in lines[2].split("|")[2:5])
    assert pursuit == f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
    assert broken == "–"
    assert sometimes == f"{values[0]:.2f} (1 failed)"
    with pytest.raises(InputError, match="cosine"):
        ground_truth_markdown(table, "beauty")


def test_drawing_shows_the_means_and_leaves_failures_blank(table):
    figure, ax = plt.subplots()
    draw_ground_truth(table, ax, "auc")
    shown = ax.images[-1].get_array()
    np.testing.assert_allclose(shown[0], table["auc"].sel(decomposition="pursuit").mean("seed"))
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown))[1].all()
    assert len(ax.texts) == 4
    plt.close(figure)


def test_an_empty_choice_is_refused():
    with pytest.raises(InputError, match="at least"):
        ground_truth_table({}, {"plain": RECIPE})
