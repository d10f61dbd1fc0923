"""Groups of cells that share modes: correlations of loadings with rates, and their clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.partitions import by_size, standardised_table
from retinacodec.bootstrap import draw_blocks, percentiles
from retinacodec.errors import InputError
from retinacodec.metrics import pearson
from retinacodec.nulls import p_value, permutation_p, permutations

__all__ = [
    "agreement_null",
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

    table = standardised_table(correlation)
    different = len(np.unique(table, axis=0)) if table.size else 1
    tried = range(2, min(most, different - 1) + 1) if len(table) >= 4 else range(0)
    labels = {
        count: KMeans(count, n_init=10, random_state=seed).fit_predict(table) for count in tried
    }
    scores = [float(silhouette_score(table, labels[count])) for count in tried]
    best = labels[tried[int(np.argmax(scores))]] if scores else np.zeros(len(table), dtype=int)
    return xr.Dataset(
        {
            "cluster": ("cell", by_size(best), {"units": "1", "long_name": "group of cells"}),
            "silhouette": ("groups", np.asarray(scores, dtype=np.float64), {"units": "1"}),
        },
        coords={"cell": correlation["cell"], "groups": np.asarray(tried, dtype=np.int64)},
    )


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


def agreement_null(
    one: xr.DataArray | xr.Dataset,
    other: xr.DataArray | xr.Dataset,
    *,
    shuffles: int = 999,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Ask whether two groupings of the same cells agree better than by chance, and how surely.

    Parameters
    ----------
    one, other : xarray.DataArray (cell,) or xarray.Dataset
        Group of each cell, or what `cluster_cells` or `consensus_clusters` returns.
    shuffles : int, default 999
        Samples of the null, in which the groups of the second are dealt out anew to the cells.
    draws : int, default 1000
        Resamples of the cells for the interval.
    level : float, default 0.95
        Coverage of the interval.
    seed : int, default 0
        Seed of null and resamples.

    Returns
    -------
    xarray.Dataset
        ``agreement``, the adjusted Rand index, with ``low`` and ``high``; ``null`` (shuffle) and
        ``p``. If both are results of `consensus_clusters`, also ``run_agreement`` (run), that of
        single runs with other modes drawn, and its ``run_low`` and ``run_high``. NaN, with p = NaN,
        where both have one group only, or one cell each.

    Raises
    ------
    InputError
        If they share fewer than two cells.

    Notes
    -----
    Over pairs of cells with weights w: ``(sum w s t - e) / ((sum w s + sum w t) / 2 - e)`` with s
    and t 1 where a grouping puts the pair together, and ``e = sum w s sum w t / sum w``. In a
    resample ``w = w_i w_j`` with the number of times each cell was drawn: pairs of a cell with
    its own copy do not count, so that resampling by itself does not make groupings agree.

    References
    ----------
    .. [1] Hubert and Arabie, J Classif 2, 193 (1985).
    """
    first, second = xr.align(_cluster(one), _cluster(other), join="inner")
    if first.size < 2:
        raise InputError("agreement_null: the groupings share fewer than two cells")
    labels = first.values, second.values
    test = permutation_p(_agreement, *labels, count=shuffles, seed=seed)
    often = draw_blocks(first.size, draws, seed).astype(np.float64)
    low, high = percentiles([_agreement(*labels, each) for each in often], level)
    data: dict[str, Any] = {
        "agreement": ((), test.value, {"units": "1", "long_name": "adjusted Rand index"}),
        "low": ((), low),
        "high": ((), high),
        "null": ("shuffle", test.null),
        "p": ((), test.p),
    }
    if all(isinstance(each, xr.Dataset) and "run_cluster" in each for each in (one, other)):
        pair = xr.align(one["run_cluster"], other["run_cluster"], join="inner", exclude=("run",))
        runs = zip(*(each.transpose("run", "cell").values for each in pair), strict=False)
        values = np.array([_agreement(a, b) for a, b in runs])
        ends = percentiles(values, level)
        data |= {"run_agreement": ("run", values), "run_low": ((), ends[0])}
        data["run_high"] = ((), ends[1])
    return xr.Dataset(data, attrs={"level": level, "draws": draws, "seed": seed})


def _cluster(groups: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return the group of each cell."""
    return groups["cluster"] if isinstance(groups, xr.Dataset) else groups


def _agreement(one: Array, other: Array, often: Array | None = None) -> float:
    """Return the adjusted Rand index of two groupings of cells that count so often."""
    rows, columns = np.triu_indices(len(one), 1)
    weight = np.ones(len(rows)) if often is None else often[rows] * often[columns]
    together = [(labels[rows] == labels[columns]).astype(np.float64) for labels in (one, other)]
    sums = [float(weight @ each) for each in together]
    chance = sums[0] * sums[1] / max(float(weight.sum()), 1.0)
    most = sum(sums) / 2 - chance
    both = float(weight @ (together[0] * together[1]))
    return (both - chance) / most if most > 1e-12 else np.nan


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
