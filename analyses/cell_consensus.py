"""Groups of cells that do not hang on the choice of modes: consensus over resampled modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.partitions import (
    ambiguity,
    by_size,
    co_assignment,
    k_means,
    linked_groups,
    standardised_table,
)
from retinacodec.errors import Problems
from retinacodec.nulls import p_value
from retinacodec.plotting import COLOURS, heat
from retinacodec.progress import track

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["consensus_clusters", "draw_consensus"]

Array = npt.NDArray[Any]

_FLOOR = 0.02
_STARTS = 5
_FEWEST = 4
_MOST_NAMES = 40


def consensus_clusters(
    correlation: xr.DataArray,
    *,
    most: int = 8,
    resamples: int = 100,
    nulls: int = 99,
    choose: Literal["ambiguity", "silhouette"] = "ambiguity",
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Group cells by the modes that they share, and say how sure each cell's group is.

    Parameters
    ----------
    correlation : xarray.DataArray (cell, mode)
        What `retinacodec.analyses.mode_cell_correlation` returns; NaN counts as 0.
    most : int, default 8
        Largest number of groups tried.
    resamples : int, default 100
        Runs for each number of groups, each with modes drawn anew, with replacement, and its own
        starts of k-means.
    nulls : int, default 99
        Tables without groups that are treated alike.
    choose : {"ambiguity", "silhouette"}, default "ambiguity"
        Take the number of groups about which the runs agree best, beside tables without groups;
        or that with the largest mean silhouette.
    seed : int, default 0
        Seed of runs and nulls.
    progress : bool, default True
        Show how far the nulls have come.

    Returns
    -------
    xarray.Dataset
        ``cluster`` (cell), numbered from 1 by falling size; ``confidence`` (cell), mean share of
        runs in which it is with the other cells of its group, 0 to 1 (of a cell alone: without
        those of the nearest other group), and ``margin`` (cell), that less the same for the
        nearest other group. ``together`` (cell, other), share of runs that put two cells into one
        group. Over ``groups``, the numbers tried: ``ambiguity``, ``gain`` and ``silhouette``.
        ``p``, the share of tables without groups that gain as much. ``run_cluster`` (run, cell),
        the groups of each run. With fewer than four cells, or cells that do not differ, one
        group, and NaN.

    Raises
    ------
    InputError
        If a number is out of range.

    Notes
    -----
    k-means on modes standardised over cells (5 starts), then average linkage of
    ``1 - together``. The ambiguity is ``mean 4 s (1 - s)`` over pairs with share s. In the null
    the table is turned by a random rotation among the cells, which keeps the mean and the
    covariance of the modes exactly but none of their groups: one Gaussian cloud of the same
    shape, stretched along whatever the cells differ in by degrees.
    ``gain = mean_null log(ambiguity + 0.02) - log(ambiguity + 0.02)``, the mean with the data;
    p is of the largest gain over all numbers of groups. For cells of one Gaussian cloud p is
    uniform; cells spread evenly along a line, which is not one, are called groups somewhat too
    often.

    References
    ----------
    .. [1] Monti et al., Machine Learning 52, 91 (2003), consensus clustering; John et al., Sci
       Rep 10, 1816 (2020), its null; Langsrud, Stat Comput 15, 53 (2005), rotation tests;
       Melander et al., ICLR 2026, Figure 8C, the groups.
    """
    problems = Problems()
    for name, value, least in (("most", most, 2), ("resamples", resamples, 2), ("nulls", nulls, 1)):
        problems.require(value >= least, f"{name}: expected at least {least}, got {value}")
    known = ("ambiguity", "silhouette")
    problems.require(choose in known, f"choose: expected one of {known}, got {choose!r}")
    problems.raise_as("consensus_clusters")
    table = standardised_table(correlation)
    different = len(np.unique(table.round(12), axis=0)) if table.size else 1
    tried = list(range(2, min(most, different - 1) + 1)) if len(table) >= _FEWEST else []
    attrs = {"kind": "consensus of groups", "resamples": resamples, "nulls": nulls, "seed": seed}
    cells = correlation["cell"].values
    if not tried:
        return _one_group(cells, attrs)
    found = _Consensus.of(table, tried, resamples, seed)
    null = np.stack(
        [
            _Consensus.of(_turned(table, [seed, 1, number]), tried, resamples, seed).ambiguity
            for number in track(range(nulls), "tables without groups", enabled=progress)
        ]
    )
    silhouette = _silhouettes(table, found.labels)
    data = found.described(null, silhouette, by_silhouette=choose == "silhouette")
    coords = {"cell": cells, "other": cells, "groups": tried}
    return xr.Dataset(data, coords=coords, attrs=attrs | {"choose": choose})


