"""How matches of interneurons with model units look: scores over nulls, maps, traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_interneuron_matches"]

Array = npt.NDArray[Any]


def draw_interneuron_matches(matches: xr.Dataset, ax: Axes) -> Axes:
    """Draw each interneuron's held-out correlation over the spread of its null.

    Parameters
    ----------
    matches : xarray.Dataset
        What `match_interneurons` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; filled points are above 95 % of their null.
    """
    score = matches["correlation"].stack(interneuron=matches["correlation"].dims)
    null = matches["null"].stack(interneuron=matches["correlation"].dims)
    low, high = np.nanpercentile(null, [2.5, 97.5], axis=null.get_axis_num("shift"))
    sure = matches["p_value"].values.ravel() <= 0.05
    at = np.arange(score.size)
    ax.hlines(at, low, high, color=COLOURS.quiet, linewidth=4, alpha=0.5, label="null, 95 %")
    for chosen, face in ((sure, COLOURS.ink), (~sure, COLOURS.paper)):
        ax.scatter(score[chosen], at[chosen], facecolor=face, edgecolor=COLOURS.ink, zorder=3)
    names = [" ".join(map(str, name)) for name in score["interneuron"].values]
    ax.set_yticks(at, names)
    ax.invert_yaxis()
    ax.axvline(0, color=COLOURS.quiet, linewidth=0.5)
    ax.set_xlabel("held-out correlation with the best unit")
    return ax
