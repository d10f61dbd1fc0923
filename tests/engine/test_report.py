"""Figures come with their numbers, byte for byte the same; the report holds everything itself."""

from __future__ import annotations

import base64
import html.parser
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from retinacodec import plotting
from retinacodec.errors import InputError
from retinacodec.provenance import file_sha256, provenance
from retinacodec.report import (
    Code,
    Figure,
    Heading,
    KeyNumber,
    KeyNumbers,
    Settings,
    Table,
    Text,
    format_number,
    write_figure,
    write_report,
)


def numbers() -> xr.Dataset:
    time = ("time", np.arange(4) / 60, {"units": "s"})
    return xr.Dataset(
        {
            "rate": (("time", "cell"), np.arange(8.0).reshape(4, 2) / 3, {"units": "Hz"}),
            "value": ("time", [0.5, np.nan, 1.5, 2.5], {"units": "1"}),
            "threshold": ((), 0.25, {"units": "Hz"}),
        },
        coords={"time": time, "cell": ["a", "b"]},
    )


def drawing() -> object:
    with plotting.style():
        figure = plotting.figure(width_mm=60, height_mm=40)
        axes = figure.subplots(1, 2)
        plotting.trace(axes[0], numbers()["time"], numbers()["rate"][:, 0])
        plotting.raster_map(axes[1], numbers()["rate"].T)
        plotting.colour_bar(axes[1], "Rate (Hz)")
    return figure


def test_the_plotted_numbers_are_written_with_units(tmp_path: Path) -> None:
    files = write_figure(drawing(), tmp_path, "rates", {"A": numbers()["rate"], "B": numbers()})
    assert files.names == (
        "rates.pdf",
        "rates.png",
        "rates_A.csv",
        "rates_B_time-cell.csv",
        "rates_B_time.csv",
        "rates_B_scalars.csv",
    )
    table = pd.read_csv(tmp_path / "rates_A.csv")
    assert list(table.columns) == ["time (s)", "cell", "rate (Hz)"]
    np.testing.assert_allclose(table["rate (Hz)"], np.arange(8) / 3, rtol=1e-8)
    assert table["cell"].tolist() == ["a", "b"] * 4
    values = pd.read_csv(tmp_path / "rates_B_time.csv")
    np.testing.assert_array_equal(values["value"], [0.5, np.nan, 1.5, 2.5])
    assert (tmp_path / "rates_B_scalars.csv").read_bytes() == b"threshold (Hz)\n0.25\n"


def test_pixels_size_and_embedded_fonts(tmp_path: Path) -> None:
    from PIL import Image

    files = write_figure(drawing(), tmp_path, "f", dpi=254)
    with Image.open(files.png) as picture:
        assert picture.size == (600, 400)
    pdf = files.pdf.read_bytes()
    assert b"/Type3" not in pdf and b"CreationDate" not in pdf


def test_the_same_figure_gives_the_same_bytes_twice_and_in_another_process(tmp_path: Path) -> None:
    figure = drawing()
    first = write_figure(figure, tmp_path, "one", {"A": numbers()})
    again = write_figure(figure, tmp_path, "two", {"A": numbers()})
    program = textwrap.dedent(f"""
        import importlib.util, pathlib
        spec = importlib.util.spec_from_file_location("here", {__file__!r})
        here = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(here)
        here.write_figure(here.drawing(), pathlib.Path({str(tmp_path)!r}), "three")
    """)
    subprocess.run([sys.executable, "-c", program], check=True)
    for ending in ("pdf", "png"):
        hashes = {file_sha256(tmp_path / f"{name}.{ending}") for name in ("one", "two", "three")}
        assert len(hashes) == 1, ending
    assert [path.read_bytes() for path in first.tables] == [p.read_bytes() for p in again.tables]


def test_no_file_is_written_unless_all_may_be(tmp_path: Path) -> None:
    (tmp_path / "f_A.csv").write_text("mine")
    with pytest.raises(InputError, match=r"f_A\.csv: exists already"):
        write_figure(drawing(), tmp_path, "f", {"A": numbers()["rate"]})
    assert [path.name for path in tmp_path.iterdir()] == ["f_A.csv"]
    write_figure(drawing(), tmp_path, "f", {"A": numbers()["rate"]}, overwrite=True)
    assert (tmp_path / "f_A.csv").read_text().startswith("time (s),cell")


