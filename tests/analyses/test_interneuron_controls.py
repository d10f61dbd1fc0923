import numpy as np
import pytest
import xarray as xr
from scipy.stats import false_discovery_control, wilcoxon

from retinacodec.analyses import (
    LinearFilter,
    channel_activations,
    compare_interneurons,
    match_interneurons,
    untrained_like,
)
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.models import CircuitRetina, DeepRetina, LinearNonlinear
from retinacodec.schema import make_stimulus

SIZE = (12, 12)


@pytest.fixture(scope="module")
def scene():
    """A movie, noisy traces of a retina's own interneurons, and the retina."""
    rng = np.random.default_rng(5)
    frames = rng.normal(0, 0.5, (600, 6, 6)).repeat(2, 1).repeat(2, 2)
    movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    retina = CircuitRetina(SIZE, cells=1, spacing_um=100.0)
    truth = retina.interneuron_traces(movie, every=12).release.isel(y=0, x=0, drop=True)
    noise = rng.normal(size=truth.shape) * truth.std("time").values
    return movie, (truth + 0.5 * noise).drop_vars("pathway"), Circuit(retina, ["interneurons"])


@pytest.fixture(scope="module")
def network():
    model = DeepRetina(1, size=SIZE, history=24, channels=(4, 4), kernels=(5, 3))
    return Circuit(model, ["relu1", "relu2"])


def test_each_model_is_scored_as_it_would_be_alone(scene, network):
    movie, traces, own = scene
    both = [untrained_like(network, seed) for seed in (1, 2)]
    found = compare_interneurons(traces, {"own": own, "untrained": both}, movie, linear=None)
    alone = match_interneurons(traces, channel_activations(own, movie))
    for name in ("correlation", "low", "high", "p_value", "selected"):
        expected = alone[name]
        np.testing.assert_allclose(found[name].sel(model="own", layer="interneurons"), expected)
        np.testing.assert_allclose(found[name].sel(model="own", layer="any"), expected)
    each = [match_interneurons(traces, channel_activations(one, movie, ["relu1", "relu2"]))
            for one in both]  # fmt: skip
    one = found.sel(model="untrained")
    for layer in ("relu1", "relu2"):
        r = np.stack([single.correlation.sel(layer=layer) for single in each])
        np.testing.assert_allclose(one.correlation.sel(layer=layer), r.mean(0), atol=1e-6)
        np.testing.assert_allclose(one.spread.sel(layer=layer), r.std(0, ddof=1), atol=1e-6)
    pooled = np.mean([single.correlation_any for single in each], axis=0)
    np.testing.assert_allclose(one.correlation.sel(layer="any"), pooled, atol=1e-6)
    assert found.networks.values.tolist() == [1, 2]
    assert np.isnan(found.correlation.sel(model="own", layer="relu1")).all()
    apart = found.correlation.sel(layer="any", model="own") - one.correlation.sel(layer="any")
    np.testing.assert_allclose(one.difference.sel(layer="any"), apart, atol=1e-6)
    assert (apart > 0.2).all()


def test_differences_are_tested_over_traces(scene, network):
    movie, traces, own = scene
    found = compare_interneurons(
        traces, {"own": own, "untrained": untrained_like(network)}, movie,
        linear=LinearFilter(window=4, history=12),
    )  # fmt: skip
    p = found.wilcoxon_p.sel(layer="any").values
    assert np.isnan(p[0])
    for k in (1, 2):
        assert p[k] == wilcoxon(found.difference[k].sel(layer="any")).pvalue
    known = np.isfinite(found.wilcoxon_p.values)
    q = false_discovery_control(found.wilcoxon_p.values[known])
    np.testing.assert_allclose(found.wilcoxon_q.values[known], q)
    assert (
        (found.difference_low[1:] <= found.difference_high[1:])
        .where(found.difference[1:].notnull(), True)
        .all()
    )
    linear = found.sel(model="linear filter")
    np.testing.assert_array_equal(
        linear.correlation.sel(layer="any"), linear.correlation.sel(layer="interneurons")
    )


def test_a_linear_cell_is_explained_by_the_filter_and_a_squaring_one_is_not(scene):
    movie, _, own = scene
    pixel = movie.contrast.values[:, 4, 4].astype(float)
    drive = np.convolve(pixel, [0, 0, 1, 2, 1], "full")[: pixel.size]
    values = np.stack([drive - 60, drive**2, np.zeros_like(drive)], axis=1)
    values[200:240, 0] = np.nan
    traces = xr.DataArray(
        values, dims=("time", "cell"), coords={"time": movie.time, "cell": ["a", "b", "flat"]}
    )
    found = compare_interneurons(
        traces, {"own": own}, movie, linear=LinearFilter(window=4, history=8)
    ).sel(model="linear filter", layer="any")
    assert float(found.correlation[0]) > 0.97
    assert float(found.p_value[0]) < 0.01
    assert abs(float(found.correlation[1])) < 0.2
    assert np.isnan(found.correlation[2])


def test_a_circuit_without_layers_is_matched_by_its_outputs(scene):
    movie, traces, own = scene
    ln = Circuit(LinearNonlinear(2, size=SIZE, history=24), [])
    found = compare_interneurons(traces, {"own": own, "LN": ln}, movie, linear=None)
    assert found.layer.values.tolist() == ["interneurons", "output", "any"]
    np.testing.assert_allclose(
        found.correlation.sel(model="LN", layer="output"),
        found.correlation.sel(model="LN", layer="any"),
    )


def test_wrong_calls_are_explained(scene):
    movie, traces, own = scene
    with pytest.raises(InputError, match="a model or more"):
        compare_interneurons(traces, {}, movie)
    with pytest.raises(InputError, match="empty sequence"):
        compare_interneurons(traces, {"a": own, "b": []}, movie)
    with pytest.raises(InputError, match="name of the control"):
        compare_interneurons(traces, {"linear filter": own}, movie)
    with pytest.raises(InputError, match="norm9"):
        compare_interneurons(traces, {"a": own}, movie, layers=["norm9"])


def test_a_trace_that_was_never_sampled_is_nan_everywhere(scene):
    movie, traces, own = scene
    gone = traces.isel(type=[0, 1]).copy()
    gone[:, 1] = np.nan
    found = compare_interneurons(
        gone, {"own": own}, movie, linear=LinearFilter(window=2, history=4)
    ).sel(layer="any")
    assert np.isfinite(found.correlation[:, 0]).all()
    for name in ("correlation", "low", "p_value", "p_family", "q_value", "difference"):
        assert np.isnan(found[name][:, 1]).all()
    with pytest.raises(InputError, match=r"linear filter: (.|\n)*linear=None"):
        compare_interneurons(gone[:90], {"own": own}, movie)
