"""Is one model better than another? Paired tests over cells, and over time for each cell."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.bootstrap import percentiles
from retinacodec.errors import InputError, Problems
from retinacodec.nulls import discoveries
from retinacodec.schema import check_recording
from retinacodec.scoring import Predictions, Score

__all__ = ["least_p", "model_tests", "paired_tests"]

Array = npt.NDArray[Any]

_EXACT = 14  # cells up to which all signs are tried
_CHUNK = 2000


def model_tests(
    rates: Mapping[str, xr.DataArray],
    recording: xr.Dataset,
    frames: npt.ArrayLike | None = None,
    *,
    metrics: Sequence[str] | None = None,
    block_seconds: float = 1.0,
    draws: int = 1000,
    permutations: int = 9999,
    level: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> xr.Dataset:
    """Test every model against every other, over cells and cell by cell.

    Parameters
    ----------
    rates, recording, frames
        As in `compare_models`.
    metrics : sequence of str, optional
        Which metrics; all that `compare_models` gives for each model if left out.
    block_seconds, draws, level, seed
        As in `compare_models`.
    permutations : int, default 9999
        Sign patterns drawn for the permutation test; all patterns up to 14 cells.
    alpha : float, default 0.05
        Share of false discoveries that is allowed, over pairs and metrics, and for each of them
        over cells.

    Returns
    -------
    xarray.Dataset
        Over (pair, metric): what `paired_tests` returns, with ``q_wilcoxon`` and
        ``q_permutation`` corrected over all pairs and metrics; ``better`` and ``worse``, numbers
        of cells in which the first model is better or worse, each significant by itself;
        ``cells`` compared. Over (pair, metric, cell): ``difference`` with ``*_low``, ``*_high``,
        ``p_cell`` and ``q_cell``.

    Raises
    ------
    InputError
        If there are fewer than two models, a metric is unknown, or `compare_models` would refuse.

    Notes
    -----
    A difference of one cell is judged by resampling blocks of time, the same for both models:
    ``p_cell`` is the larger of that of ``t = difference / s``, where ``s`` is the standard
    deviation of the resamples times ``sqrt(n / (n - 1))`` for n blocks, with n - 1 degrees of
    freedom, and of twice the share of resamples on the other
    side of zero, ``2 (1 + count) / (1 + draws)``: take more draws for many cells. Over cells,
    each cell counts once: cells of one retina saw one movie, so that the tests speak of the cells
    of this recording. Few cells cannot give small p-values: ``least_p`` says how small.

    References
    ----------
    .. [1] Wilcoxon, Biometrics Bulletin 1, 80 (1945). Kerby, Comprehensive Psychology 3, 1 (2014),
       rank-biserial correlation. Benjamini and Hochberg, J R Stat Soc B 57, 289 (1995).
    """
    check_recording(recording)
    _check(rates, block_seconds, alpha)
    data = Predictions.of(rates, recording, frames)
    scores = data.scores(block_seconds=block_seconds, draws=draws, seed=seed)
    paired = {name: score for name, score in scores.items() if score.value.ndim == 2}
    unknown = sorted(set(metrics or ()) - set(paired))
    if unknown:
        raise InputError(f"metrics: no {', '.join(unknown)}; there are {', '.join(paired)}")
    chosen = {name: paired[name] for name in metrics or paired}
    blocks = int(data.blocks(block_seconds)[-1]) + 1
    pairs = list(itertools.combinations(range(len(data.models)), 2))
    tables = []
    for first, second in pairs:
        found = [
            _one_metric(score, first, second, blocks, level, alpha, permutations, seed)
            for score in chosen.values()
        ]
        tables.append(xr.concat(found, dim="metric"))
    result = xr.concat(tables, dim="pair")
    names = [f"{data.models[first]} - {data.models[second]}" for first, second in pairs]
    result = result.assign_coords(pair=names, metric=list(chosen), cell=list(data.cells))
    for test in ("wilcoxon", "permutation"):
        q = discoveries(result[f"p_{test}"].values, alpha).q
        result[f"q_{test}"] = (("pair", "metric"), q)
    result.attrs = {"kind": "model_tests", "alpha": alpha, "level": level, "blocks": blocks}
    result.attrs |= {"draws": draws, "seed": seed, "frames": len(data.frames)}
    return result


def paired_tests(
    differences: npt.ArrayLike,
    *,
    permutations: int = 9999,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Test whether differences of cells are around zero.

    Parameters
    ----------
    differences : array_like (cell,)
        One difference a cell; NaN is left out. An infinite one, of a model that holds a spike
        for impossible, has the largest rank; the mean, its interval and its p-value then are not
        finite.
    permutations : int, default 9999
        Sign patterns drawn; all patterns up to 14 cells.
    draws : int, default 2000
        Resamples of cells for the intervals.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of both.

    Returns
    -------
    xarray.Dataset
        Without dims: ``mean``, ``median`` and ``effect`` with ``*_low`` and ``*_high``;
        ``p_wilcoxon``, ``p_permutation``, both two-sided; ``least_p``, the smallest p that so
        many cells can reach; ``cells``. NaN below two cells.

    Notes
    -----
    ``effect = (W+ - W-) / (W+ + W-)``, the rank-biserial correlation of matched pairs: 1 if all
    cells favour the first, 0 if neither. The permutation test flips signs and takes the absolute
    mean; with drawn patterns ``p = (1 + count) / (1 + permutations)``.

    Examples
    --------
    >>> found = paired_tests([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    >>> float(found["p_wilcoxon"]), float(found["p_permutation"]), float(found["least_p"])
    (0.03125, 0.03125, 0.03125)
    """
    given = np.asarray(differences, dtype=np.float64)
    values = given[~np.isnan(given)]
    count = values.size
    names = ("mean", "median", "effect")
    if count < 2:
        nothing = {f"{name}{end}": np.nan for name in names for end in ("", "_low", "_high")}
        nothing |= {"p_wilcoxon": np.nan, "p_permutation": np.nan, "least_p": np.nan}
        return xr.Dataset(nothing | {"cells": count})
    chosen = np.random.default_rng([seed, 2]).integers(0, count, (draws, count))
    summaries: dict[str, Any] = {"mean": np.mean, "median": np.median, "effect": _rank_biserial}
    found: dict[str, Any] = {}
    ranked = _ranked(values)
    with np.errstate(invalid="ignore"):
        for name, summary in summaries.items():
            used = ranked if name == "effect" else values
            low, high = percentiles(summary(used[chosen], axis=1), level, blocks=count)
            found[name] = summary(used[None], axis=1)[0]
            found |= {f"{name}_low": low, f"{name}_high": high}
    found["p_wilcoxon"] = _wilcoxon(ranked)
    endless = bool(np.isinf(values).any())
    found["p_permutation"] = np.nan if endless else _sign_flips(values, permutations, seed)
    found["least_p"] = least_p(count)
    return xr.Dataset(found | {"cells": count})


