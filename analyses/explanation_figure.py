"""How explanations are drawn: overlap by length against chance, formulas, masks over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS, FULL_MM, figure, panel_letter, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "draw_explained_image",
    "draw_explanations",
    "explanation_gallery",
    "explanation_rows",
    "explanation_words",
    "explanations_figure",
]

_LONGEST = 42


def draw_explanations(found: xr.Dataset, ax: Axes, *, lengths: Sequence[int] | None = None) -> Axes:
    """Draw how well formulas of each length agree with their masks, and what chance gives.

    Parameters
    ----------
    found : xarray.Dataset
        What `retinacodec.analyses.explain` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    lengths : sequence of int, optional
        Lengths to show; all if left out.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: for each part a line through the mean over explained masks, thin lines for
        single masks of the last part, and the mean of chance with its 95th percentile shaded.
    """
    shown = found["length"].values.tolist() if lengths is None else list(lengths)
    missing = sorted(set(shown) - set(found["length"].values.tolist()))
    if missing or not shown:
        raise InputError(f"lengths: expected some of those explained, got {shown}")
    table = found.sel(length=shown).isel(mask=np.flatnonzero(found["leaves"][:, -1] > 0))
    if not table.sizes["mask"]:
        raise InputError("draw_explanations: no mask was explained; see its reason")
    place = np.arange(len(shown))
    last = str(table["part"].values[-1])
    for row in table["score"].sel(part=last).values:
        ax.plot(place, row, color=COLOURS.quiet, alpha=0.25, linewidth=0.4, zorder=1)
    colours = {"fitted": COLOURS.quiet, "held out": COLOURS.series[0]}
    for part in table["part"].values.tolist():
        mean = table["score"].sel(part=part).mean("mask")
        words = f"mean, {part}"
        ax.plot(place, mean, "o-", color=colours[part], markersize=3, label=words, zorder=3)
    if "null_mean" in table:
        chance = table[["null_mean", "null_high"]].sel(part=last).mean("mask")
        ax.plot(place, chance["null_mean"], "--", color=COLOURS.highlight, label="chance")
        low, high = (chance[name].values for name in ("null_mean", "null_high"))
        ax.fill_between(place, low, high, color=COLOURS.highlight, alpha=0.2, linewidth=0)
    ax.set_xticks(place, labels=[str(one) for one in shown])
    ax.set(xlabel="Most concepts of a formula", ylabel=_metric_words(found))
    ax.set_xlim(-0.2, len(shown) - 0.8)
    ax.set_ylim(bottom=0)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    return ax


def explanation_rows(
    found: xr.Dataset, *, length: int | None = None, most: int | None = None
) -> list[dict[str, Any]]:
    """Return the explanations as rows of a table, the best on held-out data first.

    Parameters
    ----------
    found : xarray.Dataset
        What `retinacodec.analyses.explain` returns.
    length : int, optional
        Most concepts of a formula; the longest if left out.
    most : int, optional
        Number of rows; all if left out.

    Returns
    -------
    list of dict
        ``mask``, ``formula``, ``score`` (fitted), ``held_out``, ``precision`` and ``recall`` (of
        the last part), ``concept``, the best single one, with ``concept_score``, ``p``, ``q``
        and ``reason``.
    """
    one = found.sel(length=length or int(found["length"].max()))
    last = str(found["part"].values[-1])
    held, alone = one.sel(part=last), found.isel(length=0).sel(part=last)
    score = held["score"].values
    order = np.argsort(np.where(np.isnan(score), np.inf, -score), kind="stable")[:most]
    columns: dict[str, npt.NDArray[Any]] = {
        "mask": one["mask"].values,
        "formula": one["formula"].values,
        "score": one["score"].sel(part="fitted").values,
        "held_out": score if last != "fitted" else np.full(score.shape, np.nan),
        "precision": held["precision"].values,
        "recall": held["recall"].values,
        "concept": alone["formula"].values,
        "concept_score": alone["score"].values,
        "p": held["p"].values if "p" in held else np.full(score.shape, np.nan),
        "q": held["q"].values if "q" in held else np.full(score.shape, np.nan),
        "reason": one["reason"].values,
    }
    return [{name: values[k].item() for name, values in columns.items()} for k in order]


def explanation_words(found: xr.Dataset, *, most: int | None = 20) -> str:
    """Return the explanations as a plain table, the best first.

    Parameters
    ----------
    found : xarray.Dataset
        What `retinacodec.analyses.explain` returns.
    most : int, default 20
        Number of rows; None for all.
    """
    rows = explanation_rows(found, most=most)
    table = [["mask", "fitted", "held out", "q", "best single", "formula"]]
    for row in rows:
        numbers = [f"{row[name]:.3f}" for name in ("score", "held_out", "q", "concept_score")]
        words = row["formula"] or row["reason"]
        table.append([str(row["mask"]), *numbers, words])
    widths = [max(len(line[k]) for line in table) for k in range(5)]
    lines = [
        "  ".join([one.ljust(width) for one, width in zip(line, widths, strict=False)] + line[5:])
        for line in table
    ]
    left = found.sizes["mask"] - len(rows)
    return "\n".join(lines + ([f"... and {left} more"] if left else []))


def explanations_figure(
    found: xr.Dataset, *, lengths: Sequence[int] | None = None, most: int = 14
) -> Figure:
    """Draw overlap by length beside a table of the best formulas.

    Parameters
    ----------
    found : xarray.Dataset
        What `retinacodec.analyses.explain` returns.
    lengths : sequence of int, optional
        Lengths to show; all if left out.
    most : int, default 14
        Rows of the table.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    rows = explanation_rows(found, length=None if lengths is None else max(lengths), most=most)
    with style():
        drawing = figure(width_mm=FULL_MM, height_mm=max(52.0, 3.6 * len(rows) + 14))
        left, right = drawing.subplots(1, 2, gridspec_kw={"width_ratios": [1, 2.2]})
        panel_letter(draw_explanations(found, left, lengths=lengths), "A")
        panel_letter(_draw_table(rows, right), "B", dx=-2)
    return drawing


