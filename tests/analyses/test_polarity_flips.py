"""Planted flips of polarity in combinations of modes, chance, and agreement across cells."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import kstest

from retinacodec.analyses.mode_polarity import mode_polarity
from retinacodec.analyses.polarity_flips import draw_flips, polarity_flips
from retinacodec.errors import InputError
from retinacodec.plotting import figure


def _loading(rng, time=600, modes=3, stay=0.8, on=0.4):
    active = np.zeros((time, modes), dtype=bool)
    for t in range(1, time):
        again = rng.uniform(size=modes) > stay
        active[t] = np.where(again, rng.uniform(size=modes) < on, active[t - 1])
    return xr.DataArray(
        active.astype(float), dims=("time", "mode"), coords={"mode": list("pqr")[:modes]}
    )


def _fields(polarity, rate=None, spatial=None):
    time, cells = polarity.shape
    rate = np.full((time, cells), 10.0) if rate is None else rate
    spatial = polarity[:, :, None, None] * np.eye(5) if spatial is None else spatial
    return xr.Dataset(
        {
            "polarity": (("time", "cell"), polarity),
            "firing": (("time", "cell"), rate > 1),
            "rate": (("time", "cell"), rate),
            "spatial": (("time", "cell", "y", "x"), spatial),
        },
        coords={"cell": np.arange(cells), "y": np.arange(5.0), "x": np.arange(5.0)},
    )


@pytest.fixture(scope="module")
def planted():
    """Cell 0: p is OFF alone and turns ON in 80 % of its company; cell 1: OFF in 70 % always."""
    rng = np.random.default_rng(0)
    loading = _loading(rng)
    active = loading.values > 0
    alone = active[:, 0] & (active.sum(axis=1) == 1)
    company = active[:, 0] & ~alone
    first = np.where(rng.uniform(size=600) < 0.5, 1.0, -1.0)
    first = np.where(alone, -1.0, first)
    first = np.where(company, np.where(rng.uniform(size=600) < 0.8, 1.0, -1.0), first)
    second = np.where(rng.uniform(size=600) < 0.7, -1.0, 1.0)
    return _fields(np.column_stack([first, second])), loading, alone, company


def test_known_flips_are_found_and_counted(planted):
    fields, loading, alone, company = planted
    found = polarity_flips(fields, loading, null_shifts=499)
    one = found.sel(mode="p").isel(cell=0)
    assert float(one["alone"]) == alone.sum() and float(one["combined"]) == company.sum()
    assert float(one["polarity"]) == -1 and float(one["consistency"]) == 1
    expected = (fields["polarity"].values[company, 0] > 0).mean()
    assert float(one["opposite"]) == pytest.approx(expected)
    assert float(one["difference"]) == pytest.approx(expected) and expected > 0.7
    assert float(one["matched"]) == pytest.approx(expected, abs=0.05)
    assert float(one["p_value"]) == 1 / 500 and bool(one["flips"])
    assert found["flips"].values.sum() == 1
    other = found.sel(mode="p").isel(cell=1)
    assert float(other["polarity"]) == -1 and abs(float(other["difference"])) < 0.15
    assert found["pooled_p_value"].values[0] < 0.05 < found["pooled_p_value"].values[1]
    ax = draw_flips(found, figure().subplots())
    np.testing.assert_allclose(ax.images[0].get_array(), found["difference"])
    assert [text.get_text() for text in ax.texts].count("OFF") >= 2
    assert sum(text.get_fontweight() == "bold" for text in ax.texts) == 1


def test_p_values_are_uniform_without_flips_though_the_typical_polarity_is_chosen():
    rng = np.random.default_rng(1)
    p = []
    for _ in range(40):
        state = rng.uniform(size=(300, 2)) < 0.5
        for t in range(1, 300):
            state[t] = np.where(rng.uniform(size=2) < 0.7, state[t - 1], state[t])
        fields = _fields(np.where(state, 1.0, -1.0))
        seed = int(rng.integers(99))
        found = polarity_flips(fields, _loading(rng, 300), null_shifts=39, seed=seed)
        p.append(found["p_value"].values[rng.integers(3)])
        assert found["null_mean"].mean() > 0
    p = np.concatenate(p)
    p = p[np.isfinite(p)]
    assert p.size > 70
    assert kstest(p - rng.uniform(0, 1 / 40, size=p.size), "uniform").pvalue > 0.01
    assert np.mean(p <= 0.05) < 0.13


def test_at_equal_rate_a_flip_that_is_the_rates_is_none():
    """High rates are ON and come in company; at equal rate company changes nothing."""
    rng = np.random.default_rng(2)
    loading = _loading(rng, 2000)
    active = loading.values > 0
    fast = rng.uniform(size=2000) < np.where(active.sum(axis=1) > 1, 0.8, 0.2)
    polarity = np.where(fast, 1.0, -1.0)[:, None]
    rate = np.where(fast, 50.0, 5.0)[:, None] + rng.uniform(size=(2000, 1))
    found = polarity_flips(_fields(polarity, rate), loading, rate_bins=8, null_shifts=99)
    assert (found["difference"] > 0.4).all() and found["flips"].all()
    assert (abs(found["matched"]) < 0.12).all()


def test_too_few_frames_are_unknown_and_bad_calls_are_refused(planted):
    fields, loading, *_ = planted
    silent = fields.assign(firing=fields["firing"] & (fields["cell"] == 0))
    found = polarity_flips(silent, loading, null_shifts=19)
    assert np.isnan(found["difference"][:, 1]).all() and not found["flips"][:, 1].any()
    assert (found["alone"][:, 1] == 0).all() and np.isnan(found["pooled_p_value"][1])
    empty = polarity_flips(silent, 0 * loading, null_shifts=9)
    assert np.isnan(empty["p_value"]).all()
    assert "too few" in draw_flips(empty, figure().subplots()).texts[0].get_text()
    with pytest.raises(InputError, match=r"600 times.*rate_bins"):
        polarity_flips(fields, loading[:9], rate_bins=0)
    one, two = (polarity_flips(fields, loading, null_shifts=19, seed=3) for _ in range(2))
    xr.testing.assert_identical(one, two)


def _cells(rng, consistent):
    """Six cells with one map for each of three modes, the same for all cells or drawn anew."""
    loading = _loading(rng, 400)
    active = loading.values > 0
    signs, maps = np.array([1.0, -1.0, 1.0]), rng.normal(size=(3, 3, 3))
    spatial, polarity = np.zeros((400, 6, 5, 5)), np.ones((400, 6))
    for cell in range(6):
        order = np.arange(3) if consistent else rng.permutation(3)
        for mode in range(3):
            one = np.zeros((5, 5))
            one[1:4, 1:4] = signs[order[mode]] * np.abs(maps[order[mode]]) / 4
            one[2, 2] = signs[order[mode]]
            rows = active[:, mode]
            spatial[rows, cell], polarity[rows, cell] = one, signs[order[mode]]
    return _fields(polarity, spatial=spatial), loading


def test_modes_that_mean_the_same_in_every_cell_are_consistent():
    fields, loading = _cells(np.random.default_rng(3), consistent=True)
    found = mode_polarity(fields, loading, window=4, permutations=199)
    np.testing.assert_allclose(found["agreement"], 1)
    np.testing.assert_allclose(found["similarity"], 1)
    np.testing.assert_allclose(found["on_share"], [[1] * 6, [0] * 6, [1] * 6])
    assert found["pooled_agreement_p_value"] == found["pooled_similarity_p_value"] == 1 / 200
    assert found["similarity_consistent"].all()
    chance = (1 / 3) ** 6 + (2 / 3) ** 6
    np.testing.assert_allclose(found["agreement_p_value"], chance, atol=0.05)
    assert (found["agreement_null_mean"] < 0.5).all()


def test_modes_that_mean_something_else_in_every_cell_are_not():
    p = []
    for seed in range(40):
        fields, loading = _cells(np.random.default_rng(seed), consistent=False)
        found = mode_polarity(fields, loading, window=4, permutations=39, seed=seed)
        p.append(float(found["pooled_similarity_p_value"]))
    assert np.mean(np.array(p) <= 0.05) < 0.15
    assert 0.3 < np.mean(p) < 0.7


def test_one_cell_agrees_with_nobody(planted):
    fields, loading, *_ = planted
    found = mode_polarity(fields.isel(cell=[0]), loading, window=4, permutations=9)
    assert np.isnan(found["agreement"]).all() and np.isnan(found["pooled_agreement"])
    assert not found["similarity_consistent"].any()
    with pytest.raises(InputError, match=r"600 times.*window"):
        mode_polarity(fields, loading[:9], window=0)
