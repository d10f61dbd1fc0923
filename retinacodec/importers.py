"""The verbs for files from elsewhere: convert a recording to NWB 2, describe any file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from retinacodec.contents import FileInfo, describe
from retinacodec.errors import InputError, RecordingError
from retinacodec.hdf5_safety import blaming, open_hdf5
from retinacodec.import_choice import Choice
from retinacodec.import_formats import (
    FORMATS,
    PATH_FORMATS,
    UNREAD,
    recognised,
    recognised_path,
)
from retinacodec.matlab_files import guarding
from retinacodec.nwb_contrast import Contrast
from retinacodec.nwb_session import Prepared
from retinacodec.nwb_spikes import text
from retinacodec.nwb_writer import creating, store

__all__ = ["FileInfo", "describe", "import_recording", "needs_import"]


def import_recording(
    src: str | Path,
    out: str | Path,
    *,
    stimulus: str | Sequence[str] | None = None,
    pixel_um: float | None = None,
    contrast: Contrast | None = None,
    frame_rate: float | None = None,
    time_scale: float | None = None,
    repeat_axes: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Convert a recording from another format to NWB 2.

    Parameters
    ----------
    src : str or Path
        The recording: an NWB 1 file of CRCNS ret-1, whose movies are drawn again from their
        seed; laboratory HDF5 with ``train`` and ``test``, or with ``boxes`` and ``lines`` of
        intracellular recordings; MATLAB files with ``Stim``, ``stimtimes`` and ``SpTimes``, or
        their folder; a folder or ``.npz`` of arrays with ``stimulus``, ``frame_times`` and
        spikes.
    out : str or Path
        The NWB 2 file to write.
    stimulus : str or sequence of str, optional
        Movies to take; by default all of them. `read_nwb` then asks which one is meant.
    pixel_um : float, optional
        Side of a pixel on the retina, um, where the source does not say it.
    contrast : Contrast, optional
        How pixel values become contrast, where the source does not say it.
    frame_rate : float, optional
        Frames per second, where the source has no flip times.
    time_scale : float, optional
        Seconds in one unit of the times of MATLAB files (by default 1e-4) or arrays (1).
    repeat_axes : sequence of str, optional
        Order of "repeat", "cell" and "time" in laboratory HDF5, where sizes leave it open.
    overwrite : bool, default False
        Replace an existing file.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    RecordingError
        If the source cannot be read or is of no known format.
    InputError
        If an option makes no sense, or the file to write exists or cannot be written. Nothing is
        left behind.
    """
    for name, value in (("frame_rate", frame_rate), ("time_scale", time_scale)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InputError(f"{name}: expected a number above 0, got {value}")
    wanted = [stimulus] if isinstance(stimulus, str) else stimulus
    choice = Choice(wanted, pixel_um, contrast, frame_rate, time_scale, repeat_axes)
    with (
        creating(out, overwrite=overwrite) as temporary,
        _prepared(Path(src), choice) as contents,
    ):
        store(temporary, contents)
    return Path(out)


def needs_import(path: str | Path) -> bool:
    """Return whether a file or folder is a recording in one of the formats that can be imported.

    Raises
    ------
    RecordingError
        If it is of none of the other formats and cannot be opened as HDF5.
    """
    if recognised_path(path) is not None:
        return True
    with open_hdf5(path, unread=UNREAD) as file:
        return recognised(file) is not None


@contextmanager
def _prepared(src: Path, choice: Choice) -> Iterator[Prepared]:
    """Open a source of any format for as long as its pixels are needed."""
    other = recognised_path(src)
    if other is not None:
        with guarding(src):
            contents = other.prepare(src, choice)
        yield contents
        return
    with open_hdf5(src, first=_refuse_nwb2, unread=UNREAD) as file:
        found = recognised(file)
        if found is None:
            raise RecordingError(
                src,
                "is HDF5 of no known format",
                "known are "
                + ", ".join([one.kind for one in FORMATS] + [one.kind for one in PATH_FORMATS])
                + "; see retinacodec import --help",
            )
        with blaming(src):
            contents = found.prepare(file, str(src), choice)
        yield contents


def _refuse_nwb2(file: h5py.File) -> None:
    version = text(file.attrs.get("nwb_version", ""))
    if version.startswith("2"):
        raise RecordingError(file.filename, f"is NWB {version} already", "use it as it is")
