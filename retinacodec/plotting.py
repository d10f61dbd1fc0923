"""Primitives of every figure: each draws one thing into an axis and returns the axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError
from retinacodec.house_style import (
    COLOURS,
    FULL_MM,
    HALF_MM,
    Colours,
    colour_map,
    figure,
    font_used,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "FULL_MM",
    "HALF_MM",
    "Colours",
    "colour_bar",
    "colour_map",
    "field_map",
    "figure",
    "font_used",
    "heat",
    "panel_letter",
    "raster_map",
    "scale_bar",
    "shade",
    "style",
    "symmetric_limit",
    "trace",
]

Array = npt.NDArray[Any]


def symmetric_limit(values: npt.ArrayLike) -> float:
    """Return the largest absolute finite value, or 1 where there is none above zero.

    Examples
    --------
    >>> symmetric_limit([-3.0, 2.0, np.nan]), symmetric_limit([0.0])
    (3.0, 1.0)
    """
    size = np.abs(np.asarray(values, dtype=np.float64))
    size = size[np.isfinite(size)]
    return float(size.max()) if size.size and size.max() > 0 else 1.0


def trace(
    ax: Axes,
    time: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    colour: str = COLOURS.ink,
    label: str | None = None,
    fill: bool = False,
    band: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> Axes:
    """Draw a value over time as a line.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    time : array_like (time,)
        Usually seconds.
    values : array_like (time,)
        Value; NaN leaves a gap.
    colour : str, optional
        Colour of the line.
    label : str, optional
        Words for the legend.
    fill : bool, default False
        Fill the area down to zero, faintly.
    band : (array_like, array_like), optional
        Lower and upper end (time,) of what is shaded around the line.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.
    """
    moments, heights = np.asarray(time), np.asarray(values)
    ends = (0, heights) if fill else band
    if ends is not None:
        low, high = (np.asarray(end) for end in ends)
        ax.fill_between(moments, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(moments, heights, color=colour, label=label, solid_joinstyle="round")
    ax.margins(x=0)
    return ax


def raster_map(
    ax: Axes,
    image: npt.ArrayLike,
    *,
    time: npt.ArrayLike | None = None,
    limit: float | None = None,
    cmap: str = "vik",
) -> Axes:
    """Draw rows over time as an image whose colours are symmetric about zero.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    image : array_like (row, time)
        Values; the first row is at the top, rows are numbered 0, 1, ... on the y axis.
    time : array_like (time,), optional
        Regular times of the columns; their numbers if left out.
    limit : float, optional
        Value of the strongest colour, at both ends; the largest absolute value if left out.
    cmap : str, default "vik"
        Diverging colour map; ``"bam"`` for signed contributions.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``.
    """
    rows = np.atleast_2d(np.asarray(image, dtype=np.float64))
    top = symmetric_limit(rows) if limit is None else float(limit)
    left, right = _span(np.arange(rows.shape[1]) if time is None else time)
    ax.imshow(
        rows,
        aspect="auto",
        interpolation="nearest",
        cmap=colour_map(cmap),
        vmin=-top,
        vmax=top,
        extent=(left, right, len(rows) - 0.5, -0.5),
    )
    return ax


def field_map(
    ax: Axes,
    field: npt.ArrayLike,
    *,
    y: npt.ArrayLike | None = None,
    x: npt.ArrayLike | None = None,
    limit: float | None = None,
    bar_um: float | None = None,
    cmap: str = "vik",
) -> Axes:
    """Draw a receptive field: ON red, OFF blue, zero pale, with a scale bar.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    field : array_like (y, x)
        The field; an ``xarray.DataArray`` brings its own ``y`` and ``x``.
    y, x : array_like, optional
        Positions of the pixels on the retina, um; pixel numbers if neither is known.
    limit : float, optional
        Value of the strongest colour; the largest absolute value if left out.
    bar_um : float, optional
        Length of the scale bar, um; a round length near a quarter of the width if left out, no
        bar at 0. Without positions there is no bar.
    cmap : str, default "vik"
        Diverging colour map.

    Returns
    -------
    matplotlib.axes.Axes
        The axis, of equal aspect, without ticks.
    """
    x = _coordinate(field, "x") if x is None else x
    y = _coordinate(field, "y") if y is None else y
    picture = np.asarray(field, dtype=np.float64)
    if picture.ndim != 2:
        raise InputError(f"field_map: expected a field (y, x), got shape {picture.shape}")
    top = symmetric_limit(picture) if limit is None else float(limit)
    left, right = _span(np.arange(picture.shape[1]) if x is None else x)
    upper, lower = _span(np.arange(picture.shape[0]) if y is None else y)
    ax.imshow(
        picture,
        interpolation="nearest",
        cmap=colour_map(cmap),
        vmin=-top,
        vmax=top,
        extent=(left, right, lower, upper),
    )
    ax.set(xticks=[], yticks=[], aspect="equal")
    for spine in ax.spines.values():
        spine.set(visible=True, color=COLOURS.quiet)
    if x is not None and bar_um != 0:
        length = _round_length(abs(right - left) / 4) if bar_um is None else bar_um
        scale_bar(ax, length, f"{length:g} µm")
    return ax


def heat(
    ax: Axes,
    matrix: npt.ArrayLike,
    *,
    limits: tuple[float, float] | None = None,
    cmap: str = "acton_r",
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Axes:
    """Draw a matrix as a heat map.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    matrix : array_like (row, column)
        Values; the first row is at the top.
    limits : (float, float), optional
        Values of the palest and the strongest colour; 0 and the 95th percentile if left out.
    cmap : str, default "acton_r"
        Sequential colour map.
    rows, columns : sequence of str, optional
        Names along the two sides.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``.
    """
    values = np.atleast_2d(np.asarray(matrix, dtype=np.float64))
    if limits is None:
        finite = values[np.isfinite(values)]
        high = float(np.percentile(finite, 95)) if finite.size else 1.0
        limits = (0.0, high if high > 0 else 1.0)
    ax.imshow(
        values,
        aspect="auto",
        interpolation="nearest",
        cmap=colour_map(cmap),
        vmin=limits[0],
        vmax=limits[1],
    )
    if rows is not None:
        ax.set_yticks(np.arange(len(rows)), labels=list(rows))
    if columns is not None:
        ax.set_xticks(np.arange(len(columns)), labels=list(columns))
    ax.tick_params(length=0)
    return ax


def scale_bar(
    ax: Axes, length: float, label: str, *, colour: str = COLOURS.ink, size: float = 5.0
) -> Axes:
    """Draw a bar of a length in data units of x, with its label, in the lower right corner."""
    from matplotlib.transforms import blended_transform_factory

    left, right = ax.get_xlim()
    end = right - 0.05 * (right - left)
    start = end - np.sign(right - left) * length
    place = blended_transform_factory(ax.transData, ax.transAxes)
    ax.plot(
        [start, end],
        [0.06, 0.06],
        color=colour,
        linewidth=1.2,
        solid_capstyle="butt",
        transform=place,
        scalex=False,
        scaley=False,
    )
    ax.annotate(
        label,
        (end, 0.06),
        xycoords=place,
        xytext=(0, 1.5),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=size,
        color=colour,
    )
    return ax


def panel_letter(ax: Axes, letter: str, *, dx: float = -24.0, dy: float = 4.0) -> Axes:
    """Write a panel's letter, bold, dx and dy points off the axis' upper left corner."""
    ax.annotate(
        letter,
        (0, 1),
        xycoords="axes fraction",
        xytext=(dx, dy),
        textcoords="offset points",
        fontsize=10,
        fontweight="bold",
        ha="left",
        va="bottom",
        annotation_clip=False,
    )
    return ax


def shade(
    ax: Axes,
    intervals: Sequence[tuple[float, float]],
    *,
    colour: str = COLOURS.highlight,
    alpha: float = 0.15,
) -> Axes:
    """Shade intervals (start, end) of x behind the data."""
    for start, end in intervals:
        ax.axvspan(start, end, color=colour, alpha=alpha, linewidth=0, zorder=0)
    return ax


def colour_bar(
    ax: Axes,
    label: str,
    *,
    beside: Sequence[Axes] | None = None,
    extend: str = "neither",
    aspect: float = 18,
) -> Any:
    """Add the colour bar of the last image of an axis, with a label that states the unit.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The axis whose last image it explains.
    label : str
        Quantity and unit.
    beside : sequence of Axes, optional
        The axes beside which it stands; the axis itself if left out.
    extend : {"neither", "both", "min", "max"}, default "neither"
        Ends beyond which values share the strongest colour.
    aspect : float, default 18
        Length over width; more for a tall panel.

    Returns
    -------
    matplotlib.colorbar.Colorbar
        The colour bar.
    """
    bar = ax.figure.colorbar(
        ax.images[-1],
        ax=ax if beside is None else list(beside),
        label=label,
        shrink=0.9,
        aspect=aspect,
        pad=0.02,
        extend=extend,
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=1.5)
    return bar


def _coordinate(field: Any, name: str) -> Array | None:
    """Return a coordinate of a DataArray, or None."""
    coords = getattr(field, "coords", {})
    return np.asarray(coords[name]) if name in coords else None


def _span(positions: npt.ArrayLike) -> tuple[float, float]:
    """Return the outer edges of regular bins whose centres are given."""
    centres = np.asarray(positions, dtype=np.float64)
    step = float(np.median(np.diff(centres))) if centres.size > 1 else 1.0
    return float(centres[0] - step / 2), float(centres[-1] + step / 2)


def _round_length(length: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is no longer than this."""
    decade = 10.0 ** np.floor(np.log10(length))
    return float(max(step * decade for step in (1, 2, 5) if step * decade <= length * (1 + 1e-9)))
