"""Reading the pixels of NWB movies in slabs, whichever way the file keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.nwb_external import Films
from retinacodec.nwb_spikes import text

__all__ = ["Extent", "Pixels", "has_pixels", "picture_numbers", "pixels_of"]

_SLAB_BYTES = 1 << 26

Array = NDArray[Any]


@dataclass(frozen=True)
class Pixels:
    """The pixels of a movie, read on demand.

    Parameters
    ----------
    frames : int
        Number of frames.
    size : (int, int)
        Length of the second and third axis in the file.
    raw : callable (start, stop) -> ndarray (frame, second, third)
        Numbers as stored.
    conversion, offset : float
        ``stored * conversion + offset`` is the value.
    upright : bool, default False
        The second axis is known to be x and the third y, so that nobody needs to say it: films
        have rows and columns, and what was drawn again has declared axes.
    contrasts : bool, default False
        The values are contrasts already.
    close : callable, optional
        Closes whatever is open beside the file itself.
    """

    frames: int
    size: tuple[int, int]
    raw: Callable[[int, int], Array]
    conversion: float = 1.0
    offset: float = 0.0
    upright: bool = False
    contrasts: bool = False
    close: Callable[[], None] = lambda: None

    def values(self, start: int, stop: int) -> Array:
        """Return the values of some frames, in the numbers stored where nothing is to convert."""
        stored = self.raw(start, stop)
        if self.conversion == 1.0 and self.offset == 0.0:
            return stored
        return stored.astype(np.float64) * self.conversion + self.offset

    @property
    def slab(self) -> int:
        """Number of frames that are comfortably read at once."""
        return max(1, _SLAB_BYTES // max(1, 8 * self.size[0] * self.size[1]))

    def slabs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the ends of slabs of frames."""
        for first in range(start, stop, self.slab):
            yield first, min(first + self.slab, stop)


