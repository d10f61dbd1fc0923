"""Formulas over named concepts: AND, OR and NOT, one way to write each, read from and as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from retinacodec.bitsets import Bitsets
from retinacodec.errors import InputError

__all__ = [
    "And",
    "Formula",
    "Leaf",
    "Not",
    "Or",
    "and_not",
    "canonical",
    "evaluate",
    "evaluate_bits",
    "leaves",
    "names_of",
    "parse_formula",
]

_PLAIN = re.compile(r"[^\s()\"\\]+")
_TOKEN = re.compile(r'\s*(?:([()])|"((?:[^"\\]|\\.)*)"|([^\s()"\\]+))')
_WORDS = ("AND", "OR", "NOT")
_DEEPEST = 100


@dataclass(frozen=True)
class Leaf:
    """A concept, by its name."""

    name: str

    def __str__(self) -> str:
        if _PLAIN.fullmatch(self.name) and self.name not in _WORDS:
            return self.name
        quoted = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"'


@dataclass(frozen=True)
class Not:
    """Where a formula does not hold."""

    part: Formula

    def __str__(self) -> str:
        return f"NOT {_inside(self.part)}"


@dataclass(frozen=True)
class And:
    """Where all of two or more formulas hold."""

    parts: tuple[Formula, ...]

    def __str__(self) -> str:
        return " AND ".join(map(_inside, self.parts))


@dataclass(frozen=True)
class Or:
    """Where at least one of two or more formulas holds."""

    parts: tuple[Formula, ...]

    def __str__(self) -> str:
        return " OR ".join(map(_inside, self.parts))


Formula: TypeAlias = Leaf | Not | And | Or


def and_not(one: Formula, other: Formula) -> Formula:
    """Return where the first formula holds and the second does not.

    Examples
    --------
    >>> print(and_not(Or((Leaf("dog"), Leaf("cat"))), Leaf("puppy")))
    (dog OR cat) AND NOT puppy
    """
    return And((one, Not(other)))


def leaves(formula: Formula) -> int:
    """Return the length of a formula: how often it names a concept."""
    match formula:
        case Leaf():
            return 1
        case Not(part):
            return leaves(part)
        case And(parts) | Or(parts):
            return sum(map(leaves, parts))


def names_of(formula: Formula) -> frozenset[str]:
    """Return the concepts that a formula names."""
    match formula:
        case Leaf(name):
            return frozenset((name,))
        case Not(part):
            return names_of(part)
        case And(parts) | Or(parts):
            return frozenset().union(*map(names_of, parts))


def canonical(formula: Formula) -> Formula:
    """Return the one way to write formulas that differ only in order, doubling or nesting.

    Parameters
    ----------
    formula : Formula
        Any formula.

    Returns
    -------
    Formula
        An equal formula: NOT only before concepts (double negation, de Morgan), nested ANDs and
        ORs joined, their parts without repetition (idempotence), without those that a shorter
        part makes needless (absorption: ``a OR (a AND b)`` is ``a``, ``a OR (b AND NOT a)`` is
        ``a OR b``), and sorted, negated ones last. Equal formulas can still differ where it takes
        more than these laws to see it.

    Examples
    --------
    >>> print(canonical(parse_formula("NOT (NOT b OR NOT a) AND (b OR c)")))
    a AND b
    """
    found = _canonical(formula, positive=True)
    while (again := _canonical(found, positive=True)) != found:
        found = again
    return found


def evaluate(
    formula: Formula, values: Mapping[str, npt.ArrayLike] | Callable[[str], npt.ArrayLike]
) -> npt.NDArray[np.bool_]:
    """Say where a formula holds.

    Parameters
    ----------
    formula : Formula
        What to evaluate.
    values : mapping of str to array_like of bool (...)
        Where each concept holds, all of one shape; or a function of the name.

    Returns
    -------
    ndarray of bool (...)
        True where the formula holds.

    Raises
    ------
    InputError
        If a concept is missing, or is not True and False.

    Examples
    --------
    >>> evaluate(parse_formula("a AND NOT b"), {"a": [True, True], "b": [True, False]}).tolist()
    [False, True]
    """

    def look_up(name: str) -> Any:
        if not callable(values) and name not in values:
            known = ", ".join(sorted(map(str, values))[:20])
            raise InputError(f"formula: no concept {name!r}; there are {known}")
        found = np.asarray(values(name) if callable(values) else values[name])
        if found.dtype != np.bool_:
            raise InputError(f"formula: {name!r} must be True and False, got {found.dtype}")
        return found

    return np.asarray(_fold(formula, look_up, np.logical_not))


def evaluate_bits(formula: Formula, concepts: Bitsets, rows: Mapping[str, int]) -> Bitsets:
    """Say where a formula holds, on packed concepts.

    Parameters
    ----------
    formula : Formula
        What to evaluate.
    concepts : Bitsets
        The concepts, one a row.
    rows : mapping of str to int
        Row of each concept.

    Returns
    -------
    Bitsets
        One row: where the formula holds.

    Raises
    ------
    InputError
        If a concept is missing.
    """
    unknown = sorted(names_of(formula) - set(rows))
    if unknown:
        raise InputError(f"formula: no concept {unknown[0]!r}")

    def words(name: str) -> Any:
        return concepts.words[rows[name]]

    def negated(part: Any) -> Any:
        return Bitsets(part[None], concepts.positions).complement().words[0]

    return Bitsets(_fold(formula, words, negated)[None], concepts.positions)


def parse_formula(text: str) -> Formula:
    """Read a formula as it is written: NOT binds before AND, AND before OR.

    Parameters
    ----------
    text : str
        Such as ``(dog OR "traffic light") AND NOT cat``; names with spaces, brackets or quotes,
        and the words AND, OR and NOT as names, stand in double quotes.

    Returns
    -------
    Formula
        As written, not in canonical form.

    Raises
    ------
    InputError
        If the text is no formula.

    Examples
    --------
    >>> parse_formula("a AND NOT b")
    And(parts=(Leaf(name='a'), Not(part=Leaf(name='b'))))
    """
    reader = _Reader(_tokens(text), text)
    if sum(one in (("sign", "("), ("sign", "NOT")) for one in reader.tokens) > _DEEPEST:
        raise reader.fault(f"more than {_DEEPEST} brackets and NOTs")
    found = reader.either()
    if reader.tokens:
        raise reader.fault(f"unexpected {reader.tokens[0][1]!r}")
    return found


@dataclass
class _Reader:
    """Reads what is left of the tokens (kind, word), one level of brackets at a time."""

    tokens: list[tuple[str, str]]
    text: str

    def either(self) -> Formula:
        parts = [self.all()]
        while self.take("OR"):
            parts.append(self.all())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all(self) -> Formula:
        parts = [self.one()]
        while self.take("AND"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def one(self) -> Formula:
        if self.take("NOT"):
            return Not(self.one())
        if self.take("("):
            inside = self.either()
            if not self.take(")"):
                raise self.fault("a bracket is not closed")
            return inside
        if not self.tokens or self.tokens[0][0] != "name":
            raise self.fault("a concept is missing")
        return Leaf(self.tokens.pop(0)[1])

    def take(self, sign: str) -> bool:
        if self.tokens and self.tokens[0] == ("sign", sign):
            self.tokens.pop(0)
            return True
        return False

    def fault(self, what: str) -> InputError:
        return InputError(f"formula {self.text!r}: {what}; write it like 'a AND NOT (b OR c)'")


def _tokens(text: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            raise InputError(f"formula {text!r}: cannot read {text[place:].strip()!r}")
        bracket, quoted, word = match.groups()
        if quoted is not None:
            found.append(("name", re.sub(r"\\(.)", r"\1", quoted)))
        else:
            found.append(("sign" if bracket or word in _WORDS else "name", bracket or word))
        place = match.end()
    return found


def _inside(formula: Formula) -> str:
    """Return a formula as text that can stand inside another."""
    return f"({formula})" if isinstance(formula, (And, Or)) else str(formula)


def _fold(formula: Formula, look_up: Callable[[str], Any], negated: Callable[[Any], Any]) -> Any:
    match formula:
        case Leaf(name):
            return look_up(name)
        case Not(part):
            return negated(_fold(part, look_up, negated))
        case And(parts):
            return reduce(np.bitwise_and, [_fold(one, look_up, negated) for one in parts])
        case Or(parts):
            return reduce(np.bitwise_or, [_fold(one, look_up, negated) for one in parts])


def _canonical(formula: Formula, *, positive: bool) -> Formula:
    """Return the canonical form of a formula, or of its negation."""
    match formula:
        case Leaf():
            return formula if positive else Not(formula)
        case Not(part):
            return _canonical(part, positive=not positive)
        case And(parts) | Or(parts):
            kind = And if isinstance(formula, And) == positive else Or
            inner = [_canonical(one, positive=positive) for one in parts]
            return _joined(kind, inner)


def _joined(kind: type[And] | type[Or], inner: list[Formula]) -> Formula:
    """Join canonical parts: flat, without repeated and needless ones, sorted."""
    flat: set[Formula] = set()
    for one in inner:
        flat.update(one.parts if isinstance(one, kind) else (one,))
    known = frozenset(_negated(one) if kind is Or else one for one in flat if _literal(one))
    shorter = [one if _literal(one) else _assume(one, known) for one in flat]
    kept = [one for one in shorter if one is not (kind is And)]
    if kept and not any(isinstance(one, bool) for one in kept) and set(kept) != flat:
        return _joined(kind, [one for one in kept if not isinstance(one, bool)])
    other = Or if kind is And else And
    sets = {one: frozenset(one.parts if isinstance(one, other) else (one,)) for one in flat}
    parts = [one for one in flat if not any(sets[less] < sets[one] for less in flat)]
    parts.sort(key=lambda one: (isinstance(one, Not), not isinstance(one, Leaf), str(one)))
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _literal(formula: Formula) -> bool:
    return isinstance(formula, (Leaf, Not))


def _negated(literal: Formula) -> Formula:
    return literal.part if isinstance(literal, Not) else Not(literal)


def _assume(formula: Formula, known: frozenset[Formula]) -> Formula | bool:
    """Return what is left of a canonical formula where these literals hold."""
    if formula in known:
        return True
    if not isinstance(formula, (And, Or)):
        return False if _negated(formula) in known else formula
    final = isinstance(formula, Or)
    parts = [_assume(one, known) for one in formula.parts]
    if any(one is final for one in parts):
        return final
    left = [one for one in parts if not isinstance(one, bool)]
    if not left:
        return not final
    return left[0] if len(left) == 1 else _joined(type(formula), left)
