"""How often a field changes from one state to another, and for how long a state lasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_frames import frame_weights
from retinacodec.bootstrap import percentiles
from retinacodec.errors import Problems
from retinacodec.plotting import heat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_transitions", "polarity_states", "state_transitions"]

Array = npt.NDArray[Any]


def polarity_states(fields: xr.Dataset) -> xr.DataArray:
    """Name the polarity that each cell's field has at each moment.

    Parameters
    ----------
    fields : xarray.Dataset
        What `retinacodec.analyses.dynamic_fields` returns.

    Returns
    -------
    xarray.DataArray (time, cell) of str
        ``"ON"`` or ``"OFF"`` where the cell fires, else ``"silent"``.
    """
    on = (fields["polarity"] > 0).transpose("time", "cell")
    active = (fields["firing"] & fields["polarity"].notnull()).transpose("time", "cell")
    return xr.where(active, xr.where(on, "ON", "OFF"), "silent").rename("state")


def state_transitions(
    states: xr.DataArray,
    frames: npt.ArrayLike,
    *,
    frame_rate: float,
    history: int,
    among: Sequence[str] | None = None,
    most_states: int = 8,
    block_seconds: float = 1.0,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Count how states follow each other from frame to frame.

    Parameters
    ----------
    states : xarray.DataArray (time[, cell]) of str
        State at each chosen frame, from `polarity_states` or `mode_sets`.
    frames : array_like of int (time,)
        Movie frame of each; only pairs of consecutive movie frames are counted, so that they
        had best be chosen by `retinacodec.analyses.consecutive_frames`.
    frame_rate : float
        Hz.
    history : int
        Frames of a window; blocks are at least as long.
    among : sequence of str, optional
        Changes are counted between these states, while both frames are in one of them, such as
        ``("OFF", "ON")`` for flips of polarity; between all states if left out.
    most_states : int, default 8
        The most frequent states are kept; the others are one state, ``"other"``.
    block_seconds, draws, level, seed
        As in `retinacodec.analyses.field_dynamics`.

    Returns
    -------
    xarray.Dataset
        ``count`` ([cell,] state, next_state), pairs of consecutive frames; ``probability``, each
        row of it over its sum; ``dwell`` ([cell,] state), s, mean time in a state; ``change_rate``
        ([cell]), changes per s with ``change_rate_low`` and ``_high``; ``change_rate_chance``,
        that of states drawn for every frame by themselves; ``change_pairs``, pairs counted. NaN
        where there is no pair; infinite ``dwell`` where a state is never left.

    Raises
    ------
    InputError
        If states and frames do not fit, no two frames are consecutive, or a number is out of
        range.

    Notes
    -----
    ``dwell = n_s / (e_s f)`` with ``n_s`` frames in the state that have a next one, of which
    ``e_s`` end it, and frame rate ``f``: the maximum-likelihood mean of geometric times that are
    cut off at the ends of stretches. ``change_rate = f e / n`` over the counted pairs, by chance
    ``f (1 - sum_s q_s^2)`` with ``q_s`` the share of state s among the first frames of the
    counted pairs. The interval resamples blocks of the movie, a pair going with its first frame.

    References
    ----------
    .. [1] Billingsley, Ann Math Stat 32, 12 (1961), estimation of Markov chains.

    Examples
    --------
    >>> states = xr.DataArray(list("aabbbba"), dims="time")
    >>> found = state_transitions(states, range(7), frame_rate=10, history=1)
    >>> found["state"].values.tolist(), found["dwell"].values.tolist()
    (['a', 'b'], [0.2, 0.4])
    """
    numbers = np.atleast_1d(np.asarray(frames))
    pairs = _checked(states, numbers, frame_rate, history, most_states)
    table = states if "cell" in states.dims else states.expand_dims("cell", -1)
    labels, names = _merged(table.transpose("time", "cell").values, most_states)
    count = np.stack([_counted(column, pairs, len(names)) for column in labels.T])
    leaving = count.sum(axis=2) - np.diagonal(count, axis1=1, axis2=2)
    length = max(int(np.ceil(block_seconds * frame_rate)), history)
    weights = frame_weights(numbers, length, draws, seed)[:, pairs]
    inside = np.isin(names, names if among is None else list(among))
    changes = _changes(labels, pairs, inside, weights, frame_rate, level)
    with np.errstate(invalid="ignore", divide="ignore"):
        dwell = count.sum(axis=2) / leaving / frame_rate
        probability = count / count.sum(axis=2, keepdims=True)
    found = xr.Dataset(
        {
            "count": (("cell", "state", "next_state"), count, {"units": "1"}),
            "probability": (("cell", "state", "next_state"), probability, {"units": "1"}),
            "dwell": (("cell", "state"), dwell, {"units": "s", "long_name": "mean time in it"}),
            **{name: ("cell", values, {"units": units}) for name, units, values in changes},
        },
        coords={"state": names, "next_state": names},
        attrs={"kind": "state_transitions", "level": level, "seed": seed},
    )
    if "cell" not in states.dims:
        return found.isel(cell=0)
    return found.assign_coords(cell=states["cell"].values) if "cell" in states.coords else found


