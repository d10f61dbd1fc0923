import h5py
import numpy as np
import pytest

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb_on_frames import binned_on_flips, traces_on_flips

FLIPS = 3.0 + np.arange(600) / 60
RNG = np.random.default_rng(0)


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "lab.nwb", "w") as opened:
        yield opened


def add(file, place, data, times, *, kind="TimeSeries", unit="Hz"):
    series = file.create_group(place)
    series.attrs["neurodata_type"] = kind
    series["data"], series["timestamps"] = data, times
    series["data"].attrs.update({"unit": unit, "conversion": 1.0})
    return series


def test_a_potential_follows_the_flips_of_every_presentation(file, caplog):
    times = np.arange(2.0, 16.0, 1e-3) + 1e-5
    add(file, "acquisition/Vm", times * 1e-3, times, kind="CurrentClampSeries", unit="volts")
    shown = (FLIPS[:240], FLIPS[:240] + 5, FLIPS[:240] + 11)
    trace, repeats, series = traces_on_flips(file, "f", shown)
    assert repeats.shape == (3, 240, 1) and series.cells == ("Vm",)
    for flips, repeat in zip(shown[:2], repeats[:2], strict=True):
        np.testing.assert_allclose(repeat[:, 0], (flips + 1 / 120) * 1e-3, atol=1e-6)
    last = shown[2] + 1 / 60 <= 16.0 + 1e-3
    assert np.isfinite(repeats[2, :, 0]).tolist() == last.tolist() and 0 < last.sum() < 240
    expected = np.nanmean(repeats.astype(float), axis=0)
    np.testing.assert_allclose(trace, expected, rtol=1e-6)
    one, none, _ = traces_on_flips(file, "f", shown[:1])
    assert none is None
    np.testing.assert_array_equal(one, repeats[0])
    with pytest.raises(
        RecordingError, match=r"no frame of the movie has a value of acquisition/Vm: s"
    ):
        traces_on_flips(file, "f", (FLIPS + 100,))


def test_slow_fluorescence_is_interpolated_and_gaps_stay_empty(file):
    times = np.r_[np.arange(2, 6, 0.13), np.arange(8, 14, 0.13)]
    values = RNG.normal(size=(times.size, 5))
    series = add(file, "processing/ophys/dff", values, times, kind="RoiResponseSeries", unit="n.a.")
    series["rois"] = np.arange(5)
    trace, _, found = traces_on_flips(file, "f", (FLIPS,), cells=["4", "1"])
    centres = FLIPS + 1 / 120
    gap = (centres > times[times < 7].max()) & (centres < 8)
    assert np.isnan(trace).any(1).tolist() == gap.tolist() and found.cells == ("4", "1")
    for column, cell in enumerate((4, 1)):
        expected = np.interp(centres, times, values[:, cell])
        np.testing.assert_allclose(trace[~gap, column], expected[~gap], atol=1e-6)


def test_rates_of_bins_that_are_the_frames_become_counts(file):
    counts = RNG.poisson(1.5, (640, 3)).astype(float)
    times = FLIPS[0] - 20 / 60 + np.arange(640) / 60 + 0.001
    add(file, "processing/ecephys/rates", counts * 60, times)
    got, repeats, series = binned_on_flips(file, "f", (FLIPS,))
    np.testing.assert_allclose(got, counts[20:620], atol=1e-5)
    assert repeats is None and series.unit == "Hz"
    halves = (FLIPS[:300], FLIPS[300:])
    mean, repeats, _ = binned_on_flips(file, "f", halves, cells=["2"])
    np.testing.assert_allclose(repeats[1, :, 0], counts[320:620, 2], atol=1e-5)
    np.testing.assert_allclose(mean[:, 0], counts[20:620, 2].reshape(2, 300).mean(0), atol=1e-5)
    late, _, _ = binned_on_flips(file, "f", (FLIPS + 2.0,))
    assert np.isfinite(late[:, 0]).sum() == 500
    np.testing.assert_allclose(late[:500], counts[140:], atol=1e-5)


def test_a_unit_that_may_be_either_needs_the_user_s_word(file, caplog):
    counts = RNG.poisson(1.5, (600, 2)).astype(np.uint8)
    series = add(file, "analysis/psth", counts, FLIPS, unit="spikes")
    with pytest.raises(
        RecordingError, match=r"in 'spikes', which may be counts or rates; say which"
    ):
        binned_on_flips(file, "f", (FLIPS,))
    np.testing.assert_array_equal(binned_on_flips(file, "f", (FLIPS,), quantity="count")[0], counts)
    as_rate = binned_on_flips(file, "f", (FLIPS,), quantity="rate")[0]
    np.testing.assert_allclose(as_rate, counts / 60, rtol=1e-6)
    series["data"].attrs["unit"] = "Hz"
    np.testing.assert_array_equal(binned_on_flips(file, "f", (FLIPS,), quantity="count")[0], counts)
    assert "analysis/psth is in Hz, but read as counts" in caplog.text
    with pytest.raises(InputError, match="quantity: expected 'rate' or 'count', got 'spikes'"):
        binned_on_flips(file, "f", (FLIPS,), quantity="spikes")


