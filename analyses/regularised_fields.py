"""Receptive fields from stimuli that are correlated: whitened, smoothed or made of splines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_estimates import CellEstimate, EstimationPlan, estimate_cells
from retinacodec.analyses.field_windows import Square, same_windows, window_squares
from retinacodec.analyses.named_rows import one_of
from retinacodec.analyses.triggered_responses import triggered_responses
from retinacodec.bootstrap import block_labels, draw_blocks, percentiles
from retinacodec.errors import InputError
from retinacodec.field_priors import FieldPrior, Smooth
from retinacodec.plotting import COLOURS, field_map, trace
from retinacodec.row_splits import RowSplit, TimeBlocks
from retinacodec.schema import lag_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_regularised", "draw_regularised_course", "regularised_fields"]

Array = npt.NDArray[Any]

_MOST_ENTRIES = 4000  # a second moment of this size takes 0.13 GB, the whole computation 1 GB
_DRAWS = 200
_ROUNDING = 1e-12  # share of a value, or of its square, below which a difference is none
_MAPS = {
    "field": {"units": "Hz", "long_name": "receptive field, Hz per unit contrast"},
    "error": {"units": "Hz", "long_name": "standard error of the field"},
    "bias": {"units": "Hz", "long_name": "size of bias that the prior expects"},
    "low": {"units": "Hz", "long_name": "lower end of the band"},
    "high": {"units": "Hz", "long_name": "upper end of the band"},
}
_UNITS = {"baseline": "Hz", "spread_lag": "s", "spread_y": "um", "spread_x": "um"}
_BIAS = (
    "the expected estimate of a linear cell is the true field times the resolution matrix: pulled "
    "towards zero by a mean factor `recovered`, and spread over `spread_*` around each point; "
    "`bias` is the size of the difference that the prior expects, which low and high include"
)


def regularised_fields(
    movie: xr.Dataset,
    recording: xr.Dataset | xr.DataArray,
    *,
    history: int,
    latency: int = 0,
    prior: FieldPrior | None = None,
    window: int | None = 10,
    centres: npt.ArrayLike | None = None,
    frames: npt.ArrayLike | None = None,
    split: RowSplit | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Estimate receptive fields by regularised regression, for stimuli that are correlated.

    Where the stimulus is white the spike-triggered average is enough. In a natural movie it is
    blurred by the movie's own correlations; regression takes them out, and a prior keeps the noise
    down along directions that the movie hardly takes.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    recording : xarray.Dataset or xarray.DataArray
        Recording with ``spike_count`` (time, cell), or ``rate`` (time, cell) in Hz, such as the
        prediction of a model.
    history : int
        Frames that the field reaches back.
    latency : int, default 0
        Frames between the newest frame of the window and the response.
    prior : FieldPrior, optional
        `Ridge`, `Smooth` or `Splines` of `retinacodec.field_priors`; `Smooth` if left out.
    window : int, optional
        Pixels on each side of the square around the cell's strongest correlation, 10 by default;
        None is the whole frame. ``history * window**2`` may be 4000 at most.
    centres : array_like of int (cell, 2), optional
        Row and column of the middle of each cell's square.
    frames : array_like of int, optional
        Response frames that count; all if left out.
    split : RowSplit, optional
        Parts of these frames to fit, to choose the prior's numbers by, and to score on; contiguous
        blocks with a gap of the history between parts if left out.
    level : float, default 0.95
        Coverage of the bands and intervals.
    seed : int, default 0
        Seed of the bootstrap of the scores.

    Returns
    -------
    xarray.Dataset
        Over (cell, lag, y, x): ``field`` Hz per unit contrast, 0 outside the window and NaN at
        pixels that never change; ``error``, its standard error over trials; ``bias``, the size of
        bias that the prior expects; ``low`` and ``high``, bands that hold both; these NaN outside
        the window. ``inside`` (cell, y, x). Over (cell,): ``held_out_r`` and ``held_out_r2`` with
        ``*_low`` and ``*_high``, of the field fitted without those frames; ``penalty`` and the
        other numbers chosen; ``freedom``, effective degrees of freedom; ``recovered``, 0 to 1, and
        ``recovered_peak``, of the strongest entry;
        ``spread_lag`` s, ``spread_y``, ``spread_x`` um; ``baseline`` Hz; ``frames_used``. Lag 0
        is the frame on screen in the response bin, the past is negative, s. All are NaN for a cell
        that never or always responds alike.

    Raises
    ------
    InputError
        If movie, recording or frames do not fit, the window is too large, or the prior leaves the
        field undetermined.

    Notes
    -----
    ``field = B A^-1 B^T c``, ``A = B^T S B + penalty``, with S and c the sums of products of
    windows with windows and with responses about their means, and B the basis of the prior. Its
    expectation is ``R field_true`` for a linear cell, ``R = B A^-1 B^T S``: ``freedom = trace R``,
    ``recovered = freedom / entries``, and ``spread`` is the root mean square distance, weighted by
    the square, of column R at the field's peak. ``error^2`` is the diagonal of
    ``n/(n - 1) T/(T - 1 - freedom) B A^-1 B^T (sum_b g_b g_b^T) B A^-1 B^T`` with ``g_b`` the sum
    of windows times residuals over block b of n, so that it holds where the noise changes with
    the rate or is correlated within a block. ``low, high = field -+ t sqrt(error^2 + bias^2)``,
    t of n - 1 degrees of freedom. Numbers are chosen on part of the frames, scores are of a
    further part, and the field is then fitted to all frames with the numbers chosen.

    The bands are wide enough on average over the entries of a field, and not at the strongest ones,
    which every prior pulls towards zero: in simulations of 67 s of white noise, bands of 95 % held
    91 to 95 % of all entries, but 13 to 44 % of those above half of the peak. Look at
    `recovered_peak`: where it is far below 1, so is the peak. They are not wide enough either where
    a field is unlike what the prior expects, such as at a sharp edge under `Smooth` or at the peak
    under `Splines` of wide knots. In a movie that is correlated the window must hold the whole
    field: what drives the cell from outside is ascribed to the edge. A rectifying cell in a movie
    that is not Gaussian adds a bias of its own, that no linear estimate is free of; it shows most
    in the noiseless rates of a model.

    References
    ----------
    .. [1] Theunissen et al., Network: Computation in Neural Systems 12, 289 (2001).
    .. [2] Sahani and Linden, Advances in Neural Information Processing Systems 15 (2003).
    .. [3] Liang and Zeger, Biometrika 73, 13 (1986), errors from blocks.
    .. [4] Nychka, Journal of the American Statistical Association 83, 1134 (1988), coverage of
       bands that hold bias.
    """
    given = triggered_responses(movie, recording, history=history, latency=latency, frames=frames)
    contrast, rate = movie["contrast"].values, float(movie.attrs["frame_rate"])
    squares = window_squares(contrast, given, history, latency, window, centres)
    _check(history * squares[0].height * squares[0].width, level)
    asked = np.arange(len(contrast)) if frames is None else np.unique(frames)
    used = asked[asked >= history - 1 + latency]
    parts = (split or TimeBlocks(gap=history + latency)).thirds(used.size)
    plan = EstimationPlan(
        contrast,
        given.weights * rate,
        given.known,
        history,
        latency,
        prior or Smooth(),
        _mask(used[parts[0]], len(contrast)),
        _mask(used[parts[1]], len(contrast)),
        _mask(used[parts[2]], len(contrast)),
        rate,
        (_step(movie["y"].values), _step(movie["x"].values)),
        level,
    )
    cells: dict[int, CellEstimate] = {}
    for group in same_windows(squares, given.known):
        cells |= estimate_cells(plan, squares[group[0]], group)
    return _dataset(cells, squares, given.cell, movie, plan, seed)


