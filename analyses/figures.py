"""The retina figure: scheme, events with two fields, groups of cells, fields of combinations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from retinacodec.analyses.scheme import draw_scheme
from retinacodec.errors import InputError
from retinacodec.plotting import (
    COLOURS,
    FULL_MM,
    colour_bar,
    field_map,
    figure,
    heat,
    raster_map,
    shade,
    style,
    symmetric_limit,
    trace,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = [
    "draw_combinations",
    "draw_contributions",
    "draw_events",
    "draw_groups",
    "draw_loadings",
    "panel_numbers",
    "retina_figure",
]


def retina_figure(panels: xr.DataTree, *, width_mm: float = FULL_MM) -> Figure:
    """Draw the retina figure: A scheme, B events, C groups of cells, D fields of combinations.

    Parameters
    ----------
    panels : xarray.DataTree
        What `retina_panels` returns.
    width_mm : float, default 174
        Width of the figure, mm; its height follows.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    InputError
        If `panels` is something else.
    """
    if not {"scheme", "events", "groups", "combinations"} <= set(panels.children):
        raise InputError("retina_figure: expected what retina_panels returns")
    with style():
        drawing = figure(width_mm=width_mm, height_mm=0.8 * width_mm)
        halves = drawing.subfigures(1, 2, width_ratios=(1.08, 1), wspace=0.02, squeeze=False)[0]
        scheme, events = halves[0].subfigures(2, 1, height_ratios=(0.2, 0.8), squeeze=False)[:, 0]
        groups, fields = halves[1].subfigures(2, 1, height_ratios=(0.43, 0.57), squeeze=False)[:, 0]
        rate = panels["events"].to_dataset()["rate"].values
        draw_scheme(panels["scheme"].to_dataset(), scheme.subplots(), rate=rate)
        _draw_event_column(panels, events)
        _draw_group_row(panels, groups)
        draw_combinations(panels["combinations"].to_dataset(), fields)
        for letter, part in zip("ABCD", (scheme, events, groups, fields), strict=True):
            words = part.text(0.004, 0.992, letter, fontsize=10, fontweight="bold", va="top")
            words.set_in_layout(False)
    return drawing


def panel_numbers(panels: xr.DataTree) -> dict[str, xr.Dataset]:
    """Return the plotted numbers of each panel, for `retinacodec.report.write_figure`.

    Parameters
    ----------
    panels : xarray.DataTree
        What `retina_panels` returns.

    Returns
    -------
    dict of str to xarray.Dataset
        Panel letters, with the layer where there are several.
    """
    found = {
        "A": panels["scheme"].to_dataset(),
        "B": panels["events"].to_dataset(),
        "D": panels["combinations"].to_dataset(),
    }
    for name in dict.fromkeys(panels.attrs["layers"]):
        found[f"B_{name}"] = panels[f"contributions/{name}"].to_dataset()
        found[f"C_{name}"] = panels[f"groups/{name}"].to_dataset()
    return found


def draw_events(events: xr.Dataset, ax: Axes) -> Axes:
    """Draw the rate of a cell, and above two of its events the field at that moment.

    Parameters
    ----------
    events : xarray.Dataset
        The node ``events`` of the panels.
    ax : matplotlib.axes.Axes
        Where to draw; the upper half of its range is kept for the fields.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.
    """
    time, rate = events["time"].values, events["rate"].values
    trace(ax, time, rate, fill=True)
    top = float(np.nanmax(rate))
    ax.set_ylim(0, 2.5 * top)
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= 1.1 * top])
    ax.set_ylabel("Firing rate (Hz)", y=0.22)
    _shade_events(events, ax)
    places = _inset_places(events["event_time"].values, time, width=0.2)
    for number, place in enumerate(places):
        colour = COLOURS.series[number]
        inset = ax.inset_axes((place, 0.5, 0.2, 0.5))
        field_map(inset, events["field"].isel(event=number), bar_um=None if number == 0 else 0)
        inset.set_anchor("N")
        for spine in inset.spines.values():
            spine.set(color=colour, linewidth=1)
        moment = float(events["event_time"][number])
        height = float(events["event_rate"][number])
        ax.annotate(
            "",
            xy=(moment, height * 1.04),
            xytext=(place + 0.1, 0.5),
            textcoords="axes fraction",
            arrowprops={
                "arrowstyle": "-|>",
                "color": colour,
                "linewidth": 0.6,
                "mutation_scale": 5,
            },
        )
    return ax


def draw_contributions(node: xr.Dataset, ax: Axes) -> Axes:
    """Draw contributions over time: negative parts above (magenta), positive below (green).

    Parameters
    ----------
    node : xarray.Dataset
        ``contribution`` (time, sign, channel).
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``. The strongest colour stands for the 99th
        percentile of all sizes above 0, and for what lies beyond it.
    """
    table = node["contribution"].transpose("sign", "channel", "time")
    rows = table.values.reshape(-1, table.sizes["time"])
    half = table.sizes["channel"]
    raster_map(ax, rows, time=node["time"].values, limit=_strong(rows), cmap="bam")
    ax.axhline(half - 0.5, color=COLOURS.quiet, linewidth=0.4)
    ax.set_yticks([(half - 1) / 2, half + (half - 1) / 2], labels=["neg.", "pos."])
    for label, colour in zip(
        ax.get_yticklabels(), (COLOURS.negative, COLOURS.positive), strict=True
    ):
        label.set(color=colour)
    ax.tick_params(axis="y", length=0)
    for spine in ax.spines.values():
        spine.set_visible(True)
    return ax


def draw_loadings(events: xr.Dataset, ax: Axes) -> Axes:
    """Draw the loadings of the two modes that tell the events apart, each in its strong ones."""
    relative = events["shown_loading"] / events["strong_loading"]
    for number, mode in enumerate(events["shown_mode"].values):
        values = relative.isel(shown_mode=number).values
        colour = COLOURS.series[number]
        trace(ax, events["time"].values, values, colour=colour, label=f"mode {mode}", fill=True)
    _shade_events(events, ax)
    ax.set_ylim(0, 1.35 * symmetric_limit(relative.values))
    ax.set(xlabel="Time (s)", ylabel="Loading (rel.)")
    ax.legend(loc="upper right", ncols=2, borderaxespad=0.1, columnspacing=1.0)
    return ax


def draw_groups(
    groups: xr.Dataset,
    ax: Axes,
    *,
    order: Any = None,
    high: float | None = None,
    names: bool = True,
) -> Axes:
    """Draw correlations of modes with cells as a heat map, with the group of each cell.

    Parameters
    ----------
    groups : xarray.Dataset
        ``correlation`` (cell, mode) and ``cluster`` (cell).
    ax : matplotlib.axes.Axes
        Where to draw.
    order : array_like of int, optional
        Positions of the cells from top to bottom; by group if left out.
    high : float, optional
        Correlation of the strongest colour; the 95th percentile if left out.
    names : bool, default True
        Write the names of the cells.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``.
    """
    from matplotlib.transforms import ScaledTranslation

    order = np.argsort(groups["cluster"].values, kind="stable") if order is None else order
    shown = groups.isel(cell=np.asarray(order))
    limits = None if high is None else (0.0, high)
    labels = [str(name) for name in shown["cell"].values]
    heat(ax, shown["correlation"].transpose("cell", "mode").values, limits=limits)
    cells, modes = shown.sizes["cell"], shown.sizes["mode"]
    shift = ScaledTranslation(-4 / 72, 0, ax.figure.dpi_scale_trans)
    beside = ax.get_yaxis_transform() + shift
    for row, group in enumerate(shown["cluster"].values):
        ax.plot(
            [0, 0],
            [row - 0.42, row + 0.42],
            color=_group_colour(group),
            linewidth=4,
            solid_capstyle="butt",
            transform=beside,
            clip_on=False,
        )
    step = max(1, -(-cells // 20))
    ax.set_yticks(np.arange(0, cells, step), labels=labels[::step] if names else [])
    ax.tick_params(axis="y", pad=8, labelsize=5)
    ticks = np.arange(0, modes, max(1, -(-modes // 8)))
    ax.set_xticks(ticks, labels=[str(shown["mode"].values[tick]) for tick in ticks])
    ax.set(xlabel="Mode", ylabel="Cell" if names else "")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def draw_combinations(chosen: xr.Dataset, drawing: Figure | SubFigure) -> None:
    """Draw the fields of cells for one mode alone and for its combinations.

    Parameters
    ----------
    chosen : xarray.Dataset
        The node ``combinations`` of the panels.
    drawing : matplotlib.figure.Figure or SubFigure
        Where to draw: a row for each cell, a column for each panel that some cell has. Each
        field has its own colour scale.
    """
    chosen = chosen.isel(
        panel=np.flatnonzero((chosen["frame"] >= 0).any("cell") | (chosen["panel"] == 0))
    )
    cells, panels = chosen.sizes["cell"], chosen.sizes["panel"]
    ratios = (1.36, max(panels - 1, 1))
    parts = drawing.subfigures(1, 2, width_ratios=ratios, wspace=0, squeeze=False)[0]
    mode = chosen.attrs["mode"]
    parts[0].suptitle(f"Mode {mode} alone", x=0.62, fontsize=7)
    grid = parts[0].subplots(cells, 1, squeeze=False)
    if panels > 1:
        parts[1].suptitle(f"Mode {mode} in combinations", fontsize=7)
        several = parts[1].subplots(cells, panels - 1, squeeze=False)
        grid = np.concatenate([grid, several], axis=1)
    for row, axes in enumerate(grid):
        for column, ax in enumerate(axes):
            _draw_one_field(chosen.isel(cell=row, panel=column), ax, bar=row + column == 0)
        axes[0].set_ylabel(_wrapped(_cell(chosen["cell"].values[row])), fontsize=6)


def _draw_one_field(one: xr.Dataset, ax: Axes, *, bar: bool) -> None:
    """Draw a field under the names of its modes and above the cell's rate."""
    if int(one["frame"]) < 0:
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.text(0.5, 0.5, "no frame", ha="center", va="center", fontsize=5, color=COLOURS.quiet)
        return
    field_map(ax, one["field"], bar_um=None if bar else 0)
    words = str(one["label"].item())
    size = 6.0 if len(words) < 10 else 5.0 if len(words) < 13 else 4.5
    ax.set_title(words, color=COLOURS.highlight, fontsize=size, pad=2)
    rate = float(one["rate"])
    ax.set_xlabel(f"{rate:.0f} Hz" if rate >= 9.95 else f"{rate:.2g} Hz", fontsize=5, labelpad=1)


