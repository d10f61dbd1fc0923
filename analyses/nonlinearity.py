"""The static nonlinearity: a cell's rate against the output of its linear filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.drive_filters import crossed_drive, given_drive
from retinacodec.analyses.named_rows import one_of
from retinacodec.analyses.rate_curves import CURVES, PARAMETERS, CurveFit, curve_values, fit_curve
from retinacodec.analyses.triggered_responses import TriggeredResponses, triggered_responses
from retinacodec.bootstrap import block_labels, draw_blocks, percentiles
from retinacodec.errors import InputError, Problems
from retinacodec.plotting import COLOURS, trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from retinacodec.field_priors import FieldPrior

__all__ = ["draw_nonlinearity", "static_nonlinearity"]

Array = npt.NDArray[Any]

_FEWEST_BLOCKS = 3


def static_nonlinearity(
    movie: xr.Dataset,
    recording: xr.Dataset | xr.DataArray,
    fields: xr.DataArray | None = None,
    *,
    history: int | None = None,
    latency: int = 0,
    prior: FieldPrior | None = None,
    window: int | None = 10,
    folds: int = 5,
    bins: int = 20,
    frames: npt.ArrayLike | None = None,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Measure each cell's rate against the output of its linear filter.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    recording : xarray.Dataset or xarray.DataArray
        Recording with ``spike_count`` (time, cell), or ``rate`` (time, cell) in Hz, such as the
        prediction of a model.
    fields : xarray.DataArray (cell, lag, y, x), optional
        Filters known from elsewhere, on the pixels and in the order of the cells of the recording,
        oldest frame first. They must not come from the same responses: noise that a filter has
        fitted bends the curve upwards. If left out, filters are estimated here on other frames
        than those they are used on.
    history : int, optional
        Frames of the filters; needed where `fields` is left out.
    latency : int, default 0
        Frames between the newest frame of the window and the response.
    prior : FieldPrior, optional
        How filters are estimated: the average before a spike less the mean stimulus if left out,
        else by `regularised_fields` with this prior, for movies that are not white.
    window : int, optional
        Pixels on each side of the square in which a filter is estimated, 10 by default; None is
        the whole frame.
    folds : int, default 5
        Parts of time; the filter for each is estimated on the others.
    bins : int, default 20
        Bins of the drive, each with as many frames.
    frames : array_like of int, optional
        Response frames that count; all if left out.
    draws : int, default 500
        Resamples of blocks of one second or more for the bands.
    level : float, default 0.95
        Coverage of the bands.
    seed : int, default 0
        Seed of the resamples.

    Returns
    -------
    xarray.Dataset
        Over (cell, bin): ``drive``, the mean output of the filter in standard deviations; ``rate``
        Hz with ``rate_low`` and ``rate_high``; ``drive_edge`` (cell, edge). Over (cell,): ``gain``
        Hz per standard deviation and ``rectification`` with ``*_low`` and ``*_high``;
        ``threshold``, standard deviations, and its ``threshold_error``, of the soft threshold;
        ``best_curve``. Over (cell, curve): ``misfit`` and, over (cell, curve, name),
        ``parameter`` and ``parameter_error``. NaN for a cell that never changes its response or
        has no filter. Attribute ``crossed``: whether filters are from other frames.

    Raises
    ------
    InputError
        If movie, recording and fields do not fit, or a number is out of range.

    Notes
    -----
    ``gain`` is the slope of the straight line of least squares, for a Gaussian drive the mean
    slope of the curve. ``rectification = (r(1) + r(-1) - 2 r(0)) / (r(1) - r(-1))`` with r the
    curve between bins: 0 for a straight line, 1 for full rectification, above 1 for a cell that
    both signs excite; NaN where the band of ``r(1) - r(-1)`` holds 0. Curves are fitted to the
    bins by weighted least squares: ``softplus`` ``base + scale log(1 + exp(steepness (x -
    place))) / steepness``, ``sigmoid`` ``base + scale / (1 + exp(-steepness (x - place)))`` and
    ``exponential`` ``base + scale exp(steepness x)``; ``misfit`` is the weighted sum of squares
    for each degree of freedom, ``best_curve`` the one where it is least, ``threshold`` the place
    of the softplus.

    References
    ----------
    .. [1] Chichilnisky, Network: Computation in Neural Systems 12, 199 (2001).
    """
    _check(folds, bins, draws, level, fields, history)
    reach = fields.sizes["lag"] if fields is not None else int(history or 0)
    given = triggered_responses(movie, recording, history=reach, latency=latency, frames=frames)
    rate = float(movie.attrs["frame_rate"])
    if fields is not None:
        drive = given_drive(movie, fields, given, latency)
    else:
        drive = crossed_drive(movie, recording, given, reach, latency, prior, window, folds)
    hertz = given.weights.astype(np.float64) * rate
    block = max(1, round(rate))
    cells = [
        _one_cell(drive[:, k], hertz[:, k], given.known[:, k], bins, block, draws, level, seed)
        for k in range(hertz.shape[1])
    ]
    return _dataset(cells, given, level, fields is None)


