"""Correlations of many pairs of series at every circular shift, by one Fourier transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import Problems

__all__ = ["ShiftedCorrelation", "correlations_at_shifts", "shifted_correlation"]

Array = npt.NDArray[Any]

_CHUNK = 2**22
_TIE = 1e-10
_ROUNDING = 1e-12
_RARE = 0.05


@dataclass(frozen=True)
class ShiftedCorrelation:
    """Correlations of all pairs of two sets of series, with the null of all circular shifts.

    Attributes
    ----------
    r : ndarray (one, other)
        Pearson correlation, at the lag that makes it strongest; NaN where a series is constant.
    lag : ndarray (one, other)
        That lag: frames by which the first follows the second, 0 to the most allowed.
    p : ndarray (one, other)
        Chance of a correlation at least as strong in shifted series; NaN where `r` is.
    low, high : ndarray (one, other)
        Least and largest correlation of the central 95 % of the null.
    z : ndarray (one, other)
        `r` less the mean of the null, in standard deviations of the null.
    shifts : int
        Number of shifts in the null.
    """

    r: Array
    lag: Array
    p: Array
    low: Array
    high: Array
    z: Array
    shifts: int


def correlations_at_shifts(one: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return the Pearson correlation of all pairs of series at every circular shift.

    Parameters
    ----------
    one : array_like (time, one)
        Series.
    other : array_like (time, other)
        Series on the same frames.

    Returns
    -------
    ndarray (time, one, other)
        ``r[s, a, b]``, correlation of ``one[t, a]`` with ``other[t - s, b]``, the end joined to
        the start: at s the first follows the second by s frames. NaN where one is constant.

    Raises
    ------
    InputError
        If the two are not tables of one length, or a value is not finite.

    Notes
    -----
    ``r_s = F^-1[F(a) conj(F(b))]_s / T`` of the standardised series: all T shifts for the price
    of about one.

    Examples
    --------
    >>> wave = np.random.default_rng(0).normal(size=(200, 1))
    >>> int(correlations_at_shifts(np.roll(wave, 3, axis=0), wave)[:, 0, 0].argmax())
    3
    """
    first, second = _checked(one, other)
    return _at_shifts(_spectrum(first), _spectrum(second), len(first))


