"""How reliable the responses of a recording are, before any model is asked."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import comb
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.bootstrap import block_labels, draw_blocks, percentiles
from retinacodec.errors import InputError, Problems
from retinacodec.plotting import COLOURS
from retinacodec.schema import check_recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_reliability", "response_reliability"]

Array = npt.NDArray[Any]

_ROUNDING = 1e-12
_NO_SIGNAL = "repeats share no signal above their noise"
_MEASURES: dict[str, tuple[str, str, str]] = {
    "split_half": ("1", "correlation between halves of the repeats", "a half does not vary"),
    "split_half_full": (
        "1",
        "reliability of the mean of all repeats (Spearman-Brown)",
        "a half does not vary",
    ),
    "cc_max": ("1", "highest correlation with the mean of repeats", _NO_SIGNAL),
    "signal_power": ("1", "variance that repeats share, squared spikes per frame", "no frame"),
    "oracle": ("1", "correlation of each repeat with the others", "no repeat varies"),
    "fano": ("1", "variance over repeats divided by mean count", "no spike"),
}


def response_reliability(
    recording: xr.Dataset,
    frames: npt.ArrayLike | None = None,
    *,
    halves: int = 200,
    block_seconds: float = 1.0,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Measure how alike the responses to repeats of one stimulus are.

    Parameters
    ----------
    recording : xarray.Dataset
        Recording with ``repeats`` (repeat, time, cell), at least two.
    frames : array_like of int, optional
        Frames that count; all if left out. A frame with a NaN in any repeat is left out for its
        cell.
    halves : int, default 200
        Random splits of the repeats into halves; all of them where there are no more.
    block_seconds : float, default 1.0
        Least length of the blocks of time that are resampled, s; at least 1.
    draws : int, default 1000
        Resamples.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of splits and resamples.

    Returns
    -------
    xarray.Dataset
        Over (cell,), each with ``*_low`` and ``*_high``: ``split_half``, mean correlation between
        the means of two halves of the repeats; ``split_half_full``, what that makes for the mean
        of all; ``cc_max``; ``signal_power``, squared spikes per frame; ``oracle``; ``fano``.
        ``reason`` (measure, cell) says why a value is NaN. ``spikes`` (cell,), per repeat. No
        value is clipped.

    Raises
    ------
    InputError
        If there are no repeats, or a number is out of range.

    Notes
    -----
    With C the covariance over frames between repeats, halves a and b of m repeats each, and N
    repeats: ``split_half = a^T C b / sqrt(a^T C a b^T C b)`` averaged over splits; of an odd
    number one repeat, drawn by chance, is left out of each split. Spearman and Brown:
    ``split_half_full = g r / (1 + (g - 1) r)``, ``g = N / m``. ``SP = (1^T C 1 - tr C) / (N (N -
    1))``, ``cc_max = sqrt(SP N^2 / 1^T C 1)``. ``fano`` is the mean over frames of the variance
    over repeats, divided by the mean count. Resamples draw blocks of frames; the splits stay.

    References
    ----------
    .. [1] Spearman, British Journal of Psychology 3, 271 (1910). Schoppe et al., Frontiers in
       Computational Neuroscience 10, 10 (2016).
    """
    trials = _trials(recording, frames, halves, block_seconds)
    places = np.arange(recording.sizes["time"]) if frames is None else np.unique(frames)
    rate = float(recording.attrs["frame_rate"])
    labels = block_labels(places, int(np.ceil(block_seconds * rate)))
    blocks = int(labels[-1]) + 1
    chosen = draw_blocks(blocks, draws if blocks > 1 else 0, seed)
    splits = _splits(trials.shape[0], halves, seed)
    table = [
        _one_cell(trials[:, :, cell], labels, chosen, splits) for cell in range(trials.shape[2])
    ]
    result: dict[str, Any] = {}
    reasons = []
    for name, (units, words, why) in _MEASURES.items():
        values = np.array([cell[name] for cell in table])
        attrs = {"units": units, "long_name": words}
        result[name] = ("cell", values[:, 0], attrs)
        ends = np.full((2, len(values)), np.nan)
        if len(chosen):
            ends = np.stack(percentiles(values[:, 1:].T, level))
            ends[:, np.isnan(values[:, 0])] = np.nan
        for end, limit in zip(("low", "high"), ends, strict=True):
            result[f"{name}_{end}"] = ("cell", limit, attrs)
        reasons.append(np.where(np.isnan(values[:, 0]), why, ""))
    result["reason"] = (("measure", "cell"), np.stack(reasons))
    spikes = np.nansum(trials, axis=(0, 1)) / len(trials)
    result["spikes"] = ("cell", spikes, {"units": "1", "long_name": "spikes per repeat"})
    return xr.Dataset(
        result,
        coords={"cell": recording["cell"].values, "measure": list(_MEASURES)},
        attrs={"kind": "reliability", "repeats": len(trials), "splits": len(splits)}
        | {"blocks": blocks, "draws": draws, "level": level, "seed": seed},
    )


