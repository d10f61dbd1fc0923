"""The stages of the simulated retina: linear pools and rectifiers with constant weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retinacodec.models.retina_cells import (
    AmacrineType,
    BipolarType,
    GanglionType,
    gaussian,
)

__all__ = ["Amacrines", "Bipolars", "Concatenation", "Pools", "Rates", "Rectifier"]


class Rectifier(nn.Module):
    """Threshold-linear release, ``relu(z - threshold)`` for each channel, or the identity.

    Parameters
    ----------
    thresholds : sequence of float
        Threshold of each channel.
    linear : bool, default False
        Pass the potential on unchanged.
    """

    thresholds: Tensor

    def __init__(self, thresholds: Sequence[float], *, linear: bool = False) -> None:
        super().__init__()
        self.linear = linear
        values = torch.tensor(thresholds, dtype=torch.float32)
        self.register_buffer("thresholds", values[:, None, None], persistent=False)

    def forward(self, potential: Tensor) -> Tensor:
        """Return the release (batch, channel, y, x) for a potential of the same shape."""
        if self.linear:
            return potential
        return F.relu(potential - self.thresholds)


class _Blur(nn.Module):
    """A Gaussian of its own width and volume for each channel; mean grey beyond the frame."""

    columns: Tensor
    rows: Tensor

    def __init__(
        self, sigmas_um: Sequence[float], pixel_um: float, volumes: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        kernels = [gaussian(sigma, pixel_um) for sigma in sigmas_um]
        reach = max(len(kernel) for kernel in kernels) // 2
        padded = np.stack([np.pad(k, reach - len(k) // 2) for k in kernels])
        weights = torch.tensor(padded, dtype=torch.float32)
        scale = torch.tensor([1.0] * len(weights) if volumes is None else list(volumes))
        columns = (weights * scale[:, None])[:, None, :, None]
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("rows", weights[:, None, None, :], persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the blurred maps (batch, channel, y, x)."""
        channels, reach = len(self.rows), self.rows.shape[-1] // 2
        maps = F.conv2d(maps, self.columns, padding=(reach, 0), groups=channels)
        return F.conv2d(maps, self.rows, padding=(0, reach), groups=channels)


class _BipolarPotential(nn.Module):
    """Time courses, then centre minus surround, at every lag: all linear.

    The maps are laid out with channels last, where the blurs are six times as fast.
    """

    courses: Tensor

    def __init__(
        self,
        types: Sequence[BipolarType],
        present: Sequence[bool],
        *,
        history: int,
        lags: int,
        frame_rate: float,
        pixel_um: float,
    ) -> None:
        super().__init__()
        span = history - lags + 1
        courses = np.zeros((lags, len(types), history))
        for lag in range(lags):
            for i, (kind, here) in enumerate(zip(types, present, strict=True)):
                end = history - lag
                courses[lag, i, end - span : end] = here * kind.kernel(span, frame_rate)[::-1]
        weights = torch.tensor(courses.reshape(-1, history, 1, 1), dtype=torch.float32)
        self.register_buffer("courses", weights, persistent=False)
        depths = [-kind.surround for kind in types] * lags
        self._centre = _Blur([kind.centre_um for kind in types] * lags, pixel_um)
        self._surround = _Blur([kind.surround_um for kind in types] * lags, pixel_um, depths)

    def forward(self, x: Tensor) -> Tensor:
        """Return the potentials (batch, lag * type, y, x) for windows (batch, history, y, x)."""
        maps = F.conv2d(x, self.courses).contiguous(memory_format=torch.channels_last)
        centre: Tensor = self._centre(maps)
        return centre + self._surround(maps)


