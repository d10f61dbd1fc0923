"""The steps of a study, from the files to the numbers; each stores what the next ones read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from retinacodec import analyses, choices, models
from retinacodec.circuit import Circuit, predict
from retinacodec.contribute import contributions
from retinacodec.dictionaries import Decomposition, fixed_size
from retinacodec.errors import InputError
from retinacodec.rules import IntegratedGradients, Rule, Secant
from retinacodec.study_fields import average_spikes, compare_averages, map_dynamics, map_fields
from retinacodec.study_inputs import new_network
from retinacodec.study_interneurons import match_traces
from retinacodec.study_recording import check_recorded
from retinacodec.targets import Surprisal, Target
from retinacodec.training import train

if TYPE_CHECKING:
    from retinacodec.study import Study

__all__ = ["STEPS", "Step", "chosen_rule"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One link of the chain."""

    name: str
    title: str
    run: Callable[[Study], None]


def _fit(study: Study) -> None:
    """Fit the network and the baseline, or take the shipped network."""
    inputs, settings = study.inputs, study.settings
    size = (inputs.movie.sizes["y"], inputs.movie.sizes["x"])
    network = new_network(study, inputs.recording, size)
    target = study.folder / "results" / "cnn.safetensors"
    if settings.model.pretrained is not None:
        models.save_model(network, target, overwrite=True)
        return
    options = settings.fit.model_dump()
    fitted = train(
        network,
        inputs.movie,
        inputs.recording,
        split=inputs.split,
        seed=settings.seed,
        device=settings.device,
        **options,
    )
    models.save_model(fitted.model, target, overwrite=True)
    study.keep("training", fitted.log)
    baseline = models.LinearNonlinear(
        cells=inputs.recording.sizes["cell"],
        size=size,
        history=settings.model.history,
        latency=settings.model.latency,
        rank=settings.baseline.rank,
        seed=settings.seed,
    )
    fitted = train(
        baseline,
        inputs.movie,
        inputs.recording,
        split=inputs.split,
        seed=settings.seed,
        device=settings.device,
        epochs=settings.baseline.epochs,
        lr=settings.baseline.lr,
    )
    models.save_model(fitted.model, study.folder / "results" / "ln.safetensors", overwrite=True)
    if settings.baseline.glm:
        _fit_glm(study)


def _fit_glm(study: Study) -> None:
    """Fit a GLM of the stimulus to every cell and keep what it predicts."""
    inputs, wanted = study.inputs, study.settings.model
    try:
        glm = analyses.fit_glm(
            inputs.movie,
            inputs.recording,
            inputs.split,
            history=wanted.history,
            latency=wanted.latency,
        )
    except InputError as error:
        _log.warning("no GLM beside the network: %s", error)
        return
    study.keep("rate_glm", glm.predict(inputs.movie).rename("rate"))


def _compare(study: Study) -> None:
    """Predict the recording with each model and score the held-out frames."""
    inputs = study.inputs
    circuits = {"CNN": study.circuit}
    baseline = study.folder / "results" / "ln.safetensors"
    if baseline.exists():
        names = tuple(inputs.recording["cell"].values.tolist())
        circuits["LN"] = Circuit(models.load_model(baseline), [], outputs=names)
    rates = {
        name: predict(circuit, inputs.movie, device=study.settings.device)
        for name, circuit in circuits.items()
    }
    if study.has("rate_glm"):
        rates["GLM"] = study.result("rate_glm")
    study.keep("rates", xr.Dataset(rates))
    scored: dict[str, Any] = {"frames": inputs.split.test, "seed": study.settings.seed}
    study.keep("comparison", analyses.compare_models(rates, inputs.recording, **scored))
    if len(rates) > 1:
        study.keep("model_tests", analyses.model_tests(rates, inputs.recording, **scored))
    compare_averages(study, circuits)


def _target(study: Study) -> Target:
    """Return the target with statistics of the training frames, where there are any."""
    plain = choices.TARGETS[study.settings.contributions.target]()
    if not isinstance(plain, Surprisal):
        return plain
    inputs = study.inputs
    if not len(inputs.split.train):
        return Surprisal()
    rate = study.result("rates")["CNN"]
    rows = inputs.split.train - study.circuit.first_frame
    return Surprisal.from_outputs(torch.from_numpy(rate.values[rows]))


def chosen_rule(study: Study) -> Rule:
    """Return the rule that the settings name."""
    wanted = study.settings.contributions
    return choices.RULES[wanted.rule](wanted.steps)


