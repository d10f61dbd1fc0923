"""What layers put out while a movie is shown, and how a small movie is laid on a model's frame."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.capture import tapped
from retinacodec.circuit import Circuit, evaluating, movie_tensor
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError, Problems
from retinacodec.schema import check_stimulus, make_stimulus

__all__ = ["channel_activations", "line_movie", "pad_movie"]

Array = npt.NDArray[Any]


@overload
def channel_activations(
    circuit: Circuit,
    movie: xr.Dataset,
    layer: str | None = None,
    *,
    batch: int = 256,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
) -> xr.DataArray: ...


@overload
def channel_activations(
    circuit: Circuit,
    movie: xr.Dataset,
    layer: list[str] | tuple[str, ...],
    *,
    batch: int = 256,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
) -> dict[str, xr.DataArray]: ...


def channel_activations(
    circuit: Circuit,
    movie: xr.Dataset,
    layer: str | list[str] | tuple[str, ...] | None = None,
    *,
    batch: int = 256,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
) -> xr.DataArray | dict[str, xr.DataArray]:
    """Return what every unit of a layer, or of several, put out while a movie was shown.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus that fits it; see `pad_movie` for one that is too small.
    layer : str, or list or tuple of str, optional
        Name of the layer, or names of several, which the model then computes in one pass; the
        circuit's first if left out.
    batch : int, default 256
        Windows computed at a time; the result does not depend on it.
    budget_gb : float, default 2
        Most memory the result may take, all layers together.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.

    Returns
    -------
    xarray.DataArray (time, channel[, y, x]), or a dict of them by layer
        Activations, float32; time starts at frame ``circuit.first_frame``. Attributes name the
        ``layer``, the circuit's ``history`` in frames and the movie's ``frame_rate``.

    Raises
    ------
    InputError
        If the movie or layer does not fit the circuit, or the result is larger than the budget.
    """
    names = [layer or next(iter(circuit.layers), "")] if _is_one(layer) else list(layer or ())
    if not names:
        raise InputError("layer: expected the name of a layer or more, got none")
    probe = Circuit(circuit.model, tuple(names), circuit.history, circuit.latency, circuit.outputs)
    values = _captured(probe, movie, batch, budget_gb, device)
    time = movie["time"][probe.first_frame :]
    found = {name: _labelled(values[name], name, time, probe, movie) for name in probe.taps}
    return next(iter(found.values())) if _is_one(layer) else found


def _is_one(layer: str | list[str] | tuple[str, ...] | None) -> bool:
    return layer is None or isinstance(layer, str)


def _captured(
    probe: Circuit,
    movie: xr.Dataset,
    batch: int,
    budget_gb: float,
    device: str | torch.device | None,
) -> dict[str, Array]:
    """Run the model once over the movie and return what passed its taps."""
    where = resolve_device(device, probe.model)
    windows = probe.windows(movie_tensor(probe, movie))
    kept: dict[str, list[Array]] = {name: [] for name in probe.taps}
    with torch.no_grad(), evaluating(probe.model, where) as model, tapped(model, probe.taps) as out:
        for part in windows.split(batch):
            model(part.contiguous().to(where))
            for name, rows in kept.items():
                rows.append(out[name].pop().cpu().numpy())
                out[name].clear()
            first = [rows[0] for rows in kept.values()]
            _within(sum(one.nbytes / len(one) for one in first) * len(windows), budget_gb)
    return {name: np.concatenate(rows) for name, rows in kept.items()}


def _labelled(
    values: Array, layer: str, time: xr.DataArray, probe: Circuit, movie: xr.Dataset
) -> xr.DataArray:
    return xr.DataArray(
        values,
        dims=("time", "channel", "y", "x")[: values.ndim],
        coords={"time": time},
        name="activation",
        attrs={
            "layer": layer,
            "history": probe.history,
            "frame_rate": movie.attrs["frame_rate"],
        },
    )


def _within(size: float, budget_gb: float) -> None:
    """Raise if a result of this many bytes is over the budget."""
    if size > budget_gb * 1e9:
        raise InputError(
            f"activations take {size / 1e9:.1f} GB, over budget_gb={budget_gb:g}; use a shorter "
            "movie or a smaller layer"
        )


def pad_movie(movie: xr.Dataset, size: tuple[int, int]) -> xr.Dataset:
    """Lay a movie that is smaller than a model's frame on grey of that size.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    size : (int, int)
        Pixels (y, x) that the model reads.

    Returns
    -------
    xarray.Dataset
        The movie in the middle of frames of that size, contrast 0 around it; of an odd margin
        the larger part is below and to the right. Positions of the movie's own pixels do not
        change. The attribute ``padding`` holds the rows above and columns to the left.

    Raises
    ------
    InputError
        If the movie is larger than the size, or is no stimulus.

    Examples
    --------
    >>> movie = make_stimulus(np.ones((3, 2, 1)), frame_rate=60, pixel_um=50, name="spot")
    >>> pad_movie(movie, (4, 2)).contrast[0].values.tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """
    check_stimulus(movie)
    have = (movie.sizes["y"], movie.sizes["x"])
    spare = [int(want) - got for want, got in zip(size, have, strict=True)]
    if min(spare) < 0:
        raise InputError(
            f"pad_movie: frames of {have} pixels (y, x) do not fit into {tuple(size)}; crop the "
            "movie or average its pixels first"
        )
    before = [gap // 2 for gap in spare]
    sides = [(low, gap - low) for low, gap in zip(before, spare, strict=True)]
    pixel = float(movie.attrs["pixel_um"])
    axes = {
        name: _extended(movie[name].values, low, high, pixel)
        for name, (low, high) in zip(("y", "x"), sides, strict=True)
    }
    wide = movie.pad(dict(zip(("y", "x"), sides, strict=True)), constant_values=0.0)
    wide = wide.assign_coords(
        {name: (name, values, movie[name].attrs) for name, values in axes.items()}
    )
    return check_stimulus(wide.assign_attrs({**movie.attrs, "padding": before}))


def _extended(places: Array, low: int, high: int, pixel: float) -> Array:
    """Return positions of pixels with some more before and after."""
    step = float(places[1] - places[0]) if places.size > 1 else pixel
    before = places[0] - step * np.arange(low, 0, -1)
    return np.concatenate([before, places, places[-1] + step * np.arange(1, high + 1)])


def line_movie(
    lines: npt.ArrayLike,
    *,
    rows: int,
    pool: int = 1,
    frame_rate: float,
    pixel_um: float,
    name: str = "lines",
    time: npt.ArrayLike | None = None,
) -> xr.Dataset:
    """Make a movie of bars that reach from top to bottom.

    Parameters
    ----------
    lines : array_like (time, bar)
        Contrast of each bar.
    rows : int
        Rows of the frames.
    pool : int, default 1
        Neighbouring bars averaged into one column; their number must divide the bars.
    frame_rate : float
        Frames per second, Hz.
    pixel_um : float
        Side of a pixel, after pooling, um on the retina.
    name : str, default "lines"
        Name of the stimulus.
    time : array_like (time,), optional
        Onset of the frames, s.

    Returns
    -------
    xarray.Dataset
        Stimulus with ``contrast`` (time, rows, bar / pool).

    Raises
    ------
    InputError
        If lines are not (time, bar), or the bars cannot be pooled.

    Examples
    --------
    >>> movie = line_movie([[0, 1, 1, 1]], rows=2, pool=2, frame_rate=60, pixel_um=100)
    >>> movie.contrast[0].values.tolist()
    [[0.5, 1.0], [0.5, 1.0]]
    """
    values = np.asarray(lines, dtype=np.float64)
    problems = Problems()
    problems.require(values.ndim == 2, f"lines: expected (time, bar), got shape {values.shape}")
    problems.require(rows >= 1, f"rows: expected 1 or more, got {rows}")
    whole = values.ndim == 2 and pool >= 1 and values.shape[1] % pool == 0
    problems.require(whole, f"pool: {pool} does not divide the bars of lines {values.shape}")
    problems.raise_as("line_movie")
    pooled = values.reshape(len(values), -1, pool).mean(axis=2)
    frames = np.repeat(pooled[:, None], rows, axis=1)
    return make_stimulus(
        frames,
        frame_rate=frame_rate,
        pixel_um=pixel_um,
        name=name,
        parameters={"rows": rows, "pool": pool},
        time=time,
    )
