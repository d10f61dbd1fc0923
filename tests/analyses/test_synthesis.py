"""Formulas of modes: polarity, scores with a known answer, and stimuli made to test them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from retinacodec import Circuit, Secant, contributions
from retinacodec.analyses import (
    draw_synthesis,
    explain_modes,
    find_modes,
    formula_polarity,
    lagged_events,
    probe_library,
    score_formulas,
    stimulus_events,
    synthesis_test,
    synthesise,
    wired_polarity,
)
from retinacodec.errors import InputError
from retinacodec.formulas import evaluate, parse_formula
from retinacodec.models import CircuitRetina
from retinacodec.stimuli import centre_surround, natural_movie
from retinacodec.targets import Cell

SIZE = (16, 16)
EVENTS = {"centre_um": 100.0, "surround_um": 300.0}
WIRING = {"ON transient": 1, "ON sustained": 1, "OFF transient": -1, "OFF sustained": -1,
          "amacrine ON": 1, "amacrine OFF": -1, "amacrine wide": 0}  # fmt: skip
DOWN = '"centre step down, 50-100 ms ago" OR "centre step down, 100-150 ms ago"'


@pytest.fixture(scope="module")
def library():
    levels = [(0.0, 0.0), (0.0, 0.5), (0.0, -0.5)]
    space = {"centre": levels, "surround": levels, "radius_um": [100, 150]}
    render = partial(centre_surround, 44, onset=26, size=SIZE)
    return probe_library(render, space, onset=26, events=EVENTS, progress=False)


@pytest.fixture(scope="module")
def fitted():
    """The modes of an OFF transient cell at the middle of the frame."""
    retina = CircuitRetina(SIZE, cells=1)
    movie = natural_movie(seconds=20, size=SIZE, seed=3)
    circuit = Circuit(retina, layers=["interneurons"])
    parts = contributions(circuit, movie, Cell(0), rule=Secant(2), progress=False)
    modes = find_modes(parts["interneurons"], stability_seeds=0, halves=False, progress=False)
    return retina, movie, circuit, modes


def test_formulas_are_evaluated_on_planted_modes():
    movie = natural_movie(seconds=40, size=SIZE, seed=1)
    concepts = lagged_events(stimulus_events(movie))
    planted = '"centre step down, 50-100 ms ago" OR "image switch, 0-50 ms ago"'
    table = dict(zip(concepts["event"].values.tolist(), concepts.values, strict=True))
    loading = evaluate(parse_formula(planted), table) * 0.7
    modes = xr.Dataset({"loading": (("time", "mode"), loading[:, None])}, {"time": movie["time"]})
    found = explain_modes(modes, movie, length=2, progress=False)
    assert set(found["formula"].values[0, 1].split(" OR ")) == set(planted.split(" OR "))
    np.testing.assert_allclose(found["score"].sel(length=2), 1)
    assert found["on"].item() == pytest.approx((loading > 0).mean())
    assert found["p"].sel(length=2, part="held out").item() < 0.02


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ('"centre step up, 0-50 ms ago"', 1),
        ('"centre darker, 0-50 ms ago" AND NOT "surround step up, 0-50 ms ago"', -1),
        ('"image switch, 0-50 ms ago" OR "centre step down, 0-50 ms ago"', -0.5),
        ("flash", 0),
    ],
)
def test_polarity_is_the_mean_of_its_events(formula, value):
    assert formula_polarity(formula) == value


def test_scores_count_what_is_right_and_dealing_makes_it_chance():
    light, dark = '"centre step up, 0-50 ms ago"', '"centre darker, 0-50 ms ago"'
    formulas = [light] * 8 + [dark] * 8
    wired = np.repeat([1.0, -0.8], 8)
    scores = score_formulas(formulas, wired)
    assert scores["share"] == scores["clear_share"] == 1
    assert scores["share_p"] < 0.001
    assert scores["correlation"] == pytest.approx(1)
    assert float(scores["share_null"].mean()) == pytest.approx(0.5, abs=0.02)
    wrong = score_formulas(formulas, -wired)
    assert wrong["share"] == 0
    assert wrong["share_p"] == 1
    missing = score_formulas(["", light, "flash"], [1.0, 1.0, 0.1])
    assert missing["right"].values.tolist() == [False, True, True]


def test_wired_polarity_weighs_channels_by_their_square():
    atoms = np.zeros((1, 2, 2))
    atoms[0, 0, 0], atoms[0, 1, 1] = -0.6, 0.8
    modes = xr.Dataset({"atom": (("mode", "sign", "channel"), atoms)}, {"mode": [0]})
    found = wired_polarity(modes, {"a": 1, "b": -1}, names=["a", "b"])
    assert found.item() == pytest.approx(0.36 - 0.64)


def test_triples_differ_in_one_parameter_and_controls_by_as_much(library):
    triples = synthesise(DOWN, library, count=10)
    after = triples["holds"].values[:, :, 26:].sum(axis=2)
    assert (after[:, 1] >= 3).all()
    assert not after[:, [0, 2]].any()
    assert triples.sizes["triple"] >= 4
    assert set(triples["changed"].values) == {"centre"}
    ratio = triples["difference"].values[:, 2] / triples["difference"].values[:, 1]
    assert (np.abs(np.log2(ratio)) <= 1).all()


def test_an_off_mode_turns_on_by_what_its_formula_says(library, fitted):
    retina, movie, circuit, modes = fitted
    wired = wired_polarity(modes, WIRING, names=retina.interneuron_names)
    mode = int(wired.argmin())
    assert wired[mode] < -0.5
    found = explain_modes(modes, movie, events=EVENTS, length=2, progress=False)
    assert formula_polarity(found["formula"].values[mode, 1]) < 0
    common = {"layer": "interneurons", "rule": Secant(2)}
    triples = synthesise(DOWN, library, count=6)
    down = synthesis_test(triples, circuit, modes, Cell(0), **common)
    assert down["low"][mode] > 0
    assert down["superiority"][mode] >= 0.8
    assert down["on"].sel(role="satisfies")[mode] > 2 * down["on"].sel(role="violates")[mode]
    up = synthesis_test(
        synthesise(DOWN.replace("down", "up"), library, count=6), circuit, modes, Cell(0), **common
    )
    assert up["effect"][mode] < 0
    axes = Figure().subplots(1, 3)
    draw_synthesis(triples, down, axes, mode=mode)
    assert len(axes[1].lines) == 4


def test_what_cannot_be_done_is_said(library, fitted):
    with pytest.raises(InputError, match="0 of"):
        synthesise('"motion onset, 0-50 ms ago"', library)
    with pytest.raises(InputError, match="no concept"):
        synthesise("nothing", library)
    with pytest.raises(InputError, match="no wiring"):
        wired_polarity(fitted[3], {}, names=["a"])
    with pytest.raises(InputError, match="two formulas"):
        score_formulas(["flash"], [1.0])
    with pytest.raises(InputError, match="share no times"):
        later = fitted[1].assign_coords(time=fitted[1]["time"] + 1e4)
        explain_modes(fitted[3], later, events=EVENTS)
