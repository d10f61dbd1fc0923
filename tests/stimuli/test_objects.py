from __future__ import annotations

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.stimuli import (
    Disc,
    Grating,
    Jitter,
    Pink,
    Square,
    Still,
    Straight,
    Uniform,
    moving_object,
)


def centroid(weight, movie):
    return (
        (weight * movie.x.values[None, :]).sum() / weight.sum(),
        (weight * movie.y.values[:, None]).sum() / weight.sum(),
    )


@pytest.mark.parametrize("shape", [Disc(200), Square(300)], ids=repr)
def test_the_object_is_within_a_tenth_of_a_pixel_of_its_truth(shape):
    movie = moving_object(
        1, shape=shape, motion=Straight(700, 35), position_um=(-300, -350), seed=0
    )
    for k in range(0, 60, 3):
        truth = (movie.object_x.values[k], movie.object_y.values[k])
        assert centroid(-movie.contrast.values[k], movie) == pytest.approx(truth, abs=0.1 * 50)
    assert movie.object_x.values[0] == -350 and movie.object_y.values[0] == -300


def test_a_textured_object_on_a_texture_is_where_the_two_differ():
    """With the background known, the object's outline follows its truth."""
    common = {"background": Pink(0.2), "background_motion": Jitter(10), "seed": 5}
    motion = Straight(500, -60)
    movie = moving_object(1, shape=Disc(250), surface=Uniform(1.0), motion=motion, **common)
    empty = moving_object(1, shape=Disc(0.001), surface=Uniform(1.0), motion=motion, **common)
    for k in (0, 20, 40, 59):
        behind = empty.contrast.values[k]
        covered = (movie.contrast.values[k] - behind) / (1 - behind)
        truth = (movie.object_x.values[k], movie.object_y.values[k])
        assert centroid(covered, movie) == pytest.approx(truth, abs=0.1 * 50)


@pytest.mark.parametrize(
    "motion",
    [Straight(440, 35, onset_s=0.2), Jitter(7), Jitter(9, every=4, direction=30), Still()],
    ids=repr,
)
def test_velocities_are_the_derivatives_of_positions(motion):
    movie = moving_object(2, motion=motion, background=Grating(), background_motion=motion, seed=1)
    for name in ("object", "background"):
        for axis in "xy":
            step = np.diff(movie[f"{name}_{axis}"].values) * 60
            velocity = movie[f"{name}_velocity_{axis}"].values
            assert velocity[1:] == pytest.approx(step, abs=1e-6)
    moved = movie.object_velocity_x.values != 0
    expected = np.flatnonzero(moved)[:1].tolist()
    assert movie.onset.values.nonzero()[0].tolist() == expected


def test_onset_is_the_first_frame_after_the_motion_starts():
    movie = moving_object(1, motion=Straight(440, 0, onset_s=0.5), seed=0)
    assert movie.onset.values.nonzero()[0].tolist() == [31]
    walk = moving_object(1, motion=Jitter(7, direction=0, onset_s=0.5), seed=0)
    assert walk.onset.values.nonzero()[0].tolist() == [30]


def test_global_motion_moves_object_and_background_alike_and_differential_does_not():
    grating, jitter = Grating(133), Jitter(10, direction=0)
    common = {
        "surface": grating, "background": grating, "background_motion": jitter, "aperture": True,
        "shape": Disc(400), "seed": 0,
    }  # fmt: skip
    together = moving_object(3, motion=None, **common)
    apart = moving_object(3, motion=jitter, **common)
    assert np.array_equal(together.object_x.values, together.background_x.values)
    assert not together.differential.values.any()
    x = together.x.values[None, None, :] - together.background_x.values[:, None, None]
    one = grating.paint((50, 50), 50.0, 0)(x, np.zeros((1, 50, 1)))
    assert np.allclose(together.contrast.values, one, rtol=0, atol=1e-6)
    share = apart.differential.values[1:].mean()
    assert 0.35 < share < 0.65
    assert np.array_equal(apart.background_x.values, together.background_x.values)


def test_an_aperture_keeps_the_outline_in_place():
    movie = moving_object(
        1, shape=Square(500), surface=Grating(100), motion=Straight(440), aperture=True, seed=0
    )
    lit = np.abs(movie.contrast.values).max(axis=0) > 0
    rows, columns = np.nonzero(lit)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 29, 20, 29)
    assert movie.object_x.values[-1] == pytest.approx(440 * 59 / 60)


def test_a_background_texture_shifts_with_its_truth():
    """Moved by one pixel exactly, the next frame is the frame before, shifted by a pixel."""
    movie = moving_object(
        1, shape=Disc(0.001), background=Pink(0.3), background_motion=Straight(50 * 60, 90), seed=2
    )
    contrast = movie.contrast.values
    assert movie.background_velocity_y.values[5] == pytest.approx(3000)
    for k in range(20):
        assert contrast[k + 1][1:] == pytest.approx(contrast[k][:-1], abs=1e-5)


def test_any_range_of_frames_equals_the_whole():
    common = {
        "surface": Pink(0.5), "motion": Jitter(9), "background": Pink(0.2),
        "background_motion": Jitter(5), "seed": 9,
    }  # fmt: skip
    whole = moving_object(frames=300, **common)
    part = moving_object(frames=50, start=211, **common)
    for name in whole.data_vars:
        np.testing.assert_array_equal(part[name].values, whole[name].values[211:261])


def test_seeds_change_textures_and_walks():
    a, b, c = (
        moving_object(frames=30, surface=Pink(0.5), motion=Jitter(9), seed=seed)
        for seed in (0, 0, 1)
    )
    assert a.identical(b)
    assert (a.object_x.values[1:] != c.object_x.values[1:]).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shape": Disc(0)}, "radius_um"),
        ({"shape": "disc"}, "shape"),
        ({"surface": Uniform(-1.5)}, "Uniform contrast"),
        ({"surface": Pink(0), "background": Grating(0)}, "Pink contrast.*bar_um"),
        ({"motion": Straight(-3)}, "speed"),
        ({"background_motion": None}, "background_motion"),
        ({"motion": Jitter(every=0)}, "every"),
        ({"position_um": 3}, "position_um"),
        ({"size": (40,), "pixel_um": 0}, "size.*pixel_um"),
        ({"seconds": None}, "seconds or frames"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(InputError, match=words):
        moving_object(**{"seconds": 1, "seed": 0, **wrong})
