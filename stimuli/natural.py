"""Natural movies: scenes, photographs or film clips as an eye that moves would see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from retinacodec.errors import InputError, Problems
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
)
from retinacodec.stimuli.clips import MOVIE_SUFFIXES
from retinacodec.stimuli.film import Film, Photographs, Rendered, look, play
from retinacodec.stimuli.fixation import EyeMovements
from retinacodec.stimuli.photographs import IMAGE_SUFFIXES, find_files
from retinacodec.stimuli.scenes import Leaves
from retinacodec.stimuli.viewing import Window

__all__ = ["natural_movie"]

_LEAVES = Leaves(radii=(4.0, 200.0))  # as steep a spectrum at 40 x 40 pixels as photographs have


def natural_movie(
    source: str | Path | None = None,
    *,
    seconds: float | None = None,
    frames: int | None = None,
    part: tuple[int, int] | None = None,
    size: tuple[int, int] = (50, 50),
    contrast: float = 1.0,
    scene_seconds: float = 5.0,
    eye: EyeMovements | None = None,
    leaves: Leaves | None = None,
    gamma: float = 1.0,
    loop: bool = False,
    frame_rate: float = 60.0,
    pixel_um: float = 50.0,
    seed: int,
) -> xr.Dataset:
    """Render a natural movie from scenes of the package, from photographs or from film clips.

    Parameters
    ----------
    source : str or Path, optional
        Nothing: scenes rendered by the package (`dead_leaves`). An image file or a folder of
        them: photographs, in shuffled order. A movie file or a folder of them: the clips in the
        order of their names. Still scenes are looked at with an eye that moves; clips move
        by themselves and are shown as they are.
    seconds : float, optional
        Duration, s. Without `seconds` and `frames` every photograph is shown once, and clips
        are shown to their end.
    frames : int, optional
        Number of frames, in place of `seconds`.
    part : (int, int), optional
        Render only the frames from the first to before the second. They are the same as in the
        whole movie.
    size : (int, int), default (50, 50)
        Pixels (y, x) of a frame. Photographs cover twice that, so that the eye can wander; clips
        fill it.
    contrast : float, default 1
        Factor on the movie's contrast, 0 to 1.
    scene_seconds : float, default 5
        Time for which a still scene is shown, s.
    eye : EyeMovements, optional
        Drift, tremor and saccades over still scenes.
    leaves : Leaves, optional
        What the package's scenes look like, radii in thirds of a pixel; by default radii are
        4 to 200.
    gamma : float, default 1
        Luminance of photographs and clips is their grey value to this power: 1 takes the values
        as they are, about 2.2 undoes the encoding of most files.
    loop : bool, default False
        Begin clips again when they end before the movie does.
    frame_rate : float, default 60
        Frames per second, Hz. Clips keep their speed: each frame shows what the clip shows then.
    pixel_um : float, default 50
        Side of a pixel on the retina, um.
    seed : int
        Which scenes, order and eye movements.

    Returns
    -------
    xarray.Dataset
        Stimulus: ``contrast`` (time, y, x), >= -1. Ground truth over time: ``gaze_x``, ``gaze_y``
        (um), ``gaze_velocity_x``, ``gaze_velocity_y`` (um/s), ``saccade`` (bool), ``scene``
        (int: the turn of a rendered scene, or the place of the file among the sorted files;
        their names are its attribute ``files``) and ``luminance`` (mean of the frame over the
        mean of the movie). Clips have no gaze: it is 0.

    Raises
    ------
    InputError
        Naming every argument that cannot be used, a missing file or folder, a folder without
        images or movies or with both, a file that cannot be decoded, or clips that end too early.

    Notes
    -----
    Contrast = gain (I - M) / M with the luminance I and its mean M over all frames and pixels of
    the whole movie, also where only a part is rendered. The eye moves as in `fixational_path`,
    at most half a frame from the middle of the scene; scenes change without regard to it.

    Examples
    --------
    >>> movie = natural_movie(seconds=2, seed=0)
    >>> dict(movie.sizes), abs(float(movie.contrast.mean())) < 1e-6
    ({'time': 120, 'y': 50, 'x': 50}, True)
    """
    given = dict(locals())
    given |= {"eye": eye or EyeMovements(), "leaves": leaves or _LEAVES}
    problems = Problems()
    _check(problems, given)
    images, clips = _find(problems, source)
    count = _count(problems, given, images, clips)
    shown = _check_part(problems, part, count)
    check_memory(problems, len(range(count or 0)[shown]), size)
    problems.raise_as("natural_movie")

    if clips:
        film = play(clips, count, shown, size, frame_rate, gamma=gamma, loop=loop)
    else:
        scenes = Photographs(images, gamma, seed) if images else Rendered(given["leaves"], seed)
        window = Window(size, pixel_um, (size[0] * pixel_um / 2, size[1] * pixel_um / 2))
        turn = max(1, round(scene_seconds * frame_rate))
        film = look(scenes, count or 0, shown, turn, window, given["eye"], frame_rate, seed)
    movie = make_stimulus(
        _contrast(film, contrast, source),
        frame_rate=frame_rate,
        pixel_um=pixel_um,
        name="natural_movie",
        parameters=as_record(given, frames=len(film.level)),
        seed=seed,
        truth=_truth(film, shown),
        first_frame=shown.start,
    )
    movie["scene"].attrs["files"] = [path.name for path in images or clips]
    return movie


def _check(problems: Problems, given: dict[str, Any]) -> None:
    """Note the arguments that cannot be used by themselves."""
    check_screen(problems, given["size"], given["pixel_um"], given["frame_rate"])
    check_number(problems, "contrast", given["contrast"], above=0, most=1)
    check_number(problems, "scene_seconds", given["scene_seconds"], above=0)
    check_number(problems, "gamma", given["gamma"], above=0)
    check_fields_of(problems, "eye", given["eye"], (EyeMovements,))
    check_fields_of(problems, "leaves", given["leaves"], (Leaves,))
    check_seed(problems, given["seed"])


def _find(
    problems: Problems, source: str | Path | None
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the images and the clips of the source: at most one of them is not empty."""
    if source is None:
        return (), ()
    if not isinstance(source, str | Path):
        problems.add(f"source: expected a file or folder, got {source!r}")
        return (), ()
    path = Path(source)
    if path.is_file():
        return ((path,), ()) if path.suffix.lower() in IMAGE_SUFFIXES else ((), (path,))
    if not problems.require(path.is_dir(), f"source: there is no file or folder {source}"):
        return (), ()
    images, clips = (tuple(find_files(path, ends)) for ends in (IMAGE_SUFFIXES, MOVIE_SUFFIXES))
    ends = ", ".join((*IMAGE_SUFFIXES, *MOVIE_SUFFIXES))
    problems.require(
        bool(images or clips), f"source: no images or movies in folder {source}; it may hold {ends}"
    )
    problems.require(
        not (images and clips),
        f"source: folder {source} holds {len(images)} images and {len(clips)} movies; "
        "keep them in two folders",
    )
    return images, clips


