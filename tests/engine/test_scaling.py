"""Scales: one number or one for each row, known again, and what they bring back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retinacodec.errors import InputError
from retinacodec.scaling import BalancedRows, OneScale, Scale, unpack_scale

SCALINGS = [OneScale(), BalancedRows(), BalancedRows(power=1.0, least=0.2)]


@pytest.fixture(scope="module")
def table():
    random = np.random.default_rng(0)
    return random.gamma(1, 1, (500, 7)) * random.pareto(1.5, (500, 1)) + 3.0


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaled_rows_times_their_weight_are_the_rows(table, scaling):
    scale = scaling.of(table)
    scaled, weight = scale.divide(table)
    np.testing.assert_allclose(scale.deviation * weight * scaled, table, rtol=1e-5)
    assert scaled.std(dtype=np.float64) == pytest.approx(1, rel=1e-5)
    assert weight.shape == (500, 1)
    part, _ = scale.divide(table[100:110])
    np.testing.assert_array_equal(part, scaled[100:110])


def test_one_scale_is_the_standard_deviation_of_the_table(table):
    assert OneScale().of(table) == Scale(pytest.approx(table.std(), rel=1e-12))
    assert OneScale().of(1e8 + table).deviation == pytest.approx(table.std(), rel=1e-6)


def test_balanced_rows_have_norms_to_the_power_that_is_left(table):
    norm = np.linalg.norm(table, axis=1)
    for power in (0.0, 0.5, 1.0):
        scaled, _ = BalancedRows(power, least=1e-6).of(table).divide(table)
        slope = np.polyfit(np.log(norm), np.log(np.linalg.norm(scaled, axis=1)), 1)[0]
        assert slope == pytest.approx(1 - power, abs=1e-4)


def test_silent_rows_are_not_blown_up(table):
    quiet = np.concatenate([table, np.full((1, 7), 1e-9)])
    scaled, weight = BalancedRows(1.0, least=0.1).of(quiet).divide(quiet)
    assert np.abs(scaled[-1]).max() < 1e-7
    assert weight[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_scale_comes_back_through_json(table, scaling):
    scale = scaling.of(table)
    assert unpack_scale(json.loads(json.dumps(scale.pack()))) == scale


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_table_that_does_not_vary_has_no_deviation(scaling):
    assert scaling.of(np.zeros((5, 3))).deviation == 0
    assert scaling.of(np.full((5, 3), 0.1)).deviation == 0
    assert scaling.of(np.zeros((0, 3))).deviation == 0


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="power from 0 to 1"):
        BalancedRows(power=1.5)
    with pytest.raises(InputError, match="least share"):
        BalancedRows(least=0)
