"""One publication, as a sentence and a bibliography refer to it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Reference"]


@dataclass(frozen=True)
class Reference:
    """One publication.

    Parameters
    ----------
    key : str
        Key of the BibTeX entry: first author and year.
    authors : str
        ``Family, Given and Family, Given``, as BibTeX has it.
    title : str
        Title.
    year : int
        Year of publication.
    venue : str
        Journal or proceedings.
    kind : str, default "article"
        BibTeX kind of entry.
    where : str, default ""
        Volume, number and pages as BibTeX fields.
    doi : str, default ""
        Digital object identifier.
    """

    key: str
    authors: str
    title: str
    year: int
    venue: str
    kind: str = "article"
    where: str = ""
    doi: str = ""

    @property
    def short(self) -> str:
        """How a sentence refers to it: ``Melander et al., 2026``."""
        families = [name.split(",")[0] for name in self.authors.split(" and ")]
        if len(families) > 2:
            return f"{families[0]} et al., {self.year}"
        return f"{' and '.join(families)}, {self.year}"

    def bibtex(self) -> str:
        """Return the BibTeX entry."""
        venue = "booktitle" if self.kind == "inproceedings" else "journal"
        lines = [
            f"  author = {{{self.authors}}},",
            f"  title = {{{{{self.title}}}}},",
            f"  {venue} = {{{self.venue}}},",
            f"  year = {{{self.year}}},",
        ]
        lines += [f"  {field.strip()}," for field in self.where.split(";") if field.strip()]
        if self.doi:
            lines.append(f"  doi = {{{self.doi}}},")
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])
