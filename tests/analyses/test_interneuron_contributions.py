import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import channel_activations, match_interneurons, matched_contributions
from retinacodec.bootstrap import block_bootstrap
from retinacodec.circuit import Circuit
from retinacodec.contribute import contributions
from retinacodec.errors import InputError
from retinacodec.models import CircuitRetina
from retinacodec.schema import make_stimulus
from retinacodec.targets import EachCell


@pytest.fixture(scope="module")
def known():
    """A retina, its matches with its own interneurons, and its contributions with maps."""
    rng = np.random.default_rng(5)
    frames = rng.normal(0, 0.5, (300, 6, 6)).repeat(2, 1).repeat(2, 2)
    movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="noise")
    retina = CircuitRetina((12, 12), cells=2, spacing_um=100.0)
    circuit = Circuit(retina, ["interneurons"])
    traces = retina.interneuron_traces(movie, every=12).release.isel(y=0, x=0, drop=True)
    traces = traces + 0.0
    traces[:, 3] = np.nan
    layer = channel_activations(circuit, movie)
    matches = match_interneurons(traces, layer, maps=True, draws=10)
    parts = contributions(circuit, movie, EachCell(), maps=True, progress=False)
    return retina, movie, matches, parts


def test_each_interneuron_gives_what_its_channel_gives(known):
    *_, matches, parts = known
    found = matched_contributions(matches, parts)
    given = parts["interneurons"]["contribution"]
    assert found.best_channel.values.tolist() == [0, 1, 2, -1, 4, 5, 6]
    assert found.contribution.dims == ("type", "time", "target", "sign")
    for k in (0, 5):
        np.testing.assert_allclose(
            found.contribution[k], given.isel(channel=k).sum(["y", "x"]), atol=1e-4
        )
        one = given.isel(channel=k, y=6, x=6)
        np.testing.assert_array_equal(found.position_contribution[k], one)
        total = abs(given).sum(["time", "channel", "y", "x"])
        share = abs(given.isel(channel=k)).sum(["time", "y", "x"]) / total
        np.testing.assert_allclose(found.share[k], share.transpose("target", "sign"), rtol=1e-5)
        here = abs(one).sum("time") / total
        np.testing.assert_allclose(found.position_share[k], here, rtol=1e-5)
    assert np.isnan(found.share[3]).all() and np.isnan(found.contribution[3]).all()
    assert "map" in found and found["map"].dims == ("type", "channel", "y", "x")


def test_intervals_resample_stretches_of_time(known):
    *_, matches, parts = known
    found = matched_contributions(matches, parts, draws=3000).isel(type=1, target=0, sign=1)
    given = parts["interneurons"]["contribution"].isel(target=0, sign=1)
    part = given.isel(channel=1).sum(["y", "x"]).values
    total = given.sum(["channel", "y", "x"]).values
    plain = block_bootstrap(lambda a, b: a.sum() / b.sum(), part, total, block=60, draws=3000)
    assert float(plain.value) == pytest.approx(float(found.share), rel=1e-5)
    assert float(found.share_low) <= float(plain.low) + 0.01
    assert float(found.share_high) >= float(plain.high) - 0.01


def test_layers_by_name_and_sums_without_maps(known):
    retina, movie, matches, parts = known
    summed = xr.DataTree.from_dict(
        {"interneurons": parts["interneurons"].to_dataset().sum(["y", "x"], keep_attrs=True)}
    )
    found = matched_contributions(matches, summed)
    whole = matched_contributions(matches, parts)
    np.testing.assert_allclose(found.contribution, whole.contribution, atol=1e-4)
    assert "position_share" not in found
    layer = channel_activations(Circuit(retina, []), movie, ["interneurons", "bipolar"])
    traces = retina.interneuron_traces(movie, every=12).release.isel(y=0, x=0, drop=True)
    several = match_interneurons(traces[:, 4:], layer, draws=10, null_shifts=5)
    assert several.best_layer.values.tolist() == ["interneurons"] * 3
    again = matched_contributions(several, parts)
    np.testing.assert_allclose(again.share, whole.share[4:])


def test_contributions_of_something_else_are_refused(known):
    *_, matches, parts = known
    with pytest.raises(InputError, match=r"expected contributions of \['conv1'\]"):
        matched_contributions(matches.assign_attrs(layer="conv1"), parts)
    other = matches.assign(best_channel=matches.best_channel + 5)
    with pytest.raises(InputError, match="they are of another model"):
        matched_contributions(other, parts)
    with pytest.raises(InputError, match="what match_interneurons returns"):
        matched_contributions(matches.drop_vars("best_channel"), parts)
