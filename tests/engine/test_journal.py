"""A journal comes back as it was noted, is refused for another run, and is never half there."""

from __future__ import annotations

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.journal import Journal, unfinished_run


def test_it_comes_back_as_it_was_noted(tmp_path):
    said = {"rows": 3, "signs": None}
    journal = Journal(tmp_path / "journal.npz", said)
    journal.keep(scale=[1.5, 2.0], name="a")
    journal.mark("sweep", 7, {"sum": np.arange(4.0)})
    again = Journal.read(journal.path, said)
    assert (again.phase, again.row, again.kept["scale"].tolist()) == ("sweep", 7, [1.5, 2.0])
    assert str(again.kept["name"]) == "a" and again.running["sum"].tolist() == [0, 1, 2, 3]
    again.keep(atoms=np.eye(2))
    last = Journal.read(journal.path, said)
    assert (last.phase, last.row, last.running) == ("", 0, {})
    assert set(last.kept) == {"scale", "name", "atoms"}
    assert [path.name for path in tmp_path.iterdir()] == ["journal.npz"]


def test_a_crash_while_writing_leaves_the_earlier_one(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal.npz", {})
    journal.mark("scan", 1, {})
    before = journal.path.read_bytes()

    def crash(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", crash)
    with pytest.raises(KeyboardInterrupt):
        journal.mark("scan", 2, {})
    assert journal.path.read_bytes() == before


@pytest.mark.parametrize("contents", [b"", b"no archive", b"PK\x03\x04half"])
def test_a_damaged_one_is_refused(contents, tmp_path):
    path = tmp_path / "journal.npz"
    path.write_bytes(contents)
    with pytest.raises(InputError, match=r"cannot be read .* begin anew with overwrite=True"):
        Journal.read(path, {})


def test_all_differences_are_named(tmp_path):
    Journal(tmp_path / "journal.npz", {"seed": 0, "rows": 3}).mark("scan", 1, {})
    with pytest.raises(InputError, match="rows was 3, is 4; seed was 0, is 1; split was None"):
        Journal.read(tmp_path / "journal.npz", {"seed": 1, "rows": 4, "split": "x"})


def test_a_foreign_folder_is_not_removed(tmp_path):
    folder = tmp_path / "modes.unfinished"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is no unfinished run; move it away"):
        unfinished_run(tmp_path / "modes.zarr", {}, resume=False, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    assert unfinished_run(tmp_path / "modes.zarr", {}, resume=True, overwrite=False).kept == {}
