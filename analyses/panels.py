"""Which moments tell modes apart: equal rates with different modes, one mode and its company."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError

__all__ = [
    "active_modes",
    "choose_combinations",
    "choose_events",
    "strong_loadings",
]

Array = npt.NDArray[Any]

_SHARE = 0.1
_FREQUENT = 20


def active_modes(loading: xr.DataArray, *, share: float = _SHARE) -> xr.DataArray:
    """Say at which frames each mode takes part.

    Parameters
    ----------
    loading : xarray.DataArray (time, mode)
        Loadings; of those that have signs the size counts.
    share : float, default 0.1
        A mode takes part where its loading exceeds this share of its own strong loadings (the
        99th percentile of those that are not 0).

    Returns
    -------
    xarray.DataArray (time, mode)
        True where a mode takes part; never for a mode that is always 0.

    Raises
    ------
    InputError
        If a loading is NaN, or samples are not times.

    Examples
    --------
    >>> loading = xr.DataArray([[0.0, 0.0], [1.0, 0.0], [0.05, 0.0]], dims=("time", "mode"))
    >>> active_modes(loading).values.tolist()
    [[False, False], [True, False], [False, False]]
    """
    if set(loading.dims) != {"time", "mode"}:
        raise InputError(
            f"active_modes: expected loadings (time, mode), got {loading.dims}; sets of modes and "
            "their null are those of a movie"
        )
    values = loading.transpose("time", "mode").values.astype(np.float64)
    unknown = int(np.isnan(values).any(axis=1).sum())
    if unknown:
        raise InputError(f"loading: {unknown} times have NaN loadings; leave these times out")
    return loading.transpose("time", "mode").copy(
        data=np.abs(values) > share * strong_loadings(values)
    )


def strong_loadings(loading: Array) -> Array:
    """Return the 99th percentile of the size of each mode's loadings other than 0, else infinity.

    Parameters
    ----------
    loading : ndarray (time, mode)
        Loadings.

    Returns
    -------
    ndarray (mode,)
        Strong loading of each mode.
    """
    columns = np.abs(np.asarray(loading, dtype=np.float64)).T
    return np.array([np.percentile(v[v > 0], 99) if (v > 0).any() else np.inf for v in columns])


def choose_events(
    rate: xr.DataArray,
    loading: xr.DataArray,
    *,
    seconds: float = 2.5,
    tolerance: float = 0.25,
    half_width: int = 3,
) -> xr.Dataset:
    """Find two events of one cell with the same rate but different modes.

    Parameters
    ----------
    rate : xarray.DataArray (time,)
        Rate of the cell, Hz, on regular frames.
    loading : xarray.DataArray (time, mode)
        Loadings at the same times.
    seconds : float, default 2.5
        Length of the stretch in which both events must lie, s.
    tolerance : float, default 0.25
        Largest difference of the two peak rates, as a share of the larger. If no pair is that
        similar, the most similar pair with different modes is taken.
    half_width : int, default 3
        Frames on either side of a peak whose loadings belong to the event.

    Returns
    -------
    xarray.Dataset
        For each event (event): ``time`` s, ``frame`` (index on the time axis), ``rate`` Hz,
        ``mode`` (the mode that tells it from the other event); ``strength`` (event, shown_mode),
        largest loading of both modes as a share of their strong loadings; ``start`` and
        ``stop``, the stretch to show, s.

    Raises
    ------
    InputError
        If the cell has no two events with different modes within the stretch.

    Notes
    -----
    An event is a local maximum of at least a quarter of the cell's largest rate. With
    ``l[e, m]`` the largest loading of mode m within the event, as a share of the mode's strong
    loadings, a pair of events scores
    ``min(max_m (l[1, m] - l[2, m]), max_m (l[2, m] - l[1, m])) * sqrt(r_1 r_2)``, and
    the best pair within the tolerance wins. Both lie on one unbroken run of frames.
    """
    from scipy.signal import find_peaks

    rate, loading = xr.align(rate, loading, join="inner")
    height, times = rate.values.astype(np.float64), rate["time"].values
    peaks, _ = find_peaks(height, height=0.25 * height.max(), distance=2 * half_width + 1)
    strength = _event_loadings(loading.transpose("time", "mode").values, peaks, half_width)
    best = max(
        _near_pairs(times, peaks, 0.15 * seconds, 0.8 * seconds),
        key=lambda pair: _pair_score(height[peaks[list(pair)]], strength[list(pair)], tolerance),
        default=None,
    )
    lead = strength[best[0]] - strength[best[1]] if best else np.zeros(1)
    if best is None or lead.max() <= 0 or lead.min() >= 0:
        raise InputError(
            f"events: no two events with different modes within {seconds:g} s; show a longer "
            "movie, another cell, or pass a larger seconds="
        )
    modes = (int(lead.argmax()), int(lead.argmin()))
    return _events(rate, loading, peaks[list(best)], modes, strength[list(best)], seconds)


def choose_combinations(
    rate: xr.DataArray,
    loading: xr.DataArray,
    *,
    cells: int = 4,
    count: int = 4,
    most_modes: int = 5,
    rate_floor: float = 1.0,
    share: float = _SHARE,
) -> xr.Dataset:
    """Find, for some cells, a frame of one mode alone and frames of its combinations.

    Parameters
    ----------
    rate : xarray.DataArray (time, cell)
        Rates, Hz.
    loading : xarray.DataArray (time, mode)
        Loadings.
    cells : int, default 4
        Number of cells to show, those with the most different combinations.
    count : int, default 4
        Combinations for each cell.
    most_modes : int, default 5
        Largest combination.
    rate_floor : float, default 1
        A frame counts for a cell only if it fires faster than this, Hz, or than the middle of
        its range, where that is lower.
    share : float, default 0.1
        As in `active_modes`.

    Returns
    -------
    xarray.Dataset
        ``frame`` (cell, panel) index on the common time axis, -1 where there is none; ``time`` s;
        ``rate`` Hz; ``label`` the active modes joined by ``+``. Panel 0 is the mode alone.
        Attribute ``mode``: the mode that the combinations share.

    Raises
    ------
    InputError
        If no mode is ever active alone while a cell fires.

    Notes
    -----
    The shared mode is the one that is active alone for most cells, then most often. A
    combination holds it and at least one other mode. Each is shown at the frame where the cell
    fires fastest. Of the 20 most frequent combinations of a cell, those whose frames lie farthest
    apart in time are taken one after the other, beginning with the fastest.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8D.
    """
    rate, loading = xr.align(rate, loading, join="inner")
    active = active_modes(loading, share=share).values
    rates = rate.transpose("time", "cell").values
    middle = (rates.min(axis=0) + rates.max(axis=0)) / 2
    firing = (rates > np.minimum(rate_floor, middle)) & (np.ptp(rates, axis=0) > 0)
    mode = _shared_mode(active, firing)
    frames = np.full((firing.shape[1], count + 1), -1, dtype=np.int64)
    for cell in range(firing.shape[1]):
        alone = firing[:, cell] & active[:, mode] & (active.sum(axis=1) == 1)
        if alone.any():
            frames[cell, 0] = int(np.where(alone, rates[:, cell], -1).argmax())
        few = (active.sum(axis=1) > 1) & (active.sum(axis=1) <= most_modes)
        several = np.flatnonzero(firing[:, cell] & active[:, mode] & few)
        found = _spread(active, rates[:, cell], several, count)
        frames[cell, 1 : 1 + len(found)] = found
    order = np.lexsort((-(frames >= 0).sum(axis=1), frames[:, 0] < 0))[:cells]
    return _combinations(rate, loading, active, frames, np.sort(order), mode)


def _near_pairs(times: Array, peaks: Array, least: float, most: float) -> Iterator[tuple[int, int]]:
    """Yield pairs of peaks that lie this far apart, s, without a gap in time between."""
    step = float(np.median(np.diff(times))) if times.size > 1 else 1.0
    for one in range(len(peaks)):
        for two in range(one + 1, len(peaks)):
            apart = times[peaks[two]] - times[peaks[one]]
            if apart > most:
                break
            if apart >= least and abs(apart / step - (peaks[two] - peaks[one])) < 0.5:
                yield one, two


def _event_loadings(loading: Array, peaks: Array, half_width: int) -> Array:
    """Return the largest relative loading of each mode within each event (event, mode)."""
    relative = _relative(loading)
    rows = [relative[max(p - half_width, 0) : p + half_width + 1].max(axis=0) for p in peaks]
    return np.asarray(rows).reshape(len(peaks), loading.shape[1])


def _pair_score(rates: Array, strength: Array, tolerance: float) -> tuple[bool, float]:
    """Score two events: whether their rates are alike, and how much their modes differ."""
    lead = strength[0] - strength[1]
    contrast = min(lead.max(), -lead.min())
    difference = 1 - rates.min() / rates.max()
    close = bool(difference <= tolerance) and contrast > 0
    score = float(contrast * np.sqrt(rates.prod()))
    return close, score if close else score * (1 - difference)


def _relative(loading: Array) -> Array:
    """Return loadings as a share of each mode's strong loadings, at most 1."""
    strong = strong_loadings(loading)
    return np.minimum(loading / np.where(np.isfinite(strong), strong, 1.0), 1.0)


