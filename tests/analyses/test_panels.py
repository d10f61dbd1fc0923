"""The panels show the moments that they promise."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses.panels import active_modes, choose_combinations, choose_events
from retinacodec.errors import InputError

FRAME_RATE = 50.0


def series(values: np.ndarray, *, gap_after: int | None = None) -> xr.DataArray:
    time = np.arange(len(values)) / FRAME_RATE
    if gap_after is not None:
        time[gap_after + 1 :] += 100.0
    dims = ("time", "mode")[: values.ndim]
    coords: dict[str, object] = {"time": time}
    if values.ndim == 2:
        coords["mode"] = [10 * (number + 1) for number in range(values.shape[1])]
    return xr.DataArray(values, dims=dims, coords=coords)


def bumps(length: int, peaks: dict[int, float]) -> np.ndarray:
    trace = np.zeros(length)
    for frame, height in peaks.items():
        trace[frame - 2 : frame + 3] += height * np.array([0.3, 0.7, 1.0, 0.7, 0.3])
    return trace


def test_two_events_of_one_rate_and_different_modes() -> None:
    # Frames 100 and 160 fire alike with modes 10 and 30; 130 fires alike, but with both.
    rate = bumps(400, {100: 40.0, 130: 41.0, 160: 42.0, 300: 80.0})
    loading = np.stack(
        [
            bumps(400, {100: 1.0, 130: 1.0}),
            bumps(400, {300: 1.0}),
            bumps(400, {131: 2.0, 161: 2.0, 300: 2.0}),
        ],
        axis=1,
    )
    events = choose_events(series(rate), series(loading), seconds=2.5)
    assert events["frame"].values.tolist() == [100, 160]
    assert events["mode"].values.tolist() == [10, 30]
    np.testing.assert_allclose(events["time"], [2.0, 3.2])
    np.testing.assert_allclose(events["rate"], [40.0, 42.0])
    np.testing.assert_allclose(events["strength"], np.eye(2), atol=1e-12)
    assert float(events["start"]) == pytest.approx(2.6 - 1.25)
    assert float(events["stop"]) == pytest.approx(2.6 + 1.25)


def test_similar_rates_go_before_stronger_modes() -> None:
    rate = bumps(300, {50: 100.0, 90: 50.0, 130: 52.0})
    loading = np.stack([bumps(300, {50: 1.0, 90: 0.5}), bumps(300, {130: 1.0})], axis=1)
    assert choose_events(series(rate), series(loading))["frame"].values.tolist() == [90, 130]


def test_no_pair_across_a_gap_or_with_the_same_modes() -> None:
    rate = bumps(200, {50: 40.0, 90: 40.0})
    loading = np.stack([bumps(200, {50: 1.0}), bumps(200, {90: 1.0})], axis=1)
    assert choose_events(series(rate), series(loading))["frame"].values.tolist() == [50, 90]
    with pytest.raises(InputError, match="no two events"):
        choose_events(series(rate, gap_after=70), series(loading, gap_after=70))
    both = np.repeat(bumps(200, {50: 1.0, 90: 1.0})[:, None], 2, axis=1)
    with pytest.raises(InputError, match="no two events"):
        choose_events(series(rate), series(both))


def test_active_is_relative_to_the_modes_own_strength() -> None:
    loading = series(np.array([[100.0, 0.0], [9.0, 1.0], [11.0, 0.05], [0.0, 0.2]]))
    # The 99th percentile of the loadings above 0 is 98.2 for the first and 0.98 for the second.
    expected = [[True, False], [False, True], [True, False], [False, True]]
    assert active_modes(loading).values.tolist() == expected


def combination_data() -> tuple[xr.DataArray, xr.DataArray]:
    """Return 300 frames of 3 cells; mode 20 is active alone at 0-49 and in company later."""
    loading = np.zeros((300, 3))
    loading[:150, 1] = 1.0
    loading[50:100, 0] = 1.0
    loading[100:150, [0, 2]] = 1.0
    loading[150:200, 2] = 1.0
    rate = np.full((300, 3), 0.5)
    rate[:200, 0] = 30.0
    rate[:75, 1] = 20.0
    rate[20], rate[120, 0], rate[60, 1] = 40.0, 50.0, 25.0
    rate[160:170, 2] = 10.0
    cells = xr.DataArray(
        rate,
        dims=("time", "cell"),
        coords={"time": np.arange(300) / FRAME_RATE, "cell": ["a", "b", "c"]},
    )
    return cells, series(loading)


def test_combinations_share_the_mode_that_is_alone_for_most_cells() -> None:
    rate, loading = combination_data()
    chosen = choose_combinations(rate, loading, cells=2, count=3)
    assert chosen.attrs["mode"] == 20
    assert chosen["cell"].values.tolist() == ["a", "b"]
    assert chosen["label"].values.tolist() == [
        ["20", "10+20+30", "10+20", ""],
        ["20", "10+20", "", ""],
    ]
    assert chosen["frame"].values[:, 0].tolist() == [20, 20], "the fastest frame"
    assert chosen["frame"].values[:, 1].tolist() == [120, 60]
    np.testing.assert_array_equal(chosen["frame"].values < 0, np.isnan(chosen["rate"].values))
    assert chosen["rate"].values[:, :2].tolist() == [[40.0, 50.0], [40.0, 25.0]]
    with pytest.raises(InputError, match="alone while a cell fires"):
        choose_combinations(rate * 0 + 50.0, loading)


def test_cells_that_fire_little_count_above_the_middle_of_their_range() -> None:
    rate, loading = combination_data()
    low = choose_combinations(rate * 1e-3, loading, cells=2, count=3)
    assert low["frame"].equals(choose_combinations(rate, loading, cells=2, count=3)["frame"])


def test_large_combinations_are_left_out() -> None:
    rate, loading = combination_data()
    chosen = choose_combinations(rate, loading, cells=1, count=3, most_modes=2)
    assert chosen["label"].values.tolist() == [["20", "10+20", "", ""]]


def test_loadings_with_signs_count_by_their_size():
    values = np.random.default_rng(0).standard_normal((200, 3))
    loading = xr.DataArray(values, dims=("time", "mode"))
    active = active_modes(loading, share=0.5)
    np.testing.assert_array_equal(active, active_modes(-loading, share=0.5))
    np.testing.assert_array_equal(active, active_modes(abs(loading), share=0.5))
    assert active.values[values < 0].any()
    values[7, 1] = np.nan
    with pytest.raises(InputError, match="1 times have NaN loadings"):
        active_modes(loading)


def test_sets_of_modes_are_those_of_a_movie():
    images = xr.DataArray(np.ones((4, 2)), dims=("image", "mode"))
    with pytest.raises(InputError, match=r"expected loadings \(time, mode\), got \('image'"):
        active_modes(images)