class Extent:
    """Mean, least and greatest value of a movie that is seen slab by slab."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0
        self.least, self.most = np.inf, -np.inf

    def add(self, values: Array) -> None:
        """Take some more values into account."""
        self._total += float(values.sum(dtype=np.float64))
        self._count += values.size
        self.least = min(self.least, float(values.min()))
        self.most = max(self.most, float(values.max()))

    def mean(self, name: str, path: str | Path, *, light: bool = True) -> float:
        """Return the mean, or say why it is no mean grey.

        Parameters
        ----------
        name : str
            The movie, for messages.
        path : str or Path
            The file, for messages.
        light : bool, default True
            Values must be light intensities, because contrast is taken relative to their mean.

        Returns
        -------
        float
            The mean of all values.

        Raises
        ------
        RecordingError
            If values are not finite, all equal, or below zero where they should be intensities.
        """
        mean = self._total / max(1, self._count)
        hint = "say which value is mean grey and which difference is contrast 1 (contrast=)"
        if not np.isfinite(mean):
            raise RecordingError(path, f"{name} has pixels that are NaN or infinite")
        if self.least == self.most:
            raise RecordingError(path, f"every pixel of {name} is {mean:g}", hint)
        if light and self.least < 0:
            what = f"{name} has values from {self.least:g} to {self.most:g}"
            raise RecordingError(path, f"{what}, which are no light intensities", hint)
        return mean


def pixels_of(group: h5py.Group, path: str, allow_external: Sequence[str | Path] = ()) -> Pixels:
    """Open the pixels of a movie.

    Parameters
    ----------
    group : h5py.Group
        An OpticalSeries, ImageSeries or IndexSeries, or anything with frames in ``data``.
    path : str
        Name of the file, for messages.
    allow_external : sequence of str or Path
        Films, or folders of films, that may be opened although they do not lie in the folder of
        the NWB file.

    Returns
    -------
    Pixels
        Frames of an image series or of its films, or the pictures an index series points to, in
        its order.

    Raises
    ------
    RecordingError
        If the pixels lie in a film that may not or cannot be opened, or an index points past the
        pictures.
    """
    name = group.name.rsplit("/", 1)[-1]
    if text(group.attrs.get("neurodata_type", "")) == "IndexSeries":
        return _indexed(group, name, path, allow_external)
    if has_pixels(group) or ("external_file" not in group and is_flicker(group)):
        return _direct(group["data"], name, path)
    if "external_file" not in group:
        raise RecordingError(path, f"{name} has no pixels")
    films = Films(group, path, allow_external)
    films.tell()
    return Pixels(films.frames, films.size, films.raw, upright=True, close=films.close)


def has_pixels(group: h5py.Group) -> bool:
    """Tell whether a series holds frames itself.

    Parameters
    ----------
    group : h5py.Group
        The series.

    Returns
    -------
    bool
        True for data of three axes or more that are not empty.
    """
    data = group.get("data")
    return isinstance(data, h5py.Dataset) and data.ndim >= 3 and bool(data.size)


def is_flicker(thing: Any) -> bool:
    """Tell whether something is a series of one number, or of one row of numbers, a frame.

    Parameters
    ----------
    thing : object
        What lies in a file.

    Returns
    -------
    bool
        True for a series with times whose data are numbers (frame,) or (frame, bar).
    """
    if not isinstance(thing, h5py.Group) or not ({"timestamps", "starting_time"} & set(thing)):
        return False
    data = thing.get("data")
    plain = isinstance(data, h5py.Dataset) and data.ndim in (1, 2) and data.dtype.kind in "biuf"
    return plain and bool(data.size) and "indexed_images" not in thing


def _direct(data: h5py.Dataset, name: str, path: str) -> Pixels:
    if data.ndim > 4 or (data.ndim == 4 and data.shape[3] not in (1, 3, 4)):
        raise RecordingError(
            path,
            f"{name} has data of shape {data.shape}, expected "
            "(frame, x, y) or (frame, x, y, colour)",
        )
    if data.dtype.kind not in "biuf":
        raise RecordingError(path, f"{name} has pixels of type {data.dtype}, expected numbers")
    conversion = float(data.attrs.get("conversion", 1.0))
    offset = float(data.attrs.get("offset", 0.0))
    if not np.isfinite([conversion, offset]).all() or conversion == 0:
        raise RecordingError(path, f"{name} has conversion {conversion:g} and offset {offset:g}")
    size = (*data.shape[1:3], 1, 1)[:2]  # (1, 1) for flicker, (bars, 1) for bars

    def raw(start: int, stop: int) -> Array:
        stored = data[start:stop]
        return _grey(stored if stored.ndim > 2 else stored.reshape(-1, *size))

    return Pixels(len(data), size, raw, conversion, offset)


def _grey(frames: Array) -> Array:
    """Average the colours, leaving out transparency."""
    if frames.ndim == 3:
        return frames
    colours = frames[..., :3]
    return colours[..., 0] if colours.shape[3] == 1 else colours.mean(axis=3)


def picture_numbers(group: h5py.Group, path: str, count: int | None = None) -> NDArray[np.intp]:
    """Return which picture each frame of an index series shows.

    Parameters
    ----------
    group : h5py.Group
        The series.
    path : str
        Name of the file, for messages.
    count : int, optional
        How many pictures there are.

    Returns
    -------
    ndarray (frame,)
        Numbers from 0 on; whole numbers stored as floats count as such.

    Raises
    ------
    RecordingError
        If a number is not whole, or there is no such picture.
    """
    name = group.name.rsplit("/", 1)[-1]
    index = np.asarray(group["data"][()])
    if index.ndim != 1 or index.dtype.kind not in "iuf":
        raise RecordingError(path, f"{name} has picture numbers of shape {index.shape}")
    broken = np.flatnonzero(index != np.round(index))  # NaN differs from itself
    if broken.size:
        raise RecordingError(
            path,
            f"{name} shows picture {index[broken[0]]} in frame {broken[0]}",
            "pictures have whole numbers",
        )
    beyond = np.flatnonzero((index < 0) | (index >= (np.inf if count is None else count)))
    if beyond.size:
        raise RecordingError(
            path,
            f"{name} shows picture {index[beyond[0]]:g} in frame {beyond[0]}, "
            f"but there are only {count}",
            "write the file again",
        )
    return index.astype(np.intp)


def _indexed(
    group: h5py.Group, name: str, path: str, allow_external: Sequence[str | Path]
) -> Pixels:
    """Open what an index series shows, each picture of a slab read once."""
    if "indexed_images" in group:
        pictures = _Pictures(group["indexed_images"], path)
        source = Pixels(pictures.count, pictures.size, pictures.fetch)
    elif "indexed_timeseries" in group:
        source = pixels_of(group["indexed_timeseries"], path, allow_external)
    else:
        raise RecordingError(path, f"{name} points to no pictures")
    index = picture_numbers(group, path, source.frames)

    def raw(start: int, stop: int) -> Array:
        wanted, place = np.unique(index[start:stop], return_inverse=True)
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
        return np.concatenate([source.raw(int(run[0]), int(run[-1]) + 1) for run in runs])[place]

    return replace(source, frames=index.size, raw=raw)


class _Pictures:
    """The pictures of an Images container in their stated order, each read once."""

    def __init__(self, images: h5py.Group, path: str) -> None:
        order = images.get("order_of_images")
        if not isinstance(order, h5py.Dataset):
            raise RecordingError(
                path,
                f"{images.name} does not say the order of its pictures (order_of_images)",
                "picture numbers mean nothing without it",
            )
        self._pictures = [images[reference] for reference in order[()]]
        for picture in self._pictures:
            if picture.ndim not in (2, 3) or picture.dtype.kind not in "biuf":
                raise RecordingError(
                    path,
                    f"{picture.name} is {picture.dtype} of shape {picture.shape}, "
                    "expected a picture of numbers (x, y)",
                    "pictures that lie in files of their own are not opened",
                )
        shapes = {picture.shape[:2] for picture in self._pictures}
        if len(shapes) != 1:
            raise RecordingError(
                path,
                f"the pictures of {images.name} have sizes {sorted(shapes)}",
                "a movie needs pictures of one size",
            )
        self.count = len(self._pictures)
        self.size: tuple[int, int] = shapes.pop()
        self._known: dict[int, Array] = {}

    def fetch(self, start: int, stop: int) -> Array:
        """Return some pictures (picture, second, third)."""
        return np.stack([self._one(number) for number in range(start, stop)])

    def _one(self, number: int) -> Array:
        if number not in self._known:
            self._known[number] = _grey(self._pictures[number][()][None])[0]
        return self._known[number]
