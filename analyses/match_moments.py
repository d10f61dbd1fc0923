"""Which moments traces and layers share, and how they are cut and shifted to be matched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from retinacodec.analyses.match_scores import MatchPlan
from retinacodec.errors import InputError, Problems

__all__ = ["FLOORS", "Layers", "autocorrelation_time", "common_moments", "match_plan"]

Layers = Mapping[str, xr.DataArray]

FLOORS = (float(np.exp(-15)), float(np.exp(-12)))
_LEAST = 20
_ROUNDING = 1e-3  # of the interval between samples, within which two times are one
_FORGOTTEN = 0.1  # autocorrelation below which a trace no longer knows itself


def common_moments(
    traces: xr.DataArray | xr.Dataset, activations: xr.DataArray | Layers
) -> tuple[xr.DataArray, dict[str, xr.DataArray]]:
    """Return traces and layers at their common moments, time first."""
    if isinstance(traces, xr.Dataset):
        named = next((name for name in ("trace", "potential") if name in traces), None)
        if named is None:
            raise InputError(
                "traces: expected a variable 'trace' or 'potential'; pass a DataArray instead"
            )
        traces = traces[named]
    layers: dict[str, xr.DataArray] = (
        {"activations": activations} if isinstance(activations, xr.DataArray) else dict(activations)
    )
    problems = Problems()
    problems.require("time" in traces.dims, f"traces: expected a dim time, got {traces.dims}")
    problems.require(traces.size > 0, f"traces: empty, {dict(traces.sizes)}")
    problems.require(bool(layers), "activations: expected a layer or more, got none")
    for name, each in layers.items():
        fits = each.dims[:2] == ("time", "channel")
        problems.require(fits, f"{name}: expected (time, channel, ...), got {each.dims}")
    problems.raise_as("match_interneurons")
    layers = {name: _on_moments(traces["time"], each) for name, each in layers.items()}
    others = {*traces.dims, *(dim for each in layers.values() for dim in each.dims)} - {"time"}
    trace, *units = xr.align(
        traces.transpose("time", ...), *layers.values(), join="inner", exclude=others
    )
    count = trace.sizes["time"]
    problems.require(count >= _LEAST, f"expected {_LEAST} common moments or more, got {count}")
    endless = bool(np.isinf(trace.values).any())
    problems.require(not endless, "traces: a value is infinite; NaN marks what was not sampled")
    for name, each in zip(layers, units, strict=True):
        problems.require(bool(np.isfinite(each).all()), f"{name}: a value is NaN or infinite")
    problems.raise_as("match_interneurons")
    return trace, dict(zip(layers, units, strict=True))


def _on_moments(time: xr.DataArray, layer: xr.DataArray) -> xr.DataArray:
    """Return a layer with the times of traces wherever they differ by rounding alone."""
    asked, own = layer["time"].values, time.values
    if own.size < 2 or not (np.diff(own) > 0).all():
        return layer
    after = np.clip(np.searchsorted(own, asked), 1, own.size - 1)
    nearest = after - (asked - own[after - 1] < own[after] - asked)
    near = np.abs(own[nearest] - asked) < _ROUNDING * np.median(np.diff(own))
    return layer.assign_coords(time=np.where(near, own[nearest], asked))


def match_plan(
    trace: xr.DataArray,
    layers: Layers,
    *,
    null_shifts: int | None,
    blocks: int,
    gap: int | None,
    least_shift: int | None,
    floors: tuple[float, float],
    draws: int,
    seed: int,
) -> tuple[MatchPlan, dict[str, Any]]:
    """Return how to match, and what a result says of it."""
    frames = trace.sizes["time"]
    history = max(int(each.attrs.get("history", 0) or 0) for each in layers.values())
    gap = history if gap is None else gap
    problems = Problems()
    problems.require(blocks >= 2, f"blocks: expected 2 or more, got {blocks}")
    problems.require(gap >= 0, f"gap: expected 0 moments or more, got {gap}")
    problems.require(draws >= 1, f"draws: expected 1 or more, got {draws}")
    some = null_shifts is None or null_shifts >= 1
    problems.require(some, f"null_shifts: expected at least 1, got {null_shifts}")
    least = max(autocorrelation_time(trace), history) if least_shift is None else least_shift
    least = min(least, frames // 4) if least_shift is None else least
    fits = 1 <= least <= frames // 2
    problems.require(fits, f"least_shift: expected 1 to {frames // 2} moments, got {least}")
    fine = len(floors) == 2 and all(floor >= 0 for floor in floors)
    problems.require(fine, f"floors: expected two numbers of at least 0, got {floors}")
    problems.raise_as("match_interneurons")
    steps = np.arange(least, frames - least + 1)
    if null_shifts is not None and null_shifts < steps.size:
        steps = steps[np.linspace(0, steps.size - 1, null_shifts).round().astype(int)]
    second = 1 / float(np.median(np.diff(trace["time"].values)))
    plan = MatchPlan(blocks, gap, steps / frames, draws, max(least, round(second), 1), seed, floors)
    said = {
        "frames": frames,
        "blocks": blocks,
        "gap": gap,
        "shifts": int(steps.size),
        "least_shift": int(least),
        "independent_shifts": int(min(steps.size, frames // least - 1)),
        "resampled_frames": plan.resampled,
    }
    return plan, said


def autocorrelation_time(trace: xr.DataArray) -> int:
    """Return after how many moments no trace knows itself any more; at least 1."""
    rows = trace.values.reshape(len(trace), -1).T.astype(np.float64)
    known = np.isfinite(rows)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    rows = np.where(known, rows, 0.0)
    rows = np.where(known, rows - rows.sum(axis=1, keepdims=True) / count, 0.0)
    spectrum = np.abs(np.fft.rfft(rows, 2 * rows.shape[1], axis=1)) ** 2
    products = np.fft.irfft(spectrum, axis=1)[:, : rows.shape[1]]
    power = products[:, :1]
    forgotten = products < _FORGOTTEN * power
    lags = np.where(forgotten.any(axis=1), forgotten.argmax(axis=1), 1)
    return max(1, int(lags.max()))
