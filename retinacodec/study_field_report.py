"""The pages of a report that speak of receptive fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from retinacodec.report import Figure, Heading, Section, Table, Text
from retinacodec.study_figures import FIGURES

if TYPE_CHECKING:
    from retinacodec.study import Study

__all__ = ["averages", "changes", "fields_and_modes", "picture"]


def picture(study: Study, name: str) -> Iterator[Section]:
    """Yield a figure of the study, if it was drawn."""
    made = FIGURES[name]
    path = study.folder / "figures" / f"{name}.png"
    if path.exists():
        yield Figure(path, made.caption, title=made.title)


def fields_and_modes(study: Study) -> Iterator[Section]:
    """Yield the figure of modes and fields, and whether fields go with modes."""
    yield Heading("Which interneurons act together, and what each cell then sees")
    yield from picture(study, "retina")
    yield from picture(study, "similarity")
    yield _similarity_table(study)


def _similarity_table(study: Study) -> Table:
    rows: list[list[Any]] = []
    for layer in study.settings.contributions.layers:
        found = study.result(f"similarity_{layer}")
        for cell in found["cell"].values.tolist():
            one = found.sel(cell=cell)
            rows.append([layer, cell, *(float(one[name]) for name in _SIMILARITY)])
        pooled = [found.get(f"pooled_{name}") for name in _SIMILARITY]
        rows.append([layer, "mean", *("" if one is None else float(one) for one in pooled)])
    return Table(
        ("layer", "cell", "same modes", "different modes", "difference", "low", "high", "p"),
        rows,
        caption="Mean cosine of instantaneous fields at matched rate; p against circularly shifted "
        "loadings.",
    )


_SIMILARITY = ("same", "different", "difference", "difference_low", "difference_high", "p_value")


def averages(study: Study) -> Iterator[Section]:
    """Yield the spike-triggered averages, their shapes, and how the models agree with them."""
    from retinacodec.analyses import fields_table_words
    from retinacodec.study_fields import is_white

    if not study.has("sta"):
        return
    yield Heading("Receptive fields by spike-triggered average")
    white = is_white(study.inputs.movie)
    yield Text(
        "Averages of the contrast before a spike. "
        + (
            "Pixels and frames of this movie are independent, so that they estimate the receptive "
            "field of a linear-nonlinear cell without bias."
            if white
            else "Pixels or frames of this movie are correlated, which smears them; "
            "regularised_fields undoes that."
        )
    )
    yield from picture(study, "sta")
    head, *rows = fields_table_words(study.result("sta_table"))
    yield Table(
        head,
        rows,
        caption="Peak in standard errors, with p against spikes shifted around the circle of "
        "time (largest of all pixels and lags); centre, size (twice the mean sigma of the "
        "centre) and orientation of a Gaussian ± standard error; time course with 95 % intervals; "
        "share of variance in the product of one map and one time course.",
    )
    if study.has("agreement_CNN"):
        yield from picture(study, "agreement")
        yield _agreement_table(study)


def _agreement_table(study: Study) -> Table:
    rows: list[list[Any]] = []
    for model in ("CNN", "LN"):
        if study.has(f"agreement_{model}"):
            found = study.result(f"agreement_{model}")
            for cell in found["cell"].values.tolist():
                one = found.sel(cell=cell)
                rows.append([cell, model, *(float(one[name]) for name in _AGREEMENT)])
    return Table(
        ("cell", "model", "correlation", "low", "high", "map", "time course", "reliability"),
        sorted(rows, key=lambda row: str(row[0])),
        caption="Mean instantaneous field against the average of spikes in frames held out. "
        "Reliability: correlation that two such averages would have with each other.",
    )


_AGREEMENT = (
    "correlation",
    "correlation_low",
    "correlation_high",
    "spatial_correlation",
    "temporal_correlation",
    "reliability",
)


def changes(study: Study) -> Iterator[Section]:
    """Yield how fields change from moment to moment, and which interneurons make them so."""
    if not study.has("dynamics"):
        return
    yield Heading("How receptive fields change, and which interneurons make them so")
    yield from picture(study, "dynamics")
    yield _variance_table(study)
    yield from picture(study, "sources")


def _variance_table(study: Study) -> Table:
    found = study.result("dynamics")["E"].to_dataset()
    rows: list[list[Any]] = []
    for form in found["form"].values.tolist():
        for predictor in found["predictor"].values.tolist():
            one = found.sel(form=form, predictor=predictor)
            values = (float(one[name]) for name in _POOLED)
            rows.append([_FORMS.get(form, form), predictor, *values])
    return Table(
        ("fields", "predicted by", "share of variance", "low", "high", "p"),
        rows,
        caption="Share of the variance of instantaneous fields in time held out that is predicted "
        "by the cell's own rate and by the modes of the last layer; mean over cells, 95 % "
        "interval, p against loadings shifted in time.",
    )


_POOLED = ("pooled", "pooled_low", "pooled_high", "pooled_p_value")
_FORMS = {"field": "whole", "shape": "shape only"}
