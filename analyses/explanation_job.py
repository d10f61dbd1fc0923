"""One search for formulas over the fitted positions, and its counts on all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.analyses.explanation_places import Places
from retinacodec.bitsets import Bitsets, pack
from retinacodec.formula_search import search_formulas
from retinacodec.formulas import Formula, canonical, evaluate_bits
from retinacodec.overlaps import Overlap

__all__ = ["FITTED", "HELD", "Found", "Job", "shared"]

Array = npt.NDArray[Any]
FITTED, HELD = "fitted", "held out"
_NOT = "not explained: "


@dataclass(frozen=True)
class Found:
    """Formulas (mask, length), and counts (mask, length, part) of what they share and cover."""

    formula: list[list[Formula | None]]
    words: list[Array]
    both: Array
    covered: Array
    size: Array
    reason: list[str]


@dataclass(frozen=True)
class Job:
    """One way of explaining, on parts of positions (part, position)."""

    places: Places
    parts: dict[str, npt.NDArray[np.bool_]]
    length: int
    beam: int
    penalty: float
    metric: Overlap
    candidates: int | None
    occurring: bool
    least: int
    threads: int

    def __post_init__(self) -> None:
        packed = {
            part: pack(np.compress(here, self.places.concepts, axis=1))
            for part, here in self.parts.items()
        }
        object.__setattr__(self, "_concepts", packed)

    def packed(self, part: str) -> Bitsets:
        """Return the concepts at the positions of a part."""
        found: dict[str, Bitsets] = self.__dict__["_concepts"]
        return found[part]

    def explain(self, masks: Array) -> Found:
        """Search on the fitted part and count on all."""
        sets = {part: pack(np.compress(here, masks, axis=1)) for part, here in self.parts.items()}
        fitted, concepts = sets[FITTED], self.packed(FITTED)
        size = np.stack([one.sizes() for one in sets.values()], axis=1)
        reason = self._reasons(size)
        known = np.array([not one.startswith(_NOT) for one in reason])
        allowed = np.repeat(known[:, None], len(concepts), axis=1)
        if self.occurring:
            allowed &= self.places.together(fitted, concepts, self.parts[FITTED])
        chains = search_formulas(
            fitted, concepts, length=self.length, beam=self.beam, penalty=self.penalty,
            score=self.metric, allowed=allowed, candidates=self.candidates, threads=self.threads,
        )  # fmt: skip
        lengths = range(1, self.length + 1)
        names = self.places.names
        formula = [
            [None if one is None else canonical(one) for one in row]
            for row in ([chains.formula(m, k, names) for k in lengths] for m in range(len(masks)))
        ]
        reason = [
            one if one.startswith(_NOT) or row[-1] is not None else f"{_NOT}no concept meets it"
            for one, row in zip(reason, formula, strict=True)
        ]
        words = [self._words(formula, part) for part in self.parts]
        pairs = list(zip(sets.values(), words, strict=True))
        both = np.stack([shared(mask, formulas) for mask, formulas in pairs], axis=-1)
        covered = np.stack([_sizes(formulas) for formulas in words], axis=-1)
        return Found(formula, words, both, covered, size, reason)

    def score(self, found: Found, both: Array) -> Array:
        """Return scores (mask, length, part), NaN without a formula or a mask."""
        value = self.metric(both, found.covered, found.size[:, None])
        missing = np.array([[one is None for one in row] for row in found.formula])
        return np.where(missing[..., None] | (found.size[:, None] == 0), np.nan, value)

    def _words(self, formula: list[list[Formula | None]], part: str) -> Array:
        """Return the packed formulas (mask, length, word) of a part."""
        concepts, rows = self.packed(part), {n: k for k, n in enumerate(self.places.names)}
        made: dict[Formula | None, Array] = {None: np.zeros_like(concepts.words[0])}
        for one in {one for row in formula for one in row if one is not None}:
            made[one] = evaluate_bits(one, concepts, rows).words[0]
        return np.stack([np.stack([made[one] for one in row]) for row in formula])

    def _reasons(self, size: Array) -> list[str]:
        count = [int(here.sum()) for here in self.parts.values()]
        found = []
        for row in size.tolist():
            if row[0] == 0:
                found.append(f"{_NOT}never on")
            elif row[0] == count[0]:
                found.append(f"{_NOT}always on")
            elif row[0] < self.least:
                found.append(f"{_NOT}on at {row[0]} positions, expected {self.least}")
            else:
                found.append("never on where held out" if row[-1] == 0 else "")
        return found


def shared(masks: Bitsets, words: Array) -> Array:
    """Return how many positions mask and formula (mask, length, word) share."""
    return _sizes(words & masks.words[:, None])


def _sizes(words: Array) -> Array:
    flat = Bitsets(np.ascontiguousarray(words.reshape(-1, words.shape[-1])), 0)
    return flat.sizes().reshape(words.shape[:-1])
