"""The compiled inner loops of the fast path: rectifiers as events along the path.

A rectified value that is affine along the path, ``fraction * drive + offset``, is open on one
interval of it. So nothing is computed for every point: a value enters the next layer when it
opens and leaves it when it closes, and its contribution is a difference of two running sums.

Arrays come in tuples, all contiguous:

- first: drives (frame, value) and offsets (value,) of the first layer, fractions (point,);
- kernel: weights, flat, and geometry, the sizes below;
- second: slopes (frame, point, value) of the second layer, lanes (frame, point, lane), readout
  (value, lane), and inner (frame, point, value, lane), which is empty or takes their place;
- outputs: signed (frame, sign, channel, lane) sums, added to, and units (frame, value, lane),
  written unless it is empty.

Values of a layer lie in rows, columns, channels (channels fastest, those of the second layer
padded to a multiple of 8); weights in (input channel, row, reversed column, channel), so that
what one value touches in a row of the next layer is one run of memory. The geometry is rows,
columns, channels of the first layer, the same of the second, rows and columns of the kernel, and
its padding along rows and columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retinacodec.compiled import compiled
from retinacodec.vector_code import add_product, add_two, gather, gather_pair

__all__ = ["collect", "spread", "weigh"]

_BLOCK = 256


@compiled
def _switch(drive: Any, offset: Any, fractions: Any) -> Any:
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
def _sort_switches(drives: Any, offsets: Any, fractions: Any, order: Any, ends: Any) -> None:
    """Sort the values that switch by the point where they do; bucket k ends at ``ends[k]``."""
    steps = np.empty(drives.size, np.int64)
    ends[:] = 0
    for value in range(drives.size):
        steps[value] = _switch(drives[value], offsets[value], fractions)
        if steps[value] >= 0:
            ends[steps[value] + 1] += 1
    for point in range(ends.size - 1):
        ends[point + 1] += ends[point]
    for value in range(drives.size):
        if steps[value] >= 0:
            order[ends[steps[value]]] = value
            ends[steps[value]] += 1


@compiled
def _enter(value: Any, drive: Any, offset: Any, slope: Any, constant: Any, kernel: Any) -> None:
    """Let one value enter the two running convolutions, of drives and of offsets."""
    weights, geometry = kernel
    _, columns, channels, rows2, columns2, channels2, high, wide, pad_y, pad_x = geometry
    place, channel = value // channels, value % channels
    y, x = place // columns + pad_y, place % columns + pad_x
    left, right = max(0, x - wide + 1), min(columns2 - 1, x)
    count = (right - left + 1) * channels2
    for y2 in range(max(0, y - high + 1), min(rows2 - 1, y) + 1):
        there = (y2 * columns2 + left) * channels2
        shift = ((channel * high + y - y2) * wide + left - (x - wide + 1)) * channels2
        add_two(slope, constant, there, weights, shift, count, drive, offset)


@compiled
def spread(first: Any, begin: Any, begin_constant: Any, kernel: Any, out: Any) -> None:
    """Convolve rectified paths: write (frame, point, value) of the second layer to `out`.

    What the values that are open at fraction 0 give to the second layer is `begin` (frame,
    value) by their drives, which is used up, and `begin_constant` (value,) by their offsets.
    """
    drives, offsets, fractions = first
    order = np.empty(drives.shape[1], np.int64)
    ends = np.empty(fractions.size + 1, np.int64)
    constant = np.empty(begin_constant.size, np.float32)
    for frame in range(drives.shape[0]):
        _sort_switches(drives[frame], offsets, fractions, order, ends)
        slope = begin[frame]
        constant[:] = begin_constant
        for point in range(fractions.size):
            for entry in range(ends[point - 1] if point else 0, ends[point]):
                value = order[entry]
                sign = np.float32(-1 if offsets[value] > 0 else 1)
                drive, offset = sign * drives[frame, value], sign * offsets[value]
                _enter(value, drive, offset, slope, constant, kernel)
            for value in range(slope.size):
                out[frame, point, value] = fractions[point] * slope[value] + constant[value]


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
def _make_plan(drives: Any, first: Any, between: Any, slots: Any, geometry: Any, plan: Any) -> Any:
    """Sort the running sums that the values need by slot and row; return how many values do.

    The plan is ends (slot * row,), the end of each bucket, and for each value the point where it
    switches and its row among the results; then the entries and their factors.
    """
    _, offsets, fractions = first
    ends, steps, rows_of, _, _ = plan
    rows, width = geometry[0], geometry[1] * geometry[2]
    used = 0
    ends[:] = 0
    for fill in range(2):
        for value in range(drives.size):
            drive, offset = drives[value], offsets[value]
            if not fill:
                steps[value] = _switch(drive, offset, fractions)
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


@compiled
def _list_active(slopes: Any, table: Any, geometry: Any, active: Any) -> Any:
    """List the values of the second layer that pass anything at any point; return their number."""
    starts, index, places = active
    columns2, channels2 = geometry[4], geometry[5]
    asked = np.empty(slopes.shape[0], np.bool_)
    for point in range(asked.size):
        asked[point] = (table[:, point] != 0).any()
    count = 0
    for value in range(slopes.shape[1]):
        if value % channels2 == 0:
            starts[value // channels2] = count
        for point in range(slopes.shape[0]):
            if asked[point] and slopes[point, value] != 0:
                index[count] = value
                places[count] = value % (columns2 * channels2)
                count += 1
                break
    starts[starts.size - 1] = count
    return count


@compiled
def _advance(groups: Any, sums: Any, shares: Any, here: Any, index: Any, runs: Any) -> None:
    """Add one slot's gradient to the running sums (active value, lane) of a row."""
    slopes, lanes, readout, inner = here
    for point in range(shares.size):
        if shares[point] == 0:
            continue
        for entry in range(runs[0], runs[-1]):
            value = index[entry]
            slope = shares[point] * slopes[point, value]
            if inner.shape[1] == 0:
                add_product(groups, sums, entry, slope, lanes, point, readout, value)
            else:
                for lane in range(inner.shape[2]):
                    sums[entry, lane] += slope * inner[point, value, lane]


