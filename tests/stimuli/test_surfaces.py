from __future__ import annotations

import numpy as np
import pytest

from retinacodec.stimuli import Grating, Pink, Uniform

SIZE = (20, 30)


def test_uniform_is_the_same_everywhere():
    paint = Uniform(-0.4).paint(SIZE, 50.0, 0)
    assert np.all(paint(np.zeros((3, 1)), np.ones((1, 4))) == -0.4)
    assert paint(np.zeros((3, 1)), np.ones((1, 4))).shape == (3, 4)


def test_grating_is_a_square_wave_averaged_over_a_pixel():
    x = np.linspace(-500, 500, 401)
    found = Grating(bar_um=120, contrast=0.8).paint(SIZE, 50.0, 0)(x, np.zeros_like(x))
    inside = x[:, None] + ((np.arange(1000) + 0.5) / 1000 - 0.5) * 50
    expected = 0.8 * np.where(inside % 240 < 120, 1, -1).mean(axis=1)
    assert found == pytest.approx(expected, abs=2e-3)


def test_grating_direction_is_across_its_bars():
    paint = Grating(bar_um=100, direction=90).paint(SIZE, 50.0, 0)
    x = np.arange(0, 400, 7.0)
    assert np.ptp(paint(x, np.full_like(x, 30.0))) < 1e-9
    assert np.ptp(paint(np.full_like(x, 30.0), x)) == pytest.approx(2)


def test_pink_keeps_contrast_and_range_and_is_interpolated():
    paint = Pink(contrast=0.2).paint(SIZE, 50.0, 4)
    grid = np.arange(60) * 50.0
    at = paint(grid[None, :], grid[:, None])
    assert at.std() == pytest.approx(0.2, rel=0.02)
    half = paint(grid[None, :] + 25, grid[:, None])
    assert half[:, :-1] == pytest.approx((at[:, 1:] + at[:, :-1]) / 2, abs=1e-12)
    assert paint(grid + 60 * 50, grid) == pytest.approx(paint(grid, grid))
    loud = Pink(contrast=2.0).paint(SIZE, 50.0, 4)(grid[None, :], grid[:, None])
    assert loud.min() == -1 and loud.max() == 1
