"""Film files that an NWB movie points to: which of them may be opened, and their exact frames."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.nwb_spikes import text

__all__ = ["Films", "film_frames"]

_log = logging.getLogger(__name__)
_LOSSLESS = {"ffv1", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "png", "gif", "qtrle", "tiff"}
_KINDS = "avi,matroska,webm,mov,mp4,nut,ogg,mpegts,mpeg,asf,flv,gif,mpegvideo,h264,mjpeg,apng"
_FAR = 300  # frames ahead from which jumping is faster than decoding

Array = NDArray[Any]


@dataclass(frozen=True)
class _Film:
    """What looking through a film without decoding it tells."""

    frames: int
    size: tuple[int, int]
    stamps: tuple[int, ...] | None
    even: bool
    codec: str


class Films:
    """The frames of one or several films, one after another, read when asked for.

    Parameters
    ----------
    group : h5py.Group
        A movie with ``external_file``.
    path : str
        Name of the NWB file, beside which the films lie.
    allow : sequence of str or Path
        Other folders or films that may be opened.

    Raises
    ------
    RecordingError
        If a film may not be opened, is missing, damaged, or does not fit what the file says.
    """

    def __init__(self, group: h5py.Group, path: str, allow: Sequence[str | Path] = ()) -> None:
        name = str(group.name).rsplit("/", 1)[-1]
        self._group, self._path, self._name = group, path, name
        entries = [text(entry) for entry in np.atleast_1d(group["external_file"][()]).tolist()]
        self._files = [_permitted(entry, name, path, allow) for entry in entries]
        self._films = [_looked_through(file, name, path) for file in self._files]
        self._check_fit(entries)
        self._readers: dict[int, _Reader] = {}
        self.frames = sum(film.frames for film in self._films)
        self.size = self._films[0].size

    def raw(self, start: int, stop: int) -> Array:
        """Return frames (frame, x, y): columns of the film are x, its rows y."""
        if not self._group.id.valid:
            self.close()
            raise RecordingError(self._path, "is closed", "read films while the file is open")
        parts, first = [], 0
        for number, film in enumerate(self._films):
            begin, end = max(start, first), min(stop, first + film.frames)
            if begin < end:
                parts.append(self._reader(number).read(begin - first, end - first))
            first += film.frames
        return np.concatenate(parts) if parts else np.empty((0, *self.size), np.uint8)

    def tell(self) -> None:
        """Notice what makes films worse than frames in the file: loss, and uneven times."""
        films = zip(self._files, self._films, strict=True)
        uneven = [file.name for file, film in films if not film.even]
        if uneven:
            _log.warning(
                "%s: %s has a variable frame rate; the times in the NWB file are used",
                self._path,
                uneven[0],
            )
        lossy = sorted({film.codec for film in self._films} - _LOSSLESS)
        if lossy:
            _log.warning(
                "%s: films of %s are compressed with loss (%s): grey values are approximate",
                self._path,
                self._name,
                ", ".join(lossy),
            )

    def close(self) -> None:
        """Close the films; reading again opens them again."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _reader(self, number: int) -> _Reader:
        """Keep one film open at a time."""
        if number not in self._readers:
            self.close()
            self._readers[number] = _Reader(
                self._files[number], self._films[number], self._name, self._path
            )
        return self._readers[number]

    def _check_fit(self, entries: list[str]) -> None:
        """Compare the films with each other and with what the NWB file says about them."""
        counts, name = [film.frames for film in self._films], self._name
        sizes = sorted({film.size for film in self._films})
        if len(sizes) > 1:
            raise RecordingError(
                self._path,
                f"the films of {name} have sizes {sizes}",
                "a movie needs films of one size",
            )
        starts = self._group["external_file"].attrs.get("starting_frame")
        expected = np.cumsum([0, *counts[:-1]]).tolist()
        if starts is not None and np.atleast_1d(starts).tolist() != expected:
            raise RecordingError(
                self._path,
                f"starting_frame of {name} is {np.atleast_1d(starts).tolist()}, but its films "
                f"({', '.join(entries[:3])}) have {counts} frames, which start at {expected}",
                "correct starting_frame or the films",
            )
        stated = self._group.get("num_samples")
        if isinstance(stated, h5py.Dataset) and int(stated[()]) != sum(counts):
            raise RecordingError(
                self._path,
                f"{name} has num_samples {int(stated[()])}, but its films have "
                f"{sum(counts)} frames",
                "correct num_samples, or copy the films again",
            )


def film_frames(group: h5py.Group, path: str, allow: Sequence[str | Path] = ()) -> int | None:
    """Return the number of frames in the films of a movie, None where they cannot be read.

    Parameters
    ----------
    group : h5py.Group
        A movie with ``external_file``.
    path : str
        Name of the NWB file.
    allow : sequence of str or Path
        Other folders or films that may be opened.

    Returns
    -------
    int or None
        Frames of all films together.
    """
    try:
        return Films(group, path, allow).frames
    except RecordingError:
        return None


