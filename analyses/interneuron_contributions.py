"""What the channels that match recorded interneurons give to the cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.bootstrap import block_labels, draw_blocks, percentiles
from retinacodec.errors import InputError, Problems

__all__ = ["matched_contributions"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Resampling:
    """Stretches of time that are drawn, how often, and for which coverage."""

    seconds: float
    draws: int
    level: float
    seed: int


def matched_contributions(
    matches: xr.Dataset,
    parts: xr.DataTree,
    *,
    layer: str | None = None,
    block_seconds: float = 1.0,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Return what each matched interneuron's channel gave to the targets at every moment.

    Parameters
    ----------
    matches : xarray.Dataset
        What `match_interneurons` returns. Of matches with several layers each interneuron's
        ``best_layer`` counts.
    parts : xarray.DataTree
        What ``contributions`` returns for the same model, with those layers; with its ``maps``
        the matched position is told apart from the rest of its channel.
    layer : str, optional
        The layer of matches with one that do not name it.
    block_seconds : float, default 1.0
        Least length of the stretches of time that are resampled, s.
    draws : int, default 1000
        Number of resamples.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of the resamples.

    Returns
    -------
    xarray.Dataset
        With the interneurons' own dims: ``contribution`` (..., time[, target], sign) of the
        channel, summed over positions, in units of the target; ``share`` (...[, target], sign),
        the channel's part of everything that its layer gave with that sign, 0 to 1, with
        ``share_low`` and ``share_high``; of maps also ``position_contribution``,
        ``position_share``, ``position_share_low`` and ``position_share_high``, of the matched
        position alone. Maps of correlation that `matches` holds are passed on. NaN where an
        interneuron has no match.

    Raises
    ------
    InputError
        If a matched layer has no contributions, or a channel or position is not there.

    Notes
    -----
    ``share = sum_t |C_c(t)| / sum_t sum_c' |C_c'(t)|`` for each sign. A channel matches an
    interneuron in its course; that it stands for that cell in the circuit is more than this says.
    """
    chosen = _chosen(matches, layer)
    nodes = {str(node.attrs.get("layer", name)): node for name, node in parts.children.items()}
    wanted = sorted({name for name in chosen["layer"].tolist() if name})
    lost = [name for name in wanted if name not in nodes]
    if lost or not wanted:
        raise InputError(
            f"parts: expected contributions of {lost or 'a matched layer'}, got those of "
            f"{sorted(nodes)}; name them in the circuit, or pass layer="
        )
    dims = [str(dim) for dim in matches["best_channel"].dims if dim != "layer"]
    shape = tuple(matches.sizes[dim] for dim in dims)
    data: dict[str, Any] = {}
    one = nodes[wanted[0]].to_dataset()["contribution"]
    kept = [str(dim) for dim in one.dims if dim not in ("channel", "y", "x")]
    still = [dim for dim in kept if dim != "time"]
    given = {name: nodes[name].to_dataset()["contribution"] for name in wanted}
    found = list(_each(chosen, given, kept, Resampling(block_seconds, draws, level, seed)))
    for key in found[0]:
        free = kept if key.endswith("contribution") else still
        values = np.stack([each[key] for each in found])
        data[key] = ([*dims, *free], values.reshape(*shape, *values.shape[1:]))
    coords = {key: one[key] for key in kept if key in one.coords}
    own = {key: v for key, v in matches.coords.items() if set(v.dims) <= set(dims)}
    result = xr.Dataset(data, coords={**own, **coords})
    for key in ("contribution", "position_contribution"):
        if key in result:
            result[key].attrs["units"] = one.attrs.get("units", "1")
    for key in ("layer", "channel", "row", "column"):
        result[f"best_{key}"] = (dims, chosen[key].reshape(shape))
    maps = {str(key): matches[key] for key in matches if str(key).startswith("map")}
    said = {"block_seconds": block_seconds, "draws": draws, "level": level, "seed": seed}
    return result.assign(maps).assign_attrs(kind="matched contributions", **said)


def _chosen(matches: xr.Dataset, layer: str | None) -> dict[str, Array]:
    """Return layer, channel, row and column of each interneuron, in one axis."""
    problems = Problems()
    problems.require("best_channel" in matches, "matches: expected what match_interneurons returns")
    problems.raise_as("matched_contributions")
    names = ("best_channel", "best_row", "best_column")
    if "layer" not in matches["best_channel"].dims:
        unit = {name[5:]: matches[name].values.ravel() for name in names}
        name = layer or matches.attrs.get("layer", "")
        return {"layer": np.where(unit["channel"] >= 0, name, ""), **unit}
    best = matches["best_layer"].values.ravel()
    order = matches["layer"].values.tolist()
    at = np.array([order.index(name) if name else 0 for name in best.tolist()])
    flat = {name[5:]: matches[name].transpose("layer", ...).values for name in names}
    picked = {key: v.reshape(len(order), -1)[at, np.arange(at.size)] for key, v in flat.items()}
    return {"layer": best, **{k: np.where(best == "", -1, v) for k, v in picked.items()}}


def _each(
    chosen: dict[str, Array], given: dict[str, xr.DataArray], kept: list[str], how: Resampling
) -> Iterator[dict[str, Array]]:
    """Yield what each interneuron's unit gave, NaN for one without a match."""
    totals = {
        name: abs(one).sum([dim for dim in one.dims if dim not in kept]).transpose(*kept).values
        for name, one in given.items()
    }
    rows = list(zip(*chosen.values(), strict=True))
    some = next(row for row in rows if row[0])
    like = _unit(given[some[0]], some[1:], totals[some[0]], kept, how)
    for name, *unit in rows:
        if name:
            yield _unit(given[name], unit, totals[name], kept, how)
        else:
            yield {key: np.full_like(value, np.nan) for key, value in like.items()}


def _unit(
    given: xr.DataArray, unit: Sequence[int], total: Array, kept: list[str], how: Resampling
) -> dict[str, Array]:
    """Return contributions and shares of one channel, and of its position where there are maps."""
    space = [dim for dim in ("y", "x") if dim in given.dims]
    place = dict(zip(("channel", *space), map(int, unit), strict=False))
    for dim, at in place.items():
        if at >= given.sizes[dim]:
            raise InputError(
                f"parts: {dim} {at} was matched, but contributions have {given.sizes[dim]}; "
                "they are of another model"
            )
    channel = given.isel(channel=place["channel"])
    series = {"": channel.sum(space)} | ({"position_": given.isel(place)} if space else {})
    found: dict[str, Array] = {}
    for word, one in series.items():
        values = one.transpose(*kept).values
        share, low, high = _shares(np.abs(values), total, given["time"].values, how)
        ends = {f"{word}share_low": low, f"{word}share_high": high}
        found |= {f"{word}contribution": values, f"{word}share": share, **ends}
    return found


def _shares(part: Array, total: Array, time: Array, how: Resampling) -> tuple[Array, Array, Array]:
    """Return the part's share of the total (time, ...) over all time, with its interval."""
    step = float(np.median(np.diff(time)))
    labels = block_labels(len(time), max(1, round(how.seconds / step)))
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    sums = [np.add.reduceat(v.astype(np.float64), starts, axis=0) for v in (part, total)]
    counts = draw_blocks(len(starts), how.draws, how.seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = sums[0].sum(axis=0) / sums[1].sum(axis=0)
        upper, lower = (np.tensordot(counts, one, axes=1) for one in sums)
        low, high = percentiles(upper / lower, how.level, blocks=len(starts))
    if len(starts) < 2:
        low, high = np.full_like(share, np.nan), np.full_like(share, np.nan)
    return share, low, high
