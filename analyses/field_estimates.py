"""One cell's regularised field, what it shrinks and how sure it is, from shared moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t as student

from retinacodec.analyses.field_windows import Square
from retinacodec.field_priors import FieldChoice, FieldPrior
from retinacodec.lagged_products import CentredMoments, WindowMoments, filtered, window_moments
from retinacodec.penalised_fields import (
    AxisBases,
    Solution,
    in_basis,
    solve,
    solve_field,
    weights_to_field,
)
from retinacodec.triggered_sums import stretch_sum

__all__ = ["CellEstimate", "EstimationPlan", "estimate_cells"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

_MOST_BLOCKS = 100  # pieces of time from which standard errors are taken


@dataclass(frozen=True)
class EstimationPlan:
    """What is the same for all cells.

    Attributes
    ----------
    contrast : ndarray (time, y, x)
        Movie.
    hertz : ndarray (time, cell)
        Responses, Hz.
    known : ndarray of bool (time, cell)
        Where a response counts.
    history, latency : int
        Frames of a window, and between its newest frame and the response.
    prior : FieldPrior
        What is assumed of a field.
    fitted, chosen, scored : ndarray of bool (time,)
        Frames to fit, to choose by and to score on.
    rate : float
        Frame rate, Hz.
    pixel_um : (float, float)
        Distance between rows and between columns, um.
    level : float
        Coverage of the bands.
    """

    contrast: Array
    hertz: Array
    known: Mask
    history: int
    latency: int
    prior: FieldPrior
    fitted: Mask
    chosen: Mask
    scored: Mask
    rate: float
    pixel_um: tuple[float, float]
    level: float


@dataclass(frozen=True)
class CellEstimate:
    """The field of one cell in its window.

    Attributes
    ----------
    field, error, bias, low, high : ndarray (lag, y, x)
        Estimate, standard error, size of the bias to expect, band; Hz per unit contrast.
    predicted : ndarray (time,)
        Response predicted by the field that was fitted without the frames to score on, Hz.
    words : dict of str to float
        Numbers chosen, and those that describe the estimate.
    """

    field: Array
    error: Array
    bias: Array
    low: Array
    high: Array
    predicted: Array
    words: dict[str, float]


@dataclass(frozen=True)
class _Shared:
    """What cells of one window share."""

    pixels: Array
    rates: Array
    observed: Mask
    both: WindowMoments
    whole: WindowMoments
    varies: Mask


def estimate_cells(
    plan: EstimationPlan, square: Square, group: list[int]
) -> dict[int, CellEstimate]:
    """Estimate the fields of cells that share pixels and frames.

    Parameters
    ----------
    plan : EstimationPlan
        What is the same for all cells.
    square : Square
        Pixels that the cells share.
    group : list of int
        Positions of the cells.

    Returns
    -------
    dict of int to CellEstimate
        Of the cells that have one: those that change their response in the frames to fit and in
        those to choose by, under a movie that changes.
    """
    observed = plan.known[:, group[0]]
    pixels = np.ascontiguousarray(plan.contrast[:, *square.pixels])
    varies = np.ptp(pixels, axis=0) > 0
    parts = [plan.fitted & observed, plan.chosen & observed]
    live = [cell for cell in group if all(_changes(plan.hertz[part, cell]) for part in parts)]
    if not live or not varies.any():
        return {}
    rates = plan.hertz[:, live]
    parts.append(observed & ~parts[0] & ~parts[1])
    fitted, chosen, other = (
        window_moments(pixels, rates, part, history=plan.history, latency=plan.latency)
        for part in parts
    )
    both = fitted + chosen
    shape = (plan.history, square.height, square.width)
    choices = plan.prior.choose(fitted.centred(), chosen.centred(), both.centred(), shape)
    shared = _Shared(pixels, rates, observed, both, both + other, varies)
    return {cell: _estimate(plan, shared, place, choices[place]) for place, cell in enumerate(live)}


def _changes(values: Array) -> bool:
    """Return whether there are two different values."""
    return bool(values.size > 1 and np.ptp(values) > 0)


def _estimate(
    plan: EstimationPlan, shared: _Shared, cell: int, choice: FieldChoice
) -> CellEstimate:
    """Fit one cell with the numbers chosen, without and with the frames to score on."""
    shape = (plan.history, *shared.pixels.shape[1:])
    trained = solve_field(shared.both.centred(), choice.bases, choice.penalty, cell)
    predicted = _prediction(plan, shared, shared.both, cell, trained.reshape(shape))
    moments = shared.whole.centred()
    solution = solve(moments, choice.bases, choice.penalty, cell)
    field = weights_to_field(solution.weights[:, None], choice.bases).reshape(shape)
    error, blocks = _errors(plan, shared, cell, field, solution, choice.bases)
    bias = solution.shrinkage
    half = student.ppf((1 + plan.level) / 2, blocks - 1) * np.sqrt(error**2 + bias**2)
    maps = [field, *(values.reshape(shape) for values in (error, bias, half))]
    for values in maps:
        values[:, ~shared.varies] = np.nan
    words = {
        **choice.words,
        "penalty": choice.penalty,
        "freedom": solution.freedom,
        "recovered": solution.freedom / field.size,
        "baseline": _baseline(shared.whole, field, cell),
        "frames_used": float(shared.whole.frames),
        **_spread(plan, field, moments, solution, choice.bases),
    }
    ends = field - maps[3], field + maps[3]
    return CellEstimate(maps[0], maps[1], maps[2], *ends, predicted=predicted, words=words)


def _baseline(moments: WindowMoments, field: Array, cell: int) -> float:
    """Return the response to a movie of no contrast, as far as the cell is linear."""
    mean = float(moments.response[cell] - moments.total @ field.ravel())
    return mean / moments.frames


def _prediction(
    plan: EstimationPlan, shared: _Shared, moments: WindowMoments, cell: int, field: Array
) -> Array:
    """Return the linear prediction (time,) of a field fitted on the frames of some moments."""
    drive = filtered(shared.pixels, field[None], latency=plan.latency)[:, 0]
    return drive + _baseline(moments, field, cell)


def _errors(
    plan: EstimationPlan,
    shared: _Shared,
    cell: int,
    field: Array,
    solution: Solution,
    bases: AxisBases,
) -> tuple[Array, int]:
    """Return standard errors (entry,) from the residuals of blocks of time, and their number."""
    left = shared.rates[:, cell] - _prediction(plan, shared, shared.whole, cell, field)
    left = np.where(shared.observed, left, 0.0)
    length, weights = len(left), torch.from_numpy(left.astype(np.float32))[:, None]
    count = int(np.clip(length // max(plan.rate, 4 * plan.history), 2, _MOST_BLOCKS))
    mean = shared.whole.total / shared.whole.frames
    pixels, window = torch.from_numpy(shared.pixels), (plan.history, plan.latency)
    sums = []
    for rows in np.array_split(np.arange(length), count):
        start, stop = int(rows[0]), int(rows[-1]) + 1
        if not left[start:stop].any():
            continue
        total = stretch_sum(pixels, weights, start, stop, *window).double().numpy().ravel()
        sums.append(total - mean * left[start:stop].sum())
    number = max(len(sums), 2)
    scores = solution.response.T @ in_basis(np.column_stack(sums), bases)
    frames = shared.whole.frames
    spare = frames / max(frames - 1 - solution.freedom, 1.0)
    return np.sqrt(number / (number - 1) * spare * (scores**2).sum(axis=1)), number


def _spread(
    plan: EstimationPlan,
    field: Array,
    moments: CentredMoments,
    solution: Solution,
    bases: AxisBases,
) -> dict[str, float]:
    """Return how far the estimate spreads a point at the peak of the field, by axis, in places."""
    entry = int(np.nanargmax(np.abs(field)))
    answer = solution.response @ moments.second[:, entry]
    point = weights_to_field(answer[:, None], bases).reshape(field.shape)
    share = point**2 / max(float((point**2).sum()), np.finfo(float).tiny)
    peak = np.unravel_index(entry, field.shape)
    places = np.meshgrid(*(np.arange(size) for size in field.shape), indexing="ij")
    far = [
        float(np.sqrt((share * (place - middle) ** 2).sum()))
        for place, middle in zip(places, peak, strict=True)
    ]
    return {
        "recovered_peak": float(point[peak]),
        "spread_lag": far[0] / plan.rate,
        "spread_y": far[1] * plan.pixel_um[0],
        "spread_x": far[2] * plan.pixel_um[1],
    }
