"""How long the shape of a receptive field lasts: its similarity to itself some frames later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_frames import Fields, frame_weights
from retinacodec.analyses.field_pairs import field_cosines
from retinacodec.bootstrap import percentiles
from retinacodec.errors import Problems
from retinacodec.nulls import p_value
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_persistence", "field_persistence"]

Array = npt.NDArray[Any]

_CONSTANT = 1e-3  # a null so near to 1 is that of a field of constant shape
_FEWEST = 10  # pairs of frames below which no mean is given


def field_persistence(
    fields: Fields | xr.Dataset,
    *,
    frame_rate: float,
    history: int,
    most_lag: int | None = None,
    minimum_rate: float = 1.0,
    null_shifts: int = 200,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Return how similar a cell's field is to itself a number of frames later.

    Parameters
    ----------
    fields : LatentFields, PackedFields or xarray.Dataset
        Fields at consecutive frames, or stretches of them (see
        `retinacodec.analyses.consecutive_frames`): whole fields, or what
        `retinacodec.analyses.dynamic_fields` returns, of which the spatial maps are compared.
    frame_rate : float
        Hz.
    history : int
        Frames of a window.
    most_lag : int, optional
        Largest lag, frames; twice the history if left out.
    minimum_rate : float, default 1.0
        Only frames in which the cell's rate is above this enter, Hz.
    null_shifts : int, default 200
        Number of shifts of the fields against themselves.
    draws, level, seed
        As in `retinacodec.analyses.field_dynamics`.

    Returns
    -------
    xarray.Dataset
        ``cosine`` (cell, lag), mean cosine of fields at frames that far apart, with ``_low`` and
        ``_high``; ``pairs`` (cell, lag); ``null`` (shift, cell), mean cosine at long shifts, and
        ``p_value`` (cell, lag), the share of them at least as large; ``half_time`` (cell), s, the
        lag at which the cosine has fallen half way from 1 to the mean of the null, NaN where it
        does not. Lag in s. NaN where there are fewer than 10 pairs.

    Raises
    ------
    InputError
        If a number is out of range, or frames do not rise.

    Notes
    -----
    ``c(k) = mean_t cos(F(t), F(t + k))`` over frames in both of which the cell fires; cosines
    come from inner products of the fields, which are not computed. Up to the history the windows
    of the two frames share stimulus, so that some of the similarity is that of the stimulus with
    itself. The null joins the end of the fields to their start and compares frames more than two
    histories apart at one shift for all; a field of constant shape has ``c = 1`` there too.

    References
    ----------
    .. [1] Maheswaranathan et al., Neuron 111, 2742 (2023), instantaneous receptive fields.
    """
    rate = fields["rate"] if isinstance(fields, xr.Dataset) else fields.rate
    rate = rate.transpose("time", "cell")
    frames = rate["frame"].values
    most = 2 * history if most_lag is None else most_lag
    problems = Problems()
    problems.require(history >= 1, f"history: expected at least 1, got {history}")
    problems.require(most >= 1, f"most_lag: expected at least 1 frame, got {most}")
    problems.require(frame_rate > 0, f"frame_rate: expected above 0 Hz, got {frame_rate}")
    problems.require(null_shifts >= 1, f"null_shifts: expected at least 1, got {null_shifts}")
    problems.require(bool((np.diff(frames) > 0).all()), "frames of the fields must rise")
    problems.raise_as("field_persistence")
    block = max(int(np.ceil(frame_rate)), most + history)
    weights = frame_weights(frames, block, draws, seed)
    shares = np.random.default_rng([seed, 1]).uniform(0.1, 0.9, size=null_shifts)
    cells = []
    for cell in range(rate.sizes["cell"]):
        kept = np.flatnonzero(rate.values[:, cell] > minimum_rate)
        cosine = field_cosines(fields, cell, kept)
        null = _at_shifts(cosine, frames[kept], shares, 2 * history)
        means = _at_lags(cosine, frames[kept], most, weights[:, kept], level)
        cells.append((*means, null))
    return _described(cells, rate, np.arange(most + 1) / frame_rate, level, seed)


