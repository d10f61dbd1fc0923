"""The retina figure: right panels from a circuit whose fields are known, and no overlaps."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from torch import Tensor, nn

from retinacodec import house_style
from retinacodec.analyses.figures import panel_numbers, retina_figure
from retinacodec.analyses.retina_panels import retina_panels
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS
from retinacodec.report import write_figure
from retinacodec.schema import make_stimulus
from retinacodec.store import open_result, save

SIZE = 12
PLACES = ((3, 3), (3, 8), (8, 3), (8, 8))


class OnOffCells(nn.Module):
    """Four cells that add a rectified ON and a rectified OFF channel at their own place."""

    history = 2
    size = (SIZE, SIZE)
    cell_names = tuple(f"cell {number}" for number in range(len(PLACES)))

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 2, 3, padding=1)
        self.relu1 = nn.ReLU()
        spot = torch.tensor([[0.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
        with torch.no_grad():
            self.conv1.weight.zero_()
            self.conv1.weight[0, 1], self.conv1.weight[1, 1] = spot, -spot
            self.conv1.bias.fill_(-0.5)

    def forward(self, x: Tensor) -> Tensor:
        both = self.relu1(self.conv1(x)).sum(dim=1)
        return 1.0 + 10.0 * torch.stack([both[:, row, column] for row, column in PLACES], dim=1)


def known_case() -> tuple[Circuit, xr.Dataset, xr.DataTree, dict[str, xr.Dataset]]:
    """Return a movie of bright and dark flashes, and the channels' own sums as modes."""
    random = np.random.default_rng(0)
    frames = np.zeros((300, SIZE, SIZE), np.float32)
    for start in range(10, 290, 12):
        level = 1.0 if (start // 12) % 2 else -1.0
        frames[start : start + 3] = level * random.uniform(0.9, 1.1, size=(3, SIZE, SIZE))
    frames[200:203, :, : SIZE // 2] *= -1
    movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="flashes")
    circuit = Circuit(OnOffCells(), layers=["conv1", "relu1"])
    rate = predict(circuit, movie)
    with torch.no_grad():
        windows = circuit.windows(torch.from_numpy(frames))
        maps = circuit.model.relu1(circuit.model.conv1(windows)).numpy()
    sums = np.stack([maps[:, :, r, c] for r, c in PLACES]).sum(axis=0)
    contribution = xr.DataArray(
        np.stack([np.minimum(-0.1 * sums, 0), sums], axis=1),
        dims=("time", "sign", "channel"),
        coords={"time": rate["time"], "sign": ["negative", "positive"], "channel": [0, 1]},
        attrs={"units": "Hz"},
    )
    node = xr.Dataset({"contribution": contribution, "residual": 0 * sums[:, 0] + rate["time"] * 0})
    parts = xr.DataTree.from_dict(
        {"/": rate.to_dataset().assign_attrs(target="Population()"), "/conv1": node, "/relu1": node}
    )
    loading = (("time", "mode"), sums, {"units": "1"})
    modes = xr.Dataset(
        {"atom": (("mode", "sign", "channel"), np.ones((2, 2, 2))), "loading": loading},
        coords={"time": rate["time"], "mode": [4, 7]},
        attrs={"scale": 1.0},
    )
    return circuit, movie, parts, {"conv1": modes, "relu1": modes}


@pytest.fixture(scope="module")
def panels() -> xr.DataTree:
    circuit, movie, parts, modes = known_case()
    return retina_panels(circuit, movie, parts, modes, window=8, progress=False)


@pytest.fixture(scope="module")
def drawing(panels: xr.DataTree) -> Figure:
    return retina_figure(panels)


def test_same_rate_different_mode_opposite_field(panels: xr.DataTree) -> None:
    events = panels["events"].to_dataset()
    first, second = events["event_rate"].values
    assert abs(first - second) < 0.25 * max(first, second)
    assert set(events["event_mode"].values.tolist()) == {4, 7}
    for number in range(2):
        field = events["field"].isel(event=number).values
        polarity = {4: 1.0, 7: -1.0}[int(events["event_mode"][number])]
        # The spot of the channel's weight, times 10 Hz, less its mean over pixels and lags.
        mean = 60.0 / (2 * SIZE * SIZE)
        assert polarity * field.flat[np.abs(field).argmax()] == pytest.approx(20 - mean, abs=0.2)
        assert int((polarity * field > 5).sum()) == 5
        at = int(np.flatnonzero(events["time"].values == events["event_time"][number].item())[0])
        assert float(events["rate"][at]) == pytest.approx(float(events["event_rate"][number]))


def test_combinations_have_the_mode_and_its_field(panels: xr.DataTree) -> None:
    chosen = panels["combinations"].to_dataset()
    mode = chosen.attrs["mode"]
    polarity = {4: 1.0, 7: -1.0}[mode]
    assert chosen["label"].values[:, 0].tolist() == [str(mode)] * 4
    for field in chosen["field"].isel(panel=0).values:
        assert polarity * field.flat[np.abs(field).argmax()] > 19
    # At frame 200 one half of the retina sees light and the other dark: both modes, either field.
    assert set(chosen["label"].values[:, 1]) == {"4+7"}
    signs = np.sign([f.flat[np.abs(f).argmax()] for f in chosen["field"].isel(panel=1).values])
    assert signs.tolist() in ([1, -1, 1, -1], [-1, 1, -1, 1])
    assert (chosen["frame"].values[:, 2:] == -1).all()
    assert np.isnan(chosen["field"].values[:, 2:]).all()


def test_groups_and_scheme(panels: xr.DataTree) -> None:
    assert panels.attrs["layers"] == ["conv1", "relu1"]
    assert panels.attrs["cluster_agreement"] == 1.0
    correlation = panels["groups/conv1"].to_dataset()["correlation"]
    _, movie, parts, modes = known_case()
    expected = np.corrcoef(parts["rate"].values[:, 2], modes["conv1"]["loading"].values[:, 1])[0, 1]
    assert float(correlation.sel(cell="cell 2", mode=7)) == pytest.approx(expected, abs=1e-6)
    scheme = panels["scheme"].to_dataset()
    moment = float(panels["events"].to_dataset()["event_time"][0])
    np.testing.assert_array_equal(scheme["frame"], movie["contrast"].sel(time=moment))
    assert scheme.attrs["channels"] == [2, 2] and scheme.attrs["cells"] == 4
    assert int((np.abs(scheme["kernel"]) > 0.9).sum()) == 5


def test_the_field_of_a_channel_is_framed_in_the_scheme(drawing: Figure) -> None:
    (ax,) = [axes for axes in drawing.axes if not axes.axison and len(axes.images) > 1]
    kernel = ax.images[1].get_array()
    assert kernel.shape == (5, 5)
    assert np.unravel_index(np.abs(kernel).argmax(), kernel.shape) == (2, 2)


def test_panels_survive_saving(panels: xr.DataTree, tmp_path: Path) -> None:
    again = open_result(save(panels, tmp_path / "panels.zarr"))
    assert list(again.children) == list(panels.children)
    assert again.identical(panels)
    assert list(panel_numbers(again)) == ["A", "B", "D", "B_conv1", "C_conv1", "B_relu1", "C_relu1"]


def test_wrong_layers_and_cells_are_named(panels: xr.DataTree) -> None:
    circuit, movie, parts, modes = known_case()
    with pytest.raises(InputError, match=r"modes of .*'conv9'"):
        retina_panels(circuit, movie, parts, {"conv9": modes["conv1"]})
    with pytest.raises(InputError, match="no cell 'x'"):
        retina_panels(circuit, movie, parts, modes, cell="x", progress=False)
    with pytest.raises(InputError, match="retina_panels returns"):
        retina_figure(parts)


def drawn(drawing: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Text, Bbox]]:
    """Draw, and return every text that reached the page with its box."""
    found: list[tuple[Text, Bbox]] = []
    draw = Text.draw

    def noted(self: Text, renderer: object) -> None:
        draw(self, renderer)
        if self.get_visible() and self.get_text().strip():
            found.append((self, Text.get_window_extent(self, renderer)))

    monkeypatch.setattr(Text, "draw", noted)
    drawing.canvas.draw()
    return found


