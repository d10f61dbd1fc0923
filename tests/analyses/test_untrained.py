import pytest
import torch
from torch import nn

from retinacodec.analyses import untrained_like
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.models import CircuitRetina, DeepRetina


def network(seed=0):
    return DeepRetina(
        2, size=(12, 12), history=6, channels=(4, 3), kernels=(5, 3), seed=seed,
        cell_names=("a", "b"),
    )  # fmt: skip


def test_a_model_that_says_how_is_built_again_and_keeps_its_scales():
    model = network()
    with torch.no_grad():
        model.contrast_scale.fill_(0.3)
        model.conv1.weight.mul_(2)
        model.norm1.running_mean.fill_(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    circuit = Circuit(model, ["norm1", "relu2"], latency=1)
    other = untrained_like(circuit, seed=7)
    fresh = network(seed=7).state_dict()
    for name, value in other.model.state_dict().items():
        if name != "contrast_scale":
            torch.testing.assert_close(value, fresh[name])
    assert float(other.model.contrast_scale) == pytest.approx(0.3)
    assert (other.layers, other.history, other.latency) == (("norm1", "relu2"), 6, 1)
    assert other.outputs == ("a", "b")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_any_other_model_is_copied_and_its_modules_reset():
    class Plain(nn.Module):
        history = 3

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 2)
            self.register_buffer("scale", torch.tensor(4.0))

    torch.manual_seed(1)
    circuit = Circuit(Plain(), ["conv"])
    weight = circuit.model.conv.weight.clone()
    state = torch.random.get_rng_state()
    one, again, other = (untrained_like(circuit, seed).model for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(circuit.model.conv.weight, weight)
    torch.manual_seed(5)
    torch.testing.assert_close(one.conv.weight, nn.Conv2d(3, 2, 2).weight)
    assert torch.equal(one.conv.weight, again.conv.weight)
    assert not torch.equal(one.conv.weight, other.conv.weight)
    assert float(one.scale) == 4


def test_weights_that_cannot_be_drawn_are_named():
    class Bare(nn.Module):
        history = 3

        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2))
            self.conv = nn.Conv2d(3, 2, 2)

    with pytest.raises(InputError, match=r"cannot draw gain; give Bare config"):
        untrained_like(Circuit(Bare(), ["conv"]))
    with pytest.raises(InputError, match="CircuitRetina config"):
        untrained_like(Circuit(CircuitRetina((8, 8), cells=1), ["interneurons"]))
