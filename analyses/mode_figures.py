"""How modes look: rasters, atoms, loadings, stability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS, heat, raster_map, trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "draw_atoms",
    "draw_mode_loadings",
    "draw_mode_scores",
    "draw_modes_raster",
    "draw_rates_raster",
    "draw_stability",
]

_WIDE = 100.0


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
        percentile, white is 0; in two colours where loadings have signs.
    """
    loading = modes["loading"].transpose("mode", ...)
    rows = relative_rows(loading.values)
    if (rows < 0).any():
        raster_map(ax, rows, limit=1.0)
    else:
        heat(ax, rows, limits=(0.0, 1.0))
    _along(ax, loading)
    ax.set(ylabel="Mode")
    _whole(ax.yaxis)
    return ax


def draw_rates_raster(rate: xr.DataArray, ax: Axes) -> Axes:
    """Draw the rates of all cells over time, a row for each cell.

    Parameters
    ----------
    rate : xarray.DataArray (time, cell)
        Rates, Hz.
    ax : matplotlib.axes.Axes
        Where to draw; over `draw_modes_raster` with the same times they line up.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``. Each cell is shown relative to its 99th
        percentile, white is 0.
    """
    rows = rate.transpose("cell", ...)
    heat(ax, relative_rows(rows.values), limits=(0.0, 1.0))
    _along(ax, rows)
    ax.set(ylabel="Cell")
    _whole(ax.yaxis)
    return ax


def relative_rows(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return rows (row, time) relative to their 99th percentile in size, from -1 to 1."""
    size = np.abs(np.asarray(values, dtype=np.float64))
    strong = np.quantile(size, 0.99, axis=1, keepdims=True)
    top = np.maximum(size.max(axis=1, keepdims=True), 1e-12)
    return np.clip(values / np.where(strong > 0, strong, top), -1, 1)


def _whole(axis: Any) -> None:
    """Number the rows or columns of an image by whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))


def _along(ax: Axes, rows: xr.DataArray) -> None:
    """Give the image of an axis the times of its columns (or their numbers), and name them."""
    name = str(rows.dims[1])
    place = rows[name].values
    if place.dtype.kind not in "iuf":
        place = np.arange(len(place))
    half = (float(place[-1]) - float(place[0])) / (2 * max(1, len(place) - 1)) or 0.5
    ends = float(place[0]) - half, float(place[-1]) + half
    ax.images[-1].set_extent((*ends, len(rows) - 0.5, -0.5))
    ax.set(xlabel="Time (s)" if name == "time" else name.capitalize())


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
    """Draw the loadings of some modes as lines over time or images.

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
    sample = next(str(dim) for dim in modes["loading"].dims if dim != "mode")
    for number, name in enumerate(shown):
        loading = modes["loading"].sel(mode=name)
        colour = COLOURS.series[number % len(COLOURS.series)]
        place = np.arange(loading.size) if sample != "time" else loading["time"]
        trace(ax, place, loading, colour=colour, label=f"mode {name}", fill=True)
    ax.set(xlabel="Time (s)" if sample == "time" else sample.capitalize(), ylabel="Loading")
    ax.legend(loc="upper right")
    return ax


def draw_stability(modes: xr.Dataset, ax: Axes, *, between: str = "half_cosine") -> Axes:
    """Draw how alike each mode of one fit is to each mode of another; the diagonal is the same.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes with the table asked for.
    ax : matplotlib.axes.Axes
        Where to draw.
    between : str, default "half_cosine"
        ``"half_cosine"``, between halves of the data, or ``"seed_cosine"``, from other seeds.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``, from cosine 0 to 1.

    Raises
    ------
    InputError
        If the modes have no such table, because it was not asked for.
    """
    if between not in ("half_cosine", "seed_cosine"):
        raise InputError(f"between: expected half_cosine or seed_cosine, got {between!r}")
    if between not in modes or bool(modes[between].isnull().any()):
        raise InputError(f"draw_stability: the modes have no {between}; find them with halves=True")
    heat(ax, np.clip(modes[between].values, 0, 1), limits=(0.0, 1.0))
    words = {"half_cosine": ("first half", "second half"), "seed_cosine": ("a seed", "other seeds")}
    one, other = words[between]
    ax.set(xlabel=f"Mode, {other}", ylabel=f"Mode, {one}", aspect="equal")
    _whole(ax.xaxis)
    _whole(ax.yaxis)
    return ax


def draw_mode_scores(modes: xr.Dataset, ax: Axes) -> Axes:
    """Draw how stable each mode is against what it explains beyond the others.

    Parameters
    ----------
    modes : xarray.Dataset
        What `find_modes` returns, with stability.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: a dot for each mode, open where it is surplus; the dashed line is the 95th
        percentile of the stability of shuffled atoms.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    surplus = modes["surplus"].values.astype(bool)
    gain = 100 * np.maximum(modes["gain"].values, 1e-7)
    for name, shown in (("stability", "other seeds"), ("half_stability", "other half")):
        colour = COLOURS.series[0 if name == "stability" else 1]
        face = np.where(surplus, "white", colour)
        ax.scatter(
            gain, modes[name], s=9, color=face, edgecolors=colour, linewidths=0.7, label=shown
        )
    ax.axhline(modes.attrs["stability_null"], color=COLOURS.quiet, linewidth=0.6, linestyle="--")
    ax.set_xscale("log")
    wide = float(gain.max() / gain.min()) > _WIDE
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="Energy lost without it (%)", ylabel="Cosine", ylim=(-0.02, 1.04))
    ax.legend(loc="lower right", title="found again in")
    return ax