@pytest.mark.parametrize("fonts", [house_style._FONTS, ["DejaVu Sans"]])
def test_no_text_overlaps_or_leaves_the_page(
    fonts: list[str], panels: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house_style, "_FONTS", fonts)
    drawing = retina_figure(panels)
    page = drawing.bbox
    boxes = [(text.get_text(), box) for text, box in drawn(drawing, monkeypatch)]
    assert len(boxes) > 40
    for words, box in boxes:
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1, words
        assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, words
    for (one, a), (other, b) in combinations(boxes, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(width, height) < 1.0, f"{one!r} overlaps {other!r}"


def test_axes_have_labels_with_units_and_panels_have_letters(
    drawing: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {text.get_text(): text for text, _ in drawn(drawing, monkeypatch)}
    for wanted in (
        "A",
        "B",
        "C",
        "D",
        "Firing rate (Hz)",
        "Time (s)",
        "Loading (rel.)",
        "(Hz)",
        "Mode",
    ):
        assert wanted in shown, wanted
    assert any(words.endswith("µm") for words in shown)
    assert shown["neg."].get_color() == COLOURS.negative
    assert shown["pos."].get_color() == COLOURS.positive


def test_the_plotted_numbers_are_complete(
    panels: xr.DataTree, drawing: Figure, tmp_path: Path
) -> None:
    import pandas as pd

    files = write_figure(drawing, tmp_path, "retina", panel_numbers(panels), dpi=60)
    assert {path.name for path in files.tables} >= {
        "retina_B_time.csv",
        "retina_B_event-y-x.csv",
        "retina_B_conv1.csv",
        "retina_C_relu1_cell-mode.csv",
        "retina_D_cell-panel-y-x.csv",
    }
    table = pd.read_csv(tmp_path / "retina_B_time.csv")
    np.testing.assert_allclose(table["rate (Hz)"], panels["events"].to_dataset()["rate"], rtol=1e-6)
