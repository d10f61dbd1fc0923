"""The written outcome: figures with their numbers, and one self-contained page that explains."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from retinacodec.atomic import check_free, replacing
from retinacodec.errors import InputError
from retinacodec.house_style import style
from retinacodec.sections import (
    Code,
    Figure,
    FigureFiles,
    Heading,
    KeyNumber,
    KeyNumbers,
    Section,
    Settings,
    Table,
    Text,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

__all__ = [
    "Code",
    "Figure",
    "FigureFiles",
    "Heading",
    "KeyNumber",
    "KeyNumbers",
    "Section",
    "Settings",
    "Table",
    "Text",
    "write_figure",
    "write_report",
    "write_table",
]

_UNITLESS = {"", "1"}
_PICTURES = {b"\x89PNG": "image/png", b"<svg": "image/svg+xml", b"<?xm": "image/svg+xml"}


def write_figure(
    drawing: Drawing,
    folder: str | Path,
    name: str,
    data: Mapping[str, Any] | None = None,
    *,
    dpi: int = 250,
    overwrite: bool = False,
) -> FigureFiles:
    """Write a figure as PDF and PNG, and the numbers it shows as CSV.

    Parameters
    ----------
    drawing : matplotlib.figure.Figure
        The figure. Its layout is solved once and stays fixed, so that both files, and those of a
        later call, show the same.
    folder : str or Path
        An existing folder.
    name : str
        Name of the files, without ending.
    data : mapping of str to xarray.Dataset, xarray.DataArray or pandas.DataFrame, optional
        The plotted numbers of each panel; panel ``A`` goes to ``<name>_A.csv``. A Dataset whose
        variables have different dims gives one table for each set of dims.
    dpi : int, default 250
        Dots per inch of the PNG.
    overwrite : bool, default False
        Replace earlier files of these names.

    Returns
    -------
    FigureFiles
        Where the files are.

    Raises
    ------
    InputError
        If the folder does not exist or a file is there already.

    Notes
    -----
    The same figure gives the same bytes: no date is written and the layout is solved once.
    """
    stem = Path(folder) / name
    pdf, png = (stem.with_name(f"{name}.{ending}") for ending in ("pdf", "png"))
    frames = {
        stem.with_name(f"{name}_{label}.csv"): frame
        for panel, values in (data or {}).items()
        for label, frame in _frames(panel, values)
    }
    for path in (pdf, png, *frames):
        check_free(path, overwrite)
    with style():
        drawing.set_dpi(dpi)  # words are narrower in few dots, and the layout would cut them
        drawing.canvas.draw()
        drawing.set_layout_engine("none")
        with replacing(pdf, overwrite=overwrite) as temporary:
            drawing.savefig(temporary, format="pdf", metadata={"CreationDate": None})
        with replacing(png, overwrite=overwrite) as temporary:
            drawing.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})
    for path, frame in frames.items():
        write_table(frame, path, overwrite=overwrite)
    return FigureFiles(pdf=pdf, png=png, tables=tuple(frames))


def write_table(frame: pd.DataFrame, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a table as CSV with nine significant digits and Unix line ends.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table; its index is not written.
    path : str or Path
        Where to.
    overwrite : bool, default False
        Replace an earlier file.

    Returns
    -------
    Path
        Where it is.
    """
    target = Path(path)
    with replacing(target, overwrite=overwrite) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")
    return target


