"""What is measured of one layer's table: medians over samples, dimensions, and their resamples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.analyses.resampling import Resamples, weighted_medians
from retinacodec.bootstrap import percentiles
from retinacodec.dimensions import components_for
from retinacodec.metrics import pearson
from retinacodec.sparsity import (
    excess_kurtosis,
    hoyer,
    inverse_participation,
    participation_ratio,
)

__all__ = ["STATISTICS", "Measured", "interval", "measure", "sign_correlations"]

Array = npt.NDArray[Any]

STATISTICS = ("hoyer", "kappa4", "participation", "kurtosis", "sign_correlation", "dimensions")

_FEWEST = 2


@dataclass(frozen=True)
class Measured:
    """The statistics of one layer.

    Attributes
    ----------
    value : dict of str to float
        Each statistic of the layer.
    samples : dict of str to ndarray (draw,)
        Each statistic of resampled samples; empty where nothing can be resampled.
    quartile : dict of str to ndarray (2,)
        Quartiles over samples of those statistics that are medians.
    silent, missing : float
        Share of the samples in which all channels are 0, and of those with a NaN.
    """

    value: dict[str, float]
    samples: dict[str, Array]
    quartile: dict[str, Array]
    silent: float
    missing: float


def measure(
    values: Array, rows: Array, scheme: Resamples, share: float, *, group: Array | None
) -> Measured:
    """Measure a layer.

    Parameters
    ----------
    values : ndarray (sample, sign, channel)
        Table of the layer.
    rows : ndarray (sample, column)
        What of the table enters sparsity and dimensions.
    scheme : Resamples
        How samples are resampled.
    share : float
        Share of the variance that the dimensions hold.
    group : ndarray (sample,) or None
        Class of each sample, for the dimensions of the class means.

    Returns
    -------
    Measured
        All of `STATISTICS`.
    """
    known = np.asarray(np.isfinite(values).all(axis=(1, 2)))
    silent = known & ~values.any(axis=(1, 2))
    counts = known & rows.any(axis=1)
    each = {
        "hoyer": hoyer(rows, epsilon=0),
        "kappa4": inverse_participation(rows, epsilon=0),
        "participation": participation_ratio(rows),
        "kurtosis": excess_kurtosis(rows),
        "sign_correlation": sign_correlations(values),
    }
    each = {name: np.where(counts, column, np.nan) for name, column in each.items()}
    once = np.ones((1, len(rows)), dtype=np.int64)
    value = _statistics(each, rows, known, [once], group, share)
    drawn = scheme.weights() if scheme.possible else ()
    samples = _statistics(each, rows, known, drawn, group, share)
    return Measured(
        {name: float(found[0]) for name, found in value.items()},
        samples,
        {name: _quantiles(column, [0.25, 0.75]) for name, column in each.items()},
        float(silent.mean()),
        float((~known).mean()),
    )


def interval(name: str, value: Array, samples: Array, level: float) -> tuple[Array, Array]:
    """Return the interval of a statistic.

    Parameters
    ----------
    name : str
        Which of `STATISTICS`, or a difference of two of that name.
    value : ndarray (layer,)
        The statistic.
    samples : ndarray (draw, layer)
        Its resamples.
    level : float
        Coverage.

    Returns
    -------
    (ndarray, ndarray)
        Low and high end (layer,): percentiles, for the dimensions shifted so that the median of
        the resamples is at the value; NaN without resamples.
    """
    nothing = np.full(value.shape, np.nan)
    if not len(samples):
        return nothing, nothing
    low, high = percentiles(samples, level)
    if name == "dimensions":
        shift = value - np.array([_quantiles(column, [0.5])[0] for column in samples.T])
        low, high = low + shift, high + shift
    return np.where(np.isnan(value), np.nan, low), np.where(np.isnan(value), np.nan, high)


def sign_correlations(values: Array) -> Array:
    """Return minus the correlation of both signs (sample,) of a table (sample, sign, channel)."""
    return -pearson(values[:, 0], values[:, 1], axis=-1)


def _statistics(
    each: dict[str, Array],
    rows: Array,
    known: Array,
    drawn: Iterable[Array],
    group: Array | None,
    share: float,
) -> dict[str, Array]:
    """Return every statistic (draw,) for weights (draw, sample) that come in parts."""
    parts: dict[str, list[Array]] = {name: [np.zeros(0)] for name in STATISTICS}
    for weights in drawn:
        for name, column in each.items():
            parts[name].append(weighted_medians(column, weights))
        parts["dimensions"].append(_dimensions(rows, known, weights, group, share))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _dimensions(
    rows: Array, known: Array, weights: Array, group: Array | None, share: float
) -> Array:
    """Return the dimensions (draw,) of rows, or of the means of their groups."""
    from scipy.sparse import csr_array

    rows, weights = rows[known], weights[:, known]
    found = np.full(len(weights), np.nan)
    for number, often in enumerate(weights):
        if group is None:
            if np.count_nonzero(often) >= _FEWEST:
                found[number] = components_for(rows, share, weights=often)
            continue
        place = (group[known], np.arange(len(rows)))
        sums = csr_array((often.astype(np.float64), place))
        size = np.asarray(sums.sum(axis=1)).ravel()
        present = size > 0
        if present.sum() >= _FEWEST:
            means = (sums @ rows)[present] / size[present, None]
            found[number] = components_for(means, share)
    return found


def _quantiles(column: Array, levels: list[float]) -> Array:
    """Return quantiles of a column without its NaN."""
    known = column[~np.isnan(column)]
    return np.quantile(known, levels) if known.size else np.full(len(levels), np.nan)
