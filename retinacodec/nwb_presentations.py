"""Repeats of an NWB movie: which frames are showings of one clip, and what in the file says so."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.index_blocks import equal_blocks, period_of
from retinacodec.nwb_pixels import Pixels, picture_numbers
from retinacodec.nwb_spikes import text

__all__ = ["Presentations", "find_presentations"]

_log = logging.getLogger(__name__)
_COMPARED = 16  # frames of each repeat that are compared with the first
_MANY_ROWS = 100  # rows of one name: more are conditions of trials rather than repeats of a clip
_SHORTEST = (8, 1.0)  # frames and seconds of the shortest repeat that picture numbers can show

Times = NDArray[np.float64]
Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class Presentations:
    """Where in a movie its clip was shown.

    Parameters
    ----------
    ranges : tuple of (int, int)
        First frame and the one after the last of every showing, all of one length.
    found_by : str
        What said so; ``"one showing"`` for a movie without repeats.
    """

    ranges: tuple[tuple[int, int], ...]
    found_by: str


def find_presentations(
    file: h5py.File,
    group: h5py.Group,
    flips: Times,
    path: str,
    open_pixels: Callable[[], Pixels],
    *,
    note: dict[str, Any] | None = None,
    repeat_frames: int | None = None,
    clip: str | None = None,
) -> Presentations:
    """Find the repeats of a movie by the first rule that holds.

    Parameters
    ----------
    file : h5py.File
        The open file.
    group : h5py.Group
        The movie.
    flips : ndarray (frame,)
        Its flip times, s.
    path : str
        Name of the file, for messages.
    open_pixels : callable () -> Pixels
        Opens its pixels, where rows of a table must be compared.
    note : dict, optional
        What this package wrote about the movie.
    repeat_frames : int, optional
        Frames of one repeat; as many as the movie has for no repeats.
    clip : str, optional
        Read only the frames shown under this ``stimulus_name`` in a table of intervals.

    Returns
    -------
    Presentations
        One at least.

    Raises
    ------
    RecordingError
        If repeats have different lengths or pictures, or no whole number of stated repeats fits.

    Notes
    -----
    The rules: what this package wrote; `repeat_frames`; a table of intervals with columns
    ``stimulus_name`` and ``repeat``; rows that are named like this movie, or rows of another name
    or pointing to frames of this movie that make up half of it, provided that they show the same
    pictures; and picture numbers that are periodic, or that hold one block over and over, half of
    all frames at least. Frames outside repeats are left out. A clip that comes back in less than
    half of the movie is noticed, and read by its name (`clip`).
    """
    name = str(group.name).rsplit("/", 1)[-1]
    if note:
        length = int(note["frames"])
        starts = range(0, flips.size - length + 1, length)
        written = tuple((start, start + length) for start in starts)
        return Presentations(written, "as written" if len(written) > 1 else "one showing")
    search = _Search(file, group, name, flips, path, open_pixels)
    if clip is not None:
        return search.of_clip(clip, repeat_frames)
    if repeat_frames:
        return search.stated(repeat_frames)
    for rule in (search.with_repeat_column, search.of_one_name, search.by_picture_numbers):
        found = rule()
        if found is not None:
            return found
    search.tell_clips()
    return Presentations(((0, flips.size),), "one showing")


@dataclass(frozen=True)
class _Search:
    """One movie, and the rules that are tried on it."""

    file: h5py.File
    group: h5py.Group
    name: str
    flips: Times
    path: str
    open_pixels: Callable[[], Pixels]
    offset: int = 0

    def stated(self, length: int) -> Presentations:
        """Cut the movie into repeats of the stated length, or take blocks of this length."""
        frames = self.flips.size
        if length < 2 or length > frames:
            self._refuse(frames, length)
        ranges = [(start, start + length) for start in range(0, frames - length + 1, length)]
        if frames % length:
            blocks = self._blocks()
            if blocks is not None and blocks[1] == length:
                ranges = [(start, start + length) for start in blocks[0]]
            elif len(ranges) > 1 and self._same(ranges, (ranges[-1][1], frames)):
                self._tell_dropped(frames - ranges[-1][1])
            else:
                self._refuse(frames, length)
        elif len(ranges) > 1 and self._differ(ranges):
            raise RecordingError(
                self.path,
                f"frames of {self.name} do not repeat after {length}",
                "correct repeat_frames=, or leave it out",
            )
        return Presentations(tuple(ranges), "repeat_frames" if len(ranges) > 1 else "one showing")

    def of_clip(self, clip: str, repeat_frames: int | None) -> Presentations:
        """Take the rows of one name, which are one showing or show the same."""
        for table in self._tables("stimulus_name"):
            rows = self._of_name(table, clip)
            if repeat_frames and len(rows) == 1:
                start, stop = rows[0]
                inner = replace(self, flips=self.flips[start:stop], offset=start)
                found = inner.stated(repeat_frames)
                moved = tuple((start + first, start + last) for first, last in found.ranges)
                return Presentations(moved, found.found_by)
            if len(rows) == 1:
                return Presentations(tuple(rows), "one showing")
            if rows and self._differ(self._whole(rows)):
                raise RecordingError(
                    self.path,
                    f"the {len(rows)} rows of {clip} in {table.name[1:]} show different frames",
                    f"they are no repeats; read all of {self.name}",
                )
            if rows:
                place = f"column stimulus_name of {table.name[1:]}"
                return Presentations(tuple(self._equal(rows)), place)
        raise RecordingError(
            self.path, f"no frame of {self.name} was shown under the name {clip}", ""
        )

    def tell_clips(self) -> None:
        """Notice clips that come back in less than half of the movie."""
        for table in self._tables("stimulus_name"):
            names = [text(value) for value in table["stimulus_name"][()].tolist()]
            for name, count in Counter(names).items():
                rows = self._of_name(table, name) if 2 <= count <= _MANY_ROWS else []
                long = rows and min(stop - start for start, stop in rows) >= self._shortest()
                if name != self.name and long and self._show_the_same(rows):
                    words = "%s: %s shows %s %d times; stimulus=%r reads only these, as repeats"
                    _log.warning(words, self.path, self.name, name, len(rows), name)

    def with_repeat_column(self) -> Presentations | None:
        """Take the rows of this movie in a table of intervals with a column ``repeat``."""
        for table in self._tables("stimulus_name", "repeat"):
            mine = self._named(table) & (np.asarray(table["repeat"][()]) >= 0)
            if mine.sum() >= 2:
                ranges = self._equal(self._rows(table, mine))
                return Presentations(tuple(ranges), f"column repeat of {table.name[1:]}")
        return None

    def of_one_name(self) -> Presentations | None:
        """Take rows that point to frames of this movie or share a name, if they show the same."""
        for table in self._tables():
            groups = [("timeseries", rows) for rows in [self._pointed(table)] if self._most(rows)]
            if isinstance(table.get("stimulus_name"), h5py.Dataset):
                groups += [("stimulus_name", rows) for rows in self._of_each_name(table)]
            same = [(column, rows) for column, rows in groups if self._show_the_same(rows)]
            if len({tuple(rows) for _, rows in same}) > 1:
                words = "%s: %s has several clips with repeats by %s; it is read as one movie"
                _log.warning(words, self.path, self.name, table.name[1:])
            elif same:
                column, rows = same[0]
                return Presentations(
                    tuple(self._equal(rows)), f"column {column} of {table.name[1:]}"
                )
        return None

    def _of_each_name(self, table: h5py.Group) -> Iterator[Ranges]:
        """Yield the frames of the rows of each name, those of this movie alone if it is named."""
        names = np.array([text(value) for value in table["stimulus_name"][()].tolist()], object)
        for name in sorted({self.name} if self.name in names else set(names)):
            rows = self._of_name(table, name)
            if name == self.name or self._most(rows):
                yield rows

    def _of_name(self, table: h5py.Group, name: str) -> Ranges:
        """Return the frames of the rows of one name, without rows of other times."""
        names = np.array([text(value) for value in table["stimulus_name"][()].tolist()], object)
        return [pair for pair in self._rows(table, names == name) if pair[1] > pair[0]]

    def _most(self, ranges: Ranges) -> bool:
        """Tell whether frames outside would be less than half of the movie."""
        return 2 * sum(stop - start for start, stop in ranges) >= self.flips.size

    def _show_the_same(self, ranges: Ranges) -> bool:
        if len(ranges) < 2:
            return False
        return self._same(self._whole(ranges))

    def _whole(self, ranges: Ranges) -> Ranges:
        """Return the ranges that are as long as the shortest, the last one aside."""
        lengths = [stop - start for start, stop in ranges]
        least = min(lengths[:-1] if len(lengths) > 2 else lengths)
        return [(start, start + least) for start, stop in ranges if stop - start >= least]

    def _differ(self, ranges: Ranges) -> bool:
        """Tell whether showings are known to have different pictures."""
        try:
            self.open_pixels()
        except RecordingError:
            return False
        return not self._same(ranges)

    def by_picture_numbers(self) -> Presentations | None:
        """Look for repeats in the numbers of an index series."""
        index = self._index()
        if index is None:
            return None
        frames, shortest = index.size, self._shortest()
        period = period_of(index, shortest)
        if period is not None:
            if frames % period:
                self._tell_dropped(frames % period)
            starts: list[int] = list(range(0, frames - period + 1, period))
            return self._from_numbers(starts, period, "periodic picture numbers")
        blocks = self._blocks()
        if blocks is None:
            return None
        starts, length = blocks
        if 2 * len(starts) * length < frames:
            words = "%s: %s shows %d frames %d times; repeat_frames=%d reads only these"
            _log.warning(words, self.path, self.name, length, len(starts), length)
            return None
        return self._from_numbers(starts, length, "equal blocks of picture numbers")

    def _from_numbers(self, starts: list[int], length: int, rule: str) -> Presentations:
        words = "%s: %s has %d repeats of %d frames (%s); repeat_frames=%d reads it as one movie"
        _log.warning(words, self.path, self.name, len(starts), length, rule, self.flips.size)
        return Presentations(tuple((start, start + length) for start in starts), rule)

    def _index(self) -> NDArray[np.intp] | None:
        if text(self.group.attrs.get("neurodata_type", "")) != "IndexSeries":
            return None
        numbers = picture_numbers(self.group, self.path)
        return numbers[self.offset : self.offset + self.flips.size]

    def _blocks(self) -> tuple[list[int], int] | None:
        index = self._index()
        return None if index is None else equal_blocks(index, self._shortest())

    def _shortest(self) -> int:
        seconds = _SHORTEST[1] / float(np.median(np.diff(self.flips)))
        return max(_SHORTEST[0], int(np.ceil(seconds - 1e-6)))

    def _tables(self, *columns: str) -> Iterator[h5py.Group]:
        held = self.file.get("intervals")
        for table in held.values() if isinstance(held, h5py.Group) else ():
            wanted = ("start_time", "stop_time", *columns)
            if isinstance(table, h5py.Group) and all(
                isinstance(table.get(column), h5py.Dataset) for column in wanted
            ):
                yield table

    def _named(self, table: h5py.Group) -> NDArray[np.bool_]:
        names = table["stimulus_name"][()].tolist()
        return np.array([text(value) == self.name for value in names], bool)

    def _rows(self, table: h5py.Group, mine: NDArray[np.bool_]) -> Ranges:
        """Return the frames between start and stop of some rows, in the order of time."""
        start, stop = (np.asarray(table[key][()])[mine] for key in ("start_time", "stop_time"))
        order = np.argsort(start, kind="stable")
        slack = 0.5 * np.median(np.diff(self.flips))
        begins = np.searchsorted(self.flips, start[order] - slack)
        ends = np.searchsorted(self.flips, stop[order] - slack)
        return list(zip(begins.tolist(), ends.tolist(), strict=True))

    def _pointed(self, table: h5py.Group) -> Ranges:
        """Return the frames of this movie that rows of a table point to."""
        column = table.get("timeseries")
        if not isinstance(column, h5py.Dataset) or "idx_start" not in (column.dtype.names or ()):
            return []
        found = []
        for begin, count, reference in column[()].tolist():
            if begin >= 0 and count > 0 and reference and self.file[reference] == self.group:
                stop = min(int(begin) + int(count), self.flips.size)
                found += [(int(begin), stop)] if stop > begin else []
        return sorted(found)

    def _equal(self, ranges: Ranges) -> Ranges:
        """Cut repeats that differ by one frame, drop a partial last one, refuse the rest."""
        lengths = [stop - start for start, stop in ranges]
        least, most = min(lengths), max(lengths)
        if len(ranges) > 2 and lengths[-1] < min(lengths[:-1]) - 1:
            self._tell_dropped(lengths[-1])
            return self._equal(ranges[:-1])
        if least < 2 or most - least > 1:
            raise RecordingError(
                self.path,
                f"repeats of {self.name} have {least} to {most} frames",
                "repeats must show the same frames; correct the table of intervals",
            )
        if most > least:
            words = "%s: repeats of %s differ by one frame; all are cut to %d"
            _log.warning(words, self.path, self.name, least)
        return [(start, start + least) for start, _ in ranges]

    def _same(self, ranges: Ranges, rest: tuple[int, int] | None = None) -> bool:
        """Tell whether showings have the same pictures, as far as they can be looked at."""
        try:
            pixels = self.open_pixels()
        except RecordingError as error:
            words = "%s: %s may have repeats, but its pixels cannot be compared (%s)"
            _log.warning(words, self.path, self.name, error.what)
            return False
        length = ranges[0][1] - ranges[0][0]
        places = np.unique(np.linspace(0, length - 1, _COMPARED).astype(int)).tolist()
        for place in places:
            firsts = [self.offset + start for start, _ in ranges]
            if rest is not None and rest[0] + place < rest[1]:
                firsts.append(self.offset + rest[0])
            shown = [pixels.raw(first + place, first + place + 1) for first in firsts]
            if not all(_equal_frames(shown[0], other) for other in shown[1:]):
                return False
        return True

    def _tell_dropped(self, frames: int) -> None:
        words = "%s: the last repeat of %s has only %d frames and is left out"
        _log.warning(words, self.path, self.name, frames)

    def _refuse(self, frames: int, length: int) -> None:
        raise RecordingError(
            self.path,
            f"{self.name} has {frames} frames, which are no whole number of repeats of {length}",
            "correct repeat_frames=",
        )


def _equal_frames(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
