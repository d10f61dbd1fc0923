from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from retinacodec.errors import InputError
from retinacodec.stimuli import EyeMovements, fixational_path, natural_movie

STILL = EyeMovements(diffusion=0, tremor_um=0, fixation_s=(1e6, 1e6))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcd":
        small = rng.integers(0, 256, (12, 12), dtype=np.uint8)
        Image.fromarray(small).resize((150, 120), Image.Resampling.BICUBIC).save(
            tmp_path / f"{name}.png"
        )
    return tmp_path


def test_contrast_has_mean_zero_and_is_never_below_black():
    movie = natural_movie(seconds=12, seed=0)
    contrast = movie.contrast.values.astype(np.float64)
    assert abs(contrast.mean()) < 1e-6
    assert contrast.min() >= -1
    assert 0.3 < contrast.std() < 0.8
    assert contrast.mean(axis=(1, 2)) + 1 == pytest.approx(movie.luminance.values, abs=1e-5)


def test_contrast_is_a_factor():
    full, half = (natural_movie(seconds=1, seed=0, contrast=c).contrast.values for c in (1, 0.5))
    assert np.abs(half - full / 2).max() < 1e-6


def test_truth_is_the_path_of_the_eye_and_the_scene():
    movie = natural_movie(seconds=8, scene_seconds=2.5, size=(20, 30), seed=4)
    path = fixational_path(480, seed=4, field_um=(500, 750))
    for name in path.data_vars:
        np.testing.assert_array_equal(movie[name].values, path[name].values)
        assert movie[name].attrs["units"] == path[name].attrs["units"]
    assert movie.scene.values.tolist() == [k // 150 for k in range(480)]
    assert int(movie.saccade.sum()) > 10


def test_the_picture_moves_with_the_gaze():
    """Cross-correlation of a frame with one shortly after peaks where the gaze went."""
    eye = EyeMovements(diffusion=3000, tremor_um=0, fixation_s=(1000, 1000))
    movie = natural_movie(seconds=4, eye=eye, size=(60, 60), seed=2)
    contrast = movie.contrast.values
    tested = 0
    for k in range(0, 220, 10):
        went = [
            (movie[f"gaze_{axis}"].values[k + 15] - movie[f"gaze_{axis}"].values[k]) / 50
            for axis in "yx"
        ]
        if max(np.abs(went)) < 1:
            continue
        errors = {
            (dy, dx): np.mean(
                (contrast[k, 8 + dy : 52 + dy, 8 + dx : 52 + dx] - contrast[k + 15, 8:52, 8:52])
                ** 2
            )
            for dy in range(-6, 7)
            for dx in range(-6, 7)
        }
        best = min(errors, key=errors.get)
        assert best == pytest.approx(went, abs=0.75)
        tested += 1
    assert tested >= 4


def test_a_saccade_changes_the_picture_more_than_drift():
    movie = natural_movie(seconds=20, scene_seconds=20, seed=1)
    change = np.abs(np.diff(movie.contrast.values, axis=0)).mean(axis=(1, 2))
    jump = movie.saccade.values[1:]
    assert np.median(change[jump]) > 5 * np.median(change[~jump])


def test_any_part_equals_the_whole(folder):
    for source in (None, folder):
        whole = natural_movie(source, seconds=6, scene_seconds=1, seed=3)
        part = natural_movie(source, seconds=6, scene_seconds=1, part=(50, 190), seed=3)
        for name in whole.data_vars:
            np.testing.assert_array_equal(part[name].values, whole[name].values[50:190])
        assert part.time.values[0] == pytest.approx(50 / 60)


def test_seeds_repeat_and_differ():
    a, b, c = (natural_movie(seconds=1, seed=seed) for seed in (5, 5, 6))
    assert a.identical(b)
    assert abs(np.corrcoef(a.contrast.values.ravel(), c.contrast.values.ravel())[0, 1]) < 0.5


def test_spectrum_is_as_steep_as_that_of_photographs():
    movie = natural_movie(seconds=16, scene_seconds=1, size=(40, 40), seed=1)
    taper = np.outer(np.hanning(40), np.hanning(40))
    frames = movie.contrast.values[::30]
    frames = frames - frames.mean(axis=(1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(frames * taper)) ** 2).mean(axis=0)
    line = np.fft.fftfreq(40) * 40
    radius = np.hypot(line[:, None], line[None])
    edges = np.geomspace(2, 14, 9)
    mean = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(mean), 1)[0]
    assert slope == pytest.approx(-2.6, abs=0.4)


def test_a_minute_is_rendered_in_seconds():
    start = time.process_time()
    natural_movie(seconds=60, seed=0)
    assert time.process_time() - start < 6


def test_photographs_are_each_shown_once_in_shuffled_order(folder):
    movie = natural_movie(folder, scene_seconds=0.5, seed=0)
    assert movie.sizes["time"] == 120
    order = movie.scene.values[::30].tolist()
    assert sorted(order) == [0, 1, 2, 3]
    assert movie.scene.attrs["files"] == ["a.png", "b.png", "c.png", "d.png"]
    orders = {
        tuple(natural_movie(folder, scene_seconds=0.5, seed=s).scene.values[::30]) for s in range(5)
    }
    assert len(orders) > 1


