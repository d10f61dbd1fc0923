"""The fast path on the processor: the first rectifiers as events, cells as lanes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retinacodec import kernels
from retinacodec.dense_path import DensePath, Part, Place, State, channels_first, channels_last
from retinacodec.stack import Stack
from retinacodec.vector_code import GROUP

__all__ = ["EventPath"]

Array = npt.NDArray[Any]
_LANES = 4 * GROUP


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
        return _flat(channels_last(second, self.dense.channels(1)).flip(2))

    @cached_property
    def offsets(self) -> Array:
        """What the first rectifiers see at zero contrast, (y, x, channel) flat."""
        return _flat(channels_last(self.dense.layers[0].shift, 0))

    @cached_property
    def fractions(self) -> Array:
        """Points of the path."""
        return _flat(self.dense.fractions)

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
                _flat(constant),
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
        owners = _owners(gradients)
        last = len(self.dense.layers) - 1
        inner: Tensor | None = None
        if owners is None or last > 1:
            found, lowest = self.dense.descend(states, gradients, places, keep)
            inner = torch.stack(lowest, dim=-1).flatten(2, 4)
        else:
            lanes = gradients[:, :, torch.arange(len(owners)), owners]
            readout = self.dense.readout[owners].flatten(1).T
            here = {place for place in places if place[0] == last}
            found = {
                place: self._weigh(states[last], place, lanes, readout, keep) for place in here
            }
        for place in sorted(place for place in places if place[0] == 0 < last):
            if self.dense.quadrature.chords and (0, False) in found:
                found[place] = found[0, False]
            elif inner is not None:
                found[place] = self._collect(bare, states[1], place, None, None, inner, keep)
            else:
                found[place] = self._collect(bare, states[1], place, lanes, readout, None, keep)
        return found

    def _weigh(
        self, state: State, place: Place, lanes: Tensor, readout: Tensor, keep: bool
    ) -> Part:
        """Return the last layer's part for targets of one drive each."""
        after = place[1] or self.dense.quadrature.chords
        values = (state.outputs if after else state.inputs).flatten(2).numpy()
        slopes = _none(values) if after else state.slopes.flatten(2).numpy()
        matrix = self.dense.matrix.numpy()
        shape = self.dense.layers[place[0]].shape

        def run(block: _Block, part: slice) -> None:
            kernels.weigh(
                block.groups,
                (values[part], slopes[part]),
                matrix,
                block.lanes[part],
                block.readout,
                padded[2],
                (block.signed[part], block.units[part]),
            )

        padded = (*shape[1:], self.dense.channels(place[0]))
        return _in_blocks(run, len(values), lanes, readout, padded, shape[0], keep)

    def _collect(
        self,
        bare: Tensor,
        state: State,
        place: Place,
        lanes: Tensor | None,
        readout: Tensor | None,
        inner: Tensor | None,
        keep: bool,
    ) -> Part:
        """Return the first layer's part."""
        between = place[1] or self.dense.quadrature.chords
        quadrature = self.dense.quadrature
        table = _flat_rows(quadrature.at_intervals if between else quadrature.at_points)
        slopes = (state.slopes * self.dense.scales[1][0]).flatten(2).numpy()
        drives = self._drives(bare).numpy()
        channels, rows, columns = self.dense.layers[0].shape

        def run(block: _Block, part: slice) -> None:
            kernels.collect(
                block.groups,
                (drives[part], self.offsets, self.fractions),
                between,
                table,
                (slopes[part], block.lanes[part], block.readout, block.inner[part]),
                (self.weights, self.geometry),
                (block.signed[part], block.units[part]),
            )

        shape = (rows, columns, channels)
        return _in_blocks(run, len(bare), lanes, readout, shape, channels, keep, inner)


@dataclass(frozen=True)
class _Block:
    """Up to four groups of lanes, padded, with their outputs."""

    groups: tuple[int, ...]
    lanes: Array
    readout: Array
    inner: Array
    signed: Array
    units: Array


def _in_blocks(
    run: Callable[[_Block, slice], None],
    frames: int,
    lanes: Tensor | None,
    readout: Tensor | None,
    shape: tuple[int, int, int],
    channels: int,
    keep: bool,
    inner: Tensor | None = None,
) -> Part:
    """Run a kernel over blocks of lanes and frames, and put its outputs together."""
    source = inner if inner is not None else lanes
    assert source is not None
    signed, units = [], []
    for start in range(0, source.shape[-1], _LANES):
        count = min(_LANES, source.shape[-1] - start)
        width = -(-count // GROUP) * GROUP
        here = slice(start, start + count)
        empty = np.empty((frames, 0, 0, 0), np.float32)
        block = _Block(
            (0,) * (width // GROUP),
            np.empty((frames, 0, 0), np.float32)
            if lanes is None
            else _pad(lanes[..., here], width),
            np.empty((0, 0), np.float32) if readout is None else _pad(readout[:, here], width),
            empty if inner is None else inner[..., here].contiguous().numpy(),
            np.zeros((frames, 2, shape[2], width)),
            np.zeros((frames, int(np.prod(shape)) if keep else 0, width), np.float32),
        )
        _share_frames(lambda part, block=block: run(block, part), frames)  # type: ignore[misc]
        signed.append(torch.from_numpy(block.signed[:, :, :channels, :count]))
        if keep:
            values = torch.from_numpy(block.units[..., :count]).unflatten(1, shape)
            units.append(channels_first(values.movedim(-1, 1), channels))
    whole = torch.cat(signed, dim=3).permute(0, 3, 1, 2)
    return Part(whole, torch.cat(units, dim=1) if keep else None)


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


def _owners(gradients: Tensor) -> Tensor | None:
    """Return the one drive that each target depends on, or None if one depends on several."""
    used = (gradients != 0).flatten(0, 1).any(dim=0)
    return used.to(torch.uint8).argmax(dim=1) if bool((used.sum(dim=1) <= 1).all()) else None


def _pad(values: Tensor, width: int) -> Array:
    """Return values with zero lanes appended, contiguous."""
    return torch.nn.functional.pad(values, (0, width - values.shape[-1])).contiguous().numpy()


def _flat(values: Tensor) -> Array:
    return values.detach().to(torch.float32).contiguous().flatten().numpy()


def _flat_rows(values: Tensor) -> Array:
    return values.to(torch.float32).contiguous().numpy()


def _none(values: Array) -> Array:
    return np.empty((len(values), 0, 0), np.float32)
