import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import (
    channel_activations,
    draw_interneuron_matches,
    match_interneurons,
)
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.models import CircuitRetina
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
    found = match_interneurons(trace, activations)
    assert found.attrs["shifts"] == found.sizes["shift"] == 400 - 2 * found.attrs["least_shift"] + 1
    for place in (0, 31, 200):
        shift = int(found["shift"][place])
        again = match_interneurons(
            trace.copy(data=np.roll(trace.values, shift, axis=0)), activations, null_shifts=1
        )
        np.testing.assert_allclose(found.null[place], again.correlation, atol=2e-6)
    some = match_interneurons(trace, activations, null_shifts=3)
    np.testing.assert_array_equal(
        some["shift"], found["shift"][[0, (found.sizes["shift"] - 1) // 2, -1]]
    )
    np.testing.assert_array_equal(some.null, found.null.sel(shift=some["shift"]))


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


def test_moments_not_sampled_are_left_out_for_that_trace_only():
    trace, activations = planted()
    holes = trace.copy()
    seen = np.ones(400, bool)
    seen[30:60] = seen[250:290] = seen[395:] = False
    holes[~seen, 1] = np.nan
    holes[15:, 2] = np.nan
    found = match_interneurons(holes, activations)
    whole = match_interneurons(trace, activations)
    np.testing.assert_allclose(found.correlation[0], whole.correlation[0], atol=1e-6)
    cut = match_interneurons(trace[seen, 1:2], activations[seen])
    np.testing.assert_allclose(found.correlation[1], cut.correlation[0], atol=1e-6)
    assert found.moments.values.tolist() == [400, 325, 15]
    assert np.isnan(found.correlation[2]) and np.isnan(found.low[2]) and np.isnan(found.p_family[2])
    assert "15 moments, too few" in str(found.reason[2].item())
    assert found.reason[:2].values.tolist() == ["", ""]


def test_blocks_choose_by_the_mean_over_the_others_and_gaps_are_left_out():
    trace, activations = planted()
    found = match_interneurons(trace, activations, blocks=4, gap=7)
    a, u = trace.values[:, 1], activations.values.reshape(400, -1)
    parts = [np.s_[0:100], np.s_[107:200], np.s_[207:300], np.s_[307:400]]
    r = np.array([[np.corrcoef(a[h], unit[h])[0, 1] for unit in u.T] for h in parts])
    held = [r[b, np.delete(r, b, 0).mean(0).argmax()] for b in range(4)]
    assert float(found.correlation[1]) == pytest.approx(np.mean(held), abs=1e-5)
    of_model = activations.assign_attrs(history=7)
    again = match_interneurons(trace, of_model, blocks=4)
    np.testing.assert_array_equal(again.correlation, found.correlation)
    assert again.attrs["gap"] == 7


def test_layers_side_by_side_and_the_choice_among_all_of_them():
    trace, activations = planted()
    other = activations[:, :2] + 2 * smooth(np.random.default_rng(8), 2, 4, 5)
    flat = other[:, :, 0, 0].drop_vars(["y", "x"], errors="ignore")
    found = match_interneurons(trace, {"one": activations, "two": other, "three": flat}, maps=True)
    alone = match_interneurons(trace, other)
    for name in ("correlation", "p_value", "best_channel", "best_row", "low"):
        np.testing.assert_array_equal(found[name].sel(layer="two"), alone[name])
    joined = np.concatenate(
        [each.values.reshape(400, -1) for each in (activations, other, flat)], axis=1
    )
    pooled = match_interneurons(
        trace, xr.DataArray(joined, dims=("time", "channel"), coords={"time": TIME})
    )
    np.testing.assert_allclose(found.correlation_any, pooled.correlation, atol=1e-6)
    np.testing.assert_allclose(found.p_any, pooled.p_value, atol=1e-12)
    assert found.best_layer.values.tolist()[:2] == ["one", "one"]
    assert found.map_one.shape == (3, 3, 4, 5)
    assert found.map_three.shape == (3, 2)
    r = [[np.corrcoef(trace[h, 0], unit[h])[0, 1] for unit in other.values.reshape(400, -1).T]
         for h in (np.s_[:200], np.s_[200:])]  # fmt: skip
    np.testing.assert_allclose(found.map_two[0].values.ravel(), np.mean(r, axis=0), atol=1e-5)


def test_family_p_is_against_the_best_of_all_traces_of_each_shift():
    trace, activations = planted()
    found = match_interneurons(trace, {"one": activations, "two": activations[:, ::-1]})
    top = found.null.max(["type", "layer"]).values
    expected = [
        (1 + (top >= value).sum()) / (1 + top.size) for value in found.correlation[0].values
    ]
    np.testing.assert_allclose(found.p_family[0], expected)
    from scipy.stats import false_discovery_control

    q = false_discovery_control(found.p_value.values.ravel())
    np.testing.assert_allclose(found.q_value.values.ravel(), q)


def test_intervals_are_those_of_resampled_blocks():
    trace, activations = planted(noise=2.0)
    found = match_interneurons(trace, activations, draws=4000)
    x, u = trace.values[:, 0], activations.values[:, 1, 2, 3]
    from retinacodec.bootstrap import block_bootstrap

    ends = [
        block_bootstrap(lambda a, b: np.corrcoef(a, b)[0, 1], x[h], u[h], draws=1500,
                        block=found.attrs["resampled_frames"])
        for h in (np.s_[:200], np.s_[200:])
    ]  # fmt: skip
    width = np.hypot(*(float(end.high - end.low) for end in ends)) / 2
    assert float(found.high[0] - found.low[0]) == pytest.approx(width, rel=0.15)
    assert float(found.low[0]) < float(found.correlation[0]) < float(found.high[0])


def test_repeats_give_a_ceiling():
    rng = np.random.default_rng(2)
    _, activations = planted()
    signal = activations.values[:, 1, 2, 3]
    repeats = signal[None, :, None] + signal.std() * rng.normal(size=(5, 400, 1))
    data = xr.Dataset(
        {
            "trace": (("time", "cell"), repeats.mean(0), {"units": "mV"}),
            "repeats": (("repeat", "time", "cell"), repeats),
        },
        coords={"time": TIME, "cell": ["bipolar 1"]},
    )
    found = match_interneurons(data, activations)
    assert float(found.ceiling[0]) == pytest.approx(np.sqrt(1 / 1.2), abs=0.03)
    assert float(found.normalised[0]) == pytest.approx(1.0, abs=0.05)


def test_units_below_the_floors_are_left_out():
    trace, activations = planted()
    small = activations.copy()
    small[:, 1] *= 5e-6 / float(small[:, 1].std())
    assert match_interneurons(trace, small, null_shifts=1).best_channel[0] != 1
    kept = match_interneurons(trace, small, null_shifts=1, floors=(0.0, 0.0))
    assert kept.best_channel[0] == 1
    low = activations.copy()
    low[:, 1] *= 1e-4 / float(low[:, 1].std())
    assert match_interneurons(trace, low, null_shifts=1).best_channel[0] == 1


def test_wrong_inputs_are_explained():
    trace, activations = planted()
    with pytest.raises(InputError, match="common moments"):
        match_interneurons(trace.assign_coords(time=TIME + 100), activations)
    with pytest.raises(InputError, match="traces: a value is infinite"):
        match_interneurons(trace.where(TIME[:, None] > 1, np.inf), activations)
    with pytest.raises(InputError, match="activations: a value is NaN"):
        match_interneurons(trace, activations.where(activations > 0))
    with pytest.raises(InputError, match=r"blocks: (.|\n)*null_shifts(.|\n)*floors"):
        match_interneurons(trace, activations, blocks=1, floors=(-1, 0), null_shifts=0)
    with pytest.raises(InputError, match="least_shift: expected 1 to 200"):
        match_interneurons(trace, activations, least_shift=300)
    with pytest.raises(InputError, match="a layer or more"):
        match_interneurons(trace, {})
    with pytest.raises(InputError, match=r"activations: expected \(time, channel"):
        match_interneurons(trace, activations.transpose("channel", ...))


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


def test_times_that_differ_by_rounding_are_one_moment():
    rng = np.random.default_rng(11)
    time = np.arange(400) / 60
    units = xr.DataArray(rng.normal(size=(400, 3)), dims=("time", "channel"), coords={"time": time})
    traces = xr.DataArray(
        units.values[:, :1] + rng.normal(size=(400, 1)),
        dims=("time", "cell"),
        coords={"time": np.arange(400) * (1 / 60) + 1e-9},
    )
    found = match_interneurons(traces, units, draws=1)
    exact = match_interneurons(traces.assign_coords(time=time), units, draws=1)
    assert int(found["moments"][0]) == 400
    np.testing.assert_array_equal(found["correlation"], exact["correlation"])
