"""Whether recorded interneurons are told from nothing, and how soon.

The model is the simulated retina, whose channels are its interneuron types. The recording is that
of its own interneurons in noise, or, for false alarms, of the same retina watching another movie.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from meter import main, measure, report
from scipy.signal import lfilter
from scipy.stats import kstest

from retinacodec import Circuit
from retinacodec.analyses import channel_activations, interneuron_figure, match_interneurons
from retinacodec.bootstrap import draw_blocks, percentiles
from retinacodec.models import CircuitRetina
from retinacodec.stimuli import natural_movie

_SIZE = (16, 16)
_NOISE = 1.0  # deviation of noise over that of the trace


def _retina() -> CircuitRetina:
    return CircuitRetina(_SIZE, cells=1, spacing_um=100.0)


def _traces(retina: CircuitRetina, movie: xr.Dataset, every: int, seed: int) -> xr.DataArray:
    """Return traces (time, type, y, x) in noise that remembers three frames."""
    true = retina.interneuron_traces(movie, every=every)["release"]
    raw = np.random.default_rng(seed).normal(size=true.shape)
    noise = (raw + np.roll(raw, 1, axis=0) + np.roll(raw, 2, axis=0)) / np.sqrt(3)
    return true + _NOISE * true.std("time") * true.copy(data=noise)


def false_alarms(quick: bool) -> None:
    """Match each movie's activations with the recording of the next: a family of seven cells."""
    families, seconds = (6, 15.0) if quick else (80, 30.0)
    retina = _retina()
    circuit = Circuit(retina, ["interneurons"])

    def work() -> list[xr.Dataset]:
        found = []
        units = None
        for seed in range(families + 1):
            movie = natural_movie(seconds=seconds, size=_SIZE, seed=seed)
            if units is not None:
                traces = _traces(retina, movie, every=16, seed=seed).isel(y=0, x=0)
                found.append(match_interneurons(traces, units, draws=1))
            units = channel_activations(circuit, movie)
        return found

    ours = measure(work, repeats=1)
    p = np.stack([each.p_value.values for each in ours.result])
    family = np.stack([each.p_family.values for each in ours.result])
    each = (p <= 0.05).mean(axis=1)
    low, high = percentiles(draw_blocks(families, 2000, seed=0) @ each / families)
    any_alarm = int((family.min(axis=1) <= 0.05).sum())
    report(
        "interneurons_false_alarms",
        ours,
        n={"cells": int(p.size), "families": families, "units": 7 * _SIZE[0] * _SIZE[1],
           "frames": int(ours.result[0].attrs["frames"])},
        error=abs(float(each.mean()) - 0.05),
        false_alarms=float(each.mean()),
        low=float(low),
        high=float(high),
        families_with_alarm=any_alarm / families,
        median_p=float(np.median(p)),
        shifts=int(ours.result[0].attrs["shifts"]),
        independent_shifts=int(ours.result[0].attrs["independent_shifts"]),
    )  # fmt: skip


def noise_alarms(quick: bool) -> None:
    """Match independent noise that remembers 10 frames with a retina's activations."""
    cells, seconds = (50, 15.0) if quick else (400, 30.0)
    movie = natural_movie(seconds=seconds, size=_SIZE, seed=5)
    units = channel_activations(Circuit(_retina(), ["interneurons"]), movie)
    raw = np.random.default_rng(1).normal(size=(units.sizes["time"] + 50, cells))
    noise = lfilter([1.0], [1.0, -np.exp(-0.1)], raw, axis=0)[50:]
    traces = xr.DataArray(noise, dims=("time", "cell"), coords={"time": units["time"]})
    ours = measure(lambda: match_interneurons(traces, units, draws=1), repeats=1)
    p = ours.result.p_value.values
    report(
        "interneurons_noise_alarms",
        ours,
        n={"cells": cells, "units": int(units[0].size), "frames": units.sizes["time"]},
        error=abs(float((p <= 0.05).mean()) - 0.05),
        false_alarms=float((p <= 0.05).mean()),
        at_one_percent=float((p <= 0.01).mean()),
        uniform_p=float(kstest(p, "uniform").pvalue),
        least_family_p=float(ours.result.p_family.min()),
        cpu_s_a_trace=ours.cpu_s / cells,
    )


