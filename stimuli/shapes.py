"""Outlines of objects: how much of each pixel they cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.errors import Problems
from retinacodec.stimuli.checks import check_number

__all__ = ["Disc", "Shape", "Square", "strip_coverage"]

Array = npt.NDArray[np.float64]

_NARROW = 1e-6  # a pixel turned by less than this is seen edge-on


class Shape(Protocol):
    """An outline around the origin."""

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""

    def coverage(self, x: Array, y: Array, pixel_um: float) -> Array:
        """Return the share, 0 to 1, of the pixels centred on x and y (um) that it covers."""


@dataclass(frozen=True)
class Disc:
    """A disc.

    Parameters
    ----------
    radius_um : float, default 300
        Radius, um.

    Notes
    -----
    The share is exact: Q over the four corners of a pixel, added and subtracted, where Q(x, y) is
    the area of the disc to the left of x and above y.
    """

    radius_um: float = 300.0

    def check(self, problems: Problems) -> None:
        """Note a problem unless the radius is positive."""
        check_number(problems, "Disc radius_um", self.radius_um, above=0)

    def coverage(self, x: Array, y: Array, pixel_um: float) -> Array:
        """Return the share of each pixel that lies inside."""
        x, y = np.broadcast_arrays(x, y)
        beyond = np.hypot(x, y) - self.radius_um
        covered = (beyond < 0).astype(np.float64)
        edge = np.abs(beyond) <= pixel_um * np.sqrt(0.5) + 1e-9
        left, top = x[edge] - pixel_um / 2, y[edge] - pixel_um / 2
        right, below = left + pixel_um, top + pixel_um
        area = self._corner(right, below) + self._corner(left, top)
        area -= self._corner(right, top) + self._corner(left, below)
        covered[edge] = np.clip(area / pixel_um**2, 0, 1)
        return covered

    def _corner(self, x: Array, y: Array) -> Array:
        """Return the area of the disc to the left of x and above y."""
        r = self.radius_um
        x, y = np.clip(x, -r, r), np.clip(y, -r, r)
        chord = np.sqrt(r**2 - y**2)  # half the width of the disc at y
        within = np.clip(x, -chord, chord)
        area = y * (within + chord) + _cap(within, r) - _cap(-chord, r)
        sides = _cap(np.minimum(x, -chord), r) - _cap(-r, r)
        sides += _cap(np.maximum(x, chord), r) - _cap(chord, r)
        corner: Array = area + np.where(y > 0, 2 * sides, 0.0)
        return corner


@dataclass(frozen=True)
class Square:
    """A square.

    Parameters
    ----------
    side_um : float, default 500
        Side, um.
    """

    side_um: float = 500.0

    def check(self, problems: Problems) -> None:
        """Note a problem unless the side is positive."""
        check_number(problems, "Square side_um", self.side_um, above=0)

    def coverage(self, x: Array, y: Array, pixel_um: float) -> Array:
        """Return the share of each pixel that lies inside."""
        across = strip_coverage(x, y, 0.0, self.side_um, pixel_um)
        down = strip_coverage(x, y, 90.0, self.side_um, pixel_um)
        return across * down


def strip_coverage(x: Array, y: Array, direction: float, width_um: float, pixel_um: float) -> Array:
    """Return how much of each pixel a straight strip through the origin covers.

    Parameters
    ----------
    x, y : ndarray
        Centres of the pixels, um.
    direction : float
        Direction across the strip, degrees: 0 along x, 90 along y.
    width_um : float
        Width of the strip, um.
    pixel_um : float
        Side of a pixel, um.

    Returns
    -------
    ndarray
        Share of the pixel's area, 0 to 1, exact for every direction.

    Notes
    -----
    Seen along the strip, a pixel is a trapezoid; S(t) is the share of it below t, and the strip
    covers S(w/2 - d) - S(-w/2 - d) of a pixel whose centre lies at distance d.

    Examples
    --------
    >>> x = np.array([0.0, 50.0, 100.0])
    >>> strip_coverage(x, np.zeros(3), 0.0, 100.0, 50.0).round(6).tolist()
    [1.0, 0.5, 0.0]
    """
    along, across = np.cos(np.deg2rad(direction)), np.sin(np.deg2rad(direction))
    distance = along * x + across * y
    upper = _shadow(width_um / 2 - distance, along, across, pixel_um)
    lower = _shadow(-width_um / 2 - distance, along, across, pixel_um)
    covered: Array = upper - lower
    return covered


def _shadow(t: Array, along: float, across: float, pixel_um: float) -> Array:
    """Return the share of a square pixel on the near side of a line at distance t (um).

    The line's normal is (along, across). The share is the integral of the trapezoid that two
    boxes of widths |along| and |across| make: a second difference of ramps.
    """
    wide, tall = abs(along), abs(across)
    t = t / pixel_um
    if min(wide, tall) < _NARROW:
        return np.clip(t + 0.5, 0, 1)
    far, near = (wide + tall) / 2, abs(wide - tall) / 2
    share = _ramp(t + far) - _ramp(t + near) - _ramp(t - near) + _ramp(t - far)
    clipped: Array = np.clip(share / (wide * tall), 0, 1)
    return np.where(t >= far, 1.0, clipped)


def _cap(x: Array | float, r: float) -> Array:
    """Integrate the height of a half disc, sqrt(r^2 - u^2), from the middle to x."""
    height = np.sqrt(np.maximum(r**2 - np.square(x), 0))
    area: Array = (x * height + r**2 * np.arcsin(np.clip(np.divide(x, r), -1, 1))) / 2
    return area


def _ramp(t: Array) -> Array:
    """Return the second integral of a pulse at 0."""
    ramp: Array = np.maximum(t, 0) ** 2 / 2
    return ramp
