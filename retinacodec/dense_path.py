"""The fast path in plain tensors: a stack evaluated and differentiated at every point of a path.

Values of a layer lie in (frame, point, y, x, channel). The stack's first convolution enters as
what it gives for the whole stimulus, without its constants; along the path it is scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from retinacodec.chords import chord_slope, derivative
from retinacodec.quadrature import Quadrature
from retinacodec.reduce import split_signs
from retinacodec.stack import Layer, Stack

__all__ = ["DensePath", "Part", "Place", "State", "channels_first", "channels_last"]

Place = tuple[int, bool]
"""A layer's number, and whether after its nonlinearity."""


def channels_last(values: Tensor, channels: int) -> Tensor:
    """Return (..., channel, y, x) as (..., y, x, channel), padded with zeros to `channels`."""
    moved = values.movedim(-3, -1)
    if moved.shape[-1] < channels:
        moved = functional.pad(moved, (0, channels - moved.shape[-1]))
    return moved.contiguous()


def channels_first(values: Tensor, channels: int) -> Tensor:
    """Return (..., y, x, channel) as a view (..., channel, y, x) without padding."""
    return values[..., :channels].movedim(-1, -3)


@dataclass(frozen=True)
class State:
    """One layer along the path, each (frame, point, y, x, channel).

    Parameters
    ----------
    inputs, outputs : torch.Tensor
        What the nonlinearity sees and gives.
    slopes : torch.Tensor
        Its derivatives, or chord slopes of the interval that ends at each point.
    """

    inputs: Tensor
    outputs: Tensor
    slopes: Tensor


@dataclass(frozen=True)
class Part:
    """Contributions of one place.

    Parameters
    ----------
    signed : torch.Tensor (frame, target, sign, channel)
        Summed over space, float64.
    units : torch.Tensor (frame, target, channel, y, x) or None
        Each value's own, if asked for.
    """

    signed: Tensor
    units: Tensor | None

    @classmethod
    def of(cls, units: Tensor, keep: bool) -> Part:
        """Return the part with contributions (frame, target, channel, y, x)."""
        signed = split_signs(units).sum(dim=(-2, -1), dtype=torch.float64)
        return cls(signed.movedim(0, 2), units if keep else None)

    @classmethod
    def join(cls, parts: Sequence[Part]) -> Part:
        """Put parts for different targets together."""
        units = [part.units for part in parts if part.units is not None]
        signed = torch.cat([part.signed for part in parts], dim=1)
        return cls(signed, torch.cat(units, dim=1) if units else None)


