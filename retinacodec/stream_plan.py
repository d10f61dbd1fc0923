"""How a table too large for memory is cut up within a budget, and what that will take."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from retinacodec.errors import InputError
from retinacodec.pursuit import DirectPursuit
from retinacodec.row_source import RowSource

__all__ = ["StreamPlan", "plan_stream"]

_STRETCH_VALUES = 2**21
_STRETCH_ROWS = (64, 4096)
_BLOCK_BYTES = 2**27
_SAMPLE = 20_000
_LEAST_SAMPLE = 2_000
_PER_MODE = 100
_LEAST_PER_MODE = 20
_GUESS = 256  # modes, where their number is not known before
_LIBRARIES = 0.2e9
_ROW_BYTES = 32  # of each row of the table: which part it is in, and its place there
_STRETCH_COPIES = 48  # bytes of a value of a stretch: in float32, and three times in float64
_FIT_COPIES = 44  # bytes of a value of the sample while it is fitted
_LOADING_COPIES = 24


@dataclass(frozen=True)
class StreamPlan:
    """How a streamed decomposition is divided, and what it takes.

    Parameters
    ----------
    rows, columns : int
        Size of the table.
    stretch : int
        Rows that are computed together. It depends on the columns alone, and every sum is taken
        over stretches in their order, so that no result depends on the budget.
    block : int
        Rows that are read together, after which the progress is noted on disk.
    sample : int
        Rows that the search for modes sees.
    working_gb : float
        Most memory at work, GB.
    result_gb : float
        Disk space of the result before compression, GB.
    """

    rows: int
    columns: int
    stretch: int
    block: int
    sample: int
    working_gb: float
    result_gb: float

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.rows} rows of {self.columns} columns, {self.block} rows at a time, modes "
            f"sought in {self.sample}; at most {self.working_gb:.2g} GB at work, "
            f"{self.result_gb:.2g} GB of result before compression"
        )

    def check_space(self, target: Path) -> None:
        """Raise `InputError` where not even the scores of the rows would fit on the disk.

        Parameters
        ----------
        target : Path
            The result to be.
        """
        free, least = shutil.disk_usage(target.parent).free, 16 * self.rows
        if free < least:
            raise InputError(
                f"{target}: {free / 1e9:.2g} GB are free, expected at least {least / 1e9:.2g} "
                f"GB and up to {self.result_gb:.2g} GB; make room or write elsewhere"
            )


def plan_stream(
    source: RowSource,
    method: DirectPursuit,
    *,
    budget_gb: float = 2.0,
    sample_rows: int | None = None,
) -> StreamPlan:
    """Return how a table will be read and what memory that takes.

    Parameters
    ----------
    source : RowSource
        The table.
    method : DirectPursuit
        The method, perhaps with its number of modes.
    budget_gb : float, default 2.0
        Most memory at work, GB.
    sample_rows : int, optional
        Rows that the search sees; 20 000, or 100 for each mode where that is more, as far as they
        fit into the budget, if left out.

    Returns
    -------
    StreamPlan
        The plan.

    Raises
    ------
    InputError
        If the budget is too small for a single stretch or for the least sample.
    """
    rows, columns = source.shape
    modes = method.modes or min(_GUESS, 4 * columns)
    row = columns * source.dtype.itemsize
    stretch = _stretch(columns)
    fixed = _LIBRARIES + _ROW_BYTES * rows + 48 * modes * (modes + columns)
    each = row + _FIT_COPIES * columns + _LOADING_COPIES * modes
    work = stretch * (_STRETCH_COPIES * columns + _LOADING_COPIES * modes)
    work += 2 * row * min(rows, source.unit_rows)
    free = budget_gb * 1e9 - fixed
    least = min(rows, max(_LEAST_SAMPLE, _LEAST_PER_MODE * modes), sample_rows or rows)
    need = fixed + max(work + 2 * row * min(rows, stretch), (sample_rows or least) * each)
    if free <= 0 or need > budget_gb * 1e9:
        raise InputError(
            f"stream_modes: {rows} rows of {columns} columns need at least {need / 1e9:.2g} GB, "
            f"got budget_gb={budget_gb:g}"
            + ("; ask for fewer sample_rows or a larger budget" if sample_rows else "")
        )
    wanted = sample_rows or max(_SAMPLE, _PER_MODE * modes)
    sample = min(rows, wanted, int(free // each))
    block = int(min((free - work) // (2 * row), _BLOCK_BYTES // row, rows)) // stretch * stretch
    block = max(block, stretch)
    peak = fixed + max(work + 2 * row * min(block, rows), sample * each)
    return StreamPlan(
        rows, columns, stretch, block, sample, peak / 1e9, rows * (4 * modes + 8) / 1e9
    )


def _stretch(columns: int) -> int:
    """Return the rows computed together, a power of two that the columns alone decide."""
    least, most = _STRETCH_ROWS
    stretch = most
    while stretch > least and stretch * columns > _STRETCH_VALUES:
        stretch //= 2
    return stretch
