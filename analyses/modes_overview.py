"""One figure of the modes of a layer: when, what, how sure, together with which, in which cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from retinacodec.analyses.cell_consensus import consensus_clusters
from retinacodec.analyses.cell_groups import mode_cell_correlation
from retinacodec.analyses.combination_figure import draw_combination_table
from retinacodec.analyses.combinations import combination_table
from retinacodec.analyses.figures import draw_groups
from retinacodec.analyses.mode_figures import (
    draw_atoms,
    draw_mode_loadings,
    draw_mode_scores,
    draw_modes_raster,
    draw_rates_raster,
    draw_stability,
)
from retinacodec.errors import InputError
from retinacodec.plotting import FULL_MM, colour_bar, figure, panel_letter, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["modes_figure", "modes_numbers"]

_SETS = 12


def modes_numbers(
    modes: xr.Dataset, rate: xr.DataArray, *, seconds: float = 20.0, seed: int = 0
) -> dict[str, xr.Dataset]:
    """Return what the overview of modes shows, panel by panel.

    Parameters
    ----------
    modes : xarray.Dataset
        What `find_modes` returns for a movie, with halves.
    rate : xarray.DataArray (time, cell)
        Rates of the model's cells, Hz.
    seconds : float, default 20
        Length of the stretch shown: the one with the most loading.
    seed : int, default 0
        Seed of the nulls and of the grouping of cells.

    Returns
    -------
    dict of str to xarray.Dataset
        ``A`` rates and loadings of the stretch, ``B`` atoms, ``C`` sets of modes, ``D``
        stability, ``E`` correlations with cells and their groups.

    Raises
    ------
    InputError
        If modes and rates share no times.
    """
    rate, loading = xr.align(rate, modes["loading"], join="inner")
    if loading.dims[0] != "time" or loading.sizes["time"] < 2:
        raise InputError("modes_numbers: expected modes and rates of the same times")
    stretch = _liveliest(loading, seconds)
    correlation = mode_cell_correlation(rate, loading)
    groups = consensus_clusters(correlation, seed=seed)
    names = ["stability", "half_stability", "gain", "surplus", "half_cosine"]
    return {
        "A": xr.Dataset({"rate": rate, "loading": loading}).isel(time=stretch),
        "B": modes[["atom"]],
        "C": combination_table(loading, most=_SETS, seed=seed),
        "D": modes[names].assign_attrs(stability_null=modes.attrs["stability_null"]),
        "E": groups.assign(correlation=correlation),
    }


def modes_figure(numbers: dict[str, xr.Dataset], *, width_mm: float = FULL_MM) -> Figure:
    """Draw the overview of the modes of a layer.

    Parameters
    ----------
    numbers : dict of str to xarray.Dataset
        What `modes_numbers` returns.
    width_mm : float, default 174
        Width of the figure, mm; its height follows.

    Returns
    -------
    matplotlib.figure.Figure
        A rates over loadings, B atoms, C sets of modes against independent ones, D stability, E
        groups of cells.
    """
    with style():
        drawing = figure(width_mm=width_mm, height_mm=1.06 * width_mm)
        rows = drawing.subfigures(3, 1, squeeze=False, height_ratios=(1.15, 1, 1))[:, 0]
        _draw_times(numbers["A"], rows[0])
        _draw_what(numbers, rows[1])
        _draw_which(numbers, rows[2])
    return drawing


def _draw_times(stretch: xr.Dataset, drawing: Any) -> None:
    """Draw rates, loadings of all modes, and of the two strongest, over one time axis."""
    axes = drawing.subplots(3, 1, sharex=True, height_ratios=(1, 1.6, 0.8))
    draw_rates_raster(stretch["rate"], axes[0])
    draw_modes_raster(stretch, axes[1])
    strong = stretch["loading"].sum("time").argsort().values[::-1][:2]
    names = stretch["mode"].values[np.sort(strong)].tolist()
    draw_mode_loadings(stretch, axes[2], mode=names)
    axes[2].legend(loc="upper right", ncols=2)
    for ax in axes[:2]:
        ax.set_xlabel("")
    for ax, word in zip(axes[:2], ("rate", "loading"), strict=True):
        colour_bar(ax, f"{word} (rel.)")
    moments = stretch["time"].values
    axes[0].set_xlim(float(moments[0]), float(moments[-1]))
    panel_letter(axes[0], "A")


def _draw_what(numbers: dict[str, xr.Dataset], drawing: Any) -> None:
    """Draw atoms, and how surely each mode is found again."""
    atoms, matrix, scores = drawing.subplots(1, 3, width_ratios=(1.5, 1, 1))
    draw_atoms(numbers["B"], atoms)
    colour_bar(atoms, "atom")
    draw_stability(numbers["D"], matrix)
    colour_bar(matrix, "cosine")
    draw_mode_scores(numbers["D"], scores)
    for letter, ax in zip("BD", (atoms, matrix), strict=True):
        panel_letter(ax, letter)


def _draw_which(numbers: dict[str, xr.Dataset], drawing: Any) -> None:
    """Draw the sets of modes, and the groups of cells."""
    left, right = drawing.subfigures(1, 2, width_ratios=(1.25, 1))
    frames, members = left.subplots(2, 1, sharex=True, height_ratios=(1, 1.1))
    draw_combination_table(numbers["C"], frames, members=members, most=_SETS)
    ax = right.subplots()
    draw_groups(numbers["E"], ax)
    colour_bar(ax, "correlation")
    panel_letter(frames, "C")
    panel_letter(ax, "E")


def _liveliest(loading: xr.DataArray, seconds: float) -> slice:
    """Return the stretch of this length with the most loading, each mode counting alike."""
    time = loading["time"].values
    count = min(len(time), max(2, round(seconds / float(np.median(np.diff(time))))))
    values = np.abs(loading.transpose("time", "mode").values)
    total = (values / np.maximum(values.mean(axis=0), 1e-12)).sum(axis=1)
    sums = np.convolve(total, np.ones(count), mode="valid")
    start = int(sums.argmax())
    return slice(start, start + count)
