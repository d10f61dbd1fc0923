"""A movie passed through space-time kernels at every frame at once, by FFT over runs of frames."""

from __future__ import annotations

from typing import Any

import scipy.fft
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["convolve_movie"]

_AXES = (-3, -2, -1)


def convolve_movie(movie: Tensor, kernels: Tensor) -> Tensor:
    """Apply a convolution over stimulus windows to every window of contiguous frames.

    Parameters
    ----------
    movie : torch.Tensor (run, time, y, x)
        Runs of contiguous frames, real; each at least as large as a kernel in every axis.
    kernels : torch.Tensor (channel, history, height, width)
        Weights of a convolution that takes the frames of a window as its input channels, oldest
        frame first.

    Returns
    -------
    torch.Tensor (run, time - history + 1, channel, y - height + 1, x - width + 1)
        What ``conv2d`` gives for each window, without a bias. Differentiable once with respect
        to both arguments.

    Notes
    -----
    ``out[t, c, y, x] = sum_{h, i, j} kernels[c, h, i, j] movie[t + h, y + i, x + j]``, computed
    as one product for each space-time frequency. The transform is at least as large as the run,
    so that no output that is kept wraps around. Neighbouring windows share all frames but one,
    and the windows themselves are never built.

    Examples
    --------
    >>> movie, kernels = torch.randn(1, 9, 6, 6), torch.randn(2, 4, 3, 3)
    >>> windows = movie[0].unfold(0, 4, 1).movedim(-1, 1)
    >>> direct = torch.nn.functional.conv2d(windows, kernels)
    >>> torch.allclose(convolve_movie(movie, kernels)[0], direct, atol=1e-4)
    True
    """
    out: Tensor = _Convolution.apply(movie, kernels)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2)


class _Convolution(torch.autograd.Function):
    """The product of spectra, and its two transposes."""

    @staticmethod
    def forward(ctx: Any, movie: Tensor, kernels: Tensor) -> Tensor:
        grid = [scipy.fft.next_fast_len(count, real=True) for count in movie.shape[1:]]
        seen = torch.fft.rfftn(movie, s=grid, dim=_AXES)
        filters = torch.fft.rfftn(kernels, s=grid, dim=_AXES).conj()
        ctx.save_for_backward(seen, filters)
        ctx.grid, ctx.frames, ctx.support = grid, movie.shape[1:], kernels.shape[1:]
        whole = torch.fft.irfftn(seen[:, None] * filters, s=grid, dim=_AXES)
        return _corner(whole, [m - k + 1 for m, k in zip(ctx.frames, ctx.support, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        seen, filters = ctx.saved_tensors
        wave = torch.fft.rfftn(grad, s=ctx.grid, dim=_AXES)
        to_movie = to_kernels = None
        if ctx.needs_input_grad[0]:
            product = (wave * filters.conj()).sum(1)
            to_movie = _corner(torch.fft.irfftn(product, s=ctx.grid, dim=_AXES), ctx.frames)
        if ctx.needs_input_grad[1]:
            product = (seen[:, None] * wave.conj_physical_()).sum(0)
            to_kernels = _corner(torch.fft.irfftn(product, s=ctx.grid, dim=_AXES), ctx.support)
        return to_movie, to_kernels


def _corner(values: Tensor, size: Any) -> Tensor:
    """Return the first elements of the last three axes."""
    return values[..., : size[0], : size[1], : size[2]]
