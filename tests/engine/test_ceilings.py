"""Noise ceilings on simulated repeats whose signal and noise are known."""

import numpy as np
import pytest

from retinacodec.ceilings import cc_max, cc_norm, feve, jackknife_oracle, signal_power
from retinacodec.errors import InputError
from retinacodec.metrics import UndefinedMetric, pearson


@pytest.fixture(scope="module")
def simulated():
    """Signal of variance 4 and noise of variance 9 in eight repeats of 40 000 frames."""
    rng = np.random.default_rng(0)
    signal = 2 * rng.normal(size=40_000)
    return signal, signal + 3 * rng.normal(size=(8, 40_000))


def test_signal_power_and_ceiling_equal_their_closed_forms(simulated):
    _, repeats = simulated
    assert signal_power(repeats) == pytest.approx(4, rel=0.03)
    assert cc_max(repeats) == pytest.approx(np.sqrt(4 / (4 + 9 / 8)), abs=0.005)


def test_cc_norm_is_one_for_the_signal_and_the_true_correlation_for_a_noisy_model(simulated):
    signal, repeats = simulated
    noise = np.random.default_rng(1).normal(size=signal.size)
    assert cc_norm(repeats, signal) == pytest.approx(1, abs=0.005)
    model = signal + 1.5 * noise
    assert cc_norm(repeats, 10 * model + 3) == pytest.approx(2 / 2.5, abs=0.01)


def test_cc_norm_is_the_correlation_over_its_ceiling(simulated):
    signal, repeats = simulated
    short, model = repeats[:3, :500], signal[:500] ** 3
    exact = pearson(short.mean(0), model) / cc_max(short)
    assert cc_norm(short, model) == pytest.approx(float(exact), rel=1e-12)


def test_feve_equals_its_closed_forms(simulated):
    signal, repeats = simulated
    assert feve(repeats, signal) == pytest.approx(1, abs=0.01)
    assert feve(repeats, np.full_like(signal, repeats.mean())) == pytest.approx(0, abs=0.01)
    assert feve(repeats, 0.5 * signal) == pytest.approx(0.75, abs=0.01)


def test_oracle_equals_its_closed_form(simulated):
    _, repeats = simulated
    expected = 4 / np.sqrt((4 + 9) * (4 + 9 / 7))
    assert jackknife_oracle(repeats) == pytest.approx(expected, abs=0.005)


def test_poisson_repeats_give_one_for_the_true_rate():
    rng = np.random.default_rng(2)
    rate = rng.gamma(1.0, 0.3, size=(20_000, 2))
    repeats = rng.poisson(rate, size=(12, *rate.shape))
    np.testing.assert_allclose(cc_norm(repeats, rate), [1, 1], atol=0.02)
    np.testing.assert_allclose(feve(repeats, rate), [1, 1], atol=0.04)


def test_noise_without_signal_is_nan_with_the_reason():
    rng = np.random.default_rng(3)
    repeats = np.stack([np.ones(50), -np.ones(50)]) * rng.normal(size=50)
    with pytest.warns(UndefinedMetric, match="signal power is not above zero"):
        assert np.isnan(cc_norm(repeats, rng.normal(size=50)))
    with pytest.warns(UndefinedMetric, match="signal power"):
        assert np.isnan(cc_max(repeats))
    with pytest.warns(UndefinedMetric, match="no explainable variance"):
        assert np.isnan(feve(repeats, rng.normal(size=50)))
    with pytest.warns(UndefinedMetric, match="prediction does not vary"):
        assert np.isnan(cc_norm(rng.normal(size=50) + np.zeros((2, 1)), np.full(50, 0.1)))
    with pytest.warns(UndefinedMetric, match="no repeat varies"):
        assert np.isnan(jackknife_oracle(np.full((2, 9), 0.1)))


def test_frames_missing_from_one_repeat_are_left_out_of_all():
    rng = np.random.default_rng(4)
    signal = rng.normal(size=300)
    repeats = signal + rng.normal(size=(4, 300))
    gappy, keep = repeats.copy(), np.arange(300) % 7 > 0
    gappy[2, ~keep] = np.nan
    whole = repeats[:, keep]
    assert signal_power(gappy) == pytest.approx(float(signal_power(whole)), rel=1e-12)
    assert cc_norm(gappy, signal) == pytest.approx(float(cc_norm(whole, signal[keep])), rel=1e-12)
    assert feve(gappy, signal) == pytest.approx(float(feve(whole, signal[keep])), rel=1e-12)
    assert jackknife_oracle(gappy) == pytest.approx(float(jackknife_oracle(whole)), rel=1e-12)


def test_one_repeat_is_refused():
    with pytest.raises(InputError, match="at least 2 repeats"):
        cc_max(np.zeros((1, 50)))


def test_a_lone_spike_in_one_repeat_is_no_signal():
    """Its signal power is zero; what rounding leaves of it must not become a score."""
    rng = np.random.default_rng(0)
    repeats = np.zeros((9, 581, 40))
    for cell in range(40):
        repeats[cell % 9, rng.integers(581), cell] = 1 + cell % 3
    with pytest.warns(UndefinedMetric):
        norm = cc_norm(repeats, rng.gamma(1.0, 0.3, size=(581, 40)))
    with pytest.warns(UndefinedMetric):
        ceiling = cc_max(repeats)
    assert np.isnan(norm).all() and np.isnan(ceiling).all()
