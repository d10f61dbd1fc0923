import numpy as np
import pytest
import torch
import xarray as xr

from retinacodec.analyses.interneurons import (
    channel_activations,
    draw_interneuron_matches,
    match_interneurons,
)
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.models import CircuitRetina, ToyCircuit
from retinacodec.schema import make_stimulus

TIME = np.arange(400) / 60


def smooth(rng, *shape):
    """Noise with a memory of a few frames."""
    raw = rng.normal(size=(400, *shape))
    return np.apply_along_axis(lambda v: np.convolve(v, np.ones(6) / 6, "same"), 0, raw)


def planted(noise=1.0, seed=0):
    """Two traces that are noisy copies of units (1, 2, 3) and (2, 0, 1), and one of nothing."""
    rng = np.random.default_rng(seed)
    units = smooth(rng, 3, 4, 5)
    traces = np.stack([units[:, 1, 2, 3], units[:, 2, 0, 1], np.zeros(400)], axis=1)
    traces += noise * traces.std(axis=0).max() * smooth(rng, 3) / smooth(rng, 3).std()
    activations = xr.DataArray(units, dims=("time", "channel", "y", "x"), coords={"time": TIME})
    trace = xr.DataArray(
        traces, dims=("time", "type"), coords={"time": TIME, "type": ["a", "b", "nothing"]}
    )
    return trace, activations


def test_planted_units_are_found_and_an_unrelated_trace_is_not():
    trace, activations = planted()
    found = match_interneurons(trace, activations, null_shifts=99, seed=1)
    assert found.best_channel.values.tolist()[:2] == [1, 2]
    assert found.best_row.values.tolist()[:2] == [2, 0]
    assert found.best_column.values.tolist()[:2] == [3, 1]
    np.testing.assert_allclose(found.correlation[:2], 1 / np.sqrt(2), atol=0.12)
    assert np.all(found.p_value[:2] == 0.01)
    assert found.p_value[2] > 0.05


def test_held_out_scores_of_nothing_are_not_inflated_but_selected_ones_are():
    rng = np.random.default_rng(3)
    units = xr.DataArray(
        smooth(rng, 4, 10, 10), dims=("time", "channel", "y", "x"), coords={"time": TIME}
    )
    traces = xr.DataArray(smooth(rng, 40), dims=("time", "cell"), coords={"time": TIME})
    found = match_interneurons(traces, units, null_shifts=39, seed=0)
    assert found.selected.mean() > 0.35
    assert abs(float(found.correlation.mean())) < 0.06
    assert (found.p_value <= 0.05).mean() < 0.2


def test_scores_are_plain_correlations_of_the_chosen_unit():
    trace, activations = planted()
    found = match_interneurons(trace, activations, null_shifts=1)
    a, u = trace.values[:, 0], activations.values.reshape(400, -1)
    r = [[np.corrcoef(a[h], unit)[0, 1] for unit in u[h].T] for h in (np.s_[:200], np.s_[200:])]
    r = np.array(r)
    expected = (r[1, r[0].argmax()] + r[0, r[1].argmax()]) / 2
    assert float(found.correlation[0]) == pytest.approx(expected, abs=1e-5)
    assert float(found.selected[0]) == pytest.approx(r.max(1).mean(), abs=1e-5)
    one = r.reshape(2, 3, 20)[:, 1]
    held = (one[1, one[0].argmax()] + one[0, one[1].argmax()]) / 2
    assert float(found.channel_correlation[0, 1]) == pytest.approx(held, abs=1e-5)


def test_null_is_the_same_computation_on_shifted_traces():
    trace, activations = planted()
    found = match_interneurons(trace, activations, null_shifts=7, seed=4)
    shift = int(np.random.default_rng(4).integers(20, 380, 7)[5])
    again = match_interneurons(
        trace.copy(data=np.roll(trace.values, shift, axis=0)), activations, null_shifts=1
    )
    np.testing.assert_allclose(found.null[5], again.correlation, atol=1e-6)


