"""Tables and figures of comparisons hold the numbers they are made from."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from retinacodec.analyses.comparison import compare_models
from retinacodec.analyses.comparison_figure import comparison_figure, draw_pair
from retinacodec.analyses.comparison_table import (
    comparison_table,
    comparison_words,
    write_comparison_table,
)
from retinacodec.analyses.model_tests import model_tests
from retinacodec.errors import InputError
from retinacodec.plotting import figure
from retinacodec.schema import make_recording

RATE, CELLS = 60.0, ["a", "b", "c"]


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(0)
    truth, time = rng.gamma(2.0, 15.0, size=(1500, 3)), np.arange(1500) / RATE
    repeats = rng.poisson(truth / RATE, size=(6, 1500, 3)).astype(float)
    repeats[:, :, 2] = 0
    recording = make_recording(
        repeats.mean(0), time=time, frame_rate=RATE, cells=CELLS, repeats=repeats
    )
    rates = {
        name: xr.DataArray(
            truth * np.exp(size * rng.normal(size=truth.shape)),
            dims=("time", "cell"),
            coords={"time": time, "cell": CELLS},
        )
        for name, size in {"CNN": 0.1, "LN": 0.6, "GLM": 0.5}.items()
    }
    return rates, recording, compare_models(rates, recording, draws=50)


def test_scores_follow_from_the_formulas_written_out(parts):
    """Schoppe et al. 2016 and Cadena et al. 2019, sample by sample."""
    rates, recording, scores = parts
    repeats = recording["repeats"].values.astype(float)
    for model, rate in rates.items():
        for cell in range(2):
            trials, p = repeats[:, :, cell], rate.values[:, cell] / RATE
            n, mean = len(trials), trials.mean(axis=0)
            power = np.var(trials.sum(0), ddof=1) - trials.var(axis=1, ddof=1).sum()
            power /= n * (n - 1)
            norm = np.cov(mean, p)[0, 1] / np.sqrt(p.var(ddof=1) * power)
            noise = trials.var(axis=0, ddof=1).mean()
            feve = 1 - (((trials - p) ** 2).mean() - noise) / (trials.var() - noise)
            jack = np.mean(
                [np.corrcoef(trials[k], np.delete(trials, k, 0).mean(0))[0, 1] for k in range(n)]
            )
            flat = np.full(p.size, mean.mean())
            gain = (mean * np.log(p / flat) - p + flat).sum() / (mean.sum() * np.log(2))
            log = np.log(np.where(mean > 0, mean, 1.0))
            best = (mean * log - mean).sum()
            left = best - (mean * np.log(p) - p).sum()
            deviance = 1 - left / (best - (mean * np.log(flat) - flat).sum())
            expected = {
                "r": np.corrcoef(mean, p)[0, 1],
                "cc_norm": norm,
                "feve": feve,
                "bits_per_spike": gain,
                "explained_deviance": deviance,
            }
            for name, value in expected.items():
                assert float(scores[name].sel(model=model)[cell]) == pytest.approx(value, rel=1e-5)
            assert float(scores["cc_max"][cell]) == pytest.approx(np.sqrt(power / mean.var(ddof=1)))
            assert float(scores["oracle"][cell]) == pytest.approx(jack)


def test_table_has_every_value_and_reason(parts, tmp_path):
    _, _, scores = parts
    table = comparison_table({"noise": scores, "scenes": scores})
    assert len(table) == 2 * 3 * 3
    row = table[(table.stimulus == "scenes") & (table.model == "LN") & (table.cell == "b")].iloc[0]
    for name in ("r", "cc_norm", "feve", "cc_max", "oracle"):
        one = scores.sel(cell="b")
        one = one.sel(model="LN") if "model" in one[name].dims else one
        assert row[name] == float(one[name])
        assert row[f"{name}_low"] == float(one[f"{name}_low"])
        assert row[f"{name}_reason"] == ""
    silent = table[table.cell == "c"].iloc[0]
    assert np.isnan(silent["bits_per_spike"]) and silent["bits_per_spike_reason"] == "no spike"
    path = write_comparison_table(scores, tmp_path / "scores.csv")
    back = pd.read_csv(path)
    np.testing.assert_allclose(back["cc_norm"], comparison_table(scores)["cc_norm"], rtol=1e-8)
    with pytest.raises(InputError, match="compare_models returns"):
        comparison_table(xr.Dataset())


def test_words_say_means_tests_and_the_least_p(parts):
    rates, recording, scores = parts
    words = comparison_words(scores, model_tests(rates, recording, draws=50))
    lines = words.splitlines()
    mean, low, high = (
        float(scores[f"mean_cc_norm{end}"].sel(model="LN")) for end in ("", "_low", "_high")
    )
    row = ["LN", f"{mean:.3f}", f"{low:.3f}", "to", f"{high:.3f}", "2"]
    assert row in [line.split() for line in lines]
    assert sum(line.startswith("cc_norm") for line in lines) == 1 + 3
    assert "\nCNN - LN\n" in words and "better  worse  cells" in words
    start = lines.index("CNN - LN")
    assert lines[start + 2].split()[0] == "r" and lines[start + 2].split()[-3:] == ["2", "0", "2"]
    assert "cannot give p below 0.5" in words


def test_words_fit_a_terminal_whatever_the_models_are_called(parts):
    rates, recording, _ = parts
    long = {f"network_{name}_{'x' * 60}": rate for name, rate in rates.items()}
    words = comparison_words(
        compare_models(long, recording, draws=20), model_tests(long, recording, draws=20)
    )
    assert max(map(len, words.splitlines())) <= 100
    starts = {line.index(" to ") - 6 for line in words.splitlines()[1:10] if " to " in line}
    assert max(starts) - min(starts) <= 1


def test_figure_has_the_panels_it_has_data_for(parts):
    rates, recording, scores = parts
    drawing = comparison_figure(scores)
    assert len(drawing.axes) == 5
    full = [line for line in drawing.axes[2].lines if line.get_label().startswith("interval")]
    shown = np.sort(full[0].get_ydata())
    np.testing.assert_allclose(shown, np.sort(scores["cc_norm"].sel(model="CNN")[:2]))
    alone = compare_models({"LN": rates["LN"]}, recording.drop_vars("repeats"), draws=20)
    assert len(comparison_figure(alone).axes) == 2
    with pytest.raises(InputError, match="metric"):
        comparison_figure(alone, metric="cc_norm")
    ax = draw_pair(scores, figure().subplots(), "LN", "CNN", metric="r")
    assert ax.get_title() == "LN better in 0, worse in 2 of 3"
