"""Tables with known modes, and what is run along paths, for several tests of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from retinacodec.secant import SecantMode


@dataclass(frozen=True)
class Planted:
    """A table that is made of modes: ``x = loadings @ atoms + noise``."""

    x: np.ndarray
    atoms: np.ndarray
    loadings: np.ndarray
    signs: np.ndarray


def plant(
    rows: int,
    features: int,
    modes: int,
    *,
    active: float = 3.0,
    support: float = 0.25,
    noise: float = 0.05,
    seed: int = 0,
) -> Planted:
    """Sparse gamma loadings on sparse gamma atoms; the first half of the features is negative."""
    random = np.random.default_rng(seed)
    signs = np.where(np.arange(features) < features // 2, -1, 1)
    atoms = (random.random((modes, features)) < support) * random.gamma(2.0, 1.0, (modes, features))
    atoms[np.arange(modes), np.arange(modes) % features] += 1.0
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    often = random.gamma(3.0, 1.0, modes)
    often *= active / often.sum()
    on = random.random((rows, modes)) < often
    loadings = on * random.gamma(2.0, 0.5, (rows, modes))
    x = loadings @ atoms
    x = np.maximum(x + noise * x.std() * random.standard_normal(x.shape), 0)
    return Planted(x * signs, atoms * signs, loadings, signs)


@pytest.fixture(scope="session")
def planted() -> Callable[..., Any]:
    """The maker of tables with known modes."""
    return plant


def paths(samples, steps):
    """Return (sample * point, ...): each sample's path from zero, points together."""
    fractions = torch.linspace(0, 1, steps + 1, dtype=samples.dtype)
    fractions = fractions.view(1, -1, *([1] * (samples.ndim - 1)))
    return (samples.unsqueeze(1) * fractions).flatten(0, 1)


def contributions(function, values, steps, target=None, chords=True):
    """Return what each value gave (sample, ...) and the change of the target (sample,).

    Parameters
    ----------
    function : callable
        From values (row, ...) to outputs (row, ...).
    values : torch.Tensor (row, ...)
        Activations along paths of ``steps + 1`` points.
    target : callable, optional
        From outputs to (row,); else a fixed mixture of all outputs.
    chords : bool
        With the secant rule; else by the trapezoid.
    """
    leaf = values.detach().requires_grad_()
    mode = SecantMode(steps + 1, [leaf]) if chords else torch.enable_grad()
    with mode:
        score = (target or mixture)(function(leaf.clone()))
    if chords:
        mode.check(score)
    score = score.unflatten(0, (-1, steps + 1))
    weights = torch.ones_like(score)
    if chords:
        weights[:, 0] = 0
    (slope,) = torch.autograd.grad(score, leaf, weights)
    slope = slope.unflatten(0, (-1, steps + 1))
    mean = slope[:, 1:] if chords else (slope[:, 1:] + slope[:, :-1]) / 2
    part = (mean * values.unflatten(0, (-1, steps + 1)).diff(dim=1)).sum(dim=1)
    return part, (score[:, -1] - score[:, 0]).detach()


def mixture(outputs):
    flat = outputs.flatten(1) if outputs.ndim > 1 else outputs[:, None]
    weights = torch.randn(flat.shape[1], generator=torch.Generator().manual_seed(2))
    return flat @ weights.to(flat)


def residual(function, values, steps, target=None):
    """Return how far the contributions are from the change of the target, relative to it."""
    part, change = contributions(function, values, steps, target)
    return float((part.flatten(1).sum(1) - change).abs().max() / change.abs().max())


@pytest.fixture(scope="session")
def along() -> SimpleNamespace:
    """Return what runs a function along paths."""
    return SimpleNamespace(paths=paths, contributions=contributions, residual=residual)
