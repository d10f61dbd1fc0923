from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from retinacodec.stimuli import EyeMovements, Leaves
from retinacodec.stimuli.film import Photographs, Rendered, look
from retinacodec.stimuli.viewing import Window

WINDOW = Window((6, 8), 50.0, (150.0, 200.0))


def test_every_turn_renders_another_scene_and_the_same_again():
    scenes = Rendered(Leaves(), seed=7)
    first, second, again = (scenes.scene(scenes.number(turn), (60, 60)) for turn in (0, 1, 0))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.6


def test_photographs_repeat_their_order_and_obey_gamma(tmp_path):
    paths = tuple(tmp_path / f"{k}.png" for k in range(5))
    for k, path in enumerate(paths):
        Image.fromarray(np.full((9, 9), 51 * k, np.uint8)).save(path)
    scenes = Photographs(paths, gamma=2.0, seed=0)
    order = [scenes.number(turn) for turn in range(10)]
    assert sorted(order[:5]) == [0, 1, 2, 3, 4] and order[5:] == order[:5]
    assert scenes.scene(3, (9, 9)) == pytest.approx((3 * 51 / 255) ** 2, abs=1e-6)


def test_frames_shown_and_levels_do_not_depend_on_the_part():
    scenes = Rendered(Leaves(), seed=1)
    whole = look(scenes, 100, slice(0, 100), 30, WINDOW, EyeMovements(), 60.0, 3)
    part = look(scenes, 100, slice(25, 65), 30, WINDOW, EyeMovements(), 60.0, 3)
    assert np.array_equal(part.luminance, whole.luminance[25:65])
    assert np.array_equal(part.level, whole.level)
    expected = whole.luminance.mean(axis=(1, 2), dtype=np.float64)
    assert whole.level == pytest.approx(expected, rel=1e-5)
    assert whole.scene.tolist() == [k // 30 for k in range(100)]
