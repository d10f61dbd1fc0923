"""The nouns as data: dims, units and attributes of every dataset, built and checked here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems

__all__ = [
    "SIGNS",
    "check_contributions",
    "check_fields",
    "check_modes",
    "check_pair",
    "check_recording",
    "check_stimulus",
    "lag_axis",
    "make_recording",
    "make_stimulus",
    "response_dataset",
]

SIGNS = ("negative", "positive")

Array = npt.NDArray[Any]


def make_stimulus(
    contrast: npt.ArrayLike,
    *,
    frame_rate: float,
    pixel_um: float,
    name: str,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
    truth: Mapping[str, tuple[npt.ArrayLike, str]] | None = None,
    first_frame: int = 0,
    time: npt.ArrayLike | None = None,
    origin_um: tuple[float, float] = (0.0, 0.0),
) -> xr.Dataset:
    """Put a movie and its per-frame ground truth into a Stimulus.

    Parameters
    ----------
    contrast : array_like (time, y, x)
        Contrast, dimensionless; 0 is the mean grey, -1 is black for a Weber contrast.
    frame_rate : float
        Frames per second, Hz.
    pixel_um : float
        Side of a pixel on the retina, um.
    name : str
        Name of the stimulus.
    parameters : mapping, optional
        What is needed to render it again; kept as JSON.
    seed : int, optional
        Seed it was rendered with.
    truth : mapping of str to (array_like (time,), units), optional
        Ground truth per frame.
    first_frame : int, default 0
        Number of the first frame, where a part of a longer movie was rendered.
    time : array_like (time,), optional
        Onset of each frame in seconds, where it was measured; else ``frame / frame_rate``.
    origin_um : (float, float), default (0, 0)
        Position (y, x) of the frame's centre on the retina, um.

    Returns
    -------
    xarray.Dataset
        Stimulus: ``contrast`` (time, y, x) and one variable (time) for each ground truth.

    Raises
    ------
    InputError
        If the arrays do not fit each other or a value is not finite.

    Examples
    --------
    >>> movie = make_stimulus(np.zeros((3, 2, 2)), frame_rate=60, pixel_um=50, name="grey")
    >>> dict(movie.sizes)
    {'time': 3, 'y': 2, 'x': 2}
    """
    frames = np.ascontiguousarray(contrast, dtype=np.float32)
    problems = Problems()
    problems.require(frames.ndim == 3, f"contrast: expected (time, y, x), got {frames.shape}")
    problems.require(_positive(frame_rate), f"frame_rate: expected Hz > 0, got {frame_rate}")
    problems.require(_positive(pixel_um), f"pixel_um: expected um > 0, got {pixel_um}")
    problems.raise_as(f"stimulus {name!r}")
    count, height, width = frames.shape
    onset = (first_frame + np.arange(count)) / frame_rate if time is None else np.asarray(time)
    y_um, x_um = (
        origin + (np.arange(size) - (size - 1) / 2) * pixel_um
        for origin, size in zip(origin_um, (height, width), strict=True)
    )
    dataset = xr.Dataset(
        {
            "contrast": (
                ("time", "y", "x"),
                frames,
                {"units": "1", "long_name": "contrast relative to mean grey"},
            )
        },
        coords=_coords(time=onset, y=y_um, x=x_um),
        attrs={
            "kind": "stimulus",
            "name": name,
            "parameters": json.dumps(dict(parameters or {}), sort_keys=True),
            "frame_rate": float(frame_rate),
            "pixel_um": float(pixel_um),
        },
    )
    if seed is not None:
        dataset.attrs["seed"] = int(seed)
    for key, (values, units) in (truth or {}).items():
        dataset[key] = ("time", np.asarray(values), {"units": units})
    return check_stimulus(dataset)


def make_recording(
    spike_count: npt.ArrayLike,
    *,
    time: npt.ArrayLike,
    frame_rate: float,
    cells: Sequence[str],
    repeats: npt.ArrayLike | None = None,
    name: str = "",
    parameters: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Put spike counts on the frames of a stimulus into a Recording.

    Parameters
    ----------
    spike_count : array_like (time, cell)
        Spikes in each frame, at least 0; NaN where the cell was not observed. With repeats it is
        their mean.
    time : array_like (time,)
        Onset of each frame, s.
    frame_rate : float
        Frames per second, Hz.
    cells : sequence of str
        Names of the cells, as the file has them.
    repeats : array_like (repeat, time, cell), optional
        Spikes in each repeat of the same stimulus.
    name : str, optional
        Name of the recording.
    parameters : mapping, optional
        Whatever else should travel with it; kept as JSON.

    Returns
    -------
    xarray.Dataset
        Recording: ``spike_count`` (time, cell) and, with repeats, ``repeats`` (repeat, time, cell).

    Raises
    ------
    InputError
        If the arrays do not fit each other.
    """
    words = {"spike_count": "spikes per frame", "repeats": "spikes per frame and repeat"}
    dataset = response_dataset(
        {"spike_count": spike_count, "repeats": repeats},
        words={key: {"units": "1", "long_name": name} for key, name in words.items()},
        time=time,
        cells=cells,
        attrs={
            "kind": "recording",
            "name": name,
            "parameters": json.dumps(dict(parameters or {}), sort_keys=True),
            "frame_rate": float(frame_rate),
        },
    )
    return check_recording(dataset)


