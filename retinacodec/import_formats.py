"""The foreign recordings that can become NWB 2, and what each of them must know about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import h5py

from retinacodec.array_files import ArrayFiles
from retinacodec.errors import RecordingError
from retinacodec.hdf5_safety import is_hdf5, open_hdf5
from retinacodec.import_choice import Choice
from retinacodec.interneuron_hdf5 import InterneuronHdf5
from retinacodec.lab_hdf5 import LabHdf5
from retinacodec.matlab_spikes import MatlabSpikes
from retinacodec.nwb_session import Prepared
from retinacodec.ret1 import Ret1

__all__ = [
    "FORMATS",
    "PATH_FORMATS",
    "UNREAD",
    "Format",
    "PathFormat",
    "recognised",
    "recognised_path",
]


class Format(Protocol):
    """A foreign layout of HDF5: how to tell it, what is in it, and how it becomes NWB 2."""

    kind: str
    example: str

    def recognises(self, file: h5py.File) -> bool:
        """Tell whether a file has this layout."""
        ...

    def contents(self, file: h5py.File) -> list[tuple[str, str]]:
        """Return what a file holds, in rows of name and words."""
        ...

    def prepare(self, file: h5py.File, path: str, choice: Choice) -> Prepared:
        """Collect movies, spikes and session."""
        ...


class PathFormat(Protocol):
    """A foreign layout of files or folders that are not one HDF5 file."""

    kind: str
    example: str

    def recognises(self, path: Path) -> bool:
        """Tell whether a file or folder has this layout."""
        ...

    def contents(self, path: Path) -> list[tuple[str, str]]:
        """Return what is there, in rows of name and words."""
        ...

    def prepare(self, path: Path, choice: Choice) -> Prepared:
        """Collect movies, spikes and session."""
        ...


FORMATS: tuple[Format, ...] = (Ret1(), LabHdf5(), InterneuronHdf5())
PATH_FORMATS: tuple[PathFormat, ...] = (ArrayFiles(), MatlabSpikes())
UNREAD = frozenset({"/stimulus/presentation/*/data"})  # where ret-1 links to pixels elsewhere


def recognised(file: h5py.File) -> Format | None:
    """Return the foreign layout of an open HDF5 file, or None if it has none of those known."""
    return next((one for one in FORMATS if one.recognises(file)), None)


def recognised_path(path: str | Path) -> PathFormat | None:
    """Return the layout of a file or folder that is no HDF5 file of a known layout.

    Parameters
    ----------
    path : str or Path
        A file or folder.

    Returns
    -------
    PathFormat or None
        None where there is nothing, or it is for `recognised` or for nobody.

    Raises
    ------
    RecordingError
        If links in a folder of such a layout lead out of it, as films beside a file may not.
    """
    place = Path(path)
    found = next((one for one in PATH_FORMATS if place.exists() and one.recognises(place)), None)
    if found is not None:
        _refuse_links_out(place)
    if found is None or place.is_dir() or not is_hdf5(place):
        return found
    with open_hdf5(place, unread=UNREAD) as file:
        return None if recognised(file) else found


def _refuse_links_out(place: Path) -> None:
    """Refuse links in a folder that show files of other folders as if they lay in it."""
    if not (place.is_dir() or place.name == "stimulus.npy"):
        return
    home = (place if place.is_dir() else place.parent).resolve()
    for entry in (*home.iterdir(), *home.glob("*/*")):
        if entry.is_symlink() and home not in entry.resolve().parents:
            raise RecordingError(
                entry, "is a link to a file elsewhere", "put the file itself into the folder"
            )