def draw_reliability(reliability: xr.Dataset, ax: Axes, *, measure: str = "split_half") -> Axes:
    """Draw a measure of all cells in rising order, with their intervals.

    Parameters
    ----------
    reliability : xarray.Dataset
        What `response_reliability` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    measure : str, default "split_half"
        Name of a measure.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; cells without a value are counted in the corner.

    Raises
    ------
    InputError
        If there is no such measure.
    """
    if measure not in _MEASURES:
        raise InputError(f"measure: expected one of {', '.join(_MEASURES)}, got {measure!r}")
    values = reliability[measure].values
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known])]
    place = np.arange(1, order.size + 1)
    low, high = (reliability[f"{measure}_{end}"].values[order] for end in ("low", "high"))
    width = float(np.clip(60 / max(order.size, 1), 0.3, 1.5))
    ax.vlines(place, low, high, color=COLOURS.quiet, linewidth=width, alpha=0.6)
    ax.plot(place, values[order], "o", color=COLOURS.ink, markersize=np.clip(width * 3, 1, 3))
    if order.size:
        middle = float(np.median(values[order]))
        ax.axhline(middle, color=COLOURS.highlight, linewidth=0.6)
        ax.annotate(
            f"median {middle:.2f}",
            (0.03, middle),
            xycoords=("axes fraction", "data"),
            xytext=(0, 1.5),
            textcoords="offset points",
            color=COLOURS.highlight,
            fontsize=6,
        )
    if order.size < values.size:
        left = values.size - order.size
        missing = f"{left} cell{'s' * (left > 1)} without a value"
        ax.annotate(missing, (0.98, 0.03), xycoords="axes fraction", ha="right", fontsize=6)
    words = "\n".join(wrap(str(reliability[measure].attrs["long_name"]), 34))
    ax.set(xlabel="cells, by rank", ylabel=words, xlim=(0, max(order.size, 1) + 1))
    return ax


def _trials(
    recording: xr.Dataset, frames: npt.ArrayLike | None, halves: int, block_seconds: float
) -> Array:
    """Return the repeats (repeat, time, cell) of the frames; frames not in all are NaN in all."""
    check_recording(recording)
    problems = Problems()
    repeated = "repeats" in recording and recording.sizes["repeat"] > 1
    problems.require(repeated, "expected at least two repeats of one stimulus, got none")
    problems.require(halves >= 1, f"halves: expected at least 1, got {halves}")
    problems.require(block_seconds >= 1, f"block_seconds: expected >= 1 s, got {block_seconds}")
    problems.raise_as("response_reliability")
    trials = recording["repeats"].transpose("repeat", "time", "cell").values.astype(np.float64)
    if frames is not None:
        trials = trials[:, np.unique(frames)]
    return np.where(np.isnan(trials).any(axis=0), np.nan, trials)


