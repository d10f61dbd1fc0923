"""Lean operations: the numbers of torch, without what only gradients of weights need."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from retinacodec.lean import LeanMode


class Kept:
    """Counts the values that are kept for the backward pass."""

    def __init__(self):
        self.count = 0

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda one: one)
        self.hooks.__enter__()
        return self

    def _keep(self, tensor):
        self.count += tensor.numel()
        return tensor

    def __exit__(self, *error):
        self.hooks.__exit__(*error)


def gradients(layer, x, lean):
    x = x.clone().requires_grad_()
    with Kept() as kept:
        if lean:
            with LeanMode():
                out = layer(x)
        else:
            out = layer(x)
    (slope,) = torch.autograd.grad((out * torch.cos(out.detach())).sum(), x)
    return out.detach(), slope, kept.count


CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 6, 3),
    "stride": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "uneven": nn.Conv2d(4, 6, (3, 5), stride=(2, 3), padding=(0, 2)),
    "dilated": nn.Conv2d(4, 6, 3, dilation=2, padding=2, bias=False),
    "groups": nn.Conv2d(4, 8, 3, groups=4, stride=2),
    "same": nn.Conv2d(4, 6, 3, padding="same"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(13, 13), (12, 17)])
def test_convolutions_are_torchs(name, size):
    layer = CONVOLUTIONS[name].double().requires_grad_(False)
    x = torch.randn(3, 4, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, lean = gradients(layer, x, False), gradients(layer, x, True)
    torch.testing.assert_close(lean[0], plain[0])
    torch.testing.assert_close(lean[1], plain[1], rtol=1e-12, atol=1e-12)
    if name != "same":  # what is given in words is left alone
        assert lean[2] <= plain[2] - x.numel()


@pytest.mark.parametrize("affine", [True, False])
def test_norms_in_evaluation_are_torchs(affine):
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(5, affine=affine).double().eval().requires_grad_(False)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    plain, lean = gradients(norm, x, False), gradients(norm, x, True)
    torch.testing.assert_close(lean[0], plain[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lean[1], plain[1], rtol=1e-12, atol=1e-12)
    assert lean[2] == 5 < x.numel() < plain[2]


def test_norms_of_vectors_too():
    norm = nn.BatchNorm1d(4).double().eval().requires_grad_(False)
    norm.running_mean.fill_(2.0)
    x = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(gradients(norm, x, True)[:2], gradients(norm, x, False)[:2])


def test_weights_that_carry_gradients_get_them():
    layer, x = nn.Conv2d(2, 3, 3), torch.randn(1, 2, 5, 5, requires_grad=True)
    with LeanMode():
        out = layer(x)
    assert torch.autograd.grad(out.sum(), layer.weight)[0].abs().sum() > 0


def test_batch_statistics_are_left_alone():
    norm, x = nn.BatchNorm2d(3).requires_grad_(False), torch.randn(4, 3, 5, 5, requires_grad=True)
    with LeanMode():
        lean = norm(x)
    torch.testing.assert_close(lean, functional.batch_norm(x, None, None, training=True))
