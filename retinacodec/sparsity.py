"""How unequal the entries of a row are: one number for each row of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError

__all__ = [
    "entropy_specificity",
    "excess_kurtosis",
    "gini",
    "hoyer",
    "inverse_participation",
    "participation_ratio",
    "top_share",
]

Array = npt.NDArray[Any]

_ROUNDING = 1e-12


def hoyer(x: npt.ArrayLike, axis: int = -1, *, epsilon: float = 1e-6) -> Array:
    """Return Hoyer's sparsity of each row: 0 where all entries are equal in size, 1 for one entry.

    Parameters
    ----------
    x : array_like (..., entry)
        Values of either sign, in any unit.
    axis : int, default -1
        Axis of the entries.
    epsilon : float, default 1e-6
        Added to the Euclidean norm, as published, in the unit of `x`. A row whose norm is v is
        called sparser than it is by about ``epsilon / v``; with 0 the unit does not matter.

    Returns
    -------
    ndarray (...)
        Sparsity, 0 to 1; NaN for a row that is all 0, holds a NaN, or has fewer than two entries.

    Notes
    -----
    ``(sqrt(d) - |x|_1 / (|x|_2 + epsilon)) / (sqrt(d) - 1)`` with d entries. For a row of zeros
    this formula would say ``sqrt(d) / (sqrt(d) - 1)``, which is above 1 and means nothing.

    References
    ----------
    .. [1] Hoyer, J Mach Learn Res 5, 1457 (2004); Melander et al., ICLR 2026, Figure 3B.

    Examples
    --------
    >>> hoyer([[0, 0, 3, 0], [1, -1, 1, -1], [0, 0, 0, 0]], epsilon=0).tolist()
    [1.0, 0.0, nan]
    """
    rows = _rows(x, axis)
    root = np.sqrt(rows.shape[-1])
    if rows.shape[-1] < 2:
        return np.full(rows.shape[:-1], np.nan)
    size = np.abs(rows)
    top = size.max(axis=-1)
    safe = np.where(top > 0, top, 1.0)
    share = size / safe[..., None]
    norm = np.sqrt((share**2).sum(axis=-1)) + epsilon / safe
    found = (root - share.sum(axis=-1) / np.where(top > 0, norm, 1.0)) / (root - 1)
    return np.where(top > 0, found, np.nan)


def participation_ratio(x: npt.ArrayLike, axis: int = -1) -> Array:
    """Return how many entries of each row take part: 1 for one entry, all for equal sizes.

    Parameters
    ----------
    x : array_like (..., entry)
        Values of either sign, in any unit.
    axis : int, default -1
        Axis of the entries.

    Returns
    -------
    ndarray (...)
        Number of entries, 1 to d; 0 for a row that is all 0, NaN for one that holds a NaN.

    Notes
    -----
    ``(sum x^2)^2 / sum x^4``.

    Examples
    --------
    >>> participation_ratio([[0, 5, 0, 0], [2, -2, 2, -2], [0, 0, 0, 0]]).tolist()
    [1.0, 4.0, 0.0]
    """
    rows, top = _scaled(_rows(x, axis))
    fourth = (rows**4).sum(axis=-1)
    found = (rows**2).sum(axis=-1) ** 2 / np.where(fourth > 0, fourth, 1.0)
    return np.where(np.isnan(top), np.nan, found)


def inverse_participation(x: npt.ArrayLike, axis: int = -1, *, epsilon: float = 1e-6) -> Array:
    """Return the inverse participation ratio of each row, which the paper's code calls kappa4.

    It is not a kurtosis: no mean is subtracted, and it is not compared with a Gaussian. For that
    see `excess_kurtosis`.

    Parameters
    ----------
    x : array_like (..., entry)
        Values of either sign.
    axis : int, default -1
        Axis of the entries.
    epsilon : float, default 1e-6
        Added to the squared sum of squares, as published, in the unit of `x` to the fourth
        power; with 0 the unit does not matter.

    Returns
    -------
    ndarray (...)
        1/d for equal sizes to 1 for one entry; with an `epsilon` above 0 a row of zeros gives 0,
        without one NaN.

    Notes
    -----
    ``sum x^4 / ((sum x^2)^2 + epsilon)``: with ``epsilon = 0`` one over `participation_ratio`.

    Examples
    --------
    >>> inverse_participation([[0, 5, 0, 0], [2, -2, 2, -2]], epsilon=0).tolist()
    [1.0, 0.25]
    """
    rows = _rows(x, axis)
    if epsilon == 0:
        count = participation_ratio(rows)
        return 1 / np.where(count > 0, count, np.nan)
    return (rows**4).sum(axis=-1) / ((rows**2).sum(axis=-1) ** 2 + epsilon)


def excess_kurtosis(x: npt.ArrayLike, axis: int = -1) -> Array:
    """Return the excess kurtosis of each row: 0 for a Gaussian, above 0 for heavy tails.

    Parameters
    ----------
    x : array_like (..., entry)
        Values.
    axis : int, default -1
        Axis of the entries.

    Returns
    -------
    ndarray (...)
        ``-2`` to ``d - 2``; NaN for a row that does not vary or holds a NaN.

    Notes
    -----
    ``m4 / m2^2 - 3`` with the central moments ``m_k = mean((x - mean(x))^k)``, not corrected for
    bias: what ``scipy.stats.kurtosis`` returns by default.

    Examples
    --------
    >>> excess_kurtosis([[-1, 1, -1, 1], [3, 3, 3, 3]]).tolist()
    [-2.0, nan]
    """
    rows, _ = _scaled(_rows(x, axis))
    around = rows - rows.mean(axis=-1, keepdims=True)
    second, fourth = (around**2).mean(axis=-1), (around**4).mean(axis=-1)
    varies = second > _ROUNDING**2
    return np.where(varies, fourth / np.where(varies, second, 1.0) ** 2 - 3, np.nan)


def gini(x: npt.ArrayLike, axis: int = -1) -> Array:
    """Return the Gini coefficient of each row: 0 for equal entries, near 1 for one entry.

    Parameters
    ----------
    x : array_like (..., entry)
        Values; those below 0 count as 0, as the paper does with correlations. Take ``np.abs``
        first where the sign should not matter.
    axis : int, default -1
        Axis of the entries.

    Returns
    -------
    ndarray (...)
        0 to ``1 - 1/n``; 0 for a row without a value above 0, NaN for one that holds a NaN.

    Notes
    -----
    ``(2 sum_i i r_(i) - (n + 1) sum r) / (n sum r)`` with the entries sorted, i = 1 .. n.

    References
    ----------
    .. [1] Hurley and Rickard, IEEE Trans Inf Theory 55, 4723 (2009).

    Examples
    --------
    >>> gini([[0, 0, 0, 2], [1, 1, 1, 1], [0, 0, 0, 0]]).tolist()
    [0.75, 0.0, 0.0]
    """
    shares = np.sort(_shares(x, axis), axis=-1)
    count = shares.shape[-1]
    rank = np.arange(1, count + 1)
    total = shares.sum(axis=-1)
    return np.maximum((2 * (shares * rank).sum(axis=-1) - (count + 1) * total) / count, 0.0)


def entropy_specificity(x: npt.ArrayLike, axis: int = -1) -> Array:
    """Return how specific each row is by its entropy: 0 for equal entries, 1 for one entry.

    Parameters
    ----------
    x : array_like (..., entry)
        Values, such as a mode's correlations with all classes; those below 0 count as 0.
    axis : int, default -1
        Axis of the entries.

    Returns
    -------
    ndarray (...)
        0 to 1; 0 for a row without a value above 0, NaN for one that holds a NaN or has fewer
        than two entries.

    Notes
    -----
    ``1 - H(p) / log K`` with ``p = r / sum r``, ``H = -sum p log p`` and K entries.

    Examples
    --------
    >>> entropy_specificity([[0, 0.4, -0.1, 0], [1, 1, 1, 1], [-1, 0, 0, 0]]).tolist()
    [1.0, 0.0, 0.0]
    """
    shares = _shares(x, axis)
    if shares.shape[-1] < 2:
        return np.full(shares.shape[:-1], np.nan)
    log = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy = -(shares * log).sum(axis=-1) / np.log(shares.shape[-1])
    return np.where(shares.sum(axis=-1) == 0, 0.0, np.clip(1 - entropy, 0.0, 1.0))


def top_share(x: npt.ArrayLike, k: int = 1, axis: int = -1) -> Array:
    """Return the share of each row's sum that its largest entries hold.

    Parameters
    ----------
    x : array_like (..., entry)
        Values; those below 0 count as 0.
    k : int, default 1
        Number of largest entries.
    axis : int, default -1
        Axis of the entries.

    Returns
    -------
    ndarray (...)
        k/d to 1; 0 for a row without a value above 0, NaN for one that holds a NaN.

    Raises
    ------
    InputError
        If `k` is not between 1 and the number of entries.

    Examples
    --------
    >>> top_share([[0.3, 0.1, 0.1, -0.2], [1, 1, 1, 1]], 2).round(3).tolist()
    [0.8, 0.5]
    """
    shares = _shares(x, axis)
    if not 1 <= k <= shares.shape[-1]:
        raise InputError(f"top_share: expected k from 1 to {shares.shape[-1]} entries, got {k}")
    return np.sort(shares, axis=-1)[..., -k:].sum(axis=-1)


def _rows(x: npt.ArrayLike, axis: int) -> Array:
    """Return the values in double precision, entries last; an empty row is refused."""
    rows = np.moveaxis(np.atleast_1d(np.asarray(x, dtype=np.float64)), axis, -1)
    if rows.shape[-1] == 0:
        raise InputError("sparsity: expected rows with at least one entry, got none")
    return rows


def _scaled(rows: Array) -> tuple[Array, Array]:
    """Return rows divided by their largest size, so that no power overflows, and that size."""
    top = np.abs(rows).max(axis=-1)
    return rows / np.where(top > 0, top, 1.0)[..., None], top


def _shares(x: npt.ArrayLike, axis: int) -> Array:
    """Return each entry's share of the sum of those above 0; all 0 where there is none."""
    clipped, _ = _scaled(np.maximum(_rows(x, axis), 0.0))
    total = clipped.sum(axis=-1, keepdims=True)
    return clipped / np.where(total == 0, 1.0, total)
