"""Circuit models of the retina: fitted networks, baselines and a simulated retina."""

from __future__ import annotations

from retinacodec.models.circuit_retina import CircuitRetina
from retinacodec.models.deep_retina import DeepRetina
from retinacodec.models.linear_nonlinear import LinearNonlinear
from retinacodec.models.pretrained import available, load_model, pretrained, save_model
from retinacodec.models.readouts import LinearReadout, OnePositionReadout
from retinacodec.models.toy import ToyCircuit, exact_contributions

__all__ = [
    "CircuitRetina",
    "DeepRetina",
    "LinearNonlinear",
    "LinearReadout",
    "OnePositionReadout",
    "ToyCircuit",
    "available",
    "exact_contributions",
    "load_model",
    "pretrained",
    "save_model",
]
