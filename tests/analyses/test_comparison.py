"""Comparison of models against planted rates whose scores are known."""

import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses.comparison import compare_models, draw_comparison
from retinacodec.ceilings import cc_max, cc_norm, feve, jackknife_oracle
from retinacodec.errors import InputError
from retinacodec.metrics import bits_per_spike, explained_deviance, pearson
from retinacodec.plotting import figure
from retinacodec.schema import make_recording

RATE = 60.0
CELLS = ["a", "b", "c", "d"]


def _as_rate(values, first=0, cells=CELLS):
    time = (first + np.arange(len(values))) / RATE
    return xr.DataArray(values, dims=("time", "cell"), coords={"time": time, "cell": cells})


@pytest.fixture(scope="module")
def planted():
    """Slow log-normal rates of four cells, a good and a blurred prediction, twelve repeats."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(6060, 4))
    drive = np.stack([np.convolve(column, np.ones(6), "valid")[:6000] for column in noise.T], 1)
    truth = 20 * np.exp(drive / np.sqrt(6))
    poor = 20 * np.exp(0.5 * drive / np.sqrt(6) + 0.5 * rng.normal(size=drive.shape))
    repeats = rng.poisson(truth / RATE, size=(12, 6000, 4))
    recording = make_recording(
        repeats.mean(0), time=np.arange(6000) / RATE, frame_rate=RATE, cells=CELLS, repeats=repeats
    )
    return truth, poor, recording


@pytest.fixture(scope="module")
def compared(planted):
    truth, poor, recording = planted
    rates = {"CNN": _as_rate(truth), "LN": _as_rate(poor)}
    return compare_models(rates, recording, draws=300)


def test_scores_equal_the_metrics_on_the_same_frames(planted, compared):
    truth, poor, recording = planted
    counts, repeats = recording["spike_count"].values, recording["repeats"].values
    for name, rate in (("CNN", truth), ("LN", poor)):
        one = compared.sel(model=name)
        expected = rate / RATE
        np.testing.assert_allclose(one["r"], pearson(counts, rate), rtol=1e-9)
        np.testing.assert_allclose(
            one["bits_per_spike"], bits_per_spike(counts, expected), rtol=1e-9
        )
        np.testing.assert_allclose(
            one["explained_deviance"], explained_deviance(counts, expected), rtol=1e-9
        )
        np.testing.assert_allclose(one["cc_norm"], cc_norm(repeats, expected), rtol=1e-9)
        np.testing.assert_allclose(one["feve"], feve(repeats, expected), rtol=1e-9)
    np.testing.assert_allclose(compared["cc_max"], cc_max(repeats), rtol=1e-9)
    np.testing.assert_allclose(compared["oracle"], jackknife_oracle(repeats), rtol=1e-9)
    np.testing.assert_allclose(compared["mean_r"], compared["r"].mean("cell"), rtol=1e-12)


def test_the_true_rate_reaches_the_ceiling_and_beats_the_poor_model(compared):
    best = compared.sel(model="CNN")
    np.testing.assert_allclose(best["cc_norm"], 1, atol=0.02)
    np.testing.assert_allclose(best["r"], compared["cc_max"], atol=0.02)
    assert (compared["difference_r_low"].sel(pair="CNN - LN") > 0).all()
    assert compared["mean_difference_bits_per_spike_low"].item() > 0
    np.testing.assert_allclose(
        compared["difference_r"].sel(pair="CNN - LN"),
        compared["r"].sel(model="CNN") - compared["r"].sel(model="LN"),
    )


def test_intervals_bracket_the_value_and_shrink_with_the_frames(planted, compared):
    truth, _, recording = planted
    for name in ("r", "bits_per_spike", "cc_norm", "feve", "cc_max", "mean_r"):
        low, value, high = (compared[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert ((low < value) & (value < high)).all(), name
    quarter = compare_models({"CNN": _as_rate(truth)}, recording, np.arange(1500), draws=300)
    width = {
        len_: float((one["r_high"] - one["r_low"]).sel(model="CNN").mean())
        for len_, one in (("all", compared), ("quarter", quarter))
    }
    assert width["quarter"] / width["all"] == pytest.approx(2, rel=0.35)
    assert "difference_r" not in quarter


def test_interval_of_a_correlation_covers_the_truth():
    """Many cells share one true correlation; about 95 % of the intervals hold it."""
    rng = np.random.default_rng(3)
    rate = rng.gamma(2.0, 5.0, size=(1800, 200))
    counts = rng.poisson(rate / RATE)
    spread, noise = 50.0 / RATE**2, 10.0 / RATE
    truth = np.sqrt(spread / (spread + noise))
    names = [str(number) for number in range(200)]
    recording = make_recording(counts, time=np.arange(1800) / RATE, frame_rate=RATE, cells=names)
    found = compare_models({"m": _as_rate(rate, cells=names)}, recording, draws=300)
    inside = (found["r_low"] < truth) & (truth < found["r_high"])
    assert 0.85 <= float(inside.mean()) <= 0.99
    assert found["mean_r_low"] < truth < found["mean_r_high"]
    assert found.attrs["blocks"] == 30


def test_paired_differences_are_sharper_than_unpaired_ones(planted):
    truth, _, recording = planted
    close = truth * np.exp(0.1 * np.random.default_rng(5).normal(size=truth.shape))
    found = compare_models({"a": _as_rate(truth), "b": _as_rate(close)}, recording, draws=300)
    paired = found["difference_r_high"] - found["difference_r_low"]
    alone = (found["r_high"] - found["r_low"]).mean("model")
    assert (paired < 0.5 * alone).all()


def test_models_are_scored_on_the_frames_that_all_predict_and_cells_by_name(planted):
    truth, poor, recording = planted
    order = [2, 0, 3, 1]
    rates = {
        "late": _as_rate(truth[40:], first=40),
        "shuffled": _as_rate(poor[10:, order], first=10, cells=[CELLS[k] for k in order]),
    }
    frames = np.concatenate([np.arange(0, 1000), np.arange(3000, 4000)])
    found = compare_models(rates, recording, frames, draws=50)
    kept = frames[frames >= 40]
    counts = recording["spike_count"].values[kept]
    assert found.attrs["frames"] == len(kept) == 1960
    assert found.attrs["blocks"] == 16 + 16
    np.testing.assert_allclose(found["r"].sel(model="late"), pearson(counts, truth[kept]))
    np.testing.assert_allclose(found["r"].sel(model="shuffled"), pearson(counts, poor[kept]))


def test_frames_not_observed_are_left_out_for_their_cell(planted):
    truth, _, recording = planted
    gappy = recording.drop_vars("repeats").copy(deep=True)
    gappy["spike_count"][:3000, 1] = np.nan
    found = compare_models({"m": _as_rate(truth)}, gappy, draws=100)
    counts = recording["spike_count"].values
    assert found["r"][0, 1].item() == pytest.approx(
        float(pearson(counts[3000:, 1], truth[3000:, 1]))
    )
    assert found["r"][0, 0].item() == pytest.approx(float(pearson(counts[:, 0], truth[:, 0])))


def test_undefined_values_are_nan_with_their_reason(planted):
    truth, _, _ = planted
    rng = np.random.default_rng(1)
    repeats = rng.poisson(truth[:600] / RATE, size=(2, 600, 4)).astype(float)
    repeats[:, :, 0] = 0
    repeats[1, :, 1] = repeats[0, :, 1].max() - repeats[0, :, 1]
    recording = make_recording(
        repeats.mean(0), time=np.arange(600) / RATE, frame_rate=RATE, cells=CELLS, repeats=repeats
    )
    flat = truth[:600].copy()
    flat[:, 2] = 0.1
    found = compare_models({"m": _as_rate(flat)}, recording, draws=20)
    reason = found["reason"].sel(model="m")
    assert np.isnan(found["bits_per_spike"].sel(model="m", cell="a"))
    assert reason.sel(metric="bits_per_spike", cell="a") == "no spike"
    assert np.isnan(found["cc_norm"].sel(model="m", cell="b"))
    assert "no signal" in reason.sel(metric="cc_norm", cell="b").item()
    assert np.isnan(found["r"].sel(model="m", cell="c"))
    assert "do not vary" in reason.sel(metric="r", cell="c").item()
    assert (reason.sel(cell="d") == "").all() and np.isfinite(found["r"].sel(cell="d")).all()
    assert np.isfinite(found["mean_bits_per_spike"]).all()


def test_too_few_frames_to_resample_give_no_interval(planted):
    truth, _, recording = planted
    found = compare_models({"m": _as_rate(truth)}, recording, np.arange(80), draws=20)
    assert np.isfinite(found["r"]).all() and np.isnan(found["r_low"]).all()
    assert np.isnan(found["mean_r_high"]).all()


def test_bad_calls_are_refused(planted):
    truth, _, recording = planted
    with pytest.raises(InputError, match="at least 1 s"):
        compare_models({"m": _as_rate(truth)}, recording, block_seconds=0.5)
    with pytest.raises(InputError, match="3 cells, the recording has 4"):
        compare_models({"m": _as_rate(truth[:, :3], cells=CELLS[:3])}, recording)
    with pytest.raises(InputError, match="fewer than 2 frames"):
        compare_models({"m": _as_rate(truth, first=9000)}, recording)
    with pytest.raises(InputError, match="below zero"):
        compare_models({"m": _as_rate(-truth)}, recording)


def test_drawing_holds_the_numbers(compared):
    ax = draw_comparison(compared, figure().subplots())
    cells = np.array([line.get_ydata() for line in ax.lines[:4]])
    np.testing.assert_allclose(cells, compared["r"].values.T)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["CNN", "LN"]
    ceiling = [line for line in ax.lines if line.get_label() == "noise ceiling"]
    assert ceiling[0].get_ydata()[0] == pytest.approx(compared["cc_max"].mean().item())
    with pytest.raises(InputError, match="metric: expected one of r, bits_per_spike"):
        draw_comparison(compared, ax, metric="cc_max")