def _permitted(entry: str, name: str, path: str, allow: Sequence[str | Path]) -> Path:
    """Return the film's place, or say why it is not opened."""
    what = f"the pixels of {name} are in another file ({entry})"
    if "://" in entry:
        raise RecordingError(
            path, f"{what}, which is a URL", "download it and put it beside the NWB file"
        )
    absolute = Path(entry).is_absolute() or PureWindowsPath(entry).is_absolute()
    folder = Path(path).resolve().parent
    try:
        file = (folder / entry.replace("\\", "/")).resolve()
        exists, plain = file.exists(), file.is_file()
    except (OSError, ValueError) as error:
        raise RecordingError(path, f"{what}, which is no name of a file: {error}") from error
    permitted = any(
        file == place or place in file.parents for place in (Path(one).resolve() for one in allow)
    )
    if not permitted:
        hint = f"put it beside the NWB file, or say allow_external=({str(file.parent)!r},)"
        if absolute:
            raise RecordingError(path, f"{what}, given by an absolute path", hint)
        if folder not in file.parents:
            raise RecordingError(path, f"{what}, which is outside the folder of the NWB file", hint)
    if not exists:
        raise RecordingError(path, f"{what}, which is missing", f"copy it to {file.parent}")
    if not plain:
        raise RecordingError(path, f"{what}, which is no plain file")
    return file


def _looked_through(file: Path, name: str, path: str) -> _Film:
    import av

    try:
        stamp = file.stat()
        return _probe((str(file), stamp.st_mtime_ns, stamp.st_size))
    except (OSError, ValueError, IndexError, av.FFmpegError) as error:
        reason = " ".join(str(error).split()).replace(f": '{file}'", "")
        raise RecordingError(
            path,
            f"{file.name}, a film of {name}, cannot be read ({reason})",
            "known are AVI, Matroska, MP4 and QuickTime films",
        ) from error


@lru_cache(maxsize=64)
def _probe(key: tuple[str, int, int]) -> _Film:
    """Count the frames of a film (name, time of change, bytes), without decoding them."""
    with _opened(key[0]) as container:
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("its compression is unknown")
        packets = [packet for packet in container.demux(stream) if packet.size]
        kept = [packet.pts for packet in packets if not packet.is_discard]
        known = None not in kept and len(set(kept)) == len(kept)
        stamps = np.sort(np.asarray(kept, np.int64)) if known else np.arange(len(kept))
        steps = np.diff(stamps)
        middle = float(np.median(steps)) if steps.size else 1.0
        return _Film(
            frames=len(kept),
            size=(int(stream.codec_context.width), int(stream.codec_context.height)),
            stamps=tuple(stamps.tolist()) if known else None,
            even=bool((np.abs(steps - middle) <= max(2.0, 0.1 * middle)).all()),
            codec=str(stream.codec_context.name),
        )


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    container = _open(file)
    try:
        yield container
    finally:
        container.close()


def _open(file: str) -> Any:
    """Open a film; playlists, which would lead to further files, are not among the kinds."""
    import av

    # nothing but this file: no other protocol, no other container that names files
    return av.open(file, options={"format_whitelist": _KINDS, "protocol_whitelist": "file"})


class _Reader:
    """A decoder kept open: it goes on from the last frame, and seeks only to go back or far."""

    def __init__(self, file: Path, film: _Film, name: str, path: str) -> None:
        self._file, self._film, self._name, self._path = file, film, name, path
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._next = 0

    def read(self, start: int, stop: int) -> Array:
        """Return frames start to stop (frame, x, y)."""
        import av

        try:
            if self._container is None or not self._next <= start <= self._next + _FAR:
                self._place(start)
            while self._next < start:
                self._step()
            frames = np.stack([_grey(self._step()).T for _ in range(start, stop)])
            if frames.shape[1:] != self._film.size:
                raise ValueError(f"pictures of size {frames.shape[1:]}")
            return frames
        except (StopIteration, av.FFmpegError, ValueError) as error:
            self.close()
            raise RecordingError(
                self._path,
                f"{self._file.name}, a film of {self._name}, cannot be decoded at frame "
                f"{self._next} of {self._film.frames}",
                "it may be damaged; copy it again",
            ) from error

    def close(self) -> None:
        """Close the film."""
        if self._container is not None:
            self._container.close()
        self._container, self._frames, self._next = None, iter(()), 0

    def _step(self) -> Any:
        frame = next(self._frames)
        self._next += 1
        return frame

    def _place(self, start: int) -> None:
        """Go to the key frame at or before a frame, or to the first where times are no guide."""
        stamps = self._film.stamps
        if stamps is not None and start > 0:
            if self._container is None:
                self._container = _open(str(self._file))
            stream = self._container.streams.video[0]
            self._container.seek(stamps[start], stream=stream)
            frames = self._container.decode(stream)
            first = next(frames, None)
            place = int(np.searchsorted(stamps, first.pts)) if first and first.pts else 0
            if first and place <= start and stamps[place] == first.pts:
                self._frames, self._next = _after(first, frames), place
                return
        self.close()
        self._container = _open(str(self._file))
        self._frames = self._container.decode(self._container.streams.video[0])


def _after(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _grey(frame: Any) -> Array:
    """Return the grey values (row, column): stored ones, the mean of colours, or the luma."""
    if frame.format.name.startswith("gray"):
        return np.asarray(frame.to_ndarray())
    if frame.format.is_rgb or frame.format.name == "pal8":
        colours: Array = frame.to_ndarray(format="rgb24")
        return colours.mean(axis=2)
    return np.asarray(frame.to_ndarray(format="gray"))
