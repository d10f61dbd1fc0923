"""Moments of windows against the windows themselves, gathered one by one."""

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.lagged_products import filtered, whole_windows, window_moments


def _data(frames=400, seed=0):
    rng = np.random.default_rng(seed)
    contrast = rng.choice([-1.0, 0.0, 1.0], (frames, 3, 4)).astype(np.float32)
    used = rng.uniform(size=frames) > 0.3
    used[100:200] = True
    return contrast, rng.poisson(1.0, (frames, 2)).astype(float), used


def _windows(contrast, rows, history, latency):
    reach = np.arange(1 - history, 1) - latency
    return contrast[rows[:, None] + reach].reshape(rows.size, -1).astype(float)


@pytest.mark.parametrize(("history", "latency"), [(1, 0), (1, 2), (2, 0), (5, 0), (5, 3)])
def test_moments_are_those_of_the_design_matrix(history, latency):
    contrast, rates, used = _data()
    found = window_moments(contrast, rates, used, history=history, latency=latency, chunk=64)
    rows = np.flatnonzero(whole_windows(used, history, latency))
    design, seen = _windows(contrast, rows, history, latency), rates[rows]
    assert found.frames == rows.size
    np.testing.assert_allclose(found.second, design.T @ design, atol=1e-9)
    np.testing.assert_allclose(found.cross, design.T @ seen, atol=1e-4)
    np.testing.assert_allclose(found.total, design.sum(axis=0), atol=1e-5)
    centred = found.centred()
    about = design - design.mean(axis=0)
    np.testing.assert_allclose(centred.second, about.T @ about, atol=1e-4)
    np.testing.assert_allclose(centred.cross, about.T @ (seen - seen.mean(axis=0)), atol=1e-3)
    np.testing.assert_allclose(centred.power, seen.var(axis=0) * rows.size)


def test_moments_of_parts_add_up_to_those_of_the_whole():
    contrast, rates, used = _data()
    even = np.arange(len(used)) % 2 == 0
    parts = [window_moments(contrast, rates, used & part, history=4) for part in (even, ~even)]
    whole = window_moments(contrast, rates, used, history=4)
    both = parts[0] + parts[1]
    for name in ("frames", "total", "second", "cross", "response", "power"):
        np.testing.assert_allclose(getattr(both, name), getattr(whole, name), atol=1e-4)


@pytest.mark.parametrize(("history", "latency", "chunk"), [(1, 0, 4096), (5, 0, 7), (5, 3, 64)])
def test_filter_output_is_the_product_with_each_window(history, latency, chunk):
    contrast, _, _ = _data()
    fields = np.random.default_rng(1).normal(size=(2, history, 3, 4))
    found = filtered(contrast, fields, latency=latency, chunk=chunk)
    first = history - 1 + latency
    rows = np.arange(first, len(contrast))
    expected = _windows(contrast, rows, history, latency) @ fields.reshape(2, -1).T
    np.testing.assert_allclose(found[first:], expected, atol=1e-5)
    assert np.isnan(found[:first]).all()


def test_bad_calls_are_refused_in_words():
    contrast, rates, used = _data()
    with pytest.raises(InputError, match=r"responses.*used.*history.*latency"):
        window_moments(contrast, rates[:5], used[:5], history=0, latency=-1)
    rates[150] = np.nan
    with pytest.raises(InputError, match="not finite"):
        window_moments(contrast, rates, used, history=3)
    with pytest.raises(InputError, match="expected filters"):
        filtered(contrast, np.zeros((1, 3, 4, 4)))
