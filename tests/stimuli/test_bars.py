from __future__ import annotations

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.stimuli import moving_bar


def centroid(frame, movie):
    weight = np.abs(frame)
    return (
        (weight * movie.x.values[None, :]).sum() / weight.sum(),
        (weight * movie.y.values[:, None]).sum() / weight.sum(),
    )


@pytest.mark.parametrize("direction", [0, 30, 90, 135, 200, 290])
def test_a_short_bar_is_where_the_truth_says(direction):
    movie = moving_bar(direction=direction, length_um=400, gap_s=0, speed=700)
    tested = 0
    for k in range(movie.sizes["time"]):
        x, y = movie.object_x.values[k], movie.object_y.values[k]
        if max(abs(x), abs(y)) < 700:
            found = centroid(movie.contrast.values[k], movie)
            assert found == pytest.approx((x, y), abs=0.05 * 50)
            tested += 1
    assert tested > 30


def test_a_long_bar_crosses_from_outside_to_outside():
    movie = moving_bar(direction=180, width_um=100, speed=600, gap_s=0.2)
    contrast = movie.contrast.values
    assert np.abs(contrast[0]).max() < 1e-12
    bar = movie.sweep.values == 0
    travel = 50 * 50 + 100
    assert bar.sum() == int(travel / 600 * 60) + 1
    middle = int(np.abs(movie.object_x.values[bar]).argmin())
    column = contrast[middle].sum(axis=1) * 50
    assert column == pytest.approx(np.full(50, -100.0), abs=1e-3)
    assert np.all(contrast[~bar] == 0)


def test_velocity_is_the_derivative_of_position():
    movie = moving_bar(direction=[20, 250], speed=500, gap_s=0.1)
    inside = (movie.sweep.values[1:] >= 0) & ~movie.onset.values[1:]
    for axis, part in (("x", np.cos), ("y", np.sin)):
        step = np.diff(movie[f"object_{axis}"].values) * 60
        velocity = movie[f"object_velocity_{axis}"].values[1:]
        assert velocity[inside] == pytest.approx(step[inside], abs=1e-6)
        first = movie.sweep.values == 0
        expected = 500 * part(np.deg2rad(20))
        assert movie[f"object_velocity_{axis}"].values[first] == pytest.approx(expected)
    gap = movie.sweep.values < 0
    assert np.isnan(movie.object_x.values[gap]).all() and gap.sum() == 12


def test_contrast_and_partial_pixels():
    movie = moving_bar(direction=0, width_um=20, contrast=0.5, gap_s=0, size=(3, 10))
    assert movie.contrast.values.max() <= 0.5 * 20 / 50 + 1e-6
    k = int(np.abs(movie.object_x.values).argmin())
    assert movie.contrast.values[k, 1].sum() == pytest.approx(0.5 * 20 / 50, abs=1e-6)


def test_any_range_of_frames_equals_the_whole():
    common = {"direction": [0, 120, 240], "shuffle": True, "speed": 1500, "seed": 3}
    whole = moving_bar(frames=900, **common)
    part = moving_bar(frames=200, start=333, **common)
    for name in whole.data_vars:
        np.testing.assert_array_equal(part[name].values, whole[name].values[333:533])
    assert part.time.values[0] == pytest.approx(333 / 60)


def test_shuffle_shows_each_direction_once_a_round():
    movie = moving_bar(sweeps=40, direction=list(range(0, 360, 45)), shuffle=True,
                       speed=4000, gap_s=0.05, size=(4, 4), seed=1)  # fmt: skip
    order = movie.direction.values[movie.onset.values].reshape(5, 8)
    assert all(sorted(turn) == list(range(0, 360, 45)) for turn in order.tolist())
    assert len({tuple(turn) for turn in order.tolist()}) == 5
    other = moving_bar(sweeps=40, direction=list(range(0, 360, 45)), shuffle=True,
                       speed=4000, gap_s=0.05, size=(4, 4), seed=2)  # fmt: skip
    assert (other.direction.values[other.onset.values] != order.ravel()).any()


def test_sweeps_set_the_duration():
    one = moving_bar(direction=0).sizes["time"]
    assert moving_bar(direction=0, sweeps=3).sizes["time"] == 3 * one
    assert moving_bar(direction=0, sweeps=3, start=one).sizes["time"] == 2 * one
    assert moving_bar(2.0).sizes["time"] == 120


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"speed": 0}, "speed"),
        ({"width_um": -1, "length_um": 0}, "width_um.*length_um"),
        ({"contrast": 0}, "contrast"),
        ({"contrast": -2}, "contrast"),
        ({"direction": []}, "direction"),
        ({"direction": "up"}, "direction"),
        ({"direction": [0, np.nan]}, "direction"),
        ({"sweeps": 0}, "sweeps"),
        ({"sweeps": 1, "seconds": 2}, "sweeps"),
        ({"start": 10**6}, "start"),
        ({"frame_rate": 0}, "frame_rate"),
        ({"seed": "a"}, "seed"),
    ],
)
def test_wrong_arguments_are_named(wrong, word):
    with pytest.raises(InputError, match=word):
        moving_bar(**wrong)
