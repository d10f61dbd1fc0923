"""Bars that sweep across the retina, with their position and velocity as ground truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import Problems
from retinacodec.schema import make_stimulus
from retinacodec.stimuli.checks import (
    as_record,
    check_memory,
    check_number,
    check_screen,
    check_seed,
    check_whole,
    count_frames,
    pixel_centres,
)
from retinacodec.stimuli.shapes import strip_coverage

__all__ = ["moving_bar"]

Array = npt.NDArray[np.float64]

_FRAMES_AT_ONCE = 128


@dataclass(frozen=True)
class _Sweep:
    """One crossing of the field: its first frame, how many it takes, and which way it goes."""

    number: int
    first: int
    frames: int
    direction: float
    travel_um: float


def moving_bar(
    seconds: float | None = None,
    *,
    frames: int | None = None,
    sweeps: int | None = None,
    start: int = 0,
    width_um: float = 133.0,
    length_um: float | None = None,
    speed: float = 440.0,
    direction: float | Sequence[float] = 0.0,
    contrast: float = -1.0,
    gap_s: float = 0.5,
    shuffle: bool = False,
    size: tuple[int, int] = (50, 50),
    frame_rate: float = 60.0,
    pixel_um: float = 50.0,
    seed: int = 0,
) -> xr.Dataset:
    """Render a bar that sweeps across the field on mean grey, once or many times.

    Parameters
    ----------
    seconds : float, optional
        Duration, s: sweeps follow each other until it is over.
    frames : int, optional
        Number of frames, in place of `seconds`.
    sweeps : int, optional
        Number of sweeps, in place of `seconds`; by default one in each direction.
    start : int, default 0
        First frame to render; frame k is the same in every rendering that holds it.
    width_um : float, default 133
        Extent along the motion, um.
    length_um : float, optional
        Extent across the motion, um; without it the bar is longer than the field.
    speed : float, default 440
        Speed, um/s.
    direction : float or sequence of float, default 0
        Degrees, in turn for each sweep: 0 towards +x, 90 towards +y.
    contrast : float, default -1
        Contrast of the bar, >= -1 and not 0.
    gap_s : float, default 0.5
        Mean grey after each sweep, s.
    shuffle : bool, default False
        Shuffle the directions in each round of them.
    size : (int, int), default (50, 50)
        Pixels (y, x) of a frame.
    frame_rate : float, default 60
        Frames per second, Hz.
    pixel_um : float, default 50
        Side of a pixel on the retina, um.
    seed : int, default 0
        Which order, where `shuffle` is True.

    Returns
    -------
    xarray.Dataset
        Stimulus: ``contrast`` (time, y, x). Ground truth over time: ``object_x``, ``object_y``
        (um, the bar's middle), ``object_velocity_x``, ``object_velocity_y`` (um/s), ``direction``
        (degrees), all NaN in gaps; ``sweep`` (int, -1 in gaps) and ``onset`` (bool, the first
        frame of a sweep).

    Raises
    ------
    InputError
        Naming every argument that cannot be used.

    Notes
    -----
    Sweep frame j shows the middle at -L/2 + speed j / frame_rate along the direction, where
    L = |cos| X + |sin| Y + width: from just outside the field of X by Y um to just outside on the
    other side. A pixel's contrast is the contrast of the bar times the share that the bar covers.

    References
    ----------
    Berry, Brivanlou, Jordan, Meister 1999, Anticipation of moving stimuli by the retina, Nature
    398, 334: dark bars of 133 um at 0.44 mm/s.

    Examples
    --------
    >>> movie = moving_bar(direction=[0, 90], gap_s=0, size=(8, 8))
    >>> movie.sizes["time"], movie.onset.values.nonzero()[0].tolist()
    (146, [0, 73])
    """
    given = dict(locals())
    given["direction"] = [direction] if isinstance(direction, Real) else direction
    problems = Problems()
    _check(problems, given)
    count = _count(problems, given)
    check_memory(problems, count, size)
    problems.raise_as("moving_bar")
    turns = list(_up_to(start + count, _schedule(given)))
    truth = _truth(turns, start, count, speed, frame_rate)
    return make_stimulus(
        _render(truth, turns, given),
        frame_rate=frame_rate,
        pixel_um=pixel_um,
        name="moving_bar",
        parameters=as_record(given, frames=count) | {"sweeps": None},
        seed=seed,
        truth=truth,
        first_frame=start,
    )


def _check(problems: Problems, given: dict[str, Any]) -> None:
    """Note the arguments that cannot be used by themselves."""
    check_screen(problems, given["size"], given["pixel_um"], given["frame_rate"])
    check_whole(problems, "start", given["start"], least=0)
    check_number(problems, "width_um", given["width_um"], above=0)
    if given["length_um"] is not None:
        check_number(problems, "length_um", given["length_um"], above=0)
    check_number(problems, "speed", given["speed"], above=0)
    check_number(problems, "gap_s", given["gap_s"], least=0)
    if check_number(problems, "contrast", given["contrast"], least=-1):
        problems.require(given["contrast"] != 0, "contrast: expected a value other than 0")
    check_seed(problems, given["seed"])
    directions = given["direction"]
    good = isinstance(directions, Sequence | np.ndarray) and not isinstance(directions, str)
    if problems.require(
        good and len(directions) > 0,
        f"direction: expected degrees or a sequence of them, got {directions!r}",
    ):
        for turn in directions:
            check_number(problems, "direction", turn)


def _count(problems: Problems, given: dict[str, Any]) -> int:
    """Return how many frames to render, from a duration or from a number of sweeps."""
    seconds, frames, sweeps = given["seconds"], given["frames"], given["sweeps"]
    if seconds is not None or frames is not None:
        problems.require(sweeps is None, "sweeps: expected none beside seconds or frames")
    elif sweeps is None or check_whole(problems, "sweeps", sweeps, least=1):
        if problems.found:
            return 0
        turns = _schedule(given)
        for _ in range(sweeps or len(given["direction"])):
            last = next(turns)
        end = last.first + last.frames + _gap(given)
        problems.require(given["start"] < end, f"start: expected less than {end}, the last frame")
        frames = max(1, end - given["start"])
    else:
        return 0
    return count_frames(problems, seconds, frames, given["frame_rate"])


def _gap(given: dict[str, Any]) -> int:
    """Return the frames of grey after a sweep."""
    return round(given["gap_s"] * given["frame_rate"])


def _schedule(given: dict[str, Any]) -> Iterator[_Sweep]:
    """Yield one sweep after another, for ever."""
    directions = np.asarray(given["direction"], dtype=np.float64)
    height, width = (side * given["pixel_um"] for side in given["size"])
    number = first = 0
    while True:
        order = np.arange(len(directions))
        if given["shuffle"]:
            turn = number // len(directions)
            order = np.random.default_rng([given["seed"], turn]).permutation(order)
        for place in order:
            angle = math.radians(directions[place])
            travel = abs(math.cos(angle)) * width + abs(math.sin(angle)) * height
            travel += given["width_um"]
            frames = math.floor(travel / given["speed"] * given["frame_rate"] + 1e-9) + 1
            yield _Sweep(number, first, frames, float(directions[place]), travel)
            first += frames + _gap(given)
            number += 1


def _up_to(end: int, sweeps: Iterator[_Sweep]) -> Iterator[_Sweep]:
    """Yield the sweeps that begin before a frame."""
    for sweep in sweeps:
        if sweep.first >= end:
            return
        yield sweep


def _truth(
    sweeps: list[_Sweep], start: int, count: int, speed: float, frame_rate: float
) -> dict[str, tuple[npt.NDArray[Any], str]]:
    """Return where the bar is in every frame, with units."""
    names = ("object_x", "object_y", "object_velocity_x", "object_velocity_y", "direction")
    units = ("um", "um", "um/s", "um/s", "degree")
    columns = np.full((5, count), np.nan)
    sweep, onset = np.full(count, -1), np.zeros(count, dtype=bool)
    for turn in sweeps:
        frame = np.arange(max(turn.first, start), min(turn.first + turn.frames, start + count))
        along = -turn.travel_um / 2 + speed * (frame - turn.first) / frame_rate
        angle = math.radians(turn.direction)
        for axis, part in enumerate((math.cos(angle), math.sin(angle))):
            columns[axis, frame - start] = part * along
            columns[2 + axis, frame - start] = part * speed
        columns[4, frame - start] = turn.direction
        sweep[frame - start] = turn.number
        onset[frame[frame == turn.first] - start] = True
    truth: dict[str, tuple[npt.NDArray[Any], str]] = dict(
        zip(names, zip(columns, units, strict=True), strict=True)
    )
    return truth | {"sweep": (sweep, "1"), "onset": (onset, "1")}


def _render(
    truth: dict[str, tuple[npt.NDArray[Any], str]], sweeps: list[_Sweep], given: dict[str, Any]
) -> npt.NDArray[np.float32]:
    """Draw the bar, a few frames of one sweep at a time."""
    number = truth["sweep"][0]
    movie = np.zeros((len(number), *given["size"]), dtype=np.float32)
    y, x = pixel_centres(given["size"], given["pixel_um"])
    for sweep in sweeps:
        seen = np.flatnonzero(number == sweep.number)
        for first in range(0, len(seen), _FRAMES_AT_ONCE):
            now = seen[first : first + _FRAMES_AT_ONCE]
            right = x - truth["object_x"][0][now, None, None]
            down = y - truth["object_y"][0][now, None, None]
            lit = strip_coverage(right, down, sweep.direction, given["width_um"], given["pixel_um"])
            if given["length_um"] is not None:
                lit = lit * strip_coverage(
                    right, down, sweep.direction + 90, given["length_um"], given["pixel_um"]
                )
            movie[now] = given["contrast"] * lit
    return movie
