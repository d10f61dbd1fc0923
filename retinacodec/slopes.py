"""Closed forms of the chord slopes of single functions, accurate however small the change is.

Each takes values before and after an interval, the function's results there and its further
arguments; no form subtracts two numbers that may be nearly equal and divides by what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["SLOPES", "Slope", "decay", "exponential", "in_blocks"]

Slope = Callable[..., Tensor]
_BLOCK = 1 << 15


def in_blocks(form: Slope, *ends: Tensor) -> Tensor:
    """Return a slope, computed in pieces that stay in the cache of a processor.

    Parameters
    ----------
    form : callable
        A closed form without arguments that differ from value to value.
    *ends : torch.Tensor
        Values before and after, and results there, of one shape.
    """
    whole = all(end.is_contiguous() for end in ends)
    innermost = ends[0].ndim == 4 and all(
        end.is_contiguous(memory_format=torch.channels_last) for end in ends
    )
    if innermost and not whole:
        slope = in_blocks(form, *(end.permute(0, 2, 3, 1) for end in ends))
        return slope.permute(0, 3, 1, 2)
    if ends[0].is_cuda or not whole or ends[0].numel() < 2 * _BLOCK:
        return form(*ends)
    flat = [end.view(-1) for end in ends]
    slope = torch.empty_like(flat[-1])
    for start in range(0, len(slope), _BLOCK):
        block = slice(start, start + _BLOCK)
        slope[block] = form(*(end[block] for end in flat))
    return slope.view(ends[0].shape)


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny


def hinge(a: Tensor, b: Tensor) -> Tensor:
    """Return the slope of max(z, 0): the share of the interval from a to b that lies above 0."""
    total = a.abs().add_(b.abs()).clamp_min_(_tiny(a))
    return a.clamp_min(0).add_(b.clamp_min(0)).div_(total)


def _relu(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    # Of |a| + |b| = 2 (relu(a) + relu(b)) - (a + b) the right side would cancel.
    total = a.abs().add_(b.abs()).clamp_min_(_tiny(a))
    return torch.add(fa, fb).div_(total)


def _leaky(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, negative_slope: Any = 0.01) -> Tensor:
    above = hinge(a, b)
    return above + negative_slope * (1 - above)


def _prelu(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, weight: Tensor) -> Tensor:
    shape = (1, -1, *([1] * (a.ndim - 2))) if a.ndim > 1 else (-1,)
    return _leaky(a, b, fa, fb, weight.view(shape) if weight.numel() > 1 else weight)


def _clamp(
    a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, low: Any = None, high: Any = None, **named: Any
) -> Tensor:
    low, high = named.get("min", low), named.get("max", high)
    above = torch.ones_like(a) if low is None else hinge(a - low, b - low)
    return above if high is None else above - hinge(a - high, b - high)


def _clamp_max(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, *high: Any, **named: Any) -> Tensor:
    return _clamp(a, b, fa, fb, None, *high, **named)


def _hardtanh(
    a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, min_val: float = -1.0, max_val: float = 1.0
) -> Tensor:
    return _clamp(a, b, fa, fb, min_val, max_val)


def _relu6(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return _clamp(a, b, fa, fb, 0, 6)


def _absolute(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return 2 * hinge(a, b) - 1


def _hardsigmoid(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return _clamp(a, b, fa, fb, -3, 3) / 6


def _hardswish(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    ramp = ((a + 3).clamp(0, 6) + (b + 3).clamp(0, 6)) / 12
    return (a + b) / 12 * _clamp(a, b, fa, fb, -3, 3) + ramp


def _softshrink(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, lambd: float = 0.5) -> Tensor:
    return 1 - _clamp(a, b, fa, fb, -lambd, lambd)


def decay(gap: Tensor) -> Tensor:
    """Return ``(1 - exp(-t)) / t`` for t >= 0."""
    gap = gap.clamp_min(_tiny(gap))
    return torch.neg(gap).expm1_().neg_().div_(gap)


def exponential(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    """Return the slope of exp; 0 where both ends lie at minus infinity."""
    slope = torch.maximum(fa, fb).mul_(decay((b - a).abs()))
    return slope.nan_to_num_(nan=0.0)


def _expm1(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return exponential(a, b, fa + 1, fb + 1)


def _elu(
    a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, alpha: float = 1.0, scale: float = 1.0
) -> Tensor:
    below_a, below_b = a.clamp_max(0), b.clamp_max(0)
    curve = alpha * exponential(below_a, below_b, below_a.exp(), below_b.exp())
    above = hinge(a, b)
    return scale * (above + (1 - above) * curve)


def _selu(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return _elu(a, b, fa, fb, 1.6732632423543772, 1.0507009873554805)


def _celu(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, alpha: float = 1.0) -> Tensor:
    return _elu(a / alpha, b / alpha, fa, fb)


def _sigmoid(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    slope = decay((b - a).abs())
    return slope.mul_(torch.maximum(fa, fb)).mul_(1 - torch.minimum(fa, fb))


def _tanh(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    slope = decay((b - a).abs().mul_(2))
    return slope.mul_(1 + torch.maximum(fa, fb)).mul_(1 - torch.minimum(fa, fb))


def _tanhshrink(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return 1 - _tanh(a, b, a - fa, b - fb)


def _softsign(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    size_a, size_b = a.abs(), b.abs()
    across = 2 * size_a * size_b / (size_a + size_b).clamp_min_(_tiny(a))
    return (1 + torch.where(a * b < 0, across, 0)) / ((1 + size_a) * (1 + size_b))


def _rrelu(
    a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, lower: float = 1 / 8, upper: float = 1 / 3
) -> Tensor:
    return _leaky(a, b, fa, fb, (lower + upper) / 2)


def _gate(z: Tensor, f: Tensor) -> Tensor:
    """Return f / z of a gated line z g(z): the gate, which is 1/2 at 0."""
    zero = z == 0
    return torch.where(zero, 0.5, f / z.masked_fill(zero, 1))


def _gated(a: Tensor, b: Tensor, gates: tuple[Tensor, Tensor], slope: Tensor) -> Tensor:
    """Return the slope of z g(z) from that of g: a product."""
    return slope.mul_(a + b).add_(gates[0]).add_(gates[1]).div_(2)


def _silu(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    gates = _gate(a, fa), _gate(b, fb)
    return _gated(a, b, gates, _sigmoid(a, b, *gates))


def _normal(a: Tensor, b: Tensor, pa: Tensor, pb: Tensor) -> Tensor:
    """Return the slope of the normal distribution function, by a series where a and b are close."""
    change, middle = b - a, ((a + b) / 2).square()
    near = change.abs() < 3 * torch.finfo(a.dtype).eps ** (1 / 7)
    square = change.square().mul_(near)
    series = 1 + (middle - 1) * square / 24 + (middle**2 - 6 * middle + 3) * square**2 / 1920
    density = (middle / -2).exp_().mul_(series).div_(math.sqrt(2 * math.pi))
    return torch.where(near, density, (pb - pa) / change.masked_fill_(near, 1))


def _gelu(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, approximate: str = "none") -> Tensor:
    gates = _gate(a, fa), _gate(b, fb)
    if approximate == "none":
        return _gated(a, b, gates, _normal(a, b, *gates))
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    ends = [scale * (z + cubic * z**3) for z in (a, b)]
    inner = scale * (1 + cubic * (a * a + a * b + b * b))
    outer = _tanh(*ends, *(2 * gate - 1 for gate in gates)) / 2
    return _gated(a, b, gates, outer * inner)


def _erf(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    root = math.sqrt(2)
    return 2 * root * _normal(root * a, root * b, (1 + fa) / 2, (1 + fb) / 2)


def _logsigmoid(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return _softplus_slope(-a, -b, -fa, -fb)


def _softplus_slope(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    gap = (b - a).abs()
    near = gap < 1
    gap = gap.clamp_min(_tiny(gap))
    share = torch.maximum(a, b).sigmoid() * (-gap).expm1()
    return torch.where(near, -torch.log1p(share) / gap, (fb - fa).abs() / gap)


def _softplus(
    a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, beta: float = 1.0, threshold: float = 20.0
) -> Tensor:
    a, b = beta * a, beta * b
    line = torch.minimum(a, b) > threshold
    return torch.where(line, 1.0, _softplus_slope(a, b, beta * fa, beta * fb))


def logarithmic(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    """Return the slope of log, by a series where a and b are close."""
    gain, total = b - a, a + b
    share = gain / total
    near = share.abs() < 0.1
    # log(b / a) = 2 artanh(share), and artanh(s) / s is a short even series.
    square = torch.where(near, share, 0) ** 2
    series = 1 + square / 3 + square**2 / 5 + square**3 / 7 + square**4 / 9 + square**5 / 11
    series = series + square**6 / 13 + square**7 / 15
    return torch.where(near, 2 * series / total, (fb - fa) / gain.masked_fill(near, 1))


def _log_to(base: float) -> Slope:
    scale = math.log(base)
    return lambda a, b, fa, fb: logarithmic(a, b, scale * fa, scale * fb) / scale


def _log1p(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return logarithmic(1 + a, 1 + b, fa, fb)


def _square(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return a + b


def _sqrt(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return (fa + fb).clamp_min_(_tiny(fa)).reciprocal_()


def _rsqrt(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return -((fa * fb) ** 2) / (fa + fb)


def _reciprocal(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor) -> Tensor:
    return -fa * fb


def _power(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, exponent: Any) -> Tensor:
    """Return the slope of a power, as a sum of products for small whole exponents."""
    if isinstance(exponent, (int, float)):
        if exponent in (0.5, -0.5):
            return (_sqrt if exponent > 0 else _rsqrt)(a, b, fa, fb)
        count = int(abs(exponent))
        if count == abs(exponent) <= 16:
            terms = (a**i * b ** (count - 1 - i) for i in range(count))
            total = sum(terms, torch.zeros_like(a))
            return total if exponent >= 0 else -fa * fb * total
    return _general_power(a, b, fa, fb, exponent)


def _general_power(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, exponent: Any) -> Tensor:
    """Return the slope of any power of positive numbers, as that of exp times that of log."""
    above = (a > 0) & (b > 0)
    low, high = a.where(above, 1), b.where(above, 1)
    logs = low.log(), high.log()
    outer = exponential(exponent * logs[0], exponent * logs[1], fa, fb)
    closed = exponent * outer * logarithmic(low, high, *logs)
    return torch.where(above, closed, _jump(a, b, fa, fb))


def _jump(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, *_: Any, **__: Any) -> Tensor:
    change = b - a
    return (fb - fa) / change.masked_fill(change == 0, 1)


def _hardshrink(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, lambd: float = 0.5) -> Tensor:
    return _jumping_line(a, b, fa, fb, (a.abs() > lambd) & (b.abs() > lambd) & (a * b > 0))


def _threshold(
    a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, threshold: float, value: float
) -> Tensor:
    return _jumping_line(a, b, fa, fb, (a > threshold) & (b > threshold))


def _jumping_line(a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, on_line: Tensor) -> Tensor:
    return torch.where(on_line, 1.0, _jump(a, b, fa, fb))


SLOPES: dict[str, Slope] = {
    "relu": _relu,
    "leaky_relu": _leaky,
    "prelu": _prelu,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp_max,
    "hardtanh": _hardtanh,
    "relu6": _relu6,
    "abs": _absolute,
    "absolute": _absolute,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "softshrink": _softshrink,
    "hardshrink": _hardshrink,
    "threshold": _threshold,
    "sign": _jump,
    "sgn": _jump,
    "exp": exponential,
    "expm1": _expm1,
    "elu": _elu,
    "selu": _selu,
    "celu": _celu,
    "sigmoid": _sigmoid,
    "expit": _sigmoid,
    "tanh": _tanh,
    "tanhshrink": _tanhshrink,
    "softsign": _softsign,
    "rrelu": _rrelu,
    "silu": _silu,
    "gelu": _gelu,
    "erf": _erf,
    "logsigmoid": _logsigmoid,
    "softplus": _softplus,
    "log": logarithmic,
    "log2": _log_to(2),
    "log10": _log_to(10),
    "log1p": _log1p,
    "square": _square,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "reciprocal": _reciprocal,
    "pow": _power,
    "float_power": _power,
}
"""The closed form of each function that has one, by its name in torch."""
