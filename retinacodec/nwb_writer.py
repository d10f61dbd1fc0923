"""Writing movies and spikes as NWB 2 files that the NWB inspector has nothing to say about."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr
from numpy.typing import NDArray

from retinacodec.atomic import replacing
from retinacodec.errors import InputError, Problems
from retinacodec.nwb_coding import Block, block_of
from retinacodec.nwb_session import Prepared, Session
from retinacodec.nwb_trains import Train, trains_of_counts, trains_of_times
from retinacodec.progress import track

__all__ = ["creating", "store", "write_nwb"]

_CHUNK_BYTES = 1 << 20
_SLAB_BYTES = 1 << 25


def write_nwb(
    path: str | Path,
    movie: xr.Dataset | Sequence[xr.Dataset],
    recording: xr.Dataset | Sequence[xr.Dataset] | None = None,
    *,
    spike_times: Mapping[str, npt.ArrayLike] | None = None,
    session: Session | None = None,
    overwrite: bool = False,
) -> Path:
    """Write movies and the spikes of cells to an NWB 2 file.

    Parameters
    ----------
    path : str or Path
        The file to write.
    movie : Stimulus or sequence of Stimulus
        One or several movies with different names, on one clock and not overlapping in time.
    recording : Recording or sequence of Recording, optional
        Counts on the frames of each movie. A recording with `repeats` writes its movie as that
        many presentations, back to back. The spikes of a frame are spaced evenly inside it, so
        that binning them again gives the same counts.
    spike_times : mapping of str to array_like, optional
        Spike times of each cell in seconds on the clock of the movies, instead of counts.
    session : Session, optional
        Who, when, which animal; by default that of a simulation.
    overwrite : bool, default False
        Replace an existing file.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If something cannot be written; no file is left behind.

    Notes
    -----
    `read_stimulus` gives back exactly the movie that was written: contrasts are stored as 8-bit
    grey values where at most 256 of them occur and as float32 otherwise, flip times as numbers,
    ground truth as time series, and the rest as JSON in the comments of the movie.
    """
    if recording is not None and spike_times is not None:
        raise InputError("write_nwb: expected counts (recording) or spike_times, got both")
    movies = [movie] if isinstance(movie, xr.Dataset) else list(movie)
    recordings: list[xr.Dataset] = []
    if recording is not None:
        recordings = [recording] if isinstance(recording, xr.Dataset) else list(recording)
        if len(recordings) != len(movies):
            raise InputError(
                f"write_nwb: expected one recording for each of {len(movies)} movies, "
                f"got {len(recordings)}"
            )
    shown = [one.sizes.get("repeat", 1) for one in recordings] or [1] * len(movies)
    with creating(path, overwrite=overwrite) as temporary:
        blocks = [block_of(one, times) for one, times in zip(movies, shown, strict=True)]
        if spike_times is not None:
            trains = trains_of_times(spike_times)
        else:
            trains = trains_of_counts(recordings, blocks) if recordings else []
        store(temporary, Prepared(blocks, trains, session or Session()))
    return Path(path)


@contextmanager
def creating(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary name for `store` that becomes the file if all goes well.

    Parameters
    ----------
    path : str or Path
        The file to be.
    overwrite : bool, default False
        Replace an existing file.

    Yields
    ------
    Path
        The temporary name.

    Raises
    ------
    InputError
        If the file exists or cannot be written.
    """
    try:
        with replacing(path, overwrite=overwrite) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def store(path: Path, contents: Prepared) -> None:
    """Write prepared movies and spike trains to a new file; `write_nwb` is the plain way.

    Parameters
    ----------
    path : Path
        A temporary name from `creating`.
    contents : Prepared
        Movies, spikes and session.

    Raises
    ------
    InputError
        If there is no movie, names are not unique, or movies overlap in time.
    """
    _check_blocks(contents.blocks)
    _write_structure(path, contents)
    with h5py.File(path, "r+") as file:
        for block in contents.blocks:
            _fill(file[f"stimulus/presentation/{block.name}/data"], block)


def _check_blocks(blocks: Sequence[Block]) -> None:
    problems = Problems()
    names = [block.name for block in blocks]
    problems.require(len(blocks) > 0, "expected at least one movie")
    problems.require(len(set(names)) == len(names), f"movies need different names, got {names}")
    spans = sorted(
        (block.onsets[0], block.onsets[0] + block.presentations * block.period, block.name)
        for block in blocks
    )
    for (_, stop, first), (start, _, second) in pairwise(spans):
        problems.require(
            start >= stop - 1e-9,
            f"{second!r} starts at {start:g} s before {first!r} "
            f"ends at {stop:g} s; shift its time coordinate",
        )
    problems.raise_as("write_nwb")


def _write_structure(path: Path, contents: Prepared) -> None:
    """Write everything but the pixels, for which room is made."""
    from pynwb import NWBHDF5IO

    file = _new_file(contents.session)
    screen = file.create_device(name="screen", description=contents.session.screen)
    for block in contents.blocks:
        file.add_stimulus(_series(block, screen))
        _add_truth(file, block)
    _add_presentations(file, contents.blocks)
    _add_units(file, contents.trains, contents.resolution)
    with h5py.File(path, "w") as room, NWBHDF5IO(file=room, mode="w") as io:
        io.write(file)


