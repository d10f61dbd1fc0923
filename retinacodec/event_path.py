"""The fast path on the processor: the first rectifiers as events, cells as lanes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from retinacodec import kernels
from retinacodec.dense_path import DensePath, Part, Place, State, channels_first, channels_last
from retinacodec.stack import Stack
from retinacodec.vector_code import GROUP

__all__ = ["EventPath"]

Array = npt.NDArray[Any]
Groups = tuple[int, ...]
Outputs = tuple[Array, Array]
_LANES = 4 * GROUP
_FEW = 2  # targets that are faster one by one


@dataclass(frozen=True)
class EventPath:
    """Contributions of a stack whose first nonlinearity is a rectifier, on the processor.

    Parameters
    ----------
    dense : DensePath
        The stack and the rule, with channels padded to a multiple of the lanes of a vector.

    Notes
    -----
    With ``z = t p + q`` before the first rectifier, p the stimulus' share and q the constants,
    a value is open for t from lo to hi, so that, with ``V_j[k]`` the sum over points up to k of
    the weighted gradient at value j of the second convolution W,
    ``C_i = p_i sum_j W_ji (V_j[hi_i] - V_j[lo_i])``. Where gradients are given on intervals,
    lo and hi lie between points and V is interpolated. Exact, but for rounding.
    """

    dense: DensePath

    @staticmethod
    def fits(stack: Stack) -> bool:
        """Return whether a stack can be computed like this."""
        plain = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
        second = stack.layers[1].options if len(stack.layers) > 1 else plain
        simple = all(second[name] == value for name, value in plain.items())
        return simple and stack.layers[0].rectifier and stack.readout.device.type == "cpu"

    @property
    def bytes_per_frame(self) -> int:
        """Estimate of the working memory for one frame, bytes."""
        sizes = [layer.scale.numel() for layer in self.dense.layers]
        points = self.dense.quadrature.points
        return 4 * points * (sizes[0] // points + 7 * sum(sizes[1:] or sizes))

    @cached_property
    def geometry(self) -> tuple[int, ...]:
        """Sizes as the kernels want them."""
        first, second = self.dense.layers[:2]
        channels, rows, columns = first.shape
        kernel = (int(second.weight.shape[2]), int(second.weight.shape[3]))
        inner = (*second.shape[1:], self.dense.channels(1))
        return (rows, columns, channels, *inner, *kernel, *second.options["padding"])

    @cached_property
    def weights(self) -> Array:
        """The second kernel as (input channel, row, reversed column, channel), flat."""
        second = self.dense.layers[1].weight.permute(1, 0, 2, 3)
        return _numpy(channels_last(second, self.dense.channels(1)).flip(2).flatten())

    @cached_property
    def offsets(self) -> Array:
        """What the first rectifiers see at zero contrast, (y, x, channel) flat."""
        return _numpy(channels_last(self.dense.layers[0].shift, 0).flatten())

    @cached_property
    def fractions(self) -> Array:
        """Points of the path."""
        return _numpy(self.dense.fractions.flatten())

    def _drives(self, bare: Tensor) -> Tensor:
        """Return the stimulus' share of what the first rectifiers see, (frame, value)."""
        scaled = bare * self.dense.layers[0].scale
        return channels_last(scaled, 0).flatten(1)

    def states(self, bare: Tensor) -> dict[int, State]:
        """Return the layers along the path; of two or more, all but the first."""
        if len(self.dense.layers) == 1:
            return self.dense.states(bare)
        first, second = self.dense.layers[:2]
        open_at_start = (first.shift > 0).to(bare.dtype)
        padded = self.dense.channels(1)
        drives = self._drives(bare)
        started = drives.unflatten(1, self.geometry[:3]).movedim(-1, 1) * open_at_start
        begin = channels_last(second.conv(started), padded).flatten(1)
        constant = channels_last(second.conv((first.shift * open_at_start)[None]), padded)
        out = np.empty((len(bare), len(self.fractions), begin.shape[1]), np.float32)
        _share_frames(
            lambda part: kernels.spread(
                (drives.numpy()[part], self.offsets, self.fractions),
                begin.numpy()[part],
                _numpy(constant.flatten()),
                (self.weights, self.geometry),
                out[part],
            ),
            len(bare),
        )
        scale, shift = self.dense.scales[1]
        values = torch.from_numpy(out).unflatten(2, scale.shape) * scale + shift
        return self.dense.upper_states({1: self.dense.state(1, values)})

    def drives(self, states: dict[int, State]) -> Tensor:
        """Return the drives (frame, point, drive) that the last layer gives."""
        return self.dense.drives(states)

    def end_gradients(self, bare: Tensor, gradients: Tensor) -> dict[Place, Tensor]:
        """Return the gradients at the end of the path, at all places."""
        return self.dense.end_gradients(bare, gradients)

    def parts(
        self,
        bare: Tensor,
        states: dict[int, State],
        gradients: Tensor,
        places: set[Place],
        keep: bool,
    ) -> dict[Place, Part]:
        """Return the contributions at places, as `DensePath.parts`."""
        last = len(self.dense.layers) - 1
        lanes = self._lanes(gradients) if last < 2 else None
        first = [place for place in places if place[0] == 0 < last]
        if lanes is None:
            found, slopes = self.dense.descend(states, gradients, places, keep)
            for place in first:
                parts = [self._collect_one(bare, states[1], place, one, keep) for one in slopes]
                found[place] = Part.join(parts)
            return found
        found = {}
        for place in places - set(first):
            found[place] = self._weigh(states[last], place, lanes, keep)
        for place in first:
            found[place] = self._collect(bare, states[1], place, lanes, keep)
        return found

    def _lanes(self, gradients: Tensor) -> _Lanes | None:
        """Return the targets as lanes, if they are several and each depends on one drive."""
        used = (gradients != 0).flatten(0, 1).any(dim=0)
        if len(used) <= _FEW or bool((used.sum(dim=1) > 1).any()):
            return None
        owners = used.to(torch.uint8).argmax(dim=1)
        slopes = gradients[:, :, torch.arange(len(owners)), owners]
        return _Lanes(slopes, self.dense.readout[owners].flatten(1).T)

    def _weigh(self, state: State, place: Place, lanes: _Lanes, keep: bool) -> Part:
        """Return the last layer's part."""
        after = place[1] or self.dense.quadrature.chords
        values = (state.outputs if after else state.inputs).flatten(2).numpy()
        none = np.empty((len(values), 0, 0), np.float32)
        slopes = none if after else state.slopes.flatten(2).numpy()
        matrix, channels = self.dense.matrix.numpy(), state.inputs.shape[-1]

        def run(lanes: _Lanes, groups: Groups, outputs: Outputs, part: slice) -> None:
            path, slices = (values[part], slopes[part]), _numpy(lanes.slopes)[part]
            readout = _numpy(lanes.readout)
            kernels.weigh(groups, path, matrix, slices, readout, channels, _cut(outputs, part))

        shape, count = state.inputs.shape[2:], self.dense.layers[place[0]].shape[0]
        return _in_blocks(run, lanes, (shape[0], shape[1], channels), count, keep)

    def _collect(self, bare: Tensor, state: State, place: Place, lanes: _Lanes, keep: bool) -> Part:
        """Return the first layer's part."""
        between, table = self._table(place)
        slopes = _numpy(state.slopes * self.dense.scales[1][0]).reshape(*state.slopes.shape[:2], -1)
        drives = _numpy(self._drives(bare))

        def run(lanes: _Lanes, groups: Groups, outputs: Outputs, part: slice) -> None:
            first = (drives[part], self.offsets, self.fractions)
            second = (slopes[part], _numpy(lanes.slopes)[part], _numpy(lanes.readout))
            kernel = (self.weights, self.geometry)
            kernels.collect(groups, first, between, table, second, kernel, _cut(outputs, part))

        rows, columns, channels = self.geometry[:3]
        return _in_blocks(run, lanes, (rows, columns, channels), channels, keep)

    def _collect_one(
        self, bare: Tensor, state: State, place: Place, slope: Tensor, keep: bool
    ) -> Part:
        """Return the first layer's part for one target, given its gradient above."""
        between, table = self._table(place)
        slopes = _numpy(state.slopes * self.dense.scales[1][0]).reshape(*state.slopes.shape[:2], -1)
        inner, drives = _numpy(slope.flatten(2)), _numpy(self._drives(bare))
        rows, columns, channels = self.geometry[:3]
        outputs = _outputs(len(bare), (rows, columns, channels), 1, keep)

        def run(part: slice) -> None:
            first = (drives[part], self.offsets, self.fractions)
            second = (slopes[part], inner[part])
            kernel = (self.weights, self.geometry)
            kernels.collect_one(first, between, table, second, kernel, _cut(outputs, part))

        _share_frames(run, len(bare))
        return _part(outputs, (rows, columns, channels), channels, 1)

    def _table(self, place: Place) -> tuple[bool, Array]:
        """Return whether gradients are given between points, and how they are weighed."""
        quadrature = self.dense.quadrature
        between = place[1] or quadrature.chords
        return between, _numpy(quadrature.at_intervals if between else quadrature.at_points)


