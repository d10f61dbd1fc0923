"""Drawing what synthesised stimuli are and what they do to a mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec.analyses.synthesis import ROLES
from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS, trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_synthesis"]

_COLOUR = dict(zip(ROLES, (COLOURS.off, COLOURS.highlight, COLOURS.quiet), strict=True))


def draw_synthesis(
    triples: xr.Dataset, result: xr.Dataset, axes: Sequence[Axes], *, mode: int
) -> Sequence[Axes]:
    """Draw what changed in the stimuli, the loading of a mode, and its mean for each stimulus.

    Parameters
    ----------
    triples : xarray.Dataset
        What `synthesise` returns.
    result : xarray.Dataset
        What `synthesis_test` returns for them.
    axes : sequence of three matplotlib.axes.Axes
        Where to draw.
    mode : int
        Which mode, by its position.

    Returns
    -------
    sequence of matplotlib.axes.Axes
        The axes: change of the picture since the frame before, mean over triples (root mean
        square, contrast); loading, mean and standard error over triples, with a bar where the
        formula holds for at least half of the satisfying stimuli; and the mean loading of each
        triple, its three stimuli joined.

    Raises
    ------
    InputError
        If there are not three axes, or there is no such mode.
    """
    if len(axes) != 3 or not 0 <= mode < result.sizes["mode"]:
        raise InputError(f"draw_synthesis: expected three axes and a mode, got {mode}")
    onset = result.attrs["onset"]
    time = 1000 * (result["time"].values - result["time"].values[onset])
    pictures = triples["contrast"].values
    change = np.sqrt((np.diff(pictures, axis=2) ** 2).mean(axis=(3, 4)))
    loading = result["loading"].values[..., mode]
    for place, role in enumerate(ROLES):
        trace(axes[0], time[1:], change[:, place].mean(axis=0), colour=_COLOUR[role], label=role)
        mean = loading[:, place].mean(axis=0)
        error = loading[:, place].std(axis=0) / np.sqrt(len(loading))
        trace(axes[1], time, mean, colour=_COLOUR[role], band=(mean - error, mean + error))
    each = loading[:, :, onset:].mean(axis=2)
    axes[2].plot(range(3), each.T, color=COLOURS.paper, zorder=1)
    for place, role in enumerate(ROLES):
        axes[2].scatter([place] * len(each), each[:, place], s=8, color=_COLOUR[role], zorder=2)
    held = np.flatnonzero(triples["holds"].values[:, 1].mean(axis=0) >= 0.5)
    held = held[held >= onset]
    top = axes[1].get_ylim()[1]
    axes[1].plot(time[held], np.full(held.size, 1.05 * top), "s", markersize=1.5, color=COLOURS.ink)
    axes[1].set_title("squares: the formula holds")
    effect, low, high = (float(result[name][mode]) for name in ("effect", "low", "high"))
    shown = (time[np.isfinite(loading).all(axis=(0, 1))].min(initial=0), time[-1])
    axes[0].set(xlabel="Time from onset (ms)", ylabel="Change a frame (contrast)", xlim=shown)
    axes[0].legend(loc="upper right")
    axes[1].set(xlabel="Time from onset (ms)", ylabel="Loading", xlim=shown)
    axes[2].set(ylabel="Mean loading", xlim=(-0.4, 2.4))
    axes[2].set_title(f"effect {effect:.2f} ({low:.2f} to {high:.2f})")
    axes[2].set_xticks(range(3), ROLES)
    return axes
