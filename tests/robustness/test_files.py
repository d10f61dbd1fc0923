"""Files that are no recordings, or not whole, or in use: one line says what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError
from retinacodec.hdf5_safety import open_hdf5
from retinacodec.importers import describe, import_recording
from retinacodec.nwb import open_nwb, read_nwb, read_stimulus
from retinacodec.validation import validate

DOORS = (read_nwb, read_stimulus, describe, validate)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: b"", r"is empty \(0 bytes\); copy or download it again"),
        (lambda whole: b"hello", "is not an HDF5 or NWB file"),
        (
            lambda whole: whole[: len(whole) // 2],
            r"is incomplete \([\d.]+ of [\d.]+ MB\); copy or download it again",
        ),
    ],
    ids=["empty", "text", "truncated"],
)
def test_what_is_no_whole_hdf5_file_is_said_so(good, tmp_path, content, message):
    (tmp_path / "file.nwb").write_bytes(content(good.read_bytes()))
    for use in DOORS:
        with pytest.raises(RecordingError, match=message) as caught:
            use(tmp_path / "file.nwb")
        assert "\n" not in str(caught.value)


def test_a_zarr_store_or_a_folder_is_no_file(tmp_path):
    (tmp_path / "store.nwb").mkdir()
    with pytest.raises(RecordingError, match="is a folder; give the file in it"):
        read_nwb(tmp_path / "store.nwb")
    (tmp_path / "store.nwb" / ".zgroup").touch()
    for use in (read_nwb, read_stimulus, validate):
        with pytest.raises(RecordingError, match=r"folder \(a Zarr store\); export it"):
            use(tmp_path / "store.nwb")


def test_a_missing_file_and_a_name_that_ends_in_a_space(good, tmp_path):
    shutil.copy(good, tmp_path / "cells.nwb ")
    for use in DOORS:
        with pytest.raises(RecordingError, match=r"cells.nwb: no such file"):
            use(tmp_path / "cells.nwb")
        use(tmp_path / "cells.nwb ")


def test_a_file_without_permission_is_said_so(good, tmp_path, monkeypatch):
    path = shutil.copy(good, tmp_path / "closed.nwb")
    path.chmod(0)
    if os.geteuid() == 0:  # the superuser may read everything

        def refused(self, *_, **__):
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", refused)
    for use in (read_nwb, read_stimulus, validate):
        with pytest.raises(RecordingError, match=r"closed.nwb: cannot be opened: Permission deni"):
            use(path)


def test_hdf5_of_another_kind_leads_to_the_next_command(tmp_path, bad):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["numbers"] = [1, 2, 3]
    for use in (read_nwb, validate):
        with pytest.raises(RecordingError, match=r"HDF5 but not NWB 2; .*codec info plain.h5"):
            use(tmp_path / "plain.h5")
    found = describe(tmp_path / "plain.h5")
    assert found.contents == (("numbers", "int64 (3,)"),) and found.problems
    with pytest.raises(RecordingError, match=r"no known format; known are NWB 1"):
        import_recording(tmp_path / "plain.h5", tmp_path / "out.nwb")
    assert not (tmp_path / "out.nwb").exists()

    def old(file):
        file.attrs["nwb_version"] = "1.0.6"

    with pytest.raises(RecordingError, match=r"is NWB 1.0.6, .*retinacodec import bad.nwb --out"):
        read_nwb(bad(old))
    with pytest.raises(RecordingError, match=r"NWB 2.* already; use it as it is"):
        import_recording(bad(lambda file: None), tmp_path / "out.nwb")


def test_a_user_block_is_skipped(good, tmp_path):
    with (
        h5py.File(good) as old,
        h5py.File(tmp_path / "block.nwb", "w", userblock_size=1024) as new,
    ):
        new.attrs.update(old.attrs)
        for name in old:
            old.copy(name, new)
    assert read_nwb(tmp_path / "block.nwb")["spike_count"].equals(read_nwb(good)["spike_count"])


def test_a_file_that_is_open_for_writing_elsewhere_is_read_or_said_so(good, tmp_path):
    path = shutil.copy(good, tmp_path / "busy.nwb")
    code = "import h5py, sys; h5py.File(sys.argv[1], 'r+'); print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        assert read_nwb(path)["spike_count"].sum() > 300
        other.stdin.close()


def test_a_file_that_its_writer_never_closed_is_said_so(tmp_path):
    code = (
        "import h5py, os, sys\n"
        "file = h5py.File(sys.argv[1], 'w', libver='latest')\n"
        "file['x'] = 1; file.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "open.nwb"], check=True)
    message = "is being written by another program, or was not closed .*; close it there, or repair"
    for use in DOORS:
        with pytest.raises(RecordingError, match=message):
            use(tmp_path / "open.nwb")


@pytest.mark.parametrize("how", ["grows", "shrinks", "is written into"])
def test_a_file_that_changes_while_it_is_read_is_said_so(good, tmp_path, how):
    path = shutil.copy(good, tmp_path / "live.nwb")
    size = path.stat().st_size
    message = "changed while it was read; wait until it is written, then try again"
    with pytest.raises(RecordingError, match=message), open_nwb(path) as file:
        with path.open("r+b") as raw:
            if how == "shrinks":
                raw.truncate(size // 2)
            else:
                raw.seek(size if how == "grows" else size - 8)
                raw.write(b"\0" * 8)
        os.utime(path)
        file["stimulus/presentation/noise/data"][()]


def test_a_file_that_is_replaced_while_it_is_read_stays_what_it_was(good, tmp_path):
    path = shutil.copy(good, tmp_path / "live.nwb")
    (tmp_path / "new.nwb").write_bytes(b"something else")
    with open_nwb(path) as file:
        (tmp_path / "new.nwb").replace(path)
        assert file["units/spike_times"].shape == (600,)


def test_an_error_inside_the_block_is_not_hidden(good):
    with pytest.raises(RecordingError, match="cannot be read: ZeroDivisionError"), open_hdf5(good):
        _ = 1 / 0


def test_numbers_in_a_compression_that_is_not_installed(bad):
    absent = 32999

    def compressed(file):
        values = file["units/spike_times"][()]
        del file["units/spike_times"]
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk(values.shape)
        how.set_filter(absent, h5py.h5z.FLAG_OPTIONAL, ())
        space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
        data = h5py.h5d.create(file["units"].id, b"spike_times", kind, space, how)
        data.write_direct_chunk((0,), values.tobytes(), filter_mask=0)

    path = bad(compressed)
    message = r"compression that is not installed here .*; install hdf5plugin, or rewrite it with"
    with pytest.raises(RecordingError, match=message):
        read_nwb(path)
    assert any(
        "compression" in finding.what for finding in validate(path) if finding.level == "error"
    )
    assert read_stimulus(path)["contrast"].shape == (300, 12, 10)


@pytest.mark.parametrize("size", [1 << 10, 2 << 20])
def test_an_attribute_of_any_size_does_no_harm(good, tmp_path, size):
    with (
        h5py.File(good) as old,
        h5py.File(tmp_path / "wide.nwb", "w", libver="latest") as new,
    ):
        new.attrs.update(old.attrs)
        for name in old:
            old.copy(name, new)
        for place in ("acquisition/wide", "stimulus/presentation/wide", "analysis/wide"):
            for name in ("neurodata_type", "namespace", "comments", "description"):
                new.create_group(f"{place}_{name}").attrs[name] = np.zeros(size // 8)
    assert read_nwb(tmp_path / "wide.nwb")["spike_count"].sum() > 300
    for use in DOORS[1:]:
        try:
            assert len(str(use(tmp_path / "wide.nwb"))) < 10_000
        except RecordingError as error:
            assert len(str(error)) < 1000


def test_a_heap_without_end_is_refused_before_the_library_hangs_on_it(good, tmp_path):
    data = bytearray(good.read_bytes())
    heap = data.index(b"GCOL\x01")
    position = heap + 16
    while int.from_bytes(data[position : position + 2], "little"):
        length = int.from_bytes(data[position + 8 : position + 16], "little")
        position += 16 + (length + 7) // 8 * 8
    data[position + 8 : position + 16] = bytes(8)  # the free rest claims to take no space
    (tmp_path / "endless.nwb").write_bytes(data)
    for use in DOORS:
        with pytest.raises(RecordingError, match="a heap of its strings never ends; copy or down"):
            use(tmp_path / "endless.nwb")
