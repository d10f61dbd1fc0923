"""Circuit models of the retina: fitted networks, baselines and a simulated retina."""

from __future__ import annotations

from retinacodec.models.circuit_retina import CircuitRetina
from retinacodec.models.toy import ToyCircuit, exact_contributions

__all__ = ["CircuitRetina", "ToyCircuit", "exact_contributions"]
