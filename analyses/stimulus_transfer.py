"""How models fitted under one stimulus predict responses to another."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.comparison import compare_models
from retinacodec.analyses.model_tests import model_tests
from retinacodec.errors import InputError, Problems
from retinacodec.nulls import discoveries
from retinacodec.plotting import COLOURS, heat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Tested", "compare_stimuli", "draw_loss", "draw_transfer"]

Array = npt.NDArray[Any]
Tested = tuple[Mapping[str, xr.DataArray], xr.Dataset, npt.ArrayLike | None]
"""Predictions by what each model was trained on, the recording, and the frames to score."""

_PER_CELL = ("difference", "difference_low", "difference_high", "p_cell", "q_cell")


def compare_stimuli(
    tested: Mapping[str, Tested],
    *,
    metric: str = "r",
    block_seconds: float = 1.0,
    draws: int = 1000,
    permutations: int = 9999,
    level: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> xr.Dataset:
    """Compare models fitted under each stimulus on the responses to every stimulus.

    Parameters
    ----------
    tested : mapping of str to (mapping of str to xarray.DataArray, xarray.Dataset, frames)
        For each stimulus that is tested on: the rate (time, cell), Hz, of each model by the name
        of the stimulus it was trained on; the recording; and the frames to score, None for all.
        Frames must be held out from the models trained on the same stimulus.
    metric : str, default "r"
        A metric of `compare_models`; ``"cc_norm"`` needs repeats under every stimulus.
    block_seconds, draws, level, seed
        As in `compare_models`.
    permutations, alpha
        As in `model_tests`.

    Returns
    -------
    xarray.Dataset
        ``score`` (trained, tested, cell) and ``mean_score`` (trained, tested) with ``*_low`` and
        ``*_high``; ``reason`` (trained, tested, cell) where a score is NaN. ``loss`` (trained,
        tested, cell): score of the model trained on the stimulus it is tested on, less that of the
        model trained elsewhere, with ``loss_low``, ``loss_high``, ``p_cell`` and ``q_cell``;
        over (trained, tested): ``mean_loss`` with ends, ``effect``, ``p_wilcoxon``, ``q_wilcoxon``,
        ``p_permutation``, ``q_permutation``, ``least_p``, ``better`` and ``worse``, the numbers of
        cells that lose and that gain. NaN where both stimuli are the same.

    Raises
    ------
    InputError
        If there are fewer than two stimuli, models or cells differ between them, or the metric is
        unknown.

    Notes
    -----
    Losses are paired: both models predict the same responses, resampled in the same blocks. The
    noise of a recording is in both terms of a loss, but recordings differ in noise, so that
    losses under two stimuli are comparable only for ``cc_norm``.
    """
    names = _check(tested, block_seconds)
    options: dict[str, Any] = {"block_seconds": block_seconds, "draws": draws}
    options |= {"level": level, "seed": seed}
    columns = []
    for name in names:
        rates, recording, frames = tested[name]
        ordered = {trained: rates[trained] for trained in (name, *names) if trained in rates}
        scores = compare_models(ordered, recording, frames, **options)
        if metric not in scores or scores[metric].dims != ("model", "cell"):
            raise InputError(f"metric: no {metric!r} of each model under {name!r}")
        tests = model_tests(
            ordered,
            recording,
            frames,
            metrics=[metric],
            permutations=permutations,
            alpha=alpha,
            **options,
        )
        columns.append(_column(scores, tests, names, name, metric))
    result = xr.concat(columns, dim="tested").transpose("trained", "tested", ...)
    result = result.assign_coords(trained=names, tested=names)
    for test in ("wilcoxon", "permutation"):
        q = discoveries(result[f"p_{test}"].values, alpha).q
        result[f"q_{test}"] = (("trained", "tested"), q)
    units = scores[metric].attrs
    for name in ("score", "mean_score", "loss", "mean_loss"):
        result[name].attrs = dict(units)
    result.attrs = {"kind": "stimulus_transfer", "metric": metric, "level": level, "alpha": alpha}
    return result


def draw_transfer(transfer: xr.Dataset, ax: Axes) -> Axes:
    """Draw the mean score of every pair of stimuli as a matrix.

    Parameters
    ----------
    transfer : xarray.Dataset
        What `compare_stimuli` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: rows are what models were trained on, columns what they were tested on.
    """
    values = transfer["mean_score"].values
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    limits = (min(0.0, float(np.nanmin(values, initial=0.0))), max(top, 1e-6))
    names = [str(name) for name in transfer["trained"].values]
    heat(ax, values, limits=limits, rows=names, columns=names)
    for (row, column), value in np.ndenumerate(values):
        low, high = (
            float(transfer[f"mean_score_{end}"].values[row, column]) for end in ("low", "high")
        )
        dark = value > limits[0] + 0.6 * (limits[1] - limits[0])
        colour = "white" if dark else COLOURS.ink
        words = "no value" if np.isnan(value) else f"{value:.2f}\n({low:.2f} to {high:.2f})"
        ax.text(column, row, words, ha="center", va="center", fontsize=6, color=colour)
    metric = transfer["score"].attrs["long_name"]
    ax.set(xlabel="tested on", ylabel="trained on")
    ax.set_title(f"mean over cells:\n{metric}")
    return ax


def draw_loss(transfer: xr.Dataset, ax: Axes) -> Axes:
    """Draw each cell's score under its own and under the other stimulus, for every pair.

    Parameters
    ----------
    transfer : xarray.Dataset
        What `compare_stimuli` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: one column a pair, a dot a cell with the interval of its loss, and a bar for the
        mean; full dots are cells whose loss is significant.
    """
    labels, place = [], 0
    for tested in transfer["tested"].values:
        for trained in transfer["trained"].values:
            if trained == tested:
                continue
            one = transfer.sel(trained=trained, tested=tested)
            _loss_column(ax, one, place, float(transfer.attrs["alpha"]))
            labels.append(f"{trained}\nto {tested}")
            place += 1
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    metric = transfer["score"].attrs["long_name"]
    ax.set_xticks(range(place), labels=labels)
    ax.set(xlim=(-0.6, place - 0.4), ylabel="\n".join(wrap(f"loss of {metric}", 32)))
    return ax


def _loss_column(ax: Axes, one: xr.Dataset, place: int, alpha: float) -> None:
    """Draw the cells of one pair of stimuli side by side, and their mean."""
    values = one["loss"].values
    order = np.argsort(values)
    order = order[np.isfinite(values[order])]
    x = place + np.linspace(-0.3, 0.2, max(order.size, 1))[: order.size]
    low, high = (one[f"loss_{end}"].values[order] for end in ("low", "high"))
    sure = one["q_cell"].values[order] <= alpha
    ax.vlines(x, low, high, color=COLOURS.quiet, linewidth=0.5)
    for mask, face in ((sure, COLOURS.ink), (~sure, "white")):
        ax.plot(
            x[mask], values[order][mask], "o", markersize=2.5, color=COLOURS.ink,
            markerfacecolor=face, markeredgewidth=0.5,
        )  # fmt: skip
    ax.vlines(
        place + 0.33,
        one["mean_loss_low"],
        one["mean_loss_high"],
        color=COLOURS.highlight,
        linewidth=1.5,
    )
    ax.plot([place + 0.33], [one["mean_loss"]], "o", color=COLOURS.highlight, markersize=4)


def _check(tested: Mapping[str, Tested], block_seconds: float) -> list[str]:
    """Return the names of the stimuli, or raise one error that names all that is wrong."""
    names = list(tested)
    problems = Problems()
    problems.require(len(names) >= 2, f"expected at least two stimuli, got {len(names)}")
    problems.require(
        block_seconds >= 1, f"block_seconds: expected at least 1 s, got {block_seconds}"
    )
    cells = None
    for name, (rates, recording, _) in tested.items():
        missing = [trained for trained in names if trained not in rates]
        problems.require(not missing, f"{name}: no model trained on {', '.join(missing)}")
        extra = [trained for trained in rates if trained not in names]
        problems.require(not extra, f"{name}: no stimulus of the name {', '.join(extra)}")
        own = recording["cell"].values.astype(str).tolist()
        problems.require(cells in (None, own), f"{name}: other cells, or in another order")
        cells = own if cells is None else cells
    problems.raise_as("compare_stimuli")
    return names


def _column(
    scores: xr.Dataset, tests: xr.Dataset, names: list[str], own: str, metric: str
) -> xr.Dataset:
    """Return scores and losses (trained, ...) under one stimulus."""
    renamed = {}
    for end in ("", "_low", "_high"):
        for prefix in ("", "mean_"):
            renamed[f"{prefix}score{end}"] = scores[f"{prefix}{metric}{end}"].drop_vars(
                "metric", errors="ignore"
            )
    renamed["reason"] = scores["reason"].sel(metric=metric, drop=True)
    result = xr.Dataset(renamed).rename(model="trained").sel(trained=names)
    pairs = tests.sel(metric=metric, drop=True)
    wanted = [name for name in names if name != own]
    losses = pairs.sel(pair=[f"{own} - {name}" for name in wanted])
    losses = losses.rename(pair="trained").assign_coords(trained=wanted).reindex(trained=names)
    for name in ("mean", "effect"):
        for end in ("", "_low", "_high"):
            key = f"{name}{end}"
            result[key.replace("mean", "mean_loss")] = losses[key]
    for name in _PER_CELL:
        result[name.replace("difference", "loss")] = losses[name]
    for name in ("p_wilcoxon", "p_permutation", "least_p", "better", "worse"):
        result[name] = losses[name]
    return result
