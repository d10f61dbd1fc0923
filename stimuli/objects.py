"""Objects that move on a background that may move too, with both motions as ground truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import Problems
from retinacodec.schema import make_stimulus
from retinacodec.stimuli.checks import (
    as_record,
    check_fields_of,
    check_memory,
    check_number,
    check_screen,
    check_seed,
    check_whole,
    count_frames,
    pixel_centres,
)
from retinacodec.stimuli.motions import Jitter, Motion, Still, Straight
from retinacodec.stimuli.shapes import Disc, Shape, Square
from retinacodec.stimuli.surfaces import Grating, Pink, Surface, Uniform

__all__ = ["moving_object"]

Array = npt.NDArray[np.float64]

_FRAMES_AT_ONCE = 128
_MOTIONS = (Still, Straight, Jitter)
_SURFACES = (Uniform, Grating, Pink)


def moving_object(
    seconds: float | None = None,
    *,
    frames: int | None = None,
    start: int = 0,
    shape: Shape = Disc(),  # noqa: B008  (frozen, without state, as are the others)
    surface: Surface = Uniform(-1.0),  # noqa: B008
    motion: Motion | None = Straight(),  # noqa: B008
    position_um: tuple[float, float] = (0.0, 0.0),
    aperture: bool = False,
    background: Surface = Uniform(0.0),  # noqa: B008
    background_motion: Motion = Still(),  # noqa: B008
    size: tuple[int, int] = (50, 50),
    frame_rate: float = 60.0,
    pixel_um: float = 50.0,
    seed: int,
) -> xr.Dataset:
    """Render an object that moves on a background, which may itself move.

    Parameters
    ----------
    seconds : float, optional
        Duration, s. Give this or `frames`.
    frames : int, optional
        Number of frames.
    start : int, default 0
        First frame to render; frame k is the same in every rendering that holds it.
    shape : Disc or Square, default Disc(300 um)
        Outline of the object.
    surface : Uniform, Grating or Pink, default Uniform(-1)
        What the object is made of.
    motion : Straight, Jitter, Still or None, default Straight(440 um/s)
        How the object moves; None moves it with the background, as an eye movement does.
    position_um : (float, float), default (0, 0)
        Where the object's middle (y, x) is at frame 0, um.
    aperture : bool, default False
        Keep the outline in place and move only the surface inside it.
    background : Uniform, Grating or Pink, default Uniform(0)
        What lies behind.
    background_motion : Still, Straight or Jitter, default Still()
        How the background moves.
    size : (int, int), default (50, 50)
        Pixels (y, x) of a frame.
    frame_rate : float, default 60
        Frames per second, Hz.
    pixel_um : float, default 50
        Side of a pixel on the retina, um.
    seed : int
        Which textures and which random walks.

    Returns
    -------
    xarray.Dataset
        Stimulus: ``contrast`` (time, y, x). Ground truth over time: ``object_x``, ``object_y``
        (um; with an aperture, of the surface inside it), ``background_x``, ``background_y`` (um
        since frame 0), ``object_velocity_x`` ... ``background_velocity_y`` (um/s, the movement
        since the frame before), ``onset`` (bool, the first frame in which the object has moved)
        and ``differential`` (bool, object and background moved differently).

    Raises
    ------
    InputError
        Naming every argument that cannot be used.

    Notes
    -----
    contrast = B(p - b_t) + a(p - o_t) (S(p - o_t) - B(p - b_t)) with the surfaces S and B, the
    positions o_t and b_t, and the share a of the pixel at p that the outline covers. Object and
    background have random numbers of their own, so that two jitters differ.

    References
    ----------
    Olveczky, Baccus, Meister 2003, Segregation of object and background motion in the retina,
    Nature 423, 401 (global against differential motion).

    Examples
    --------
    >>> jitter = Jitter(step_um=7, direction=0)
    >>> grating = Grating(bar_um=100)
    >>> common = dict(surface=grating, background=grating, background_motion=jitter, aperture=True)
    >>> differential = moving_object(2, motion=jitter, seed=0, **common)
    >>> together = moving_object(2, motion=None, seed=0, **common)
    >>> int(differential.differential.sum()) > 40, int(together.differential.sum())
    (True, 0)
    """
    given = dict(locals())
    problems = Problems()
    _check(problems, given)
    count = count_frames(problems, seconds, frames, frame_rate)
    check_memory(problems, count, size)
    problems.raise_as("moving_object")

    own = [int(part) for part in np.random.SeedSequence(seed).generate_state(4, np.uint64)]
    behind = background_motion.path(start + count, frame_rate, own[0])
    moved = behind if motion is None else motion.path(start + count, frame_rate, own[1])
    movie = np.empty((count, *size), dtype=np.float32)
    paints = (surface.paint(size, pixel_um, own[2]), background.paint(size, pixel_um, own[3]))
    centres = pixel_centres(size, pixel_um)
    for first in range(0, count, _FRAMES_AT_ONCE):
        now = slice(start + first, start + min(first + _FRAMES_AT_ONCE, count))
        movie[first : first + _FRAMES_AT_ONCE] = _draw(
            given, paints, centres, moved[now], behind[now]
        )
    return make_stimulus(
        movie,
        frame_rate=frame_rate,
        pixel_um=pixel_um,
        name="moving_object",
        parameters=as_record(given, frames=count),
        seed=seed,
        truth=_truth(moved, behind, position_um, frame_rate, start),
        first_frame=start,
    )


def _check(problems: Problems, given: dict[str, Any]) -> None:
    """Note the arguments that cannot be used by themselves."""
    check_screen(problems, given["size"], given["pixel_um"], given["frame_rate"])
    check_whole(problems, "start", given["start"], least=0)
    check_fields_of(problems, "shape", given["shape"], (Disc, Square))
    check_fields_of(problems, "surface", given["surface"], _SURFACES)
    check_fields_of(problems, "background", given["background"], _SURFACES)
    if given["motion"] is not None:
        check_fields_of(problems, "motion", given["motion"], _MOTIONS)
    check_fields_of(problems, "background_motion", given["background_motion"], _MOTIONS)
    place = given["position_um"]
    good = isinstance(place, tuple | list) and len(place) == 2
    if problems.require(good, f"position_um: expected (y, x) in um, got {place!r}"):
        for part in place:
            check_number(problems, "position_um", part)
    check_seed(problems, given["seed"])


def _draw(
    given: dict[str, Any],
    paints: tuple[Any, Any],
    centres: tuple[Array, Array],
    moved: Array,
    behind: Array,
) -> Array:
    """Draw some frames (time, y, x): the background, and the object over it."""
    y, x = centres
    top, left = given["position_um"]
    surface, background = paints
    back = background(x - behind[:, 0, None, None], y - behind[:, 1, None, None])
    right, down = x - left - moved[:, 0, None, None], y - top - moved[:, 1, None, None]
    front = surface(right, down)
    if given["aperture"]:
        right, down = x - left, y - top
    covered = given["shape"].coverage(right, down, given["pixel_um"])
    drawn: Array = back + covered * (front - back)
    return drawn


def _truth(
    moved: Array,
    behind: Array,
    position_um: tuple[float, float],
    frame_rate: float,
    start: int,
) -> dict[str, tuple[npt.NDArray[Any], str]]:
    """Return positions, velocities, onset and whether the two move differently, with units."""
    truth: dict[str, tuple[npt.NDArray[Any], str]] = {}
    speeds = []
    for name, path, origin in (
        ("object", moved, position_um[::-1]),
        ("background", behind, (0.0, 0.0)),
    ):
        velocity = np.diff(path, axis=0, prepend=path[:1]) * frame_rate
        speeds.append(velocity)
        for axis, letter in enumerate("xy"):
            truth[f"{name}_{letter}"] = (origin[axis] + path[start:, axis], "um")
            truth[f"{name}_velocity_{letter}"] = (velocity[start:, axis], "um/s")
    moving = np.flatnonzero((speeds[0] != 0).any(axis=1))
    onset = np.zeros(len(moved), dtype=bool)
    onset[moving[:1]] = True
    differ = (speeds[0] != speeds[1]).any(axis=1)
    return truth | {"onset": (onset[start:], "1"), "differential": (differ[start:], "1")}
