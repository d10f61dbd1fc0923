"""The scheme of a circuit, drawn from a real frame, real maps and a real field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.plotting import COLOURS, colour_map, symmetric_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_scheme"]

Array = npt.NDArray[Any]

_FACE = 20.0
_STEP = 1.6
_GAP = 9.0
_SHEETS = 3
_BLUE = "#3b82c4"


def draw_scheme(scheme: xr.Dataset, ax: Axes, *, rate: npt.ArrayLike | None = None) -> Axes:
    """Draw the way from the stimulus through the layers to the ganglion cells.

    Parameters
    ----------
    scheme : xarray.Dataset
        ``frame`` (y, x) on screen, ``kernel`` (y, x) field of a first-layer channel, ``map_0``,
        ``map_1`` ... of the layers; attributes ``layers``, ``channels``, ``cells``.
    ax : matplotlib.axes.Axes
        Where to draw; its frame is removed and its aspect is equal.
    rate : array_like (time,), optional
        Rate of a cell, drawn as its response.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.
    """
    layers, channels = list(scheme.attrs["layers"]), list(scheme.attrs["channels"])
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.axis("off")
    _sheets(ax, 0.0, _FACE)
    _image(ax, scheme["frame"].values, 0.0, _FACE, "grey", symmetric=True)
    _title(ax, 0.0, _FACE, "Stimulus", f"{scheme.sizes['y']} × {scheme.sizes['x']} pixels")
    box = _kernel(ax, scheme)
    left = 0.0
    for number, layer in enumerate(layers[:2]):
        face = _FACE * (0.9 if number == 0 else 0.78)
        left += _FACE + 2 * _STEP + _GAP
        _sheets(ax, left, face)
        if f"map_{number}" in scheme:
            _image(ax, scheme[f"map_{number}"].values, left, face, "grey_r", symmetric=False)
        tip = (left + 0.55 * face, -0.05 * face)
        _projection(ax, box, tip)
        box = (tip[0] - 1.2, tip[1] - 1.2, 2.4)
        _title(ax, left, face, f"Layer {number + 1}", f"{layer}, {channels[number]} channels")
    left += _FACE + 2 * _STEP + 0.6 * _GAP
    _cells(ax, left, int(scheme.attrs["cells"]), box, rate)
    ax.set_xlim(-1, left + 21)
    ax.set_ylim(-_FACE / 2 - 4, _FACE / 2 + 2 * _STEP + 7)
    return ax


def _sheets(ax: Axes, left: float, face: float) -> None:
    """Draw a stack of empty sheets, the front one in the middle of the height."""
    from matplotlib.patches import Rectangle

    for depth in range(_SHEETS - 1, -1, -1):
        shift = depth * _STEP
        ax.add_patch(
            Rectangle(
                (left + shift, -face / 2 + shift),
                face,
                face,
                facecolor="white",
                edgecolor=COLOURS.quiet,
                linewidth=0.5,
                zorder=2 - 0.1 * depth,
            )
        )


def _image(
    ax: Axes, picture: Array, left: float, face: float, cmap: str, *, symmetric: bool
) -> None:
    """Put a picture on the front sheet."""
    top = symmetric_limit(picture)
    ax.imshow(
        picture,
        extent=(left, left + face, -face / 2, face / 2),
        cmap=cmap,
        vmin=-top if symmetric else 0,
        vmax=top,
        interpolation="nearest",
        zorder=2.1,
    )


def _title(ax: Axes, left: float, face: float, words: str, detail: str) -> None:
    """Write a name above a stack and a detail below it."""
    middle = left + face / 2 + _STEP
    ax.text(middle, _FACE / 2 + 2 * _STEP + 1.2, words, ha="center", va="bottom", fontsize=7)
    ax.text(
        middle, -_FACE / 2 - 1.0, detail, ha="center", va="top", fontsize=5, color=COLOURS.quiet
    )


def _kernel(ax: Axes, scheme: xr.Dataset) -> tuple[float, float, float]:
    """Draw the field of a channel on the stimulus; return its box (left, bottom, side)."""
    from matplotlib.patches import Rectangle

    kernel = scheme["kernel"].values
    rows, columns = np.nonzero(np.abs(kernel) > 0.1 * symmetric_limit(kernel))
    height, width = kernel.shape
    side = min(int(max(np.ptp(rows), np.ptp(columns))) + 3, height, width) if rows.size else 1
    top, first = (
        int(np.clip(round((where.min() + where.max() - side + 1) / 2), 0, size - side))
        if where.size
        else 0
        for where, size in ((rows, height), (columns, width))
    )
    patch = kernel[top : top + side, first : first + side]
    scale = _FACE / max(height, width)
    box = (first * scale, _FACE / 2 - (top + side) * scale, side * scale)
    limit = symmetric_limit(patch)
    ax.imshow(
        patch,
        extent=(box[0], box[0] + box[2], box[1], box[1] + box[2]),
        cmap=colour_map("vik"),
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        zorder=2.2,
    )
    ax.add_patch(
        Rectangle(box[:2], box[2], box[2], fill=False, edgecolor=_BLUE, linewidth=0.75, zorder=2.3)
    )
    return box


def _projection(ax: Axes, box: tuple[float, float, float], tip: tuple[float, float]) -> None:
    """Draw the two lines from a box to a point of the next layer, and the point."""
    from matplotlib.patches import Rectangle

    left, bottom, side = box
    for height in (bottom, bottom + side):
        ax.plot([left + side, tip[0]], [height, tip[1]], color=_BLUE, linewidth=0.5, zorder=3)
    ax.add_patch(
        Rectangle(
            (tip[0] - 0.6, tip[1] - 0.6),
            1.2,
            1.2,
            facecolor="white",
            edgecolor=_BLUE,
            linewidth=0.75,
            zorder=3.1,
        )
    )


def _cells(
    ax: Axes,
    left: float,
    cells: int,
    box: tuple[float, float, float],
    rate: npt.ArrayLike | None,
) -> None:
    """Draw the ganglion cells, their rate, and what the contributions are asked about."""
    from matplotlib.patches import Circle

    shown, pitch = min(cells, 5), 3.6
    height = shown * pitch
    quiet: dict[str, Any] = {
        "facecolor": "white",
        "edgecolor": COLOURS.quiet,
        "linewidth": 0.5,
        "zorder": 3,
    }
    for index in range(shown):
        ax.add_patch(Circle((left + 1.9, height / 2 - (index + 0.5) * pitch), 1.3, **quiet))
    start = (box[0] + box[2], box[1] + box[2] / 2)
    for end in (-height / 2, height / 2):
        ax.plot([start[0], left], [start[1], end], color=_BLUE, linewidth=0.5, zorder=3)
    middle: dict[str, Any] = {"ha": "center", "va": "bottom"}
    ax.text(left + 1.9, _FACE / 2 + 2 * _STEP + 1.2, "Ganglion cells", **middle)
    below: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 5, "color": COLOURS.quiet}
    ax.text(left + 1.9, -_FACE / 2 - 1.0, f"{cells} cells", **below)
    _target(ax, left, height)
    if rate is not None:
        _response(ax, left + 5.2, np.asarray(rate, dtype=np.float64))


def _target(ax: Axes, left: float, height: float) -> None:
    """Frame the cells as what the contributions are asked about."""
    from matplotlib.patches import Rectangle

    red = COLOURS.highlight
    frame: dict[str, Any] = {"fill": False, "edgecolor": red, "linewidth": 1.2, "zorder": 3.2}
    ax.add_patch(Rectangle((left, -height / 2), 3.8, height, **frame))
    place: dict[str, Any] = {"ha": "left", "va": "bottom", "fontsize": 6, "color": red}
    ax.text(left + 5.2, -height / 2 + 0.2, "contribution\ntarget", **place)


def _response(ax: Axes, left: float, rate: Array) -> None:
    """Draw a rate beside the cells."""
    width, tall = 14.0, 6.0
    heights = rate / (np.nanmax(rate) or 1.0) * tall
    ax.plot(np.linspace(left, left + width, len(rate)), heights, color=COLOURS.quiet, linewidth=0.6)
    ax.text(left, tall + 0.6, "firing rate", fontsize=6, color=COLOURS.quiet, va="bottom")