def draw_persistence(
    persistence: xr.Dataset, ax: Axes, *, cell: int | None = None, colour: str = COLOURS.ink
) -> Axes:
    """Draw the similarity of a field to itself against the lag, over its null.

    Parameters
    ----------
    persistence : xarray.Dataset
        What `field_persistence` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int, optional
        Position of the cell; all cells, faintly, and their mean if left out.
    colour : str, optional
        Colour of the line.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; the grey band holds 95 % of the null. The mean is over cells known at every lag.
    """
    lag = 1000 * persistence["lag"].values
    chosen = persistence["cosine"].transpose("cell", "lag").values
    null = persistence["null"].transpose("shift", "cell").values
    if cell is None:
        known = np.isfinite(chosen).all(axis=1)
        known = known if known.any() else np.isfinite(chosen).any(axis=1)
        ax.plot(lag, chosen.T, color=colour, alpha=0.25, linewidth=0.5)
        line, band = np.nanmean(chosen[known], axis=0), np.nanmean(null[:, known], axis=1)
        label: str | None = "mean of cells"
    else:
        one = persistence.isel(cell=cell)
        ax.fill_between(lag, one["cosine_low"], one["cosine_high"], color=colour, alpha=0.2, lw=0)
        line, band = chosen[cell], null[:, cell]
        label = str(one["cell"].item()) if "cell" in one.coords else None
    low, high = percentiles(band)
    ax.axhspan(float(low), float(high), color=COLOURS.paper, zorder=0, label="null (95 %)")
    ax.plot(lag, line, color=colour, label=label)
    ax.set(xlabel="Time between frames (ms)", ylabel="Cosine of fields", xlim=(0, lag[-1]))
    ax.legend()
    return ax


def _at_lags(
    cosine: Array, frames: Array, most: int, weights: Array, level: float
) -> tuple[Array, ...]:
    """Return mean cosines, ends of their intervals and number of pairs (lag,)."""
    found = np.full((4, most + 1), np.nan)
    blocks = int(np.unique(weights, axis=1).shape[1]) if frames.size else 0
    for lag in range(most + 1):
        later = np.searchsorted(frames, frames + lag)
        at = np.flatnonzero(later < frames.size)
        at = at[frames[later[at]] == frames[at] + lag]
        values = cosine[at, later[at]]
        at, values = at[np.isfinite(values)], values[np.isfinite(values)]
        found[3, lag] = values.size
        if values.size < _FEWEST:
            continue
        found[0, lag] = values.mean()
        drawn = weights[:, at]
        total = drawn.sum(axis=1)
        samples = np.where(total > 0, drawn @ values / np.maximum(total, 1), np.nan)
        if blocks > 1:
            found[1:3, lag] = percentiles(samples, level, blocks=blocks)
    return tuple(found)


def _at_shifts(cosine: Array, frames: Array, shares: Array, least: int) -> Array:
    """Return mean cosines (shift,) of frames against frames far away, one shift for all."""
    null = np.full(len(shares), np.nan)
    if frames.size < 2:
        return null
    place = np.arange(frames.size)
    for number, share in enumerate(shares):
        other = (place + max(round(share * frames.size), 1)) % frames.size
        values = cosine[place, other][np.abs(frames - frames[other]) > least]
        values = values[np.isfinite(values)]
        if values.size >= _FEWEST:
            null[number] = values.mean()
    return null


def _described(
    cells: list[tuple[Array, ...]], rate: xr.DataArray, lag: Array, level: float, seed: int
) -> xr.Dataset:
    """Put the answers of all cells into a dataset with units."""
    mean, low, high, pairs, null = (np.stack(column) for column in zip(*cells, strict=True))
    chance = np.array(
        [one[np.isfinite(one)].mean() if np.isfinite(one).any() else np.nan for one in null]
    )
    with np.errstate(invalid="ignore"):
        fallen = (mean <= (1 + chance[:, None]) / 2) & (chance[:, None] < 1 - _CONSTANT)
    half = np.where(fallen.any(axis=1), lag[fallen.argmax(axis=1)], np.nan)
    p = np.stack([p_value(one, rest[:, None]) for one, rest in zip(mean, null, strict=True)])
    cosine = {"units": "1", "long_name": "cosine of fields"}
    grid = ("cell", "lag")
    return xr.Dataset(
        {
            "cosine": (grid, mean, cosine),
            "cosine_low": (grid, low, cosine),
            "cosine_high": (grid, high, cosine),
            "pairs": (grid, pairs.astype(np.int64), {"units": "1"}),
            "p_value": (grid, p, {"units": "1"}),
            "null": (("shift", "cell"), null.T, cosine),
            "half_time": ("cell", half, {"units": "s", "long_name": "time to lose half"}),
        },
        coords={"cell": rate["cell"].values, "lag": ("lag", lag, {"units": "s"})},
        attrs={"kind": "field_persistence", "level": level, "seed": seed},
    )
