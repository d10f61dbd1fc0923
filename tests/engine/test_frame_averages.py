import numpy as np
import pytest
import scipy.signal

from retinacodec.errors import InputError
from retinacodec.frame_averages import mean_of_repeats, median_interval, on_frames
from retinacodec.recordings import bin_spikes, frame_durations


def jittered_flips(frames=300, seed=0):
    """Flips at about 60 Hz with jitter, one dropped frame and one long gap."""
    steps = np.random.default_rng(seed).normal(1 / 60, 3e-4, frames)
    steps[100] *= 2
    steps[200] = 1.0
    return 5.0 + np.cumsum(steps)


def by_loop(times, values, flips, max_gap=3.0):
    """Frame by frame, as the definition says."""
    lengths = frame_durations(flips, max_gap=max_gap)
    step = np.median(np.diff(times))
    out = np.full((flips.size, values.shape[1]), np.nan)
    for frame, (start, stop) in enumerate(zip(flips, flips + lengths, strict=True)):
        at = np.flatnonzero((times >= start) & (times < stop))
        if not at.size:
            continue
        before = times[max(at[0] - 1, 0)] if at[0] else -np.inf
        after = times[at[-1] + 1] if at[-1] + 1 < times.size else np.inf
        led = times[at[0]] - before <= max_gap * step
        followed = after - times[at[-1]] <= max_gap * step
        reach = step * (1 + 1e-6)
        if (np.diff(times[at]) > max_gap * step).any():
            continue
        if not led and times[at[0]] - start > reach:
            continue
        if not followed and stop - times[at[-1]] > reach:
            continue
        for cell in range(values.shape[1]):
            here = values[at, cell]
            if np.isfinite(here).sum() * 2 >= here.size:
                out[frame, cell] = np.nanmean(here)
    return out


@pytest.mark.parametrize("rate", [130.0, 500.0, 10_000.0])
def test_fast_samples_are_averaged_over_the_exact_interval_of_each_frame(rate):
    noise = np.random.default_rng(1)
    times = 4.5 + np.arange(int(8 * rate)) / rate
    keep = (times < 6.2) | (times > 6.5)  # a gap as between two sweeps
    times = times[keep]
    values = noise.normal(size=(times.size, 3)) - 60
    values[noise.random(values.shape) < 0.1] = np.nan
    values[:, 1][(times > 7.5) & (times < 7.8)] = np.nan
    flips = jittered_flips()
    got, expected = on_frames(times, values, flips), by_loop(times, values, flips)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, atol=1e-5)  # float32 at -60
    assert 0.05 < np.isnan(got[:, 0]).mean() < 0.3
    exact = on_frames(times, values + 60, flips)
    np.testing.assert_allclose(exact, by_loop(times, values + 60, flips), atol=1e-6)


def test_slow_samples_are_numpy_s_linear_interpolation_at_the_centres():
    noise = np.random.default_rng(2)
    times = np.cumsum(noise.uniform(0.1, 0.2, 60))
    values = noise.normal(size=(60, 4))
    flips = np.arange(0.5, 12, 1 / 30)
    centres = flips + frame_durations(flips) / 2
    inside = (centres >= times[0]) & (centres <= times[-1])
    got = on_frames(times, values, flips)
    for cell in range(4):
        expected = np.interp(centres[inside], times, values[:, cell])
        np.testing.assert_allclose(got[inside, cell], expected, atol=1e-6)
    assert np.isnan(got[~inside]).all() and not np.isnan(got[inside]).any()
    assert (~inside).sum() > 10


def test_nothing_is_interpolated_across_a_gap_or_beside_nan():
    times = np.r_[0:5, 20:25].astype(float)
    values = np.arange(10.0)[:, None]
    values[2] = np.nan
    flips = np.arange(0, 26, 0.5) - 0.25  # centres on whole and half seconds
    got = on_frames(times, values, flips)[:, 0]
    centres = flips + 0.25
    finite = centres[np.isfinite(got)].tolist()
    assert finite == [0, 0.5, 1, 3, 3.5, 4, 20, 20.5, 21, 21.5, 22, 22.5, 23, 23.5, 24]
    np.testing.assert_allclose(got[np.isfinite(got)][:6], [0, 0.5, 1, 3, 3.5, 4])


def test_frames_of_a_gap_in_the_movie_last_one_median_interval():
    times = np.arange(0, 10, 0.01) + 1e-4
    flips = np.r_[np.arange(10) * 0.1, 5 + np.arange(10) * 0.1]
    got = on_frames(times, times[:, None], flips)[:, 0]
    np.testing.assert_allclose(got, flips + 0.0451, atol=1e-6)


