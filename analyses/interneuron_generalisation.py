"""Whether the unit that matches an interneuron under one stimulus matches it under another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.interneurons import Matched, matched
from retinacodec.analyses.match_moments import FLOORS, Layers, common_moments, match_plan
from retinacodec.analyses.match_scores import MatchPlan, Scores, families, summarised
from retinacodec.analyses.unit_matching import score_pairs
from retinacodec.errors import Problems

__all__ = ["generalise_interneurons"]

Array = npt.NDArray[Any]


def generalise_interneurons(
    traces: xr.DataArray | xr.Dataset,
    activations: xr.DataArray | Layers,
    other_traces: xr.DataArray | xr.Dataset,
    other_activations: xr.DataArray | Layers,
    *,
    null_shifts: int | None = None,
    least_shift: int | None = None,
    floors: tuple[float, float] = FLOORS,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Pick each interneuron's unit under one stimulus, and score it under another.

    Parameters
    ----------
    traces : xarray.DataArray or xarray.Dataset (time, ...)
        Traces under the stimulus that chooses, as in `match_interneurons`.
    activations : xarray.DataArray (time, channel[, y, x]), or mapping of them
        Activations under it, of a layer or of several by name.
    other_traces, other_activations
        The same cells and layers under the stimulus that scores.
    null_shifts, least_shift
        Shifts of the other traces, as in `match_interneurons`.
    floors : (float, float)
        Least size and deviation of a unit under the stimulus that chooses.
    draws, level, seed
        Resamples of the other stimulus, coverage and seed.

    Returns
    -------
    xarray.Dataset
        With the traces' own dims: ``correlation``, the r of the chosen unit under the other
        stimulus, with ``low``, ``high``, ``p_value``, ``p_family`` and ``q_value``; ``null``
        (shift, ...); ``selected``, its r where it was chosen (mean of two halves);
        ``best_layer``, ``best_channel``, ``best_row``, ``best_column``. NaN (-1, ``""``) for a
        trace that does not vary under either stimulus, and where the unit is silent under the
        other.

    Raises
    ------
    InputError
        If the two recordings have different cells, or the activations different units.

    Notes
    -----
    The unit has the largest mean r over halves under the first stimulus, among all layers. Under
    the second nothing is chosen: r is over all its moments, and so is that of shifted traces.

    References
    ----------
    .. [1] Maheswaranathan et al., Neuron 111:2742, 2023.
    """
    options: dict[str, Any] = {
        "null_shifts": null_shifts, "least_shift": least_shift, "floors": floors, "seed": seed
    }  # fmt: skip
    trace, layers = common_moments(traces, activations)
    other, others = common_moments(other_traces, other_activations)
    _check(trace, layers, other, others)
    plan, _ = match_plan(trace, layers, blocks=2, gap=0, draws=1, **options | {"null_shifts": 1})
    name, channel, place, r = _picked(matched(trace, layers, plan))
    plan, attrs = match_plan(other, others, blocks=2, gap=0, draws=draws, **options)
    scores = _scored(other, others, name, channel, place, plan)
    result = _dataset(trace, summarised(scores, level) | {"selected": r})
    dims, shape = trace.dims[1:], trace.shape[1:]
    size = {key: each.shape[2:] for key, each in layers.items()}
    wide = np.array([size[key][-1] if key and size[key] else 1 for key in name])
    row, column = (np.where(channel < 0, -1, v) for v in np.divmod(np.maximum(place, 0), wide))
    for key, values in (("layer", name), ("channel", channel), ("row", row), ("column", column)):
        result[f"best_{key}"] = (dims, values.reshape(shape))
    attrs |= {"kind": "interneuron generalisation", "seed": seed, "level": level, "blocks": 1}
    steps = np.round(plan.shifts * other.sizes["time"]).astype(int)
    return result.assign_coords(shift=("shift", steps)).assign_attrs(attrs)


def _check(trace: xr.DataArray, layers: Layers, other: xr.DataArray, others: Layers) -> None:
    """Raise unless the cells and the units are the same."""
    problems = Problems()
    alike = trace.dims == other.dims and trace.shape[1:] == other.shape[1:]
    problems.require(alike, f"traces: {dict(trace.sizes)} and {dict(other.sizes)} are other cells")
    for dim in trace.dims[1:] if alike else ():
        same = dim not in trace.coords or trace[dim].equals(other[dim])
        problems.require(same, f"traces: names along {dim!r} differ; put both in one order")
    have = {key: each.shape[1:] for key, each in layers.items()}
    want = {key: each.shape[1:] for key, each in others.items()}
    problems.require(have == want, f"activations: layers {have} and {want} are other units")
    problems.raise_as("generalise_interneurons")


def _picked(match: Matched) -> tuple[Array, Array, Array, Array]:
    """Return layer, channel, position and mean r (row,) of each row's best unit."""
    names = list(match.selections)
    every = list(match.selections.values())
    tops = np.stack([np.nan_to_num(e.mean, nan=-9.0).max(axis=(1, 2)) for e in every])
    best = tops.argmax(axis=0)
    at = np.arange(len(best))
    units = [each.best_unit() for each in every]
    channel, place = (np.stack([one[k] for one in units])[best, at] for k in range(2))
    known = channel >= 0
    return (
        np.where(known, np.array(names)[best], ""),
        channel,
        place,
        np.where(known, tops[best, at], np.nan),
    )


def _scored(
    trace: xr.DataArray,
    layers: Mapping[str, xr.DataArray],
    name: Array,
    channel: Array,
    place: Array,
    plan: MatchPlan,
) -> Scores:
    """Score each row against its unit over all its moments."""
    rows = trace.values.reshape(len(trace), -1).T.astype(np.float64)
    plan = dataclasses.replace(plan, blocks=1)
    whole = Scores.empty(plan, len(rows))
    for row, seen in enumerate(np.isfinite(rows)):
        moments = int(seen.sum())
        if channel[row] < 0 or plan.slices(moments) is None:
            continue
        units = layers[str(name[row])]
        series = units.values[:, channel[row]].reshape(len(units), -1)[seen, place[row]]
        found = score_pairs(rows[row : row + 1, seen], series[None], (slice(0, moments),), plan)
        whole.put(np.array([row]), found)
    return whole


def _dataset(trace: xr.DataArray, found: Mapping[str, Array]) -> xr.Dataset:
    dims, shape = list(trace.dims[1:]), trace.shape[1:]
    coords = {key: value for key, value in trace.coords.items() if "time" not in value.dims}
    data: dict[str, Any] = {
        key: (dims, value.reshape(shape)) for key, value in found.items() if key != "null"
    }
    data["null"] = (["shift", *dims], found["null"].T.reshape(-1, *shape))
    result = xr.Dataset(data, coords=coords)
    return result.assign(families(result))
