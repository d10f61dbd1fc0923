"""Which frames and cells of fields are taken, how many at a time, and what each frame counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems

__all__ = ["batch_starts", "mean_weights", "positions"]


def batch_starts(frames: int, batch: int) -> range:
    """Return where batches of frames begin.

    Parameters
    ----------
    frames : int
        How many there are.
    batch : int
        Frames computed at a time.

    Returns
    -------
    range
        0, `batch`, ... below `frames`.

    Raises
    ------
    InputError
        If a batch holds no frame.
    """
    if batch < 1:
        raise InputError(f"batch: expected at least 1 frame, got {batch}")
    return range(0, frames, batch)


def mean_weights(weights: xr.DataArray | npt.ArrayLike | None, frames: int) -> xr.DataArray:
    """Return the weights of a mean over frames as an array with names.

    Parameters
    ----------
    weights : xarray.DataArray (time[, cell][, ...]) or array_like (time[, cell]), optional
        As in `LatentFields.mean`.
    frames : int
        How many there are.

    Returns
    -------
    xarray.DataArray (time[, cell][, ...])
        One a frame; all 1 if left out.

    Raises
    ------
    InputError
        If there is not one weight for each frame.
    """
    if weights is None:
        weights = np.ones(frames)
    if not isinstance(weights, xr.DataArray):
        values = np.asarray(weights)
        if values.ndim not in (1, 2):
            raise InputError(f"weights: expected (time[, cell]), got shape {values.shape}")
        weights = xr.DataArray(values, dims=("time", "cell")[: values.ndim])
    if weights.sizes.get("time") != frames:
        raise InputError(
            f"weights: expected dims (time, ...) with {frames} frames, got {dict(weights.sizes)}"
        )
    return weights


def positions(rate: xr.DataArray, *, time: Any, cell: Any) -> dict[str, Any]:
    """Return positions along time and cells as `isel` takes them.

    Parameters
    ----------
    rate : xarray.DataArray (time, cell)
        What there is to choose from.
    time, cell : array_like, slice or None
        Positions or a mask; all if None.

    Returns
    -------
    dict
        What was given, one-dimensional.

    Raises
    ------
    InputError
        If there is no such frame or cell.
    """
    chosen: dict[str, Any] = {}
    problems = Problems()
    for dim, index in (("time", time), ("cell", cell)):
        if isinstance(index, slice):
            chosen[dim] = index
        elif index is not None:
            count = rate.sizes[dim]
            chosen[dim] = places = np.atleast_1d(index if np.size(index) else np.zeros(0, int))
            if places.dtype == bool:
                fits = places.shape == (count,)
            else:
                whole = np.issubdtype(places.dtype, np.integer) and places.ndim == 1
                fits = whole and bool(((places >= -count) & (places < count)).all())
            problems.require(
                fits,
                f"select: expected positions of {dim} from 0 to {count - 1} or a mask of {count}, "
                f"got {places.tolist()[:5]}",
            )
    problems.raise_as("fields")
    return chosen
