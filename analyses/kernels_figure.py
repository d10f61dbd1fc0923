"""The time courses of a full-field recording as a printed figure: all cells, and distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.plotting import (
    COLOURS,
    colour_bar,
    figure,
    panel_letter,
    raster_map,
    style,
    trace,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["kernel_gallery"]

Array = npt.NDArray[Any]


def kernel_gallery(table: xr.Dataset, *, agreement: xr.Dataset | None = None) -> Figure:
    """Print the time courses of all cells of a full-field recording, and what they are like.

    Parameters
    ----------
    table : xarray.Dataset
        What `fields_table` makes of the averages of a full-field stimulus.
    agreement : xarray.Dataset, optional
        What `compare_with_average` returns for these cells: ``correlation`` and ``reliability``,
        over (cell,), or over (model, cell) for models to be told apart.

    Returns
    -------
    matplotlib.figure.Figure
        Time courses in standard errors, sorted by polarity and time to peak; mean time courses of
        ON and OFF cells; peaks against chance; times to peak; biphasic index against them; and
        with `agreement` correlations of models' fields with the averages, against the most that
        the averages' reliability lets a perfect model reach, and how they are distributed.

    Raises
    ------
    InputError
        If no cell has a time course, or cells differ.
    """
    known = np.isfinite(table["z"].values)
    if not known.any():
        raise InputError("kernel_gallery: no cell has a time course")
    rows = table.isel(cell=np.flatnonzero(known))
    draw = {"a": _draw_sorted, "b": _draw_means, "c": _draw_chance}
    draw |= {"d": _draw_peaks, "e": _draw_biphasic}
    layout: Any = [["a", "b", "c"], ["a", "d", "e"]]
    if agreement is not None:
        layout.append(["f", "g", "g"])
    with style():
        drawing = figure(height_mm=48.0 * len(layout))
        axes = drawing.subplot_mosaic(layout, width_ratios=[1.4, 1, 1])
        for letter, one in draw.items():
            one(axes[letter], rows)
        if agreement is not None:
            models = _models(agreement, table).isel(cell=np.flatnonzero(known))
            _draw_reached(axes["f"], models)
            _draw_agreement(axes["g"], models)
        for letter, ax in axes.items():
            panel_letter(ax, letter, dx=-22, dy=3)
    return drawing


def _models(agreement: xr.Dataset, table: xr.Dataset) -> xr.Dataset:
    """Return the agreement (model, cell) of the cells of a table."""
    if agreement["cell"].values.tolist() != table["cell"].values.tolist():
        raise InputError("kernel_gallery: the agreement is of other cells than the table")
    return agreement if "model" in agreement.dims else agreement.expand_dims(model=["model"])


def _draw_reached(ax: Axes, models: xr.Dataset) -> None:
    """Draw correlations against reliability, and the most that can be reached."""
    known = models["reliability"].values[np.isfinite(models["reliability"].values)]
    least = float(np.clip(known.min(initial=1.0), 0, 0.95))
    line = np.linspace(least, 1, 100)
    ax.plot(line, np.sqrt(line), color=COLOURS.ink, linewidth=0.7, label="most to expect")
    for number, name in enumerate(models["model"].values):
        one = models.sel(model=name)
        colour = COLOURS.series[number]
        ax.plot(one["reliability"], one["correlation"], ".", color=colour, markersize=2)
    ax.set(
        xlabel="reliability of held-out average", ylabel="correlation with model", ylim=(None, 1.03)
    )
    ax.legend(loc="lower right")


def _draw_agreement(ax: Axes, models: xr.Dataset) -> None:
    """Draw how correlations are distributed over cells, as shares below."""
    for number, name in enumerate(models["model"].values):
        values = np.sort(models["correlation"].sel(model=name).values)
        values = values[np.isfinite(values)]
        share = np.arange(1, values.size + 1) / max(values.size, 1)
        middle = float(np.median(values)) if values.size else np.nan
        ax.step(
            values,
            share,
            where="post",
            color=COLOURS.series[number],
            label=f"{name}: median {middle:.2f}",
        )
    ax.set(xlabel="correlation with model", ylabel="share of cells below", ylim=(0, 1.02))
    ax.legend(loc="upper left")


def _draw_sorted(ax: Axes, rows: xr.Dataset) -> None:
    """Draw all time courses in standard errors, OFF cells first, early peaks on top."""
    order = np.lexsort([np.nan_to_num(rows["time_to_peak"], nan=1e9), rows["polarity"]])
    z = (rows["temporal"] / rows["temporal_error"]).transpose("cell", "lag").values[order]
    limit = float(np.quantile(np.abs(z), 0.98))
    raster_map(ax, z, time=1000 * rows["lag"].values, limit=limit)
    off = int((rows["polarity"] < 0).sum())
    if 0 < off < len(z):
        ax.axhline(off - 0.5, color=COLOURS.ink, linewidth=0.5)
    ax.set(xlabel="time before spike (ms)", ylabel="cell, by polarity and time to peak")
    marks = np.unique(np.r_[1, np.arange(50, len(z) + 1, 50), len(z)]) if len(z) < 1000 else [1]
    marks = [mark for mark in marks if mark == len(z) or len(z) - mark > len(z) // 20]
    ax.set_yticks([mark - 1 for mark in marks], [str(mark) for mark in marks])
    colour_bar(ax, "average (standard errors)", extend="both", aspect=35)


def _draw_means(ax: Axes, rows: xr.Dataset) -> None:
    """Draw the mean time course of each polarity, and the spread over cells."""
    time = 1000 * rows["lag"].values
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    for name, colour in (("OFF", COLOURS.off), ("ON", COLOURS.on)):
        some = rows["temporal"].values[rows["type"].values == name]
        if len(some):
            low, high = np.quantile(some, [0.1, 0.9], axis=0)
            ax.fill_between(time, low, high, color=colour, alpha=0.2, linewidth=0)
            trace(ax, time, some.mean(axis=0), colour=colour, label=f"{name} ({len(some)})")
    ax.set(xlabel="time before spike (ms)", ylabel="time course (norm 1)")
    ax.legend(loc="lower left")


def _draw_chance(ax: Axes, rows: xr.Dataset) -> None:
    """Draw how far peaks stand out of what chance gives."""
    from scipy.stats import norm

    z = np.abs(rows["z"].values)
    chance = float(norm.isf(0.025 / rows.sizes["lag"]))
    ax.hist(z, bins=30, color=COLOURS.series[5])
    words = f"chance ({chance:.1f})"
    ax.axvline(chance, color=COLOURS.highlight, linestyle="dashed", label=words)
    ax.legend(loc="upper left", bbox_to_anchor=(0.02, 1))
    ax.set(xlabel="peak (standard errors)", ylabel="cells")
    found = int((rows["p_value"] <= 0.05).sum())
    ax.set_title(f"{found} of {z.size} cells with p ≤ 0.05")


def _draw_peaks(ax: Axes, rows: xr.Dataset) -> None:
    """Draw the distribution of times to peak."""
    values = rows["time_to_peak"].values[rows["p_value"].values <= 0.05]
    values = values[np.isfinite(values)]
    ax.hist(values, bins=30, color=COLOURS.series[5])
    ax.set(xlabel="time to peak (ms)", ylabel="cells")
    if values.size:
        ax.axvline(float(np.median(values)), color=COLOURS.ink, linestyle="dashed")
        ax.set_title(f"median {np.median(values):.0f} ms")


def _draw_biphasic(ax: Axes, rows: xr.Dataset) -> None:
    """Draw the biphasic index against the time to peak."""
    for name, colour in (("OFF", COLOURS.off), ("ON", COLOURS.on)):
        some = rows.isel(cell=np.flatnonzero(rows["type"].values == name))
        ax.plot(some["time_to_peak"], some["biphasic_index"], ".", color=colour, markersize=3)
    ax.set(xlabel="time to peak (ms)", ylabel="biphasic index")
