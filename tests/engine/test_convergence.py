"""Whether a rule has enough steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import retinacodec as rc
from retinacodec.errors import InputError


@pytest.fixture(scope="module")
def circuit():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)
    )
    for one in model.parameters():
        one.data *= 2
    return rc.Circuit(model, ["0", "3"], sample="image", output="class")


IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", [rc.Secant, rc.IntegratedGradients])
def test_change_falls_with_the_steps_and_is_near_the_error(circuit, kind):
    exact = rc.contributions(circuit, IMAGES, rc.Class(0), rule=kind(800), progress=False)
    changes = []
    for steps in (2, 8, 32):
        found = rc.step_change(circuit, IMAGES, rc.Class(0), rule=kind(steps), samples=6)
        part = rc.contributions(circuit, IMAGES, rc.Class(0), rule=kind(steps), progress=False)
        wanted, mine = exact["0"]["contribution"].values, part["0"]["contribution"].values
        error = np.linalg.norm(mine - wanted) / np.linalg.norm(wanted)
        change = float(found["change"].sel(layer="0"))
        assert 0.3 * error < change < 3 * error
        assert float(found["place_change"].sel(layer="0")) >= 0.5 * change
        changes.append(change)
    assert changes[0] > 2 * changes[1] > 4 * changes[2]


def test_the_last_layer_of_the_secant_needs_one_step(circuit):
    found = rc.step_change(circuit, IMAGES, rc.Class(0), rule=rc.Secant(1))
    assert float(found["change"].sel(layer="3")) < 1e-5 < float(found["change"].sel(layer="0"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rule": rc.ActivationGradient()}, "expected Secant or IntegratedGradients"),
        ({"rule": rc.IntegratedGradients(tolerance=0.1)}, "without a tolerance"),
        ({"samples": 0}, "samples of at least 1"),
    ],
)
def test_what_has_no_steps_is_refused(circuit, options, said):
    with pytest.raises(InputError, match=said):
        rc.step_change(circuit, IMAGES, rc.Class(0), **options)