class Bipolars(nn.Module):
    """Bipolar cells of every type at every pixel, for the frames an amacrine cell remembers.

    The output (batch, lag * type, y, x) holds the types at lag 0 first. A missing type has no
    input and no release.
    """

    def __init__(
        self,
        types: Sequence[BipolarType],
        present: Sequence[bool],
        *,
        history: int,
        lags: int,
        frame_rate: float,
        pixel_um: float,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.potential = _BipolarPotential(
            types, present, history=history, lags=lags, frame_rate=frame_rate, pixel_um=pixel_um
        )
        pairs = zip(types, present, strict=True)
        limits = [kind.threshold if here else 0.0 for kind, here in pairs]
        self.release = Rectifier(limits * lags, linear=linear)

    def forward(self, x: Tensor) -> Tensor:
        """Return the release (batch, lag * type, y, x) for windows (batch, history, y, x)."""
        release: Tensor = self.release(self.potential(x))
        return release


class _AmacrinePotential(nn.Module):
    """Weighted sum over bipolar types and lags, then a Gaussian pool: all linear."""

    weights: Tensor

    def __init__(
        self,
        types: Sequence[AmacrineType],
        bipolars: Sequence[BipolarType],
        *,
        lags: int,
        frame_rate: float,
        pixel_um: float,
    ) -> None:
        super().__init__()
        weights = np.zeros((len(types), lags, len(bipolars)))
        for i, kind in enumerate(types):
            decay = np.exp(-np.arange(lags) * 1000 / (frame_rate * kind.tau_ms))
            given = dict(kind.inputs)
            row = np.array([given.get(bipolar.name, 0.0) for bipolar in bipolars])
            weights[i] = decay[:, None] / decay.sum() * row
        mixed = torch.tensor(weights.reshape(len(types), -1, 1, 1), dtype=torch.float32)
        self.register_buffer("weights", mixed, persistent=False)
        self._pool = _Blur([kind.sigma_um for kind in types], pixel_um)

    def forward(self, bipolar: Tensor) -> Tensor:
        """Return the potentials (batch, type, y, x) for release (batch, lag * type, y, x)."""
        pooled: Tensor = self._pool(F.conv2d(bipolar, self.weights))
        return pooled


class Amacrines(nn.Module):
    """Amacrine cells of every type at every pixel, driven by bipolar release of recent frames."""

    def __init__(
        self,
        types: Sequence[AmacrineType],
        bipolars: Sequence[BipolarType],
        *,
        lags: int,
        frame_rate: float,
        pixel_um: float,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.potential = _AmacrinePotential(
            types, bipolars, lags=lags, frame_rate=frame_rate, pixel_um=pixel_um
        )
        self.release = Rectifier([kind.threshold for kind in types], linear=linear)

    def forward(self, bipolar: Tensor) -> Tensor:
        """Return the release (batch, type, y, x)."""
        release: Tensor = self.release(self.potential(bipolar))
        return release


class Concatenation(nn.Module):
    """Everything a ganglion cell receives, as channels of one tensor: a full cut."""

    def forward(self, bipolar: Tensor, amacrine: Tensor) -> Tensor:
        """Return (batch, bipolar types + amacrine types, y, x)."""
        return torch.cat([bipolar, amacrine], dim=1)


class Pools(nn.Module):
    """Dendritic fields: Gaussian pools, bipolar types counted plus and amacrine types minus.

    ``weights`` (cell, channel, y, x) are the synapses; `forward` returns the drive (batch, cell).
    """

    weights: Tensor

    def __init__(
        self,
        cells: Sequence[GanglionType],
        positions_um: np.ndarray,
        channels: Sequence[str],
        *,
        size: tuple[int, int],
        pixel_um: float,
        inhibition: bool = True,
    ) -> None:
        super().__init__()
        axes = [(np.arange(n) - (n - 1) / 2) * pixel_um for n in size]
        weights = np.zeros((len(cells), len(channels), *size))
        for i, (kind, place) in enumerate(zip(cells, positions_um, strict=True)):
            given = dict(kind.excitation)
            if inhibition:
                given |= {name: -weight for name, weight in kind.inhibition}
            y, x = (
                np.exp(-0.5 * ((axis - centre) / kind.pool_um) ** 2)
                for axis, centre in zip(axes, place, strict=True)
            )
            volume = 2 * np.pi * (kind.pool_um / pixel_um) ** 2
            row = np.array([given.get(name, 0.0) for name in channels])
            weights[i] = row[:, None, None] * (y[:, None] * x) / volume
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32), False)

    def forward(self, interneurons: Tensor) -> Tensor:
        """Return the drive (batch, cell) for releases (batch, channel, y, x)."""
        return F.linear(interneurons.flatten(1), self.weights.flatten(1))


class Rates(nn.Module):
    """Firing: ``gain * softness * softplus((drive - threshold) / softness)``, Hz."""

    gain: Tensor
    threshold: Tensor
    sharpness: Tensor

    def __init__(self, cells: Sequence[GanglionType]) -> None:
        super().__init__()
        soft = torch.tensor([kind.softness for kind in cells])
        gain = torch.tensor([kind.gain_hz for kind in cells])
        self.register_buffer("gain", gain * soft, persistent=False)
        self.register_buffer("threshold", torch.tensor([k.threshold for k in cells]), False)
        self.register_buffer("sharpness", 1 / soft, persistent=False)

    def forward(self, drive: Tensor) -> Tensor:
        """Return the rates (batch, cell), Hz."""
        return self.gain * F.softplus((drive - self.threshold) * self.sharpness)