def recovery(quick: bool) -> None:
    """Match the retina's own interneurons, recorded at some places, in noise."""
    seconds = 15.0 if quick else 60.0
    retina = _retina()
    movie = natural_movie(seconds=seconds, size=_SIZE, seed=5)
    units = channel_activations(Circuit(retina, ["interneurons"]), movie)
    traces = _traces(retina, movie, every=8, seed=0)
    ours = measure(lambda: match_interneurons(traces, units, draws=200), repeats=1)
    found = ours.result
    true = xr.DataArray(np.arange(7), dims="type")
    rows, columns = (xr.DataArray([4, 12], dims=dim) for dim in ("y", "x"))
    right = (found.best_channel == true).transpose("type", "y", "x")
    away = np.hypot(found.best_row - rows, found.best_column - columns)
    share = float(right.mean())
    report(
        "interneurons_recovery",
        ours,
        n={"cells": int(right.size), "units": int(units[0].size), "frames": units.sizes["time"]},
        error=1 - share,
        type_recovered=share,
        by_type=dict(zip(retina.interneuron_names, right.mean(["y", "x"]).values.tolist(),
                         strict=True)),
        median_pixels_away=float(away.median()),
        mean_r=float(found.correlation.mean()),
        expected_r=float(1 / np.sqrt(1 + _NOISE**2)),
        found_at_family_level=float((found.p_family <= 0.05).mean()),
    )  # fmt: skip


def cost(quick: bool) -> None:
    """Time all shifts of some traces against rolling the traces for some of the shifts."""
    frames, cells, channels, side = (1200, 5, 8, 10) if quick else (3600, 20, 8, 25)
    rng = np.random.default_rng(0)
    time = {"time": np.arange(frames) / 60}
    units = xr.DataArray(
        rng.normal(size=(frames, channels, side, side)).astype(np.float32),
        dims=("time", "channel", "y", "x"), coords=time,
    )  # fmt: skip
    traces = xr.DataArray(rng.normal(size=(frames, cells)), dims=("time", "cell"), coords=time)
    ours = measure(lambda: match_interneurons(traces, units, draws=1), repeats=1 if quick else 3)
    shifts, some = int(ours.result.attrs["shifts"]), 50
    rolled = measure(lambda: _rolled(traces.values, units.values, some), repeats=1)
    n: dict[str, Any] = {"cells": cells, "units": int(units[0].size), "frames": frames,
                         "shifts": shifts}  # fmt: skip
    report(
        "interneurons_cost",
        ours,
        n=n,
        peer=f"numpy: traces rolled, {some} shifts, scaled to all",
        peer_cpu_s=rolled.cpu_s * shifts / some,
        cpu_s_a_trace=ours.cpu_s / cells,
    )


def _rolled(traces: np.ndarray[Any, Any], units: np.ndarray[Any, Any], shifts: int) -> None:
    """Choose on one half and score on the other for traces rolled by some shifts."""
    flat = units.reshape(len(units), -1)
    middle = len(units) // 2
    halves = [part - part.mean(0) for part in (flat[:middle], flat[middle:])]
    halves = [part / part.std(0) for part in halves]
    for shift in range(1, shifts + 1):
        moved = np.roll(traces, shift, axis=0).astype(np.float32)
        parts = [part - part.mean(0) for part in (moved[:middle], moved[middle:])]
        first, second = (
            (part / part.std(0)).T @ unit / middle for part, unit in zip(parts, halves, strict=True)
        )
        for one, other in ((first, second), (second, first)):
            np.take_along_axis(other, one.argmax(axis=1)[:, None], axis=1)


def _figure(quick: bool, path: Path) -> None:
    """Draw the matches of one interneuron of each type, in noise."""
    retina = _retina()
    circuit = Circuit(retina, ["interneurons"])
    movie = natural_movie(seconds=15.0 if quick else 30.0, size=_SIZE, seed=5)
    traces = _traces(retina, movie, every=8, seed=0).isel(y=0, x=1, drop=True)
    units = channel_activations(circuit, movie)
    matches = match_interneurons(traces, units, maps=True, draws=200)
    traces.attrs["units"] = "drive"
    interneuron_figure(matches, traces, units, seconds=2.0).savefig(path, dpi=200)


if __name__ == "__main__":
    main(
        {
            "interneurons_false_alarms": false_alarms,
            "interneurons_noise_alarms": noise_alarms,
            "interneurons_recovery": recovery,
            "interneurons_cost": cost,
        },
        {"interneurons_recovery": _figure},
    )
