"""How time and memory grow with frames, cells, steps and layers."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from meter import measure, report
from scenes import jittered_movie, structured_retina

import retinacodec as rc
from retinacodec.models import DeepRetina
from retinacodec.schema import make_stimulus

__all__ = ["scaling"]

LAYERS = ("conv1", "conv2", "norm1", "norm2", "relu1", "relu2")
Job = Callable[[int, int, int, int], Callable[[], Any]]
_retina = functools.cache(structured_retina)


def movie_path(frames: int, cells: int, steps: int, layers: int) -> Callable[[], Any]:
    """Return a run of the fast path on a network of the paper's size."""
    circuit = rc.Circuit(_retina(cells), LAYERS[:layers])
    return _job(circuit, jittered_movie(frames), steps, fast=True, budget_gb=0.5)


def generic_path(frames: int, cells: int, steps: int, layers: int) -> Callable[[], Any]:
    """Return a run of the path that takes any model, on a smaller network."""
    model = DeepRetina(cells, size=(24, 24), history=10, channels=(8, 8), kernels=(7, 5))
    noise = np.random.default_rng(0).standard_normal((frames + 9, 24, 24))
    movie = make_stimulus(noise, frame_rate=100, pixel_um=50, name="noise")
    circuit = rc.Circuit(model, LAYERS[:layers])
    return _job(circuit, movie, steps, fast=False, budget_gb=0.1)


def _job(circuit: rc.Circuit, movie: Any, steps: int, **options: Any) -> Callable[[], Any]:
    rule = rc.IntegratedGradients(steps)
    return lambda: rc.contributions(
        circuit, movie, rc.EachCell(), rule=rule, progress=False, **options
    )


def line(sizes: Sequence[int], seconds: Sequence[float]) -> dict[str, float]:
    """Return the straight line through seconds against sizes, and how well it fits."""
    slope, intercept = np.polyfit(sizes, seconds, 1)
    left = np.asarray(seconds) - np.polyval((slope, intercept), sizes)
    found = {"slope_ms": 1e3 * slope, "intercept_ms": 1e3 * intercept}
    found["r2"] = 1 - float(left.var() / np.var(seconds))
    return {key: float(f"{value:.3g}") for key, value in found.items()}


def _peak(job: Job, sizes: tuple[int, int, int, int]) -> float:
    """Return the peak memory of a job, MB; run in a process of its own."""
    job(8, *sizes[1:])()
    return measure(job(*sizes), repeats=1).peak_mb


def peaks(job: Job, sizes: tuple[int, int, int, int]) -> dict[str, float]:
    """Return the peak memory of a job and of one with four times the frames, MB."""
    found = {}
    for times in (1, 4):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            one = pool.apply(_peak, (job, (times * sizes[0], *sizes[1:])))
        found[f"peak_mb_{times}x"] = round(one, 1)
    return found


def _along(
    job: Job, base: Mapping[str, int], axes: Mapping[str, Sequence[int]], rounds: int
) -> dict[str, Any]:
    """Return a line for each axis: the time of jobs that differ only along it."""
    job(8, *list(base.values())[1:])()
    lines: dict[str, Any] = {}
    for axis, sizes in axes.items():
        jobs = [job(**{**base, axis: size}) for size in sizes]
        took = [[measure(one, repeats=1).cpu_s for one in jobs] for _ in range(rounds)]
        seconds = np.min(took, axis=0)
        lines[axis] = {
            "sizes": list(sizes),
            "cpu_s": [float(f"{one:.3g}") for one in seconds],
            **line(sizes, seconds),
        }
    return lines


def _asked(quick: bool) -> dict[Job, tuple[dict[str, int], dict[str, Sequence[int]]]]:
    """Return for each path the sizes that stay, and those that one axis at a time takes."""
    share, most = (8, 3) if quick else (1, 4)
    asked: dict[Job, tuple[dict[str, int], dict[str, Sequence[int]]]] = {
        movie_path: (
            {"frames": 320 // share, "cells": 16, "steps": 20, "layers": 2},
            {
                "frames": [size // share for size in (400, 800, 1200, 1600)],
                "cells": (16, 32, 48, 64),
                "steps": (10, 20, 40, 80),
                "layers": (2, 4, 6),
            },
        ),
        generic_path: (
            {"frames": 160 // share, "cells": 4, "steps": 10, "layers": 2},
            {
                "frames": [size // share for size in (160, 320, 480, 640)],
                "cells": (2, 4, 8, 16),
                "steps": (5, 10, 20, 40),
                "layers": (2, 4, 6),
            },
        ),
    }
    return {
        job: (base, {axis: sizes[:most] for axis, sizes in axes.items()})
        for job, (base, axes) in asked.items()
    }


def scaling(quick: bool) -> None:
    """Print a line for each axis and path; quick: an eighth of the frames, three sizes an axis."""
    for job, (base, axes) in _asked(quick).items():
        rounds = 1 if quick else 2
        whole = measure(functools.partial(_along, job, base, axes, rounds), repeats=1)
        sizes = (2 * base["frames"], base["cells"], base["steps"], base["layers"])
        report(
            "scaling",
            whole,
            n=base,
            path=job.__name__,
            error=min(one["r2"] for one in whole.result.values()),
            error_note="the smallest R2 of a straight line",
            lines=whole.result,
            memory=None if quick and job is movie_path else peaks(job, sizes),
        )
