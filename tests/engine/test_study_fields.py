"""When a study may read an average of spikes as a receptive field."""

import numpy as np
import pytest

import retinacodec as rc
from retinacodec.schema import make_stimulus
from retinacodec.study_fields import is_white


def _movie(pixels):
    return make_stimulus(pixels.astype(np.float32), frame_rate=60, pixel_um=50, name="movie")


@pytest.mark.parametrize("shape", [(600, 12, 12), (600, 1, 24), (2000, 1, 1)])
def test_independent_pixels_are_white_and_smoothed_ones_are_not(shape):
    noise = np.random.default_rng(0).normal(size=shape)
    assert is_white(_movie(noise))
    for axis in (axis for axis in range(3) if shape[axis] > 1):
        assert not is_white(_movie(noise + 0.5 * np.roll(noise, 1, axis)))


def test_a_natural_movie_and_a_still_one_are_not_white():
    assert not is_white(rc.stimuli.natural_movie(seconds=2, size=(16, 16), seed=0))
    assert not is_white(_movie(np.ones((50, 4, 4))))


def test_checks_of_several_pixels_are_correlated_in_space():
    assert is_white(rc.stimuli.white_noise(seconds=10, size=(12, 12), seed=0))
    assert not is_white(rc.stimuli.white_noise(seconds=10, size=(12, 12), check=3, seed=0))
