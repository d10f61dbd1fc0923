"""Whether a model's channels are the interneurons of a retina: matches against a shifted null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.match_moments import FLOORS, Layers, common_moments, match_plan
from retinacodec.analyses.match_scores import MatchPlan, Scores, families, summarised
from retinacodec.analyses.unit_matching import LayerUnits, Selection, score_units
from retinacodec.ceilings import cc_max
from retinacodec.errors import InputError

__all__ = ["Matched", "match_interneurons", "matched"]

Array = npt.NDArray[Any]
_WORDS = {
    "correlation": "held-out correlation with the best unit",
    "low": "lower end of its interval",
    "high": "upper end of its interval",
    "selected": "correlation of the best unit on the blocks that chose it",
    "p_value": "p against shifted traces, of this trace alone",
    "p_family": "p against shifted traces, of the largest of all traces and layers",
    "q_value": "false discovery rate over all traces and layers",
    "correlation_any": "held-out correlation with the best unit of all layers",
    "low_any": "lower end of its interval",
    "high_any": "upper end of its interval",
    "p_any": "p against shifted traces, choice among all layers",
    "ceiling": "highest correlation that noise allows",
    "normalised": "held-out correlation over the ceiling",
}


def match_interneurons(
    traces: xr.DataArray | xr.Dataset,
    activations: xr.DataArray | Layers,
    *,
    null_shifts: int | None = None,
    blocks: int = 2,
    gap: int | None = None,
    least_shift: int | None = None,
    floors: tuple[float, float] = FLOORS,
    maps: bool = False,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Find the model unit most like each interneuron, and test it against shifted traces.

    The unit is chosen on some blocks of time and scored on another, each block in turn, so that
    the choice among thousands of units does not inflate the score. The null repeats choice and
    score with the trace shifted in time, around the end to the beginning.

    Parameters
    ----------
    traces : xarray.DataArray or xarray.Dataset (time, ...)
        Interneuron traces with any further dims, such as cell, or type, y, x; NaN where not
        sampled, which is left out for that trace only. Of a dataset the variable ``trace``, else
        ``potential``; its ``repeats`` (repeat, time, ...), if any, give noise ceilings.
    activations : xarray.DataArray (time, channel[, y, x]), or mapping of them
        Activations of a layer, or of several by name, as `channel_activations` returns them.
    null_shifts : int, optional
        Most shifts, evenly over the circle; all there are if left out.
    blocks : int, default 2
        Contiguous blocks of time. The unit for each is chosen by the mean over the others.
    gap : int, optional
        Moments left out between blocks; the model's history if left out, where the activations
        name one.
    least_shift : int, optional
        Smallest shift in either direction, moments. If left out, the longest time after which
        the autocorrelation of a trace falls below 0.1, or the model's history if that is longer;
        a quarter of the time at most.
    floors : (float, float), default (exp(-15), exp(-12))
        A unit counts if its mean size over time, and its standard deviation in every block, are
        above these, in units of the activations; and the deviation above a millionth of the
        largest activation.
    maps : bool, default False
        Keep the correlation of every unit.
    draws : int, default 1000
        Resamples of blocks of at least 1 s, or of the least shift if that is longer.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of the resamples.

    Returns
    -------
    xarray.Dataset
        With the traces' own dims, for a mapping after ``layer``: ``correlation``, the held-out
        Pearson r (mean over blocks), with ``low`` and ``high``; ``selected``, the r on the blocks
        that chose; ``channel_correlation`` (..., channel), the held-out r where the choice is
        among one channel's positions; ``null`` (shift, ...); ``p_value`` = (1 + shifts at least
        as good) / (1 + shifts); ``p_family``, against the best of all traces and layers of each
        shift; ``q_value``, the false discovery rate; ``best_channel``, ``best_row``,
        ``best_column``, the unit with the largest mean r of the blocks; ``block_unit``
        (..., block), the unit scored on each, counted over channels, rows and columns in one. For
        a mapping also ``correlation_any``, ``low_any``, ``high_any``, ``p_any``, where the choice
        is among all layers, and ``best_layer``. With repeats ``ceiling`` and ``normalised``. Of
        `maps` ``map`` (..., channel[, y, x]), for a mapping ``map_<layer>``. ``moments`` counts
        what each trace was sampled at; ``reason`` says why a value is NaN (or -1 for a unit),
        ``""`` elsewhere. Attributes say how many ``shifts`` there were, their ``least_shift``, and
        ``independent_shifts``, how many of them are that far apart.

    Raises
    ------
    InputError
        If traces and activations share fewer than 20 moments, a trace is infinite, an activation
        not finite, no unit varies or a number is out of range.

    Notes
    -----
    With blocks b = 1 ... B, ``u_b = argmax_u sum_{a != b} r_a(u) / (B - 1)`` and
    ``correlation = sum_b r_b(u_b) / B``. Blocks and shifts are of each trace's own moments, the
    samples that are NaN cut out, so that shift s of all traces moves them by the same share of
    the circle. Neighbouring shifts are alike: p is valid with any number of them, but no surer
    than ``independent_shifts`` let it be. Intervals hold the chosen unit fixed.

    References
    ----------
    .. [1] Maheswaranathan et al., Neuron 111:2742, 2023 (model units and recorded interneurons).
    .. [2] Westfall and Young, Resampling-based multiple testing, Wiley, 1993 (largest statistic).
    """
    trace, layers = common_moments(traces, activations)
    plan, attrs = match_plan(
        trace,
        layers,
        null_shifts=null_shifts,
        blocks=blocks,
        gap=gap,
        least_shift=least_shift,
        floors=floors,
        draws=draws,
        seed=seed,
    )
    match = matched(trace, layers, plan)
    several = isinstance(activations, Mapping)
    result = _dataset(trace, layers, match, level, maps=maps, several=several)
    steps = np.round(plan.shifts * trace.sizes["time"]).astype(int)
    result = result.assign_coords(shift=("shift", steps, {"long_name": "shift, moments"}))
    if isinstance(traces, xr.Dataset) and "repeats" in traces:
        result = _with_ceiling(result, traces["repeats"], trace)
    named = "" if several else str(next(iter(layers.values())).attrs.get("layer", ""))
    return result.assign_attrs(
        {"kind": "interneuron matches", "seed": seed, "level": level, "layer": named, **attrs}
    )


