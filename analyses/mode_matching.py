"""Known modes beside found ones: who matches whom, and what a loading tells about a mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.metrics import match_atoms
from retinacodec.nulls import NullTest, p_value, shift_steps

__all__ = [
    "cosine_test",
    "partner_values",
    "roc_auc",
    "roc_auc_shifted",
    "true_partners",
    "upright",
]

Array = npt.NDArray[Any]


def true_partners(truth: Array, found: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """Return for each true atom its partner among those found, one to one.

    Parameters
    ----------
    truth : ndarray (mode, feature)
        True atoms.
    found : ndarray (found, feature)
        Atoms found, in any number.

    Returns
    -------
    partner : ndarray (mode,) of int
        Number of the partner, by the assignment with the largest sum of cosines; -1 for a mode
        without one, or with none that has anything in common with it.
    cosine : ndarray (mode,)
        Cosine with the partner, 0 without one.
    """
    partner, cosine = match_atoms(truth, found)
    partner[cosine <= 0] = -1
    return partner, np.maximum(cosine, 0)


def cosine_test(
    truth: Array,
    found: Array,
    shuffle: Callable[[Array, np.random.Generator], Array],
    *,
    shuffles: int,
    seed: int,
) -> NullTest:
    """Return the matched cosine of each true atom, with that of shuffled atoms as its null.

    Parameters
    ----------
    truth, found : ndarray (mode, feature), (found, feature)
        As in `true_partners`.
    shuffle : callable
        Takes the atoms found and a generator, returns atoms of the same shape.
    shuffles : int
        Samples of the null.
    seed : int
        Seed of the null.

    Returns
    -------
    NullTest
        ``value`` and ``p`` (mode,), ``null`` (shuffle, mode).
    """
    random = np.random.default_rng(seed)
    value = true_partners(truth, found)[1]
    null = np.stack([true_partners(truth, shuffle(found, random))[1] for _ in range(shuffles)])
    return NullTest(value, null, p_value(value, null))


def roc_auc(active: Array, loading: Array) -> Array:
    """Return how well each loading tells when each mode is active.

    Parameters
    ----------
    active : ndarray (sample, mode) of bool
        When each true mode is active.
    loading : ndarray (sample, found)
        Loadings of the modes found.

    Returns
    -------
    ndarray (mode, found)
        Area under the receiver operating characteristic: the chance that the loading is larger
        in a sample with the mode than in one without it, where equal loadings count half; 0.5 is
        chance. NaN for a mode that is active always or never.

    Notes
    -----
    ``(R - n (n + 1) / 2) / (n (N - n))`` with R the sum of the ranks of the n samples, of N, in
    which the mode is active: the Mann-Whitney U.

    References
    ----------
    .. [1] Hanley & McNeil, Radiology 143, 29 (1982).
    """
    return _from_ranks(active, _ranks(loading))


def roc_auc_shifted(
    active: Array,
    loading: Array,
    *,
    shifts: int,
    least: int,
    seed: int,
    rows: npt.NDArray[np.intp] | None = None,
) -> Array:
    """Return `roc_auc` of loadings that were moved around the circle of time.

    Parameters
    ----------
    active, loading : ndarray (sample, mode), (sample, found)
        As in `roc_auc`, in time order.
    shifts : int
        Samples of the null.
    least : int
        Smallest shift in either direction, samples; at most a quarter of them is used.
    seed : int
        Seed of the shifts.
    rows : ndarray of int, optional
        Samples that are scored; all if left out.

    Returns
    -------
    ndarray (shift, mode, found)
        The areas.
    """
    count = len(loading)
    steps = shift_steps(count, shifts, seed=seed, least=min(least, max(1, count // 4)))
    if rows is None:
        ranks = _ranks(loading)
        return np.stack([_from_ranks(active, np.roll(ranks, -step, axis=0)) for step in steps])
    scored = active[rows]
    return np.stack([roc_auc(scored, loading[(rows + step) % count]) for step in steps])


def partner_values(table: Array, partner: Array, missing: float) -> Array:
    """Return from a table (..., mode, found) each mode's value with its partner.

    Parameters
    ----------
    table : ndarray (..., mode, found)
        Values of all pairs; NaN in a whole row stays NaN.
    partner : ndarray (mode,) of int
        What `true_partners` returns.
    missing : float
        The value of a mode without a partner.

    Returns
    -------
    ndarray (..., mode)
        The values.
    """
    if not table.shape[-1]:
        return np.full(table.shape[:-1], missing)
    index = np.broadcast_to(partner[:, None], (*table.shape[:-1], 1))
    taken = np.take_along_axis(table, np.maximum(index, 0), axis=-1)[..., 0]
    return np.where((partner < 0) & ~np.isnan(taken), missing, taken)


def upright(atoms: Array, loadings: Array) -> tuple[Array, Array]:
    """Return modes whose loadings are skewed upwards, as a mode and its negative are the same.

    Parameters
    ----------
    atoms, loadings : ndarray (mode, ...), (sample, mode)
        Modes; nonnegative loadings are returned as they are.

    Returns
    -------
    atoms, loadings : ndarray
        The same modes, those with a negative sum of cubed loadings turned around.
    """
    turn = np.where((np.asarray(loadings, dtype=np.float64) ** 3).sum(axis=0) < 0, -1.0, 1.0)
    return atoms * turn.reshape(-1, *[1] * (atoms.ndim - 1)), loadings * turn


def _ranks(loading: Array) -> Array:
    from scipy.stats import rankdata

    return np.asarray(rankdata(loading, axis=0))


def _from_ranks(active: Array, ranks: Array) -> Array:
    on = np.asarray(active, dtype=np.float64)
    count = on.sum(axis=0)[:, None]
    pairs = count * (len(on) - count)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((on.T @ ranks - count * (count + 1) / 2) / np.where(pairs, pairs, np.nan))
