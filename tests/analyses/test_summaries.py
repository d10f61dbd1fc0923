"""Small report figures show the numbers that they are given."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes

from retinacodec import plotting
from retinacodec.analyses.summaries import (
    draw_prediction,
    draw_residuals,
    draw_training,
    relative_residuals,
)
from retinacodec.errors import InputError
from retinacodec.schema import make_recording


@pytest.fixture
def ax() -> Iterator[Axes]:
    with plotting.style():
        yield plotting.figure(width_mm=80, height_mm=40).subplots()


def test_training_curves(ax: Axes) -> None:
    log = xr.Dataset(
        {
            "train_loss": ("epoch", [3.0, 2.0, 1.5], {"units": "nat"}),
            "validation_loss": ("epoch", [3.2, 2.5, 2.6], {"units": "nat"}),
        },
        coords={"epoch": [0, 1, 2]},
    )
    draw_training(log, ax, best_epoch=1)
    curves = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(curves["training"], [3.0, 2.0, 1.5])
    np.testing.assert_array_equal(curves["validation"], [3.2, 2.5, 2.6])
    assert list(ax.lines[2].get_xdata()) == [1, 1]
    assert ax.get_ylabel() == "Loss (nat)"
    with pytest.raises(InputError, match="train_loss"):
        draw_training(xr.Dataset(), ax)


def test_training_without_validation(ax: Axes) -> None:
    log = xr.Dataset(
        {"train_loss": ("epoch", [2.0, 1.0]), "validation_loss": ("epoch", [np.nan] * 2)},
        coords={"epoch": [0, 1]},
    )
    draw_training(log, ax)
    assert [line.get_label() for line in ax.lines] == ["training"]


def prediction_data() -> tuple[xr.DataArray, xr.Dataset]:
    time = np.arange(600) / 60
    counts = np.random.default_rng(0).poisson(1.0, size=(600, 2)).astype(np.float32)
    counts[400, 1] = 20
    recording = make_recording(counts, time=time, frame_rate=60.0, cells=["a", "b"])
    rate = xr.DataArray(
        counts[30:] * 60.0 + 5.0,
        dims=("time", "cell"),
        coords={"time": time[30:], "cell": ["a", "b"]},
    )
    return rate, recording


def test_prediction_over_the_recording(ax: Axes) -> None:
    rate, recording = prediction_data()
    draw_prediction(rate, recording, ax, cell="b", seconds=2.0)
    recorded, model = ax.lines
    peak = 400 / 60
    assert recorded.get_xdata()[[0, -1]] == pytest.approx([peak - 1, peak + 1], abs=0.02)
    assert recorded.get_ydata().max() == 1200.0, "20 spikes in a frame at 60 Hz"
    np.testing.assert_allclose(model.get_ydata() - recorded.get_ydata(), 5.0, rtol=1e-4)
    assert ax.get_title(loc="left") == "b   r = 1.00"
    with pytest.raises(InputError, match="no cell 'z' in the model"):
        draw_prediction(rate, recording, ax, cell="z")
    moved = rate.assign_coords(time=rate["time"] + 1000)
    with pytest.raises(InputError, match="share no frames"):
        draw_prediction(moved, recording, ax, cell="a")


def test_relative_residuals_and_their_histogram(ax: Axes) -> None:
    value = np.array([2.0, -2.0, 2.0, 6.0])
    root = xr.Dataset({"value": ("time", value), "baseline_value": ((), 0.0)})
    residual = {"conv1": [0.02, -0.04, 0.0, 0.2], "conv2": [2e-7] * 4}
    nodes = {f"/{k}": xr.Dataset({"residual": ("time", v)}) for k, v in residual.items()}
    found = relative_residuals(xr.DataTree.from_dict({"/": root, **nodes}))
    np.testing.assert_allclose(found["residual"].sel(layer="conv1"), [0.01, 0.02, 0.0, 0.1])
    np.testing.assert_allclose(found["residual"].sel(layer="conv2"), 1e-7)

    draw_residuals({"secant": found, "trapezoid": found}, ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["secant conv1", "secant conv2", "trapezoid conv1", "trapezoid conv2"]
    assert ax.get_xscale() == "log"
    assert ax.lines[1].get_xdata()[0] == pytest.approx(1e-7)
    counted = ax.patches[1].get_xy()[:, 1].max()
    assert counted == 4