def _strong(values: Any) -> float:
    """Return the 99th percentile of the sizes above 0."""
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.percentile(size, 99)) if size.size else 1.0


def _draw_event_column(panels: xr.DataTree, drawing: SubFigure) -> None:
    """Draw panel B: rate, contributions of both layers, loadings."""
    layers = list(dict.fromkeys(panels.attrs["layers"]))
    rows = len(layers) + 2
    axes = drawing.subplots(
        rows, 1, sharex=True, height_ratios=(2.1, *[1.0] * len(layers), 0.9), squeeze=False
    )[:, 0]
    events = panels["events"].to_dataset()
    draw_events(events, axes[0])
    axes[0].set_title(f"Response of {_cell(panels.attrs['cell'])}", loc="left", fontsize=6)
    for ax, layer in zip(axes[1:-1], layers, strict=True):
        node = panels[f"contributions/{layer}"].to_dataset()
        draw_contributions(node, ax)
        _shade_events(events, ax)
        count = node.sizes["channel"]
        ax.set_title(f"Contributions of {layer}, {count} channels", loc="left", fontsize=6)
        unit = node["contribution"].attrs.get("units", "")
        bar = colour_bar(ax, f"({unit})" if unit else "(target units)", extend="both")
        bar.ax.yaxis.label.set_fontsize(6)
    draw_loadings(events, axes[-1])
    axes[-1].set_title(f"Modes of {layers[-1]}", loc="left", fontsize=6)


