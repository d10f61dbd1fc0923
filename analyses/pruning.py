"""How many channels a circuit can lose before it fails, by the order in which they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from torch import nn

from retinacodec.analyses.ablation_curves import top_correct
from retinacodec.analyses.resampling import Resamples
from retinacodec.bootstrap import percentiles
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError, Problems
from retinacodec.interventions import Change, Intervention, Silence
from retinacodec.layer_tables import layer_table
from retinacodec.layer_values import check_channels, tap_of
from retinacodec.plotting import COLOURS
from retinacodec.progress import track
from retinacodec.resuming import Resumed
from retinacodec.samples import Images, rows_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_pruning", "importance", "pruning_curves", "weight_norms"]

Array = npt.NDArray[Any]

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def importance(
    node: xr.Dataset | xr.DataTree, quantity: str = "contribution", *, target: Any = None
) -> xr.DataArray:
    """Return how much each channel of a layer matters on average: mean size of a quantity.

    Parameters
    ----------
    node : xarray.DataTree or xarray.Dataset
        A layer of Contributions.
    quantity : str, default "contribution"
        Variable of the layer.
    target : object, optional
        Which target, where there are several.

    Returns
    -------
    xarray.DataArray (channel,)
        Mean over samples of the absolute value of the sum over signs and positions.
    """
    table = layer_table(node, quantity, target=target)
    return abs(table.sum("sign")).mean(str(table.dims[0])).rename("importance")


def weight_norms(circuit: Circuit, layer: str) -> xr.DataArray:
    """Return the norm of the weights that make each channel of a layer.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    layer : str
        A layer that is, or ends in, a convolution or linear map, perhaps with a batch norm; for
        another module the last one before it in the model's order.

    Returns
    -------
    xarray.DataArray (channel,)
        Euclidean norm of the weights of each channel, times the gain of a batch norm after them.

    Raises
    ------
    InputError
        If there are no weights in the layer or before it.
    """
    name = tap_of(circuit, layer).name
    modules = list(circuit.model.named_modules())
    last = max(
        at for at, (one, _) in enumerate(modules) if one == name or one.startswith(f"{name}.")
    )
    norms: Array | None = None
    for _, module in modules[: last + 1]:
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            norms = module.weight.detach().double().flatten(1).norm(dim=1).cpu().numpy()
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and norms is not None:
            norms = norms * _gain(module, len(norms))
    if norms is None:
        raise InputError(f"weight_norms: no convolution or linear map in or before {layer!r}")
    return xr.DataArray(norms, dims="channel", name="weight_norm")


def pruning_curves(
    circuit: Circuit,
    samples: xr.Dataset | Images,
    orders: Mapping[str, Mapping[str, xr.DataArray]],
    *,
    labels: npt.ArrayLike | None = None,
    shares: Sequence[float] = SHARES,
    how: Change | Mapping[str, Change] | None = None,
    random: int = 3,
    block_seconds: float = 1.0,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
    budget_gb: float = 1.0,
    progress: bool = True,
) -> xr.Dataset:
    """Take the least important channels away, more and more, and see what is kept.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    samples : xarray.Dataset, or images
        Movie, or images; better not those that the orders come from.
    orders : mapping of str to mapping of str to xarray.DataArray (channel,)
        For each way of ordering and each layer the importance of its channels. Several layers
        are pruned together, each by itself.
    labels : array_like (image,), optional
        Class of each image: accuracy is then kept or lost; else the correlation of every output
        with that of the whole circuit, averaged over outputs.
    shares : sequence of float, default 0 to 0.9
        Shares of the channels that are gone, rounded down.
    how : Change, or mapping of layer to Change, optional
        What becomes of the channels; ``Silence()`` if left out.
    random : int, default 3
        Random orders, whose mean is ``"random"``; 0 for none.
    block_seconds : float, default 1.0
        Length of the blocks in which moments are resampled, s.
    draws : int, default 500
        Number of resamples.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of random orders and resamples.
    budget_gb : float, default 1.0
        Memory for what the first layer gives, GB.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        ``kept`` (order, share), accuracy or correlation, with ``kept_low`` and ``kept_high``;
        ``auc`` (order), its mean over the range of shares by the trapezoid, likewise; and
        ``difference`` (order, other), of the areas, likewise.

    Raises
    ------
    InputError
        If orders differ in their layers, shares do not rise from 0 to 1, or labels do not fit.
    """
    layers = next(iter({tuple(one) for one in orders.values()}), ())
    rows = rows_for(circuit, samples)
    classes = None if labels is None else np.asarray(labels)
    _check(orders, layers, shares, classes, len(rows))
    for name, layer in ((name, layer) for name in orders for layer in layers):
        check_channels(circuit, layer, rows, orders[name][layer].size, name)
    resumed = Resumed.prepare(circuit, rows, layers, budget_gb=budget_gb)
    change: Any = Silence() if how is None else how
    changes = change if isinstance(change, Mapping) else dict.fromkeys(layers, change)
    ranked: dict[str, Sequence[Mapping[str, xr.DataArray]]]
    ranked = {name: [one] for name, one in orders.items()}
    if random:
        ranked["random"] = _random(orders, random, seed)
    names, found = list(ranked), []
    for name in track(names, "pruning", enabled=progress):
        found.append([
            [resumed.outputs(_actions(one, share, changes)) for share in shares]
            for one in ranked[name]
        ])  # fmt: skip
    drawn = Resamples.of(rows.coordinate, None, block_seconds, draws, seed)
    weights = np.concatenate(list(drawn.weights())) if drawn.possible else None
    keep = _Keep(resumed.outputs(), classes)
    value = keep.curves(found, np.ones((1, len(rows))))[:, :, 0]
    again = None if weights is None else keep.curves(found, weights)
    return _dataset(names, shares, value, again, level, layers, "accuracy" if labels is not None
                    else "correlation")  # fmt: skip


class _Keep:
    """What is kept of a circuit's outputs."""

    def __init__(self, whole: Array, classes: Array | None) -> None:
        self.whole, self.classes = whole, classes

    def curves(self, found: list[list[list[Array]]], weights: Array) -> Array:
        """Return (order, share, draw), the mean over repeats of an order."""
        return np.stack([
            np.mean([[self.one(outputs, weights) for outputs in run] for run in runs], axis=0)
            for runs in found
        ])  # fmt: skip

    def one(self, outputs: Array, weights: Array) -> Array:
        """Return the accuracy or correlation (draw,) with samples weighted (draw, sample)."""
        share = weights / weights.sum(axis=1, keepdims=True)
        if self.classes is not None:
            return np.asarray(share @ top_correct(outputs, self.classes, 1))
        a, b = self.whole, outputs
        mean_a, mean_b = share @ a, share @ b
        scale = (share @ (a * a) - mean_a**2) * (share @ (b * b) - mean_b**2)
        least = 1e-12 * np.abs(a).max(axis=0) ** 2 * np.maximum(np.abs(b).max(axis=0), 1e-12) ** 2
        known = scale > least
        r = (share @ (a * b) - mean_a * mean_b) / np.sqrt(np.where(known, scale, 1.0))
        return np.asarray(np.where(known, r, 0.0).mean(axis=1))


