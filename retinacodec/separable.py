"""The space-time separable form of a receptive field, and the few numbers that describe it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from retinacodec.errors import InputError

__all__ = ["crop", "describe", "field_shape", "separable", "separate"]

Array = npt.NDArray[Any]

_BATCH = 256  # fields separated at a time: bounds the memory of the double-precision work
_ROUND = 1.1  # elongation below which a centre has no orientation


def separate(fields: Tensor, basis: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split fields into their best separable form; the tensors under `separable`.

    Parameters
    ----------
    fields : torch.Tensor (batch, lag, y, x), or (batch, course, y, x) with `basis`
        Fields, or the maps of a few time courses that they are made of.
    basis : torch.Tensor (lag, course), optional
        Orthonormal time courses; the fields are ``basis`` times the maps.

    Returns
    -------
    spatial : torch.Tensor (batch, y, x)
        Spatial map in the unit of the field, with the polarity of the field's strongest frame.
    temporal : torch.Tensor (batch, lag)
        Time course of norm 1; both are zero for a field without variance, NaN for one that is
        not finite.
    separability : torch.Tensor (batch,) float64
        Share of the variance that the form holds, 0 to 1; NaN for a field without variance.
    gain : torch.Tensor (batch,)
        Norm of the field.

    Notes
    -----
    With ``F`` the field less its overall mean, as a matrix (lag, pixel), ``F ~ temporal
    spatial^T``: ``temporal`` is the first left singular vector, ``spatial = F^T temporal`` and
    ``separability = s_1^2 / sum_k s_k^2``. Both change sign together where the strongest frame
    of ``F`` (largest ``max |F|``) is anticorrelated with ``spatial``, so that the time course
    has a positive peak. The singular vector comes from the small matrix ``F F^T`` (lag, lag), or,
    since ``F`` lies in the span of the time courses and a constant, from the same matrix in an
    orthonormal basis of that span.
    """
    flat = fields.flatten(2)
    known = flat.sum(dim=(1, 2)).isfinite()
    flat = flat if bool(known.all()) else torch.where(known[:, None, None], flat, 0.0)
    frames = flat if basis is None else torch.einsum("lc,bcp->blp", basis, flat)
    courses = None if basis is None else _with_constant(basis)
    lags = frames.shape[1]
    ones = flat.new_ones(lags) if courses is None else courses.sum(dim=0)
    rows = flat.sum(dim=2)
    mean = (rows @ ones[: rows.shape[1]]) / (lags * flat.shape[2])
    gram, whole = _centred_gram(flat, rows, mean, ones)
    powers, vectors = torch.linalg.eigh(gram)
    first = vectors[..., -1].to(flat.dtype)
    spatial = torch.einsum("bcp,bc->bp", flat, first[:, : flat.shape[1]])
    spatial = spatial - (mean * (first @ ones))[:, None]
    temporal = first if courses is None else first @ courses.T
    low, high = frames.amin(dim=2), frames.amax(dim=2)
    strongest = torch.maximum(high - mean[:, None], mean[:, None] - low).argmax(dim=1)
    frame = frames[torch.arange(len(flat), device=flat.device), strongest]
    around = spatial - spatial.mean(dim=1, keepdim=True)
    sign = 1.0 - 2.0 * ((frame * around).sum(dim=1, keepdim=True) < 0)
    total = powers.clamp_min(0).sum(dim=1)
    varies = total > 10 * torch.finfo(flat.dtype).eps * whole
    share = torch.where(varies, powers[:, -1] / total, torch.nan)
    sign = torch.where(varies[:, None], sign, 0.0)
    sign = torch.where(known[:, None], sign, torch.nan)
    gain = torch.where(known, whole.sqrt(), torch.nan).to(flat.dtype)
    return (sign * spatial).view(-1, *fields.shape[2:]), sign * temporal, share, gain


def _with_constant(basis: Tensor) -> Tensor:
    """Return orthonormal time courses whose span holds a constant too."""
    wide = basis.double()
    constant = wide.new_ones((len(wide), 1))
    left = constant - wide @ (wide.T @ constant)
    left = left - wide @ (wide.T @ left)
    size = torch.linalg.vector_norm(left)
    if size < 1e-6 * len(wide) ** 0.5:
        return basis
    return torch.cat([wide, left / size], dim=1).to(basis.dtype)