def _check(
    folds: int,
    bins: int,
    draws: int,
    level: float,
    fields: xr.DataArray | None,
    history: int | None,
) -> None:
    problems = Problems()
    problems.require(folds >= 2, f"folds: expected at least 2, got {folds}")
    problems.require(bins >= 5, f"bins: expected at least 5, got {bins}")
    problems.require(draws >= 2, f"draws: expected at least 2, got {draws}")
    problems.require(0 < level < 1, f"level: expected a share above 0 and below 1, got {level}")
    if fields is None:
        problems.require(history is not None, "history: needed where no fields are given")
    elif not isinstance(fields, xr.DataArray) or fields.dims != ("cell", "lag", "y", "x"):
        problems.add("fields: expected a DataArray (cell, lag, y, x)")
    problems.raise_as("static_nonlinearity")


def _one_cell(
    drive: Array,
    hertz: Array,
    known: Array,
    bins: int,
    block: int,
    draws: int,
    level: float,
    seed: int,
) -> dict[str, Any] | None:
    """Return the curve of one cell, or None where there is none."""
    rows = np.flatnonzero(known & np.isfinite(drive))
    if rows.size < 4 * bins or np.ptp(hertz[rows]) == 0 or np.ptp(drive[rows]) == 0:
        return None
    x, y = drive[rows], hertz[rows]
    edges = np.quantile(x, np.linspace(0, 1, bins + 1))
    place = np.clip(np.searchsorted(edges[1:-1], x, side="right"), 0, bins - 1)
    labels = block_labels(rows, block)
    sums = _block_sums(x, y, place, labels, bins)
    counts = draw_blocks(int(labels[-1]) + 1, draws, seed).astype(float)
    whole = _statistics(sums.sum(axis=0)[None])
    samples = _statistics(np.tensordot(counts, sums, axes=1))
    blocks = counts.shape[1] if counts.shape[1] >= _FEWEST_BLOCKS else None
    ends = {
        name: percentiles(values, level, blocks=blocks)
        if blocks
        else (np.full(values.shape[1:], np.nan),) * 2
        for name, values in samples.items()
    }
    spread = np.nanstd(samples["rate"], axis=0) if blocks else np.full(bins, np.nan)
    value = {name: values[0] for name, values in whole.items()}
    if not (ends["climb"][0] > 0 or ends["climb"][1] < 0):
        value["rectification"] = np.nan
        ends["rectification"] = np.array(np.nan), np.array(np.nan)
    fits = {name: fit_curve(name, value["drive"], value["rate"], spread) for name in CURVES}
    return {"value": value, "ends": ends, "edges": edges, "fits": fits, "frames": rows.size}


def _block_sums(x: Array, y: Array, place: Array, labels: Array, bins: int) -> Array:
    """Return (block, bin and total, sums): frames, drive, response, drive squared and product."""
    columns = (np.ones_like(x), x, y, x * x, x * y)
    blocks = int(labels[-1]) + 1
    index = labels * bins + place
    return np.stack(
        [
            np.bincount(index, weights=column, minlength=blocks * bins).reshape(blocks, bins)
            for column in columns
        ],
        axis=2,
    )


def _statistics(sums: Array) -> dict[str, Array]:
    """Return the curve and its numbers from sums (draw, bin, sum)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        drive, rate = sums[..., 1] / sums[..., 0], sums[..., 2] / sums[..., 0]
        total = sums.sum(axis=1)
        count, x, y, square, shared = (total[:, k] for k in range(5))
        gain = (shared - x * y / count) / (square - x * x / count)
        spread = np.sqrt(square / count - (x / count) ** 2)
    mean = x / count
    at = [_between(drive, rate, mean + step * spread) for step in (-1, 0, 1)]
    climb = at[2] - at[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        bend = (at[2] + at[0] - 2 * at[1]) / climb
    return {"drive": drive, "rate": rate, "gain": gain, "climb": climb, "rectification": bend}


def _between(drive: Array, rate: Array, at: Array) -> Array:
    """Return each draw's curve between its bins."""
    values = np.empty(len(drive))
    for row, (x, y, place) in enumerate(zip(drive, rate, at, strict=True)):
        seen = np.isfinite(x)
        values[row] = np.interp(place, x[seen], y[seen]) if seen.any() else np.nan
    return values


