"""Whether modes of contributions tell more than those of activations and gradients: measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.modes import find_modes, row_split
from retinacodec.bootstrap import block_labels, draw_blocks, percentiles
from retinacodec.dictionaries import Decomposition, DirectPursuit
from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["contrast_modes", "draw_contrast"]

Array = npt.NDArray[Any]

_SCORES = ("r2", "r2_low", "r2_high", "l0", "stability", "half_stability", "stability_null")


def contrast_modes(
    node: xr.Dataset | xr.DataTree,
    response: xr.DataArray,
    *,
    quantities: Sequence[str] = ("contribution", "activation", "gradient"),
    dictionary: Decomposition | None = None,
    target: Any = None,
    seed: int = 0,
    gap: int = 40,
    block: int = 40,
    draws: int = 1000,
    progress: bool = True,
) -> xr.Dataset:
    """Decompose several quantities of a layer alike, and ask which modes go along with responses.

    Parameters
    ----------
    node : xarray.DataTree or xarray.Dataset
        A layer of Contributions, computed with ``activations=True`` and ``gradients=True``.
    response : xarray.DataArray (time, cell) or (image, class)
        What loadings are compared with: rates of cells, or 0 and 1 for the class of an image.
    quantities : sequence of str
        Variables of the node; each further one is compared with the first.
    dictionary : Decomposition, optional
        One method for all; ``DirectPursuit`` with a mode for each channel if left out.
    target, seed, gap
        As in `find_modes`.
    block : int, default 40
        Samples that are resampled together; images one by one.
    draws : int, default 1000
        Number of resamples.
    progress : bool, default True
        Show how far the fits have come.

    Returns
    -------
    xarray.Dataset
        For each quantity: ``modes``, ``r2`` of samples held out with its interval, ``l0``,
        ``stability``, ``half_stability`` and ``stability_null`` as in `find_modes`;
        ``correlation`` (quantity, response), between a response and the mode that goes along with
        it best (or its negative, where loadings have signs), chosen on one half of the samples and
        scored on the other, mean of both ways; its
        mean ``mean_correlation`` with ``correlation_low`` and ``correlation_high``; and
        ``difference``, that of the first quantity less that of this one, with ``difference_low``
        and ``difference_high`` (95 %, resampled together).

    Raises
    ------
    InputError
        If a quantity is missing or has no modes, or the responses are of other samples.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 5, correlations of modes with classes.
    """
    sample = "image" if "image" in response.dims else "time"
    found, places = {}, []
    for quantity in quantities:
        method = dictionary or DirectPursuit(modes=_channels(node, quantity))
        found[quantity] = find_modes(
            node,
            dictionary=method,
            quantity=quantity,
            target=target,
            seed=seed,
            gap=gap,
            progress=progress,
        )
        places.append(found[quantity]["loading"])
    response, *loadings = xr.align(response, *places, join="inner")
    rows = response.sizes[sample]
    if rows < 2:
        raise InputError("contrast_modes: responses and contributions share no samples")
    answers = response.transpose(sample, ...).values.astype(np.float64)
    split = row_split(sample, gap, rows)
    halves = split.halves(rows)
    length = 1 if sample == "image" else block
    series = [_both_ways(one.transpose(sample, "mode").values) for one in loadings]
    single, together = zip(
        *(_cross_scored(values, answers, halves, length, draws, seed) for values in series),
        strict=True,
    )
    blocks = min(len(np.unique(block_labels(half, length))) for half in halves)
    return _dataset(found, response, np.stack(single), np.stack(together), blocks)


def _channels(node: xr.Dataset | xr.DataTree, quantity: str) -> int:
    """Return the number of channels, as the number of modes that all quantities get."""
    if quantity not in node:
        raise InputError(
            f"contrast_modes: no variable {quantity!r}; compute contributions with "
            "activations=True and gradients=True"
        )
    return int(node[quantity].sizes["channel"])


def _both_ways(loading: Array) -> Array:
    """Return loadings (sample, mode), and turned around where a mode and its negative are one."""
    return np.concatenate([loading, -loading], axis=1) if (loading < 0).any() else loading


def _cross_scored(
    loading: Array, answers: Array, halves: tuple[Array, Array], length: int, draws: int, seed: int
) -> tuple[Array, Array]:
    """Return the correlation of each response with its mode, and its mean in each resample."""
    single, together = [], []
    for number, (chosen_on, scored_on) in enumerate((halves, halves[::-1])):
        table = _correlations(loading[chosen_on], answers[chosen_on])
        mode = np.nan_to_num(table, nan=-2).argmax(axis=0)
        sums = _block_sums(loading[scored_on][:, mode], answers[scored_on], scored_on, length)
        chosen = draw_blocks(len(sums), draws, seed + number)
        single.append(_pearson(sums.sum(axis=0)))
        together.append(np.nanmean(_pearson(np.tensordot(chosen, sums, 1)), axis=-1))
    return np.mean(single, axis=0), np.mean(together, axis=0)


def _correlations(loading: Array, answers: Array) -> Array:
    """Return the correlation of every mode with every response (mode, response)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        one, other = ((v - v.mean(axis=0)) / v.std(axis=0) for v in (loading, answers))
    return np.asarray(one.T @ other / len(loading))


