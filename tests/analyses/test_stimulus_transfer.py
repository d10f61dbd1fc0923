"""Transfer between stimuli: planted losses, pairs and refusals."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from retinacodec.analyses.comparison import compare_models
from retinacodec.analyses.stimulus_transfer import compare_stimuli, draw_loss, draw_transfer
from retinacodec.errors import InputError
from retinacodec.plotting import figure
from retinacodec.schema import make_recording

RATE, CELLS = 60.0, [f"c{k}" for k in range(8)]


def _stimulus(seed, wrong):
    """Return rates that are off by so much, the recording and all frames."""
    rng = np.random.default_rng(seed)
    truth, time = rng.gamma(2.0, 10.0, size=(2400, 8)), np.arange(2400) / RATE
    counts = rng.poisson(truth / RATE)
    recording = make_recording(counts, time=time, frame_rate=RATE, cells=CELLS)
    rates = {
        name: xr.DataArray(
            truth * np.exp(size * rng.normal(size=truth.shape)),
            dims=("time", "cell"),
            coords={"time": time, "cell": CELLS},
        )
        for name, size in wrong.items()
    }
    return rates, recording, None


@pytest.fixture(scope="module")
def tested():
    return {
        "noise": _stimulus(0, {"noise": 0.1, "scenes": 0.1}),
        "scenes": _stimulus(1, {"noise": 1.0, "scenes": 0.1}),
    }


@pytest.fixture(scope="module")
def transfer(tested):
    return compare_stimuli(tested, draws=200)


def test_scores_and_losses_are_those_of_the_comparison(tested, transfer):
    for name, (rates, recording, _) in tested.items():
        scores = compare_models(rates, recording, draws=200)
        for trained in rates:
            cell = transfer.sel(trained=trained, tested=name)
            np.testing.assert_allclose(cell["score"], scores["r"].sel(model=trained))
            assert float(cell["mean_score"]) == pytest.approx(
                float(scores["r"].sel(model=trained).mean())
            )
    lost = transfer.sel(trained="noise", tested="scenes")
    own = transfer["score"].sel(trained="scenes", tested="scenes")
    np.testing.assert_allclose(lost["loss"], own - lost["score"])
    assert float(lost["mean_loss"]) == pytest.approx(float(lost["loss"].mean()))
    peer = scipy.stats.wilcoxon(lost["loss"].values).pvalue
    assert float(lost["p_wilcoxon"]) == pytest.approx(peer) == float(lost["least_p"])


def test_only_the_planted_loss_is_found(transfer):
    lost = transfer.sel(trained="noise", tested="scenes")
    kept = transfer.sel(trained="scenes", tested="noise")
    assert int(lost["better"]) == 8 and float(lost["mean_loss_low"]) > 0.05
    assert int(kept["better"]) == 0 and abs(float(kept["mean_loss"])) < 0.02
    assert np.isnan(transfer["mean_loss"].sel(trained="noise", tested="noise"))
    assert float(lost["q_wilcoxon"]) == pytest.approx(2 * 2 / 2**8)


def test_drawings_hold_the_numbers(transfer):
    ax = draw_transfer(transfer, figure().subplots())
    np.testing.assert_allclose(ax.images[0].get_array(), transfer["mean_score"])
    ax = draw_loss(transfer, figure().subplots())
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels == ["scenes\nto noise", "noise\nto scenes"]


def test_bad_calls_are_refused(tested):
    with pytest.raises(InputError, match="at least two stimuli"):
        compare_stimuli({"noise": tested["noise"]})
    rates, recording, _ = tested["noise"]
    with pytest.raises(InputError, match="no model trained on scenes"):
        compare_stimuli({**tested, "noise": ({"noise": rates["noise"]}, recording, None)})
    other = recording.assign_coords(cell=[f"d{k}" for k in range(8)])
    with pytest.raises(InputError, match="other cells"):
        compare_stimuli({"noise": tested["noise"], "scenes": (rates, other, None)})
    with pytest.raises(InputError, match="no 'cc_norm' of each model"):
        compare_stimuli(tested, metric="cc_norm", draws=10)
