"""Choices: the rules, targets and decompositions that the command line and study files name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from retinacodec.dictionaries import METHODS, Decomposition, RandomRows, TimeBlocks
from retinacodec.errors import InputError
from retinacodec.gradient_rules import ActivationGradient, SmoothGradient
from retinacodec.rules import IntegratedGradients, Rule, Secant
from retinacodec.targets import EachCell, Mean, Population, Surprisal, Target

__all__ = ["DECOMPOSITIONS", "RULES", "TARGETS", "decomposition"]

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

DECOMPOSITIONS: dict[str, str] = {
    "pursuit": "DirectPursuit",
    "paper-sae": "PaperSAE",
    "mended-sae": "PaperSAE, mended",
    "topk-sae": "TopKSAE",
    "matching-sae": "MatchingPursuitSAE",
    "nmf": "NMF",
    "semi-nmf": "SemiNMF, constrained",
    "dictionary-learning": "DictionaryLearning",
    "pca": "PCA",
    "ica": "ICA",
    "k-means": "KMeans",
}
"""Decompositions by name, as `dictionaries.METHODS` calls them."""

_OWN_SIZE = ("paper-sae", "mended-sae")


def decomposition(
    name: str, modes: int | None, *, gap: int = 40, images: bool = False
) -> Decomposition:
    """Return a decomposition by its name.

    Parameters
    ----------
    name : str
        One of `DECOMPOSITIONS`.
    modes : int or None
        Number of modes; the pursuit chooses it if left out, and the paper's autoencoder has ten
        atoms for each feature.
    gap : int, default 40
        Times left out beside those that a method holds out by itself; at least the history of
        the model.
    images : bool, default False
        Rows are images, of which a method holds some out at random: neighbours in a folder are
        often of one class, so that a stretch of them is no sample.

    Returns
    -------
    Decomposition
        The method.

    Raises
    ------
    InputError
        If the method needs a number and has none, or has one of its own.
    """
    if modes is None and name != "pursuit" and name not in _OWN_SIZE:
        raise InputError(f"modes: {name} needs a number of modes; give one, or take pursuit")
    if modes is not None and name in _OWN_SIZE:
        raise InputError(f"modes: {name} has ten atoms for each feature; leave the number out")
    made: Any = METHODS[DECOMPOSITIONS[name]](modes)  # type: ignore[arg-type]
    if hasattr(made, "split"):
        every = made.split.every
        split = RandomRows(every) if images else TimeBlocks(gap, every=every)
        made = dataclasses.replace(made, split=split)
    return made  # type: ignore[no-any-return]
