"""Writing movies and spikes as NWB 2 files that the NWB inspector has nothing to say about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.atomic import replacing
from retinacodec.errors import InputError, Problems
from retinacodec.nwb_coding import Block, block_of
from retinacodec.nwb_parts import add_movies, add_units, new_file
from retinacodec.nwb_session import Prepared, Session
from retinacodec.nwb_traces import add_traces, trace_of
from retinacodec.nwb_trains import trains_of_counts, trains_of_times
from retinacodec.progress import track

__all__ = ["creating", "store", "write_nwb"]

_SLAB_BYTES = 1 << 25


def write_nwb(
    path: str | Path,
    movie: xr.Dataset | Sequence[xr.Dataset],
    recording: xr.Dataset | Sequence[xr.Dataset] | None = None,
    *,
    spike_times: Mapping[str, npt.ArrayLike] | None = None,
    traces: xr.Dataset | Sequence[xr.Dataset] | None = None,
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
    traces : Traces or sequence of Traces, optional
        ``trace`` (time, cell) on the frames of each movie, or ``repeats`` (repeat, time, cell),
        in "mV" (written as current clamp recordings), "dF/F" (responses of regions) or "Hz"
        (rates); NaN where a cell was not sampled.
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
    recordings = _one_each(recording, len(movies), "recording")
    sampled = _one_each(traces, len(movies), "set of traces")
    shown = [_presentations(k, recordings, sampled) for k in range(len(movies))]
    with creating(path, overwrite=overwrite) as temporary:
        blocks = [block_of(one, times) for one, times in zip(movies, shown, strict=True)]
        if spike_times is not None:
            trains = trains_of_times(spike_times)
        else:
            trains = trains_of_counts(recordings, blocks) if recordings else []
        series = [trace_of(one, block) for one, block in zip(sampled, blocks, strict=False)]
        store(temporary, Prepared(blocks, trains, session or Session(), traces=series))
    return Path(path)


def _one_each(
    given: xr.Dataset | Sequence[xr.Dataset] | None, movies: int, what: str
) -> list[xr.Dataset]:
    """Return one dataset a movie, or none at all."""
    if given is None:
        return []
    found = [given] if isinstance(given, xr.Dataset) else list(given)
    if len(found) != movies:
        raise InputError(
            f"write_nwb: expected one {what} for each of {movies} movies, got {len(found)}"
        )
    return found


def _presentations(movie: int, *responses: Sequence[xr.Dataset]) -> int:
    """Return how often a movie was shown; all that was recorded must agree."""
    counts = {found[movie].sizes.get("repeat", 1) for found in responses if found} or {1}
    if len(counts) > 1:
        raise InputError(f"write_nwb: counts and traces have {sorted(counts)} repeats of one movie")
    return counts.pop()


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
        (spans[0][0], spans[-1][1], block.name) for block in blocks for spans in [block.spans()]
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

    file = new_file(contents.session)
    add_movies(file, contents.blocks, contents.session.screen)
    add_units(file, contents.trains, contents.resolution, contents.columns)
    add_traces(file, contents.traces)
    with h5py.File(path, "w") as room, NWBHDF5IO(file=room, mode="w") as io:
        io.write(file)


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
