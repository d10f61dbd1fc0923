"""Formulas: equal before and after every rewriting, on all combinations of their concepts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinacodec.bitsets import pack
from retinacodec.errors import InputError
from retinacodec.formulas import (
    And,
    Leaf,
    Not,
    Or,
    and_not,
    canonical,
    evaluate,
    evaluate_bits,
    leaves,
    names_of,
    parse_formula,
)

NAMES = "abcd"
TABLE = dict(zip(NAMES, np.array(list(itertools.product([False, True], repeat=4))).T, strict=True))
A, B, C, D = map(Leaf, NAMES)

FORMULAS = st.recursive(
    st.sampled_from([A, B, C, D]),
    lambda part: st.one_of(
        part.map(Not),
        st.lists(part, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(part, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(FORMULAS)
def test_rewriting_and_reading_back_change_no_truth(formula):
    truth = evaluate(formula, TABLE)
    short = canonical(formula)
    np.testing.assert_array_equal(evaluate(short, TABLE), truth)
    np.testing.assert_array_equal(evaluate(parse_formula(str(formula)), TABLE), truth)
    assert canonical(short) == short
    assert canonical(parse_formula(str(short))) == short
    assert leaves(short) <= leaves(formula)
    assert names_of(short) <= names_of(formula)
    packed = pack(np.stack([TABLE[name] for name in NAMES]))
    rows = {name: row for row, name in enumerate(NAMES)}
    np.testing.assert_array_equal(evaluate_bits(formula, packed, rows).unpack()[0], truth)
    assert evaluate_bits(formula, packed, rows).sizes()[0] == truth.sum()


@settings(deadline=None, max_examples=100)
@given(FORMULAS)
def test_truth_is_that_of_python(formula):
    words = str(formula).replace("AND", "and").replace("OR", "or").replace("NOT", "not")
    for row, truth in enumerate(evaluate(formula, TABLE)):
        assert eval(words, {}, {name: bool(TABLE[name][row]) for name in NAMES}) == truth


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (And((A, B)), And((B, A))),
        (Or((A, Or((B, C)))), Or((Or((C, A)), B))),
        (Not(Not(A)), A),
        (Or((A, A)), A),
        (Or((A, And((A, B)))), A),
        (And((A, Or((A, B)), C)), And((C, A))),
        (Or((A, And((B, Not(A))))), Or((A, B))),
        (and_not(Or((A, and_not(B, C))), C), and_not(Or((A, B)), C)),
        (Not(And((A, B))), Or((Not(B), Not(A)))),
        (and_not(A, Or((B, C))), And((Not(C), Not(B), A))),
    ],
)
def test_laws_give_one_form(one, other):
    assert canonical(one) == canonical(other)


def test_text_is_readable():
    formula = and_not(Or((Leaf("traffic light"), Leaf("car"))), Leaf("NOT"))
    assert str(formula) == '("traffic light" OR car) AND NOT "NOT"'
    assert parse_formula(str(formula)) == formula
    quoted = Leaf('a "b" \\ (c)')
    assert parse_formula(str(quoted)) == quoted
    assert str(canonical(And((Not(A), B)))) == "b AND NOT a"
    assert leaves(formula) == 3


@pytest.mark.parametrize("text", ["", "a AND", "(a", "a b", "OR a", "a)", 'a "b', "NOT"])
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(InputError, match="formula"):
        parse_formula(text)


def test_missing_concepts_are_named():
    with pytest.raises(InputError, match="no concept 'z'; there are a, b"):
        evaluate(Leaf("z"), TABLE)
    with pytest.raises(InputError, match="True and False"):
        evaluate(A, {"a": [0, 1]})
    with pytest.raises(InputError, match="no concept 'z'"):
        evaluate_bits(Leaf("z"), pack(np.ones((1, 3), bool)), {"a": 0})


def test_what_is_canonical_stays_so():
    """Forms that became shorter only at the second rewriting."""
    for text in (
        'q OR (b AND a) OR NOT "b" OR NOT q',
        "a OR (b AND q AND NOT q) OR NOT b OR NOT a",
        "(a OR NOT (b AND c) OR NOT (c OR d)) AND NOT (a AND NOT (a OR (b AND d)))",
    ):
        once = canonical(parse_formula(text))
        assert canonical(once) == once == parse_formula(str(once))


@pytest.mark.parametrize("text", ["NOT " * 4000 + "a", "(" * 4000 + "a" + ")" * 4000])
def test_formulas_too_deep_to_follow_are_refused(text):
    with pytest.raises(InputError, match="brackets"):
        parse_formula(text)
