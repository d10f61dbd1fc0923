"""What every stimulus asks of its screen, its clock and its seed, and how choices become JSON."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import Problems

__all__ = [
    "as_json",
    "as_record",
    "check_fields_of",
    "check_memory",
    "check_number",
    "check_range",
    "check_screen",
    "check_seed",
    "check_whole",
    "count_frames",
    "pixel_centres",
]

_BYTES_PER_PIXEL = 4


def check_number(
    problems: Problems,
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> bool:
    """Note a problem unless the value is a finite number within its bounds.

    Parameters
    ----------
    problems : Problems
        Where the problem is noted.
    name : str
        The argument, as the user knows it.
    value : object
        What came.
    above, least, most : float, optional
        Bounds: ``value > above``, ``value >= least``, ``value <= most``.

    Returns
    -------
    bool
        Whether the value can be used.
    """
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), (">=", least), ("<=", most))
        if bound is not None
    ]
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    fits = (
        number
        and (above is None or value > above)
        and (least is None or value >= least)
        and (most is None or value <= most)
    )
    wanted = " ".join(["a finite number", " and ".join(bounds)]).strip()
    return problems.require(fits, f"{name}: expected {wanted}, got {value!r}")


def check_whole(problems: Problems, name: str, value: Any, *, least: int) -> bool:
    """Note a problem unless the value is a whole number of at least ``least``."""
    fits = _is_whole(value) and value >= least
    return problems.require(fits, f"{name}: expected a whole number >= {least}, got {value!r}")


def check_range(problems: Problems, name: str, value: Any, *, least: float) -> bool:
    """Note a problem unless the value is a pair (low, high) with ``least <= low <= high``."""
    try:
        low, high = (float(bound) for bound in value)
        fits = least <= low <= high < math.inf
    except (TypeError, ValueError):
        fits = False
    wanted = f"(low, high) with {least:g} <= low <= high"
    return problems.require(fits, f"{name}: expected {wanted}, got {value!r}")


def check_seed(problems: Problems, seed: Any) -> bool:
    """Note a problem unless the seed is a whole number from 0 to 2**64 - 1."""
    fits = _is_whole(seed) and 0 <= seed < 2**64
    wanted = "a whole number from 0 to 2**64 - 1"
    return problems.require(fits, f"seed: expected {wanted}, got {seed!r}")


def check_screen(problems: Problems, size: Any, pixel_um: Any, frame_rate: Any) -> bool:
    """Note the problems of a frame's size (y, x) in pixels, its pixel and the frame rate."""
    try:
        sides = tuple(size)
    except TypeError:
        sides = ()
    good = problems.require(
        len(sides) == 2 and all(_is_whole(side) and side > 0 for side in sides),
        f"size: expected (y, x) in whole pixels > 0, got {size!r}",
    )
    good &= check_number(problems, "pixel_um", pixel_um, above=0)
    good &= check_number(problems, "frame_rate", frame_rate, above=0)
    return good


def check_fields_of(problems: Problems, name: str, value: Any, kinds: tuple[type, ...]) -> bool:
    """Note a problem unless the value is one of the kinds, and the problems it finds in itself."""
    wanted = " or ".join(kind.__name__ for kind in kinds)
    good = problems.require(isinstance(value, kinds), f"{name}: expected {wanted}, got {value!r}")
    if good:
        before = len(problems.found)
        value.check(problems)
        good = len(problems.found) == before
    return good


def count_frames(problems: Problems, seconds: Any, frames: Any, frame_rate: Any) -> int:
    """Return how many frames were asked for, by a duration or by a number.

    Parameters
    ----------
    problems : Problems
        Where problems are noted: neither or both given, or not positive.
    seconds : float or None
        Duration, s; rounded to whole frames, at least one.
    frames : int or None
        Number of frames.
    frame_rate : float
        Frames per second, Hz.

    Returns
    -------
    int
        The number of frames; 0 where there is a problem.
    """
    if (seconds is None) == (frames is None):
        both = "neither" if seconds is None else "both"
        problems.add(f"seconds or frames: expected one of them, got {both}")
        return 0
    if frames is not None:
        good = check_whole(problems, "frames", frames, least=1)
    else:
        good = check_number(problems, "seconds", seconds, above=0)
    if problems.found or not good:
        return 0
    return int(frames) if frames is not None else max(1, round(seconds * frame_rate))


def pixel_centres(
    size: tuple[int, int], pixel_um: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the centres of the pixels on the retina: y (y, 1) and x (1, x) in um, 0 the middle.

    Examples
    --------
    >>> pixel_centres((1, 3), 50.0)[1].tolist()
    [[-50.0, 0.0, 50.0]]
    """
    y, x = (np.arange(side, dtype=np.float64) - (side - 1) / 2 for side in size)
    return y[:, None] * float(pixel_um), x[None, :] * float(pixel_um)


def as_json(value: Any) -> Any:
    """Return a choice as plain JSON: value objects become a mapping with their ``kind``.

    Examples
    --------
    >>> from retinacodec.stimuli.noise import Gaussian
    >>> as_json(Gaussian(sd=0.25))
    {'kind': 'Gaussian', 'sd': 0.25}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [part.name for part in dataclasses.fields(value)]
        return {"kind": type(value).__name__} | {
            name: as_json(getattr(value, name)) for name in names
        }
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Iterable):
        return [as_json(part) for part in value]
    return repr(value)


def as_record(given: Mapping[str, Any], *, frames: int) -> dict[str, Any]:
    """Return the arguments of a call as JSON, from which the call can be made again.

    Parameters
    ----------
    given : mapping of str to object
        The arguments by name.
    frames : int
        The number of frames that they came to; it replaces ``seconds``.

    Returns
    -------
    dict of str to object
        Plain JSON.
    """
    kept = {name: as_json(value) for name, value in given.items() if name != "seconds"}
    return kept | {"frames": int(frames)}


def _is_whole(value: Any) -> bool:
    """Return whether a value is an integer, of Python or of numpy, and not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_memory(problems: Problems, frames: int, size: Any) -> None:
    """Note a problem where so many frames alone would fill the machine's memory."""
    if problems.found:
        return
    needed = frames * int(size[0]) * int(size[1]) * _BYTES_PER_PIXEL
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    problems.require(
        needed <= memory,
        f"{frames} frames of {size[0]} x {size[1]} pixels need {needed / 1e9:.3g} GB and this "
        f"machine has {memory / 1e9:.3g}; ask for fewer frames at a time",
    )
