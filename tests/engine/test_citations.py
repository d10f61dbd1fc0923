"""Citations name exactly what was used; CITATION.cff tells the same story."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import retinacodec
from retinacodec.citations import METHODS, cite, methods_paragraph, references
from retinacodec.errors import InputError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Secant:
    steps: int = 10


@dataclass(frozen=True)
class PaperSAE:
    atoms: int = 160


def keys(text: str) -> list[str]:
    return re.findall(r"^@\w+\{(\w+),$", text, flags=re.MULTILINE)


def test_exactly_what_was_used_each_once() -> None:
    assert keys(cite()) == ["melander2026", "retinacodec"]
    used = cite(Secant(5), "contributions", PaperSAE, "cc_norm", "sta", "linear-nonlinear")
    assert keys(used) == [
        "melander2026",
        "shrikumar2017",
        "sundararajan2017",
        "schoppe2016",
        "chichilnisky2001",
        "retinacodec",
    ]


def test_every_entry_is_well_formed_bibtex() -> None:
    text = cite(*METHODS)
    assert len(keys(text)) == len(set(keys(text))) >= 18
    for entry in text.strip().split("\n\n"):
        assert entry.count("{") == entry.count("}")
        assert entry.endswith("\n}")
        fields = re.findall(r"^  (\w+) = \{", entry, flags=re.MULTILINE)
        assert len(fields) == entry.count("\n") - 1, entry
        assert len(fields) == len(set(fields))
        assert {"author", "title"} <= set(fields)
    for doi in re.findall(r"doi = \{(.*)\}", text):
        assert re.fullmatch(r"10\.\d{4,5}/\S+", doi)


def test_short_forms() -> None:
    shorts = {entry.key: entry.short for entry in references(*METHODS)}
    assert shorts["melander2026"] == "Melander et al., 2026"
    assert shorts["mu2020"] == "Mu and Andreas, 2020"
    assert shorts["chichilnisky2001"] == "Chichilnisky, 2001"


def test_unknown_methods_are_all_named() -> None:
    with pytest.raises(InputError) as caught:
        cite("secand", "stc", "astrology")
    message = str(caught.value)
    assert "'secand'; did you mean 'secant'?" in message
    assert "'astrology'" in message and "\n" not in message


def test_methods_paragraph_states_the_numbers() -> None:
    said = methods_paragraph(
        layers=["conv1", "conv2"],
        target=PaperSAE(),
        rule=Secant(7),
        cells=9,
        frames=1800,
        frame_rate=60.0,
        dictionary=PaperSAE(32),
        modes={"conv1": 11, "conv2": 14},
        r2={"conv1": 0.913},
        seed=4,
    )
    for words in (
        "9 ganglion cells over 1800 stimulus frames at 60 Hz (30.0 s)",
        "each channel of conv1 and conv2",
        "Secant(steps=7); Melander et al., 2026; Shrikumar et al., 2017",
        "PaperSAE(atoms=32), seed 4",
        "which gave 11 in conv1 and 14 in conv2.",
        "explained 91.3 % (conv1) of the variance",
        f"retinacodec {retinacodec.__version__}.",
    ):
        assert words in said, words
    plain = methods_paragraph(
        layers=["l"], target=1, rule=Secant(), cells=1, frames=10, frame_rate=10.0
    )
    assert "1 ganglion cell over" in plain and "modes" not in plain


def test_citation_file_agrees_with_the_package() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    paper = references()[0]
    assert "cff-version: 1.2.0" in text
    assert f"version: {retinacodec.__version__}\n" in text
    assert paper.title in text and "2603.06557" in text
    families = [name.split(",")[0] for name in paper.authors.split(" and ")]
    assert re.findall(r"family-names: (\w+)", text) == families
