"""The figure of a comparison: scores, their distribution, pairs of models, and the ceiling."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec.analyses.comparison import draw_comparison
from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS, FULL_MM, figure, panel_letter, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["comparison_figure", "draw_ceiling", "draw_distribution", "draw_pair"]

_FEW = 30  # cells up to which each has the bars of its interval


def comparison_figure(comparison: xr.Dataset, *, metric: str | None = None) -> Figure:
    """Draw a comparison of models: all cells, distribution, one model against another, ceiling.

    Parameters
    ----------
    comparison : xarray.Dataset
        What `compare_models` returns.
    metric : str, optional
        A metric over (model, cell); ``cc_norm`` where there are repeats, else ``r``.

    Returns
    -------
    matplotlib.figure.Figure
        Panels A scores of all cells under every model, B their cumulative distribution, C the
        first pairs of models cell by cell (at most two), D correlation against the noise ceiling
        where there are repeats.

    Raises
    ------
    InputError
        If there is no such metric.
    """
    chosen = metric or ("cc_norm" if "cc_norm" in comparison else "r")
    if chosen not in comparison or comparison[chosen].dims != ("model", "cell"):
        raise InputError(f"metric: no {chosen!r} over (model, cell) in the comparison")
    models = [str(name) for name in comparison["model"].values]
    pairs = list(itertools.combinations(models, 2))[:2]
    ceiling = "cc_max" in comparison
    panels = 2 + len(pairs) + ceiling
    columns = 2 if panels in (2, 4) else 3
    rows = -(-panels // columns)
    with style():
        drawing = figure(width_mm=FULL_MM, height_mm=56.0 * rows)
        axes = list(drawing.subplots(rows, columns, squeeze=False).ravel())
        draw_comparison(comparison, axes[0], metric=chosen)
        axes[0].tick_params(axis="x", rotation=20 if len(models) > 3 else 0)
        draw_distribution(comparison, axes[1], metric=chosen)
        for ax, (first, second) in zip(axes[2:], pairs, strict=False):
            draw_pair(comparison, ax, first, second, metric=chosen)
        if ceiling:
            draw_ceiling(comparison, axes[2 + len(pairs)])
        for ax in axes[panels:]:
            ax.remove()
        for ax, letter in zip(axes[:panels], "ABCDE", strict=False):
            panel_letter(ax, letter)
    return drawing


def draw_distribution(comparison: xr.Dataset, ax: Axes, *, metric: str = "cc_norm") -> Axes:
    """Draw the share of cells below each score, a line a model.

    Parameters
    ----------
    comparison : xarray.Dataset
        What `compare_models` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    metric : str, default "cc_norm"
        A metric over (model, cell).

    Returns
    -------
    matplotlib.axes.Axes
        The axis; the legend holds medians and how many cells have a value.
    """
    total = comparison.sizes["cell"]
    for number, model in enumerate(comparison["model"].values):
        values = np.sort(comparison[metric].sel(model=model).values)
        values = values[np.isfinite(values)]
        words = f"{model}: no value"
        if values.size:
            words = f"{model}: median {np.median(values):.2f}"
            words += "" if values.size == total else f", {values.size} of {total} cells"
        share = np.arange(1, values.size + 1) / max(values.size, 1)
        colour = COLOURS.series[number % len(COLOURS.series)]
        ax.step(values, share, where="post", color=colour, label=words)
    _clip_far(ax, comparison[metric].values)
    ax.set(xlabel=_words(comparison, metric), ylabel="share of cells")
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_ylim(0, 1.02 + 0.11 * comparison.sizes["model"])
    ax.legend(loc="upper left", borderaxespad=0)
    return ax


def draw_pair(
    comparison: xr.Dataset, ax: Axes, first: str, second: str, *, metric: str = "cc_norm"
) -> Axes:
    """Draw the score of every cell under one model against that under another.

    Parameters
    ----------
    comparison : xarray.Dataset
        What `compare_models` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    first, second : str
        Models on the vertical and the horizontal axis.
    metric : str, default "cc_norm"
        A metric over (model, cell).

    Returns
    -------
    matplotlib.axes.Axes
        The axis. Full dots are cells whose paired interval of the difference leaves out zero.
    """
    y, x = (comparison[metric].sel(model=name).values for name in (first, second))
    names = comparison["pair"].values.tolist()
    pair = f"{first} - {second}"
    pair = pair if pair in names else f"{second} - {first}"
    low, high = (comparison[f"difference_{metric}_{end}"].sel(pair=pair) for end in ("low", "high"))
    sure = ((low > 0) | (high < 0)).values
    if x.size <= _FEW:
        for axis, name, at in (("y", first, x), ("x", second, y)):
            low, high = (comparison[f"{metric}_{end}"].sel(model=name) for end in ("low", "high"))
            lines = ax.vlines if axis == "y" else ax.hlines
            lines(at, low.values, high.values, color=COLOURS.quiet, linewidth=0.4)
    for mask, face, words in (
        (sure, COLOURS.ink, "interval of difference without 0"),
        (~sure, "white", "with 0"),
    ):
        ax.plot(
            x[mask],
            y[mask],
            "o",
            markersize=2.5,
            color=COLOURS.ink,
            markerfacecolor=face,
            markeredgewidth=0.5,
            label=words,
        )
    _diagonal(ax, x, y)
    ax.set(xlabel=f"{second}: {metric_name(metric)}", ylabel=f"{first}: {metric_name(metric)}")
    above, below = int((sure & (y > x)).sum()), int((sure & (y < x)).sum())
    ax.set_title(f"{first} better in {above}, worse in {below} of {x.size}")
    return ax


def draw_ceiling(comparison: xr.Dataset, ax: Axes) -> Axes:
    """Draw the correlation of every cell and model against the cell's noise ceiling.

    Parameters
    ----------
    comparison : xarray.Dataset
        What `compare_models` returns of a recording with repeats.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; on the line a model predicts all that can be predicted.
    """
    limit = comparison["cc_max"].values
    for number, model in enumerate(comparison["model"].values):
        colour = COLOURS.series[number % len(COLOURS.series)]
        score = comparison["r"].sel(model=model).values
        ax.plot(limit, score, "o", markersize=2, color=colour, alpha=0.7, label=str(model),
                markeredgewidth=0)  # fmt: skip
    ax.plot([0, 1], [0, 1], color=COLOURS.quiet, linewidth=0.5, linestyle="--")
    ax.set(xlabel="noise ceiling CC_max", ylabel="correlation r", xlim=(0, 1.02))
    ax.legend(loc="upper left")
    return ax


def metric_name(metric: str) -> str:
    """Return the short name of a metric for an axis."""
    known = {"r": "r", "cc_norm": "CC_norm", "feve": "FEVe", "bits_per_spike": "bits per spike"}
    return known.get(metric, metric.replace("_", " "))


def _words(comparison: xr.Dataset, metric: str) -> str:
    units = comparison[metric].attrs["units"]
    return metric_name(metric) if units == "1" else f"{metric_name(metric)} ({units})"


def _clip_far(ax: Axes, values: np.ndarray) -> None:
    """Leave values far beyond most others out of view, and say how many there are."""
    known = values[np.isfinite(values)]
    if not known.size:
        return
    low, high = _near(known)
    ax.set_xlim(low, high)
    for side, count in (("left", int((known < low).sum())), ("right", int((known > high).sum()))):
        if count:
            place = (0.02, 0.35) if side == "left" else (0.98, 0.02)  # clear of the curves
            words = f"{count} further {side}"
            ax.annotate(words, place, xycoords="axes fraction", ha=side, fontsize=6)


def _near(known: np.ndarray) -> tuple[float, float]:
    """Return the range that holds most values, with a little room."""
    low, first, third, high = np.percentile(known, [0, 10, 90, 100])
    reach = max(third - first, 1e-9)
    low, high = max(low, first - reach), min(high, third + reach)
    return float(low - 0.05 * (high - low)), float(high + 0.05 * (high - low))


def _diagonal(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Draw the line of equal scores over the range of most values of both."""
    both = np.isfinite(x) & np.isfinite(y)
    if not both.any():
        return
    ends = _near(np.concatenate([x[both], y[both]]))
    ax.plot(ends, ends, color=COLOURS.quiet, linewidth=0.5, linestyle="--")
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    inside = np.all([(ends[0] <= one) & (one <= ends[1]) for one in (x[both], y[both])], axis=0)
    if not inside.all():
        words = f"{int((~inside).sum())} out of view"
        ax.annotate(words, (0.98, 0.02), xycoords="axes fraction", ha="right", fontsize=6)