def _actions(
    order: Mapping[str, xr.DataArray], share: float, changes: Mapping[str, Change]
) -> list[Intervention]:
    actions = []
    for layer, one in order.items():
        count = int(np.floor(share * one.size + 1e-9))
        least = np.argsort(one.values, kind="stable")[:count]
        if count:
            actions.append(Intervention(layer, least, changes[layer]))
    return actions


def _random(
    orders: Mapping[str, Mapping[str, xr.DataArray]], count: int, seed: int
) -> list[dict[str, xr.DataArray]]:
    rng = np.random.default_rng(seed)
    first = next(iter(orders.values()))
    return [
        {layer: one.copy(data=rng.random(one.size)) for layer, one in first.items()}
        for _ in range(count)
    ]


def _check(
    orders: Mapping[str, Mapping[str, xr.DataArray]], layers: tuple[str, ...],
    shares: Sequence[float], classes: Array | None, rows: int,
) -> None:  # fmt: skip
    problems = Problems()
    same = len({tuple(one) for one in orders.values()}) == 1 and len(layers) > 0
    problems.require(same, "orders: expected the same layers in each")
    rising = list(shares) == sorted(set(shares)) and all(0 <= one <= 1 for one in shares)
    problems.require(rising and len(shares) > 1, f"shares: expected rising, 0 to 1, got {shares}")
    problems.require("random" not in orders, "orders: 'random' is drawn here; rename yours")
    for name, order in orders.items():
        for layer, one in order.items():
            whole = one.dims == ("channel",) and bool(np.isfinite(one).all())
            problems.require(whole, f"{name}, {layer}: expected finite numbers over (channel,)")
    if classes is not None:
        fits = classes.shape == (rows,) and np.issubdtype(classes.dtype, np.integer)
        problems.require(fits, f"labels: expected whole numbers ({rows},), got {classes.shape}")
    problems.raise_as("pruning_curves")


