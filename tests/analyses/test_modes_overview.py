"""The overview of modes shows the numbers it is given, panel by panel."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import (
    draw_mode_scores,
    draw_modes_raster,
    draw_stability,
    find_modes,
    modes_figure,
    modes_numbers,
)
from retinacodec.dictionaries import PCA, DirectPursuit
from retinacodec.errors import InputError

ROWS, MODES, CHANNELS = 1500, 5, 6


@pytest.fixture(scope="module")
def setting():
    random = np.random.default_rng(3)
    atoms = random.gamma(1.0, 1.0, (MODES, 12)) * (random.random((MODES, 12)) < 0.4)
    atoms[np.arange(MODES), np.arange(MODES)] += 2
    on = (random.random((ROWS, MODES)) < 0.15) * random.gamma(2, 1, (ROWS, MODES))
    on[400:500] *= 3
    x = (on @ atoms + 0.02 * random.random((ROWS, 12))) * np.repeat([-1, 1], CHANNELS)
    node = xr.Dataset(
        {"contribution": (("time", "sign", "channel"), x.reshape(ROWS, 2, CHANNELS))},
        {"time": np.arange(ROWS) / 50, "sign": ["negative", "positive"]},
    )
    rate = xr.DataArray(
        on[:, [0, 0, 0, 1, 1, 2]] + 0.3 * random.random((ROWS, 6)),
        dims=("time", "cell"),
        coords={"time": node["time"], "cell": [f"cell_{k}" for k in range(6)]},
    )
    modes = find_modes(node, dictionary=DirectPursuit(modes=MODES), gap=5, progress=False)
    return node, modes, rate


def test_numbers_are_those_of_the_modes_and_the_liveliest_stretch(setting):
    _, modes, rate = setting
    numbers = modes_numbers(modes, rate, seconds=2.0)
    time = numbers["A"]["time"].values
    assert len(time) == 100 and abs(time[0] - 8.0) < 0.1
    np.testing.assert_array_equal(numbers["B"]["atom"], modes["atom"])
    assert numbers["C"].sizes["set"] <= 12
    assert float(np.diagonal(numbers["D"]["half_cosine"]).min()) > 0.98
    assert numbers["E"]["cluster"].values[0] == numbers["E"]["cluster"].values[1]
    with pytest.raises(InputError, match="same times"):
        modes_numbers(modes, rate.assign_coords(time=rate["time"] + 1e4))


def test_figure_has_every_panel_over_its_own_stretch(setting):
    _, modes, rate = setting
    drawing = modes_figure(modes_numbers(modes, rate, seconds=2.0))
    axes = [ax for ax in drawing.axes if ax.get_label() != "<colorbar>"]
    assert len(axes) == 9
    low, high = axes[0].get_xlim()
    assert high - low == pytest.approx(1.98, abs=0.03)
    letters = {text.get_text() for ax in axes for text in ax.texts}
    assert set("ABCDE") <= letters
    plt.close(drawing)


def test_stability_is_drawn_only_where_it_was_asked_for(setting):
    node, modes, _ = setting
    figure, axes = plt.subplots(1, 2)
    shown = draw_stability(modes, axes[0], between="seed_cosine").images[-1].get_array()
    np.testing.assert_allclose(shown, np.clip(modes["seed_cosine"], 0, 1))
    offsets = [dots.get_offsets()[:, 1] for dots in draw_mode_scores(modes, axes[1]).collections]
    np.testing.assert_allclose(offsets[1], modes["half_stability"])
    bare = find_modes(
        node, dictionary=DirectPursuit(modes=2), stability_seeds=0, halves=False, progress=False
    )
    with pytest.raises(InputError, match="no half_cosine"):
        draw_stability(bare, axes[0])
    with pytest.raises(InputError, match="expected half_cosine or seed_cosine"):
        draw_stability(modes, axes[0], between="days")
    plt.close(figure)


def test_loadings_with_signs_are_drawn_in_two_colours(setting):
    node, _, _ = setting
    modes = find_modes(node, dictionary=PCA(3), stability_seeds=0, halves=False, progress=False)
    assert modes.attrs["signed"] and (modes["loading"] < 0).any()
    figure, ax = plt.subplots()
    draw_modes_raster(modes, ax)
    assert ax.images[-1].get_clim() == (-1, 1)
    plt.close(figure)
