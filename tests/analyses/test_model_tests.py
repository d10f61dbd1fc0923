"""Tests between models against scipy, exact enumeration and planted differences."""

import warnings

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from statsmodels.stats.multitest import multipletests

from retinacodec.analyses.comparison import compare_models
from retinacodec.analyses.model_tests import least_p, model_tests, paired_tests
from retinacodec.errors import InputError
from retinacodec.schema import make_recording

RATE = 60.0


def _planted(cells, noise, seed=0, frames=3000):
    """Return counts and predictions with independent relative errors of each model."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 10.0, size=(frames, cells))
    names = [f"c{k}" for k in range(cells)]
    time = np.arange(frames) / RATE
    counts = rng.poisson(truth / RATE)
    recording = make_recording(counts, time=time, frame_rate=RATE, cells=names)
    rates = {}
    for name, size in noise.items():
        wrong = truth * np.exp(size * rng.normal(size=truth.shape))
        rates[name] = xr.DataArray(
            wrong, dims=("time", "cell"), coords={"time": time, "cell": names}
        )
    return rates, recording


def test_six_cells_reach_one_in_thirty_two_and_no_less():
    found = paired_tests([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert float(found["p_wilcoxon"]) == pytest.approx(2 / 64)
    assert float(found["p_permutation"]) == pytest.approx(2 / 64)
    assert float(found["least_p"]) == least_p(6) == pytest.approx(1 / 32)
    assert float(found["effect"]) == 1.0
    assert int(found["cells"]) == 6


def test_p_values_equal_scipy():
    rng = np.random.default_rng(1)
    for count in (9, 60):
        values = rng.normal(0.25, 1, count)
        found = paired_tests(np.append(values, np.nan), permutations=20000)
        assert float(found["p_wilcoxon"]) == pytest.approx(scipy.stats.wilcoxon(values).pvalue)
        peer = scipy.stats.permutation_test(
            (values,),
            lambda x, axis: np.mean(x, axis=axis),
            permutation_type="samples",
            n_resamples=20000,
            rng=2,
        ).pvalue
        assert float(found["p_permutation"]) == pytest.approx(peer, abs=0.01)
        ranks = scipy.stats.rankdata(np.abs(values))
        effect = (ranks * np.sign(values)).sum() / ranks.sum()
        assert float(found["effect"]) == pytest.approx(effect)
        assert found["effect_low"] < effect < found["effect_high"]


def test_p_values_of_no_difference_are_uniform():
    rng = np.random.default_rng(2)
    p = [float(paired_tests(rng.normal(size=30), draws=20, permutations=199)["p_permutation"])
         for _ in range(200)]  # fmt: skip
    assert 0.02 <= np.mean(np.array(p) <= 0.1) <= 0.18
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01


def test_too_few_or_equal_values_are_said():
    assert np.isnan(paired_tests([0.3])["p_wilcoxon"])
    same = paired_tests(np.zeros(5))
    assert float(same["p_wilcoxon"]) == 1 and float(same["p_permutation"]) == 1
    assert float(same["effect"]) == 0


def test_a_better_model_is_found_and_corrected_over_pairs_and_metrics():
    rates, recording = _planted(12, {"good": 0.1, "bad": 0.8, "same": 0.8})
    found = model_tests(rates, recording, draws=400)
    assert found["pair"].values.tolist() == ["good - bad", "good - same", "bad - same"]
    assert found["metric"].values.tolist() == ["r", "bits_per_spike", "explained_deviance"]
    good = found.sel(pair="good - bad", metric="r")
    assert float(good["p_wilcoxon"]) == pytest.approx(least_p(12))
    assert int(good["better"]) == 12 and int(good["worse"]) == 0
    assert (good["difference_low"] > 0).all()
    q = multipletests(found["p_wilcoxon"].values.ravel(), method="fdr_bh")[1]
    np.testing.assert_allclose(found["q_wilcoxon"].values.ravel(), q)
    q = multipletests(good["p_cell"].values, method="fdr_bh")[1]
    np.testing.assert_allclose(good["q_cell"], q)
    compared = compare_models(rates, recording, draws=400)
    np.testing.assert_allclose(
        found["difference"].sel(metric="r"), compared["difference_r"], rtol=1e-12
    )
    np.testing.assert_allclose(
        found["difference_low"].sel(metric="r"), compared["difference_r_low"], rtol=1e-12
    )


def test_equal_models_are_rarely_called_different_in_a_cell():
    rates, recording = _planted(150, {"one": 0.5, "two": 0.5}, seed=4)
    found = model_tests(rates, recording, metrics=["r"], draws=300).isel(pair=0, metric=0)
    assert 0.01 <= float((found["p_cell"] < 0.05).mean()) <= 0.11
    assert int(found["better"] + found["worse"]) <= 2


def test_bad_calls_are_refused():
    rates, recording = _planted(2, {"one": 0.5, "two": 0.5})
    with pytest.raises(InputError, match="at least two models"):
        model_tests({"one": rates["one"]}, recording)
    with pytest.raises(InputError, match="no cc_norm; there are r, bits"):
        model_tests(rates, recording, metrics=["cc_norm"])
    with pytest.raises(InputError, match="at least 1 s"):
        model_tests(rates, recording, block_seconds=0.1)


def test_an_infinitely_worse_cell_is_not_left_out():
    rates, recording = _planted(8, {"one": 0.2, "two": 0.2}, seed=3)
    spiked = np.flatnonzero(recording["spike_count"].values[:, 0])[0]
    rates["two"][spiked, 0] = 0.0
    found = model_tests(rates, recording, metrics=["bits_per_spike"], draws=50).isel(pair=0)
    one = found.isel(metric=0)
    assert int(one["cells"]) == 8 and np.isposinf(one["mean"])
    values = one["difference"].values
    ranked = np.where(np.isinf(values), 99.0, values)
    assert float(one["p_wilcoxon"]) == pytest.approx(scipy.stats.wilcoxon(ranked).pvalue)
    assert np.isnan(one["p_permutation"]) and np.isnan(one["p_cell"][0])
    assert np.isfinite(one["p_cell"][1:]).all()


def test_silent_unobserved_and_single_cells_give_reasons_and_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates, recording = _planted(4, {"one": 0.3, "two": 0.6}, seed=5, frames=600)
        counts = recording["spike_count"].values
        counts[:, 0] = 0
        counts[:, 1] = np.nan
        rates["two"][:, 2] = np.nan
        found = compare_models(rates, recording, draws=60)
        assert np.isnan(found["r"].values[:, :2]).all() and (found["reason"][0, :, 0] != "").all()
        assert np.isfinite(found["r"].values[:, 3]).all() and np.isfinite(found["mean_r"]).all()
        tests = model_tests(rates, recording, draws=60)
        assert np.isnan(tests["p_wilcoxon"]).all() and (tests["cells"] == 1).all()
        alone = {name: rate[:, 3:] for name, rate in rates.items()}
        single = compare_models(alone, recording.isel(cell=[3]), draws=60)
        for end in ("", "_low", "_high"):
            np.testing.assert_allclose(single[f"mean_r{end}"], single[f"r{end}"][:, 0])
        short = compare_models(alone, recording.isel(cell=[3]), np.arange(50), draws=60)
        assert short.attrs["blocks"] == 1 and np.isnan(short["r_low"]).all()
