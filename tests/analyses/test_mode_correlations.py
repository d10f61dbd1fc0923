"""Modes beside events and classes: against numpy and scipy, nulls, coverage, specificity."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy import signal, stats

from retinacodec.analyses.class_correlations import mode_class_correlation
from retinacodec.analyses.mode_correlations import draw_mode_correlations, mode_event_correlation
from retinacodec.analyses.mode_coverage import (
    class_coverage,
    correlated_modes,
    draw_coverage,
    mode_class_stability,
    mode_coverage,
    specificity,
)
from retinacodec.errors import InputError


def _series(values, second, **coords):
    values = np.asarray(values, float)
    coords = {"time": np.arange(len(values)) / 100} | coords
    return xr.DataArray(values, dims=("time", second), coords=coords)


def _slow(random, frames, columns):
    kernel = np.ones(15) / 15
    return np.maximum(signal.lfilter(kernel, [1], random.normal(size=(frames, columns)), axis=0), 0)


@pytest.fixture(scope="module")
def images():
    """Loadings of 30 modes on 40 classes of 20 images; mode 3 likes class 7, mode 29 is silent."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(100, 140), 20))
    loading = random.gamma(1, size=(800, 30))
    loading[labels == 107, 3] += 2
    loading[:, 29] = 0.1
    return xr.DataArray(loading, dims=("image", "mode")), labels


def test_events_that_drive_a_mode_are_discovered_and_no_others():
    random = np.random.default_rng(1)
    loading = _slow(random, 4000, 12)
    events = _slow(random, 4000, 6) > 0.3
    loading[:, 4] += 0.5 * np.roll(events[:, 2], 5)
    loading[:, 7] *= 1 - events[:, 3]
    names = [f"e{number}" for number in range(6)]
    found = mode_event_correlation(
        _series(loading, "mode"), _series(events, "event", event=names), most_lag=10
    )
    pairs = np.argwhere(found["discovered"].values).tolist()
    assert pairs == [[4, 2], [7, 3]]
    assert int(found["lag"].sel(mode=4, event="e2")) == 5
    r = np.corrcoef(loading[:, 4], np.roll(events[:, 2], 5))[0, 1]
    assert float(found["correlation"].sel(mode=4, event="e2")) == pytest.approx(r)
    assert float(found["correlation"].sel(mode=7, event="e3")) < 0
    positive = mode_event_correlation(
        _series(loading, "mode"), _series(events, "event", event=names), two_sided=False
    )
    assert not positive["discovered"].sel(mode=7).any()
    q = stats.false_discovery_control(found["p"].values.ravel())
    np.testing.assert_allclose(found["q"].values.ravel(), q)


def test_events_of_a_stimulus_at_common_times():
    random = np.random.default_rng(2)
    speed, flash = random.normal(size=300), random.random(300) < 0.2
    time = np.arange(300) / 60
    movie = xr.Dataset(
        {
            "speed": ("time", speed, {"units": "um/s"}),
            "flash": ("time", flash),
            "contrast": (("time", "y"), np.zeros((300, 2))),
            "name": ("time", np.full(300, "a")),
        },
        {"time": time},
    )
    loading = xr.DataArray(
        np.stack([flash, speed], axis=1)[40:] * 1.0,
        dims=("time", "mode"),
        coords={"time": time[40:], "mode": [5, 8]},
    )
    found = mode_event_correlation(loading, movie)
    assert found["event"].values.tolist() == ["speed", "flash"]
    assert found.attrs["frames"] == 260
    np.testing.assert_allclose(
        found["correlation"],
        np.corrcoef(np.stack([flash, speed, speed, flash])[:, 40:].astype(float))[:2, 2:],
        atol=1e-12,
    )
    with pytest.raises(InputError, match="share no times"):
        mode_event_correlation(loading.assign_coords(time=loading["time"] + 50), movie)
    with pytest.raises(InputError, match="no variable over time"):
        mode_event_correlation(loading, movie[["contrast"]])