def least_p(cells: int) -> float:
    """Return the smallest two-sided p-value that tests of paired signs can reach.

    Examples
    --------
    >>> least_p(6), least_p(3)
    (0.03125, 0.25)
    """
    return float(min(1.0, 2.0 ** (1 - cells)))


def _check(rates: Mapping[str, xr.DataArray], block_seconds: float, alpha: float) -> None:
    problems = Problems()
    problems.require(len(rates) >= 2, f"expected at least two models, got {len(rates)}")
    problems.require(
        block_seconds >= 1, f"block_seconds: expected at least 1 s, got {block_seconds}"
    )
    problems.require(0 < alpha < 1, f"alpha: expected a share above 0 and below 1, got {alpha}")
    problems.raise_as("model_tests")


def _one_metric(
    score: Score,
    first: int,
    second: int,
    blocks: int,
    level: float,
    alpha: float,
    permutations: int,
    seed: int,
) -> xr.Dataset:
    """Return the tests of one metric of one pair of models."""
    with np.errstate(invalid="ignore"):
        value = score.value[first] - score.value[second]
        samples = score.samples[:, first] - score.samples[:, second]
    samples = np.where(np.isnan(value), np.nan, samples)
    result = paired_tests(value, permutations=permutations, level=level, seed=seed)
    if len(samples):
        low, high = percentiles(samples, level, blocks=blocks)
        p = _time_p(value, samples, blocks)
    else:
        low, high, p = (np.full(value.shape, np.nan) for _ in range(3))
    q = discoveries(p, alpha)
    cells = {"difference": value, "difference_low": low, "difference_high": high}
    cells |= {"p_cell": p, "q_cell": q.q}
    result = result.assign({name: ("cell", values) for name, values in cells.items()})
    result["better"] = int((q.found & (value > 0)).sum())
    result["worse"] = int((q.found & (value < 0)).sum())
    return result


def _time_p(value: Array, samples: Array, blocks: int) -> Array:
    """Return two-sided p-values (cell,) of differences from their resamples (draw, cell)."""
    from scipy.stats import t

    known = (np.isfinite(samples).sum(axis=0) > 1) & np.isfinite(value)
    samples = np.where(np.isfinite(samples), samples, np.nan)
    spread = np.full(value.shape, np.nan)
    spread[known] = np.nanstd(samples[:, known], axis=0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.abs(value) / spread / np.sqrt(blocks / max(blocks - 1, 1))
    below, above = (samples <= 0).sum(axis=0), (samples >= 0).sum(axis=0)
    share = 2 * (1 + np.minimum(below, above)) / (1 + np.isfinite(samples).sum(axis=0))
    return np.asarray(np.maximum(2 * t.sf(size, max(blocks - 1, 1)), np.minimum(share, 1.0)))


def _ranked(values: Array) -> Array:
    """Return the values with infinite ones just beyond the largest finite, which ranks them."""
    top = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    return np.clip(values, -2 * top - 1, 2 * top + 1)


def _rank_biserial(values: Array, axis: int) -> Array:
    """Return the rank-biserial correlation along an axis; 0 where all differences are 0."""
    from scipy.stats import rankdata

    size = np.abs(values)
    zeros = (size == 0).sum(axis=axis, keepdims=True)
    ranks = np.where(size == 0, 0.0, rankdata(size, axis=axis) - zeros)
    total = ranks.sum(axis=axis)
    signed = (ranks * np.sign(values)).sum(axis=axis)
    return np.asarray(np.where(total > 0, signed / np.where(total > 0, total, 1.0), 0.0))


def _wilcoxon(values: Array) -> float:
    """Return the two-sided p-value of the signed-rank test; 1 where all differences are 0."""
    from scipy.stats import wilcoxon

    if not values.any():
        return 1.0
    return float(wilcoxon(values).pvalue)


def _sign_flips(values: Array, permutations: int, seed: int) -> float:
    """Return the two-sided p-value of the mean when signs are flipped."""
    count = values.size
    size = abs(values.mean()) * (1 - 1e-12)
    if count <= _EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
        return float((np.abs(signs @ values / count) >= size).mean())
    random = np.random.default_rng([seed, 3])
    beyond = 0
    for start in range(0, permutations, _CHUNK):
        rows = min(_CHUNK, permutations - start)
        signs = random.integers(0, 2, (rows, count)) * 2.0 - 1
        beyond += int((np.abs(signs @ values / count) >= size).sum())
    return (1 + beyond) / (1 + permutations)
