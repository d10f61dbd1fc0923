"""Reliability of repeats against numpy, the metrics of the engine and planted signals."""

import itertools

import numpy as np
import pytest

from retinacodec.analyses.reliability import draw_reliability, response_reliability
from retinacodec.ceilings import cc_max, jackknife_oracle, signal_power
from retinacodec.errors import InputError
from retinacodec.plotting import figure
from retinacodec.schema import make_recording

RATE = 30.0


def _recording(repeats):
    names = [f"c{k}" for k in range(repeats.shape[2])]
    time = np.arange(repeats.shape[1]) / RATE
    return make_recording(repeats.mean(0), time=time, frame_rate=RATE, cells=names, repeats=repeats)


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    rate = 0.6 * np.exp(rng.normal(size=(900, 3)) * [1.0, 0.5, 0.2])
    return rng.poisson(rate, size=(5, 900, 3)).astype(float), rate


def test_measures_equal_numpy_and_the_engine(planted):
    repeats, _ = planted
    found = response_reliability(_recording(repeats), draws=50)
    np.testing.assert_allclose(found["signal_power"], signal_power(repeats), rtol=1e-9)
    np.testing.assert_allclose(found["cc_max"], cc_max(repeats), rtol=1e-9)
    np.testing.assert_allclose(found["oracle"], jackknife_oracle(repeats), rtol=1e-9)
    fano = repeats.var(axis=0, ddof=1).mean(axis=0) / repeats.mean(axis=(0, 1))
    np.testing.assert_allclose(found["fano"], fano, rtol=1e-9)
    pairs = [
        (one, other)
        for one in itertools.combinations(range(5), 2)
        for other in itertools.combinations(range(5), 2)
        if not set(one) & set(other) and one < other
    ]
    assert found.attrs["splits"] == len(pairs) == 15
    for cell in range(3):
        halves = repeats[:, :, cell]
        r = np.mean(
            [np.corrcoef(halves[list(a)].mean(0), halves[list(b)].mean(0))[0, 1] for a, b in pairs]
        )
        assert found["split_half"][cell].item() == pytest.approx(r)
        full = 2.5 * r / (1 + 1.5 * r)
        assert found["split_half_full"][cell].item() == pytest.approx(full)


def test_spearman_brown_foretells_the_squared_ceiling(planted):
    """For many repeats the reliability of their mean is the square of the noise ceiling."""
    rng = np.random.default_rng(3)
    rate = rng.gamma(1.0, 0.5, size=(6000, 1))
    repeats = rng.poisson(rate, size=(20, 6000, 1)).astype(float)
    found = response_reliability(_recording(repeats), draws=20)
    assert found["split_half_full"].item() == pytest.approx(found["cc_max"].item() ** 2, abs=0.01)
    truth = rate.var() / (rate.var() + rate.mean() / 20)
    assert found["split_half_full"].item() == pytest.approx(truth, abs=0.02)
    assert found["fano"].item() == pytest.approx(1, abs=0.03)
    assert found["split_half_low"] < found["split_half"] < found["split_half_high"]
    assert found.attrs["splits"] == 200


def test_interval_of_the_split_half_covers_the_truth():
    rng = np.random.default_rng(5)
    rate = rng.gamma(1.0, 0.5, size=(1800, 1, 1)) * np.ones((1, 1, 150))
    repeats = rng.poisson(np.moveaxis(rate, 1, 0) * np.ones((4, 1, 1))).astype(float)
    found = response_reliability(_recording(repeats), draws=200)
    spread, noise = rate[:, 0, 0].var(), rate.mean() / 2
    truth = spread / (spread + noise)
    inside = (found["split_half_low"] < truth) & (truth < found["split_half_high"])
    assert float(inside.mean()) > 0.85


def test_no_signal_is_nan_with_a_reason_and_never_clipped():
    rng = np.random.default_rng(1)
    repeats = rng.poisson(0.5, size=(2, 300, 40)).astype(float)
    repeats[:, :, 0] = 0
    repeats[:, 10, 1] = np.nan
    found = response_reliability(_recording(repeats), draws=50)
    without = found["signal_power"].values <= 0
    assert without.any() and (found["signal_power"] < 0).any()
    assert np.isnan(found["cc_max"].values[without]).all()
    reason = found["reason"].sel(measure="cc_max").values
    assert set(reason[without]) == {"repeats share no signal above their noise"}
    assert (reason[~without] == "").all()
    assert np.isnan(found["split_half"][0]) and np.isnan(found["fano"][0])
    assert (found["split_half"][1:] < 0).any()
    kept = np.delete(repeats[:, :, 1], 10, axis=1)
    assert found["split_half"][1].item() == pytest.approx(np.corrcoef(kept)[0, 1])


def test_drawing_holds_the_numbers_and_bad_calls_are_refused(planted):
    repeats, _ = planted
    recording = _recording(repeats)
    found = response_reliability(recording, np.arange(600), draws=20)
    np.testing.assert_allclose(found["cc_max"], cc_max(repeats[:, :600]), rtol=1e-9)
    ax = draw_reliability(found, figure().subplots())
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.sort(found["split_half"]))
    with pytest.raises(InputError, match="measure: expected one of"):
        draw_reliability(found, ax, measure="r")
    with pytest.raises(InputError, match="at least two repeats"):
        response_reliability(recording.drop_vars("repeats"))


def test_a_lone_spike_is_no_signal():
    rng = np.random.default_rng(0)
    repeats = np.zeros((9, 581, 20))
    for cell in range(20):
        repeats[cell % 9, rng.integers(581), cell] = 1
    found = response_reliability(_recording(repeats), draws=5)
    assert np.isnan(found["cc_max"]).all() and (found["signal_power"] <= 0).all()