@dataclass(frozen=True)
class _Lanes:
    """Targets of one drive each: gradients (frame, point, lane), readouts (value, lane)."""

    slopes: Tensor
    readout: Tensor

    def block(self, start: int) -> tuple[_Lanes, int]:
        """Return up to `_LANES` lanes, padded with zeros to whole groups, and their number."""
        count = min(_LANES, self.slopes.shape[-1] - start)
        pad = (0, -count % GROUP)
        cut = (tensor[..., start : start + count] for tensor in (self.slopes, self.readout))
        return _Lanes(*(functional.pad(tensor, pad).contiguous() for tensor in cut)), count


def _in_blocks(
    run: Callable[[_Lanes, Groups, Outputs, slice], None],
    lanes: _Lanes,
    shape: tuple[int, int, int],
    channels: int,
    keep: bool,
) -> Part:
    """Run a kernel over blocks of lanes and of frames, and put its outputs together."""
    parts = []
    for start in range(0, lanes.slopes.shape[-1], _LANES):
        block, count = lanes.block(start)
        width = block.slopes.shape[-1]
        outputs = _outputs(len(block.slopes), shape, width, keep)
        _share_frames(partial(run, block, (0,) * (width // GROUP), outputs), len(block.slopes))
        parts.append(_part(outputs, shape, channels, count))
    return Part.join(parts)


def _outputs(frames: int, shape: tuple[int, int, int], width: int, keep: bool) -> Outputs:
    """Return room for sums (frame, sign, channel, lane) and values (frame, value, lane)."""
    values = prod(shape) if keep else 0
    return np.zeros((frames, 2, shape[2], width)), np.zeros((frames, values, width), np.float32)


def _cut(outputs: Outputs, part: slice) -> Outputs:
    return outputs[0][part], outputs[1][part]


def _part(outputs: Outputs, shape: tuple[int, int, int], channels: int, count: int) -> Part:
    """Return a kernel's outputs without padding."""
    signed, units = (torch.from_numpy(array)[..., :count] for array in outputs)
    whole = signed[:, :, :channels].permute(0, 3, 1, 2)
    if not units.shape[1]:
        return Part(whole, None)
    return Part(whole, channels_first(units.unflatten(1, shape).movedim(-1, 1), channels))


def _share_frames(work: Callable[[slice], None], frames: int) -> None:
    """Do work on runs of frames, one for each of torch's threads."""
    threads = max(1, min(torch.get_num_threads(), frames))
    bounds = [frames * number // threads for number in range(threads + 1)]
    parts = [slice(a, b) for a, b in pairwise(bounds)]
    if threads == 1:
        work(parts[0])
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))


def _numpy(values: Tensor) -> Array:
    return values.to(torch.float32).contiguous().numpy()
