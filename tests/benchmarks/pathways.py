"""Whether modes find the pathways of the simulated retina, which knows them.

Each cell of a retina of one cell a type, natural movies from several seeds. Modes of
contributions, activations and gradients of the layer of interneurons are matched with the
cell's ON, OFF and amacrine pathways. The error is one less the mean cosine of contribution modes
with their pathways. Intervals resample movies, all quantities and cells of one together. What is
scored, and how, was settled on other movies than those scored here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr
from meter import main, measure, report

from retinacodec import Circuit, Secant, contributions
from retinacodec.analyses import (
    compare_pathway_recovery,
    draw_pathway_areas,
    draw_pathway_atoms,
    find_modes,
)
from retinacodec.bootstrap import draw_blocks, percentiles
from retinacodec.models import CircuitRetina
from retinacodec.plotting import FULL_MM, figure, style
from retinacodec.stimuli import natural_movie
from retinacodec.targets import EachCell

_QUANTITIES = ("contribution", "activation", "gradient")
_SCORES = ("cosine", "auc", "auc_firing", "best_auc_firing")
_SIZES = {"whole": (32, 32), "patch": (8, 8)}
_DRAWS = 2000


def recovery(seed: int, seconds: float, size: tuple[int, int], *, apart: bool = True) -> xr.Dataset:
    """Return scores (cell, quantity, pathway) of one movie; a patch is as large as one cell."""
    spacing = 220.0 if size == _SIZES["whole"] else 1.0
    retina = CircuitRetina(size, cells=5, spacing_um=spacing)
    movie = natural_movie(seconds=seconds, size=size, seed=seed)
    circuit = Circuit(retina, layers=["interneurons"])
    parts = contributions(
        circuit,
        movie,
        EachCell(),
        rule=Secant(5),
        activations=True,
        gradients=True,
        progress=False,
    )["interneurons"]
    truth = retina.pathway_contributions(movie)
    common: dict[str, Any] = {"stability_seeds": 0, "halves": False, "progress": False}
    shared = find_modes(parts, quantity="activation", **common)
    tables = []
    for cell in retina.cell_names:
        modes = {
            quantity: shared
            if quantity == "activation"
            else find_modes(parts, quantity=quantity, target=cell, **common)
            for quantity in _QUANTITIES
        }
        tables.append(
            compare_pathway_recovery(
                modes, truth.sel(cell=cell), amacrine_apart=apart, shifts=100, draws=2
            )
        )
    names = [name.rsplit(" ", 1)[0] for name in retina.cell_names]
    return xr.concat(
        tables, xr.Variable("cell", names), combine_attrs="override", data_vars="all",
        coords="minimal", compat="override", join="override",
    )  # fmt: skip


def paired(score: xr.DataArray, other: str) -> dict[str, float]:
    """Return by how much contributions are better (seed, cell, quantity, pathway), 95 %."""
    gain = score.sel(quantity="contribution") - score.sel(quantity=other)
    each = gain.mean(["cell", "pathway"]).values
    counts = draw_blocks(len(each), _DRAWS, seed=0)
    low, high = percentiles(counts @ each / len(each))
    return {"gain": float(each.mean()), "low": float(low), "high": float(high)}


def summary(table: xr.Dataset) -> dict[str, Any]:
    """Return mean scores of each quantity, and what contributions are better by."""
    mean = {
        score: {
            quantity: round(float(table[score].sel(quantity=quantity).mean()), 3)
            for quantity in _QUANTITIES
        }
        for score in _SCORES
    }
    gains = {
        f"{score} over {other}": {k: round(v, 3) for k, v in paired(table[score], other).items()}
        for score in ("cosine", "auc_firing", "best_auc_firing")
        for other in _QUANTITIES[1:]
    }
    real = table["auc_firing_p"].sel(quantity="contribution")
    share = float((real <= 0.05).sum() / real.notnull().sum())
    return {**mean, "gains": gains, "auc_firing_p05": round(share, 3)}


def circuit_retina(quick: bool) -> None:
    """Six movies of a minute, on the whole frame and a patch; quick: two of 20 s, whole."""
    seeds, seconds = (range(2), 20.0) if quick else (range(100, 106), 60.0)
    kinds: dict[str, dict[str, Any]] = {"whole": {"size": _SIZES["whole"]}}
    if not quick:
        kinds["whole, inhibition shared"] = {"size": _SIZES["whole"], "apart": False}
        kinds["patch"] = {"size": _SIZES["patch"]}
    for name, kind in kinds.items():
        ours = measure(
            lambda kind=kind: xr.concat(
                [recovery(seed, seconds, **kind) for seed in seeds],
                "seed",
                combine_attrs="override",
                join="override",
            ),
            repeats=1,
        )
        found = summary(ours.result)
        error = 1 - found["cosine"]["contribution"]
        n = {"movies": len(seeds), "seconds": seconds, "cells": 5, "frame": list(kind["size"])}
        report("circuit_retina", ours, n=n, error=error, retina=name, **found)


def draw(quick: bool, path: Path) -> None:
    """Draw atoms and areas of the ON-OFF cell."""
    table = recovery(1, 20.0 if quick else 60.0, _SIZES["whole"]).sel(cell="ON-OFF")
    with style():
        made = figure(width_mm=FULL_MM, height_mm=65)
        axes = made.subplots(1, 3, width_ratios=[1.3, 1, 1])
        draw_pathway_atoms(table, axes[0])
        draw_pathway_areas(table, axes[1])
        draw_pathway_areas(table, axes[2], "auc_firing")
        made.savefig(path, dpi=200)


if __name__ == "__main__":
    main({"circuit_retina": circuit_retina}, {"circuit_retina": draw})
