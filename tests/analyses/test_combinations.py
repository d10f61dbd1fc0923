"""Sets of modes: counts, the null of independent modes, chosen frames, telling modes."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import (
    combination_frames,
    combination_table,
    lone_frames,
    mode_sets,
    silhouette_null,
    telling_modes,
)
from retinacodec.errors import InputError


def _loading(values, **coords):
    values = np.asarray(values, float)
    coords = {"time": np.arange(len(values)) / 100, "mode": np.arange(values.shape[1])} | coords
    return xr.DataArray(values, dims=("time", "mode"), coords=coords)


def _boxcars(random, frames, modes, rate=0.15, length=6):
    """Independent modes that are on for several frames at a time."""
    start = random.random((frames, modes)) < rate / length
    return np.apply_along_axis(lambda c: np.convolve(c, np.ones(length))[:frames] > 0, 0, start)


def test_counts_and_expectation_are_exact():
    on = np.array([[1, 1, 0]] * 30 + [[1, 0, 0]] * 10 + [[0, 0, 1]] * 20 + [[0, 0, 0]] * 40)
    table = combination_table(_loading(on, mode=[4, 7, 9]), shifts=50)
    assert table["set"].values.tolist() == ["4+7", "9", "4"]
    assert table["frames"].values.tolist() == [30, 20, 10]
    assert table["size"].values.tolist() == [2, 1, 1]
    p = np.array([0.4, 0.3, 0.2])
    expected = 100 * np.array([p[0] * p[1] * 0.8, 0.6 * 0.7 * p[2], p[0] * 0.7 * 0.8])
    np.testing.assert_allclose(table["expected"], expected)
    assert table["active"].values.tolist() == [40, 30, 30, 0]
    assert int(table["distinct"]) == 3


def test_null_mean_is_the_expectation_and_keeps_the_time_in_each_mode():
    random = np.random.default_rng(0)
    table = combination_table(_loading(_boxcars(random, 2000, 4)), shifts=400, most=8)
    ratio = table["null_mean"] / table["expected"]
    np.testing.assert_allclose(ratio, 1, atol=0.1)
    count = table["count"].values
    assert float((table["active_null"] * count).sum()) == pytest.approx(
        float((table["active"] * count).sum())
    )


def test_independent_modes_are_called_so_at_the_nominal_rate():
    random = np.random.default_rng(1)
    called, tested = 0, 0
    for seed in range(40):
        on = _boxcars(random, 800, 3)
        table = combination_table(_loading(on), shifts=99, most=8, seed=seed)
        pair = table.sel(set="0+1")["p_more"] if "0+1" in table["set"] else None
        if pair is not None:
            called, tested = called + int(pair <= 0.1), tested + 1
    assert tested > 30
    assert 0 <= called / tested < 0.25


def test_modes_that_go_together_are_found():
    random = np.random.default_rng(2)
    on = _boxcars(random, 3000, 4).astype(float)
    on[:, 1] = on[:, 0]
    table = combination_table(_loading(on), shifts=99)
    assert float(table.sel(set="0+1")["p_more"]) == 0.01
    assert float(table.sel(set="0+1")["frames"]) > 3 * float(table.sel(set="0+1")["expected"])
    assert int(table["distinct"]) < table["distinct_null"].min()


def test_seed_decides_the_null_and_nothing_active_is_refused():
    loading = _loading(_boxcars(np.random.default_rng(3), 500, 3))
    one, two = (combination_table(loading, shifts=10, seed=5) for _ in range(2))
    xr.testing.assert_identical(one, two)
    with pytest.raises(InputError, match="no mode is ever active"):
        combination_table(0 * loading)


def test_lone_frames_agree_with_the_names_of_the_sets():
    loading = _loading(_boxcars(np.random.default_rng(4), 500, 5) * 2.0)
    alone = lone_frames(loading)
    names = mode_sets(loading).values
    for mode in loading["mode"].values:
        np.testing.assert_array_equal(alone.sel(mode=mode), names == str(mode))


def test_frames_of_a_combination_are_strong_firing_and_far_apart():
    on = np.zeros((200, 2))
    on[10:30, 0] = 1
    on[100:120, 0] = 1
    on[150:190] = 1
    on[15, 0] = 5
    rate = np.full((200, 2), 5.0)
    rate[:, 1] = 0.5
    rate[118, 1] = 2.0
    loading = _loading(on)
    cells = xr.DataArray(
        rate, dims=("time", "cell"), coords={"time": loading["time"], "cell": ["a", "b"]}
    )
    found = combination_frames(cells, loading, most_frames=3)
    assert found["set"].values.tolist() == ["0", "0+1"]
    assert found["occurrence"].values.tolist() == [40, 40]
    assert found["frame"].sel(set="0", cell="a").values.tolist() == [15, 119, 67 + 33]
    assert found["frame"].sel(set="0", cell="b").values.tolist() == [118, -1, -1]
    assert found["frames"].values.tolist() == [[40, 1], [40, 0]]
    time = found["time"].sel(set="0", cell="b").values
    np.testing.assert_array_equal(time, [1.18, np.nan, np.nan])


def test_only_small_and_frequent_sets_are_taken():
    on = np.ones((100, 3))
    on[:60, 1:] = 0
    on[60:70, 2] = 0
    loading = _loading(on)
    cells = xr.DataArray(
        np.full((100, 1), 9.0),
        dims=("time", "cell"),
        coords={"time": loading["time"], "cell": ["a"]},
    )
    assert combination_frames(cells, loading, most_modes=2)["set"].values.tolist() == ["0", "0+1"]
    assert combination_frames(cells, loading, most_sets=1)["set"].values.tolist() == ["0"]
    with pytest.raises(InputError, match="no set of so few modes"):
        combination_frames(cells, 0 * loading)


def test_telling_modes_are_active_about_one_moment_only():
    on = np.zeros((100, 4))
    on[:, 0] = 1
    on[24:26, 1] = 1
    on[70:72, 2] = 1
    on[76, 3] = 1
    loading = _loading(on, mode=[2, 3, 5, 8])
    assert telling_modes(loading, 20, 70) == (3, 5)
    assert telling_modes(loading, 70, 20) == (5, 3)
    assert telling_modes(loading, 20, 77) == (3, 8)
    assert telling_modes(loading, 40, 50) == (None, None)
    assert telling_modes(loading, 20, 70, half_width=3) == (None, 5)


def test_groups_of_cells_stand_out_from_shuffled_ones_and_noise_does_not():
    random = np.random.default_rng(5)
    centre = np.repeat(random.standard_normal((3, 12)), 5, axis=0)
    grouped = xr.DataArray(
        centre + 0.2 * random.standard_normal(centre.shape), dims=("cell", "mode")
    )
    found = silhouette_null(grouped, shuffles=19, most=5)
    assert float(found["p"]) == 0.05
    assert float(found["silhouette"]) > float(found["null"].max()) + 0.2
    noise = xr.DataArray(random.standard_normal((15, 12)), dims=("cell", "mode"))
    assert float(silhouette_null(noise, shuffles=19, most=5)["p"]) > 0.05
