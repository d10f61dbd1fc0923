"""How modes look: rasters, atoms, loadings, stability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec.plotting import COLOURS, heat, raster_map, trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_atoms", "draw_mode_loadings", "draw_modes_raster"]


def draw_modes_raster(modes: xr.Dataset, ax: Axes) -> Axes:
    """Draw the loadings of all modes over time, a row for each mode.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes with ``loading`` (time, mode).
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``. Each mode is shown relative to its 99th
        percentile, white is 0.
    """
    loading = modes["loading"].transpose("mode", ...)
    strong = np.quantile(loading.values, 0.99, axis=1, keepdims=True)
    top = np.maximum(loading.values.max(axis=1, keepdims=True), 1e-12)
    rows = np.clip(loading.values / np.where(strong > 0, strong, top), 0, 1)
    heat(ax, rows, limits=(0.0, 1.0))
    image = ax.images[-1]
    time = loading[loading.dims[1]].values
    image.set_extent((float(time[0]), float(time[-1]), len(rows) - 0.5, -0.5))
    ax.set(xlabel="Time (s)" if loading.dims[1] == "time" else str(loading.dims[1]).capitalize())
    ax.set(ylabel="Mode")
    return ax


def draw_atoms(modes: xr.Dataset, ax: Axes) -> Axes:
    """Draw the atoms, a row for each mode, negative channels left of positive ones.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes with ``atom`` (mode, sign, channel).
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``, coloured symmetrically about 0.
    """
    atoms = modes["atom"].transpose("mode", "sign", "channel")
    channels = atoms.sizes["channel"]
    raster_map(ax, atoms.values.reshape(atoms.sizes["mode"], -1), cmap="bam")
    ax.axvline(channels - 0.5, color=COLOURS.quiet, linewidth=0.6)
    ax.set_xticks(
        [(channels - 1) / 2, channels + (channels - 1) / 2], labels=["negative", "positive"]
    )
    for label, colour in zip(
        ax.get_xticklabels(), (COLOURS.negative, COLOURS.positive), strict=True
    ):
        label.set_color(colour)
    ax.tick_params(axis="x", length=0)
    ax.set(xlabel="Channel", ylabel="Mode")
    return ax


def draw_mode_loadings(modes: xr.Dataset, ax: Axes, *, mode: list[int] | None = None) -> Axes:
    """Draw the loadings of some modes as lines over time.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes with ``loading`` (time, mode).
    ax : matplotlib.axes.Axes
        Where to draw.
    mode : list of int, optional
        Names of the modes; the first two if left out.

    Returns
    -------
    matplotlib.axes.Axes
        The axis, with a legend.
    """
    shown = modes["mode"].values[:2] if mode is None else mode
    for number, name in enumerate(shown):
        loading = modes["loading"].sel(mode=name)
        colour = COLOURS.series[number % len(COLOURS.series)]
        trace(ax, loading["time"], loading, colour=colour, label=f"mode {name}", fill=True)
    ax.set(xlabel="Time (s)", ylabel="Loading")
    ax.legend(loc="upper right")
    return ax
