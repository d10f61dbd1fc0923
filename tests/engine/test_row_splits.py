"""Parts of a table share no rows, keep their distance, and cover what they should."""

from __future__ import annotations

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.row_splits import RandomRows, TimeBlocks


def _distance(one, other):
    return int(np.abs(one[:, None] - other[None]).min())


def test_held_out_blocks_are_contiguous_and_keep_their_distance():
    fitted, held = TimeBlocks(gap=30).split(2000)
    assert len(held) == 400
    assert len(np.flatnonzero(np.diff(held) > 1)) == 3
    assert _distance(fitted, held) == 31
    assert len(fitted) == 2000 - 400 - 8 * 30


def test_a_gap_as_long_as_blocks_leaves_rows_to_fit():
    fitted, held = TimeBlocks(gap=1000).split(100)
    assert len(fitted) >= 40
    assert len(held) == 20


@pytest.mark.parametrize("rows", [200, 3000])
def test_halves_are_alike_in_size_and_keep_their_distance(rows):
    one, other = TimeBlocks(gap=40).halves(rows)
    assert _distance(one, other) > min(40, rows // 8)
    assert 0.5 < len(one) / len(other) < 1.2
    assert len(one) + len(other) > 0.7 * rows


@pytest.mark.parametrize("rows", [400, 433, 800, 1000, 1599])
def test_short_movies_get_fewer_blocks_rather_than_a_smaller_gap(rows):
    fitted, held = TimeBlocks(gap=40).split(rows)
    assert _distance(fitted, held) == 41
    assert rows / 8 < len(held) < rows / 3.9
    assert len(fitted) > rows / 2
    train, chosen, scored = TimeBlocks(gap=40, every=5).thirds(rows)
    parts = [(train, chosen), (train, scored), (chosen, scored)]
    assert min(_distance(one, other) for one, other in parts) == 41


def test_three_parts_keep_their_distance():
    train, chosen, scored = TimeBlocks(gap=25, every=10).thirds(1000)
    for one, other in [(train, chosen), (train, scored), (chosen, scored)]:
        assert _distance(one, other) >= 26
    assert len(chosen) == len(scored) == 100
    assert len(train) > 600


def test_random_rows_share_nothing_and_cover_everything():
    method = RandomRows(every=4, seed=3)
    for parts in (method.split(83), method.halves(83), method.thirds(83)):
        assert sorted(np.concatenate(parts)) == list(range(83))
    assert [len(part) for part in method.thirds(83)] == [43, 20, 20]
    np.testing.assert_array_equal(method.split(83)[1], RandomRows(every=4, seed=3).split(83)[1])
    assert (method.split(83)[1] != RandomRows(every=4, seed=4).split(83)[1]).any()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TimeBlocks().split(7), "at least 20 rows, got 7"),
        (lambda: RandomRows().split(3), "at least 5 rows, got 3"),
        (lambda: TimeBlocks(gap=-1, every=1), "gap must .* -1.*every must .* 1"),
        (lambda: TimeBlocks(blocks=3), "blocks must be at least every"),
        (lambda: TimeBlocks(every=2).thirds(100), "every of at least 3"),
        (lambda: RandomRows(every=1), "every must"),
        (lambda: RandomRows(every=2).thirds(10), "every of at least 3"),
    ],
)
def test_what_cannot_be_split_is_refused(make, match):
    with pytest.raises(InputError, match=match):
        make()
