"""A figure of a cell's field at some moments as the sum of what channels and modes made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec.plotting import COLOURS, FULL_MM, field_map, figure, style, symmetric_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_source_shares", "draw_sources", "sources_figure"]

_MARGIN = 3  # pixels around what is strong


def draw_sources(
    numbers: xr.Dataset, ax: Axes, *, moment: int = 0, slot: int = 0, titled: bool = True
) -> Axes:
    """Draw the field at a moment, or one of its parts, in the colours of the whole moment.

    Parameters
    ----------
    numbers : xarray.Dataset
        What `sources_numbers` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    moment : int, default 0
        Which of its moments.
    slot : int, default 0
        0 for the field, else which part.
    titled : bool, default True
        Name the part.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.
    """
    row = numbers.isel(time=moment)
    if not row["name"].values[slot]:
        ax.set_axis_off()
        return ax
    shown = row["picture"].isel(_around(numbers))
    field_map(
        ax, shown.isel(slot=slot), limit=symmetric_limit(shown), bar_um=None if slot == 0 else 0
    )
    inside = row["centre"].isel(_around(numbers))
    if bool(inside.any()) and not bool(inside.all()):
        ax.contour(inside["x"], inside["y"], inside, levels=[0.5], colors=COLOURS.quiet,
                   linewidths=0.5)  # fmt: skip
    if titled:
        ax.set_title(str(row["name"].values[slot]), fontsize=6)
    return ax


def _around(numbers: xr.Dataset) -> dict[str, slice]:
    """Return the pixels around what is strong in any field, with a margin."""
    size = abs(numbers["picture"].isel(slot=0)).max("time")
    strong = size >= 0.1 * size.max()
    found = {}
    for axis, other in (("y", "x"), ("x", "y")):
        at = np.flatnonzero(strong.any(other).values)
        last = numbers.sizes[axis]
        low, high = (int(at[0]), int(at[-1])) if len(at) else (0, last - 1)
        found[axis] = slice(max(low - _MARGIN, 0), min(high + _MARGIN + 1, last))
    return found


def draw_source_shares(numbers: xr.Dataset, ax: Axes, *, moment: int = 0) -> Axes:
    """Draw the shares of a field's centre and surround that each of its parts makes.

    Parameters
    ----------
    numbers : xarray.Dataset
        What `sources_numbers` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    moment : int, default 0
        Which of its moments.

    Returns
    -------
    matplotlib.axes.Axes
        The axis. Names of parts that turn the polarity of the field around are bold.
    """
    row = numbers.isel(time=moment, slot=slice(1, None))
    row = row.isel(slot=row["name"].values != "")
    place = np.arange(row.sizes["slot"])[::-1]
    for shift, name, colour in (
        (0.2, "centre", COLOURS.highlight),
        (-0.2, "surround", COLOURS.quiet),
    ):
        ax.barh(place + shift, row[f"{name}_share"], height=0.38, color=colour, label=name)
    ax.axvline(0, color=COLOURS.ink, linewidth=0.5)
    ax.set_yticks(place, labels=row["name"].values.tolist())
    for label, flips in zip(ax.get_yticklabels(), row["flips"].values, strict=True):
        label.set_fontweight("bold" if flips else "normal")
    ax.tick_params(axis="y", length=0)
    both = np.stack([numbers["centre_share"], numbers["surround_share"]])[..., 1:]
    ax.set_xlim(min(0.0, 1.05 * np.nanmin(both)), max(1.0, 1.05 * np.nanmax(both)))
    ax.set_xlabel("share (bold: turns polarity)")
    return ax


def sources_figure(numbers: xr.Dataset, *, width_mm: float = FULL_MM) -> Figure:
    """Draw a cell's field at some moments, each as the sum of its parts.

    Parameters
    ----------
    numbers : xarray.Dataset
        What `sources_numbers` returns.
    width_mm : float, default 174
        Width of the figure, mm; its height follows.

    Returns
    -------
    matplotlib.figure.Figure
        A row a moment: the field, its parts by channel, its parts by mode, and the shares.
    """
    kinds = list(dict.fromkeys(numbers["kind"].values[0, 1:].tolist()))
    slots = [np.flatnonzero(numbers["kind"].values[0] == kind) for kind in kinds]
    columns = 1 + max(len(one) for one in slots)
    moments, deep = numbers.sizes["time"], len(kinds)
    with style():
        drawing = figure(width_mm=width_mm, height_mm=0.17 * width_mm * moments * deep + 8)
        grid = drawing.add_gridspec(
            moments * deep, columns + 1, width_ratios=[*[1.0] * columns, 2.0]
        )
        for moment in range(moments):
            first = moment * deep
            ax = drawing.add_subplot(grid[first, 0])
            draw_sources(numbers, ax, moment=moment)
            ax.set_title(_title(numbers, moment))
            for line, own in enumerate(slots):
                for column, slot in enumerate(own):
                    ax = drawing.add_subplot(grid[first + line, column + 1])
                    draw_sources(numbers, ax, moment=moment, slot=int(slot))
            ax = drawing.add_subplot(grid[first : first + deep, columns])
            draw_source_shares(numbers, ax, moment=moment)
            if moment == 0:
                ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
            if deep > 1:
                _scale(drawing.add_subplot(grid[first + 1, 0]), numbers, moment)
            if moment < moments - 1:
                ax.set_xlabel("")
    return drawing


def _scale(ax: Axes, numbers: xr.Dataset, moment: int) -> None:
    """Draw the colour bar of a moment under its field."""
    field = draw_sources(numbers, ax, moment=moment).images[-1]
    ax.clear()
    ax.set_axis_off()
    inner = ax.inset_axes((0.05, 0.75, 0.9, 0.09))
    bar = ax.figure.colorbar(field, cax=inner, orientation="horizontal")
    top = float(field.get_clim()[1])
    bar.set_ticks([-top, 0, top], labels=[f"{one:.2g}" for one in (-top, 0, top)])
    bar.set_label("Hz per unit contrast")
    bar.outline.set_visible(False)  # type: ignore[operator]


def _title(numbers: xr.Dataset, moment: int) -> str:
    """Return when a field was seen, what the cell did and how usual the field was."""
    row = numbers.isel(time=moment)
    words = f"{float(row['time']):.2f} s   {float(row['rate']):.0f} Hz"
    return f"{words}\ncosine {float(row['likeness']):.2f}"
