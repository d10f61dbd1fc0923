"""Tables with known modes, for the tests of decompositions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest


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
