from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import retinacodec.stimuli as room
from retinacodec.errors import InputError
from retinacodec.schema import check_stimulus

MOVIES = {
    "white_noise": {"distribution": room.Gaussian(0.2), "check": (2, 3), "hold": 2, "start": 4},
    "natural_movie": {"eye": room.EyeMovements(relaxation_s=0.1), "part": (3, 20)},
    "moving_bar": {"direction": [0, 77, 100, 200, 300], "shuffle": True, "start": 5},
    "moving_object": {
        "shape": room.Square(300),
        "surface": room.Pink(0.4),
        "motion": room.Jitter(5, direction=20),
        "background": room.Grating(100, direction=10),
        "background_motion": room.Straight(200, 45, onset_s=0.1),
        "position_um": (100, -50),
        "aperture": True,
    },
}


def test_every_stimulus_of_the_room_is_tested_here():
    assert set(MOVIES) == set(room.__all__)


@pytest.mark.parametrize("name", room.__all__)
def test_parameters_are_enough_to_render_again(name):
    made = getattr(room, name)(seconds=0.5, size=(12, 14), seed=3, **MOVIES[name])
    again = room.rerender(made)
    assert again.identical(made)
    other = room.rerender(made, seed=4)
    assert not np.array_equal(other.contrast.values, made.contrast.values)


@pytest.mark.parametrize("name", room.__all__)
def test_every_stimulus_obeys_the_schema_and_has_units(name):
    made = check_stimulus(getattr(room, name)(seconds=0.5, seed=3))
    assert made.contrast.dtype == np.float32
    assert made.attrs["name"] == name and made.attrs["seed"] == 3
    assert made.sizes["time"] == 30
    assert all("units" in made[variable].attrs for variable in made.data_vars)
    assert json.loads(made.attrs["parameters"], parse_constant=pytest.fail)["frames"] == 30


def test_a_movie_from_files_is_rendered_again_from_the_same_files(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)).save(
        tmp_path / "a.png"
    )
    made = room.natural_movie(tmp_path, frames=20, seed=1)
    assert room.rerender(made).identical(made)


def test_a_rerendering_can_be_longer():
    noise = room.white_noise(frames=10, seed=0)
    longer = room.rerender(noise, seconds=1)
    assert np.array_equal(longer.contrast.values[:10], noise.contrast.values)


def test_foreign_stimuli_and_unknown_arguments_are_refused():
    noise = room.white_noise(frames=2, seed=0)
    with pytest.raises(InputError, match="colour"):
        room.rerender(noise, colour="red")
    noise.attrs["name"] = "retinotopy"
    with pytest.raises(InputError, match="white_noise"):
        room.rerender(noise)
