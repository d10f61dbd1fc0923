"""The secant mode: exact at every cut for every operation it knows, an error for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from retinacodec.secant import SecantMode

GENERATOR = torch.Generator().manual_seed(1)
WEIGHT = torch.randn(4, 24, generator=GENERATOR, dtype=torch.float64) * 1.5
SHIFT = torch.rand(24, generator=GENERATOR, dtype=torch.float64) + 0.5
SAMPLES = torch.randn(4, 4, generator=GENERATOR, dtype=torch.float64)
CONSTANT = torch.randn(6, 6, generator=GENERATOR, dtype=torch.float64)


def hidden(steps, dtype=torch.float64):
    """Return activations (row, 24) along paths, that cross zero."""
    fractions = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[:, None]
    return ((SAMPLES[:, None] * fractions).flatten(0, 1) @ WEIGHT + SHIFT).to(dtype)


def images(z):
    return z.view(-1, 2, 3, 4)


def tokens(z):
    return z.view(-1, 4, 6)


def halves(z):
    return z[:, :12], z[:, 12:]


def like(z, shape=(6, 6)):
    return CONSTANT[: shape[0], : shape[1]].to(z)


def bias(z):
    return CONSTANT[0, :4].to(z)


ELEMENTWISE = {
    "relu": torch.relu,
    "relu in place": lambda z: F.relu(z * 1, inplace=True),
    "relu_": lambda z: (z * 1).relu_(),
    "relu in place on a view": lambda z: F.relu((z * 1).view(-1, 4, 6), True),
    "relu module": nn.ReLU(inplace=True),
    "leaky": lambda z: F.leaky_relu(z, 0.2),
    "leaky in place": lambda z: F.leaky_relu(z * 1, 0.2, True),
    "prelu": lambda z: F.prelu(tokens(z), bias(z)),
    "prelu, one weight": lambda z: F.prelu(z, bias(z)[:1]),
    "rrelu": lambda z: F.rrelu(z),
    "elu": F.elu,
    "elu alpha": lambda z: F.elu(z, 0.4),
    "selu": F.selu,
    "celu": lambda z: F.celu(z, 0.7),
    "gelu": F.gelu,
    "gelu tanh": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": lambda z: F.softplus(20 * z, beta=2, threshold=5),
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "tanh": lambda z: z.tanh(),
    "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "threshold": lambda z: F.threshold(z, 0.1, 0.3),
    "hardtanh": lambda z: F.hardtanh(z, -0.5, 0.8),
    "hardswish": F.hardswish,
    "hardsigmoid": lambda z: F.hardsigmoid(3 * z),
    "relu6": lambda z: F.relu6(3 * z),
    "clamp": lambda z: z.clamp(-0.3, 0.7),
    "clamp min": lambda z: z.clamp(min=0.2),
    "clamp max": lambda z: torch.clamp_max(z, 0.2),
    "clamp by tensors": lambda z: tokens(z).clamp(min=like(z, (4, 6)), max=like(z, (4, 6)) + 1),
    "abs": abs,
    "sign": torch.sign,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.special.expm1,
    "square": torch.square,
    "power": lambda z: z**2,
    "cube": lambda z: z**3,
    "any power": lambda z: (z.abs() + 0.5) ** 1.7,
    "negative power": lambda z: (z * z + 1) ** -2,
    "power of a tensor": lambda z: (tokens(z).abs() + 0.5).pow(like(z, (4, 6))),
    "to the power": lambda z: 2**z,
    "sine": torch.sin,
    "erf": torch.erf,
    "sqrt": lambda z: (z.abs() + 0.5).sqrt(),
    "rsqrt": lambda z: (z.abs() + 1).rsqrt(),
    "log": lambda z: (z.abs() + 0.5).log(),
    "log2": lambda z: (z.abs() + 0.5).log2(),
    "log1p": lambda z: z.abs().log1p(),
    "rational": lambda z: 1 / (1 + z * z),
}

PRODUCTS = {
    "division": lambda z: z / (1 + z.abs()),
    "in-place division": lambda z: (z * 1).div_(1 + z.abs()),
    "in-place product": lambda z: (z * 1).mul_(z),
    "operator in place": lambda z: tokens(z * 1).__imul__(tokens(z)),
    "broadcast product": lambda z: tokens(z) * tokens(z).mean(1, keepdim=True),
    "gate": lambda z: halves(z)[0] * torch.sigmoid(halves(z)[1]),
    "glu": F.glu,
    "matrix product": lambda z: z.view(-1, 4, 6) @ z.view(-1, 6, 4),
    "bmm": lambda z: torch.bmm(z.view(-1, 4, 6), z.view(-1, 6, 4)),
    "matmul by a constant": lambda z: tokens(z) @ like(z),
    "constant times matrix": lambda z: like(z, (3, 4)) @ tokens(z),
    "mv": lambda z: tokens(z) @ like(z)[0],
    "einsum": lambda z: torch.einsum("bij,bkj->bik", tokens(z), tokens(z).sin()),
    "einsum with dots": lambda z: torch.einsum("...ij,...kj", tokens(z), tokens(z)),
    "einsum of three": lambda z: torch.einsum(
        "bij,bkj,bkl->bil", tokens(z), tokens(z).tanh(), tokens(z)
    ),
    "einsum of one": lambda z: torch.einsum("bij->bj", tokens(z)),
    "tensordot": lambda z: torch.tensordot(tokens(z), like(z), dims=([2], [0])),
    "inner": lambda z: torch.inner(tokens(z), like(z)),
    "outer": lambda z: torch.outer(z[:, 0], like(z)[0]),
    "addmm": lambda z: torch.addmm(bias(z), z, like(z).flatten()[:24].view(6, 4).repeat(4, 1)),
    "baddbmm": lambda z: torch.baddbmm(
        tokens(z), z.view(-1, 4, 6), torch.cat([tokens(z)] * 2, 1)[:, :6].relu(), beta=0.5
    ),
    "addcmul": lambda z: torch.addcmul(z, z, z.sin(), value=0.3),
    "addcdiv": lambda z: torch.addcdiv(z, z, 1 + z.abs(), value=0.3),
    "in-place addcmul": lambda z: (z * 1).addcmul_(z, z),
    "lerp": lambda z: torch.lerp(*halves(z), 0.3),
    "lerp along the path": lambda z: torch.lerp(*halves(z), z[:, :12].sigmoid()),
    "bilinear": lambda z: F.bilinear(*halves(z), like(z).flatten()[:24].repeat(12).view(2, 12, 12)),
    "cosine": lambda z: F.cosine_similarity(*halves(z), dim=1),
}

SUMS = {
    "softmax": lambda z: F.softmax(tokens(z) * 4, dim=-1),
    "softmax over tokens": lambda z: tokens(z).softmax(1),
    "softmin": lambda z: F.softmin(tokens(z), dim=-1),
    "masked softmax": lambda z: (
        tokens(z).masked_fill(like(z, (4, 6)) > 0.5, -torch.inf).softmax(-1)
    ),
    "log softmax": lambda z: tokens(z).log_softmax(-1),
    "logsumexp": lambda z: torch.logsumexp(tokens(z), -1, keepdim=True),
    "logsumexp over two": lambda z: torch.logsumexp(images(z), (1, 3)),
    "logaddexp": lambda z: torch.logaddexp(*halves(z)),
    "layer norm": lambda z: F.layer_norm(tokens(z), (6,), like(z)[0], like(z)[1]),
    "layer norm over two": lambda z: F.layer_norm(tokens(z), (4, 6)),
    "layer norm of the variance alone": lambda z: (
        tokens(z).relu() / tokens(z).relu().std(-1, keepdim=True).add(1)
    ),
    "rms norm": lambda z: F.rms_norm(tokens(z), (6,), like(z)[0]),
    "group norm": lambda z: F.group_norm(tokens(z), 2, bias(z), bias(z)),
    "group norm module": lambda z: nn.GroupNorm(2, 4).to(z).requires_grad_(False)(tokens(z)),
    "instance norm": lambda z: F.instance_norm(images(z), weight=bias(z)[:2]),
    "batch norm": lambda z: nn.BatchNorm2d(2).to(z).requires_grad_(False).eval()(images(z)).relu(),
    "local response norm": lambda z: F.local_response_norm(z.view(-1, 6, 2, 2), 3, alpha=2.0),
    "normalise": lambda z: F.normalize(tokens(z), dim=-1),
    "variance": lambda z: tokens(z).var(-1),
    "biased variance": lambda z: torch.var(tokens(z), dim=(1, 2), unbiased=False),
    "standard deviation": lambda z: tokens(z).std(dim=1, keepdim=True),
    "variance and mean": lambda z: torch.cat(torch.var_mean(tokens(z), -1, correction=0), 1),
    "norm": lambda z: tokens(z).norm(dim=-1),
    "vector norm": lambda z: torch.linalg.vector_norm(tokens(z), dim=(1, 2)),
    "norm of ones": lambda z: tokens(z).norm(p=1, dim=-1),
    "largest norm": lambda z: torch.linalg.norm(tokens(z), float("inf"), dim=-1),
}

LARGEST = {
    "maximum": lambda z: torch.maximum(*halves(z)),
    "minimum": lambda z: torch.min(*halves(z)),
    "max along": lambda z: tokens(z).max(1).values,
    "min along": lambda z: torch.min(tokens(z), dim=-1, keepdim=True)[0],
    "amax": lambda z: images(z).amax((1, 3)),
    "amin": lambda z: images(z).amin(dim=-1, keepdim=True),
    "topk": lambda z: z.topk(5).values,
    "topk along": lambda z: tokens(z).topk(2, dim=1, largest=False).values,
    "sum of topk": lambda z: z.topk(7).values.sum(-1, keepdim=True),
    "max pool": lambda z: F.max_pool2d(images(z), (2, 2), 1),
    "max pool with everything": lambda z: F.max_pool2d(
        z.view(-1, 1, 4, 6), 3, stride=2, padding=1, dilation=2, ceil_mode=True
    ),
    "max pool module": lambda z: nn.MaxPool2d(3, 2, 1)(z.view(-1, 1, 4, 6)),
    "max pool 1d": lambda z: F.max_pool1d(tokens(z), 3, 2, ceil_mode=True),
    "torch max pool 1d": lambda z: torch.max_pool1d(tokens(z), 3),
    "max pool 3d": lambda z: F.max_pool3d(z.view(-1, 1, 2, 3, 4), 2),
    "adaptive max pool": lambda z: F.adaptive_max_pool2d(z.view(-1, 1, 4, 6), (2, 2)),
    "adaptive max pool 1d": lambda z: nn.AdaptiveMaxPool1d(2)(tokens(z)),
}


def attention(z, **options):
    q = z.view(-1, 2, 4, 3)
    return F.scaled_dot_product_attention(q, q.tanh() * 2, q.flip(2), **options)


def grouped_attention(z):
    q = z.view(-1, 4, 2, 3)
    return F.scaled_dot_product_attention(q, q[:, :2] * 2, q[:, 2:], enable_gqa=True)


def heads_in_batch(z):
    """Attention by hand with the heads folded into the batch, behind the points."""
    q = tokens(z).view(-1, 4, 2, 3).transpose(1, 2).reshape(-1, 4, 3)
    weights = (q @ (q.sin() * 3).transpose(1, 2)).softmax(-1)
    return (weights @ q).view(-1, 2, 4, 3).transpose(1, 2).reshape(-1, 24)


def windows_in_batch(z):
    """Shifted windows, folded into the batch."""
    grid = torch.roll(z.view(-1, 4, 6), (1, 2), (1, 2)).view(-1, 2, 2, 3, 2)
    windows = grid.permute(0, 1, 3, 2, 4).contiguous().view(-1, 4)
    mixed = (windows.unsqueeze(2) * windows.unsqueeze(1)).softmax(-1)
    return mixed.view(-1, 2, 3, 4, 4).permute(0, 3, 1, 2, 4)


def tokens_first(z):
    """The batch on the second dimension."""
    q = tokens(z).transpose(0, 1)
    return (torch.relu(q) * q.tanh()).permute(1, 2, 0)


def buffer(z):
    out = torch.zeros(len(z), 4, 6, dtype=z.dtype)
    out[:, :2] = tokens(z)[:, 2:]
    out[:, 2:].copy_(tokens(z)[:, :2])
    return out * out.sigmoid()


def written_in_turn(z):
    """A buffer that is filled step by step, and changed again where it was filled."""
    state, parts = torch.zeros_like(tokens(z)[:, 0]), torch.empty_like(tokens(z))
    for number, part in enumerate(tokens(z).unbind(1)):
        state = torch.tanh(part + 0.5 * state)
        parts[:, number] = state
    parts[:, [0, 2]] = parts[:, [1, 3]] * state[:, None]
    parts[..., 1] *= 2
    return parts.sigmoid()


def multi_head(z, **options):
    module = nn.MultiheadAttention(6, 2, batch_first=True).to(z).eval().requires_grad_(False)
    with torch.no_grad():
        module.in_proj_weight.mul_(3)
    return torch.cat(
        [one.flatten(1) for one in module(*[tokens(z)] * 3, **options) if one is not None], 1
    )


def encoder(z, **options):
    torch.manual_seed(0)
    module = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, activation="gelu", **options)
    return module.to(z).eval().requires_grad_(False)(tokens(z))


CAUSAL = torch.ones(4, 4, dtype=torch.bool).triu(1)
WHOLE = {
    "attention": attention,
    "causal attention": lambda z: attention(z, is_causal=True),
    "attention with a mask of bools": lambda z: attention(z, attn_mask=~CAUSAL, scale=0.9),
    "attention with a mask": lambda z: attention(z, attn_mask=like(z, (4, 4))),
    "grouped attention": grouped_attention,
    "heads in the batch": heads_in_batch,
    "windows in the batch": windows_in_batch,
    "batch on the second dimension": tokens_first,
    "a buffer": buffer,
    "a buffer written in turn": written_in_turn,
    "multi-head attention": multi_head,
    "multi-head attention without weights": lambda z: multi_head(z, need_weights=False),
    "multi-head attention with masks": lambda z: multi_head(
        z, attn_mask=CAUSAL, key_padding_mask=torch.zeros(len(z), 4, dtype=torch.bool)
    ),
    "encoder layer": encoder,
    "encoder layer, norm first": lambda z: encoder(z, norm_first=True),
    "transformer encoder": lambda z: (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 2)
        .to(z)
        .eval()
        .requires_grad_(False)(tokens(z))
    ),
    "average pool": lambda z: torch.relu(F.avg_pool2d(images(z), 2, 1)),
    "dropout": lambda z: nn.Dropout().eval()(z).relu(),
    "unfold": lambda z: (
        F.unfold(z.view(-1, 1, 4, 6), 2).relu() * z.unfold(1, 4, 4).sum((1, 2))[:, None, None]
    ),
    "causal mask of one's own": lambda z: (
        tokens(z)
        .matmul(tokens(z).mT)
        .masked_fill(torch.ones_like(z[0, :16].view(4, 4)).triu(1) > 0, -torch.inf)
        .softmax(-1)
    ),
    "stack and split": lambda z: (
        torch.stack(tokens(z).relu().unbind(1), 0).prod
        if False
        else torch.stack([part * part.sin() for part in tokens(z).split(2, 1)], 1)
    ),
}

FAMILIES = {**ELEMENTWISE, **PRODUCTS, **SUMS, **LARGEST, **WHOLE}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_operation_is_complete_at_any_number_of_steps(name, along):
    torch.manual_seed(0)
    for steps in (1, 2, 7):
        assert along.residual(FAMILIES[name], hidden(steps), steps) < 1e-12
        torch.manual_seed(0)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_operation_gives_the_values_of_torch(name):
    z = hidden(3)
    leaf = z.clone().requires_grad_()
    torch.manual_seed(0)
    wanted = FAMILIES[name](z.clone())
    torch.manual_seed(0)
    with SecantMode(4, [leaf]):
        found = FAMILIES[name](leaf.clone())
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_operation_is_complete_in_single_precision(name, along):
    torch.manual_seed(0)
    assert along.residual(FAMILIES[name], hidden(7, torch.float32), 7) < 1e-5


STEEP = {"sign", "threshold", "hardshrink", "norm of ones", "rrelu"}


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - STEEP))
def test_secant_and_many_trapezoid_steps_agree_unit_by_unit(name, along):
    torch.manual_seed(0)
    found, _ = along.contributions(FAMILIES[name], hidden(400), 400)
    torch.manual_seed(0)
    wanted, _ = along.contributions(FAMILIES[name], hidden(400), 400, chords=False)
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-2 * scale)
