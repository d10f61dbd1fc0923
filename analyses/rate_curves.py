"""Curves of rate against drive with few parameters: soft threshold, sigmoid and exponential."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

__all__ = ["CURVES", "PARAMETERS", "CurveFit", "curve_slopes", "curve_values", "fit_curve"]

Array = npt.NDArray[Any]

PARAMETERS = ("base", "scale", "steepness", "place")
_FLOOR = 0.01  # least standard error of a bin, in the range of the curve
_CAP = 50.0  # largest exponent: beyond it the curve is its own limit


@dataclass(frozen=True)
class CurveFit:
    """A curve fitted to the bins of one cell.

    Attributes
    ----------
    parameters, errors : ndarray (parameter,)
        ``base`` Hz, ``scale`` Hz (Hz per drive for the softplus), ``steepness`` per drive and
        ``place``, drive; with standard errors. NaN where the curve could not be fitted or has no
        such parameter.
    misfit : float
        Weighted sum of squares for each degree of freedom.
    """

    parameters: Array
    errors: Array
    misfit: float


def _softplus(x: Array, base: float, scale: float, steepness: float, place: float) -> Array:
    return np.asarray(base + scale * _log_one_plus_exp(steepness * (x - place)) / abs(steepness))


def _log_one_plus_exp(x: Array) -> Array:
    """Return log(1 + exp(x)); NaN stays NaN without a warning, which np.logaddexp would give."""
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def _sigmoid(x: Array, base: float, scale: float, steepness: float, place: float) -> Array:
    bent = np.clip(-steepness * (x - place), -_CAP, _CAP)
    return np.asarray(base + scale / (1 + np.exp(bent)))


def _exponential(x: Array, base: float, scale: float, steepness: float) -> Array:
    return np.asarray(base + scale * np.exp(np.minimum(steepness * x, _CAP)))


def _softplus_slopes(x: Array, _: float, scale: float, steepness: float, place: float) -> Array:
    bent = steepness * (x - place)
    curve, size = _log_one_plus_exp(bent), abs(steepness)
    rise = expit(bent)
    by_steepness = scale * (rise * (x - place) - curve / steepness) / size
    by_place = -scale * np.sign(steepness) * rise
    return np.column_stack([np.ones_like(x), curve / size, by_steepness, by_place])


def _sigmoid_slopes(x: Array, _: float, scale: float, steepness: float, place: float) -> Array:
    rise = expit(np.clip(steepness * (x - place), -_CAP, _CAP))
    bend = scale * rise * (1 - rise)
    return np.column_stack([np.ones_like(x), rise, bend * (x - place), -bend * steepness])


def _exponential_slopes(x: Array, _: float, scale: float, steepness: float) -> Array:
    curve = np.exp(np.minimum(steepness * x, _CAP))
    return np.column_stack([np.ones_like(x), curve, scale * x * curve])


_SLOPES: Mapping[str, Callable[..., Array]] = {
    "softplus": _softplus_slopes,
    "sigmoid": _sigmoid_slopes,
    "exponential": _exponential_slopes,
}

CURVES: Mapping[str, Callable[..., Array]] = {
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "exponential": _exponential,
}


def curve_values(name: str, parameters: Array, x: npt.ArrayLike) -> Array:
    """Return a fitted curve at places of drive.

    Parameters
    ----------
    name : str
        One of `CURVES`.
    parameters : ndarray (parameter,)
        As in `CurveFit`.
    x : array_like
        Drive.

    Returns
    -------
    ndarray
        Rate, Hz.
    """
    used = parameters[: 3 if name == "exponential" else 4]
    return CURVES[name](np.asarray(x, dtype=np.float64), *used)


def curve_slopes(name: str, parameters: Array, x: npt.ArrayLike) -> Array:
    """Return the derivatives of a curve by its parameters.

    Parameters
    ----------
    name : str
        One of `CURVES`.
    parameters : ndarray (parameter,)
        As in `CurveFit`.
    x : array_like (place,)
        Drive.

    Returns
    -------
    ndarray (place, parameter)
        Derivatives.
    """
    used = parameters[: 3 if name == "exponential" else 4]
    return _SLOPES[name](np.asarray(x, dtype=np.float64), *used)


def fit_curve(name: str, drive: Array, rate: Array, spread: Array) -> CurveFit:
    """Fit a curve to the bins of a cell by weighted least squares.

    Parameters
    ----------
    name : str
        One of `CURVES`.
    drive, rate : ndarray (bin,)
        Mean drive and mean rate of each bin.
    spread : ndarray (bin,)
        Standard error of each rate; NaN or 0 for bins that all weigh the same.

    Returns
    -------
    CurveFit
        The fit; NaN where the search found none.
    """
    number = 3 if name == "exponential" else 4
    nothing = np.full(len(PARAMETERS), np.nan)
    seen = np.isfinite(drive) & np.isfinite(rate)
    x, y = drive[seen], rate[seen]
    if y.size <= number or np.ptp(y) == 0:
        return CurveFit(nothing, nothing.copy(), np.nan)
    known = bool(np.isfinite(spread[seen]).all())
    floor = _FLOOR * float(np.ptp(y))
    sigma = np.maximum(spread[seen], floor) if known else np.full(y.size, floor)
    sign = 1.0 if np.polyfit(x, y, 1)[0] >= 0 else -1.0
    found = [
        fit
        for start in _starts(name, y, sign)
        if (fit := _search(name, x, y, sigma, start, known)) is not None
    ]
    if not found:
        return CurveFit(nothing, nothing.copy(), np.nan)
    cost, values, errors = min(found, key=lambda fit: fit[0])
    pad = np.full(len(PARAMETERS) - number, np.nan)
    whole, error = np.concatenate([values, pad]), np.concatenate([errors, pad])
    return CurveFit(whole, error, cost / (y.size - number))


def _search(
    name: str, x: Array, y: Array, sigma: Array, start: list[float], known: bool
) -> tuple[float, Array, Array] | None:
    """Return cost, parameters and errors from one start, or None where the search fails."""
    from scipy.optimize import OptimizeWarning, curve_fit

    ends = (-20.0, -0.01) if start[2] < 0 else (0.01, 20.0)
    low = [-np.inf, 0.0, ends[0], -10.0][: len(start)]
    high = [np.inf, np.inf, ends[1], 10.0][: len(start)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            found, cover = curve_fit(
                CURVES[name],
                x,
                y,
                start,
                sigma,
                known,
                bounds=(low, high),
                jac=_SLOPES[name],
                max_nfev=200,
            )
    except RuntimeError:
        return None
    cost = float((((CURVES[name](x, *found) - y) / sigma) ** 2).sum())
    return cost, found, np.sqrt(np.diag(cover))


def _starts(name: str, y: Array, sign: float) -> list[list[float]]:
    """Return a few starts of the search, in the order of the parameters."""
    base, size = float(y.min()), float(np.ptp(y))
    if name == "exponential":
        return [[base, size / 10, sign * steepness] for steepness in (0.5, 1.5)]
    scale = size / 2 if name == "softplus" else size
    return [[base, scale, sign * 2.0, sign * place] for place in (-0.5, 1.0)]
