from __future__ import annotations

import numpy as np
import pytest

from retinacodec.stimuli.viewing import FINE, Window

WINDOW = Window(size=(6, 9), pixel_um=30.0, reach_um=(75.0, 100.0))


@pytest.fixture
def scene():
    return np.random.default_rng(0).random(WINDOW.scene_shape).astype(np.float32)


def test_whole_scene_pixels_are_averaged_exactly(scene):
    row, column = 4, 7
    y, x = row * 10.0 - 75, column * 10.0 - 100
    frame = WINDOW.frames(scene, np.array([y]), np.array([x]))[0]
    crop = scene[row : row + 6 * FINE, column : column + 9 * FINE]
    assert frame == pytest.approx(crop.reshape(6, FINE, 9, FINE).mean(axis=(1, 3)), abs=1e-6)


def test_a_linear_scene_moves_by_exact_fractions_of_a_pixel():
    rows, columns = np.indices(WINDOW.scene_shape).astype(np.float32)
    scene = 3 * rows - 2 * columns
    y, x = np.array([-75, -12.34, 0.5, 75]), np.array([100, 43.21, -0.07, -100])
    frames = WINDOW.frames(scene, y, x)
    left = (x + 100) / 10 + 1 + 3 * np.arange(9)[:, None]
    top = (y + 75) / 10 + 1 + 3 * np.arange(6)[:, None]
    expected = 3 * top.T[:, :, None] - 2 * left.T[:, None, :]
    assert frames == pytest.approx(expected, abs=1e-3)


def test_means_are_the_means_of_the_frames(scene):
    rng = np.random.default_rng(1)
    y, x = rng.uniform(-75, 75, 200), rng.uniform(-100, 100, 200)
    y[:2], x[:2] = (-75, 75), (100, -100)
    frames = WINDOW.frames(scene, y, x).astype(np.float64)
    assert WINDOW.means(scene, y, x) == pytest.approx(frames.mean(axis=(1, 2)), abs=1e-6)
