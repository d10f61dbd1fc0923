"""The house style of figures: sizes in mm, fonts, line widths, and one colour per meaning."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retinacodec.errors import InputError

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "FULL_MM",
    "HALF_MM",
    "Colours",
    "colour_map",
    "figure",
    "font_used",
    "style",
]

_log = logging.getLogger(__name__)

FULL_MM = 174.0
HALF_MM = 85.0
_MM_PER_INCH = 25.4
_FONTS = ["Arial", "Helvetica", "Liberation Sans", "Nimbus Sans", "DejaVu Sans"]


@dataclass(frozen=True)
class Colours:
    """One colour per meaning, the same in every figure.

    Attributes
    ----------
    on, off : str
        Polarity of a field: red for ON (brighter excites), blue for OFF.
    negative, positive : str
        Sign of a contribution: magenta and green.
    ink, quiet, paper : str
        Data, annotations and scale bars, and the ground of an image without data.
    highlight : str
        The moment or target that a panel is about.
    series : tuple of str
        Distinct colours for modes, cells or groups, safe for colour-blind readers.
    """

    on: str = "#b2331a"
    off: str = "#0f5a8f"
    negative: str = "#a9207f"
    positive: str = "#3f7d20"
    ink: str = "#1a1a1a"
    quiet: str = "#6f6f6f"
    paper: str = "#e4e4e4"
    highlight: str = "#d62839"
    series: tuple[str, ...] = (
        "#1f4fd8",
        "#e07b00",
        "#00876c",
        "#8e44ad",
        "#c2185b",
        "#5d6d7e",
        "#7a5c00",
        "#0097c4",
    )


COLOURS = Colours()


def _settings() -> Any:
    """Return the matplotlib settings of the house style."""
    thin = 0.5
    return {
        "font.family": "sans-serif",
        "font.sans-serif": _FONTS,
        "font.size": 7,
        "axes.titlesize": 7,
        "axes.labelsize": 7,
        "xtick.labelsize": 6,
        "ytick.labelsize": 6,
        "legend.fontsize": 6,
        "legend.frameon": False,
        "legend.handlelength": 1.2,
        "mathtext.default": "regular",
        "axes.linewidth": thin,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.labelpad": 2,
        "axes.titlepad": 3,
        "xtick.major.width": thin,
        "ytick.major.width": thin,
        "xtick.major.size": 2,
        "ytick.major.size": 2,
        "xtick.major.pad": 1.5,
        "ytick.major.pad": 1.5,
        "xtick.minor.width": 0.4,
        "ytick.minor.width": 0.4,
        "xtick.minor.size": 1.2,
        "ytick.minor.size": 1.2,
        "lines.linewidth": 0.75,
        "patch.linewidth": thin,
        "image.interpolation": "nearest",
        "figure.constrained_layout.w_pad": 0.04,
        "figure.constrained_layout.h_pad": 0.03,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "retinacodec",
    }


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw in the house style inside a ``with``; the settings are as before on leaving.

    7 pt sans-serif type, 0.5 pt lines, no frame on the right and at the top, fonts embedded as
    text so that a drawing program can edit them.

    Examples
    --------
    >>> with style():
    ...     drawing = figure(width_mm=85, height_mm=40)
    ...     axis = drawing.subplots()
    >>> [round(float(inches) * 25.4) for inches in drawing.get_size_inches()]
    [85, 40]
    """
    import matplotlib

    with matplotlib.rc_context(_settings()):
        yield


def font_used() -> str:
    """Return the name of the font that the house style finds on this machine."""
    import matplotlib
    from matplotlib import font_manager

    with style():
        known = {entry.name for entry in font_manager.fontManager.ttflist}
        wanted = list(matplotlib.rcParams["font.sans-serif"])
    return next((name for name in wanted if name in known), "DejaVu Sans")


def figure(*, width_mm: float = FULL_MM, height_mm: float = 80.0) -> Figure:
    """Return an empty figure of a size in millimetres, laid out without overlaps.

    Parameters
    ----------
    width_mm : float, default 174
        Width, mm; 85 is one column and 174 two columns of a journal page.
    height_mm : float, default 80
        Height, mm.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, known to no window and to no global list of figures.

    Raises
    ------
    InputError
        If a size is not a positive number of millimetres below one metre.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not (0 < width_mm < 1000 and 0 < height_mm < 1000):
        raise InputError(f"figure: expected mm between 0 and 1000, got {width_mm} x {height_mm}")
    drawing = Figure(
        figsize=(width_mm / _MM_PER_INCH, height_mm / _MM_PER_INCH), layout="constrained"
    )
    FigureCanvasAgg(drawing)
    _log.debug("font of the figures: %s", font_used())
    return drawing


def colour_map(name: str) -> Colormap:
    """Return a scientific colour map by name, with grey where there is no value.

    Parameters
    ----------
    name : str
        A map of cmcrameri: ``"vik"`` (blue to red) for fields, ``"bam"`` (magenta to green) for
        signed contributions, ``"acton_r"`` (pale to purple) for strengths, ``"batlow"`` and so on.

    Raises
    ------
    InputError
        If there is no map of this name.
    """
    from cmcrameri import cm

    found = getattr(cm, name, None)
    if found is None:
        raise InputError(f"colour map: expected a name of cmcrameri such as 'vik', got {name!r}")
    return found.with_extremes(bad=COLOURS.paper)
