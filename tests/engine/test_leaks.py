"""No held-out response is predicted from frames that a fit has seen."""

import numpy as np
import pytest

from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.leaks import repeated_windows, seen_windows, shared_windows
from retinacodec.models import LinearNonlinear
from retinacodec.recordings import Split, split_blocks
from retinacodec.schema import make_stimulus
from retinacodec.training_checks import check_split, warn_of_repeats

HISTORIES = [(1, 0), (7, 0), (24, 1), (40, 3)]


def frames_of(responses, history, latency):
    """Every frame in the windows of some responses, by going through them one by one."""
    return {frame for t in responses for frame in range(t - latency - history + 1, t - latency + 1)}


@pytest.mark.parametrize(("history", "latency"), HISTORIES)
@pytest.mark.parametrize("frames", [997, 3000])
def test_a_split_shares_no_frame_within_the_history(frames, history, latency):
    split = split_blocks(frames, history=history, latency=latency)
    sets = [frames_of(part, history, latency) for part in (split.train, split.validation)]
    test = frames_of(split.test, history, latency)
    assert all(len(part) > history for part in (*sets, test))
    assert not (sets[0] & test or sets[1] & test or sets[0] & sets[1])
    assert shared_windows(split, history) == {}


@pytest.mark.parametrize("gap", [1, 2, 5, 6, 7])
def test_windows_are_shared_exactly_where_their_frames_are(gap):
    split = Split(np.arange(20, 60), np.arange(0), np.arange(59 + gap, 80))
    for history, latency in HISTORIES:
        test = frames_of(split.test, history, latency)
        leaks = sum(bool(frames_of([t], history, latency) & test) for t in split.train)
        assert shared_windows(split, history).get(("train", "test"), 0) == leaks


def test_a_split_of_random_frames_is_refused():
    frames = np.random.default_rng(0).permutation(np.arange(23, 1000))
    split = Split(np.sort(frames[:800]), np.arange(0), np.sort(frames[800:]))
    with pytest.raises(InputError, match=r"share frames.*800 of train with test.*split_blocks"):
        check_split(split, 1000, 23, history=24)
    gapped = split_blocks(1000, history=24)
    check_split(gapped, 1000, 23, history=24)


def test_a_movie_that_repeats_leaks_although_its_frames_do_not():
    rng = np.random.default_rng(1)
    once = rng.choice([-1.0, 1.0], (300, 4, 4))
    movie = make_stimulus(
        np.concatenate([once, once, rng.choice([-1.0, 1.0], (300, 4, 4))]),
        frame_rate=30,
        pixel_um=50,
        name="noise",
    )
    split = Split(np.arange(20, 300), np.arange(0), np.arange(310, 900))
    found = repeated_windows(movie, split, history=12, latency=2)
    windows = {t: movie["contrast"].values[t - 13 : t - 1].tobytes() for t in range(20, 900)}
    same = np.array([any(windows[t] == windows[s] for s in split.train) for t in split.test])
    np.testing.assert_array_equal(found, same)
    assert found.sum() == 280


def test_a_grey_pause_is_no_repeat():
    contrast = np.random.default_rng(2).normal(size=(400, 2, 2))
    contrast[50:100] = contrast[250:300] = 0
    movie = make_stimulus(contrast, frame_rate=30, pixel_um=50, name="noise")
    split = Split(np.arange(10, 150), np.arange(0), np.arange(200, 400))
    assert not repeated_windows(movie, split, history=8).any()


def _movie(contrast):
    return make_stimulus(contrast, frame_rate=30, pixel_um=50, name="noise")


def test_windows_of_another_movie_are_found_where_they_were_shown():
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=(200, 3, 2)), rng.normal(size=(90, 3, 2))
    other[30:60] = one[100:130]
    other[70:80] = one[20]
    for history in (1, 4, 30):
        found = seen_windows(_movie(one), _movie(other), history)
        same = [
            any(np.array_equal(other[a : a + history], one[b : b + history])
                for b in range(201 - history))
            and np.ptp(other[a : a + history], axis=0).any()
            for a in range(91 - history)
        ]  # fmt: skip
        np.testing.assert_array_equal(found, same)
        assert found.sum() == (0 if history == 1 else 31 - history)


def test_the_sign_of_zero_makes_no_other_window():
    shown = np.random.default_rng(6).choice([-1.0, 0.0, 1.0], (60, 2, 2))
    assert seen_windows(_movie(shown), _movie(shown.copy()), 5).all()
    assert seen_windows(_movie(np.where(shown == 0, -0.0, shown)), _movie(shown), 5).all()


def test_movies_that_cannot_be_compared_are_refused():
    one, small = _movie(np.zeros((20, 2, 2))), _movie(np.zeros((20, 2, 3)))
    with pytest.raises(InputError, match="one number of pixels"):
        seen_windows(one, small, 3)
    with pytest.raises(InputError, match="1 to 20 frames, got 21"):
        seen_windows(one, one, 21)
    early = Split(np.arange(10, 15), np.arange(0), np.arange(3, 6))
    with pytest.raises(InputError, match="test: expected responses with a whole window"):
        repeated_windows(one, early, 8)


def test_a_fit_warns_of_a_movie_that_repeats(caplog):
    once = np.random.default_rng(3).choice([-1.0, 1.0], (40, 6, 6))
    movie = make_stimulus(np.tile(once, (25, 1, 1)), frame_rate=30, pixel_um=50, name="noise")
    split = split_blocks(1000, history=5)
    circuit = Circuit(LinearNonlinear(cells=1, size=(6, 6), history=5), [])
    warn_of_repeats(movie, split, circuit)
    assert f"{len(split.test)} of {len(split.test)} test windows repeat" in caplog.text
    caplog.clear()
    new = make_stimulus(
        np.random.default_rng(4).choice([-1.0, 1.0], (1000, 6, 6)),
        frame_rate=30,
        pixel_um=50,
        name="noise",
    )
    warn_of_repeats(new, split, circuit)
    assert not caplog.text
