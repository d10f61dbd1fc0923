"""The convolution by FFT and its transposes against the direct sums."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from retinacodec.movie_convolution import convolve_movie


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    movie = torch.randn((2, 23, 11, 13), generator=generator, dtype=torch.float64)
    kernels = torch.randn((3, 6, 4, 5), generator=generator, dtype=torch.float64)
    return movie, kernels


def _direct(movie: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    windows = movie.unfold(1, kernels.shape[1], 1).movedim(-1, 2)
    return functional.conv2d(windows.flatten(0, 1), kernels).unflatten(0, windows.shape[:2])


def test_equals_the_convolution_of_every_window(case):
    movie, kernels = case
    torch.testing.assert_close(convolve_movie(movie, kernels), _direct(movie, kernels))


def test_single_precision_error_is_below_a_millionth_of_the_largest_output():
    generator = torch.Generator().manual_seed(2)
    movie = torch.randn((1, 100, 24, 24), generator=generator)
    kernels = torch.randn((4, 24, 9, 9), generator=generator)
    truth = _direct(movie.double(), kernels.double())
    error = (convolve_movie(movie, kernels) - truth).abs().max() / truth.abs().max()
    assert error < 1e-6


def test_gradients_equal_those_of_the_direct_sum(case):
    movie, kernels = (tensor.clone().requires_grad_() for tensor in case)
    weight = torch.randn_like(_direct(*case))
    ours = torch.autograd.grad((convolve_movie(movie, kernels) * weight).sum(), (movie, kernels))
    direct = torch.autograd.grad((_direct(movie, kernels) * weight).sum(), (movie, kernels))
    torch.testing.assert_close(ours, direct)
