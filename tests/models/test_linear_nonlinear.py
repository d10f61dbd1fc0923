"""The baseline against its definition, and planted filters that it must find."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from retinacodec.errors import InputError
from retinacodec.models import LinearNonlinear
from retinacodec.schema import make_recording, make_stimulus
from retinacodec.training import fit

FRAMES, SIZE, HISTORY, RATE = 8000, (12, 12), 10, 60.0
CENTRES = ((4, 7), (8, 3))


def _planted() -> np.ndarray:
    """Return two filters (cell, history, y, x): Gaussian spots with biphasic time courses."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    lag = np.arange(HISTORY)[::-1]
    course = np.sin(np.pi * lag / 5) * np.exp(-lag / 4)
    spots = [np.exp(-((y - row) ** 2 + (x - column) ** 2) / 3) for row, column in CENTRES]
    filters = np.stack(
        [sign * course[:, None, None] * spot for sign, spot in zip((1, -1), spots, strict=True)]
    )
    return filters / np.linalg.norm(filters.reshape(2, -1), axis=1)[:, None, None, None]


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    contrast = rng.choice([-0.5, 0.5], size=(FRAMES, *SIZE)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(contrast, HISTORY, axis=0)
    drive = np.einsum("tyxh,nhyx->tn", windows, _planted()) / 0.5
    rate = np.full((FRAMES, 2), np.nan)
    rate[HISTORY - 1 :] = 20 * np.log1p(np.exp(2 * drive - 1))
    counts = np.nan_to_num(rng.poisson(np.nan_to_num(rate) / RATE).astype(float))
    movie = make_stimulus(contrast, frame_rate=RATE, pixel_um=50, name="checkers")
    recording = make_recording(
        counts, time=movie["time"].values, frame_rate=RATE, cells=["on", "off"]
    )
    return movie, recording, rate


def _cosine(found: torch.Tensor, truth: np.ndarray) -> np.ndarray:
    a, b = found.detach().flatten(1).numpy(), truth.reshape(len(truth), -1)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("rank", [1, 3, None])
def test_rates_equal_the_definition(rank):
    model = LinearNonlinear(2, size=(5, 6), history=4, rank=rank, bands=3, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in (*model.parameters(), model.rate_scale, model.contrast_scale):
            tensor.uniform_(0.5, 1.5, generator=generator)
    window = torch.randn((7, 4, 5, 6), generator=generator)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    courses = state["temporal"] @ state["basis"] if rank else np.stack([state["basis"]] * 2)
    filters = np.einsum("nkh,nkyx->nhyx", courses, state["spatial"])
    drive = np.einsum("bhyx,nhyx->bn", window.numpy(), filters) / state["contrast_scale"]
    truth = np.log1p(np.exp(drive + state["bias"])) * np.exp(state["log_gain"])
    np.testing.assert_allclose(
        model(window).detach(), truth * state["rate_scale"], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(model.filters().detach(), filters, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [2, None])
def test_rates_along_a_movie_equal_those_of_its_windows(rank):
    model = LinearNonlinear(3, size=(5, 6), history=4, rank=rank, bands=4)
    model.contrast_scale.fill_(0.3)
    movie = torch.randn((2, 20, 5, 6), generator=torch.Generator().manual_seed(3))
    windows = movie.unfold(1, 4, 1).movedim(-1, 2)
    direct = model(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
    torch.testing.assert_close(model.rates_along(movie), direct, rtol=1e-4, atol=1e-5)


def test_the_basis_is_orthonormal_and_starts_with_a_constant():
    basis = LinearNonlinear(1, size=(2, 2), history=9, bands=20).basis
    torch.testing.assert_close(basis @ basis.T, torch.eye(9), rtol=0, atol=1e-6)
    torch.testing.assert_close(basis[0], torch.full((9,), 1 / 3))


def test_the_prior_is_what_its_equation_says():
    model = LinearNonlinear(
        1, size=(3, 3), history=4, rank=1, bands=1, smoothness=2.0, locality=5.0, radius=2.0
    )
    with torch.no_grad():
        model.spatial.zero_()
        model.spatial[0, 0, 0, 2] = 3.0  # a corner, two pixels (1, 1) from the middle
        model.temporal.fill_(0.5)  # norm 0.5 in an orthonormal basis
    rough = 4 * 9.0  # one pixel differs from its four neighbours, two of them beyond the frame
    far = 9.0 * 2 / 2.0**2
    assert float(model.penalty().detach()) == pytest.approx(0.5 * 0.25 * (2.0 * rough + 5.0 * far))


def test_the_start_is_the_average_before_spikes(planted):
    movie, recording, _ = planted
    model = LinearNonlinear(2, size=SIZE, history=HISTORY, rank=1, bands=8)
    contrast = torch.from_numpy(movie["contrast"].values)
    model.initialise(contrast, torch.from_numpy(recording["spike_count"].values))
    assert model.centres.tolist() == [list(map(float, centre)) for centre in CENTRES]
    assert (_cosine(model.filters(), _planted()) > 0.8).all()


@pytest.mark.parametrize(("rank", "least"), [(1, 0.95), (2, 0.95), (None, 0.9)])
def test_a_fit_recovers_planted_filters_and_rates(planted, rank, least):
    movie, recording, rate = planted
    model = LinearNonlinear(2, size=SIZE, history=HISTORY, rank=rank)
    fitted = fit(model, movie, recording, epochs=15, lr=1e-2, progress=False)
    cosine = _cosine(fitted.filters(), _planted())
    assert (cosine > least).all(), cosine
    with torch.no_grad():
        along = fitted.rates_along(torch.from_numpy(movie["contrast"].values)[None])[0].numpy()
    for cell in range(2):
        assert np.corrcoef(along[:, cell], rate[HISTORY - 1 :, cell])[0, 1] > least


def test_rebuilt_from_its_configuration_and_weights():
    model = LinearNonlinear(2, size=(4, 5), history=6, rank=None, latency=1, cell_names=["a", "b"])
    twin = LinearNonlinear.from_config(json.loads(json.dumps(model.config())))
    twin.load_state_dict(model.state_dict())
    window = torch.randn((2, 6, 4, 5), generator=torch.Generator().manual_seed(4))
    assert torch.equal(twin(window), model(window)) and twin.config() == model.config()


def test_a_seed_is_a_model_and_the_global_generator_stays_as_it_was():
    before = torch.random.get_rng_state()
    first, again, other = (LinearNonlinear(1, size=(4, 4), history=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.spatial, again.spatial)
    assert not torch.equal(first.spatial, other.spatial)


def test_all_that_is_wrong_is_in_one_message():
    with pytest.raises(InputError, match=r"history: .*rank: .*radius: "):
        LinearNonlinear(1, history=0, rank=0, radius=0)
    with pytest.raises(InputError, match=r"expected windows \(batch, 3, 4, 4\)"):
        LinearNonlinear(1, size=(4, 4), history=3)(torch.zeros(1, 2, 4, 4))
