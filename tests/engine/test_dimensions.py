"""Dimensions of tables against sklearn's PCA, closed forms, and tables that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from retinacodec.dimensions import component_variances, components_for, spectral_participation
from retinacodec.errors import InputError


def _table(rows, columns, seed=0, decay=0.8):
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(rows, columns)) * decay ** np.arange(columns)
    return 7 + mixed @ np.linalg.qr(random.normal(size=(columns, columns)))[0]


@pytest.mark.parametrize("rows,columns", [(400, 16), (30, 80), (50, 50)])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
def test_count_is_that_of_sklearn(rows, columns, share):
    table = _table(rows, columns)
    explained = np.cumsum(PCA().fit(table).explained_variance_ratio_)
    assert components_for(table, share) == np.argmax(explained >= share) + 1


def test_variances_are_those_of_sklearn():
    table = _table(200, 12)
    expected = PCA().fit(table).explained_variance_
    np.testing.assert_allclose(component_variances(table), expected / expected[0], rtol=1e-9)
    ratio = expected.sum() ** 2 / (expected**2).sum()
    assert spectral_participation(table) == pytest.approx(ratio)


def test_weights_are_repeated_rows():
    table = _table(60, 8)
    weights = np.random.default_rng(1).integers(0, 4, 60)
    repeated = np.repeat(table, weights, axis=0)
    np.testing.assert_allclose(
        component_variances(table, weights=weights), component_variances(repeated), rtol=1e-9
    )
    assert components_for(table, weights=weights) == components_for(repeated)


def test_equal_variances_and_scale():
    cube = np.concatenate([np.eye(5), -np.eye(5)])
    assert spectral_participation(cube) == pytest.approx(5)
    assert components_for(cube, 0.8) == 4
    assert components_for(cube, 0.81) == 5
    assert components_for(1e-160 * cube, 1.0) == 5
    assert components_for(np.outer(np.arange(9.0), np.ones(3)), 1.0) == 1


def test_a_table_that_does_not_vary_is_nan_and_bad_ones_are_refused():
    for table in (np.zeros((4, 3)), np.full((4, 3), 0.1)):
        assert np.isnan(components_for(table))
        assert np.isnan(spectral_participation(table))
    with pytest.raises(InputError, match="1 rows hold a NaN"):
        components_for([[1.0, np.nan], [1.0, 2.0]])
    with pytest.raises(InputError, match="at least 2 rows"):
        components_for(np.ones((1, 4)))
    with pytest.raises(InputError, match=r"expected \(sample, channel\)"):
        components_for(np.ones(4))
    with pytest.raises(InputError, match="share"):
        components_for(np.eye(3), 0.0)