def _draw_group_row(panels: xr.DataTree, drawing: SubFigure) -> None:
    """Draw panel C: correlations of modes and cells in both layers."""
    from matplotlib.patches import Patch

    layers = list(dict.fromkeys(panels.attrs["layers"]))
    tables = [panels[f"groups/{layer}"].to_dataset() for layer in layers]
    axes = drawing.subplots(1, len(layers), squeeze=False)[0]
    order = np.argsort(tables[0]["cluster"].values, kind="stable")
    every = np.concatenate([table["correlation"].values.ravel() for table in tables])
    high = max(float(np.nanpercentile(every, 95)), 1e-3)
    for number, (ax, table) in enumerate(zip(axes, tables, strict=True)):
        draw_groups(table, ax, order=order, high=high, names=number == 0)
        ax.set_title(layers[number])
    colour_bar(axes[-1], "Correlation", beside=axes, extend="max")
    found = np.unique(np.concatenate([table["cluster"].values for table in tables]))
    handles = [Patch(color=_group_colour(group), label=str(group)) for group in found]
    words = f"Groups of cells (agreement of the layers {panels.attrs['cluster_agreement']:.2f}):"
    handles.insert(0, Patch(alpha=0, label=words))
    drawing.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        handlelength=0.8,
        columnspacing=0.8,
        handletextpad=0.3,
    )


def _group_colour(group: Any) -> str:
    """Return the colour of a group of cells."""
    return COLOURS.series[(int(group) + 1) % len(COLOURS.series)]


def _shade_events(events: xr.Dataset, ax: Axes) -> None:
    """Mark the two events."""
    step = 2 * float(np.median(np.diff(events["time"].values)))
    for moment, colour in zip(events["event_time"].values, COLOURS.series, strict=False):
        shade(ax, [(moment - step, moment + step)], colour=colour)


def _inset_places(moments: Any, time: Any, *, width: float) -> list[float]:
    """Return left edges of insets, in axes fraction, beside their moments and apart."""
    share = (np.asarray(moments) - time[0]) / (time[-1] - time[0])
    first = float(np.clip(share[0] - width / 2, 0.0, 1 - 2.1 * width))
    second = float(np.clip(share[1] - width / 2, first + 1.1 * width, 1 - width))
    return [first, second]


def _cell(name: Any) -> str:
    """Return a cell's name with the word cell, unless it has words of its own."""
    text = str(name)
    return text if any(letter.isalpha() for letter in text) else f"cell {text}"


def _wrapped(name: str) -> str:
    """Return a long cell name on two lines."""
    words = name.rsplit(" ", 1)
    return "\n".join(words) if len(name) > 9 and len(words) == 2 else name
