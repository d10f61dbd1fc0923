"""How the last feature maps of a network become one number a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from retinacodec.errors import InputError, Problems

__all__ = [
    "LinearReadout",
    "OnePositionReadout",
    "Readout",
    "Surface",
    "readout_config",
    "readout_from_config",
]


@dataclass(frozen=True)
class Surface:
    """The feature maps that a readout is attached to.

    Parameters
    ----------
    channels : int
        Feature maps.
    height, width : int
        Positions of a map along y and x.
    field : int
        Pixels along each axis of the frame that one position sees through all layers before.
    """

    channels: int
    height: int
    width: int
    field: int


class Readout(Protocol):
    """A frozen choice of readout that builds its module once the maps are known."""

    def build(self, surface: Surface, cells: int, generator: torch.Generator) -> nn.Module:
        """Return a module from (batch, channel, y, x) to (batch, cell)."""
        ...  # pragma: no cover


@dataclass(frozen=True)
class LinearReadout:
    """Every cell weighs every position of every feature map.

    Parameters
    ----------
    bias : bool, default False
        Add a constant for each cell. A normalisation that follows makes it idle.
    """

    bias: bool = False

    def build(self, surface: Surface, cells: int, generator: torch.Generator) -> nn.Module:
        """Return the module for these feature maps.

        Parameters
        ----------
        surface : Surface
            Size of the maps.
        cells : int
            Number of cells.
        generator : torch.Generator
            Source of the initial weights.

        Returns
        -------
        torch.nn.Module
            From (batch, channel, y, x) to (batch, cell).
        """
        return LinearMap(surface, cells, self.bias, generator)


@dataclass(frozen=True)
class OnePositionReadout:
    """A convolution gives each cell a map, and the cell is one position of its map.

    Parameters
    ----------
    kernel : int, default 11
        Side of the convolution's kernel, positions of the feature maps.
    positions : sequence of (int, int), optional
        Centre (row, column) of each cell's receptive field, pixels of the frame. Without it
        every cell looks from the middle, and fitting moves it to the strongest pixel of the
        spike-triggered average.

    Notes
    -----
    With an effective field of E pixels (E = 1 + sum of (kernel - 1) over all convolutions, this
    one included), the map's index p sees pixels p to p + E - 1. The index of a centre c is
    ``clamp(c - (E - 1) // 2, 0, last)`` along each axis.

    References
    ----------
    Maheswaranathan et al., Neuron 2023 (one position per cell).
    """

    kernel: int = 11
    positions: Sequence[tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        if self.positions is not None:
            pairs = tuple((int(row), int(column)) for row, column in self.positions)
            object.__setattr__(self, "positions", pairs)

    def build(self, surface: Surface, cells: int, generator: torch.Generator) -> nn.Module:
        """Return the module for these feature maps.

        Parameters
        ----------
        surface : Surface
            Size of the maps and what one of their positions sees.
        cells : int
            Number of cells.
        generator : torch.Generator
            Source of the initial weights.

        Returns
        -------
        torch.nn.Module
            From (batch, channel, y, x) to (batch, cell); ``conv`` inside gives the cells' maps.

        Raises
        ------
        InputError
            If the kernel is larger than the maps or there is not one position a cell.
        """
        problems = Problems()
        problems.require(
            1 <= self.kernel <= min(surface.height, surface.width),
            f"kernel {self.kernel} does not fit maps of {surface.height} x {surface.width}; "
            "use a smaller kernel here or in the layers before",
        )
        given = self.positions
        problems.require(
            given is None or len(given) == cells,
            f"expected one position for each of {cells} cells, got {len(given or ())}",
        )
        problems.raise_as("one-position readout")
        return PositionMap(surface, cells, self.kernel, given, generator)


def readout_config(readout: Readout) -> dict[str, Any]:
    """Return a readout choice as plain values that JSON can hold.

    Raises
    ------
    InputError
        If it is not one of the readouts of this module.
    """
    kind = type(readout).__name__
    if kind not in _KINDS:
        raise InputError(f"readout: expected one of {', '.join(_KINDS)}, got {kind}")
    return {"kind": kind, **asdict(readout)}  # type: ignore[call-overload]


def readout_from_config(config: dict[str, Any]) -> Readout:
    """Return the readout choice that `readout_config` described.

    Raises
    ------
    InputError
        If the description names no known readout.
    """
    options = dict(config)
    kind = options.pop("kind", None)
    if kind not in _KINDS:
        raise InputError(f"readout: expected one of {', '.join(_KINDS)}, got {kind!r}")
    return _KINDS[kind](**options)


class LinearMap(nn.Module):
    """A dense layer over flattened maps."""

    def __init__(
        self, surface: Surface, cells: int, bias: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        inputs = surface.channels * surface.height * surface.width
        self.shape = (surface.channels, surface.height, surface.width)
        self.linear = nn.utils.skip_init(nn.Linear, inputs, cells, bias=bias)
        fill_uniform(self.linear, inputs, generator)

    def forward(self, maps: Tensor) -> Tensor:
        values: Tensor = self.linear(maps.flatten(1))
        return values

    def dense(self) -> tuple[Tensor, Tensor]:
        """Return the weights (cell, channel, y, x) on the maps, and the bias (cell)."""
        weight = self.linear.weight
        bias = weight.new_zeros(len(weight)) if self.linear.bias is None else self.linear.bias
        return weight.view(len(weight), *self.shape), bias


class PositionMap(nn.Module):
    """A convolution to one map a cell, read at one position."""

    positions: Tensor

    def __init__(
        self,
        surface: Surface,
        cells: int,
        kernel: int,
        centres: Sequence[tuple[int, int]] | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.shape = (surface.channels, surface.height, surface.width)
        self.field = surface.field + kernel - 1
        self.fixed = centres is not None
        self.conv = nn.utils.skip_init(nn.Conv2d, surface.channels, cells, kernel)
        fill_uniform(self.conv, surface.channels * kernel**2, generator)
        self.size = (surface.height - kernel + 1, surface.width - kernel + 1)
        middle = torch.tensor([[(count - 1) // 2 for count in self.size]]).repeat(cells, 1)
        self.register_buffer("positions", middle)
        if centres is not None:
            self.place(torch.tensor(centres))

    def place(self, centres: Tensor) -> None:
        """Set each cell's position from a centre (cell, 2) in pixels (row, column) of the frame."""
        last = torch.tensor(self.size) - 1
        index = (centres.cpu() - (self.field - 1) // 2).clamp_min(0).minimum(last)
        self.positions.copy_(index)

    def forward(self, maps: Tensor) -> Tensor:
        values: Tensor = self.conv(maps)
        cells = torch.arange(len(self.positions), device=values.device)
        return values[:, cells, self.positions[:, 0], self.positions[:, 1]]

    def dense(self) -> tuple[Tensor, Tensor]:
        """Return the weights (cell, channel, y, x) on the maps, and the bias (cell)."""
        weight = self.conv.weight
        whole = weight.new_zeros(len(weight), *self.shape)
        side = weight.shape[-1]
        for cell, (row, column) in enumerate(self.positions.tolist()):
            whole[cell, :, row : row + side, column : column + side] = weight[cell]
        bias = self.conv.bias
        return whole, weight.new_zeros(len(weight)) if bias is None else bias


def fill_uniform(layer: nn.Module, inputs: int, generator: torch.Generator) -> None:
    """Fill weight and bias with uniform values of the usual bound, from a local generator."""
    bound = inputs**-0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)


_KINDS: dict[str, Any] = {
    "LinearReadout": LinearReadout,
    "OnePositionReadout": OnePositionReadout,
}
