"""Pictures written as a video file, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atomic import replacing
from retinacodec.errors import InputError

__all__ = ["write_video"]


def write_video(
    path: str | Path,
    pictures: Iterable[npt.NDArray[np.uint8]],
    *,
    frame_rate: float,
    overwrite: bool = False,
) -> Path:
    """Write pictures as a video that every player shows.

    Parameters
    ----------
    path : str or Path
        Where to, with a name that ends in .mp4.
    pictures : iterable of ndarray (y, x, 3) of uint8
        Red, green and blue, all of one size; an odd last row or column is left out.
    frame_rate : float
        Pictures a second, above 0.
    overwrite : bool, default False
        Replace a file of this name.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the name, the rate or a picture cannot be used, there is no picture, or something is
        there already.

    Notes
    -----
    H.264 in an MP4 file with colours at half resolution, the form that browsers and slides play.
    """
    target = Path(path)
    if target.suffix != ".mp4":
        raise InputError(f"{target}: expected a name ending in .mp4, got {target.name!r}")
    if not frame_rate > 0:
        raise InputError(f"frame_rate: expected pictures a second above 0, got {frame_rate}")
    with replacing(target, overwrite=overwrite) as temporary:
        count = _encode(temporary, pictures, Fraction(frame_rate).limit_denominator(1000))
        if not count:
            raise InputError("video: expected at least one picture, got none")
    return target


def _encode(path: Path, pictures: Iterable[Any], rate: Fraction) -> int:
    """Write the pictures and return how many there were."""
    import av

    count, stream = 0, None
    with av.open(str(path), "w", format="mp4") as container:
        for count, picture in enumerate(pictures, start=1):
            image = np.ascontiguousarray(_even(picture))
            if stream is None:
                stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            if image.shape[:2] != (stream.height, stream.width):
                raise InputError(f"video: picture {count} has another size, {image.shape[:2]}")
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
    return count


def _even(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a picture with an even number of rows and columns, as the format asks for."""
    values = np.asarray(picture)
    if values.ndim != 3 or values.shape[2] != 3 or values.dtype != np.uint8:
        raise InputError(
            f"video: expected pictures (y, x, 3) of uint8, got {values.dtype} {values.shape}"
        )
    return values[: values.shape[0] // 2 * 2, : values.shape[1] // 2 * 2]