def _dataset(
    names: list[str], shares: Sequence[float], value: Array, again: Array | None, level: float,
    layers: tuple[str, ...], what: str,
) -> xr.Dataset:  # fmt: skip
    from scipy.integrate import trapezoid

    width = shares[-1] - shares[0]
    samples = np.full((*value.shape, 1), np.nan) if again is None else again
    area, areas = (trapezoid(one, shares, axis=1) / width for one in (value, samples))
    known = {
        "kept": (("order", "share"), value, samples),
        "auc": (("order",), area, areas),
        "difference": (("order", "other"), area[:, None] - area, areas[:, None] - areas),
    }
    data: dict[str, Any] = {}
    for name, (dims, one, drawn) in known.items():
        low, high = percentiles(np.moveaxis(drawn, -1, 0), level)
        data |= {name: (dims, one), f"{name}_low": (dims, low), f"{name}_high": (dims, high)}
    coords = {"order": names, "other": names, "share": list(shares)}
    attrs = {"kind": "pruning curves", "kept": what, "layers": list(layers), "level": level}
    return xr.Dataset(data, coords, attrs)


def _gain(norm: nn.modules.batchnorm._BatchNorm, channels: int) -> Array:
    """Return the factor (channel,) of a batch norm in evaluation, 1 where it is of others."""
    if norm.running_var is None or norm.num_features != channels:
        return np.ones(channels)
    factor = (norm.running_var + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight.detach().abs()
    return np.asarray(factor.double().cpu().numpy())


def draw_pruning(curves: xr.Dataset, ax: Axes, *, words: dict[str, str] | None = None) -> Axes:
    """Draw what is kept against the share of the channels that are gone.

    Parameters
    ----------
    curves : xarray.Dataset
        What `pruning_curves` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    words : dict of str to str, optional
        What orders are called in the legend.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: a line for each order, with its interval.
    """
    share = 100 * curves["share"].values
    for number, name in enumerate(curves["order"].values.tolist()):
        one = curves.sel(order=name)
        colour = COLOURS.quiet if name == "random" else COLOURS.series[number % 8]
        ax.plot(share, one["kept"], color=colour, label=(words or {}).get(name, name))
        low, high = one["kept_low"].values, one["kept_high"].values
        ax.fill_between(share, low, high, color=colour, alpha=0.15, linewidth=0)
    what = "Accuracy" if curves.attrs["kept"] == "accuracy" else "Correlation with\nwhole circuit"
    ax.set(xlabel="Channels removed (%)", ylabel=what, xlim=(share[0], share[-1]))
    ax.set_ylim(bottom=min(0.0, float(curves["kept"].min())))
    return ax