def _contribute(study: Study) -> None:
    """Compute the contributions of the analysed frames, and check their completeness."""
    parts = contributions(
        study.circuit,
        study.analysed,
        _target(study),
        rule=chosen_rule(study),
        activations=True,
        gradients=True,
        device=study.settings.device,
    )
    study.keep("contributions", parts)
    study.keep("completeness", _completeness(study))


def _completeness(study: Study) -> xr.Dataset:
    """Return the unexplained share at every cut for both rules, and how well the cuts agree."""
    layers = getattr(study.circuit.model, "layers", study.circuit.layers)
    circuit = Circuit(study.circuit.model, layers, outputs=study.circuit.outputs)
    first = study.circuit.first_frame
    movie = study.analysed.isel(time=slice(0, 300 + first))
    rules: dict[str, Rule] = {
        "secant, 10 steps": Secant(10),
        "trapezoid, 50 steps": IntegratedGradients(50),
    }
    shares, agreement = [], []
    for rule in rules.values():
        tree = contributions(
            circuit, movie, _target(study), rule=rule, device=study.settings.device, progress=False
        )
        shares.append(_shares(tree, layers))
        agreement.append(_agreement(tree, layers))
    return xr.Dataset(
        {
            "unexplained": (("rule", "frame", "layer"), np.stack(shares)),
            "disagreement": (("rule", "layer"), np.stack(agreement)),
        },
        coords={"rule": list(rules), "layer": list(layers)},
        attrs={"long_name": "share of the change of the target that contributions leave out"},
    )


def _shares(tree: xr.DataTree, layers: Any) -> np.ndarray[Any, Any]:
    """Return |residual| / |S(x) - S(x0)| of each frame and layer."""
    root = tree.to_dataset()
    change = np.abs(root["value"].values - root["baseline_value"].values)
    return np.stack(
        [np.abs(tree[layer].to_dataset()["residual"].values) / change for layer in layers], axis=1
    )


def _agreement(tree: xr.DataTree, layers: Any) -> np.ndarray[Any, Any]:
    """Return each layer's relative distance to the convolution before it, channel by channel."""
    found, reference = [], np.zeros(1)
    for layer in layers:
        values = tree[layer].to_dataset()["contribution"].values
        if layer.startswith("conv"):
            reference = values
        found.append(np.linalg.norm(values - reference) / np.linalg.norm(reference))
    return np.asarray(found)


def _decompose(study: Study) -> None:
    """Decompose every layer into modes, and see whether activations and gradients tell as much."""
    parts, seed = study.result("contributions"), study.settings.seed
    method, gap = chosen_dictionary(study), _gap(study)
    for layer in study.settings.contributions.layers:
        modes = analyses.find_modes(parts[layer], dictionary=method, seed=seed, gap=gap)
        study.keep(f"modes_{layer}", modes)
        if study.settings.modes.contrast:
            same = fixed_size(method, modes.sizes["mode"])
            contrast = analyses.contrast_modes(
                parts[layer], parts["rate"], dictionary=same, seed=seed, gap=gap
            )
            study.keep(f"contrast_{layer}", contrast)


def chosen_dictionary(study: Study) -> Decomposition:
    """Return the decomposition that the settings name."""
    wanted = study.settings.modes
    return choices.decomposition(wanted.method, wanted.modes, gap=_gap(study))


def _gap(study: Study) -> int:
    """Return the frames left out between rows that must not share any."""
    return max(40, study.circuit.history or 0)


def _map_fields(study: Study) -> None:
    """Compute dynamic fields, how they change, and where they come from."""
    map_fields(study)
    map_dynamics(study, _target(study), chosen_rule(study))


def _draw(study: Study) -> None:
    """Draw every figure that the results allow."""
    from retinacodec.study_figures import FIGURES

    for name, figure in FIGURES.items():
        if not figure.possible(study):
            continue
        try:
            figure.write(study)
        except InputError as error:
            _log.warning("figure %s is left out: %s", name, error)
        else:
            _log.info("figure %s", name)


def _report(study: Study) -> None:
    study.write_report()


STEPS = (
    Step(
        "recording", "the recording: what it holds, whether cells follow the movie", check_recorded
    ),
    Step("sta", "spike-triggered averages", average_spikes),
    Step("fit", "models", _fit),
    Step("compare", "models against the recording", _compare),
    Step("contributions", "contributions of the interneurons", _contribute),
    Step("interneurons", "model channels against interneurons", match_traces),
    Step("modes", "modes", _decompose),
    Step("fields", "dynamic receptive fields", _map_fields),
    Step("figures", "figures", _draw),
    Step("report", "report", _report),
)
