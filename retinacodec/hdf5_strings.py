"""How long the strings of an HDF5 dataset claim to be, told before the library reads any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["longest_claim"]

_MOST_BYTES = 1 << 24  # of references looked at in one dataset


def longest_claim(dataset: h5py.h5d.DatasetID, path: str | Path) -> int:
    """Return the greatest length that any entry of a dataset of ragged entries claims.

    The library sets aside as much memory as an entry says it needs before it looks whether the
    file holds that much, so that one damaged number takes gigabytes and seconds.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID
        Strings of any length.
    path : str or Path
        The file.

    Returns
    -------
    int
        Bytes; 0 where nothing is stored or the entries are packed.

    Notes
    -----
    An entry is stored as its length (4 bytes) and its place in a heap: an address of as many
    bytes as the file uses for addresses, and a number of 4.
    """
    wide = 8 + h5py.h5i.get_file_id(dataset).get_create_plist().get_sizes()[0]
    longest, left = 0, _MOST_BYTES
    with Path(path).open("rb") as raw:
        for place, size in _stored(dataset):
            raw.seek(place)
            entries = raw.read(min(size, left) // wide * wide)
            lengths = np.frombuffer(entries, np.uint8).reshape(-1, wide)[:, :4].copy()
            if lengths.size:
                longest = max(longest, int(lengths.view("<u4").max()))
            left -= len(entries)
            if left < wide:
                break
    return longest


def _stored(dataset: Any) -> Iterator[tuple[int, int]]:
    """Yield place and size of every stretch of the file that holds entries as they are."""
    how = dataset.get_create_plist()
    if how.get_layout() == h5py.h5d.CONTIGUOUS:
        place = dataset.get_offset()
        if place is not None:
            yield place, dataset.get_storage_size()
    elif how.get_layout() == h5py.h5d.CHUNKED and how.get_nfilters() == 0:
        for number in range(dataset.get_num_chunks()):
            chunk = dataset.get_chunk_info(number)
            yield chunk.byte_offset, chunk.size
