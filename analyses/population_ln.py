"""Linear-nonlinear models of a whole population: regularised filters and static nonlinearities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.population_windows import PopulationData, WindowGroup, window_groups
from retinacodec.analyses.rate_curves import (
    CURVES,
    PARAMETERS,
    curve_slopes,
    curve_values,
    fit_curve,
)
from retinacodec.errors import InputError
from retinacodec.field_priors import FieldPrior
from retinacodec.lagged_products import filtered
from retinacodec.recordings import Split
from retinacodec.schema import check_stimulus, lag_axis

__all__ = ["PopulationLN", "fit_ln", "predicted_rates"]

Array = npt.NDArray[Any]

_BINS = 20


@dataclass(frozen=True, eq=False)
class PopulationLN:
    """A linear-nonlinear model of every cell of a recording.

    Attributes
    ----------
    filters : xarray.DataArray (cell, lag, y, x)
        Linear filters, Hz per unit contrast, oldest frame first; NaN for a cell without one.
    mean, spread : ndarray (cell,)
        Mean and standard deviation of the filter's output on the training frames.
    curve : tuple of str
        Which curve of `retinacodec.analyses.rate_curves` each cell has, ``""`` without one.
    parameter : ndarray (cell, parameter)
        Its parameters: base, scale, steepness, place.
    penalty : ndarray (cell,)
        Penalty of the filter, in the basis of the prior.
    words : tuple of dict
        The other numbers that the prior chose for each cell.
    floor : ndarray (cell,)
        Least rate, Hz: one spike in all training frames.
    latency : int
        Frames between the newest frame of the window and the response.
    frame_rate : float
        Hz.
    """

    filters: xr.DataArray
    mean: Array
    spread: Array
    curve: tuple[str, ...]
    parameter: Array
    penalty: Array
    words: tuple[dict[str, float], ...]
    floor: Array
    latency: int
    frame_rate: float

    def predict(self, movie: xr.Dataset) -> xr.DataArray:
        """Return the rates for a movie.

        Parameters
        ----------
        movie : xarray.Dataset
            Stimulus with the pixels and the frame rate that the model was fitted to.

        Returns
        -------
        xarray.DataArray (time, cell)
            Rate, Hz, from the first frame with a whole window; NaN for a cell without a model.

        Raises
        ------
        InputError
            If the movie has other pixels or another frame rate.
        """
        drive = driven(movie, self.filters, self.latency, self.frame_rate)
        hertz = np.full(drive.shape, np.nan)
        seen = slice(self.filters.sizes["lag"] - 1 + self.latency, None)
        for cell, name in enumerate(self.curve):
            if name:
                x = (drive[seen, cell] - self.mean[cell]) / self.spread[cell]
                rate = curve_values(name, self.parameter[cell], x)
                hertz[seen, cell] = np.maximum(rate, self.floor[cell])
        return predicted_rates(hertz, movie, self.filters, self.latency)


def fit_ln(
    movie: xr.Dataset,
    recording: xr.Dataset,
    split: Split,
    *,
    history: int,
    latency: int = 0,
    prior: FieldPrior | None = None,
    window: int | None = 8,
    folds: int = 5,
) -> PopulationLN:
    """Fit a linear-nonlinear model to every cell of a recording.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    recording : xarray.Dataset
        Recording with ``spike_count`` (time, cell).
    split : Split
        Frames to fit to, and frames by which the prior's numbers are chosen; test frames are not
        looked at.
    history : int
        Frames of a filter.
    latency : int, default 0
        Frames between the newest frame of the window and the response.
    prior : FieldPrior, optional
        What is assumed of a filter; `retinacodec.field_priors.Smooth` if left out, whose lengths
        of smoothness are chosen by the evidence, cell by cell.
    window : int or None, default 8
        Pixels on each side of the square, around the strongest correlation, that holds the
        filter; None is the whole frame.
    folds : int, default 5
        Contiguous parts of the training frames. The nonlinearity of each is measured with a
        filter that was fitted to the others.

    Returns
    -------
    PopulationLN
        The models; a cell that never changes its response in the training frames, or was
        observed in too few of them for so many folds, has none.

    Raises
    ------
    InputError
        If movie, recording and split do not fit, or a number is out of range.

    Notes
    -----
    ``rate = curve((filter * contrast - mean) / spread)``. Filters are penalised least squares,
    as in `regularised_fields`. The curve is the soft threshold, sigmoid or exponential, each with
    a constant, of the largest Poisson likelihood on the training frames. A filter that had
    seen the same frames would make the curve too steep.

    References
    ----------
    .. [1] Chichilnisky, Network: Computation in Neural Systems 12, 199 (2001).
    .. [2] Sahani and Linden, Advances in Neural Information Processing Systems 15 (2003).
    """
    if folds < 2:
        raise InputError(f"folds: expected at least 2, got {folds}")
    data = PopulationData.of(movie, recording, split, history, latency)
    cells, parameters = data.counts.shape[1], len(PARAMETERS)
    field = np.full((cells, history, *data.contrast.shape[1:]), np.nan)
    numbers = {name: np.full(cells, np.nan) for name in ("mean", "spread", "penalty")}
    parameter = np.full((cells, parameters), np.nan)
    curve = [""] * cells
    words: list[dict[str, float]] = [{} for _ in range(cells)]
    for group in window_groups(data, prior, window, folds):
        for place, cell in enumerate(group.cells):
            own = group.field(place)
            drive, mean, spread = _crossed(data, group, place, own)
            if not spread > 0:
                continue
            rows = np.flatnonzero(np.isfinite(drive))
            hertz = data.counts[rows, cell] * data.frame_rate
            curve[cell], parameter[cell] = _best_curve(drive[rows], hertz, _floor(data)[cell])
            field[cell] = 0.0
            field[cell][:, *group.square.pixels] = own
            choice = group.choices[place]
            numbers["mean"][cell], numbers["spread"][cell] = mean, spread
            numbers["penalty"][cell], words[cell] = choice.penalty, choice.words
    return PopulationLN(
        filters=filter_array(field, movie, data, "Hz"),
        curve=tuple(curve),
        parameter=parameter,
        words=tuple(words),
        floor=_floor(data),
        latency=latency,
        frame_rate=data.frame_rate,
        **numbers,
    )


def filter_array(field: Array, movie: xr.Dataset, data: PopulationData, units: str) -> xr.DataArray:
    """Return filters (cell, lag, y, x) with their axes and unit per unit contrast."""
    return xr.DataArray(
        field,
        dims=("cell", "lag", "y", "x"),
        coords={
            "cell": data.cell,
            "lag": lag_axis(data.history, data.latency, data.frame_rate),
            "y": movie["y"],
            "x": movie["x"],
        },
        name="filter",
        attrs={"units": units, "long_name": f"linear filter, {units} per unit contrast"},
    )


def driven(movie: xr.Dataset, filters: xr.DataArray, latency: int, frame_rate: float) -> Array:
    """Return the output (time, cell) of filters of a fitted model for a movie.

    Raises
    ------
    InputError
        If the movie has other pixels, another frame rate or too few frames.
    """
    check_stimulus(movie)
    shown = float(movie.attrs["frame_rate"])
    if abs(shown - frame_rate) > 0.01 * frame_rate:
        raise InputError(f"movie: fitted at {frame_rate:g} Hz, the movie runs at {shown:g} Hz")
    if movie.sizes["time"] < filters.sizes["lag"] + latency:
        raise InputError(
            f"movie: {movie.sizes['time']} frames are fewer than the window of "
            f"{filters.sizes['lag']} and its latency of {latency}"
        )
    return filtered(movie["contrast"].values, filters.fillna(0.0).values, latency=latency)


def predicted_rates(
    hertz: Array, movie: xr.Dataset, filters: xr.DataArray, latency: int
) -> xr.DataArray:
    """Return rates (time, cell) with their axes, from the first frame with a whole window on."""
    first = filters.sizes["lag"] - 1 + latency
    return xr.DataArray(
        hertz[first:],
        dims=("time", "cell"),
        coords={"time": movie["time"][first:], "cell": filters["cell"]},
        name="rate",
        attrs={"units": "Hz", "long_name": "predicted rate"},
    )


def _floor(data: PopulationData) -> Array:
    """Return one spike in all training frames, as a rate (cell,), Hz."""
    return np.asarray(data.frame_rate / np.maximum(data.train.sum(axis=0), 1))


def _crossed(
    data: PopulationData, group: WindowGroup, place: int, own: Array
) -> tuple[Array, float, float]:
    """Return a cell's standardised drive on training frames, by filters of the other parts."""
    fields = [own, *(group.field(place, part) for part in range(len(group.folds)))]
    outputs = filtered(group.pixels, np.stack(fields), latency=data.latency)
    known = np.any(group.folds, axis=0)
    drive = np.full(len(outputs), np.nan)
    for number, part in enumerate(group.folds):
        one, others = outputs[:, number + 1], known & ~part
        spread = one[others].std()
        if spread > 0:
            drive[part] = (one[part] - one[others].mean()) / spread
    return drive, float(outputs[known, 0].mean()), float(outputs[known, 0].std())


