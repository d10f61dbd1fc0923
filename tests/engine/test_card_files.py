"""An array file and its card: both whole, of one hash and one version, or one line why not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

from retinacodec.card_files import CardFormat, both_files, one_line, read_both, write_both
from retinacodec.errors import InputError

MAP = CardFormat("map", "pixels", "legend", "save_map", {"place": str}, kind="map", version=2)
PLAIN = CardFormat("list", "entries", "label", "save_list", {"length": int})
ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.int64)}


@pytest.fixture
def written(tmp_path):
    return write_both(MAP, tmp_path / "one", save(ARRAYS), {"place": "here", "more": [1, 2]})


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("one", "one"),
        ("one.json", "one"),
        ("one.safetensors", "one"),
        ("one.of.2", "one.of.2"),
        ("one.npz", "one.npz"),
    ],
)
def test_the_two_names_of_a_path(tmp_path, name, stem):
    named = both_files(tmp_path / name)
    assert named == (tmp_path / f"{stem}.safetensors", tmp_path / f"{stem}.json")
    assert both_files(str(tmp_path / name)) == named


def test_both_come_back_and_safetensors_reads_the_arrays(written):
    arrays, record = read_both(MAP, written, load)
    for found in (arrays, load_file(written)):
        assert found.keys() == ARRAYS.keys()
        for name, values in ARRAYS.items():
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype
    hashed = hashlib.sha256(written.read_bytes()).hexdigest()
    assert record == {
        "format": 2,
        "kind": "map",
        "place": "here",
        "more": [1, 2],
        "sha256": hashed,
    }
    assert json.loads(written.with_suffix(".json").read_text()) == record


def test_a_format_without_a_kind_writes_none(tmp_path):
    path = write_both(PLAIN, tmp_path / "plain", save(ARRAYS), {"length": 2})
    assert read_both(PLAIN, path, load)[1].keys() == {"format", "length", "sha256"}


@pytest.mark.parametrize("step", ["write_bytes", "write_text"])
def test_a_full_disk_leaves_the_earlier_pair(written, monkeypatch, step):
    def fail(*args, **options):
        raise OSError("disk full")

    before = {file: file.read_bytes() for file in written.parent.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(Path, step, fail)
        with pytest.raises(OSError, match="disk full"):
            write_both(MAP, written, save({}), {"place": "there"}, overwrite=True)
    assert {file: file.read_bytes() for file in written.parent.iterdir()} == before


def test_a_card_that_json_cannot_hold_leaves_nothing(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_both(MAP, tmp_path / "one", save(ARRAYS), {"place": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_neither_file_is_replaced_unasked(written, suffix):
    kept = written.with_suffix(suffix)
    other = ({".safetensors", ".json"} - {suffix}).pop()
    written.with_suffix(other).unlink()
    before = kept.read_bytes()
    with pytest.raises(InputError, match=f"one{suffix}: exists already"):
        write_both(MAP, written, save({}), {"place": "there"})
    assert [file.read_bytes() for file in written.parent.iterdir()] == [before]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "list"}, "expected the settings of a map"),
        ({"format": 3}, "newer version of the package"),
        ({"format": "2"}, "format: expected int, got '2'"),
        ({"place": 7, "sha256": None}, "place: expected str, got 7.*sha256: expected str"),
        ({"sha256": "0" * 64}, "is not the file that one.json was written for; copy both again"),
    ],
)
def test_what_a_card_says_is_checked(written, change, said):
    card = written.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    with pytest.raises(InputError, match=said) as caught:
        read_both(MAP, written, load)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "content", "said"),
    [
        (".json", None, "no such file; save_map writes it beside the pixels"),
        (".json", b"[]", "expected the settings of a map"),
        (".json", b"{", "is not a JSON legend of a map: JSONDecodeError"),
        (".json", b"\xff\xfe", "is not a JSON legend of a map: UnicodeDecodeError"),
        (".safetensors", None, "the pixels cannot be read: No such file"),
        (".safetensors", b"\x80\x04N.", "is not a whole safetensors file; copy it again"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(written, suffix, content, said):
    file = written.with_suffix(suffix)
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_both(MAP, written, load)
    assert "\n" not in str(caught.value)


def test_one_line_of_an_error():
    assert one_line(ValueError("a\n  b\tc")) == "ValueError a b c"
