"""What a fast path needs of a model: the affine pieces of a stack of convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from retinacodec.movie_convolution import convolve_movie
from retinacodec.secant import KINKED
from retinacodec.trace import Trace

__all__ = ["Layer", "Stack", "StackTap"]


@dataclass(frozen=True)
class Layer:
    """One convolution with what follows up to its nonlinearity.

    Parameters
    ----------
    weight : torch.Tensor (channel, input channel, y, x)
        Kernel.
    options : dict
        ``stride``, ``padding``, ``dilation`` and ``groups`` as in ``conv2d``.
    scale, shift : torch.Tensor (channel, y, x)
        The nonlinearity sees ``scale * conv(h) + shift``; biases are part of `shift`.
    function : callable
        The element-wise nonlinearity.
    name : str
        Its name, such as ``"relu"``.
    """

    weight: Tensor = field(repr=False)
    options: dict[str, Any]
    scale: Tensor = field(repr=False)
    shift: Tensor = field(repr=False)
    function: Callable[[Tensor], Tensor] = field(repr=False)
    name: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the output."""
        channels, rows, columns = self.scale.shape
        return channels, rows, columns

    @property
    def rectifier(self) -> bool:
        """Whether the nonlinearity is max(z, 0) with slope 0 at 0."""
        return self.name.rstrip("_") == "relu"

    @property
    def kinked(self) -> bool:
        """Whether the nonlinearity is piecewise linear."""
        return self.name.rstrip("_") in KINKED

    def conv(self, values: Tensor) -> Tensor:
        """Return the convolution (batch, channel, y, x) without bias."""
        return functional.conv2d(values, self.weight, **self.options)

    def over(self, frames: Tensor) -> Tensor:
        """Return the convolution over each window of a run of frames, without bias.

        Parameters
        ----------
        frames : torch.Tensor (time, y, x)
            Contiguous frames; the layer reads windows of them, oldest frame first.

        Returns
        -------
        torch.Tensor (window, channel, y, x)
            As from `conv` of each window.
        """
        stride, padding = self.options["stride"], self.options["padding"]
        history = self.weight.shape[1]
        if self.options["dilation"] != (1, 1):
            return self.conv(frames.unfold(0, history, 1).movedim(-1, 1))
        framed = functional.pad(frames, (padding[1], padding[1], padding[0], padding[0]))
        whole = convolve_movie(framed[None], self.weight)[0]
        return whole[:, :, :: stride[0], :: stride[1]]

    def transposed(self, values: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Return the transpose of the convolution, of samples of `shape`."""
        whole = (len(values), *shape)
        result: Tensor = conv2d_input(whole, self.weight, values, **self.options)
        return result


@dataclass(frozen=True)
class StackTap:
    """Where a named module sits in the stack.

    Parameters
    ----------
    layer : int
        Number of the stack's layer, from 0.
    after : bool
        Whether it comes after the nonlinearity.
    scale, shift : torch.Tensor (channel, y, x)
        Its output is ``scale * v + shift`` with v the bare convolution, or, after the
        nonlinearity, the nonlinearity's output.
    gain : torch.Tensor (channel, y, x)
        Derivative, with respect to its output, of what the nonlinearity sees, or, after it, of
        what the nonlinearity puts out.
    flat : bool
        Whether its output is (batch, unit) instead of (batch, channel, y, x).
    """

    layer: int
    after: bool
    scale: Tensor = field(repr=False)
    shift: Tensor = field(repr=False)
    gain: Tensor = field(repr=False)
    flat: bool


@dataclass(frozen=True)
class Stack:
    """A model taken apart: convolutional layers, a linear readout, and a head.

    Parameters
    ----------
    layers : tuple of Layer
        From the stimulus to the readout; the first one's kernel is in units of contrast.
    readout : torch.Tensor (drive, channel, y, x)
        Weights from the last layer to the drives, the last linear values before the head.
    offset : torch.Tensor (drive,)
        Their constants.
    taps : dict of str to StackTap
        The circuit's layers inside the stack.
    head_taps : tuple of str
        The circuit's layers in the head.
    model : torch.nn.Module
        The model.
    trace : Trace
        Its course.
    drive : int
        The operation on it that puts out the drives.
    """

    layers: tuple[Layer, ...]
    readout: Tensor = field(repr=False)
    offset: Tensor = field(repr=False)
    taps: dict[str, StackTap]
    head_taps: tuple[str, ...]
    model: nn.Module = field(repr=False)
    trace: Trace = field(repr=False)
    drive: int

    def head(self, drives: Tensor) -> Tensor:
        """Return the outputs (batch, output) of the model for drives (batch, drive)."""
        shape = self.trace.operations[self.drive].shape or ()
        return self.trace.resume(self.model, self.drive, drives.unflatten(1, shape))

    def values(self, bare: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each layer's bare convolution and its output, both (batch, channel, y, x).

        Parameters
        ----------
        bare : torch.Tensor (batch, channel, y, x)
            The first convolution, without bias.
        """
        found: list[tuple[Tensor, Tensor]] = []
        for number, layer in enumerate(self.layers):
            linear = layer.conv(found[-1][1]) if number else bare
            found.append((linear, layer.function(layer.scale * linear + layer.shift)))
        return found

    def drives(self, last: Tensor) -> Tensor:
        """Return the drives (batch, drive) for the last layer's output (batch, channel, y, x)."""
        return last.flatten(1) @ self.readout.flatten(1).T + self.offset
