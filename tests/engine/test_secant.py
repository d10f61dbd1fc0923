"""The secant mode: exact at every cut for every operation it knows, an error for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from retinacodec.circuit import Circuit, evaluating
from retinacodec.errors import InputError
from retinacodec.generic_path import GenericPath
from retinacodec.rules import IntegratedGradients, Secant
from retinacodec.targets import Class

CPU = torch.device("cpu")


class Wrapped(nn.Module):
    """A linear layer, then any function, then a linear readout."""

    def __init__(self, function, width=6, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Linear(4, width)
        self.function = function
        with torch.no_grad():
            self.first.weight.copy_(torch.randn(width, 4, generator=generator) * 1.5)
            self.first.bias.copy_(torch.rand(width, generator=generator) + 0.5)
        self.mix = torch.randn(64, generator=generator, dtype=torch.float64)

    def forward(self, x):
        out = self.function(self.first(x)).flatten(1)
        return (out * self.mix[: out.shape[1]]).sum(1, keepdim=True)


def residual(model, rule, samples, layers=("first",), target=None):
    model = model.double()
    circuit = Circuit(model, list(layers), sample="image", output="class")
    with evaluating(model):
        job = GenericPath(circuit, target or Class(0), rule, False, False, False, CPU)
        found = job.run(samples.double())
    change = abs(found["value"] - found["baseline_value"]).max()
    return max(abs(found[f"{layer}/residual"]).max() for layer in layers) / change


SAMPLES = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))

ELEMENTWISE = {
    "relu": torch.relu,
    "relu in place": lambda z: F.relu(z * 1, inplace=True),
    "relu_": lambda z: (z * 1).relu_(),
    "leaky": lambda z: F.leaky_relu(z, 0.2),
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu tanh": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": lambda z: F.softplus(z, beta=2),
    "sigmoid": torch.sigmoid,
    "tanh": lambda z: z.tanh(),
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
    "clamp": lambda z: z.clamp(-0.3, 0.7),
    "exp": torch.exp,
    "square": lambda z: z**2,
    "sqrt": lambda z: (z.abs() + 1).sqrt(),
    "rational": lambda z: 1 / (1 + z * z),
    "division": lambda z: z / (1 + z.abs()),
    "in-place product": lambda z: (z * 1).mul_(z),
    "gate": lambda z: z[:, :3] * torch.sigmoid(z[:, 3:]),
    "maximum": lambda z: torch.maximum(z[:, :3], z[:, 3:]),
    "minimum": lambda z: torch.minimum(z[:, :3], z[:, 3:]),
    "softmax": lambda z: F.softmax(z, dim=-1),
    "log softmax": lambda z: z.log_softmax(-1),
    "logsumexp": lambda z: torch.logsumexp(z, -1, keepdim=True),
    "layer norm": lambda z: F.layer_norm(z, (6,)),
    "attention": lambda z: F.scaled_dot_product_attention(
        z.view(-1, 3, 2), z.view(-1, 3, 2) * 0.5, z.view(-1, 3, 2).flip(1)
    ),
    "matrix product": lambda z: z.view(-1, 3, 2) @ z.view(-1, 2, 3),
    "einsum": lambda z: torch.einsum("bij,bkj->bik", z.view(-1, 3, 2), z.view(-1, 3, 2)),
    "max pool": lambda z: F.max_pool2d(z.view(-1, 1, 2, 3), (2, 2), 1),
    "average pool": lambda z: torch.relu(F.avg_pool2d(z.view(-1, 1, 2, 3), 2, 1)),
}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_operation_is_complete_at_any_number_of_steps(name, steps):
    assert residual(Wrapped(ELEMENTWISE[name]), Secant(steps), SAMPLES) < 1e-11


@pytest.mark.parametrize("name", ["gelu", "softmax", "layer norm", "attention", "max pool"])
def test_secant_and_many_trapezoid_steps_agree(name):
    """Two routes to one integral, unit by unit."""
    model = Wrapped(ELEMENTWISE[name]).double()
    circuit = Circuit(model, ["first"], sample="image", output="class")
    found = []
    for rule in (Secant(400), IntegratedGradients(400)):
        with evaluating(model):
            job = GenericPath(circuit, Class(0), rule, True, False, False, CPU)
            found.append(torch.from_numpy(job.run(SAMPLES.double())["first/contribution"]))
    torch.testing.assert_close(found[0], found[1], rtol=2e-3, atol=2e-3)


def test_unknown_operation_is_named():
    with pytest.raises(InputError, match="'sort'"):
        residual(Wrapped(lambda z: z.sort(-1).values), Secant(2), SAMPLES)


def test_batch_statistics_are_refused():
    def normalised(z):
        return F.batch_norm(z, None, None, training=True)

    with pytest.raises(InputError, match="eval mode"):
        residual(Wrapped(normalised), Secant(2), SAMPLES)


def test_a_module_used_twice_counts_both_calls():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.read = nn.Linear(4, 1)

        def forward(self, x):
            hidden = torch.relu(self.first(x))
            return self.read(hidden + torch.relu(self.first(hidden)))

    torch.manual_seed(0)
    model = Twice().double()
    circuit = Circuit(model, ["first"], sample="image", output="class")
    with evaluating(model):
        job = GenericPath(circuit, Class(0), Secant(2), False, False, False, CPU)
        found = job.run(SAMPLES.double())
    assert abs(found["first/residual"]).max() > 1e-3
    assert found["first/contribution"].shape == (5, 1, 2, 4)
