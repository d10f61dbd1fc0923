"""A figure of a study: what it needs, how it is drawn, and the numbers beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retinacodec.house_style import style
from retinacodec.report import FigureFiles, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from retinacodec.study import Study

__all__ = ["Numbers", "StudyFigure"]

Numbers = Mapping[str, Any]
"""Tables written beside a figure, by name."""


@dataclass(frozen=True)
class StudyFigure:
    """A figure of a study.

    Parameters
    ----------
    name : str
        Name of its files.
    title : str
        Its title in the report.
    caption : str
        What it shows and how to read it.
    needs : tuple of str
        Stored results it is made from; ``{last}`` stands for the last layer.
    make : callable
        Study to figure and the numbers it shows.
    """

    name: str
    title: str
    caption: str
    needs: tuple[str, ...]
    make: Callable[[Study], tuple[Figure, Numbers]]

    def possible(self, study: Study) -> bool:
        """Return whether the study has what this figure shows."""
        last = study.settings.contributions.layers[-1]
        return all(study.has(name.format(last=last)) for name in self.needs)

    def write(self, study: Study) -> FigureFiles:
        """Draw the figure into the study's folder."""
        with style():
            drawing, numbers = self.make(study)
            return write_figure(
                drawing, study.folder / "figures", self.name, numbers, overwrite=True
            )
