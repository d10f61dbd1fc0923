"""What modes go along with: events of a movie or classes of images, against chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.nulls import discoveries
from retinacodec.plotting import COLOURS, heat, symmetric_limit
from retinacodec.shifted_correlation import shifted_correlation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_mode_correlations", "mode_event_correlation"]

Array = npt.NDArray[Any]

_WORDS = {
    "correlation": "Pearson correlation",
    "p": "chance of one at least as strong under the null",
    "q": "least level of false discoveries at which it is one",
}
_MOST_NAMES = 60


def mode_event_correlation(
    loading: xr.DataArray,
    events: xr.DataArray | xr.Dataset,
    *,
    least: int | None = None,
    most_lag: int = 0,
    two_sided: bool = True,
    level: float = 0.05,
    any_dependence: bool = False,
) -> xr.Dataset:
    """Correlate the loading of every mode with every event, and test it against shifted events.

    Parameters
    ----------
    loading : xarray.DataArray (time, mode)
        Loadings.
    events : xarray.DataArray (time, event) or xarray.Dataset
        Events of the movie, True or False or graded, in any unit; of a dataset, such as a
        Stimulus with its ground truth, all variables over time alone. Only times that both have
        count.
    least : int, optional
        Smallest shift of the null in either direction, frames; a twentieth of the frames if left
        out. At least as long as loadings and events are correlated with themselves.
    most_lag : int, default 0
        A mode may follow an event by up to this many frames; the strongest correlation counts,
        in the data and in every shift.
    two_sided : bool, default True
        Whether negative correlations are of interest too.
    level : float, default 0.05
        Share of false ones among the discoveries.
    any_dependence : bool, default False
        As in `retinacodec.nulls.discoveries`.

    Returns
    -------
    xarray.Dataset
        Over (mode, event): ``correlation``, -1 to 1; ``lag``, frames; ``p`` and ``q``;
        ``discovered``; ``null_low`` and ``null_high``, 95 % of the null; ``z``, in standard
        deviations of the null. ``silent`` (mode) and ``constant`` (event) say what never varies:
        there the numbers are NaN, the lag -1 and nothing is discovered.

    Raises
    ------
    InputError
        If the two share no times or too few for the shifts, or a value is not finite.

    Notes
    -----
    The null holds all circular shifts of at least `least` frames, so that nothing is drawn at
    random; see `retinacodec.shifted_correlation.shifted_correlation`. ``q`` is of Benjamini and
    Hochberg over all pairs.

    Examples
    --------
    >>> on = np.random.default_rng(0).random((500, 2)) < 0.1
    >>> modes = xr.DataArray(1.0 * on, dims=("time", "mode"))
    >>> table = mode_event_correlation(modes, xr.DataArray(on, dims=("time", "event")))
    >>> table["discovered"].values.tolist()
    [[True, False], [False, True]]
    """
    table = _events(events)
    try:
        load, happened = xr.align(loading, table, join="inner", exclude=("mode", "event"))
    except ValueError as error:
        raise InputError(f"events: loadings and events do not fit: {error}") from error
    frames = load.sizes["time"]
    if frames < 2:
        raise InputError("events: loadings and events share no times; take those of one movie")
    shift = max(1, frames // 20) if least is None else least
    found = shifted_correlation(
        load.transpose("time", "mode").values,
        happened.transpose("time", "event").values,
        least=shift,
        most_lag=most_lag,
        two_sided=two_sided,
    )
    data = _tested(("mode", "event"), found.r, found.p, level, any_dependence)
    pair = ("mode", "event")
    data["lag"] = (pair, found.lag, {"units": "1", "long_name": "frames after the event"})
    for name, values in (("null_low", found.low), ("null_high", found.high), ("z", found.z)):
        data[name] = (pair, values, {"units": "1"})
    data["silent"] = ("mode", _flat(load, "mode"))
    data["constant"] = ("event", _flat(happened, "event"))
    attrs = {"kind": "mode correlations", "frames": frames, "shifts": found.shifts}
    attrs |= {"least": shift, "most_lag": most_lag, "two_sided": two_sided, "level": level}
    coords = {"mode": _names(load, "mode"), "event": _names(happened, "event")}
    return xr.Dataset(data, coords=coords, attrs=attrs)


def draw_mode_correlations(table: xr.Dataset, ax: Axes, *, most: int | None = None) -> Axes:
    """Draw the correlations of modes with events or classes, discoveries marked.

    Parameters
    ----------
    table : xarray.Dataset
        What `mode_event_correlation` or `mode_class_correlation` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    most : int, optional
        Number of events or classes shown, those with the strongest correlations; all if left
        out.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: a row for each mode, sorted by the event or class it goes along with most; red
        is positive, blue negative, grey undefined, and a white dot marks a discovery. Its image
        is ``ax.images[-1]``.
    """
    other = next(str(dim) for dim in table["correlation"].dims if dim != "mode")
    r = table["correlation"].transpose("mode", other)
    strength = np.nan_to_num(np.abs(r.values))
    columns = np.arange(r.sizes[other])
    if most is not None and most < columns.size:
        columns = np.sort(np.argsort(-strength.max(axis=0), kind="stable")[:most])
    strength = strength[:, columns]
    best = np.where(strength.any(axis=1), strength.argmax(axis=1), columns.size)
    order = np.lexsort((-strength.max(axis=1), best))
    shown = r.values[np.ix_(order, columns)]
    limit = symmetric_limit(shown)
    heat(ax, shown, limits=(-limit, limit), cmap="vik")
    found = table["discovered"].transpose("mode", other).values[np.ix_(order, columns)]
    rows, places = np.nonzero(found)
    ax.scatter(places, rows, s=5, facecolor="white", edgecolor=COLOURS.ink, linewidth=0.4)
    names = [str(name) for name in table[other].values[columns]]
    if len(names) <= _MOST_NAMES:
        ax.set_xticks(np.arange(len(names)), labels=names, rotation=90)
    if len(order) <= _MOST_NAMES:
        labels = table["mode"].values[order].astype(str).tolist()
        ax.set_yticks(np.arange(len(order)), labels=labels, fontsize=min(6.0, 130 / len(order)))
    ax.set(xlabel=other.capitalize(), ylabel="Mode")
    return ax


def _events(events: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return events as a table (time, event) of numbers."""
    if isinstance(events, xr.DataArray):
        table = events
    else:
        usable = [name for name, one in events.items() if one.dims == ("time",)]
        usable = [name for name in usable if events[name].dtype.kind in "biuf"]
        if not usable:
            raise InputError("events: no variable over time alone in the dataset")
        table = events[usable].to_dataarray("event")
    if set(table.dims) != {"time", "event"}:
        raise InputError(f"events: expected (time, event), got dims {table.dims}")
    return table.astype(np.float64)


def _tested(
    dims: tuple[str, str], r: Array, p: Array, level: float, any_dependence: bool
) -> dict[str, Any]:
    """Return correlation, p, q and discoveries as variables."""
    found = discoveries(p, level, any_dependence=any_dependence)
    data: dict[str, Any] = {
        name: (dims, values, {"units": "1", "long_name": _WORDS[name]})
        for name, values in (("correlation", r), ("p", p), ("q", found.q))
    }
    return data | {"discovered": (dims, found.found)}


def _flat(table: xr.DataArray, dim: str) -> Array:
    """Say which columns never vary."""
    values = table.transpose(..., dim).values
    return np.asarray(values.std(axis=0) <= 1e-12 * np.abs(values).max(axis=0))


def _names(table: xr.DataArray, dim: str) -> Array:
    return np.asarray(table[dim].values)
