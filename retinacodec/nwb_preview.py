"""A few frames of an NWB movie as stored, both ways round, for a person to judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.nwb_contrast import sides_of
from retinacodec.nwb_movies import open_movie

__all__ = ["Preview", "preview"]


@dataclass(frozen=True)
class Preview:
    """Frames of a movie as an eye would see them under either order of the axes.

    Parameters
    ----------
    name : str
        The movie.
    frames : tuple of int
        Their numbers.
    xy, yx : ndarray (frame, row, column)
        Values of the file with rows downwards, if its axes are (frame, x, y) or (frame, y, x).
        They are the same where the order is known.
    known : bool
        True where nobody needs to say the order.
    sides_um : dict of str to tuple of float
        Under ``"xy"`` and ``"yx"``: sides of a pixel by the stated field of view, um; empty
        without one. Sides that differ speak against an order.
    """

    name: str
    frames: tuple[int, ...]
    xy: NDArray[Any]
    yx: NDArray[Any]
    known: bool
    sides_um: dict[str, tuple[float, ...]]


def preview(
    file: h5py.File, path: str, name: str | None = None, *, frames: int = 4, **how: Any
) -> Preview:
    """Return a few frames of a movie, spread over it, as stored.

    Parameters
    ----------
    file : h5py.File
        An open NWB 2 file.
    path : str
        Its name, for messages.
    name : str, optional
        The movie, as in `open_movie`.
    frames : int, default 4
        How many.
    **how
        Further arguments of `open_movie`.

    Returns
    -------
    Preview
        The frames.

    Raises
    ------
    RecordingError
        If the movie cannot be opened.
    """
    if frames < 1:
        raise RecordingError(
            path, f"a preview of {frames} frames was asked for", "ask for 1 or more"
        )
    movie = open_movie(file, str(path), name, **how)
    pixels = movie.open_pixels()
    last = min(movie.flips[0].size, pixels.frames) - 1
    places = np.unique(np.linspace(0, last, frames).round().astype(int)).tolist()
    stored = np.concatenate(
        [pixels.values(movie.first_frames[0] + k, movie.first_frames[0] + k + 1) for k in places]
    )
    known = pixels.upright or movie.note is not None
    upright = stored.transpose(0, 2, 1)
    sides = {
        order: tuple(sides_of(movie.group, size))
        for order, size in (("xy", pixels.size), ("yx", pixels.size[::-1]))
    }
    return Preview(
        name=movie.name,
        frames=tuple(places),
        xy=upright,
        yx=upright if known else stored,
        known=known,
        sides_um={order: found for order, found in sides.items() if found},
    )