def _dataset(
    cells: list[dict[str, Any] | None], given: TriggeredResponses, level: float, crossed: bool
) -> xr.Dataset:
    """Put the cells into one dataset, NaN for those without a curve."""
    some = next((cell for cell in cells if cell is not None), None)
    if some is None:
        raise InputError(
            "static_nonlinearity: no cell has a curve; each needs responses that change and at "
            "least 4 frames a bin"
        )
    one = _columns(some)
    empty = {name: (dims, values * np.nan, units) for name, (dims, values, units) in one.items()}
    tables = [empty if cell is None else _columns(cell) for cell in cells]
    data: dict[str, Any] = {
        name: (("cell", *dims), np.stack([table[name][1] for table in tables]), {"units": units})
        for name, (dims, _, units) in one.items()
    }
    names = list(CURVES)
    misfits = data["misfit"][1]
    best = [names[int(np.nanargmin(row))] if np.isfinite(row).any() else "none" for row in misfits]
    data["best_curve"] = ("cell", np.array(best))
    return xr.Dataset(
        data,
        coords={"cell": given.cell, "curve": names, "name": list(PARAMETERS)},
        attrs={"kind": "static_nonlinearity", "level": level, "crossed": int(crossed)},
    )


def _columns(cell: dict[str, Any]) -> dict[str, tuple[tuple[str, ...], Array, str]]:
    """Return what is known of one cell: dims, values and unit of each variable."""
    value, ends = cell["value"], cell["ends"]
    fits: list[CurveFit] = [cell["fits"][name] for name in CURVES]
    soft = cell["fits"]["softplus"]
    columns: dict[str, tuple[tuple[str, ...], Any, str]] = {
        "drive": (("bin",), value["drive"], "1"),
        "drive_edge": (("edge",), cell["edges"], "1"),
        "threshold": ((), soft.parameters[3], "1"),
        "threshold_error": ((), soft.errors[3], "1"),
        "frames_used": ((), float(cell["frames"]), "1"),
        "misfit": (("curve",), [fit.misfit for fit in fits], "1"),
        "parameter": (("curve", "name"), [fit.parameters for fit in fits], "1"),
        "parameter_error": (("curve", "name"), [fit.errors for fit in fits], "1"),
    }
    for name, dims, units in (
        ("rate", ("bin",), "Hz"),
        ("gain", (), "Hz"),
        ("rectification", (), "1"),
    ):
        columns[name] = (dims, value[name], units)
        columns[f"{name}_low"] = (dims, ends[name][0], units)
        columns[f"{name}_high"] = (dims, ends[name][1], units)
    return {
        name: (dims, np.asarray(values, dtype=np.float64), units)
        for name, (dims, values, units) in columns.items()
    }


def draw_nonlinearity(curves: xr.Dataset, ax: Axes, *, cell: int | str = 0) -> Axes:
    """Draw a cell's rate against the drive, with its band and the curve that fits best.

    Parameters
    ----------
    curves : xarray.Dataset
        What `static_nonlinearity` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int or str, default 0
        Position or name of the cell.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: dots and bars are bins and their bands, the line is the curve.

    Raises
    ------
    InputError
        If there is no such cell, or it has no curve.
    """
    one = one_of(curves, cell=cell)
    if np.isnan(one["drive"]).all():
        raise InputError(f"cell {one['cell'].item()!r} has no curve")
    x, best = one["drive"].values, str(one["best_curve"].item())
    ax.vlines(x, one["rate_low"], one["rate_high"], color=COLOURS.quiet, linewidth=0.8)
    ax.plot(x, one["rate"], "o", color=COLOURS.ink, markersize=2.5)
    if best in CURVES:
        fine = np.linspace(x[0], x[-1], 200)
        fitted = curve_values(best, one["parameter"].sel(curve=best).values, fine)
        trace(ax, fine, fitted, colour=COLOURS.highlight, label=best)
        ax.margins(x=0.05)
    ax.set(xlabel="filter output (sd)", ylabel="rate (Hz)")
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.set_title(f"{one['cell'].item()}\n{best}, {float(one['gain']):.1f} Hz per sd")
    return ax
