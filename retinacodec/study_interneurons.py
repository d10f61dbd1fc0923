"""Which of the network's channels are which interneurons: simulated ones, or recorded traces."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from retinacodec import analyses
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.field_priors import Splines
from retinacodec.report import Table

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from retinacodec.study import Study

__all__ = ["interneuron_drawing", "interneuron_table", "match_traces"]

_log = logging.getLogger(__name__)
_UNTRAINED = 3


def match_traces(study: Study) -> None:
    """Score the network's layers and their controls against interneurons, where there are any."""
    traces = _traces(study)
    if traces is None:
        return
    circuit, seed = _circuit(study), study.settings.seed
    untrained = [analyses.untrained_like(circuit, draw) for draw in range(_UNTRAINED)]
    device = study.settings.device
    try:
        compared = analyses.compare_interneurons(
            traces,
            {"fitted": circuit, "untrained": untrained},
            study.analysed,
            linear=analyses.LinearFilter(prior=Splines()),
            device=device,
            seed=seed,
        )
    except InputError as error:
        _log.warning("interneurons are not compared: %s", error)
        return
    study.keep("interneurons", compared)
    units = analyses.channel_activations(circuit, study.analysed, _names(circuit), device=device)
    found = analyses.match_interneurons(traces, units, maps=True, seed=seed)
    study.keep("interneuron_matches", found)


def interneuron_drawing(study: Study) -> tuple[Figure, Mapping[str, Any]]:
    """Draw maps, scores with controls, and traces over those of the matched units."""
    compared, found = study.result("interneurons"), study.result("interneuron_matches")
    circuit = _circuit(study)
    units = analyses.channel_activations(
        circuit, study.analysed, _names(circuit), device=study.settings.device
    )
    traces = _traces(study)
    assert traces is not None
    drawing = analyses.interneuron_figure(found, traces, units, comparison=compared)
    return drawing, {"all": compared}


def interneuron_table(compared: xr.Dataset) -> Table:
    """Return the held-out correlations of the best unit of any layer, model beside model."""
    models = compared["model"].values.tolist()
    best = compared.sel(layer="any")
    dim = next(str(dim) for dim in best["correlation"].dims if dim != "model")
    rows = []
    for name in best[dim].values.tolist():
        one = best.sel({dim: name})
        fitted = one.sel(model="fitted")
        numbers = [float(one["correlation"].sel(model=model)) for model in models]
        ends = [float(fitted[end]) for end in ("low", "high", "p_value", "p_family")]
        rows.append([str(name), *numbers, *ends])
    return Table(
        ("interneuron", *models, "low", "high", "p", "p, family"),
        rows,
        caption="Correlation of each interneuron with the unit of any layer that matches it best, "
        "chosen on one half of the time and scored on the other: the fitted network (with its 95 % "
        f"interval), the mean of {_UNTRAINED} networks with random weights, and the best linear "
        "filter of the movie. p against every circular shift of the trace; family: of the largest "
        "among all interneurons.",
    )


def _traces(study: Study) -> xr.DataArray | xr.Dataset | None:
    """Return the traces of the simulated retina, or those that the recording holds."""
    retina, movie, wanted = study.inputs.retina, study.analysed, study.settings.recording
    if retina is not None:
        spaced: xr.DataArray = retina.interneuron_traces(movie, every=max(retina.size))
        return spaced.isel(y=0, x=0)
    if wanted is None or wanted.traces is None:
        return None
    from retinacodec.study_recording import read_recorded_traces

    return read_recorded_traces(study).sel(time=movie["time"])


def _circuit(study: Study) -> Circuit:
    """Return the network with the layers that interneurons are looked for in."""
    circuit = study.circuit
    layers = study.settings.contributions.layers
    norms = tuple(name.replace("conv", "norm") for name in layers)
    there = {name for name, _ in circuit.model.named_modules()}
    chosen = norms if set(norms) <= there else layers
    return Circuit(circuit.model, chosen, circuit.history, circuit.latency, outputs=circuit.outputs)


def _names(circuit: Circuit) -> tuple[str, ...]:
    """Return the names of the layers."""
    return tuple(str(layer) for layer in circuit.layers)
