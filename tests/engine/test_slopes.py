"""Closed chord slopes against the mean of the derivative, however small the change is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from retinacodec.chords import derivative
from retinacodec.slopes import SLOPES, in_blocks

NODES, WEIGHTS = (torch.from_numpy(one) for one in np.polynomial.legendre.leggauss(40))
SMOOTH = {
    "exp": torch.exp,
    "expm1": torch.expm1,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "tanhshrink": F.tanhshrink,
    "silu": F.silu,
    "gelu": F.gelu,
    "erf": torch.erf,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "square": torch.square,
}


def mean_derivative(function, a, b):
    """Return the mean of the derivative between a and b, by 40 Gauss-Legendre points."""
    at = (a + b) / 2 + (b - a) / 2 * NODES[:, None]
    return (WEIGHTS[:, None] / 2 * derivative(function, at)).sum(0)


@pytest.mark.parametrize("change", [0.0, 1e-14, 1e-9, 1e-5, 1e-3, 0.02, 0.3, 1.5])
@pytest.mark.parametrize("name", SMOOTH)
def test_closed_slopes_are_means_of_the_derivative(name, change):
    a = torch.linspace(0.2, 4, 77, dtype=torch.float64)
    if name not in ("log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "log1p"):
        a = torch.cat([-a, a])
    for start, end in ((a, a + change), (a + change, a)):
        found = SLOPES[name](start, end, SMOOTH[name](start), SMOOTH[name](end))
        wanted = mean_derivative(SMOOTH[name], start, end)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=2e-13)


@pytest.mark.parametrize("exponent", [0.5, -0.5, 2, 3, 7, -1, -2, 1.7, -0.3, 20, 0])
@pytest.mark.parametrize("change", [0.0, 1e-9, 1e-3, 0.5])
def test_slopes_of_powers(exponent, change):
    a = torch.linspace(0.3, 2, 50, dtype=torch.float64)
    b = a + change
    found = SLOPES["pow"](a, b, a**exponent, b**exponent, exponent)
    wanted = mean_derivative(lambda z: z**exponent, a, b)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-13)


PIECEWISE = {
    "relu": (F.relu, ()),
    "leaky_relu": (F.leaky_relu, (0.2,)),
    "hardtanh": (F.hardtanh, (-0.5, 0.7)),
    "clamp": (torch.clamp, (-0.5, 0.7)),
    "clamp_min": (torch.clamp_min, (0.1,)),
    "clamp_max": (torch.clamp_max, (0.1,)),
    "relu6": (F.relu6, ()),
    "abs": (torch.abs, ()),
    "hardsigmoid": (F.hardsigmoid, ()),
    "hardswish": (F.hardswish, ()),
    "softshrink": (F.softshrink, (0.4,)),
    "hardshrink": (F.hardshrink, (0.4,)),
    "elu": (F.elu, (0.6,)),
    "selu": (F.selu, ()),
    "celu": (F.celu, (0.6,)),
    "softsign": (F.softsign, ()),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_slopes_across_kinks_are_exact_chords(name):
    function, rest = PIECEWISE[name]
    generator = torch.Generator().manual_seed(0)
    a, b = 4 * torch.randn(2, 500, generator=generator, dtype=torch.float64)
    fa, fb = function(a, *rest), function(b, *rest)
    found = SLOPES[name](a, b, fa, fb, *rest)
    torch.testing.assert_close(found * (b - a), fb - fa, rtol=1e-12, atol=1e-12)


def test_slopes_where_nothing_changes_are_finite():
    zero = torch.zeros(3)
    for name, (function, rest) in PIECEWISE.items():
        assert (
            SLOPES[name](zero, zero, function(zero, *rest), function(zero, *rest), *rest)
            .isfinite()
            .all()
        )


def test_the_exponential_survives_changes_of_any_size():
    a = torch.tensor([-400.0, 0.0, -torch.inf, 80.0])
    b = torch.tensor([0.0, -400.0, -torch.inf, 80.0])
    found = SLOPES["exp"](a, b, a.exp(), b.exp())
    torch.testing.assert_close(found, torch.tensor([1 / 400, 1 / 400, 0, float(np.exp(80.0))]))


def test_pieces_give_the_whole():
    a, b = torch.randn(2, 5, 40_001, generator=torch.Generator().manual_seed(0))
    found = in_blocks(SLOPES["silu"], a, b, F.silu(a), F.silu(b))
    torch.testing.assert_close(found, SLOPES["silu"](a, b, F.silu(a), F.silu(b)), rtol=0, atol=0)
