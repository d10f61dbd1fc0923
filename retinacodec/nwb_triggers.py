"""Flip times from a trigger channel: where a file keeps pulses, and the frames between them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb_spikes import seconds, text
from retinacodec.nwb_tables import is_table, plain_columns
from retinacodec.nwb_times import checked_times, stated_times

__all__ = ["Triggers", "flips_of"]

_log = logging.getLogger(__name__)
_EVENTS = {"EventsTable", "TtlsTable", "Events", "LabeledEvents", "TTLs", "AnnotationSeries"}
_TIME_COLUMNS = ("timestamp", "start_time")
_SLAB = 1 << 22
_NEAR = 0.1  # of the median interval: so near to a whole number of intervals pulses were missed
_STOPPED = 1.75  # medians: after a longer interval the display is taken to have stopped

Times = NDArray[np.float64]
Array = NDArray[Any]


@dataclass(frozen=True)
class Triggers:
    """Where a file keeps the pulses that the display sent, and how many frames each stands for.

    Parameters
    ----------
    name : str, optional
        Place in the file: a table of events or intervals, one of its columns, a series of events
        or annotations, or a plain series. By default the only table or series of events.
    every : int, default 1
        Frames from one pulse to the next; the first pulse marks the first frame.
    label : str or int, optional
        Which kind of event, where there are several; ``*`` stands for any letters.
    threshold : float, optional
        For a voltage trace: pulses are where it rises to this value, in the units of the trace.
    between : (float, float), optional
        Seconds of the file's clock; pulses outside belong to other movies.

    Examples
    --------
    >>> Triggers("acquisition/photodiode", threshold=2.5)
    Triggers(name='acquisition/photodiode', every=1, label=None, threshold=2.5, between=None)
    """

    name: str | None = None
    every: int = 1
    label: str | int | None = None
    threshold: float | None = None
    between: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if not (isinstance(self.every, int) and self.every >= 1):
            raise InputError(f"Triggers: expected every=1 frame or more, got {self.every}")
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise InputError(f"Triggers: expected a finite threshold, got {self.threshold}")
        if self.between is not None and not self.between[0] < self.between[1]:
            raise InputError(f"Triggers: expected between=(from, to), got {self.between}")

    def pulses(self, file: h5py.File, path: str) -> Times:
        """Return the times of the pulses.

        Parameters
        ----------
        file : h5py.File
            An open NWB 2 file.
        path : str
            Its name, for messages.

        Returns
        -------
        ndarray (pulse,)
            Increasing seconds, two at least.

        Raises
        ------
        RecordingError
            If there is nothing of that name, several to choose from, or the times are broken.
        """
        thing = self._found(file, path)
        times = self._times(thing, path)
        if self.between is not None:
            times = times[(times >= self.between[0]) & (times < self.between[1])]
        return checked_times(times, str(thing.name), path, what="pulse")

    def _found(self, file: h5py.File, path: str) -> h5py.Group | h5py.Dataset:
        if self.name is not None:
            for place in (self.name, f"events/{self.name}", f"acquisition/{self.name}"):
                if isinstance(file.get(place), h5py.Group | h5py.Dataset):
                    return file[place]
        held = dict(_series_of_events(file))
        if self.name is None and len(held) == 1:
            return next(iter(held.values()))
        names = ", ".join(held) or "no table or series of events"
        if self.name is not None:
            raise RecordingError(path, f"has no triggers {self.name!r}", f"it has {names}")
        if held:
            what = f"has {len(held)} tables or series of events"
            raise RecordingError(path, what, f"choose one: Triggers(name=...), of {names}")
        raise RecordingError(
            path,
            "has no table or series of events",
            "say where the pulses are: Triggers(name='acquisition/...')",
        )

    def _times(self, thing: h5py.Group | h5py.Dataset, path: str) -> Times:
        if isinstance(thing, h5py.Dataset):
            return seconds(thing, path)
        if self.threshold is not None:
            return _crossings(thing, self.threshold, path)
        if is_table(thing):
            return self._rows(thing, path)
        data, stamps = thing.get("data"), thing.get("timestamps")
        if not isinstance(stamps, h5py.Dataset):
            raise RecordingError(
                path,
                f"{thing.name} has no timestamps of pulses",
                "if it is a voltage trace, say where a pulse begins: Triggers(threshold=...)",
            )
        times = seconds(stamps, path)
        kinds = _kinds(data) if isinstance(data, h5py.Dataset) else None
        if kinds is None or kinds.shape != times.shape:
            return times
        return self._chosen(times, {"data": kinds}, str(thing.name), path)

    def _rows(self, table: h5py.Group, path: str) -> Times:
        columns = plain_columns(table, path)
        for name in _TIME_COLUMNS:
            if name in columns and columns[name].dtype.kind in "iuf":
                times = columns.pop(name).astype(np.float64)
                kinds = {key: column for key, column in columns.items() if column.dtype == object}
                if isinstance(self.label, int):
                    kinds = {key: col for key, col in columns.items() if col.dtype.kind in "iu"}
                return self._chosen(times, kinds, str(table.name), path)
        raise RecordingError(
            path,
            f"{table.name} has no column {' or '.join(_TIME_COLUMNS)}",
            f"name the column of times, such as {str(table.name)[1:]}/COLUMN; it has "
            + ", ".join(columns),
        )

    def _chosen(self, times: Times, kinds: dict[str, Array], name: str, path: str) -> Times:
        """Keep the events of the kind asked for; ask where there are several."""
        if self.label is None:
            several = {key: sorted(set(map(str, values))) for key, values in kinds.items()}
            mixed = {key: found for key, found in several.items() if len(found) > 1}
            if mixed:
                held = "; ".join(f"{key}: {', '.join(found[:5])}" for key, found in mixed.items())
                raise RecordingError(
                    path,
                    f"{name} has events of several kinds ({held})",
                    "choose one with Triggers(label=...), or all with label='*'",
                )
            return times
        wanted = str(self.label)
        fits = [
            np.array([fnmatchcase(str(value), wanted) for value in values], bool)
            for values in kinds.values()
        ]
        mine = np.any(fits, axis=0) if fits else np.zeros(times.size, bool)
        if not mine.any():
            held = ", ".join(sorted({str(v) for values in kinds.values() for v in values})[:8])
            raise RecordingError(
                path, f"{name} has no events {wanted!r}", f"it has {held or 'no kinds of events'}"
            )
        return times[mine]


def _series_of_events(file: h5py.File) -> Iterator[tuple[str, h5py.Group]]:
    rooms = ["events", "acquisition", "stimulus/presentation"]
    rooms += [f"processing/{name}" for name in file.get("processing", ())]
    for room in rooms:
        held = file.get(room)
        for name, thing in held.items() if isinstance(held, h5py.Group) else ():
            if not isinstance(thing, h5py.Group):
                continue
            if text(thing.attrs.get("neurodata_type", "")) in _EVENTS:
                yield f"{room}/{name}", thing


def _kinds(data: h5py.Dataset) -> Array | None:
    """Return the kind of every event of a series: words, or numbers that stand for labels."""
    labels = data.attrs.get("labels")
    if labels is not None and data.dtype.kind in "iu":
        words = np.array([text(label) for label in np.atleast_1d(labels).tolist()], object)
        keys = np.asarray(data[()])
        return words[keys] if keys.size and 0 <= keys.min() <= keys.max() < words.size else None
    if h5py.check_string_dtype(data.dtype) is not None:
        return np.array([text(value) for value in np.atleast_1d(data[()]).tolist()], object)
    return None


def _crossings(trace: h5py.Group, threshold: float, path: str) -> Times:
    """Return the times of the first samples at or above the threshold, read in slabs."""
    data = trace.get("data")
    if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.kind not in "biuf":
        raise RecordingError(path, f"{trace.name} is no trace of one value at a time")
    slope = float(data.attrs.get("conversion", 1.0))
    offset = float(data.attrs.get("offset", 0.0))
    rises, above = [], True
    least, most = np.inf, -np.inf
    for start in range(0, len(data), _SLAB):
        values = data[start : start + _SLAB] * slope + offset
        high = values >= threshold
        rises.append(start + np.flatnonzero(high & ~np.append(above, high[:-1])))
        above, least, most = bool(high[-1]), min(least, values.min()), max(most, values.max())
    places = np.concatenate(rises) if rises else np.empty(0, np.intp)
    if places.size < 2:
        raise RecordingError(
            path,
            f"{trace.name} rises to {threshold:g} in {places.size} places",
            f"its values go from {least:g} to {most:g}; correct threshold=",
        )
    return stated_times(trace, path, len(data), what="sample")[places]


def flips_of(
    pulses: NDArray[np.float64],
    every: int = 1,
    frames: int | None = None,
    *,
    name: str = "the movie",
    path: str = "triggers",
) -> Times:
    """Return the onset of every frame from pulses that came every so many frames.

    Parameters
    ----------
    pulses : ndarray (pulse,)
        Increasing seconds; the first marks the first frame.
    every : int, default 1
        Frames from one pulse to the next.
    frames : int, optional
        Frames of the movie; by default as many as the pulses stand for.
    name, path : str
        The movie and the file, for messages.

    Returns
    -------
    ndarray (frame,)
        Increasing seconds; fewer than `frames` where the last pulse is missing.

    Raises
    ------
    RecordingError
        If pulses and frames differ by more than one pulse and missed pulses do not explain it.

    Notes
    -----
    Frame j after pulse k has its onset at ``t_k + j (t_{k+1} - t_k) / every``; after the last
    pulse the median interval stands for the next one. An interval of about k medians, k = 2,
    3, ..., within a tenth of a median, means either k - 1 missed pulses or a display that
    stood still. Only the number of frames tells them apart: where pulses are wanting and the
    long intervals explain exactly how many, they are filled in; where none is wanting, the frames
    go on at the usual pace after the pulse and the display stood still afterwards.
    """
    if every < 1 or pulses.size < 2:
        raise RecordingError(path, f"{name} has {pulses.size} pulses, one every {every} frames")
    wanted = pulses.size if frames is None else -(-frames // every)
    found = pulses.size
    if found < wanted:
        pulses = _filled(pulses, wanted - found, name, path)
    if abs(pulses.size - wanted) > 1:
        one = "frame" if every == 1 else f"{every} frames"
        raise RecordingError(
            path,
            f"{name} has {frames} frames, which need {wanted} pulses (one every {one}), "
            f"but there are {found}",
            "correct every=, or take the pulses of this movie only with between=",
        )
    if pulses.size != wanted:
        what = "last pulse is" if pulses.size > wanted else "frames after the last pulse are"
        words = "%s: %s needs %d pulses and there are %d; the %s left out"
        _log.warning(words, path, name, wanted, found, what)
    pulses = pulses[:wanted]
    return _between(pulses, every)[: frames if frames is not None else None]


def _filled(pulses: Times, missing: int, name: str, path: str) -> Times:
    """Fill in missed pulses where the long intervals explain exactly how many are missing."""
    intervals = np.diff(pulses)
    median = float(np.median(intervals))
    times = np.round(intervals / median).astype(np.intp)
    gaps = (times >= 2) & (np.abs(intervals - times * median) <= _NEAR * median)
    if int((times[gaps] - 1).sum()) != missing:
        return pulses
    places = np.flatnonzero(gaps)
    first = ", ".join(f"{pulses[place]:.4g}" for place in places[:3])
    words = "%s: %d missed pulses of %s are filled in, first after %s s"
    _log.warning(words, path, missing, name, first)
    parts = [pulses]
    for place in places:
        share = np.arange(1, times[place]) / times[place]
        parts.append(pulses[place] + share * intervals[place])
    return np.sort(np.concatenate(parts))


def _between(pulses: Times, every: int) -> Times:
    intervals = np.diff(pulses)
    median = float(np.median(intervals))
    pace = np.append(np.where(intervals > _STOPPED * median, median, intervals), median) / every
    flips: Times = (pulses[:, None] + np.arange(every) * pace[:, None]).ravel()
    return flips
