"""How well modes cover classes, how specific they are, and whether other runs find the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.bootstrap import draw_blocks, percentiles
from retinacodec.errors import InputError, Problems
from retinacodec.plotting import COLOURS
from retinacodec.sparsity import entropy_specificity, gini, top_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "class_coverage",
    "correlated_modes",
    "draw_coverage",
    "mode_class_stability",
    "mode_coverage",
    "specificity",
]

Array = npt.NDArray[Any]

_DRAWS = 1000


def class_coverage(
    table: xr.Dataset | xr.DataArray, *, level: float = 0.95, seed: int = 0
) -> xr.Dataset:
    """Say how many modes serve a class: its correlations with all modes, sorted, mean of classes.

    Parameters
    ----------
    table : xarray.Dataset or xarray.DataArray (mode, class)
        What `retinacodec.analyses.mode_class_correlation` returns, or its correlations.
    level : float, default 0.95
        Coverage of the interval.
    seed : int, default 0
        Seed of the resamples of classes.

    Returns
    -------
    xarray.Dataset
        ``coverage``, ``low`` and ``high`` over ``rank``, 0 for each class's best mode: mean over
        classes, and its interval where classes are drawn anew 1000 times. NaN correlations (of
        modes that never vary) count as 0, as in the paper; attribute ``undefined`` says how many
        there were.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 5.

    Examples
    --------
    >>> r = xr.DataArray([[0.5, 0.1], [0.2, 0.3]], dims=("mode", "class"))
    >>> class_coverage(r)["coverage"].values.tolist()
    [0.4, 0.15000000000000002]
    """
    return _coverage(_correlation(table).transpose("class", "mode"), level, seed)


def mode_coverage(
    table: xr.Dataset | xr.DataArray, *, level: float = 0.95, seed: int = 0
) -> xr.Dataset:
    """Say how many classes a mode serves: its correlations with classes, sorted, mean of modes.

    Parameters
    ----------
    table, level, seed
        As in `class_coverage`; here modes are drawn anew.

    Returns
    -------
    xarray.Dataset
        ``coverage``, ``low`` and ``high`` over ``rank``, 0 for each mode's best class.
    """
    return _coverage(_correlation(table).transpose("mode", "class"), level, seed)


def specificity(table: xr.Dataset | xr.DataArray) -> xr.Dataset:
    """Say how specific each mode is for few classes.

    Parameters
    ----------
    table : xarray.Dataset or xarray.DataArray (mode, class)
        Correlations; those below 0 count as 0, NaN too.

    Returns
    -------
    xarray.Dataset
        Over ``mode``: ``entropy`` (`retinacodec.sparsity.entropy_specificity`), ``gini``, and
        ``top1`` and ``top5``, shares of the best and the five best classes (of all, where there
        are fewer): 0 to 1, and 0 for a mode with no correlation above 0, in particular one that
        is ``silent`` (mode), which never varies.
    """
    r = _correlation(table).transpose("mode", "class")
    rows = np.nan_to_num(r.values)
    values = {
        "entropy": entropy_specificity(rows),
        "gini": gini(rows),
        "top1": top_share(rows, 1),
        "top5": top_share(rows, min(5, rows.shape[1])),
    }
    data: dict[str, Any] = {name: ("mode", each, {"units": "1"}) for name, each in values.items()}
    data["silent"] = ("mode", np.isnan(r.values).all(axis=1))
    return xr.Dataset(data, coords={"mode": r["mode"].values})


def correlated_modes(table: xr.Dataset | xr.DataArray, threshold: float = 0.2) -> xr.Dataset:
    """Count the modes that go along with a class, and the classes that have such a mode.

    Parameters
    ----------
    table : xarray.Dataset or xarray.DataArray (mode, class)
        Correlations; NaN counts as 0.
    threshold : float, default 0.2
        A mode and a class go along above this correlation.

    Returns
    -------
    xarray.Dataset
        Numbers without dims: ``modes`` and ``mode_share`` (of all modes), ``classes`` and
        ``class_share``; ``top_median`` and ``top_sem``, median over modes of the largest
        correlation and the standard error of their mean.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 5C and D.

    Examples
    --------
    >>> r = xr.DataArray([[0.5, 0.1], [0.2, 0.3], [0.0, np.nan]], dims=("mode", "class"))
    >>> found = correlated_modes(r)
    >>> int(found["modes"]), int(found["classes"]), float(found["top_median"])
    (2, 2, 0.3)
    """
    rows = np.nan_to_num(_correlation(table).transpose("mode", "class").values)
    above = rows > threshold
    top = rows.max(axis=1)
    error = top.std(ddof=1) / np.sqrt(top.size) if top.size > 1 else np.nan
    values = {
        "modes": int(above.any(axis=1).sum()),
        "mode_share": float(above.any(axis=1).mean()),
        "classes": int(above.any(axis=0).sum()),
        "class_share": float(above.any(axis=0).mean()),
        "top_median": float(np.median(top)),
        "top_sem": float(error),
    }
    data: dict[str, Any] = {name: ((), each, {"units": "1"}) for name, each in values.items()}
    return xr.Dataset(data, attrs={"threshold": threshold})


def mode_class_stability(
    modes: Sequence[xr.Dataset | xr.DataArray],
    tables: Sequence[xr.Dataset | xr.DataArray],
    *,
    threshold: float = 0.2,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Ask whether other runs find the same channels for a class as the first run does.

    Parameters
    ----------
    modes : sequence of xarray.Dataset or xarray.DataArray (mode, sign, channel)
        Modes of two runs or more, or their atoms; the first is the one compared with.
    tables : sequence of xarray.Dataset or xarray.DataArray (mode, class)
        Correlations of each run's modes with the classes.
    threshold : float, default 0.2
        The atoms of all modes above this correlation with a class are summed for it; of the one
        best mode where there is none.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of the resamples of classes.

    Returns
    -------
    xarray.Dataset
        Over the other runs (run, from 1): ``stability`` (run, class), the correlation; ``mean``
        with ``low`` and ``high``, over classes; ``chance``, the mean correlation between
        different classes. ``by_top`` (run, class) is True where a class had no mode above the
        threshold in one of the two runs.

    Raises
    ------
    InputError
        If there are fewer than two runs, or they differ in channels or classes.

    Notes
    -----
    Pearson correlation, over the features (sign and channel), of the class's sum of atoms in
    both runs.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, supplement on the stability of autoencoders.
    """
    sums, weak, classes = _class_sums(modes, tables, threshold)
    unit = [_unit(one) for one in sums]
    every = np.stack([unit[0] @ other.T for other in unit[1:]])
    count = every.shape[-1]
    same = np.diagonal(every, axis1=1, axis2=2)
    other = np.where(np.eye(count, dtype=bool), np.nan, every).reshape(len(every), -1)
    low, high = _over(same.T, level, seed)
    return xr.Dataset(
        {
            "stability": (("run", "class"), same, {"units": "1"}),
            "mean": ("run", _nanmean(same), {"units": "1"}),
            "low": ("run", low, {"units": "1"}),
            "high": ("run", high, {"units": "1"}),
            "chance": ("run", _nanmean(other), {"units": "1"}),
            "by_top": (("run", "class"), np.stack([weak[0] | one for one in weak[1:]])),
        },
        coords={"run": np.arange(1, len(sums)), "class": classes},
        attrs={"threshold": threshold, "level": level, "seed": seed},
    )


