"""The fast path: exact contributions of a convolutional retina circuit over a whole movie."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from retinacodec.circuit import Circuit, evaluating
from retinacodec.dense_path import DensePath, Part, Place, State
from retinacodec.errors import InputError
from retinacodec.generic_path import GenericPath
from retinacodec.quadrature import Quadrature
from retinacodec.reduce import split_signs
from retinacodec.rules import Rule
from retinacodec.stack import Stack, StackTap
from retinacodec.stack_reader import recognise
from retinacodec.tally import Array, Wish, as_numpy
from retinacodec.targets import Target

__all__ = ["MoviePath"]

_log = logging.getLogger(__name__)
_FFT_FRAMES = 256
_COPIES = 3  # of a part of the result, while it is put together and written
_WORKING_BYTES = {True: 64e6, False: 1e9}  # near the processor's caches; on a GPU


class _Engine(Protocol):
    """What computes states and contributions of a stack."""

    @property
    def bytes_per_frame(self) -> int: ...

    def states(self, bare: Tensor) -> dict[int, State]: ...

    def drives(self, states: dict[int, State]) -> Tensor: ...

    def parts(
        self,
        bare: Tensor,
        states: dict[int, State],
        gradients: Tensor,
        places: set[Place],
        keep: bool,
    ) -> dict[Place, Part]: ...

    def end_gradients(self, bare: Tensor, gradients: Tensor) -> dict[Place, Tensor]: ...


@dataclass(frozen=True)
class MoviePath:
    """Runs a stack of convolutions along the paths of a movie's frames.

    Give the same numbers as `GenericPath`, to rounding, and do without most of the work: the
    first convolution is computed once a frame by FFT, the forward pass is shared by all cells,
    gradients at the last layers are small matrix products, and the first rectifiers open and
    close once along the path.

    Parameters
    ----------
    circuit : Circuit
        The circuit, in evaluation mode and on the device.
    target : Target
        A target bound to the circuit.
    rule : Rule
        Which points of the path are run and how they are summed.
    wish : Wish
        What is kept of each layer.
    device : torch.device
        Where to compute.
    branches : tuple of Branch
        The model's pieces and how they are computed, for paths from each baseline.
    frames : int, optional
        Windows computed at a time after the first convolution; chosen if left out.
    """

    circuit: Circuit
    target: Target
    rule: Rule
    wish: Wish
    device: torch.device
    branches: tuple[Branch, ...] = field(repr=False)
    frames: int | None = None

    @classmethod
    def match(
        cls,
        circuit: Circuit,
        target: Target,
        rule: Rule,
        size: tuple[int, int],
        wish: Wish,
        device: torch.device,
    ) -> MoviePath | None:
        """Return the fast path of a circuit, or None if it has none.

        Parameters
        ----------
        circuit : Circuit
            Any circuit.
        target : Target
            A target; may be bound later.
        rule : Rule
            A rule.
        size : (int, int)
            Pixels (y, x) of the movie's frames.
        wish, device
            As in the class.

        Returns
        -------
        MoviePath or None
            With paths from zero contrast.
        """
        quadrature = Quadrature.of(rule)
        if quadrature is None:
            return None
        with evaluating(circuit.model, device):
            stack = recognise(circuit, size)
        if stack is None:
            return None
        branch = Branch(stack, _engine(stack, quadrature), None)
        return cls(circuit, target, rule, wish, device, (branch,))

    @property
    def stack(self) -> Stack:
        """The model's pieces."""
        return self.branches[0].stack

    def starting(self, starts: Tensor) -> MoviePath | None:
        """Return the same path from other baselines, or None if only the generic path can.

        Parameters
        ----------
        starts : torch.Tensor (baseline, history, y, x)
            Stimulus windows; contributions are averaged over them.
        """
        if len(starts) > 1 and self.stack.head_taps:
            return None
        quadrature = Quadrature.of(self.rule)
        assert quadrature is not None
        plain = self.branches[0].stack
        with torch.no_grad():
            begun = plain.layers[0].conv(starts.to(self.device)) if bool(starts.any()) else None
        branches = [
            Branch(stack, _engine(stack, quadrature), one)
            for stack, one in _started(plain, begun, len(starts))
        ]
        return replace(self, branches=tuple(branches))

    @property
    def block(self) -> int:
        """Windows that are computed best in one call of `run`."""
        return max(_FFT_FRAMES - (self.circuit.history or 1) + 1, 64)

    def bound(self, target: Target) -> MoviePath:
        """Return the same path for another target."""
        return replace(self, target=target)

    def rates(self, movie: Tensor) -> Tensor:
        """Return the outputs of the circuit for every window of a movie.

        Parameters
        ----------
        movie : torch.Tensor (time, y, x)
            Contrast.

        Returns
        -------
        torch.Tensor (window, cell)
            As from the model.
        """
        stop = len(movie) - self.circuit.first_frame
        branch = self.branches[0]
        plain = branch.stack
        with torch.no_grad():
            rows = [
                plain.head(plain.drives(plain.values(bare)[-1][1])).cpu()
                for bare in map(branch.since, self._bare(movie, 0, stop, 64))
            ]
        return torch.cat(rows)

    def run(self, movie: Tensor, start: int, stop: int) -> dict[str, Array]:
        """Return the contributions for some windows of a movie.

        Parameters
        ----------
        movie : torch.Tensor (time, y, x)
            Contrast.
        start, stop : int
            Windows, as numbered by `Circuit.windows`.

        Returns
        -------
        dict of str to ndarray (window, target, ...)
            As from `GenericPath.run`.
        """
        batch = self._frames_at_once() if self.frames is None else self.frames
        first = start + self.circuit.first_frame
        parts = []
        with torch.no_grad():
            for bare in self._bare(movie, start, stop, batch):
                numbers = torch.arange(first, first + len(bare))
                parts.append(self._frames(bare, numbers))
                first += len(bare)
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _frames_at_once(self) -> int:
        room = _WORKING_BYTES[self.device.type == "cpu"]
        return int(max(1, min(128, room // self.branches[0].engine.bytes_per_frame)))

    def divided(
        self, budget_gb: float, batch: int | None, targets: int, kept: int
    ) -> tuple[MoviePath, int, int]:
        """Return the path within a budget, the windows of one `run` and its memory, bytes.

        Parameters
        ----------
        budget_gb, batch, targets, kept
            Working memory, GB; windows at a time, if the caller wants to say; number of targets;
            bytes of a window in the result.
        """
        layer, room = self.stack.layers[0], budget_gb * 1e9
        fixed = 6 * 4 * _FFT_FRAMES * (layer.scale.numel() + layer.scale[0].numel())
        each = self._window_bytes(targets)
        block = int(max(min(self.block, (room - fixed) / 2 // (_COPIES * kept)), 1))
        fits = (room - fixed - _COPIES * block * kept) // each
        if fits < 1 and batch is None:
            least = (fixed + _COPIES * kept + each) / 1e9
            raise InputError(
                f"contributions: one window takes {least:.2g} GB, the budget is {budget_gb:g} GB; "
                "raise budget_gb, or tap fewer layers"
            )
        chosen = min(fits, self._frames_at_once()) if batch is None else batch
        frames = int(max(min(chosen, block), 1))
        working = fixed + _COPIES * block * kept + frames * each
        return replace(self, frames=frames), block, int(working)

    def _window_bytes(self, targets: int) -> int:
        """Estimate the working memory of one window, bytes."""
        taps, several = self.stack.taps.values(), len(self.branches) > 1
        places = {(tap.layer, tap.after): tap.scale.numel() for tap in taps}
        keep = several or self.wish.maps or any(tap.flat for tap in taps)
        parts = sum(places.values()) * (2 * len(self.branches) + 1 if keep else 0)
        slopes = 2 * len(self.rule.points()) * self.stack.offset.numel()
        return self.branches[0].engine.bytes_per_frame + 4 * targets * (parts + slopes)

    def _bare(self, movie: Tensor, start: int, stop: int, size: int) -> Iterator[Tensor]:
        """Yield the first convolution (frame, channel, y, x) without bias, some frames at once."""
        lead = (self.circuit.history or 1) - 1
        for first in range(start, stop, self.block):
            frames = movie[first : min(first + self.block, stop) + lead].to(self.device)
            yield from self.stack.layers[0].over(frames).split(size)

    def _frames(self, bare: Tensor, numbers: Tensor) -> dict[str, Array]:
        """Return the contributions for some frames."""
        several = len(self.branches) > 1
        runs = [
            self._from(branch, branch.since(bare), numbers, several) for branch in self.branches
        ]
        found, parts = runs[-1]
        found["baseline_value"] = np.mean([run["baseline_value"] for run, _ in runs], axis=0)
        if several:
            parts = {
                place: Part.of(_mean([part[place].units for _, part in runs]), keep=True)
                for place in parts
            }
        for name, tap in self.stack.taps.items():
            part = parts[tap.layer, tap.after]
            total = part.signed.sum(dim=(2, 3)).cpu().numpy()
            found[f"{name}/contribution"] = self._contribution(part, tap)
            found[f"{name}/residual"] = total - (found["value"] - found["baseline_value"])
        return found

    def _from(
        self, branch: Branch, bare: Tensor, numbers: Tensor, keep: bool
    ) -> tuple[dict[str, Array], dict[Place, Part]]:
        """Return what came of the paths from one baseline, and the contributions."""
        states = branch.engine.states(bare)
        drives = branch.engine.drives(states)
        head = replace(self.circuit, layers=self.stack.head_taps)
        found, gradients = GenericPath(head, self.target, self.rule, self.wish, self.device).along(
            self.stack.head, drives.flatten(0, 1).requires_grad_(), numbers
        )
        slopes = torch.stack(gradients, dim=1).unflatten(0, drives.shape[:2])
        taps = self.stack.taps
        places = {(tap.layer, tap.after) for tap in taps.values()}
        keep = keep or self.wish.maps or any(tap.flat for tap in taps.values())
        parts = branch.engine.parts(bare, states, slopes, places, keep)
        self._ends(found, branch, bare, slopes[:, -1])
        return found, parts

    def _contribution(self, part: Part, tap: StackTap) -> Array:
        """Return (frame, target, sign, channel[, y, x])."""
        if part.units is None or not (self.wish.maps or tap.flat):
            return as_numpy(part.signed)
        values = part.units.flatten(2) if tap.flat else part.units
        kind = torch.float32 if self.wish.maps else torch.float64
        return as_numpy(split_signs(values).movedim(0, 2).to(kind))

    def _ends(self, found: dict[str, Array], branch: Branch, bare: Tensor, slopes: Tensor) -> None:
        """Add activations and gradients at the end of the path, where asked for."""
        taps = branch.stack.taps
        if self.wish.activations:
            values = branch.stack.values(bare)
            for name, tap in taps.items():
                activation = tap.scale * values[tap.layer][tap.after] + tap.shift
                found[f"{name}/activation"] = _summed(activation[:, None], tap)[:, 0]
        if self.wish.gradients:
            ends = branch.engine.end_gradients(bare, slopes)
            for name, tap in taps.items():
                found[f"{name}/gradient"] = _summed(tap.gain * ends[tap.layer, tap.after], tap)


@dataclass(frozen=True)
class Branch:
    """The paths from one baseline.

    Parameters
    ----------
    stack : Stack
        The model's pieces, with what the first convolution gives at the baseline as constants.
    engine : DensePath or EventPath
        How they are computed.
    begun : torch.Tensor (channel, y, x) or None
        The first convolution at the baseline, without bias; None for zero contrast.
    """

    stack: Stack
    engine: _Engine
    begun: Tensor | None

    def since(self, bare: Tensor) -> Tensor:
        """Return the change (frame, channel, y, x) of the first convolution from the baseline."""
        return bare if self.begun is None else bare - self.begun


def _started(
    plain: Stack, begun: Tensor | None, count: int
) -> Iterator[tuple[Stack, Tensor | None]]:
    """Yield a stack for each baseline, with the baseline's convolution among its constants."""
    for number in range(count):
        if begun is None:
            yield plain, None
            continue
        one = begun[number]
        first = plain.layers[0]
        moved = replace(first, shift=first.shift + first.scale * one)
        taps = {
            name: replace(tap, shift=tap.shift + tap.scale * one)
            if (tap.layer, tap.after) == (0, False)
            else tap
            for name, tap in plain.taps.items()
        }
        yield replace(plain, layers=(moved, *plain.layers[1:]), taps=taps), one


def _mean(units: Sequence[Tensor | None]) -> Tensor:
    return torch.stack([one for one in units if one is not None]).mean(dim=0)


def _engine(stack: Stack, quadrature: Quadrature) -> _Engine:
    """Return what suits the device and the first nonlinearity."""
    if stack.readout.device.type == "cpu":
        from retinacodec.event_path import EventPath
        from retinacodec.vector_code import GROUP

        if EventPath.fits(stack):
            return EventPath(DensePath(stack, quadrature, multiple=GROUP))
    return DensePath(stack, quadrature)


def _summed(values: Tensor, tap: StackTap) -> Array:
    """Return (frame, target, sign, channel) sums of values (frame, target, channel, y, x)."""
    signs = split_signs(values).movedim(0, 2).to(torch.float64)
    return as_numpy(signs.flatten(3) if tap.flat else signs.sum(dim=(-2, -1)))
