"""Statistics by depth: against scipy and sklearn, coverage of intervals, paired differences."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.decomposition import PCA

from retinacodec.analyses.depth_figure import draw_depth
from retinacodec.analyses.resampling import Resamples, weighted_medians
from retinacodec.analyses.statistics import (
    compare_quantities,
    layer_statistics,
    sign_correlation,
)
from retinacodec.circuit import Circuit
from retinacodec.contribute import contributions
from retinacodec.errors import InputError
from retinacodec.layer_tables import layer_table
from retinacodec.models import DeepRetina
from retinacodec.schema import make_stimulus
from retinacodec.targets import Mean

SIGNS = ["negative", "positive"]


def _split(net, extra=0.0):
    """Return (sample, sign, channel) whose sum is net, with `extra` added to both sizes."""
    return np.stack([np.minimum(net, 0) - extra, np.maximum(net, 0) + extra], axis=1)


def _tree(sample="time", **layers):
    nodes = {"/": xr.Dataset()}
    for name, quantities in layers.items():
        data = {key: ((sample, "sign", "channel"), value) for key, value in quantities.items()}
        count = len(next(iter(quantities.values())))
        coords = {"sign": SIGNS, sample: np.arange(count) / (100 if sample == "time" else 1)}
        nodes[name] = xr.Dataset(data, coords)
    return xr.DataTree.from_dict(nodes)


@pytest.fixture(scope="module")
def net():
    return np.random.default_rng(0).standard_t(3, size=(600, 12)) * 0.7 ** np.arange(12)


@pytest.fixture(scope="module")
def real():
    """Contributions, activations and gradients of a small retina with random weights."""
    frames = np.random.default_rng(1).normal(size=(120, 16, 16))
    movie = make_stimulus(frames, frame_rate=100, pixel_um=50, name="noise")
    model = DeepRetina(cells=3, size=(16, 16), history=8, channels=(4, 5), kernels=(5, 5), seed=0)
    circuit = Circuit(model, ["conv1", "conv2"], history=8)
    return contributions(circuit, movie, Mean(), activations=True, gradients=True, progress=False)


def test_medians_and_dimensions_are_those_of_scipy_and_sklearn(net):
    found = layer_statistics(_tree(conv={"contribution": _split(net)}), draws=20).isel(layer=0)
    d = net.shape[1]
    l1, l2 = np.abs(net).sum(1), np.linalg.norm(net, axis=1)
    hoyer = (np.sqrt(d) - l1 / l2) / (np.sqrt(d) - 1)
    assert float(found["hoyer"]) == pytest.approx(np.median(hoyer))
    np.testing.assert_allclose(found["hoyer_quartile"], np.quantile(hoyer, [0.25, 0.75]))
    assert float(found["kurtosis"]) == pytest.approx(np.median(stats.kurtosis(net, axis=1)))
    ratio = (net**2).sum(1) ** 2 / (net**4).sum(1)
    assert float(found["participation"]) == pytest.approx(np.median(ratio))
    explained = np.cumsum(PCA().fit(net).explained_variance_ratio_)
    assert float(found["dimensions"]) == np.argmax(explained >= 0.95) + 1
    signed = [-stats.pearsonr(*row).statistic for row in _split(net)]
    assert float(found["sign_correlation"]) == pytest.approx(np.median(signed))


def test_parts_and_units(net):
    tree = _tree(conv={"contribution": _split(net, extra=0.3)})
    scaled = _tree(conv={"contribution": 1e-9 * _split(net, extra=0.3)})
    for part in ("net", "negative", "positive", "both"):
        found, small = (layer_statistics(one, part=part, draws=5) for one in (tree, scaled))
        for name in ("hoyer", "participation", "kurtosis", "dimensions", "sign_correlation"):
            np.testing.assert_allclose(small[name], found[name], rtol=1e-9)
    rows = _split(net, extra=0.3)[:, 0]
    expected = np.median(stats.kurtosis(rows, axis=1))
    found = layer_statistics(tree, part="negative", draws=5)
    assert float(found["kurtosis"][0]) == pytest.approx(expected)
    with pytest.raises(InputError, match="part: expected"):
        layer_statistics(tree, part="half")


def test_signs_on_the_diagonal_and_on_the_axes():
    size = np.random.default_rng(2).gamma(2, size=(50, 30))
    both = np.stack([-size, 2 * size], axis=1)
    one = _split(size * np.where(np.arange(30) % 2, 1, -1))
    node = _tree(conv={"contribution": both})["conv"]
    np.testing.assert_allclose(sign_correlation(node), 1)
    found = sign_correlation(_tree(conv={"contribution": one})["conv"])
    assert found.dims == ("time",)
    assert float(found.median()) < -0.3
    positive = _tree(conv={"contribution": _split(size)})["conv"]
    assert np.isnan(sign_correlation(positive)).all()


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(3)
    deviation = np.r_[3.0, 2.5, 2.0, 1.5, 1.2, 1.0, 0.2, 0.1]
    many = random.normal(size=(200000, 8)) * deviation
    truth = layer_statistics(_tree("image", a={"contribution": _split(many)}), draws=1)
    inside = dict.fromkeys(("hoyer", "kurtosis", "dimensions"), 0)
    for seed in range(100):
        few = random.normal(size=(150, 8)) * deviation
        tree = _tree("image", a={"contribution": _split(few)})
        found = layer_statistics(tree, draws=150, seed=seed)
        for name in inside:
            low, high = float(found[f"{name}_low"][0]), float(found[f"{name}_high"][0])
            assert low <= float(found[name][0]) <= high
            inside[name] += low <= float(truth[name][0]) <= high
    assert min(inside.values()) >= 87
    assert inside["hoyer"] <= 99


def test_blocks_widen_the_interval_of_slow_series():
    random = np.random.default_rng(4)
    slow = np.repeat(random.standard_t(2, size=(40, 10)), 100, axis=0)
    tree = _tree(conv={"contribution": _split(slow)})
    short, long = (
        layer_statistics(tree, block_seconds=seconds, draws=300) for seconds in (0.01, 1.0)
    )
    width = [float(found["hoyer_high"][0] - found["hoyer_low"][0]) for found in (short, long)]
    assert width[1] > 4 * width[0]


def test_pairing_makes_differences_sure(net):
    random = np.random.default_rng(5)
    near = net * (1 + 0.02 * random.normal(size=net.shape))
    near[:, 0] *= 1.1
    tree = _tree(a={"contribution": _split(net), "activation": _split(near)})
    found = compare_quantities(tree, draws=300).isel(layer=0)
    both = [
        layer_statistics(tree, name, draws=300).isel(layer=0) for name in found["quantity"].values
    ]
    difference = float(found["difference_hoyer"].sel(other="activation"))
    assert difference == pytest.approx(float(both[0]["hoyer"] - both[1]["hoyer"]))
    width = float((found["difference_hoyer_high"] - found["difference_hoyer_low"])[0])
    alone = float(both[0]["hoyer_high"] - both[0]["hoyer_low"])
    assert width < 0.5 * alone
    for name in both[0]:
        np.testing.assert_array_equal(found[name].sel(quantity="contribution"), both[0][name])
    assert found["channels"].dims == ()
    with pytest.raises(InputError, match="two or more"):
        compare_quantities(tree, ["contribution"])


def test_dimensions_of_class_means():
    random = np.random.default_rng(6)
    labels = np.repeat(np.arange(40), 25)
    means = random.normal(size=(40, 3)) @ random.normal(size=(3, 20))
    values = means[labels] + 3 * random.normal(size=(1000, 20))
    mixed = random.permutation(1000)
    tree = _tree("image", a={"contribution": _split(values[mixed])})
    found = layer_statistics(tree, labels=labels[mixed], draws=20).isel(layer=0)
    averages = np.stack([values[labels == label].mean(0) for label in range(40)])
    explained = np.cumsum(PCA().fit(averages).explained_variance_ratio_)
    assert float(found["dimensions"]) == np.argmax(explained >= 0.95) + 1
    single = layer_statistics(tree, draws=20).isel(layer=0)
    assert float(single["dimensions"]) > float(found["dimensions"])
    assert found.attrs["dimensions_of"] == "class means"
    with pytest.raises(InputError, match="one an image"):
        layer_statistics(tree, labels=labels[:-1])
    with pytest.raises(InputError, match="only images"):
        layer_statistics(_tree(a={"contribution": _split(values)}), labels=labels)


def test_resamples_stay_in_their_class_and_medians_are_those_of_numpy():
    labels = np.array(list("bbacbacc"))
    scheme = Resamples.of(xr.DataArray(np.arange(8), dims="image"), labels, 1.0, 50, 3)
    weights = np.concatenate(list(scheme.weights()))
    assert weights.shape == (50, 8)
    for label in "abc":
        assert (weights[:, labels == label].sum(1) == (labels == label).sum()).all()
    values = np.random.default_rng(7).normal(size=8)
    values[2] = np.nan
    expected = [np.nanmedian(np.repeat(values, often)) for often in weights]
    np.testing.assert_allclose(weighted_medians(values, weights), expected)
    assert np.isnan(weighted_medians(np.full(3, np.nan), np.ones((2, 3), int))).all()


def test_silent_and_missing_samples_are_counted_and_left_out(net):
    values = _split(net)
    values[:60] = 0
    values[60:90, 0, 3] = np.nan
    found = layer_statistics(
        _tree(a={"contribution": values}, dead={"contribution": 0 * _split(net)}), draws=20
    )
    np.testing.assert_allclose(found["silent"], [0.1, 1])
    np.testing.assert_allclose(found["missing"], [0.05, 0])
    rest = layer_statistics(_tree(a={"contribution": values[90:]}), draws=20)
    assert float(found["hoyer"][0]) == float(rest["hoyer"][0])
    dead = found.isel(layer=1)
    for name in ("hoyer", "participation", "kurtosis", "sign_correlation", "dimensions"):
        assert np.isnan([dead[name], dead[f"{name}_low"], dead[f"{name}_high"]]).all()
    short = layer_statistics(_tree(a={"contribution": values[90:150]}), draws=20)
    assert np.isnan(short["hoyer_low"]).all()
    assert np.isfinite(short["hoyer"]).all()


def test_all_quantities_of_a_circuit(real):
    found = compare_quantities(real, ("contribution", "activation", "gradient"), draws=50)
    assert found["layer"].values.tolist() == ["conv1", "conv2"]
    assert found["other"].values.tolist() == ["activation", "gradient"]
    assert found["channels"].values.tolist() == [4, 5]
    assert np.isfinite(found["difference_hoyer"]).all()
    assert (found["residual"] < 1e-4).all()
    again = compare_quantities(real, ("contribution", "activation", "gradient"), draws=50)
    xr.testing.assert_identical(found, again)


def test_tables_sum_positions_and_choose_targets():
    values = np.random.default_rng(8).normal(size=(5, 2, 2, 3, 4, 4))
    dims = ("image", "target", "sign", "channel", "y", "x")
    node = xr.Dataset({"contribution": (dims, values)}, {"sign": SIGNS, "target": ["cat", "dog"]})
    table = layer_table(node, target="dog")
    assert table.dims == ("image", "sign", "channel")
    np.testing.assert_allclose(table, values[:, 1].sum((-1, -2)))
    with pytest.raises(InputError, match="choose one with target="):
        layer_table(node)
    with pytest.raises(InputError, match="activations=True"):
        layer_table(node, "activation")
    with pytest.raises(InputError, match="expected contribution over"):
        layer_table(node.expand_dims(row=2))
    with pytest.raises(InputError, match="pass one layer"):
        layer_table(xr.DataTree.from_dict({"conv": node}))


def test_figure_shows_medians_and_intervals(real):
    found = compare_quantities(real, draws=30, block_seconds=0.1)
    drawing, axis = plt.subplots()
    for name in ("hoyer", "sign_correlation", "dimensions"):
        axis.clear()
        assert draw_depth(found, axis, name=name, spread=True) is axis
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), found[name][0])
        ends = [segment[:, 1] for segment in axis.collections[0].get_segments()]
        np.testing.assert_array_equal(
            ends, np.stack([found[f"{name}_low"][0], found[f"{name}_high"][0]], -1)
        )
    draw_depth(layer_statistics(real, draws=5), axis)
    with pytest.raises(InputError, match="expected one of"):
        draw_depth(found, axis, name="channels")
    plt.close(drawing)
