"""Names of rules and targets, for the command line and study files, without anything heavy."""

from __future__ import annotations

from typing import Literal

__all__ = ["RuleName", "TargetName"]

RuleName = Literal[
    "secant", "trapezoid", "left", "right", "midpoint", "activation-gradient", "smooth-gradient"
]
"""Rules that can be asked for by name; `choices.RULES` makes them."""

TargetName = Literal["surprisal", "population", "mean", "each_cell"]
"""Targets that can be asked for by name; `choices.TARGETS` makes them."""
