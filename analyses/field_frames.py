"""Which frames are worth a receptive field, and which modes are active in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.named_rows import position_of
from retinacodec.analyses.panels import active_modes
from retinacodec.bootstrap import draw_blocks
from retinacodec.circuit import Circuit
from retinacodec.errors import InputError, Problems
from retinacodec.latents import LatentFields
from retinacodec.packed import PackedFields

__all__ = [
    "Fields",
    "check_loading",
    "consecutive_frames",
    "fields_of_cell",
    "firing_frames",
    "frame_weights",
    "loading_at",
    "loading_on",
    "mode_sets",
]


Fields = LatentFields | PackedFields


def fields_of_cell(fields: Fields, cell: int, kept: npt.NDArray[np.intp]) -> LatentFields:
    """Return the fields of one cell at some frames, unpacked where they are packed.

    Parameters
    ----------
    fields : LatentFields or PackedFields
        Fields of cells at frames.
    cell : int
        Position of the cell.
    kept : ndarray of int (frame,)
        Positions of the frames.

    Returns
    -------
    LatentFields
        The selection, of one cell.
    """
    chosen = fields.select(time=kept, cell=[cell])
    return chosen if isinstance(chosen, LatentFields) else chosen.latents()


def mode_sets(loading: xr.DataArray, *, share: float = 0.1) -> xr.DataArray:
    """Name the set of modes that is active at each time.

    Parameters
    ----------
    loading : xarray.DataArray (time, mode)
        Loadings, at least 0.
    share : float, default 0.1
        A mode is active where its loading exceeds this share of its strong loadings.

    Returns
    -------
    xarray.DataArray (time,) of str
        Names of the active modes joined by ``+``, ``""`` where none is active.

    Examples
    --------
    >>> loading = xr.DataArray([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]], dims=("time", "mode"))
    >>> mode_sets(loading).values.tolist()
    ['', '0', '0+1']
    """
    active = active_modes(loading, share=share)
    names = loading["mode"].values.astype(str)
    labels = ["+".join(names[row]) for row in active.values]
    coords = {"time": loading["time"]} if "time" in loading.coords else {}
    return xr.DataArray(np.asarray(labels, dtype=str), dims="time", coords=coords, name="mode_set")


def loading_on(modes: xr.Dataset, movie: xr.Dataset) -> xr.DataArray:
    """Return loadings by the number of the movie frame.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes with ``loading`` (time, mode).
    movie : xarray.Dataset
        The Stimulus they belong to.

    Returns
    -------
    xarray.DataArray (frame, mode)
        Loadings of the frames that have any.

    Raises
    ------
    InputError
        If a loading lies on no frame of the movie.
    """
    loading = modes["loading"].transpose("time", "mode")
    if "mode" not in loading.coords:
        loading = loading.assign_coords(mode=np.arange(loading.sizes["mode"]))
    tolerance = 0.25 / movie.attrs["frame_rate"]
    frames = movie.get_index("time").get_indexer(
        loading["time"].values, method="nearest", tolerance=tolerance
    )
    if (frames < 0).any():
        raise InputError(
            f"modes: {int((frames < 0).sum())} of {frames.size} loadings lie on no frame of the "
            "movie; pass the modes of this movie"
        )
    return loading.rename(time="frame").assign_coords(frame=frames)


def check_loading(
    what: str,
    fields: xr.Dataset,
    loading: xr.DataArray,
    variables: Sequence[str],
    **counts: int,
) -> None:
    """Refuse fields and loadings that cannot be compared.

    Parameters
    ----------
    what : str
        Who asks, for the message.
    fields : xarray.Dataset
        What `retinacodec.analyses.dynamic_fields` returns.
    loading : xarray.DataArray (time, mode)
        Loadings at the same frames.
    variables : sequence of str
        What the fields must have.
    **counts : int
        Numbers that must be at least 1, by name.

    Raises
    ------
    InputError
        If a variable is missing, the loadings are of other frames, or a number is too small.
    """
    problems = Problems()
    for name in variables:
        problems.require(name in fields, f"no variable {name!r}; pass what dynamic_fields returns")
    problems.require(
        set(loading.dims) == {"time", "mode"} and loading.sizes["time"] == fields.sizes["time"],
        f"loading: expected dims (time, mode) with {fields.sizes.get('time')} times, one for each "
        f"frame of the fields, got {dict(loading.sizes)}",
    )
    for name, value in counts.items():
        problems.require(value >= 1, f"{name}: expected at least 1, got {value}")
    problems.raise_as(what)


def loading_at(loading: xr.DataArray, frames: npt.ArrayLike) -> xr.DataArray:
    """Select loadings by movie frame.

    Parameters
    ----------
    loading : xarray.DataArray (frame, ...)
        Loadings, or what was made of them, by movie frame.
    frames : array_like of int
        Movie frames.

    Returns
    -------
    xarray.DataArray (time, ...)
        Their values, in the order asked for, without times.

    Raises
    ------
    InputError
        If a frame has no loading.
    """
    wanted = np.atleast_1d(np.asarray(frames))
    missing = np.setdiff1d(wanted, loading["frame"].values)
    if missing.size:
        raise InputError(
            f"frames: the modes have no loading for {missing.size} of {wanted.size} frames, "
            f"first {missing[0]}"
        )
    return loading.sel(frame=wanted).rename(frame="time").drop_vars("time")


def firing_frames(
    circuit: Circuit,
    rate: xr.DataArray,
    cells: Sequence[int | str] | int | str | None,
    loading: xr.DataArray | None,
    minimum_rate: float,
    max_frames: int,
) -> npt.NDArray[np.intp]:
    """Choose frames in which cells fire, spread evenly over the firing of each cell.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    rate : xarray.DataArray (time, cell)
        Its rates for the movie, Hz, as `retinacodec.circuit.predict` returns them.
    cells : sequence of int or str, optional
        Positions or names of the cells that matter; all if left out.
    loading : xarray.DataArray (frame, mode), optional
        Only frames with a loading are chosen.
    minimum_rate : float
        A cell fires above this rate, Hz.
    max_frames : int
        Most frames to choose.

    Returns
    -------
    ndarray of int
        Movie frames, rising.

    Raises
    ------
    InputError
        If no cell fires in any frame.

    Notes
    -----
    All frames with firing, if there are no more than asked for. Else each cell spreads one unit
    of weight over the frames it fires in, and frames are taken at equal steps of the summed
    weight, those heavier than a step first, so that cells that fire rarely are not lost among
    those that fire always.
    """
    if isinstance(cells, int | str | np.integer):
        cells = [cells]
    if cells is not None:
        rate = rate.isel(cell=[position_of(rate, "cell", cell) for cell in cells])
    frames = circuit.first_frame + np.arange(rate.sizes["time"])
    known = np.ones(frames.size, bool) if loading is None else np.isin(frames, loading["frame"])
    firing = (rate.values > minimum_rate) & known[:, None]
    weight = (firing / np.maximum(firing.sum(axis=0), 1)).sum(axis=1)
    if not weight.any():
        raise InputError(
            f"fields: no cell fires above {minimum_rate:g} Hz (highest rate "
            f"{float(rate.max()):.3g} Hz); pass a lower minimum_rate= or frames="
        )
    if np.count_nonzero(weight) <= max_frames:
        return frames[weight > 0]
    return frames[_spread(weight, max_frames)]


def consecutive_frames(
    circuit: Circuit,
    rate: xr.DataArray,
    *,
    seconds: float = 2.0,
    max_frames: int = 600,
    loading: xr.DataArray | None = None,
) -> npt.NDArray[np.intp]:
    """Choose stretches of consecutive frames, for how a field changes from frame to frame.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    rate : xarray.DataArray (time, cell)
        Its rates for the movie, Hz, as `retinacodec.circuit.predict` returns them.
    seconds : float, default 2.0
        Length of a stretch, s.
    max_frames : int, default 600
        Most frames in all.
    loading : xarray.DataArray (frame, mode), optional
        Only frames with a loading are chosen.

    Returns
    -------
    ndarray of int
        Movie frames, rising: stretches of equal length at equal distances over the movie,
        whatever happens in them; all frames where there are no more than `max_frames`.

    Raises
    ------
    InputError
        If not even one stretch fits.
    """
    frames = circuit.first_frame + np.arange(rate.sizes["time"])
    if loading is not None:
        frames = frames[np.isin(frames, loading["frame"])]
    if frames.size <= max_frames and frames.size:
        return frames
    step = float(np.median(np.diff(rate["time"].values)))
    length = max(round(seconds / step), 2)
    count = max_frames // length
    if count < 1 or frames.size < length:
        raise InputError(
            f"consecutive_frames: {frames.size} frames and at most {max_frames} of them hold no "
            f"stretch of {length}; pass shorter seconds= or more max_frames="
        )
    starts = np.linspace(0, frames.size - length, count).round().astype(np.intp)
    return frames[np.unique(starts[:, None] + np.arange(length))]


def frame_weights(
    frames: npt.ArrayLike, length: int, draws: int, seed: int
) -> npt.NDArray[np.int64]:
    """Draw how often each chosen frame counts when blocks of the movie are resampled.

    Parameters
    ----------
    frames : array_like of int (time,)
        Movie frames, which may have gaps.
    length : int
        Frames of the movie in a block, at least the history.
    draws : int
        Number of resamples.
    seed : int
        Seed of the resamples.

    Returns
    -------
    ndarray (draw, time)
        Counts; chosen frames of one block count alike, and blocks without any are not drawn.
    """
    numbers = np.asarray(frames)
    blocks = np.unique((numbers - numbers.min()) // length, return_inverse=True)[1]
    return draw_blocks(int(blocks.max()) + 1, draws, seed)[:, blocks]


def _spread(weight: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.intp]:
    """Return `count` positions at equal steps of a weight, heavier ones first and once."""
    taken = np.zeros(weight.size, dtype=bool)
    while True:
        left = count - int(taken.sum())
        heavy = ~taken & (weight * left >= weight[~taken].sum())
        if left <= 0 or not heavy.any():
            break
        taken |= heavy
    mass = np.cumsum(np.where(taken, 0.0, weight))
    steps = (np.arange(left) + 0.5) / max(left, 1) * mass[-1]
    taken[np.searchsorted(mass, steps)] = True
    return np.flatnonzero(taken)
