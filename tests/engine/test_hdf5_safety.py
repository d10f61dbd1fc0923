import h5py
import numpy as np
import pytest

from retinacodec.errors import InputError, RecordingError
from retinacodec.hdf5_safety import Limits, blaming, is_hdf5, open_hdf5, scan


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["a/b"] = np.arange(5)
        file["a/again"] = file["a"]
        file["soft"] = h5py.SoftLink("/a/b")
    return tmp_path / "file.h5"


def test_a_harmless_file_has_no_findings(path):
    assert scan(path) == []
    with open_hdf5(path) as file:
        assert file["soft"][()].tolist() == [0, 1, 2, 3, 4]


def test_links_out_are_found_and_left_alone_only_where_nobody_opens_them(path):
    with h5py.File(path, "r+") as file:
        file["a/data"] = h5py.ExternalLink("other.h5", "/x")
    assert scan(path) == ["/a/data links to another file (other.h5)"]
    with open_hdf5(path, unread={"/a/*"}) as file:
        assert "b" in file["a"]
    with pytest.raises(RecordingError, match="unsafe: /a/data links"), open_hdf5(path):
        pass


def test_sizes_and_numbers_beyond_the_limits_are_found(path):
    with h5py.File(path, "r+") as file:
        file.create_dataset("zeros", data=np.zeros(1 << 20), compression="gzip", chunks=(1 << 16,))
        file.create_dataset("unwritten", (1 << 20,), "f8", chunks=(1 << 16,))
    found = scan(path, Limits(expanded_bytes=1 << 20, unwritten_bytes=1 << 20))
    assert len(found) == 2 and scan(path) == []
    assert any(line.startswith("/zeros expands") for line in found)
    assert "/unwritten claims 0.0 GiB and stores nothing" in found
    assert scan(path, Limits(objects=3)) == ["more than 3 objects"]


def test_a_file_that_is_open_for_writing_in_this_program_can_be_read(path):
    with h5py.File(path, "r+") as writing, open_hdf5(path) as reading:
        assert reading["a/b"].shape == writing["a/b"].shape


def test_a_user_block_does_not_hide_the_signature(tmp_path):
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512):
        pass
    assert is_hdf5(tmp_path / "block.h5")
    (tmp_path / "no.h5").write_bytes(b"x" * 4096)
    assert not is_hdf5(tmp_path / "no.h5")


def test_unexpected_errors_become_recording_errors_and_own_errors_pass(path):
    with pytest.raises(RecordingError, match="cannot be read: KeyError"), open_hdf5(path) as file:
        file["nothing"]
    with pytest.raises(InputError, match="mine"), open_hdf5(path):
        raise InputError("mine")
    with pytest.raises(RecordingError, match=r"file\.h5: mine"), blaming(path):
        raise InputError("mine")


def test_a_missing_compression_filter_is_named(path):
    with pytest.raises(RecordingError, match="compression that is not installed"), blaming(path):
        raise OSError("Can't synchronously read data (required filter is not registered)")
