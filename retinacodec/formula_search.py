"""The beam search for formulas that overlap with sets, and its compiled inner loops.

A formula of the search is a chain ``((c0 op c1) op c2) ...`` with ops AND, OR and AND NOT. Two
counts say all about adding a concept p to a formula F for a mask M: ``a = |F and p|`` and
``b = |M and F and p|``; the positions guessed and shared by F AND p are a and b, by F AND NOT p
``|F| - a`` and ``|M and F| - b``, by F OR p ``|F| + |p| - a`` and ``|M and F| + |M and p| - b``.
The first is counted only where, with the a that would suit best, one of the three could enter.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.bitsets import Bitsets, count_and, popcount
from retinacodec.compiled import compiled
from retinacodec.errors import Problems
from retinacodec.formulas import And, Formula, Leaf, Not, Or
from retinacodec.overlaps import IOU, Overlap

__all__ = ["Chains", "search_formulas"]

Array = npt.NDArray[Any]
_AND, _OR, _AND_NOT = 0, 1, 2
_BLOCK = 16


@dataclass(frozen=True)
class Chains:
    """The best formulas of at most 1, 2, ... concepts, as the search writes them.

    Parameters
    ----------
    concept : ndarray (mask, length, place), int64
        Rows of the concepts of a chain; -1 beyond its end.
    op : ndarray (mask, length, place), int8
        How each concept but the first is added: 0 AND, 1 OR, 2 AND NOT.
    score : ndarray (mask, length)
        Score with its penalty; 0 where no concept meets the mask.
    """

    concept: Array
    op: Array
    score: Array

    def formula(self, mask: int, length: int, names: list[str]) -> Formula | None:
        """Return the best formula of at most so many concepts, or None where there is none."""
        rows = [int(row) for row in self.concept[mask, length - 1] if row >= 0]
        found: Formula | None = None
        for row, op in zip(rows, self.op[mask, length - 1], strict=False):
            leaf = Leaf(names[row])
            if found is None:
                found = leaf
            elif op == _OR:
                found = Or((found, leaf))
            else:
                found = And((found, Not(leaf) if op == _AND_NOT else leaf))
        return found


def search_formulas(
    masks: Bitsets,
    concepts: Bitsets,
    *,
    length: int = 3,
    beam: int = 5,
    penalty: float = 1.0,
    score: Overlap = IOU,
    allowed: npt.NDArray[np.bool_] | None = None,
    candidates: int | None = None,
    threads: int = 1,
) -> Chains:
    """Search for the formula over concepts that agrees best with each mask.

    Parameters
    ----------
    masks, concepts : Bitsets
        Sets over the same positions.
    length : int, default 3
        Most concepts of a formula, at least 1.
    beam : int, default 5
        Formulas kept after each step.
    penalty : float, default 1
        The score of a formula of l concepts is multiplied by ``penalty ** (l - 1)``.
    score : Overlap, default `IOU`
        What agreement is.
    allowed : ndarray of bool (mask, concept), optional
        Concepts that may be used for each mask; all if left out.
    candidates : int, optional
        Add only so many concepts, those that score best alone; all allowed ones if left out.
    threads : int, default 1
        Masks are divided among so many threads; the result is the same.

    Returns
    -------
    Chains
        The best formula after every step.

    Raises
    ------
    InputError
        If sizes do not fit or a number is out of range.

    Notes
    -----
    Step 1 keeps the `beam` best concepts; each later step adds every concept, by every op, to
    every formula kept, and keeps the best of old and new. Of formulas that hold at the same
    positions one is kept, the shorter; equal scores are ordered by length, then by the order in
    which they were made. No formula without a shared position is kept.

    References
    ----------
    .. [1] Mu and Andreas, NeurIPS 2020, section 2.
    """
    _check(masks, concepts, length, beam, penalty, allowed, candidates)
    alone = count_and(masks, concepts, threads=threads)
    sizes, widths = masks.sizes(), concepts.sizes()
    may = np.ones(alone.shape, np.bool_) if allowed is None else np.asarray(allowed)
    add = may & _best(score(alone, widths, sizes[:, None]), may, candidates)
    pairs = count_and(concepts, concepts, threads=threads)
    found = Chains(
        np.full((len(masks), length, length), -1, np.int64),
        np.zeros((len(masks), length, length), np.int8),
        np.zeros((len(masks), length)),
    )
    rule = np.array([score.excess, score.missed, penalty])

    def search(part: Array) -> None:
        rows = slice(part[0], part[-1] + 1)
        _search(
            (masks.words[rows], sizes[rows], alone[rows], may[rows], add[rows]),
            (concepts.words, widths, pairs),
            rule,
            beam,
            (found.concept[rows], found.op[rows], found.score[rows]),
        )

    parts = [part for part in np.array_split(np.arange(len(masks)), max(1, threads)) if part.size]
    if len(parts) < 2:
        for part in parts:
            search(part)
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(search, parts))
    return found


def _check(
    masks: Bitsets,
    concepts: Bitsets,
    length: int,
    beam: int,
    penalty: float,
    allowed: Array | None,
    candidates: int | None,
) -> None:
    problems = Problems()
    problems.require(masks.positions == concepts.positions, "masks and concepts differ in length")
    problems.require(len(concepts) > 0, "there are no concepts")
    problems.require(length >= 1, f"length: expected at least 1 concept, got {length}")
    problems.require(beam >= 1, f"beam: expected at least 1, got {beam}")
    problems.require(0 < penalty <= 1, f"penalty: expected above 0 and at most 1, got {penalty}")
    enough = candidates is None or candidates >= 1
    problems.require(enough, f"candidates: expected at least 1, got {candidates}")
    shape = (len(masks), len(concepts))
    fits = allowed is None or np.shape(allowed) == shape
    problems.require(fits, f"allowed: expected shape {shape}")
    problems.raise_as("search_formulas")


def _best(scores: Array, may: Array, count: int | None) -> Array:
    """Return which are among the best of their row; the first of equal ones."""
    if count is None or count >= scores.shape[1]:
        return np.ones(scores.shape, np.bool_)
    order = np.argsort(-np.where(may, scores, -1.0), axis=1, kind="stable")[:, :count]
    kept = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(kept, order, values=True, axis=1)
    return kept


@compiled
def _score(both: Any, guessed: Any, true: Any, rule: Any) -> Any:
    if both <= 0:
        return 0.0
    return both / (both + rule[0] * (guessed - both) + rule[1] * (true - both))


@compiled
def _count_two(one: Any, other: Any) -> Any:
    total = 0
    for k in range(one.size):
        total += popcount(one[k] & other[k])
    return total


@compiled
def _write(target: Any, formula: Any, concept: Any, op: Any) -> None:
    """Write the words of a formula with a concept added."""
    if op == _AND:
        for k in range(target.size):
            target[k] = formula[k] & concept[k]
    elif op == _OR:
        for k in range(target.size):
            target[k] = formula[k] | concept[k]
    else:
        for k in range(target.size):
            target[k] = formula[k] & ~concept[k]


@compiled
def _equal(one: Any, other: Any) -> Any:
    k = 0
    while k < one.size and one[k] == other[k]:
        k += 1
    return k == one.size


@compiled
def _enter(beam: Any, trial: Any, numbers: Any, score: Any, chain: Any, ops: Any) -> None:
    """Put a formula where it belongs in a beam, unless it is too poor or there already.

    A beam is (words, numbers (both, guessed, length), scores, concepts, ops, [count]), best
    first; the words of the trial are in `trial`.
    """
    words, kept, scores, concepts, operations, count = beam
    used = count[0]
    place = used
    for k in range(used):
        same = kept[k, 0] == numbers[0] and kept[k, 1] == numbers[1]
        if same and _equal(words[k], trial):
            if kept[k, 2] <= numbers[2]:
                return
            used = k
            break
    for k in range(used):
        if score > scores[k] or (score == scores[k] and numbers[2] < kept[k, 2]):
            place = k
            break
    else:
        place = used
    if used == count[0]:
        if place == scores.size:
            return
        used = min(used, scores.size - 1)
        count[0] = max(count[0], used + 1)
    for k in range(used, place, -1):
        words[k] = words[k - 1]
        kept[k] = kept[k - 1]
        scores[k] = scores[k - 1]
        concepts[k] = concepts[k - 1]
        operations[k] = operations[k - 1]
    words[place] = trial
    kept[place] = numbers
    scores[place] = score
    concepts[place] = chain
    operations[place] = ops


@compiled
def _promising(a_low: Any, a_high: Any, b: Any, known: Any, rule: Any, least: Any) -> Any:
    """Tell whether, for some a between the two, an addition scores at least so much."""
    shared, guessed, alone, width, size, length = known
    price = rule[2] ** length
    one = _score(b, a_low, size, rule)
    two = _score(shared + alone - b, guessed + width - a_high, size, rule)
    three = _score(shared - b, guessed - a_high, size, rule)
    return max(one, max(two, three)) * price >= least


@compiled
def _try(
    beam: Any, trial: Any, formula: Any, p: Any, words: Any, a: Any, b: Any, known: Any, rule: Any
) -> None:
    """Try the three ways to add concept p to a formula (words, concepts, ops)."""
    shared, guessed, alone, width, size, length = known
    both, total = np.empty(3, np.int64), np.empty(3, np.int64)
    both[:] = (b, shared + alone - b, shared - b)
    total[:] = (a, guessed + width - a, guessed - a)
    chain, ops, numbers = formula[1].copy(), formula[2].copy(), np.empty(3, np.int64)
    chain[length] = p
    for op in range(3):
        if both[op] == 0:
            continue
        score = _score(both[op], total[op], size, rule) * rule[2] ** length
        last, count = beam[2].size - 1, beam[5][0]
        if count > last and score < beam[2][last]:
            continue
        _write(trial, formula[0], words, op)
        ops[length] = op
        numbers[:] = (both[op], total[op], length + 1)
        _enter(beam, trial, numbers, score, chain, ops)


@compiled
def _empty(beam: Any, words: Any, length: Any) -> Any:
    return (
        np.zeros((beam, words), np.uint64),
        np.zeros((beam, 3), np.int64),
        np.zeros(beam),
        np.full((beam, length), -1, np.int64),
        np.zeros((beam, length), np.int8),
        np.zeros(1, np.int64),
    )


@compiled
def _begin(beam: Any, mask: Any, concepts: Any, rule: Any) -> None:
    """Fill a beam with the best concepts of a mask."""
    words, widths, _ = concepts
    _, size, alone, may, _ = mask
    chain = np.full(beam[3].shape[1], -1, np.int64)
    ops, numbers = np.zeros(chain.size, np.int8), np.empty(3, np.int64)
    for p in range(widths.size):
        if may[p] and alone[p] > 0:
            chain[0] = p
            numbers[:] = (alone[p], widths[p], 1)
            _enter(beam, words[p], numbers, _score(alone[p], widths[p], size, rule), chain, ops)


@compiled
def _grow(old: Any, new: Any, mask: Any, concepts: Any, near: Any, trial: Any, rule: Any) -> None:
    """Add every concept to every formula of the old beam, into the new one."""
    words, widths, pairs = concepts
    here, size, alone, _, add = mask
    places, close = near
    joint = np.empty(places.size, np.uint64)
    for f in range(old[5][0]):
        shared, guessed, length = old[1][f]
        if length == old[3].shape[1]:
            continue
        formula = (old[0][f], old[3][f], old[4][f])
        for k in range(places.size):
            joint[k] = here[places[k]] & old[0][f, places[k]]
        for p in range(widths.size):
            if not add[p]:
                continue
            b = 0 if alone[p] == 0 else _count_two(joint, close[p])
            known = (shared, guessed, alone[p], widths[p], size, length)
            least = new[2][new[2].size - 1] if new[5][0] == new[2].size else 0.0
            high = min(guessed - (shared - b), widths[p] - (alone[p] - b))
            if not _promising(b, high, b, known, rule, least):
                continue
            a = pairs[formula[1][0], p] if length == 1 else _count_two(old[0][f], words[p])
            _try(new, trial, formula, p, words[p], a, b, known, rule)


@compiled
def _search(masks: Any, concepts: Any, rule: Any, beam: Any, found: Any) -> None:
    """Search for each mask; near are the words in which it has any position."""
    words = concepts[0]
    length = found[0].shape[1]
    trial = np.empty(words.shape[1], np.uint64)
    for m in range(len(masks[1])):
        mask = (masks[0][m], masks[1][m], masks[2][m], masks[3][m], masks[4][m])
        new = _empty(beam, words.shape[1], length)
        _begin(new, mask, concepts, rule)
        places = np.flatnonzero(mask[0])
        close = np.empty((len(words), places.size), np.uint64)
        if length > 1:
            for p in range(len(words)):
                for k in range(places.size):
                    close[p, k] = words[p, places[k]]
        for step in range(length):
            if step:
                old = (
                    new[0].copy(), new[1].copy(), new[2].copy(),
                    new[3].copy(), new[4].copy(), new[5].copy(),
                )  # fmt: skip
                _grow(old, new, mask, concepts, (places, close), trial, rule)
            if new[5][0]:
                found[0][m, step] = new[3][0]
                found[1][m, step] = new[4][0]
                found[2][m, step] = new[2][0]
