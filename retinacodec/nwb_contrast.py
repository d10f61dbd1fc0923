"""From pixels as a file stores them to contrast on the retina: part, orientation, mapping, size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb_movies import NwbMovie
from retinacodec.nwb_pixels import Extent, Pixels

__all__ = ["Contrast", "Part", "pixel_size", "sides_of"]

_SIZE_RANGE = (0.01, 5000.0)  # um: pixels outside are a mistake of units

Array = NDArray[Any]
Reader = Callable[[int, int], Array]


@dataclass(frozen=True)
class Contrast:
    """How the values of a file become contrast: ``(value - grey) / span``.

    Parameters
    ----------
    grey : float, optional
        Value of the mean grey; by default the mean of the whole movie.
    span : float, optional
        Difference from grey that is contrast 1; by default `grey` itself (Weber contrast).

    Examples
    --------
    >>> Contrast(grey=127.5).of(np.array([0.0, 255.0])).tolist()
    [-1.0, 1.0]
    """

    grey: float | None = None
    span: float | None = None

    def of(self, values: Array) -> NDArray[np.float32]:
        """Return the contrast of values; `grey` must be known."""
        span = self.grey if self.span is None else self.span
        if self.grey is None or not span:
            raise InputError(f"contrast: expected grey and a span other than 0, got {self}")
        return ((values - self.grey) / span).astype(np.float32)


@dataclass(frozen=True)
class Part:
    """The part of a movie that is wanted, and how its axes lie.

    Parameters
    ----------
    movie : NwbMovie
        The movie.
    pixels : Pixels
        Its pixels.
    frames, rows, columns : slice
        Frames of one presentation, pixels in y and in x.
    across : bool
        True where the second axis in the file is x and the third is y.
    path : str or Path
        Name of the file, for messages.
    """

    movie: NwbMovie
    pixels: Pixels
    frames: slice
    rows: slice
    columns: slice
    across: bool
    path: str | Path

    @classmethod
    def of(
        cls,
        movie: NwbMovie,
        pixels: Pixels,
        frames: tuple[int, int] | None,
        crop: tuple[int, int, int, int] | None,
        across: bool,
        path: str | Path,
    ) -> Part:
        """Check the part asked for against the movie, and that its repeats are repeats.

        `across` does not matter where the order of the axes is known (`Pixels.upright`).
        """
        across = across or pixels.upright
        count, (height, width) = movie.flips[0].size, pixels.size[:: -1 if across else 1]
        first, last = (0, count) if frames is None else frames
        top, bottom, left, right = (0, height, 0, width) if crop is None else crop
        for what, start, stop, size in (
            ("frames", first, last, count),
            ("crop in y", top, bottom, height),
            ("crop in x", left, right, width),
        ):
            if not 0 <= start < stop <= size:
                raise RecordingError(
                    path, f"{what} {start} to {stop} is not inside {movie.name}, which has {size}"
                )
        part = cls(
            movie, pixels, slice(first, last), slice(top, bottom), slice(left, right), across, path
        )
        part._check_repeats()
        return part

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, pixels in y, pixels in x."""
        return tuple(  # type: ignore[return-value]
            cut.stop - cut.start for cut in (self.frames, self.rows, self.columns)
        )

    def read(self, contrast: Contrast | None, budget_gb: float) -> NDArray[np.float32]:
        """Return the contrast (time, y, x) of the part, read in slabs.

        Parameters
        ----------
        contrast : Contrast or None
            The mapping; None for the file's own, or Weber contrast where it has none.
        budget_gb : float
            Gigabytes the result may take.

        Returns
        -------
        ndarray (time, y, x) float32
            Contrast.
        """
        need = 4e-9 * np.prod(self.shape, dtype=float)
        if need > budget_gb:
            raise RecordingError(
                self.path,
                f"{self.movie.name} needs {need:.1f} GB as contrast, "
                f"more than the budget of {budget_gb:g} GB",
                "read a part (frames=, crop=) or raise budget_gb",
            )
        contrast = self._chosen(contrast)
        if contrast is not None and contrast.grey is None:
            return self._about_mean(contrast)
        reader = self._reader(contrast)
        out = np.empty(self.shape, np.float32)
        offset, begin = self.movie.first_frames[0], self.frames.start
        for start, stop in self.pixels.slabs(begin, self.frames.stop):
            out[start - begin : stop - begin] = reader(offset + start, offset + stop)
        return out

    def settled(self, contrast: Contrast | None) -> Contrast | None:
        """Return the mapping that `read` takes, with the mean grey of the whole movie in it.

        Parameters
        ----------
        contrast : Contrast or None
            As in `read`.

        Returns
        -------
        Contrast or None
            The same for every part of the movie; None where the file has its own.
        """
        contrast = self._chosen(contrast)
        if contrast is None or contrast.grey is not None:
            return contrast
        extent, offset = Extent(), self.movie.first_frames[0]
        for start, stop in self.pixels.slabs(0, self.movie.flips[0].size):
            extent.add(self._values(offset + start, offset + stop))
        light = contrast.span is None
        return replace(contrast, grey=extent.mean(self.movie.name, self.path, light=light))

    def _chosen(self, contrast: Contrast | None) -> Contrast | None:
        """Return the mapping asked for, or Weber contrast where the file has none of its own."""
        if contrast is not None or self.movie.note:
            return contrast
        return Contrast(0.0, 1.0) if self.pixels.contrasts else Contrast()

    def _reader(self, contrast: Contrast | None) -> Reader:
        """Return the function from frame numbers to contrast (time, y, x)."""
        if contrast is not None:
            return lambda start, stop: contrast.of(self._cut(self._values(start, stop)))
        levels = self.movie.note["levels"] if self.movie.note else None
        if levels is None:
            return lambda start, stop: self._cut(self.pixels.raw(start, stop))
        table = levels.table()
        return lambda start, stop: table[self._cut(self.pixels.raw(start, stop))]

    def _about_mean(self, contrast: Contrast) -> NDArray[np.float32]:
        """Read the part, and the mean of the whole presentation, in one pass over the file."""
        out, extent = np.empty(self.shape, np.float32), Extent()
        offset, begin = self.movie.first_frames[0], self.frames.start
        for start, stop in self.pixels.slabs(0, self.movie.flips[0].size):
            values = self._values(offset + start, offset + stop)
            extent.add(values)
            first, last = max(start, begin), min(stop, self.frames.stop)
            if first < last:
                out[first - begin : last - begin] = self._cut(values[first - start : last - start])
        grey = extent.mean(self.movie.name, self.path, light=contrast.span is None)
        for start, stop in self.pixels.slabs(0, len(out)):
            out[start:stop] = replace(contrast, grey=grey).of(out[start:stop])
        return out

    def _values(self, start: int, stop: int) -> Array:
        """Return the values of some frames, all finite."""
        values = self.pixels.values(start, stop)
        if values.dtype.kind == "f":
            broken = ~np.isfinite(values).all(axis=(1, 2))
            if broken.any():
                raise RecordingError(
                    self.path,
                    f"{self.movie.name} has pixels that are NaN or infinite, "
                    f"the first in frame {start + int(np.flatnonzero(broken)[0])}",
                    "read the frames before or after them (frames=), or repair the file",
                )
        return values

    def _cut(self, frames: Array) -> Array:
        upright = frames.transpose(0, 2, 1) if self.across else frames
        return upright[:, self.rows, self.columns]

    def _check_repeats(self) -> None:
        starts, frames_each = self.movie.first_frames, self.movie.flips[0].size
        frames = self.pixels.frames
        if starts[-1] + frames_each > frames:
            raise RecordingError(
                self.path, f"{self.movie.name} has {frames} frames of pixels, fewer than its flips"
            )
        places = dict.fromkeys((0, frames_each // 2, frames_each - 1)) if len(starts) > 1 else ()
        for place in places:
            first = self.pixels.raw(starts[0] + place, starts[0] + place + 1)
            for number, start in enumerate(starts[1:], 2):
                other = self.pixels.raw(start + place, start + place + 1)
                if not np.array_equal(other, first, equal_nan=other.dtype.kind == "f"):
                    where = "start with the same frame as" if place == 0 else "show the same as"
                    raise RecordingError(
                        self.path,
                        f"presentation {number} of {self.movie.name} does not {where} the first"
                        + (f" in frame {place}" if place else ""),
                        "it is no repeat; correct the table of intervals or repeat_frames=",
                    )


def pixel_size(group: h5py.Group, size: tuple[int, int], across: bool, path: str | Path) -> float:
    """Return the side of a pixel from the field of view that the file states.

    Parameters
    ----------
    group : h5py.Group
        The movie; an index series leads to the series or pictures it shows.
    size : (int, int)
        Length of the second and third axis in the file.
    across : bool
        True where the second axis is x.
    path : str or Path
        Name of the file, for messages.

    Returns
    -------
    float
        Side of a pixel on the retina, um.

    Raises
    ------
    RecordingError
        If the file does not say, or states something that is no size of a pixel.
    """
    name, hint = group.name.rsplit("/", 1)[-1], "give the side of a pixel with pixel_um="
    sides = sides_of(group, size if across else size[::-1])
    if not sides:
        raise RecordingError(
            path, f"{name} does not say how large its pixels are on the retina", hint
        )
    least, most = min(sides), max(sides)
    if not (np.isfinite(sides).all() and _SIZE_RANGE[0] <= least and most <= _SIZE_RANGE[1]):
        raise RecordingError(
            path,
            f"{name} has pixels of {least:g} um by its field of view, which is in metres",
            hint,
        )
    if most > 1.01 * least:
        raise RecordingError(
            path,
            f"{name} has pixels of {sides[0]:g} by {sides[1]:g} um, which are not square",
            "exchange the axes (spatial_order=) or " + hint,
        )
    return float(f"{np.mean(sides):.6g}")  # without the rounding of metres in float32


def sides_of(group: h5py.Group, size: tuple[int, int]) -> list[float]:
    """Return the sides of a pixel along the axes that have more than one, um.

    Parameters
    ----------
    group : h5py.Group
        The movie; an index series leads to the series or pictures it shows.
    size : (int, int)
        Pixels in x and y.

    Returns
    -------
    list of float
        One or two lengths from the field of view, one from the resolution of pictures; empty
        where the file states neither.
    """
    for source in (group, group.get("indexed_timeseries")):
        if not isinstance(source, h5py.Group):
            continue
        view = source.get("field_of_view")
        if isinstance(view, h5py.Dataset) and view.dtype.kind in "iuf" and (view.size or 0) >= 2:
            width_height = np.asarray(view[()], float).ravel()[:2] * 1e6
            both = [float(length / count) for length, count in zip(width_height, size, strict=True)]
            return [side for side, count in zip(both, size, strict=True) if count > 1] or both[:1]
    pictures = group.get("indexed_images")
    for picture in pictures.values() if isinstance(pictures, h5py.Group) else ():
        if isinstance(picture, h5py.Dataset) and "resolution" in picture.attrs:
            per_cm = float(picture.attrs["resolution"])
            return [1e4 / per_cm if per_cm else np.inf]
    return []
