"""Provenance tells the truth and nothing about the machine's folders or users."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import retinacodec
from retinacodec import provenance as module
from retinacodec.provenance import provenance


def test_versions_threads_and_extras() -> None:
    record = provenance(seeds={"model": 3}, inputs={"cells.nwb": "00"})
    assert record["retinacodec"] == retinacodec.__version__
    assert record["packages"]["numpy"] == np.__version__
    assert record["python"] == platform.python_version()
    assert record["threads"] >= 1
    assert record["seeds"] == {"model": 3}
    assert record["time_utc"].endswith("+00:00")
    assert json.loads(json.dumps(record)) == record


def test_it_names_no_folder_user_or_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/somebody/bin/retinacodec", "run", "my study.toml"])
    record = provenance()
    assert record["command"] == "retinacodec run 'my study.toml'"
    text = json.dumps(record)
    assert str(Path.home()) not in text and str(Path.cwd()) not in text
    assert platform.node() not in text or len(platform.node()) < 4
    assert getpass.getuser() not in text.split()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["-c"], "(interactive session)"),
        ([""], "(interactive session)"),
        (["/a/ipykernel_launcher.py", "-f", "/a/kernel-1.json"], "(interactive session)"),
        (["/a/b/retinacodec/__main__.py", "demo"], "retinacodec demo"),
        (["/a/b/study.py", "--n", "3"], "study.py --n 3"),
    ],
)
def test_the_command_as_typed(argv: list[str], said: str) -> None:
    assert module._command(argv) == said


def test_commit_only_of_a_checkout_that_tracks_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    copy = tmp_path / "provenance.py"
    copy.write_text("tracked = 1\n")
    git("init", "-q")
    monkeypatch.setattr(module, "__file__", str(copy))
    uncached = module._checkout.__wrapped__
    assert uncached() == (None, None), "an untracked copy, as in a .venv inside someone's project"
    git("add", "provenance.py")
    git("commit", "-q", "-m", "track it")
    assert uncached() == (git("rev-parse", "HEAD"), False)
    copy.write_text("tracked = 2\n")
    assert uncached() == (git("rev-parse", "HEAD"), True)


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert module._checkout.__wrapped__() == (None, None)
