"""Damaged heaps of strings, in which the HDF5 library would go round for ever."""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["has_endless_heap"]

_START = b"GCOL\x01\x00\x00\x00"  # signature, version and reserved bytes of a global heap
_HEADER = 16  # bytes before the first object, and before the contents of each
_REACH = 64 << 20  # bytes at both ends of the file that are looked at


def has_endless_heap(path: str | Path) -> bool:
    """Tell whether a file has a global heap that takes the library for ever to read.

    Parameters
    ----------
    path : str or Path
        An HDF5 file.

    Returns
    -------
    bool
        True if the steps from object to object inside a heap come to a stand before its end.

    Notes
    -----
    Each object of a heap states its size, and the next one begins where it ends. A step of 0
    bytes, which damage can leave behind, is never checked by the library. The first and the last
    64 MiB of the file are looked at: strings and references lie there in all but the largest.
    """
    size = Path(path).stat().st_size
    with Path(path).open("rb") as raw:
        for start in {0, max(0, size - _REACH)}:
            raw.seek(start)
            if _stands_still(raw.read(_REACH)):
                return True
    return False


def _stands_still(data: bytes) -> bool:
    place = data.find(_START)
    while place >= 0:
        if _heap_stands_still(data, place):
            return True
        place = data.find(_START, place + 1)
    return False


def _heap_stands_still(data: bytes, place: int) -> bool:
    if place + _HEADER > len(data):
        return False
    (size,) = struct.unpack_from("<Q", data, place + 8)
    end, position = place + size, place + _HEADER
    if end > len(data):
        return False  # cut short, which the library notices
    while position + _HEADER <= end:
        number, _, length = struct.unpack_from("<HH4xQ", data, position)
        step = length if number == 0 else _HEADER + (length + 7) // 8 * 8
        if step % (1 << 64) == 0:
            return True
        position += step
    return False
