"""Targets against closed forms, scipy and finite differences."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import entropy, multivariate_normal, poisson

import retinacodec as rc
from retinacodec.errors import InputError
from retinacodec.secant import SecantMode
from retinacodec.targets import (
    Cell,
    Class,
    EachCell,
    Entropy,
    Margin,
    Mean,
    PoissonLogLikelihood,
    Population,
    Surprisal,
    TopK,
    bind_target,
    describe_target,
    target_labels,
)

RATES = torch.tensor(np.random.default_rng(0).gamma(2.0, 3.0, (400, 4)))
NAMES = ["a", "b", "c", "d"]
COUNTS = np.random.default_rng(1).poisson(1.5, (400, 4)).astype(float)
COUNTS[5:9, 1] = np.nan
SMOOTH = [
    Cell(1),
    EachCell(),
    Population(),
    Mean(),
    Surprisal.from_outputs(RATES),
    PoissonLogLikelihood(COUNTS, bin_s=0.1),
    Class(2),
    Class(2, probability=True),
    Entropy(),
    TopK(2),
    TopK(2, probability=True),
    Margin(),
    Margin(0, 3, probability=True),
    Margin(probability=True),
]
RESELECTED = [
    TopK(2, freeze=False),
    TopK(2, probability=True, freeze=False),
    Margin(freeze=False),
    Margin(probability=True, freeze=False),
]


def at_end(target, end, frames=None):
    return target.at(end, frames) if hasattr(target, "at") else target


@pytest.mark.parametrize("target", [*SMOOTH, *RESELECTED], ids=repr)
def test_gradients_are_those_of_finite_differences(target):
    rates = RATES[3:8].clone().requires_grad_()
    ready = at_end(bind_target(target, NAMES, lambda: RATES), rates, torch.arange(3, 8))
    assert torch.autograd.gradcheck(ready, (rates,))


def secant_gap(target, points=4):
    """Largest error of the sum of secant factors times changes, per interval of random paths."""
    path = RATES[: 6 * points].clone().requires_grad_()
    end = path[points - 1 :: points].detach().repeat_interleave(points, dim=0)
    ready = at_end(target, end, torch.arange(6).repeat_interleave(points))
    with SecantMode(points, [path]):
        score = ready(path)
    score = score if score.ndim == 2 else score[:, None]
    gap = []
    for one in score.unbind(-1):
        (factor,) = torch.autograd.grad(one.sum(), path, retain_graph=True)
        change = path.detach().diff(dim=0) * factor[1:]
        error = change.sum(-1) - one.detach().diff()
        inside = torch.arange(1, len(path)) % points != 0
        gap.append(float(error[inside].abs().max()))
    return max(gap)


@pytest.mark.parametrize("target", [*SMOOTH, *RESELECTED], ids=repr)
def test_secant_factors_of_a_target_are_exact(target):
    assert secant_gap(target) < 1e-11


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


def test_surprisal_of_single_precision_rates_is_computed_in_double():
    # Nearly identical cells on a large mean: single precision would lose every digit.
    base = 1000 + RATES[:, :1]
    rates = torch.cat([base, base + 1e-2 * RATES[:, 1:2]], dim=1).float()
    target = Surprisal.from_outputs(rates, shrinkage=0.0)
    assert target.condition_number() > 1e4
    wide = rates.double().numpy()
    expected = -multivariate_normal(wide.mean(0), np.cov(wide.T)).logpdf(wide)
    found = target(rates)
    assert found.dtype == torch.float64
    assert np.ptp(found.numpy() - expected) < 1e-6
    slope = torch.autograd.grad(target(rates.requires_grad_()).sum(), rates)[0]
    assert slope.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("target", [*SMOOTH, *RESELECTED], ids=repr)
def test_targets_are_the_same_on_a_gpu(target):
    rates, frames = RATES.float(), torch.arange(400)
    here = at_end(target, rates, frames)(rates)
    there = at_end(target, rates.cuda(), frames.cuda())(rates.cuda())
    torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-5)


def test_surprisal_takes_rates_of_any_kind_and_leaves_nan_out():
    array = xr.DataArray(RATES.numpy().copy(), dims=("time", "cell"))
    plain = Surprisal.from_outputs(RATES)
    for rates in (array, array.transpose("cell", "time"), RATES.numpy(), RATES.tolist()):
        assert Surprisal.from_outputs(rates) == plain
    array[7, 2] = np.nan
    holed = Surprisal.from_outputs(array)
    kept = np.delete(RATES.numpy(), 7, axis=0)
    np.testing.assert_allclose(holed.covariance, np.cov(kept.T), rtol=1e-12)
    np.testing.assert_allclose(holed.mean, kept.mean(0), rtol=1e-12)
    assert holed != plain


@pytest.mark.parametrize(
    ("rows", "shrinkage", "fits"),
    [(4, 0.0, False), (5, 0.0, True), (2, 0.1, True), (1, 0.1, False)],
)
def test_surprisal_asks_for_enough_times(rows, shrinkage, fits):
    rates = torch.cat([RATES[:rows], torch.full((3, 4), torch.nan)])
    if fits:
        assert Surprisal.from_outputs(rates, shrinkage).condition_number() > 1
        return
    with pytest.raises(InputError, match=f"got {rows} of {rows + 3}"):
        Surprisal.from_outputs(rates, shrinkage)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Surprisal()(RATES), "from_outputs"),
        (lambda: Surprisal().shrunk(), "from_outputs"),
        (lambda: Surprisal(shrinkage=2), "shrinkage in 0 to 1"),
        (lambda: Surprisal(mean=torch.zeros(2)), "got one of them"),
        (lambda: Surprisal(mean=torch.zeros(2), covariance=torch.eye(3)), r"got \(2,\) and \(3, 3"),
        (lambda: Surprisal.from_outputs(RATES / 0), "infinite"),
        (lambda: Surprisal.from_outputs(RATES[0]), r"\(time, cell\), got \(4,\)"),
        (lambda: Surprisal.from_outputs(RATES * 0), "cannot be inverted"),
        (lambda: Surprisal.from_outputs(RATES).bind(["a"], None), "4 cells for a circuit of 1"),
    ],
)
def test_surprisal_without_usable_statistics_says_what_to_do(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_poisson_log_likelihood_is_that_of_scipy():
    frames = torch.tensor([0, 5, 6, 17, 17, 399])
    rates = RATES[:6]
    target = bind_target(PoissonLogLikelihood(COUNTS, bin_s=0.1), NAMES, lambda: RATES)
    each = poisson.logpmf(COUNTS[frames], 0.1 * rates.numpy())
    np.testing.assert_allclose(target.at(rates, frames)(rates), np.nansum(each, axis=1), rtol=1e-12)
    assert np.isnan(each).any()


def test_poisson_log_likelihood_of_repeats_is_the_mean_over_those_recorded():
    repeats = np.random.default_rng(2).poisson(2.0, (5, 10, 4)).astype(float)
    repeats[3:, 2, 1] = np.nan
    repeats[:, 4, 0] = np.nan
    frames = torch.arange(10)
    target = PoissonLogLikelihood(repeats, bin_s=0.05).at(RATES[:10], frames)
    each = poisson.logpmf(repeats, 0.05 * RATES[:10].numpy())
    each[:, 4, 0] = 0
    expected = np.nanmean(each, axis=0).sum(-1)
    np.testing.assert_allclose(target(RATES[:10]), expected, rtol=1e-12)


def test_poisson_log_likelihood_of_a_silent_model_cell_is_finite():
    target = PoissonLogLikelihood(np.full((1, 4), 3.0), bin_s=0.1, floor_hz=0.01)
    silent = torch.zeros(1, 4)
    expected = 4 * poisson.logpmf(3, 0.001)
    assert target.at(silent, [0])(silent).item() == pytest.approx(expected, rel=1e-12)


def test_counts_are_found_by_the_names_of_their_cells():
    table = xr.DataArray(COUNTS, dims=("time", "cell"), coords={"cell": NAMES})
    frames = torch.tensor([0, 1])
    bound = PoissonLogLikelihood(table.T, bin_s=0.1).bind(["d", "b"], None)
    rates = RATES[:2, [3, 1]]
    expected = poisson.logpmf(COUNTS[:2][:, [3, 1]], 0.1 * rates.numpy()).sum(1)
    np.testing.assert_allclose(bound.at(rates, frames)(rates), expected, rtol=1e-12)
    numbered = PoissonLogLikelihood(table, bin_s=0.1)
    assert numbered.bind(["0", "1", "2", "3"], None) is numbered
    with pytest.raises(InputError, match=r"no cell x .*rename"):
        numbered.bind(["a", "b", "c", "x"], None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": COUNTS - 1}, "below zero"),
        ({"counts": COUNTS / 2}, "not whole.*give the repeats"),
        ({"counts": COUNTS + np.inf}, "infinite"),
        ({"counts": COUNTS[0]}, "time, cell"),
        ({"bin_s": 0.0}, "bin_s must be above 0"),
        ({"floor_hz": -1}, "floor_hz must be above 0"),
    ],
)
def test_counts_that_are_none_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        PoissonLogLikelihood(**{"counts": COUNTS, "bin_s": 0.1} | change)


def test_counts_that_do_not_fit_the_circuit_or_movie_are_refused():
    target = PoissonLogLikelihood(COUNTS, bin_s=0.1)
    with pytest.raises(InputError, match="4 cells for a circuit of 2"):
        target.bind(["0", "1"], None)
    with pytest.raises(InputError, match="4 cells for a circuit of 2"):
        target.at(RATES[:1, :2], torch.tensor([0]))
    for frame in (-1, 400):
        with pytest.raises(InputError, match="of a recording of 400"):
            target.at(RATES[:2], torch.tensor([3, frame]))
    with pytest.raises(InputError, match="frames"):
        target.at(RATES[:2])
    with pytest.raises(InputError, match=r"at\(outputs, frames\)"):
        target(RATES)


def test_binding_resolves_names_and_statistics():
    assert bind_target(Cell("c"), NAMES, lambda: RATES) == Cell(2)
    assert bind_target(Cell(-1), NAMES, lambda: RATES) == Cell(3)
    assert bind_target(Margin("a", "c"), NAMES, lambda: RATES) == Margin(0, 2)
    assert bind_target(Class("b", True), NAMES, lambda: RATES) == Class(1, True)
    with pytest.raises(InputError, match="no cell 'z'"):
        bind_target(Cell("z"), NAMES, lambda: RATES)
    with pytest.raises(InputError, match="cell 4 of 4"):
        bind_target(Cell(4), NAMES, lambda: RATES)
    for unbound in (Cell("a"), Class("a"), Margin("a", "b")):
        with pytest.raises(InputError, match="not bound"):
            unbound(RATES)
    bound = bind_target(Surprisal(), NAMES, lambda: RATES)
    torch.testing.assert_close(bound.mean, RATES.mean(0))
    assert target_labels(EachCell(), NAMES) == tuple(NAMES)
    assert target_labels(Population(), NAMES) is None


def test_mean_is_the_population_over_its_size():
    torch.testing.assert_close(Mean()(RATES), Population()(RATES) / 4)


def test_a_plain_callable_is_a_target():
    def margin(outputs):
        return outputs[:, 0] - outputs[:, 1]

    assert bind_target(margin, ["a", "b"], lambda: RATES) is margin


def test_top_k_is_frozen_at_the_end_of_the_path():
    path = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]])
    end = path[1:].expand(2, 3)
    frozen = TopK(2).at(end)
    assert frozen(path).tolist() == [1.0, 7.0]
    assert TopK(2, freeze=False).at(end)(path).tolist() == [4.0, 7.0]
    for k in (TopK(4), TopK(4).at):
        with pytest.raises(InputError, match="top 4 of 3"):
            k(path)


def test_top_k_in_probability_is_chosen_anew_at_every_point():
    path = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]])
    chances = path.softmax(-1)
    end = path[1:].expand(2, 3)
    frozen = TopK(1, probability=True).at(end)(path)
    anew = TopK(1, probability=True, freeze=False).at(end)(path)
    torch.testing.assert_close(frozen, chances[:, 2])
    torch.testing.assert_close(anew, torch.stack([chances[0, 0], chances[1, 2]]))
    torch.testing.assert_close(TopK(3, probability=True)(path), torch.ones(2))


def test_margin_is_frozen_at_the_end_of_the_path():
    path = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]])
    end = path[1:].expand(2, 3)
    assert Margin().at(end)(path).tolist() == [-1.0, 3.0]
    assert Margin(freeze=False).at(end)(path).tolist() == [2.0, 3.0]
    assert Margin(2, 0).at(end)(path).tolist() == [-3.0, 5.0]
    chances = path.softmax(-1)
    found = Margin(probability=True).at(end)(path)
    torch.testing.assert_close(found, chances[:, 2] - chances[:, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Margin(1), "name the other"),
        (lambda: Margin("a", "a"), "no lead over itself"),
        (lambda: Margin(0, -4).bind(NAMES, None), "no lead over itself"),
        (lambda: Margin()(RATES[:, :1]), "top 2 of 1"),
        (lambda: TopK(0), "at least 1"),
    ],
)
def test_targets_without_enough_classes_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_class_probability_is_softmax():
    logits = torch.tensor([[0.0, np.log(3.0)]])
    assert Class(1, probability=True)(logits).item() == pytest.approx(0.75)
    assert Class(1)(logits).item() == pytest.approx(np.log(3.0))


def test_entropy_is_that_of_scipy_and_finite_where_a_probability_vanishes():
    expected = entropy(RATES.softmax(-1).numpy(), axis=1)
    np.testing.assert_allclose(Entropy()(RATES), expected, atol=1e-13)
    sure = torch.tensor([[900.0, 0.0, -900.0]], requires_grad=True)
    assert Entropy()(sure).item() == 0.0
    (slope,) = torch.autograd.grad(Entropy()(sure).sum(), sure)
    assert bool(slope.isfinite().all())
    assert Entropy()(torch.zeros(1, 8)).item() == pytest.approx(np.log(8))


def test_reprs_show_digests_and_never_numbers_or_addresses():
    mean = np.array([1.25, 2.5])
    target = Surprisal(mean=mean, covariance=np.eye(2))
    shown = repr(target)
    assert shown.startswith("Surprisal(shrinkage=0.001, mean=<float64 (2,) ")
    assert "1.25" not in shown and "covariance=<float64 (2, 2) " in shown
    assert repr(Surprisal(mean=mean + 1e-12, covariance=np.eye(2))) != shown
    assert repr(Surprisal()) == "Surprisal(shrinkage=0.001)"
    counted = PoissonLogLikelihood(COUNTS, bin_s=0.1)
    assert repr(counted).startswith("PoissonLogLikelihood(counts=<float64 (400, 4) ")
    assert repr(counted).endswith(">, bin_s=0.1, floor_hz=0.001)")
    assert repr(Margin("cat", "dog")) == (
        "Margin(first='cat', second='dog', probability=False, freeze=True)"
    )
    assert "chosen" not in repr(TopK(2).at(RATES))


def lead(outputs, by=1.0):
    return by * outputs[:, 0]


class Lead(torch.nn.Linear):
    def score(self, outputs):
        return outputs[:, 0]


class Odd:
    def __call__(self, outputs):
        return outputs[:, 0]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (lead, "lead"),
        (lambda outputs: outputs[:, 0], "<lambda>"),
        (Lead(2, 2), "Lead()"),
        (Lead(2, 2).score, "Lead.score"),
        (Odd(), "Odd()"),
        (functools.partial(lead, by=2.0), "lead(..., by=2.0)"),
        (Entropy(), "Entropy()"),
    ],
    ids=range(7),
)
def test_any_target_is_described_without_an_address(target, words):
    said = describe_target(target)
    assert said.endswith(words)
    assert "0x" not in said and "\n" not in said


def test_every_target_is_on_the_face_of_the_package():
    for target in (*SMOOTH, *RESELECTED):
        assert getattr(rc, type(target).__name__) is type(target)
        assert target == target and hash(target) == hash(target)
