"""In how many directions the rows of a table vary."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError, Problems

__all__ = ["component_variances", "components_for", "spectral_participation"]

Array = npt.NDArray[Any]

_ROUNDING = 1e-10


def components_for(
    x: npt.ArrayLike, share: float = 0.95, *, weights: npt.ArrayLike | None = None
) -> float:
    """Return how many principal components hold a share of the variance.

    Parameters
    ----------
    x : array_like (sample, channel)
        Table; its columns are centred.
    share : float, default 0.95
        Share of the variance, above 0 and at most 1.
    weights : array_like (sample,), optional
        How often each row counts, such as in a resample; once if left out.

    Returns
    -------
    float
        A whole number from 1 to the rank; NaN where no column varies.

    Raises
    ------
    InputError
        If the table is not (sample, channel), has fewer than two rows or a value that is not
        finite, or `share` is out of range.

    Notes
    -----
    One more than the first index at which the cumulative explained variance, largest first,
    reaches `share`.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 3F.

    Examples
    --------
    >>> components_for([[1, 0, 0], [-1, 0, 0], [0, 0.1, 0], [0, -0.1, 0]])
    1.0
    >>> components_for([[1, 0, 0], [-1, 0, 0], [0, 0.1, 0], [0, -0.1, 0]], 0.999)
    2.0
    """
    if not 0 < share <= 1:
        raise InputError(f"share: expected above 0 and at most 1, got {share}")
    variances = component_variances(x, weights=weights)
    total = variances.sum()
    if not total > 0:
        return float("nan")
    reached = np.cumsum(variances) / total >= share - _ROUNDING
    return float(np.argmax(reached) + 1)


def spectral_participation(x: npt.ArrayLike, *, weights: npt.ArrayLike | None = None) -> float:
    """Return the participation ratio of the principal variances: a dimension without a threshold.

    Parameters
    ----------
    x : array_like (sample, channel)
        Table; its columns are centred.
    weights : array_like (sample,), optional
        How often each row counts; once if left out.

    Returns
    -------
    float
        1 for one direction to the number of channels where all vary alike; NaN where no column
        varies.

    Raises
    ------
    InputError
        As `components_for`.

    Notes
    -----
    ``(sum lambda)^2 / sum lambda^2`` with the eigenvalues lambda of the covariance.

    References
    ----------
    .. [1] Gao et al., bioRxiv 214262 (2017).

    Examples
    --------
    >>> round(spectral_participation([[1, 0], [-1, 0], [0, 1], [0, -1]]), 6)
    2.0
    """
    variances = component_variances(x, weights=weights)
    squares = (variances**2).sum()
    return float(variances.sum() ** 2 / squares) if squares > 0 else float("nan")


def component_variances(x: npt.ArrayLike, *, weights: npt.ArrayLike | None = None) -> Array:
    """Return the variance along each principal component, as shares of the largest.

    Parameters
    ----------
    x : array_like (sample, channel)
        Table; its columns are centred.
    weights : array_like (sample,), optional
        How often each row counts; once if left out.

    Returns
    -------
    ndarray (component,)
        1 falling to 0, as many as the smaller side of the table; all 0 where no column varies.

    Raises
    ------
    InputError
        As `components_for`.

    Notes
    -----
    Eigenvalues of the covariance, or of the Gram matrix of the rows where these are fewer; what
    is below 1e-10 of the largest is rounding and set to 0.
    """
    table, often = _checked(x, weights)
    around = table - often @ table / often.sum()
    size = np.abs(around).max()
    if not size > _ROUNDING * np.abs(table).max():
        return np.zeros(min(table.shape))
    around = around / size * np.sqrt(often)[:, None]
    wide = around.shape[1] > around.shape[0]
    values = np.linalg.eigvalsh(around @ around.T if wide else around.T @ around)[::-1]
    return np.where(values > _ROUNDING * values[0], values / values[0], 0.0)


def _checked(x: npt.ArrayLike, weights: npt.ArrayLike | None) -> tuple[Array, Array]:
    """Return the table and how often each row counts, in double precision."""
    table = np.asarray(x, dtype=np.float64)
    problems = Problems()
    problems.require(table.ndim == 2, f"expected (sample, channel), got shape {table.shape}")
    problems.raise_as("dimensions")
    often = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=np.float64)
    problems.require(
        often.shape == table.shape[:1], f"weights: expected {len(table)}, got shape {often.shape}"
    )
    problems.require(
        bool(np.count_nonzero(often) >= 2 and table.shape[1] >= 1),
        f"expected at least 2 rows and a column, got {table.shape}",
    )
    bad = np.count_nonzero(~np.isfinite(table).all(axis=1)) if table.size else 0
    problems.require(bad == 0, f"{bad} rows hold a NaN or infinite value; leave them out")
    problems.raise_as("dimensions")
    return table, often
