"""The page of a classifier: how often it is right, its depth, and its modes in pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacodec.report import (
    Figure,
    FigureFiles,
    Heading,
    KeyNumber,
    KeyNumbers,
    Section,
    Table,
    Text,
    format_number,
    write_figure,
    write_report,
    write_table,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["GALLERY_FILES", "write_gallery"]

GALLERY_FILES = ("gallery.html", "gallery.pdf", "gallery.png", "gallery_modes.csv")
"""Names of the files that `write_gallery` writes."""

_STABLE = 0.9
_COLUMNS = ("mode", "share", "class", "r", "p", "q", "stability", "loading on its best images")


def write_gallery(
    folder: str | Path,
    seen: xr.Dataset,
    gallery: xr.Dataset,
    *,
    title: str,
    depth: str | Path | bytes | None = None,
    record: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the page of a classifier, its figure and its table of modes.

    Parameters
    ----------
    folder : str or Path
        An existing folder; see `GALLERY_FILES`.
    seen : xarray.Dataset
        What `retinacodec.classification.classify` returns.
    gallery : xarray.Dataset
        What `retinacodec.analyses.class_gallery` returns.
    title : str
        Name of the network.
    depth : str, Path or bytes, optional
        PNG of the depth curves.
    record : mapping, optional
        What else belongs to the provenance, such as hashes of inputs.
    overwrite : bool, default False
        Replace earlier files.

    Returns
    -------
    Path
        The page, which loads nothing.

    Raises
    ------
    InputError
        If the folder does not exist or a file is there already.
    """
    from retinacodec.analyses import class_gallery_figure
    from retinacodec.provenance import provenance

    drawing = class_gallery_figure(gallery)
    files = write_figure(drawing, folder, "gallery", overwrite=overwrite)
    names = ("share", "top_class", "top_correlation", "p", "q", "stability")
    table = gallery[list(names)].to_dataframe()[list(names)].reset_index()
    write_table(table, Path(folder) / "gallery_modes.csv", overwrite=overwrite)
    sections = [*_summary(seen, gallery), *_depth(depth), *_modes(gallery, files)]
    seeds = {"modes and permuted images": int(gallery.attrs["seed"])}
    return write_report(
        folder,
        title=f"Gallery: {title}",
        sections=sections,
        provenance=provenance(seeds=seeds, **dict(record or {})),
        name="gallery.html",
        overwrite=overwrite,
    )


def _summary(seen: xr.Dataset, gallery: xr.Dataset) -> Iterator[Section]:
    """Say in a sentence and a few numbers what was found."""
    attrs, modes = gallery.attrs, gallery.sizes["mode"]
    least = max(_STABLE, float(attrs["stability_null"]))
    again = int((gallery["stability"] > least).sum())
    left = f", {seen.attrs['left_out']} left out" if seen.attrs["left_out"] else ""
    yield Text(
        f"{seen.sizes['image']} images classified{left}. In {gallery.sizes['image']} images the "
        f"contributions of the channels of “{attrs['layer']}” to the logit of the class "
        f"that the network sees were written as sums of {modes} modes.",
        lead=True,
    )
    numbers = []
    if "accuracy" in seen:
        value, low, high = (float(seen[f"accuracy{end}"]) for end in ("", "_low", "_high"))
        said = f"{seen.attrs['level']:.0%}".replace("%", " %")
        note = "First class right, of all images whose class is known; Wilson's interval."
        numbers.append(KeyNumber("accuracy", value, "", low, high, said, note))
    residual = f"{attrs['relative_residual']:.0e}"
    note = "Contributions against the change of the logit, median over images."
    numbers.append(KeyNumber("unexplained share of the logit", residual, note=note))
    found = f"{again} found again from other seeds (cosine > {_said(least)})"
    note = f"At most as many as asked for; {found}."
    numbers.append(KeyNumber("modes", modes, note=note))
    numbers.append(
        KeyNumber(
            "R² of the modes",
            float(attrs["r2"]),
            low=_known(attrs["r2_low"]),
            high=_known(attrs["r2_high"]),
            note="Contributions of images held out.",
        )
    )
    yield KeyNumbers(numbers)


def _depth(picture: str | Path | bytes | None) -> Iterator[Section]:
    """Show the depth curves, where there are any."""
    if picture is None:
        return
    yield Heading("From block to block")
    yield Figure(
        picture,
        "Hoyer sparsity and participation ratio (medians over images), correlation of excitation "
        "and inhibition, and dimensions that hold most of the variance, of contributions and "
        "activations of each block; bars are intervals over images (95 %).",
        title="Contributions and activations by depth",
    )


def _modes(gallery: xr.Dataset, files: FigureFiles) -> Iterator[Section]:
    """Show the modes, as a table and in pictures."""
    kind = "true class" if gallery.attrs["classes"] == "true" else "class seen by the network"
    yield Heading("Modes")
    yield Table(
        _COLUMNS,
        [_row(gallery.sel(mode=mode)) for mode in gallery["mode"].values],
        "Modes by falling share of all loadings; the class with which the loading correlates "
        f"most ({kind}), Pearson's r, its p against permuted images (one-sided, of this pair "
        f"alone, at least {format_number(gallery.attrs['p_least'])}) and q among all pairs of "
        "mode and class; stability, the cosine with modes from other seeds, "
        f"{_said(gallery.attrs['stability_null'])} for shuffled ones. Contributions to the logit "
        "of the class seen differ between classes by themselves: p says that loading and class "
        "belong together, not that the network had to learn it.",
    )
    yield Figure(
        files.png,
        "Each row is a mode: its share of all loadings, its class, r, p and stability. Pictures: "
        "the images with its largest loadings, titled with the class seen in them. Beside each: "
        "the same, dark except where pixels contributed to that class through the mode's strongest "
        "channels (local maps, signs summed).",
        title="What each mode answers to",
        files=(*files.names, "gallery_modes.csv"),
    )


def _row(mode: xr.Dataset) -> list[Any]:
    """Return the row of a mode in the table."""
    loadings = [one for one in mode["best_loading"].values.tolist() if one > 0]
    return [
        int(mode["mode"]),
        float(mode["share"]),
        str(mode["top_class"].values) or "–",
        *(float(mode[name]) for name in ("top_correlation", "p", "q", "stability")),
        ", ".join(map(_said, loadings)) or "–",
    ]


def _known(value: float) -> float | None:
    """Return a number, or None where there were too few images for one."""
    return float(value) if math.isfinite(value) else None


def _said(value: float) -> str:
    return f"{value:.2f}"
