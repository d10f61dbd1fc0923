"""What a sampled response is, and how responses of several electrodes become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError
from retinacodec.frame_averages import median_interval

__all__ = ["Series", "sampled_together"]


@dataclass(frozen=True)
class Series:
    """A sampled response of one or more cells.

    Parameters
    ----------
    name : str
        Where it lies in the file, or the electrode whose sweeps it joins.
    kind : str
        Its type in NWB, such as ``RoiResponseSeries`` or ``CurrentClampSeries``.
    unit : str
        Unit of the values, as the file states it.
    cells : tuple of str
        Names of the cells.
    times : ndarray (sample,)
        When each sample was taken on the file's clock, s, increasing.
    values : ndarray (sample, cell)
        Values in `unit`; NaN where the file has NaN.
    sweeps : tuple of (int, int)
        First sample and the one after the last of each sweep; one where there are none.
    """

    name: str
    kind: str
    unit: str
    cells: tuple[str, ...]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    sweeps: tuple[tuple[int, int], ...]


def sampled_together(several: Sequence[Series], path: str) -> Series:
    """Put responses that were sampled by one clock side by side.

    Parameters
    ----------
    several : sequence of Series
        Of one kind, with different cells.
    path : str
        Name of the file, for messages.

    Returns
    -------
    Series
        All cells at every moment at which one was sampled, NaN for the others; its name is the
        kind.

    Raises
    ------
    RecordingError
        If units differ, a cell comes twice, or the samples lie between each other.
    """
    if len(several) == 1:
        return several[0]
    names = [series.name for series in several]
    units = sorted({series.unit for series in several})
    cells = tuple(cell for series in several for cell in series.cells)
    if len(units) > 1 or len(set(cells)) < len(cells):
        odd = f"units {units}" if len(units) > 1 else f"cells {list(cells)}"
        raise RecordingError(path, f"responses have {odd}", f"choose one by name: {names}")
    finest = min(median_interval(series.times) for series in several)
    slack = 1e-3 * finest  # times that differ less are one moment, rounded in different ways
    times = several[0].times
    for series in several[1:]:
        if not np.array_equal(times, series.times):
            times = np.union1d(times, series.times)
            times = times[np.diff(times, prepend=-np.inf) > slack]
    if median_interval(times) < 0.99 * finest:
        raise RecordingError(
            path,
            f"{', '.join(names)} were sampled at different moments",
            "read them one by one, by name",
        )
    values = np.full((times.size, len(cells)), np.nan)
    column = 0
    for series in several:
        stop = column + len(series.cells)
        values[np.searchsorted(times, series.times - slack), column:stop] = series.values
        column = stop
    whole = all(series.times.size == times.size for series in several)
    sweeps = several[0].sweeps if whole else ((0, times.size),)
    return Series(several[0].kind, several[0].kind, units[0], cells, times, values, sweeps)