def _events(
    rate: xr.DataArray,
    loading: xr.DataArray,
    chosen: Array,
    modes: tuple[int, int],
    strength: Array,
    seconds: float,
) -> xr.Dataset:
    """Describe the two chosen events and the stretch around them."""
    times = rate["time"].values
    middle = float(times[chosen].mean())
    start = float(np.clip(middle - seconds / 2, times[0], max(times[-1] - seconds, times[0])))
    return xr.Dataset(
        {
            "time": ("event", times[chosen], {"units": "s"}),
            "frame": ("event", chosen.astype(np.int64), {"units": "1"}),
            "rate": ("event", rate.values[chosen], {"units": "Hz"}),
            "mode": ("event", loading["mode"].values[list(modes)], {"units": "1"}),
            "strength": (("event", "shown_mode"), strength[:, list(modes)], {"units": "1"}),
            "start": ((), start, {"units": "s"}),
            "stop": ((), min(start + seconds, float(times[-1])), {"units": "s"}),
        },
        coords={"event": [1, 2], "shown_mode": loading["mode"].values[list(modes)]},
    )


def _shared_mode(active: Array, firing: Array) -> int:
    """Return the mode that is alone for most cells, then most often."""
    alone = active & (active.sum(axis=1) == 1)[:, None]
    joint = np.einsum("tm,tc->mc", alone.astype(np.int64), firing.astype(np.int64))
    if not joint.any():
        raise InputError(
            "combinations: no mode is ever active alone while a cell fires; pass a larger share= "
            "or a lower rate_floor="
        )
    cells, often = (joint > 0).sum(axis=1), alone.sum(axis=0)
    return int(np.lexsort((-often, -cells))[0])


