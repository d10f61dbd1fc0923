import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from retinacodec.analyses import (
    draw_interneuron_map,
    draw_interneuron_matches,
    draw_interneuron_trace,
    interneuron_figure,
    match_interneurons,
)
from retinacodec.errors import InputError

TIME = np.arange(400) / 60


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    units = rng.normal(size=(400, 3, 4, 5))
    traces = np.stack([units[:, 1, 2, 3], units[:, 2, 0, 1], np.full(400, np.nan)], axis=1)
    traces = 2 * traces - 60 + 0.5 * rng.normal(size=traces.shape)
    data = xr.DataArray(
        traces,
        dims=("time", "cell"),
        coords={"time": TIME, "cell": ["b1", "a1", "never"]},
        attrs={"units": "mV"},
    )
    layer = xr.DataArray(units, dims=("time", "channel", "y", "x"), coords={"time": TIME})
    return data, {"norm1": layer, "norm2": layer[:, :2, 0, 0]}


def comparison(cells):
    values = np.full((3, 2, len(cells)), 0.1)
    values[1, 0] = np.nan
    values[1, 1] = 0.3
    return xr.Dataset(
        {"correlation": (("model", "layer", "cell"), values)},
        coords={"model": ["fitted", "untrained", "linear filter"], "layer": ["norm1", "any"],
                "cell": cells},
        attrs={"reference": "fitted"},
    )  # fmt: skip


def test_the_figure_has_a_row_an_interneuron_and_a_panel_a_layer(scene):
    traces, layers = scene
    matches = match_interneurons(traces, layers, maps=True, draws=10)
    drawn = interneuron_figure(matches, traces, layers, comparison=comparison(traces.cell.values))
    titles = [ax.get_title() for ax in drawn.axes]
    assert titles.count("norm1") == titles.count("norm2") == 1
    score = drawn.axes[titles.index("norm1")]
    assert [text.get_text() for text in score.get_yticklabels()] == ["b1", "a1", "never"]
    words = [text.get_text() for text in score.get_legend().get_texts()]
    assert words == ["null, 95 %", "untrained, any layer", "linear filter"]
    lines = [ax for ax in drawn.axes if ax.get_ylabel() == "mV"]
    assert len(lines) == 2
    assert [ax.get_xlabel() for ax in lines] == ["", "time (s)"]
    image = next(ax for ax in drawn.axes if ax.images).images[0].get_array()
    np.testing.assert_allclose(image, matches.map_norm1[0, 1], atol=1e-6)
    drawn.canvas.draw()


def test_the_unit_is_scaled_to_the_trace_outside_the_stretch(scene):
    traces, layers = scene
    unit = layers["norm1"][:, 1, 2, 3]
    ax = draw_interneuron_trace(traces[:, 0], unit, Figure().add_subplot(), start=2.0, seconds=1.0)
    recorded, model = (line.get_ydata() for line in ax.lines)
    inside = (TIME >= 2) & (TIME <= 3)
    np.testing.assert_array_equal(recorded, traces[inside, 0])
    slope, level = np.polyfit(unit[~inside], traces[~inside, 0], 1)
    np.testing.assert_allclose(model, slope * unit[inside] + level)
    assert slope == pytest.approx(2, abs=0.1)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "mV")


def test_controls_are_marked_at_their_correlation(scene):
    traces, layers = scene
    matches = match_interneurons(traces, layers["norm1"], draws=10)
    controls = comparison(traces.cell.values).sel(layer="any")
    ax = draw_interneuron_matches(matches, Figure().add_subplot(), controls=controls)
    places = {each.get_label(): each.get_offsets() for each in ax.collections}
    np.testing.assert_allclose(places["untrained"][:, 0], 0.3)
    np.testing.assert_allclose(places["linear filter"][:, 1], [0, 1, 2])
    assert "fitted" not in places


def test_a_map_needs_maps_and_a_match(scene):
    traces, layers = scene
    matches = match_interneurons(traces, layers["norm1"], draws=10)
    with pytest.raises(InputError, match="maps=True"):
        draw_interneuron_map(matches.isel(cell=0), Figure().add_subplot())
    ax = draw_interneuron_map(matches.isel(cell=2), Figure().add_subplot())
    assert not ax.images and not ax.axison
