"""Parametric shapes of spatial fields: a Gaussian, and a Gaussian centre less a wider surround."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError

__all__ = ["DifferenceOfGaussians", "FieldModel", "Gaussian", "Grid"]

Array = npt.NDArray[Any]

_NODE = 0.5 / np.sqrt(3.0)  # Gauss-Legendre, two to a side: pixel means exact for cubics
_SMALL = 1e-8


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the pixels of a map lie, in units of the pixel pitch.

    Attributes
    ----------
    points : ndarray (axis, node, pixel)
        Places within each pixel over which a shape is averaged; an axis of ``axes`` each.
    axes : tuple of str
        The axes with more than one pixel, of ``"y"`` and ``"x"``.
    pitch : float
        The unit of length, um.
    shape : (int, int)
        Pixels along y and x.
    """

    points: Array
    axes: tuple[str, ...]
    pitch: float
    shape: tuple[int, int]

    @classmethod
    def of(cls, y: npt.ArrayLike, x: npt.ArrayLike) -> Grid:
        """Return the grid of pixels whose centres are given, um."""
        places = {"y": np.asarray(y, dtype=float), "x": np.asarray(x, dtype=float)}
        axes = tuple(name for name, place in places.items() if place.size > 1)
        steps = {name: float(np.median(np.diff(places[name]))) for name in axes}
        pitch = float(np.mean(np.abs(list(steps.values())))) if axes else 1.0
        spread = np.meshgrid(places["y"], places["x"], indexing="ij")
        centres = {"y": spread[0].ravel() / pitch, "x": spread[1].ravel() / pitch}
        if not axes:
            return cls(np.zeros((0, 1, centres["y"].size)), axes, pitch, (1, 1))
        signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * len(axes), indexing="ij"))
        nodes = signs.reshape(len(axes), -1, 1) * _NODE
        points = np.stack(
            [centres[name] + nodes[k] * steps[name] / pitch for k, name in enumerate(axes)]
        )
        return cls(points, axes, pitch, (places["y"].size, places["x"].size))

    @property
    def centres(self) -> Array:
        """Centres of the pixels (axis, pixel), in units of the pitch."""
        return np.asarray(self.points.mean(axis=1))


class FieldModel(Protocol):
    """A shape with parameters: amplitude, offset, place, log covariance, and its own."""

    def names(self, dims: int) -> tuple[str, ...]:
        """Return the names of the parameters for maps of one or two dimensions."""
        ...

    def __call__(self, values: Array, grid: Grid) -> Array:
        """Return the shape (..., pixel) for parameters (parameter, ..., 1, 1), real or complex.

        Parameters
        ----------
        values : ndarray (parameter,) or (parameter, ..., 1, 1)
            One set of parameters or many.
        grid : Grid
            Where the pixels lie.

        Returns
        -------
        ndarray (..., pixel)
            Values of the pixels.
        """
        ...

    def starts(self, gaussian: Array) -> list[Array]:
        """Return where to begin, from the parameters of a Gaussian."""
        ...

    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the lowest and highest values of the shape's own parameters."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian with any orientation on a constant.

    Notes
    -----
    ``f(r) = offset + A mean_pixel exp(-(r - c)^T S^-1 (r - c) / 2)``, the mean over the pixel's
    area by four nodes, since a check shows the integral of a field and not its value at a point.
    The covariance is ``S = exp([[p + q, r], [r, p - q]])`` over (x, y), a matrix exponential:
    any ``p, q, r`` is an ellipse, and a circle (q = r = 0) is an ordinary point. With
    ``h = sqrt(q^2 + r^2)`` the sigmas are ``exp((p +- h) / 2)``.
    """

    def names(self, dims: int) -> tuple[str, ...]:
        """Return the names of the parameters for maps of one or two dimensions."""
        return ("amplitude", "offset", *(("y", "x", "p", "q", "r") if dims == 2 else ("c", "p")))

    def __call__(self, values: Array, grid: Grid) -> Array:
        """Return the values of the pixels."""
        shape = np.exp(-_squared_distance(values, grid) / 2)
        return _on_offset(values, shape)

    def starts(self, gaussian: Array) -> list[Array]:
        """Return where to begin, from the parameters of a Gaussian."""
        return [gaussian]

    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the lowest and highest values of the shape's own parameters."""
        return (), ()


