"""The shape of the house: rooms mapped, listed and flat, links resolve, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("stimuli", "models", "analyses")
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = [path for room in ("retinacodec", *ROOMS) for path in sorted((ROOT / room).glob("*.py"))]


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_mapped_listed_flat_and_linked(room):
    tools = CONFIG["tool"]["setuptools"]
    assert f"retinacodec.{room}" in tools["packages"]
    assert tools["package-dir"][f"retinacodec.{room}"] == room
    link = ROOT / "retinacodec" / room
    assert link.is_symlink()
    assert link.resolve() == ROOT / room
    assert not [path for path in (ROOT / room).rglob("*.py") if path.parent != ROOT / room]


def test_coverage_looks_at_every_folder():
    assert set(CONFIG["tool"]["coverage"]["run"]["source"]) == {"retinacodec", *ROOMS}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_file_is_small_and_says_what_it_knows(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 400
    assert ast.get_docstring(tree)
    long = {
        node.name: length
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := _body_lines(node)) > 40
    }
    assert not long


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and signature."""
    first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    return node.end_lineno - first.lineno + 1


def test_no_file_names_a_machine():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".cff", ".txt"} and path.name != "test_layout.py":
            text = path.read_text(errors="ignore")
            assert not [word for word in ("/work/", "/root/", "/home/") if word in text], name


@pytest.mark.slow
def test_wheel_holds_the_checkout_and_one_top_level_name(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"retinacodec"}
    inside = {name.removeprefix("retinacodec/") for name in names if name.endswith(".py")}
    expected = {path.relative_to(ROOT).as_posix().removeprefix("retinacodec/") for path in SOURCES}
    assert inside == expected


def test_no_module_hides_a_name_of_the_face():
    import retinacodec

    modules = {path.stem for path in (ROOT / "retinacodec").glob("*.py")}
    assert not modules & set(retinacodec._HOMES)
