"""Whether a fitted model is more like the interneurons than its controls are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.drive_filters import crossed_drive
from retinacodec.analyses.interneurons import matched
from retinacodec.analyses.layer_activations import channel_activations
from retinacodec.analyses.match_moments import FLOORS, common_moments, match_plan
from retinacodec.analyses.match_scores import MatchPlan, Scores, families, summarised
from retinacodec.analyses.triggered_responses import triggered_responses
from retinacodec.analyses.unit_matching import score_pairs
from retinacodec.bootstrap import percentiles
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError, Problems
from retinacodec.field_priors import FieldPrior, Ridge
from retinacodec.nulls import discoveries

if TYPE_CHECKING:
    import torch

__all__ = ["LINEAR", "compare_interneurons"]

Array = npt.NDArray[Any]
Circuits = Mapping[str, Circuit | Sequence[Circuit]]

LINEAR = "linear filter"
_ANY = "any"
_WORDS = {
    "correlation": "held-out correlation with the best unit, mean over networks",
    "difference": "correlation of the first model less this one's",
    "spread": "standard deviation of the correlation over networks",
}


@dataclass(frozen=True)
class LinearFilter:
    """The control that knows the movie alone: a cell's best linear filter of it.

    Parameters
    ----------
    window : int or None, default 8
        Pixels on each side of the square that the filter sees; the whole frame if None. A square
        that is too small makes the control look worse than it is.
    history : int, optional
        Frames that it reaches back; those of the first model if left out.
    prior : FieldPrior, optional
        How it is kept smooth or small; `Ridge` if left out.
    """

    window: int | None = 8
    history: int | None = None
    prior: FieldPrior | None = None


def compare_interneurons(
    traces: xr.DataArray | xr.Dataset,
    circuits: Circuits,
    movie: xr.Dataset,
    *,
    layers: Sequence[str] | None = None,
    linear: LinearFilter | None = LinearFilter(),
    null_shifts: int | None = None,
    blocks: int = 2,
    gap: int | None = None,
    least_shift: int | None = None,
    floors: tuple[float, float] = FLOORS,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> xr.Dataset:
    """Score models and their controls against the same interneurons at the same moments.

    Parameters
    ----------
    traces : xarray.DataArray or xarray.Dataset (time, ...)
        Interneuron traces, as in `match_interneurons`.
    circuits : mapping of str to Circuit, or to a sequence of circuits
        The models; the first is what the others are compared with. Of a sequence, such as
        untrained networks of several seeds, the mean correlation counts. A circuit without
        layers, such as a linear-nonlinear model, is matched by its outputs, as layer ``output``.
    movie : xarray.Dataset
        Stimulus that fits all of them; see `pad_movie`.
    layers : sequence of str, optional
        Layers to match; each circuit's own if left out.
    linear : LinearFilter or None
        A further model ``"linear filter"``: each trace's best linear filter of the movie,
        fitted to the other blocks. It has no layers and stands in every one. None leaves it out.
    null_shifts, blocks, gap, least_shift, floors, draws, level, seed
        As in `match_interneurons`.
    device : str or torch.device, optional
        Where to compute; each model's own device if left out.

    Returns
    -------
    xarray.Dataset
        Over (model, layer) and the traces' own dims, the last layer ``"any"`` being the choice
        among all: ``correlation`` with ``low`` and ``high``, ``selected``, ``p_value``,
        ``p_family`` and ``q_value`` (over traces and layers of a model), and ``spread``, the
        standard deviation over the circuits of a sequence; ``difference``, the first model less
        each, with ``difference_low`` and ``difference_high``. Over (model, layer):
        ``median_difference``, ``wilcoxon_p`` over traces and ``wilcoxon_q``, the false discovery
        rate over models and layers. ``networks`` (model) counts circuits. NaN where a model has
        no such layer, or a trace cannot be scored.

    Raises
    ------
    InputError
        If a circuit has no such layer, or traces, movie and models do not fit.

    Notes
    -----
    Resamples draw the same stretches of time for all models, so that differences are paired. The
    Wilcoxon test takes traces as independent; cells that were recorded together are less than
    that. The filter of block b is estimated from all other frames, less a history on both sides.

    References
    ----------
    .. [1] Maheswaranathan et al., Neuron 111:2742, 2023.
    .. [2] Wilcoxon, Biometrics Bulletin 1, 80 (1945).
    """
    members = {name: _members(one) for name, one in circuits.items()}
    _check(members, linear)
    units = {
        name: [_activations(one, movie, layers, device) for one in group]
        for name, group in members.items()
    }
    flat = {f"{n}/{k}/{key}": each for n, group in units.items()
            for k, one in enumerate(group) for key, each in one.items()}  # fmt: skip
    trace, shared = common_moments(traces, flat)
    plan, attrs = match_plan(
        trace,
        shared,
        null_shifts=null_shifts,
        blocks=blocks,
        gap=gap,
        least_shift=least_shift,
        floors=floors,
        draws=draws,
        seed=seed,
    )
    scores, spreads = _scored(trace, shared, units, plan)
    order = list(dict.fromkeys(key for one in scores.values() for key in one if key != _ANY))
    order.append(_ANY)
    if linear is not None:
        found = _linear_scores(trace, movie, next(iter(members.values()))[0], linear, plan)
        scores[LINEAR] = dict.fromkeys(order, found)
        spreads[LINEAR] = {}
    result = _dataset(trace, scores, spreads, order, level)
    counts = [len(members.get(name, (None,))) for name in scores]
    result["networks"] = ("model", counts)
    attrs |= {"kind": "interneuron comparison", "seed": seed, "level": level}
    return result.assign_attrs({**attrs, "reference": next(iter(circuits))})


def _members(one: Circuit | Sequence[Circuit]) -> tuple[Circuit, ...]:
    return (one,) if isinstance(one, Circuit) else tuple(one)


def _check(members: Mapping[str, tuple[Circuit, ...]], linear: LinearFilter | None) -> None:
    problems = Problems()
    problems.require(bool(members), "circuits: expected a model or more, got none")
    for name, group in members.items():
        problems.require(bool(group), f"circuits: {name!r} is an empty sequence")
    taken = linear is not None and LINEAR in members
    problems.require(
        not taken, f"circuits: {LINEAR!r} is the name of the control; pass linear=None"
    )
    problems.raise_as("compare_interneurons")


def _activations(
    circuit: Circuit,
    movie: xr.Dataset,
    layers: Sequence[str] | None,
    device: str | torch.device | None,
) -> dict[str, xr.DataArray]:
    """Return what the layers of a circuit put out, or its outputs if it has none."""
    if not circuit.layers:
        rate = predict(circuit, movie, device=device).rename(cell="channel")
        return {"output": rate.drop_vars("channel").assign_attrs(history=circuit.history)}
    names = [name for name in circuit.layers if layers is None or name in layers]
    names += [name for name in layers or () if name not in names]
    return channel_activations(circuit, movie, names, device=device)


def _scored(
    trace: xr.DataArray,
    shared: Mapping[str, xr.DataArray],
    units: Mapping[str, Sequence[Mapping[str, xr.DataArray]]],
    plan: MatchPlan,
) -> tuple[dict[str, dict[str, Scores]], dict[str, dict[str, Array]]]:
    """Return mean scores of every model and layer, and their spread over networks."""
    scores: dict[str, dict[str, Scores]] = {}
    spreads: dict[str, dict[str, Array]] = {}
    for name, group in units.items():
        each = [
            _by_layer(trace, {key: shared[f"{name}/{k}/{key}"] for key in one}, plan)
            for k, one in enumerate(group)
        ]
        scores[name] = {key: Scores.mean_of([one[key] for one in each]) for key in each[0]}
        spreads[name] = {key: _spread([one[key] for one in each]) for key in each[0]}
    return scores, spreads


def _by_layer(
    trace: xr.DataArray, layers: Mapping[str, xr.DataArray], plan: MatchPlan
) -> dict[str, Scores]:
    """Return the scores of every layer, and of the choice among all of them."""
    found = matched(trace, layers, plan)
    return {**found.scores, _ANY: found.pool}


def _spread(members: Sequence[Scores]) -> Array:
    each = np.stack([one.scored.mean(axis=0) for one in members])
    return each.std(axis=0, ddof=1) if len(members) > 1 else np.full(each.shape[1], np.nan)


def _linear_scores(
    trace: xr.DataArray, movie: xr.Dataset, circuit: Circuit, linear: LinearFilter, plan: MatchPlan
) -> Scores:
    """Score each trace against the output of the filter that its other blocks gave."""
    rows = trace.values.reshape(len(trace), -1).T.astype(np.float64)
    history, latency = linear.history or circuit.history or 1, circuit.latency or 0
    whole = Scores.empty(plan, len(rows))
    drive = _drives(rows, trace["time"], movie, history, latency, linear, plan.blocks)
    known = np.isfinite(rows)
    for row, seen in enumerate(known):
        seen = seen & np.isfinite(drive[row])
        slices = plan.slices(int(seen.sum()))
        if slices is not None:
            pair = (rows[row : row + 1, seen], drive[row : row + 1, seen])
            whole.put(np.array([row]), score_pairs(*pair, slices, plan))
    return whole


def _drives(
    rows: Array,
    time: xr.DataArray,
    movie: xr.Dataset,
    history: int,
    latency: int,
    linear: LinearFilter,
    blocks: int,
) -> Array:
    """Return the output (row, time) of filters fitted to the other blocks."""
    low = np.where(np.isfinite(rows), rows, np.inf).min(axis=1, keepdims=True)
    lifted = rows - np.where(np.isfinite(low), low, 0)
    top = np.nan_to_num(lifted).max(axis=1, keepdims=True)
    lifted /= np.where(top > 0, top, 1)
    raised = xr.DataArray(
        lifted.T,
        dims=("time", "cell"),
        coords={"time": time, "cell": np.arange(len(rows)).astype(str)},
    )
    given = triggered_responses(movie, raised, history=history, latency=latency)
    prior = Ridge() if linear.prior is None else linear.prior
    try:
        drive = crossed_drive(movie, raised, given, history, latency, prior, linear.window, blocks)
    except InputError as error:
        raise InputError(
            f"linear filter: {error}; or pass LinearFilter(history=...) or linear=None"
        ) from error
    at = np.searchsorted(movie["time"].values, time.values)
    return drive[at].T


def _dataset(
    trace: xr.DataArray,
    scores: Mapping[str, Mapping[str, Scores]],
    spreads: Mapping[str, Mapping[str, Array]],
    order: Sequence[str],
    level: float,
) -> xr.Dataset:
    """Lay models and layers side by side, and compare each with the first."""
    dims, shape = [str(dim) for dim in trace.dims[1:]], trace.shape[1:]
    coords = {key: value for key, value in trace.coords.items() if "time" not in value.dims}
    models = []
    for name in scores:
        parts = []
        for key in order:
            data = _one(scores, name, key, spreads[name].get(key), level)
            null = data.pop("null").T.reshape(-1, *shape)
            laid: dict[str, Any] = {k: (dims, v.reshape(shape)) for k, v in data.items()}
            laid["null"] = (["shift", *dims], null)
            parts.append(xr.Dataset(laid, coords=coords))
        one = xr.concat(parts, xr.Variable("layer", list(order)))
        models.append(one.assign(families(one)).drop_vars("null"))
    result = xr.concat(models, xr.Variable("model", list(scores)))
    result = result.assign(_over_traces(result, dims))
    for key, words in _WORDS.items():
        result[key].attrs.update(units="1", long_name=words)
    return result


def _one(
    scores: Mapping[str, Mapping[str, Scores]],
    name: str,
    layer: str,
    spread: Array | None,
    level: float,
) -> dict[str, Array]:
    """Return what there is to say of a layer of a model (row,), NaN where there is none."""
    first = scores[next(iter(scores))]
    some = next(iter(first.values()))
    nothing = Scores(*(np.full_like(getattr(some, key), np.nan) for key in vars(some)))
    own, reference = scores[name].get(layer, nothing), first.get(layer, nothing)
    found = summarised(own, level)
    apart = (reference.samples - own.samples).mean(axis=0)
    low, high = percentiles(np.moveaxis(apart, -1, 0), level)
    empty = np.full_like(found["correlation"], np.nan)
    return found | {
        "spread": empty if spread is None else spread,
        "difference": (reference.scored - own.scored).mean(axis=0),
        "difference_low": low,
        "difference_high": high,
    }


def _over_traces(result: xr.Dataset, dims: Sequence[str]) -> dict[str, Any]:
    """Test over traces whether the first model is better (model, layer)."""
    difference = result["difference"].transpose("model", "layer", *dims)
    flat = difference.values.reshape(*difference.shape[:2], -1)
    p, middle = np.full(flat.shape[:2], np.nan), np.full(flat.shape[:2], np.nan)
    for model in range(1, len(flat)):
        for layer, values in enumerate(flat[model]):
            known = values[np.isfinite(values)]
            if known.size:
                middle[model, layer] = np.median(known)
                p[model, layer] = _wilcoxon(known)
    q = discoveries(p).q
    pair = ("model", "layer")
    return {"median_difference": (pair, middle), "wilcoxon_p": (pair, p), "wilcoxon_q": (pair, q)}


def _wilcoxon(values: Array) -> float:
    """Return the two-sided p of a median of zero; NaN where no value is off it."""
    from scipy.stats import wilcoxon

    return float(wilcoxon(values).pvalue) if np.any(values != 0) else float("nan")
