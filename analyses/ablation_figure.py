"""How ablation curves are drawn: accuracy against channels taken, and control by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_ablation", "draw_control"]

_AXIS = {"ablate": "Channels silenced (%)", "preserve": "Channels kept (%)"}


def draw_ablation(
    summary: xr.Dataset, ax: Axes, *, direction: str = "ablate", words: dict[str, str] | None = None
) -> Axes:
    """Draw the accuracy that is left against the share of the channels.

    Parameters
    ----------
    summary : xarray.Dataset
        What `retinacodec.analyses.ablation_summary` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    direction : {"ablate", "preserve"}, default "ablate"
        Whether the channels of a class are taken away, or all but them.
    words : dict of str to str, optional
        What selections are called in the legend.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: for each selection a full line for the target class and a broken one for
        others, with their intervals.

    Raises
    ------
    InputError
        If there is no such direction.
    """
    if direction not in _AXIS or direction not in summary["direction"].values:
        raise InputError(f"draw_ablation: expected 'ablate' or 'preserve', got {direction!r}")
    one = summary.sel(direction=direction)
    percent = one["percent"].values
    for number, name in enumerate(one["selection"].values.tolist()):
        colour = COLOURS.quiet if name == "random" else COLOURS.series[number % 8]
        for group, line in (("target", "-"), ("off", (0, (2, 1.5)))):
            part = one.sel(selection=name, group=group)
            label = (words or {}).get(name, name) if group == "target" else None
            ax.plot(percent, part["ratio"], linestyle=line, color=colour, label=label)
            shade = 0.18 if group == "target" else 0.05
            low, high = part["ratio_low"].values, part["ratio_high"].values
            ax.fill_between(percent, low, high, color=colour, alpha=shade, linewidth=0)
    ax.axhline(1, color=COLOURS.quiet, linewidth=0.4, zorder=0)
    ax.set(xlabel=_AXIS[direction], ylabel="Accuracy after / before", xlim=(0, 100))
    ax.set_ylim(0, max(1.1, min(1.6, float(one["ratio"].max()) + 0.05)))
    return ax


def draw_control(
    summaries: xr.Dataset,
    ax: Axes,
    *,
    direction: str = "ablate",
    words: dict[str, str] | None = None,
) -> Axes:
    """Draw by depth how much more the target class changes than others.

    Parameters
    ----------
    summaries : xarray.Dataset
        Summaries of several layers, joined along a dimension ``depth`` whose coordinate names
        them, with ``relative_auc`` (depth, selection, direction) and its interval.
    ax : matplotlib.axes.Axes
        Where to draw.
    direction : {"ablate", "preserve"}, default "ablate"
        Which curves.
    words : dict of str to str, optional
        What selections are called in the legend.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: a line for each selection, with intervals; 0 means no control.

    Raises
    ------
    InputError
        If there is no depth.
    """
    if "depth" not in summaries.dims:
        raise InputError(
            "draw_control: expected summaries joined along 'depth', as by xarray.concat"
        )
    one = summaries.sel(direction=direction)
    names = one["selection"].values.tolist()
    depth = np.arange(one.sizes["depth"])
    for number, name in enumerate(names):
        part = one.sel(selection=name)
        colour = COLOURS.quiet if name == "random" else COLOURS.series[number % 8]
        at = depth + 0.09 * (number - (len(names) - 1) / 2)
        label = (words or {}).get(name, name)
        ax.plot(at, part["relative_auc"], "o-", color=colour, markersize=2.5, label=label)
        low, high = part["relative_auc_low"], part["relative_auc_high"]
        ax.vlines(at, low, high, color=colour, linewidth=1.0)
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.4, zorder=0)
    labels = [str(name) for name in one["depth"].values]
    ax.set_xticks(depth, labels=labels, rotation=30 if len(labels) > 4 else 0)
    what = "silenced" if direction == "ablate" else "kept alone"
    ax.set(xlabel="Layer", ylabel=f"Relative area,\nchannels {what}")
    return ax
