"""What can be wrong with spike trains that lie one after another in one column of a file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError

__all__ = ["REWRITE", "check_trains", "listed", "row_ends"]

_log = logging.getLogger(__name__)

REWRITE = "write the file again"
"""What to do about a column that does not fit its index."""


def row_ends(
    index: Any,
    shape: tuple[int, ...],
    rows: int,
    cells: tuple[str, ...],
    path: str,
    column: str,
) -> NDArray[np.intp]:
    """Return the end of each row in a flat column, or say where its index is broken.

    Parameters
    ----------
    index : array_like (row,)
        The index as the file holds it.
    shape : tuple of int
        Shape of the flat column, whose first number is its length.
    rows : int
        Rows of the table.
    cells : tuple of str
        Names of the rows, for messages.
    path : str
        Name of the file, for messages.
    column : str
        Name of the column, for messages.

    Returns
    -------
    ndarray (row,) of int
        One past the last entry of each row, never falling.

    Raises
    ------
    RecordingError
        If it is not one whole number a row, falls, or does not end where the column ends.
    """
    ends = np.asarray(index)
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or ends.size != rows:
        raise RecordingError(
            path,
            f"{column}_index has shape {ends.shape} of {ends.dtype}, expected {rows} whole numbers",
        )
    ends = ends.astype(np.int64)
    falls = np.flatnonzero(np.diff(ends, prepend=0) < 0)
    if falls.size:
        raise RecordingError(
            path,
            f"{column}_index decreases at unit {cells[falls[0]]}",
            "the spikes of the units cannot be told apart; write the file again",
        )
    past = np.flatnonzero(ends > shape[0])
    if past.size:
        raise RecordingError(
            path,
            f"{column}_index of unit {cells[past[0]]} ends at "
            f"{ends[past[0]]}, but there are only {shape[0]} entries",
            REWRITE,
        )
    total = int(ends[-1]) if rows else 0
    if total < shape[0]:
        raise RecordingError(
            path,
            f"{column}_index ends at {total}, but there are {shape[0]} entries",
            REWRITE,
        )
    return ends


def check_trains(
    cells: tuple[str, ...], times: tuple[NDArray[np.float64], ...], path: str, *, sort: bool
) -> None:
    """Refuse broken trains or sort them in place, and say what is odd about the others.

    Parameters
    ----------
    cells : tuple of str
        Names of the cells.
    times : tuple of ndarray (spike,)
        Spike times of each, s.
    path : str
        Name of the file, for messages.
    sort : bool
        Sort trains that are out of order in place of refusing them.

    Raises
    ------
    RecordingError
        If a time is not finite, or trains are out of order and are not to be sorted.
    """
    mixed, twice, copies = [], [], 0
    for cell, train in zip(cells, times, strict=True):
        broken = np.flatnonzero(~np.isfinite(train))
        if broken.size:
            raise RecordingError(
                path,
                f"unit {cell} has {broken.size} spike times that are NaN or "
                f"infinite, the first at {broken[0]}",
                "sort the recording again",
            )
        falls = train[1:] < train[:-1]
        if falls.any():
            if not sort:
                raise RecordingError(
                    path,
                    f"unit {cell} has unsorted spike times, the first after spike {falls.argmax()}",
                    "times of separate sweeps may have been put one after another; "
                    "sort_spikes=True sorts them if they share one clock",
                )
            train.sort()
            mixed.append(cell)
        same = int(np.count_nonzero(train[1:] == train[:-1]))
        if same:
            twice.append(cell)
            copies += same
    silent = [cell for cell, train in zip(cells, times, strict=True) if not train.size]
    if mixed:
        _log.warning("%s: spike times of %s were out of order and are sorted", path, listed(mixed))
    if twice:
        words = "%s: %d spikes of %s come at the very time of the spike before; they are kept"
        _log.warning(words, path, copies, listed(twice))
    if silent:
        _log.warning("%s: %s without a single spike; kept", path, listed(silent))


def listed(cells: Sequence[str]) -> str:
    """Return the names of a few cells and how many others there are, in words."""
    more = f" and {len(cells) - 5} more" if len(cells) > 5 else ""
    return ("cells " if len(cells) > 1 else "cell ") + ", ".join(cells[:5]) + more
