"""Packed sets against booleans and scikit-learn's confusion matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from retinacodec.bitsets import Bitsets, count_and, count_and_not, count_or, pack
from retinacodec.errors import InputError


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_counts_are_those_of_booleans(positions, rows, seed):
    rng = np.random.default_rng(seed)
    one, other = rng.random((rows, positions)) < 0.4, rng.random((3, positions)) < 0.6
    a, b = pack(one), pack(other)
    assert a.words.shape == (rows, -(-positions // 64))
    np.testing.assert_array_equal(a.unpack(), one)
    np.testing.assert_array_equal(a.sizes(), one.sum(1))
    np.testing.assert_array_equal(a.complement().unpack(), ~one)
    np.testing.assert_array_equal(a.complement().sizes(), (~one).sum(1))
    pairs = (one[:, None], other[None])
    np.testing.assert_array_equal(count_and(a, b), (pairs[0] & pairs[1]).sum(-1))
    np.testing.assert_array_equal(count_or(a, b, threads=2), (pairs[0] | pairs[1]).sum(-1))
    np.testing.assert_array_equal(count_and_not(a, b), (pairs[0] & ~pairs[1]).sum(-1))


def test_counts_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    one, other = rng.random((40, 1000)) < 0.1, rng.random((70, 1000)) < 0.5
    counts = count_and(pack(one), pack(other), threads=3)
    for i, j in ((0, 0), (39, 69), (7, 33), (20, 31)):
        assert counts[i, j] == confusion_matrix(one[i], other[j])[1, 1]


def test_what_is_no_set_is_refused():
    with pytest.raises(InputError, match="threshold"):
        pack(np.zeros((2, 3)))
    with pytest.raises(InputError, match="shape"):
        pack(np.zeros((2, 0), bool))
    with pytest.raises(InputError, match="same positions"):
        count_and(pack(np.ones((1, 64), bool)), pack(np.ones((1, 65), bool)))
    assert len(Bitsets(np.zeros((0, 1), np.uint64), 3)) == 0
