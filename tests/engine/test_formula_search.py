"""The beam search against one written out on booleans, and against all formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from retinacodec.bitsets import pack
from retinacodec.errors import InputError
from retinacodec.formula_search import search_formulas
from retinacodec.formulas import evaluate, leaves
from retinacodec.overlaps import F1, IOU, PRECISION, RECALL, Overlap


def written_out(mask, concepts, length, beam, penalty, rule, may, add):
    """Beam search on booleans: all candidates in a list, sorted, equal ones dropped."""

    def entry(chain, where):
        both = int((where & mask).sum())
        score = float(rule(both, where.sum(), mask.sum())) * penalty ** (len(chain) - 1)
        return -score, len(chain), chain, where, both

    def best(entries):
        kept, seen = [], set()
        for one in sorted((e for e in entries if e[4]), key=lambda e: e[:2]):
            if one[3].tobytes() not in seen:
                seen.add(one[3].tobytes())
                kept.append(one)
        return kept[:beam]

    kept = best([entry(((0, p),), concepts[p]) for p in np.flatnonzero(may)])
    tops = [kept[0]] if kept else [None]
    for _ in range(length - 1):
        made = list(kept)
        for _, size, chain, where, _ in kept:
            for p in np.flatnonzero(add) if size < length else ():
                ways = (where & concepts[p], where | concepts[p], where & ~concepts[p])
                made += [entry((*chain, (op, p)), way) for op, way in enumerate(ways)]
        kept = best(made)
        tops.append(kept[0] if kept else None)
    return tops


@pytest.mark.parametrize("rule", [IOU, F1, PRECISION, RECALL, Overlap(2.0, 0.3)])
@pytest.mark.parametrize("penalty", [1.0, 0.9])
def test_search_is_the_one_written_out(rule, penalty):
    rng = np.random.default_rng(0)
    concepts = rng.random((9, 333)) < rng.uniform(0.02, 0.6, (9, 1))
    concepts[8] = concepts[3]
    masks = rng.random((12, 333)) < 0.2
    masks[0] = concepts[0] & ~concepts[1] | concepts[2]
    masks[1] = False
    may = rng.random((12, 9)) < 0.9
    found = search_formulas(
        pack(masks), pack(concepts), length=4, beam=3, penalty=penalty, score=rule, allowed=may
    )
    for m in range(12):
        tops = written_out(masks[m], concepts, 4, 3, penalty, rule, may[m], may[m])
        for step, top in enumerate(tops):
            if top is None:
                assert found.score[m, step] == 0
                assert found.formula(m, step + 1, list("abcdefghi")) is None
                continue
            assert found.score[m, step] == pytest.approx(-top[0], abs=1e-12)
            chain = [int(row) for row in found.concept[m, step] if row >= 0]
            assert chain == [p for _, p in top[2]]
            assert found.op[m, step, 1 : len(chain)].tolist() == [op for op, _ in top[2][1:]]
            names = list("abcdefghi")
            formula = found.formula(m, step + 1, names)
            where = evaluate(formula, dict(zip(names, concepts, strict=True)))
            np.testing.assert_array_equal(where, top[3])
            assert leaves(formula) == len(chain)


def test_candidates_limit_what_is_added():
    rng = np.random.default_rng(1)
    concepts, masks = rng.random((8, 200)) < 0.4, rng.random((5, 200)) < 0.3
    found = search_formulas(pack(masks), pack(concepts), length=3, candidates=2)
    for m in range(5):
        alone = IOU((masks[m] & concepts).sum(1), concepts.sum(1), masks[m].sum())
        add = np.isin(np.arange(8), np.argsort(-alone, kind="stable")[:2])
        top = written_out(masks[m], concepts, 3, 5, 1.0, IOU, np.ones(8, bool), add)[-1]
        assert found.score[m, -1] == pytest.approx(-top[0], abs=1e-12)


def test_wide_beam_finds_the_best_of_all_chains():
    rng = np.random.default_rng(2)
    concepts = rng.random((5, 150)) < 0.4
    masks = rng.random((6, 150)) < 0.3
    found = search_formulas(pack(masks), pack(concepts), length=3, beam=400)
    every = dict.fromkeys(range(6), 0.0)
    for a, b, c in itertools.product(range(5), repeat=3):
        one, two, three = concepts[[a, b, c]]
        firsts = (one & two, one | two, one & ~two)
        for first in (one, *firsts):
            for where in (first, first & three, first | three, first & ~three):
                for m in range(6):
                    iou = (masks[m] & where).sum() / (masks[m] | where).sum()
                    every[m] = max(every[m], iou)
    np.testing.assert_allclose(found.score[:, -1], list(every.values()), atol=1e-12)


def test_threads_and_order_of_masks_change_nothing():
    rng = np.random.default_rng(3)
    concepts, masks = pack(rng.random((20, 500)) < 0.2), rng.random((31, 500)) < 0.1
    one = search_formulas(pack(masks), concepts, length=3)
    two = search_formulas(pack(masks), concepts, length=3, threads=3)
    back = search_formulas(pack(masks[::-1].copy()), concepts, length=3)
    for name in ("concept", "op", "score"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(back, name)[::-1])


def test_planted_formula_is_found_exactly():
    rng = np.random.default_rng(4)
    concepts = rng.random((30, 5000)) < 0.15
    mask = (concepts[4] | concepts[7]) & ~concepts[11]
    found = search_formulas(pack(mask[None]), pack(concepts), length=3)
    names = [f"c{k}" for k in range(30)]
    assert found.score[0, -1] == 1
    assert str(found.formula(0, 3, names)) in {"(c4 OR c7) AND NOT c11", "(c7 OR c4) AND NOT c11"}
    assert (np.diff(found.score[0]) >= 0).all()


def test_overlap_is_what_scikit_learn_says():
    rng = np.random.default_rng(5)
    true, guess = rng.random(400) < 0.3, rng.random(400) < 0.5
    counts = ((true & guess).sum(), guess.sum(), true.sum())
    library = {IOU: jaccard_score, F1: f1_score, PRECISION: precision_score, RECALL: recall_score}
    for rule, theirs in library.items():
        assert float(rule(*counts)) == pytest.approx(theirs(true, guess), abs=1e-12)
    assert float(IOU(0, 0, 0)) == 0
    with pytest.raises(InputError, match="prices"):
        Overlap(-1.0)


def test_bad_calls_are_named_together():
    sets = pack(np.ones((2, 10), bool))
    with pytest.raises(InputError, match=r"length: .*beam: .*penalty: "):
        search_formulas(sets, sets, length=0, beam=0, penalty=2.0)
    with pytest.raises(InputError, match="differ in length"):
        search_formulas(sets, pack(np.ones((2, 11), bool)))
    with pytest.raises(InputError, match="no concepts"):
        search_formulas(sets, pack(np.ones((0, 10), bool)))