def _splits(repeats: int, halves: int, seed: int) -> Array:
    """Return splits (split, half, repeat) of 0 and 1: all of them where there are few."""
    half = repeats // 2
    possible = comb(repeats, half) * comb(repeats - half, half) // 2
    if possible <= halves:
        found = [
            (one, other)
            for one in combinations(range(repeats), half)
            for other in combinations(sorted(set(range(repeats)) - set(one)), half)
            if one < other
        ]
    else:
        random = np.random.default_rng([seed, 4])
        orders = [random.permutation(repeats) for _ in range(halves)]
        found = [(tuple(order[:half]), tuple(order[half : 2 * half])) for order in orders]
    splits = np.zeros((len(found), 2, repeats))
    for number, pair in enumerate(found):
        for side, members in enumerate(pair):
            splits[number, side, list(members)] = 1
    return splits


def _one_cell(trials: Array, labels: Array, chosen: Array, splits: Array) -> dict[str, Array]:
    """Return every measure (1 + draw,) of one cell from its repeats (repeat, time)."""
    seen = np.isfinite(trials[0])
    repeats = len(trials)
    level = trials[:, seen].mean() if seen.any() else 0.0
    values = np.where(seen, trials - level, 0.0)
    blocks = int(labels[-1]) + 1
    starts = np.searchsorted(labels, np.arange(blocks))
    frames = np.add.reduceat(seen.astype(np.float64), starts)
    total = np.add.reduceat(values, starts, axis=1).T
    bounds = [*starts, len(labels)]
    square = np.stack([values[:, a:b] @ values[:, a:b].T for a, b in pairwise(bounds)])
    weights = np.concatenate([np.ones((1, blocks)), chosen])
    count, each = weights @ frames, weights @ total
    products = np.tensordot(weights, square, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        around = each[:, :, None] * each[:, None, :] / count[:, None, None]
        cover = (products - around) / (count - 1)[:, None, None]
        size = products[:, range(repeats), range(repeats)] / (count - 1)[:, None]
        cover[np.abs(cover) <= _ROUNDING * size.max(axis=1)[:, None, None]] = 0
        found = _measures(cover, splits)
        everything = products.sum(axis=(1, 2)) / repeats
        apart = (products[:, range(repeats), range(repeats)].sum(axis=1) - everything) / (
            repeats - 1
        )
        mean = each.sum(axis=1) / repeats + level * count
        found["fano"] = np.where(mean > 0, apart / mean, np.nan)
    return found


def _measures(cover: Array, splits: Array) -> dict[str, Array]:
    """Return what follows from covariances (draw, repeat, repeat) between repeats."""
    repeats = cover.shape[-1]
    one, other = splits[:, 0], splits[:, 1]
    shared = np.einsum("sn,dnm,sm->ds", one, cover, other, optimize=True)
    sizes = [np.einsum("sn,dnm,sm->ds", side, cover, side, optimize=True) for side in (one, other)]
    varies = (sizes[0] > 0) & (sizes[1] > 0)
    each = np.where(varies, shared / np.sqrt(np.where(varies, sizes[0] * sizes[1], 1.0)), np.nan)
    half = _mean_known(each)
    longer = repeats / one[0].sum()
    whole, own = cover.sum(axis=(1, 2)), np.trace(cover, axis1=1, axis2=2)
    power = (whole - own) / (repeats * (repeats - 1))
    power = np.where(np.abs(power) <= _ROUNDING * np.abs(whole), 0.0, power)
    return {
        "split_half": half,
        "split_half_full": longer * half / (1 + (longer - 1) * half),
        "cc_max": np.sqrt(np.where(power > 0, power, np.nan) / whole) * repeats,
        "signal_power": power,
        "oracle": _oracle(cover),
    }


def _oracle(cover: Array) -> Array:
    """Return the mean correlation (draw,) of each repeat with the sum of the others."""
    own = np.einsum("dnn->dn", cover)
    to_all = cover.sum(axis=2)
    rest = to_all.sum(axis=1)[:, None] - 2 * to_all + own
    varies = (own > 0) & (rest > 0)
    scale = np.sqrt(np.where(varies, own * rest, 1.0))
    return _mean_known(np.where(varies, (to_all - own) / scale, np.nan))


def _mean_known(values: Array) -> Array:
    """Return the mean over the last axis without NaN; NaN where nothing is known."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
