"""Whether a classifier loses a superclass, several layers jointly, and what it costs others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.ablation_curves import top_correct
from retinacodec.bootstrap import percentiles
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.interventions import Change, Intervention, Silence, channels_of
from retinacodec.layer_values import check_channels
from retinacodec.resuming import Resumed
from retinacodec.samples import Images, rows_for

__all__ = ["superclass_ablation"]

Array = npt.NDArray[Any]


def superclass_ablation(
    circuit: Circuit,
    images: Images,
    labels: npt.ArrayLike,
    members: npt.ArrayLike,
    weights: Mapping[str, xr.DataArray],
    percents: Sequence[float] = (9.0,),
    *,
    direction: Literal["ablate", "preserve"] = "ablate",
    how: Change | Mapping[str, Change] | None = None,
    tops: Sequence[int] = (1, 5),
    random: int = 0,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    budget_gb: float = 1.0,
) -> xr.Dataset:
    """Take the channels of several classes together away in several layers, or all but them.

    Parameters
    ----------
    circuit : Circuit
        A classifier.
    images : array (image, channel, y, x)
        Preprocessed images.
    labels : array_like (image,)
        Class of each image: the position of its output.
    members : array_like of int
        The classes of the superclass.
    weights : mapping of str to xarray.DataArray (channel,)
        How much each channel of each layer weighs, as `superclass_weights` says.
    percents : sequence of float, default 9
        Shares of the channels of each layer, %, rounded down.
    direction : {"ablate", "preserve"}, default "ablate"
        Take the heaviest channels away, or all but them.
    how : Change, or mapping of layer to Change, optional
        What becomes of the channels; ``Silence()`` if left out.
    tops : sequence of int, default 1 and 5
        An image counts as recognised if its class is among so many strongest outputs.
    random : int, default 0
        Also as many random choices of as many channels.
    draws : int, default 1000
        Resamples of the images within the superclass and outside.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of random channels and resamples.
    budget_gb : float, default 1.0
        Memory for what the first layer gives, GB.

    Returns
    -------
    xarray.Dataset
        ``accuracy`` and ``before``, 0 to 1, (percent, top, group) and (top, group), group
        ``"in"`` or ``"out"`` of the superclass; ``change``, accuracy after over before less 1, of
        all images of the group, with ``change_low`` and ``change_high``; ``median_change``, its
        median over the classes that are recognised at all; ``random_change`` (draw, percent, top,
        group) where asked for.

    Raises
    ------
    InputError
        If the superclass has no images or all, or words are unknown.

    References
    ----------
    Melander et al., ICLR 2026, Figure 6: dogs, in the last four blocks together.
    """
    classes = np.asarray(labels)
    inside = np.isin(classes, np.asarray(members))
    if inside.all() or not inside.any() or direction not in ("ablate", "preserve") or not weights:
        raise InputError(
            "superclass_ablation: expected images in the superclass and outside, weights of a "
            f"layer, and direction 'ablate' or 'preserve', got {direction!r}"
        )
    samples = rows_for(circuit, images)
    for layer, one in weights.items():
        check_channels(circuit, layer, samples, one.size, "weights")
    resumed = Resumed.prepare(circuit, samples, tuple(weights), budget_gb=budget_gb)
    change: Any = Silence() if how is None else how
    changes = change if isinstance(change, Mapping) else dict.fromkeys(weights, change)

    def seen(values: Mapping[str, xr.DataArray], percent: float) -> Array:
        actions = _actions(values, percent, direction, changes)
        outputs = resumed.outputs(actions)
        return np.stack([top_correct(outputs, classes, top) for top in tops])

    plain = resumed.outputs()
    before = np.stack([top_correct(plain, classes, top) for top in tops])
    after = np.stack([seen(weights, percent) for percent in percents])
    found = _changes(before, after, inside, classes, draws, level, seed)
    rng = np.random.default_rng(seed)
    chance = []
    for _ in range(random):
        drawn = {name: one.copy(data=rng.random(one.size)) for name, one in weights.items()}
        lost = np.stack([seen(drawn, percent) for percent in percents])
        chance.append(_change(before, lost, inside))
    if chance:
        found["random_change"] = (("draw", "percent", "top", "group"), np.stack(chance))
    coords = {"percent": list(map(float, percents)), "top": list(tops), "group": ["in", "out"]}
    attrs = {"direction": direction, "layers": list(weights), "how": repr(changes), "level": level}
    return xr.Dataset(found, coords, attrs)


def _actions(
    weights: Mapping[str, xr.DataArray], percent: float, direction: str, changes: Mapping[str, Any]
) -> list[Intervention]:
    actions = []
    for layer, one in weights.items():
        chosen = channels_of(one, percent / 100)
        if direction == "preserve":
            chosen = np.setdiff1d(np.arange(one.size), chosen)
        actions.append(Intervention(layer, chosen, changes[layer]))
    return actions


def _grouped(values: Array, inside: Array) -> Array:
    """Return means over the images in and outside, as a last axis."""
    return np.stack([values[..., inside].mean(-1), values[..., ~inside].mean(-1)], axis=-1)


def _change(before: Array, after: Array, inside: Array) -> Array:
    """Return by what share accuracy changes, (percent, top, group)."""
    first = _grouped(before, inside)
    return _grouped(after, inside) / np.where(first > 0, first, np.nan) - 1


def _changes(
    before: Array, after: Array, inside: Array, classes: Array, draws: int, level: float, seed: int
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(inside), np.flatnonzero(~inside)]
    samples = []
    for _ in range(draws):
        rows = np.concatenate([rng.choice(group, group.size) for group in groups])
        samples.append(_change(before[:, rows], after[..., rows], inside[rows]))
    low, high = percentiles(np.stack(samples), level)
    names = np.unique(classes)
    one = (classes == names[:, None]) / (classes == names[:, None]).sum(1, keepdims=True)
    first, then = before @ one.T, after @ one.T
    change = np.where(first > 0, then / np.where(first > 0, first, 1.0) - 1, np.nan)
    members = np.array([inside[classes == name].any() for name in names])
    median = [np.nanmedian(change[..., side], axis=-1) for side in (members, ~members)]
    dims = ("percent", "top", "group")
    return {
        "accuracy": (dims, _grouped(after, inside)),
        "before": (dims[1:], _grouped(before, inside)),
        "change": (dims, _change(before, after, inside)),
        "change_low": (dims, low),
        "change_high": (dims, high),
        "median_change": (dims, np.stack(median, axis=-1)),
    }
