"""How sparse, how mixed in sign and of how many dimensions a layer is, by depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.layer_measures import Measured, interval, measure, sign_correlations
from retinacodec.analyses.resampling import Resamples
from retinacodec.errors import InputError, Problems
from retinacodec.layer_tables import layer_table

__all__ = ["compare_quantities", "layer_statistics", "sign_correlation"]

Array = npt.NDArray[Any]
Part = Literal["net", "negative", "positive", "both"]

_WORDS = {
    "hoyer": "Hoyer sparsity over channels",
    "kappa4": "inverse participation ratio over channels",
    "participation": "participation ratio over channels (channels)",
    "kurtosis": "excess kurtosis over channels",
    "sign_correlation": "correlation of negative and positive sums, times -1",
    "dimensions": "principal components for {share:.0%} of the variance",
}


def sign_correlation(
    node: xr.Dataset | xr.DataTree, quantity: str = "contribution", *, target: Any = None
) -> xr.DataArray:
    """Say at each moment or image whether channels that excite are those that inhibit.

    Parameters
    ----------
    node : xarray.DataTree or xarray.Dataset
        A layer of Contributions.
    quantity : str, default "contribution"
        Variable of the layer.
    target : object, optional
        Which target, by its label, where there are several.

    Returns
    -------
    xarray.DataArray (time,) or (image,)
        1 where each channel's negative sum has the size of its positive sum, near 0 or below
        where channels are of one sign; NaN where one of the signs is the same in all channels,
        such as 0.

    Raises
    ------
    InputError
        As `retinacodec.analyses.layer_table`.

    Notes
    -----
    Minus the Pearson correlation, across channels, of the negative sums (at most 0) with the
    positive sums.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 3D, there of activation times normalised gradient.
    """
    table = layer_table(node, quantity, target=target)
    values = sign_correlations(table.values)
    return xr.DataArray(
        values,
        dims=table.dims[:1],
        coords={table.dims[0]: table[table.dims[0]]},
        name="sign_correlation",
        attrs={"units": "1", "long_name": _WORDS["sign_correlation"], "quantity": quantity},
    )


def layer_statistics(
    tree: xr.DataTree,
    quantity: str = "contribution",
    *,
    part: Part = "net",
    labels: npt.ArrayLike | None = None,
    target: Any = None,
    share: float = 0.95,
    block_seconds: float = 1.0,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Describe every layer of Contributions by its sparsity, signs and dimensions, by depth.

    Parameters
    ----------
    tree : xarray.DataTree
        Contributions, over time or images.
    quantity : str, default "contribution"
        Variable of the layers; ``"activation"`` or ``"gradient"`` where they were kept.
    part : {"net", "negative", "positive", "both"}, default "net"
        What of each channel enters sparsity and dimensions: the sum of both signs, one of them,
        or both side by side. The paper takes the net contribution and the positive activation.
    labels : array_like (image,), optional
        Class of each image. The dimensions are then those of the class means.
    target : object, optional
        Which target, by its label, where there are several.
    share : float, default 0.95
        Share of the variance that the dimensions hold.
    block_seconds : float, default 1.0
        Length of the blocks of time that are resampled, s; the history of the model at least.
    draws : int, default 1000
        Number of resamples; each costs one eigenvalue problem a layer.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of the resamples.

    Returns
    -------
    xarray.Dataset
        Over ``layer``, in the order of the tree: medians over samples of ``hoyer``, ``kappa4``,
        ``participation``, ``kurtosis`` and ``sign_correlation``, and ``dimensions``; each with
        ``_low`` and ``_high``, the interval, and the medians with ``_quartile`` (layer,
        quartile), their spread over samples. ``channels``; ``silent``, share of samples in which
        all channels are 0, and ``missing``, share with a NaN: neither counts in the medians.
        ``residual``, the median share of the target that the layer leaves unexplained, where it
        was noted.

    Raises
    ------
    InputError
        If a layer has no such quantity, the labels do not fit, or a number is out of range.

    Notes
    -----
    Equations: `retinacodec.sparsity` (Hoyer with ``epsilon = 0``, so that the unit of the
    quantity does not matter), `sign_correlation` and `retinacodec.dimensions.components_for`.
    Moments are resampled in blocks, images singly (within their class, if labels are given), all
    layers alike. Resampled rows repeat, which by itself changes the number of dimensions;
    its interval is therefore shifted to have its median at the value.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 3B, D and F.
    """
    asked = _Asked(part, labels, target, share, block_seconds, draws, level, seed)
    layers = _layers(tree, [quantity], asked)
    measured = [asked.measure(table) for table in layers[quantity]]
    data = _variables(measured, asked)
    return xr.Dataset(data, coords=_coords(tree), attrs=asked.attrs() | {"quantity": quantity})