@dataclass(frozen=True)
class Matched:
    """Scores and selections of all rows, by layer; `pool` chooses among all layers."""

    scores: dict[str, Scores]
    selections: dict[str, Selection]
    moments: Array
    reasons: Array

    @property
    def pool(self) -> Scores:
        """Scores where the unit is chosen among those of all layers."""
        return Scores.best_of(list(self.scores.values()))


def matched(trace: xr.DataArray, layers: Layers, plan: MatchPlan) -> Matched:
    """Match aligned traces with aligned layers; traces sampled at the same moments together."""
    rows = trace.values.reshape(len(trace), -1).T.astype(np.float64)
    known = np.isfinite(rows)
    scores = {name: Scores.empty(plan, len(rows)) for name in layers}
    flat = {name: each.values.reshape(*each.shape[:2], -1) for name, each in layers.items()}
    selections = {name: _no_selection(len(rows), v.shape, plan.blocks) for name, v in flat.items()}
    reasons = np.full(len(rows), "", dtype=object)
    patterns, group = np.unique(known, axis=0, return_inverse=True)
    live = False
    for number, seen in enumerate(patterns):
        which = np.flatnonzero(group.ravel() == number)
        slices = plan.slices(int(seen.sum()))
        if slices is None:
            reasons[which] = f"only {int(seen.sum())} moments, too few for {plan.blocks} blocks"
            continue
        for name, values in flat.items():
            units = LayerUnits.of(values if seen.all() else values[seen], plan, slices)
            live |= bool(units.usable.any())
            found, chosen = score_units(rows[which][:, seen], units, plan)
            scores[name].put(which, found)
            selections[name].by_channel[which] = chosen.by_channel
            selections[name].mean[which] = chosen.mean
            selections[name].unit[which] = chosen.unit
        still = np.all([np.isnan(each.scored[:, which]).any(axis=0) for each in scores.values()], 0)
        reasons[which[still]] = "does not vary in every block"
        if not live and bool(np.ptp(rows[which][:, seen], axis=1).any()):
            raise InputError("activations: no unit varies over time; check the layer and the model")
    return Matched(scores, selections, known.sum(axis=1), reasons)


