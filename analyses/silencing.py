"""What silencing really does to a target, and which quantity foretells it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.analyses.resampling import Resamples
from retinacodec.bootstrap import percentiles
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError, Problems
from retinacodec.interventions import Change, Intervention, Silence
from retinacodec.layer_tables import layer_table
from retinacodec.layer_values import layer_values
from retinacodec.metrics import pearson
from retinacodec.passes import Ends
from retinacodec.progress import track
from retinacodec.resuming import Resumed
from retinacodec.samples import Images, Samples, rows_for
from retinacodec.targets import Target, bind_target, describe_target

__all__ = ["effect_correlations", "rival_quantities", "silencing_effects"]

Array = npt.NDArray[Any]


def silencing_effects(
    circuit: Circuit,
    samples: xr.Dataset | Images,
    layer: str,
    target: Target,
    how: Change | None = None,
    *,
    groups: Mapping[Any, npt.ArrayLike] | None = None,
    budget_gb: float = 1.0,
    progress: bool = True,
) -> xr.DataArray:
    """Measure by how much the target falls when a channel, or a mode's channels, are silenced.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    samples : xarray.Dataset, or images
        Movie, or images (image, channel, y, x).
    layer : str
        One of its layers.
    target : Target
        The scalar of the outputs; outputs that it chooses by their strength are those of the
        circuit as it is.
    how : Change, optional
        What becomes of the channels; ``Silence()`` if left out.
    groups : mapping of label to array_like of int, optional
        Sets of channels that are silenced together, such as those of modes; every channel by
        itself if left out.
    budget_gb : float, default 1.0
        Memory for what the layer gives, GB.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.DataArray (time or image, channel or group)
        ``S - S_silenced``, in units of the target: above 0 where the channel supported it, as its
        contribution would be.

    Raises
    ------
    InputError
        If the target is not one scalar, or a channel does not exist.
    """
    rows = rows_for(circuit, samples)
    resumed = Resumed.prepare(circuit, rows, [layer], budget_gb=budget_gb)
    plain = resumed.outputs()
    score = _scorer(circuit, rows, target, plain)
    before = score(plain)
    if groups is None:
        count = layer_values(circuit, layer, rows, [0]).shape[1]
        sets: dict[Any, npt.ArrayLike] = {number: [number] for number in range(count)}
    else:
        sets = dict(groups)
    effect = np.empty((len(rows), len(sets)))
    change = Silence() if how is None else how
    for place, chosen in enumerate(track(list(sets.values()), "silencing", enabled=progress)):
        action = Intervention(layer, chosen, change)
        effect[:, place] = before - score(resumed.outputs([action]))
    name = "channel" if groups is None else "group"
    return xr.DataArray(
        effect,
        coords={circuit.sample: rows.coordinate.values, name: list(sets)},
        dims=(circuit.sample, name),
        name="effect",
        attrs={
            "units": getattr(target, "units", ""),
            "long_name": "fall of the target",
            "target": describe_target(target),
            "layer": layer,
            "how": repr(change),
        },
    )


def rival_quantities(
    node: xr.Dataset | xr.DataTree, *, target: Any = None
) -> dict[str, xr.DataArray]:
    """Return what might foretell the effect of silencing, for each sample and channel.

    Parameters
    ----------
    node : xarray.DataTree or xarray.Dataset
        A layer of Contributions, with activations and gradients if they were kept.
    target : object, optional
        Which target, where there are several.

    Returns
    -------
    dict of str to xarray.DataArray (time or image, channel)
        ``"contribution"``, and where they were kept ``"activation"`` and ``"gradient"``, all
        summed over signs and positions. For activation times gradient add the contributions by
        ``ActivationGradient()``, which multiplies before it sums.

    Raises
    ------
    InputError
        If the node is not one layer and one target.
    """
    dataset = node.to_dataset() if isinstance(node, xr.DataTree) else node
    return {
        name: layer_table(dataset, name, target=target if "target" in dataset[name].dims else None)
        .sum("sign")
        for name in ("contribution", "activation", "gradient")
        if name in dataset
    }  # fmt: skip


def effect_correlations(
    effects: xr.DataArray,
    quantities: Mapping[str, xr.DataArray],
    *,
    labels: npt.ArrayLike | None = None,
    block_seconds: float = 1.0,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Say how well quantities foretell the measured effect of silencing.

    Parameters
    ----------
    effects : xarray.DataArray (time or image, channel or group)
        What `silencing_effects` returns.
    quantities : mapping of str to xarray.DataArray, same dims
        Such as `rival_quantities` returns; for modes, sums over each mode's channels.
    labels : array_like (image,), optional
        Class of each image; images are then resampled within their class.
    block_seconds : float, default 1.0
        Length of the blocks in which moments are resampled, s.
    draws : int, default 500
        Number of resamples.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of the resamples.

    Returns
    -------
    xarray.Dataset
        Over ``quantity``: ``pearson`` and ``spearman`` (quantity, channel), over samples;
        ``mean_pearson`` and ``mean_spearman`` (quantity), their means over channels where both
        vary; ``within_pearson`` and ``within_spearman`` (quantity), over the channels of one
        sample, averaged over samples; ``pooled_pearson`` and ``pooled_spearman`` (quantity), over
        all samples and channels together; the last six with ``_low`` and ``_high``, and
        ``advantage`` (quantity), mean_pearson of the first quantity less that of each, likewise.
        NaN where one side does not vary.

    Raises
    ------
    InputError
        If shapes differ, or a value is not finite.

    Notes
    -----
    In resamples Spearman's ranks are those of the whole sample.
    """
    values = {name: np.asarray(one.values, dtype=np.float64) for name, one in quantities.items()}
    effect = np.asarray(effects.values, dtype=np.float64)
    _check_quantities(effect, values)
    sample = effects[effects.dims[0]]
    drawn = Resamples.of(sample, labels, block_seconds, draws, seed)
    stack = np.stack(list(values.values()))
    one = np.ones((1, len(effect)))
    whole = {key: value[0] for key, value in _measures(stack, effect, one).items()}
    weights = np.concatenate(list(drawn.weights())) if drawn.possible else np.nan * one
    samples = _measures(stack, effect, weights)
    names, part = list(values), str(effects.dims[1])
    data: dict[str, Any] = {}
    for key, value in whole.items():
        dims = ("quantity", part) if value.ndim == 2 else ("quantity",)
        data[key] = (dims, value, {"units": "1"})
        if value.ndim == 1:
            low, high = percentiles(samples[key], level)
            data |= {f"{key}_low": (dims, low), f"{key}_high": (dims, high)}
    coords = {"quantity": names, part: effects[part].values}
    attrs = {**effects.attrs, "kind": "effect correlations", "level": level}
    return xr.Dataset(data, coords, attrs)


