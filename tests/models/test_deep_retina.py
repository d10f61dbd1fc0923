"""The network against a hand-written computation, its conventions, and how it is rebuilt."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.fft import dct
from scipy.signal import correlate

from retinacodec.errors import InputError
from retinacodec.models import DeepRetina, OnePositionReadout


def _scrambled(model: DeepRetina, seed: int = 0) -> DeepRetina:
    """Give every weight, scale and running statistic a value that matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(-0.5, 0.5, generator=generator)
            if name.endswith(("running_var", "scale")):
                tensor.abs_().add_(0.5)
    return model.eval()


def _normalised(values: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Batch normalisation in evaluation, per channel or per position, by its definition."""

    def shaped(key: str) -> np.ndarray:
        array = state[f"{name}.{key}"]
        if array.size == values.size:
            return array.reshape(values.shape)
        return array.reshape(-1, *[1] * (values.ndim - 1))

    spread = np.sqrt(shaped("running_var") + 1e-3)
    return (values - shaped("running_mean")) / spread * shaped("weight") + shaped("bias")


def _by_hand(model: DeepRetina, window: np.ndarray) -> np.ndarray:
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    maps = window / state["contrast_scale"]
    for depth in range(1, model.depth + 1):
        kernels, bias = state[f"conv{depth}.weight"], state[f"conv{depth}.bias"]
        sums = [correlate(maps, k, mode="valid")[0] + b for k, b in zip(kernels, bias, strict=True)]
        maps = np.maximum(_normalised(np.stack(sums), state, f"norm{depth}"), 0)
    drive = state["readout.linear.weight"] @ maps.ravel()
    drive = _normalised(drive, state, f"norm{model.depth + 1}")
    return state["rate_scale"] * np.log1p(np.exp(drive))


@pytest.mark.parametrize("norm", ["channel", "unit"])
@pytest.mark.parametrize(
    ("channels", "kernels"), [((3,), (4,)), ((2, 3), (4, 3)), ((2, 2, 2), (3, 2, 2))]
)
def test_rates_equal_the_computation_by_hand(norm, channels, kernels):
    model = DeepRetina(
        2, size=(8, 9), history=5, channels=channels, kernels=kernels, norm=norm, dropout=0.3
    )
    windows = np.random.default_rng(1).normal(size=(3, 5, 8, 9)).astype(np.float32)
    rates = _scrambled(model)(torch.from_numpy(windows)).detach().numpy()
    truth = [_by_hand(model, window.astype(float)) for window in windows]
    np.testing.assert_allclose(rates, truth, rtol=2e-5)


@pytest.mark.parametrize("readout", [None, OnePositionReadout(3, [(4, 4), (8, 6)])], ids=repr)
@pytest.mark.parametrize("training", [False, True])
def test_rates_along_a_movie_equal_those_of_its_windows(readout, training):
    model = DeepRetina(
        2,
        size=(12, 11),
        history=6,
        channels=(3, 3),
        kernels=(5, 3),
        readout=readout,
        noise=0,
        dropout=0,
    )
    model = _scrambled(model).train(training)
    movie = torch.randn((2, 40, 12, 11), generator=torch.Generator().manual_seed(2))
    windows = movie.unfold(1, 6, 1).movedim(-1, 2)
    direct = model(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
    torch.testing.assert_close(model.rates_along(movie), direct, rtol=1e-4, atol=1e-5)


def test_running_statistics_keep_99_parts_of_the_old():
    model = DeepRetina(1, size=(6, 6), history=2, channels=(2,), kernels=(3,))
    windows = torch.randn((50, 2, 6, 6), generator=torch.Generator().manual_seed(3))
    maps = model.conv1(windows)
    model.train()(windows)
    new = 0.01 * maps.mean((0, 2, 3))
    torch.testing.assert_close(model.norm1.running_mean, new, rtol=1e-4, atol=1e-6)
    spread = 0.99 + 0.01 * maps.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(model.norm1.running_var, spread, rtol=1e-4, atol=1e-6)
    assert model.norm1.eps == model.norm2.eps == 1e-3


def test_noise_has_its_deviation_in_training_and_is_gone_in_evaluation():
    model = DeepRetina(1, size=(20, 20), history=2, channels=(4,), kernels=(3,), noise=0.2)
    values = torch.zeros(100, 4, 18, 18)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert float(model.train().noise1(values).std()) == pytest.approx(0.2, rel=0.01)
    window = torch.randn((4, 2, 20, 20), generator=torch.Generator().manual_seed(4))
    model.eval()
    assert torch.equal(model(window), model(window))
    assert model.noise1(values) is values


def test_contrast_is_scaled_and_grey_stays_grey():
    model = _scrambled(DeepRetina(2, size=(6, 6), history=3, channels=(2,), kernels=(3,)))
    window = torch.randn((2, 3, 6, 6), generator=torch.Generator().manual_seed(5))
    grey, rates = model(0 * window), model(window)
    model.contrast_scale.mul_(4.0)
    torch.testing.assert_close(model(4 * window), rates)
    torch.testing.assert_close(model(0 * window), grey)


def test_a_seed_is_a_model_and_the_global_generator_stays_as_it_was():
    before = torch.random.get_rng_state()
    first, again, other = (
        DeepRetina(3, size=(16, 16), history=4, kernels=(7, 5), seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    for name, weight in first.named_parameters():
        assert torch.equal(weight, again.get_parameter(name)), name
        if "conv" in name or "readout" in name:
            assert not torch.equal(weight, other.get_parameter(name)), name
    assert float(first.conv1.weight.detach().abs().max()) <= (4 * 49) ** -0.5


@pytest.mark.parametrize(
    "options",
    [
        {"cell_names": ["a", "b"]},
        {"readout": OnePositionReadout(2, [(3, 3), (4, 5)]), "latency": 1},
    ],
    ids=str,
)
def test_rebuilt_from_its_configuration_and_weights(options):
    shape = {"size": (9, 8), "history": 3, "channels": (2, 3), "kernels": (3, 2), "norm": "unit"}
    model = _scrambled(DeepRetina(2, **shape, **options))
    twin = DeepRetina.from_config(json.loads(json.dumps(model.config())))
    twin.load_state_dict(model.state_dict())
    window = torch.randn((2, 3, 9, 8), generator=torch.Generator().manual_seed(6))
    assert torch.equal(twin.eval()(window), model(window))
    assert twin.config() == model.config() and twin.cell_names == model.cell_names


def test_the_sizes_are_those_of_the_paper():
    model = DeepRetina(5, norm="unit")
    assert model.conv1.weight.shape == (8, 40, 15, 15) and model.conv2.weight.shape == (
        8,
        8,
        11,
        11,
    )
    assert model.norm1.num_features == 8 * 36 * 36 and model.norm2.num_features == 8 * 26 * 26
    assert model.readout.linear.weight.shape == (5, 8 * 26 * 26)
    assert [name for name, _ in model.named_children()] == [
        *("conv1", "norm1", "noise1", "relu1", "conv2", "norm2", "noise2", "relu2"),
        *("dropout", "readout", "norm3", "rate"),
    ]


def test_bands_keep_the_slow_part_of_the_first_kernels_and_nothing_else():
    free, slow = (
        DeepRetina(1, size=(9, 9), history=12, kernels=(5, 3), bands=bands) for bands in (None, 4)
    )
    spectrum, kept = (
        dct(model.conv1.weight.detach().double().numpy(), axis=1, norm="ortho")
        for model in (free, slow)
    )
    np.testing.assert_allclose(kept[:, :4], spectrum[:, :4], atol=1e-6)
    np.testing.assert_allclose(kept[:, 4:], 0, atol=1e-6)
    before = slow.conv1.weight.detach().clone()
    slow.constrain()
    torch.testing.assert_close(slow.conv1.weight.detach(), before)


def test_positions_come_from_the_spike_triggered_average():
    generator = torch.Generator().manual_seed(7)
    movie = torch.randn((3000, 14, 16), generator=generator)
    drive = torch.stack((movie[:, 5, 9], -movie[:, 8, 4])).roll(3, 1)
    counts = torch.poisson(drive.clamp_min(0), generator=generator).T
    model = DeepRetina(
        2, size=(14, 16), history=6, channels=(2,), kernels=(3,), readout=OnePositionReadout(3)
    )
    model.initialise(movie, counts)
    assert model.readout.positions.tolist() == [[3, 7], [6, 2]]


def test_all_that_is_wrong_is_in_one_message():
    with pytest.raises(InputError, match=r"cells: .*kernels \(9, 9\) do not fit.*norm: .*'layer'"):
        DeepRetina(0, size=(12, 12), kernels=(9, 9), norm="layer")
    with pytest.raises(InputError, match="one kernel a convolution"):
        DeepRetina(1, channels=(8,), kernels=(5, 3))
    with pytest.raises(
        InputError, match=r"expected windows \(batch, 3, 6, 6\), got \(1, 3, 6, 7\)"
    ):
        DeepRetina(1, size=(6, 6), history=3, channels=(1,), kernels=(3,))(torch.zeros(1, 3, 6, 7))
