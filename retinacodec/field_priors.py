"""What is assumed of a receptive field before its data: small, smooth, or made of splines."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.axis_bases import cubic_splines, smooth_basis
from retinacodec.errors import InputError, Problems
from retinacodec.lagged_products import CentredMoments
from retinacodec.penalised_fields import (
    AxisBases,
    dependence,
    evidence,
    held_out_gain,
    reduced,
    solve_path,
)

__all__ = ["FieldChoice", "FieldPrior", "Ridge", "Smooth", "Splines"]

Array = npt.NDArray[Any]
Shape = tuple[int, int, int]

_PENALTIES = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
_REACH = (0.4, 1.5)  # least scale in places, most in lengths of the axis
_STARTS = tuple(product((1.5, 4.0), (1.2, 2.5)))


@dataclass(frozen=True)
class FieldChoice:
    """What a prior chose for one cell.

    Attributes
    ----------
    bases : tuple of ndarray (place, function)
        Functions along lag, y and x of which the field is made.
    penalty : float
        Added to the diagonal of the second moment in that basis.
    words : dict of str to float
        The numbers chosen, as a report names them.
    """

    bases: AxisBases
    penalty: float
    words: dict[str, float]


class FieldPrior(Protocol):
    """How the numbers of a prior are chosen, cell by cell."""

    def choose(
        self, fitted: CentredMoments, chosen: CentredMoments, both: CentredMoments, shape: Shape
    ) -> list[FieldChoice]:
        """Return the choice of every cell.

        Parameters
        ----------
        fitted, chosen, both : CentredMoments
            Frames to fit, frames to choose by, and both together.
        shape : (int, int, int)
            Frames, rows and columns of the window.
        """
        ...


@dataclass(frozen=True)
class Ridge:
    """Every entry is independent and near zero: the whitened spike-triggered average.

    Parameters
    ----------
    penalties : tuple of float
        Penalties tried, in units of the mean variance that the movie has along a direction; the
        one that predicts the frames set aside for choosing best is kept. A single one is taken
        as it is; 0 is plain whitening.

    Notes
    -----
    ``field = (S + penalty)^-1 c``. The estimate is biased towards zero along directions in which
    the movie varies little, which for natural movies are the fine and fast ones: it is too blurred,
    and the more so the larger the penalty. With 0 it is unbiased for a linear cell, and so noisy
    along the same directions that it is of little use.

    References
    ----------
    .. [1] Theunissen et al., Network: Computation in Neural Systems 12, 289 (2001).

    Examples
    --------
    >>> Ridge((1.0,))
    Ridge(penalties=(1.0,))
    """

    penalties: tuple[float, ...] = _PENALTIES

    def __post_init__(self) -> None:
        _check_penalties("Ridge", self.penalties)

    def choose(
        self, fitted: CentredMoments, chosen: CentredMoments, both: CentredMoments, shape: Shape
    ) -> list[FieldChoice]:
        """Return the choice of every cell: the penalty that predicts best."""
        whole: AxisBases = (np.eye(shape[0]), np.eye(shape[1]), np.eye(shape[2]))
        return _by_held_out([({}, whole)], self.penalties, fitted, chosen, both)


@dataclass(frozen=True)
class Splines:
    """A tensor product of cubic B-splines, with few enough knots to be smooth.

    Parameters
    ----------
    lag : tuple of float, default (1.5, 3.0)
        Distances between knots in time that are tried, frames.
    space : tuple of float, default (1.0, 2.0, 3.0)
        Distances between knots in y and x that are tried, pixels.
    penalties : tuple of float
        Ridge penalties on the coefficients that are tried, in units of the mean variance along a
        spline; ``(0.0,)`` is plain least squares.

    Notes
    -----
    ``field = B (B^T S B + penalty)^-1 B^T c`` with B the products of splines along each axis,
    clamped at both ends. The combination that predicts the frames set aside for choosing best is
    kept. Detail finer than the knots is lost whatever the data say: that part of the bias is not
    in the bands.

    References
    ----------
    .. [1] Huang, Ran, Oesterle, Euler, Berens, Neurons, Behavior, Data analysis, and Theory 5(3)
       (2021), receptive fields in a spline basis.
    """

    lag: tuple[float, ...] = (1.5, 3.0)
    space: tuple[float, ...] = (1.0, 2.0, 3.0)
    penalties: tuple[float, ...] = (0.0, *_PENALTIES)

    def __post_init__(self) -> None:
        _check_penalties("Splines", self.penalties)
        for name in ("lag", "space"):
            steps = getattr(self, name)
            if not steps or not all(np.isfinite(step) and step >= 1 for step in steps):
                raise InputError(f"Splines: {name} must be distances of at least 1, got {steps}")

    def choose(
        self, fitted: CentredMoments, chosen: CentredMoments, both: CentredMoments, shape: Shape
    ) -> list[FieldChoice]:
        """Return the choice of every cell: knots and penalty that predict best."""
        options = []
        for frames, pixels in product(self.lag, self.space):
            steps = (frames, pixels, pixels)
            bases = tuple(
                cubic_splines(size, step) for size, step in zip(shape, steps, strict=True)
            )
            words = {"knots_lag": float(frames), "knots_space": float(pixels)}
            options.append((words, (bases[0], bases[1], bases[2])))
        return _by_held_out(options, self.penalties, fitted, chosen, both)


@dataclass(frozen=True)
class Smooth:
    """Neighbouring entries are alike: automatic smoothness determination.

    Parameters
    ----------
    scales : (float, float, float), optional
        Distances over which the field is smooth along lag (frames), y and x (pixels); those of
        the largest evidence if left out.
    tolerance : float, default 1e-4
        Functions of an axis with less than this share of the largest variance are left out.
    steps : int, default 150
        Most evaluations of the evidence for each cell.
    frames_as_one : float, optional
        How many frames count as an independent one in the evidence, at least 1. If left out it is
        measured for each cell (`dependence`); 1 is the classical evidence.

    Notes
    -----
    The field is a Gaussian process of covariance
    ``rho exp(-dlag^2 / 2 a^2) exp(-dy^2 / 2 b^2) exp(-dx^2 / 2 c^2)``, the noise Gaussian of
    variance v. The scales and ``penalty = v / rho`` maximise the evidence of the frames fitted and
    chosen by; v is at its best value in closed form. The covariance is a product over axes, so
    that only the leading functions of each axis are kept.

    The evidence takes residuals to be independent of each other and of the stimulus. Those of a
    rectifying cell in a natural movie are not, and the evidence would then choose scales that are
    far too short to explain them. Its logarithm is therefore divided by the number of frames that
    count as one, measured on the frames to choose by.

    The estimate is the posterior mean. It is biased towards a smooth field near zero: sharp edges
    and fast transients come out blurred by about the scales.

    References
    ----------
    .. [1] Sahani and Linden, Advances in Neural Information Processing Systems 15 (2003),
       automatic smoothness determination.
    """

    scales: tuple[float, float, float] | None = None
    tolerance: float = 1e-4
    steps: int = 150
    frames_as_one: float | None = None

    def __post_init__(self) -> None:
        problems = Problems()
        given = self.scales
        good = given is None or (len(given) == 3 and all(scale > 0 for scale in given))
        problems.require(good, f"scales must be three lengths above 0, got {given}")
        problems.require(
            0 < self.tolerance < 1, f"tolerance must be between 0 and 1, got {self.tolerance}"
        )
        problems.require(self.steps >= 1, f"steps must be at least 1, got {self.steps}")
        problems.require(
            self.frames_as_one is None or self.frames_as_one >= 1,
            f"frames_as_one must be at least 1, got {self.frames_as_one}",
        )
        problems.raise_as("Smooth")

    def choose(
        self, fitted: CentredMoments, chosen: CentredMoments, both: CentredMoments, shape: Shape
    ) -> list[FieldChoice]:
        """Return the choice of every cell: the scales of the largest evidence."""
        starts = [(a, b, b) for a, b in _STARTS] if self.scales is None else [self.scales]
        tried = [(scales, reduced(both, self.bases(scales, shape))) for scales in starts]
        pilot = self.bases(starts[0], shape)
        parts = reduced(fitted, pilot), reduced(chosen, pilot)
        choices = []
        for cell in range(both.power.size):
            count = self.frames_as_one
            if count is None:
                count = dependence(*parts, _best_penalty(parts[0], cell)[1], cell)
            fewer = [(scales, _thinned(small, count)) for scales, small in tried]
            found = self._of_cell(fewer, _thinned(both, count), shape, cell)
            words = {**found.words, "frames_as_one": count}
            choices.append(FieldChoice(found.bases, found.penalty * count, words))
        return choices

    def bases(self, scales: tuple[float, float, float], shape: Shape) -> AxisBases:
        """Return the leading functions of each axis, each with its standard deviation as length."""
        lag, y, x = (
            smooth_basis(size, scale, self.tolerance)
            for size, scale in zip(shape, scales, strict=True)
        )
        return lag, y, x

    def _of_cell(
        self,
        tried: list[tuple[tuple[float, float, float], CentredMoments]],
        both: CentredMoments,
        shape: Shape,
        cell: int,
    ) -> FieldChoice:
        """Climb to the largest evidence of one cell from the best start."""
        from scipy.optimize import minimize

        found = [(*_best_penalty(small, cell), scales) for scales, small in tried]
        _, penalty, scales = max(found)
        point = np.log([*scales, penalty])
        free = slice(0, 4) if self.scales is None else slice(3, 4)

        def cost(values: Array) -> float:
            whole = point.copy()
            whole[free] = values
            size = np.exp(whole)
            small = tried[0][1] if self.scales is not None else self._reduce(both, size, shape)
            return -evidence(small, float(size[3]), cell)[0]

        edges = [(np.log(_REACH[0]), np.log(_REACH[1] * max(size, 2))) for size in shape]
        bounds = [*edges, (point[3] - 12, point[3] + 12)][free]
        point[free] = np.clip(point[free], *np.transpose(bounds))
        best = minimize(
            cost,
            point[free],
            method="Nelder-Mead",
            bounds=bounds,
            options={
                "maxfev": self.steps,
                "xatol": 0.03,
                "fatol": 0.1,
                "initial_simplex": _simplex(point[free], bounds),
            },
        )
        point[free] = best.x
        lag, y, x, penalty = (float(value) for value in np.exp(point))
        words = {"scale_lag": lag, "scale_y": y, "scale_x": x, "log_evidence": -float(best.fun)}
        return FieldChoice(self.bases((lag, y, x), shape), penalty, words)

    def _reduce(self, moments: CentredMoments, size: Array, shape: Shape) -> CentredMoments:
        scales = float(size[0]), float(size[1]), float(size[2])
        return reduced(moments, self.bases(scales, shape))


def _unit(moments: CentredMoments) -> float:
    """Return the mean of the second moment's diagonal, the unit of penalties."""
    return float(np.trace(moments.second)) / len(moments.second)