def _scorer(circuit: Circuit, rows: Samples, target: Target, plain: Array) -> Any:
    """Return a function from outputs (row, output) to the target (row,)."""
    outputs = torch.from_numpy(plain)
    names = circuit.output_names(plain.shape[1])
    bound = bind_target(target, names, partial(_given, outputs))
    fixed = Ends(outputs, rows.numbers(0, len(rows))).target(bound, outputs, 1)

    def score(found: Array) -> Array:
        with torch.no_grad():
            values = fixed(torch.from_numpy(found)).numpy()
        if values.shape != (len(rows),):
            raise InputError(
                f"silencing_effects: expected a target that is one scalar, got {values.shape[1:]} "
                "of them; ask for one at a time"
            )
        return np.asarray(values, dtype=np.float64)

    return score


def _given(outputs: Tensor) -> Tensor:
    return outputs


def _check_quantities(effect: Array, values: Mapping[str, Array]) -> None:
    problems = Problems()
    problems.require(bool(values), "no quantity")
    problems.require(len(effect) >= 3, f"expected at least 3 samples, got {len(effect)}")
    problems.require(bool(np.isfinite(effect).all()), "effects are NaN or infinite")
    for name, one in values.items():
        if problems.require(
            one.shape == effect.shape, f"{name}: shape {one.shape} for effects of {effect.shape}"
        ):
            problems.require(bool(np.isfinite(one).all()), f"{name}: values are NaN or infinite")
    problems.raise_as("effect_correlations")


def _measures(stack: Array, effect: Array, weights: Array) -> dict[str, Array]:
    """Return all correlations of quantities (quantity, sample, channel) for weights (draw, sample).

    Arrays (draw, quantity[, channel]).
    """
    from scipy.stats import rankdata

    found: dict[str, Array] = {}
    for word in ("pearson", "spearman"):
        by = partial(rankdata, axis=-2) if word == "spearman" else _plain
        moments = _moments(by(stack), by(effect), weights, axis=-2)
        found[word] = _correlation(moments)
        found[f"mean_{word}"] = _mean(found[word])
        by = partial(rankdata, axis=None) if word == "spearman" else _plain
        whole = np.stack([by(one).reshape(one.shape) for one in stack])
        moments = _moments(whole, by(effect).reshape(effect.shape), weights, axis=None)
        found[f"pooled_{word}"] = _correlation([one.mean(axis=-1) for one in moments])
        by = partial(rankdata, axis=-1) if word == "spearman" else _plain
        within = pearson(by(stack), by(effect)[None], axis=-1)
        known = np.isfinite(within)
        total = weights @ known.T.astype(float)
        summed = weights @ np.where(known, within, 0.0).T
        found[f"within_{word}"] = np.where(total > 0, summed / np.maximum(total, 1), np.nan)
    first = found["mean_pearson"]
    return found | {"advantage": first[:, :1] - first}


def _plain(values: Array) -> Array:
    return values


def _mean(values: Array) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=-1)


def _moments(stack: Array, effect: Array, weights: Array, axis: int | None) -> list[Array]:
    """Return weighted means (draw, quantity, channel) of a, b, aa, bb and ab, both scaled."""
    over = (-2, -1) if axis is None else axis
    a = stack - stack.mean(axis=over, keepdims=True)
    b = effect - effect.mean(axis=over, keepdims=True)
    a, b = (_scaled(one, over, like) for one, like in ((a, stack), (b, effect)))
    share = weights / weights.sum(axis=1, keepdims=True)
    b = np.broadcast_to(b, a.shape)
    return [
        np.einsum("ds,qsc->dqc", share, one, optimize=True) for one in (a, b, a * a, b * b, a * b)
    ]


def _scaled(centred: Array, over: Any, values: Array) -> Array:
    """Return values with deviation 1; exactly 0 where they do not vary."""
    spread = centred.std(axis=over, keepdims=True)
    varies = spread > 1e-12 * np.abs(values).max(axis=over, keepdims=True)
    return np.where(varies, centred / np.where(varies, spread, 1.0), 0.0)


def _correlation(moments: list[Array]) -> Array:
    a, b, aa, bb, ab = moments
    scale = (aa - a * a) * (bb - b * b)
    known = scale > 1e-18
    return np.where(known, (ab - a * b) / np.sqrt(np.where(known, scale, 1.0)), np.nan)
