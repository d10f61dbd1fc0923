"""Similarity of fields with the same modes: planted structure, null and confounds."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import kstest

from retinacodec.analyses.field_pairs import compare_fields
from retinacodec.errors import InputError


def _fields(vectors, rates, step=10):
    """Put vectors (time, cell, x) into what dynamic_fields returns."""
    frames = np.arange(len(vectors)) * step
    return xr.Dataset(
        {
            "spatial": (("time", "cell", "y", "x"), vectors[:, :, None, :]),
            "rate": (("time", "cell"), rates),
        },
        coords={"frame": ("time", frames), "cell": np.arange(vectors.shape[1])},
    )


def _slow(rng, shape, memory=0.8):
    noise = rng.normal(size=shape)
    for t in range(1, shape[0]):
        noise[t] += memory * noise[t - 1]
    return noise


def _slow_labels(rng, count, kinds=3, stay=0.8):
    labels = [0]
    for _ in range(count - 1):
        labels.append(labels[-1] if rng.uniform() < stay else int(rng.integers(kinds)))
    return np.array(["a", "b", "a+b", "c"])[labels]


def test_planted_similarity_is_recovered_in_size():
    """Field = common part + part of the set + noise, with known expected cosines."""
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "a+b"])
    labels = rng.integers(3, size=400)
    basis = np.linalg.qr(rng.normal(size=(400, 400)))[0]
    parts = np.stack([basis[0] + basis[1 + k] for k in range(3)])
    noise = rng.normal(size=(400, 2, 400)) / 20
    vectors = parts[labels][:, None] + noise
    found = compare_fields(
        _fields(vectors, np.full((400, 2), 10.0)),
        names[labels],
        history=20,
        frame_rate=60,
        null_shifts=99,
        draws=200,
    )
    power = 2 + 400 / 400
    np.testing.assert_allclose(found["same"], 2 / power, atol=0.02)
    np.testing.assert_allclose(found["different"], 1 / power, atol=0.02)
    assert (found["difference_low"] > 0.28).all() and (found["difference_high"] < 0.38).all()
    np.testing.assert_allclose(found["p_value"], 0.01)
    assert (found["effect"] > 1.5).all()


def test_p_values_are_uniform_when_fields_ignore_the_modes():
    """Fields and sets are both correlated over time but independent of each other."""
    rng = np.random.default_rng(1)
    vectors = _slow(rng, (240, 150, 8))
    found = compare_fields(
        _fields(vectors, np.full((240, 150), 10.0)),
        _slow_labels(rng, 240),
        history=100,
        frame_rate=60,
        null_shifts=99,
        draws=20,
    )
    p = found["p_value"].values
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(p <= 0.05) < 0.11
    covered = (found["difference_low"] < 0) & (found["difference_high"] > 0)
    assert float(covered.mean()) > 0.8


def test_pairs_of_neighbouring_frames_are_not_compared():
    rng = np.random.default_rng(2)
    vectors = np.repeat(rng.normal(size=(60, 4, 30)), 5, axis=0)
    labels = np.repeat(rng.choice(["a", "b"], size=60), 5)
    fields = _fields(vectors, np.full((300, 4), 10.0))
    options = {"frame_rate": 60, "null_shifts": 20, "draws": 20}
    close = compare_fields(fields, labels, history=1, **options)
    apart = compare_fields(fields, labels, history=50, **options)
    assert (close["difference"] > 0.02).all()
    assert abs(float(apart["difference"].mean())) < 0.5 * float(close["difference"].mean())


def test_equal_rates_are_compared_so_that_the_rate_alone_explains_nothing():
    """Field and set both follow the rate; at equal rate they know nothing of each other."""
    rng = np.random.default_rng(3)
    rates = rng.uniform(2, 50, size=(500, 1))
    angle = rates / 50 * np.pi / 2
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    labels = np.where(rates[:, 0] + rng.normal(0, 4, size=500) > 26, "a", "b")
    options = {"history": 20, "frame_rate": 60, "null_shifts": 20, "draws": 20}
    plain = compare_fields(_fields(vectors, rates), labels, rate_bins=1, **options)
    matched = compare_fields(_fields(vectors, rates), labels, rate_bins=10, **options)
    assert plain["difference"].item() > 0.2
    assert matched["difference"].item() < 0.02


def test_silent_frames_and_frames_without_modes_do_not_enter():
    rng = np.random.default_rng(4)
    labels = rng.choice(["a", "b"], size=300)
    sign = np.where(labels == "a", 1.0, -1.0)
    vectors = sign[:, None, None] * np.ones((300, 1, 4))
    rates = np.full((300, 1), 10.0)
    vectors[200:], rates[200:250], labels[250:] = -vectors[200:], 0.5, ""
    found = compare_fields(
        _fields(vectors, rates), labels, history=20, frame_rate=60, null_shifts=20, draws=20
    )
    assert found["same"].item() == pytest.approx(1)
    assert found["different"].item() == pytest.approx(-1)


def test_a_cell_that_cannot_be_judged_says_why_and_the_mean_goes_on():
    rng = np.random.default_rng(5)
    rates = np.full((100, 3), 10.0)
    rates[10:, 1], rates[:, 2] = 0.0, 0.0
    labels = rng.choice(["a", "b"], size=100)
    found = compare_fields(
        _fields(rng.normal(size=(100, 3, 5)), rates),
        labels,
        history=20,
        frame_rate=60,
        null_shifts=20,
        draws=20,
    )
    assert found["reason"].values.tolist()[0] == ""
    assert "10 frames" in found["reason"].values[1] and "0 frames" in found["reason"].values[2]
    assert np.isnan(found["difference"][1:]).all() and np.isnan(found["p_value"][1:]).all()
    assert found["pooled_difference"] == found["difference"][0]
    unique = np.array([str(number) for number in range(100)])
    alone = compare_fields(
        _fields(rng.normal(size=(100, 1, 5)), rates[:, :1]),
        unique,
        history=20,
        frame_rate=60,
        null_shifts=20,
        draws=20,
    )
    assert "no two frames" in alone["reason"].item()


def test_same_seed_same_result_and_bad_calls_are_refused():
    rng = np.random.default_rng(6)
    fields = _fields(rng.normal(size=(100, 1, 5)), np.full((100, 1), 10.0))
    labels = rng.choice(["a", "b"], size=100)
    options = {"history": 20, "frame_rate": 60, "null_shifts": 20, "draws": 20}
    one, two, other = (compare_fields(fields, labels, seed=seed, **options) for seed in (1, 1, 2))
    xr.testing.assert_identical(one, two)
    assert (one["null"] != other["null"]).any()
    with pytest.raises(InputError, match=r"expected 100 sets.*history"):
        compare_fields(fields, labels[:5], history=0, frame_rate=60)
