"""Discoveries among sets of modes: planted ones found both ways, few false ones; the figure."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from retinacodec.analyses.combination_figure import draw_combination_table
from retinacodec.analyses.combinations import combination_table
from retinacodec.errors import InputError


def _boxcars(random, frames, modes, rate=0.15, length=6):
    start = random.random((frames, modes)) < rate / length
    return np.apply_along_axis(lambda c: np.convolve(c, np.ones(length))[:frames] > 0, 0, start)


def _loading(on, **coords):
    return xr.DataArray(on.astype(float), dims=("time", "mode"), coords=coords)


@pytest.fixture(scope="module")
def table():
    """Modes 4 and 5 go together, 7 and 9 exclude each other, 11 is independent."""
    on = _boxcars(np.random.default_rng(2), 5000, 5, rate=0.25)
    on[:, 1] = on[:, 0]
    on[:, 3] &= ~on[:, 2]
    on[:3, 2] = on[:3, 3] = True
    return combination_table(_loading(on, mode=[4, 5, 7, 9, 11]), shifts=999, seed=1)


def test_sets_that_go_together_and_apart_are_discovered(table):
    assert bool(table["more"].sel(set="4+5"))
    assert not bool(table["more"].sel(set="11"))
    assert float(table["q_more"].sel(set="4+5")) < 0.05 < float(table["q_less"].sel(set="4+5"))
    both = np.r_[table["p_more"], table["p_less"]]
    expected = stats.false_discovery_control(both)
    np.testing.assert_allclose(np.r_[table["q_more"], table["q_less"]], expected)
    np.testing.assert_array_equal(np.r_[table["more"], table["less"]], expected <= 0.05)


def test_a_set_that_is_avoided_is_called_less():
    on = _boxcars(np.random.default_rng(3), 6000, 2, rate=0.4)
    both = on.all(axis=1)
    on[both & (np.arange(6000) % 10 > 0), 1] = False
    found = combination_table(_loading(on), shifts=999)
    assert bool(found["less"].sel(set="0+1"))
    assert float(found["null_low"].sel(set="0+1")) > float(found["frames"].sel(set="0+1"))


def test_members_and_interval(table):
    names = table["mode"].values.astype(str)
    for name in table["set"].values:
        assert "+".join(names[table["member"].sel(set=name).values]) == name
    inside = (table["null_low"] <= table["null_mean"]) & (table["null_mean"] <= table["null_high"])
    assert bool(inside.all())


def test_independent_modes_give_few_discoveries():
    random = np.random.default_rng(4)
    called = []
    for seed in range(30):
        found = combination_table(_loading(_boxcars(random, 1500, 4)), shifts=400, seed=seed)
        called.append(bool((found["more"] | found["less"]).any()))
    assert np.mean(called) <= 0.2


def test_figure_shows_every_set_and_its_members(table):
    drawing, (above, below) = plt.subplots(2, 1)
    assert draw_combination_table(table, above, members=below) is above
    dots = np.concatenate([dots.get_offsets() for dots in above.collections[1:]])
    dots = dots[np.argsort(dots[:, 0])]
    np.testing.assert_array_equal(dots[:, 1], table["frames"])
    used = table["mode"].values[table["member"].any("set")]
    assert [label.get_text() for label in below.get_yticklabels()] == used.astype(str).tolist()
    assert len(below.collections[1].get_offsets()) == int(table["member"].sum())
    plt.close(drawing)
    drawing, axis = plt.subplots()
    draw_combination_table(table, axis, most=3)
    labels = [label.get_text().replace(" ", "") for label in axis.get_xticklabels()]
    assert labels == table["set"].values[:3].tolist()
    with pytest.raises(InputError, match="no set"):
        draw_combination_table(table, axis, most=0)
    plt.close(drawing)
