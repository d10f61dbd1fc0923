"""A video that was written, read back by its decoder."""

import av
import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.video import write_video


def _pictures(count=12, size=(33, 48)):
    for number in range(count):
        picture = np.zeros((*size, 3), np.uint8)
        picture[:, : 4 * (number + 1)] = (255, 128, 0)
        yield picture


def test_pictures_come_back_in_order_at_their_rate(tmp_path):
    path = write_video(tmp_path / "film.mp4", _pictures(), frame_rate=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert float(stream.average_rate) == 12.5
    assert len(frames) == 12 and frames[0].shape == (32, 48, 3)
    for frame, picture in zip(frames, _pictures(), strict=True):
        assert np.abs(frame.astype(int) - picture[:32]).mean() < 8


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="ending in"):
        write_video(tmp_path / "film.gif", _pictures(), frame_rate=10)
    with pytest.raises(InputError, match="above 0"):
        write_video(tmp_path / "film.mp4", _pictures(), frame_rate=0)
    with pytest.raises(InputError, match="got none"):
        write_video(tmp_path / "film.mp4", [], frame_rate=10)
    with pytest.raises(InputError, match="another size"):
        mixed = [np.zeros((16, 16, 3), np.uint8), np.zeros((18, 16, 3), np.uint8)]
        write_video(tmp_path / "film.mp4", mixed, frame_rate=10)
    with pytest.raises(InputError, match="of uint8"):
        write_video(tmp_path / "film.mp4", [np.zeros((16, 16))], frame_rate=10)
    assert not list(tmp_path.iterdir())


def test_an_earlier_file_is_kept_unless_asked(tmp_path):
    path = write_video(tmp_path / "film.mp4", _pictures(3), frame_rate=10)
    with pytest.raises(InputError, match="overwrite"):
        write_video(path, _pictures(3), frame_rate=10)
    write_video(path, _pictures(3), frame_rate=10, overwrite=True)