def shifted_correlation(
    one: npt.ArrayLike,
    other: npt.ArrayLike,
    *,
    least: int = 1,
    most_lag: int = 0,
    two_sided: bool = True,
) -> ShiftedCorrelation:
    """Correlate all pairs of series, and test each against all circular shifts.

    Parameters
    ----------
    one : array_like (time, one)
        Series, such as loadings.
    other : array_like (time, other)
        Series on the same frames, such as events.
    least : int, default 1
        Smallest shift of the null in either direction, frames; at least as long as the series
        are correlated with themselves.
    most_lag : int, default 0
        The first may follow the second by up to this many frames; the strongest correlation
        counts, in the data and in every shift of the null.
    two_sided : bool, default True
        A strong correlation has a large absolute value; else it is a large positive one.

    Returns
    -------
    ShiftedCorrelation
        Correlation, lag, p and the spread of the null.

    Raises
    ------
    InputError
        If the two are not tables of one length, a value is not finite, or they are too short
        for any shift of at least `least` beyond `most_lag`.

    Notes
    -----
    Over all shifts s from ``most_lag + least`` to ``T - least - most_lag``, where ``r_s`` is the
    strongest of ``s .. s + most_lag``, p is ``(1 + #{s : |r_s| >= |r_0|}) / (1 + shifts)``, but
    below 0.05 not less than the tail beyond ``|r_0|`` of a gamma distribution with the mean,
    deviation and skewness of the ``|r_s|`` [1]_. No shift is drawn at random, so there is no
    seed. Shifts that are near each other have similar correlations: of independent samples the
    null holds only about T over the series' own correlation time, and to be the strongest of so
    few is no rare thing, though the share alone would call it one in all shifts.

    References
    ----------
    .. [1] Mielke, Berry, Permutation Methods (2007), chapter 2: Pearson type III approximation.
    """
    first, second = _checked(one, other)
    frames = len(first)
    start, stop = least + most_lag, frames - least - most_lag + 1
    problems = Problems()
    problems.require(least >= 1, f"least: expected at least 1 frame, got {least}")
    problems.require(most_lag >= 0, f"most_lag: expected at least 0 frames, got {most_lag}")
    problems.require(
        stop > start, f"{frames} frames are too few for shifts of {least} and lags of {most_lag}"
    )
    problems.raise_as("shifted_correlation")
    spectra = _spectrum(first), _spectrum(second)
    step = max(1, _CHUNK // (frames * max(second.shape[1], 1)))
    parts = [
        _summary(
            _at_shifts(spectra[0][:, at : at + step], spectra[1], frames),
            slice(start, stop),
            most_lag,
            two_sided,
        )
        for at in range(0, first.shape[1], step)
    ]
    joined = [np.concatenate([part[k] for part in parts]) for k in range(6)]
    r, lag, p, low, high, z = joined
    return ShiftedCorrelation(r, lag, p, low, high, z, stop - start)


def _summary(r: Array, null: slice, most_lag: int, two_sided: bool) -> tuple[Array, ...]:
    """Return r, lag, p, low, high and z of correlations (shift, one, other) of some pairs."""
    size = np.abs(r) if two_sided else r
    best, lag = size, np.zeros(r.shape, dtype=np.int32)
    for number in range(1, most_lag + 1):
        later = np.roll(size, -number, axis=0)
        lag = np.where(later > best, number, lag)
        best = np.maximum(best, later)
    strongest = r
    if most_lag:
        place = (np.arange(len(r))[:, None, None] + lag) % len(r)
        strongest = np.take_along_axis(r, place, axis=0)
    known = np.isfinite(r[0])
    samples = strongest[null]
    reached = (best[null] >= best[0] - _TIE).sum(axis=0)
    share = (1 + reached) / (1 + len(samples))
    p = np.where(known, np.maximum(share, np.minimum(_tail(best[0], best[null]), _RARE)), np.nan)
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    spread = samples.std(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(spread > _ROUNDING, (strongest[0] - samples.mean(axis=0)) / spread, np.nan)
    return strongest[0], np.where(known, lag[0], -1), p, low, high, z


def _tail(value: Array, null: Array) -> Array:
    """Return the chance to reach a value by the moments of its null; 0 where that is constant."""
    from scipy.stats import pearson3

    around = null - null.mean(axis=0)
    spread = around.std(axis=0)
    varies = spread > _ROUNDING
    scale = np.where(varies, spread, 1.0)
    skew = np.maximum(np.nan_to_num(((around / scale) ** 3).mean(axis=0)), 0.0)
    away = np.where(varies, (value - null.mean(axis=0)) / scale, np.inf)
    return np.asarray(pearson3.sf(away, skew))


def _at_shifts(first: Array, second: Array, frames: int) -> Array:
    """Return correlations (shift, one, other) of spectra (frequency, series)."""
    from scipy import fft

    product = first[:, :, None] * second[:, None].conj()
    return np.asarray(fft.irfft(product, frames, axis=0)) / frames


def _spectrum(values: Array) -> Array:
    """Return the spectra of standardised series; NaN for those that do not vary."""
    from scipy import fft

    around = values - values.mean(axis=0)
    spread = around.std(axis=0)
    varies = spread > _ROUNDING * np.abs(values).max(axis=0)
    spectra = np.asarray(fft.rfft(around / np.where(varies, spread, 1.0), axis=0))
    return np.where(varies, spectra, np.nan)


def _checked(one: npt.ArrayLike, other: npt.ArrayLike) -> tuple[Array, Array]:
    first, second = (np.asarray(each, dtype=np.float64) for each in (one, other))
    problems = Problems()
    fits = first.ndim == second.ndim == 2 and len(first) == len(second) and len(first) >= 2
    problems.require(
        fits,
        "expected two tables (time, series) of one length of at least 2, got shapes "
        f"{first.shape} and {second.shape}",
    )
    for name, values in (("first", first), ("second", second)):
        bad = np.count_nonzero(~np.isfinite(values))
        problems.require(bad == 0, f"{name}: {bad} values are NaN or infinite; leave them out")
    problems.raise_as("shifted_correlation")
    return first, second
