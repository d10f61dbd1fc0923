"""Numbers of time courses against closed forms."""

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import brentq, minimize_scalar

from retinacodec.analyses.kernel_summary import kernel_summary
from retinacodec.errors import InputError

FRAME = 1 / 60
LAG = np.arange(-29, 1) * FRAME


def _gammas(t, weight):
    """A difference of two gamma kernels of order 5, time t before the response in s."""

    def gamma(tau):
        return np.where(t > 0, t / tau, 0.0) ** 5 * np.exp(5 * (1 - t / tau))

    return gamma(0.06) - weight * gamma(0.12)


def _course(values, lag=LAG):
    return xr.DataArray(values, [("lag", lag)])


@pytest.mark.parametrize("weight", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_difference_of_gammas_has_its_peak_crossing_trough_and_width(weight, sign):
    found = kernel_summary(_course(sign * _gammas(-LAG, weight)))
    inverse = minimize_scalar(lambda t: -_gammas(t, weight), bounds=(0.02, 0.1), method="bounded")
    low = minimize_scalar(lambda t: _gammas(t, weight), bounds=(0.08, 0.3), method="bounded")
    peak, top = float(inverse.x), float(-inverse.fun)
    cross = brentq(lambda t: _gammas(t, weight), peak, float(low.x))
    ends = [
        brentq(lambda t: _gammas(t, weight) - top / 2, *span)
        for span in ((1e-3, peak), (peak, cross))
    ]
    assert found["polarity"] == sign and found["reason"] == ""
    assert float(found["time_to_peak"]) == pytest.approx(1000 * peak, abs=0.7)
    assert float(found["zero_crossing"]) == pytest.approx(1000 * cross, abs=0.7)
    assert float(found["time_to_trough"]) == pytest.approx(1000 * float(low.x), abs=0.7)
    assert float(found["biphasic_index"]) == pytest.approx(-float(low.fun) / top, abs=0.01)
    assert float(found["duration"]) == pytest.approx(1000 * (ends[1] - ends[0]), abs=1.0)


def test_zero_crossing_in_closed_form():
    """Two gammas of one order cross where (t/a)^n e^{n(1-t/a)} = w (t/b)^n e^{n(1-t/b)}."""
    cross = (np.log(0.12 / 0.06) - np.log(0.6) / 5) / (1 / 0.06 - 1 / 0.12)
    found = kernel_summary(_course(_gammas(-LAG, 0.6)))
    assert float(found["zero_crossing"]) == pytest.approx(1000 * cross, abs=0.5)


def test_a_gamma_is_monophasic_and_a_deeper_trough_is_still_a_trough():
    alone = kernel_summary(_course(_gammas(-LAG, 0.0)))
    assert np.isnan(alone["zero_crossing"]) and np.isnan(alone["time_to_trough"])
    assert alone["biphasic_index"] == 0 and "monophasic" in alone["reason"].item()
    assert float(alone["time_to_peak"]) == pytest.approx(60, abs=0.5)
    deep = kernel_summary(_course(_gammas(-LAG, 1.3)))
    assert deep["polarity"] == 1 and float(deep["biphasic_index"]) > 1
    strict = kernel_summary(_course(_gammas(-LAG, 1.3)), lobe=1.0)
    assert strict["polarity"] == -1


def test_shift_by_a_latency_shifts_the_times_and_units_do_not_matter():
    values = _gammas(-LAG, 0.6)
    now = kernel_summary(_course(values))
    later = kernel_summary(_course(1e3 * values, LAG - 2 * FRAME))
    for name in ("time_to_peak", "zero_crossing", "time_to_trough"):
        assert float(later[name] - now[name]) == pytest.approx(2000 / 60, abs=1e-6)
    for name in ("duration", "biphasic_index"):
        assert float(later[name]) == pytest.approx(float(now[name]), rel=1e-9)


def test_drawn_intervals_have_the_spread_of_repeated_recordings():
    truth = _gammas(-LAG, 0.6)
    noisy = truth + 0.05 * np.random.default_rng(0).normal(size=(150, LAG.size))
    many = xr.DataArray(noisy, [("cell", np.arange(150)), ("lag", LAG)])
    plain = kernel_summary(many)
    found = kernel_summary(many.isel(cell=slice(0, 40)), standard_error=0.05, draws=100, seed=1)
    exact = kernel_summary(_course(truth))
    for name in ("time_to_peak", "zero_crossing"):
        width = float((found[f"{name}_high"] - found[f"{name}_low"]).mean()) / (2 * 1.96)
        assert width == pytest.approx(float(plain[name].std()), rel=0.3), name
        inside = (found[f"{name}_low"] <= exact[name]) & (exact[name] <= found[f"{name}_high"])
        assert float(inside.mean()) >= 0.85, name
    again = kernel_summary(many.isel(cell=slice(0, 2)), standard_error=0.05, draws=100, seed=1)
    xr.testing.assert_identical(again, found.isel(cell=slice(0, 2)))


def test_replicates_give_the_percentiles_of_their_own_numbers():
    rng = np.random.default_rng(2)
    values = _gammas(-LAG, 0.6) + 0.03 * rng.normal(size=(60, LAG.size))
    again = xr.DataArray(values, dims=("replicate", "lag"))
    found = kernel_summary(_course(_gammas(-LAG, 0.6)), replicates=again, level=0.8)
    each = kernel_summary(xr.DataArray(values, [("cell", np.arange(60)), ("lag", LAG)]))
    low, high = np.quantile(each["time_to_peak"], [0.1, 0.9])
    assert float(found["time_to_peak_low"]) == pytest.approx(low)
    assert float(found["time_to_peak_high"]) == pytest.approx(high)


def test_noise_alone_makes_no_trough():
    rng = np.random.default_rng(3)
    noisy = _gammas(-LAG, 0.0) + 0.05 * rng.normal(size=(100, LAG.size))
    many = xr.DataArray(noisy, [("cell", np.arange(100)), ("lag", LAG)])
    found = kernel_summary(many, standard_error=0.05, draws=2)
    assert float(np.isnan(found["zero_crossing"]).mean()) > 0.9


def test_bad_time_courses_are_flagged_and_bad_calls_refused():
    rows = np.zeros((3, LAG.size))
    rows[1] = np.nan
    rows[2, -1] = 1
    found = kernel_summary(xr.DataArray(rows, [("cell", list("abc")), ("lag", LAG)]))
    assert np.isnan(found["time_to_peak"]).all()
    assert found["reason"].values.tolist() == [
        "the time course is zero",
        "it is not finite",
        "the peak lies at the end of the window",
    ]
    with pytest.raises(InputError, match="dims"):
        kernel_summary(xr.DataArray(np.ones(5), dims="time"))
    with pytest.raises(InputError, match="equal steps"):
        kernel_summary(_course(np.ones(5), [-0.5, -0.3, -0.2, -0.1, 0.0]))
    with pytest.raises(InputError, match="at least 4"):
        kernel_summary(_course(np.ones(3), LAG[-3:]))
    with pytest.raises(InputError, match=r"lobe.*draws"):
        kernel_summary(_course(_gammas(-LAG, 0.6)), lobe=0.0, draws=1)
    with pytest.raises(InputError, match="at least 0"):
        kernel_summary(_course(_gammas(-LAG, 0.6)), standard_error=-1.0)
