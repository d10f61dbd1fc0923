from __future__ import annotations

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.stimuli import Binary, Gaussian, white_noise

BOTH = [Binary(), Gaussian(0.3)]


@pytest.mark.parametrize("distribution", BOTH, ids=repr)
@pytest.mark.parametrize(
    "extra", [{}, {"check": 4}, {"check": (40, 3), "hold": 3}, {"size": (7, 11)}], ids=str
)
@pytest.mark.parametrize("first", [0, 1, 997])
def test_any_range_of_frames_equals_the_whole(distribution, extra, first):
    common = {"distribution": distribution, "seed": 11, **extra}
    whole = white_noise(frames=1010, **common)
    part = white_noise(frames=13, start=first, **common)
    assert np.array_equal(part.contrast.values, whole.contrast.values[first : first + 13])
    assert np.array_equal(part.time.values, whole.time.values[first : first + 13])


def test_a_range_in_the_far_future_needs_none_of_the_frames_before():
    far = white_noise(frames=2, start=10**15, seed=5)
    again = white_noise(frames=1, start=10**15 + 1, seed=5)
    assert np.array_equal(far.contrast.values[1], again.contrast.values[0])


@pytest.mark.parametrize("distribution", BOTH, ids=repr)
def test_a_rendering_in_chunks_equals_a_rendering_at_once(distribution, monkeypatch):
    whole = white_noise(frames=100, distribution=distribution, hold=3, start=7, seed=2)
    monkeypatch.setattr("retinacodec.stimuli.noise._WORDS_AT_ONCE", 2000)
    chunked = white_noise(frames=100, distribution=distribution, hold=3, start=7, seed=2)
    assert np.array_equal(whole.contrast.values, chunked.contrast.values)


def test_binary_values_mean_and_variance():
    contrast = white_noise(frames=2000, size=(30, 30), contrast=0.5, seed=0).contrast.values
    assert set(np.unique(contrast)) == {-0.5, 0.5}
    error = 0.5 / np.sqrt(contrast.size)
    assert abs(contrast.mean(dtype=np.float64)) < 4 * error


def test_gaussian_moments_and_tails():
    movie = white_noise(frames=2000, size=(30, 30), distribution=Gaussian(0.3), seed=0)
    z = movie.contrast.values.astype(np.float64) / 0.3
    n = z.size
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * np.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / n)
    for threshold, chance in ((1.0, 0.158655), (2.0, 0.022750), (3.0, 0.0013499)):
        assert abs((z > threshold).mean() - chance) < 4 * np.sqrt(chance / n)


@pytest.mark.parametrize("distribution", BOTH, ids=repr)
def test_frames_checks_and_seeds_are_independent(distribution):
    movie = white_noise(frames=3000, size=(20, 20), distribution=distribution, seed=1)
    other = white_noise(frames=3000, size=(20, 20), distribution=distribution, seed=2)
    z = movie.contrast.values.astype(np.float64) / movie.contrast.values.std()
    w = other.contrast.values.astype(np.float64) / other.contrast.values.std()
    limit = 4 / np.sqrt(z.size * 0.9)
    for lag in (1, 2, 7):
        assert abs((z[lag:] * z[:-lag]).mean()) < limit
    assert abs((z[:, 1:] * z[:, :-1]).mean()) < limit
    assert abs((z[:, :, 1:] * z[:, :, :-1]).mean()) < limit
    assert abs((z * w).mean()) < limit


def test_same_seed_same_noise_and_other_seed_other_noise():
    a, b, c = (white_noise(frames=4, seed=seed).contrast.values for seed in (3, 3, 4))
    assert np.array_equal(a, b)
    assert 0.4 < (a != c).mean() < 0.6


def test_first_values_never_change_between_versions():
    bits = white_noise(frames=1, size=(1, 16), seed=0).contrast.values[0, 0]
    words = np.random.Philox(key=0).random_raw(1)
    assert [int(word) & 0xFFFF for word in words] == [
        sum(1 << k for k, bit in enumerate(bits) if bit > 0)
    ]


def test_checks_are_constant_blocks_and_holds_are_constant_in_time():
    movie = white_noise(frames=9, size=(10, 9), check=(4, 3), hold=2, start=1, seed=0)
    contrast = movie.contrast.values
    corners = contrast[:, ::4, ::3]
    blocks = corners.repeat(4, axis=1).repeat(3, axis=2)[:, :10, :9]
    assert np.array_equal(contrast, blocks)
    assert np.array_equal(contrast[1], contrast[2])
    assert not np.array_equal(contrast[0], contrast[1])
    assert len(np.unique(corners[0])) == 2


def test_time_and_positions_on_the_retina():
    movie = white_noise(0.1, size=(2, 3), start=30, frame_rate=100, pixel_um=20, seed=0)
    assert movie.time.values == pytest.approx(np.arange(30, 40) / 100)
    assert movie.x.values.tolist() == [-20, 0, 20]
    assert movie.y.values.tolist() == [-10, 10]
    assert movie.attrs["seed"] == 0


def test_all_problems_come_in_one_line():
    with pytest.raises(InputError) as caught:
        white_noise(
            -1, size=(3, 0), distribution=Gaussian(-1), contrast=float("nan"), check=0, hold=0,
            frame_rate=0, pixel_um=float("inf"), start=-1, seed=-1,
        )  # fmt: skip
    message = str(caught.value)
    assert "\n" not in message
    for word in (
        "size", "Gaussian sd", "contrast", "check", "hold", "frame_rate", "pixel_um", "start",
        "seed", "seconds",
    ):  # fmt: skip
        assert word in message


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({}, "seconds or frames"),
        ({"seconds": 1, "frames": 60}, "seconds or frames"),
        ({"frames": 2.5}, "frames"),
        ({"frames": True}, "frames"),
        ({"frames": 1, "seed": 2**64}, "seed"),
        ({"frames": 1, "distribution": "binary"}, "distribution"),
        ({"frames": 10**12}, "GB"),
        ({"frames": 1, "check": (1, 2, 3)}, "check"),
    ],
)
def test_one_wrong_argument_is_named(wrong, word):
    with pytest.raises(InputError, match=word):
        white_noise(**{"seed": 0, **wrong})