def _best_curve(drive: Array, hertz: Array, floor: float) -> tuple[str, Array]:
    """Return the name and parameters of the curve with the largest Poisson likelihood."""
    if drive.size < 4 * _BINS:
        return "", np.full(len(PARAMETERS), np.nan)
    order = np.array_split(np.argsort(drive, kind="stable"), _BINS)
    x, y = (np.array([values[part].mean() for part in order]) for values in (drive, hertz))
    error = np.array([hertz[part].std() / np.sqrt(part.size) for part in order])
    found = []
    for name in CURVES:
        start = fit_curve(name, x, y, error).parameters
        if np.isfinite(start[:3]).all():
            found.append((*_likeliest(name, start, drive, hertz, floor), name))
    if not found:
        return "", np.full(len(PARAMETERS), np.nan)
    _, parameters, name = min(found, key=lambda one: one[0])
    return name, parameters


def _likeliest(
    name: str, start: Array, drive: Array, hertz: Array, floor: float
) -> tuple[float, Array]:
    """Return the least loss, nats times Hz, and the parameters of a curve that has it."""
    from scipy.optimize import minimize

    free = 3 if name == "exponential" else 4
    pad = np.full(len(PARAMETERS) - free, np.nan)
    steep = (-20.0, -0.01) if start[2] < 0 else (0.01, 20.0)
    most = float(hertz.max())
    bounds = [(0.0, most), (0.0, 10 * most), steep, (-10.0, 10.0)][:free]

    def loss(values: Array) -> tuple[float, Array]:
        whole = np.concatenate([values, pad])
        curve = curve_values(name, whole, drive)
        rate = np.maximum(curve, floor)
        weight = np.where(curve > floor, 1 - hertz / rate, 0.0) / drive.size
        cost = float((rate - hertz * np.log(rate)).mean())
        return cost, curve_slopes(name, whole, drive).T @ weight

    begin = np.clip(start[:free], *np.transpose(bounds))
    best = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds)
    if not (np.isfinite(best.fun) and np.isfinite(best.x).all()):
        return loss(begin)[0], np.concatenate([begin, pad])
    return float(best.fun), np.concatenate([best.x, pad])
