from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from retinacodec.errors import Problems
from retinacodec.stimuli import Disc, EyeMovements
from retinacodec.stimuli.checks import (
    as_json,
    check_number,
    check_range,
    check_whole,
    count_frames,
    pixel_centres,
)


def test_choices_become_plain_json():
    given = {
        "disc": Disc(np.float32(2.5)), "eye": EyeMovements(), "path": Path("a") / "b",
        "size": (np.int64(3), 4), "flag": True, "none": None, "array": np.array([1.0, 2.0]),
    }  # fmt: skip
    kept = json.loads(json.dumps({key: as_json(value) for key, value in given.items()}))
    assert kept["disc"] == {"kind": "Disc", "radius_um": 2.5}
    assert kept["eye"]["fixation_s"] == [0.3, 1.0] and kept["eye"]["relaxation_s"] is None
    assert kept["path"] == "a/b" and kept["size"] == [3, 4] and kept["array"] == [1.0, 2.0]
    assert kept["flag"] is True and kept["none"] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "3", None, True, 0, 5.1])
def test_numbers_out_of_bounds_are_noted(value):
    problems = Problems()
    assert not check_number(problems, "speed", value, above=0, most=5)
    assert problems.found[0].startswith("speed: expected a finite number > 0 and <= 5, got")


@pytest.mark.parametrize("value", [1.0, True, "1", 0, None])
def test_what_is_no_whole_number_is_noted(value):
    assert not check_whole(Problems(), "hold", value, least=1)
    assert check_whole(Problems(), "hold", np.int32(1), least=1)


@pytest.mark.parametrize("value", [(2, 1), (0, 1), 3, "ab", (1, 2, 3), (1, float("inf"))])
def test_what_is_no_range_is_noted(value):
    assert not check_range(Problems(), "band", value, least=0.5)


def test_seconds_are_rounded_to_frames_and_never_to_none():
    counts = [count_frames(Problems(), s, None, 60.0) for s in (1.0, 0.499 / 60, 1.51 / 60)]
    assert counts == [60, 1, 2]


def test_pixel_centres_lie_around_zero():
    y, x = pixel_centres((2, 3), 10.0)
    assert y.tolist() == [[-5], [5]] and x.tolist() == [[-10, 0, 10]]
