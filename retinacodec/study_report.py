"""The report of a study: what was found in plain words, its numbers, figures and settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retinacodec.citations import cite, methods_paragraph
from retinacodec.report import (
    Code,
    Heading,
    KeyNumber,
    KeyNumbers,
    Section,
    Settings,
    Table,
    Text,
    write_report,
)
from retinacodec.study_field_report import averages, changes, fields_and_modes, picture
from retinacodec.study_interneurons import interneuron_table
from retinacodec.study_recording import recorded

if TYPE_CHECKING:
    import xarray as xr

    from retinacodec.study import Study

__all__ = ["write"]


def write(study: Study) -> Path:
    """Write report.html of a study from its stored results."""
    sections = [
        *_summary(study),
        *recorded(study),
        *fields_and_modes(study),
        *_models(study),
        *averages(study),
        *changes(study),
        *_modes(study),
        *_checks(study),
        *_methods(study),
    ]
    record = study.read_json("provenance.json") | {"seconds_per_step": study.seconds()}
    return write_report(
        study.folder,
        title=f"Report: {study.settings.name}",
        sections=sections,
        provenance=record,
        overwrite=True,
    )


def _summary(study: Study) -> Iterator[Section]:
    comparison, parts = study.result("comparison"), study.result("contributions")
    layers = study.settings.contributions.layers
    movie, recording = study.inputs.movie, study.inputs.recording
    counts = {layer: study.result(f"modes_{layer}").sizes["mode"] for layer in layers}
    words = " and ".join(f"{count} modes in {layer}" for layer, count in counts.items())
    yield Text(
        f"{recording.sizes['cell']} cells, {movie.sizes['time'] / movie.attrs['frame_rate']:.0f} s "
        f"of {movie.attrs['name']}. The contributions of the model's interneurons to "
        f"{'the joint response' if 'Surprisal' in parts.attrs['target'] else 'the summed rate'} "
        f"form {words}.",
        lead=True,
    )
    numbers = [_score(comparison, "r", "held-out correlation, mean over cells")]
    if "cc_norm" in comparison:
        numbers.append(_score(comparison, "cc_norm", "share of the noise ceiling, mean over cells"))
    else:
        numbers.append(_score(comparison, "bits_per_spike", "held-out information", "bits/spike"))
    worst = max(float(parts[layer].attrs["relative_residual"]) for layer in layers)
    numbers.append(
        KeyNumber("unexplained share of the target", f"{worst:.0e}", note="contributions, median")
    )
    last = study.result(f"similarity_{layers[-1]}")
    numbers.append(
        KeyNumber(
            "field similarity, same less different modes",
            float(last["pooled_difference"]),
            low=float(last["pooled_difference_low"]),
            high=float(last["pooled_difference_high"]),
            note=f"cosine, modes of {layers[-1]}, p = {float(last['pooled_p_value']):.3g}",
        )
    )
    yield KeyNumbers(numbers)


def _score(comparison: xr.Dataset, metric: str, label: str, unit: str = "") -> KeyNumber:
    mean = comparison.sel(model="CNN")
    return KeyNumber(
        label,
        float(mean[f"mean_{metric}"]),
        unit,
        low=float(mean[f"mean_{metric}_low"]),
        high=float(mean[f"mean_{metric}_high"]),
        note="network",
    )


def _models(study: Study) -> Iterator[Section]:
    yield Heading("Models against the recording")
    yield from picture(study, "comparison")
    yield from picture(study, "traces")
    yield _score_table(study.result("comparison"))
    if study.has("model_tests"):
        yield _test_table(study.result("model_tests"))
    yield from picture(study, "training")


def _score_table(comparison: xr.Dataset) -> Table:
    wanted = {
        "r": ("r", ""),
        "bits_per_spike": ("information", "bits/spike"),
        "cc_norm": ("CC_norm", ""),
        "feve": ("FEVe", ""),
    }
    metrics = {name: words for name, words in wanted.items() if name in comparison}
    columns, units = ["cell", "model"], ["", ""]
    for words, unit in metrics.values():
        columns += [words, "low", "high"]
        units += [unit, unit, unit]
    rows: list[list[Any]] = []
    for cell in [*comparison["cell"].values.tolist(), "mean"]:
        for model in comparison["model"].values.tolist():
            one = comparison.sel(model=model)
            prefix = "mean_" if cell == "mean" else ""
            one = one if cell == "mean" else one.sel(cell=cell)
            row: list[Any] = [cell, model]
            for name in metrics:
                row += [float(one[f"{prefix}{name}{end}"]) for end in ("", "_low", "_high")]
            rows.append(row)
    return Table(
        columns, rows, units=units,
        caption="Scores on held-out frames with 95 % intervals (block bootstrap over time).",
    )  # fmt: skip


def _test_table(tests: xr.Dataset) -> Table:
    """Return whether one model is better than another, over cells and in single cells."""
    rows: list[list[Any]] = []
    for pair in tests["pair"].values.tolist():
        for metric in tests["metric"].values.tolist():
            one = tests.sel(pair=pair, metric=metric)
            numbers = [float(one[name]) for name in ("mean", "mean_low", "mean_high")]
            chances = [float(one[name]) for name in ("p_wilcoxon", "q_wilcoxon")]
            counts = [int(one[name]) for name in ("better", "worse", "cells")]
            rows.append([pair, metric, *numbers, *chances, *counts])
    least = float(tests["least_p"].max())
    few = f" So few cells cannot give p below {least:.2g}." if least > 0.001 else ""
    return Table(
        ("models", "metric", "difference", "low", "high", "p", "q", "better", "worse", "cells"),
        rows,
        caption="Paired differences: mean over cells with its 95 % interval, Wilcoxon test over "
        "cells (q: false discovery rate over pairs and metrics), and the numbers of cells in which "
        f"the first is better or worse by itself.{few}",
    )


def _modes(study: Study) -> Iterator[Section]:
    yield Heading("Modes")
    rows = []
    for layer in study.settings.contributions.layers:
        modes = study.result(f"modes_{layer}")
        scores = ("r2", "r2_low", "r2_high", "stability", "half_stability", "stability_null", "l0")
        known = [float(modes.attrs[name]) for name in scores]
        rows.append([layer, modes.sizes["mode"], *known, int(modes["surplus"].sum())])
    yield Table(
        (
            "layer",
            "modes",
            "held-out R2",
            "low",
            "high",
            "stability, seeds",
            "stability, halves",
            "shuffled",
            "active at a time",
            "surplus",
        ),
        rows,
        caption="R2 of blocks held out, with its 95 % interval. Stability: mean cosine of modes "
        "matched between seeds and between halves of the movie; shuffled: its 95th percentile for "
        "atoms of shuffled entries. Surplus: modes that the others can replace.",
    )
    yield from picture(study, "modes")
    yield from picture(study, "contrast")
    if study.has("interneurons"):
        yield from picture(study, "interneurons")
        yield interneuron_table(study.result("interneurons"))


def _checks(study: Study) -> Iterator[Section]:
    yield Heading("Are the contributions complete?")
    found = study.result("completeness")
    yield from picture(study, "completeness")
    rows = [
        [
            rule,
            layer,
            f"{float(np.nanmedian(found['unexplained'].sel(rule=rule, layer=layer))):.1e}",
            f"{float(found['disagreement'].sel(rule=rule, layer=layer)):.1e}",
        ]
        for rule in found["rule"].values.tolist()
        for layer in found["layer"].values.tolist()
    ]
    yield Table(
        ("rule", "layer", "unexplained share", "distance to the convolution's contributions"),
        rows,
        caption="Median over 300 frames of the share of the target's change that is left out; and "
        "relative distance of the channels' contributions to those at the convolution before.",
    )


def _methods(study: Study) -> Iterator[Section]:
    from retinacodec.study_steps import chosen_dictionary, chosen_rule

    parts = study.result("contributions")
    layers = study.settings.contributions.layers
    found = {layer: study.result(f"modes_{layer}") for layer in layers}
    dictionary = chosen_dictionary(study)
    yield Heading("Methods")
    yield Text(
        methods_paragraph(
            layers=layers,
            target=_Words(parts.attrs["target"]),
            rule=chosen_rule(study),
            cells=study.inputs.recording.sizes["cell"],
            frames=parts.to_dataset().sizes["time"],
            frame_rate=float(study.inputs.movie.attrs["frame_rate"]),
            dictionary=dictionary,
            modes={layer: modes.sizes["mode"] for layer, modes in found.items()},
            r2={layer: float(modes.attrs["r2"]) for layer, modes in found.items()},
            seed=study.settings.seed,
        )
    )
    yield Code(cite("contributions", chosen_rule(study), dictionary))
    yield Heading("Settings")
    yield Settings(study.settings.model_dump(mode="json"))


class _Words(str):
    """Words whose repr is the words."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
