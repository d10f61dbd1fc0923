"""The fields of a recording as a printed figure: maps with their ellipses, and time courses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.kernels_figure import kernel_gallery
from retinacodec.analyses.receptive_fields import sta_peaks
from retinacodec.errors import InputError
from retinacodec.plotting import (
    COLOURS,
    field_map,
    figure,
    panel_letter,
    shade,
    style,
    trace,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_field", "draw_kernel", "field_gallery"]

Array = npt.NDArray[Any]

_ROW_MM = 45.0


def field_gallery(
    averages: xr.Dataset,
    table: xr.Dataset,
    *,
    model: xr.DataArray | None = None,
    agreement: xr.Dataset | None = None,
    window: int = 14,
    cells: int = 24,
) -> Figure:
    """Print the fields of all cells: the map at the peak, its ellipse, and the time course.

    Parameters
    ----------
    averages : xarray.Dataset
        What `spike_triggered_average` returns.
    table : xarray.Dataset
        What `fields_table` makes of them.
    model : xarray.DataArray (cell, y, x) or (cell, lag, y, x), optional
        Mean fields of a model for the same cells and pixels, shown beside the measured ones; with
        lags, the frame at the lag of the measured peak is, and their time course (dashed).
    agreement : xarray.Dataset, optional
        What `compare_with_average` returns for the model, or ``correlation``,
        ``correlation_low`` and ``correlation_high`` (cell); shown with ``corrected`` if it has it.
    window : int, default 14
        Pixels on each side of the square around the field.
    cells : int, default 24
        Most cells in the figure, the first ones.

    Returns
    -------
    matplotlib.figure.Figure
        A figure of two columns of a journal page. Maps are in standard errors of noise, with the
        ellipse at 1.5 sigma where the field is significant; stars say p < 0.05, 0.01 and 0.001.
        For a full-field stimulus, what `kernel_gallery` draws.

    Raises
    ------
    InputError
        If the cells of the arguments differ, or the model has other pixels.
    """
    if averages.sizes["y"] == averages.sizes["x"] == 1:
        return kernel_gallery(table)
    _check(averages, table, model)
    shown = min(table.sizes["cell"], cells)
    panels = 2 if model is None else 3
    across = min(3 if model is None else 2, shown)
    down = -(-shown // across)
    with style():
        drawing = figure(height_mm=_ROW_MM * down)
        axes = drawing.subplots(
            down, panels * across, squeeze=False, width_ratios=([1] * (panels - 1) + [1.1]) * across
        )
        for ax in axes.flat[panels * shown :]:
            ax.set_visible(False)
        for k in range(shown):
            row, left = divmod(k, across)
            places = axes[row, panels * left : panels * (left + 1)]
            draw_field(averages, table, places[0], cell=k, window=window)
            if model is not None:
                _draw_model(averages, table, model, agreement, places[1], k, window)
            draw_kernel(table, places[-1], cell=k)
            if model is not None and "lag" in model.dims:
                _draw_course(averages, table, model, places[-1], k)
            panel_letter(places[0], "abcdefghijklmnopqrstuvwxyz"[k], dx=-6, dy=12)
    return drawing


def _check(averages: xr.Dataset, table: xr.Dataset, model: xr.DataArray | None) -> None:
    """Check that the arguments are of the same cells and pixels."""
    names = averages["cell"].values.tolist()
    if table["cell"].values.tolist() != names:
        raise InputError("field_gallery: the table is of other cells than the averages")
    if model is None:
        return
    sizes = {name: averages.sizes[name] for name in ("cell", "y", "x")}
    if {name: model.sizes.get(name) for name in sizes} != sizes:
        raise InputError(f"model: expected fields of sizes {sizes}, got {dict(model.sizes)}")


def draw_field(
    averages: xr.Dataset, table: xr.Dataset, ax: Axes, *, cell: int = 0, window: int = 14
) -> Axes:
    """Draw a cell's average at the lag of its peak, with the ellipse of its Gaussian.

    Parameters
    ----------
    averages : xarray.Dataset
        What `spike_triggered_average` returns.
    table : xarray.Dataset
        What `fields_table` makes of them.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int, default 0
        Position of the cell.
    window : int, default 14
        Pixels on each side of the square around the field.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is in standard errors of noise.
    """
    row = table.isel(cell=cell)
    peak = sta_peaks(averages.isel(cell=[cell])).isel(cell=0)
    shared = np.sqrt(averages["effective_spikes"] / averages["spikes"])
    frame = (averages["z"] * shared).isel(cell=cell)
    if np.isfinite(peak["lag"]):
        frame = frame.sel(lag=float(peak["lag"]), method="nearest")
    else:
        frame = frame.isel(lag=-1)
    field_map(ax, _around(frame, row, peak, window))
    _ellipse(ax, row)
    kind = str(row["type"].item()) or "no field"
    ax.set_title(f"{row['cell'].item()}\n{kind}{_stars(float(row['p_value']))}")
    words = "no peak"
    if np.isfinite(peak["lag"]):
        words = f"{float(row['z']):.1f} s.e. at {1000 * float(peak['lag']):.0f} ms".replace(
            "-", "−"
        )
    size = "no fit"
    if np.isfinite(row["size"]) and row["type"].item():
        size = f"size {float(row['size']):.0f} ± {float(row['size_error']):.0f} µm"
    ax.set_xlabel(f"{words}\n{size}", fontsize=6)
    return ax


def _around(frame: xr.DataArray, row: xr.Dataset, peak: xr.Dataset, window: int) -> xr.DataArray:
    """Return a square around the centre of the fit, or the peak, inside the map."""
    cut = {}
    for axis in ("y", "x"):
        middle = row[f"centre_{axis}"] if np.isfinite(row[f"centre_{axis}"]) else peak[axis]
        whole = frame.sizes[axis]
        at = int(np.abs(frame[axis].values - np.nan_to_num(float(middle))).argmin())
        first = int(np.clip(at - window // 2, 0, max(whole - window, 0)))
        cut[axis] = slice(first, first + window)
    return frame.isel(cut)


def _ellipse(ax: Axes, row: xr.Dataset) -> None:
    """Draw the line at 1.5 sigma of the Gaussian of a cell."""
    if not np.isfinite(row["sigma_minor"]) or not row["type"].item():
        return
    turn = np.radians(float(row["orientation"]))
    around = np.linspace(0, 2 * np.pi, 100)
    along = 1.5 * float(row["sigma_major"]) * np.cos(around)
    across = 1.5 * float(row["sigma_minor"]) * np.sin(around)
    x = float(row["centre_x"]) + along * np.cos(turn) - across * np.sin(turn)
    y = float(row["centre_y"]) + along * np.sin(turn) + across * np.cos(turn)
    ax.plot(x, y, color=COLOURS.ink, linewidth=0.8, scalex=False, scaley=False)


def _stars(p: float) -> str:
    """Return how significant a field is."""
    return " " + "*" * sum(p < level for level in (0.05, 0.01, 0.001)) if p < 0.05 else ""


def _draw_model(
    averages: xr.Dataset,
    table: xr.Dataset,
    model: xr.DataArray,
    agreement: xr.Dataset | None,
    ax: Axes,
    cell: int,
    window: int,
) -> None:
    """Draw the model's field of a cell where the measured one is shown."""
    row, frame = table.isel(cell=cell), model.isel(cell=cell)
    peak = sta_peaks(averages.isel(cell=[cell])).isel(cell=0)
    if "lag" in frame.dims:
        frame = frame.sel(lag=float(peak["lag"]), method="nearest")
    frame = frame.assign_coords(y=averages["y"].values, x=averages["x"].values)
    field_map(ax, _around(frame, row, peak, window), bar_um=0)
    _ellipse(ax, row)
    ax.set_title("model")
    if agreement is not None:
        ax.set_title(f"model: r = {_in_words(agreement, 'correlation', cell)}")
        if "corrected" in agreement:
            words = f"corrected {_in_words(agreement, 'corrected', cell)}"
            known = np.isfinite(agreement["corrected"][cell])
            ax.set_xlabel(words if known else "average not reliable", fontsize=6)