@compiled
def _gather_row(
    groups: Any, start: Any, stop: Any, plan: Any, shift: Any, runs: Any, source: Any, found: Any
) -> None:
    """Add to the values that need this slot what a row of the second layer holds for them."""
    entries, factors = plan[3], plan[4]
    weights, places, sums = source
    entry = start
    while entry < stop:
        left, right = entries[entry, 2], entries[entry, 3]
        row, base, low, high = entries[entry, 0], entries[entry, 1] - shift, runs[left], runs[right]
        other = entry + 1
        if other < stop and entries[other, 2] == left and entries[other, 3] == right:
            row2, base2 = entries[other, 0], entries[other, 1] - shift
            factor, factor2 = factors[entry], factors[other]
            gather_pair(
                groups, found, row, row2, factor, factor2, weights, base, base2, places, sums,
                low, high,
            )  # fmt: skip
            entry += 2
        else:
            gather(groups, found, row, factors[entry], weights, base, places, sums, low, high)
            entry += 1


@compiled
def _collect_row(
    groups: Any, y2: Any, plan: Any, active: Any, table: Any, here: Any, sums: Any, kernel: Any,
    found: Any,
) -> None:  # fmt: skip
    """Do all slots for one row of the second layer, which stays in the nearest cache."""
    weights, geometry = kernel
    starts, index, places = active
    rows, columns2, channels2, high = geometry[0], geometry[4], geometry[5], geometry[6]
    wide, pad_y = geometry[7], geometry[8]
    ends, slots = plan[0], table.shape[0]
    runs = starts[y2 * columns2 : (y2 + 1) * columns2 + 1]
    top, bottom = max(0, y2 - pad_y), min(rows - 1, y2 - pad_y + high - 1)
    source = (weights, places, sums)
    for slot in range(1, 2 * slots + 1):
        if slot == 1 or slot == slots + 1:
            sums[runs[0] : runs[-1]] = 0
        shares = table[slot - 1] if slot <= slots else table[2 * slots - slot]
        _advance(groups, sums, shares, here, index, runs)
        start, stop = ends[slot * rows + top - 1], ends[slot * rows + bottom]
        _gather_row(groups, start, stop, plan, y2 * wide * channels2, runs, source, found)


