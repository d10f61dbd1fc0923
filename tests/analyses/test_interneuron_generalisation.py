import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import generalise_interneurons
from retinacodec.errors import InputError

TIME = np.arange(400) / 60


def smooth(rng, *shape):
    raw = rng.normal(size=(400, *shape))
    return np.apply_along_axis(lambda v: np.convolve(v, np.ones(6) / 6, "same"), 0, raw)


def recorded(seed, sign=1.0):
    """Two layers, and noisy copies of unit (a: 1, 2, 3), of (b: 0, 1) and of nothing."""
    rng = np.random.default_rng(seed)
    deep, flat = smooth(rng, 3, 4, 5), smooth(rng, 2)
    traces = np.stack([deep[:, 1, 2, 3], sign * flat[:, 1], smooth(rng)], axis=1)
    traces = traces + 0.3 * smooth(rng, 3)
    layers = {
        "a": xr.DataArray(deep, dims=("time", "channel", "y", "x"), coords={"time": TIME}),
        "b": xr.DataArray(flat, dims=("time", "channel"), coords={"time": TIME}),
    }
    names = {"time": TIME, "cell": ["one", "two", "none"]}
    return xr.DataArray(traces, dims=("time", "cell"), coords=names), layers


def test_the_unit_of_one_stimulus_is_scored_under_the_other():
    boxes, lines = recorded(0), recorded(1, sign=-1.0)
    found = generalise_interneurons(*boxes, *lines)
    assert found.best_layer.values.tolist()[:2] == ["a", "b"]
    assert found.best_channel.values.tolist()[:2] == [1, 1]
    assert (int(found.best_row[0]), int(found.best_column[0])) == (2, 3)
    units = (lines[1]["a"][:, 1, 2, 3], lines[1]["b"][:, 1])
    for k, unit in enumerate(units):
        r = np.corrcoef(lines[0][:, k], unit)[0, 1]
        assert float(found.correlation[k]) == pytest.approx(r, abs=1e-5)
        assert float(found.low[k]) < r < float(found.high[k])
    assert float(found.correlation[0]) > 0.9 and float(found.correlation[1]) < -0.9
    assert float(found.p_value[0]) == pytest.approx(1 / (1 + found.sizes["shift"]))
    assert float(found.p_value[1]) > 0.9
    assert abs(float(found.correlation[2])) < 0.2 < float(found.selected[2])
    shift = int(found["shift"][100])
    moved = np.corrcoef(np.roll(lines[0][:, 0], shift), units[0])[0, 1]
    assert float(found.null[100, 0]) == pytest.approx(moved, abs=1e-5)


def test_gaps_and_silent_units_under_the_other_stimulus():
    boxes, lines = recorded(0), recorded(1)
    other, layers = lines[0].copy(), dict(lines[1])
    other[50:90, 0] = np.nan
    layers["b"] = layers["b"] * 0
    found = generalise_interneurons(*boxes, other, layers)
    seen = np.isfinite(other[:, 0].values)
    r = np.corrcoef(other[seen, 0], layers["a"][seen, 1, 2, 3])[0, 1]
    assert float(found.correlation[0]) == pytest.approx(r, abs=1e-5)
    assert np.isnan(found.correlation[1]) and np.isnan(found.p_value[1])
    gone = boxes[0].copy()
    gone[:, 0] = np.nan
    found = generalise_interneurons(gone, boxes[1], *lines)
    assert np.isnan(found.correlation[0]) and found.best_channel[0] == -1
    assert found.best_layer[0] == ""


def test_other_cells_or_units_are_refused():
    boxes, lines = recorded(0), recorded(1)
    with pytest.raises(InputError, match="other cells"):
        generalise_interneurons(*boxes, lines[0][:, :2], lines[1])
    with pytest.raises(InputError, match="names along 'cell' differ"):
        generalise_interneurons(*boxes, lines[0][:, ::-1], lines[1])
    with pytest.raises(InputError, match="other units"):
        generalise_interneurons(*boxes, lines[0], {"a": lines[1]["a"]})
