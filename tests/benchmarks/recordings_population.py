"""Baselines of whole populations on two real recordings, and how reliable repeats are.

Run alone: ``python tests/benchmarks/recordings_population.py [--only NAME] [--figure FILE]``. The
repeated stretch of the salamander's flicker is the end of the long one, so that the models are
fitted to what came before it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from meter import Measured, main, measure, report
from real_recordings import flicker_before_repeats, flicker_repeats, mouse, salamander

from retinacodec.analyses import fit_glm, fit_ln, model_tests, response_reliability
from retinacodec.analyses.comparison import compare_models
from retinacodec.bootstrap import percentiles
from retinacodec.circuit import predict
from retinacodec.recordings import split_blocks

__all__ = ["population_glm", "population_ln", "reliability"]

_HISTORY = {"salamander": 20, "mouse": 24}
_LIMIT_S = 180.0


@cache
def _fit(kind: str, animal: str, quick: bool, post_spike: int) -> tuple[Measured, Any] | None:
    """Fit one kind of model to an animal's cells, and predict what was held out."""
    found = salamander(quick=True, fit=False) if animal == "salamander" else mouse()
    if found is None:
        return None
    movie, recording, split = found.movie, found.recording, found.split
    history = _HISTORY[animal]
    if animal == "salamander":
        movie, recording = flicker_before_repeats(history)
        split = split_blocks(movie.sizes["time"], history=history, test_every=0)
    if quick:
        recording = recording.isel(cell=slice(3))
    options: dict[str, Any] = {"history": history}
    if kind == "GLM":
        options["post_spike"] = post_spike
    fit = fit_ln if kind == "LN" else fit_glm
    ours = measure(lambda: fit(movie, recording, split, **options), repeats=1)
    target = flicker_repeats()[0] if animal == "salamander" else movie
    return ours, ours.result.predict(target)


def _held_out(animal: str, quick: bool) -> tuple[xr.Dataset, np.ndarray | None]:
    """Return the recording that models are scored on, and the frames."""
    if animal == "salamander":
        recording, frames = flicker_repeats()[1], None
    else:
        recording, frames = mouse().recording, mouse().split.test
    return (recording.isel(cell=slice(3)) if quick else recording), frames


def _median(values: np.ndarray) -> list[float]:
    """Return the median over cells with the ends of its interval, from resampled cells."""
    known = values[np.isfinite(values)]
    if not known.size:
        return [float("nan")] * 3
    chosen = np.random.default_rng(0).integers(0, known.size, (2000, known.size))
    low, high = percentiles(np.median(known[chosen], axis=1))
    return [round(float(one), 3) for one in (np.median(known), low, high)]


def _report(name: str, kind: str, animal: str, quick: bool, post_spike: int = 0) -> None:
    found = _fit(kind, animal, quick, post_spike)
    if found is None:
        return
    ours, rates = found
    recording, frames = _held_out(animal, quick)
    scores = compare_models({kind: rates}, recording, frames, draws=200).isel(model=0)
    size = {"animal": animal, "cells": recording.sizes["cell"], "frames": scores.attrs["frames"]}
    more: dict[str, Any] = {
        f"median_{metric}": _median(scores[metric].values)
        for metric in ("r", "bits_per_spike", "cc_norm", "feve")
        if metric in scores
    }
    if animal == "mouse":
        more["r"] = scores["r"].values.round(3).tolist()
        more["bits_per_spike"] = scores["bits_per_spike"].values.round(3).tolist()
    if post_spike:
        more["runaway"] = float((rates["runaway"] > 0).mean())
    report(name, ours, n=size | {"post_spike": post_spike}, limit_cpu_s=_LIMIT_S, **more)


def population_ln(quick: bool) -> None:
    """Fit linear-nonlinear models to all cells of both recordings."""
    for animal in ("salamander", "mouse"):
        _report("population_ln", "LN", animal, quick)


def population_glm(quick: bool) -> None:
    """Fit generalised linear models to all cells, of the stimulus alone and with own spikes."""
    for animal in ("salamander", "mouse"):
        for post_spike in (0, 10):
            _report("population_glm", "GLM", animal, quick, post_spike)


def reliability(quick: bool) -> None:
    """Measure how alike the responses to nine repeats are."""
    if salamander(quick=True, fit=False) is None:
        return
    recording, _ = _held_out("salamander", quick)
    ours = measure(lambda: response_reliability(recording), repeats=1)
    found = ours.result
    names = ("split_half", "split_half_full", "cc_max", "oracle", "fano")
    more = {f"median_{name}": _median(found[name].values) for name in names}
    good = found["split_half_full"].values
    best = np.sort(good[np.isfinite(good)])[-50:]
    size = {"cells": recording.sizes["cell"], "repeats": found.attrs["repeats"]}
    shares = [round(float(one), 3) for one in (best.min(), best.max())]
    missing = int(np.isnan(found["cc_max"]).sum())
    report("reliability", ours, n=size, **more, best_50_split_half_full=shares, no_signal=missing)


def mouse_models(quick: bool) -> None:
    """Compare the stored network of the mouse with both baselines, on frames held out of all."""
    found = mouse()
    if found is None:
        return
    rates = {"CNN": predict(found.circuits["CNN"], found.movie)}
    for kind in ("LN", "GLM"):
        rates[kind] = _fit(kind, "mouse", False, 0)[1]
    frames = found.split.test
    ours = measure(lambda: model_tests(rates, found.recording, frames), repeats=1)
    tests = ours.result
    for pair in tests["pair"].values:
        one = tests.sel(pair=pair, metric="r")
        words = {name: float(one[name]) for name in ("mean", "mean_low", "mean_high", "least_p")}
        words |= {name: float(one[name]) for name in ("p_wilcoxon", "q_wilcoxon", "effect")}
        cells = {name: int(one[name]) for name in ("better", "worse", "cells")}
        report("mouse_models", ours, n={"pair": str(pair), **cells}, **words)
    scores = compare_models({"CNN": rates["CNN"]}, found.recording, frames, draws=50)
    report("mouse_cnn", ours, n={}, r=scores["r"].values[0].round(3).tolist())


def _figure(quick: bool, path: Path) -> None:
    """Draw the reliability of the salamander's cells, and how far LN and GLM explain them."""
    from retinacodec.analyses import draw_reliability
    from retinacodec.analyses.comparison_figure import draw_ceiling, draw_distribution, draw_pair
    from retinacodec.plotting import FULL_MM, figure, panel_letter, style

    recording, _ = _held_out("salamander", quick)
    rates = {kind: _fit(kind, "salamander", quick, 0)[1] for kind in ("LN", "GLM")}
    scores = compare_models(rates, recording, draws=300)
    with style():
        drawing = figure(width_mm=FULL_MM, height_mm=112)
        axes = drawing.subplots(2, 3).ravel()
        found = response_reliability(recording, draws=300)
        for ax, measure_ in zip(axes, ("split_half_full", "cc_max"), strict=False):
            draw_reliability(found, ax, measure=measure_)
        draw_distribution(scores, axes[2], metric="cc_norm")
        draw_pair(scores, axes[3], "LN", "GLM", metric="cc_norm")
        draw_ceiling(scores, axes[4])
        draw_distribution(scores, axes[5], metric="feve")
        for ax, letter in zip(axes, "ABCDEF", strict=True):
            panel_letter(ax, letter)
        drawing.savefig(path, dpi=200)


if __name__ == "__main__":
    main(
        {
            "population_ln": population_ln,
            "population_glm": population_glm,
            "reliability": reliability,
            "mouse_models": mouse_models,
        },
        {"reliability": _figure},
    )
