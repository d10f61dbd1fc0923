"""How a Stimulus becomes pixels and a note in an NWB file, and comes back exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import InputError
from retinacodec.nwb_levels import Levels, find_levels
from retinacodec.recordings import frame_durations
from retinacodec.schema import check_stimulus, make_stimulus

__all__ = ["Block", "block_of", "note_of", "read_note", "restored"]

_NOTE = "retinacodec: "
_STANDARD = ("time", "y", "x")

Array = NDArray[Any]


@dataclass(frozen=True)
class Block:
    """One movie as it goes into the file, with everything needed to get it back.

    Parameters
    ----------
    name, description : str
        Name and plain words for a human reader.
    note : str
        What this package needs to restore it, from `note_of`.
    shape : (int, int, int)
        Frames of one presentation, pixels in x, pixels in y.
    dtype : numpy.dtype
        Type of the pixels in the file.
    read : callable (start, stop) -> ndarray (frame, x, y)
        The pixels of some frames.
    line : (float, float)
        Slope and offset from pixels to contrast.
    onsets : ndarray (frame,)
        Flip times of the first presentation, s.
    field_um : (float, float)
        Width and height of the picture on the retina, um.
    presentations : int, default 1
        How often the movie was shown, back to back.
    truth : mapping of str to (ndarray, str), optional
        Ground truth with one row a frame, and its units.
    exact_onsets : bool, default False
        Keep the flip times beside the frame rate where the rate alone would round them.
    shown : ndarray (presentation, frame), optional
        Flip times of every presentation, s, where they did not follow one another at once.
    """

    name: str
    description: str
    note: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    read: Callable[[int, int], Array]
    line: tuple[float, float]
    onsets: NDArray[np.float64]
    field_um: tuple[float, float]
    presentations: int = 1
    truth: Mapping[str, tuple[Array, str]] = field(default_factory=dict)
    exact_onsets: bool = False
    shown: NDArray[np.float64] | None = None

    @property
    def period(self) -> float:
        """Seconds from the start of one presentation to the start of the next."""
        ends = self.onsets + frame_durations(self.onsets)
        return float(ends[-1] - self.onsets[0])

    @property
    def frame_rate(self) -> float:
        """Frames per second, from the median interval."""
        return float(1 / np.median(np.diff(self.onsets)))

    def all_onsets(self) -> NDArray[np.float64]:
        """Return the flip times of all presentations (frame,), s."""
        if self.shown is not None:
            return self.shown.ravel()
        starts = np.arange(self.presentations) * self.period
        return (starts[:, None] + self.onsets).ravel()

    def spans(self) -> list[tuple[float, float]]:
        """Return start and stop of each presentation, s."""
        if self.shown is not None:
            return [
                (float(flips[0]), float(flips[-1] + frame_durations(flips)[-1]))
                for flips in self.shown
            ]
        starts = float(self.onsets[0]) + np.arange(self.presentations) * self.period
        return [(float(start), float(start + self.period)) for start in starts]


def block_of(stimulus: xr.Dataset, presentations: int = 1) -> Block:
    """Prepare a Stimulus for the file.

    Parameters
    ----------
    stimulus : xarray.Dataset
        A Stimulus.
    presentations : int, default 1
        How often it was shown, back to back.

    Returns
    -------
    Block
        The movie with lazily encoded pixels.

    Raises
    ------
    InputError
        If the dataset is no Stimulus or has fewer than two frames.
    """
    check_stimulus(stimulus)
    contrast = stimulus["contrast"].values
    if len(contrast) < 2:
        raise InputError("write_nwb: expected a movie of at least 2 frames, got 1")
    name = _plain_name(str(stimulus.attrs.get("name") or "stimulus"))
    levels = find_levels(contrast)
    onsets = stimulus["time"].values.astype(np.float64)
    first = _first_frame(onsets, float(stimulus.attrs["frame_rate"]))
    truth, static = _variables(stimulus)
    pixel = float(stimulus.attrs["pixel_um"])
    frames, height, width = contrast.shape

    def read(start: int, stop: int) -> Array:
        part = contrast[start:stop].transpose(0, 2, 1)
        return levels.encode(part) if levels else part

    return Block(
        name=name,
        description=_words(stimulus, levels),
        note=note_of(
            stimulus.attrs,
            levels=levels,
            first_frame=first,
            frames=frames,
            y_um=stimulus["y"].values,
            x_um=stimulus["x"].values,
            static=static,
            truth={key: _variable_note(stimulus[key]) for key in truth},
        ),
        shape=(frames, width, height),
        dtype=np.dtype(np.uint8 if levels else np.float32),
        read=read,
        line=levels.line() if levels else (1.0, 0.0),
        onsets=onsets,
        field_um=(width * pixel, height * pixel),
        presentations=presentations,
        truth=truth,
        exact_onsets=first is None,
    )


def note_of(
    attrs: Mapping[Any, Any],
    *,
    frames: int,
    y_um: Array,
    x_um: Array,
    levels: Levels | None = None,
    first_frame: int | None = None,
    truth: Mapping[str, Any] | None = None,
    static: Mapping[str, Any] | None = None,
) -> str:
    """Write the note that restores a Stimulus: its attributes, grid, grey values and truth.

    Parameters
    ----------
    attrs : mapping
        Attributes of the Stimulus.
    frames : int
        Frames of one presentation.
    y_um, x_um : ndarray
        Positions of the pixels on the retina, um.
    levels : Levels, optional
        Grey values and contrasts; without it the file holds the contrast itself.
    first_frame : int, optional
        Number of the first frame, where ``time = (first_frame + k) / frame_rate`` exactly.
    truth, static : mapping, optional
        How to restore the variables with and without time.

    Returns
    -------
    str
        One line of JSON behind a marker.
    """
    note = {
        "attrs": {str(key): _plain(value) for key, value in attrs.items()},
        "frames": frames,
        "first_frame": first_frame,
        "y_um": np.asarray(y_um, np.float64).tolist(),
        "x_um": np.asarray(x_um, np.float64).tolist(),
        "levels": [list(levels.codes), list(levels.values)] if levels else None,
        "truth": dict(truth or {}),
        "static": dict(static or {}),
    }
    try:
        return _NOTE + json.dumps(note)
    except TypeError as error:
        raise InputError(
            f"write_nwb: an attribute of the stimulus cannot be kept as JSON: {error}"
        ) from error


def read_note(comments: str) -> dict[str, Any] | None:
    """Return the note that `note_of` wrote, or None where the comments hold none."""
    if not comments.startswith(_NOTE):
        return None
    try:
        note = json.loads(comments[len(_NOTE) :])
    except json.JSONDecodeError:
        return None
    if not isinstance(note, dict):
        return None
    if note.get("levels"):
        codes, values = note["levels"]
        note["levels"] = Levels(tuple(codes), tuple(values))
    return note


def _first_frame(onsets: NDArray[np.float64], frame_rate: float) -> int | None:
    first = round(float(onsets[0]) * frame_rate)
    exact = np.array_equal((first + np.arange(onsets.size)) / frame_rate, onsets)
    return first if exact else None


def _variables(
    stimulus: xr.Dataset,
) -> tuple[dict[str, tuple[Array, str]], dict[str, dict[str, Any]]]:
    """Sort everything beside the contrast: numbers over time, and the rest for the note."""
    truth, static = {}, {}
    for key, variable in stimulus.variables.items():
        if key in ("contrast", *_STANDARD):
            continue
        values = variable.values
        if variable.dims[:1] == ("time",) and values.dtype.kind in "biuf" and values.ndim < 4:
            stored = values.astype(np.uint8) if values.dtype == bool else values
            truth[str(key)] = (stored, str(variable.attrs.get("units", "n.a.")))
        else:
            static[str(key)] = {
                **_variable_note(variable),
                "values": values.tolist(),
                "coordinate": key in stimulus.coords,
            }
    return truth, static


def _variable_note(variable: Any) -> dict[str, Any]:
    return {
        "dims": [str(dim) for dim in variable.dims],
        "dtype": str(variable.dtype),
        "attrs": {str(key): _plain(value) for key, value in variable.attrs.items()},
    }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _plain_name(name: str) -> str:
    return name.replace("/", "_").replace(":", "_")


def _words(stimulus: xr.Dataset, levels: Levels | None) -> str:
    attrs = stimulus.attrs
    seed = f", seed {attrs['seed']}" if "seed" in attrs else ""
    grey = "data * conversion + offset is the contrast" if levels else "data are the contrast"
    return (
        f"{attrs.get('name', 'stimulus')}: {attrs['frame_rate']:g} frames per second, pixels "
        f"of {attrs['pixel_um']:g} um on the retina{seed}; {grey}, 0 for the mean grey. "
        f"Parameters: {attrs.get('parameters', '{}')}"
    )


def restored(
    note: Mapping[str, Any],
    contrast: NDArray[np.float32],
    time: NDArray[np.float64],
    truth: Mapping[str, Array],
    rows: slice,
    columns: slice,
) -> xr.Dataset:
    """Put a Stimulus together again from what the file holds.

    Parameters
    ----------
    note : mapping
        What `read_note` returned.
    contrast : ndarray (time, y, x)
        Contrast of the part that was read.
    time : ndarray (time,)
        Its flip times, s.
    truth : mapping of str to ndarray (time, ...)
        Its ground truth.
    rows, columns : slice
        The pixels that were read.

    Returns
    -------
    Stimulus
        As it was written.
    """
    attrs = note["attrs"]
    stimulus = make_stimulus(
        contrast,
        frame_rate=attrs["frame_rate"],
        time=time,
        pixel_um=attrs["pixel_um"],
        name=str(attrs.get("name", "")),
    )
    stimulus = stimulus.assign_coords(
        y=("y", np.asarray(note["y_um"][rows]), stimulus["y"].attrs),
        x=("x", np.asarray(note["x_um"][columns]), stimulus["x"].attrs),
    )
    for key, values in truth.items():
        how = note["truth"][key]
        stimulus[key] = (how["dims"], np.asarray(values).astype(how["dtype"]), how["attrs"])
    for key, how in note["static"].items():
        variable = (how["dims"], np.asarray(how["values"]).astype(how["dtype"]), how["attrs"])
        if how["coordinate"]:
            stimulus = stimulus.assign_coords({key: variable})
        else:
            stimulus[key] = variable
    stimulus.attrs = dict(attrs)
    return stimulus
