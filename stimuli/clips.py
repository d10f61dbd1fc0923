"""Movie files as luminance frames: the only stimulus file that knows PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError

__all__ = ["MOVIE_SUFFIXES", "average_areas", "clip_frames"]

MOVIE_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".wmv")

Image = npt.NDArray[np.float32]

_ROUNDING_S = 1e-3  # files round their frame times, Matroska to the millisecond


def clip_frames(path: Path, *, size: tuple[int, int], frame_rate: float) -> Iterator[Image]:
    """Yield the frames of a movie file at another size and frame rate.

    Parameters
    ----------
    path : Path
        A file on this machine that PyAV can decode.
    size : (int, int)
        Pixels (y, x) wanted: the largest centred rectangle of this aspect ratio is averaged over
        the area of each pixel.
    frame_rate : float
        Frames per second wanted, Hz. Frame k shows what the file shows at time ``k / frame_rate``
        after its first frame, as a display would, to the millisecond; nothing is blended.

    Yields
    ------
    ndarray (y, x)
        float32 luma, 0 to 255.

    Raises
    ------
    InputError
        If the file is no movie or breaks off where it should not.
    """
    shown = 0
    weights: tuple[Image, Image] | None = None
    for luma, end in _timed_frames(path):
        if shown / frame_rate >= end - _ROUNDING_S:
            continue
        if weights is None or (weights[0].shape[1], weights[1].shape[1]) != luma.shape:
            weights = average_areas(luma.shape, size)
        small: Image = weights[0] @ luma.astype(np.float32) @ weights[1].T
        while shown / frame_rate < end - _ROUNDING_S:
            yield small
            shown += 1


def average_areas(shape: tuple[int, int], size: tuple[int, int]) -> tuple[Image, Image]:
    """Return the weights that average a centred crop over the area of each new pixel.

    Parameters
    ----------
    shape : (int, int)
        Pixels (y, x) there are.
    size : (int, int)
        Pixels (y, x) wanted.

    Returns
    -------
    down : ndarray (size[0], shape[0])
        float32 weights along y; each row sums to 1.
    across : ndarray (size[1], shape[1])
        float32 weights along x, so that ``small = down @ image @ across.T``.

    Examples
    --------
    >>> down, across = average_areas((4, 6), (2, 2))
    >>> across.tolist()
    [[0.0, 0.5, 0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5, 0.5, 0.0]]
    """
    scale = min(shape[0] / size[0], shape[1] / size[1])
    sides = []
    for have, want in zip(shape, size, strict=True):
        edge = (have - want * scale) / 2 + scale * np.arange(want + 1)
        pixel = np.arange(have)
        overlap = np.minimum(edge[1:, None], pixel + 1) - np.maximum(edge[:-1, None], pixel)
        sides.append((np.clip(overlap, 0, None) / scale).astype(np.float32))
    return sides[0], sides[1]


def _timed_frames(path: Path) -> Iterator[tuple[npt.NDArray[np.uint8], float]]:
    """Yield luma (y, x) and end (s after the start of the first frame) of every frame."""
    waiting: npt.NDArray[np.uint8] | None = None
    onset = lasts = 0.0
    for luma, time, usual in _decoded(path):
        if waiting is not None:
            yield waiting, time
        waiting, onset, lasts = luma, time, usual
    if waiting is None:
        raise InputError(f"{path}: expected a movie, found no frame in it")
    yield waiting, onset + lasts


def _decoded(path: Path) -> Iterator[tuple[npt.NDArray[np.uint8], float, float]]:
    """Yield luma (y, x), time since the first frame and the nominal frame interval (s)."""
    import av

    count, first = 0, None
    try:
        # Playlists disguised as movies must not reach beyond this machine's files.
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise InputError(f"{path}: expected a movie, found no video stream in it")
            stream = container.streams.video[0]
            usual = float(1 / (stream.average_rate or stream.guessed_rate or 25))
            for frame in container.decode(stream):
                first, time = _clock(frame, first, count * usual)
                count += 1
                yield np.asarray(frame.to_ndarray(format="gray"), dtype=np.uint8), time, usual
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: cannot be decoded after frame {count} ({error}); "
            "expected a movie file that ffmpeg plays"
        ) from error


def _clock(frame: Any, first: float | None, counted: float) -> tuple[float | None, float]:
    """Return the time of the first frame, and this frame's time after it."""
    if frame.pts is None or frame.time_base is None:
        return first, counted
    now = float(frame.pts * frame.time_base)
    first = now if first is None else first
    return first, now - first
