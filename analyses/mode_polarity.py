"""Whether a mode that is active alone has the same polarity and shape of field in every cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_frames import check_loading
from retinacodec.analyses.panels import active_modes
from retinacodec.nulls import discoveries, p_value
from retinacodec.separable import crop

__all__ = ["mode_polarity"]

Array = npt.NDArray[Any]


def mode_polarity(
    fields: xr.Dataset,
    loading: xr.DataArray,
    *,
    share: float = 0.1,
    fewest: int = 5,
    window: int = 20,
    permutations: int = 999,
    level: float = 0.05,
    seed: int = 0,
) -> xr.Dataset:
    """Compare the fields that different cells have while one mode is active alone.

    Parameters
    ----------
    fields : xarray.Dataset
        What `retinacodec.analyses.dynamic_fields` returns; frames in which the cell fires count.
    loading : xarray.DataArray (time, mode)
        Loadings at the same frames; see `retinacodec.analyses.loading_at`.
    share : float, default 0.1
        A mode is active where its loading exceeds this share of its strong loadings.
    fewest : int, default 5
        Fewest frames with the mode alone that a cell needs.
    window : int, default 20
        Side of the window, pixels, in which centred maps are compared.
    permutations : int, default 999
        Number of permutations of the modes within cells.
    level : float, default 0.05
        Share of false ones among the modes that are called consistent.
    seed : int, default 0
        Seed of the permutations.

    Returns
    -------
    xarray.Dataset
        ``on_share`` (mode, cell), share of ON frames with the mode alone; ``frames`` (mode, cell);
        ``agreement`` (mode), mean over pairs of cells of the product of their polarities
        ``2 on_share - 1``, 1 where all always agree and -1 where two always differ; and
        ``similarity`` (mode), mean cosine over pairs of cells of the mean spatial maps, each
        moved to its own strongest pixel. Each with ``_null_mean``, ``_p_value`` and
        ``_consistent``; ``pooled_agreement`` and ``pooled_similarity``, means over modes, with
        ``_null`` (permutation) and ``_p_value``. NaN with fewer than two cells.

    Raises
    ------
    InputError
        If loadings and fields do not fit, or a number is out of range.

    Notes
    -----
    In the null each cell keeps its fields but they change their modes at random among those that
    the cell has, so that what all modes have in common, such as an OFF cell's polarity, is in the
    null as well. ``agreement`` may thus be high and yet no mode be consistent beyond chance.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8D: mode 8 alone is a small OFF centre in every
       cell.
    """
    counts = {"fewest": fewest, "window": window, "permutations": permutations}
    check_loading("mode_polarity", fields, loading, ("polarity", "firing", "spatial"), **counts)
    active = active_modes(loading.transpose("time", "mode"), share=share).values
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    fires = fields["firing"] & fields["polarity"].notnull()
    firing = fires.transpose("time", "cell").values.astype(np.float64)
    frames = np.einsum("tm,tc->mc", alone, firing)
    known = frames >= fewest
    on = (fields["polarity"] > 0).transpose("time", "cell").values
    with np.errstate(invalid="ignore", divide="ignore"):
        on_share = np.where(known, np.einsum("tm,tc->mc", alone, firing * on) / frames, np.nan)
    maps = _centred_maps(fields, alone, firing, known, window)
    marks = np.where(known, 2 * on_share - 1, 0.0)[..., None]
    both = {"agreement": marks, "similarity": maps}
    orders = _orders(known, permutations, seed)
    names = loading["mode"].values if "mode" in loading.coords else np.arange(active.shape[1])
    data: dict[str, Any] = {
        "on_share": (("mode", "cell"), on_share, {"units": "1"}),
        "frames": (("mode", "cell"), frames.astype(np.int64), {"units": "1"}),
    }
    for name, vectors in both.items():
        data |= _tested(name, vectors, known, orders, level)
    attrs = {"kind": "mode_polarity", "level": level, "seed": seed}
    coords = {"mode": names, "cell": fields["cell"].values}
    return xr.Dataset(data, coords=coords, attrs=attrs)


def _centred_maps(
    fields: xr.Dataset, alone: Array, firing: Array, known: Array, window: int
) -> Array:
    """Return mean maps at norm 1, each around its own strongest pixel (mode, cell, pixel)."""
    spatial = fields["spatial"].transpose("time", "cell", "y", "x").fillna(0)
    sums = np.einsum("tm,tc,tcyx->mcyx", alone, firing, spatial.values, optimize=True)
    grid = {axis: spatial[axis].values for axis in ("y", "x")}
    maps = xr.DataArray(sums, dims=("mode", "cell", "y", "x"), coords=grid)
    near = crop(maps, window).values.reshape(*known.shape, -1)
    norm = np.linalg.norm(near, axis=-1, keepdims=True)
    return np.where(known[..., None] & (norm > 0), near / np.where(norm > 0, norm, 1), 0.0)


def _orders(known: Array, count: int, seed: int) -> Array:
    """Return permutations (draw, mode, cell) of the known modes within each cell."""
    generator = np.random.default_rng(seed)
    modes, cells = known.shape
    orders = np.tile(np.arange(modes)[:, None], (count, 1, cells))
    for cell in range(cells):
        own = np.flatnonzero(known[:, cell])
        for draw in range(count):
            orders[draw, own, cell] = generator.permutation(own)
    return orders


def _over_pairs(vectors: Array, known: Array) -> Array:
    """Return mean inner products over pairs of known cells (mode,), NaN without a pair."""
    number = known.sum(axis=1)
    total = (vectors.sum(axis=1) ** 2).sum(axis=-1) - (vectors**2).sum(axis=(1, 2))
    pairs = number * (number - 1)
    return np.where(pairs > 0, total / np.where(pairs > 0, pairs, 1), np.nan)


def _tested(name: str, vectors: Array, known: Array, orders: Array, level: float) -> dict[str, Any]:
    """Return a measure of agreement between cells with its null, for modes and for all."""
    value = _over_pairs(vectors, known)
    cells = np.arange(known.shape[1])
    null = np.stack([_over_pairs(vectors[order, cells], known) for order in orders])
    p = p_value(value, null)
    seen = np.isfinite(value)
    pooled = value[seen].mean() if seen.any() else np.nan
    pooled_null = null[:, seen].mean(axis=1) if seen.any() else np.full(len(null), np.nan)
    return {
        name: ("mode", value, {"units": "1"}),
        f"{name}_null_mean": ("mode", null.mean(axis=0), {"units": "1"}),
        f"{name}_p_value": ("mode", p, {"units": "1"}),
        f"{name}_consistent": ("mode", discoveries(p, level).found),
        f"pooled_{name}": ((), pooled, {"units": "1"}),
        f"pooled_{name}_null": ("permutation", pooled_null, {"units": "1"}),
        f"pooled_{name}_p_value": ((), p_value(pooled, pooled_null), {"units": "1"}),
    }
