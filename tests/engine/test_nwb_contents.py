"""What `info` says of files of other laboratories, and the commands that it gives."""

import shlex

import numpy as np
import pytest

from retinacodec.cli import main
from retinacodec.importers import describe
from retinacodec.nwb import read_traces

image = pytest.importorskip("pynwb.image")
base = pytest.importorskip("pynwb.base")

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(20, 220, (1200, 16, 20), dtype=np.uint8)  # (frame, row, column)
FLIPS = 4.0 + np.arange(1200) / 30


def with_cells(nwb):
    for cell in range(2):
        nwb.add_unit(spike_times=np.sort(RNG.uniform(4, 44, 300)), id=cell)


def run(words):
    try:
        main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def film(**more):
    return image.OpticalSeries(
        "film", data=FRAMES, unit="n.a.", distance=0.1, orientation="?", timestamps=FLIPS, **more
    )


@pytest.mark.parametrize(
    ("series", "options"),
    [
        (film(field_of_view=[20 * 30e-6, 16 * 30e-6]), "--spatial-order yx"),
        (film(field_of_view=[16 * 30e-6, 20 * 30e-6]), ""),
        (film(field_of_view=[3.0, 3.0]), "--pixel-um UM"),
        (
            image.ImageSeries(
                "film", data=FRAMES, unit="n.a.", format="raw", starting_time=4.0, rate=30.0
            ),
            "--pixel-um UM",
        ),
    ],
)
def test_the_next_command_says_what_the_file_does_not(series, options, lab_file, tmp_path, capsys):
    path = lab_file(series, change=with_cells)
    found = describe(path)
    assert found.next == f"retinacodec fit {path} --out model.safetensors {options}".rstrip()
    assert bool(found.problems) == bool(options)
    assert "16 x 20 pixels" in dict(found.contents)["movie film"]
    words = shlex.split(found.next.replace("UM", "30"))[1:]
    words[words.index("model.safetensors")] = str(tmp_path / "model.safetensors")
    assert run([*words, "--epochs", "1", "--history", "4"]) == 0
    capsys.readouterr()


def test_picture_numbers_have_the_size_of_their_pictures(lab_file):
    pictures = [base.Images("pictures", [image.GrayscaleImage("one", FRAMES[0])])]
    pictures[0].order_of_images = base.ImageReferences(
        "order_of_images", data=[pictures[0].images["one"]]
    )
    index = {"data": np.zeros(1200, np.uint32), "unit": "N/A", "timestamps": FLIPS}
    shown = image.IndexSeries("film", indexed_images=pictures[0], **index)
    path = lab_file(shown, templates=pictures, change=with_cells)
    found = describe(path)
    assert "16 x 20 pixels" in dict(found.contents)["movie film"]
    assert found.next.startswith("retinacodec fit ")


def test_traces_are_read_by_the_line_that_is_given(lab_file):
    ophys = pytest.importorskip("pynwb.icephys")

    def clamped(nwb):
        electrode = nwb.create_icephys_electrode(
            name="e", description="?", device=nwb.create_device("amplifier"), cell_id="bipolar"
        )
        volts = {"data": np.linspace(-0.06, -0.04, 8000), "starting_time": 4.0, "rate": 1000.0}
        nwb.add_acquisition(ophys.CurrentClampSeries("vm", electrode=electrode, gain=1.0, **volts))

    path = lab_file(film(field_of_view=[16 * 30e-6, 20 * 30e-6]), change=clamped)
    step = describe(path).next
    assert step.startswith("in Python: retinacodec.read_traces(")
    place = step.split("'")[3]
    assert read_traces(path, place)["cell"].values.tolist() == ["bipolar"]