def test_silent_modes_and_constant_events_are_flagged():
    random = np.random.default_rng(3)
    loading, events = random.random((200, 3)), random.random((200, 2))
    loading[:, 1], events[:, 0] = 0.3, 1.0
    found = mode_event_correlation(_series(loading, "mode"), _series(events, "event"))
    assert found["silent"].values.tolist() == [False, True, False]
    assert found["constant"].values.tolist() == [True, False]
    undefined = np.array([[True, False], [True, True], [True, False]])
    for name in ("correlation", "p", "q", "z", "null_low"):
        np.testing.assert_array_equal(np.isnan(found[name]), undefined)
    assert not found["discovered"].values[undefined].any()
    loading[7, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        mode_event_correlation(_series(loading, "mode"), _series(events, "event"))


def test_class_correlations_are_those_of_numpy(images):
    loading, labels = images
    found = mode_class_correlation(loading, labels, permuted=0)
    assert found["class"].values.tolist() == list(range(100, 140))
    for mode in (0, 3, 17):
        for place, name in enumerate(range(100, 140)):
            r = np.corrcoef(loading[:, mode], labels == name)[0, 1]
            assert float(found["correlation"][mode, place]) == pytest.approx(r)
    assert found["silent"].values.tolist() == [False] * 29 + [True]
    assert np.isnan(found["correlation"][29]).all()
    assert np.isnan(found["p"]).all()
    assert found["top_class"].values[[3, 29]].tolist() == ["107", ""]


def test_the_class_a_mode_likes_is_discovered_and_the_rest_is_uniform(images):
    loading, labels = images
    found = mode_class_correlation(loading, labels)
    assert np.argwhere(found["discovered"].values).tolist() == [[3, 7]]
    samples = 40 * int(np.ceil(29 * 40 / 0.05 / 40))
    assert (found["null_samples"] == samples).all()
    assert float(found["p"][3, 7]) == pytest.approx(1 / (1 + samples))
    assert float(found["q_least"][0]) == pytest.approx(0.05, abs=1e-4)
    rest = np.delete(found["p"].values, [3, 29], axis=0).ravel()
    assert stats.kstest(rest, "uniform").statistic < 0.05
    one = stats.permutation_test(
        (loading.values[:, 5],),
        lambda z: -np.corrcoef(z, labels == 112)[0, 1],
        permutation_type="pairings",
        alternative="less",
        n_resamples=2000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert float(found["p"][5, 12]) == pytest.approx(one, abs=0.04)
    xr.testing.assert_identical(found, mode_class_correlation(loading, labels))
    few = mode_class_correlation(loading, labels, permuted=10)
    assert not few["discovered"].any()
    assert (few["q_least"] == 1).all()


def test_classes_of_other_sizes_and_overlaps_have_their_own_null(images):
    loading, labels = images
    groups = np.stack([labels < 120, labels == 107, labels >= 100, labels == 3], axis=1)
    names = ["half", "seven", "all", "none"]
    table = xr.DataArray(groups, dims=("image", "class"), coords={"class": names})
    found = mode_class_correlation(loading, table, permuted=60, two_sided=True)
    assert found["size"].values.tolist() == [400, 20, 800, 0]
    assert np.isnan(found["correlation"].sel({"class": ["all", "none"]})).all()
    r = np.corrcoef(loading[:, 3], groups[:, 0])[0, 1]
    assert float(found["correlation"].sel({"class": "half"})[3]) == pytest.approx(r)
    assert float(found["p"].sel({"class": "seven"})[3]) == pytest.approx(1 / 61)
    with pytest.raises(InputError, match="labels of 799 images for loadings of 800"):
        mode_class_correlation(loading, labels[:-1])
    with pytest.raises(InputError, match="True and False"):
        mode_class_correlation(loading, 2 * groups)


def test_coverage_by_rank(images):
    table = mode_class_correlation(*images, permuted=0)
    r = np.nan_to_num(table["correlation"].values)
    of_class, of_mode = class_coverage(table), mode_coverage(table["correlation"])
    np.testing.assert_allclose(of_class["coverage"], -np.sort(-r, axis=0).mean(axis=1))
    np.testing.assert_allclose(of_mode["coverage"], np.sort(r, axis=1)[:, ::-1].mean(axis=0))
    assert of_class.attrs["undefined"] == 40
    error = (-np.sort(-r, axis=0)).std(axis=1)[0] / np.sqrt(40)
    width = float(of_class["high"][0] - of_class["low"][0])
    assert width == pytest.approx(2 * 1.96 * error, rel=0.1)
    single = class_coverage(table["correlation"][:, :1])
    assert np.isnan(single["low"]).all()
    with pytest.raises(InputError, match=r"expected correlations \(mode, class\)"):
        class_coverage(table["correlation"].rename({"class": "image"}))


def test_specificity_of_known_rows():
    r = np.zeros((4, 8))
    r[0, 2] = 0.4
    r[1] = 0.1
    r[2, :4] = [0.4, 0.2, 0.1, -0.9]
    r[3] = np.nan
    found = specificity(xr.DataArray(r, dims=("mode", "class")))
    p = np.array([4, 2, 1]) / 7
    entropy = [1, 0, 1 + (p * np.log(p)).sum() / np.log(8), 0]
    np.testing.assert_allclose(found["entropy"], entropy, atol=1e-12)
    np.testing.assert_allclose(found["top1"], [1, 1 / 8, 4 / 7, 0])
    np.testing.assert_allclose(found["top5"], [1, 5 / 8, 1, 0])
    assert float(found["gini"][0]) == pytest.approx(7 / 8)
    assert found["silent"].values.tolist() == [False, False, False, True]


def test_counts_above_a_threshold(images):
    table = mode_class_correlation(*images, permuted=0)
    r = np.nan_to_num(table["correlation"].values)
    found = correlated_modes(table, 0.1)
    assert int(found["modes"]) == (r.max(1) > 0.1).sum()
    assert int(found["classes"]) == (r.max(0) > 0.1).sum()
    assert float(found["mode_share"]) == pytest.approx((r.max(1) > 0.1).mean())
    assert float(found["top_sem"]) == pytest.approx(stats.sem(r.max(1)))
    assert int(correlated_modes(table)["modes"]) == 1


def test_runs_that_find_the_same_are_stable_and_others_are_at_chance():
    random = np.random.default_rng(4)
    atoms = random.gamma(1, size=(30, 2, 10)) * (random.random((30, 2, 10)) < 0.3)
    r = np.where(np.eye(30, dtype=bool)[:, :20], 0.5, 0.05 * random.random((30, 20)))
    r[5, 5] = 0.15
    order = random.permutation(30)

    def run(atom, table):
        return (
            xr.DataArray(atom, dims=("mode", "sign", "channel")),
            xr.DataArray(table, dims=("mode", "class")),
        )

    runs = [run(atoms, r), run(atoms[order], r[order]), run(random.permutation(atoms), r)]
    found = mode_class_stability([one[0] for one in runs], [one[1] for one in runs])
    np.testing.assert_allclose(found["stability"].sel(run=1), 1)
    assert found["by_top"].sel(run=1).values.nonzero()[0].tolist() == [5]
    assert abs(float(found["chance"].sel(run=1))) < 0.05
    assert abs(float(found["mean"].sel(run=2))) < 0.3
    flat = atoms.reshape(30, -1)
    expected = np.corrcoef(flat[8], runs[2][0].values.reshape(30, -1)[8])[0, 1]
    assert float(found["stability"].sel(run=2)[8]) == pytest.approx(expected)
    low, high = (float(found[end].sel(run=2)) for end in ("low", "high"))
    assert low < float(found["mean"].sel(run=2)) < high
    with pytest.raises(InputError, match="two runs or more"):
        mode_class_stability([runs[0][0]], [runs[0][1]])
    with pytest.raises(InputError, match="run 1: other channels"):
        mode_class_stability([runs[0][0], runs[1][0][..., :-1]], [runs[0][1], runs[1][1]])


def test_figures(images):
    table = mode_class_correlation(*images)
    drawing, axis = plt.subplots()
    assert draw_mode_correlations(table, axis, most=10) is axis
    assert axis.images[-1].get_array().shape == (30, 10)
    assert len(axis.get_xticklabels()) == 10
    ((x, y),) = axis.collections[0].get_offsets()
    assert axis.get_xticklabels()[int(x)].get_text() == "107"
    assert axis.get_yticklabels()[int(y)].get_text() == "3"
    axis.clear()
    both = {
        "contributions": class_coverage(table),
        "shuffled": class_coverage(table["correlation"] * 0.5),
    }
    draw_coverage(both, axis, most=12)
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), both["contributions"]["coverage"][:12])
    plt.close(drawing)


def test_one_class_has_no_best_mode_and_a_bad_level_is_refused():
    loading = xr.DataArray(np.random.default_rng(0).random((20, 3)), dims=("image", "mode"))
    table = mode_class_correlation(loading, np.zeros(20, int))
    assert np.isnan(table["top_correlation"]).all()
    assert table["top_class"].values.tolist() == ["", "", ""]
    assert not table["silent"].any()
    with pytest.raises(InputError, match="level: expected between 0 and 1, got 0"):
        mode_class_correlation(loading, np.arange(20) % 2, level=0)
