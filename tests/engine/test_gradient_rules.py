"""Rules without a path: closed forms, norms, and noise that belongs to its frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import retinacodec as rc
from retinacodec.errors import InputError


class Quadratic(nn.Module):
    """Output o is the sum over i of w_oi h_i^2 with h = A x."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.hidden = nn.Linear(4, 3, bias=False)
        self.register_buffer("weight", torch.randn(2, 3, generator=generator))
        nn.init.normal_(self.hidden.weight, generator=generator)

    def forward(self, x):
        return self.hidden(x.flatten(1)) ** 2 @ self.weight.T


@pytest.fixture
def circuit():
    return rc.Circuit(Quadratic(), ["hidden"], sample="image", output="class")


@pytest.fixture
def images():
    return torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(1))


def net(circuit, images, rule, **options):
    tree = rc.contributions(circuit, images, rc.Class(1), rule=rule, progress=False, **options)
    return tree, tree["hidden"]["contribution"].sum("sign").values


def closed(circuit, images):
    model = circuit.model
    hidden = (images.flatten(1) @ model.hidden.weight.T).detach().numpy()
    return hidden, 2 * hidden * model.weight[1].numpy()


def test_activation_times_gradient_is_the_closed_form(circuit, images):
    hidden, gradient = closed(circuit, images)
    tree, found = net(circuit, images, rc.ActivationGradient())
    np.testing.assert_allclose(found, hidden * gradient, rtol=1e-5)
    # a quadratic target has twice its value as activation times gradient
    np.testing.assert_allclose(
        tree["hidden"]["residual"], tree["value"] - tree["baseline_value"], rtol=1e-5
    )


def test_normalised_forms_divide_by_the_norm_of_each_sample(circuit, images):
    hidden, gradient = closed(circuit, images)
    norms = [np.linalg.norm(values, axis=1, keepdims=True) for values in (hidden, gradient)]
    _, one = net(circuit, images, rc.ActivationGradient("gradient"))
    np.testing.assert_allclose(one, hidden * gradient / norms[1], rtol=1e-5)
    _, both = net(circuit, images, rc.ActivationGradient("both"))
    np.testing.assert_allclose(both, hidden * gradient / norms[0] / norms[1], rtol=1e-5)
    cosine = torch.cosine_similarity(torch.tensor(hidden), torch.tensor(gradient))
    np.testing.assert_allclose(both.sum(axis=1), cosine, rtol=1e-5)


def test_silent_layers_stay_finite(circuit):
    _, found = net(circuit, torch.zeros(2, 1, 2, 2), rc.ActivationGradient("both"))
    np.testing.assert_array_equal(found, 0)


def test_smooth_gradient_without_noise_is_activation_times_gradient(circuit, images):
    _, plain = net(circuit, images, rc.ActivationGradient())
    _, smooth = net(circuit, images, rc.SmoothGradient(3, sigma=0.0))
    np.testing.assert_allclose(smooth, plain, rtol=1e-6)


def test_smooth_gradient_has_the_mean_that_noise_adds(circuit, images):
    hidden, gradient = closed(circuit, images)
    weight = circuit.model.hidden.weight.detach().numpy()
    added = 2 * circuit.model.weight[1].numpy() * 0.3**2 * (weight**2).sum(axis=1)
    _, found = net(circuit, images, rc.SmoothGradient(4000, sigma=0.3))
    spread = np.abs(hidden * gradient).max() + 1
    np.testing.assert_allclose(found, hidden * gradient + added, atol=0.06 * spread)


def test_noise_belongs_to_the_image_and_the_seed(circuit, images):
    rule = rc.SmoothGradient(4, seed=7)
    _, whole = net(circuit, images, rule, batch=5)
    _, single = net(circuit, images, rule, batch=1)
    np.testing.assert_allclose(single, whole, rtol=1e-5)
    _, other = net(circuit, images, rc.SmoothGradient(4, seed=8), batch=5)
    assert np.abs(other - whole).max() > 1e-3


def test_outputs_activations_and_gradients_are_those_without_noise(circuit, images):
    hidden, gradient = closed(circuit, images)
    tree, _ = net(circuit, images, rc.SmoothGradient(3), activations=True, gradients=True)
    np.testing.assert_allclose(tree["hidden"]["activation"].sum("sign"), hidden, rtol=1e-5)
    np.testing.assert_allclose(tree["hidden"]["gradient"].sum("sign"), gradient, rtol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(tree["output"], circuit.model(images), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rc.ActivationGradient("all"), "none, gradient, both"),
        (lambda: rc.SmoothGradient(0), "whole number of steps"),
        (lambda: rc.SmoothGradient(sigma=-1), "sigma of at least 0"),
    ],
)
def test_impossible_rules_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()
