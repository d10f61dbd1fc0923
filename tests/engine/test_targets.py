"""Targets against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from retinacodec.errors import InputError
from retinacodec.targets import (
    Cell,
    Class,
    EachCell,
    Population,
    Surprisal,
    TopK,
    bind_target,
    target_labels,
)

RATES = torch.tensor(np.random.default_rng(0).gamma(2.0, 3.0, (400, 4)))


def test_surprisal_is_the_gaussian_log_likelihood_up_to_a_constant():
    target = Surprisal.from_outputs(RATES, shrinkage=0.0)
    expected = -multivariate_normal(RATES.mean(0).numpy(), np.cov(RATES.T.numpy())).logpdf(RATES)
    difference = target(RATES).numpy() - expected
    assert np.ptp(difference) < 1e-9


def test_surprisal_gradient_is_the_precision_times_the_deviation():
    target = Surprisal.from_outputs(RATES, shrinkage=0.1)
    rates = RATES[:5].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(target(rates).sum(), rates)
    expected = (RATES[:5] - RATES.mean(0)) @ torch.linalg.inv(target.shrunk())
    torch.testing.assert_close(gradient, expected)


def test_shrinkage_makes_identical_cells_usable():
    twins = torch.cat([RATES[:, :1], RATES[:, :1]], dim=1).round()
    with pytest.raises(InputError, match="raise shrinkage"):
        Surprisal.from_outputs(twins, shrinkage=0.0)
    target = Surprisal.from_outputs(twins, shrinkage=0.01)
    # eigenvalues of (1-s) v [[1,1],[1,1]] + s v I are v (2 - s) and v s
    assert target.condition_number() == pytest.approx(1.99 / 0.01, rel=1e-6)


def test_surprisal_without_statistics_says_what_to_do():
    with pytest.raises(InputError, match="from_outputs"):
        Surprisal()(RATES)
    with pytest.raises(InputError, match="shrinkage in 0 to 1"):
        Surprisal(shrinkage=2)


def test_binding_resolves_names_and_statistics():
    names = ["a", "b", "c", "d"]
    assert bind_target(Cell("c"), names, lambda: RATES) == Cell(2)
    assert bind_target(Cell(-1), names, lambda: RATES) == Cell(3)
    with pytest.raises(InputError, match="no cell 'z'"):
        bind_target(Cell("z"), names, lambda: RATES)
    with pytest.raises(InputError, match="cell 4 of 4"):
        bind_target(Cell(4), names, lambda: RATES)
    bound = bind_target(Surprisal(), names, lambda: RATES)
    torch.testing.assert_close(bound.mean, RATES.mean(0))
    assert target_labels(EachCell(), names) == tuple(names)
    assert target_labels(Population(), names) is None


def test_a_plain_callable_is_a_target():
    def margin(outputs):
        return outputs[:, 0] - outputs[:, 1]

    assert bind_target(margin, ["a", "b"], lambda: RATES) is margin


def test_top_k_is_frozen_at_the_end_of_the_path():
    path = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]])
    end = path[1:].expand(2, 3)
    frozen = TopK(2).at(end)
    assert frozen(path).tolist() == [1.0, 7.0]
    assert TopK(2, freeze=False)(path).tolist() == [4.0, 7.0]
    with pytest.raises(InputError, match="top 4 of 3"):
        TopK(4)(path)


def test_class_probability_is_softmax():
    logits = torch.tensor([[0.0, np.log(3.0)]])
    assert Class(1, probability=True)(logits).item() == pytest.approx(0.75)
    assert Class(1)(logits).item() == pytest.approx(np.log(3.0))