def draw_transitions(transitions: xr.Dataset, ax: Axes, *, cell: int = 0) -> Axes:
    """Draw from which state to which a cell's field goes, as a heat map.

    Parameters
    ----------
    transitions : xarray.Dataset
        What `state_transitions` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int, default 0
        Position of the cell, where there are several.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: a row for each state, a column for the next, with the numbers where they fit.
    """
    one = transitions.isel(cell=cell) if "cell" in transitions.dims else transitions
    names = one["state"].values.tolist()
    values = one["probability"].transpose("state", "next_state").values
    heat(ax, values, limits=(0, 1), rows=names, columns=names)
    ax.set(xlabel="State in the next frame", ylabel="State")
    if len(names) <= 4:
        for row, column in np.argwhere(np.isfinite(values)):
            dark = values[row, column] > 0.5
            ax.text(
                column,
                row,
                f"{values[row, column]:.2f}",
                ha="center",
                va="center",
                fontsize=5.5,
                color="white" if dark else "black",
            )
    else:
        ax.tick_params(axis="x", rotation=90)
    return ax


def _checked(
    states: xr.DataArray, frames: Array, frame_rate: float, history: int, most: int
) -> Array:
    """Return the positions of frames whose next movie frame was chosen as well."""
    problems = Problems()
    dims = set(states.dims)
    problems.require(
        "time" in dims and dims <= {"time", "cell"} and states.sizes.get("time") == frames.size,
        f"states: expected dims (time[, cell]) with {frames.size} times, got {dict(states.sizes)}",
    )
    problems.require(bool((np.diff(frames) > 0).all()), "frames must rise")
    problems.require(frame_rate > 0, f"frame_rate: expected above 0 Hz, got {frame_rate}")
    problems.require(history >= 1, f"history: expected at least 1, got {history}")
    problems.require(most >= 1, f"most_states: expected at least 1, got {most}")
    pairs = np.flatnonzero(np.diff(frames) == 1)
    problems.require(
        pairs.size > 0,
        "no two frames are consecutive; choose frames by consecutive_frames(circuit, rate)",
    )
    problems.raise_as("state_transitions")
    return pairs


def _merged(states: Array, most: int) -> tuple[Array, Array]:
    """Return the number of each state, and their names, the rare ones as one."""
    text = np.where(states == "", "none", states.astype(str))
    counted = Counter(text.ravel().tolist())
    kept = sorted(name for name, _ in counted.most_common(most))
    names = np.array([*kept, "other"] if len(counted) > most else kept, dtype=str)
    place = np.searchsorted(kept, text)
    place = np.minimum(place, len(kept) - 1)
    return np.where(np.asarray(kept)[place] == text, place, len(kept)), names


def _counted(labels: Array, pairs: Array, states: int) -> Array:
    """Return counts (state, next_state) of pairs of frames."""
    code = labels[pairs] * states + labels[pairs + 1]
    return np.bincount(code, minlength=states**2).reshape(states, states)


def _changes(
    labels: Array, pairs: Array, inside: Array, weights: Array, frame_rate: float, level: float
) -> list[tuple[str, str, Array]]:
    """Return rates of change over cells with interval and chance, and the pairs they rest on."""
    before, after = labels[pairs], labels[pairs + 1]
    counted = inside[before] & inside[after]
    changed = counted & (before != after)
    blocks = int(np.unique(weights, axis=1).shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = frame_rate * changed.sum(axis=0) / counted.sum(axis=0)
        samples = frame_rate * (weights @ changed) / (weights @ counted)
        shares = np.stack([(counted & (before == k)).sum(axis=0) for k in range(inside.size)])
        chance = frame_rate * (1 - ((shares / counted.sum(axis=0)) ** 2).sum(axis=0))
    low, high = percentiles(samples, level, blocks=blocks)
    return [
        ("change_rate", "1/s", rate),
        ("change_rate_low", "1/s", low if blocks > 1 else np.full_like(rate, np.nan)),
        ("change_rate_high", "1/s", high if blocks > 1 else np.full_like(rate, np.nan)),
        ("change_rate_chance", "1/s", chance),
        ("change_pairs", "1", counted.sum(axis=0)),
    ]