def compare_quantities(
    tree: xr.DataTree,
    quantities: Sequence[str] = ("contribution", "activation"),
    *,
    part: Part | Sequence[Part] = "net",
    labels: npt.ArrayLike | None = None,
    target: Any = None,
    share: float = 0.95,
    block_seconds: float = 1.0,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Set the statistics of contributions beside those of activations, of the same samples.

    Parameters
    ----------
    tree : xarray.DataTree
        Contributions that keep the other quantities too.
    quantities : sequence of str, default ("contribution", "activation")
        Two variables of the layers or more; the first is compared with each of the others.
    part : {"net", "negative", "positive", "both"}, or one for each quantity
        As in `layer_statistics`.
    labels, target, share, block_seconds, draws, level, seed
        As in `layer_statistics`.

    Returns
    -------
    xarray.Dataset
        What `layer_statistics` returns, with a dim ``quantity`` first; and over (other, layer)
        for each statistic ``difference_<name>``, the first quantity less the other, with
        ``_low`` and ``_high``.

    Raises
    ------
    InputError
        If fewer than two quantities are asked for, or as in `layer_statistics`.

    Notes
    -----
    Difference of the medians (of the dimensions: of their numbers), both of the same resample
    of samples, so that what they share does not widen the interval.
    """
    names = list(quantities)
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"quantities: expected two or more different ones, got {names}")
    which = [part] * len(names) if isinstance(part, str) else list(part)
    if len(which) != len(names):
        raise InputError(f"part: expected one, or {len(names)} of them, got {which}")
    each_asked = [
        _Asked(one, labels, target, share, block_seconds, draws, level, seed) for one in which
    ]
    asked = each_asked[0]
    tables = _layers(tree, names, asked)
    measured = {
        name: [own.measure(table) for table in tables[name]]
        for name, own in zip(names, each_asked, strict=True)
    }
    each = [xr.Dataset(_variables(measured[name], asked), coords=_coords(tree)) for name in names]
    along = xr.DataArray(names, dims="quantity", name="quantity")
    result = xr.concat(each, along, data_vars="all", coords="minimal", compat="override")
    for name in _WORDS:
        pairs = [_differences(measured[names[0]], measured[one], name, asked) for one in names[1:]]
        for k, end in enumerate(("", "_low", "_high")):
            values = np.stack([pair[k] for pair in pairs])
            result[f"difference_{name}{end}"] = (("other", "layer"), values, {"units": "1"})
    attrs = asked.attrs() | {"part": part if isinstance(part, str) else which}
    return result.assign_coords(other=names[1:]).assign_attrs(attrs)


@dataclass(frozen=True)
class _Asked:
    """What was asked for, checked."""

    part: Part
    labels: npt.ArrayLike | None
    target: Any
    share: float
    block_seconds: float
    draws: int
    level: float
    seed: int

    def __post_init__(self) -> None:
        problems = Problems()
        known = ("net", "negative", "positive", "both")
        problems.require(self.part in known, f"part: expected one of {known}, got {self.part!r}")
        problems.require(0 < self.share <= 1, f"share: expected in (0, 1], got {self.share}")
        problems.require(0 < self.level < 1, f"level: expected in (0, 1), got {self.level}")
        problems.require(self.draws >= 1, f"draws: expected at least 1, got {self.draws}")
        problems.raise_as("statistics")

    def attrs(self) -> dict[str, Any]:
        """Return the settings as attributes."""
        names = ("part", "share", "block_seconds", "draws", "level", "seed")
        of = "samples" if self.labels is None else "class means"
        said = {name: getattr(self, name) for name in names}
        return {"kind": "layer statistics", **said, "dimensions_of": of}

    def rows(self, table: Array) -> Array:
        """Return the rows (sample, channel) of a table (sample, sign, channel)."""
        if self.part == "net":
            return np.asarray(table.sum(axis=1))
        if self.part == "both":
            return table.reshape(len(table), -1)
        return table[:, ("negative", "positive").index(self.part)]

    def measure(self, table: xr.DataArray) -> Measured:
        """Measure a layer (sample, sign, channel)."""
        values = table.values.astype(np.float64)
        sample = table[table.dims[0]]
        scheme = Resamples.of(sample, self.labels, self.block_seconds, self.draws, self.seed)
        group = None if self.labels is None else scheme.group
        return measure(values, self.rows(values), scheme, self.share, group=group)


def _variables(measured: Sequence[Measured], asked: _Asked) -> dict[str, Any]:
    """Return the variables over layers."""
    data: dict[str, Any] = {}
    for name, words in _WORDS.items():
        attrs = {"units": "1", "long_name": words.format(share=asked.share)}
        value = np.array([one.value[name] for one in measured])
        samples = np.stack([one.samples[name] for one in measured], axis=-1)
        low, high = interval(name, value, samples, asked.level)
        data |= {name: ("layer", value, attrs)}
        data |= {f"{name}_low": ("layer", low, attrs), f"{name}_high": ("layer", high, attrs)}
        if name in measured[0].quartile:
            spread = np.stack([one.quartile[name] for one in measured])
            data[f"{name}_quartile"] = (("layer", "quartile"), spread, attrs)
    for name in ("silent", "missing"):
        data[name] = ("layer", np.array([getattr(one, name) for one in measured]), {"units": "1"})
    return data


def _differences(
    first: Sequence[Measured], other: Sequence[Measured], name: str, asked: _Asked
) -> tuple[Array, Array, Array]:
    """Return the difference of a statistic (layer,), with its interval."""
    pairs = list(zip(first, other, strict=True))
    value = np.array([a.value[name] - b.value[name] for a, b in pairs])
    samples = np.stack([a.samples[name] - b.samples[name] for a, b in pairs], axis=-1)
    return (value, *interval(name, value, samples, asked.level))


def _layers(
    tree: xr.DataTree, quantities: Sequence[str], asked: _Asked
) -> dict[str, list[xr.DataArray]]:
    """Return the tables of all layers for each quantity."""
    if not isinstance(tree, xr.DataTree) or not tree.children:
        raise InputError("statistics: expected Contributions, a DataTree with a node a layer")
    return {
        name: [layer_table(node, name, target=asked.target) for node in tree.children.values()]
        for name in quantities
    }


def _coords(tree: xr.DataTree) -> dict[str, Any]:
    nodes = tree.children
    channels = [node.sizes["channel"] for node in nodes.values()]
    noted = [node.attrs.get("relative_residual", np.nan) for node in nodes.values()]
    return {
        "layer": list(nodes),
        "channels": ("layer", channels),
        "residual": ("layer", noted, {"units": "1"}),
        "quartile": [0.25, 0.75],
    }
