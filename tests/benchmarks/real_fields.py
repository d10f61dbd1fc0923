"""Receptive fields of real ganglion cells, and whether fitted models have them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from meter import main, measure, report
from real_fields_figures import draw_mouse, draw_salamander
from real_recordings import Fitted, mouse, salamander
from regularised import mouse_regularised

from retinacodec.analyses import (
    compare_models,
    compare_with_average,
    fields_table,
    spike_triggered_average,
    sta_peaks,
    sta_significance,
)
from retinacodec.circuit import predict

__all__ = ["mouse_fields", "mouse_models", "salamander_fields", "salamander_models"]

_ERRORS = ("centre_x", "centre_y", "size", "orientation")
_INTERVALS = ("time_to_peak", "zero_crossing", "biphasic_index")
_AGREEMENT = (
    "correlation",
    "spatial_correlation",
    "temporal_correlation",
    "slope",
    "reliability",
    "corrected",
)
_NEAR = 7  # pixels of the square that is scored
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def mouse_fields(quick: bool) -> None:
    """Print a line for each cell of the mouse: its spike-triggered average in numbers."""
    found = mouse()
    if found is None:
        return
    options: dict[str, Any] = {"history": 20 if quick else 30}

    def work() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
        averages = spike_triggered_average(found.movie, found.recording, **options)
        chance = sta_significance(found.movie, found.recording, **options)
        return averages, chance, fields_table(averages, p_values=chance["p"])

    ours = measure(work, repeats=1)
    averages, chance, table = ours.result
    peaks = sta_peaks(averages)
    for k, cell in enumerate(table["cell"].values):
        row, peak = table.isel(cell=k), peaks.isel(cell=k)
        report(
            "mouse_fields",
            ours,
            n={"frames": found.movie.sizes["time"], "spikes": int(row["spikes"])},
            cell=str(cell),
            z=float(peak["z"]),
            standard_errors=float(row["z"]),
            lag_frames=int(peak["lag_frames"]),
            p=float(chance["p"][k]),
            type=str(row["type"].item()),
            **{name: _with_error(row, name) for name in _ERRORS},
            **{name: _with_interval(row, name) for name in _INTERVALS},
            separability=float(row["separability"]),
            noise_share=float(row["noise_share"]),
        )


def mouse_models(quick: bool) -> None:
    """Print how mean fields of the models agree with averages, held out and of all frames."""
    found = mouse()
    if found is None:
        return
    every: dict[str, Any] = {"every": 20} if quick else {}
    for name, circuit in found.circuits.items():
        frames = {"held out": found.split.test, "all": np.arange(found.movie.sizes["time"])}
        for which, some in frames.items():
            for window in (_NEAR, None):
                ours = measure(
                    partial(
                        compare_with_average,
                        circuit,
                        found.movie,
                        found.recording,
                        frames=some,
                        window=window,
                        progress=False,
                        **every,
                    ),
                    repeats=1,
                )
                for k, cell in enumerate(ours.result["cell"].values):
                    row = ours.result.isel(cell=k)
                    report(
                        "mouse_models",
                        ours,
                        n={"frames": len(some), "window": window},
                        model=name,
                        frames=which,
                        cell=str(cell),
                        **{score: _with_interval(row, score) for score in _AGREEMENT},
                    )


def salamander_fields(quick: bool) -> None:
    """Print what the time courses of all salamander cells are like, and which cells are odd."""
    found = salamander(quick=quick, fit=False)
    if found is None:
        return

    def work() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
        averages = spike_triggered_average(found.movie, found.recording, history=20)
        chance = sta_significance(found.movie, found.recording, history=20)
        return averages, chance, fields_table(averages, p_values=chance["p"])

    ours = measure(work, repeats=1)
    averages, chance, table = ours.result
    peaks = sta_peaks(averages)
    other = np.sign(peaks["z"].values) != table["polarity"].values
    report(
        "salamander_fields",
        ours,
        n={"frames": found.movie.sizes["time"], "cells": table.sizes["cell"]},
        above_10=int((chance["peak"] > 10).sum()),
        found=int(chance["found"].sum()),
        largest_p=float(chance["p"].max()),
        on=int((table["type"] == "ON").sum()),
        off=int((table["type"] == "OFF").sum()),
        on_by_largest=int((peaks["z"] > 0).sum()),
        **{name: _shares(table[name]) for name in (*_INTERVALS, "duration")},
        without={name: int(table[name].isnull().sum()) for name in _INTERVALS},
    )
    for k in np.flatnonzero(other | (table["type"].values == "ON")):
        report(
            "salamander_fields",
            ours,
            n={"spikes": int(table["spikes"][k])},
            cell=str(table["cell"].values[k]),
            type=str(table["type"].values[k]),
            largest=float(peaks["z"][k]),
            largest_at_ms=1000 * float(peaks["lag"][k]),
            first_at_ms=-float(table["time_to_peak"][k]),
        )


def salamander_models(quick: bool) -> None:
    """Print held-out prediction, and agreement with held-out averages, over salamander cells."""
    found = salamander(quick=quick)
    if found is None:
        return
    rates = {name: predict(one, found.movie) for name, one in found.circuits.items()}
    draws = 50 if quick else 500
    scores = compare_models(rates, found.recording, found.split.test, draws=draws)
    for number, name in enumerate(found.circuits):
        ours = measure(partial(_held_out, found, name), repeats=1)
        score = scores.isel(model=number)
        report(
            "salamander_models",
            ours,
            n={"frames": len(found.split.test), "cells": score.sizes["cell"]},
            model=name,
            r=_shares(score["r"]),
            mean_r=_with_interval(score, "mean_r"),
            bits_per_spike=_shares(score["bits_per_spike"]),
            **{key: _shares(ours.result[key]) for key in _AGREEMENT if key[:7] != "spatial"},
            interval_width=_shares(
                ours.result["correlation_high"] - ours.result["correlation_low"]
            ),
            below_half=int((ours.result["correlation"] < 0.5).sum()),
            corrected_reaches_1=int((ours.result["corrected_high"] >= 1).sum()),
            corrected_known=int(ours.result["corrected"].notnull().sum()),
        )


def _held_out(found: Fitted, name: str) -> xr.Dataset:
    """Return how a model's mean field agrees with the averages of frames held out."""
    return compare_with_average(
        found.circuits[name],
        found.movie,
        found.recording,
        frames=found.split.test,
        progress=False,
    )


def _with_error(row: xr.Dataset, name: str) -> list[float]:
    """Return a number and its standard error."""
    return [round(float(row[key]), 2) for key in (name, f"{name}_error")]


def _with_interval(row: xr.Dataset, name: str) -> list[float]:
    """Return a number and the ends of its interval."""
    return [round(float(row[name + end]), 3) for end in ("", "_low", "_high")]


def _shares(values: xr.DataArray) -> list[float]:
    """Return quantiles over cells."""
    return [round(float(one), 3) for one in np.nanquantile(values.values, _SHARES)]


if __name__ == "__main__":
    main(
        {
            "mouse_fields": mouse_fields,
            "mouse_models": mouse_models,
            "mouse_regularised": mouse_regularised,
            "salamander_fields": salamander_fields,
            "salamander_models": salamander_models,
        },
        {"mouse_fields": draw_mouse, "salamander_fields": draw_salamander},
    )