def draw_coverage(
    coverage: xr.Dataset | Mapping[str, xr.Dataset], ax: Axes, *, of: str = "Mode", most: int = 50
) -> Axes:
    """Draw coverage by rank, a line with its interval for each result.

    Parameters
    ----------
    coverage : xarray.Dataset or mapping of str to xarray.Dataset
        What `class_coverage` or `mode_coverage` returns; several by name, such as one for
        contributions and one for activations.
    ax : matplotlib.axes.Axes
        Where to draw.
    of : str, default "Mode"
        What is ranked: ``"Mode"`` for `class_coverage`, ``"Class"`` for `mode_coverage`.
    most : int, default 50
        Number of ranks shown.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.
    """
    from matplotlib.ticker import MaxNLocator

    named = {"": coverage} if isinstance(coverage, xr.Dataset) else dict(coverage)
    for number, (name, table) in enumerate(named.items()):
        colour = COLOURS.series[number % len(COLOURS.series)]
        shown = table.isel(rank=slice(most))
        rank = shown["rank"].values
        ax.plot(rank, shown["coverage"], color=colour, label=name or None)
        ax.fill_between(rank, shown["low"], shown["high"], color=colour, alpha=0.2, linewidth=0)
    ax.set(xlabel=f"{of} rank", ylabel="Mean correlation")
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5, zorder=0)
    ax.margins(x=0.02)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if any(named):
        ax.legend(loc="upper right")
    return ax


