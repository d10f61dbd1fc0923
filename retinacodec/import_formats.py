"""The foreign recordings that can become NWB 2, and what each of them must know about itself."""

from __future__ import annotations

from typing import Protocol

import h5py

from retinacodec.import_choice import Choice
from retinacodec.lab_hdf5 import LabHdf5
from retinacodec.nwb_session import Prepared
from retinacodec.ret1 import Ret1

__all__ = ["FORMATS", "UNREAD", "Format", "recognised"]


class Format(Protocol):
    """A foreign layout: how to tell it, what is in it, and how it becomes NWB 2."""

    kind: str

    def recognises(self, file: h5py.File) -> bool:
        """Tell whether a file has this layout."""
        ...

    def contents(self, file: h5py.File) -> list[tuple[str, str]]:
        """Return what a file holds, in rows of name and words."""
        ...

    def prepare(self, file: h5py.File, path: str, choice: Choice) -> Prepared:
        """Collect movies, spikes and session."""
        ...


FORMATS: tuple[Format, ...] = (Ret1(), LabHdf5())
UNREAD = frozenset({"/stimulus/presentation/*/data"})  # where ret-1 links to pixels elsewhere


def recognised(file: h5py.File) -> Format | None:
    """Return the foreign layout of an open HDF5 file, or None if it has none of those known."""
    return next((one for one in FORMATS if one.recognises(file)), None)