def _new_file(session: Session) -> Any:
    from pynwb import NWBFile
    from pynwb.file import Subject

    identifier = session.identifier or str(uuid.uuid4())
    file = NWBFile(
        session_description=session.description,
        identifier=identifier,
        session_start_time=session.start or datetime.now(UTC),
        session_id=(session.session_id or identifier).replace("/", "-"),
        experimenter=list(session.experimenter),
        experiment_description=session.experiment_description,
        lab=session.lab,
        institution=session.institution,
        keywords=list(session.keywords),
        related_publications=list(session.publications) or None,
        notes=session.notes or None,
    )
    file.subject = Subject(
        subject_id=session.subject_id,
        species=session.species,
        sex=session.sex,
        age=session.age,
        description=session.subject_description,
    )
    return file


def _timing(onsets: NDArray[np.float64]) -> dict[str, Any]:
    """Return the rate where flips are regular to a nanosecond, as inspectors ask, or the flips."""
    intervals = np.diff(onsets)
    if np.unique(intervals.round(9)).size == 1:
        rate = (onsets.size - 1) / (onsets[-1] - onsets[0])
        return {"starting_time": float(onsets[0]), "rate": float(rate)}
    return {"timestamps": _packed(onsets)}


def _packed(values: NDArray[Any]) -> Any:
    from pynwb import H5DataIO

    return H5DataIO(values, compression="gzip", compression_opts=4, shuffle=True)


def _series(block: Block, screen: Any) -> Any:
    from pynwb import H5DataIO
    from pynwb.image import OpticalSeries

    frames, width, height = block.shape
    per_frame = max(1, width * height * block.dtype.itemsize)
    chunk = min(frames * block.presentations, max(1, _CHUNK_BYTES // per_frame))
    room = H5DataIO(
        shape=(frames * block.presentations, width, height),
        dtype=block.dtype,
        maxshape=(None, width, height),
        chunks=(chunk, width, height),
        compression="gzip",
        compression_opts=4,
        shuffle=block.dtype.itemsize > 1,
    )
    return OpticalSeries(
        name=block.name,
        description=block.description,
        comments=block.note,
        data=room,
        unit="n.a.",
        conversion=float(block.line[0]),
        offset=float(block.line[1]),
        distance=0.0,
        field_of_view=np.asarray(block.field_um, np.float64) * 1e-6,
        orientation="second axis is x, third axis is y, on the surface of the retina",
        device=screen,
        **_timing(block.all_onsets()),
    )


def _add_truth(file: Any, block: Block) -> None:
    from pynwb import TimeSeries

    timing = _timing(block.onsets)
    series = {
        f"{block.name}_{key}": (values, unit, f"{key} in each frame of {block.name}")
        for key, (values, unit) in block.truth.items()
    }
    if block.exact_onsets and "rate" in _timing(block.all_onsets()):
        series[f"{block.name}_frame_onsets"] = (
            block.onsets,
            "s",
            f"flip times of {block.name} before rounding to a constant rate",
        )
    if not series:
        return
    module = file.processing.get("misc") or file.create_processing_module(
        name="misc", description="what is known about each frame of the movies"
    )
    for name, (values, unit, words) in series.items():
        module.add(
            TimeSeries(
                name=name, data=_packed(values), unit=unit or "n.a.", description=words, **timing
            )
        )


def _add_presentations(file: Any, blocks: Sequence[Block]) -> None:
    """List every presentation, numbered from 1 where a movie was repeated and 0 where not."""
    from pynwb.epoch import TimeIntervals

    rows = [
        (float(start), float(start + block.period), block.name, repeat + 1 if repeated else 0)
        for block in blocks
        for repeated in [block.presentations > 1]
        for repeat in range(block.presentations)
        for start in [block.onsets[0] + repeat * block.period]
    ]
    if len(rows) < 2:
        return
    table = TimeIntervals(name="stimulus_presentations", description="one row a presentation")
    table.add_column(name="stimulus_name", description="movie in the stimulus group")
    table.add_column(name="repeat", description="number of the repeat, 0 where there is one only")
    for start, stop, name, repeat in sorted(rows):
        table.add_row(start_time=start, stop_time=stop, stimulus_name=name, repeat=repeat)
    file.add_time_intervals(table)


def _add_units(file: Any, trains: Sequence[Train], resolution: float | None) -> None:
    if not trains:
        return
    file.add_unit_column(name="unit_name", description="name of the cell")
    for train in trains:
        observed = {} if train.observed is None else {"obs_intervals": train.observed}
        file.add_unit(spike_times=train.times, unit_name=train.cell, **observed)
    steps = [np.diff(train.times) for train in trains if train.times.size > 1]
    smallest = [float(step[step > 0].min()) for step in steps if (step > 0).any()]
    file.units.resolution = resolution or min([0.01, *smallest])


def _fill(dataset: h5py.Dataset, block: Block) -> None:
    """Write the pixels of all presentations in whole chunks."""
    frames, chunk = block.shape[0], dataset.chunks[0]
    step = chunk * max(1, _SLAB_BYTES // (chunk * block.shape[1] * block.shape[2] * 4))
    total = len(dataset)
    for start in track(range(0, total, step), f"writing {block.name}"):
        stop = min(start + step, total)
        parts, place = [], start
        while place < stop:
            offset = place % frames
            take = min(stop - place, frames - offset)
            parts.append(block.read(offset, offset + take))
            place += take
        dataset[start:stop] = parts[0] if len(parts) == 1 else np.concatenate(parts)
