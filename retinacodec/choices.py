"""Choices: the rules and targets that the command line and study files know by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from retinacodec.gradient_rules import ActivationGradient, SmoothGradient
from retinacodec.rules import IntegratedGradients, Rule, Secant
from retinacodec.targets import EachCell, Mean, Population, Surprisal, Target

__all__ = ["RULES", "TARGETS"]

RULES: dict[str, Callable[[int], Rule]] = {
    "secant": Secant,
    "trapezoid": IntegratedGradients,
    "left": partial(IntegratedGradients, quadrature="left"),
    "right": partial(IntegratedGradients, quadrature="right"),
    "midpoint": partial(IntegratedGradients, quadrature="midpoint"),
    "activation-gradient": lambda steps: ActivationGradient(),  # noqa: ARG005
    "smooth-gradient": SmoothGradient,
}
"""Rules by name, made from a number of steps; activation times gradient has none."""

TARGETS: dict[str, Callable[[], Target]] = {
    "surprisal": Surprisal,
    "population": Population,
    "mean": Mean,
    "each_cell": EachCell,
}
"""Targets of retinal circuits by name."""
