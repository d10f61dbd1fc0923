"""Responses in laboratory HDF5: counts, smoothed rates, and both layouts of repeats."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import RecordingError

__all__ = ["Responses", "responses_of"]

_log = logging.getLogger(__name__)
_AXES = ("repeat", "cell", "time")
_MOST_SPIKES = 50  # in one frame of about 10 ms: whole numbers above are rates

Array = NDArray[Any]


@dataclass(frozen=True)
class Responses:
    """What the cells did during one part of an experiment.

    Parameters
    ----------
    counts : ndarray (presentation, time, cell) or None
        Spikes in each frame; NaN where a cell has fewer repeats.
    rates : mapping of str to ndarray (presentation, time, cell)
        Smoothed rates, Hz, by their name in the file.
    """

    counts: NDArray[np.float32] | None = None
    rates: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Presentations, frames, cells."""
        values = self.counts if self.counts is not None else next(iter(self.rates.values()))
        return values.shape  # type: ignore[return-value]


def responses_of(
    file: h5py.File, part: str, frames: int, path: str, repeat_axes: Sequence[str] | None
) -> Responses:
    """Read the responses of a part: its repeats where it has them, else counts, else rates.

    Parameters
    ----------
    file : h5py.File
        The open file.
    part : str
        "train" or "test".
    frames : int
        Frames of its movie.
    path : str
        Name of the file, for messages.
    repeat_axes : sequence of str, optional
        Order of "repeat", "cell" and "time" where sizes leave it open.

    Returns
    -------
    Responses
        Counts or rates.

    Raises
    ------
    RecordingError
        If nothing in the part can be used, a shape does not fit, or axes cannot be told apart.

    Notes
    -----
    The axis of time is the one as long as the movie, the axis of cells the one as long as that
    of ``response``. Arrays called ``binned`` are counts, those called ``firing_rate`` rates;
    ``cellNN`` are counts if they hold whole numbers from 0 to 50 alone.
    """
    group = file[f"{part}/response"]
    arrays = {
        name: one
        for name, one in group.items()
        if isinstance(one, h5py.Dataset) and (name == "binned" or name.startswith("firing_rate"))
    }
    if not arrays:
        raise RecordingError(
            path,
            f"{part}/response holds {', '.join(group) or 'nothing'}",
            "expected binned (counts) or firing_rate_10ms (rates)",
        )
    single = {name: _single(one, frames, path)[None] for name, one in arrays.items()}
    cells = next(iter(single.values())).shape[2]
    repeats = file.get(f"{part}/repeats")
    if isinstance(repeats, h5py.Group) and len(repeats):
        found = _repeats(repeats, (cells, frames), path, repeat_axes)
        _log.warning("%s: %s/response, made from the repeats, is left out", path, part)
        return found
    if "binned" in single:
        return Responses(single["binned"])
    _log.warning("%s: %s has no counts (binned); its rates are kept as rates", path, part)
    return Responses(rates=single)


def _single(array: h5py.Dataset, frames: int, path: str) -> NDArray[np.float32]:
    if array.ndim != 2 or array.shape[1] != frames:
        raise RecordingError(
            path, f"{array.name[1:]} has shape {array.shape}, expected (cell, {frames})"
        )
    return _numbers(array, path).T


def _repeats(
    group: h5py.Group, sizes: tuple[int, int], path: str, axes: Sequence[str] | None
) -> Responses:
    whole = {name: one for name, one in group.items() if re.match("firing_rate|binned", name)}
    each = {name: one for name, one in group.items() if re.fullmatch(r"cell_?\d+", name)}
    if whole:
        found = {name: _whole(one, sizes, path, axes) for name, one in whole.items()}
        counts = found.pop("binned", None)
        return Responses(counts) if counts is not None else Responses(rates=found)
    if not each:
        raise RecordingError(
            path,
            f"{group.name[1:]} holds {', '.join(group)}",
            "expected firing_rate_10ms, binned or cell00, cell01 ...",
        )
    values = _each(each, sizes, path, axes)
    seen = values[np.isfinite(values)]
    counts_only = bool((seen == seen.round()).all() and (seen >= 0).all())
    if counts_only and seen.size and seen.max() <= _MOST_SPIKES:
        return Responses(values)
    return Responses(rates={"firing_rate": values})


def _whole(
    array: h5py.Dataset, sizes: tuple[int, int], path: str, axes: Sequence[str] | None
) -> NDArray[np.float32]:
    """Return an array of all cells as (repeat, time, cell)."""
    values, (cells, frames) = _numbers(array, path), sizes
    place = {"time": frames, "cell": cells}
    order = _order(array, ("repeat", "cell", "time"), place, path, axes)
    return values.transpose([order.index(name) for name in ("repeat", "time", "cell")])


def _each(
    arrays: Mapping[str, h5py.Dataset],
    sizes: tuple[int, int],
    path: str,
    axes: Sequence[str] | None,
) -> NDArray[np.float32]:
    """Return arrays of one cell each as (repeat, time, cell), in the order of their numbers."""
    cells, frames = sizes
    names = sorted(arrays, key=lambda name: int(re.sub(r"\D", "", name)))
    if len(names) != cells:
        raise RecordingError(
            path,
            f"repeats hold {len(names)} cells ({', '.join(names[:5])} ...) for {cells} of response",
            "every cell needs its repeats; add or remove cells so that both agree",
        )
    kept = None if axes is None else [name for name in axes if name != "cell"]
    trials = []
    for name in names:
        order = _order(arrays[name], ("repeat", "time"), {"time": frames}, path, kept)
        values = _numbers(arrays[name], path)
        trials.append(values if order[0] == "repeat" else values.T)
    most = max(len(values) for values in trials)
    out = np.full((most, frames, cells), np.nan, np.float32)
    for cell, values in enumerate(trials):
        out[: len(values), :, cell] = values
    return out


def _order(
    array: h5py.Dataset,
    names: tuple[str, ...],
    sizes: Mapping[str, int],
    path: str,
    axes: Sequence[str] | None,
) -> tuple[str, ...]:
    """Return the names of an array's axes: as stated, or the only order that its sizes allow."""
    from itertools import permutations

    what = array.name[1:]
    words = " and ".join(f"{name} {size}" for name, size in sizes.items())
    fitting = [
        order
        for order in permutations(names)
        if array.ndim == len(names)
        and all(array.shape[order.index(name)] == size for name, size in sizes.items())
    ]
    if not fitting:
        raise RecordingError(
            path,
            f"{what} has shape {array.shape}, expected axes {words}",
        )
    if axes is not None:
        if sorted(axes) != sorted(names):
            raise RecordingError(path, f"repeat_axes: expected {_AXES} in their order, got {axes}")
        if tuple(axes) in fitting:
            return tuple(axes)
        raise RecordingError(path, f"{what} has shape {array.shape}, which cannot be {tuple(axes)}")
    if len(fitting) > 1:
        raise RecordingError(
            path,
            f"{what} has shape {array.shape}: its axes could be "
            + " or ".join("(" + ", ".join(order) + ")" for order in fitting),
            "say which with repeat_axes=",
        )
    return fitting[0]


def _numbers(array: Any, path: str) -> NDArray[np.float32]:
    if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "iufb":
        raise RecordingError(path, f"{array.name[1:]} holds no numbers")
    return np.asarray(array[()], np.float32)
