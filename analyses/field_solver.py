"""Least squares of shapes on one map: where to start, bounds, and the best of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from retinacodec.analyses.field_models import DifferenceOfGaussians, FieldModel, Gaussian, Grid

__all__ = ["ShapeFit", "fit_again", "fit_shapes"]

Array = npt.NDArray[Any]

_SMALLEST = 0.3  # sigma in pixels below which a map cannot tell one size from another
_LONGEST = np.log(8.0)  # log of the largest elongation
_MOST = 200  # evaluations


@dataclass(frozen=True, eq=False)
class ShapeFit:
    """A shape fitted to a map.

    Attributes
    ----------
    values : ndarray (parameter,)
        Parameters as the model names them, lengths in units of the pixel pitch.
    covariance : ndarray (parameter, parameter)
        Their covariance for noise of standard deviation 1, ``(J^T J)^-1``.
    squares : float
        Sum of the squares that are left.
    """

    values: Array
    covariance: Array
    squares: float


def fit_shapes(
    picture: Array, around: Array, place: Any, grid: Grid, model: FieldModel
) -> tuple[dict[str, ShapeFit | None], ShapeFit | None]:
    """Fit a Gaussian and a centre with surround to a map.

    Parameters
    ----------
    picture : ndarray (y, x)
        The map, its peak positive.
    around : ndarray (y, x)
        The map less its median.
    place : (int, int)
        Row and column of the peak.
    grid : Grid
        Where the pixels lie.
    model : FieldModel
        The shape to report.

    Returns
    -------
    fits : dict of str to ShapeFit or None
        Both fits by the name of the shape; None where there is none.
    best : ShapeFit or None
        The one to report; None if its centre ends outside the map.
    """
    flat = picture.ravel()
    first = _least_squares(Gaussian(), flat, grid, _guesses(around, place, grid))
    fits: dict[str, ShapeFit | None] = {"Gaussian": first, "DifferenceOfGaussians": None}
    if first is None:
        return fits, None
    other = DifferenceOfGaussians() if isinstance(model, Gaussian) else model
    if flat.size > len(other.names(len(grid.axes))):
        starts = other.starts(first.values)
        fits["DifferenceOfGaussians"] = _least_squares(other, flat, grid, starts)
    return fits, first if isinstance(model, Gaussian) else fits["DifferenceOfGaussians"]


def _guesses(around: Array, place: Any, grid: Grid) -> list[Array]:
    """Return starts from the pixels above half of the peak that hang together with it."""
    labels, _ = ndimage.label(around >= around[place] / 2, np.ones((3, 3)))
    region = (labels == labels[place]).ravel()
    weight, dims = around.ravel() * region, len(grid.axes)
    centres = grid.centres
    middle = (centres * weight).sum(axis=1) / weight.sum()
    height = around[place]
    if dims == 1:
        width = np.log(max(region.sum() / 2.3548, 0.5)) * 2
        return [np.r_[height, 0.0, middle, width + more] for more in (0.0, np.log(4))]
    area = np.log(max(region.sum() / (2 * np.pi * np.log(2)), 0.25))
    apart = centres - middle[:, None]
    moments = (apart * weight) @ apart.T / weight.sum() + np.eye(2) / 12
    logs, vectors = np.linalg.eigh(moments)
    shape = (vectors * np.log(logs)) @ vectors.T
    lean = np.clip([(shape[1, 1] - shape[0, 0]) / 2, shape[0, 1]], -1, 1)
    return [
        np.r_[height, 0.0, middle, area, lean],
        np.r_[height, 0.0, middle, area + np.log(4), 0.0, 0.0],
    ]


def _least_squares(
    model: FieldModel, flat: Array, grid: Grid, starts: list[Array]
) -> ShapeFit | None:
    """Return the best fit from several starts, None if its centre leaves the map."""
    low, high = _bounds(model, grid)
    scale = float(np.abs(flat).max())
    target = flat / scale
    runs = []
    for start in starts:
        begin = start.copy()
        begin[:2] /= scale
        found = optimize.least_squares(
            lambda values: model(values, grid) - target,
            np.clip(begin, low + 1e-6, high - 1e-6),
            jac=lambda values: model.slopes(values, grid),
            bounds=(low, high),
            x_scale="jac",
            ftol=1e-7,
            xtol=1e-7,
            max_nfev=_MOST,
        )
        runs.append(found)
    best = min(runs, key=lambda run: float(run.cost))
    where = slice(2, 2 + len(grid.axes))
    if ((best.x - low < 1e-3) | (high - best.x < 1e-3))[where].any():
        return None
    unit = np.ones(best.x.size)
    unit[:2] = scale
    covariance = np.linalg.pinv(best.jac.T @ best.jac, hermitian=True) / scale**2
    values = best.x * unit
    squares = 2 * float(best.cost) * scale**2
    return ShapeFit(values, covariance * np.outer(unit, unit), squares)


def fit_again(picture: Array, fit: ShapeFit, grid: Grid, model: FieldModel) -> ShapeFit | None:
    """Fit a shape to a map that differs little from one fitted before.

    Parameters
    ----------
    picture : ndarray (y, x)
        The map, its peak positive.
    fit : ShapeFit
        Fit of the other map, where this one starts.
    grid : Grid
        Where the pixels lie.
    model : FieldModel
        The shape.

    Returns
    -------
    ShapeFit or None
        None if the centre ends outside the map.
    """
    return _least_squares(model, picture.ravel(), grid, [fit.values])


def _bounds(model: FieldModel, grid: Grid) -> tuple[Array, Array]:
    """Return the lowest and highest parameters, amplitude and offset in units of the peak."""
    centres = grid.centres
    low, high = centres.min(axis=1) - 0.5, centres.max(axis=1) + 0.5
    longest = float((high - low).max())
    shape = (2 * np.log(_SMALLEST), 2 * np.log(longest))
    lean = [_LONGEST] * (2 if len(grid.axes) == 2 else 0)
    own = model.bounds()
    return (
        np.r_[0.0, -2.0, low, shape[0], np.negative(lean), own[0]],
        np.r_[50.0, 2.0, high, shape[1], lean, own[1]],
    )
