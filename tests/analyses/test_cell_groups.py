"""Groups of cells: planted ones are found, numbers are stable, constants are no groups."""

from __future__ import annotations

import numpy as np
import xarray as xr

from retinacodec.analyses.cell_groups import (
    cluster_agreement,
    cluster_cells,
    match_clusters,
    mode_cell_correlation,
)


def planted(sizes: tuple[int, ...] = (6, 4, 3)) -> tuple[xr.DataArray, np.ndarray]:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(len(sizes)), sizes)
    profile = random.random((len(sizes), 12))
    table = profile[group] + 0.03 * random.normal(size=(len(group), 12))
    mixed = random.permutation(len(group))
    cells = [f"c{number}" for number in range(len(group))]
    return (
        xr.DataArray(table[mixed], dims=("cell", "mode"), coords={"cell": cells}),
        group[mixed] + 1,
    )


def test_planted_groups_are_found_and_numbered_by_size() -> None:
    table, truth = planted()
    found = cluster_cells(table, seed=3)
    assert found["cluster"].values.tolist() == truth.tolist()
    assert int(found["groups"][int(found["silhouette"].argmax())]) == 3
    assert float(found["silhouette"].max()) > 0.8
    assert found.identical(cluster_cells(table, seed=3))


def test_cells_that_do_not_differ_are_one_group() -> None:
    same = xr.DataArray(np.ones((6, 3)), dims=("cell", "mode"), coords={"cell": list("abcdef")})
    for table in (same, same[:3], same * np.nan):
        found = cluster_cells(table)
        assert found["cluster"].values.tolist() == [1] * table.sizes["cell"]
        assert found["silhouette"].size == 0


def test_correlation_uses_shared_times_and_flags_constants() -> None:
    time = np.arange(50.0)
    wave = np.sin(time)
    rate = xr.DataArray(
        np.stack([wave, -wave, np.ones(50)], axis=1),
        dims=("time", "cell"),
        coords={"time": time, "cell": ["a", "b", "dead"]},
    )
    loading = xr.DataArray(
        np.stack([3 * wave + 5, np.cos(3.7 * time)], axis=1)[10:40],
        dims=("time", "mode"),
        coords={"time": time[10:40], "mode": [0, 1]},
    )
    found = mode_cell_correlation(rate, loading)
    np.testing.assert_allclose(found.sel(mode=0).values[:2], [1, -1], atol=1e-12)
    expected = np.corrcoef(wave[10:40], np.cos(3.7 * time[10:40]))[0, 1]
    np.testing.assert_allclose(found.sel(mode=1).values[:2], [expected, -expected], atol=1e-12)
    assert np.isnan(found.sel(cell="dead")).all()


def test_agreement_and_matching_numbers() -> None:
    cells = {"cell": list("abcdef")}
    one = xr.DataArray([1, 1, 1, 2, 2, 3], dims="cell", coords=cells)
    renamed = xr.DataArray([2, 2, 2, 3, 3, 1], dims="cell", coords=cells)
    assert cluster_agreement(one, renamed) == 1.0
    assert match_clusters(renamed, one).values.tolist() == one.values.tolist()
    finer = xr.DataArray([4, 4, 1, 3, 3, 2], dims="cell", coords=cells)
    assert match_clusters(finer, one).values.tolist() == [1, 1, 4, 2, 2, 3]
    assert cluster_agreement(finer, one) < 1.0
