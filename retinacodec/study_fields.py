"""The steps of a study that look at receptive fields: averages of spikes, and the model's own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from retinacodec import analyses
from retinacodec.errors import InputError

if TYPE_CHECKING:
    from retinacodec.circuit import Circuit
    from retinacodec.rules import Rule
    from retinacodec.study import Study
    from retinacodec.targets import Target

__all__ = ["average_spikes", "compare_averages", "is_white", "map_dynamics", "map_fields"]

_log = logging.getLogger(__name__)

_MOST_WORK = 2e10  # frames x pixels x cells that are shifted against each other
_WHITE = 0.1  # correlation of neighbouring frames or pixels that white noise may show
_FEWEST_SHIFTS = 19
_LIVELY = 0.2  # of a cell's highest rate, above which moments are shown


def average_spikes(study: Study) -> None:
    """Store the spike-triggered average of every recorded cell, its significance and shape."""
    inputs, wanted = study.inputs, study.settings.model
    if inputs.retina is not None:
        return
    window: dict[str, Any] = {"history": wanted.history, "latency": wanted.latency}
    averages = analyses.spike_triggered_average(inputs.movie, inputs.recording, **window)
    work = float(inputs.movie["contrast"].size) * inputs.recording.sizes["cell"]
    null: analyses.ShiftNull | analyses.WhiteNull = analyses.ShiftNull()
    if work > _MOST_WORK:
        _log.info("significance of averages by the normal distribution: the movie is long")
        null = analyses.WhiteNull()
    found = analyses.sta_significance(inputs.movie, inputs.recording, null=null, **window)
    study.keep("sta", averages)
    study.keep("sta_peaks", analyses.sta_peaks(averages))
    study.keep("sta_table", analyses.fields_table(averages, p_values=found["p"]))


def compare_averages(study: Study, circuits: dict[str, Circuit]) -> None:
    """Store how well the models' mean fields agree with averages of spikes not fitted to."""
    inputs = study.inputs
    held = np.sort(np.concatenate([inputs.split.validation, inputs.split.test]))
    if inputs.retina is not None or not held.size or not is_white(inputs.movie):
        return
    for name, circuit in circuits.items():
        try:
            found = analyses.compare_with_average(
                circuit,
                inputs.movie,
                inputs.recording,
                frames=held,
                progress=False,
                device=study.settings.device,
            )
        except InputError as error:
            _log.warning("mean fields of the %s are not compared: %s", name, error)
        else:
            study.keep(f"agreement_{name}", found)


def is_white(movie: xr.Dataset) -> bool:
    """Return whether neighbouring frames and pixels of a movie are uncorrelated.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).

    Returns
    -------
    bool
        True where no correlation between neighbours is above 0.1.
    """
    contrast = movie["contrast"].transpose("time", "y", "x").values[:2000].astype(np.float64)
    around = contrast - contrast.mean()
    power = float((around**2).mean())
    if not power > 0:
        return False
    for axis in range(3):
        rows = np.moveaxis(around, axis, 0)
        if len(rows) > 1 and abs(float((rows[:-1] * rows[1:]).mean())) > _WHITE * power:
            return False
    return True


def map_fields(study: Study) -> None:
    """Compute dynamic fields and whether frames of one mode set have alike fields."""
    settings = study.settings
    for layer in settings.contributions.layers:
        modes = study.result(f"modes_{layer}")
        study.keep(
            f"similarity_{layer}",
            analyses.field_similarity(
                study.circuit,
                study.analysed,
                modes,
                max_frames=settings.fields.frames,
                minimum_rate=settings.fields.minimum_rate,
                null_shifts=settings.fields.null_shifts,
                seed=settings.seed,
            ),
        )
    first = settings.contributions.layers[0]
    study.keep(
        "fields",
        analyses.dynamic_fields(
            study.circuit,
            study.analysed,
            modes=study.result(f"modes_{first}"),
            max_frames=settings.fields.frames,
            minimum_rate=settings.fields.minimum_rate,
        ),
    )


def map_dynamics(study: Study, target: Target, rule: Rule) -> None:
    """Compute how fields change, and where they come from, where there is enough firing."""
    if not study.settings.fields.dynamics:
        return
    try:
        _map_dynamics(study, target, rule)
    except InputError as error:
        _log.warning("dynamics of the fields are left out: %s", error)


def _map_dynamics(study: Study, target: Target, rule: Rule) -> None:
    """Compute how fields change, what modes explain of it, and where they come from."""
    settings = study.settings
    last = settings.contributions.layers[-1]
    modes = study.result(f"modes_{last}")
    shared: dict[str, Any] = {"minimum_rate": settings.fields.minimum_rate}
    shared |= {"device": settings.device, "progress": False}
    numbers = analyses.dynamics_numbers(
        study.circuit,
        study.analysed,
        modes,
        max_frames=settings.fields.frames,
        null_shifts=max(settings.fields.null_shifts // 5, _FEWEST_SHIFTS),
        seed=settings.seed,
        **shared,
    )
    study.keep("dynamics", xr.DataTree.from_dict(numbers))
    cell = str(numbers["A"]["cell"].item())
    rate = study.result("contributions")["rate"].sel(cell=cell)
    lively = max(settings.fields.minimum_rate, _LIVELY * float(rate.max()))
    found = analyses.sources_numbers(
        study.circuit,
        study.analysed,
        modes,
        cell=cell,
        layer=last,
        target=target,
        rule=rule,
        **shared | {"minimum_rate": lively},
    )
    study.keep("sources", found)
    if settings.fields.film is None:
        return
    scene = analyses.field_scene(
        study.circuit,
        study.analysed,
        cell=cell,
        seconds=settings.fields.film,
        modes=modes,
        device=settings.device,
    )
    analyses.field_film(scene, study.folder / "figures" / "field.mp4", overwrite=True)
