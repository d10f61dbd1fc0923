"""Whether modes of contributions are more like pathways than those of other quantities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.mode_matching import roc_auc, upright
from retinacodec.analyses.pathways import (
    align_times,
    match_pathways,
    pathway_truth,
    times_a_second,
)
from retinacodec.bootstrap import block_bootstrap
from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS, raster_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["compare_pathway_recovery", "draw_pathway_areas", "draw_pathway_atoms"]

Array = npt.NDArray[Any]

_PARTNERS = {
    "auc": "partner",
    "auc_firing": "partner",
    "best_auc": "best_partner",
    "best_auc_firing": "best_partner_firing",
}
_WORDS = {
    "auc": "Does it drive the cell?",
    "auc_firing": "Is it active, when the cell fires?",
    "best_auc": "Does it drive the cell? (best mode)",
    "best_auc_firing": "Is it active, when the cell fires? (best mode)",
}


def compare_pathway_recovery(
    modes: Mapping[str, xr.Dataset],
    truth: xr.Dataset,
    *,
    block_s: float = 1.0,
    draws: int = 300,
    seed: int = 0,
    signed: bool = False,
    **options: Any,
) -> xr.Dataset:
    """Ask whether modes of one quantity are more like the pathways than those of others.

    Parameters
    ----------
    modes : mapping of str to xarray.Dataset
        Modes of each quantity, such as contributions, activations and gradients, for the same
        cell and movie. The first is compared with each other one.
    truth : xarray.Dataset
        As in `pathway_truth`.
    block_s : float, default 1
        Length of the blocks of time that are resampled, s.
    draws : int, default 300
        Resamples.
    seed : int, default 0
        Seed of nulls and resamples.
    signed : bool, default False
        As in `match_pathways`, where it is True; here False, to be fair to activations.
    **options
        Further arguments of `match_pathways`.

    Returns
    -------
    xarray.Dataset
        What `match_pathways` returns, with a further dimension ``quantity``; and ``gain``,
        ``gain_low`` and ``gain_high`` (score, quantity, over): how much larger the areas are for
        the first quantity, with their 95 % intervals, for each pathway and for the ``"mean"`` of
        those that have one.

    Raises
    ------
    InputError
        As `match_pathways`, or if fewer than two quantities are given.

    Notes
    -----
    Blocks of time are drawn for all quantities together, with modes and partners as they are: the
    interval says what another stretch of the same movie could give, not what another fit could.
    """
    if len(modes) < 2:
        raise InputError(f"compare_pathway_recovery: expected two quantities, got {list(modes)}")
    options |= {"signed": signed, "seed": seed}
    tables = [match_pathways(one, truth, **options) for one in modes.values()]
    joined = xr.concat(
        tables,
        xr.Variable("quantity", list(modes)),
        combine_attrs="override",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="override",
    )
    settings = {k: v for k, v in options.items() if k in ("event_hz", "amacrine_apart")}
    known, codes = _partners_loadings(modes, tables, pathway_truth(truth, **settings))
    series = (known["drives"].values, known["firing"].values, codes)
    block = max(1, round(block_s * times_a_second(known)))
    gain = block_bootstrap(_gains, *series, block=block, draws=draws, seed=seed)
    values = {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
    over = [*(str(name) for name in joined["pathway"].values), "mean"]
    joined = joined.assign(
        {name: (("score", "quantity", "over"), v, {"units": "1"}) for name, v in values.items()}
    ).assign_coords(score=list(_PARTNERS), over=over)
    return joined.assign_attrs(kind="pathway recovery", seed=seed, block_s=block_s)


def _partners_loadings(
    modes: Mapping[str, xr.Dataset], tables: list[xr.Dataset], known: xr.Dataset
) -> tuple[xr.Dataset, Array]:
    """Return the truth at common times, and loadings (time, score, quantity, pathway)."""
    for one in modes.values():
        known = align_times(one, known)[1]
    columns = []
    for which in _PARTNERS.values():
        for one, table in zip(modes.values(), tables, strict=True):
            found = align_times(one, known)[0]
            loadings = upright(found["atom"].values, found["loading"].values)[1]
            padded = np.concatenate([loadings, np.zeros((len(loadings), 1))], axis=1)
            columns.append(padded[:, table[which].values])
    shape = (known.sizes["time"], len(_PARTNERS), len(modes), known.sizes["pathway"])
    return known, np.stack(columns, axis=1).reshape(shape)


def _gains(drives: Array, firing: Array, codes: Array) -> Array:
    """Return the areas of the first quantity less those of each, (score, quantity, over)."""
    areas = np.full(codes.shape[1:], np.nan)
    for number, score in enumerate(_PARTNERS):
        rows = firing if score.endswith("firing") else np.ones_like(firing)
        for place in range(drives.shape[1]):
            on = drives[rows, place : place + 1]
            areas[number, :, place] = roc_auc(on, codes[rows, number, :, place])[0]
    gain = areas[:, :1] - areas
    count = np.isfinite(gain).sum(axis=-1, keepdims=True)
    total = np.where(np.isfinite(gain), gain, 0).sum(axis=-1, keepdims=True)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.concatenate([gain, mean], axis=-1)


def draw_pathway_atoms(table: xr.Dataset, ax: Axes) -> Axes:
    """Draw the atom of each pathway over those of the modes matched to it.

    Parameters
    ----------
    table : xarray.Dataset
        What `compare_pathway_recovery` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``: a row for each pathway and, below it, one for
        each quantity with the cosine; positive and negative parts of a channel added. Modes
        that do not exist are left blank.
    """
    here = np.flatnonzero(np.isfinite(table["cosine"].isel(quantity=0).values))
    rows: list[Array] = []
    names: list[str] = []
    for number in here:
        one = table.isel(pathway=int(number))
        rows.append(one["truth"].isel(quantity=0).sum("sign").values)
        names.append(f"{one['pathway'].item()} pathway")
        for quantity in table["quantity"].values:
            mode = one.sel(quantity=quantity)
            blank = int(mode["partner"]) < 0
            rows.append(mode["atom"].sum("sign").values * (np.nan if blank else 1))
            names.append(f"{quantity}, {'none' if blank else f'{float(mode.cosine):.2f}'}")
    sizes = np.asarray([np.abs(row).max() for row in rows])
    raster_map(ax, np.stack(rows) / np.where(sizes > 0, sizes, 1)[:, None], limit=1, cmap="bam")
    step = 1 + table.sizes["quantity"]
    for edge in np.arange(step, len(rows), step) - 0.5:
        ax.axhline(edge, color=COLOURS.ink, linewidth=0.5)
    ax.set_yticks(range(len(names)), names)
    channels = [str(name) for name in table["channel"].values]
    ax.set_xticks(range(len(channels)), channels, rotation=40, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    ax.set(xlabel="", ylabel="", title="Atoms (green +, magenta \N{MINUS SIGN}) and cosines")
    return ax


def draw_pathway_areas(table: xr.Dataset, ax: Axes, score: str = "auc") -> Axes:
    """Draw how well loadings tell when each pathway drives the cell, over the shifted null.

    Parameters
    ----------
    table : xarray.Dataset
        What `compare_pathway_recovery` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    score : {"auc", "auc_firing", "best_auc", "best_auc_firing"}
        Which area.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: bars from chance (0.5), a colour for each quantity; grey lines the central
        95 % of the null; a star where the p is at most 0.05.

    Raises
    ------
    InputError
        If there is no such score.
    """
    if score not in _PARTNERS:
        raise InputError(f"draw_pathway_areas: expected one of {list(_PARTNERS)}, got {score!r}")
    here = np.flatnonzero(table[score].notnull().any("quantity").values)
    shown = table.isel(pathway=here)
    count = table.sizes["quantity"]
    width = 0.8 / count
    for number, quantity in enumerate(table["quantity"].values):
        one = shown.sel(quantity=quantity)
        at = np.arange(len(here)) + (number - (count - 1) / 2) * width
        colour = COLOURS.series[number]
        ax.bar(at, one[score] - 0.5, 0.9 * width, bottom=0.5, color=colour, label=str(quantity))
        low, high = np.quantile(
            one[f"{score}_null"].transpose("shift", ...), [0.025, 0.975], axis=0
        )
        ax.vlines(at, low, high, color=COLOURS.quiet, linewidth=2, alpha=0.8)
        for place, value, p in zip(at, one[score].values, one[f"{score}_p"].values, strict=True):
            if p <= 0.05:
                ax.text(place, max(value, 0.5) + 0.005, "*", ha="center", va="bottom")
    ax.axhline(0.5, color=COLOURS.ink, linewidth=0.5)
    ax.set_xticks(range(len(here)), [str(name) for name in shown["pathway"].values])
    ax.set(ylim=(0, 1.1), ylabel="Area under the ROC curve", title=_WORDS[score])
    ax.set_yticks([0, 0.5, 1])
    ax.set_xlabel("Pathway")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=count, columnspacing=0.8)
    return ax
