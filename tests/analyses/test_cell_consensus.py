"""Consensus of groups: planted ones found, clouds of any shape not; agreement and its null."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from retinacodec.analyses.cell_consensus import _turned, consensus_clusters, draw_consensus
from retinacodec.analyses.cell_groups import agreement_null, cluster_agreement, cluster_cells
from retinacodec.analyses.partitions import ambiguity, co_assignment, k_means
from retinacodec.errors import InputError

SIZES = (9, 5, 3)
GROUP = np.repeat([1, 2, 3], SIZES)


def _table(values):
    cells = [f"c{number}" for number in range(len(values))]
    return xr.DataArray(values, dims=("cell", "mode"), coords={"cell": cells})


def _planted(random, spread):
    return random.random((3, 27))[GROUP - 1] + spread * random.normal(size=(17, 27))


def _quick(values, seed=0, **settings):
    settings = {"resamples": 40, "nulls": 19, "most": 5} | settings
    return consensus_clusters(_table(values), seed=seed, progress=False, **settings)


@pytest.fixture(scope="module")
def consensus():
    values = _planted(np.random.default_rng(0), 0.1)
    values[16] = (values[0] + values[16]) / 2
    return _quick(values, nulls=39)


def test_many_k_means_reach_the_best_of_sklearn():
    random = np.random.default_rng(1)
    tables = np.stack([_planted(random, 0.3) for _ in range(20)])
    labels = k_means(tables, 4, random, 20)
    for table, label in zip(tables, labels, strict=True):
        centres = [table[label == group].mean(axis=0) for group in np.unique(label)]
        inertia = sum(
            ((table[label == group] - centre) ** 2).sum()
            for group, centre in zip(np.unique(label), centres, strict=True)
        )
        expected = KMeans(4, n_init=20, random_state=0).fit(table).inertia_
        assert inertia < 1.02 * expected
    again = k_means(tables[:1], 3, np.random.default_rng(0))
    np.testing.assert_array_equal(again, k_means(tables[:1], 3, np.random.default_rng(0)))


def test_share_together_and_ambiguity():
    together = co_assignment(np.array([[0, 0, 1], [2, 2, 2]]))
    np.testing.assert_array_equal(together, [[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]])
    assert ambiguity(together) == pytest.approx(2 / 3)
    assert ambiguity(np.eye(4)) == 0


def test_planted_groups_are_found_with_confidence(consensus):
    assert consensus["cluster"].values.tolist() == GROUP.tolist()
    assert float(consensus["p"]) <= 0.05
    assert consensus.sizes["run"] == 40
    sure = consensus["confidence"].values
    assert sure[:16].min() > 0.8
    assert consensus["margin"].values.argmin() == 16
    together = consensus["together"].values
    assert sure[0] == pytest.approx(together[0, 1:9].mean())
    nearest = max(together[16, :9].mean(), together[16, 9:14].mean())
    assert consensus["margin"].values[16] == pytest.approx(together[16, 14:16].mean() - nearest)
    np.testing.assert_array_equal(together, co_assignment(consensus["run_cluster"].values))


def test_both_choices_find_the_number_of_groups():
    random = np.random.default_rng(2)
    for choose in ("ambiguity", "silhouette"):
        right = 0
        for seed in range(6):
            found = _quick(_planted(random, 0.15), seed, choose=choose, nulls=9)
            right += found["cluster"].values.tolist() == GROUP.tolist()
        assert right >= 5


def test_the_null_keeps_the_covariance_and_loses_the_groups():
    values = _planted(np.random.default_rng(3), 0.1)
    turned = _turned(values - values.mean(axis=0), [0])
    np.testing.assert_allclose(turned.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(turned.T), np.cov(values.T), atol=1e-12)
    labels = cluster_cells(_table(turned), seed=0)["cluster"].values
    assert adjusted_rand_score(labels, GROUP) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("stretch", [0.0, 3.0])
def test_one_cloud_gives_uniform_p(stretch):
    random = np.random.default_rng(4)
    p = []
    for seed in range(60):
        drive = np.outer(random.normal(size=14), random.normal(size=10))
        values = stretch * drive + random.normal(size=(14, 10))
        p.append(float(_quick(values, seed, resamples=20, most=4)["p"]))
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.asarray(p) <= 0.05) <= 0.13


def test_a_gradient_is_not_called_groups():
    random = np.random.default_rng(5)
    p = [
        float(
            _quick(
                3 * np.outer(random.normal(size=14), random.normal(size=10))
                + random.normal(size=(14, 10)),
                seed,
            )["p"]
        )
        for seed in range(8)
    ]
    assert np.median(p) > 0.1


def test_few_or_equal_cells_are_one_group():
    for values in (
        np.ones((6, 3)),
        np.random.default_rng(6).random((3, 5)),
        np.full((6, 3), np.nan),
    ):
        found = _quick(values)
        assert (found["cluster"] == 1).all()
        assert np.isnan(found["p"])
        assert np.isnan(found["confidence"]).all()
    with pytest.raises(InputError, match=r"most: .*resamples: "):
        _quick(np.ones((6, 3)), most=1, resamples=1)


def test_seed_decides_and_silent_modes_do_not_matter():
    values = _planted(np.random.default_rng(7), 0.2)
    first = _quick(values, nulls=3)
    xr.testing.assert_identical(first, _quick(values, nulls=3))
    silent = np.hstack([values, np.full((17, 2), np.nan)])
    xr.testing.assert_identical(first, _quick(silent, nulls=3))


def test_agreement_is_that_of_sklearn_and_its_null():
    random = np.random.default_rng(8)
    cells = {"cell": np.arange(17)}
    one = xr.DataArray(GROUP, dims="cell", coords=cells)
    other = one.copy(data=np.where(np.arange(17) == 3, 2, GROUP))
    found = agreement_null(one, other)
    assert float(found["agreement"]) == pytest.approx(adjusted_rand_score(one, other))
    assert float(found["p"]) == pytest.approx(0.001)
    assert abs(float(found["null"].mean())) < 0.02
    assert float(found["low"]) < float(found["agreement"]) < float(found["high"]) <= 1
    p = []
    for seed in range(60):
        shuffled = one.copy(data=random.permutation(GROUP))
        p.append(float(agreement_null(one, shuffled, shuffles=99, draws=2, seed=seed)["p"]))
    assert np.mean(np.asarray(p) <= 0.05) <= 0.1
    assert np.mean(p) > 0.4


def test_copies_of_a_cell_do_not_make_groupings_agree():
    random = np.random.default_rng(9)
    cells = {"cell": np.arange(40)}
    one, other = (
        xr.DataArray(random.integers(1, 4, 40), dims="cell", coords=cells) for _ in range(2)
    )
    found = agreement_null(one, other, shuffles=9, draws=300)
    drawn = [random.integers(0, 40, 40) for _ in range(200)]
    naive = np.mean([adjusted_rand_score(one[each], other[each]) for each in drawn])
    middle = float(found["low"] + found["high"]) / 2
    assert abs(middle - float(found["agreement"])) < naive - float(found["agreement"])


def test_agreement_of_consensus_results(consensus):
    other = _quick(_planted(np.random.default_rng(10), 0.15), nulls=2)
    found = agreement_null(consensus, other)
    assert float(found["agreement"]) == cluster_agreement(consensus["cluster"], other["cluster"])
    assert found.sizes["run"] == 40
    assert float(found["run_low"]) <= float(found["run_agreement"].median())
    alone = consensus["cluster"] * 0 + 1
    assert np.isnan(agreement_null(alone, alone)["p"])
    with pytest.raises(InputError, match="fewer than two cells"):
        agreement_null(consensus["cluster"][:1], other["cluster"])


def test_figure_sorts_cells_and_parts_groups(consensus):
    drawing, axis = plt.subplots()
    assert draw_consensus(consensus, axis) is axis
    names = [label.get_text() for label in axis.get_xticklabels()]
    assert sorted(names) == sorted(consensus["cell"].values.tolist())
    shown = axis.images[-1].get_array()
    np.testing.assert_array_equal(shown, consensus["together"].sel(cell=names, other=names))
    assert [line.get_ydata()[0] for line in axis.lines[::2]] == [8.5, 13.5]
    assert axis.get_title(loc="left") == f"3 groups, p = {float(consensus['p']):.2g}"
    plt.close(drawing)
