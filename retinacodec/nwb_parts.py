"""What a recording is made of in NWB: file, movies, presentations and cells as pynwb objects."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from retinacodec.nwb_coding import Block
from retinacodec.nwb_session import Session
from retinacodec.nwb_traces import packed, timing
from retinacodec.nwb_trains import CellColumn, Train

__all__ = ["add_movies", "add_units", "new_file"]

_CHUNK_BYTES = 1 << 20


def new_file(session: Session) -> Any:
    """Return a new file in memory with session and animal.

    Parameters
    ----------
    session : Session
        Who, when, which animal.

    Returns
    -------
    pynwb.NWBFile
        The file, without contents.
    """
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


def add_movies(file: Any, blocks: Sequence[Block], screen: str) -> None:
    """Add movies, with room for their pixels, their ground truth and the table of presentations.

    Parameters
    ----------
    file : pynwb.NWBFile
        The file in memory.
    blocks : sequence of Block
        The movies.
    screen : str
        What showed them.
    """
    device = file.create_device(name="screen", description=screen)
    for block in blocks:
        file.add_stimulus(_series(block, device))
        _add_truth(file, block)
    _add_presentations(file, blocks)


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
        **timing(block.all_onsets()),
    )


def _add_truth(file: Any, block: Block) -> None:
    from pynwb import TimeSeries

    clock = timing(block.onsets)
    series = {
        f"{block.name}_{key}": (values, unit, f"{key} in each frame of {block.name}")
        for key, (values, unit) in block.truth.items()
    }
    if block.exact_onsets and "rate" in timing(block.all_onsets()):
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
                name=name, data=packed(values), unit=unit or "n.a.", description=words, **clock
            )
        )


def _add_presentations(file: Any, blocks: Sequence[Block]) -> None:
    """List every presentation, numbered from 1 where a movie was repeated and 0 where not."""
    from pynwb.epoch import TimeIntervals

    rows = [
        (start, stop, block.name, repeat if block.presentations > 1 else 0)
        for block in blocks
        for repeat, (start, stop) in enumerate(block.spans(), 1)
    ]
    if len(rows) < 2:
        return
    table = TimeIntervals(name="stimulus_presentations", description="one row a presentation")
    table.add_column(name="stimulus_name", description="movie in the stimulus group")
    table.add_column(name="repeat", description="number of the repeat, 0 where there is one only")
    for start, stop, name, repeat in sorted(rows):
        table.add_row(start_time=start, stop_time=stop, stimulus_name=name, repeat=repeat)
    file.add_time_intervals(table)


def add_units(
    file: Any,
    trains: Sequence[Train],
    resolution: float | None,
    columns: Sequence[CellColumn] = (),
) -> None:
    """Add the table of cells with their spikes.

    Parameters
    ----------
    file : pynwb.NWBFile
        The file in memory.
    trains : sequence of Train
        The cells.
    resolution : float or None
        Smallest difference between two spike times, s.
    columns : sequence of CellColumn, optional
        What else is known about each cell.
    """
    if not trains:
        return
    from pynwb.misc import Units

    names = [train.cell for train in trains]
    parts = [
        _column("unit_name", "name of the cell", names),
        *(_column(one.name, one.description, list(one.values)) for one in columns),
        *_ragged("spike_times", "spike times of each cell, s", [train.times for train in trains]),
    ]
    if any(train.observed is not None for train in trains):
        observed = _observed(trains)
        parts += _ragged("obs_intervals", "when each cell was observed, s", observed)
    steps = [np.diff(train.times) for train in trains if train.times.size > 1]
    smallest = [float(step[step > 0].min()) for step in steps if (step > 0).any()]
    file.units = Units(
        name="units",
        description="spikes of each cell",
        columns=parts,
        colnames=[part.name for part in parts if not part.name.endswith("_index")],
        id=list(range(len(trains))),
        resolution=resolution or min([0.01, *smallest]),
    )


def _observed(trains: Sequence[Train]) -> list[Any]:
    """Return the intervals of each cell; all the time of the file where it has none of its own."""
    known = [train.observed for train in trains if train.observed is not None]
    edges = [one.ravel() for one in (*known, *(train.times for train in trains)) if one.size]
    span = np.concatenate(edges) if edges else np.zeros(2)
    always = np.array([[span.min(), span.max()]])
    return [always if train.observed is None else train.observed for train in trains]


def _column(name: str, description: str, values: Any) -> Any:
    from pynwb.core import VectorData

    return VectorData(name=name, description=description, data=values)


def _ragged(name: str, description: str, rows: Sequence[Any]) -> list[Any]:
    """Return a column with several values a row and its index, as whole arrays."""
    from pynwb.core import VectorIndex

    flat = np.concatenate(rows)
    column = _column(name, description, packed(flat) if flat.size else flat)
    ends = np.cumsum([len(row) for row in rows], dtype=np.uint64)
    return [VectorIndex(name=f"{name}_index", data=ends, target=column), column]
