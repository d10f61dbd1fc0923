"""One lag convention: every estimator puts a planted dependency at the same lag, second and pixel.

A cell fires to one pixel k frames before its response bin. Lag 0 is the frame on screen in that
bin, the past is negative, in seconds; with a latency of n frames the newest lag is -n frames. A
new estimator is one more line of ``ESTIMATORS``: a function of the case that returns a field
(lag, y, x) with coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr

from retinacodec.analyses import (
    regularised_fields,
    spike_triggered_average,
    spike_triggered_covariance,
    sta_bands,
    sta_significance,
)
from retinacodec.circuit import Circuit, predict
from retinacodec.field_priors import Ridge, Smooth, Splines
from retinacodec.gradients import instantaneous_fields, latent_fields
from retinacodec.models import DeepRetina, LinearNonlinear, ToyCircuit
from retinacodec.schema import make_recording, make_stimulus
from retinacodec.training import train

RATE, FRAMES, SIZE = 50.0, 3000, (3, 3)


@cache
def _white_noise() -> xr.Dataset:
    contrast = np.random.default_rng(0).normal(size=(FRAMES, *SIZE))
    return make_stimulus(contrast, frame_rate=RATE, pixel_um=40, name="white noise")


@dataclass(frozen=True)
class Case:
    """A movie of white noise and a cell that fires to one pixel of it, so many frames later."""

    behind: int
    latency: int
    history: int = 3
    row: int = 2
    column: int = 1

    @property
    def movie(self) -> xr.Dataset:
        return _white_noise()

    @property
    def drive(self) -> np.ndarray:
        pixel = self.movie["contrast"].values[:, self.row, self.column]
        return np.concatenate([np.zeros(self.behind), pixel[: FRAMES - self.behind]])

    def recording(self, rate) -> xr.Dataset:
        counts = np.random.default_rng(1).poisson(rate)[:, None]
        times = self.movie["time"]
        return make_recording(counts, time=times, frame_rate=RATE, cells=["planted"])

    @property
    def window(self) -> dict[str, int]:
        return {"history": self.history, "latency": self.latency}

    @property
    def kernel(self) -> torch.Tensor:
        """A filter (history, y, x) for the planted pixel in a window, oldest frame first."""
        kernel = torch.zeros(self.history, *SIZE)
        kernel[self.history - 1 - (self.behind - self.latency), self.row, self.column] = 1
        return kernel


def _average(case, **options):
    recording = case.recording(0.3 * np.exp(case.drive))
    return spike_triggered_average(case.movie, recording, **case.window, **options)["sta"][0]


def _average_of_rates(case):
    rate = xr.DataArray(
        np.exp(case.drive[10:, None]),
        [("time", case.movie["time"].values[10:]), ("cell", ["planted"])],
    )
    return spike_triggered_average(case.movie, rate, **case.window)["sta"][0]


def _covariance(case):
    recording = case.recording(0.3 * np.minimum(case.drive**2, 9))
    found = spike_triggered_covariance(
        case.movie, recording, window=3, centres=[[1, 1]], components=1, **case.window
    ).isel(cell=0)
    feature = found["feature"].isel(component=0).rename(row="y", column="x")
    return feature.drop_vars(["y", "x"], errors="ignore").assign_coords(
        y=found["y"].values, x=found["x"].values
    )


def _significance(case):
    recording = case.recording(0.3 * np.exp(case.drive))
    found = sta_significance(case.movie, recording, **case.window).isel(cell=0)
    return found["z"].where(found["significant"], 0)


def _bands(case):
    recording = case.recording(0.3 * np.exp(case.drive))
    found = sta_bands(case.movie, recording, **case.window).isel(cell=0)
    return found["low"].clip(0)


def _regularised(case, prior):
    recording = case.recording(0.3 * np.exp(case.drive))
    found = regularised_fields(case.movie, recording, prior=prior, window=None, **case.window)
    return found["field"][0]


def _linear_nonlinear(case) -> LinearNonlinear:
    model = LinearNonlinear(1, size=SIZE, rank=None, bands=case.history, **case.window)
    with torch.no_grad():
        model.spatial.copy_(torch.einsum("bh,hyx->byx", model.basis, case.kernel)[None])
    return model


def _filters(case):
    kernel = _linear_nonlinear(case).filters()[0].detach().numpy()
    lag = (np.arange(1 - case.history, 1) - case.latency) / RATE
    places = {name: case.movie[name].values for name in ("y", "x")}
    return xr.DataArray(kernel, dims=("lag", "y", "x"), coords={"lag": lag, **places})


def _fitted_filters(case):
    model = LinearNonlinear(
        1, size=SIZE, rank=None, bands=case.history, smoothness=0, locality=0, **case.window
    )
    recording = case.recording(0.3 * np.exp(case.drive))
    fitted = train(model, case.movie, recording, seed=0, epochs=20, lr=0.03, progress=False)
    kernel = fitted.model.filters()[0].detach().numpy()
    return _filters(case).copy(data=kernel)


def _predicted(case):
    rate = predict(Circuit(_linear_nonlinear(case), layers=["rate"]), case.movie)
    return spike_triggered_average(case.movie, rate, **case.window)["sta"][0]


def _mean_field(model, case):
    circuit = Circuit(model, layers=list(model.layers), **case.window)
    options = {"frames": np.arange(20, 60), "cells": 0, "progress": False}
    whole = instantaneous_fields(circuit, case.movie, **options).mean("time")[0]
    latent = latent_fields(circuit, case.movie, **options).mean()
    np.testing.assert_allclose(latent.squeeze().values, whole.values, atol=1e-5)
    return whole


def _fields_of_linear_nonlinear(case):
    circuit = Circuit(_linear_nonlinear(case), layers=["rate"])
    fields = instantaneous_fields(
        circuit, case.movie, frames=np.arange(20, 60), cells=0, progress=False
    )
    return fields.mean("time")[0]


def _fields_of_deep_retina(case):
    """A network of one kernel of one pixel, whose readout looks at one position."""
    model = DeepRetina(1, size=SIZE, channels=(1,), kernels=(1,), **case.window)
    with torch.no_grad():
        model.conv1.weight.copy_(case.kernel[None, :, case.row, case.column, None, None])
        weight = torch.zeros(SIZE)
        weight[case.row, case.column] = 1
        model.readout.linear.weight.copy_(weight.view(1, -1))
    return _mean_field(model, case)


def _fields_of_toy(case):
    """The toy with one weight in its first kernel, and one position read."""
    model = ToyCircuit(depth=1)
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv1.weight[0, :, 1, 1] = case.kernel[:, case.row, case.column]
        model.readout.weight.zero_()
        model.readout.weight[0, 2 * (case.row - 1) + case.column - 1] = 1
    return _mean_field(model, case)


ESTIMATORS = {
    "average, dense": lambda case: _average(case, sparse=False),
    "average, sparse": lambda case: _average(case, sparse=True),
    "average of rates": _average_of_rates,
    "average of predictions": _predicted,
    "significance": _significance,
    "bands": _bands,
    "covariance": _covariance,
    "regularised, ridge": lambda case: _regularised(case, Ridge()),
    "regularised, smooth": lambda case: _regularised(case, Smooth(scales=(0.5, 0.5, 0.5))),
    "regularised, splines": lambda case: _regularised(case, Splines()),
    "filters of a model": _filters,
    "filters of a fitted model": _fitted_filters,
    "instantaneous fields, linear-nonlinear": _fields_of_linear_nonlinear,
    "instantaneous fields, network": _fields_of_deep_retina,
    "instantaneous fields, toy": _fields_of_toy,
}


@pytest.mark.parametrize(("behind", "latency"), [(0, 0), (1, 0), (2, 0), (1, 1), (3, 1)])
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_the_planted_lag_and_pixel_are_found(name, behind, latency):
    case = Case(behind, latency)
    field = ESTIMATORS[name](case).transpose("lag", "y", "x")
    assert field.sizes["lag"] == case.history
    np.testing.assert_allclose(
        field["lag"], (np.arange(1 - case.history, 1) - latency) / RATE, atol=1e-9
    )
    strength = np.abs(field.values)
    place = np.unravel_index(strength.argmax(), strength.shape)
    assert float(field["lag"][place[0]]) == pytest.approx(-behind / RATE)
    assert float(field["y"][place[1]]) == pytest.approx(case.movie["y"].values[case.row])
    assert float(field["x"][place[2]]) == pytest.approx(case.movie["x"].values[case.column])
    assert strength.max() > 2 * np.sort(strength.ravel())[-2]
