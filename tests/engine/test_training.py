"""The fit loop: what it learns, what it keeps, what it never looks at, and what it refuses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from retinacodec.errors import InputError, RetinacodecError
from retinacodec.models import DeepRetina, LinearNonlinear
from retinacodec.recordings import Split, split_blocks
from retinacodec.schema import make_recording, make_stimulus
from retinacodec.training import fit, train
from retinacodec.training_loop import poisson_loss

SIZE, HISTORY, RATE = (8, 8), 6, 50.0


class Windows(nn.Module):
    """A model that knows only windows: one weight a pixel and frame, and an exponential."""

    def __init__(self, cells: int, *, latency: int = 0) -> None:
        super().__init__()
        self.history, self.latency = HISTORY, latency
        self.weight = nn.Parameter(torch.zeros(cells, HISTORY * SIZE[0] * SIZE[1]))
        self.bias = nn.Parameter(torch.full((cells,), 3.0))

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        return torch.exp(window.flatten(1) @ self.weight.T + self.bias)


def _case(frames: int = 6000, *, latency: int = 0, seed: int = 0) -> tuple[xr.Dataset, xr.Dataset]:
    """Return a movie and the spikes of an ON and an ON-OFF cell at two places."""
    rng = np.random.default_rng(seed)
    contrast = rng.normal(0, 0.4, size=(frames, *SIZE)).astype(np.float32)
    local = contrast[:, 2:4, 3:5].mean((1, 2)), contrast[:, 5:7, 4:6].mean((1, 2))
    delayed = [np.roll(trace, 2 + latency) / 0.2 for trace in local]
    rate = np.stack([40 * np.maximum(delayed[0], 0), 40 * np.abs(delayed[1])], axis=1)
    counts = rng.poisson(rate / RATE)
    movie = make_stimulus(
        contrast,
        frame_rate=RATE,
        pixel_um=50,
        name="noise",
        truth={"on": (rate[:, 0], "Hz"), "both": (rate[:, 1], "Hz")},
    )
    recording = make_recording(
        counts, time=movie["time"].values, frame_rate=RATE, cells=["on", "both"]
    )
    return movie, recording


@pytest.fixture(scope="module")
def case() -> tuple[xr.Dataset, xr.Dataset]:
    return _case()


@pytest.fixture(scope="module")
def short() -> tuple[xr.Dataset, xr.Dataset]:
    return _case(900)


def _network(**options) -> DeepRetina:
    options = {"channels": (4,), "kernels": (3,), "noise": 0.05, "dropout": 0.0, **options}
    return DeepRetina(2, size=SIZE, history=HISTORY, **options)


def _test_correlation(model: nn.Module, movie: xr.Dataset, split: Split, latency: int = 0):
    contrast = torch.from_numpy(movie["contrast"].values)
    windows = contrast.unfold(0, HISTORY, 1).movedim(-1, 1)[split.test - latency - HISTORY + 1]
    with torch.no_grad():
        rates = model(windows).numpy()
    truth = np.stack([movie["on"].values, movie["both"].values], axis=1)[split.test]
    return [np.corrcoef(rates[:, cell], truth[:, cell])[0, 1] for cell in range(rates.shape[1])]


def test_poisson_loss_is_the_mean_over_observed_bins():
    rng = np.random.default_rng(1)
    expected, counts = rng.uniform(0.1, 3, (20, 3)), rng.poisson(1.0, (20, 3)).astype(float)
    counts[4, 1] = np.nan
    truth = np.nanmean(expected - counts * np.log(expected) + 0 * counts)
    loss = poisson_loss(torch.from_numpy(expected), torch.from_numpy(counts))
    assert float(loss) == pytest.approx(truth, rel=1e-12)


def test_a_silent_bin_with_zero_expectation_costs_nothing_and_has_a_gradient():
    expected = torch.zeros(2, requires_grad=True)
    loss = poisson_loss(expected, torch.tensor([0.0, torch.nan]))
    loss.backward()
    assert loss.item() == 0 and expected.grad.tolist() == [1.0, 0.0]


def test_a_network_learns_a_rectified_and_an_on_off_cell(case):
    movie, recording = case
    result = train(_network(), movie, recording, epochs=12, lr=2e-2, batch=128, progress=False)
    found = _test_correlation(result.model, movie, result.split)
    assert found[0] > 0.9 and found[1] > 0.8, found
    linear = fit(
        LinearNonlinear(2, size=SIZE, history=HISTORY, locality=0.0),
        movie,
        recording,
        epochs=10,
        lr=1e-2,
        batch=256,
        progress=False,
    )
    baseline = _test_correlation(linear, movie, result.split)
    assert baseline[0] > 0.9 and baseline[1] < 0.2, baseline


@pytest.mark.parametrize("latency", [0, 3])
def test_a_model_of_windows_learns_at_its_latency(latency):
    movie, recording = _case(3000, latency=latency)
    model = Windows(2, latency=latency)
    result = train(model, movie, recording, epochs=6, lr=2e-2, batch=128, progress=False)
    assert _test_correlation(result.model, movie, result.split, latency)[0] > 0.35
    field = result.model.weight[0].detach().view(HISTORY, *SIZE)
    assert int(field.abs().amax((1, 2)).argmax()) == HISTORY - 3  # two frames before the last


def test_same_seed_same_weights_and_no_global_randomness_is_used(short):
    model, before = _network(noise=0.3, dropout=0.2), torch.random.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (
        fit(model, *short, epochs=2, seed=seed, progress=False) for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_the_argument_is_untouched_and_the_copy_is_ready(short):
    model = _network().train()
    model.conv1.bias.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    fitted = fit(model, *short, epochs=2, progress=False)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.training and all(p.grad is None for p in model.parameters())
    assert not any(module.training for module in fitted.modules())
    assert not fitted.conv1.bias.requires_grad and fitted.conv1.weight.requires_grad
    assert torch.equal(fitted.conv1.bias, model.conv1.bias)
    assert not torch.equal(fitted.conv1.weight, model.conv1.weight)


def test_scales_and_names_come_from_the_training_set(short):
    movie, recording = short
    result = train(_network(), movie, recording, epochs=1, progress=False)
    counts = recording["spike_count"].values[result.split.train]
    np.testing.assert_allclose(result.model.rate_scale, counts.mean(0) * RATE, rtol=1e-6)
    needed = np.unique(result.split.train[:, None] - np.arange(HISTORY))
    deviation = movie["contrast"].values[needed].std(dtype=float)
    assert float(result.model.contrast_scale) == pytest.approx(deviation, rel=1e-6)
    assert result.model.cell_names == ("on", "both")


def _validation_loss(model: nn.Module, movie, recording, split: Split) -> float:
    contrast = torch.from_numpy(movie["contrast"].values)
    windows = contrast.unfold(0, HISTORY, 1).movedim(-1, 1)[split.validation - HISTORY + 1]
    counts = recording["spike_count"].values
    with torch.no_grad():
        expected = model(windows).double().numpy() / RATE
    k = counts[split.validation]
    return (expected - k * np.log(expected)).mean() / counts[split.train].mean()


def test_the_best_state_is_kept_and_not_the_last(short):
    # Far too many weights for the spikes: the validation loss falls, then rises.
    result = train(Windows(2), *short, epochs=25, lr=3e-2, batch=64, progress=False)
    losses = result.log["validation_loss"].values
    assert result.best_epoch == losses.argmin() < len(losses) - 1
    assert losses[-1] > 1.05 * losses.min()
    kept = _validation_loss(result.model, *short, result.split)
    assert kept == pytest.approx(losses.min(), rel=1e-5)


def test_patience_stops_the_loop(short):
    options = {"epochs": 25, "lr": 3e-2, "batch": 64, "progress": False}
    whole = train(Windows(2), *short, **options)
    stopped = train(Windows(2), *short, patience=2, **options)
    epochs = stopped.log.sizes["epoch"]
    assert epochs < 25 and epochs == stopped.best_epoch + 3
    xr.testing.assert_equal(stopped.log, whole.log.isel(epoch=slice(epochs)))


def test_without_validation_the_last_epoch_is_kept(short):
    split = split_blocks(900, history=HISTORY, validation_every=0)
    result = train(_network(), *short, split=split, epochs=3, patience=1, progress=False)
    assert result.best_epoch == 2 and result.log["validation_loss"].isnull().all()


def _spoiled(movie: xr.Dataset, recording: xr.Dataset, frames: np.ndarray):
    """Return the pair with other pixels and counts wherever `frames` and their windows are."""
    rng = np.random.default_rng(5)
    movie, recording = movie.copy(deep=True), recording.copy(deep=True)
    windows = np.unique(frames[:, None] - np.arange(HISTORY))
    movie["contrast"][windows] = rng.normal(0, 3, (len(windows), *SIZE))
    recording["spike_count"][frames] = rng.poisson(3.0, (len(frames), 2))
    return movie, recording


@pytest.mark.parametrize("model", [_network(), Windows(2)], ids=["runs", "windows"])
def test_test_blocks_change_nothing_and_validation_only_the_choice(short, model):
    split = split_blocks(900, history=HISTORY)
    first = train(model, *short, split=split, epochs=3, progress=False)
    again = train(model, *_spoiled(*short, split.test), split=split, epochs=3, progress=False)
    xr.testing.assert_equal(first.log, again.log)
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    other = train(model, *_spoiled(*short, split.validation), split=split, epochs=3, progress=False)
    xr.testing.assert_equal(first.log["train_loss"], other.log["train_loss"])
    assert not np.allclose(first.log["validation_loss"], other.log["validation_loss"])


def test_bins_that_were_not_observed_are_as_if_they_were_not_in_the_set(short):
    movie, recording = short
    split = split_blocks(900, history=HISTORY)
    kept = split.train[split.train > 300]
    recording = recording.isel(cell=[0]).copy(deep=True)
    without = Split(kept, split.validation, split.test)
    options = {"batch": 10_000, "epochs": 4, "progress": False}  # the whole set is one batch
    shorter = fit(Windows(1), movie, recording, split=without, **options)
    recording["spike_count"][np.setdiff1d(split.train, kept)] = np.nan
    hidden = fit(Windows(1), movie, recording, split=split, **options)
    torch.testing.assert_close(hidden.weight, shorter.weight, rtol=1e-3, atol=1e-6)


def test_an_activity_penalty_of_one_halves_the_rates(short):
    # Where d/dr (r - k log r + r) vanishes, r is k / 2, whatever the number of bins.
    movie, recording = short
    model = LinearNonlinear(2, size=SIZE, history=HISTORY, locality=1e6)
    split = split_blocks(900, history=HISTORY, validation_every=0)
    options = {"split": split, "epochs": 20, "lr": 5e-2, "batch": 64, "progress": False}
    free, held = (fit(model, movie, recording, activity_l1=l1, **options) for l1 in (0.0, 1.0))
    windows = torch.from_numpy(movie["contrast"].values).unfold(0, HISTORY, 1).movedim(-1, 1)
    with torch.no_grad():
        ratio = float(held(windows).mean() / free(windows).mean())
    assert ratio == pytest.approx(0.5, abs=0.03)


def test_a_loss_that_is_no_number_is_an_error(short):
    with pytest.raises(RetinacodecError, match="no longer a number; use a smaller lr"):
        fit(Windows(2), *short, lr=1e6, epochs=3, progress=False)


def test_a_cell_without_training_spikes_is_named(short):
    movie, recording = short
    recording = recording.copy(deep=True)
    recording["spike_count"][:, 1] = 0
    with pytest.raises(InputError, match=r"no spike in the training set from cell\(s\) both"):
        fit(_network(), movie, recording, progress=False)


def test_a_still_movie_is_refused(short):
    movie, recording = short
    with pytest.raises(InputError, match="does not vary"):
        fit(_network(), movie.assign(contrast=0 * movie["contrast"] + 1), recording, progress=False)


def test_a_movie_with_nan_is_refused(short):
    movie, recording = short
    broken = movie.copy(deep=True)
    broken["contrast"][7, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinite in 1 frames"):
        fit(_network(), broken, recording, progress=False)


def test_what_does_not_fit_together_is_named_in_one_message(short):
    movie, recording = short
    model = DeepRetina(3, size=(8, 9), history=HISTORY, channels=(1,), kernels=(3,))
    with pytest.raises(
        InputError, match=r"\(8, 9\) pixels .* movie has \(8, 8\); .* 3 cells but the recording 2"
    ):
        fit(model, movie, recording, progress=False)
    with pytest.raises(InputError, match="the movie has 900 frames but the recording 899"):
        fit(_network(), movie, recording.isel(time=slice(899)), progress=False)
    few = slice(HISTORY - 1)
    with pytest.raises(InputError, match="no more than the model's history 6"):
        fit(_network(), movie.isel(time=few), recording.isel(time=few), progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0, "lr": 0.0}, "epochs: .*lr: "),
        ({"patience": 0}, "patience"),
        ({"batch": 0}, "batch"),
        ({"activity_l1": -1.0}, "activity_l1"),
    ],
)
def test_numbers_out_of_range_are_named(short, options, message):
    with pytest.raises(InputError, match=message):
        fit(_network(), *short, progress=False, **options)


def test_a_split_that_cannot_be_is_refused(short):
    train_set, empty = np.arange(10, 500), np.arange(0)
    for split, message in (
        (Split(empty, empty, empty), "training set is empty"),
        (Split(np.arange(500), empty, empty), "train: expected increasing frames from 5 to 899"),
        (Split(train_set, np.arange(499, 520), empty), "1 training frames are also used"),
    ):
        with pytest.raises(InputError, match=message):
            fit(_network(), *short, split=split, progress=False)
