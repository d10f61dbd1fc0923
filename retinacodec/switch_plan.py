"""Which running sums each rectified value needs, and where: the plan of the compiled loops.

A value that is affine along the path, ``fraction * drive + offset``, switches at most once. Its
contribution takes the running sum of what lies above it at the end of its open interval, or from
its start on. For geometries and layouts see `kernels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retinacodec.compiled import compiled

__all__ = ["empty_plan", "make_plan", "switch_point"]


@compiled
def switch_point(drive: Any, offset: Any, fractions: Any) -> Any:
    """Return the first point whose state differs from that at fraction 0, -1 if there is none."""
    last = fractions.size - 1
    end = fractions[last] * drive + offset > 0
    if end == (offset > 0):
        return -1
    low, high = -1, last
    while high - low > 1:
        middle = (low + high) // 2
        if (fractions[middle] * drive + offset > 0) == end:
            high = middle
        else:
            low = middle
    return high


@compiled
def _needs(step: Any, drive: Any, offset: Any, fractions: Any, between: Any, slots: Any) -> Any:
    """Return which running sums a value needs: two slots and their weights.

    Slots 1 to n are the sums up to there; slots n + 1 to 2 n the sums from n - 1, n - 2, ... 0
    on; slot 0 is nothing. Between two points the sum is interpolated from those at both.
    """
    one, none = np.float32(1), np.float32(0)
    opens = offset <= 0
    if step < 0:
        return (0 if opens else slots), 0, one, none
    share = one
    if between:
        if step == 0:
            return (2 * slots if opens else 0), 0, one, none
        before, after = fractions[step - 1], fractions[step]
        share = (-offset / drive - before) / (after - before)
        share = np.float32(min(max(share, none), one))
    late, early = step, step - 1 if between else 0
    if opens:
        late = 2 * slots - late if late < slots else 0
        early = 2 * slots - early if between else 0
    return late, early, share, one - share


@compiled
def _enlist(value: Any, slot: Any, factor: Any, plan: Any, geometry: Any) -> None:
    """Write down that a value needs a slot, and which run of each row it reads."""
    ends, _, rows_of, entries, factors = plan
    rows, columns, channels, _, columns2, channels2, high, wide, pad_y, pad_x = geometry
    place, channel = value // channels, value % channels
    y, x = place // columns, place % columns + pad_x
    at = ends[slot * rows + y]
    entries[at, 0] = rows_of[value]
    entries[at, 1] = ((channel * high + y + pad_y) * wide - (x - wide + 1)) * channels2
    entries[at, 2] = max(0, x - wide + 1)
    entries[at, 3] = min(columns2 - 1, x) + 1
    factors[at] = factor
    ends[slot * rows + y] += 1


@compiled
def empty_plan(values: Any, slots: Any, rows: Any) -> Any:
    """Return room for a plan.

    It holds the end of each bucket (slot * row,); for each value the point where it switches and
    its row among the results; then the entries and their factors, sorted into the buckets.
    """
    return (
        np.empty((2 * slots + 1) * rows + 1, np.int64),
        np.empty(values, np.int64),
        np.empty(values, np.int64),
        np.empty((2 * values, 4), np.int64),
        np.empty(2 * values, np.float32),
    )


@compiled
def make_plan(drives: Any, first: Any, between: Any, slots: Any, geometry: Any, plan: Any) -> Any:
    """Sort the running sums that the values need by slot and row; return how many values do."""
    _, offsets, fractions = first
    ends, steps, rows_of, _, _ = plan
    rows, width = geometry[0], geometry[1] * geometry[2]
    used = 0
    ends[:] = 0
    for fill in range(2):
        for value in range(drives.size):
            drive, offset = drives[value], offsets[value]
            if not fill:
                steps[value] = switch_point(drive, offset, fractions)
            late, early, share, rest = _needs(
                steps[value], drive, offset, fractions, between, slots
            )
            for slot, factor in ((late, share), (early, rest)):
                if slot and factor != 0 and fill:
                    _enlist(value, slot, factor, plan, geometry)
                elif slot and factor != 0:
                    ends[slot * rows + value // width + 1] += 1
            if not fill:
                needed = late > 0 or early > 0
                rows_of[value] = used if needed else -1
                used += needed
        if not fill:
            for key in range(ends.size - 1):
                ends[key + 1] += ends[key]
    return used
