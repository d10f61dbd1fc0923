import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.recordings import (
    bin_spikes,
    dropped_frames,
    frame_durations,
    split_blocks,
)


def slow_counts(trains, flips, ends):
    return np.array(
        [
            [sum(a <= t < b for t in train) for train in trains]
            for a, b in zip(flips, ends, strict=True)
        ],
        float,
    )


def test_counts_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    flips = np.sort(rng.uniform(3, 6, 80))
    trains = [rng.uniform(2, 7, n) for n in (0, 1, 300, 40)]
    ends = flips + frame_durations(flips, max_gap=1e9)
    counts = bin_spikes(trains, flips, max_gap=1e9)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, slow_counts(trains, flips, ends))
    assert counts[:, 2].sum() > 100


@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.3, 0.9, 5.0])
@pytest.mark.parametrize("gaps", [(), (40,), (3, 50, 51, 90)])
def test_irregular_flips_and_gaps_give_the_counts_of_a_search(spread, gaps):
    rng = np.random.default_rng(5)
    intervals = np.exp(spread * rng.normal(size=119)) / 30
    intervals[list(gaps)] *= 40
    flips = -3.7 + np.concatenate([[0], np.cumsum(intervals)])
    exact = np.concatenate([flips, flips[:-1] + intervals / 2])  # on the flips themselves, too
    trains = [rng.permutation(exact), rng.uniform(flips[0] - 1, flips[-1] + 1, 500)]
    for max_gap in (3.0, 1e9):
        ends = flips + frame_durations(flips, max_gap=max_gap)
        shown = np.isclose(ends[:-1], flips[1:], rtol=0, atol=1e-9)
        ends[:-1][shown] = flips[1:][shown]  # without the rounding of a sum of differences
        expected = slow_counts(trains, flips, ends)
        np.testing.assert_array_equal(bin_spikes(trains, flips, max_gap=max_gap), expected)


def test_a_frame_holds_its_own_flip_and_not_the_next():
    flips = np.array([1.0, 1.5, 2.0])
    counts = bin_spikes([[0.999, 1.0, 1.4999, 1.5, 2.0, 2.4999, 2.5]], flips)
    assert counts[:, 0].tolist() == [2, 1, 2]


def test_one_dropped_frame_moves_no_spike():
    intervals = np.full(200, 1 / 30)
    intervals[100] *= 2
    flips = np.concatenate([[0], np.cumsum(intervals)])[:200]
    middles = flips + 1e-3
    counts = bin_spikes([middles], flips)
    np.testing.assert_array_equal(counts, 1)
    assert dropped_frames(flips).tolist() == [100]
    nominal = bin_spikes([middles], np.arange(200) / 30)
    assert (nominal != 1).any()  # what a constant frame rate would have made of it


def test_spikes_in_a_long_gap_belong_to_no_frame():
    flips = np.array([0.0, 0.1, 0.2, 1.2, 1.3, 1.4])
    counts = bin_spikes([[0.25, 0.5, 1.0, 1.25]], flips)
    assert counts[:, 0].tolist() == [0, 0, 1, 1, 0, 0]
    assert bin_spikes([[0.25, 0.5, 1.0, 1.25]], flips, max_gap=20)[2, 0] == 3


def test_the_last_frame_gets_the_median_interval():
    assert frame_durations([0, 1, 2, 4.0]).tolist() == [1, 1, 2, 1]


def test_bins_outside_observation_are_nan_for_each_cell():
    flips = np.arange(6) / 10
    trains = [[0.05, 0.35], [0.05, 0.35]]
    both = bin_spikes(trains, flips, obs_intervals=np.array([[0.0, 0.2], [0.2, 0.4]]))
    np.testing.assert_array_equal(both[:, 0], [1, 0, 0, 1, np.nan, np.nan])
    each = bin_spikes(trains, flips, obs_intervals=[[[0.1, 0.3]], np.empty((0, 2))])
    np.testing.assert_array_equal(each[:, 0], [np.nan, 0, 0, np.nan, np.nan, np.nan])
    assert np.isnan(each[:, 1]).all()


@pytest.mark.parametrize(
    ("flips", "message"),
    [
        ([0.0], "at least 2 times"),
        ([[0.0, 1.0]], "one dimension"),
        ([0.0, 1.0, np.nan], "got nan at 2"),
        ([0.0, 1.0, 1.0], "frame 2 does not come after"),
        ([0.0, 1.0, 0.5], "frame 2 does not come after"),
    ],
)
def test_bad_flip_times_are_refused(flips, message):
    with pytest.raises(InputError, match=message):
        bin_spikes([[0.1]], flips)


def test_all_bad_cells_are_named_in_one_message():
    with pytest.raises(InputError, match=r"cell 1 has 1 spike times.*cell 2 has shape \(1, 1\)"):
        bin_spikes([[0.1], [np.nan], [[0.2]]], [0, 1, 2])
    with pytest.raises(InputError, match="each of 2 cells, got 1"):
        bin_spikes([[0.1], [0.2]], [0, 1, 2], obs_intervals=[[[0.0, 1.0]]])
    with pytest.raises(InputError, match="start before stop"):
        bin_spikes([[0.1]], [0, 1, 2], obs_intervals=[[[1.0, 0.0]]])


def touched(responses, history, latency):
    window = np.arange(-latency - history + 1, 1)  # the window, the latency and the response
    return set((responses[:, None] + window).ravel().tolist())


@pytest.mark.parametrize("history", [1, 5, 24, 40])
@pytest.mark.parametrize("latency", [0, 1, 3])
@pytest.mark.parametrize(
    ("frames", "blocks", "every"),
    [(300, 60, 10), (301, 7, 2), (1000, 60, 10), (1999, 60, 3), (2400, 24, 10), (6001, 60, 5)],
)
def test_no_window_of_one_set_shares_a_frame_with_another(frames, blocks, every, history, latency):
    if frames < 6 * (history + latency):
        pytest.skip("shorter than three blocks of two windows")
    split = split_blocks(
        frames,
        history=history,
        latency=latency,
        blocks=blocks,
        test_every=every,
        validation_every=every,
    )
    sets = [split.train, split.validation, split.test]
    frames_of = [touched(part, history, latency) for part in sets]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not frames_of[first] & frames_of[second]
    for part, used in zip(sets, frames_of, strict=True):
        assert part.size > 0 and min(used) >= 0 and max(used) < frames
        assert (np.diff(part) > 0).all()


def test_the_default_holds_out_a_tenth_for_each_set_spread_over_the_movie():
    split = split_blocks(72000, history=24)
    assert len(split.test) == len(split.validation) == 6 * (1200 - 23)
    for held in (split.test, split.validation):
        assert len(set((held // 12000).tolist())) == 6  # one block in every sixth of the movie
    assert len(split.train) > 0.77 * 72000


def test_without_held_out_blocks_every_window_is_used():
    split = split_blocks(100, history=5, latency=1, test_every=0, validation_every=0)
    assert split.train.tolist() == list(range(5, 100))
    assert split.test.size == split.validation.size == 0


def test_a_short_movie_is_refused_with_the_number_it_needs():
    with pytest.raises(InputError, match="at least 240 frames"):
        split_blocks(239, history=40)
    assert split_blocks(240, history=40).test.size == 41
    with pytest.raises(InputError, match=r"history: expected 1 or more, got 0; .*got 1"):
        split_blocks(239, history=0, test_every=1)