def _block_sums(one: Array, other: Array, rows: Array, length: int) -> Array:
    """Return what a correlation is made of, summed over blocks (block, term, response)."""
    terms = np.stack([np.ones_like(other), one, other, one**2, other**2, one * other], axis=1)
    starts = np.flatnonzero(np.diff(block_labels(rows, length), prepend=-1))
    return np.add.reduceat(terms, starts, axis=0)


def _pearson(sums: Array) -> Array:
    """Return correlations from sums (..., term, response); NaN where something is constant."""
    n, a, b, aa, bb, ab = np.moveaxis(sums, -2, 0)
    spread = (aa - a**2 / n) * (bb - b**2 / n)
    whole = np.sqrt(np.where(spread > 1e-12 * aa * bb, spread, np.nan))
    return np.asarray((ab - a * b / n) / whole)


def _dataset(
    found: dict[str, xr.Dataset],
    response: xr.DataArray,
    single: Array,
    together: Array,
    blocks: int,
) -> xr.Dataset:
    """Return all scores by quantity, and the differences from the first."""
    low, high = percentiles(together.T, blocks=blocks)
    less_low, less_high = percentiles((together[:1] - together).T, blocks=blocks)
    mean = np.nanmean(single, axis=1)
    other = next(str(dim) for dim in response.dims if dim not in ("time", "image"))
    data: dict[str, Any] = {
        name: ("quantity", [modes.attrs[name] for modes in found.values()], {"units": "1"})
        for name in _SCORES
    }
    each = {
        "mean_correlation": mean,
        "correlation_low": low,
        "correlation_high": high,
        "difference": mean[0] - mean,
        "difference_low": less_low,
        "difference_high": less_high,
    }
    data |= {name: ("quantity", values, {"units": "1"}) for name, values in each.items()}
    data["modes"] = ("quantity", [modes.sizes["mode"] for modes in found.values()])
    data["correlation"] = (("quantity", other), single, {"units": "1"})
    coords = {"quantity": list(found)} | (
        {other: response[other]} if other in response.coords else {}
    )
    return xr.Dataset(data, coords=coords)


def draw_contrast(contrast: xr.Dataset, ax: Axes) -> Axes:
    """Draw how well modes of each quantity go along with the responses.

    Parameters
    ----------
    contrast : xarray.Dataset
        What `contrast_modes` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: a grey line for each response, dots and bars for the mean and its 95 % interval.
    """
    place = np.arange(contrast.sizes["quantity"])
    ax.plot(place, contrast["correlation"].values, color=COLOURS.quiet, linewidth=0.5, alpha=0.5)
    mean = contrast["mean_correlation"].values
    ax.vlines(
        place, contrast["correlation_low"], contrast["correlation_high"], color=COLOURS.ink, lw=1.2
    )
    ax.plot(place, mean, "o", color=COLOURS.ink, markersize=3.5)
    names = [f"{name}s" for name in contrast["quantity"].values.tolist()]
    ax.set_xticks(place, labels=names, rotation=30, ha="right", rotation_mode="anchor")
    ax.set(ylabel="Correlation with the best mode", xlim=(-0.4, len(place) - 0.6))
    return ax
