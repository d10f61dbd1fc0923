"""Broken recordings through the command line: exit code 1, one line, nothing written."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

MOVIE = "stimulus/presentation/noise"


def cut_short(path):
    path.write_bytes(path.read_bytes()[:20_000])


def empty(path):
    path.write_bytes(b"")


def no_text(path):
    path.write_bytes(b"hello")


def unsorted(path):
    with h5py.File(path, "r+") as file:
        file["units/spike_times"][:2] = [9.0, 1.0]


def not_finite(path):
    with h5py.File(path, "r+") as file:
        file["units/spike_times"][3] = np.nan


def backwards(path):
    with h5py.File(path, "r+") as file:
        file[f"{MOVIE}/timestamps"][5] = 0.0


def old(path):
    with h5py.File(path, "r+") as file:
        file.attrs["nwb_version"] = "1.0.6"


def linked(path):
    with h5py.File(path, "r+") as file:
        del file["units/spike_times"]
        file["units/spike_times"] = h5py.ExternalLink("/etc/other.h5", "/secret")


def damaged(path):
    data = bytearray(path.read_bytes())
    data[600:1400] = b"\xff" * 800
    path.write_bytes(data)


BREAKS = (cut_short, empty, no_text, unsorted, not_finite, backwards, old, linked, damaged)


@pytest.fixture
def broken(good, tmp_path, monkeypatch, request):
    path = tmp_path / "in" / "cells.nwb"
    path.parent.mkdir()
    path.write_bytes(good.read_bytes())
    request.param(path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "in" / "study.toml").write_text(f'[recording]\nfile = "{path}"\n')
    return path


@pytest.mark.parametrize("broken", BREAKS, indirect=True, ids=lambda change: change.__name__)
def test_a_broken_recording_ends_in_one_line_and_leaves_nothing(broken, call, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    commands = (
        ("fit", broken, "--out", "model.safetensors"),
        ("run", broken.with_name("study.toml"), "--out", "folder"),
        ("import", broken, "--out", "new.nwb"),
        ("sta", broken, "--out", "sta.zarr"),
        ("info", broken),
        ("validate", broken),
    )
    for words in commands:
        code, out, err = call(*words)
        assert code == 1, (words[0], code, out, err)
        assert "Traceback" not in out + err
        if words[0] in ("info", "validate") and not err:  # which tell what they found
            assert "problem: " in out or "error: " in out
        else:
            assert len(err.splitlines()) == 1 and str(broken) in err and not out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_process_of_its_own_on_a_terminal_of_few_letters(good, tmp_path, call):
    path = tmp_path / "cells.nwb"
    path.write_bytes(good.read_bytes())
    unsorted(path)
    code, out, err = call("fit", path, "--out", tmp_path / "model.safetensors")
    assert code == 1 and not out and len(err.splitlines()) == 1
    assert err.startswith(f"retinacodec: {path}: unit 0 has unsorted spike times")
    plain = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin", "LC_ALL": "C", "PYTHONUTF8": "0"}
    with h5py.File(path, "r+") as file:
        file.move(MOVIE, "stimulus/presentation/視覚")
    words = [sys.executable, "-m", "retinacodec", "info", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, env=plain)
    assert "problem: " in done.stdout and "unit 0 has unsorted spike times" in done.stdout
    assert done.returncode == 1 and "\\u8996\\u899a" in done.stdout and done.stderr == ""


def test_a_file_of_two_movies_asks_which_one(good, tmp_path, call):
    path = tmp_path / "two.nwb"
    path.write_bytes(good.read_bytes())
    with h5py.File(path, "r+") as file:
        file.copy(file[MOVIE], "stimulus/presentation/other")
    code, _, err = call("fit", path, "--out", tmp_path / "model.safetensors")
    assert code == 1 and "choose one with stimulus=: noise, other" in err
    code, out, _ = call("info", path)
    assert code == 0 and "--stimulus" in out