def _check(entries: int, level: float) -> None:
    """Refuse what would not fit into memory or is no share."""
    if entries > _MOST_ENTRIES:
        raise InputError(
            f"window: the field would have {entries} entries (at most {_MOST_ENTRIES}); use a "
            "smaller window= or history="
        )
    if not 0 < level < 1:
        raise InputError(f"level: expected a share above 0 and below 1, got {level}")


def _step(positions: Array) -> float:
    """Return the distance between neighbouring pixels; NaN for a single one."""
    return float(np.abs(np.diff(positions)).mean()) if positions.size > 1 else float("nan")


def _mask(rows: Array, length: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(length, dtype=bool)
    mask[rows] = True
    return mask


def _dataset(
    cells: dict[int, CellEstimate],
    squares: list[Square],
    names: xr.DataArray,
    movie: xr.Dataset,
    plan: EstimationPlan,
    seed: int,
) -> xr.Dataset:
    """Put the cells into one dataset on the pixels of the whole frame."""
    count = len(squares)
    whole = (count, plan.history, *plan.contrast.shape[1:])
    inside = np.zeros((count, *whole[2:]), dtype=bool)
    maps = {name: np.full(whole, np.nan, np.float32) for name in _MAPS}
    for cell, square in enumerate(squares):
        inside[cell][square.pixels] = True
        if cell in cells:
            maps["field"][cell] = 0.0
            for name in _MAPS:
                maps[name][cell][:, *square.pixels] = getattr(cells[cell], name)
    dims = ("cell", "lag", "y", "x")
    data: dict[str, Any] = {name: (dims, maps[name], _MAPS[name]) for name in _MAPS}
    data["inside"] = (("cell", "y", "x"), inside)
    said = sorted({word for found in cells.values() for word in found.words})
    for word in said:
        values = [cells[k].words.get(word, np.nan) if k in cells else np.nan for k in range(count)]
        data[word] = ("cell", np.array(values), {"units": _UNITS.get(word, "1")})
    data |= _scores(cells, plan, seed)
    return xr.Dataset(
        data,
        coords={
            "cell": names,
            "lag": lag_axis(plan.history, plan.latency, plan.rate),
            "y": movie["y"],
            "x": movie["x"],
        },
        attrs={
            "kind": "receptive_fields",
            "frame_rate": plan.rate,
            "history": plan.history,
            "latency": plan.latency,
            "prior": repr(plan.prior),
            "level": plan.level,
            "bias": _BIAS,
        },
    )


def _scores(cells: dict[int, CellEstimate], plan: EstimationPlan, seed: int) -> dict[str, Any]:
    """Return how well held-out frames are predicted, with block-bootstrap intervals."""
    rows = np.flatnonzero(plan.scored)
    actual = np.where(plan.known, plan.hertz, np.nan)[rows]
    predicted = np.full_like(actual, np.nan)
    for cell, found in cells.items():
        predicted[:, cell] = found.predicted[rows]
    labels = block_labels(rows, max(1, round(plan.rate)))
    sums = _block_sums(actual, predicted, labels)
    value, blocks = _r_and_r2(sums.sum(axis=0)), len(sums)
    low = high = np.full_like(value, np.nan)
    if blocks > 1:
        drawn = np.tensordot(draw_blocks(blocks, _DRAWS, seed), sums, axes=1)
        low, high = percentiles(np.moveaxis(_r_and_r2(np.moveaxis(drawn, 1, 0)), 1, 0), plan.level)
    data: dict[str, Any] = {}
    for place, name in enumerate(("held_out_r", "held_out_r2")):
        for end, values in (("", value), ("_low", low), ("_high", high)):
            data[name + end] = ("cell", values[place], {"units": "1"})
    return data


def _block_sums(actual: Array, predicted: Array, labels: Array) -> Array:
    """Return what scores are made of, summed over the frames of each block (block, sum, cell)."""
    seen = np.isfinite(actual) & np.isfinite(predicted)
    count = np.maximum(seen.sum(axis=0), 1)
    pair = [np.where(seen, values, 0.0).astype(np.float64) for values in (actual, predicted)]
    around = [np.where(seen, one - one.sum(axis=0) / count, 0.0) for one in pair]
    truth, guess = (
        np.where(np.abs(far) <= _ROUNDING * np.abs(one).max(axis=0), 0.0, far)
        for far, one in zip(around, pair, strict=True)
    )
    products = (truth**2, guess**2, truth * guess, (pair[0] - pair[1]) ** 2)
    series = np.stack([seen.astype(np.float64), truth, guess, *products], axis=1)
    return np.asarray(np.add.reduceat(series, np.flatnonzero(np.diff(labels, prepend=-1))))


def _r_and_r2(sums: Array) -> Array:
    """Return correlation and share of variance explained (2, ...) from sums (sum, ...)."""
    count, truth, guess, *squares, both, missed = sums
    number = np.maximum(count, 1)
    spread = [
        np.where(whole - total**2 / number > _ROUNDING * whole, whole - total**2 / number, np.nan)
        for whole, total in zip(squares, (truth, guess), strict=True)
    ]
    r = (both - truth * guess / number) / np.sqrt(spread[0] * spread[1])
    return np.stack([r, 1 - missed / spread[0]])


def draw_regularised(fields: xr.Dataset, ax: Axes, *, cell: int | str = 0) -> Axes:
    """Draw the field of a cell at the lag of its peak.

    Parameters
    ----------
    fields : xarray.Dataset
        What `regularised_fields` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int or str, default 0
        Position or name of the cell.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.

    Raises
    ------
    InputError
        If there is no such cell, or it has no field.
    """
    one, (lag, _, _) = _peak(fields, cell)
    inside = one["inside"]
    rows = inside.any("x").values
    columns = inside.any("y").values
    field_map(ax, one["field"].isel(lag=lag, y=rows, x=columns))
    ax.set_title(
        f"{one['cell'].item()}   {1000 * float(one['lag'][lag]):.0f} ms\n"
        f"held-out r {float(one['held_out_r']):.2f}"
    )
    return ax


def draw_regularised_course(fields: xr.Dataset, ax: Axes, *, cell: int | str = 0) -> Axes:
    """Draw the time course of a cell's field at its peak, with its band.

    Parameters
    ----------
    fields : xarray.Dataset
        What `regularised_fields` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int or str, default 0
        Position or name of the cell.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.

    Raises
    ------
    InputError
        If there is no such cell, or it has no field.
    """
    one, (lag, row, column) = _peak(fields, cell)
    course = one.isel(y=row, x=column)
    colour = COLOURS.on if float(course["field"][lag]) > 0 else COLOURS.off
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    band = course["low"], course["high"]
    trace(ax, 1000 * one["lag"], course["field"], colour=colour, band=band)
    ax.set(xlabel="time before response (ms)", ylabel="field (Hz per unit contrast)")
    return ax


def _peak(fields: xr.Dataset, cell: int | str) -> tuple[xr.Dataset, tuple[int, int, int]]:
    """Return a cell's fields and the lag, row and column of the strongest entry."""
    one = one_of(fields, cell=cell)
    size = np.abs(one["field"].values)
    if np.isnan(size).all():
        raise InputError(f"cell {one['cell'].item()!r} has no field: it never changed its response")
    lag, row, column = np.unravel_index(int(np.nanargmax(size)), size.shape)
    return one, (int(lag), int(row), int(column))
