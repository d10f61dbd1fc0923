"""Contributions beside activations: planted answers come out, and numbers are the plain ones."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import contrast_modes, draw_contrast, find_modes
from retinacodec.dictionaries import PCA, DirectPursuit
from retinacodec.errors import InputError

ROWS, MODES, CHANNELS = 1600, 4, 6
QUIET = {"dictionary": DirectPursuit(modes=MODES), "gap": 5, "block": 20, "progress": False}


@pytest.fixture(scope="module")
def setting():
    """A layer whose contributions make four cells fire, and whose activations are unrelated."""
    random = np.random.default_rng(2)
    atoms = random.gamma(1.0, 1.0, (MODES, 2 * CHANNELS)) * (random.random((MODES, 12)) < 0.4)
    atoms[np.arange(MODES), np.arange(MODES)] += 2
    on, other = (
        (random.random((ROWS, MODES)) < 0.2) * random.gamma(2, 1, (ROWS, MODES)) for _ in "ab"
    )
    signs = np.repeat([-1.0, 1.0], CHANNELS)
    tables = {
        name: (
            ("time", "sign", "channel"),
            ((loading @ atoms + 0.02 * random.random((ROWS, 12))) * signs).reshape(ROWS, 2, -1),
        )
        for name, loading in (("contribution", on), ("activation", other))
    }
    node = xr.Dataset(tables, {"time": np.arange(ROWS) / 100, "sign": ["negative", "positive"]})
    rate = xr.DataArray(
        on + 0.5 * random.random((ROWS, MODES)),
        dims=("time", "cell"),
        coords={"time": node["time"], "cell": list("abcd")},
    )
    return node, rate


@pytest.fixture(scope="module")
def contrast(setting):
    node, rate = setting
    return contrast_modes(node, rate, quantities=("contribution", "activation"), **QUIET)


def test_modes_that_make_the_response_are_told_from_those_that_do_not(contrast):
    mean = contrast["mean_correlation"].values
    assert mean[0] > 0.95 and abs(mean[1]) < 0.1
    assert float(contrast["difference"][1]) == pytest.approx(mean[0] - mean[1])
    assert contrast["difference_low"][1] > 0.8
    assert contrast["difference"][0] == contrast["difference_low"][0] == 0
    assert (contrast["correlation_low"] < mean).all() and (
        mean < contrast["correlation_high"]
    ).all()
    assert contrast["modes"].values.tolist() == [MODES, MODES]


def test_correlations_are_those_of_numpy_on_the_other_half(setting, contrast):
    from retinacodec.analyses.modes import row_split

    node, rate = setting
    modes = find_modes(
        node, dictionary=DirectPursuit(modes=MODES), gap=5, stability_seeds=0, progress=False
    )
    halves = row_split("time", 5, ROWS).halves(ROWS)
    loading, plain = modes["loading"].values, []
    for choose, score in (halves, halves[::-1]):
        table = np.corrcoef(loading[choose].T, rate[choose].T)[:MODES, MODES:]
        best = table.argmax(axis=0)
        plain.append(
            [np.corrcoef(loading[score, m], rate[score, c])[0, 1] for c, m in enumerate(best)]
        )
    expected = np.mean(plain, axis=0)
    np.testing.assert_allclose(contrast["correlation"].sel(quantity="contribution"), expected)


def test_the_interval_covers_a_true_difference_of_none(setting):
    node, rate = setting
    same = node.assign(activation=node["contribution"])
    found = contrast_modes(same, rate, quantities=("contribution", "activation"), **QUIET)
    assert abs(float(found["difference"][1])) < 1e-6
    assert found["difference_low"][1] <= 1e-9 <= found["difference_high"][1] + 2e-9


def test_images_and_classes_and_the_drawing(setting):
    node, rate = setting
    images = node.rename(time="image")
    classes = (rate.rename(time="image", cell="class") > 1).astype(float)
    found = contrast_modes(images, classes, quantities=("contribution", "activation"), **QUIET)
    assert found["correlation"].dims == ("quantity", "class")
    assert found["mean_correlation"][0] > 0.7
    figure, ax = plt.subplots()
    draw_contrast(found, ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["contributions", "activations"]
    plt.close(figure)


def test_missing_quantities_and_times_are_named(setting):
    node, rate = setting
    with pytest.raises(InputError, match="no variable 'gradient'; compute contributions with"):
        contrast_modes(node, rate, progress=False)
    later = rate.assign_coords(time=rate["time"] + 1000)
    with pytest.raises(InputError, match="share no samples"):
        contrast_modes(node, later, quantities=("contribution",), **QUIET)


def test_a_component_counts_with_its_negative_too(setting):
    node, rate = setting
    method = PCA(MODES)
    settings = QUIET | {"dictionary": method}
    one = contrast_modes(node, rate, quantities=("contribution",), **settings)
    other = contrast_modes(node, -rate, quantities=("contribution",), **settings)
    np.testing.assert_allclose(one["correlation"], other["correlation"], atol=1e-12)
    assert (one["correlation"] > 0).all()