def draw_explained_image(
    ax: Axes,
    picture: npt.ArrayLike,
    mask: npt.NDArray[np.bool_],
    *,
    colour: str = COLOURS.highlight,
) -> Axes:
    """Draw an image, dimmed where a mask is off, with the outline of the mask.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    picture : array_like (y, x, 3) or (y, x)
        The image, 0 to 1.
    mask : ndarray of bool (row, column)
        Where the mask is on, on a grid over the same image.
    colour : str, optional
        Of the outline.
    """
    image = np.asarray(picture, dtype=np.float64)
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    height, width = image.shape[:2]
    rows = np.minimum(np.arange(height) * mask.shape[0] // height, mask.shape[0] - 1)
    columns = np.minimum(np.arange(width) * mask.shape[1] // width, mask.shape[1] - 1)
    large = mask[rows[:, None], columns]
    ax.imshow(np.where(large[..., None], image, 0.35 * image + 0.25))
    if large.any() and not large.all():
        ax.contour(large.astype(float), levels=[0.5], colors=colour, linewidths=0.6)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=False)
    return ax


def explanation_gallery(
    found: xr.Dataset,
    masks: xr.DataArray,
    pictures: npt.ArrayLike,
    *,
    chosen: Sequence[Any] | None = None,
    images: int = 4,
) -> Figure:
    """Show masks over the images in which they are largest, with their formulas as titles.

    Parameters
    ----------
    found : xarray.Dataset
        What `retinacodec.analyses.explain` returns.
    masks : xarray.DataArray of bool (mask, position)
        The masks that were explained, with ``image``, ``y`` and ``x`` along the positions.
    pictures : array_like (image, y, x, 3) or (image, y, x)
        The images, 0 to 1.
    chosen : sequence, optional
        Names of masks, one row each; the six best on held-out images if left out.
    images : int, default 4
        Images of a row, at most; no two are neighbours where images are many.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    shown = np.asarray(pictures)
    rows = {row["mask"]: row for row in explanation_rows(found)}
    names = list(rows)[:6] if chosen is None else list(chosen)
    unknown = [name for name in names if name not in rows]
    if unknown or not names:
        raise InputError(f"chosen: expected names of masks, got {unknown or names}")
    shape = tuple(np.unique(masks[name].values).size for name in ("image", "y", "x"))
    if shape[0] != len(shown) or "y" not in masks.coords:
        raise InputError(f"gallery: {len(shown)} pictures for masks of {shape[0]} images")
    tall = (FULL_MM / images - 2) * shown.shape[1] / shown.shape[2] + 5
    with style():
        drawing = figure(width_mm=FULL_MM, height_mm=tall * len(names))
        axes = drawing.subplots(len(names), images, squeeze=False)
        for name, line in zip(names, axes, strict=True):
            where = list(masks["mask"].values.tolist()).index(name)
            mask = masks.values[where].reshape(shape)
            for ax, image in zip(line, _largest(mask, images), strict=False):
                draw_explained_image(ax, shown[image], mask[image])
            for ax in line[len(_largest(mask, images)) :]:
                ax.set_axis_off()
            line[0].set_title(" ")  # keeps the room; a long formula runs on over the next images
            words = _title(rows[name], _metric_words(found))
            title = line[0].annotate(words, (0, 1), (0, 3), "axes fraction", "offset points")
            title.set_in_layout(False)
    return drawing


def _largest(mask: npt.NDArray[np.bool_], count: int) -> list[int]:
    """Return the images in which a mask is largest, not next to each other where it can be."""
    size = mask.sum(axis=(1, 2))
    apart = max(1, len(size) // (4 * count))
    found: list[int] = []
    for image in np.argsort(-size, kind="stable").tolist():
        if len(found) < count and size[image] and all(abs(image - k) >= apart for k in found):
            found.append(image)
    return found


def _metric_words(found: xr.Dataset) -> str:
    known = {
        "Overlap(excess=1.0, missed=1.0)": "IoU",
        "Overlap(excess=0.5, missed=0.5)": "F1",
        "Overlap(excess=1.0, missed=0.0)": "Precision",
        "Overlap(excess=0.0, missed=1.0)": "Recall",
    }
    return known.get(found.attrs.get("metric", ""), "Overlap")


def _title(row: dict[str, Any], metric: str) -> str:
    held = row["held_out"]
    score, where = (row["score"], "") if np.isnan(held) else (held, " held out")
    words = row["formula"] or row["reason"]
    return f"{row['mask']}: {words}  ({metric} {score:.2f}{where})"


def _draw_table(rows: list[dict[str, Any]], ax: Axes) -> Axes:
    """Write the rows of a table into an axis."""
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(len(rows) + 0.5, -1))
    places = {"mask": 0.0, "formula": 0.08, "score": 0.7, "held_out": 0.82, "p": 0.91, "q": 0.99}
    heads = {"mask": "Mask", "formula": "Formula", "score": "Fitted", "held_out": "Held out"}
    for name, x in places.items():
        side = "left" if x < 0.5 else "right"
        ax.text(x, -0.5, heads.get(name, name), ha=side, va="center", fontweight="bold")
        for line, row in enumerate(rows):
            value = row[name]
            words = f"{value:.3f}" if isinstance(value, float) else str(value)
            if name == "formula":
                words = value or row["reason"]
                words = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
            ax.text(x, line + 0.5, words, ha=side, va="center", fontsize=6)
    return ax
