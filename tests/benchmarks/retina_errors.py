"""Error against time of three ways to the contributions of the shipped retina network."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from accuracy import Array, errors, layer_maps
from meter import Measured, measure, report
from plain_path import reference_sums
from torch import Tensor, nn

import retinacodec as rc
from retinacodec.house_style import COLOURS, figure, style
from retinacodec.plotting import panel_letter
from retinacodec.targets import bind_target

__all__ = ["draw", "retina_errors"]

LAYERS = ("conv1", "conv2")
STEPS = (1, 2, 5, 10, 20, 50)
Curve = dict[str, list[float]]


class _Score(nn.Module):
    """A model with its target as the output, for captum."""

    def __init__(self, model: nn.Module, target: Any) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, windows: Tensor) -> Tensor:
        return self.target(self.model(windows)).float()


def _setting(frames: int, seconds: float) -> tuple[rc.Circuit, xr.Dataset, Tensor, Any]:
    """Return circuit, movie, some of its windows, and the surprisal of its population."""
    model = rc.models.pretrained("demo")
    movie = rc.stimuli.natural_movie(seconds=seconds, size=model.size, seed=3)
    circuit = rc.Circuit(model, LAYERS)
    names = circuit.output_names(len(model.cell_names))
    target = bind_target(
        rc.Surprisal(), names, lambda: torch.from_numpy(rc.predict(circuit, movie).values)
    )
    windows = circuit.windows(torch.from_numpy(movie["contrast"].values))
    return circuit, movie, windows[:: len(windows) // frames][:frames].contiguous(), target


def _captum(circuit: rc.Circuit, windows: Tensor, target: Any, steps: int, method: str) -> Any:
    """Return captum's conductance of each layer, and the CPU seconds a frame."""
    from captum.attr import LayerConductance

    score = _Score(circuit.model, target)

    def attribute() -> list[Tensor]:
        layers = [score.model.get_submodule(layer) for layer in LAYERS]
        ways = [LayerConductance(score, layer) for layer in layers]
        return [way.attribute(windows, n_steps=steps, method=method) for way in ways]

    found = measure(attribute, repeats=3)
    maps = [one.detach().double().flatten(2).numpy() for one in found.result]
    return maps, found.cpu_s / len(windows)


def _ours(
    circuit: rc.Circuit, movie: xr.Dataset, windows: Tensor, target: Any, rule: rc.Rule
) -> Any:
    """Return the engine's contributions of the windows, and the CPU seconds a frame of the movie.

    The windows are those of every so many frames; the time is of the whole movie, without maps.
    """
    explain = functools.partial(rc.contributions, circuit, movie, target, rule=rule, progress=False)
    took = measure(explain, repeats=3)
    tree = explain(maps=True)
    count = tree.sizes["time"]
    rows = slice(None, None, count // len(windows))
    return [maps[rows][: len(windows)] for maps in layer_maps(tree)], took.cpu_s / count


def _references(circuit: rc.Circuit, windows: Tensor, target: Any, steps: int) -> list[list[Array]]:
    model = copy.deepcopy(circuit.model).double().requires_grad_(False)
    rows = []
    for window in windows.double():
        sums, _ = reference_sums(model, LAYERS, window[None], target, steps)
        rows.append([sums[layer].flatten(1).numpy() for layer in LAYERS])
    return rows


def retina_errors(quick: bool, path: Path | None = None) -> None:
    """Print error and time of captum, trapezoid and secant; draw them where a path is given."""
    start = time.process_time()
    begun = _setting(2 if quick else 8, 4.0 if quick else 15.0)
    circuit, movie, windows, target = begun
    wanted = _references(circuit, windows, target, 60 if quick else 300)
    ways: dict[str, Callable[[int], Any]] = {
        "captum, riemann_trapezoid": lambda n: _captum(
            circuit, windows, target, n, "riemann_trapezoid"
        ),
        "captum, default": lambda n: _captum(circuit, windows, target, n, "gausslegendre"),
        "trapezoid": lambda n: _ours(*begun, rc.IntegratedGradients(n)),
        "secant": lambda n: _ours(*begun, rc.Secant(n)),
    }
    rc.contributions(circuit, movie.isel(time=slice(60)), target, progress=False)
    curves: dict[str, Curve] = {}
    for name, way in ways.items():
        curve: Curve = {"steps": [], "cpu_ms": [], "unit": [], "sums": []}
        for steps in STEPS[:4] if quick else STEPS:
            maps, seconds = way(steps)
            places, sums = errors(maps, wanted)
            row = (steps, 1e3 * seconds, np.median(places[:, 0]), np.median(sums[:, 0]))
            for key, value in zip(curve, row, strict=True):
                curve[key].append(float(f"{value:.3g}"))
        curves[name] = curve
    spent = time.process_time() - start
    report(
        "retina_errors",
        Measured(spent, spent, 0.0, None),
        n={"frames": movie.sizes["time"], "compared": len(windows)},
        network="shipped retina network, surprisal, errors at conv1",
        reference="mean of trapezoid and secant, 300 steps, float64",
        curves=curves,
    )
    if path is not None:
        draw(curves, path)


def draw(curves: dict[str, Curve], path: Path) -> None:
    """Draw error against time, of every place and of the channel sums."""
    ways = {
        "captum, default": ("captum, Gauss-Legendre", COLOURS.series[5], "v"),
        "captum, riemann_trapezoid": ("captum, 'riemann_trapezoid'", COLOURS.series[1], "s"),
        "trapezoid": ("retinacodec, trapezoid", COLOURS.series[2], "o"),
        "secant": ("retinacodec, secant", COLOURS.series[0], "D"),
    }
    with style():
        drawing = figure(width_mm=150, height_mm=66)
        panels = drawing.subplots(1, 2, sharex=True)
        labels = {"unit": "every place of every channel", "sums": "sums of each channel and sign"}
        for axis, letter, (key, said) in zip(panels, "ab", labels.items(), strict=True):
            for name, (label, colour, marker) in ways.items():
                curve = curves[name]
                axis.plot(
                    curve["cpu_ms"], curve[key], marker, ls="-", ms=3, color=colour, label=label
                )
            axis.set(xscale="log", yscale="log", title=said)
            axis.set_xlabel("CPU time per frame, two layers (ms)")
            axis.set_ylabel("relative error, first layer (L2 / L2)")
            axis.grid(which="major", lw=0.3, color=COLOURS.paper)
            panel_letter(axis, letter)
        _number(panels[0], curves["captum, riemann_trapezoid"])
        panels[1].legend(loc="best")
        drawing.savefig(path, dpi=220)


def _number(axis: Any, curve: Curve) -> None:
    """Write the number of steps beside the points of a curve."""
    for steps, x, y in zip(curve["steps"], curve["cpu_ms"], curve["unit"], strict=True):
        said = f"{steps:g} steps" if steps == curve["steps"][-1] else f"{steps:g}"
        axis.annotate(said, (x, y), (5, 5), textcoords="offset points", size=5, color=COLOURS.quiet)
