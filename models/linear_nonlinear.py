"""The linear-nonlinear baseline: one space-time filter a cell and a static nonlinearity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from retinacodec.errors import InputError, Problems
from retinacodec.models.time_courses import cosines
from retinacodec.triggered_sums import triggered_sum

__all__ = ["LinearNonlinear"]


class LinearNonlinear(nn.Module):
    """One linear filter a cell, localised and of low rank, and a soft threshold.

    A fair baseline: the filter is a sum of a few products of a spatial map and a smooth time
    course, it starts at the spike-triggered average, and a prior holds it smooth and near the
    centre of the receptive field.

    Parameters
    ----------
    cells : int
        Number of ganglion cells.
    size : (int, int), default (50, 50)
        Pixels (y, x) of a frame.
    history : int, default 40
        Frames of a stimulus window.
    rank : int or None, default 2
        Products of space and time a filter is the sum of; None leaves the spatial map of every
        time course free (a dense filter).
    bands : int, default 12
        Smooth time courses (cosines) that temporal filters are made of, at most `history`.
    smoothness : float, default 10
        Precision of the prior on differences between neighbouring pixels.
    locality : float, default 1000
        Precision of the prior on pixels ``radius`` away from the centre; it grows with the
        square of the distance.
    radius : float, default 3.0
        Distance from the receptive field's centre, pixels.
    latency : int, default 0
        Frames between the newest frame of the window and the response.
    seed : int, default 0
        Seed of the initial weights.
    cell_names : sequence of str, optional
        Names of the cells; fitting sets them to those of the recording.

    Attributes
    ----------
    contrast_scale : torch.Tensor ()
        Contrast that counts as one; fitting sets it to the standard deviation of the movie.
    rate_scale : torch.Tensor (cell,)
        Hz for one unit of the nonlinearity; fitting sets it to the mean rates.
    centres : torch.Tensor (cell, 2)
        Row and column of the receptive fields' centres, pixels.

    Raises
    ------
    InputError
        If a number is out of range.

    Notes
    -----
    ``rate = rate_scale * gain * softplus(<filter, x / contrast_scale> + bias)`` with
    ``filter = sum_k temporal_k[h] spatial_k[y, x]`` and ``temporal_k`` a sum of ``bands``
    orthonormal cosines. With a free gain the soft threshold reaches from an exponential (far
    below threshold) to a straight line.

    References
    ----------
    Chichilnisky, Network 2001 (linear-nonlinear-Poisson). Park and Pillow, PLoS Computational
    Biology 2011 (smooth and local priors).

    Examples
    --------
    >>> model = LinearNonlinear(3, size=(8, 8), history=10)
    >>> model(torch.zeros(4, 10, 8, 8)).shape
    torch.Size([4, 3])
    """

    contrast_scale: Tensor
    rate_scale: Tensor
    centres: Tensor
    basis: Tensor

    def __init__(
        self,
        cells: int,
        *,
        size: Sequence[int] = (50, 50),
        history: int = 40,
        rank: int | None = 2,
        bands: int = 12,
        smoothness: float = 10.0,
        locality: float = 1000.0,
        radius: float = 3.0,
        latency: int = 0,
        seed: int = 0,
        cell_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.cells, self.history, self.latency, self.seed = cells, history, latency, seed
        self.size = (int(size[0]), int(size[1]))
        self.rank, self.bands = rank, bands
        self.smoothness, self.locality, self.radius = smoothness, locality, radius
        self.cell_names = None if cell_names is None else tuple(map(str, cell_names))
        self._check()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("basis", cosines(min(bands, history), history))
        parts = len(self.basis) if rank is None else rank
        scale = 0.1 / math.sqrt(self.size[0] * self.size[1] * parts)
        self.spatial = nn.Parameter(
            scale * torch.randn((cells, parts, *self.size), generator=generator)
        )
        if rank is None:
            self.register_parameter("temporal", None)
        else:
            courses = torch.randn((cells, parts, len(self.basis)), generator=generator)
            self.temporal = nn.Parameter(functional.normalize(courses, dim=-1))
        self.bias = nn.Parameter(torch.zeros(cells))
        self.log_gain = nn.Parameter(torch.zeros(cells))
        self.rate = nn.Softplus()
        self.register_buffer("contrast_scale", torch.tensor(1.0))
        self.register_buffer("rate_scale", torch.ones(cells))
        middle = torch.tensor([(count - 1) / 2 for count in self.size])
        self.register_buffer("centres", middle.repeat(cells, 1))

    def filters(self) -> Tensor:
        """Return the filters (cell, history, y, x), in drive per scaled contrast."""
        return torch.einsum("nkh,nkyx->nhyx", self._courses(), self.spatial)

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
                f"LinearNonlinear: expected windows (batch, {self.history}, {self.size[0]}, "
                f"{self.size[1]}), got {tuple(window.shape)}"
            )
        window = window / self.contrast_scale
        return self._rates(functional.linear(window.flatten(1), self.filters().flatten(1)))

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
        courses, maps = self._courses().flatten(0, 1), self.spatial.flatten(0, 1).flatten(1)
        seen = functional.linear(movie.flatten(2) / self.contrast_scale, maps)
        parts = functional.conv1d(seen.transpose(1, 2), courses[:, None], groups=len(courses))
        drive = parts.unflatten(1, (self.cells, -1)).sum(2)
        return self._rates(drive.transpose(1, 2))

    def penalty(self) -> Tensor:
        """Return the negative log prior of the filters.

        Returns
        -------
        torch.Tensor ()
            Nats; fitting adds it once to the loss of all training spikes.

        Notes
        -----
        ``1/2 sum_k |temporal_k|^2 sum_yx (smoothness |grad spatial_k|^2 + locality (d / radius)^2
        spatial_k^2)`` with d the distance from the cell's centre; beyond the frame the map is 0.
        """
        padded = functional.pad(self.spatial, (1, 1, 1, 1))
        rough = padded.diff(dim=2).square().sum((2, 3)) + padded.diff(dim=3).square().sum((2, 3))
        axes = [torch.arange(count, device=padded.device) for count in self.size]
        rows = (axes[0] - self.centres[:, :1]).square()
        columns = (axes[1] - self.centres[:, 1:]).square()
        far = (rows[:, :, None] + columns[:, None, :]) / self.radius**2
        spread = (self.spatial.square() * far[:, None]).sum((2, 3))
        power = self._courses().square().sum(2)
        return 0.5 * (power * (self.smoothness * rough + self.locality * spread)).sum()

    def initialise(self, movie: Tensor, counts: Tensor) -> None:
        """Start at the smoothed spike-triggered average.

        Parameters
        ----------
        movie : torch.Tensor (time, y, x)
            Contrast.
        counts : torch.Tensor (time, cell)
            Spikes in each frame; NaN counts as none.

        Notes
        -----
        The average over spikes in units of the contrast's deviation, in the basis of cosines and
        blurred over neighbouring pixels, gives the centre (strongest pixel); times a Gaussian
        window of ``radius`` around it, its best approximation of the wanted rank is the filter.
        """
        spikes = counts.nansum(0).clamp_min(1.0)
        average = triggered_sum(movie, counts, self.history, self.latency)
        average = average / (spikes[:, None, None, None] * self.contrast_scale)
        coarse = torch.einsum("bh,nhyx->nbyx", self.basis, average)
        coarse = functional.avg_pool2d(coarse, 3, 1, 1, count_include_pad=False)
        peak = coarse.square().sum(1).flatten(1).argmax(1)
        centres = torch.stack((peak // self.size[1], peak % self.size[1]), dim=1)
        with torch.no_grad():
            self.centres.copy_(centres)
            self._take(coarse * self._window()[:, None])

    def config(self) -> dict[str, Any]:
        """Return everything but the weights, as plain values that JSON can hold."""
        return {
            "cells": self.cells,
            "size": list(self.size),
            "history": self.history,
            "rank": self.rank,
            "bands": self.bands,
            "smoothness": self.smoothness,
            "locality": self.locality,
            "radius": self.radius,
            "latency": self.latency,
            "seed": self.seed,
            "cell_names": None if self.cell_names is None else list(self.cell_names),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LinearNonlinear:
        """Return an unfitted model from what `config` returned; load its weights after."""
        return cls(**config)

    def _courses(self) -> Tensor:
        """Return the temporal filters (cell, part, history)."""
        if self.temporal is None:
            return self.basis.expand(self.cells, -1, -1)
        return self.temporal @ self.basis

    def _rates(self, drive: Tensor) -> Tensor:
        rates: Tensor = self.rate_scale * self.log_gain.exp() * self.rate(drive + self.bias)
        return rates

    def _window(self) -> Tensor:
        """Return a Gaussian (cell, y, x) around each centre."""
        rows, columns = (torch.arange(count, device=self.centres.device) for count in self.size)
        y = (rows - self.centres[:, :1]) / self.radius
        x = (columns - self.centres[:, 1:]) / self.radius
        return torch.exp(-0.5 * (y.square()[:, :, None] + x.square()[:, None, :]))

    def _take(self, coarse: Tensor) -> None:
        """Set the filters to coefficients (cell, band, y, x), as nearly as the rank allows."""
        if self.temporal is None:
            self.spatial.copy_(coarse)
            return
        left, size, right = torch.linalg.svd(coarse.flatten(2), full_matrices=False)
        parts = self.spatial.shape[1]
        kept = min(parts, size.shape[1])
        root = size[:, :kept].sqrt()
        self.temporal[:, :kept] = (left[..., :kept] * root[:, None]).transpose(1, 2)
        maps = right[:, :kept] * root[..., None]
        self.spatial[:, :kept] = maps.unflatten(2, self.size)

    def _check(self) -> None:
        problems = Problems()
        for name in ("cells", "history", "bands"):
            value = getattr(self, name)
            problems.require(value >= 1, f"{name}: expected 1 or more, got {value}")
        problems.require(self.latency >= 0, f"latency: expected 0 or more, got {self.latency}")
        problems.require(min(self.size) >= 1, f"size: expected pixels (y, x), got {self.size}")
        problems.require(
            self.rank is None or self.rank >= 1,
            f"rank: expected 1 or more, or None for a dense filter, got {self.rank}",
        )
        for name in ("smoothness", "locality"):
            value = getattr(self, name)
            problems.require(value >= 0, f"{name}: expected 0 or more, got {value}")
        problems.require(self.radius > 0, f"radius: expected pixels > 0, got {self.radius}")
        names = self.cell_names
        problems.require(
            names is None or len(names) == self.cells,
            f"cell_names: expected {self.cells} names, got {len(names or ())}",
        )
        problems.raise_as("LinearNonlinear")
