"""Pictures that show of an image only what a mode's channels answer to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_masked", "map_mask", "masked_picture"]

Array = npt.NDArray[Any]


def map_mask(
    maps: xr.DataArray | npt.ArrayLike, *, window: int = 4, gain: float = 7.0, colour: str = "mean"
) -> Array:
    """Return how much of each pixel a map leaves visible.

    Parameters
    ----------
    maps : xarray.DataArray or array_like (channel, y, x)
        Contribution of each pixel; of a map with signs, their sum.
    window : int, default 4
        Side of the median filter, pixels; 1 for none.
    gain : float, default 7.0
        What the mask is multiplied by before it is clipped, above 0.
    colour : {"mean", "max"}, default "mean"
        How the colours of a pixel are put together.

    Returns
    -------
    ndarray (y, x)
        0, hidden, to 1, as it is; 0 everywhere if the map is the same everywhere.

    Raises
    ------
    InputError
        If the map is no image or not finite, or a setting is out of range.

    Notes
    -----
    ``m = median(|M|)`` in each colour, then over colours; ``clip(gain (m - min m) /
    max(m - min m), 0, 1)``.

    References
    ----------
    Melander et al., ICLR 2026, Figure 7.
    """
    from scipy.ndimage import median_filter

    if isinstance(maps, xr.DataArray):
        maps = maps.sum("sign") if "sign" in maps.dims else maps
        if set(maps.dims) == {"channel", "y", "x"}:
            maps = maps.transpose("channel", "y", "x")
    values = np.asarray(maps, dtype=np.float64)
    problems = Problems()
    problems.require(values.ndim == 3, f"expected one map (channel, y, x), got {values.shape}")
    problems.require(bool(np.isfinite(values).all()), "the map is NaN or infinite")
    problems.require(window >= 1, f"window: expected at least 1 pixel, got {window}")
    problems.require(gain > 0, f"gain: expected above 0, got {gain}")
    problems.require(colour in ("mean", "max"), f"colour: expected mean or max, got {colour!r}")
    problems.raise_as("map_mask")
    smooth = np.stack([median_filter(one, size=window) for one in np.abs(values)])
    flat = smooth.mean(axis=0) if colour == "mean" else smooth.max(axis=0)
    flat = flat - flat.min()
    most = flat.max()
    return np.clip(gain * flat / most, 0, 1) if most > 0 else flat


def masked_picture(pixels: npt.ArrayLike, mask: npt.ArrayLike) -> Array:
    """Return a picture (y, x, 3), 0 to 1, dark where a mask (y, x) hides it.

    Parameters
    ----------
    pixels : array_like (y, x, 3)
        The picture, 0 to 1; `retinacodec.preprocessing.Preprocess.pixels` makes it of an image.
    mask : array_like (y, x)
        What `map_mask` returns.

    Raises
    ------
    InputError
        If they differ in size.
    """
    seen, share = np.asarray(pixels, dtype=np.float64), np.asarray(mask, dtype=np.float64)
    if seen.ndim != 3 or seen.shape[:2] != share.shape:
        raise InputError(
            f"masked_picture: expected (y, x, 3) and a mask (y, x), got {seen.shape}, {share.shape}"
        )
    return seen * share[..., None]


def draw_masked(
    pixels: npt.ArrayLike,
    maps: xr.DataArray | npt.ArrayLike,
    ax: Axes,
    *,
    window: int = 4,
    gain: float = 7.0,
    title: str = "",
) -> Axes:
    """Draw a picture that shows only what a map points at.

    Parameters
    ----------
    pixels : array_like (y, x, 3)
        The picture, 0 to 1.
    maps : xarray.DataArray or array_like (channel, y, x)
        Contribution of each pixel.
    ax : matplotlib.axes.Axes
        Where to draw.
    window, gain
        As in `map_mask`.
    title : str, optional
        Words above it.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.

    Raises
    ------
    InputError
        As in `map_mask` and `masked_picture`.
    """
    ax.imshow(masked_picture(pixels, map_mask(maps, window=window, gain=gain)))
    ax.set_xticks([])
    ax.set_yticks([])
    if title:
        ax.set_title(title)
    return ax
