"""How pixels of a picture become what a classifier reads, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError, Problems

__all__ = ["CIFAR", "IMAGENET", "LITE", "PREPROCESSES", "TF", "Preprocess", "read_pixels"]

Pixels = npt.NDArray[np.uint8]

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
_COLOURS = ("RGB", "BGR")


@dataclass(frozen=True)
class Preprocess:
    """How pixels become what a classifier reads.

    Parameters
    ----------
    size : int, optional
        Side of the square that the network reads, pixels; left out, pictures keep their size.
    crop : float, default 0.875
        Share of the shorter side that the centred square keeps, above 0 and at most 1. Only
        with `size`.
    mean, std : tuple of float
        Of each colour, in units of the scaled pixels; one number stands for all colours.
    scale : float, default 1 / 255
        What pixels, 0 to 255, are multiplied by first.
    interpolation : str, default "bilinear"
        ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"lanczos"``, ``"box"`` or ``"hamming"``.
    colours : {"RGB", "BGR"}, default "RGB"
        Order of the colours that the network reads.

    Raises
    ------
    InputError
        If a number is out of range; all of them in one message.

    Notes
    -----
    ``(scale * pixel - mean) / std``. The square is cut and resampled at once, by a filter as wide
    as a pixel of the coarser side.

    Examples
    --------
    >>> TF(np.full((256, 256, 3), 255, dtype=np.uint8)).max()
    np.float32(1.0)
    """

    size: int | None = 224
    crop: float = 0.875
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1 / 255
    interpolation: str = "bilinear"
    colours: str = "RGB"

    def __post_init__(self) -> None:
        problems = Problems()
        whole = self.size is None or (isinstance(self.size, int) and self.size > 0)
        problems.require(whole, f"size: expected pixels > 0, got {self.size!r}")
        problems.require(0 < self.crop <= 1, f"crop: expected in (0, 1], got {self.crop}")
        known = self.interpolation in _INTERPOLATIONS
        problems.require(
            known, f"interpolation: expected one of {_INTERPOLATIONS}, got {self.interpolation!r}"
        )
        problems.require(
            self.colours in _COLOURS, f"colours: expected one of {_COLOURS}, got {self.colours!r}"
        )
        for name in ("mean", "std"):
            count = len(getattr(self, name))
            problems.require(count in (1, 3), f"{name}: expected 1 or 3 numbers, got {count}")
        numbers = (*self.mean, *self.std, self.scale)
        problems.require(all(map(math.isfinite, numbers)), "mean, std, scale: expected finite")
        problems.require(min(self.std) > 0 and self.scale > 0, "std, scale: expected above 0")
        problems.raise_as("preprocess")

    def __call__(self, pixels: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return what the network reads of a picture.

        Parameters
        ----------
        pixels : array_like (y, x) or (y, x, 3) of uint8
            Grey levels, or red, green and blue.

        Returns
        -------
        ndarray (channel, y, x)
            float32, in units of the network.

        Raises
        ------
        InputError
            If the pixels are not 8-bit, or have another shape.
        """
        square = self.square(pixels).astype(np.float32)
        ordered = square if self.colours == "RGB" else square[..., ::-1]
        mean, std = (np.asarray(one, dtype=np.float32) for one in (self.mean, self.std))
        values = (ordered * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)

    def square(self, pixels: npt.ArrayLike) -> Pixels:
        """Return the square (y, x, 3) of a picture that the network sees, as pixels."""
        from PIL import Image

        whole = _coloured(pixels)
        if self.size is None:
            return whole
        height, width = whole.shape[:2]
        side = min(height, width) * self.crop
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        if side == self.size and left.is_integer() and top.is_integer():
            x, y = int(left), int(top)
            return np.ascontiguousarray(whole[y : y + self.size, x : x + self.size])
        way = Image.Resampling[self.interpolation.upper()]
        resized = Image.fromarray(whole).resize((self.size, self.size), way, box=box)
        return np.asarray(resized, dtype=np.uint8)

    def pixels(self, images: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the pixels (..., y, x, 3), 0 to 1, of images (..., channel, y, x)."""
        values = np.moveaxis(np.asarray(images, dtype=np.float64), -3, -1)
        pixels = (values * np.asarray(self.std) + np.asarray(self.mean)) / self.scale / 255
        return (pixels if self.colours == "RGB" else pixels[..., ::-1]).clip(0, 1)


IMAGENET = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Of torchvision's ImageNet networks, and of most of timm's."""

TF = Preprocess(mean=(1.0,), scale=1 / 127.5)
"""``x / 127.5 - 1``, of networks that come from TensorFlow."""

LITE = Preprocess(mean=(127.0,), std=(128.0,), scale=1.0, interpolation="bicubic")
"""``(x - 127) / 128``, of EfficientNet-Lite."""

CIFAR = Preprocess(
    size=32, crop=1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="box"
)
"""Of small residual networks for CIFAR that are normalised as for ImageNet."""

PREPROCESSES: Mapping[str, Preprocess] = MappingProxyType(
    {"imagenet": IMAGENET, "tf": TF, "lite": LITE, "cifar": CIFAR}
)
"""The ready-made ones, by the name that the command line takes."""


def read_pixels(path: str | Path) -> Pixels:
    """Return the pixels (y, x, 3) of an image file, upright, in red, green and blue.

    Parameters
    ----------
    path : str or Path
        Any format that Pillow reads.

    Returns
    -------
    ndarray (y, x, 3) of uint8
        Pixels; grey pictures have three equal colours, transparency is left out.

    Raises
    ------
    InputError
        If the file is missing or cannot be read as an image; the message names it.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode[:1] in ("I", "F"):
                raise InputError(f"{path}: expected 8 bits a colour, got mode {upright.mode}")
            return np.asarray(upright.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: expected an image, got {type(error).__name__} ({error}); "
            "remove the file or save it again as PNG"
        ) from error


def _coloured(pixels: Any) -> Pixels:
    values = np.asarray(pixels)
    if values.dtype != np.uint8:
        raise InputError(
            f"picture: expected 8-bit pixels, 0 to 255, got {values.dtype}; what is preprocessed "
            "already goes to the circuit as (image, channel, y, x)"
        )
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, axis=-1)
    if values.ndim != 3 or values.shape[2] != 3 or 0 in values.shape:
        raise InputError(f"picture: expected (y, x) or (y, x, 3), got {values.shape}")
    return values
