"""Tables whose modes are known: how they are made, and the scenarios that methods are tried on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import Problems
from retinacodec.metrics import unit_rows

__all__ = ["SCENARIOS", "Planted"]

Array = npt.NDArray[Any]
_REACH = 7.5


@dataclass(frozen=True)
class Planted:
    """A recipe for tables that are sums of sparse, sign-constrained modes, and noise.

    Parameters
    ----------
    rows, features, modes : int
        Size of the table, and how many modes it is made of.
    active : float, default 2.5
        Modes active in a row, on average.
    support : float, default 0.3
        Chance that a feature is part of an atom.
    noise : float, default 0.05
        Standard deviation of the noise, in that of the table without it.
    signed : bool, default True
        The first half of the features is negative, as in contributions split by sign.
    own : float, default 1
        Weight added to one feature of each atom before it is scaled to unit norm.
    smooth : float, default 0
        Time constant of loadings that come and go, rows; at 0 rows do not depend on each other.
    parts : int, default 0
        Number of sparse patterns of which each atom adds two; at 0 atoms are drawn on their own.
    together : float, default 0
        How much the modes of a pair (first and second, third and fourth, ...) come together, 0
        to 1.
    tail : float, default 0
        Standard deviation of the logarithm of a factor on every loading; 1.5 makes a few rows
        hold most of the energy.
    rare : int, default 0
        Number of modes, the last, that are active in a share `seldom` of the rows.
    seldom : float, default 0.01
        Share of rows in which a rare mode is active.
    asked : int, optional
        Number of modes that a method should be asked for; those planted if left out.

    Raises
    ------
    InputError
        If a number is out of range, or the parts make too few pairs for the modes.

    Notes
    -----
    ``x = sign * max(loading @ |atom| + noise * std * e, 0)`` with ``e ~ N(0, 1)`` and the standard
    deviation of ``loading @ |atom|``. Entries of atoms are gamma(2, 1) where present. A mode
    is active at a rate drawn from gamma(3, 1), scaled so that the rates sum to `active`; its
    loading is then gamma(2, 1/2). Smooth loadings are ``2 max(z - level, 0)`` of white noise
    through ``exp(-k / smooth)``, with the level that leaves the mode active at its rate (at most
    half of the rows).

    In independent rows, a mode that comes with its partner takes over its state in a share
    `together` of the rows; smooth ones are correlated by as much before the level.

    Examples
    --------
    >>> table = Planted(rows=100, features=8, modes=3).draw(seed=0)
    >>> table["x"].shape, table["atom"].shape, table["loading"].shape
    ((100, 8), (3, 8), (100, 3))
    >>> bool((table["x"] * table["sign"] >= 0).all())
    True
    """

    rows: int
    features: int
    modes: int
    active: float = 2.5
    support: float = 0.3
    noise: float = 0.05
    signed: bool = True
    own: float = 1.0
    smooth: float = 0.0
    parts: int = 0
    together: float = 0.0
    tail: float = 0.0
    rare: int = 0
    seldom: float = 0.01
    asked: int | None = None

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("rows", "features", "modes"):
            value = getattr(self, name)
            problems.require(value >= 1, f"{name}: expected at least 1, got {value}")
        for name in ("support", "seldom"):
            value = getattr(self, name)
            problems.require(0 < value <= 1, f"{name}: expected above 0 and at most 1, got {value}")
        for name in ("active", "noise", "own", "smooth", "tail", "parts"):
            value = getattr(self, name)
            problems.require(value >= 0, f"{name}: expected at least 0, got {value}")
        shared = f"together: expected 0 to 1, got {self.together}"
        problems.require(0 <= self.together <= 1, shared)
        few = f"rare: expected 0 to {self.modes} modes, got {self.rare}"
        problems.require(0 <= self.rare <= self.modes, few)
        pairs = self.parts * (self.parts - 1) // 2
        enough = self.parts == 0 or pairs >= self.modes
        problems.require(enough, f"parts: {self.parts} make {pairs} pairs for {self.modes} modes")
        asked = f"asked: expected at least 1, got {self.asked}"
        problems.require(self.asked is None or self.asked >= 1, asked)
        problems.raise_as("Planted")

    @property
    def wanted(self) -> int:
        """Number of modes that a method should be asked for."""
        return self.modes if self.asked is None else self.asked

    def draw(self, seed: int) -> xr.Dataset:
        """Return a table and what it is made of.

        Parameters
        ----------
        seed : int
            Seed of atoms, loadings and noise.

        Returns
        -------
        xarray.Dataset
            ``x`` (sample, feature), ``atom`` (mode, feature) of unit norm, ``loading``
            (sample, mode), at least 0, and ``sign`` (feature), -1 or 1. Attributes: the recipe
            and the seed.
        """
        random = np.random.default_rng(seed)
        half = self.signed & (np.arange(self.features) < self.features // 2)
        signs = np.where(half, -1, 1)
        atoms = self._atoms(random)
        rate = random.gamma(3.0, 1.0, self.modes)
        rate *= self.active / rate.sum()
        rate[self.modes - self.rare :] = self.seldom
        loadings = self._smooth(random, rate) if self.smooth else self._independent(random, rate)
        if self.tail:
            loadings *= np.exp(self.tail * random.standard_normal(loadings.shape))
        clean = loadings @ atoms
        noise = self.noise * clean.std() * random.standard_normal(clean.shape)
        return xr.Dataset(
            {
                "x": (("sample", "feature"), np.maximum(clean + noise, 0) * signs),
                "atom": (("mode", "feature"), atoms * signs),
                "loading": (("sample", "mode"), loadings),
                "sign": ("feature", signs),
            },
            attrs={"kind": "planted modes", "recipe": repr(self), "seed": seed},
        )

    def _atoms(self, random: np.random.Generator) -> Array:
        """Return nonnegative atoms of unit norm."""
        count = self.parts or self.modes
        shape = (count, self.features)
        atoms = (random.random(shape) < self.support) * random.gamma(2.0, 1.0, shape)
        atoms[np.arange(count), np.arange(count) % self.features] += self.own
        atoms[~atoms.any(axis=1), 0] = 1.0
        atoms = unit_rows(atoms)
        if self.parts:
            pairs = np.asarray(list(combinations(range(self.parts), 2)))
            chosen = random.choice(pairs, self.modes, replace=False)
            atoms = unit_rows(atoms[chosen[:, 0]] + atoms[chosen[:, 1]])
        return atoms

    def _independent(self, random: np.random.Generator, rate: Array) -> Array:
        """Return loadings (sample, mode) of rows that do not depend on each other."""
        shape = (self.rows, self.modes)
        on = random.random(shape) < rate
        loadings = random.gamma(2.0, 0.5, shape)
        if self.together:
            follow = random.random(shape)[:, 1::2] < self.together
            on[:, 1::2] = np.where(follow, on[:, : self.modes // 2 * 2 : 2], on[:, 1::2])
        return np.asarray(on * loadings)

    def _smooth(self, random: np.random.Generator, rate: Array) -> Array:
        """Return loadings (sample, mode) that rise and fall over rows."""
        reach = int(np.ceil(_REACH * self.smooth))
        white = random.standard_normal((self.rows + reach, self.modes))
        decay = np.exp(-np.arange(reach) / self.smooth)
        slow = np.stack([np.convolve(row, decay)[reach : 1 - reach] for row in white.T], axis=1)
        slow /= slow.std(axis=0)
        if self.together:
            partner, alone = slow[:, : self.modes // 2 * 2 : 2], slow[:, 1::2]
            slow[:, 1::2] = self.together * partner + np.sqrt(1 - self.together**2) * alone
        often = 1 - np.minimum(rate, 0.5)
        level = [np.quantile(z, share) for z, share in zip(slow.T, often, strict=True)]
        return 2 * np.maximum(slow - level, 0)


SCENARIOS: dict[str, Planted] = {
    "clean": Planted(1000, 24, 10, noise=0.02),
    "noisy": Planted(1000, 24, 10, noise=1.0),
    "crowded": Planted(1000, 24, 10, active=5.0),
    "composed": Planted(1000, 24, 12, parts=6, noise=0.1),
    "overcomplete": Planted(1000, 12, 24),
    "correlated": Planted(1000, 24, 10, together=0.7),
    "heavy_tails": Planted(1000, 24, 10, tail=1.5),
    "rare": Planted(1000, 24, 10, rare=4),
    "too_many": Planted(1000, 24, 10, asked=15),
    "too_few": Planted(1000, 24, 10, asked=7),
    "retina": Planted(2000, 16, 14, own=0.0, smooth=4.0),
    "large": Planted(2000, 64, 32, active=4.0, support=0.1, signed=False),
}
