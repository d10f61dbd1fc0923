"""The figures of a study: which results each one shows, how it is drawn, and its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec import analyses
from retinacodec.house_style import COLOURS, figure
from retinacodec.plotting import panel_letter, trace
from retinacodec.study_field_figures import FIELD_FIGURES
from retinacodec.study_figure import Numbers, StudyFigure
from retinacodec.study_interneurons import interneuron_drawing
from retinacodec.study_recording import alignment_drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from retinacodec.study import Study

__all__ = ["FIGURES", "StudyFigure"]


def _retina(study: Study) -> tuple[Figure, Numbers]:
    layers = study.settings.contributions.layers
    panels = analyses.retina_panels(
        study.circuit,
        study.analysed,
        study.result("contributions"),
        {layer: study.result(f"modes_{layer}") for layer in layers},
        seed=study.settings.seed,
        progress=False,
    )
    return analyses.retina_figure(panels), analyses.panel_numbers(panels)


_SCORES = {
    "r": "Correlation of rate and spikes",
    "bits_per_spike": "Information (bits/spike)",
    "cc_norm": "Share of the noise ceiling",
}


def _comparison(study: Study) -> tuple[Figure, Numbers]:
    comparison = study.result("comparison")
    metrics = [name for name in _SCORES if name in comparison]
    drawing = figure(width_mm=174, height_mm=62)
    axes = drawing.subplots(1, len(metrics), squeeze=False)[0]
    for letter, metric, ax in zip("ABC", metrics, axes, strict=False):
        analyses.draw_comparison(comparison, ax, metric=metric)
        ax.set_ylabel(_SCORES[metric])
        panel_letter(ax, letter)
    return drawing, {"all": comparison[metrics]}


def _traces(study: Study) -> tuple[Figure, Numbers]:
    """Recorded and predicted rates of up to four cells over a stretch of held-out time."""
    rates, inputs = study.result("rates"), study.inputs
    recorded = inputs.recording["spike_count"] * inputs.recording.attrs["frame_rate"]
    stretch = _held_out_stretch(study)
    cells = _liveliest(recorded.isel(time=stretch), 4)
    drawing = figure(width_mm=174, height_mm=22 * len(cells) + 12)
    axes = drawing.subplots(len(cells), 1, sharex=True, squeeze=False)[:, 0]
    shown = {"recorded": _smooth(recorded.isel(time=stretch))}
    window = recorded["time"][stretch]
    for name in rates.data_vars:
        shown[str(name)] = rates[name].sel(time=window)
    colours = {"recorded": COLOURS.quiet}
    colours |= dict(zip(("CNN", "LN", "GLM"), COLOURS.series, strict=False))
    for cell, ax in zip(cells, axes, strict=True):
        for name, values in shown.items():
            trace(
                ax,
                values["time"].values,
                values.sel(cell=cell).values,
                colour=colours[name],
                fill=name == "recorded",
                label=name,
            )
        ax.set_title(str(cell), loc="left")
        ax.set_ylabel("Rate (Hz)")
    axes[0].legend(loc="upper right", ncols=len(shown))
    axes[-1].set_xlabel("Time (s)")
    return drawing, {"all": xr.Dataset(shown)}


def _held_out_stretch(study: Study) -> slice:
    """Return up to five seconds of one contiguous held-out block, the liveliest one."""
    recording, test = study.inputs.recording, study.inputs.split.test
    blocks = np.split(test, np.flatnonzero(np.diff(test) > 1) + 1)
    length = int(5 * recording.attrs["frame_rate"])
    counts = recording["spike_count"].sum("cell").values
    block = max(blocks, key=lambda part: float(np.nansum(counts[part[:length]])))
    return slice(int(block[0]), int(block[: length + 1][-1]))


def _liveliest(rate: xr.DataArray, count: int) -> list[str]:
    order = np.argsort(-rate.mean("time").values, kind="stable")[:count]
    return [str(rate["cell"].values[row]) for row in sorted(order)]


def _smooth(rate: xr.DataArray) -> xr.DataArray:
    """Average counts over three frames, so that single spikes can be seen beside rates."""
    return rate.rolling(time=3, center=True, min_periods=1).mean()


def _training(study: Study) -> tuple[Figure, Numbers]:
    log = study.result("training")
    drawing = figure(width_mm=85, height_mm=52)
    analyses.draw_training(log, drawing.subplots())
    return drawing, {"all": log}


def _completeness(study: Study) -> tuple[Figure, Numbers]:
    found = study.result("completeness")
    drawing = figure(width_mm=120, height_mm=55)
    ax = drawing.subplots()
    _draw_shares(found["unexplained"], ax)
    return drawing, {"all": found}


def _draw_shares(shares: xr.DataArray, ax: Axes) -> None:
    layers = shares["layer"].values.tolist()
    for number, rule in enumerate(shares["rule"].values.tolist()):
        values = np.maximum(shares.sel(rule=rule).values, 1e-9)
        low, middle, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
        place = np.arange(len(layers)) + 0.15 * (2 * number - 1)
        colour = COLOURS.series[number]
        ax.vlines(place, low, high, color=colour)
        ax.plot(place, middle, "o", color=colour, markersize=3, label=rule)
    ax.set_yscale("log")
    ax.set_xticks(range(len(layers)), labels=layers)
    ax.set(xlabel="Layer", ylabel="Unexplained share of the target")
    ax.legend(loc="center right")


def _modes(study: Study) -> tuple[Figure, Numbers]:
    modes = study.result(f"modes_{study.settings.contributions.layers[-1]}")
    rate = study.result("contributions")["rate"]
    numbers = analyses.modes_numbers(modes, rate, seed=study.settings.seed)
    return analyses.modes_figure(numbers), numbers


def _contrast(study: Study) -> tuple[Figure, Numbers]:
    layers = study.settings.contributions.layers
    drawing = figure(width_mm=45 * len(layers) + 15, height_mm=60)
    axes = drawing.subplots(1, len(layers), squeeze=False, sharey=True)[0]
    numbers = {}
    for letter, layer, ax in zip("ABCDEFGH", layers, axes, strict=False):
        numbers[layer] = study.result(f"contrast_{layer}")
        analyses.draw_contrast(numbers[layer], ax)
        ax.set_title(f"Modes of {layer}")
        ax.set_ylabel("" if ax is not axes[0] else ax.get_ylabel())
        panel_letter(ax, letter)
    return drawing, numbers


_ALL = (
    StudyFigure(
        "retina",
        "Modes and dynamic receptive fields",
        "A, the circuit: a frame of the movie, the maps of each layer at that moment, and the "
        "target of the contributions. B, firing rate of a cell with its instantaneous receptive "
        "field at two events of like rate (red: more light raises the rate, blue: lowers it); "
        "contributions of the channels of each layer, negative parts above, positive below; "
        "loadings of the two modes that tell the events apart, relative to each mode's own strong "
        "loadings. The events are a picked example, those whose modes and fields differ most; the "
        "next figure asks whether this holds in general. C, correlation of each mode's loading "
        "with each cell's rate; bars mark groups of cells. D, fields of cells when one mode is "
        "active alone and when it is combined with others, each in its own colour scale.",
        ("contributions",),
        _retina,
    ),
    StudyFigure(
        "alignment",
        "The movie as read, and when cells respond",
        "a, three frames with their axes on the retina, and where each cell's average stimulus "
        "peaks. b, average stimulus at that pixel around the spike: a retina cannot follow frames "
        "that come after it. c, delay of the responses in eight stretches of the recording: it "
        "grows where frames were lost without a trace.",
        ("alignment",),
        alignment_drawing,
    ),
    StudyFigure(
        "comparison",
        "Models against the recording",
        "Scores on held-out frames: one line a cell; dots and bars are the mean over cells and "
        "its 95 % interval from a block bootstrap.",
        ("comparison",),
        _comparison,
    ),
    StudyFigure(
        "traces",
        "Recorded and predicted rates",
        "Held-out frames. Grey: recorded spikes as a rate, averaged over three frames (and over "
        "repeats, where there are any). Lines: the models' rates.",
        ("rates",),
        _traces,
    ),
    StudyFigure(
        "training",
        "Fit of the network",
        "Loss and validation correlation.",
        ("training",),
        _training,
    ),
    StudyFigure(
        "completeness",
        "Completeness",
        "Share of the target's change that the contributions at each layer leave unexplained: "
        "median and quartiles over frames. The secant rule is exact but for rounding.",
        ("completeness",),
        _completeness,
    ),
    StudyFigure(
        "modes",
        "Modes of the last layer",
        "A, rates of the cells and loadings of the modes over the stretch with the most loading, "
        "each row relative to its 99th percentile; below, the two strongest modes. B, atoms: "
        "contributions of the channels that come together. C, how often exactly these modes are "
        "active: dots, frames; bars, 95 % of modes shifted independently in time. D, cosine "
        "of modes found in one half of the movie with those found in the other, and how often each "
        "mode is found again against what is lost without it; dashed, shuffled atoms. E, "
        "correlation of loadings with rates; bars mark groups of cells.",
        ("modes_{last}",),
        _modes,
    ),
    StudyFigure(
        "contrast",
        "Contributions, activations and gradients",
        "Correlation of each cell's rate with the mode that goes along with it best, chosen on one "
        "half of the movie and scored on the other, for as many modes of each quantity. Grey: "
        "cells; black: mean and its 95 % interval over blocks of the movie.",
        ("contrast_{last}",),
        _contrast,
    ),
    StudyFigure(
        "interneurons",
        "Model channels and interneurons",
        "a, correlation of each interneuron with every position of its best channel. b, its "
        "correlation with the best unit of each layer, chosen on one half of the movie and scored "
        "on the other; grey, the same search at every circular shift; small marks, networks with "
        "random weights and the best linear filter. c, a stretch of its trace under the unit's.",
        ("interneuron_matches",),
        interneuron_drawing,
    ),
)

FIGURES = {made.name: made for made in (*_ALL, *FIELD_FIGURES)}
