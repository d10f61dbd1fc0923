"""What the secant mode refuses, by name; nothing is ever silently wrong."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from retinacodec.errors import InputError
from retinacodec.secant import NoExactFactorError, SecantMode

GENERATOR = torch.Generator().manual_seed(1)
SAMPLES = torch.randn(4, 24, generator=GENERATOR, dtype=torch.float64)


REFUSED = {
    "sort": (lambda z: z.sort(-1).values, "'sort'"),
    "where": (lambda z: torch.where(z > 0, z, 0.1 * z), "'where'.*'gt'"),
    "masked fill": (lambda z: z.masked_fill(z < 0, 0.0), "'masked_fill'.*'lt'"),
    "gather": (lambda z: z.gather(1, z.argmax(1, keepdim=True)), "'gather'.*'argmax'"),
    "index": (lambda z: z[torch.arange(len(z)), z.argmax(1)], "'getitem'.*'argmax'"),
    "take along": (lambda z: z.take_along_dim(z.argsort(1), 1), "'take_along_dim'.*'argsort'"),
    "scatter": (
        lambda z: torch.zeros_like(z).scatter(1, z.argmax(1, keepdim=True), z[:, :1]),
        "'scatter'.*'argmax'",
    ),
    "index select": (lambda z: z.index_select(1, z[0].topk(2).indices), "'index_select'|'topk'"),
    "mask": (lambda z: z * (z > 0), "'mul'.*'gt'"),
    "mask as number": (lambda z: z * (z > 0).float(), "'mul'.*'gt'"),
    "step alone": (lambda z: (z > 0).double(), "'gt'"),
    "assignment by mask": (lambda z: assigned(z), "'setitem'.*'lt'"),
    "round": (torch.round, "'round'"),
    "floor": (torch.floor, "'floor'"),
    "floor division": (lambda z: z // 0.5, "'floordiv'"),
    "remainder": (lambda z: z % 0.5, "'remainder'"),
    "straight through": (lambda z: z + (z.round() - z).detach(), "'round'"),
    "detached": (lambda z: z - z.detach().amax(1, keepdim=True), "'sub'.*'detach'"),
    "data": (lambda z: z * z.data, "'mul'.*'data'"),
    "no gradient": (lambda z: z + ungraded(z), "'add'.*'exp without gradients'"),
    "max pool with indices": (
        lambda z: F.max_pool2d(z.view(-1, 2, 3, 4), 2, return_indices=True)[0],
        "returns indices",
    ),
    "batch statistics": (lambda z: F.batch_norm(z, None, None, training=True), "eval mode"),
    "dropout": (lambda z: F.dropout(z), "eval mode"),
    "two powers": (lambda z: (z.abs() + 1) ** z, "'pow'.*two of its arguments"),
    "weights on the path": (lambda z: F.linear(z, z[:24]), "'linear'.*weights"),
    "mixed rows": (lambda z: z - z.mean(0), "'mean'.*points"),
    "whole batch": (lambda z: z / z.max(), "points|batch"),
    "rows by rows": (lambda z: z @ z.T, "'matmul'.*points"),
    "some rows": (lambda z: z[1:], "'getitem'"),
    "rows in another order": (lambda z: z.flip(0), "'flip'.*points"),
    "spectrum": (lambda z: torch.fft.rfft(z).abs(), "'fft_rfft'"),
    "rows written elsewhere": (lambda z: moved(z), "'setitem'.*'getitem'"),
    "recurrent": (lambda z: torch.nn.LSTM(24, 3).to(z)(z)[0], "'lstm'"),
    "rows cut": (lambda z: z.reshape(-1, 24 * len(z)).relu(), "points"),
    "values that leave": (lambda z: torch.tensor(z.tolist()), "'tolist'"),
    "out": (lambda z: torch.exp(z, out=torch.empty_like(z)), "'exp'.*out="),
}


def assigned(z):
    z = z * 1
    z[z < 0] = 0
    return z


def moved(z):
    z = z * 1
    z[1:] = z[:-1] * 2
    return z


def ungraded(z):
    with torch.no_grad():
        return z.exp()


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_exact_factor_is_named(name, along):
    function, message = REFUSED[name]
    with pytest.raises(NoExactFactorError, match=message):
        along.residual(function, along.paths(SAMPLES, 2), 2)
    assert issubclass(NoExactFactorError, InputError)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values.new_tensor(values.detach().numpy() ** 2)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Cubed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values**3

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@pytest.mark.parametrize("function", [Doubled, Cubed])
def test_functions_out_of_sight_are_refused(function, along):
    with pytest.raises(NoExactFactorError):
        along.residual(lambda z: function.apply(z).relu(), along.paths(SAMPLES, 2), 2)
    with pytest.raises(NoExactFactorError):
        along.residual(
            lambda z: z.relu(), along.paths(SAMPLES, 2), 2, target=lambda y: function.apply(y)[:, 0]
        )


def test_a_scripted_function_is_refused(along):
    scripted = torch.jit.script(exponential)
    with pytest.raises(NoExactFactorError):
        along.residual(scripted, along.paths(SAMPLES, 2), 2)


def exponential(z: torch.Tensor) -> torch.Tensor:
    return z.exp()


def test_what_lies_before_the_first_gradient_needs_no_factor(along):
    """Values alone are followed there, and enter later products with their mean."""
    samples = along.paths(SAMPLES, 3)
    with SecantMode(4, [samples]):
        early = torch.round(3 * samples).sort(-1).values.cumprod(-1)
        leaf = samples.tanh().detach().requires_grad_()
        out = (leaf * early).sum(-1)
    out.backward(torch.ones_like(out))
    mean = (early[1:] + early[:-1]) / 2
    torch.testing.assert_close(leaf.grad[1:4], mean[:3])
