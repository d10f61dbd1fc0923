from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from retinacodec.errors import InputError
from retinacodec.stimuli.photographs import IMAGE_SUFFIXES, find_files, read_photograph


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)


def test_own_shape_gives_the_very_pixels(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(read_photograph(tmp_path / "a.png", (20, 30)), grey)


def test_other_aspect_is_cropped_around_the_centre(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(read_photograph(tmp_path / "a.png", (20, 20)), grey[:, 5:25])


def test_a_small_image_grows_and_keeps_its_mean(tmp_path, grey):
    smooth = np.add.outer(np.arange(20) * 3, np.arange(30) * 4).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    large = read_photograph(tmp_path / "a.png", (80, 120))
    assert large.mean() == pytest.approx(smooth.mean(), abs=0.1)
    assert large[40, 1:-1] == pytest.approx(np.interp(
        (np.arange(120) + 0.5) / 4 - 0.5, np.arange(30), large[40, 2::4] - 0.5
    )[1:-1], abs=1.0)  # fmt: skip


def test_deep_and_coloured_images_become_luminance(tmp_path, grey):
    deep = grey.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(read_photograph(tmp_path / "deep.png", (20, 30)), deep)
    Image.fromarray(grey.astype(np.float32) / 7).save(tmp_path / "float.tif")
    found = read_photograph(tmp_path / "float.tif", (20, 30))
    assert found == pytest.approx(grey / 7, rel=1e-6)
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[..., 1] = 200
    Image.fromarray(colour).save(tmp_path / "green.png")
    assert read_photograph(tmp_path / "green.png", (4, 4)) == pytest.approx(0.587 * 200, abs=1)


def test_orientation_of_the_camera_is_obeyed(tmp_path, grey):
    turned = Image.fromarray(grey)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_photograph(tmp_path / "a.png", (30, 20)), np.rot90(grey, -1))


def test_bad_files_are_refused_by_name(tmp_path, grey):
    (tmp_path / "text.png").write_text("no")
    with pytest.raises(InputError, match=r"text\.png: expected an image"):
        read_photograph(tmp_path / "text.png", (4, 4))
    Image.fromarray(grey).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    with pytest.raises(InputError, match=r"cut\.png"):
        read_photograph(tmp_path / "cut.png", (4, 4))
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(InputError, match=r"nan\.tif: grey values must be finite"):
        read_photograph(tmp_path / "nan.tif", (4, 4))


def test_files_are_sorted_and_hidden_ones_are_not_found(tmp_path):
    for name in ("b.PNG", "a.jpg", ".c.png", "d.txt"):
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    assert [path.name for path in find_files(tmp_path, IMAGE_SUFFIXES)] == ["a.jpg", "b.PNG"]


@pytest.mark.parametrize("shape", [(113, 127), (107, 107), (91, 53), (333, 331)])
def test_shapes_that_do_not_divide_the_image_are_no_trouble(tmp_path, grey, shape):
    path = tmp_path / "odd.png"
    Image.fromarray(np.uint8(np.resize(grey, (200, 200)))).save(path)
    assert read_photograph(path, shape).shape == shape
