"""How matches of interneurons with model units look: scores over nulls, maps, traces."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.match_moments import Layers, common_moments
from retinacodec.errors import InputError
from retinacodec.plotting import (
    COLOURS,
    FULL_MM,
    field_map,
    figure,
    panel_letter,
    style,
    symmetric_limit,
    trace,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "draw_interneuron_map",
    "draw_interneuron_matches",
    "draw_interneuron_trace",
    "interneuron_figure",
]

Array = npt.NDArray[Any]

_MARKERS = ("s", "^", "D", "v", "P")
_SECONDS = 3.0


def draw_interneuron_matches(
    matches: xr.Dataset, ax: Axes, *, controls: xr.Dataset | None = None
) -> Axes:
    """Draw each interneuron's held-out correlation over the spread of its null.

    Parameters
    ----------
    matches : xarray.Dataset
        What `match_interneurons` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    controls : xarray.Dataset, optional
        Correlations (model, ...) of the same interneurons under other models, such as one layer of
        what `compare_interneurons` returns; its reference is left out.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; filled points are above 95 % of their null, grey marks are controls.
    """
    score = matches["correlation"].stack(interneuron=matches["correlation"].dims)
    null = matches["null"].stack(interneuron=matches["correlation"].dims)
    gone = np.isnan(null.values).all(axis=null.get_axis_num("shift"))
    low, high = np.nanpercentile(null.where(~gone, 0), [2.5, 97.5], axis=null.get_axis_num("shift"))
    sure = matches["p_value"].values.ravel() <= 0.05
    at = np.arange(score.size)
    ax.hlines(at[~gone], low[~gone], high[~gone], color=COLOURS.quiet, linewidth=4, alpha=0.5,
              label="null, 95 %")  # fmt: skip
    for chosen, face in ((sure, COLOURS.ink), (~sure, COLOURS.paper)):
        ax.scatter(score[chosen], at[chosen], s=24, facecolor=face, edgecolor=COLOURS.ink, zorder=3)
    if controls is not None:
        _draw_controls(controls, matches["correlation"].dims, at, ax)
    names = [" ".join(map(str, name)) for name in score["interneuron"].values]
    ax.set_yticks(at, names)
    ax.invert_yaxis()
    ax.axvline(0, color=COLOURS.quiet, linewidth=0.5)
    ax.set_xlabel("held-out correlation with the best unit")
    return ax


def _draw_controls(controls: xr.Dataset, dims: tuple[Any, ...], at: Array, ax: Axes) -> None:
    """Mark the correlation of each control."""
    names = [n for n in controls["model"].values.tolist() if n != controls.attrs.get("reference")]
    for name, marker in zip(names, _MARKERS * len(names), strict=False):
        values = controls["correlation"].sel(model=name).transpose(*dims).values.ravel()
        if np.isfinite(values).any():
            ax.scatter(values, at, marker=marker, s=12, facecolor=COLOURS.paper,
                       edgecolor=COLOURS.quiet, linewidth=0.8, zorder=2, label=name)  # fmt: skip


def draw_interneuron_map(
    matches: xr.Dataset, ax: Axes, *, layer: str | None = None, limit: float | None = None
) -> Axes:
    """Draw the correlation of one interneuron with every position of its best channel.

    Parameters
    ----------
    matches : xarray.Dataset
        What `match_interneurons` returns with its ``maps``, of one interneuron.
    ax : matplotlib.axes.Axes
        Where to draw.
    layer : str, optional
        Which layer, where there are several; the best if left out.
    limit : float, optional
        Correlation of the strongest colour, at both ends; the largest if left out.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; the ring marks the best unit. Empty for an interneuron without a match.

    Raises
    ------
    InputError
        If the matches hold no maps.
    """
    one, name = _of_layer(matches, layer)
    key = "map" if "map" in one else f"map_{name}"
    channel = int(one["best_channel"])
    if channel < 0:
        ax.set_axis_off()
        return ax
    if key not in one:
        raise InputError("matches: expected maps; call match_interneurons with maps=True")
    values = np.asarray(one[key].values)[channel]
    if values.ndim != 2:
        ax.set_axis_off()
        return ax
    field_map(ax, values, limit=symmetric_limit(values) if limit is None else limit, bar_um=0)
    ax.scatter(one["best_column"], one["best_row"], s=14, facecolor="none", edgecolor=COLOURS.ink,
               linewidth=0.8)  # fmt: skip
    return ax


def _of_layer(matches: xr.Dataset, layer: str | None) -> tuple[xr.Dataset, str]:
    """Return the matches of one layer and its name."""
    if "layer" not in matches["best_channel"].dims:
        return matches, layer or str(matches.attrs.get("layer", ""))
    name = layer or str(matches["best_layer"].item()) or str(matches["layer"].values[0])
    return matches.sel(layer=name), name


def draw_interneuron_trace(
    recorded: xr.DataArray,
    activation: xr.DataArray,
    ax: Axes,
    *,
    start: float | None = None,
    seconds: float = _SECONDS,
) -> Axes:
    """Draw a stretch of a recorded trace with a model unit's activation over it.

    Parameters
    ----------
    recorded : xarray.DataArray (time,)
        The trace, with its unit in the attribute ``units``.
    activation : xarray.DataArray (time,)
        The unit's activation at the same moments.
    ax : matplotlib.axes.Axes
        Where to draw.
    start : float, optional
        Start of the stretch, s; the first moment if left out.
    seconds : float, default 3.0
        Length of the stretch.

    Returns
    -------
    matplotlib.axes.Axes
        The axis in the unit of the trace; the activation is scaled to it by least squares over
        all moments outside the stretch (all, if there are none).
    """
    time = recorded["time"].values
    start = float(time[0]) if start is None else start
    inside = (time >= start) & (time <= start + seconds)
    values, unit = (each.values.astype(np.float64) for each in (recorded, activation))
    fitted = np.isfinite(values) & ~inside
    fitted = np.isfinite(values) if fitted.sum() < 2 else fitted
    if fitted.sum() > 1 and np.ptp(unit[fitted]) > 0:
        slope, level = np.polyfit(unit[fitted], values[fitted], 1)
        trace(ax, time[inside], values[inside], colour=COLOURS.quiet, label="recorded")
        trace(ax, time[inside], slope * unit[inside] + level, colour=COLOURS.highlight,
              label="model unit, scaled")  # fmt: skip
    else:
        trace(ax, time[inside], values[inside], colour=COLOURS.quiet, label="recorded")
    ax.set_ylabel(str(recorded.attrs.get("units", "")).removeprefix("1"))
    ax.set_xlabel("time (s)")
    return ax


def interneuron_figure(
    matches: xr.Dataset,
    traces: xr.DataArray | xr.Dataset,
    activations: xr.DataArray | Layers,
    *,
    comparison: xr.Dataset | None = None,
    most: int = 8,
    seconds: float = _SECONDS,
    width_mm: float = FULL_MM,
) -> Figure:
    """Draw which units the interneurons match: maps, scores with controls, and traces.

    Parameters
    ----------
    matches : xarray.Dataset
        What `match_interneurons` returns with ``maps=True``.
    traces, activations
        What it was given.
    comparison : xarray.Dataset, optional
        What `compare_interneurons` returns, for the controls of each layer.
    most : int, default 8
        Interneurons drawn, the first ones.
    seconds : float, default 3.0
        Stretch of the traces, s; from the start of the last block, whose unit the other blocks
        chose.
    width_mm : float, default 174
        Width of the figure, mm; its height follows.

    Returns
    -------
    matplotlib.figure.Figure
        A row an interneuron: (a) the correlation with every position of its best channel; (b) its
        held-out correlation over the null, a panel a layer; (c) its trace under the unit's.

    Raises
    ------
    InputError
        If matches hold no maps, or traces and activations do not fit.
    """
    recorded, layers = common_moments(traces, activations)
    dims = [dim for dim in matches["best_channel"].dims if dim != "layer"]
    flat, recorded = (_flat(each, dims).isel(shown=slice(most)) for each in (matches, recorded))
    shown = list(layers) if "layer" in matches["best_channel"].dims else [None]
    rows = flat.sizes["shown"]
    with style():
        drawing = figure(width_mm=width_mm, height_mm=24 + 18 * rows)
        widths = [0.8, 0.07, *[1.1] * len(shown), 2.2]
        grid = drawing.add_gridspec(rows, len(widths), width_ratios=widths)
        maps = [drawing.add_subplot(grid[row, 0]) for row in range(rows)]
        scores = [drawing.add_subplot(grid[:, 2 + k]) for k in range(len(shown))]
        lines = [drawing.add_subplot(grid[row, len(widths) - 1]) for row in range(rows)]
        _draw_maps(flat, maps, drawing.add_subplot(grid[: min(rows, 3), 1]))
        for k, (name, ax) in enumerate(zip(shown, scores, strict=True)):
            _draw_layer(flat, comparison, name, ax, dims, first=k == 0)
        _draw_traces(flat, recorded, layers, lines, seconds)
        for letter, ax in zip("abc", (maps[0], scores[0], lines[0]), strict=True):
            panel_letter(ax, letter, dx=-14, dy=10)
    return drawing


def _draw_maps(flat: xr.Dataset, axes: list[Axes], beside: Axes) -> None:
    """Draw the map of each interneuron in one scale, and that scale."""
    found = [np.nan_to_num(flat[key].values) for key in flat if str(key).startswith("map")]
    limit = max((symmetric_limit(values) for values in found), default=1.0)
    for row, ax in enumerate(axes):
        one = flat.isel(shown=row)
        draw_interneuron_map(one, ax, limit=limit)
        name = _of_layer(one, None)[1]
        channel = int(_of_layer(one, None)[0]["best_channel"])
        words = f"{name}\nchannel {channel}" if channel >= 0 else "no match"
        ax.annotate(words, (-0.08, 0.5), xycoords="axes fraction", fontsize=5, ha="right",
                    va="center")  # fmt: skip
    drawn = [ax for ax in axes if ax.images]
    if not drawn:
        beside.set_axis_off()
        return
    bar = beside.figure.colorbar(drawn[0].images[0], cax=beside, label="correlation")
    bar.outline.set_visible(False)  # type: ignore[operator]


def _draw_layer(
    flat: xr.Dataset,
    comparison: xr.Dataset | None,
    name: str | None,
    ax: Axes,
    dims: list[Any],
    *,
    first: bool,
) -> None:
    """Draw the scores of one layer, with its controls."""
    own = flat if name is None else flat.sel(layer=name)
    layer = name or str(flat.attrs.get("layer", ""))
    controls = None
    if comparison is not None:
        controls = _flat(_controls_of(comparison, layer), dims).sel(shown=own["shown"])
    draw_interneuron_matches(own, ax, controls=controls)
    names = own["shown"].values.tolist()
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), names if first else [""] * len(names))
    ax.set_xlabel("held-out r")
    ax.margins(x=0.1)
    ax.set_title(layer)
    if first:
        ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.03), fontsize=5, frameon=False)


def _controls_of(comparison: xr.Dataset, layer: str) -> xr.Dataset:
    """Return a layer of every control, or its best of all layers where it has no such layer."""
    best = comparison.sel(layer="any", drop=True)
    if layer not in comparison["layer"].values:
        return best
    own = comparison.sel(layer=layer, drop=True)
    rest = [dim for dim in own["correlation"].dims if dim != "model"]
    there = own["correlation"].notnull().any(rest)
    names = [
        name if here or name == comparison.attrs.get("reference") else f"{name}, any layer"
        for name, here in zip(own["model"].values.tolist(), there.values, strict=True)
    ]
    mixed = best.assign(correlation=own["correlation"].where(there, best["correlation"]))
    return mixed[["correlation"]].assign_coords(model=names)


def _flat(data: Any, dims: list[Any]) -> Any:
    """Return a dataset or array with the interneurons in one dim, ``shown``, by name."""
    axes = [data[dim].values if dim in data.coords else range(data.sizes[dim]) for dim in dims]
    names = [" ".join(map(str, each)) for each in itertools.product(*axes)]
    stacked = data.drop_vars([c for c in data.coords if set(dims) & set(data[c].dims)])
    return stacked.stack(shown=dims, create_index=False).assign_coords(shown=names)


def _draw_traces(
    flat: xr.Dataset,
    recorded: xr.DataArray,
    layers: Mapping[str, xr.DataArray],
    axes: list[Axes],
    seconds: float,
) -> None:
    """Draw the start of the last block of each interneuron."""
    blocks = flat.sizes["block"]
    drawn: list[Axes] = []
    for row, ax in enumerate(axes):
        one, name = _of_layer(flat.isel(shown=row), None)
        values = recorded.isel(shown=row)
        unit = int(one["block_unit"].values[-1])
        seen = np.flatnonzero(np.isfinite(values.values))
        if unit < 0 or not seen.size:
            ax.set_axis_off()
            continue
        edge = round(seen.size * (blocks - 1) / blocks) + int(flat.attrs.get("gap", 0))
        start = float(values["time"].values[seen[min(edge, seen.size - 1)]])
        layer = layers.get(name, next(iter(layers.values())))
        series = layer.isel(channel=0, drop=True) if layer.ndim == 2 else layer[:, 0, 0, 0]
        series = series.copy(data=layer.values.reshape(len(layer), -1)[:, unit])
        draw_interneuron_trace(values, series, ax, start=start, seconds=seconds)
        drawn.append(ax)
    for ax in drawn[:-1]:
        ax.set_xlabel("")
    for ax in drawn[:1]:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
