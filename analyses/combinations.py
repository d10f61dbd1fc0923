"""Which modes go together: sets of active modes against independent ones, and frames of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.panels import active_modes
from retinacodec.bootstrap import percentiles
from retinacodec.errors import InputError
from retinacodec.nulls import circular_shifts, discoveries, p_value

__all__ = ["combination_frames", "combination_table", "lone_frames", "telling_modes"]

Array = npt.NDArray[Any]


def combination_table(
    loading: xr.DataArray,
    *,
    share: float = 0.1,
    most: int = 20,
    shifts: int = 1000,
    level: float = 0.05,
    seed: int = 0,
) -> xr.Dataset:
    """Count the sets of modes that are active together, against modes that are independent.

    Parameters
    ----------
    loading : xarray.DataArray (time, mode)
        Loadings.
    share : float, default 0.1
        A mode is active where its loading exceeds this share of its strong loadings
        (`active_modes`).
    most : int, default 20
        Number of the most frequent sets that are listed.
    shifts : int, default 1000
        Samples of the null; at least twice `most` over `level`, so that a single set can be
        called more or less frequent than by chance.
    level : float, default 0.05
        Share of false ones among the sets that are called so.
    seed : int, default 0
        Seed of the null.

    Returns
    -------
    xarray.Dataset
        For each set (set), named by its modes joined by ``+``: ``frames``, how often exactly
        these modes are active; ``expected`` for independent modes; ``null_mean``, ``null_sd``,
        ``null_low`` and ``null_high`` (95 %) of the null; ``p_more`` and ``p_less``, the share
        of the null with at least and at most as many frames; ``q_more`` and ``q_less``, the same
        adjusted for all sets and both directions, and ``more`` and ``less``, True where they are
        at most `level`. ``member`` (set, mode), the modes of each set. ``active`` (count), frames
        with so many active modes, with ``active_null`` (count), the mean of the null.
        ``distinct``, number of different sets, with ``distinct_null`` (shift).

    Raises
    ------
    InputError
        If no mode is ever active.

    Notes
    -----
    In the null every mode is moved along the time axis by its own random shift, the end joined
    to the start, so that it keeps how often and for how long it is active.
    ``expected = T prod_in p prod_out (1 - p)`` with p the share of time a mode is active. The
    false discovery rate is held by Benjamini and Hochberg over the listed sets, both directions
    together. These are chosen by their frequency, so ``q_more`` is somewhat too small; ``q_less``
    is the safer of the two.

    Examples
    --------
    >>> on = np.repeat([[1.0, 1.0], [0.0, 0.0]], 50, axis=0)
    >>> table = combination_table(xr.DataArray(on, dims=("time", "mode")), shifts=20)
    >>> table["set"].values.tolist(), table["frames"].values.tolist(), table["expected"].values[0]
    (['0+1'], [50], np.float64(25.0))
    """
    active = active_modes(loading, share=share).values
    names = _names(loading)
    if not active.any():
        raise InputError("combinations: no mode is ever active")
    weights = _weights(active.shape[1])
    keys, first, counts = _sets(active, weights)
    order = np.argsort(-counts, kind="stable")[:most]
    chosen = active[first[order]]
    sizes = np.arange(active.shape[1] + 1)
    null, together, distinct = _null(active, weights, keys[order], shifts, seed)
    rate = active.mean(axis=0)
    expected = len(active) * np.where(chosen, rate, 1 - rate).prod(axis=1)
    return xr.Dataset(
        {
            "frames": ("set", counts[order], {"units": "1"}),
            "expected": ("set", expected, {"units": "1"}),
            **_against(counts[order], null, level),
            "size": ("set", chosen.sum(axis=1), {"units": "1", "long_name": "modes in the set"}),
            "member": (("set", "mode"), chosen),
            "active": ("count", np.bincount(active.sum(axis=1), minlength=len(sizes))),
            "active_null": ("count", together.mean(axis=0)),
            "distinct": ((), len(keys)),
            "distinct_null": ("shift", distinct),
        },
        coords={"set": _labels(chosen, names), "count": sizes, "mode": names},
        attrs={"share": share, "shifts": shifts, "level": level, "seed": seed},
    )


def _against(frames: Array, null: Array, level: float) -> dict[str, Any]:
    """Return what the null (shift, set) says of the frames (set,) of each set."""
    low, high = percentiles(null)
    more, less = p_value(frames, null), p_value(-frames, -null)
    found = discoveries(np.stack([more, less]), level)
    values = {
        "null_mean": null.mean(axis=0),
        "null_sd": null.std(axis=0),
        "null_low": low,
        "null_high": high,
        "p_more": more,
        "p_less": less,
        "q_more": found.q[0],
        "q_less": found.q[1],
    }
    data: dict[str, Any] = {name: ("set", each, {"units": "1"}) for name, each in values.items()}
    return data | {"more": ("set", found.found[0]), "less": ("set", found.found[1])}


def lone_frames(loading: xr.DataArray, *, share: float = 0.1) -> xr.DataArray:
    """Say at which times a mode is active alone.

    Parameters
    ----------
    loading : xarray.DataArray (time, mode)
        Loadings.
    share : float, default 0.1
        As in `active_modes`.

    Returns
    -------
    xarray.DataArray (time, mode)
        True where this is the only active mode; its sum over time says which mode stands alone
        most often.
    """
    active = active_modes(loading, share=share)
    return active & (active.sum("mode") == 1)


def combination_frames(
    rate: xr.DataArray,
    loading: xr.DataArray,
    *,
    most_modes: int = 5,
    most_sets: int = 20,
    most_frames: int = 6,
    rate_floor: float = 1.0,
    share: float = 0.1,
) -> xr.Dataset:
    """Choose frames that show what a cell does while a set of modes is active.

    Parameters
    ----------
    rate : xarray.DataArray (time, cell)
        Rates, Hz.
    loading : xarray.DataArray (time, mode)
        Loadings.
    most_modes : int, default 5
        Largest set.
    most_sets : int, default 20
        Number of the most frequent sets.
    most_frames : int, default 6
        Frames for each set and cell.
    rate_floor : float, default 1
        A frame counts for a cell only if it fires faster than this, Hz.
    share : float, default 0.1
        As in `active_modes`.

    Returns
    -------
    xarray.Dataset
        ``frame`` (set, cell, rank), index on the common time axis, -1 where there is none;
        ``time`` s, NaN where there is none; ``frames`` (set, cell), how many there were to choose
        from; ``occurrence`` (set), frames with this set. The first frame has the largest summed
        loading; each next one lies farthest in time from those chosen.

    Raises
    ------
    InputError
        If rate and loading share no times, or no mode is ever active.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8D.
    """
    rate, loading = xr.align(rate, loading, join="inner")
    active = active_modes(loading, share=share).values
    small = active & (active.sum(axis=1) <= most_modes)[:, None]
    if not small.any():
        raise InputError("combinations: no set of so few modes is ever active at these times")
    weights = _weights(active.shape[1])
    keys, first, counts = _sets(small, weights)
    order = np.argsort(-counts, kind="stable")[:most_sets]
    of_frame = small.astype(np.uint64) @ weights
    firing = rate.transpose("time", "cell").values > rate_floor
    total = np.abs(loading.transpose("time", "mode").values).sum(axis=1)
    frame = np.full((len(order), firing.shape[1], most_frames), -1, dtype=np.int64)
    usable = np.zeros(frame.shape[:2], dtype=np.int64)
    for row, key in enumerate(keys[order]):
        for cell in range(firing.shape[1]):
            candidates = np.flatnonzero((of_frame == key) & firing[:, cell])
            usable[row, cell] = len(candidates)
            found = _far_apart(candidates, total, most_frames)
            frame[row, cell, : len(found)] = found
    time = loading["time"].values if "time" in loading.coords else np.arange(len(active))
    dims = ("set", "cell", "rank")
    return xr.Dataset(
        {
            "frame": (dims, frame, {"units": "1", "long_name": "index on the common time axis"}),
            "time": (dims, np.where(frame >= 0, time[frame], np.nan), {"units": "s"}),
            "frames": (dims[:2], usable, {"units": "1"}),
            "occurrence": ("set", counts[order], {"units": "1"}),
        },
        coords={"set": _labels(small[first[order]], _names(loading)), "cell": rate["cell"]},
    )


def telling_modes(
    loading: xr.DataArray, first: int, second: int, *, half_width: int = 5, share: float = 0.1
) -> tuple[int | None, int | None]:
    """Return a mode that is active about the one moment only, and one about the other only.

    Parameters
    ----------
    loading : xarray.DataArray (time, mode)
        Loadings.
    first, second : int
        The two moments, as indices on the time axis.
    half_width : int, default 5
        Frames on either side of a moment that belong to it.
    share : float, default 0.1
        As in `active_modes`.

    Returns
    -------
    tuple of int or None
        Name of the first such mode for each moment; None where there is none.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8B.
    """
    active = active_modes(loading, share=share).values
    near = [
        active[max(moment - half_width, 0) : moment + half_width + 1].any(axis=0)
        for moment in (first, second)
    ]
    names = _names(loading)
    found: list[int | None] = []
    for mine, other in (near, near[::-1]):
        only = np.flatnonzero(mine & ~other)
        found.append(int(names[only[0]]) if only.size else None)
    return found[0], found[1]


def _weights(modes: int) -> Array:
    """Return a number for each mode, such that different sets have different sums."""
    return np.asarray(np.random.default_rng(0).integers(1, 2**62, modes, dtype=np.uint64))


def _null(
    active: Array, weights: Array, keys: Array, shifts: int, seed: int
) -> tuple[Array, Array, Array]:
    """Return frames of each set (shift, set), of each size (shift, count), and sets found."""
    null = np.empty((shifts, len(keys)))
    together, distinct = np.empty((shifts, active.shape[1] + 1)), np.empty(shifts)
    circles = circular_shifts(active, shifts, seed=seed, least=0, together=False)
    for number, moved in enumerate(circles):
        found, _, often = _sets(moved, weights)
        place = np.minimum(np.searchsorted(found, keys), len(found) - 1)
        null[number] = np.where(found[place] == keys, often[place], 0)
        together[number] = np.bincount(moved.sum(axis=1), minlength=together.shape[1])
        distinct[number] = len(found)
    return null, together, distinct


def _sets(active: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return key, first frame and number of frames of each set that is not empty."""
    keys, first, counts = np.unique(
        active.astype(np.uint64) @ weights, return_index=True, return_counts=True
    )
    some = active[first].any(axis=1)
    return keys[some], first[some], counts[some]


def _far_apart(candidates: Array, total: Array, most: int) -> list[int]:
    """Return the strongest frame, then those farthest in time from the ones chosen."""
    if not candidates.size:
        return []
    chosen = [int(candidates[np.argmax(total[candidates])])]
    nearest = np.abs(candidates - chosen[0])
    while len(chosen) < most and nearest.max() > 0:
        chosen.append(int(candidates[np.argmax(nearest)]))
        nearest = np.minimum(nearest, np.abs(candidates - chosen[-1]))
    return chosen


def _names(loading: xr.DataArray) -> Array:
    return np.asarray(loading["mode"].values)


def _labels(sets: Array, names: Array) -> Array:
    """Name each set by its modes, joined by ``+``."""
    return np.asarray(["+".join(str(name) for name in names[row]) for row in sets])
