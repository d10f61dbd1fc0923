"""The way back from rates to the first convolution, once every nonlinearity's slope is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from retinacodec.stack import Layer, Stack

__all__ = ["Descent"]

Array = npt.NDArray[Any]
Box = tuple[slice, slice]

_PLAIN = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}


@dataclass(frozen=True)
class Descent:
    """The fixed part of the gradients of a stack of convolutions.

    Parameters
    ----------
    layers : tuple of Layer
        The stack's layers; of the first only scale and nonlinearity are used.
    readout : torch.Tensor (drive, channel, y, x)
        Weights from the last layer to the drives.
    owners : tuple of int or None
        For each cell the one drive that its rate depends on; None where cells depend on several.

    Notes
    -----
    With ``s_l`` the slopes of layer l, ``a_l`` its scales, ``W_l`` its kernel, ``R`` the readout
    and ``g`` the gradient of a rate with respect to the drives, the gradient at the output of the
    first convolution is ``a_1 s_1 W_2^T (a_2 s_2 W_3^T (... R^T g))``. Slopes belong to a frame
    and are shared by all cells. Positions from which no weight leads to a cell are left out.
    """

    layers: tuple[Layer, ...]
    readout: Tensor = field(repr=False)
    owners: tuple[int, ...] | None

    @classmethod
    def of(cls, stack: Stack, owners: tuple[int, ...] | None) -> Descent:
        """Return the descent of a stack, on the processor."""
        return cls(tuple(_cpu(layer) for layer in stack.layers), stack.readout.cpu(), owners)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the first convolution's output."""
        return self.layers[0].shape

    @property
    def rectified(self) -> tuple[bool, ...]:
        """Which layers have slopes of 0 and 1 only."""
        return tuple(layer.rectifier for layer in self.layers)

    def latents(self, slopes: Sequence[Tensor], gains: Tensor) -> Tensor:
        """Return the gradients at the first convolution's output.

        Parameters
        ----------
        slopes : sequence of torch.Tensor (frame, channel, y, x)
            Of each layer.
        gains : torch.Tensor (frame, cell) or (frame, cell, drive)
            Gradients of the rates with respect to each cell's own drive, or to all drives.

        Returns
        -------
        torch.Tensor (frame, cell, channel, y, x)
            Gradients.
        """
        scaled = [
            (layer.scale * slope).contiguous(memory_format=torch.channels_last)
            for layer, slope in zip(self.layers, slopes, strict=True)
        ]
        out = gains.new_zeros((*gains.shape[:2], *self.shape))
        for cell in range(gains.shape[1]):
            weights, support = self._weights(cell, gains[:, cell])
            self._descend(weights, support, scaled, out[:, cell])
        return out

    def _weights(self, cell: int, gains: Tensor) -> tuple[Tensor, Box]:
        """Return the gradient at the last layer, within where it is not zero."""
        if self.owners is None:
            support = _support(self.readout.abs().sum(0))
            cut = self.readout[:, :, support[0], support[1]]
            return torch.tensordot(gains, cut, dims=1), support
        readout = self.readout[self.owners[cell]]
        support = _support(readout)
        return gains[:, None, None, None] * readout[:, support[0], support[1]], support

    def _descend(self, slope: Tensor, box: Box, scaled: Sequence[Tensor], out: Tensor) -> None:
        """Follow the gradient of one cell down to the first convolution, into `out`."""
        for number in range(len(self.layers) - 1, 0, -1):
            layer, below = self.layers[number], self.layers[number - 1]
            through = slope * scaled[number][:, :, box[0], box[1]]
            if all(layer.options[name] == value for name, value in _PLAIN.items()):
                packed = through.contiguous(memory_format=torch.channels_last)
                slope = functional.conv_transpose2d(packed, layer.weight)
                reach = layer.weight.shape[2:]
                box = _grown(box, (int(reach[0]), int(reach[1])))
            else:
                whole = through.new_zeros((len(through), *layer.shape))
                whole[:, :, box[0], box[1]] = through
                slope = layer.transposed(whole, below.shape)
                box = (slice(0, below.shape[1]), slice(0, below.shape[2]))
        torch.mul(slope, scaled[0][:, :, box[0], box[1]], out=out[:, :, box[0], box[1]])

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return arrays and JSON-able settings that `unpack` makes the descent of again."""
        arrays: dict[str, Array] = {"readout": self.readout.numpy()}
        for number, layer in enumerate(self.layers):
            arrays[f"scale_{number}"] = layer.scale.numpy()
            if number:
                arrays[f"weight_{number}"] = layer.weight.numpy()
        settings = {
            "owners": None if self.owners is None else list(self.owners),
            "layers": [{"options": layer.options, "name": layer.name} for layer in self.layers],
        }
        return arrays, settings

    @classmethod
    def unpack(cls, arrays: Mapping[str, Array], settings: Mapping[str, Any]) -> Descent:
        """Return the descent that was packed."""
        layers = []
        for number, said in enumerate(settings["layers"]):
            scale = _tensor(arrays[f"scale_{number}"])
            weight = _tensor(arrays[f"weight_{number}"]) if number else torch.empty(0)
            options = {
                k: tuple(v) if isinstance(v, list) else v for k, v in said["options"].items()
            }
            layers.append(Layer(weight, options, scale, scale, _no_function, said["name"]))
        owners = None if settings["owners"] is None else tuple(settings["owners"])
        return cls(tuple(layers), _tensor(arrays["readout"]), owners)


def _no_function(values: Tensor) -> Tensor:
    """Stand in for the nonlinearity of a layer of which only slopes are known."""
    raise NotImplementedError(f"the nonlinearity is not stored; got {tuple(values.shape)}")


def _cpu(layer: Layer) -> Layer:
    """Return a layer on the processor."""
    moved = (tensor.detach().cpu() for tensor in (layer.weight, layer.scale, layer.shift))
    weight, scale, shift = moved
    return Layer(weight, layer.options, scale, shift, layer.function, layer.name)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values))


def _support(weights: Tensor) -> Box:
    """Return the rows and columns (channel, y, x) that hold all values other than 0."""
    used = weights.abs().sum(0) > 0
    spans = []
    for axis in (1, 0):
        places = used.any(axis).nonzero().flatten().tolist()
        spans.append(slice(places[0], places[-1] + 1) if places else slice(0, 1))
    return spans[0], spans[1]


def _grown(box: Box, kernel: tuple[int, int]) -> Box:
    """Return where a transposed convolution without padding puts a box."""
    first, second = (
        slice(one.start, one.stop + reach - 1) for one, reach in zip(box, kernel, strict=True)
    )
    return first, second
