"""What repeats of one stimulus say about noise: signal power, ceilings, normalised scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError
from retinacodec.metrics import positive_or_nan

__all__ = ["RepeatSums", "cc_max", "cc_norm", "feve", "jackknife_oracle", "signal_power"]

Array = npt.NDArray[Any]

_SILENT = "signal power is not above zero"
_ROUNDING = 1e-12  # share of the variance below which a signal power is rounding


def signal_power(repeats: npt.ArrayLike) -> Array:
    """Return the variance over time of the response that repeats share.

    Parameters
    ----------
    repeats : array_like (repeat, time, ...)
        Responses to each repeat of one stimulus, at least two; a frame with a NaN in any repeat
        is left out.

    Returns
    -------
    ndarray (...)
        Signal power in squared response units; it is an unbiased estimate and can be below zero.

    Raises
    ------
    InputError
        If there are fewer than two repeats or two frames.

    Notes
    -----
    ``SP = (Var_t(sum_n R_n) - sum_n Var_t(R_n)) / (N (N - 1))``, variances with ``ddof=1``.

    References
    ----------
    .. [1] Sahani and Linden, NeurIPS 15 (2003), estimator of the signal power.
    .. [2] Schoppe et al., Frontiers in Computational Neuroscience 10, 10 (2016).
    """
    return RepeatSums.of(repeats).signal_power()


def cc_max(repeats: npt.ArrayLike) -> Array:
    """Return the highest correlation that any prediction can reach with the mean response.

    Parameters
    ----------
    repeats : array_like (repeat, time, ...)
        Responses to each repeat.

    Returns
    -------
    ndarray (...)
        Noise ceiling, above 0; NaN with an `UndefinedMetric` warning where the signal power is
        not above zero.

    Raises
    ------
    InputError
        If there are fewer than two repeats or two frames.

    Notes
    -----
    ``CC_max = sqrt(SP / Var_t(mean_n R_n))``.

    References
    ----------
    .. [1] Schoppe et al., Frontiers in Computational Neuroscience 10, 10 (2016).
    """
    return RepeatSums.of(repeats).cc_max()


def cc_norm(repeats: npt.ArrayLike, prediction: npt.ArrayLike) -> Array:
    """Return the correlation of a prediction with the signal that repeats share.

    Parameters
    ----------
    repeats : array_like (repeat, time, ...)
        Responses to each repeat.
    prediction : array_like (time, ...)
        Predicted response, any unit.

    Returns
    -------
    ndarray (...)
        About 1 for the true rate; never clipped, so noise can carry it beyond. NaN with an
        `UndefinedMetric` warning where the signal power is not above zero or the prediction
        does not vary.

    Raises
    ------
    InputError
        If there are fewer than two repeats or two frames.

    Notes
    -----
    ``CC_norm = Cov_t(mean_n R_n, p) / sqrt(Var_t(p) SP)``.

    References
    ----------
    .. [1] Schoppe et al., Frontiers in Computational Neuroscience 10, 10 (2016).
    """
    return RepeatSums.of(repeats, prediction).cc_norm()


def feve(repeats: npt.ArrayLike, prediction: npt.ArrayLike) -> Array:
    """Return the fraction of the explainable variance that a prediction explains.

    Parameters
    ----------
    repeats : array_like (repeat, time, ...)
        Responses to each repeat.
    prediction : array_like (time, ...)
        Predicted response in the unit of the responses.

    Returns
    -------
    ndarray (...)
        About 1 for the true rate, 0 for the mean rate, below zero for worse; NaN with an
        `UndefinedMetric` warning where noise leaves no explainable variance.

    Raises
    ------
    InputError
        If there are fewer than two repeats or two frames.

    Notes
    -----
    ``FEVe = 1 - (mean_tn (R_n - p)^2 - s^2) / (Var_tn(R) - s^2)`` with ``s^2`` the mean over time
    of the variance over repeats (``ddof=1``).

    References
    ----------
    .. [1] Cadena et al., PLoS Computational Biology 15, e1006897 (2019), fraction of
       explainable variance explained.
    """
    return RepeatSums.of(repeats, prediction).feve()


def jackknife_oracle(repeats: npt.ArrayLike) -> Array:
    """Return how well the mean of the other repeats predicts each repeat.

    Parameters
    ----------
    repeats : array_like (repeat, time, ...)
        Responses to each repeat.

    Returns
    -------
    ndarray (...)
        Mean Pearson correlation over the repeats that vary, -1 to 1; NaN with an
        `UndefinedMetric` warning where none does.

    Raises
    ------
    InputError
        If there are fewer than two repeats or two frames.

    Notes
    -----
    ``mean_n corr_t(R_n, mean_{m != n} R_m)``.
    """
    return RepeatSums.of(repeats).oracle()


@dataclass(frozen=True)
class RepeatSums:
    """Sums over frames from which every score of this module follows.

    They add up: the sums of a resample of blocks of frames are the weighted sums of the blocks.

    Parameters
    ----------
    count, total, total_square, square : ndarray (...)
        Over the frames: their number; sum over repeats ``S``; ``S^2``; ``sum_n R_n^2``.
    guess, guess_square, product : ndarray (...)
        The prediction ``p``; ``p^2``; ``p S``.
    each, each_square, each_product : ndarray (..., repeat)
        ``R_n``, ``R_n^2`` and ``R_n S`` of every repeat.
    """

    count: Array
    total: Array
    total_square: Array
    square: Array
    guess: Array
    guess_square: Array
    product: Array
    each: Array
    each_square: Array
    each_product: Array

    @classmethod
    def terms(cls, repeats: npt.ArrayLike, prediction: npt.ArrayLike = 0.0) -> RepeatSums:
        """Return the terms of each frame (time, ...), before they are added up."""
        trials = _trials(repeats)
        guess = np.broadcast_to(np.asarray(prediction, dtype=np.float64), trials.shape[1:])
        seen = np.isfinite(trials[0]) & np.isfinite(guess)
        level = np.where(seen, trials, 0.0).sum(axis=(0, 1)) / np.maximum(seen.sum(axis=0), 1)
        level = level / len(trials)
        trials = np.where(seen, trials - level, 0.0)
        trials = np.where(np.abs(trials) <= 1e-12 * np.abs(level), 0.0, trials)
        guess = np.where(seen, guess - level, 0.0)
        total = trials.sum(axis=0)
        each = np.moveaxis(trials, 0, -1)
        return cls(
            count=seen.astype(np.float64),
            total=total,
            total_square=total**2,
            square=(trials**2).sum(axis=0),
            guess=guess,
            guess_square=guess**2,
            product=guess * total,
            each=each,
            each_square=each**2,
            each_product=each * total[..., None],
        )

    @classmethod
    def of(cls, repeats: npt.ArrayLike, prediction: npt.ArrayLike = 0.0) -> RepeatSums:
        """Return the sums (...) over all frames."""
        return cls.terms(repeats, prediction).map(lambda terms: terms.sum(axis=0))

    def map(self, function: Callable[[Array], Array]) -> RepeatSums:
        """Return the sums with a function applied to each."""
        return type(self)(*(function(getattr(self, item.name)) for item in fields(self)))

    def signal_power(self) -> Array:
        """Return the signal power (...)."""
        repeats = self.each.shape[-1]
        together = self._spread(self.total_square, self.total)
        apart = self._spread(self.square, np.sqrt((self.each**2).sum(axis=-1)))
        return np.asarray((together - apart) / (repeats * (repeats - 1)))

    def cc_max(self) -> Array:
        """Return the noise ceiling (...), NaN with a warning without signal power."""
        power = self._positive_power()
        spread = self._spread(self.total_square, self.total) / self.each.shape[-1] ** 2
        return np.asarray(np.sqrt(power / spread))

    def cc_norm(self) -> Array:
        """Return the normalised correlation (...), NaN with a warning where undefined."""
        power = self._positive_power()
        rounding = 1e-13 * self.guess_square
        spread = self._spread(self.guess_square, self.guess)
        spread = positive_or_nan(spread, "the prediction does not vary", rounding)
        shared = self.product - self.guess * self.total / self.count
        covariance = shared / (self.count - 1) / self.each.shape[-1]
        return np.asarray(covariance / np.sqrt(spread * power))

    def feve(self) -> Array:
        """Return the fraction of explainable variance (...), NaN with a warning without any."""
        repeats = self.each.shape[-1]
        values = repeats * self.count
        noise = (self.square - self.total_square / repeats) / (repeats - 1) / self.count
        error = (self.square - 2 * self.product + repeats * self.guess_square) / values
        spread = self.square / values - (self.total / values) ** 2
        floor = _ROUNDING * np.maximum(spread, noise)
        explainable = positive_or_nan(spread - noise, "no explainable variance", floor)
        return np.asarray(1 - (error - noise) / explainable)

    def oracle(self) -> Array:
        """Return the jackknife oracle (...), NaN with a warning where no repeat varies."""
        total, square, count = (
            part[..., None] for part in (self.total, self.total_square, self.count)
        )
        rest = total - self.each
        rest_square = square - 2 * self.each_product + self.each_square
        shared = self.each_product - self.each_square - self.each * rest / count
        own, other = (
            np.maximum(both - one**2 / count, 0.0)
            for both, one in ((self.each_square, self.each), (rest_square, rest))
        )
        varies = (own > 1e-13 * self.each_square) & (other > 1e-13 * rest_square)
        scale = np.sqrt(np.where(varies, own * other, 1.0))
        defined = positive_or_nan(varies.sum(axis=-1), "no repeat varies")
        return np.asarray(np.where(varies, shared / scale, 0.0).sum(axis=-1) / defined)

    def _positive_power(self) -> Array:
        """Return the signal power (...), NaN with a warning where it is none but for rounding."""
        whole = self._spread(self.total_square, self.total) / self.each.shape[-1] ** 2
        return positive_or_nan(self.signal_power(), _SILENT, _ROUNDING * np.abs(whole))

    def _spread(self, squares: Array, total: Array) -> Array:
        """Return the unbiased variance over frames from a sum of squares and a sum."""
        return np.asarray((squares - total**2 / self.count) / (self.count - 1))


def _trials(repeats: npt.ArrayLike) -> Array:
    """Return repeats in double precision; frames not seen in every repeat are NaN in all."""
    trials = np.asarray(repeats, dtype=np.float64)
    if trials.ndim < 2 or trials.shape[0] < 2 or trials.shape[1] < 2:
        raise InputError(
            f"repeats: expected (repeat, time, ...) with at least 2 repeats and 2 frames, "
            f"got {trials.shape}"
        )
    return np.where(np.isnan(trials).any(axis=0), np.nan, trials)
