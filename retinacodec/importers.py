"""The verbs for files from elsewhere: convert a recording to NWB 2, describe any file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py

from retinacodec.contents import FileInfo, describe
from retinacodec.errors import RecordingError
from retinacodec.hdf5_safety import blaming, open_hdf5
from retinacodec.import_choice import Choice
from retinacodec.import_formats import FORMATS, UNREAD, recognised
from retinacodec.nwb_contrast import Contrast
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
    overwrite: bool = False,
) -> Path:
    """Convert a recording from another format to NWB 2.

    Parameters
    ----------
    src : str or Path
        The recording: an NWB 1 file of CRCNS ret-1, whose movies are drawn again from their
        seed, or a laboratory HDF5 file with ``train`` and ``test``.
    out : str or Path
        The NWB 2 file to write.
    stimulus : str or sequence of str, optional
        Movies to take; by default all of them. `read_nwb` then asks which one is meant.
    pixel_um : float, optional
        Side of a pixel on the retina, um, where the source does not say it.
    contrast : Contrast, optional
        How pixel values become contrast, where the source does not say it.
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
        If the file to write exists or cannot be written. Nothing is left behind.
    """
    wanted = [stimulus] if isinstance(stimulus, str) else stimulus
    with (
        open_hdf5(src, first=_refuse_nwb2, unread=UNREAD) as file,
        creating(out, overwrite=overwrite) as temporary,
    ):
        found = recognised(file)
        if found is None:
            raise RecordingError(
                src,
                "is HDF5 of no known format",
                "known are " + ", ".join(one.kind for one in FORMATS),
            )
        with blaming(src):
            contents = found.prepare(file, str(src), Choice(wanted, pixel_um, contrast))
        store(temporary, contents)
    return Path(out)


def needs_import(path: str | Path) -> bool:
    """Return whether a file is a recording in one of the formats that can be imported.

    Raises
    ------
    RecordingError
        If the file cannot be opened as HDF5.
    """
    with open_hdf5(path, unread=UNREAD) as file:
        return recognised(file) is not None


def _refuse_nwb2(file: h5py.File) -> None:
    version = text(file.attrs.get("nwb_version", ""))
    if version.startswith("2"):
        raise RecordingError(file.filename, f"is NWB {version} already", "use it as it is")