@pytest.mark.parametrize(
    ("rate", "limit"), [(1000.0, 6e-3), (150.0, 0.05), (90.0, 0.01), (40, 0.03)]
)
def test_a_band_limited_signal_comes_back(rate, limit):
    noise = np.random.default_rng(3)
    tones = noise.uniform(0.2, 5, 12)
    phases = noise.uniform(0, 7, 12)

    def signal(at):
        return np.cos(2 * np.pi * tones * np.asarray(at)[:, None] + phases).sum(1)

    times = np.arange(0, 20, 1 / rate)
    flips = np.arange(1, 19, 1 / 60)
    got = on_frames(times, signal(times)[:, None], flips)[:, 0]
    error = got - signal(flips + 1 / 120)
    assert np.sqrt(np.mean(error**2)) / np.std(got) < limit


def test_one_sample_at_each_flip_is_the_value_of_its_frame():
    flips = jittered_flips()
    values = np.random.default_rng(8).normal(size=(600, 2))
    more = np.r_[flips, flips + 30.0]  # as for a second presentation
    np.testing.assert_array_equal(on_frames(more, values, flips), values[:300].astype(np.float32))
    np.testing.assert_array_equal(
        on_frames(more + 1e-7, values, flips + 30.0), values[300:].astype(np.float32)
    )
    some = np.delete(np.arange(600), [0, 50, 299])
    got = on_frames(more[some], values[some], flips)
    assert np.flatnonzero(np.isnan(got[:, 1])).tolist() == [0, 50, 299]
    np.testing.assert_array_equal(got[51:299], values[51:299].astype(np.float32))
    even = np.arange(300) / 60
    later = on_frames(even + 0.004, values[:300], even)[1:, 0]  # not at the flips: interpolated
    expected = np.interp(even[1:-1] + 1 / 120, even + 0.004, values[:300, 0])
    np.testing.assert_allclose(later[:-1], expected, atol=1e-6)
    half = on_frames(even[::2], values[:150], even)[:, 0]  # a camera at half the rate
    np.testing.assert_allclose(half[0], 0.75 * values[0, 0] + 0.25 * values[1, 0], atol=1e-6)


def test_whole_numbers_of_samples_a_frame_agree_with_a_box_filter():
    values = np.random.default_rng(4).normal(size=6000)
    times = np.arange(6000) / 600
    flips = np.arange(600) / 60
    box = scipy.signal.convolve(values, np.full(10, 0.1), mode="valid")[::10]
    got = on_frames(times + 1e-9, values[:, None], flips)[:, 0]
    np.testing.assert_allclose(got, box, atol=1e-6)


def test_frames_of_traces_are_frames_of_spikes():
    flips = jittered_flips()
    times = np.arange(4.0, 12.0, 1e-4)
    spikes = (np.random.default_rng(5).random(times.size) < 0.003).astype(float)
    counts = bin_spikes([times[spikes > 0]], flips)[:, 0]
    samples = bin_spikes([times], flips)[:, 0]
    np.testing.assert_allclose(
        on_frames(times, spikes[:, None], flips)[:, 0] * samples, counts, atol=1e-5
    )


def test_whole_numbers_and_single_precision_are_fine():
    times, flips = np.arange(100) / 10, np.arange(20) / 2
    values = np.arange(100)
    expected = on_frames(times, values[:, None].astype(float), flips)
    for kind in (np.int16, np.float32):
        np.testing.assert_array_equal(
            on_frames(times, values[:, None].astype(kind), flips), expected
        )


@pytest.mark.parametrize(
    ("times", "values", "message"),
    [
        (
            np.arange(5.0),
            np.zeros((4, 1)),
            "times and values: expected .*got \\(5,\\) and \\(4, 1\\)",
        ),
        (np.arange(5.0), np.zeros(5), "expected \\(sample,\\) and \\(sample, cell\\)"),
        (np.array([0, 1, 1.0]), np.zeros((3, 1)), "finite times that increase"),
        (np.array([0, np.nan, 1.0]), np.zeros((3, 1)), "finite times that increase"),
        (np.zeros(1), np.zeros((1, 1)), "2 samples or more"),
    ],
)
def test_samples_that_do_not_fit_their_times_are_refused(times, values, message):
    with pytest.raises(InputError, match=message):
        on_frames(times, values, np.arange(3.0))


def test_repeats_are_averaged_where_there_is_a_value():
    repeats = np.random.default_rng(6).normal(size=(5, 40, 3)).astype(np.float32)
    repeats[np.random.default_rng(7).random(repeats.shape) < 0.4] = np.nan
    repeats[:, 3, 1] = np.nan
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(RuntimeWarning)
        expected = np.nanmean(repeats.astype(float), axis=0)
    np.testing.assert_allclose(mean_of_repeats(list(repeats)), expected, rtol=1e-6)
    assert np.isnan(mean_of_repeats(list(repeats))[3, 1])
    assert mean_of_repeats([repeats[0]]) is not None


def test_the_median_interval_of_many_samples_is_that_of_some():
    assert median_interval(np.arange(1_000_000) / 10_000) == pytest.approx(1e-4)
    assert median_interval(np.array([0, 1.0, 2, 9])) == 1
