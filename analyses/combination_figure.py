"""How a table of sets of modes is drawn: frames against chance, over the members of each set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_combination_table"]


def draw_combination_table(
    table: xr.Dataset, ax: Axes, *, members: Axes | None = None, most: int | None = None
) -> Axes:
    """Draw how many frames each set of modes has, against modes that are independent.

    Parameters
    ----------
    table : xarray.Dataset
        What `retinacodec.analyses.combination_table` returns.
    ax : matplotlib.axes.Axes
        Where to draw the frames, on a logarithmic axis.
    members : matplotlib.axes.Axes, optional
        Where to draw which modes are in each set, usually below `ax`: a row for each mode, a
        column for each set. If left out, the sets' names stand below `ax`.
    most : int, optional
        Number of sets shown; all of the table if left out.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`: bars hold 95 % of the null, dots are the data, filled where a set is more (red) or
        less (blue) frequent than by chance at the table's level of false discoveries.

    Raises
    ------
    InputError
        If the table holds no set.
    """
    shown = table.isel(set=slice(most))
    if not shown.sizes["set"]:
        raise InputError("draw_combination_table: the table holds no set")
    place = np.arange(shown.sizes["set"])
    _bars(shown, ax)
    _dots(shown, ax)
    ax.set_yscale("log")
    lowest = float(min(shown["null_low"].min(), shown["frames"].min()))
    ax.set_ylim(bottom=max(0.5 * lowest, 0.5))
    ax.set(ylabel="Frames", xlim=(-0.6, len(place) - 0.4))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    if members is None:
        names = [name.replace("+", " + ") for name in shown["set"].values.tolist()]
        ax.set_xticks(place, labels=names, rotation=90)
        ax.set_xlabel("Active modes")
    else:
        ax.set_xticks(place, labels=[""] * len(place))
        ax.tick_params(axis="x", length=0)
        _matrix(shown, members)
    return ax


def _bars(table: xr.Dataset, ax: Axes) -> None:
    """Draw the null of each set: its central 95 %, and its mean as a line."""
    place = np.arange(table.sizes["set"])
    low, high = np.maximum(table["null_low"], 0.5), np.maximum(table["null_high"], 0.5)
    mean = np.maximum(table["null_mean"], 0.5)
    grey = COLOURS.paper
    ax.bar(place, high - low, bottom=low, width=0.7, color=grey, label="independent (95 %)")
    ax.hlines(mean, place - 0.35, place + 0.35, color=COLOURS.quiet, linewidth=0.8)


def _dots(table: xr.Dataset, ax: Axes) -> None:
    """Draw the frames of each set, coloured by what the test said."""
    more, less = table["more"].values, table["less"].values
    level = f"{table.attrs['level']:.0%} false discoveries".replace("%", " %")
    kinds = (
        (more, COLOURS.on, f"more often ({level})"),
        (less, COLOURS.off, f"less often ({level})"),
        (~(more | less), "white", "as often as by chance"),
    )
    frames = table["frames"].values
    for chosen, face, label in kinds:
        if chosen.any():
            edge = COLOURS.ink if face == "white" else face
            at = np.flatnonzero(chosen)
            ax.scatter(at, frames[at], s=12, facecolor=face, edgecolor=edge, label=label, zorder=3)


def _matrix(table: xr.Dataset, ax: Axes) -> None:
    """Draw which modes are in each set; modes that are in none are left out."""
    member = table["member"].transpose("mode", "set").values
    used = np.flatnonzero(member.any(axis=1))
    inside = member[used]
    rows, columns = np.nonzero(np.ones_like(inside))
    ax.scatter(columns, rows, s=9, color=COLOURS.paper, linewidth=0)
    rows, columns = np.nonzero(inside)
    ax.scatter(columns, rows, s=9, color=COLOURS.ink, linewidth=0, zorder=3)
    for column in np.flatnonzero(inside.sum(axis=0) > 1):
        ends = np.flatnonzero(inside[:, column])[[0, -1]]
        ax.plot([column, column], ends, color=COLOURS.ink, linewidth=0.8)
    ax.set_yticks(np.arange(len(used)), labels=table["mode"].values[used].astype(str).tolist())
    ax.set(xlim=(-0.6, inside.shape[1] - 0.4), ylim=(len(used) - 0.5, -0.5), xticks=[])
    ax.set(xlabel="Sets of active modes, by falling frames", ylabel="Mode")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
