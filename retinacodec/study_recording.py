"""The recording of a study: read as its settings say, checked, and shown before anything else."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacodec import analyses
from retinacodec.errors import InputError
from retinacodec.house_style import style
from retinacodec.report import Heading, Section, Table, Text

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from retinacodec.settings import RecordingSettings
    from retinacodec.study import Study

__all__ = [
    "alignment_drawing",
    "check_recorded",
    "read_recorded",
    "read_recorded_traces",
    "recorded",
]

_log = logging.getLogger(__name__)


def read_recorded(study: Study) -> tuple[xr.Dataset, xr.Dataset]:
    """Return movie and recording of an NWB 2 file, or of a file that is imported first."""
    from retinacodec.nwb import read_nwb, read_stimulus

    wanted = study.settings.recording
    assert wanted is not None
    file = _nwb2(study, wanted)
    movie = read_stimulus(file, wanted.stimulus, **wanted.movie_options())
    recording = read_nwb(file, stimulus=wanted.stimulus, **wanted.response_options())
    return movie, recording


def read_recorded_traces(study: Study) -> xr.Dataset:
    """Return the traces of interneurons that the settings name, on the frames of the movie."""
    from retinacodec.nwb import read_traces

    wanted = study.settings.recording
    assert wanted is not None
    file, options = _nwb2(study, wanted), wanted.clock_options()
    return read_traces(
        file, wanted.traces, stimulus=wanted.stimulus, max_gap=wanted.max_gap, **options
    )


def _nwb2(study: Study, wanted: RecordingSettings) -> Path:
    """Return the file of a study as NWB 2, converted into its folder where it is not."""
    from retinacodec.importers import import_recording, needs_import

    file = Path(wanted.file)
    converted = study.folder / "results" / "recording.nwb"
    if converted.exists():
        return converted
    if not needs_import(file):
        return file
    _log.info("importing %s", file.name)
    return import_recording(file, converted, stimulus=wanted.stimulus, pixel_um=wanted.pixel_um)


def check_recorded(study: Study) -> None:
    """Store what is in the file, and whether its cells follow the movie."""
    from retinacodec.importers import describe

    wanted, inputs = study.settings.recording, study.inputs
    if wanted is None or inputs.retina is not None:
        return
    found = describe(_nwb2(study, wanted))
    facts = {"file": Path(wanted.file).name, **found.to_dict(), "path": ""}
    study.write_json("results/recording.json", facts)
    try:
        check = analyses.check_alignment(inputs.movie, inputs.recording)
    except InputError as error:
        _log.warning("whether cells follow the movie was not checked: %s", error)
        return
    study.keep("alignment", check)
    words, fine = analyses.alignment_words(check)
    for line in words if not fine else words[:1]:
        _log.log(logging.INFO if fine else logging.WARNING, "%s", line)


def alignment_drawing(study: Study) -> tuple[Figure, Mapping[str, Any]]:
    """Draw frames as read and when cells respond, with the numbers beside."""
    check = study.result("alignment")
    with style():
        drawing = analyses.alignment_figure(check)
    cells = check[["peak_past", "p_past", "peak_future", "p_future", "peak_lag", "peak_y",
                   "peak_x", "polarity", "drift", "drift_error"]]  # fmt: skip
    return drawing, {
        "cells": cells.to_dataframe(),
        "courses": check["course"].to_dataframe(),
        "delays": check["delay"].to_dataframe(),
    }


def recorded(study: Study) -> Iterator[Section]:
    """Yield what was recorded, how it was read, and whether cells follow the movie."""
    from retinacodec.study_field_report import picture

    if not study.has("alignment"):
        return
    facts = study.read_json("results/recording.json")
    words, fine = analyses.alignment_words(study.result("alignment"))
    yield Heading("The recording, and how it was read")
    yield Text(" ".join(words))
    if not fine:
        yield Text("Mend this before believing anything below.", lead=True)
    rows = [["file", facts["file"]], *map(list, facts["contents"].items())]
    rows += [["notice", line] for line in facts.get("notices", [])]
    rows += [["problem", line] for line in facts["problems"]]
    yield Table(
        ("", "in the file"), rows + _assumptions(study),
        caption="The file, and the settings with which it was read. NWB does not say what the "
        "axes of a picture are or what its numbers mean: check the frames below against what was "
        "shown.",
    )  # fmt: skip
    yield from picture(study, "alignment")


def _assumptions(study: Study) -> list[list[str]]:
    """Return how the movie was read, in rows of setting and words."""
    movie, wanted = study.inputs.movie, study.settings.recording
    assert wanted is not None
    parameters = json.loads(movie.attrs["parameters"])
    order = parameters.get("spatial_order")
    axes = {None: "as this package wrote it", "xy": "second axis x, third y (NWB's definition)"}
    mapping = "(value - mean) / mean of the whole movie (default)"
    if wanted.contrast is not None:
        mapping = f"(value - {wanted.contrast.grey}) / {wanted.contrast.span}, as set"
    elif order is None:
        mapping = "as written in the file"
    return [
        ["axes (spatial_order)", axes.get(order, "second axis y, third x, as set")],
        ["contrast", mapping],
        ["pixel (pixel_um)", f"{float(movie.attrs['pixel_um']):g} µm on the retina"],
        ["frames", f"{float(movie.attrs['frame_rate']):.4g} Hz, spikes counted on real flips"],
    ]