@dataclass(frozen=True)
class DensePath:
    """Contributions of a stack for any nonlinearity and on any device.

    Parameters
    ----------
    stack : Stack
        The stack.
    quadrature : Quadrature
        The rule.
    multiple : int, default 1
        Channels are padded with zeros to a multiple of this.
    """

    stack: Stack
    quadrature: Quadrature
    multiple: int = field(default=1)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The stack's layers."""
        return self.stack.layers

    @property
    def bytes_per_frame(self) -> int:
        """Estimate of the working memory for one frame, bytes."""
        sizes = [layer.scale.numel() for layer in self.layers]
        return 4 * self.quadrature.points * (6 * sum(sizes) + 4 * max(sizes))

    def channels(self, number: int) -> int:
        """Return the padded number of channels of a layer."""
        return -(-self.layers[number].shape[0] // self.multiple) * self.multiple

    @cached_property
    def scales(self) -> list[tuple[Tensor, Tensor]]:
        """Scale and shift (y, x, channel) of each layer."""
        return [
            (
                channels_last(layer.scale, self.channels(number)),
                channels_last(layer.shift, self.channels(number)),
            )
            for number, layer in enumerate(self.layers)
        ]

    @cached_property
    def readout(self) -> Tensor:
        """Weights (drive, y, x, channel) of the readout."""
        return channels_last(self.stack.readout, self.channels(len(self.layers) - 1))

    @cached_property
    def fractions(self) -> Tensor:
        """Points of the path (point, 1, 1, 1) on the device, float32."""
        device = self.stack.readout.device
        return self.quadrature.fractions.to(device, torch.float32)[:, None, None, None]

    @cached_property
    def matrix(self) -> Tensor:
        """The quadrature's matrix on the device, float32."""
        return self.quadrature.matrix.to(self.stack.readout.device, torch.float32)

    def states(self, bare: Tensor, fractions: Tensor | None = None) -> dict[int, State]:
        """Return every layer along the path.

        Parameters
        ----------
        bare : torch.Tensor (frame, channel, y, x)
            The first convolution of each stimulus window, without bias.
        fractions : torch.Tensor (point, 1, 1, 1), optional
            Points of the path; the rule's if left out.
        """
        fractions = self.fractions if fractions is None else fractions
        scale, shift = self.scales[0]
        drive = channels_last(bare, self.channels(0)) * scale
        first = self.state(0, fractions * drive[:, None] + shift)
        return self.upper_states({0: first})

    def upper_states(self, states: dict[int, State]) -> dict[int, State]:
        """Return the states of all layers above too, given some neighbouring ones."""
        states = dict(states)
        for number in range(max(states) + 1, len(self.layers)):
            inputs = channels_first(states[number - 1].outputs, self.layers[number - 1].shape[0])
            bare = self.layers[number].conv(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
            scale, shift = self.scales[number]
            values = channels_last(bare, self.channels(number)) * scale + shift
            states[number] = self.state(number, values)
        return states

    def state(self, number: int, inputs: Tensor) -> State:
        """Return a layer's state for what its nonlinearity sees."""
        layer = self.layers[number]
        outputs = layer.function(inputs)
        if self.quadrature.chords and layer.rectifier:
            slopes = _rectifier_chords(inputs, outputs)
        elif self.quadrature.chords:
            rows, values = inputs.flatten(0, 1), outputs.flatten(0, 1)
            slopes = chord_slope(layer.function, rows, values, layer.kinked)
            slopes = slopes.unflatten(0, inputs.shape[:2])
        elif layer.rectifier:
            slopes = (inputs > 0).to(inputs.dtype)
        else:
            slopes = derivative(layer.function, inputs)
        return State(inputs, outputs, slopes)

    def drives(self, states: dict[int, State]) -> Tensor:
        """Return the drives (frame, point, drive) that the last layer gives."""
        return (
            states[len(self.layers) - 1].outputs.flatten(2) @ self.readout.flatten(1).T
            + self.stack.offset
        )

    def parts(
        self,
        bare: Tensor,  # noqa: ARG002
        states: dict[int, State],
        gradients: Tensor,
        places: set[Place],
        keep: bool,
    ) -> dict[Place, Part]:
        """Return the contributions at places.

        Parameters
        ----------
        bare : torch.Tensor (frame, channel, y, x)
            The first convolution.
        states : dict of int to State
            From `states`.
        gradients : torch.Tensor (frame, point, target, drive)
            Of the targets with respect to the drives.
        places : set of Place
            Where contributions are asked for.
        keep : bool
            Keep each value's own.
        """
        return self.descend(states, gradients, places, keep)[0]

    def descend(
        self, states: dict[int, State], gradients: Tensor, places: set[Place], keep: bool
    ) -> tuple[dict[Place, Part], list[Tensor]]:
        """Follow each target's gradient down to the lowest of the given layers.

        Returns
        -------
        parts : dict of Place to Part
            Contributions at places in these layers.
        lowest : list of torch.Tensor (frame, point, y, x, channel)
            For each target the gradient with respect to the lowest layer's outputs.
        """
        weights = {
            place: self._weights(states[place[0]], place) for place in places if place[0] in states
        }
        found: dict[Place, list[Part]] = {place: [] for place in weights}
        lowest = []
        for target in range(gradients.shape[2]):
            slope = (gradients[:, :, target] @ self.readout.flatten(1)).unflatten(
                2, self.readout.shape[1:]
            )
            for number in sorted(states, reverse=True):
                channels = self.layers[number].shape[0]
                for place in weights.keys() & {(number, False), (number, True)}:
                    units = channels_first((slope * weights[place]).sum(dim=1), channels)
                    found[place].append(Part.of(units[:, None], keep))
                if number > min(states):
                    slope = self.pull(number, slope * states[number].slopes)
            lowest.append(slope)
        return {place: Part.join(parts) for place, parts in found.items()}, lowest

    def pull(self, number: int, slope: Tensor) -> Tensor:
        """Return the gradient at the outputs of the layer below, (frame, point, y, x, channel)."""
        layer, below = self.layers[number], self.layers[number - 1]
        scaled = channels_first(slope * self.scales[number][0], layer.shape[0])
        pulled = layer.transposed(scaled.flatten(0, 1), below.shape)
        return channels_last(pulled.unflatten(0, slope.shape[:2]), self.channels(number - 1))

    def _weights(self, state: State, place: Place) -> Tensor:
        """Return what the gradient at a layer's outputs is multiplied with at each point."""
        after = place[1] or self.quadrature.chords
        values = state.outputs if after else state.inputs
        changes = torch.matmul(self.matrix, values.flatten(2)).view_as(values)
        return changes if after else state.slopes * changes

    def end_gradients(self, bare: Tensor, gradients: Tensor) -> dict[Place, Tensor]:
        """Return the gradients at the end of the path, at all places.

        Parameters
        ----------
        bare : torch.Tensor (frame, channel, y, x)
            The first convolution.
        gradients : torch.Tensor (frame, target, drive)
            At the last point.

        Returns
        -------
        dict of Place to torch.Tensor (frame, target, channel, y, x)
            With respect to what each nonlinearity sees and puts out.
        """
        states = self.states(bare, self.fractions[-2:])
        shape, targets = self.readout.shape[1:], gradients.shape[1]
        slope = (gradients @ self.readout.flatten(1)).unflatten(2, shape)
        found: dict[Place, Tensor] = {}
        for number in range(len(self.layers) - 1, -1, -1):
            channels = self.layers[number].shape[0]
            before = slope * states[number].slopes[:, -1:]
            found[number, True] = channels_first(slope, channels)
            found[number, False] = channels_first(before, channels)
            if number:
                slope = self.pull(number, before.expand(-1, targets, -1, -1, -1))
        return found


def _rectifier_chords(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Return chord slopes of max(z, 0): exactly 1 or 0 but where it opens or closes."""
    change = inputs.diff(dim=1)
    slopes = outputs.diff(dim=1).div_(change)
    still = change == 0
    if bool(still.any()):
        slopes = torch.where(still, (inputs[:, 1:] > 0).to(slopes.dtype), slopes)
    return torch.cat([torch.zeros_like(slopes[:, :1]), slopes], dim=1)