def test_dims_of_the_traces_stay_and_time_is_aligned():
    trace, activations = planted()
    grid = xr.concat([trace, trace], dim=xr.DataArray([0.0, 50.0], dims="y", name="y"))
    grid = grid.transpose("time", "type", "y")
    found = match_interneurons(grid, activations.isel(time=slice(30, None)), null_shifts=3)
    assert found.correlation.dims == ("type", "y")
    assert found.null.dims == ("shift", "type", "y")
    plain = match_interneurons(trace.isel(time=slice(30, None)), activations, null_shifts=3)
    np.testing.assert_allclose(found.correlation[:, 1], plain.correlation, atol=1e-6)


def test_silent_units_are_never_chosen_and_a_silent_trace_is_nan():
    trace, activations = planted()
    activations[:, 0] = 7.0
    activations[:200, 1, 0] = 0.0
    trace[:, 1] = -3.0
    found = match_interneurons(trace, activations, null_shifts=5)
    assert found.best_channel[0] == 1
    assert np.isnan(found.channel_correlation[0, 0])
    assert np.isnan(found.correlation[1])
    assert np.isnan(found.p_value[1])
    assert found.best_channel[1] == -1
    with pytest.raises(InputError, match="no unit varies"):
        match_interneurons(trace, activations * 0, null_shifts=5)


def test_wrong_inputs_are_explained():
    trace, activations = planted()
    with pytest.raises(InputError, match="common moments"):
        match_interneurons(trace.assign_coords(time=TIME + 100), activations)
    with pytest.raises(InputError, match="traces: a value is NaN"):
        match_interneurons(trace.where(TIME[:, None] > 1), activations)
    with pytest.raises(InputError, match=r"activations: expected .*null_shifts"):
        match_interneurons(trace, activations.transpose("channel", ...), null_shifts=0)


def test_activations_of_a_layer_are_what_the_module_put_out():
    movie = make_stimulus(
        np.random.default_rng(0).normal(size=(40, 3, 3)), frame_rate=60, pixel_um=50, name="noise"
    )
    toy = ToyCircuit()
    circuit = Circuit(toy, ["relu1"])
    found = channel_activations(circuit, movie, batch=7)
    x = circuit.windows(torch.from_numpy(movie.contrast.values))
    np.testing.assert_allclose(found, toy.relu1(toy.conv1(x)), atol=1e-6)
    assert float(found.time[0]) == pytest.approx(2 / 60)
    assert channel_activations(circuit, movie, "relu2").sizes["channel"] == 2
    with pytest.raises(InputError, match="over budget_gb"):
        channel_activations(circuit, movie, budget_gb=1e-9)


def test_a_retina_matches_its_own_interneurons_at_their_own_places():
    frames = np.random.default_rng(5).normal(0, 0.5, (150, 8, 8)).repeat(2, 1).repeat(2, 2)
    movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    retina = CircuitRetina((16, 16), cells=1, spacing_um=100.0)
    traces = retina.interneuron_traces(movie, every=8).isel(y=0, x=0)
    own = channel_activations(Circuit(retina, ["interneurons"]), movie)
    found = match_interneurons(traces.release, own, null_shifts=20)
    assert found.best_channel.values.tolist() == list(range(7))
    np.testing.assert_allclose(found.correlation, 1.0, atol=1e-5)
    assert set(zip(found.best_row.values, found.best_column.values, strict=True)) == {(4, 4)}


def test_drawing_marks_each_interneuron():
    from matplotlib.figure import Figure

    trace, activations = planted()
    found = match_interneurons(trace, activations, null_shifts=50)
    ax = draw_interneuron_matches(found, Figure().add_subplot())
    drawn = np.concatenate([points.get_offsets() for points in ax.collections[1:]])
    np.testing.assert_allclose(sorted(drawn[:, 0]), sorted(found.correlation.values), atol=1e-6)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b", "nothing"]
