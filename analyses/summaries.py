"""Small figures of a report: training, predicted rates beside recorded ones, completeness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.metrics import pearson
from retinacodec.plotting import COLOURS, trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_prediction", "draw_residuals", "draw_training", "relative_residuals"]

_FLOOR = 1e-12


def draw_training(log: xr.Dataset, ax: Axes, *, best_epoch: int | None = None) -> Axes:
    """Draw the loss over epochs, for training and validation data.

    Parameters
    ----------
    log : xarray.Dataset
        ``train_loss`` and, where there is one, ``validation_loss`` (epoch).
    ax : matplotlib.axes.Axes
        Where to draw.
    best_epoch : int, optional
        Epoch whose weights were kept, to mark.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.
    """
    from matplotlib.ticker import MaxNLocator

    lines = {
        "train_loss": ("training", COLOURS.quiet),
        "validation_loss": ("validation", COLOURS.ink),
    }
    shown = [name for name in lines if name in log and np.isfinite(log[name]).any()]
    if not shown:
        raise InputError("draw_training: expected a log with 'train_loss' (epoch)")
    for name in shown:
        label, colour = lines[name]
        trace(ax, log["epoch"].values, log[name].values, colour=colour, label=label)
        ax.lines[-1].set(marker="o", markersize=2)
    if best_epoch is not None:
        ax.axvline(best_epoch, color=COLOURS.highlight, linewidth=0.5, label="kept", zorder=0)
    units = log[shown[0]].attrs.get("units", "")
    ax.set(xlabel="Epoch", ylabel=f"Loss ({units})" if units else "Loss")
    ax.margins(x=0.05)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="best")
    return ax


def draw_prediction(
    rate: xr.DataArray,
    recording: xr.Dataset,
    ax: Axes,
    *,
    cell: str,
    start: float | None = None,
    seconds: float = 5.0,
) -> Axes:
    """Draw the predicted rate of a cell over its recorded rate.

    Parameters
    ----------
    rate : xarray.DataArray (time, cell)
        Predicted rate, Hz.
    recording : xarray.Dataset
        Recording with ``spike_count`` (time, cell), on the same frames; the mean of its repeats,
        if it has them.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : str
        Name of the cell.
    start : float, optional
        First moment shown, s; around the highest recorded rate if left out.
    seconds : float, default 5
        Length of the stretch shown, s.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its title states the correlation over all frames that both have, not only those
        shown.

    Raises
    ------
    InputError
        If the cell is missing in one of them or they share no frame.
    """
    for name, cells in (("model", rate["cell"].values), ("recording", recording["cell"].values)):
        if cell not in cells:
            raise InputError(f"draw_prediction: no cell {cell!r} in the {name}: {cells.tolist()}")
    measured = recording["spike_count"].sel(cell=cell) * recording.attrs["frame_rate"]
    predicted, measured = xr.align(rate.sel(cell=cell), measured, join="inner")
    if predicted.size < 2:
        raise InputError("draw_prediction: rate and recording share no frames")
    times = measured["time"].values
    if start is None:
        peak = float(times[int(np.nan_to_num(measured.values).argmax())])
        start = float(np.clip(peak - seconds / 2, times[0], max(times[-1] - seconds, times[0])))
    stretch = slice(start, start + seconds)
    shown = measured.sel(time=stretch)
    trace(ax, shown["time"], shown, colour="#b9bec4", label="recorded", fill=True)
    trace(ax, shown["time"], predicted.sel(time=stretch), colour=COLOURS.highlight, label="model")
    r = float(pearson(predicted.values, measured.values))
    ax.set_title(f"{cell}   r = {r:.2f}", loc="left")
    ax.set(xlabel="Time (s)", ylabel="Rate (Hz)")
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper right", ncols=2)
    return ax


def relative_residuals(parts: xr.DataTree) -> xr.Dataset:
    """Return the share of the target's change that the contributions of each layer leave out.

    Parameters
    ----------
    parts : xarray.DataTree
        Contributions.

    Returns
    -------
    xarray.Dataset
        ``residual`` (layer, sample): ``|sum C - (S(x) - S(x0))|`` divided by the median of
        ``|S(x) - S(x0)|`` over samples; samples of several targets are put in one row.
    """
    root = parts.to_dataset()
    change = np.abs(root["value"] - root["baseline_value"])
    scale = float(np.median(change)) or 1.0
    names = list(parts.children)
    rows = [np.abs(parts[name].to_dataset()["residual"].values).ravel() / scale for name in names]
    return xr.Dataset(
        {
            "residual": (
                ("layer", "sample"),
                np.asarray(rows, dtype=np.float64),
                {"units": "1", "long_name": "residual as a share of the change of the target"},
            )
        },
        coords={"layer": names},
    )


def draw_residuals(residuals: xr.Dataset | Mapping[str, xr.Dataset], ax: Axes) -> Axes:
    """Draw how complete contributions are: histograms of relative residuals, logarithmic.

    Parameters
    ----------
    residuals : xarray.Dataset or mapping of str to xarray.Dataset
        What `relative_residuals` returns; several, by name, such as one for each rule.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; residuals below 1e-12 are shown at 1e-12.
    """
    named = {"": residuals} if isinstance(residuals, xr.Dataset) else residuals
    series = {
        f"{name} {layer}".strip(): np.maximum(table["residual"].sel(layer=layer).values, _FLOOR)
        for name, table in named.items()
        for layer in table["layer"].values
    }
    every = np.concatenate(list(series.values()))
    low, high = np.floor(np.log10(every.min())), np.ceil(np.log10(every.max()) + 1e-9)
    bins = np.logspace(low, max(high, low + 1), 60)
    for number, (label, values) in enumerate(series.items()):
        colour = COLOURS.series[number % len(COLOURS.series)]
        ax.hist(values, bins=list(bins), histtype="step", color=colour, label=label)
        ax.axvline(float(np.median(values)), color=colour, linewidth=0.5, linestyle="--")
    ax.set_xscale("log")
    ax.set(xlabel="Residual / change of the target", ylabel="Frames")
    ax.legend(loc="best")
    return ax
