"""Passes from a layer on: the numbers of whole passes, and whole passes where they must be."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import nn

import retinacodec as rc
from retinacodec.interventions import Intervention, Resample, Scale, predict_under
from retinacodec.resuming import Resumed, _giving
from retinacodec.samples import rows_for
from retinacodec.schema import make_stimulus


class Blocks(nn.Module):
    """Residual blocks with functions between modules, and one rectifier used throughout."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.relu = nn.ReLU(inplace=True)
        self.marks = nn.ModuleList(nn.Identity() for _ in range(3))
        self.head = nn.Linear(4, 5)
        self.calls = 0

    def forward(self, x):
        out = self.relu(self.first(x))
        for block, mark in zip(self.blocks, self.marks, strict=True):
            self.calls += 1
            out = mark(out + self.relu(block(out)))
        return self.head(out.mean(dim=(2, 3)))


@pytest.fixture
def circuit():
    torch.manual_seed(0)
    layers = ["marks.0", "marks.1", "marks.2", "blocks.1", "relu"]
    return rc.Circuit(Blocks().eval(), layers, sample="image", output="class")


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(9, 3, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("layers", [["marks.1"], ["marks.2", "marks.0"], ["head:input"]])
@pytest.mark.parametrize("how", [Scale(0.0), Resample(2)])
def test_same_outputs_as_whole_passes(circuit, images, layers, how):
    circuit = rc.Circuit(circuit.model, layers, sample="image", output="class")
    resumed = Resumed.prepare(circuit, rows_for(circuit, images), layers)
    assert resumed.start == (None if "input" in layers[0] else min(layers))
    actions = [Intervention(layer, [1, 3], how) for layer in layers]
    expected = predict_under(circuit, images, actions).values
    np.testing.assert_allclose(resumed.outputs(actions), expected, atol=1e-6)
    some = np.array([7, 2, 2, 4])
    np.testing.assert_allclose(resumed.outputs(actions, some), expected[some], atol=1e-6)
    assert not any("forward" in module.__dict__ for module in circuit.model.modules())


def test_what_lies_before_is_not_computed(circuit, images):
    ran = []
    resumed = Resumed.prepare(circuit, rows_for(circuit, images), ["marks.1"])
    usual = nn.Conv2d._conv_forward

    def counted(self, *given):
        ran.append(self)
        return usual(self, *given)

    nn.Conv2d._conv_forward = counted
    try:
        resumed.outputs([Intervention("marks.1", [0])])
    finally:
        nn.Conv2d._conv_forward = usual
    assert ran == [circuit.model.blocks[2]]


@pytest.mark.parametrize("layer", ["blocks.1", "relu"])
def test_whole_passes_where_there_is_a_way_around_or_several_calls(circuit, images, layer):
    resumed = Resumed.prepare(circuit, rows_for(circuit, images), [layer])
    assert resumed.start is None
    action = Intervention(layer, [0])
    expected = predict_under(circuit, images, action).values
    np.testing.assert_allclose(resumed.outputs([action]), expected, atol=1e-6)


def test_whole_passes_where_memory_is_short(circuit, images):
    rows = rows_for(circuit, images)
    assert Resumed.prepare(circuit, rows, ["marks.1"], budget_gb=1e-9).start is None


def test_movies_resume_too():
    torch.manual_seed(0)
    model = rc.models.DeepRetina(2, size=(8, 8), history=4, channels=(3, 3), kernels=(3, 3))
    circuit = rc.Circuit(model.eval(), ["conv1", "conv2"])
    frames = np.random.default_rng(1).normal(size=(12, 8, 8))
    movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    resumed = Resumed.prepare(circuit, rows_for(circuit, movie), ["conv2"])
    assert resumed.start == "conv2" and resumed.skipped
    action = Intervention("conv2", [1], Scale(2.0))
    expected = predict_under(circuit, movie, action).values
    np.testing.assert_allclose(resumed.outputs([action]), expected, rtol=1e-5)


def test_threads_that_resume_at_once_leave_each_others_layers_alone():
    """The first to begin is also the first to end, while the other still runs."""
    module, ones = nn.Linear(1, 1), torch.ones(1, 1)
    steps = [threading.Event() for _ in range(3)]
    seen = []

    def second():
        steps[0].wait(10)
        with _giving(module, 2 * ones):
            steps[1].set()
            steps[2].wait(10)
            seen.append(float(module(ones)))

    thread = threading.Thread(target=second)
    thread.start()
    with _giving(module, ones):
        steps[0].set()
        assert steps[1].wait(10)
        seen.append(float(module(ones)))
    steps[2].set()
    thread.join(10)
    assert seen == [1.0, 2.0]
    assert "forward" not in module.__dict__
    with pytest.raises(RuntimeError, match="odd"), _giving(module, ones):
        with _giving(module, 3 * ones):
            assert float(module(ones)) == 3
        assert float(module(ones)) == 1
        raise RuntimeError("odd")
    assert "forward" not in module.__dict__