def _no_selection(rows: int, shape: tuple[int, ...], blocks: int) -> Selection:
    empty = np.full((rows, *shape[1:]), np.nan, np.float32)
    return Selection(empty[..., 0].copy(), empty, np.full((rows, blocks), -1))


def _dataset(
    trace: xr.DataArray,
    layers: Layers,
    match: Matched,
    level: float,
    *,
    maps: bool,
    several: bool,
) -> xr.Dataset:
    """Put scores into a dataset with the traces' own dims."""
    dims, shape = list(trace.dims[1:]), trace.shape[1:]
    coords = {key: value for key, value in trace.coords.items() if "time" not in value.dims}
    parts = []
    for name, scores in match.scores.items():
        selection, size = match.selections[name], layers[name].shape[2:]
        found = summarised(scores, level)
        channel, place = selection.best_unit()
        row, column = np.divmod(place, size[-1] if size else 1)
        row, column = (np.where(channel < 0, -1, value) for value in (row, column))
        found |= {"best_channel": channel, "best_row": row, "best_column": column}
        null = found.pop("null")
        data: dict[str, Any] = {key: (dims, v.reshape(shape)) for key, v in found.items()}
        each = selection.by_channel.reshape(*shape, -1)
        data["block_unit"] = ([*dims, "block"], selection.unit.reshape(*shape, -1))
        data["channel_correlation"] = ([*dims, "channel"], each)
        data["null"] = (["shift", *dims], null.T.reshape(-1, *shape))
        if maps:
            key = f"map_{name}" if several else "map"
            own = ("y", "x") if not several else (f"y_{name}", f"x_{name}")
            where = "channel" if not several else f"channel_{name}"
            values = selection.mean.reshape(*shape, layers[name].shape[1], *size)
            free = [f"unit_{dim}" if dim in dims else dim for dim in own[: len(size)]]
            data[key] = ([*dims, where, *free], values)
        parts.append(xr.Dataset(data, coords=coords))
    result = _joined(parts, list(layers), match, dims, shape, level) if several else parts[0]
    result = result.assign(families(result))
    result["moments"] = (dims, match.moments.reshape(shape))
    result["reason"] = (dims, match.reasons.astype(str).reshape(shape))
    for key in set(_WORDS) & set(result):
        result[key].attrs.update(units="1", long_name=_WORDS[key])
    return result


def _joined(
    parts: list[xr.Dataset],
    names: list[str],
    match: Matched,
    dims: list[Any],
    shape: tuple[int, ...],
    level: float,
) -> xr.Dataset:
    """Lay layers side by side, and add the choice among the units of all of them."""
    own = [[key for key in part if str(key).startswith("map_")] for part in parts]
    plain = [
        part.drop_vars(keys).assign_coords(channel=np.arange(part.sizes["channel"]))
        for part, keys in zip(parts, own, strict=True)
    ]
    result = xr.concat(plain, xr.Variable("layer", names), join="outer")
    for part, keys in zip(parts, own, strict=True):
        result = result.assign({key: part[key] for key in keys})
    pool = match.pool
    found = summarised(pool, level)
    for key in ("correlation", "low", "high", "p_value"):
        word = f"{'p' if key == 'p_value' else key}_any"
        result[word] = (dims, found[key].reshape(shape))
    every = match.selections.values()
    tops = [np.nan_to_num(each.mean, nan=-9.0).max(axis=(1, 2)) for each in every]
    best = np.array(names)[np.argmax(tops, axis=0)]
    best = np.where(np.isfinite(found["correlation"]), best, "")
    result["best_layer"] = (dims, best.reshape(shape))
    return result


def _with_ceiling(result: xr.Dataset, repeats: xr.DataArray, trace: xr.DataArray) -> xr.Dataset:
    """Add noise ceilings and correlations over them."""
    order = ("repeat", *trace.dims)
    if set(repeats.dims) != set(order):
        raise InputError(f"traces: expected repeats {order}, got {repeats.dims}")
    times = repeats.transpose(*order).sel(time=trace["time"])
    ceiling = xr.DataArray(cc_max(times.values), dims=trace.dims[1:])
    normalised = result["correlation"] / ceiling
    return result.assign(
        ceiling=ceiling.assign_attrs(units="1", long_name=_WORDS["ceiling"]),
        normalised=normalised.assign_attrs(units="1", long_name=_WORDS["normalised"]),
    )