def _centred_gram(flat: Tensor, rows: Tensor, mean: Tensor, ones: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(F - m)(F - m)^T`` in a basis, and ``|F|^2`` (batch,), double precision.

    `ones` is a constant 1 in that basis, which may have one course more than `flat`.
    """
    more = ones.shape[0] - flat.shape[1]
    gram = functional.pad(torch.bmm(flat, flat.mT).double(), (0, more, 0, more))
    whole = gram.diagonal(dim1=1, dim2=2).sum(dim=1)
    sums = functional.pad(rows.double(), (0, more))
    level, constant = mean.double()[:, None, None], ones.double()
    cross = sums[:, :, None] * constant
    shift = level * (cross + cross.mT) - level**2 * flat.shape[2] * torch.outer(constant, constant)
    return gram - shift, whole


def separable(fields: xr.DataArray) -> xr.Dataset:
    """Return the best separable form of receptive fields.

    Parameters
    ----------
    fields : xarray.DataArray (..., lag, y, x)
        Instantaneous fields, mean fields or spike-triggered averages.

    Returns
    -------
    xarray.Dataset
        ``spatial`` (..., y, x) in the unit of the fields, with the polarity of the strongest
        frame; ``temporal`` (..., lag) of norm 1 with a positive peak; ``separability`` (...),
        0 to 1, NaN for a field without variance; ``gain`` (...), norm of the field in its unit.

    Raises
    ------
    InputError
        If a dimension is missing.

    Notes
    -----
    See `separate` for the equations: the field less its overall mean is
    ``temporal[lag] * spatial[y, x]`` as nearly as one product can be.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8 (rank-1 space-time separation of instantaneous
       receptive fields).

    Examples
    --------
    >>> profile = xr.DataArray([[0.0, 1.0], [0.0, -1.0]], dims=("y", "x"))
    >>> course = xr.DataArray([0.0, 0.6, -0.8], dims="lag")
    >>> separable(course * profile)["temporal"].values.round(2).tolist()
    [0.0, -0.6, 0.8]
    """
    missing = {"lag", "y", "x"} - set(fields.dims)
    if missing:
        raise InputError(f"fields: expected dims (..., lag, y, x), got {fields.dims}")
    fields = fields.transpose(..., "lag", "y", "x")
    values = np.asarray(fields.values)
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    tensor = torch.from_numpy(values.reshape(-1, *values.shape[-3:]))
    parts = [separate(part) for part in tensor.split(_BATCH)]
    return describe(fields, *(torch.cat(column) for column in zip(*parts, strict=True)))


def describe(
    like: xr.DataArray, spatial: Tensor, temporal: Tensor, share: Tensor, gain: Tensor
) -> xr.Dataset:
    """Name the parts of separable forms; `like` (..., lag, y, x) gives dims and coordinates."""
    outer = like.dims[:-3]
    shape = tuple(like.sizes[dim] for dim in outer)
    unit = like.attrs.get("units", "1")
    columns = {
        "spatial": ((*outer, "y", "x"), spatial, unit, "spatial map of the separable form"),
        "temporal": ((*outer, "lag"), temporal, "1", "time course of the separable form"),
        "separability": (outer, share, "1", "share of the variance in the separable form"),
        "gain": (outer, gain, unit, "norm of the field"),
    }
    dataset = xr.Dataset(
        {
            name: (dims, values.numpy().reshape((*shape, *values.shape[1:])), _attrs(units, words))
            for name, (dims, values, units, words) in columns.items()
        }
    )
    return dataset.assign_coords(like.coords)


def crop(spatial: xr.DataArray, size: int = 20) -> xr.DataArray:
    """Cut a window around the strongest pixel of each spatial map.

    Parameters
    ----------
    spatial : xarray.DataArray (..., y, x)
        Spatial maps.
    size : int, default 20
        Pixels on each side of the window.

    Returns
    -------
    xarray.DataArray (..., y, x)
        Windows with zeros beyond the edge of the map; ``y`` and ``x`` are distances from the
        strongest pixel, which lies at row and column ``size // 2``, in the unit of the map's
        coordinates.

    Raises
    ------
    InputError
        If `size` is below 1 or a dimension is missing.
    """
    if size < 1 or not {"y", "x"} <= set(spatial.dims):
        raise InputError(
            f"crop: expected dims (..., y, x) and a size of at least 1, got {spatial.dims}, {size}"
        )
    spatial = spatial.transpose(..., "y", "x")
    maps = spatial.values.reshape(-1, *spatial.shape[-2:])
    half = size // 2
    padded = np.pad(maps, ((0, 0), (half, size), (half, size)))
    peaks = np.abs(np.nan_to_num(maps)).reshape(len(maps), -1).argmax(axis=1)
    rows, columns = np.unravel_index(peaks, maps.shape[1:])
    reach = np.arange(size)
    window = padded[
        np.arange(len(maps))[:, None, None],
        (rows[:, None] + reach)[:, :, None],
        (columns[:, None] + reach)[:, None, :],
    ]
    return xr.DataArray(
        window.reshape(*spatial.shape[:-2], size, size),
        dims=spatial.dims,
        coords={
            **{k: v for k, v in spatial.coords.items() if not {"y", "x"} & set(v.dims)},
            "y": ("y", (reach - half) * _step(spatial, "y"), {"units": "um"}),
            "x": ("x", (reach - half) * _step(spatial, "x"), {"units": "um"}),
        },
        name=spatial.name,
        attrs=spatial.attrs,
    )


def field_shape(parts: xr.Dataset, *, window: int = 20) -> xr.Dataset:
    """Describe separable forms by polarity, place, size, orientation and latency.

    Parameters
    ----------
    parts : xarray.Dataset
        ``spatial`` (..., y, x) and ``temporal`` (..., lag), as `separable` returns them.
    window : int, default 20
        Pixels on each side of the window around the strongest pixel that is looked at.

    Returns
    -------
    xarray.Dataset
        ``polarity`` (...), +1 ON or -1 OFF, the sign of the strongest pixel; ``centre_y`` and
        ``centre_x`` (...), um, centre of gravity of the centre region; ``size`` (...), um,
        diameter of the disc with the area of the centre region; ``elongation`` (...), ratio of
        its axes, 1 where it is round; ``orientation`` (...), degrees from 0 to 180 of its long
        axis, from x towards larger y, NaN where the elongation is below 1.1; ``latency`` (...), s
        from the frame of the peak of the time course to the response. All NaN where the map is
        zero.

    Raises
    ------
    InputError
        If a variable is missing.

    Notes
    -----
    The centre region is the strongest pixel with the pixels that touch it, by a side or corner
    and through each other, have its sign and at least half its size, inside the window; the
    centre of gravity weighs them by their value. ``size = 2 sqrt(area / pi)``. With ``M`` the
    covariance of position under the same weights, plus that of one pixel (pitch squared over
    12 along each axis), and ``m_1 >= m_2`` its eigenvalues, ``elongation = sqrt(m_1 / m_2)`` and
    ``orientation = atan2(2 M_xy, M_xx - M_yy) / 2``.
    """
    for name in ("spatial", "temporal"):
        if name not in parts:
            raise InputError(f"field_shape: no variable {name!r}; pass what separable() returns")
    spatial = parts["spatial"]
    near = crop(spatial, window)
    peak = near.isel(y=window // 2, x=window // 2, drop=True)
    seen = abs(peak) > 0
    polarity = xr.where(seen, np.sign(peak), np.nan)
    centre = _centre_region(near * polarity, abs(peak) / 2)
    weight = centre.sum(("y", "x")).where(seen)
    area = (centre > 0).sum(("y", "x")) * abs(_step(spatial, "y") * _step(spatial, "x"))
    offset = {axis: (centre * near[axis]).sum(("y", "x")) / weight for axis in ("y", "x")}
    place = {axis: offset[axis] + _peak_position(spatial, axis) for axis in ("y", "x")}
    elongation, orientation = _axes(centre / weight, offset)
    latency = (
        -parts["lag"]
        .isel(lag=parts["temporal"].fillna(0).argmax("lag"))
        .drop_vars("lag", errors="ignore")
    )
    found = xr.Dataset(
        {
            "polarity": polarity,
            "centre_y": place["y"],
            "centre_x": place["x"],
            "size": (2 * (area / np.pi) ** 0.5).where(seen),
            "elongation": elongation,
            "orientation": orientation.where(elongation >= _ROUND),
            "latency": latency.where(seen),
        }
    )
    for name, units in _SHAPE_UNITS.items():
        found[name].attrs = _attrs(*units)
    return found


_SHAPE_UNITS = {
    "polarity": ("1", "sign of the strongest pixel, +1 ON, -1 OFF"),
    "centre_y": ("um", "centre of gravity of the centre region"),
    "centre_x": ("um", "centre of gravity of the centre region"),
    "size": ("um", "diameter of a disc of the area of the centre region"),
    "elongation": ("1", "ratio of the axes of the centre region"),
    "orientation": ("degree", "long axis of the centre region, from x towards larger y"),
    "latency": ("s", "time from the peak of the time course to the response"),
}


def _centre_region(near: xr.DataArray, least: xr.DataArray) -> xr.DataArray:
    """Return maps where they reach a value and hang together with the middle pixel, else 0."""
    from scipy import ndimage

    near = near.transpose(..., "y", "x")
    reached = (near >= least).values & (near > 0).values
    flat = reached.reshape(-1, *reached.shape[-2:])
    touching = np.zeros((3, 3, 3), dtype=bool)
    touching[1] = True
    labels, _ = ndimage.label(flat, structure=touching)
    middle = labels[:, near.sizes["y"] // 2, near.sizes["x"] // 2]
    inside = (labels == middle[:, None, None]) & flat
    return near.where(xr.zeros_like(near, dtype=bool).copy(data=inside.reshape(near.shape)), 0.0)


def _axes(weight: xr.DataArray, offset: dict[str, xr.DataArray]) -> tuple[xr.DataArray, ...]:
    """Return elongation and orientation, degrees, of maps (..., y, x) that sum to 1."""
    away = {axis: weight[axis] - offset[axis] for axis in ("y", "x")}
    moment = {
        one + two: (weight * away[one] * away[two]).sum(("y", "x"), skipna=False)
        for one, two in ("yy", "xx", "xy")
    }
    for axis in ("y", "x"):
        moment[axis * 2] = moment[axis * 2] + _step(weight, axis) ** 2 / 12
    middle = (moment["xx"] + moment["yy"]) / 2
    half = (((moment["xx"] - moment["yy"]) / 2) ** 2 + moment["xy"] ** 2) ** 0.5
    twice = xr.apply_ufunc(np.arctan2, 2 * moment["xy"], moment["xx"] - moment["yy"])
    return ((middle + half) / (middle - half)) ** 0.5, twice * (90 / np.pi) % 180


def _attrs(units: str, words: str) -> dict[str, str]:
    return {"units": units, "long_name": words}


def _step(spatial: xr.DataArray, axis: str) -> float:
    """Return the pixel pitch along an axis, 1 where there are no coordinates."""
    values = np.asarray(spatial[axis].values, dtype=np.float64)
    return float(np.median(np.diff(values))) if values.size > 1 else 1.0


def _peak_position(spatial: xr.DataArray, axis: str) -> xr.DataArray:
    """Return the coordinate of the strongest pixel along an axis."""
    flat = abs(spatial).fillna(0).stack(pixel=("y", "x"), create_index=False)
    return (
        spatial[axis]
        .isel({axis: _unravel(flat.argmax("pixel"), spatial.sizes["x"], axis)})
        .drop_vars(axis, errors="ignore")
    )


def _unravel(index: xr.DataArray, width: int, axis: str) -> xr.DataArray:
    """Return the row or column of flat pixel numbers."""
    return index // width if axis == "y" else index % width
