"""Names of rules, targets and decompositions, without importing anything heavy."""

from __future__ import annotations

from typing import Literal

__all__ = ["MethodName", "QuantityName", "RuleName", "TargetName"]

RuleName = Literal[
    "secant", "trapezoid", "left", "right", "midpoint", "activation-gradient", "smooth-gradient"
]
"""Rules that can be asked for by name; `choices.RULES` makes them."""

TargetName = Literal["surprisal", "population", "mean", "each_cell"]
"""Targets that can be asked for by name; `choices.TARGETS` makes them."""

MethodName = Literal[
    "pursuit",
    "paper-sae",
    "mended-sae",
    "topk-sae",
    "matching-sae",
    "nmf",
    "semi-nmf",
    "dictionary-learning",
    "pca",
    "ica",
    "k-means",
]
"""Decompositions that can be asked for by name; `choices.decomposition` makes them."""

QuantityName = Literal["contribution", "activation", "gradient"]
"""What of a layer can be decomposed."""