def test_a_photograph_at_rest_is_its_area_average(tmp_path):
    """The eye held still over the middle of an image of the scene's own size."""
    from retinacodec.stimuli.viewing import Window

    shape = Window((10, 10), 50.0, (250.0, 250.0)).scene_shape
    image = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    movie = natural_movie(tmp_path / "a.png", frames=3, size=(10, 10), eye=STILL, seed=0)
    y, x = movie.gaze_y.values[0], movie.gaze_x.values[0]
    assert np.ptp(movie.gaze_x.values) < 1e-9
    window = Window((10, 10), 50.0, (250.0, 250.0))
    frame = window.frames(image.astype(np.float32), np.array([y]), np.array([x]))[0]
    expected = frame / frame.mean() - 1
    assert movie.contrast.values[1] == pytest.approx(expected, abs=1e-4)


def test_a_clip_without_loss_is_its_own_contrast(write_clip, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (30, 16, 16), dtype=np.uint8)
    path = write_clip(tmp_path / "clip.mkv", frames)
    movie = natural_movie(path, size=(8, 8), frame_rate=30, seed=0)
    small = frames.reshape(30, 8, 2, 8, 2).mean(axis=(2, 4))
    assert movie.contrast.values == pytest.approx(small / small.mean() - 1, abs=1e-5)
    assert movie.luminance.values == pytest.approx(small.mean(axis=(1, 2)) / small.mean())
    assert not movie.saccade.values.any() and not movie.gaze_x.values.any()
    bright = natural_movie(path, size=(8, 8), frame_rate=30, gamma=2.0, seed=0)
    assert bright.contrast.values == pytest.approx(small**2 / (small**2).mean() - 1, abs=1e-5)


def test_clips_follow_each_other_loop_and_have_parts(write_clip, tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("b", 9), ("a", 6)):
        write_clip(tmp_path / f"{name}.mkv", rng.integers(0, 256, (count, 8, 8), np.uint8))
    movie = natural_movie(tmp_path, size=(8, 8), frame_rate=30, seed=0)
    assert movie.scene.values.tolist() == [0] * 6 + [1] * 9
    assert movie.scene.attrs["files"] == ["a.mkv", "b.mkv"]
    longer = natural_movie(tmp_path, frames=24, loop=True, size=(8, 8), frame_rate=30, seed=0)
    assert longer.scene.values.tolist() == [0] * 6 + [1] * 9 + [0] * 6 + [1] * 3
    part = natural_movie(
        tmp_path, frames=24, loop=True, part=(5, 18), size=(8, 8), frame_rate=30, seed=0
    )
    assert np.array_equal(part.contrast.values, longer.contrast.values[5:18])
    assert np.array_equal(part.luminance.values, longer.luminance.values[5:18])
    with pytest.raises(InputError, match=r"lasts 0\.50 s, 1\.00 s are wanted.*loop=True"):
        natural_movie(tmp_path, seconds=1, size=(8, 8), frame_rate=30, seed=0)
    with pytest.raises(InputError, match="neither"):
        natural_movie(tmp_path, loop=True, seed=0)


def test_a_black_clip_has_no_contrast(write_clip, tmp_path):
    path = write_clip(tmp_path / "clip.mkv", np.zeros((5, 8, 8), np.uint8))
    with pytest.raises(InputError, match="black"):
        natural_movie(path, size=(4, 4), seed=0)


def test_sources_that_cannot_be_used(write_clip, tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("x")
    for source, words in (
        (tmp_path / "missing", "no file or folder"),
        (empty, "no images or movies"),
        (7, "source: expected a file or folder"),
        (empty / "notes.txt", "cannot be decoded"),
    ):
        with pytest.raises(InputError, match=words):
            natural_movie(source, seconds=1, seed=0)
    write_clip(folder / "e.mkv", np.zeros((5, 8, 8), np.uint8))
    with pytest.raises(InputError, match="4 images and 1 movies"):
        natural_movie(folder, seconds=1, seed=0)
    (folder / "e.mkv").unlink()
    (folder / "b.png").write_text("broken")
    with pytest.raises(InputError, match=r"b\.png"):
        natural_movie(folder, scene_seconds=0.2, seed=0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"contrast": 0}, "contrast"),
        ({"contrast": 1.5, "gamma": -1}, "contrast.*gamma"),
        ({"part": (5, 5)}, "part"),
        ({"part": (0, 61)}, "part"),
        ({"part": 5}, "part"),
        ({"scene_seconds": 0}, "scene_seconds"),
        ({"eye": 1, "leaves": 2}, "eye.*leaves"),
        ({"seconds": None}, "seconds or frames"),
        ({"size": "40", "seed": -1}, "size.*seed"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(InputError, match=words):
        natural_movie(**{"seconds": 1, "seed": 0, **wrong})


@pytest.mark.realdata
def test_real_clips_and_photographs_become_movies(data_dir):
    movie = natural_movie(data_dir / "movies", seconds=17, size=(24, 24), frame_rate=30, seed=0)
    assert np.unique(movie.scene.values).tolist() == [0, 1, 2]
    assert abs(movie.contrast.values.mean(dtype=np.float64)) < 1e-5
    assert 0.3 < movie.contrast.values.std() < 1.0 and movie.contrast.values.min() >= -1
    stills = natural_movie(data_dir / "imagenet_photos", seconds=10, scene_seconds=1, seed=0)
    assert len(np.unique(stills.scene.values)) == 10
    assert 0.3 < stills.contrast.values.std() < 1.0
