"""The NWB 2 doors: a file becomes a Stimulus or a Recording, and the other way round."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import InputError, RecordingError
from retinacodec.hdf5_safety import blaming, open_hdf5
from retinacodec.nwb_coding import restored
from retinacodec.nwb_contrast import Contrast, Part, pixel_size
from retinacodec.nwb_movies import open_movie
from retinacodec.nwb_session import Session
from retinacodec.nwb_spikes import check_clock, read_spikes, text
from retinacodec.nwb_writer import write_nwb
from retinacodec.recordings import bin_spikes, dropped_frames
from retinacodec.schema import make_recording, make_stimulus

__all__ = ["Contrast", "Session", "open_nwb", "read_nwb", "read_stimulus", "write_nwb"]

_log = logging.getLogger(__name__)


@contextmanager
def open_nwb(path: str | Path) -> Iterator[h5py.File]:
    """Open an NWB 2 file that has passed the safety scan.

    Parameters
    ----------
    path : str or Path
        The file.

    Yields
    ------
    h5py.File
        The open file; errors inside the ``with`` block become `RecordingError`.

    Raises
    ------
    RecordingError
        If the file cannot be read, is unsafe, or is not NWB 2; the hint says what to do.
    """
    with open_hdf5(path, first=lambda file: _check_version(file, path)) as file:
        yield file


def read_nwb(
    path: str | Path,
    *,
    stimulus: str | xr.Dataset | None = None,
    cells: Sequence[str] | None = None,
    names: str | None = None,
    units: str | None = None,
    spike_scale: float = 1.0,
    max_gap: float = 3.0,
    repeat_frames: int | None = None,
) -> xr.Dataset:
    """Read the spikes of an NWB 2 file, counted on the real flips of one of its movies.

    Parameters
    ----------
    path : str or Path
        The file.
    stimulus : str or Stimulus, optional
        Name of the movie in the file, needed where there are several; or a Stimulus whose
        ``time`` is on the file's clock, where the file has no movie.
    cells : sequence of str, optional
        Ids of the cells to keep, in this order; by default all.
    names : str, optional
        Column of the units table with the names of the cells; by default ``unit_name`` where
        present, else the file's own ids.
    units : str, optional
        Place of the units table, where the file has several.
    spike_scale : float, default 1
        Seconds in one unit of the file's spike times.
    max_gap : float, default 3
        Longer intervals between flips, in median intervals, are gaps in the movie.
    repeat_frames : int, optional
        Frames of one repeat, where the file shows a movie again and again without saying so.

    Returns
    -------
    Recording
        ``spike_count`` (time, cell), NaN where a cell was not observed, and ``repeats`` (repeat,
        time, cell) where the movie was repeated; ``spike_count`` is then their mean.

    Raises
    ------
    RecordingError
        If the file, its units or the movie's times are broken or cannot be told apart.
    """
    with open_nwb(path) as file:
        spikes = read_spikes(file, str(path), table=units, names=names, scale=spike_scale)
        if cells is not None:
            spikes = spikes.choose(cells, str(path))
        flips, rate, title = _clock(file, path, stimulus, repeat_frames)
        check_clock(spikes, float(flips[0][0]), float(flips[-1][-1]), str(path))
        counts = [
            bin_spikes(spikes.times, shown, obs_intervals=spikes.observed, max_gap=max_gap)
            for shown in flips
        ]
        lost = sum(dropped_frames(shown).size for shown in flips)
        if lost:
            words = "%s: %d frames of %s were dropped; counts follow the real flips"
            _log.warning(words, path, lost, title)
        with blaming(path):
            return make_recording(
                _mean(counts),
                time=flips[0],
                frame_rate=rate,
                cells=spikes.cells,
                repeats=np.stack(counts) if len(counts) > 1 else None,
                name=title,
                parameters={**_origin(file, path), "stimulus": title, "dropped_frames": lost},
            )


def read_stimulus(
    path: str | Path,
    name: str | None = None,
    *,
    frames: tuple[int, int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    spatial_order: Literal["xy", "yx"] = "xy",
    contrast: Contrast | None = None,
    pixel_um: float | None = None,
    repeat_frames: int | None = None,
    budget_gb: float = 8.0,
) -> xr.Dataset:
    """Read a movie of an NWB 2 file as contrast on the retina.

    Parameters
    ----------
    path : str or Path
        The file.
    name : str, optional
        Name of the movie, needed where there are several.
    frames : (int, int), optional
        First frame and the one after the last; by default all of one presentation.
    crop : (int, int, int, int), optional
        Pixels to keep: y from, y to, x from, x to.
    spatial_order : {"xy", "yx"}, default "xy"
        What the second and third axis of the pixels are. NWB says (frame, x, y), but many files
        hold (frame, row, column), which is "yx". Only a field of view that would make the pixels
        oblong tells the two apart, and is an error. Files of this package know their order.
    contrast : Contrast, optional
        How values become contrast. By default exactly as written where the file is from this
        package, else ``(value - mean) / mean`` with the mean of the whole movie.
    pixel_um : float, optional
        Side of a pixel on the retina in um, in place of the field of view that the file states.
        Files of this package know it.
    repeat_frames : int, optional
        Frames of one repeat, as in `read_nwb`.
    budget_gb : float, default 8
        Refuse to read more than this many gigabytes of contrast.

    Returns
    -------
    Stimulus
        One presentation; ``time`` are its flips on the file's clock.

    Raises
    ------
    RecordingError
        If the movie is missing, broken or too large, or its pixel size or contrast unknown.
    """
    if spatial_order not in ("xy", "yx"):
        raise InputError(f"spatial_order: expected 'xy' or 'yx', got {spatial_order!r}")
    with open_nwb(path) as file:
        movie = open_movie(file, str(path), name, repeat_frames=repeat_frames)
        pixels = movie.open_pixels()
        across = spatial_order == "xy" or movie.note is not None
        part = Part.of(movie, pixels, frames, crop, across, path)
        if movie.note is None and pixel_um is None:
            pixel_um = pixel_size(movie.group, pixels.size, across, path)
        values = part.read(contrast, budget_gb)
        with blaming(path):
            if movie.note is not None:
                return _as_written(file, part, values, movie.note)
            return make_stimulus(
                values,
                frame_rate=movie.frame_rate,
                pixel_um=float(pixel_um or 0),
                name=movie.name,
                time=movie.flips[0][part.frames],
                parameters={
                    **_origin(file, path),
                    "spatial_order": spatial_order,
                    "description": text(movie.group.attrs.get("description", "")),
                },
            )


def _clock(
    file: h5py.File,
    path: str | Path,
    stimulus: str | xr.Dataset | None,
    repeat_frames: int | None,
) -> tuple[tuple[NDArray[np.float64], ...], float, str]:
    """Return the flips of each presentation, the frame rate and the name of a movie."""
    if isinstance(stimulus, xr.Dataset):
        name = str(stimulus.attrs.get("name", ""))
        return (stimulus["time"].values,), float(stimulus.attrs["frame_rate"]), name
    movie = open_movie(file, str(path), stimulus, repeat_frames=repeat_frames)
    return movie.flips, movie.frame_rate, movie.name


def _as_written(
    file: h5py.File, part: Part, values: NDArray[np.float32], note: Mapping[str, Any]
) -> xr.Dataset:
    """Restore a movie of this package with its ground truth."""
    movie = part.movie
    truth = {
        key: file[f"processing/misc/{movie.name}_{key}/data"][part.frames] for key in note["truth"]
    }
    time = movie.flips[0][part.frames]
    return restored(note, values, time, truth, part.rows, part.columns)


def _origin(file: h5py.File, path: str | Path) -> dict[str, str]:
    """Return which file something came from: its name, its identifier and its session."""
    facts = {"file": Path(path).name}
    for key, place in (("identifier", "identifier"), ("session", "general/session_id")):
        if isinstance(file.get(place), h5py.Dataset):
            facts[key] = text(file[place][()])
    return facts


def _mean(counts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Average over the repeats in which a cell was observed; NaN where it never was."""
    if len(counts) == 1:
        return counts[0]
    stack = np.stack(counts).astype(np.float64)
    seen = np.isfinite(stack).sum(axis=0)
    total = np.nansum(stack, axis=0)
    return np.where(seen > 0, total / np.maximum(seen, 1), np.nan).astype(np.float32)


def _check_version(file: h5py.File, path: str | Path) -> None:
    version = file.attrs.get("nwb_version", b"")
    if not version and isinstance(file.get("nwb_version", getlink=True), h5py.HardLink):
        version = file["nwb_version"][()]  # NWB 1 kept it as a dataset
    number, name = text(version), Path(path).name
    if number.removeprefix("NWB-").startswith("1"):
        raise RecordingError(
            path,
            f"is NWB {number}, the old format",
            f"convert it: retinacodec import {name} --out NEW.nwb",
        )
    if not number.startswith("2"):
        raise RecordingError(
            path, "is HDF5 but not NWB 2", f"see what it holds: retinacodec info {name}"
        )
