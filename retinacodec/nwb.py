"""The NWB 2 doors: a file becomes a Stimulus or a Recording, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import InputError, RecordingError
from retinacodec.frame_averages import mean_of_repeats
from retinacodec.hdf5_safety import blaming, open_hdf5
from retinacodec.nwb_clock import MovieClock, Showings, origin
from retinacodec.nwb_coding import restored
from retinacodec.nwb_contrast import Contrast, Part, pixel_size
from retinacodec.nwb_generators import Generator
from retinacodec.nwb_on_frames import binned_on_flips, traces_on_flips
from retinacodec.nwb_session import Session
from retinacodec.nwb_spikes import Spikes, check_clock, read_spikes, text
from retinacodec.nwb_triggers import Triggers
from retinacodec.nwb_writer import write_nwb
from retinacodec.recordings import bin_spikes
from retinacodec.schema import make_recording, make_stimulus
from retinacodec.traces import make_traces

__all__ = [
    "Contrast",
    "Session",
    "open_nwb",
    "read_nwb",
    "read_stimulus",
    "read_traces",
    "write_nwb",
]


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
    responses: str | None = None,
    quantity: Literal["rate", "count"] | None = None,
    spike_scale: float = 1.0,
    sort_spikes: bool = False,
    max_gap: float = 3.0,
    repeat_frames: int | None = None,
    triggers: Triggers | None = None,
    generator: Generator | None = None,
    allow_external: Sequence[str | Path] = (),
    frame_rate: float | None = None,
) -> xr.Dataset:
    """Read the spikes of an NWB 2 file, counted on the real flips of one of its movies.

    Parameters
    ----------
    path : str or Path
        The file.
    stimulus : str or Stimulus, optional
        Name of the movie in the file, needed where there are several; or a Stimulus, where the
        file has no movie: its ``time`` is on the file's clock, or `triggers` say when its frames
        were shown.
    cells : sequence of str, optional
        Ids of the cells to keep, in this order; by default all.
    names : str, optional
        Column of the units table with the names of the cells; by default ``unit_name`` where
        present, else the file's own ids.
    units : str, optional
        Place of the units table, where the file has several.
    responses : str, optional
        Name of a series (time x cell) of responses that are binned already, in place of spikes.
    quantity : {"rate", "count"}, optional
        What that series holds, where its unit does not say so.
    spike_scale : float, default 1
        Seconds in one unit of the file's spike times.
    sort_spikes : bool, default False
        Put unsorted spike times in order instead of refusing them.
    max_gap : float, default 3
        Longer intervals between flips, in median intervals, are gaps in the movie.
    repeat_frames : int, optional
        Frames of one repeat, where the file shows a movie again and again without saying so.
    triggers : Triggers, optional
        Where the file keeps the pulses of the display, in place of the movie's own times.
    generator : Generator, optional
        How a movie is drawn that the file keeps as a seed only.
    allow_external : sequence of str or Path
        Films, or folders of films, outside the folder of the file that may be opened.
    frame_rate : float, optional
        Hz, in place of the rate that the file states, where it has no timestamps.

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
    clock = MovieClock(stimulus, repeat_frames, triggers, generator, allow_external, frame_rate)
    with open_nwb(path) as file:
        shown = clock.showings(file, path)
        if responses is not None:
            mean, repeats, series = binned_on_flips(
                file,
                str(path),
                shown.flips,
                name=responses,
                quantity=quantity,
                cells=cells,
                max_gap=max_gap,
            )
            ids: Sequence[str] = series.cells
        else:
            table: dict[str, Any] = {"table": units, "names": names, "scale": spike_scale}
            spikes = read_spikes(file, str(path), sort=sort_spikes, **table)
            spikes = spikes if cells is None else spikes.choose(cells, str(path))
            mean, repeats = _counted(spikes, shown, max_gap, str(path))
            ids = spikes.cells
        facts = {**origin(file, path), "stimulus": shown.name, "dropped_frames": shown.dropped}
        with blaming(path):
            return make_recording(
                mean,
                time=shown.flips[0],
                frame_rate=shown.frame_rate,
                cells=ids,
                repeats=repeats,
                name=shown.name,
                parameters={**facts, "repeats_found_by": shown.found_by},
            )