def write_report(
    folder: str | Path,
    *,
    title: str,
    sections: Sequence[Section],
    provenance: Mapping[str, Any],
    name: str = "report.html",
    overwrite: bool = False,
) -> Path:
    """Write one HTML page that holds everything and loads nothing.

    Parameters
    ----------
    folder : str or Path
        An existing folder.
    title : str
        Title of the page.
    sections : sequence of Section
        What it says, from top to bottom; figures and tables are numbered in this order. All texts
        are shown literally, so names from a file cannot become markup.
    provenance : mapping
        What `retinacodec.provenance.provenance` returned; shown at the end.
    name : str, default "report.html"
        Name of the file.
    overwrite : bool, default False
        Replace an earlier file.

    Returns
    -------
    Path
        Where the page is.

    Raises
    ------
    InputError
        If the folder does not exist, the file is there already, or a figure is no picture.
    """
    target = Path(folder) / name
    check_free(target, overwrite)
    macros: Any = _template().module
    parts, contents = [], []
    counts: dict[str, int] = {}
    for section in sections:
        counts[section.macro] = counts.get(section.macro, 0) + 1
        extra: dict[str, Any] = {"number": counts[section.macro]}
        if isinstance(section, Heading):
            extra["anchor"] = f"{_slug(section.title)}-{extra['number']}"
            contents.append((section.title, extra["anchor"], section.level))
        if isinstance(section, Figure):
            extra["source"] = _inline(section.image)
        parts.append(getattr(macros, section.macro)(section, **extra))
    page = macros.page(title=title, parts=parts, contents=contents, provenance=provenance)
    with replacing(target, overwrite=overwrite) as temporary:
        temporary.write_text(str(page).strip() + "\n", encoding="utf-8")
    return target


def _frames(panel: str, values: Any) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield a label and a table with units in its header for each set of dims."""
    if isinstance(values, xr.DataArray):
        values = values.to_dataset(name=str(values.name or "value"))
    if not isinstance(values, xr.Dataset):
        yield panel, values
        return
    groups: dict[tuple[str, ...], list[Any]] = {}
    for name, variable in values.data_vars.items():
        groups.setdefault(tuple(map(str, variable.dims)), []).append(name)
    for dims, names in groups.items():
        label = panel if len(groups) == 1 else f"{panel}_{'-'.join(dims) or 'scalars'}"
        yield label, _frame(values[names])


def _frame(dataset: xr.Dataset) -> pd.DataFrame:
    """Return variables of the same dims as a table in long form."""
    import pandas as pd

    if not dataset.dims:
        table = pd.DataFrame({str(name): [dataset[name].item()] for name in dataset.data_vars})
    else:
        table = dataset.to_dataframe().reset_index()
    units = {name: dataset[name].attrs.get("units", "") for name in dataset.variables}
    return table.rename(
        columns={
            name: f"{name} ({unit})" for name, unit in units.items() if str(unit) not in _UNITLESS
        }
    )


def _template() -> Any:
    """Return the page's template, which escapes every text."""
    from jinja2 import Environment, StrictUndefined

    source = resources.files("retinacodec").joinpath("report.html.jinja").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = format_number
    environment.tests["nested"] = lambda value: isinstance(value, Mapping)
    environment.tests["listed"] = lambda value: isinstance(value, (list, tuple))
    return environment.from_string(source)


def format_number(value: Any) -> str:
    """Return a value as a reader wants it: three significant digits, a dash where there is none.

    Examples
    --------
    >>> [format_number(value) for value in (0.123456, 9999, 1.5e-7, float("nan"), True, "x")]
    ['0.123', '9999', '1.5 × 10⁻⁷', '–', 'yes', 'x']
    """
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return _format_float(float(value))
    if isinstance(value, (int, np.integer)):
        grouped = f"{int(value):,}".replace(",", "\u202f")
        return (grouped if abs(int(value)) >= 10_000 else str(value)).replace("-", "\u2212")
    return "–" if value is None else str(value)


def _format_float(value: float) -> str:
    """Return three significant digits, with a power of ten where the number is far from 1."""
    if not np.isfinite(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{float(mantissa):g} × 10{raised}".replace("-", "\u2212")
    digits = max(0, 2 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:.{digits}f}".replace("-", "\u2212")


def _inline(image: Path | str | bytes) -> str:
    """Return a picture as a data URI."""
    if not isinstance(image, bytes):
        path = Path(image)
        if not path.is_file():
            raise InputError(f"{path}: no such picture; write the figure first")
        image = path.read_bytes()
    kind = _PICTURES.get(image[:4])
    if kind is None:
        raise InputError("report: expected a PNG or SVG picture, got other bytes")
    return f"data:{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _slug(text: str) -> str:
    """Return a text as an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
