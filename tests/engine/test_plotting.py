"""Primitives draw the numbers they are given, in the house style, and change nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes

from retinacodec import plotting
from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS


@pytest.fixture
def ax() -> Iterator[Axes]:
    with plotting.style():
        yield plotting.figure(width_mm=60, height_mm=50).subplots()


def test_style_ends_with_the_with_even_after_an_error() -> None:
    before = dict(matplotlib.rcParams)
    with pytest.raises(KeyError), plotting.style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["svg.fonttype"] == "none"
        assert matplotlib.rcParams["font.size"] == 7
        assert matplotlib.rcParams["axes.linewidth"] == 0.5
        raise KeyError
    assert dict(matplotlib.rcParams) == before


def test_figures_are_measured_in_mm_and_registered_nowhere() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    drawing = plotting.figure(width_mm=174, height_mm=90)
    np.testing.assert_allclose(drawing.get_size_inches() * 25.4, [174, 90])
    assert pyplot.get_fignums() == before
    with pytest.raises(InputError, match="expected mm"):
        plotting.figure(width_mm=0)


def test_the_font_is_one_that_the_machine_has() -> None:
    from matplotlib import font_manager

    assert plotting.font_used() in {entry.name for entry in font_manager.fontManager.ttflist}


def test_polarity_and_sign_have_their_colours() -> None:
    def hue(colour: str) -> str:
        red, green, blue, _ = matplotlib.colors.to_rgba(colour)
        return max(zip((red, green, blue), ("red", "green", "blue"), strict=True))[1]

    assert (hue(COLOURS.on), hue(COLOURS.off), hue(COLOURS.positive)) == ("red", "blue", "green")
    red, green, blue, _ = matplotlib.colors.to_rgba(COLOURS.negative)
    assert min(red, blue) > 2 * green, "magenta"
    vik, bam = plotting.colour_map("vik"), plotting.colour_map("bam")
    assert hue(vik(0.9)) == hue(COLOURS.on) and hue(vik(0.1)) == hue(COLOURS.off)
    assert hue(bam(0.9)) == hue(COLOURS.positive)


def test_trace_draws_the_values(ax: Axes) -> None:
    returned = plotting.trace(ax, [0.0, 0.1, 0.2], [1.0, np.nan, 3.0], label="x", fill=True)
    assert returned is ax
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 1], [0.1, np.nan], [0.2, 3]])
    assert ax.get_xlim() == (0.0, 0.2)
    assert len(ax.collections) == 1


def test_raster_map_is_symmetric_about_zero_and_on_its_times(ax: Axes) -> None:
    image = np.array([[-1.0, 0.5, 2.0], [0.0, np.nan, -3.0]])
    assert plotting.raster_map(ax, image, time=[1.0, 1.5, 2.0]) is ax
    shown = ax.images[0]
    np.testing.assert_array_equal(shown.get_array(), np.ma.masked_invalid(image))
    assert shown.get_clim() == (-3.0, 3.0)
    assert shown.get_extent() == [0.75, 2.25, 1.5, -0.5]
    assert shown.get_interpolation() == "nearest"
    plotting.raster_map(ax, np.zeros((2, 2)), limit=5)
    assert ax.images[1].get_clim() == (-5.0, 5.0)


def test_field_map_knows_its_place_and_draws_a_round_scale_bar(ax: Axes) -> None:
    um = np.arange(10) * 50.0
    values = np.zeros((8, 10))
    values[2, 7] = -0.5
    field = xr.DataArray(values, dims=("y", "x"), coords={"y": um[:8], "x": um})
    plotting.field_map(ax, field)
    assert ax.images[0].get_extent() == [-25.0, 475.0, 375.0, -25.0]
    assert ax.images[0].get_clim() == (-0.5, 0.5)
    assert ax.get_aspect() == 1.0
    (bar,) = ax.lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(100.0)
    assert [text.get_text() for text in ax.texts] == ["100 µm"]
    assert ax.get_xlim() == (-25.0, 475.0), "the bar must not widen the axis"


def test_field_map_without_positions_has_no_bar(ax: Axes) -> None:
    plotting.field_map(ax, np.eye(4))
    assert not ax.lines and ax.images[0].get_extent() == [-0.5, 3.5, 3.5, -0.5]
    with pytest.raises(InputError, match=r"\(y, x\)"):
        plotting.field_map(ax, np.zeros((2, 3, 4)))


@pytest.mark.parametrize(("width", "length"), [(1.0, 0.2), (399, 50), (400, 100), (2300, 500)])
def test_round_lengths(ax: Axes, width: float, length: float) -> None:
    positions = np.array([0.25, 0.75]) * width
    plotting.field_map(ax, np.eye(2), y=positions, x=positions)
    assert np.ptp(ax.lines[0].get_xdata()) == pytest.approx(length)


def test_heat_limits_and_names(ax: Axes) -> None:
    matrix = np.arange(20.0).reshape(4, 5)
    plotting.heat(ax, matrix, rows=list("abcd"))
    assert ax.images[0].get_clim() == (0.0, pytest.approx(np.percentile(matrix, 95)))
    assert [label.get_text() for label in ax.get_yticklabels()] == list("abcd")
    plotting.heat(ax, [[np.nan]])
    assert ax.images[1].get_clim() == (0.0, 1.0)


def test_shade_letter_and_colour_bar(ax: Axes) -> None:
    plotting.raster_map(ax, np.eye(3))
    plotting.shade(ax, [(0.5, 1.0), (1.5, 2.0)])
    assert [tuple(patch.get_bbox().intervalx) for patch in ax.patches] == [(0.5, 1.0), (1.5, 2.0)]
    letter = plotting.panel_letter(ax, "B").texts[-1]
    assert letter.get_text() == "B" and letter.get_fontweight() == "bold"
    bar = plotting.colour_bar(ax, "Rate (Hz)")
    assert bar.ax.get_ylabel() == "Rate (Hz)" and (bar.vmin, bar.vmax) == (-1.0, 1.0)


def test_unknown_colour_map() -> None:
    with pytest.raises(InputError, match="'jetlag'"):
        plotting.colour_map("jetlag")