def read_traces(
    path: str | Path,
    name: str | None = None,
    *,
    stimulus: str | xr.Dataset | None = None,
    cells: Sequence[str] | None = None,
    scale: float = 1.0,
    max_gap: float = 3.0,
    repeat_frames: int | None = None,
    triggers: Triggers | None = None,
    generator: Generator | None = None,
    allow_external: Sequence[str | Path] = (),
    frame_rate: float | None = None,
) -> xr.Dataset:
    """Read sampled responses of an NWB 2 file, one value for each frame of one of its movies.

    Parameters
    ----------
    path : str or Path
        The file.
    name : str, optional
        Which response, needed where there are several: membrane potentials, fluorescence or any
        series (time x cell).
    stimulus : str or Stimulus, optional
        The movie, as in `read_nwb`.
    cells : sequence of str, optional
        Cells to keep, in this order; by default all.
    scale : float, default 1
        Factor by which the file's conversion is wrong, such as 1e-3 for mV stored as volts.
    max_gap, repeat_frames, triggers, generator, allow_external, frame_rate
        As in `read_nwb`.

    Returns
    -------
    xarray.Dataset
        ``trace`` (time, cell) in the unit of the file, the mean of the repeats, NaN where nothing
        was sampled; ``repeats`` (repeat, time, cell) where the movie was repeated. Samples faster
        than frames are averaged over each frame, slower ones interpolated at its centre.

    Raises
    ------
    RecordingError
        If the file or the series is broken, or samples and flips share no time.
    """
    clock = MovieClock(stimulus, repeat_frames, triggers, generator, allow_external, frame_rate)
    with open_nwb(path) as file:
        shown = clock.showings(file, path)
        mean, repeats, series = traces_on_flips(
            file, str(path), shown.flips, name=name, cells=cells, scale=scale, max_gap=max_gap
        )
        facts = {**origin(file, path), "stimulus": shown.name, "dropped_frames": shown.dropped}
        with blaming(path):
            return make_traces(
                mean,
                time=shown.flips[0],
                frame_rate=shown.frame_rate,
                cells=series.cells,
                units=series.unit,
                repeats=repeats,
                name=series.name,
                parameters={**facts, "response": series.kind},
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
    triggers: Triggers | None = None,
    generator: Generator | None = None,
    allow_external: Sequence[str | Path] = (),
    frame_rate: float | None = None,
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
    repeat_frames, triggers, generator, allow_external, frame_rate
        As in `read_nwb`.
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
    clock = MovieClock(name, repeat_frames, triggers, generator, allow_external, frame_rate)
    with open_nwb(path) as file:
        movie = clock.movie(file, path)
        pixels = movie.open_pixels()
        across = spatial_order == "xy" or movie.note is not None
        part = Part.of(movie, pixels, frames, crop, across, path)
        if movie.note is None and pixel_um is None:
            pixel_um = pixel_size(movie.group, pixels.size, part.across, path)
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
                    **origin(file, path),
                    "spatial_order": spatial_order,
                    "description": text(movie.group.attrs.get("description", "")),
                },
            )


def _counted(
    spikes: Spikes, shown: Showings, max_gap: float, path: str
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Count spikes on the flips of each presentation; return the mean and all of several."""
    check_clock(spikes, *shown.span, path)
    counts = [
        bin_spikes(spikes.times, flips, obs_intervals=spikes.observed, max_gap=max_gap)
        for flips in shown.flips
    ]
    return mean_of_repeats(counts), np.stack(counts) if len(counts) > 1 else None


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