def _in_words(agreement: xr.Dataset, name: str, cell: int) -> str:
    """Return a score of a cell and its interval in the next line."""
    value, low, high = (float(agreement[f"{name}{end}"][cell]) for end in ("", "_low", "_high"))
    if not np.isfinite(value):
        return "–"
    return f"{value:.2f}\n[{low:.2f}, {high:.2f}]"


def _draw_course(
    averages: xr.Dataset, table: xr.Dataset, model: xr.DataArray, ax: Axes, cell: int
) -> None:
    """Draw the time course of the model's field where it is at the measured peak's lag."""
    peak = sta_peaks(averages.isel(cell=[cell])).isel(cell=0)
    field = model.isel(cell=cell).transpose("lag", "y", "x")
    if not np.isfinite(peak["lag"]) or not np.abs(field).max() > 0:
        return
    frame = field.sel(lag=float(peak["lag"]), method="nearest").values
    sign = np.sign(frame.flat[np.abs(frame).argmax()])
    course = sign * (field * frame).sum(("y", "x"))
    shared = table["temporal"].isel(cell=cell).sel(lag=course["lag"], method="nearest")
    course *= float(np.linalg.norm(shared) / np.linalg.norm(course))
    trace(ax, 1000 * course["lag"].values, course, colour=COLOURS.ink)
    ax.lines[-1].set(linestyle="dashed", label="model")
    ax.set_xlim(*(1000 * table["lag"].values[[0, -1]]))
    if cell == 0:
        ax.legend(loc="lower left" if sign < 0 else "upper left")


def draw_kernel(table: xr.Dataset, ax: Axes, *, cell: int = 0) -> Axes:
    """Draw a cell's time course with its 95 % band, peak and zero crossing.

    Parameters
    ----------
    table : xarray.Dataset
        What `fields_table` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int, default 0
        Position of the cell.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: time course of norm 1 with the polarity of the field, against ms before the
        response.
    """
    row = table.isel(cell=cell)
    time = 1000 * table["lag"].values
    sign = float(row["polarity"]) if table.sizes["x"] * table.sizes["y"] > 1 else 1.0
    course = row["temporal"].values * (sign if np.isfinite(sign) else 1.0)
    half = 1.96 * float(row["temporal_error"])
    colour = COLOURS.off if str(row["type"].item()) == "OFF" else COLOURS.on
    colour = colour if str(row["type"].item()) else COLOURS.quiet
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    ax.fill_between(time, course - half, course + half, color=colour, alpha=0.2, linewidth=0)
    trace(ax, time, course, colour=colour)
    words = []
    if np.isfinite(row["time_to_peak"]):
        at = -float(row["time_to_peak"])
        low, high = (-float(row[f"time_to_peak_{end}"]) for end in ("high", "low"))
        shade(ax, [(low, high)], colour=colour, alpha=0.12)
        words.append(f"peak at {at:.0f} ms".replace("-", "−"))
    if np.isfinite(row["biphasic_index"]):
        words.append(f"biphasic index {float(row['biphasic_index']):.2f}")
    ax.set_title("\n".join(words), fontsize=6)
    ax.set(xlabel="time before spike (ms)")
    ax.set_ylabel("filter (norm 1)", labelpad=0)
    ax.set_yticks([0])
    return ax
