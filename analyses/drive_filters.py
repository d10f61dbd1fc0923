"""The output of a cell's linear filter on frames that the filter has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.analyses.field_windows import window_squares
from retinacodec.analyses.regularised_fields import regularised_fields
from retinacodec.analyses.triggered_responses import TriggeredResponses
from retinacodec.errors import InputError
from retinacodec.lagged_products import filtered
from retinacodec.triggered_sums import triggered_sum

if TYPE_CHECKING:
    from retinacodec.field_priors import FieldPrior

__all__ = ["crossed_drive", "given_drive"]

Array = npt.NDArray[Any]


def given_drive(
    movie: xr.Dataset, fields: xr.DataArray, given: TriggeredResponses, latency: int
) -> Array:
    """Return the output of known filters, with mean 0 and variance 1.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus.
    fields : xarray.DataArray (cell, lag, y, x)
        Filters of the cells, oldest frame first.
    given : TriggeredResponses
        Responses of the same cells.
    latency : int
        Frames between the newest frame of the window and the response.

    Returns
    -------
    ndarray (time, cell)
        Drive; NaN without a whole window or where a filter is NaN or 0.

    Raises
    ------
    InputError
        If there are not as many filters as cells, or they have other pixels.
    """
    cells = given.known.shape[1]
    if fields.sizes["cell"] != cells:
        raise InputError(f"fields: expected {cells} cells, got {fields.sizes['cell']}")
    drive = filtered(movie["contrast"].values, fields.values, latency=latency)
    return _standard(drive, given.known)


def crossed_drive(
    movie: xr.Dataset,
    recording: xr.Dataset | xr.DataArray,
    given: TriggeredResponses,
    history: int,
    latency: int,
    prior: FieldPrior | None,
    window: int | None,
    folds: int,
) -> Array:
    """Return the output of filters that were estimated on other frames.

    Parameters
    ----------
    movie, recording
        Stimulus and responses.
    given : TriggeredResponses
        The responses on the movie's frames.
    history, latency : int
        Frames of a filter, and between its newest frame and the response.
    prior : FieldPrior, optional
        For `regularised_fields`; the average of the movie weighted by the responses less their
        mean if left out.
    window : int or None
        Pixels on each side of the square of a filter.
    folds : int
        Contiguous parts of the frames. The filter for one is estimated on the others, less a
        history on both sides.

    Returns
    -------
    ndarray (time, cell)
        Drive, of mean 0 and variance 1 on the frames of its filter; NaN where there is none.

    Raises
    ------
    InputError
        If there are too few frames for so many folds.
    """
    rows = np.flatnonzero(given.known.any(axis=1))
    gap = history + latency
    if rows.size < folds * 4 * gap:
        raise InputError(
            f"folds: {rows.size} frames are too few for {folds} parts of {4 * gap} frames; use "
            "fewer folds= or a shorter history="
        )
    contrast = movie["contrast"].values
    drive = np.full(given.known.shape, np.nan)
    for part in np.array_split(rows, folds):
        others = rows[(rows < part[0] - gap) | (rows > part[-1] + gap)]
        if prior is None:
            fields = _averages(contrast, given, others, history, latency, window)
        else:
            fitted = regularised_fields(
                movie,
                recording,
                history=history,
                latency=latency,
                prior=prior,
                window=window,
                frames=others,
            )
            fields = np.where(fitted["inside"].values[:, None], fitted["field"].values, 0.0)
        seen = np.zeros_like(given.known)
        seen[others] = given.known[others]
        output = filtered(contrast, fields, latency=latency)
        drive[part] = _standard(output, seen)[part]
    return drive


def _averages(
    contrast: Array,
    given: TriggeredResponses,
    frames: Array,
    history: int,
    latency: int,
    window: int | None,
) -> Array:
    """Return covariances of response and movie (cell, lag, y, x), 0 outside each window."""
    known = np.zeros_like(given.known)
    known[frames] = given.known[frames]
    part = TriggeredResponses(
        np.where(known, given.weights, 0).astype(np.float32), known, given.cell, given.counted
    )
    squares = window_squares(contrast, part, history, latency, window)
    movie, weights = torch.from_numpy(contrast), torch.from_numpy(part.centred)
    shared = triggered_sum(movie, weights, history, latency).numpy()
    fields = np.zeros_like(shared)
    for cell, square in enumerate(squares):
        fields[cell][:, *square.pixels] = shared[cell][:, *square.pixels]
    return fields


def _standard(output: Array, seen: Array) -> Array:
    """Return filter outputs less their mean, in standard deviations, both over the frames seen."""
    kept = np.where(seen & np.isfinite(output), output, 0.0)
    count = np.maximum((seen & np.isfinite(output)).sum(axis=0), 1)
    mean = kept.sum(axis=0) / count
    spread = np.sqrt((kept**2).sum(axis=0) / count - mean**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(spread > 0, (output - mean) / spread, np.nan))
