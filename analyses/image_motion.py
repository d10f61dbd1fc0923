"""How the picture moves from frame to frame: least squares on its gradients, region by region."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems
from retinacodec.schema import check_stimulus

__all__ = ["image_motion"]

Array = npt.NDArray[Any]
_CHUNK = 256
_RIDGE = 1e-4
_NEARER = 1e-3
_ENOUGH = 0.1
_PAD = 2  # taps of a filter beside its middle
_FLAT = 1e-9
_SMOOTH = (0.037659, 0.249153, 0.426375, 0.249153, 0.037659)
_SLOPE = (0.109604, 0.276691, 0.0, -0.276691, -0.109604)


def image_motion(
    movie: xr.Dataset,
    *,
    weight: npt.ArrayLike | None = None,
    reach: int = 2,
) -> xr.Dataset:
    """Estimate the velocity of the picture in each frame, over the whole frame or a region.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus, with ``contrast`` (time, y, x).
    weight : array_like (y, x), optional
        How much each pixel counts, at least 0; all alike if left out.
    reach : int, default 2
        Displacements of up to so many whole pixels a frame are tried, along y and x, where a
        smaller movement explains less than nine tenths of the change.

    Returns
    -------
    xarray.Dataset
        Over time: ``velocity_x`` and ``velocity_y``, um/s, of the movement since the frame before;
        ``change``, the weighted mean squared change since that frame, without a change of the mean
        luminance; and ``remainder``, the part of it that the movement leaves unexplained, both in
        contrast squared. The first frame has 0 in all four, as has a region without structure.

    Raises
    ------
    InputError
        If the movie is no Stimulus, is smaller than the reach, or the weights do not fit.

    Notes
    -----
    The whole-pixel displacement ``d`` is that with the smallest weighted squared difference
    between frame t and the shifted frame t - 1 (block matching). The rest is one step of Lucas and
    Kanade's least squares: with the temporal difference ``g_t`` and the spatial gradient ``g`` of
    their mean, both less their weighted means, ``e = -(sum w g g' + r I)^-1 sum w g g_t``. The
    small ridge r leaves a component without gradient at 0, so that a grating moves across its
    bars. ``velocity = (d + e) pixel_um frame_rate``, both in units of pixels a frame. All frames
    are smoothed, and gradients taken, by a pair of five-tap filters made for each other, where
    plain differences would overestimate velocities by a sixth.

    References
    ----------
    .. [1] Lucas & Kanade, Proceedings of the 7th IJCAI, 674, 1981.
    .. [2] Farid & Simoncelli, IEEE Trans Image Processing 13, 496, 2004, table I (filters).

    Examples
    --------
    >>> from retinacodec.schema import make_stimulus
    >>> y, x = np.mgrid[:20, :20] * 2 * np.pi / 20
    >>> texture = np.sin(x) + np.sin(y)
    >>> frames = [np.roll(texture, k, axis=1) for k in range(3)]
    >>> movie = make_stimulus(frames, frame_rate=10, pixel_um=50, name="shift")
    >>> image_motion(movie)["velocity_x"].values.round(-2).tolist()
    [0.0, 500.0, 500.0]
    """
    check_stimulus(movie)
    contrast = movie["contrast"].transpose("time", "y", "x").values
    weights = _weights(weight, contrast.shape[1:], reach)
    contrast, weights = _cropped(contrast, weights, max(1, reach))
    found = np.zeros((4, len(contrast)))
    for first in range(1, len(contrast), _CHUNK):
        last = min(first + _CHUNK, len(contrast))
        frames = contrast[first - 1 : last].astype(np.float32)
        found[:, first:last] = _moves(frames, weights, reach)
    scale = movie.attrs["pixel_um"] * movie.attrs["frame_rate"]
    data: dict[str, Any] = {
        "velocity_x": ("time", found[0] * scale, {"units": "um/s"}),
        "velocity_y": ("time", found[1] * scale, {"units": "um/s"}),
        "change": ("time", found[2], {"units": "1"}),
        "remainder": ("time", found[3], {"units": "1"}),
    }
    return xr.Dataset(data, coords={"time": movie["time"]}, attrs={"kind": "image motion"})


def _weights(weight: npt.ArrayLike | None, shape: tuple[int, ...], reach: int) -> Array:
    """Return the weights (y, x) of the pixels that no shift loses, with sum 1."""
    problems = Problems()
    problems.require(reach >= 0, f"reach: expected pixels of at least 0, got {reach}")
    edge = max(1, reach)
    fits = min(shape) > 2 * edge
    problems.require(fits, f"reach: {reach} pixels a frame are too many for frames of {shape}")
    given = np.ones(shape) if weight is None else np.asarray(weight, dtype=np.float64)
    same = given.shape == shape and bool((given >= 0).all())
    problems.require(same, f"weight: expected numbers of at least 0 (y, x) {shape}")
    problems.raise_as("image_motion")
    inner = given[edge:-edge, edge:-edge]
    if not inner.sum() > 0:
        raise InputError("image_motion: no pixel with a weight is away from the border")
    return (inner / inner.sum()).astype(np.float32)


def _cropped(contrast: Array, weights: Array, edge: int) -> tuple[Array, Array]:
    """Return the part of the frames (time, y, x) that the weights (inner y, x) need, and these."""
    parts = []
    for axis, size in enumerate(weights.shape):
        used = np.flatnonzero(weights.any(axis=1 - axis))
        parts.append((max(used[0] - _PAD, 0), min(used[-1] + 1 + _PAD, size)))
    (top, low), (left, right) = parts
    frames = contrast[:, top : low + 2 * edge, left : right + 2 * edge]
    return frames, np.ascontiguousarray(weights[top:low, left:right])


def _moves(frames: Array, weights: Array, reach: int) -> Array:
    """Return displacements x and y (pixels), change and remainder of all frames but the first."""
    edge = max(1, reach)
    shape = (frames.shape[1] - 2 * edge, frames.shape[2] - 2 * edge)
    smooth = _filtered(frames, _SMOOTH, _SMOOTH)
    slopes = (_filtered(frames, _SMOOTH, _SLOPE), _filtered(frames, _SLOPE, _SMOOTH))

    def past(values: Array, step: tuple[int, int], rows: Any = slice(None)) -> Array:
        top, left = edge - step[0], edge - step[1]
        found: Array = values[:-1][rows, top : top + shape[0], left : left + shape[1]]
        return found

    def here(values: Array, rows: Any = slice(None)) -> Array:
        found: Array = values[1:][rows, edge:-edge, edge:-edge]
        return found

    def refined(step: tuple[int, int], rows: Any = slice(None)) -> tuple[Array, Array, Array]:
        mean = [(here(one, rows) + past(one, step, rows)) / 2 for one in slopes]
        change = here(smooth, rows) - past(smooth, step, rows)
        return _refined(np.stack([*mean, change]), weights)

    still = _variance(here(smooth) - past(smooth, (0, 0)), weights)
    found = np.stack([*refined((0, 0)), still])[[0, 1, 3, 2]]
    far = np.flatnonzero((found[3] > _ENOUGH * still) & (still > _FLAT))
    if reach and far.size:
        steps = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
        now = here(smooth, far)
        errors = np.stack([_variance(now - past(smooth, one, far), weights) for one in steps])
        price = _NEARER * np.array([y * y + x * x for y, x in steps])
        best = (errors + price[:, None] * still[far]).argmin(axis=0)
        for number in np.unique(best):
            rows, step = far[best == number], steps[number]
            right, down, remainder = refined(step, rows)
            found[:, rows] = step[1] + right, step[0] + down, still[rows], remainder
    return np.where(still > _FLAT, found, 0.0)


def _filtered(frames: Array, down: tuple[float, ...], across: tuple[float, ...]) -> Array:
    """Filter frames (time, y, x) along y and x."""
    from scipy.ndimage import convolve1d

    half: Array = convolve1d(frames, np.array(down), axis=1, mode="nearest")
    both: Array = convolve1d(half, np.array(across), axis=2, mode="nearest")
    return both


def _refined(parts: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return the rest of the displacement (x, y; pixels) and what it leaves unexplained.

    The parts (part, time, y, x) are the slopes along x and y and the change.
    """
    parts = parts - np.einsum("ktyx,yx->kt", parts, weights)[:, :, None, None]
    moments = np.einsum("ityx,jtyx->ijt", parts * weights, parts, optimize=True).astype(float)
    ridge = _RIDGE * (moments[0, 0] + moments[1, 1]) + _FLAT
    a, b, c = moments[0, 0] + ridge, moments[0, 1], moments[1, 1] + ridge
    p, q = -moments[0, 2], -moments[1, 2]
    size = a * c - b * b
    right, down = (c * p - b * q) / size, (a * q - b * p) / size
    left = moments[2, 2] + 2 * (right * moments[0, 2] + down * moments[1, 2])
    left += right**2 * moments[0, 0] + 2 * right * down * b + down**2 * moments[1, 1]
    return right, down, np.maximum(left, 0)


def _variance(values: Array, weights: Array) -> Array:
    """Return the weighted variance (time,) of values (time, y, x)."""
    mean = np.einsum("tyx,yx->t", values, weights, optimize=True)
    square = np.einsum("tyx,tyx,yx->t", values, values, weights, optimize=True)
    return np.maximum(square.astype(float) - mean.astype(float) ** 2, 0)