@dataclass(frozen=True)
class DifferenceOfGaussians:
    """A Gaussian centre less a wider surround of the same middle and shape.

    Parameters
    ----------
    ratios : (float, float), default (1.2, 10)
        Least and largest sigma of the surround over that of the centre.
    heaviest : float, default 3
        Largest weight of the surround.

    Notes
    -----
    ``f = offset + A mean_pixel (exp(-d/2) - w / k^D exp(-d / (2 k^2)))`` with ``d`` as in
    `Gaussian`, ``k`` the ratio of sigmas, D the number of dimensions and ``w`` the weight: the
    volume of the surround over that of the centre, so that w = 1 does not answer to a full field.

    References
    ----------
    .. [1] Rodieck, Vision Research 5, 583 (1965).
    .. [2] Enroth-Cugell and Robson, Journal of Physiology 187, 517 (1966).
    """

    ratios: tuple[float, float] = (1.2, 10.0)
    heaviest: float = 3.0

    def __post_init__(self) -> None:
        if not (1 < self.ratios[0] < self.ratios[1] and self.heaviest > 0):
            raise InputError(
                "DifferenceOfGaussians: expected ratios (low, high) with 1 < low < high and "
                f"heaviest above 0, got {self.ratios} and {self.heaviest}"
            )

    def names(self, dims: int) -> tuple[str, ...]:
        """Return the names of the parameters for maps of one or two dimensions."""
        return (*Gaussian().names(dims), "log_ratio", "weight")

    def __call__(self, values: Array, grid: Grid) -> Array:
        """Return the values of the pixels."""
        ratio, weight = np.exp(values[-2]), values[-1]
        squared = _squared_distance(values[:-2], grid)
        around = weight / ratio ** len(grid.axes) * np.exp(-squared / (2 * ratio**2))
        return _on_offset(values, np.exp(-squared / 2) - around)

    def starts(self, gaussian: Array) -> list[Array]:
        """Return where to begin, from the parameters of a Gaussian."""
        low, high = self.ratios
        guesses = ((0.25 * high + 0.75 * low, 0.7), (low * 1.4, 0.5))
        return [
            np.r_[gaussian, np.log(min(ratio, high)), min(weight, self.heaviest)]
            for ratio, weight in guesses
        ]

    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the lowest and highest values of the shape's own parameters."""
        low, high = np.log(self.ratios)
        return (float(low), 0.0), (float(high), self.heaviest)


def _on_offset(values: Array, shape: Array) -> Array:
    """Return ``offset + amplitude shape``, the shape averaged over the nodes of each pixel."""
    means = shape.mean(axis=-2, keepdims=True)
    return np.asarray((values[1] + values[0] * means)[..., 0, :])


def _squared_distance(values: Array, grid: Grid) -> Array:
    """Return ``(r - c)^T S^-1 (r - c)`` (node, pixel)."""
    if len(grid.axes) == 1:
        return np.asarray((grid.points[0] - values[2]) ** 2 * np.exp(-values[3]))
    y, x = grid.points[0] - values[2], grid.points[1] - values[3]
    p, q, r = values[4:7]
    square = q * q + r * r
    near = np.abs(square) < _SMALL
    root = np.sqrt(np.where(near, 1.0, square))
    even = np.where(near, 1 + square / 2, np.cosh(root))
    odd = np.where(near, 1 + square / 6, np.sinh(root) / root)
    form = even * (x * x + y * y) - odd * (q * (x * x - y * y) + 2 * r * x * y)
    return np.asarray(np.exp(-p) * form)
