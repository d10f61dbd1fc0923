"""What silencing does: modes of real networks against activations and chance, with intervals.

Modes are found on one half of the images; everything is measured on the other.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr
from meter import main, measure, report
from real_networks import Classifier, resnet20, skip

import retinacodec as rc
from retinacodec.analyses.ablation_curves import ablation_curves
from retinacodec.analyses.ablation_figure import draw_ablation, draw_control
from retinacodec.analyses.ablation_rankings import channel_rankings, mode_rankings
from retinacodec.analyses.ablations import ablation_summary
from retinacodec.analyses.mode_effects import mode_mode_effects, mode_output_effects
from retinacodec.analyses.pruning import draw_pruning, importance, pruning_curves, weight_norms
from retinacodec.analyses.silencing import (
    effect_correlations,
    rival_quantities,
    silencing_effects,
)
from retinacodec.dictionaries import DirectPursuit, RandomRows
from retinacodec.house_style import figure, style
from retinacodec.interventions import Resample, Silence, mean_over
from retinacodec.plotting import panel_letter

_LAYERS = ("layer1.2", "layer2.0", "layer2.1", "layer2.2", "layer3.0", "layer3.1")
_TRIALS = 16
_WORDS = {
    "contribution modes": "Contribution modes",
    "activation modes": "Activation modes",
    "activation": "Activations, no modes",
    "contribution": "Contributions, no modes",
    "random": "Random channels",
    "activation x gradient": "Activation x gradient",
    "gradient": "Gradient",
    "weights": "Weight norm",
}


class _Halves:
    """A network, contributions of one half of its images, and the other half."""

    def __init__(self, network: Classifier) -> None:
        self.network = network
        self.circuit = rc.Circuit(network.model, network.blocks, sample="image", output="class")
        self.fit, self.test = slice(0, None, 2), slice(1, None, 2)
        self.parts = rc.contributions(
            self.circuit,
            network.images[self.fit],
            rc.TopK(1),
            activations=True,
            gradients=True,
            progress=False,
        )
        self._modes: dict[tuple[str, str], xr.Dataset] = {}
        self.summaries: dict[Any, xr.Dataset] = {}

    def modes(self, layer: str, quantity: str) -> xr.Dataset:
        """Return modes of a layer, twice as many as there are channels, 64 at most."""
        key = (layer, quantity)
        if key not in self._modes:
            node = self.parts[layer.replace(".", "_")]
            count = min(64, 2 * node.sizes["channel"])
            self._modes[key] = rc.analyses.find_modes(
                node,
                dictionary=DirectPursuit(modes=count, split=RandomRows(), consensus_seeds=1),
                quantity=quantity,
                stability_seeds=0,
                halves=False,
                progress=False,
            )
        return self._modes[key]

    def rankings(self, layer: str) -> dict[str, dict[str, xr.DataArray]]:
        labels = self.network.labels[self.fit]
        node = self.parts[layer.replace(".", "_")]
        return {
            "contribution modes": {layer: mode_rankings(self.modes(layer, "contribution"), labels)},
            "activation modes": {layer: mode_rankings(self.modes(layer, "activation"), labels)},
            "activation": {layer: channel_rankings(node, labels)},
        }


_KEPT: dict[bool, _Halves | str] = {}


def _halves(quick: bool) -> _Halves | None:
    if quick not in _KEPT:
        network = resnet20(200 if quick else 1000)
        _KEPT[quick] = network if isinstance(network, str) else _Halves(network)
    found = _KEPT[quick]
    if isinstance(found, str):
        skip("ablations", found)
        return None
    return found


def _summaries(halves: _Halves, quick: bool, layers: tuple[str, ...], how: str = "zero") -> Any:
    """Return a summary of each layer, joined by depth; computed once."""
    if (how, layers) in halves.summaries:
        return halves.summaries[how, layers]
    found = []
    images = halves.network.images[halves.test]
    for layer in layers:
        change = {
            "zero": Silence(),
            "mean": mean_over(halves.circuit, layer, halves.network.images[halves.fit]),
            "resample": Resample(0),
        }[how]
        curves = ablation_curves(
            halves.circuit,
            images,
            halves.network.labels[halves.test],
            halves.rankings(layer),
            how=change,
            trials=6 if quick else _TRIALS,
            progress=False,
        )
        found.append(ablation_summary(curves, draws=100 if quick else 1000))
    joined = xr.concat(found, xr.IndexVariable("depth", list(layers)), join="outer")
    halves.summaries[how, layers] = joined
    return joined


def cifar_control(quick: bool) -> None:
    """Relative area of the curves by layer and by what becomes of the channels."""
    halves = _halves(quick)
    if halves is None:
        return
    middle = ("layer2.1", "layer3.0")
    for how, where in (("zero", _LAYERS), ("mean", middle), ("resample", middle)):
        ours = measure(partial(_summaries, halves, quick, where, how), repeats=1)
        table = ours.result
        for layer in where:
            for direction in ("ablate", "preserve"):
                one = table.sel(depth=layer, direction=direction)
                report(
                    "cifar_control",
                    ours,
                    n={"trials": 6 if quick else _TRIALS, "images": 20},
                    layer=layer,
                    how=how,
                    direction=direction,
                    relative_auc={
                        name: _interval(one.sel(selection=name), "relative_auc")
                        for name in one["selection"].values.tolist()
                    },
                    contribution_less_activation=_interval(
                        one.sel(selection="contribution modes", other="activation modes"),
                        "difference",
                    ),
                )


def _interval(table: xr.Dataset, name: str) -> list[float]:
    """Return value, low and high of a variable."""
    return [round(float(table[key]), 3) for key in (name, f"{name}_low", f"{name}_high")]


def _foretold(
    circuit: rc.Circuit, images: Any, layer: str, node: xr.Dataset, change: Any
) -> xr.Dataset:
    return _correlated(circuit, images, layer, rc.TopK(1), node, change)


def _correlated(
    circuit: rc.Circuit, samples: Any, layer: str, target: Any, node: Any, change: Any = None
) -> xr.Dataset:
    """Return how well contributions and rivals foretell what silencing does."""
    effects = silencing_effects(circuit, samples, layer, target, change, progress=False)
    rule = rc.ActivationGradient()
    local = rc.contributions(circuit, samples, target, rule=rule, progress=False)
    quantities = rival_quantities(node)
    product = rival_quantities(local[layer.replace(".", "_")])["contribution"]
    quantities["activation x gradient"] = product
    return effect_correlations(effects, quantities, draws=200)


def cifar_silencing(quick: bool) -> None:
    """Correlation of what silencing does with contributions and their rivals, by layer."""
    halves = _halves(quick)
    if halves is None:
        return
    images = halves.network.images[halves.fit][:: 1 if quick else 2]
    for layer in halves.network.blocks[1::3]:
        node = halves.parts[layer.replace(".", "_")].to_dataset()
        node = node.isel(image=slice(None, None, 1 if quick else 2))
        for how in ("zero", "mean"):
            change = Silence() if how == "zero" else mean_over(halves.circuit, layer, images)

            ours = measure(
                partial(_foretold, halves.circuit, images, layer, node, change), repeats=1
            )
            for name in ours.result["quantity"].values.tolist():
                one = ours.result.sel(quantity=name)
                report(
                    "cifar_silencing",
                    ours,
                    n={"images": len(images), "channels": node.sizes["channel"]},
                    layer=layer,
                    how=how,
                    quantity=name,
                    **{key: _interval(one, key) for key in (
                        "mean_pearson", "mean_spearman", "within_spearman", "pooled_pearson",
                        "advantage")},
                )  # fmt: skip


def _pruned(halves: _Halves, layer: str, draws: int = 500) -> xr.Dataset:
    node = halves.parts[layer.replace(".", "_")]
    orders = {
        name: {layer: importance(node, name)} for name in ("contribution", "activation", "gradient")
    }
    orders["weights"] = {layer: weight_norms(halves.circuit, layer)}
    images, labels = (one[halves.test] for one in (halves.network.images, halves.network.labels))
    return pruning_curves(
        halves.circuit, images, orders, labels=labels, draws=draws, progress=False
    )


def cifar_pruning(quick: bool) -> None:
    """Accuracy kept as channels go, the least important first."""
    halves = _halves(quick)
    if halves is None:
        return
    for layer in halves.network.blocks[1::3]:
        ours = measure(lambda layer=layer: _pruned(halves, layer), repeats=1)
        found = ours.result
        report(
            "cifar_pruning",
            ours,
            n={"images": 100 if quick else 500, "channels": int(
                halves.parts[layer.replace(".", "_")].sizes["channel"])},
            layer=layer,
            auc={name: _interval(found.sel(order=name), "auc") for name in found["order"].values},
            contribution_less={
                name: _interval(found.sel(order="contribution", other=name), "difference")
                for name in found["order"].values[1:]
            },
        )  # fmt: skip


def retina_modes(quick: bool) -> None:
    """Silence the modes of the shipped retina on a natural movie."""
    seconds = 6.0 if quick else 20.0
    model = rc.models.pretrained("demo")
    movie = rc.stimuli.natural_movie(seconds=seconds, size=model.size, seed=3)
    circuit = rc.Circuit(model, ["conv1", "conv2"])
    parts = rc.contributions(
        circuit, movie, rc.Mean(), activations=True, gradients=True, progress=False
    )
    options: dict[str, Any] = {"stability_seeds": 0, "halves": False, "progress": False}
    modes = {
        layer: rc.analyses.find_modes(
            parts[layer], dictionary=DirectPursuit(modes=8, consensus_seeds=1), **options
        )
        for layer in circuit.layers
    }
    for layer in circuit.layers:
        ours = measure(
            lambda layer=layer: mode_output_effects(
                circuit, movie, layer, modes[layer], progress=False
            ),
            repeats=1,
        )
        found = ours.result
        beyond = (found["contrast_high"] < 0) | (found["contrast_low"] > 0)
        report(
            "retina_modes",
            ours,
            n={"frames": parts.sizes["time"], "modes": found.sizes["mode"],
               "cells": found.sizes["cell"]},
            layer=layer,
            change_on_hz=float(found["change_on"].mean()),
            change_off_hz=float(found["change_off"].mean()),
            contrast_hz=float(found["contrast"].mean()),
            random_contrast_hz=float(found["contrast_random"].mean()),
            absolute_contrast_hz=float(abs(found["contrast"]).mean()),
            random_absolute_hz=float(abs(found["contrast_random"]).mean()),
            pairs_beyond_zero=float(beyond.mean()),
            matched_rates_hz=[float(found["output_on"].mean()), float(found["output_off"].mean())],
        )  # fmt: skip
        table = _correlated(circuit, movie, layer, rc.Mean(), parts[layer])
        for name in table["quantity"].values.tolist():
            one = table.sel(quantity=name)
            keys = ("mean_pearson", "within_spearman", "pooled_pearson", "advantage")
            report("retina_silencing", ours, n={"frames": parts.sizes["time"]}, layer=layer,
                   quantity=name, **{key: _interval(one, key) for key in keys})  # fmt: skip
    ours = measure(
        lambda: mode_mode_effects(
            circuit, movie, ("conv1", "conv2"), (modes["conv1"], modes["conv2"]), rc.Mean(),
            progress=False,
        ),
        repeats=1,
    )  # fmt: skip
    found = ours.result
    report(
        "retina_mode_to_mode",
        ours,
        n={"earlier": found.sizes["mode"], "later": found.sizes["later"]},
        discovered=int(found["discovered"].sum()),
        tested=int(found["p"].notnull().sum()),
        largest=float(abs(found["contrast"]).max()),
        matrix=found["contrast"].round(3).values.tolist(),
    )


def draw_cifar(quick: bool, path: Path) -> None:
    """Draw curves of a middle layer, control by depth, and pruning."""
    halves = _halves(quick)
    if halves is None:
        return
    table = _summaries(halves, quick, _LAYERS)
    middle = table.sel(depth="layer3.0")
    with style():
        drawing = figure(width_mm=174, height_mm=105)
        axes = drawing.subplots(2, 3)
        for column, direction in enumerate(("ablate", "preserve")):
            draw_ablation(middle, axes[0, column], direction=direction, words=_WORDS)
            draw_control(table, axes[1, column], direction=direction, words=_WORDS)
            axes[0, column].set_title("Block layer3.0")
        lines, names = axes[0, 0].get_legend_handles_labels()
        lines += axes[0, 0].lines[:2]
        names += ["Full: the class", "Broken: others"]
        above = {"loc": "outside upper left", "ncols": 3}
        drawing.legend(lines, names, **above, bbox_to_anchor=(0.05, 1.0))
        for row, layer in enumerate(("layer2.1", "layer3.1")):
            draw_pruning(_pruned(halves, layer), axes[row, 2], words=_WORDS)
            axes[row, 2].set_title(f"Block {layer}")
        drawing.legend(
            *axes[0, 2].get_legend_handles_labels(),
            loc="outside upper right",
            ncols=2,
        )
        for axis, letter in zip(axes.T.ravel(), "ADBECF", strict=True):
            panel_letter(axis, letter)
        drawing.savefig(path, dpi=200)


if __name__ == "__main__":
    main(
        {
            "cifar_control": cifar_control,
            "cifar_silencing": cifar_silencing,
            "cifar_pruning": cifar_pruning,
            "retina_modes": retina_modes,
        },
        {"cifar_control": draw_cifar},
    )