def draw_consensus(consensus: xr.Dataset, ax: Axes) -> Axes:
    """Draw how often two cells are in one group, cells sorted by group and confidence.

    Parameters
    ----------
    consensus : xarray.Dataset
        What `consensus_clusters` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; lines part the groups, the title says how many there are and how likely so
        clear ones are by chance. Its image is ``ax.images[-1]``.
    """
    cluster = consensus["cluster"].values
    order = np.lexsort((-np.nan_to_num(consensus["confidence"].values), cluster))
    together = consensus["together"].transpose("cell", "other").values
    heat(ax, together[np.ix_(order, order)], limits=(0.0, 1.0))
    for edge in np.flatnonzero(np.diff(cluster[order])) + 0.5:
        ax.axhline(edge, color=COLOURS.highlight, linewidth=0.6)
        ax.axvline(edge, color=COLOURS.highlight, linewidth=0.6)
    names = consensus["cell"].values[order].astype(str).tolist()
    if len(names) <= _MOST_NAMES:
        ax.set_xticks(np.arange(len(names)), labels=names, rotation=90)
        ax.set_yticks(np.arange(len(names)), labels=names)
    number, p = int(cluster.max()), float(consensus["p"])
    said = f", p = {p:.2g}" if np.isfinite(p) else ""
    ax.set_title(f"{number} group{'s' if number > 1 else ''}{said}", loc="left")
    ax.set(xlabel="Cell", ylabel="Cell", aspect="equal")
    return ax


@dataclass(frozen=True)
class _Consensus:
    """For each number of groups: ambiguity, share together, groups of the consensus and runs."""

    ambiguity: Array
    together: list[Array]
    labels: list[Array]
    runs: list[Array]

    @classmethod
    def of(cls, table: Array, tried: Sequence[int], resamples: int, seed: int) -> _Consensus:
        generator = np.random.default_rng([seed, 0])
        modes = table.shape[1]
        runs = []
        for groups in tried:
            often = generator.multinomial(modes, np.full(modes, 1 / modes), size=resamples)
            points = table * np.sqrt(often)[:, None]
            runs.append(k_means(points, groups, generator, _STARTS))
        together = [co_assignment(each) for each in runs]
        labels = [linked_groups(s, k) for s, k in zip(together, tried, strict=True)]
        return cls(np.array([ambiguity(s) for s in together]), together, labels, runs)

    def described(self, null: Array, silhouette: Array, *, by_silhouette: bool) -> dict[str, Any]:
        """Return the variables, given the ambiguity (null, groups) of tables without groups."""
        logs = np.log(np.vstack([self.ambiguity, null]) + _FLOOR)
        gain = logs.mean(axis=0) - logs
        p = p_value(gain[0].max(), gain[1:].max(axis=1))
        best = int(np.argmax(silhouette if by_silhouette else gain[0]))
        cluster = by_size(self.labels[best])
        confidence, margin = _confidence(self.together[best], cluster)
        said = {"units": "1"}
        return {
            "cluster": ("cell", cluster, said | {"long_name": "group of cells"}),
            "confidence": ("cell", confidence, said),
            "margin": ("cell", margin, said),
            "together": (("cell", "other"), self.together[best], said),
            "ambiguity": ("groups", self.ambiguity, said),
            "ambiguity_null": (("null", "groups"), null, said),
            "gain": ("groups", gain[0], said),
            "silhouette": ("groups", silhouette, said),
            "p": ((), p, said),
            "run_cluster": (("run", "cell"), self.runs[best] + 1),
        }


def _turned(table: Array, seed: list[int]) -> Array:
    """Return the table turned among the cells: the same mean and covariance of the modes."""
    from scipy.stats import ortho_group

    cells = len(table)
    basis = np.linalg.svd(np.eye(cells) - 1 / cells)[0][:, : cells - 1]
    turn = ortho_group.rvs(cells - 1, random_state=np.random.default_rng(seed))
    return np.asarray(basis @ (turn @ (basis.T @ table)))


def _silhouettes(table: Array, labels: Sequence[Array]) -> Array:
    """Return the mean silhouette of each grouping, -1 for one group or only single cells."""
    from sklearn.metrics import silhouette_score

    counts = [len(np.unique(each)) for each in labels]
    return np.array(
        [
            silhouette_score(table, each) if 1 < count < len(table) else -1.0
            for each, count in zip(labels, counts, strict=True)
        ]
    )


def _confidence(together: Array, cluster: Array) -> tuple[Array, Array]:
    """Return how surely each cell is in its group, and that less the nearest other group."""
    numbers = np.unique(cluster)
    alone = together * (1 - np.eye(len(together)))
    member = cluster[:, None] == numbers
    count = member.sum(axis=0) - member
    mean = np.where(count > 0, alone @ member / np.maximum(count, 1), np.nan)
    own = mean[member]
    other = np.where(member, -np.inf, mean).max(axis=1)
    single = np.isnan(own)
    own = np.where(single, 1 - other, own)
    return own, own - other


def _one_group(cells: Array, attrs: dict[str, Any]) -> xr.Dataset:
    """Return what is said of cells that cannot be grouped."""
    nothing = np.full(len(cells), np.nan)
    none = ("groups", np.zeros(0))
    return xr.Dataset(
        {
            "cluster": ("cell", np.ones(len(cells), dtype=np.int64)),
            "confidence": ("cell", nothing),
            "margin": ("cell", nothing),
            "together": (("cell", "other"), np.ones((len(cells), len(cells)))),
            "ambiguity": none,
            "ambiguity_null": (("null", "groups"), np.zeros((0, 0))),
            "gain": none,
            "silhouette": none,
            "p": ((), np.nan),
            "run_cluster": (("run", "cell"), np.ones((0, len(cells)), dtype=np.int64)),
        },
        coords={"cell": cells, "other": cells, "groups": np.zeros(0, dtype=np.int64)},
        attrs=attrs,
    )
