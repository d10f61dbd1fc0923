"""Pixels of a foreign file, as they lie there, as a movie for NWB 2: contrast, grid and flips."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.hdf5_safety import blaming
from retinacodec.import_choice import Choice
from retinacodec.nwb_coding import Block, note_of
from retinacodec.nwb_contrast import Contrast
from retinacodec.nwb_levels import Levels
from retinacodec.nwb_pixels import Extent

__all__ = ["checked_flips", "flip_rate", "mapping_of", "movie_block", "pixel_side"]

_SLAB_BYTES = 1 << 25

Array = NDArray[Any]


def mapping_of(data: Any, name: str, choice: Choice, path: str) -> Contrast:
    """Return how the pixels of a movie become contrast.

    Parameters
    ----------
    data : array or h5py.Dataset (time, y, x)
        Pixels.
    name : str
        Its name, for messages.
    choice : Choice
        The mapping asked for; by default ``(value - mean) / mean`` with the mean of these pixels.
    path : str
        Name of the file, for messages.

    Returns
    -------
    Contrast
        With a grey that is known.

    Raises
    ------
    RecordingError
        If the values are no light intensities and no contrast was given.
    """
    contrast = choice.contrast or Contrast()
    if contrast.grey is not None:
        return contrast
    extent = Extent()
    step = max(1, _SLAB_BYTES // max(1, 8 * int(np.prod(data.shape[1:]))))
    for start in range(0, len(data), step):
        extent.add(np.asarray(data[start : start + step]))
    return replace(contrast, grey=extent.mean(name, path, light=contrast.span is None))


def movie_block(
    data: Any,
    onsets: NDArray[np.float64],
    contrast: Contrast,
    *,
    name: str,
    description: str,
    pixel_um: float,
    path: str,
    parameters: Mapping[str, Any],
    rate: float | None = None,
) -> Block:
    """Prepare a movie whose pixels are read when they are written.

    Parameters
    ----------
    data : array or h5py.Dataset (time, y, x)
        Pixels.
    onsets : ndarray (time,)
        Flip times, s.
    contrast : Contrast
        From `mapping_of`.
    name, description : str
        Name and plain words.
    pixel_um : float
        Side of a pixel on the retina, um.
    path : str
        Name of the source, for messages.
    parameters : mapping
        What should travel with the movie.
    rate : float, optional
        Frames per second; by default that of the flips.

    Returns
    -------
    Block
        8-bit pixels stay as they are, with the contrast of each grey value; others become
        contrast in float32.
    """
    frames, height, width = data.shape
    levels = _levels(contrast) if data.dtype == np.uint8 else None
    attrs = {
        "kind": "stimulus",
        "name": name,
        "frame_rate": rate or flip_rate(onsets),
        "pixel_um": pixel_um,
        "parameters": json.dumps(
            {"grey": contrast.grey, "span": contrast.span, **parameters}, sort_keys=True
        ),
    }
    y_um, x_um = ((np.arange(size) - (size - 1) / 2) * pixel_um for size in (height, width))
    return Block(
        name=name,
        description=f"{description}, {width} x {height} pixels",
        note=note_of(attrs, frames=frames, y_um=y_um, x_um=x_um, levels=levels),
        shape=(frames, width, height),
        dtype=np.dtype(np.uint8 if levels else np.float32),
        read=_reader(data, contrast, levels, path),
        line=levels.line() if levels else (1.0, 0.0),
        onsets=onsets,
        field_um=(width * pixel_um, height * pixel_um),
        exact_onsets=True,
    )


def flip_rate(onsets: NDArray[np.float64]) -> float:
    """Return frames per second from the mean interval, leaving out dropped frames and gaps.

    Parameters
    ----------
    onsets : ndarray (time,)
        Flip times, s.

    Returns
    -------
    float
        Hz.
    """
    intervals = np.diff(onsets)
    usual = intervals[intervals < 1.5 * np.median(intervals)]
    return float(1 / usual.mean())


def checked_flips(times: Any, frames: int, what: str, path: str) -> NDArray[np.float64]:
    """Return flip times as seconds, one a frame.

    Parameters
    ----------
    times : array_like
        Times as the source has them.
    frames : int
        Frames of the movie.
    what : str
        Where they come from, for messages.
    path : str
        Name of the source, for messages.

    Returns
    -------
    ndarray (time,)
        Increasing.

    Raises
    ------
    RecordingError
        If their number is wrong, one is not finite, or they do not increase.
    """
    values = np.asarray(times)
    if values.dtype.kind not in "iuf":
        raise RecordingError(path, f"{what} holds {values.dtype}, expected seconds")
    onsets: NDArray[np.float64] = values.astype(np.float64).ravel()
    if onsets.size != frames:
        raise RecordingError(path, f"{what} has {onsets.size} times for {frames} frames")
    if frames < 2:
        raise RecordingError(path, f"{what}: {frames} frames are too few for a movie")
    if not np.isfinite(onsets).all() or (np.diff(onsets) <= 0).any():
        place = int(np.argmin(np.diff(onsets) > 0))
        raise RecordingError(
            path, f"{what} does not increase after frame {place}", "every frame needs its own time"
        )
    return onsets


def pixel_side(choice: Choice, shape: tuple[int, ...], path: str) -> float:
    """Return the side of a pixel, which must be given unless one pixel fills the field.

    Parameters
    ----------
    choice : Choice
        With the side, um.
    shape : (int, int, int)
        Frames and pixels of the movie.
    path : str
        Name of the source, for messages.

    Returns
    -------
    float
        um; 1 stands for the unknown size of a full field.

    Raises
    ------
    RecordingError
        If it is not known.
    """
    if choice.pixel_um is not None:
        if not (np.isfinite(choice.pixel_um) and choice.pixel_um > 0):
            raise RecordingError(path, f"pixel_um: expected um > 0, got {choice.pixel_um}")
        return float(choice.pixel_um)
    if tuple(shape[1:]) == (1, 1):
        return 1.0
    raise RecordingError(
        path,
        "does not say how large its pixels are on the retina",
        "give pixel_um= (about 55 in the published salamander recordings)",
    )


def _levels(contrast: Contrast) -> Levels:
    greys = np.arange(256)
    values = contrast.of(greys).astype(np.float64)
    return Levels(tuple(greys.tolist()), tuple(values.tolist()))


def _reader(
    data: Any, contrast: Contrast, levels: Levels | None, path: str
) -> Callable[[int, int], Array]:
    def read(start: int, stop: int) -> Array:
        with blaming(path):
            values = np.asarray(data[start:stop]).transpose(0, 2, 1)
        return values if levels else contrast.of(values)

    return read