def _spread(active: Array, rate: Array, frames: Array, count: int) -> list[int]:
    """Return frames of different combinations, beginning with the fastest, far apart in time."""
    fastest: dict[bytes, int] = {}
    often: Counter[bytes] = Counter()
    for frame in frames[np.argsort(-rate[frames], kind="stable")]:
        key = active[frame].tobytes()
        fastest.setdefault(key, int(frame))
        often[key] += 1
    frequent = {key for key, _ in often.most_common(_FREQUENT)}
    waiting = [frame for key, frame in fastest.items() if key in frequent]
    found = waiting[:1]
    waiting = waiting[1:]
    while waiting and len(found) < count:
        distance = [min(abs(frame - other) for other in found) for frame in waiting]
        found.append(waiting.pop(int(np.argmax(distance))))
    return sorted(found, key=lambda frame: -rate[frame])


def _combinations(
    rate: xr.DataArray,
    loading: xr.DataArray,
    active: Array,
    frames: Array,
    cells: Array,
    mode: int,
) -> xr.Dataset:
    """Describe the chosen frames."""
    names = loading["mode"].values
    frames = frames[cells]
    known = frames >= 0
    labels = [
        ["+".join(str(names[m]) for m in np.flatnonzero(active[f])) if f >= 0 else "" for f in row]
        for row in frames
    ]
    rates = np.take_along_axis(
        rate.transpose("cell", "time").values[cells], np.where(known, frames, 0), axis=1
    )
    times = np.where(known, rate["time"].values[frames], np.nan)
    dims = ("cell", "panel")
    return xr.Dataset(
        {
            "frame": (dims, frames, {"units": "1", "long_name": "index on the time axis"}),
            "time": (dims, times, {"units": "s"}),
            "rate": (dims, np.where(known, rates, np.nan), {"units": "Hz"}),
            "label": (dims, np.asarray(labels), {"long_name": "active modes"}),
        },
        coords={"cell": rate["cell"].values[cells], "panel": np.arange(frames.shape[1])},
        attrs={"mode": names[mode].item()},
    )
