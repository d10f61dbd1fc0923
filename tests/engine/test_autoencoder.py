"""The autoencoder: its gate, its best state, its starts, its seeds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from retinacodec.dictionaries import PaperSAE, Warmup, load_dictionary
from retinacodec.errors import InputError
from retinacodec.gated_network import GatedNetwork
from retinacodec.metrics import explained_variance, matched_cosine

QUICK = PaperSAE(epochs=30, learning_rate=3e-3, evaluate_every=3, start=Warmup(epochs=9))


@pytest.fixture(scope="module")
def table(planted):
    return planted(1000, 16, 8)


@pytest.fixture(scope="module")
def found(table):
    return QUICK.fit(table.x, signs=table.signs, seed=1, progress=False)


def _network(features=6, hidden=5, atoms=40, seed=0):
    return GatedNetwork(features, hidden, atoms, torch.Generator().manual_seed(seed))


def test_gate_passes_codes_at_the_threshold_and_is_the_published_encoder():
    network = _network()
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    hidden = torch.relu(x @ network.first.weight.T + network.first.bias)
    for norm, layer in ((network.first_norm, network.second), (network.second_norm, None)):
        mean, var = hidden.mean(1, keepdim=True), hidden.var(1, keepdim=True, unbiased=False)
        hidden = (hidden - mean) / torch.sqrt(var + 1e-5) * norm.weight + norm.bias
        if layer is not None:
            hidden = torch.relu(hidden @ layer.weight.T + layer.bias)
    open_codes = torch.sigmoid(hidden @ network.third.weight.T)
    expected = open_codes * (open_codes >= 0.6)
    torch.testing.assert_close(network.codes(x, 0.6), expected)
    assert 0 < (expected > 0).float().mean() < 1


def test_gradient_of_the_gate_is_one_above_and_a_ramp_about_the_threshold():
    from retinacodec.gated_network import _Gate

    codes = torch.tensor([0.1, 0.55, 0.65, 0.95], requires_grad=True)
    gated = _Gate.apply(codes, 0.6, 0.2)
    gated.sum().backward()
    assert gated.tolist() == pytest.approx([0, 0, 0.65, 0.95])
    assert codes.grad.tolist() == pytest.approx([0, 3, 4, 1])
    codes.grad = None
    _Gate.apply(codes, 0.6, 0.0).sum().backward()
    assert codes.grad.tolist() == [0, 0, 1, 1]


def test_hardly_any_code_passes_the_papers_threshold_at_the_start():
    network = _network(16, 16, 160)
    x = torch.randn(2000, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (network.codes(x, 0.9) > 0).any(0).sum() <= 3
        assert (network.codes(x, 0.5) > 0).any(0).sum() > 150


def test_the_best_state_is_really_kept(table):
    from retinacodec.row_splits import TimeBlocks

    split = TimeBlocks(gap=25, every=10)
    method = PaperSAE(
        epochs=22,
        learning_rate=0.05,
        evaluate_every=2,
        start=Warmup(epochs=4),
        dropout=0.3,
        split=split,
    )
    found = method.fit(table.x, signs=table.signs, seed=0, progress=False)
    scores = found.log["selection_r2"]
    assert scores.max() > scores[-1] + 1e-3
    assert found.log["best_epoch"] == found.log["epoch"][scores.argmax()]
    chosen = split.thirds(1000)[1]
    rows = table.x[chosen]
    kept = explained_variance(rows, found.reconstruct(found.transform(rows)))
    assert kept == pytest.approx(scores.max(), abs=1e-5)


def test_counters_are_those_of_the_best_state(table, found):
    best = int(np.argmax(found.log["selection_r2"]))
    assert found.tried == 160
    assert found.alive.all()
    assert found.dead == 160 - len(found.atoms)
    assert found.log["alive"][best] <= len(found.atoms)
    assert found.log["l0"][best] == pytest.approx(found.l0, rel=0.1)


def test_held_out_r2_is_near_that_of_the_rows_fitted(table, found):
    held, best = float(found.log["held_out_r2"]), int(np.argmax(found.log["selection_r2"]))
    assert 0.7 < held < 1
    assert abs(held - found.log["train_r2"][best]) < 0.1
    assert explained_variance(table.x, found.reconstruct()) == pytest.approx(held, abs=0.1)


def test_loadings_are_zero_or_above_the_threshold(table, found):
    used = found.loadings[found.loadings > 0]
    assert used.min() >= np.float32(0.9) and used.max() <= 1
    np.testing.assert_array_equal(found.transform(table.x), found.loadings)


def test_warm_start_brings_modes_to_life_where_the_papers_start_leaves_none(table):
    options = {"epochs": 40, "learning_rate": 5e-4, "evaluate_every": 10}
    signs = table.signs
    cold = PaperSAE(**options).fit(table.x, signs=signs, progress=False)
    warm = PaperSAE(**options, start=Warmup(epochs=20)).fit(table.x, signs=signs, progress=False)
    assert len(cold.atoms) <= 5
    assert len(warm.atoms) > 10
    assert cold.reconstruct().shape == table.x.shape


@pytest.mark.slow
def test_warm_start_at_the_settings_of_the_paper(planted):
    table = planted(3000, 16, 14, active=2.5, support=0.3)
    cold = PaperSAE().fit(table.x, signs=table.signs, progress=False)
    warm = PaperSAE(start=Warmup()).fit(table.x, signs=table.signs, progress=False)
    assert len(cold.atoms) < 10 < len(warm.atoms)
    assert warm.log["held_out_r2"] > cold.log["held_out_r2"] + 0.1


def test_same_seed_same_network_and_no_global_random_state(table):
    method = PaperSAE(epochs=3, learning_rate=1e-3, start=Warmup(epochs=2, first=0.5))
    state = torch.get_rng_state().clone()
    one = method.fit(table.x, seed=5, progress=False)
    torch.manual_seed(99)
    other = torch.get_rng_state().clone()
    two = method.fit(table.x, seed=5, progress=False)
    assert torch.equal(torch.get_rng_state(), other)
    torch.set_rng_state(state)
    np.testing.assert_array_equal(one.atoms, two.atoms)
    np.testing.assert_array_equal(one.loadings, two.loadings)


def test_constrained_atoms_keep_the_signs(table):
    method = PaperSAE(
        epochs=12, learning_rate=3e-3, evaluate_every=4, start=Warmup(epochs=4), constrained=True
    )
    found = method.fit(table.x, signs=table.signs, progress=False)
    assert (found.atoms * table.signs >= 0).all()
    assert len(found.atoms) > 3


def test_it_recovers_modes_worse_than_they_are_planted_but_recovers_some(table, found):
    assert matched_cosine(table.atoms, found.atoms).mean() > 0.7


def test_a_packed_autoencoder_comes_back_through_json(table, found):
    arrays, config = found.pack()
    again = load_dictionary(arrays, json.loads(json.dumps(config)))
    np.testing.assert_array_equal(again.transform(table.x), found.loadings)


def test_dead_atoms_are_told(table, caplog):
    found = PaperSAE(epochs=1, threshold=0.999).fit(table.x, progress=False)
    assert found.atoms.shape == (0, 16)
    assert found.dead == 160
    assert "all 160 atoms are dead" in caplog.text
    assert (found.reconstruct() == 0).all()


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(InputError, match="less than a batch of 128"):
        PaperSAE().fit(np.random.default_rng(0).random((100, 4)), progress=False)
    with pytest.raises(InputError, match=r"epochs must .*threshold must"):
        PaperSAE(epochs=0, threshold=1.0)
    with pytest.raises(InputError, match="do not vary"):
        PaperSAE().fit(np.ones((300, 4)), progress=False)


def test_the_shallow_encoder_is_one_normed_layer_and_can_be_trained(table):
    network = GatedNetwork(6, 5, 40, torch.Generator().manual_seed(0), shallow=True)
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    hidden = torch.nn.functional.layer_norm(x @ network.first.weight.T + network.first.bias, [5])
    expected = torch.sigmoid(torch.relu(hidden) @ network.third.weight.T + network.third.bias)
    torch.testing.assert_close(network.codes(x, 0.0), expected)
    method = PaperSAE(
        epochs=20, learning_rate=3e-3, evaluate_every=5, start=Warmup(epochs=9), shallow=True
    )
    found = method.fit(table.x, progress=False)
    assert found.log["held_out_r2"] > 0.6
    arrays, config = found.pack()
    again = load_dictionary(arrays, json.loads(json.dumps(config)))
    np.testing.assert_array_equal(again.transform(table.x), found.loadings)


def test_rows_to_select_by_that_do_not_vary_and_divergence_are_refused():
    x = np.random.default_rng(0).random((400, 4))
    chosen = PaperSAE().split.thirds(400)[1]
    x[chosen] = 1
    method = PaperSAE(epochs=1, batch=32)
    with pytest.raises(InputError, match="rows to select the state by do not vary"):
        method.fit(x, progress=False)
    with pytest.raises(InputError, match="use a smaller learning_rate"):
        PaperSAE(epochs=2, batch=32, learning_rate=1e38, threshold=0.5).fit(
            np.random.default_rng(0).random((400, 4)), progress=False
        )
