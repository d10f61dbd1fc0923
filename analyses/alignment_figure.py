"""What a reader must see before trusting a recording: frames as read, and when cells respond."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS, figure, panel_letter, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["alignment_figure"]

_MOST_COURSES = 12


def alignment_figure(check: xr.Dataset) -> Figure:
    """Print frames as they were read, where and when cells respond, and whether delays drift.

    Parameters
    ----------
    check : xarray.Dataset
        What `check_alignment` returns.

    Returns
    -------
    matplotlib.figure.Figure
        (a) three frames with their axes on the retina and the places of the cells' peaks, red
        for ON and blue for OFF; (b) the average stimulus of each cell at its peak pixel, before
        and after the spike, in the same colours; (c) the delay of each stretch of the recording.
        Cells that do not follow the movie are grey.

    Raises
    ------
    InputError
        If the dataset is no result of `check_alignment`.
    """
    if check.attrs.get("kind") != "alignment":
        raise InputError("alignment_figure: expected what check_alignment returns")
    pixels = check.sizes["y"] * check.sizes["x"]
    with style():
        drawing = figure(height_mm=95 if pixels > 1 else 60)
        grid = drawing.add_gridspec(2 if pixels > 1 else 1, 6)
        if pixels > 1:
            frames = [drawing.add_subplot(grid[0, 2 * k : 2 * k + 2]) for k in range(3)]
            _frames(check, frames)
        course = drawing.add_subplot(grid[-1, :3])
        _courses(check, course)
        drift = drawing.add_subplot(grid[-1, 3:])
        _delays(check, drift)
        first = [frames[0]] if pixels > 1 else []
        for ax, letter in zip([*first, course, drift], "abc", strict=False):
            panel_letter(ax, letter)
    return drawing


def _frames(check: xr.Dataset, axes: list[Axes]) -> None:
    """Draw frames in grey, y down as on the retina's surface, with the cells' places."""
    responds = check["responds"].values.astype(bool)
    limit = float(np.abs(check["preview"]).max()) or 1.0
    half = float(np.diff(check["x"].values[:2])[0]) / 2 if check.sizes["x"] > 1 else 25.0
    x, y = check["x"].values, check["y"].values
    box = (x[0] - half, x[-1] + half, y[-1] + half, y[0] - half)
    for number, ax in enumerate(axes):
        frame = check["preview"].isel(preview_frame=number)
        ax.imshow(frame, cmap="gray", vmin=-limit, vmax=limit, extent=box, interpolation="nearest")
        ax.set_title(f"frame at {float(frame['preview_frame']):.1f} s")
        ax.set_xlabel("x on the retina (µm)")
        for on, colour in ((True, COLOURS.on), (False, COLOURS.off)):
            mine = responds & ((check["polarity"].values > 0) == on)
            ax.scatter(
                check["peak_x"].values[mine],
                check["peak_y"].values[mine],
                s=22,
                facecolor=colour,
                edgecolor=COLOURS.paper,
                linewidth=0.8,
                label=("ON cell" if on else "OFF cell") if mine.any() else None,
            )
    axes[0].set_ylabel("y on the retina (µm)")
    if responds.any():
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.1)


def _courses(check: xr.Dataset, ax: Axes) -> None:
    """Draw the average stimulus of each cell around the spike."""
    lag = check["lag"].values * 1e3
    responds = check["responds"].values.astype(bool)
    order = np.argsort(-check["peak_past"].fillna(0).values)
    for place in order[:_MOST_COURSES]:
        sign = COLOURS.on if check["polarity"].values[place] > 0 else COLOURS.off
        colour = sign if responds[place] else COLOURS.quiet
        ax.plot(lag, check["course"].values[place], color=colour, linewidth=0.7)
    ax.axvline(0, color=COLOURS.highlight, linewidth=0.8)
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    ax.set(xlabel="frame relative to the spike (ms)", ylabel="average stimulus\n(standard errors)")
    shown = min(len(order), _MOST_COURSES)
    words = f"{responds.sum()} of {len(order)} cells follow the movie"
    ax.set_title(words + (f" ({shown} drawn)" if shown < len(order) else ""))
    ax.text(
        0.99, 0.02, "after the spike", transform=ax.transAxes, ha="right", color=COLOURS.highlight
    )


def _delays(check: xr.Dataset, ax: Axes) -> None:
    """Draw the delay of each stretch: cells thin, their median thick."""
    responds = check["responds"].values.astype(bool)
    delay = check["delay"].values[:, responds] * 1e3
    at = np.arange(1, check.sizes["block"] + 1)
    if delay.size:
        shown = delay[:, :_MOST_COURSES]
        ax.plot(at, shown, color=COLOURS.quiet, linewidth=0.5)
        ax.plot(
            at,
            np.nanmedian(delay, axis=1),
            "o-",
            color=COLOURS.ink,
            markersize=3,
            label="median of cells",
        )
        ax.legend()
    frame = 1e3 / float(check.attrs["frame_rate"])
    ax.axhspan(-frame / 2, frame / 2, color=COLOURS.quiet, alpha=0.15, linewidth=0)
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    ax.set(xlabel="stretch of the recording", ylabel="delay against the others (ms)", xticks=at)
    ax.set_title("grey band: one frame")
