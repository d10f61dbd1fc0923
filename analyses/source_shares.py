"""How much of a field's centre, surround and polarity each of its parts makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.separable import field_shape, separable
from retinacodec.source_fields import SourceFields

__all__ = ["centre_mask", "source_shares", "turning_parts"]

Array = npt.NDArray[Any]

_REACH = 0.75  # radius of the centre in diameters of the region above half of the peak


def source_shares(
    parts: SourceFields,
    *,
    reference: xr.DataArray | None = None,
    centre: xr.DataArray | None = None,
) -> xr.Dataset:
    """Say how much of each field's centre, surround and polarity each part makes.

    Parameters
    ----------
    parts : SourceFields
        Fields in parts, by channel or by mode.
    reference : xarray.DataArray (cell, lag, y, x), optional
        The field that each cell usually has, such as the mean over many frames or its
        spike-triggered average; the mean of the fields themselves if left out.
    centre : xarray.DataArray (cell, y, x) of bool, optional
        Pixels of the centre, all others being surround; `centre_mask` of the reference if left
        out.

    Returns
    -------
    xarray.Dataset
        Over (time, cell, part), with ``rest`` as the last part: ``share``, ``centre_share`` and
        ``surround_share``, each summing to 1 over parts, NaN where the field is zero there; and
        ``polarity``, each part's product with the reference's centre, which sum to
        ``total_polarity`` (time, cell), 1 for the reference itself. ``flipped`` (time, cell),
        where that is below 0, and ``flips`` (time, cell, part), the fewest parts without which
        it would not be. ``centre`` (cell, y, x).

    Raises
    ------
    InputError
        If the reference or the centre is not of these cells and pixels.

    Notes
    -----
    For a region A of pixels, at all lags, ``share_p = <F_p, F>_A / <F, F>_A``: below 0 for a part
    that works against the field there, above 1 for one that others oppose.
    ``polarity_p = <F_p, R>_A / <R, R>_A`` with A the centre and R the reference.
    """
    total = parts.total
    usual = total.mean() if reference is None else reference
    wanted = {"cell": total.rate.sizes["cell"]}
    wanted |= {axis: getattr(total, axis).size for axis in ("lag", "y", "x")}
    if {dim: usual.sizes.get(dim) for dim in wanted} != wanted or usual.ndim != 4:
        raise InputError(f"source_shares: expected a reference {wanted}, got {dict(usual.sizes)}")
    usual = usual.transpose(*wanted)
    inside = centre_mask(usual) if centre is None else centre
    shape = {dim: wanted[dim] for dim in ("cell", "y", "x")}
    if {dim: inside.sizes.get(dim) for dim in shape} != shape or inside.ndim != 3:
        raise InputError(f"source_shares: expected a centre {shape}, got {dict(inside.sizes)}")
    inside = inside.transpose("cell", "y", "x").astype(bool)
    moments, cells = total.rate.shape
    names = [*parts.labels(), "rest"]
    found = np.empty((4, moments, cells, len(names)))
    rest = parts.rest.latent
    for moment, cell in np.ndindex(moments, cells):
        pieces = _project(parts, rest, moment, cell)
        products = _products(pieces, usual.values[cell], inside.values[cell])
        found[:, moment, cell] = products
    return _named(found, parts, names, inside)


def centre_mask(reference: xr.DataArray) -> xr.DataArray:
    """Return which pixels are the centre of each cell's field.

    Parameters
    ----------
    reference : xarray.DataArray (cell, lag, y, x)
        Fields.

    Returns
    -------
    xarray.DataArray (cell, y, x) of bool
        The disc around the centre of gravity of the region above half of the peak, with three
        quarters of its diameter as radius (for a Gaussian 1.8 sigma); nothing where a field is
        zero.
    """
    form = separable(reference)
    shape = field_shape(form)
    off = [form["spatial"][axis] - shape[f"centre_{axis}"] for axis in ("y", "x")]
    away = (off[0] ** 2 + off[1] ** 2) ** 0.5
    inside: xr.DataArray = away <= _REACH * shape["size"]
    inside = inside.transpose("cell", "y", "x")
    return inside.rename("centre").assign_attrs(units="1", long_name="pixels of the centre")


def turning_parts(polarity: npt.ArrayLike) -> Array:
    """Return the fewest parts without which a sum below 0 would not be below 0.

    Parameters
    ----------
    polarity : array_like (..., part)
        Parts of the sum.

    Returns
    -------
    ndarray (..., part) of bool
        True for these parts, the most negative first; none where the sum is not below 0.

    Examples
    --------
    >>> turning_parts([[-4.0, -1.0, 3.0], [-1.0, 0.0, 3.0]]).tolist()
    [[True, False, False], [False, False, False]]
    """
    parts = np.asarray(polarity, dtype=np.float64)
    order = np.argsort(parts, axis=-1, kind="stable")
    ranked = np.take_along_axis(parts, order, axis=-1)
    left = parts.sum(axis=-1, keepdims=True) - (np.cumsum(ranked, axis=-1) - ranked)
    found = np.zeros(parts.shape, dtype=bool)
    np.put_along_axis(found, order, (left < 0) & (ranked < 0), axis=-1)
    return found


def _project(parts: SourceFields, rest: xr.DataArray, moment: int, cell: int) -> Array:
    """Return the parts and the rest of one field (part, lag, y, x)."""
    own = parts.latent.values[moment, cell]
    own = own.reshape(-1, *own.shape[-3:])
    latent = np.concatenate([own, rest.values[moment, cell][None]])
    fields = parts.total.filters.project(torch.from_numpy(latent))
    return np.asarray(fields.numpy(), dtype=np.float64)


def _products(pieces: Array, usual: Array, inside: Array) -> Array:
    """Return shares of the whole, centre and surround, and polarities (4, part)."""
    whole = pieces.sum(axis=0)
    each = (pieces * whole).sum(axis=1)
    along = (pieces * usual).sum(axis=1)[:, inside].sum(axis=1)
    size = float((usual.astype(np.float64) ** 2).sum(axis=0)[inside].sum())
    columns = [each.sum(axis=(1, 2)), each[:, inside].sum(axis=1), each[:, ~inside].sum(axis=1)]
    shares = [
        column / column.sum() if column.sum() > 0 else np.full(len(column), np.nan)
        for column in columns
    ]
    polarity = along / size if size > 0 else np.full(len(along), np.nan)
    return np.stack([*shares, polarity])


def _named(found: Array, parts: SourceFields, names: list[str], inside: xr.DataArray) -> xr.Dataset:
    """Put names and words to the numbers."""
    dims = ("time", "cell", "part")
    words = {
        "share": "share of the field",
        "centre_share": "share of the field's centre",
        "surround_share": "share of the field's surround",
        "polarity": "projection on the usual field's centre",
    }
    data = {
        name: (dims, values, {"units": "1", "long_name": long_name})
        for (name, long_name), values in zip(words.items(), found, strict=True)
    }
    shares = xr.Dataset(data, coords={**parts.total.rate.coords, "part": names})
    total = shares["polarity"].sum("part", skipna=False)
    shares["total_polarity"] = total.assign_attrs(units="1", long_name="of the whole field")
    shares["flipped"] = total < 0
    shares["flips"] = dims, turning_parts(shares["polarity"].values)
    shares["centre"] = inside.drop_vars("cell", errors="ignore")
    return shares.assign_attrs(kind="source_shares", bypass=parts.bypass or "")
