"""The compiled inner loops of the fast path: rectifiers as events along the path.

A rectified value that is affine along the path, ``fraction * drive + offset``, is open on one
interval of it. So nothing is computed for every point: a value enters the next layer when it
opens and leaves it when it closes, and its contribution is a difference of two running sums.

Arrays come in tuples, all contiguous:

- first: drives (frame, value) and offsets (value,) of the first layer, fractions (point,);
- kernel: weights, flat, and geometry, the sizes below;
- second: slopes (frame, point, value) of the second layer, and the gradients at its outputs, as
  lanes (frame, point, lane) and readout (value, lane), or, for one target, as they are;
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
from retinacodec.switch_plan import empty_plan, make_plan, switch_point
from retinacodec.vector_code import GROUP, add_product, add_two, gather, gather_one, gather_pair

__all__ = ["collect", "collect_one", "spread", "weigh"]

_BLOCK = 256


@compiled
def _sort_switches(drives: Any, offsets: Any, fractions: Any, order: Any, ends: Any) -> None:
    """Sort the values that switch by the point where they do; bucket k ends at ``ends[k]``."""
    steps = np.empty(drives.size, np.int64)
    ends[:] = 0
    for value in range(drives.size):
        steps[value] = switch_point(drives[value], offsets[value], fractions)
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
    slopes, lanes, readout = here
    for point in range(shares.size):
        if shares[point] == 0:
            continue
        for entry in range(runs[0], runs[-1]):
            value = index[entry]
            slope = shares[point] * slopes[point, value]
            add_product(groups, sums, entry, slope, lanes, point, readout, value)


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
    second convolution at point l, ``slopes[l, value] * lanes[l, lane] * readout[value, lane]``.
    `between` says whether the sums end between the points of the path or at them.
    """
    (slopes, lanes, readout), geometry, drives = second, kernel[1], first[0]
    values, values2, width = drives.shape[1], slopes.shape[2], outputs[0].shape[3]
    plan = empty_plan(values, table.shape[0], geometry[0])
    starts = np.empty(geometry[3] * geometry[4] + 1, np.int64)
    active = (starts, np.empty(values2, np.int64), np.empty(values2, np.int32))
    sums = np.empty((values2, width), np.float32)
    found = np.empty((values, width), np.float32)
    for frame in range(drives.shape[0]):
        used = make_plan(drives[frame], first, between, table.shape[0], geometry, plan)
        _list_active(slopes[frame], table, geometry, active)
        found[:used] = 0
        here = (slopes[frame], lanes[frame], readout)
        for y2 in range(geometry[3]):
            _collect_row(groups, y2, plan, active, table, here, sums, kernel, found)
        for value in range(values):
            if plan[2][value] >= 0:
                row = found[plan[2][value]]
                row *= drives[frame, value]
                _deposit(row, frame, value, geometry[2], outputs)


@compiled
def _row_of_one(
    y2: Any, plan: Any, table: Any, here: Any, sums: Any, kernel: Any, found: Any
) -> None:
    """Do all slots for one row of the second layer and one lane."""
    weights, geometry = kernel
    slopes, inner = here
    rows, columns2, channels2, high = geometry[0], geometry[4], geometry[5], geometry[6]
    ends, entries, factors, slots = plan[0], plan[3], plan[4], table.shape[0]
    begin, shift = y2 * columns2 * channels2, y2 * geometry[7] * channels2
    top, bottom = max(0, y2 - geometry[8]), min(rows - 1, y2 - geometry[8] + high - 1)
    for slot in range(1, 2 * slots + 1):
        if slot == 1 or slot == slots + 1:
            sums[:] = 0
        shares = table[slot - 1] if slot <= slots else table[2 * slots - slot]
        for point in range(shares.size):
            share = shares[point]
            if share != 0:
                for value in range(sums.size):
                    there = begin + value
                    sums[value] += share * slopes[point, there] * inner[point, there]
        for entry in range(ends[slot * rows + top - 1], ends[slot * rows + bottom]):
            left = entries[entry, 2] * channels2
            count = entries[entry, 3] * channels2 - left
            base = entries[entry, 1] - shift + left
            row = entries[entry, 0]
            gather_one(found, row, factors[entry], weights, base, sums, left, count)


@compiled
def collect_one(
    first: Any, between: Any, table: Any, second: Any, kernel: Any, outputs: Any
) -> None:
    """Do the work of `collect` for one lane, along the channels of the second layer instead.

    The gradient at the second convolution is ``slopes[l, value] * inner[l, value]``.
    """
    (slopes, inner), geometry, drives = second, kernel[1], first[0]
    plan = empty_plan(drives.shape[1], table.shape[0], geometry[0])
    sums = np.empty(geometry[4] * geometry[5], np.float32)
    found = np.empty((drives.shape[1], GROUP), np.float32)
    total = np.empty(1, np.float32)
    for frame in range(drives.shape[0]):
        used = make_plan(drives[frame], first, between, table.shape[0], geometry, plan)
        found[:used] = 0
        here = (slopes[frame], inner[frame])
        for y2 in range(geometry[3]):
            _row_of_one(y2, plan, table, here, sums, kernel, found)
        for value in range(drives.shape[1]):
            if plan[2][value] >= 0:
                total[0] = found[plan[2][value]].sum() * drives[frame, value]
                _deposit(total, frame, value, geometry[2], outputs)


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
