"""Groups of cells that share modes: correlations of loadings with rates, and their clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.metrics import pearson
from retinacodec.nulls import p_value, permutations

__all__ = [
    "cluster_agreement",
    "cluster_cells",
    "match_clusters",
    "mode_cell_correlation",
    "silhouette_null",
]

Array = npt.NDArray[Any]


def mode_cell_correlation(rate: xr.DataArray, loading: xr.DataArray) -> xr.DataArray:
    """Return how each mode's loading goes along with each cell's rate.

    Parameters
    ----------
    rate : xarray.DataArray (time, cell)
        Rates, Hz.
    loading : xarray.DataArray (time, mode)
        Loadings; only times that both have are used.

    Returns
    -------
    xarray.DataArray (cell, mode)
        Pearson correlation over time; NaN where a rate or a loading is constant.
    """
    rate, loading = xr.align(rate, loading, join="inner")
    loads = loading.transpose("time", "mode").values
    values = np.stack([pearson(r[:, None], loads) for r in rate.transpose("cell", "time").values])
    return xr.DataArray(
        values,
        dims=("cell", "mode"),
        coords={"cell": rate["cell"], "mode": loading["mode"]},
        name="correlation",
        attrs={"units": "1", "long_name": "correlation of loading and rate"},
    )


def cluster_cells(correlation: xr.DataArray, *, most: int = 8, seed: int = 0) -> xr.Dataset:
    """Group cells by the modes that they share.

    Parameters
    ----------
    correlation : xarray.DataArray (cell, mode)
        What `mode_cell_correlation` returns.
    most : int, default 8
        Largest number of groups tried.
    seed : int, default 0
        Seed of k-means.

    Returns
    -------
    xarray.Dataset
        ``cluster`` (cell), numbered from 1 by falling size, and ``silhouette`` (groups), the mean
        silhouette of each number of groups tried. One group, and no silhouette, where there are
        fewer than four cells or the cells do not differ.

    Notes
    -----
    k-means on the columns standardised over cells; the number of groups has the largest mean
    silhouette.

    References
    ----------
    .. [1] Rousseeuw, J Comput Appl Math 20, 53 (1987); Melander et al., ICLR 2026, Figure 8C.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    table = np.nan_to_num(correlation.transpose("cell", "mode").values.astype(np.float64))
    spread = table.std(axis=0)
    table = (table - table.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    different = len(np.unique(table, axis=0)) if table.size else 1
    tried = range(2, min(most, different - 1) + 1) if len(table) >= 4 else range(0)
    labels = {
        count: KMeans(count, n_init=10, random_state=seed).fit_predict(table) for count in tried
    }
    scores = [float(silhouette_score(table, labels[count])) for count in tried]
    best = labels[tried[int(np.argmax(scores))]] if scores else np.zeros(len(table), dtype=int)
    return xr.Dataset(
        {
            "cluster": ("cell", _by_size(best), {"units": "1", "long_name": "group of cells"}),
            "silhouette": ("groups", np.asarray(scores, dtype=np.float64), {"units": "1"}),
        },
        coords={"cell": correlation["cell"], "groups": np.asarray(tried, dtype=np.int64)},
    )


def _by_size(labels: Array) -> Array:
    """Number groups from 1 by falling size."""
    names, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = sorted(range(len(names)), key=lambda index: (-sizes[index], first[index]))
    rank = {int(names[index]): place + 1 for place, index in enumerate(order)}
    return np.asarray([rank[int(label)] for label in labels], dtype=np.int64)


def silhouette_null(
    correlation: xr.DataArray, *, shuffles: int = 50, most: int = 8, seed: int = 0
) -> xr.Dataset:
    """Ask whether cells form groups at all, against cells whose modes are shuffled.

    Parameters
    ----------
    correlation : xarray.DataArray (cell, mode)
        What `mode_cell_correlation` returns.
    shuffles : int, default 50
        Samples of the null.
    most, seed
        As in `cluster_cells`; the seed is also that of the null.

    Returns
    -------
    xarray.Dataset
        ``silhouette``, the largest mean silhouette over the numbers of groups, ``null``
        (shuffle), the same where each mode's correlations are dealt out anew to the cells, and
        ``p``, the share of the null that reaches it, ``(1 + #) / (1 + shuffles)``. NaN where
        there are no groups to try.
    """

    def best(table: xr.DataArray) -> float:
        scores = cluster_cells(table, most=most, seed=seed)["silhouette"].values
        return float(scores.max()) if scores.size else np.nan

    table = correlation.transpose("cell", "mode")
    found = best(table)
    dealt = permutations(table.values, shuffles, seed=seed, together=False)
    null = np.asarray([best(table.copy(data=values)) for values in dealt])
    return xr.Dataset(
        {
            "silhouette": ((), found),
            "null": ("shuffle", null),
            "p": ((), p_value(found, null)),
        },
        attrs={"seed": seed},
    )


def cluster_agreement(one: xr.DataArray, other: xr.DataArray) -> float:
    """Return how well two groupings of the same cells agree.

    Parameters
    ----------
    one, other : xarray.DataArray (cell,)
        Group of each cell.

    Returns
    -------
    float
        Adjusted Rand index: 1 for the same groups, about 0 for unrelated ones.
    """
    from sklearn.metrics import adjusted_rand_score

    one, other = xr.align(one, other, join="inner")
    return float(adjusted_rand_score(one.values, other.values))


def match_clusters(cluster: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """Number groups so that as many cells as possible keep their number of another grouping.

    Parameters
    ----------
    cluster, reference : xarray.DataArray (cell,)
        Group of each cell, numbered from 1.

    Returns
    -------
    xarray.DataArray (cell,)
        The same groups as `cluster`; groups without a partner get the numbers that are left.
    """
    from scipy.optimize import linear_sum_assignment

    old = np.unique(cluster.values)
    new = np.arange(1, max(len(old), int(reference.max())) + 1)
    shared = (cluster.values == old[:, None])[:, None] & (reference.values == new[:, None])[None]
    rows, columns = linear_sum_assignment(shared.sum(axis=2), maximize=True)
    number = dict(zip(old[rows].tolist(), new[columns].tolist(), strict=True))
    return cluster.copy(data=np.asarray([number[int(value)] for value in cluster.values]))