def _correlation(table: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """Return correlations with the dims mode and class."""
    r = table["correlation"] if isinstance(table, xr.Dataset) else table
    if set(r.dims) != {"mode", "class"} or not r.size:
        raise InputError(f"coverage: expected correlations (mode, class), got {dict(r.sizes)}")
    return r


def _coverage(r: xr.DataArray, level: float, seed: int) -> xr.Dataset:
    """Return the mean over rows of each row's values by falling rank."""
    undefined = int(np.isnan(r.values).sum())
    ranked = -np.sort(-np.nan_to_num(r.values), axis=1)
    low, high = _over(ranked, level, seed)
    said = {"units": "1", "long_name": "mean correlation"}
    return xr.Dataset(
        {
            "coverage": ("rank", ranked.mean(axis=0), said),
            "low": ("rank", low, said),
            "high": ("rank", high, said),
        },
        coords={"rank": np.arange(ranked.shape[1])},
        attrs={"over": str(r.dims[0]), "undefined": undefined, "level": level, "seed": seed},
    )


def _over(rows: Array, level: float, seed: int) -> tuple[Array, Array]:
    """Return the interval of the mean over rows (row, column), NaN left out."""
    if len(rows) < 2:
        return np.full(rows.shape[1], np.nan), np.full(rows.shape[1], np.nan)
    often = draw_blocks(len(rows), _DRAWS, seed).astype(np.float64)
    known = np.isfinite(rows).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return percentiles((often @ np.nan_to_num(rows)) / (often @ known), level)


def _class_sums(
    modes: Sequence[xr.Dataset | xr.DataArray],
    tables: Sequence[xr.Dataset | xr.DataArray],
    threshold: float,
) -> tuple[list[Array], list[Array], Array]:
    """Return each run's sums of atoms (class, feature), which classes are weak, and the classes."""
    problems = Problems()
    problems.require(
        len(modes) == len(tables) >= 2,
        f"expected modes and correlations of two runs or more, got {len(modes)} and {len(tables)}",
    )
    problems.raise_as("mode_class_stability")
    sums: list[Array] = []
    weak: list[Array] = []
    classes = np.asarray(_correlation(tables[0])["class"].values)
    for number, (one, table) in enumerate(zip(modes, tables, strict=True)):
        atom = one["atom"] if isinstance(one, xr.Dataset) else one
        flat = atom.transpose("mode", ...).values.reshape(atom.sizes["mode"], -1)
        r = np.nan_to_num(_correlation(table).transpose("mode", "class").values)
        fits = len(r) == len(flat) and np.array_equal(_correlation(table)["class"], classes)
        problems.require(fits, f"run {number}: modes or classes are not those of its correlations")
        fits = not sums or flat.shape[1] == sums[0].shape[1]
        if not problems.require(fits, f"run {number}: other channels than those of run 0"):
            continue
        chosen = r > threshold
        weak.append(~chosen.any(axis=0))
        chosen[r.argmax(axis=0), np.arange(r.shape[1])] |= weak[-1]
        sums.append(chosen.T.astype(np.float64) @ flat)
    problems.raise_as("mode_class_stability")
    return sums, weak, classes


def _unit(rows: Array) -> Array:
    """Return rows with mean 0 and norm 1; NaN where a row does not vary."""
    around = rows - rows.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(around, axis=1, keepdims=True)
    return around / np.where(norm > 1e-12 * np.abs(rows).max(), norm, np.nan)


def _nanmean(rows: Array) -> Array:
    """Return the mean of each row without NaN; NaN where there is nothing else."""
    known = np.isfinite(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nan_to_num(rows).sum(axis=1) / known.sum(axis=1))
