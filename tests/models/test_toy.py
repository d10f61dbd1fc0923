import numpy as np
import pytest
import torch

from retinacodec.errors import InputError
from retinacodec.models.toy import ToyCircuit, exact_contributions


def windows(seed=0, batch=5):
    return torch.randn(batch, 3, 3, 3, generator=torch.Generator().manual_seed(seed))


def dense_path(model, x, target, steps=20_000):
    """Midpoint sums on a path fine enough to serve as a second opinion."""
    model = model.double()
    ends = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[:, None, None, None]
    found = {}
    h = (ends[1:] + ends[:-1]) / 2 * x.double()
    h.requires_grad_()
    at_ends = ends * x.double()
    for name in model.layers:
        h, at_ends = model.get_submodule(name)(h), model.get_submodule(name)(at_ends)
        found[name] = (h, at_ends.diff(dim=0))
    total = target(model.readout(h.flatten(1))).sum()
    slopes = torch.autograd.grad(total, [h for h, _ in found.values()])
    return {n: (g * d).sum(0).numpy() for (n, (_, d)), g in zip(found.items(), slopes, strict=True)}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    "target", [lambda y: y[:, 0], lambda y: y[:, 1], lambda y: 0.5 * (y**2).sum(1)]
)
def test_exact_contributions_are_complete_at_every_layer(depth, target):
    toy = ToyCircuit(depth).double()
    x = windows().double()
    gained = target(toy(x)) - target(toy(torch.zeros_like(x)))
    for part in exact_contributions(toy, x, target).values():
        np.testing.assert_allclose(part.sum((1, 2, 3)), gained.numpy(), rtol=1e-12, atol=1e-12)


def test_exact_contributions_equal_a_dense_path():
    toy = ToyCircuit()
    x = windows(3, 2)
    for target in (lambda y: y[:, 1], lambda y: 0.5 * (y**2).sum(1)):
        exact = exact_contributions(toy, x, target)
        for i in range(2):
            for name, part in dense_path(ToyCircuit(), x[i], target).items():
                np.testing.assert_allclose(exact[name][i], part, atol=2e-4)


def test_one_layer_is_the_textbook_formula():
    toy = ToyCircuit(1).double()
    x = windows(1).double()
    b = toy.conv1.bias[:, None, None]
    z = toy.conv1(x)
    expected = toy.readout.weight[1].view(2, 2, 2) * (torch.relu(z) - torch.relu(b))
    part = exact_contributions(toy, x, lambda y: y[:, 1])
    np.testing.assert_allclose(part["relu1"], expected.numpy(), atol=1e-12)


def test_a_rectifier_does_not_change_a_unit_contribution():
    parts = exact_contributions(ToyCircuit(), windows(2), lambda y: y[:, 0])
    np.testing.assert_allclose(parts["conv1"], parts["relu1"], atol=1e-12)
    np.testing.assert_allclose(parts["conv2"], parts["relu2"], atol=1e-12)


def test_second_layer_gates_switch_inside_the_path():
    toy = ToyCircuit()
    x = windows(0, 50)
    parts = exact_contributions(toy, x, lambda y: y[:, 0])["relu1"]
    hidden = toy.relu1(toy.conv1(x)) - toy.relu1(toy.conv1(torch.zeros_like(x)))
    path = x.clone().requires_grad_()
    h = toy.relu1(toy.conv1(path))
    slope = torch.autograd.grad(toy.readout(toy.relu2(toy.conv2(h)).flatten(1))[:, 0].sum(), h)[0]
    differs = np.abs(parts - (slope * hidden).numpy()).max((1, 2, 3)) > 1e-3
    assert differs.mean() > 0.3


def test_zero_window_contributes_nothing():
    part = exact_contributions(ToyCircuit(), torch.zeros(1, 3, 3, 3), lambda y: y[:, 0])
    assert all(np.all(p == 0) for p in part.values())


def test_depth_is_checked():
    with pytest.raises(InputError, match="expected 1 or 2, got 3"):
        ToyCircuit(3)
