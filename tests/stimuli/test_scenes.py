from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.stimuli import Leaves, dead_leaves, pink_texture


def spectral_slope(images, low=4.0, high=64.0, windowed=True):
    """Slope of log power over log frequency, averaged over images and directions."""
    side = images[0].shape[0]
    taper = np.outer(np.hanning(side), np.hanning(side)) if windowed else 1.0
    power = sum(np.abs(np.fft.fft2((image - image.mean()) * taper)) ** 2 for image in images)
    line = np.fft.fftfreq(side) * side
    radius = np.hypot(line[:, None], line[None])
    edges = np.geomspace(low, high, 13)
    rings = [(radius >= a) & (radius < b) for a, b in pairwise(edges)]
    mean = [(radius[ring].mean(), power[ring].mean()) for ring in rings if ring.any()]
    return np.polyfit(*np.log(mean).T, 1)[0]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5])
def test_pink_texture_has_the_amplitude_slope_asked_for(exponent):
    images = [pink_texture((256, 256), seed=seed, exponent=exponent) for seed in range(6)]
    assert spectral_slope(images, windowed=False) == pytest.approx(-2 * exponent, abs=0.05)


def test_pink_texture_is_standard_and_periodic():
    texture = pink_texture((128, 96), seed=3).astype(np.float64)
    assert abs(texture.mean()) < 1e-6
    assert texture.std() == pytest.approx(1, abs=1e-6)
    inside = np.abs(np.diff(texture, axis=1)).mean()
    seam = np.abs(texture[:, 0] - texture[:, -1]).mean()
    assert seam == pytest.approx(inside, rel=0.25)


def test_dead_leaves_have_the_power_slope_of_natural_images():
    images = [dead_leaves((256, 256), seed=seed) for seed in range(8)]
    assert spectral_slope(images) == pytest.approx(-2, abs=0.25)
    assert spectral_slope([np.log(image) for image in images]) == pytest.approx(-2, abs=0.25)


def test_leaves_of_one_size_have_a_knee_and_no_power_law():
    same = Leaves(radii=(12, 12), texture=0, shading=0)
    images = [dead_leaves((256, 256), seed=seed, leaves=same) for seed in range(8)]
    assert spectral_slope(images, 2, 7) > -1.5
    assert spectral_slope(images, 16, 64) < -2.5


def test_radii_follow_the_power_law():
    from retinacodec.stimuli.scenes import _lay

    centre, radius = _lay((2000, 2000), Leaves(radii=(4, 64)), np.random.default_rng(0))
    # Away from the border every size is equally likely to be counted, so r^-3 shows.
    inside = ((centre >= 0) & (centre < 2000)).all(axis=1)
    counts, edges = np.histogram(radius[inside], np.geomspace(4, 64, 9))
    expected = edges[:-1] ** -2.0 - edges[1:] ** -2.0
    expected *= counts.sum() / expected.sum()
    assert np.all(np.abs(counts - expected) < 4 * np.sqrt(expected) + 1)
    covered = (np.pi * radius[inside] ** 2).sum() / 2000**2
    assert covered == pytest.approx(7, rel=0.1)


def test_flat_leaves_are_discs_in_front_of_each_other():
    from retinacodec.stimuli.scenes import _topmost

    centre = np.array([[10.0, 10.0], [10.0, 14.0], [30.0, 30.0]])
    top = _topmost((40, 40), centre, np.array([5.0, 8.0, 3.0]))
    rows, columns = np.indices((40, 40)) + 0.5
    expected = np.full((40, 40), 3)
    for leaf, radius in ((2, 3.0), (1, 8.0), (0, 5.0)):
        inside = np.hypot(rows - centre[leaf, 0], columns - centre[leaf, 1]) <= radius
        expected[inside] = leaf
    assert np.array_equal(top, expected)


def test_flat_leaves_have_the_luminance_spread_asked_for():
    flat = Leaves(spread=0.4, texture=0, shading=0)
    spread = [np.log(dead_leaves((200, 200), seed=k, leaves=flat)).std() for k in range(10)]
    assert np.mean(spread) == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize("render", [dead_leaves, pink_texture])
def test_scenes_are_reproducible_and_differ_between_seeds(render):
    a, b, c = (render((60, 80), seed=seed).astype(np.float64) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert abs(np.corrcoef(a.ravel(), c.ravel())[0, 1]) < 0.5


def test_a_scene_does_not_touch_the_global_generator():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    dead_leaves((20, 20), seed=1)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "leaves", [Leaves(radii=(0, 4)), Leaves(radii=(5, 4)), Leaves(spread=-1), Leaves(radii=3), 7]
)
def test_wrong_leaves_are_refused(leaves):
    with pytest.raises(InputError, match="dead_leaves"):
        dead_leaves((20, 20), seed=0, leaves=leaves)


def test_wrong_sizes_and_seeds_are_refused_together():
    with pytest.raises(InputError, match=r"size.*exponent.*seed"):
        pink_texture((1, 20), seed=1.5, exponent=np.nan)