def test_a_frame_that_stayed_for_two_bins_takes_both(file):
    flips = np.delete(FLIPS, [100, 300, 301])  # one dropped flip, and then two in a row
    counts = RNG.poisson(2, (600, 1)).astype(float)
    add(file, "analysis/psth", counts, FLIPS, unit="count")
    got = binned_on_flips(file, "f", (flips,), quantity="count", max_gap=4)[0][:, 0]
    expected = np.add.reduceat(counts[:, 0], np.searchsorted(FLIPS, flips))
    np.testing.assert_array_equal(got, expected)
    assert got.sum() == counts.sum()


def test_bins_that_begin_at_flips_last_as_long_as_the_frames(file):
    flips = np.delete(FLIPS, [100, 300, 301])
    counts = RNG.poisson(2, (flips.size, 1)).astype(float)
    series = add(file, "analysis/psth", counts, flips, unit="count")
    got = binned_on_flips(file, "f", (flips,), quantity="count", max_gap=4)[0]
    np.testing.assert_array_equal(got, counts)
    lengths = np.diff(np.append(flips, flips[-1] + 1 / 60))
    series["data"][...] = counts / lengths[:, None]
    rates = binned_on_flips(file, "f", (flips,), quantity="rate", max_gap=4)[0]
    np.testing.assert_allclose(rates, counts, atol=1e-5)


def test_what_this_package_writes_comes_back(tmp_path):
    from retinacodec.hdf5_safety import open_hdf5
    from retinacodec.nwb import write_nwb
    from retinacodec.schema import make_stimulus
    from retinacodec.traces import make_traces

    shown = make_stimulus(
        RNG.choice([-1, 1], (200, 4, 4)).astype(np.float32), frame_rate=30, pixel_um=50, name="m"
    )
    values = RNG.normal(-50, 5, (200, 3)).astype(np.float32)
    for unit, settings, factor in (
        ("mV", {"name": "CurrentClampSeries"}, 1e-3),
        ("dF/F", {}, 1.0),
        ("Hz", {}, 1.0),
    ):
        given = make_traces(
            values, time=shown["time"].values, frame_rate=30, cells=["a/1", "b", "c"], units=unit
        )
        path = write_nwb(tmp_path / f"{unit[0]}.nwb", shown, traces=given)
        with open_hdf5(path) as file:
            trace, _, series = traces_on_flips(
                file, str(path), (shown["time"].values,), cells=["c", "a/1"], **settings
            )
        assert series.cells == ("c", "a/1")
        np.testing.assert_allclose(trace, values[:, [2, 0]] * factor, rtol=1e-6)


def test_bins_missing_in_a_gap_leave_frames_empty(file):
    keep = np.r_[0:200, 260:600]
    add(file, "analysis/psth", np.ones((540, 1)), FLIPS[keep], unit="count")
    got = binned_on_flips(file, "f", (FLIPS,), quantity="count")[0][:, 0]
    assert np.flatnonzero(np.isnan(got)).tolist() == list(range(200, 260))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.arange(1000) * 0.01 + 3, r"has bins of 10 ms against frames of 16\.67 ms; give the sp"),
        (np.arange(300) / 30 + 3, r"has bins of 33\.33 ms against frames of 16\.67 ms"),
        (
            np.arange(606) / 60.5 + 3,
            r"drift against the frames: \d+ of 600 frames hold none or too",
        ),
        (FLIPS + 1 / 120, r"begin half a bin \(8\.333 ms\) off the flips; are these the centres"),
        (FLIPS + 100, "no frame of the movie has a value"),
    ],
)
def test_bins_that_are_not_the_frames_are_refused(file, times, message):
    add(file, "analysis/rates", np.ones((times.size, 2)), times)
    with pytest.raises(RecordingError, match=message) as caught:
        binned_on_flips(file, "f", (FLIPS,))
    assert "\n" not in str(caught.value)


def test_bins_a_little_off_the_flips_are_taken_with_a_notice(file, caplog):
    add(file, "analysis/rates", np.full((600, 1), 60.0), FLIPS + 0.004)
    np.testing.assert_allclose(binned_on_flips(file, "f", (FLIPS,))[0], 1, rtol=1e-6)
    assert "begin 4 ms off the flips; they are taken as the frames" in caplog.text


def test_what_cannot_be_spikes_is_refused(file):
    add(file, "analysis/score", RNG.normal(size=(600, 2)), FLIPS)
    with pytest.raises(RecordingError, match=r"goes down to -.*, and spikes cannot be fewer"):
        binned_on_flips(file, "f", (FLIPS,))
    del file["analysis"]
    add(file, "processing/ophys/f", np.ones((600, 2)), FLIPS, kind="RoiResponseSeries", unit="n.a.")
    with pytest.raises(RecordingError, match="has no sampled responses"):
        binned_on_flips(file, "f", (FLIPS,))
    with pytest.raises(
        RecordingError, match=r"is a RoiResponseSeries in n\.a\., which is no count"
    ):
        binned_on_flips(file, "f", (FLIPS,), name="f", quantity="count")
