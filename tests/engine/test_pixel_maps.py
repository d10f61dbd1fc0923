"""Input maps: complete over pixels and over interneurons, split by sign, one product a group."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import retinacodec as rc
from retinacodec.errors import InputError
from retinacodec.models import DeepRetina
from retinacodec.schema import make_stimulus

SIZE, HISTORY = (9, 9), 4


@pytest.fixture(scope="module")
def model():
    made = DeepRetina(2, size=SIZE, history=HISTORY, channels=(4, 3), kernels=(3, 3), seed=1)
    for norm in (made.norm1, made.norm2):
        nn.init.normal_(norm.bias, 0, 0.5)
    return made.eval()


@pytest.fixture(scope="module")
def movie():
    frames = np.random.default_rng(0).normal(0, 1, (9, *SIZE))
    return make_stimulus(frames, frame_rate=50, pixel_um=50, name="noise")


@pytest.mark.parametrize("layer", ["conv1", "relu1", "conv2", "relu2"])
@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        (rc.Secant(1), 1e-5),
        (rc.Secant(4, baseline=rc.MeanFrame()), 1e-5),
        (rc.IntegratedGradients(150), 3e-2),
    ],
    ids=repr,
)
def test_maps_are_complete_twice(model, movie, layer, rule, limit):
    circuit = rc.Circuit(model, [layer, "conv1:input"])
    maps = rc.input_maps(circuit, movie, rc.Cell(1), layer=layer, rule=rule, progress=False)
    parts = rc.contributions(circuit, movie, rc.Cell(1), rule=rule, maps=True, progress=False)
    scale = float(abs(parts["value"] - parts["baseline_value"]).max())
    # summed over pixels: what each channel contributed, split by the sign of its places
    channel = parts[layer]["contribution"].sum(("y", "x")).transpose("time", "channel", "sign")
    by_channel = maps.sum(("lag", "y", "x")).values
    np.testing.assert_allclose(by_channel, channel.values, atol=limit * scale)
    # summed over channels: the integrated gradient of each pixel
    pixel = parts["conv1_input"]["contribution"].sum("sign").values
    by_pixel = maps.sum(("group", "sign")).values
    assert np.linalg.norm(by_pixel - pixel) < 1e-5 * np.linalg.norm(pixel)
    # and in all: the change of the target
    change = (parts["value"] - parts["baseline_value"]).values
    np.testing.assert_allclose(by_pixel.sum(axis=(1, 2, 3)), change, atol=limit * scale)


def test_groups_are_weighted_sums_of_channels(model, movie):
    circuit = rc.Circuit(model, ["conv1"])
    weights = np.random.default_rng(1).normal(size=(3, 4))
    rows = [0, 3]
    single = rc.input_maps(circuit, movie, rc.Cell(0), rows=rows, progress=False)
    grouped = rc.input_maps(
        circuit, movie, rc.Cell(0), rows=rows, groups=weights, batch=2, progress=False
    )
    wanted = np.einsum("gc,tcslyx->tgslyx", weights, single.values)
    np.testing.assert_allclose(grouped.values, wanted, atol=2e-5 * abs(wanted).max())


def test_local_map_is_the_loop_over_interneurons(movie):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(HISTORY, 2, 7), nn.Softplus(), nn.Flatten(), nn.Linear(18, 1))
    net.history = HISTORY
    circuit = rc.Circuit(net, ["1"])
    found = rc.input_maps(
        circuit, movie, rc.Cell(0), rule=rc.ActivationGradient(), rows=[2], progress=False
    )
    window = circuit.windows(torch.from_numpy(movie["contrast"].values))[2:3].clone()
    window.requires_grad_()
    hidden = net[1](net[0](window))
    slope = torch.autograd.grad(net[3](net[2](hidden)).sum(), hidden, retain_graph=True)[0]
    wanted = torch.zeros(2, 2, HISTORY, *SIZE)
    for channel in range(2):
        for y in range(3):
            for x in range(3):
                place = (0, channel, y, x)
                field = torch.autograd.grad(hidden[place], window, retain_graph=True)[0][0]
                positive = int(slope[place] * hidden[place] > 0)
                wanted[channel, positive] += (slope[place] * field * window[0]).detach()
    np.testing.assert_allclose(found.values[0], wanted, atol=1e-5 * float(wanted.abs().max()))


def test_images_have_maps_of_their_own_channels():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    circuit = rc.Circuit(net, ["1"], sample="image", output="class")
    images = torch.randn(3, 3, 6, 6)
    maps = rc.input_maps(circuit, images, rc.Class(2, probability=True), progress=False)
    assert maps.dims == ("image", "group", "sign", "channel", "y", "x")
    parts = rc.contributions(circuit, images, rc.Class(2, probability=True), progress=False)
    total = maps.sum(("channel", "y", "x")).transpose("image", "sign", "group").values
    np.testing.assert_allclose(total, parts["1"]["contribution"].values, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": "conv9"}, "no layer 'conv9'"),
        ({"rows": [99]}, "rows in 0 to 5"),
        ({"groups": np.ones((2, 9))}, r"weights \(group, 4\)"),
        ({"budget_gb": 1e-9}, "fewer rows= or groups="),
        ({"rule": rc.SmoothGradient()}, "has no maps"),
        ({"target": rc.EachCell()}, "expected one target"),
    ],
)
def test_what_cannot_be_mapped_is_refused(model, movie, options, said):
    circuit = rc.Circuit(model, ["conv1"])
    target = options.pop("target", rc.Cell(0))
    with pytest.raises(InputError, match=said):
        rc.input_maps(circuit, movie, target, progress=False, **options)
