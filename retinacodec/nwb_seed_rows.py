"""Movies whose showings are rows of a table, each with the seed it was drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.nwb_generators import Generator, drawn
from retinacodec.nwb_pixels import Pixels
from retinacodec.nwb_tables import plain_columns
from retinacodec.nwb_times import checked_times
from retinacodec.nwb_triggers import Triggers, flips_of

__all__ = ["SeedRows", "seed_rows"]

Times = NDArray[np.float64]


@dataclass(frozen=True)
class SeedRows:
    """The showings that rows of a table stand for.

    Parameters
    ----------
    name : str
        Place of the table.
    seeds : tuple of int
        Seed of each row.
    flips : tuple of ndarray (frame,)
        Flip times of each row, s.
    """

    name: str
    seeds: tuple[int, ...]
    flips: tuple[Times, ...]

    @property
    def repeated(self) -> bool:
        """True where all rows show the same: they have one seed and differ by a frame at most."""
        lengths = [flips.size for flips in self.flips]
        return len(lengths) > 1 and len(set(self.seeds)) == 1 and max(lengths) - min(lengths) <= 1

    def showings(self, path: str) -> tuple[Times, ...]:
        """Return the flips of each repeat, or of all rows as one movie."""
        if self.repeated:
            least = min(flips.size for flips in self.flips)
            return tuple(flips[:least] for flips in self.flips)
        return (checked_times(np.concatenate(self.flips), self.name, path),)

    def pixels(self, generator: Generator, path: str) -> Pixels:
        """Draw one repeat, or all rows one after another."""
        rows = list(zip(self.seeds, self.flips, strict=True))
        parts = [
            drawn(generator, flips.size, seed, self.name, path)
            for seed, flips in (rows[:1] if self.repeated else rows)
        ]
        movie = np.concatenate([part.raw(0, part.frames) for part in parts])
        size = (movie.shape[1], movie.shape[2])
        return Pixels(
            len(movie), size, lambda start, stop: movie[start:stop], upright=True, contrasts=True
        )


def seed_rows(
    file: h5py.File,
    table: h5py.Group,
    path: str,
    generator: Generator,
    *,
    frame_rate: float | None = None,
    triggers: Triggers | None = None,
) -> SeedRows:
    """Read the rows of a table of intervals as showings of what a generator draws.

    Parameters
    ----------
    file : h5py.File
        The open file.
    table : h5py.Group
        A table with ``start_time`` and ``stop_time``, and ``seed`` unless it was declared.
    path : str
        Name of the file, for messages.
    generator : Generator
        The declaration. Its own seed, where it has one, chooses the rows with this seed.
    frame_rate : float, optional
        Hz; by default the column ``frame_rate``.
    triggers : Triggers, optional
        Where the pulses of the frames are; they count within the rows.

    Returns
    -------
    SeedRows
        In the order of time.

    Raises
    ------
    RecordingError
        If times, seeds or the frame rate are missing or broken.
    """
    name, columns = str(table.name)[1:], plain_columns(table, path)
    missing = [key for key in ("start_time", "stop_time") if key not in columns]
    if missing:
        raise RecordingError(
            path, f"{name} has no column {missing[0]}", f"it has {', '.join(columns)}"
        )
    declared = getattr(generator, "seed", None)
    start, stop = columns["start_time"].astype(float), columns["stop_time"].astype(float)
    seeds = _seeds(columns, declared, start.size, name, path)
    keep = np.isfinite(seeds) & (seeds == (seeds if declared is None else declared))
    keep &= np.isfinite(start) & (stop > start)
    if not keep.any():
        held = sorted({int(seed) for seed in seeds[np.isfinite(seeds)]})[:8]
        wanted = "" if declared is None else f" with seed {declared}"
        raise RecordingError(path, f"{name} has no row{wanted}", f"its seeds are {held}")
    rows = np.flatnonzero(keep)[np.argsort(start[keep], kind="stable")]
    pulses = triggers.pulses(file, path) if triggers is not None else None
    flips = []
    for row in rows:
        if pulses is not None and triggers is not None:
            inside = pulses[(pulses >= start[row] - 1e-6) & (pulses < stop[row])]
            flips.append(flips_of(inside, triggers.every, name=f"row {row} of {name}", path=path))
        else:
            rate = _rate(columns, int(row), frame_rate, name, path)
            count = round((stop[row] - start[row]) * rate)
            flips.append(start[row] + np.arange(count) / rate)
    return SeedRows(name, tuple(int(seeds[row]) for row in rows), tuple(flips))


def _seeds(
    columns: dict[str, NDArray[np.generic]], declared: int | None, rows: int, name: str, path: str
) -> Times:
    """Return the seed of each row, NaN where it has none."""
    if "seed" not in columns and declared is not None:
        return np.full(rows, float(declared))
    seeds = columns.get("seed")
    if seeds is None or seeds.dtype.kind not in "iuf":
        raise RecordingError(
            path,
            f"{name} has no column of numbers called seed",
            "say the seed in the declaration: generator=BinaryNoise(..., seed=...)",
        )
    return np.asarray(seeds, np.float64)


def _rate(
    columns: dict[str, NDArray[np.generic]],
    row: int,
    frame_rate: float | None,
    name: str,
    path: str,
) -> float:
    stated = columns.get("frame_rate")
    if frame_rate is None and stated is not None and stated.dtype.kind in "iuf":
        frame_rate = float(np.asarray(stated, np.float64)[row])
    if frame_rate is None:
        raise RecordingError(
            path,
            f"{name} says when rows began and ended, but not the flips of frames",
            "give frame_rate= or triggers=",
        )
    if not (np.isfinite(frame_rate) and frame_rate > 0):
        raise RecordingError(path, f"{name} has a frame rate of {frame_rate:g} Hz in row {row}")
    return frame_rate