def _best_penalty(moments: CentredMoments, cell: int) -> tuple[float, float]:
    """Return the largest log evidence over a coarse range of penalties, and its penalty."""
    amounts = np.logspace(-3, 4, 15) * _unit(moments)
    return max((evidence(moments, float(amount), cell)[0], float(amount)) for amount in amounts)


def _thinned(moments: CentredMoments, count: float) -> CentredMoments:
    """Return moments as of fewer frames that are independent."""
    return CentredMoments(
        moments.frames / count,
        moments.second / count,
        moments.cross / count,
        moments.power / count,
    )


def _by_held_out(
    options: list[tuple[dict[str, float], AxisBases]],
    penalties: tuple[float, ...],
    fitted: CentredMoments,
    chosen: CentredMoments,
    both: CentredMoments,
) -> list[FieldChoice]:
    """Return for each cell the basis and penalty that explain the most of the chosen frames."""
    cells = both.power.size
    if len(options) * len(penalties) == 1:
        words, bases = options[0]
        penalty = penalties[0] * _unit(reduced(both, bases))
        return [FieldChoice(bases, penalty, {**words, "relative_penalty": penalties[0]})] * cells
    gains, units = [], []
    for _, bases in options:
        small = reduced(fitted, bases)
        units.append(_unit(small))
        weights = solve_path(small, np.multiply(penalties, units[-1]))
        gains.append(held_out_gain(weights, reduced(chosen, bases)))
    choices = []
    for cell in range(cells):
        table = np.stack([gain[:, cell] for gain in gains])
        basis, place = np.unravel_index(int(table.argmax()), table.shape)
        if not np.isfinite(table[basis, place]):
            raise InputError(
                "prior: no choice has a solution; use penalties above 0, a smaller window= or "
                "more frames"
            )
        words, bases = options[int(basis)]
        relative = penalties[int(place)]
        said = {**words, "relative_penalty": relative}
        choices.append(FieldChoice(bases, relative * units[int(basis)], said))
    return choices


def _simplex(start: Array, bounds: list[tuple[float, float]]) -> Array:
    """Return corners half a logarithm away from a start, inside the bounds."""
    steps = np.where(start + 0.5 > [high for _, high in bounds], -0.5, 0.5)
    return np.vstack([start, start + np.diag(steps)])


def _check_penalties(name: str, penalties: tuple[float, ...]) -> None:
    if not penalties or not all(np.isfinite(value) and value >= 0 for value in penalties):
        raise InputError(f"{name}: penalties must be numbers of at least 0, got {penalties}")
