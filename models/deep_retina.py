"""The convolutional network of the retina: space-time filters, rectified layers, a cell readout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from retinacodec.errors import InputError, Problems
from retinacodec.models.readouts import (
    LinearReadout,
    PositionMap,
    Readout,
    Surface,
    fill_uniform,
    readout_config,
    readout_from_config,
)
from retinacodec.models.time_courses import cosines
from retinacodec.movie_convolution import convolve_movie
from retinacodec.triggered_sums import triggered_sum

__all__ = ["DeepRetina"]

_NORMS = ("channel", "unit")
_EPS, _MOMENTUM = 1e-3, 0.01  # new statistics = 0.99 old + 0.01 batch


class DeepRetina(nn.Module):
    """A stack of convolutions with normalisation, noise and rectifiers, and a readout.

    Every module has a name that a circuit can point at: ``conv1, norm1, noise1, relu1, conv2,
    ...``, then ``readout``, a last normalisation over cells (``norm3`` after two convolutions)
    and ``rate``. The first convolution takes the frames of the window as its input channels;
    all convolutions are valid, with stride 1.

    Parameters
    ----------
    cells : int
        Number of ganglion cells.
    size : (int, int), default (50, 50)
        Pixels (y, x) of a frame.
    history : int, default 40
        Frames of a stimulus window.
    channels : sequence of int, default (8, 8)
        Feature maps of each convolution; any number of convolutions from one on.
    kernels : sequence of int, default (15, 11)
        Side of each convolution's kernel, pixels or positions.
    norm : {"channel", "unit"}, default "channel"
        Batch normalisation of whole maps, or of each position of each map by itself.
    readout : Readout, default LinearReadout()
        How the last maps become cells: `LinearReadout` or `OnePositionReadout`.
    noise : float, default 0.5
        Standard deviation of the Gaussian noise before each rectifier, in units of the
        normalised maps; in training only. The published networks have 0.05, which is enough
        where hours were recorded; twenty minutes of few spikes need more.
    dropout : float, default 0.5
        Share of the last maps' positions that is silenced at random; in training only. The
        published networks have none, and a one-position readout needs none.
    bands : int, optional
        Smooth time courses (the lowest cosines over the window) that the first kernels are made
        of: far fewer weights than frames, where the retina is slower than the movie. Every frame
        is free if left out.
    latency : int, default 0
        Frames between the newest frame of the window and the response.
    seed : int, default 0
        Seed of the initial weights.
    cell_names : sequence of str, optional
        Names of the cells; fitting sets them to those of the recording.

    Attributes
    ----------
    layers : tuple of str
        Names of the layers that are full cuts of the network, in order.
    contrast_scale : torch.Tensor ()
        Contrast that counts as one; fitting sets it to the standard deviation of the movie.
    rate_scale : torch.Tensor (cell,)
        Hz for one softplus unit; fitting sets it to the mean rates.

    Raises
    ------
    InputError
        If a number is out of range or the kernels do not fit the frame.

    Notes
    -----
    ``z_1 = conv1(x / contrast_scale)``, ``h_l = relu(norm_l(z_l) + noise)``,
    ``z_{l+1} = conv_{l+1}(h_l)``, ``rate = rate_scale * softplus(norm(readout(h_L)))``.
    Contrast is scaled but never shifted, so that contrast 0 stays mean grey. Normalisation has
    eps 1e-3 and running statistics ``new = 0.99 old + 0.01 batch``. In evaluation mode there is
    no noise and no dropout.

    References
    ----------
    McIntosh, Maheswaranathan, Nayebi, Ganguli, Baccus, NeurIPS 2016. Maheswaranathan et al.,
    Neuron 2023 (the three-layer network).

    Examples
    --------
    >>> model = DeepRetina(2, size=(12, 12), history=6, channels=(4, 3), kernels=(5, 3))
    >>> model(torch.zeros(7, 6, 12, 12)).shape
    torch.Size([7, 2])
    >>> model.layers
    ('conv1', 'norm1', 'relu1', 'conv2', 'norm2', 'relu2')
    """

    conv1: nn.Conv2d
    contrast_scale: Tensor
    rate_scale: Tensor

    def __init__(
        self,
        cells: int,
        *,
        size: Sequence[int] = (50, 50),
        history: int = 40,
        channels: Sequence[int] = (8, 8),
        kernels: Sequence[int] = (15, 11),
        norm: str = "channel",
        readout: Readout | None = None,
        noise: float = 0.5,
        dropout: float = 0.5,
        bands: int | None = None,
        latency: int = 0,
        seed: int = 0,
        cell_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.cells, self.history, self.latency, self.seed = cells, history, latency, seed
        self.size = (int(size[0]), int(size[1]))
        self.channels, self.kernels = tuple(channels), tuple(kernels)
        self.norm, self.noise, self.dropout_share = norm, float(noise), float(dropout)
        self.bands = bands
        self.readout_choice = LinearReadout() if readout is None else readout
        self.cell_names = None if cell_names is None else tuple(map(str, cell_names))
        self._check()
        generator = torch.Generator().manual_seed(seed)
        inputs, height, width = history, *self.size
        for depth, (count, side) in enumerate(zip(self.channels, self.kernels, strict=True), 1):
            conv = nn.utils.skip_init(nn.Conv2d, inputs, count, side)
            fill_uniform(conv, inputs * side**2, generator)
            inputs, height, width = count, height - side + 1, width - side + 1
            self.add_module(f"conv{depth}", conv)
            self.add_module(f"norm{depth}", _normalisation(norm, count, height * width))
            self.add_module(f"noise{depth}", GaussianNoise(self.noise))
            self.add_module(f"relu{depth}", nn.ReLU())
        field = 1 + sum(side - 1 for side in self.kernels)
        surface = Surface(inputs, height, width, field)
        self.dropout = nn.Dropout(self.dropout_share)
        self.readout = self.readout_choice.build(surface, cells, generator)
        self.add_module(f"norm{self.depth + 1}", nn.BatchNorm1d(cells, _EPS, _MOMENTUM))
        self.rate = nn.Softplus()
        self.register_buffer("contrast_scale", torch.tensor(1.0))
        self.register_buffer("rate_scale", torch.ones(cells))
        self.constrain()

    @property
    def depth(self) -> int:
        """Number of convolutions before the readout."""
        return len(self.kernels)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that every path from the movie to a cell crosses."""
        kinds = ("conv", "norm", "relu")
        return tuple(f"{kind}{depth}" for depth in range(1, self.depth + 1) for kind in kinds)

    def forward(self, window: Tensor) -> Tensor:
        """Return the rates for stimulus windows.

        Parameters
        ----------
        window : torch.Tensor (batch, history, y, x)
            Contrast, oldest frame first.

        Returns
        -------
        torch.Tensor (batch, cell)
            Rates, Hz.

        Raises
        ------
        InputError
            If the window has another shape.
        """
        if tuple(window.shape[1:]) != (self.history, *self.size):
            raise InputError(
                f"DeepRetina: expected windows (batch, {self.history}, {self.size[0]}, "
                f"{self.size[1]}), got {tuple(window.shape)}"
            )
        return self._rates(self.conv1(window / self.contrast_scale))

    def rates_along(self, movie: Tensor) -> Tensor:
        """Return the rates along runs of contiguous frames; as `forward`, and many times faster.

        Parameters
        ----------
        movie : torch.Tensor (run, time, y, x)
            Contrast.

        Returns
        -------
        torch.Tensor (run, time - history + 1, cell)
            Rates, Hz; the first belongs to the window that ends with frame ``history - 1``.
        """
        maps = convolve_movie(movie / self.contrast_scale, self.conv1.weight)
        runs, maps = maps.shape[:2], maps.flatten(0, 1)
        if self.conv1.bias is not None:
            maps = maps + self.conv1.bias[:, None, None]
        return self._rates(maps, _channels_innermost).unflatten(0, runs)

    def initialise(self, movie: Tensor, counts: Tensor) -> None:
        """Point each one-position cell at the peak of its spike-triggered average.

        Parameters
        ----------
        movie : torch.Tensor (time, y, x)
            Contrast.
        counts : torch.Tensor (time, cell)
            Spikes in each frame; NaN counts as none.
        """
        if not isinstance(self.readout, PositionMap) or self.readout.fixed:
            return
        average = triggered_sum(movie, counts, self.history, self.latency)
        peaks = average.square().sum(1).flatten(1).argmax(1)
        self.readout.place(torch.stack((peaks // self.size[1], peaks % self.size[1]), dim=1))

    def constrain(self) -> None:
        """Project the first kernels onto their smooth time courses, if these were asked for."""
        if self.bands is None:
            return
        with torch.no_grad():
            weight = self.conv1.weight
            basis = cosines(self.bands, self.history).to(weight)
            weight.copy_(torch.einsum("bh,bg,cgyx->chyx", basis, basis, weight))

    def config(self) -> dict[str, Any]:
        """Return everything but the weights, as plain values that JSON can hold."""
        return {
            "cells": self.cells,
            "size": list(self.size),
            "history": self.history,
            "channels": list(self.channels),
            "kernels": list(self.kernels),
            "norm": self.norm,
            "readout": readout_config(self.readout_choice),
            "noise": self.noise,
            "dropout": self.dropout_share,
            "bands": self.bands,
            "latency": self.latency,
            "seed": self.seed,
            "cell_names": None if self.cell_names is None else list(self.cell_names),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DeepRetina:
        """Return an untrained network from what `config` returned; load its weights after."""
        options = dict(config)
        return cls(readout=readout_from_config(options.pop("readout")), **options)

    def _rates(self, maps: Tensor, convolve: Callable[..., Tensor] | None = None) -> Tensor:
        """Go on from the first convolution's output (batch, channel, y, x)."""
        for depth in range(1, self.depth + 1):
            if depth > 1:
                conv = self.get_submodule(f"conv{depth}")
                maps = conv(maps) if convolve is None else convolve(conv, maps)
            for kind in ("norm", "noise", "relu"):
                maps = self.get_submodule(f"{kind}{depth}")(maps)
        drive = self.readout(self.dropout(maps))
        drive = self.get_submodule(f"norm{self.depth + 1}")(drive)
        rates: Tensor = self.rate_scale * self.rate(drive)
        return rates

    def _check(self) -> None:
        problems = Problems()
        for name in ("cells", "history"):
            value = getattr(self, name)
            problems.require(value >= 1, f"{name}: expected 1 or more, got {value}")
        problems.require(self.latency >= 0, f"latency: expected 0 or more, got {self.latency}")
        problems.require(
            len(self.kernels) == len(self.channels) >= 1,
            f"expected one kernel a convolution, got channels {self.channels} and kernels "
            f"{self.kernels}",
        )
        problems.require(min((*self.channels, *self.kernels)) >= 1, "a size is below 1")
        left = min(self.size) - sum(side - 1 for side in self.kernels)
        problems.require(
            left >= 1,
            f"kernels {self.kernels} do not fit frames of {self.size[0]} x {self.size[1]}; "
            f"their sides may add up to {min(self.size) + len(self.kernels) - 1} at most",
        )
        problems.require(self.norm in _NORMS, f"norm: expected one of {_NORMS}, got {self.norm!r}")
        problems.require(self.noise >= 0, f"noise: expected 0 or more, got {self.noise}")
        problems.require(
            self.bands is None or 1 <= self.bands <= self.history,
            f"bands: expected 1 to {self.history} (the history), got {self.bands}",
        )
        problems.require(0 <= self.dropout_share < 1, "dropout: expected a share from 0 up to 1")
        names = self.cell_names
        problems.require(
            names is None or len(names) == self.cells,
            f"cell_names: expected {self.cells} names, got {len(names or ())}",
        )
        problems.raise_as("DeepRetina")


class UnitNorm(nn.BatchNorm1d):
    """Batch normalisation with its own statistics for each position of each feature map."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise maps (batch, channel, y, x)."""
        return super().forward(maps.flatten(1)).view_as(maps)


class GaussianNoise(nn.Module):
    """Additive Gaussian noise in training, nothing in evaluation.

    Parameters
    ----------
    deviation : float
        Standard deviation.
    """

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, values: Tensor) -> Tensor:
        """Add the noise, if in training."""
        if not self.training or self.deviation == 0:
            return values
        return values + self.deviation * torch.randn_like(values)

    def extra_repr(self) -> str:
        """Return the deviation, for the model's repr."""
        return f"deviation={self.deviation}"


def _channels_innermost(conv: nn.Module, maps: Tensor) -> Tensor:
    """Convolve a few maps with large kernels up to four times faster, channels innermost."""
    out: Tensor = conv(maps.contiguous(memory_format=torch.channels_last))
    return out.contiguous()


def _normalisation(kind: str, channels: int, positions: int) -> nn.Module:
    if kind == "unit":
        return UnitNorm(channels * positions, _EPS, _MOMENTUM)
    return nn.BatchNorm2d(channels, _EPS, _MOMENTUM)
