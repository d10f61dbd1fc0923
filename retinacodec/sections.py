"""The parts that a report is made of: plain frozen records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

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
]


class Section(Protocol):
    """A part of a report; ``macro`` names the macro of the template that shows it."""

    macro: ClassVar[str]


@dataclass(frozen=True)
class Heading:
    """A heading, listed in the page's contents.

    Parameters
    ----------
    title : str
        Words of the heading.
    level : int, default 2
        2 for a chapter, 3 for a part of it.
    """

    title: str
    level: int = 2
    macro: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Text:
    """Paragraphs in plain words; an empty line parts them.

    Parameters
    ----------
    body : str
        The text, shown literally.
    lead : bool, default False
        Set in larger type, for the summary.
    """

    body: str
    lead: bool = False
    macro: ClassVar[str] = "text"

    @property
    def paragraphs(self) -> tuple[str, ...]:
        """The paragraphs, without line breaks."""
        parts = (" ".join(part.split()) for part in self.body.split("\n\n"))
        return tuple(part for part in parts if part)


@dataclass(frozen=True)
class KeyNumber:
    """A number that the reader should take home.

    Parameters
    ----------
    label : str
        What it is, in a few words.
    value : float, int or str
        The number.
    unit : str, default ""
        Its unit.
    low, high : float, optional
        Ends of its interval.
    interval : str, default "95 %"
        Which interval that is.
    note : str, default ""
        What it means, in one sentence.
    """

    label: str
    value: float | int | str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    interval: str = "95 %"
    note: str = ""


@dataclass(frozen=True)
class KeyNumbers:
    """A row of `KeyNumber`."""

    items: Sequence[KeyNumber]
    macro: ClassVar[str] = "numbers"


@dataclass(frozen=True)
class Table:
    """A table with a caption above it.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns.
    rows : sequence of sequences
        The cells of each row; numbers are shown with three significant digits.
    caption : str, default ""
        What the table shows.
    units : sequence of str, optional
        Unit of each column, ``""`` where it has none.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    units: Sequence[str] = ()
    macro: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """A picture with a caption below it.

    Parameters
    ----------
    image : Path, str or bytes
        A PNG or SVG file, or its bytes; it becomes part of the page.
    caption : str
        What it shows, how to read it, and the units.
    title : str, default ""
        Its message in a few words.
    alt : str, default ""
        Description for readers who do not see it; the caption if left out.
    files : sequence of str, optional
        Names of the files with the same figure and its numbers, to mention.
    """

    image: Path | str | bytes
    caption: str
    title: str = ""
    alt: str = ""
    files: Sequence[str] = ()
    macro: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Code:
    """Text in a fixed-width face, such as a command or BibTeX.

    Parameters
    ----------
    body : str
        The text, shown literally with its line breaks.
    caption : str, default ""
        What it is.
    """

    body: str
    caption: str = ""
    macro: ClassVar[str] = "code"


@dataclass(frozen=True)
class Settings:
    """Names and values, nested where a value is itself a mapping.

    Parameters
    ----------
    values : mapping
        The settings.
    caption : str, default "Settings"
        What they are.
    folded : bool, default False
        Shown only when the reader opens it.
    """

    values: Mapping[str, Any]
    caption: str = "Settings"
    folded: bool = False
    macro: ClassVar[str] = "settings"


@dataclass(frozen=True)
class FigureFiles:
    """Where the files of one figure are.

    Parameters
    ----------
    pdf, png : Path
        The figure as vectors and as pixels.
    tables : tuple of Path
        The plotted numbers, CSV.
    """

    pdf: Path
    png: Path
    tables: tuple[Path, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all files, for the caption of a report."""
        return tuple(path.name for path in (self.pdf, self.png, *self.tables))
