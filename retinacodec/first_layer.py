"""The first convolution as a linear map of the stimulus window, and its transpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional

from retinacodec.capture import tapped
from retinacodec.circuit import evaluating
from retinacodec.errors import InputError

__all__ = ["Filters", "close", "scaled_filters"]


@dataclass(frozen=True)
class Filters:
    """The linear map from a stimulus window to the first convolution's output.

    Parameters
    ----------
    name : str
        Layer it belongs to; empty where the fields are stored as they are.
    weight : torch.Tensor (channel, lag, height, width)
        Filters in units of the layer's output per unit contrast, with every scaling that the
        model applies to the window before the layer.
    size : (int, int)
        Pixels (y, x) of a frame.
    stride, padding, dilation : (int, int)
        As in ``torch.nn.Conv2d``.
    groups : int
        As in ``torch.nn.Conv2d``.
    lead, trail : (int, int)
        Rows and columns that the layer's output reaches before and after the window `size`.
    """

    name: str
    weight: Tensor = field(repr=False)
    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    lead: tuple[int, int] = (0, 0)
    trail: tuple[int, int] = (0, 0)

    @property
    def whole(self) -> tuple[int, int]:
        """Pixels (y, x) that the layer's output reaches, the window among them."""
        rows, columns = (sum(part) for part in zip(self.lead, self.size, self.trail, strict=True))
        return rows, columns

    @property
    def plain(self) -> bool:
        """Whether the map is a convolution and nothing else, so that it is one product by FFT."""
        options = (self.stride, self.padding, self.dilation, self.groups)
        return options == ((1, 1), (0, 0), (1, 1), 1)

    @property
    def stored(self) -> bool:
        """Whether latent and field are the same thing."""
        return self.name == ""

    def project(self, latent: Tensor) -> Tensor:
        """Turn gradients at the layer into receptive fields.

        Parameters
        ----------
        latent : torch.Tensor (batch, channel, y, x)
            Gradients with respect to the layer's output.

        Returns
        -------
        torch.Tensor (batch, lag, y, x)
            Gradients with respect to the stimulus window.

        Notes
        -----
        The transpose of the convolution. Where nothing but a convolution is asked for, it is
        computed as one product for each spatial frequency, which is exact because a full
        convolution has the size of the frame.
        """
        if self.stored:
            return latent
        if self.temporal is not None:
            basis, reduced = self.temporal
            short = reduced.project(latent)
            return torch.tensordot(short, basis, dims=([1], [1])).movedim(-1, 1).contiguous()
        if self.plain:
            rows, columns = self._grid
            spectrum = self._spectrum(latent) @ self._filter_spectrum
            lags = self.weight.shape[1]
            waves = spectrum.view(rows, columns // 2 + 1, len(latent), lags).permute(2, 3, 0, 1)
            reached = torch.fft.irfft2(waves, s=(rows, columns))
            (top, left), (height, width) = self.lead, self.size
            return reached[..., top : top + height, left : left + width]
        return self._transpose(latent)

    @cached_property
    def temporal(self) -> tuple[Tensor, Filters] | None:
        """The time courses that all filters are made of, and the filters in terms of those.

        Returns
        -------
        (torch.Tensor (lag, course), Filters) or None
            Orthonormal courses and filters with one plane for each of them in place of each lag.
            None where there would be more than half as many courses as lags, so that nothing is
            gained, or where filters are grouped.

        Notes
        -----
        Left singular vectors of the filters (lag, everything else) with singular values above
        1e-7 of the largest.
        """
        lags = 0 if self.stored else self.weight.shape[1]
        if lags < 2 or self.groups != 1:
            return None
        flat = self.weight.transpose(0, 1).flatten(1).double()
        powers, vectors = torch.linalg.eigh(flat @ flat.mT)
        known = powers > 1e-14 * powers[-1].clamp_min(1e-300)
        if 2 * int(known.sum()) > lags:
            return None
        basis = vectors[:, known]
        short = torch.einsum("lr,clhw->crhw", basis, self.weight.double())
        return basis.to(self.weight.dtype), replace(self, weight=short.to(self.weight.dtype))

    def features(self, latent: Tensor) -> Tensor:
        """Return vectors whose dot products are those of the fields, without the fields.

        Parameters
        ----------
        latent : torch.Tensor (batch, channel, y, x)
            Gradients with respect to the layer's output.

        Returns
        -------
        torch.Tensor (batch, feature)
            Vectors about as long as the latent, where the layer is a plain convolution; else the
            flattened fields.

        Notes
        -----
        With ``Z(f)`` the spectrum of the latent and ``W(f)`` (channel, lag) that of the filters,
        ``<F_i, F_j> = 1/P sum_f Z_i(f)^* G(f) Z_j(f)`` with ``G(f)`` the Gram matrix of its rows.
        The vectors are ``sqrt(G(f) / P) Z(f)``, real and imaginary part apart, with a factor
        ``sqrt(2)`` for frequencies that stand for their conjugate as well.
        """
        if self.temporal is not None:
            return self.temporal[1].features(latent)
        mixed = not self.plain or self.whole != self.size
        if self.stored or mixed or self.weight.shape[0] > self.weight.shape[1]:
            return self.project(latent).flatten(1)
        waves = torch.view_as_real(self._spectrum(latent) @ self._gram_root)
        return waves.permute(1, 0, 2, 3).flatten(1)

    def window(
        self, rows: slice, columns: slice, shape: Sequence[int]
    ) -> tuple[Filters, tuple[slice, slice]]:
        """Return the map into a window of the frame.

        Parameters
        ----------
        rows, columns : slice
            Pixels of the window, with start and stop.
        shape : (int, int)
            Size (y, x) of the layer's output.

        Returns
        -------
        filters : Filters
            From the part of the layer's output that reaches the window.
        near : (slice, slice)
            That part.

        Raises
        ------
        InputError
            If the layer is strided, padded, dilated or grouped.
        """
        size = (rows.stop - rows.start, columns.stop - columns.start)
        if self.stored:
            return replace(self, size=size), (rows, columns)
        if not self.plain:
            raise InputError(
                "window: expected a first layer without stride, padding, dilation and groups; "
                "project whole fields and cut them"
            )
        near, lead, trail = [], [], []
        for axis, one in enumerate((rows, columns)):
            reach, before = self.weight.shape[2 + axis], self.lead[axis]
            first, last = one.start + before, one.stop + before
            part = slice(max(first - reach + 1, 0), min(last, shape[axis]))
            near.append(part)
            lead.append(first - part.start)
            trail.append(part.stop + reach - 1 - last)
        cut = replace(self, size=size, lead=(lead[0], lead[1]), trail=(trail[0], trail[1]))
        return cut, (near[0], near[1])

    def places(self, y: xr.DataArray, x: xr.DataArray, shape: tuple[int, int]) -> dict[str, Any]:
        """Return where on the retina the filters of the layer's output are centred.

        Parameters
        ----------
        y, x : xarray.DataArray
            Positions of the pixels, um.
        shape : (int, int)
            Size (y, x) of the layer's output.

        Returns
        -------
        dict
            Coordinates ``y`` and ``x`` of the layer's output, um.
        """
        if self.stored:
            return {"y": y, "x": x}
        found = {}
        for axis, (name, pixels) in enumerate((("y", y), ("x", x))):
            reach = self.dilation[axis] * (self.weight.shape[2 + axis] - 1) / 2
            first = reach - self.padding[axis] - self.lead[axis]
            number = np.arange(shape[axis]) * self.stride[axis] + first
            step = float(pixels[-1] - pixels[0]) / max(pixels.size - 1, 1)
            found[name] = (name, float(pixels[0]) + step * number, {"units": "um"})
        return found

    def _transpose(self, latent: Tensor) -> Tensor:
        """Apply the transposed convolution of the library."""
        span = [
            step * (count - 1) - 2 * pad + gap * (kernel - 1) + 1
            for step, count, pad, gap, kernel in zip(
                self.stride,
                latent.shape[2:],
                self.padding,
                self.dilation,
                self.weight.shape[2:],
                strict=True,
            )
        ]
        extra = (self.size[0] - span[0], self.size[1] - span[1])
        return functional.conv_transpose2d(
            latent,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=extra,
            groups=self.groups,
            dilation=self.dilation,
        )

    @property
    def _grid(self) -> tuple[int, int]:
        """Rows and columns of the transform: the frame, or the next size that is fast."""
        rows, columns = (scipy.fft.next_fast_len(count, real=True) for count in self.whole)
        return rows, columns

    def _spectrum(self, latent: Tensor) -> Tensor:
        """Return the spectrum (frequency, batch, channel) of latents."""
        waves = torch.fft.rfft2(latent, s=self._grid)
        return waves.permute(2, 3, 0, 1).flatten(0, 1)

    @cached_property
    def _filter_spectrum(self) -> Tensor:
        """Return the spectrum (frequency, channel, lag) of the filters."""
        waves = torch.fft.rfft2(self.weight, s=self._grid)
        return waves.permute(2, 3, 0, 1).flatten(0, 1).contiguous()

    @cached_property
    def _gram_root(self) -> Tensor:
        """Return the root (frequency, channel, feature) of the filters' Gram matrices."""
        rows, columns = self._grid
        waves = self._filter_spectrum.to(torch.complex128)
        powers, vectors = torch.linalg.eigh(waves.conj() @ waves.mT)
        twice = torch.full((columns // 2 + 1,), 2.0, dtype=powers.dtype)
        twice[0] = 1.0
        if columns % 2 == 0:
            twice[-1] = 1.0
        share = (twice / (rows * columns)).repeat(rows)[:, None]
        root = vectors.conj() * (powers.clamp_min(0) * share).sqrt()[:, None, :]
        return root.to(self._filter_spectrum.dtype)


def scaled_filters(model: nn.Module, probes: Tensor, name: str) -> Filters | None:
    """Return a convolution as a map of the stimulus window, or None where it is not one.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    probes : torch.Tensor (batch, history, y, x)
        Windows on the model's device to try it on; not all alike.
    name : str
        Name of a module of the model.

    Returns
    -------
    Filters or None
        The filters times the scaling of the window before them. None unless the layer is a
        ``Conv2d`` that is called once and whose output changes from window to window as a
        multiple of its own convolution of the window, to 1e-4.
    """
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Conv2d) or isinstance(layer.padding, str):
        return None
    if layer.in_channels != probes.shape[1] or layer.padding_mode != "zeros":
        return None
    with torch.no_grad(), evaluating(model):
        alone = layer(probes)
        with tapped(model, [name]) as taps:
            model(probes)
    if len(taps[name]) != 1 or taps[name][0].shape != alone.shape:
        return None
    put_out, read = (values - values[-1:] for values in (taps[name][0], alone))
    scale = (put_out * read).sum() / read.square().sum().clamp_min(1e-30)
    if not close(scale * read, put_out):
        return None
    return Filters(
        name=name,
        weight=(scale * layer.weight.detach()).cpu(),
        size=(probes.shape[2], probes.shape[3]),
        stride=_pair(layer.stride),
        padding=_pair(layer.padding),
        dilation=_pair(layer.dilation),
        groups=layer.groups,
    )


def close(found: Tensor, truth: Tensor) -> bool:
    """Return whether two tensors agree to 1e-4 of the largest value of the second."""
    return bool((found - truth).abs().max() <= 1e-4 * truth.abs().max().clamp_min(1e-30))


def _pair(option: Any) -> tuple[int, int]:
    first, second = option
    return int(first), int(second)