def response_dataset(
    values: Mapping[str, npt.ArrayLike | None],
    *,
    words: Mapping[str, Mapping[str, str]],
    time: npt.ArrayLike,
    cells: Sequence[str],
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Put responses (time, cell) or (repeat, time, cell) of cells on the frames of a movie.

    Parameters
    ----------
    values : mapping of str to array_like or None
        Variables by name; those with three axes have repeats first. None is left out.
    words : mapping of str to mapping
        Attributes of each variable.
    time : array_like (time,)
        Onset of each frame, s.
    cells : sequence of str
        Names of the cells.
    attrs : mapping
        Attributes of the dataset.

    Returns
    -------
    xarray.Dataset
        The variables in float32, with time and cells as coordinates.

    Raises
    ------
    InputError
        If arrays do not fit each other.
    """
    data: dict[str, Any] = {}
    for name, given in values.items():
        if given is not None:
            array = np.asarray(given, dtype=np.float32)
            data[name] = (("repeat", "time", "cell")[-array.ndim :], array, words[name])
    coords = _coords(time=np.asarray(time, dtype=np.float64))
    coords["cell"] = ("cell", np.asarray([str(cell) for cell in cells]))
    try:
        return xr.Dataset(data, coords=coords, attrs=dict(attrs))
    except ValueError as error:
        raise InputError(f"responses: arrays, times and cells do not fit: {error}") from error


def check_stimulus(dataset: xr.Dataset) -> xr.Dataset:
    """Return the Stimulus, or raise one `InputError` that names everything wrong with it."""
    problems = _expect(dataset, {"contrast": ("time", "y", "x")}, ("frame_rate", "pixel_um"))
    if not problems.found:
        contrast = dataset["contrast"].values
        problems.require(contrast.size > 0, "contrast is empty")
        bad = _unknown_frames(contrast)
        problems.require(
            bad.size == 0,
            f"contrast is NaN or infinite in {bad.size} frames, first frame {bad[:1]}; "
            "replace or cut these frames",
        )
        problems.require(_rising(dataset["time"].values), "time must rise from frame to frame")
    problems.raise_as(f"stimulus {dataset.attrs.get('name', '')!r}")
    return dataset


def check_recording(dataset: xr.Dataset) -> xr.Dataset:
    """Return the Recording, or raise one `InputError` that names everything wrong with it."""
    problems = _expect(dataset, {"spike_count": ("time", "cell")}, ("frame_rate",))
    if not problems.found:
        counts = dataset["spike_count"].values
        names = dataset["cell"].values.tolist() if "cell" in dataset.coords else []
        problems.require(counts.size > 0, "spike_count is empty")
        problems.require(not np.isinf(counts).any(), "spike_count is infinite somewhere")
        problems.require(not (counts < 0).any(), "spike_count is below zero somewhere")
        problems.require(len(set(names)) == counts.shape[1], f"cell names are not unique: {names}")
        problems.require(_rising(dataset["time"].values), "time must rise from frame to frame")
    problems.raise_as(f"recording {dataset.attrs.get('name', '')!r}")
    return dataset


def check_pair(stimulus: xr.Dataset, recording: xr.Dataset) -> None:
    """Raise `InputError` unless the recording lies on the frames of the stimulus.

    Parameters
    ----------
    stimulus, recording : xarray.Dataset
        A Stimulus and a Recording with as many frames and the same frame rate (within 1 %).
    """
    problems = Problems()
    frames, bins = stimulus.sizes["time"], recording.sizes["time"]
    problems.require(
        frames == bins,
        f"the movie has {frames} frames but the recording {bins}; bin the spikes on the flip "
        "times of this movie",
    )
    shown, recorded = stimulus.attrs["frame_rate"], recording.attrs["frame_rate"]
    problems.require(
        abs(shown - recorded) <= 0.01 * recorded,
        f"the movie runs at {shown:g} Hz but the recording at {recorded:g} Hz",
    )
    problems.raise_as("movie and recording")


def check_contributions(tree: xr.DataTree) -> xr.DataTree:
    """Return the Contributions, or raise one `InputError` that names everything wrong with them."""
    problems = Problems()
    problems.require(len(tree.children) > 0, "no layer in the tree")
    for name, node in tree.children.items():
        dataset = node.to_dataset()
        found = _expect(dataset, {"contribution": ("sign", "channel")}, (), exact=False)
        if not found.found:
            signs = tuple(dataset["sign"].values.tolist())
            found.require(signs == SIGNS, f"sign must be {SIGNS}, got {signs}")
            found.require("residual" in dataset, "no variable 'residual'")
        for problem in found.found:
            problems.add(f"layer {name}: {problem}")
    problems.raise_as("contributions")
    return tree


def check_modes(dataset: xr.Dataset) -> xr.Dataset:
    """Return the Modes, or raise one `InputError` that names everything wrong with them."""
    problems = _expect(
        dataset,
        {"atom": ("mode", "sign", "channel"), "loading": ("mode",)},
        ("scale",),
        exact=False,
    )
    if not problems.found:
        fits = bool((dataset["loading"] >= 0).all()) or bool(dataset.attrs.get("signed"))
        problems.require(fits, "loadings must be at least 0")
        problems.require(bool(np.isfinite(dataset["atom"]).all()), "atoms must be finite")
    problems.raise_as("modes")
    return dataset


def check_fields(fields: xr.DataArray) -> xr.DataArray:
    """Return the Fields, or raise one `InputError` that names everything wrong with them."""
    problems = Problems()
    wanted = ("time", "cell", "lag", "y", "x")
    problems.require(fields.dims == wanted, f"dims must be {wanted}, got {fields.dims}")
    if "lag" in fields.coords and fields.sizes.get("lag", 0):
        lag = fields["lag"].values
        problems.require(_rising(lag) and lag[-1] <= 0, "lag must rise and end at or before 0 s")
    problems.raise_as("fields")
    return fields


def lag_axis(history: int, latency: int, frame_rate: float) -> xr.DataArray:
    """Return the times of the frames of a window, as the axis of fields and averages.

    Parameters
    ----------
    history : int
        Frames of a window.
    latency : int
        Frames between the newest frame of the window and the response.
    frame_rate : float
        Hz.

    Returns
    -------
    xarray.DataArray (lag,)
        s, the oldest frame first; 0 is the frame on screen in the response bin, the past is
        negative.

    Examples
    --------
    >>> lag_axis(3, 1, 10.0).values.tolist()
    [-0.3, -0.2, -0.1]
    """
    lag = (np.arange(1 - history, 1) - latency) / frame_rate
    words = {"units": "s", "long_name": "time before the response's frame"}
    return xr.DataArray(lag, dims="lag", coords={"lag": ("lag", lag, words)})["lag"]


def _expect(
    dataset: xr.Dataset,
    variables: Mapping[str, tuple[str, ...]],
    attrs: Sequence[str],
    *,
    exact: bool = True,
) -> Problems:
    """Collect missing variables, wrong dims and missing attributes."""
    problems = Problems()
    for name, dims in variables.items():
        if not problems.require(name in dataset, f"no variable {name!r}"):
            continue
        have = tuple(str(dim) for dim in dataset[name].dims)
        fits = have == dims if exact else set(dims) <= set(have)
        problems.require(fits, f"{name}: dims must be {dims}, got {have}")
    for attr in attrs:
        problems.require(attr in dataset.attrs, f"no attribute {attr!r}")
    return problems


def _coords(**axes: Array) -> dict[str, Any]:
    """Return coordinates with their units: seconds for time, micrometres for y and x."""
    words = {
        "time": {"units": "s", "long_name": "onset of the frame", "standard_name": "time"},
        "y": {"units": "um", "long_name": "position on the retina"},
        "x": {"units": "um", "long_name": "position on the retina"},
    }
    return {
        name: (name, np.asarray(values, dtype=np.float64), words[name])
        for name, values in axes.items()
    }


def _unknown_frames(contrast: Array) -> Array:
    """Return frames with a value that is not finite; their sum tells at once if there are none."""
    with np.errstate(all="ignore"):
        if np.isfinite(contrast.sum()):
            return np.empty(0, dtype=int)
    return np.flatnonzero(~np.isfinite(contrast).all(axis=(1, 2)))


def _positive(value: float) -> bool:
    return bool(np.isfinite(value) and value > 0)


def _rising(values: Array) -> bool:
    return bool(np.isfinite(values).all() and (np.diff(values) > 0).all())
