"""A centre and a surround that each step in luminance, or start to move: probes of one event."""

from __future__ import annotations

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
    pixel_centres,
)
from retinacodec.stimuli.shapes import Disc
from retinacodec.stimuli.surfaces import Pink

__all__ = ["centre_surround"]

Array = npt.NDArray[Any]


def centre_surround(
    frames: int = 48,
    *,
    onset: int = 30,
    centre: tuple[float, float] = (0.0, 0.0),
    surround: tuple[float, float] = (0.0, 0.0),
    centre_speed: float = 0.0,
    background_speed: float = 0.0,
    direction: float = 0.0,
    texture: float = 0.0,
    switch: bool = False,
    position_um: tuple[float, float] = (0.0, 0.0),
    radius_um: float = 100.0,
    surround_um: float | None = None,
    size: tuple[int, int] = (50, 50),
    frame_rate: float = 60.0,
    pixel_um: float = 50.0,
    seed: int = 0,
) -> xr.Dataset:
    """Render a disc and what surrounds it, which step in luminance and start to move together.

    Parameters
    ----------
    frames : int, default 48
        Number of frames.
    onset : int, default 30
        First frame after the step, and of the motion.
    centre, surround : (float, float), default (0, 0)
        Contrast before and after the step, inside and outside the disc.
    centre_speed, background_speed : float, default 0
        Speed of the texture inside and outside from the onset on, um/s.
    direction : float, default 0
        Direction of both motions, degrees: 0 towards +x, 90 towards +y.
    texture : float, default 0
        Standard deviation of a random texture on both, contrast.
    switch : bool, default False
        Show another texture from the onset on, as after a saccade.
    position_um : (float, float), default (0, 0)
        Middle (y, x) of the disc, um.
    radius_um : float, default 100
        Radius of the disc, um.
    surround_um : float, optional
        The luminance steps up to this radius only; everywhere if left out.
    size : (int, int), default (50, 50)
        Pixels (y, x) of a frame.
    frame_rate : float, default 60
        Frames per second, Hz.
    pixel_um : float, default 50
        Side of a pixel on the retina, um.
    seed : int, default 0
        Which textures.

    Returns
    -------
    xarray.Dataset
        Stimulus: ``contrast`` (time, y, x), cut at -1 and 1. Ground truth over time:
        ``centre_level`` and ``surround_level``, contrast without texture;
        ``centre_velocity_x`` ... ``background_velocity_y``, um/s; ``switch`` (bool), the first
        frame of another texture.

    Raises
    ------
    InputError
        Naming every argument that cannot be used.

    Examples
    --------
    >>> probe = centre_surround(centre=(0.0, 0.5), size=(9, 9))
    >>> probe.contrast[28:32, 4, 4].values.tolist()
    [0.0, 0.0, 0.5, 0.5]
    """
    given = dict(locals())
    _check(given)
    y, x = pixel_centres(size, pixel_um)
    down, right = y - position_um[0], x - position_um[1]
    inside = Disc(radius_um).coverage(right, down, pixel_um)
    near = np.ones(size)
    if surround_um is not None:
        near = Disc(surround_um).coverage(right, down, pixel_um)
    after = np.arange(frames) >= onset
    levels = [np.where(after, pair[1], pair[0]) for pair in (centre, surround)]
    movie = near * (levels[1][:, None, None] + inside * (levels[0] - levels[1])[:, None, None])
    speeds = (centre_speed, background_speed)
    if texture > 0:
        movie = movie + _textures(given, inside, right, down)
    truth: dict[str, tuple[npt.ArrayLike, str]] = {
        "centre_level": (levels[0], "1"),
        "surround_level": (levels[1], "1"),
        "switch": ((np.arange(frames) == onset) & switch & (texture > 0), "1"),
    }
    turn = np.deg2rad(direction)
    for name, speed in zip(("centre", "background"), speeds, strict=True):
        for axis, part in (("x", np.cos(turn)), ("y", np.sin(turn))):
            truth[f"{name}_velocity_{axis}"] = (after * speed * part, "um/s")
    return make_stimulus(
        np.clip(movie, -1, 1),
        frame_rate=frame_rate,
        pixel_um=pixel_um,
        name="centre_surround",
        parameters=as_record(given, frames=frames),
        seed=seed,
        truth=truth,
    )


def _textures(given: dict[str, Any], inside: Array, right: Array, down: Array) -> Array:
    """Return the textures (time, y, x) of disc and background, each at its own displacement."""
    kinds = np.random.SeedSequence(given["seed"]).generate_state(2, np.uint64)
    paints = [
        Pink(given["texture"]).paint(given["size"], given["pixel_um"], int(kind)) for kind in kinds
    ]
    turn = np.deg2rad(given["direction"])
    gone = np.maximum(np.arange(given["frames"]) - given["onset"] + 1, 0) / given["frame_rate"]
    drawn = np.empty((given["frames"], *given["size"]))
    for frame, time in enumerate(gone):
        paint = paints[int(given["switch"] and frame >= given["onset"])]
        shown = []
        for speed in (given["centre_speed"], given["background_speed"]):
            step = speed * time
            shown.append(paint(right - step * np.cos(turn), down - step * np.sin(turn)))
        drawn[frame] = shown[1] + inside * (shown[0] - shown[1])
    return drawn


def _check(given: dict[str, Any]) -> None:
    """Raise one error that names every argument that cannot be used."""
    problems = Problems()
    check_screen(problems, given["size"], given["pixel_um"], given["frame_rate"])
    check_whole(problems, "frames", given["frames"], least=2)
    check_whole(problems, "onset", given["onset"], least=1)
    for name in ("centre", "surround"):
        pair = given[name]
        if problems.require(len(pair) == 2, f"{name}: expected before and after, got {pair}"):
            for level in pair:
                check_number(problems, name, level, least=-1, most=1)
    for name in ("centre_speed", "background_speed"):
        check_number(problems, name, given[name], least=0)
    check_number(problems, "direction", given["direction"])
    check_number(problems, "texture", given["texture"], least=0, most=1)
    check_number(problems, "radius_um", given["radius_um"], above=0)
    if given["surround_um"] is not None:
        check_number(problems, "surround_um", given["surround_um"], above=given["radius_um"])
    check_seed(problems, given["seed"])
    if not problems.found:
        problems.require(given["onset"] < given["frames"], "onset: expected a frame of the movie")
        check_memory(problems, given["frames"], given["size"])
    problems.raise_as("centre_surround")
