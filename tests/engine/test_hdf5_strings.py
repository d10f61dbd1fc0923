"""A text that claims to be longer than its file is refused before the library reads it."""

import time

import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError
from retinacodec.hdf5_safety import open_hdf5, scan
from retinacodec.hdf5_strings import longest_claim

WORDS = ["a", "four", "a little longer", ""]


@pytest.mark.parametrize("how", [{}, {"chunks": (3,), "maxshape": (None,)}, {"scalar": True}])
def test_the_longest_text_is_told_without_reading_any(tmp_path, how):
    path = tmp_path / "words.h5"
    scalar = how.pop("scalar", False)
    with h5py.File(path, "w") as file:
        kind = h5py.string_dtype()
        words = WORDS[2] if scalar else np.array(WORDS, object)
        file.create_dataset("words", data=words, dtype=kind, **how)
    with h5py.File(path) as file:
        assert longest_claim(file["words"].id, path) == len(WORDS[2])
    assert scan(path) == []


def test_packed_texts_are_left_to_the_other_limits(tmp_path):
    path = tmp_path / "packed.h5"
    with h5py.File(path, "w") as file:
        words = np.array(WORDS * 50, object)
        file.create_dataset("words", data=words, dtype=h5py.string_dtype(), compression="gzip")
    with h5py.File(path) as file:
        assert longest_claim(file["words"].id, path) == 0


def test_a_damaged_length_is_refused_at_once(tmp_path):
    path = tmp_path / "words.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("words", data=np.array(WORDS, object), dtype=h5py.string_dtype())
    with h5py.File(path) as file:
        place = file["words"].id.get_offset()
    with path.open("r+b") as raw:
        raw.seek(place + 3)
        raw.write(b"\xd0")
    start = time.process_time()
    with (
        pytest.raises(RecordingError, match="/words claims a text of 3328 MiB, longer than"),
        open_hdf5(path),
    ):
        pass
    assert time.process_time() - start < 1