class Page(html.parser.HTMLParser):
    """Every tag, link and text of a page; raises where tags do not match."""

    VOID = {"meta", "img", "br", "hr", "link"}

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def write(folder: Path, *sections: object, **options: object) -> Page:
    path = write_report(
        folder, title="Cells <of> A&B", sections=sections, provenance=provenance(), **options
    )
    return Page(path.read_text(encoding="utf-8"))


def test_one_page_that_loads_nothing(tmp_path: Path) -> None:
    files = write_figure(drawing(), tmp_path, "rates")
    page = write(
        tmp_path,
        Heading("Summary"),
        Text("First\nparagraph.\n\nSecond.", lead=True),
        KeyNumbers([KeyNumber("Correlation", 0.6249, low=0.51, high=0.7, note="Held out.")]),
        Heading("Summary"),
        Table(["cell", "rate"], [["a", 1.23456], ["b", None]], "Rates", units=["", "Hz"]),
        Figure(files.png, "Rate over time.", title="Rates", files=files.names),
        Settings({"seed": 3, "fit": {"epochs": 12000, "layers": ["conv1", "conv2"]}}),
        Code("a < b\nc"),
    )
    policy = next(attrs for attrs in page.all("meta") if "http-equiv" in attrs)
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for key in ("href", "src"):
            assert (attrs.get(key) or "#").startswith(("#", "data:image/png;base64,"))
    source = page.all("img")[0]["src"]
    assert base64.b64decode(source.split(",")[1]) == files.png.read_bytes()

    anchors = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    linked = [attrs["href"].removeprefix("#") for attrs in page.all("a")]
    assert linked == ["summary-1", "summary-2", "provenance"] and set(linked) == anchors
    words = " ".join(page.text.split())
    for said in (
        "Correlation 0.625 0.510 to 0.700 (95 %) Held out.",
        "Table 1. Rates",
        "rate Hz",
        "1.23",
        "Figure 1. Rates. Rate over time. Files: rates.pdf, rates.png",
        "epochs 12\u202f000",
        "conv1, conv2",
        "a < b",
    ):
        assert " ".join(said.split()) in words, said
    assert len(page.all("p")) == 2 + 1 + 1


def test_names_from_a_file_cannot_become_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\" onload='x'"
    picture = b"\x89PNG" + b"0"
    page = write(
        tmp_path,
        Heading(evil),
        Text(evil),
        KeyNumbers([KeyNumber(evil, evil, evil, note=evil)]),
        Table([evil], [[evil]], evil, units=[evil]),
        Figure(picture, evil, evil, files=[evil]),
        Code(evil, evil),
        Settings({evil: {evil: [evil]}}, evil),
    )
    assert page.all("script") == []
    assert not any("onload" in attrs for _, attrs in page.tags)
    assert page.text.count("<script>alert(1)</script>") >= 13


def test_bad_calls(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such picture"):
        write(tmp_path, Figure(tmp_path / "none.png", "c"))
    with pytest.raises(InputError, match="expected a PNG or SVG"):
        write(tmp_path, Figure(b"GIF89a", "c"))
    assert list(tmp_path.iterdir()) == []
    write(tmp_path)
    with pytest.raises(InputError, match=r"report.html: exists already"):
        write(tmp_path)
    write(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (-0.01234, "\u22120.0123"),
        (np.float32(12.345), "12.3"),
        (123456.7, "123457"),
        (-2.5e-9, "\u22122.5 × 10⁻⁹"),
        (3.0e12, "3 × 10¹²"),
        (np.int64(1234567), "1\u202f234\u202f567"),
        (np.bool_(False), "no"),
        (float("inf"), "–"),
        (None, "–"),
    ],
)
def test_numbers_as_a_reader_wants_them(value: object, shown: str) -> None:
    assert format_number(value) == shown
