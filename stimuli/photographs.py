"""Image files as luminance: which files of a folder are images, and how one is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError

__all__ = ["IMAGE_SUFFIXES", "find_files", "read_photograph"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pgm")

_RAW_MODES = ("F", "I")  # wide integers and floats, which Pillow would clip on conversion to grey


def find_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of a folder with one of the suffixes, sorted by name; hidden ones are not.

    Parameters
    ----------
    folder : Path
        The folder; folders inside it are not searched.
    suffixes : tuple of str
        Endings in lower case, with their dot.

    Returns
    -------
    list of Path
        The files.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def read_photograph(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Read an image as grey values, cropped around its centre and resampled to a shape.

    Parameters
    ----------
    path : Path
        An image that Pillow can read. Colours become luma (Rec. 601), transparency is ignored,
        and the camera's orientation tag is obeyed.
    shape : (int, int)
        Pixels (y, x) wanted.

    Returns
    -------
    ndarray (y, x)
        float32 grey values as they are stored (0 to 255 for most files), at least 0.

    Raises
    ------
    InputError
        If the file cannot be read as an image or holds values below 0 or not finite.

    Notes
    -----
    The largest centred rectangle of the wanted aspect ratio is resampled with a triangle filter
    as wide as two pixels of the coarser side, so that shrinking does not alias.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            grey = upright if upright.mode[:1] in _RAW_MODES else upright.convert("L")
            values = np.asarray(grey, dtype=np.float32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: expected an image, got {type(error).__name__} ({error}); "
            "remove the file or save it again as PNG"
        ) from error
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise InputError(f"{path}: grey values must be finite and at least 0")
    height, width = values.shape
    scale = min(height / shape[0], width / shape[1])
    tall, wide = min(shape[0] * scale, height), min(shape[1] * scale, width)
    box = ((width - wide) / 2, (height - tall) / 2, (width + wide) / 2, (height + tall) / 2)
    resized = Image.fromarray(values).resize(shape[::-1], Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized, dtype=np.float32)