@compiled
def collect(
    groups: Any, first: Any, between: Any, table: Any, second: Any, kernel: Any, outputs: Any
) -> None:
    """Write what the first layer contributes to every lane, split by sign and summed over space.

    Running sum m holds ``sum_{i <= m} sum_l table[i - 1, l] g_l`` with g_l the gradient at the
    second convolution at point l: ``slopes[l, value] * lanes[l, lane] * readout[value, lane]``,
    or ``slopes[l, value] * inner[l, value, lane]``. `between` says whether the sums end between
    the points of the path or at them.
    """
    (slopes, lanes, readout, inner), geometry, drives = second, kernel[1], first[0]
    values, values2, width = drives.shape[1], slopes.shape[2], outputs[0].shape[3]
    plan = (
        np.empty((2 * table.shape[0] + 1) * geometry[0] + 1, np.int64),
        np.empty(values, np.int64),
        np.empty(values, np.int64),
        np.empty((2 * values, 4), np.int64),
        np.empty(2 * values, np.float32),
    )
    starts = np.empty(geometry[3] * geometry[4] + 1, np.int64)
    active = (starts, np.empty(values2, np.int64), np.empty(values2, np.int32))
    sums = np.empty((values2, width), np.float32)
    found = np.empty((values, width), np.float32)
    for frame in range(drives.shape[0]):
        used = _make_plan(drives[frame], first, between, table.shape[0], geometry, plan)
        _list_active(slopes[frame], table, geometry, active)
        found[:used] = 0
        here = (slopes[frame], lanes[frame], readout, inner[frame])
        for y2 in range(geometry[3]):
            _collect_row(groups, y2, plan, active, table, here, sums, kernel, found)
        for value in range(values):
            if plan[2][value] >= 0:
                row = found[plan[2][value]]
                row *= drives[frame, value]
                _deposit(row, frame, value, geometry[2], outputs)


@compiled
def _deposit(row: Any, frame: Any, value: Any, channels: Any, outputs: Any) -> None:
    """Add a value's contributions to the sums of their sign."""
    signed, units = outputs
    channel = value % channels
    for lane in range(row.size):
        part = np.float64(row[lane])
        signed[frame, 0, channel, lane] += part if part < 0 else 0.0
        signed[frame, 1, channel, lane] += part if part > 0 else 0.0
    if units.shape[1]:
        units[frame, value] = row


@compiled
def _weigh_changes(path: Any, frame: Any, matrix: Any, begin: Any, size: Any, out: Any) -> None:
    """Write ``slopes * (matrix @ values)`` of a block of values, (point, value) flat."""
    values, slopes = path
    for point in range(matrix.shape[0]):
        here = out[point * _BLOCK : point * _BLOCK + size]
        here[:] = 0
        for other in range(matrix.shape[0]):
            if matrix[point, other] != 0:
                for value in range(size):
                    here[value] += matrix[point, other] * values[frame, other, begin + value]
        if slopes.shape[1]:
            for value in range(size):
                here[value] *= slopes[frame, point, begin + value]


@compiled
def weigh(
    groups: Any, path: Any, matrix: Any, lanes: Any, readout: Any, channels: Any, outputs: Any
) -> None:
    """Write what the last layer contributes to every lane, split by sign and summed over space.

    The path is the layer's values and slopes (frame, point, value). The contribution of a value
    is ``readout[value, lane] * sum_l lanes[l, lane] slopes[l, value] sum_k matrix[l, k]
    values[k, value]``; where slopes are empty they are 1.
    """
    frames, points, count = path[0].shape
    factors = np.empty(points * _BLOCK, np.float32)
    places = (np.arange(points) * _BLOCK).astype(np.int32)
    found = np.empty((2, readout.shape[1]), np.float32)
    one = np.float32(1)
    for frame in range(frames):
        for begin in range(0, count, _BLOCK):
            size = min(_BLOCK, count - begin)
            _weigh_changes(path, frame, matrix, begin, size, factors)
            for value in range(size):
                found[:] = 0
                gather(groups, found, 0, one, factors, value, places, lanes[frame], 0, points)
                add_product(groups, found, 1, one, found, 0, readout, begin + value)
                _deposit(found[1], frame, begin + value, channels, outputs)
