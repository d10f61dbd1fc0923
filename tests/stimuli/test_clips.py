from __future__ import annotations

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.stimuli.clips import average_areas, clip_frames


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (12, 18, 24), dtype=np.uint8)


def test_own_size_and_rate_give_the_very_pixels(tmp_path, write_clip, noise):
    path = write_clip(tmp_path / "clip.mkv", noise)
    found = np.stack(list(clip_frames(path, size=(18, 24), frame_rate=30)))
    assert found.shape == noise.shape
    assert np.array_equal(found, noise)


def test_space_is_averaged_over_areas_after_a_centred_crop(tmp_path, write_clip, noise):
    path = write_clip(tmp_path / "clip.mkv", noise)
    found = np.stack(list(clip_frames(path, size=(6, 6), frame_rate=30)))
    expected = noise[:, :, 3:21].reshape(12, 6, 3, 6, 3).mean(axis=(2, 4))
    assert found == pytest.approx(expected, abs=1e-3)


def test_uneven_areas_keep_the_mean():
    image = np.random.default_rng(1).random((17, 23))
    down, across = average_areas((17, 23), (5, 5))
    assert down.sum(axis=1) == pytest.approx(1) and across.sum(axis=1) == pytest.approx(1)
    small = down @ image @ across.T
    assert small.mean() == pytest.approx(image[:, 3:20].mean(), abs=1e-6)
    first = (image[:3, :].sum(axis=0) + 0.4 * image[3]) / 3.4
    assert small[0, 0] == pytest.approx((first[3:6].sum() + 0.4 * first[6]) / 3.4, abs=1e-6)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (60, [k // 2 for k in range(24)]),
        (15, [0, 2, 4, 6, 8, 10]),
        (50, [k * 30 // 50 for k in range(20)]),
    ],
)
def test_each_frame_shows_what_the_clip_shows_then(tmp_path, write_clip, noise, rate, expected):
    path = write_clip(tmp_path / "clip.mkv", noise)
    found = list(clip_frames(path, size=(18, 24), frame_rate=rate))
    which = [int(np.abs(noise - image).sum(axis=(1, 2)).argmin()) for image in found]
    assert which == expected


def test_uneven_frame_times_are_obeyed(tmp_path, write_clip, noise):
    times = [0.0, 0.1, 0.15, 0.4]
    path = write_clip(tmp_path / "clip.mkv", noise[:4], rate=10, times=times)
    found = list(clip_frames(path, size=(18, 24), frame_rate=20))
    which = [int(np.abs(noise - image).sum(axis=(1, 2)).argmin()) for image in found]
    assert which[:9] == [0, 0, 1, 2, 2, 2, 2, 2, 3]


def test_what_is_no_movie_is_refused(tmp_path, write_clip, noise):
    text = tmp_path / "text.mp4"
    text.write_text("not a movie")
    with pytest.raises(InputError, match="cannot be decoded"):
        list(clip_frames(text, size=(4, 4), frame_rate=30))
    whole = write_clip(tmp_path / "clip.mkv", noise).read_bytes()
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(whole[:200])
    with pytest.raises(InputError, match=r"broken\.mkv"):
        list(clip_frames(broken, size=(4, 4), frame_rate=30))


def test_sound_alone_is_refused(tmp_path):
    import av

    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match="no video stream"):
        list(clip_frames(path, size=(4, 4), frame_rate=30))


def test_a_playlist_cannot_reach_out(tmp_path):
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/clip.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match=r"list\.mp4"):
        list(clip_frames(playlist, size=(4, 4), frame_rate=30))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "frames", "fps", "shape"),
    [
        ("flower", 150, 29.97, (540, 960)),
        ("friday", 185, 30, (480, 640)),
        ("bug", 203, 30, (360, 640)),
    ],
)
def test_real_clips_last_and_look_as_decoded(data_dir, name, frames, fps, shape):
    import av

    path = data_dir / "movies" / f"mdn_{name}.mp4"
    found = list(clip_frames(path, size=(36, 36), frame_rate=60))
    assert len(found) == pytest.approx(60 * frames / fps, abs=1.5)
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).to_ndarray(format="gray").astype(float)
    assert first.shape == shape
    left = (shape[1] - shape[0]) // 2
    mean = first[:, left : left + shape[0]].mean()
    assert found[0].mean() == pytest.approx(mean, abs=0.01)
