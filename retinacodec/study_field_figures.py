"""The figures of a study that show receptive fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from retinacodec import analyses
from retinacodec.house_style import figure
from retinacodec.plotting import panel_letter
from retinacodec.study_figure import Numbers, StudyFigure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from retinacodec.study import Study

__all__ = ["FIELD_FIGURES"]


def _averages(study: Study) -> tuple[Figure, Numbers]:
    averages, table = study.result("sta"), study.result("sta_table")
    model: dict[str, Any] = {}
    if study.has("agreement_CNN"):
        found = study.result("agreement_CNN")
        model = {"model": found["field"], "agreement": found}
    drawing = analyses.field_gallery(averages, table, **model)
    plain = [name for name in table.data_vars if table[name].dims == ("cell",)]
    return drawing, {"table": table[plain]}


def _agreement(study: Study) -> tuple[Figure, Numbers]:
    names = [name for name in ("CNN", "LN") if study.has(f"agreement_{name}")]
    drawing = figure(width_mm=174, height_mm=68)
    axes = drawing.subplots(1, len(names), squeeze=False, sharey=True)[0]
    numbers = {}
    for letter, name, ax in zip("AB", names, axes, strict=False):
        found = study.result(f"agreement_{name}")
        analyses.draw_field_agreement(found, ax)
        ax.set_title({"CNN": "Network", "LN": "Linear-nonlinear model"}[name])
        ax.set_ylabel("" if ax is not axes[0] else ax.get_ylabel())
        panel_letter(ax, letter)
        plain = [one for one in found.data_vars if found[one].dims == ("cell",)]
        numbers[name] = found[plain]
    return drawing, numbers


def _similarity(study: Study) -> tuple[Figure, Numbers]:
    layers = study.settings.contributions.layers
    drawing = figure(width_mm=174, height_mm=60)
    axes = drawing.subplots(1, len(layers), squeeze=False, sharey=True)[0]
    numbers = {}
    for letter, layer, ax in zip("ABCDEFGH", layers, axes, strict=False):
        found = study.result(f"similarity_{layer}")
        analyses.draw_similarity(found, ax)
        ax.set_title(f"Modes of {layer}")
        for label in ax.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
        panel_letter(ax, letter)
        ax.get_legend().remove()
        ax.set_ylabel("" if ax is not axes[0] else "Difference of cosines")
        names = [name for name in found.data_vars if "null" not in str(name)]
        numbers[layer] = found[names]
    handles, labels = axes[-1].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return drawing, numbers


def _dynamics(study: Study) -> tuple[Figure, Numbers]:
    tree = study.result("dynamics")
    numbers = {name: node.to_dataset() for name, node in tree.children.items()}
    shown = {name: _flat(one) for name, one in numbers.items() if name != "A"}
    return analyses.dynamics_figure(numbers), {name: one for name, one in shown.items() if one}


def _flat(table: xr.Dataset) -> xr.Dataset:
    """Return the variables of a result without nulls and pictures, for a table."""
    kept = [
        name
        for name in table.data_vars
        if "shift" not in table[name].dims and "null" not in str(name) and table[name].ndim < 4
    ]
    return table[kept]


def _sources(study: Study) -> tuple[Figure, Numbers]:
    found = study.result("sources")
    plain = [name for name in found.data_vars if not {"y", "x"} & set(found[name].dims)]
    return analyses.sources_figure(found), {"shares": found[plain]}


FIELD_FIGURES = (
    StudyFigure(
        "sta",
        "Receptive fields by spike-triggered average",
        "Maps at the lag of the peak (red: brighter than grey before a spike, blue: darker), in "
        "standard errors, with the ellipse of a Gaussian at 1.5 sigma; beside them, where the "
        "movie is white noise, the network's mean instantaneous field over frames it was not "
        "fitted to, with its correlation with the average of those frames, and the same "
        "corrected for the noise of the average. Time courses with their 95 % bands, dashed those "
        "of the network; lag 0 is the frame on screen in the spike's own bin. Stars: p below "
        ".05, .01 and .001 against spikes shifted in time.",
        ("sta", "sta_table"),
        _averages,
    ),
    StudyFigure(
        "agreement",
        "Model fields against spike-triggered averages",
        "Correlation of each model's mean instantaneous field with the average of spikes in "
        "frames that it was not fitted to: of whole fields, which noise of the average lowers, "
        "of maps along the model's time course, and of time courses through the model's map. "
        "Lines: 95 % intervals over blocks of time.",
        ("agreement_CNN",),
        _agreement,
    ),
    StudyFigure(
        "similarity",
        "Receptive fields within and between mode sets",
        "Mean cosine between instantaneous fields of frames with the same set of active modes, "
        "less that of frames with different sets; same cell, matched rate, frames further apart "
        "than the history. Bars: 95 % interval. Grey: 95 % of the null of circularly shifted "
        "loadings.",
        ("fields",),
        _similarity,
    ),
    StudyFigure(
        "dynamics",
        "How receptive fields change",
        "A, one cell: its instantaneous field at the moments that letters mark, each in its own "
        "colours; rate; norm of the field, blue where its centre is OFF and red where it is ON; "
        "place of the centre; loadings of the modes of the last layer. B, how often the centre "
        "is OFF and how far it strays. C, likeness of fields some time apart. D, turns of "
        "polarity a second, and what independent frames would show. E, share of the variance of "
        "the fields' shapes that the cell's own rate, the set of active modes and their loadings "
        "predict in time held out. F, how much more often the polarity is turned when a mode "
        "has company than when it is alone. Bars: 95 % intervals; grey: shifted loadings.",
        ("dynamics",),
        _dynamics,
    ),
    StudyFigure(
        "sources",
        "Where a field comes from",
        "The field of one cell at the moment it is most like its mean, least like it, and between; "
        "in a row the parts that pass through each channel of the last layer, by the sign of the "
        "interneurons' contributions, which sum to the field, and the parts of the modes. Bars: "
        "share of each part in the centre (outlined) and in the surround.",
        ("sources",),
        _sources,
    ),
)
