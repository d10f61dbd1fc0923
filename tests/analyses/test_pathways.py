"""Pathways of a simulated retina: true atoms, perfect and unrelated modes, the whole chain."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import roc_auc_score

from retinacodec.analyses import (
    compare_pathway_recovery,
    draw_pathway_areas,
    draw_pathway_atoms,
    find_modes,
    match_pathways,
    pathway_truth,
)
from retinacodec.errors import InputError

TIMES, RATE = 1200, 60.0
TYPES = ["ON a", "ON b", "OFF a", "amacrine"]
OWN = ["ON", "ON", "OFF", "amacrine"]


def made_truth(seed=0):
    """A cell that ON and OFF types drive in turns, with inhibition in some of the ON times."""
    random = np.random.default_rng(seed)
    state = np.repeat(random.integers(0, 4, TIMES // 20), 20)
    on, off, shut = (state & 1).astype(bool), (state == 2), (state == 3)
    size = random.uniform(0.5, 1.5, TIMES)
    given = np.zeros((TIMES, 4))
    given[:, 0], given[:, 1] = 0.8 * size * on, 0.6 * size * on
    given[:, 2], given[:, 3] = size * off, -0.5 * size * shut
    active = np.stack([on, off, shut], axis=1)
    return xr.Dataset(
        {
            "contribution": (("time", "type"), given),
            "active": (("time", "pathway"), active),
            "rate": ("time", np.where(on | off, 50.0, 1.0)),
        },
        {
            "time": np.arange(TIMES) / RATE,
            "type": TYPES,
            "type_pathway": ("type", OWN),
            "pathway": ["ON", "OFF", "amacrine"],
        },
        {"event_hz": 30.0},
    )


def made_modes(truth, order=(0, 1, 2), noise=0.0):
    """Modes that are the pathways, in some order."""
    known = pathway_truth(truth)
    random = np.random.default_rng(1)
    atoms = known["atom"].values[list(order)]
    loadings = known["drives"].values[:, list(order)] * 1.0
    loadings += noise * random.random(loadings.shape)
    return xr.Dataset(
        {
            "atom": (("mode", "sign", "channel"), 2 * atoms),
            "loading": (("time", "mode"), loadings),
        },
        {"time": truth["time"], "channel": range(4)},
    )


@pytest.fixture(scope="module")
def truth():
    return made_truth()


def test_atoms_are_the_mean_contributions_of_each_pathway(truth):
    known = pathway_truth(truth)
    np.testing.assert_allclose(known["atom"].sel(pathway="ON", sign="positive"), [0.8, 0.6, 0, 0])
    np.testing.assert_allclose(known["atom"].sel(pathway="OFF", sign="positive"), [0, 0, 1, 0])
    np.testing.assert_allclose(known["atom"].sel(pathway="amacrine", sign="negative")[3], -1)
    assert known["channel"].values.tolist() == TYPES
    np.testing.assert_array_equal(known["firing"], truth["rate"] == 50)
    np.testing.assert_array_equal(known["drives"], truth["active"])


def test_inhibition_belongs_to_what_it_comes_with_if_it_is_not_apart(truth):
    known = pathway_truth(truth, amacrine_apart=False)
    assert known["pathway"].values.tolist() == ["ON", "OFF"]
    given = truth["contribution"].values
    expected = given[truth["active"].values[:, 0]].mean(axis=0)
    atom = known["atom"].sel(pathway="ON").sum("sign")
    np.testing.assert_allclose(atom, expected / np.linalg.norm(expected))
    assert float(atom[3]) < -0.1


def test_a_pathway_that_never_drives_has_no_numbers(truth):
    lonely = truth.copy(deep=True)
    lonely["active"][:, 1] = False
    assert np.isnan(pathway_truth(lonely)["atom"].sel(pathway="OFF")).all()
    scores = match_pathways(made_modes(truth, (0, 2)), lonely, shuffles=5, shifts=5)
    for name in ("cosine", "auc", "auc_firing", "cosine_p", "auc_p"):
        assert np.isnan(scores[name].sel(pathway="OFF"))
        assert np.isfinite(scores[name].sel(pathway="ON")) or name == "auc_firing"
    assert scores["partner"].values.tolist() == [0, -1, 1]


def test_modes_that_are_the_pathways_are_found_in_any_order(truth):
    scores = match_pathways(made_modes(truth, (2, 0, 1)), truth)
    assert scores["partner"].values.tolist() == [1, 2, 0]
    for name in ("cosine", "auc", "auc_firing", "best_auc", "best_auc_firing"):
        np.testing.assert_allclose(scores[name], 1)
    np.testing.assert_allclose(scores["atom"], 2 * scores["truth"], atol=1e-12)
    assert (scores["auc_p"] == 1 / 201).all()
    assert float(scores["mean_cosine_p"]) < 0.05
    assert abs(float(scores["auc_null"].mean()) - 0.5) < 0.05


def test_areas_are_those_of_scikit_learn_at_all_times_and_at_firing_ones(truth):
    modes = made_modes(truth, noise=1.5)
    scores = match_pathways(modes, truth, shuffles=5, shifts=5)
    fires = truth["rate"].values >= 30
    for number in range(3):
        drives = truth["active"].values[:, number] & fires
        loading = modes["loading"].values[:, number]
        assert float(scores["auc"][number]) == pytest.approx(roc_auc_score(drives, loading))
        firing = roc_auc_score(drives[fires], loading[fires])
        assert float(scores["auc_firing"][number]) == pytest.approx(firing)
        best = max(roc_auc_score(drives, z) for z in modes["loading"].values.T)
        assert float(scores["best_auc"][number]) == pytest.approx(best)


def test_loadings_of_another_time_are_no_better_than_the_null(truth):
    modes = made_modes(truth)
    modes["loading"] = modes["loading"].copy(data=made_modes(made_truth(9))["loading"].values)
    scores = match_pathways(modes, truth)
    assert (scores["cosine"] > 0.99).all()
    assert (scores["auc_p"] > 0.02).all() and (scores["auc_firing_p"] > 0.02).all()


def test_without_signs_only_the_size_of_channels_counts(truth):
    modes = made_modes(truth)
    modes["atom"] = -modes["atom"][:, ::-1].drop_vars("sign", errors="ignore")
    assert (match_pathways(modes, truth, shuffles=5, shifts=5)["cosine"] == 0).all()
    folded = match_pathways(modes, truth, signed=False, shuffles=5, shifts=5)
    np.testing.assert_allclose(folded["cosine"], 1)


def test_missed_pathways_count_as_chance(truth):
    scores = match_pathways(made_modes(truth, (1,)), truth, shuffles=5, shifts=5)
    assert scores["partner"].values.tolist() == [-1, 0, -1]
    assert scores["cosine"].values.tolist() == [0, 1, 0]
    assert scores["auc"].values.tolist() == [0.5, 1.0, 0.5]


def test_the_gain_is_the_difference_and_its_interval_knows_the_better_one(truth):
    good, poor = made_modes(truth, noise=0.5), made_modes(truth, noise=4.0)
    table = compare_pathway_recovery({"good": good, "again": good, "poor": poor}, truth, draws=40)
    areas = table["auc"].values
    np.testing.assert_allclose(
        table["gain"].sel(score="auc").values[:, :3], areas[:1] - areas, atol=1e-12
    )
    mean = table.sel(over="mean", score="auc")
    assert (mean["gain"].sel(quantity="again"), mean["gain_low"].sel(quantity="again")) == (0, 0)
    low, high = (float(mean[name].sel(quantity="poor")) for name in ("gain_low", "gain_high"))
    assert 0.05 < low < float(mean["gain"].sel(quantity="poor")) < high
    with pytest.raises(InputError, match="two quantities"):
        compare_pathway_recovery({"good": good}, truth)


def test_what_does_not_fit_is_refused(truth):
    modes = made_modes(truth)
    two = xr.concat([truth, truth], xr.Variable("cell", ["a", "b"]))
    with pytest.raises(InputError, match="one cell, got 2"):
        match_pathways(modes, two)
    with pytest.raises(InputError, match="type_pathway"):
        match_pathways(modes, truth.drop_vars("type_pathway"))
    with pytest.raises(InputError, match="3 channels"):
        match_pathways(modes.isel(channel=slice(3)), truth)
    with pytest.raises(InputError, match="common times, got 5"):
        match_pathways(modes.isel(time=slice(5)), truth)
    with pytest.raises(InputError, match="never fires 90 Hz"):
        match_pathways(modes, truth, event_hz=90.0)


@pytest.fixture(scope="module")
def chain():
    """Modes of an ON-OFF cell of a small retina, from contributions and activations."""
    from retinacodec import Circuit, Secant, contributions
    from retinacodec.models import CircuitRetina
    from retinacodec.stimuli import natural_movie
    from retinacodec.targets import Cell

    retina = CircuitRetina((16, 16), cells=4)
    movie = natural_movie(seconds=15, size=(16, 16), seed=1)
    parts = contributions(
        Circuit(retina, layers=["interneurons"]), movie, Cell(3), rule=Secant(2),
        activations=True, progress=False,
    )["interneurons"]  # fmt: skip
    modes = {
        quantity: find_modes(
            parts, quantity=quantity, stability_seeds=0, halves=False, progress=False
        )
        for quantity in ("contribution", "activation")
    }
    truth = retina.pathway_contributions(movie).sel(cell="ON-OFF 3")
    return compare_pathway_recovery(modes, truth, draws=40, shifts=60)


def test_modes_of_contributions_are_the_pathways_of_an_on_off_cell(chain):
    ours = chain.sel(quantity="contribution", pathway=["ON", "OFF"])
    assert float(ours["cosine"].min()) > 0.85
    assert float(ours["auc_firing"].min()) > 0.95
    assert float(ours["auc_firing_p"].max()) < 0.05


def test_they_tell_pathways_better_than_modes_of_activations(chain):
    gain = chain.sel(score="auc_firing", quantity="activation", over="mean")
    assert float(gain["gain"]) > 0.1
    assert float(gain["gain_low"]) > 0


def test_drawings_show_every_pathway_and_quantity(chain):
    figure, axes = plt.subplots(1, 2)
    draw_pathway_atoms(chain, axes[0])
    here = int(np.isfinite(chain["cosine"].isel(quantity=0)).sum())
    assert axes[0].images[-1].get_array().shape == (3 * here, 7)
    draw_pathway_areas(chain, axes[1], "auc_firing")
    heights = [bar.get_height() + 0.5 for bar in axes[1].patches]
    expected = chain["auc_firing"].values
    np.testing.assert_allclose(np.sort(heights), np.sort(expected[np.isfinite(expected)]))
    with pytest.raises(InputError, match="auc_firing"):
        draw_pathway_areas(chain, axes[1], "cosine")
    plt.close(figure)
