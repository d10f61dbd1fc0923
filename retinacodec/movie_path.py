"""The fast path: exact contributions of a convolutional retina circuit over a whole movie."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from retinacodec.circuit import Circuit, evaluating
from retinacodec.dense_path import DensePath, Part, Place, State
from retinacodec.generic_path import GenericPath
from retinacodec.movie_convolution import convolve_movie
from retinacodec.quadrature import Quadrature
from retinacodec.reduce import split_signs
from retinacodec.rules import Rule
from retinacodec.stack import Layer, Stack, Tap
from retinacodec.stack_reader import recognise
from retinacodec.targets import Target

__all__ = ["MoviePath"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]
_FFT_FRAMES = 256
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
    maps : bool
        Keep every position of the contributions.
    activations, gradients : bool
        Keep the values at the end of the path.
    device : torch.device
        Where to compute.
    stack : Stack
        The model's pieces.
    engine : DensePath or EventPath
        How they are computed.
    """

    circuit: Circuit
    target: Target
    rule: Rule
    maps: bool
    activations: bool
    gradients: bool
    device: torch.device
    stack: Stack = field(repr=False)
    engine: _Engine = field(repr=False)

    @classmethod
    def match(
        cls,
        circuit: Circuit,
        target: Target,
        rule: Rule,
        size: tuple[int, int],
        maps: bool,
        activations: bool,
        gradients: bool,
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
        maps, activations, gradients, device
            As in the class.
        """
        quadrature = Quadrature.of(rule)
        if quadrature is None:
            return None
        with evaluating(circuit.model, device):
            stack = recognise(circuit, size)
        if stack is None:
            return None
        engine = _engine(stack, quadrature)
        return cls(circuit, target, rule, maps, activations, gradients, device, stack, engine)

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
        with torch.no_grad():
            rows = [
                self.stack.head(self.stack.drives(self.stack.values(bare)[-1][1])).cpu()
                for bare in self._bare(movie, 0, stop, 64)
            ]
        return torch.cat(rows)

    def run(
        self, movie: Tensor, start: int, stop: int, batch: int | None = None
    ) -> dict[str, Array]:
        """Return the contributions for some windows of a movie.

        Parameters
        ----------
        movie : torch.Tensor (time, y, x)
            Contrast.
        start, stop : int
            Windows, as numbered by `Circuit.windows`.
        batch : int, optional
            Windows computed at a time after the first convolution; chosen if left out.

        Returns
        -------
        dict of str to ndarray (window, target, ...)
            As from `GenericPath.run`.
        """
        if batch is None:
            room = _WORKING_BYTES[self.device.type == "cpu"]
            batch = int(max(1, min(128, room // self.engine.bytes_per_frame)))
        with torch.no_grad():
            parts = [self._frames(bare) for bare in self._bare(movie, start, stop, batch)]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _bare(self, movie: Tensor, start: int, stop: int, size: int) -> Iterator[Tensor]:
        """Yield the first convolution (frame, channel, y, x) without bias, some frames at once."""
        lead = (self.circuit.history or 1) - 1
        for first in range(start, stop, self.block):
            frames = movie[first : min(first + self.block, stop) + lead].to(self.device)
            yield from _convolve(self.stack.layers[0], frames).split(size)

    def _frames(self, bare: Tensor) -> dict[str, Array]:
        """Return the contributions for some frames."""
        states = self.engine.states(bare)
        drives = self.engine.drives(states)
        head = replace(self.circuit, layers=self.stack.head_taps)
        rest = (self.maps, self.activations, self.gradients, self.device)
        found, gradients = GenericPath(head, self.target, self.rule, *rest).along(
            self.stack.head, drives.flatten(0, 1).requires_grad_()
        )
        slopes = torch.stack(gradients, dim=1).unflatten(0, drives.shape[:2])
        taps = self.stack.taps
        places = {(tap.layer, tap.after) for tap in taps.values()}
        keep = self.maps or any(tap.flat for tap in taps.values())
        parts = self.engine.parts(bare, states, slopes, places, keep)
        for name, tap in taps.items():
            part = parts[tap.layer, tap.after]
            total = part.signed.sum(dim=(2, 3)).cpu().numpy()
            found[f"{name}/contribution"] = self._contribution(part, tap)
            found[f"{name}/total"] = total
            found[f"{name}/residual"] = total - (found["value"] - found["baseline_value"])
        self._ends(found, bare, slopes[:, -1])
        return found

    def _contribution(self, part: Part, tap: Tap) -> Array:
        """Return (frame, target, sign, channel[, y, x])."""
        if part.units is None or not (self.maps or tap.flat):
            return _numpy(part.signed)
        values = part.units.flatten(2) if tap.flat else part.units
        kind = torch.float32 if self.maps else torch.float64
        return _numpy(split_signs(values).movedim(0, 2).to(kind))

    def _ends(self, found: dict[str, Array], bare: Tensor, slopes: Tensor) -> None:
        """Add activations and gradients at the end of the path, where asked for."""
        if self.activations:
            values = self.stack.values(bare)
            for name, tap in self.stack.taps.items():
                activation = tap.scale * values[tap.layer][tap.after] + tap.shift
                found[f"{name}/activation"] = _summed(activation[:, None], tap)[:, 0]
        if self.gradients:
            ends = self.engine.end_gradients(bare, slopes)
            for name, tap in self.stack.taps.items():
                found[f"{name}/gradient"] = _summed(tap.gain * ends[tap.layer, tap.after], tap)


def _engine(stack: Stack, quadrature: Quadrature) -> _Engine:
    """Return what suits the device and the first nonlinearity."""
    if stack.readout.device.type == "cpu":
        from retinacodec.event_path import EventPath
        from retinacodec.vector_code import GROUP

        if EventPath.fits(stack):
            return EventPath(DensePath(stack, quadrature, multiple=GROUP))
    return DensePath(stack, quadrature)


def _convolve(layer: Layer, frames: Tensor) -> Tensor:
    """Return a convolution over windows for each of them, without bias."""
    stride, padding = layer.options["stride"], layer.options["padding"]
    history = layer.weight.shape[1]
    if layer.options["dilation"] != (1, 1):
        return layer.conv(frames.unfold(0, history, 1).movedim(-1, 1))
    framed = functional.pad(frames, (padding[1], padding[1], padding[0], padding[0]))
    whole = convolve_movie(framed[None], layer.weight)[0]
    return whole[:, :, :: stride[0], :: stride[1]]


def _summed(values: Tensor, tap: Tap) -> Array:
    """Return (frame, target, sign, channel) sums of values (frame, target, channel, y, x)."""
    signs = split_signs(values).movedim(0, 2).to(torch.float64)
    return _numpy(signs.flatten(3) if tap.flat else signs.sum(dim=(-2, -1)))


def _numpy(values: Tensor) -> Array:
    return values.detach().cpu().numpy()
