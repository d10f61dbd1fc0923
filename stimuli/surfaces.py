"""What objects and backgrounds are made of: surfaces that know their contrast at any point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.errors import Problems
from retinacodec.stimuli.checks import check_number
from retinacodec.stimuli.scenes import pink_texture

__all__ = ["Grating", "Paint", "Pink", "Surface", "Uniform"]

Array = npt.NDArray[np.float64]
Paint = Callable[[Array, Array], Array]

_MARGIN = 2  # periods of a texture are this many times the frame


class Surface(Protocol):
    """A surface: it is painted once, and then read at points that move with it."""

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""

    def paint(self, size: tuple[int, int], pixel_um: float, seed: int) -> Paint:
        """Return the contrast as a function of positions x and y (um) on the surface."""


@dataclass(frozen=True)
class Uniform:
    """A surface of one contrast.

    Parameters
    ----------
    contrast : float, default 0
        Contrast, >= -1; 0 is the mean grey.
    """

    contrast: float = 0.0

    def check(self, problems: Problems) -> None:
        """Note a problem unless the contrast can be shown."""
        check_number(problems, "Uniform contrast", self.contrast, least=-1)

    def paint(self, size: tuple[int, int], pixel_um: float, seed: int) -> Paint:  # noqa: ARG002
        """Return the contrast wherever it is asked for."""
        return lambda x, y: np.full(np.broadcast(x, y).shape, float(self.contrast))


@dataclass(frozen=True)
class Grating:
    """Bars of contrast ``+contrast`` and ``-contrast``.

    Parameters
    ----------
    bar_um : float, default 100
        Width of one bar, half a period, um.
    contrast : float, default 1
        Michelson contrast, 0 to 1.
    direction : float, default 0
        Direction across the bars, degrees: 0 along x, 90 along y.

    Notes
    -----
    A pixel shows the mean of the square wave over the pixel's larger extent across the bars, so
    that a grating moves smoothly: (Q(s + w/2) - Q(s - w/2)) / w with the wave's integral Q.
    """

    bar_um: float = 100.0
    contrast: float = 1.0
    direction: float = 0.0

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""
        check_number(problems, "Grating bar_um", self.bar_um, above=0)
        check_number(problems, "Grating contrast", self.contrast, above=0, most=1)
        check_number(problems, "Grating direction", self.direction)

    def paint(self, size: tuple[int, int], pixel_um: float, seed: int) -> Paint:  # noqa: ARG002
        """Return the square wave, averaged over a pixel."""
        along = np.array([np.cos(np.deg2rad(self.direction)), np.sin(np.deg2rad(self.direction))])
        width = pixel_um * np.abs(along).max()

        def contrast(x: Array, y: Array) -> Array:
            s = along[0] * x + along[1] * y
            mean: Array = (self._integral(s + width / 2) - self._integral(s - width / 2)) / width
            return self.contrast * mean

        return contrast

    def _integral(self, s: Array) -> Array:
        """Integrate a wave that is +1 for one bar and -1 for the next, from 0 on."""
        period = 2 * self.bar_um
        triangle: Array = self.bar_um - np.abs(s % period - self.bar_um)
        return triangle


@dataclass(frozen=True)
class Pink:
    """A random texture whose amplitude spectrum falls as a power of frequency, as in nature.

    Parameters
    ----------
    contrast : float, default 0.3
        Standard deviation of the contrast, > 0; values beyond -1 and 1 are clipped.
    exponent : float, default 1
        The amplitude falls as ``f ** -exponent``; 0 is white.
    """

    contrast: float = 0.3
    exponent: float = 1.0

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""
        check_number(problems, "Pink contrast", self.contrast, above=0)
        check_number(problems, "Pink exponent", self.exponent, least=0)

    def paint(self, size: tuple[int, int], pixel_um: float, seed: int) -> Paint:
        """Return a periodic texture of twice the frame, interpolated between its points."""
        side = max(2, _MARGIN * max(size))
        texture = pink_texture((side, side), seed=seed, exponent=self.exponent)
        sheet = np.clip(self.contrast * texture.astype(np.float64), -1, 1)

        def contrast(x: Array, y: Array) -> Array:
            column, row = np.floor(x / pixel_um), np.floor(y / pixel_um)
            u, v = x / pixel_um - column, y / pixel_um - row
            left, top = (index.astype(np.intp) % side for index in (column, row))
            right, below = (left + 1) % side, (top + 1) % side
            upper = (1 - u) * sheet[top, left] + u * sheet[top, right]
            lower = (1 - u) * sheet[below, left] + u * sheet[below, right]
            mixed: Array = (1 - v) * upper + v * lower
            return mixed

        return contrast
