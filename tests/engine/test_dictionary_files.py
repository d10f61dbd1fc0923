"""Dictionaries on disk: the same bits again, and one line on whatever is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from retinacodec.atoms import Dictionary
from retinacodec.components import PCA
from retinacodec.dictionary_files import open_dictionary, save_dictionary
from retinacodec.errors import InputError
from retinacodec.factorisations import NMF
from retinacodec.scaling import BalancedRows


@pytest.fixture(scope="module")
def table(planted):
    return planted(200, 8, 3)


@pytest.fixture(scope="module")
def found(table):
    return NMF(3, scaling=BalancedRows()).fit(table.x, signs=table.signs, progress=False)


@pytest.mark.parametrize("name", ["modes", "modes.safetensors", "modes.json", "modes.of.conv1"])
def test_a_dictionary_comes_back(found, table, tmp_path, name):
    written = save_dictionary(found, tmp_path / name)
    assert written.suffix == ".safetensors"
    again = open_dictionary(tmp_path / name)
    for part in ("atoms", "loadings", "agreement"):
        np.testing.assert_array_equal(getattr(again, part), getattr(found, part))
    for name_, values in found.log.items():
        np.testing.assert_array_equal(again.log[name_], values)
    assert (again.scale, again.method, again.seed) == (found.scale, found.method, found.seed)
    assert (again.tried, again.centre) == (found.tried, None)
    np.testing.assert_array_equal(again.transform(2 * table.x), found.transform(2 * table.x))
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_a_centre_comes_back(table, tmp_path):
    found = PCA(3).fit(table.x, progress=False)
    again = open_dictionary(save_dictionary(found, tmp_path / "pca"))
    np.testing.assert_array_equal(again.centre, found.centre)
    np.testing.assert_array_equal(again.reconstruct(), found.reconstruct())


def test_the_settings_say_where_it_came_from(found, tmp_path):
    save_dictionary(found, tmp_path / "modes")
    record = json.loads((tmp_path / "modes.json").read_text())
    assert record["config"]["method"] == repr(NMF(3, scaling=BalancedRows()))
    assert {"retinacodec", "packages", "time_utc"} <= record["provenance"].keys()
    assert str(tmp_path) not in json.dumps(record["config"])


def test_nothing_is_replaced_unasked(found, tmp_path):
    save_dictionary(found, tmp_path / "modes")
    before = (tmp_path / "modes.safetensors").read_bytes()
    with pytest.raises(InputError, match="exists already; choose another name or pass overwrite"):
        save_dictionary(found, tmp_path / "modes")
    (tmp_path / "modes.safetensors").unlink()
    with pytest.raises(InputError, match=r"modes\.json: exists already"):
        save_dictionary(found, tmp_path / "modes")
    assert not (tmp_path / "modes.safetensors").exists()
    save_dictionary(found, tmp_path / "modes", overwrite=True)
    assert (tmp_path / "modes.safetensors").read_bytes() == before
    with pytest.raises(InputError, match="does not exist; make it first"):
        save_dictionary(found, tmp_path / "no" / "modes")


def test_nothing_is_left_half_written(found, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        save_dictionary(found, tmp_path / "modes")
    assert not list(tmp_path.iterdir())


def test_what_is_not_finite_is_not_saved(found, tmp_path):
    atoms = found.atoms.copy()
    atoms[0, 0] = np.nan
    broken = Dictionary(**{**vars(found), "atoms": atoms})
    with pytest.raises(InputError, match="atoms holds what is NaN"):
        save_dictionary(broken, tmp_path / "modes")
    assert not list(tmp_path.iterdir())


def damage(name):
    """Return what harms a saved dictionary in this way, and what is said of it."""

    def cut(folder):
        file = folder / "modes.safetensors"
        file.write_bytes(file.read_bytes()[:-20])

    def flip(folder):
        file = folder / "modes.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(bytes(data))

    def change(**entries):
        def act(folder):
            file = folder / "modes.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | entries))

        return act

    def coder(folder):
        file = folder / "modes.json"
        record = json.loads(file.read_text())
        record["config"]["coder"]["kind"] = "other"
        file.write_text(json.dumps(record))

    return {
        "no settings": (lambda folder: (folder / "modes.json").unlink(), "json: no such file"),
        "no arrays": (
            lambda folder: (folder / "modes.safetensors").unlink(),
            "arrays cannot be read: No such file",
        ),
        "cut arrays": (cut, "is not a whole safetensors file"),
        "changed arrays": (flip, "is not the file that modes.json was written for"),
        "cut settings": (
            lambda folder: (folder / "modes.json").write_text('{"format": 1,'),
            "is not a JSON file of settings",
        ),
        "no dictionary": (change(kind="model"), "expected the settings of a dictionary"),
        "newer": (change(format=99), "newer version of the package"),
        "no hash": (change(sha256=None), "sha256: expected str, got None"),
        "empty settings": (change(config={}), "does not describe a dictionary"),
        "other coder": (coder, "expected a coder of"),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "no settings",
        "no arrays",
        "cut arrays",
        "changed arrays",
        "cut settings",
        "no dictionary",
        "newer",
        "no hash",
        "empty settings",
        "other coder",
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(found, tmp_path, name):
    save_dictionary(found, tmp_path / "modes")
    act, said = damage(name)
    act(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        open_dictionary(tmp_path / "modes")
    assert "\n" not in str(caught.value)
