"""Masks to explain: where modes are on, and where channels and maps are at their strongest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems

__all__ = ["channel_masks", "map_masks", "mode_masks", "resample_map"]

Array = npt.NDArray[Any]


def mode_masks(
    modes: xr.Dataset | xr.DataArray, *, threshold: float = 0.0, within: int = 0
) -> xr.DataArray:
    """Return where each mode is on: at the frames or images at which its loading is above zero.

    Parameters
    ----------
    modes : xarray.Dataset or xarray.DataArray
        Modes with ``loading`` (time, mode) or (image, mode), or the loadings themselves.
    threshold : float, default 0
        A mode is on where its loading is above this.
    within : int, default 0
        On also at so many frames before and after; only over ``time``.

    Returns
    -------
    xarray.DataArray of bool (mask, time) or (mask, image)
        One mask for each mode, named after it; never on where the loading is NaN.

    Raises
    ------
    InputError
        If there are no loadings, or `within` is asked for images.

    Examples
    --------
    >>> loading = xr.DataArray([[0.0, 2.0], [1.0, 0.0]], dims=("image", "mode"))
    >>> mode_masks(loading).values.tolist()
    [[False, True], [True, False]]
    """
    loading: Any = modes
    if isinstance(modes, xr.Dataset) and "loading" in modes:
        loading = modes["loading"]
    dims = {str(dim) for dim in loading.dims} if isinstance(loading, xr.DataArray) else set()
    if dims not in ({"time", "mode"}, {"image", "mode"}):
        raise InputError(
            f"mode_masks: expected loadings (time, mode) or (image, mode), got {sorted(dims)}"
        )
    samples = "time" if "time" in dims else "image"
    if within < 0 or (within and samples == "image"):
        raise InputError(
            f"within: expected at least 0 frames of a movie, got {within} of {samples}"
        )
    table = loading.transpose("mode", samples)
    on = np.asarray(table.values > threshold)
    if within:
        from scipy.ndimage import maximum_filter1d

        on = maximum_filter1d(on.astype(np.uint8), 2 * within + 1, axis=1, mode="constant") > 0
    coords = {samples: table[samples]} if samples in table.coords else {}
    return xr.DataArray(
        on,
        {"mask": [str(name) for name in table["mode"].values], **coords},
        ("mask", samples),
        attrs={"threshold": threshold, "within": within},
    )


def channel_masks(
    activation: xr.DataArray, *, like: xr.DataArray | None = None, share: float = 0.005
) -> xr.DataArray:
    """Return where each channel is strongest: its top share of all positions of all images.

    Parameters
    ----------
    activation : xarray.DataArray (image, channel, y, x) or (image, channel)
        Values of the channels of a layer. (image, mode, ...) serves as well.
    like : xarray.DataArray, optional
        Concepts of the same images, as `pixel_concepts` makes them: maps are interpolated
        bilinearly at their positions before the threshold. The positions of the maps themselves
        if left out.
    share : float, default 0.005
        Share of the positions above the threshold, above 0 and below 1.

    Returns
    -------
    xarray.DataArray of bool (mask, position) or (mask, image)
        One mask for each channel; `image`, ``y`` and ``x`` along the positions. A channel that is
        the same everywhere is never on; ``threshold`` (mask) is a coordinate.

    Raises
    ------
    InputError
        If the dims or images do not fit, or a value is not finite.

    Notes
    -----
    The threshold is the quantile ``1 - share``, exact, over all images and positions, as in the
    literature; on is what lies above it.

    References
    ----------
    .. [1] Bau et al., CVPR 2017, network dissection; Mu and Andreas, NeurIPS 2020.
    """
    return _strongest(activation, like, share, (("", 1),))


def map_masks(
    maps: xr.DataArray, *, like: xr.DataArray | None = None, share: float = 0.005
) -> xr.DataArray:
    """Return where contributions are strongest, those that support and those that oppose apart.

    Parameters
    ----------
    maps : xarray.DataArray (image, channel, y, x)
        Signed contributions of channels or (image, mode, y, x) of modes.
    like, share
        As in `channel_masks`.

    Returns
    -------
    xarray.DataArray of bool (mask, position)
        Two masks for each channel, ``"3+"`` of the strongest positive contributions and ``"3-"``
        of the strongest negative ones, as `channel_masks` has them of ``max(C, 0)`` and
        ``max(-C, 0)``; only positions of that sign, however few.

    Raises
    ------
    InputError
        If the dims or images do not fit, or a value is not finite.
    """
    return _strongest(maps, like, share, (("+", 1), ("-", -1)))


def resample_map(maps: npt.ArrayLike, rows: npt.ArrayLike, columns: npt.ArrayLike) -> Array:
    """Interpolate maps bilinearly at places of a larger image.

    Parameters
    ----------
    maps : array_like (..., y, x)
        Values at the centres of equal cells that tile an image.
    rows, columns : array_like (row,), (column,)
        Places, as shares of the image's height and width, 0 to 1; beyond the outermost centres
        the value stays what it is there.

    Returns
    -------
    ndarray (..., row, column)
        Interpolated values.
    """
    values = np.asarray(maps, dtype=np.float64)
    down, across = _weights(rows, values.shape[-2]), _weights(columns, values.shape[-1])
    return np.asarray(down @ values @ across.T)


def _weights(places: npt.ArrayLike, cells: int) -> Array:
    """Return the weights (place, cell) of linear interpolation between cell centres."""
    at = np.clip(np.asarray(places, dtype=np.float64) * cells - 0.5, 0, cells - 1)
    low = np.minimum(np.floor(at).astype(np.int64), max(cells - 2, 0))
    weights = np.zeros((at.size, cells))
    rows = np.arange(at.size)
    weights[rows, low] = 1 - (at - low)
    weights[rows, np.minimum(low + 1, cells - 1)] += at - low
    return weights


def _strongest(
    maps: xr.DataArray, like: xr.DataArray | None, share: float, signs: tuple[tuple[str, int], ...]
) -> xr.DataArray:
    """Return where maps of either sign exceed the quantile of the share."""
    if not isinstance(maps, xr.DataArray):
        raise InputError(f"masks: expected a DataArray, got {type(maps).__name__}")
    kind = "mode" if "mode" in maps.dims else "channel"
    spatial = "y" in maps.dims
    dims = ("image", kind, "y", "x") if spatial else ("image", kind)
    _check(maps, like, share, dims)
    ordered = maps.transpose(*dims)
    coords, place = _positions(ordered, like)
    on, levels, names = [], [], []
    for number, values in enumerate(_sampled(ordered, place)):
        for suffix, sign in signs:
            signed = np.maximum(sign * values, 0) if suffix else values
            level = float(np.partition(signed, rank := _rank(signed.size, share))[rank])
            on.append(signed > level)
            levels.append(level)
            name = ordered[kind].values[number] if kind in ordered.coords else number
            names.append(f"{name}{suffix}")
    where = "position" if spatial else "image"
    return xr.DataArray(
        np.stack(on),
        {"mask": names, "threshold": ("mask", levels), **coords},
        ("mask", where),
        attrs={"share": share},
    )


def _rank(size: int, share: float) -> int:
    """Return the place, in rising order, of the largest value that is not on."""
    return max(size - round(share * size) - 1, 0)


def _sampled(maps: xr.DataArray, place: tuple[Array, Array] | None) -> Iterator[Array]:
    """Yield the values of one channel after the other at all positions."""
    for number in range(maps.shape[1]):
        values = np.asarray(maps[:, number].values, dtype=np.float64)
        if not np.isfinite(values).all():
            raise InputError(
                f"masks: channel {number} has NaN or infinite values; leave these images out"
            )
        yield (values if place is None else resample_map(values, *place)).ravel()


def _positions(
    maps: xr.DataArray, like: xr.DataArray | None
) -> tuple[dict[str, Any], tuple[Array, Array] | None]:
    """Return the coordinates of the positions, and where they lie as shares of the image."""
    images = maps["image"].values if "image" in maps.coords else np.arange(maps.sizes["image"])
    if maps.ndim == 2:
        return {"image": images}, None
    if like is not None:
        height, width = like.attrs["pixels"]
        rows, columns = (np.unique(like[name].values) for name in ("y", "x"))
        coords = {name: ("position", like[name].values) for name in ("image", "y", "x")}
        return coords, ((rows + 0.5) / height, (columns + 0.5) / width)
    grid = np.meshgrid(images, *(np.arange(size) for size in maps.shape[2:]), indexing="ij")
    return {
        name: ("position", one.ravel()) for name, one in zip(("image", "y", "x"), grid, strict=True)
    }, None


def _check(
    maps: xr.DataArray, like: xr.DataArray | None, share: float, dims: tuple[str, ...]
) -> None:
    problems = Problems()
    fits = set(maps.dims) == set(dims)
    problems.require(fits, f"expected values {dims}, got {maps.dims}; name the dims so")
    problems.require(0 < share < 1, f"share: expected above 0 and below 1, got {share}")
    problems.require(maps.size > 0, "there are no values")
    if like is not None and fits:
        pixels = "pixels" in like.attrs and {"image", "y", "x"} <= set(like.coords)
        problems.require(pixels, "like: expected concepts that pixel_concepts made")
        if pixels:
            theirs = np.unique(like["image"].values).size
            ours = maps.sizes["image"]
            problems.require(ours == theirs, f"like: {theirs} images, maps of {ours}")
    problems.raise_as("masks")
