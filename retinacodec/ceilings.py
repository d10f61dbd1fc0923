"""What repeats of one stimulus say about noise: signal power, ceilings, normalised scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError
from retinacodec.metrics import pearson, positive_or_nan

__all__ = ["cc_max", "cc_norm", "feve", "jackknife_oracle", "signal_power"]

Array = npt.NDArray[Any]


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
    .. [1] Sahani and Linden, NeurIPS 15 (2003), eq. 1.
    .. [2] Schoppe et al., Frontiers in Computational Neuroscience 10, 10 (2016), eq. 5.
    """
    trials = _trials(repeats)
    count = len(trials)
    together = np.nanvar(trials.sum(axis=0), axis=0, ddof=1)
    apart = np.nanvar(trials, axis=1, ddof=1).sum(axis=0)
    return np.asarray((together - apart) / (count * (count - 1)))


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
    .. [1] Schoppe et al., Frontiers in Computational Neuroscience 10, 10 (2016), eq. 8.
    """
    trials = _trials(repeats)
    power = positive_or_nan(signal_power(trials), "signal power is not above zero")
    return np.asarray(np.sqrt(power / np.nanvar(trials.mean(axis=0), axis=0, ddof=1)))


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
    .. [1] Schoppe et al., Frontiers in Computational Neuroscience 10, 10 (2016), eq. 10.
    """
    trials = _trials(repeats)
    mean = trials.mean(axis=0)
    guess = np.where(np.isnan(mean), np.nan, np.asarray(prediction, dtype=np.float64))
    power = positive_or_nan(signal_power(trials), "signal power is not above zero")
    level = np.nanmean(guess, axis=0)
    guess = guess - level
    seen = np.isfinite(mean).sum(axis=0) - 1
    covariance = np.nansum((mean - np.nanmean(mean, axis=0)) * guess, axis=0) / seen
    rounding = 1e-24 * np.nan_to_num(level**2)
    spread = np.nansum(guess**2, axis=0) / seen
    spread = positive_or_nan(spread, "the prediction does not vary", rounding)
    return np.asarray(covariance / np.sqrt(spread * power))


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
    .. [1] Cadena et al., PLoS Computational Biology 15, e1006897 (2019), eq. 5.
    """
    trials = _trials(repeats)
    noise = np.nanmean(trials.var(axis=0, ddof=1), axis=0)
    error = np.nanmean((trials - np.asarray(prediction, dtype=np.float64)) ** 2, axis=(0, 1))
    explainable = np.nanvar(trials, axis=(0, 1)) - noise
    return np.asarray(1 - (error - noise) / positive_or_nan(explainable, "no explainable variance"))


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
    trials = _trials(repeats)
    others = (trials.sum(axis=0) - trials) / (len(trials) - 1)
    each = np.stack([pearson(one, rest) for one, rest in zip(trials, others, strict=True)])
    defined = np.isfinite(each)
    count = positive_or_nan(defined.sum(axis=0).astype(np.float64), "no repeat varies")
    return np.asarray(np.where(defined, each, 0.0).sum(axis=0) / count)


def _trials(repeats: npt.ArrayLike) -> Array:
    """Return repeats in double precision; frames not seen in every repeat are NaN in all."""
    trials = np.asarray(repeats, dtype=np.float64)
    if trials.ndim < 2 or trials.shape[0] < 2 or trials.shape[1] < 2:
        raise InputError(
            f"repeats: expected (repeat, time, ...) with at least 2 repeats and 2 frames, "
            f"got {trials.shape}"
        )
    return np.where(np.isnan(trials).any(axis=0), np.nan, trials)
