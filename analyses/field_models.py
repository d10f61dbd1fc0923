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
_STEP = 1e-30  # of the imaginary part, by which the three entries of a form are differentiated


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

    def slopes(self, values: Array, grid: Grid) -> Array:
        """Return the derivatives (pixel, parameter) at one set of parameters.

        Parameters
        ----------
        values : ndarray (parameter,)
            Parameters.
        grid : Grid
            Where the pixels lie.

        Returns
        -------
        ndarray (pixel, parameter)
            Exact derivatives of the values of the pixels.
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

    def slopes(self, values: Array, grid: Grid) -> Array:
        """Return the derivatives (pixel, parameter) at one set of parameters."""
        shape = np.exp(-_squared_distance(values, grid) / 2)
        return _slopes(values, shape, -shape / 2, (), grid)

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

    def slopes(self, values: Array, grid: Grid) -> Array:
        """Return the derivatives (pixel, parameter) at one set of parameters."""
        ratio, weight = np.exp(values[-2]), values[-1]
        squared = _squared_distance(values[:-2], grid)
        centre, wide = np.exp(-squared / 2), np.exp(-squared / (2 * ratio**2))
        wide /= ratio ** len(grid.axes)
        by_square = (weight / ratio**2 * wide - centre) / 2
        by_ratio = weight * wide * (len(grid.axes) - squared / ratio**2)
        return _slopes(values, centre - weight * wide, by_square, (by_ratio, -wide), grid)

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


def _slopes(
    values: Array, shape: Array, by_square: Array, own: tuple[Array, ...], grid: Grid
) -> Array:
    """Return derivatives (pixel, parameter) from those by squared distance and own parameters."""
    distance = _distance_slopes(values, grid)
    moved = np.concatenate([by_square * distance, np.reshape(own, (len(own), *shape.shape))])
    means = values[0] * moved.mean(axis=1)
    return np.vstack([shape.mean(axis=0), np.ones((1, shape.shape[1])), means]).T


def _distance_slopes(values: Array, grid: Grid) -> Array:
    """Return the derivatives (parameter, node, pixel) of squared distances by place and shape."""
    if len(grid.axes) == 1:
        x, narrow = grid.points[0] - values[2], np.exp(-values[3])
        return np.stack([-2 * narrow * x, -narrow * x * x])
    y, x = grid.points[0] - values[2], grid.points[1] - values[3]
    moved = values[4:7, None] + 1j * _STEP * np.eye(3)
    yy, xx, yx = (each.real[0] for each in _form(*moved))
    by_shape = np.stack(_form(*moved)).imag.T / _STEP
    terms = np.stack([y * y, x * x, 2 * y * x])
    place = np.stack([-2 * (yy * y + yx * x), -2 * (xx * x + yx * y)])
    return np.concatenate([place, np.tensordot(by_shape, terms, 1)])


def _squared_distance(values: Array, grid: Grid) -> Array:
    """Return ``(r - c)^T S^-1 (r - c)`` (node, pixel)."""
    if len(grid.axes) == 1:
        return np.asarray((grid.points[0] - values[2]) ** 2 * np.exp(-values[3]))
    y, x = grid.points[0] - values[2], grid.points[1] - values[3]
    yy, xx, yx = _form(*values[4:7])
    return np.asarray(yy * y * y + xx * x * x + 2 * yx * y * x)


def _form(p: Array, q: Array, r: Array) -> tuple[Array, Array, Array]:
    """Return the entries (y y, x x, y x) of the inverse covariance, real or complex."""
    square = q * q + r * r
    near = np.abs(square) < _SMALL
    root = np.sqrt(np.where(near, 1.0, square))
    even = np.where(near, 1 + square / 2, np.cosh(root))
    odd = np.where(near, 1 + square / 6, np.sinh(root) / root)
    narrow = np.exp(-p)
    return narrow * (even + odd * q), narrow * (even - odd * q), -narrow * odd * r
