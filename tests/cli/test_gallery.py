"""The gallery's scripts run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from retinacodec.settings import read_settings

GALLERY = Path(__file__).resolve().parents[2] / "docs" / "gallery"


@pytest.mark.slow
def test_the_eight_lines_of_the_main_job_run():
    words = [sys.executable, GALLERY / "main_job.py", "--seconds", "12", "--epochs", "1"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "modes; residual" in found.stdout


def test_modes_of_the_shapes_go_with_all_three(tmp_path):
    words = [sys.executable, GALLERY / "classifier.py", "--out", tmp_path]
    words += ["--epochs", "6", "--images", "60"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert int(found.stdout.split("%")[0]) >= 90
    modes = re.findall(r"mode \d: (\w+), r = (\S+), p = (\S+)", found.stdout)
    strong = {name for name, r, p in modes if float(r) > 0.6 and float(p) < 0.01}
    assert strong == {"disc", "square", "bar"}
    assert "local maps" in (tmp_path / "gallery.html").read_text(encoding="utf-8")


def test_the_eight_lines_stand_in_the_readme():
    script = (GALLERY / "main_job.py").read_text()
    readme = (GALLERY.parents[1] / "README.md").read_text()
    lines = readme.split("```python\n")[1].split("```")[0].strip().splitlines()
    assert len(lines) == 9
    for line in lines[3:]:
        words = "".join(line.replace(", seed=0)", ")").split()).rstrip(")")
        assert words in "".join(script.split()), line


def test_the_mouse_study_is_a_valid_study_file():
    settings = read_settings(GALLERY / "mouse_study.toml")
    assert settings.recording.stimulus == "rec_stim_2"
    assert settings.recording.crop.x == (24, 40)