def _count(
    problems: Problems, given: dict[str, Any], images: tuple[Path, ...], clips: tuple[Path, ...]
) -> int | None:
    """Return the frames of the movie; None for clips that are shown to their end."""
    seconds, frames = given["seconds"], given["frames"]
    open_end = seconds is None and frames is None and not problems.found
    if open_end and images:
        seconds = len(images) * given["scene_seconds"]
    if open_end and clips and not given["loop"]:
        return None
    return count_frames(problems, seconds, frames, given["frame_rate"])


def _check_part(problems: Problems, part: Any, count: int | None) -> slice:
    """Return the frames to render, all of them without a part."""
    if part is None:
        return slice(0, count)
    good = isinstance(part, tuple | list) and len(part) == 2
    if problems.require(good, f"part: expected (first, stop) frames, got {part!r}"):
        good = all(check_whole(problems, "part", edge, least=0) for edge in part)
        if good and count != 0:
            fits = part[0] < part[1] and (count is None or part[1] <= count)
            end = "the end" if count is None else count
            problems.require(fits, f"part: expected 0 <= first < stop <= {end}, got {part!r}")
    return slice(*part) if good else slice(0, 0)


def _contrast(film: Film, gain: float, source: str | Path | None) -> Any:
    """Return gain (I - M) / M in place of the luminance."""
    mean = float(film.level.mean())
    if mean <= 0:
        raise InputError(f"natural_movie: {source} is black throughout, so it has no contrast")
    contrast = film.luminance
    contrast -= np.float32(mean)
    contrast *= np.float32(gain / mean)
    return contrast


def _truth(film: Film, shown: slice) -> dict[str, tuple[Any, str]]:
    """Return the ground truth of the frames that are shown, with units."""
    gaze = {
        str(name): (values.values[shown], values.attrs["units"])
        for name, values in film.gaze.data_vars.items()
    }
    return gaze | {
        "scene": (film.scene[shown], "1"),
        "luminance": (film.level[shown] / film.level.mean(), "1"),
    }
