"""Whether formulas over events say what the modes of the simulated retina are wired for.

A retina with one cell of each type, all at the middle of the frame, sees a natural movie. The
modes of each cell's contributions are explained by formulas over lagged events of the movie, and
the formulas scored against the wiring of the interneurons: which sign of light excites them.
Then probes that satisfy and violate each formula are shown to the circuit. The error is the share
of modes with a clear wiring whose formula names another sign, and of modes whose loading does not
rise more with their formula than with a control (p above 0.05).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from meter import main, measure, report

from retinacodec import Circuit, Secant, contributions
from retinacodec.analyses import (
    draw_synthesis,
    explain_modes,
    find_modes,
    probe_library,
    score_formulas,
    stimulus_events,
    synthesis_test,
    synthesise,
    wired_polarity,
)
from retinacodec.errors import InputError
from retinacodec.models import CircuitRetina
from retinacodec.plotting import FULL_MM, figure, style
from retinacodec.stimuli import centre_surround, natural_movie, white_noise
from retinacodec.targets import Cell, EachCell

_SIZE, _RULE, _ONSET = (32, 32), Secant(3), 26
_WIRING = {
    "ON transient": 1, "ON sustained": 1, "OFF transient": -1, "OFF sustained": -1,
    "amacrine ON": 1, "amacrine OFF": -1, "amacrine wide": 0,
}  # fmt: skip


def library() -> xr.Dataset:
    """Return probes: steps of centre and surround, motion of both, another texture."""
    levels = [(0.0, 0.0), (0.0, 0.5), (0.0, -0.5)]
    space: dict[str, Any] = {
        "centre": levels, "surround": levels, "texture": [0.0, 0.35],
        "centre_speed": [0.0, 2400.0], "background_speed": [0.0, 600.0, 2400.0],
        "switch": [False, True],
    }  # fmt: skip
    render = functools.partial(centre_surround, 44, onset=_ONSET, size=_SIZE)
    return probe_library(render, space, onset=_ONSET, progress=False)


def explained(seconds: float, cells: int) -> tuple[Circuit, list[dict[str, Any]]]:
    """Return the circuit, and the modes and formulas of each cell."""
    retina = CircuitRetina(_SIZE, cells=cells, spacing_um=1.0)
    movie = natural_movie(seconds=seconds, size=_SIZE, seed=11)
    circuit = Circuit(retina, layers=["interneurons"])
    tree = contributions(circuit, movie, EachCell(), rule=_RULE, progress=False)
    events = stimulus_events(movie)
    rows = []
    for number, name in enumerate(retina.cell_names):
        modes = find_modes(
            tree["interneurons"], target=name, stability_seeds=0, halves=False, progress=False
        )
        found = explain_modes(modes, events, progress=False)
        wired = wired_polarity(modes, _WIRING, names=retina.interneuron_names)
        rows.append(
            {"cell": number, "name": name, "modes": modes, "found": found, "wired": wired.values}
        )
    return circuit, rows


def tested(
    circuit: Circuit, rows: list[dict[str, Any]], probes: xr.Dataset, count: int
) -> list[dict[str, Any]]:
    """Return what synthesis says of every mode that chance does not explain."""
    results = []
    for row in rows:
        last = row["found"].isel(length=-1)
        for mode in np.flatnonzero(last["p"].sel(part="held out").values <= 0.05):
            formula = str(last["formula"].values[mode])
            try:
                triples = synthesise(formula, probes, count=count)
                result = synthesis_test(
                    triples, circuit, row["modes"], Cell(row["cell"]), layer="interneurons",
                    rule=_RULE,
                )  # fmt: skip
            except InputError:
                continue
            results.append(
                {"row": row, "mode": int(mode), "triples": triples, "result": result}
                | {"formula": formula}
            )
    return results


def retina_explanations(quick: bool) -> None:
    """Five cells, 60 s of movie and 16 probes a mode; quick: two cells, 20 s, 4 probes."""
    seconds, cells, count = (20.0, 2, 4) if quick else (60.0, 5, 16)
    ours = measure(lambda: explained(seconds, cells), repeats=1)
    circuit, rows = ours.result
    last = [row["found"].isel(length=-1) for row in rows]
    formulas = [str(one) for found in last for one in found["formula"].values]
    wired = np.concatenate([row["wired"] for row in rows])
    scores = score_formulas(formulas, wired)
    held = np.concatenate([one["score"].sel(part="held out").values for one in last])
    p = np.concatenate([one["p"].sel(part="held out").values for one in last])
    n = {"cells": cells, "seconds": seconds, "modes": len(formulas)}
    report(
        "retina_formulas", ours, n=n, error=1 - float(scores["clear_share"]),
        share=float(scores["share"]), share_null=float(scores["share_null"].mean()),
        share_p=float(scores["share_p"]), clear_null=float(scores["clear_null"].mean()),
        clear_p=float(scores["clear_p"]), correlation=float(scores["correlation"]),
        held_out_iou=float(np.nanmean(held)), p05=float((p <= 0.05).mean()), formulas=formulas,
    )  # fmt: skip
    again = measure(lambda: tested(circuit, rows, library(), count), repeats=1)
    _report_synthesis(again, n | {"probes": count})


def _report_synthesis(ours: Any, n: dict[str, Any]) -> None:
    found = ours.result

    def mean(pick: Callable[[xr.Dataset, int], Any]) -> float:
        return float(np.mean([pick(one["result"], one["mode"]) for one in found]))

    report(
        "retina_synthesis", ours, n=n | {"tested": len(found)},
        error=1 - mean(lambda r, k: r["p"][k] <= 0.05),
        on_more=mean(lambda r, k: r["effect"][k] > 0),
        superiority=mean(lambda r, k: r["superiority"][k]),
        on={str(role): mean(lambda r, k, role=role: r["on"].sel(role=role)[k])
            for role in ("violates", "satisfies", "control")},
        effects={
            f"{one['row']['name']}, mode {one['mode']}": [
                round(float(one["result"][name][one["mode"]]), 2)
                for name in ("effect", "low", "high", "p")
            ]
            for one in found
        },
    )  # fmt: skip


def event_cost(quick: bool) -> None:
    """All events of a minute of 50 x 50 pixels; error: false alarms of motion a minute of noise."""
    seconds = 10.0 if quick else 60.0
    movie = natural_movie(seconds=seconds, seed=0)
    ours = measure(lambda: stimulus_events(movie, truth=False))
    noise = stimulus_events(white_noise(seconds=seconds, seed=0))
    names = [one for one in noise["event"].values if one.startswith(("motion", "image", "diff"))]
    alarms = int(noise.sel(event=names).sum()) * 60 / seconds
    report("events", ours, n={"frames": movie.sizes["time"], "frame": [50, 50]}, error=alarms)


def draw(quick: bool, path: Path) -> None:
    """Draw the synthesis tests of three modes: light, dark and motion."""
    circuit, rows = explained(20.0 if quick else 60.0, 5)
    found = tested(circuit, rows, library(), 4 if quick else 16)

    def wired(one: dict[str, Any]) -> float:
        return float(one["row"]["wired"][one["mode"]])

    chosen = [max(found, key=wired), min(found, key=wired), min(found, key=lambda o: abs(wired(o)))]
    with style():
        made = figure(width_mm=FULL_MM, height_mm=135)
        parts = made.subfigures(3, 1)
        for part, one in zip(parts, chosen, strict=True):
            part.suptitle(
                f"{one['row']['name']}, mode {one['mode']} (wired {wired(one) + 0.0:+.1f}): "
                f"{one['formula']}",
                fontsize=6,
            )
            axes = part.subplots(1, 3, width_ratios=[1, 1, 0.8])
            draw_synthesis(one["triples"], one["result"], axes, mode=one["mode"])
        made.savefig(path, dpi=200)


if __name__ == "__main__":
    main(
        {"retina_explanations": retina_explanations, "events": event_cost},
        {"retina_explanations": draw},
    )
