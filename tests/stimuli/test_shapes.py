from __future__ import annotations

import numpy as np
import pytest

from retinacodec.stimuli import Disc, Square
from retinacodec.stimuli.checks import pixel_centres
from retinacodec.stimuli.shapes import strip_coverage


def subsampled(inside, y, x, pixel, fine=200):
    """Share of each pixel for which ``inside(y, x)`` holds, by brute force."""
    offset = ((np.arange(fine) + 0.5) / fine - 0.5) * pixel
    yy = y[:, :, None, None] + offset[:, None]
    xx = x[:, :, None, None] + offset[None, :]
    return inside(yy, xx).mean(axis=(2, 3))


@pytest.mark.parametrize("direction", [0, 17, 45, 90, 133.3, 180, 270])
@pytest.mark.parametrize("width", [8.0, 50.0, 133.0])
def test_strip_covers_the_exact_share_of_each_pixel(direction, width):
    y, x = pixel_centres((9, 9), 50.0)
    x = x + 13.0
    angle = np.deg2rad(direction)

    def inside(yy, xx):
        return np.abs(np.cos(angle) * xx + np.sin(angle) * yy) <= width / 2

    expected = subsampled(inside, np.broadcast_to(y, (9, 9)), np.broadcast_to(x, (9, 9)), 50.0)
    found = strip_coverage(x, y, direction, width, 50.0)
    assert found == pytest.approx(expected, abs=0.006)
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("shift", [(0, 0), (11, -21), (25, 25)])
@pytest.mark.parametrize(
    ("shape", "area"),
    [(Disc(150), np.pi * 150**2), (Disc(80), np.pi * 80**2), (Square(210), 210**2)],
)
def test_outline_has_the_right_area_and_centroid(shape, area, shift):
    y, x = pixel_centres((21, 21), 50.0)
    covered = shape.coverage(x - shift[0], y - shift[1], 50.0)
    assert covered.sum() * 50**2 == pytest.approx(area, rel=0.02)
    assert (covered * x).sum() / covered.sum() == pytest.approx(shift[0], abs=0.02 * 50)
    assert (covered * y).sum() / covered.sum() == pytest.approx(shift[1], abs=0.02 * 50)
