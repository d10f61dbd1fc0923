"""Footage: still scenes that an eye looks over and clips that run, both as luminance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.progress import track
from retinacodec.stimuli.clips import clip_frames
from retinacodec.stimuli.fixation import EyeMovements, fixational_path, still_path
from retinacodec.stimuli.photographs import read_photograph
from retinacodec.stimuli.scenes import Leaves, dead_leaves
from retinacodec.stimuli.viewing import Window

__all__ = ["Film", "Photographs", "Rendered", "Scenes", "look", "play"]

Image = npt.NDArray[np.float32]

_WHITE = 255.0
_LONG = 6000  # frames from which on progress is shown


@dataclass(frozen=True)
class Film:
    """A movie before it becomes contrast.

    Parameters
    ----------
    luminance : ndarray (shown, y, x)
        Luminance of the frames that are shown.
    level : ndarray (time,)
        Mean luminance of every frame of the movie.
    scene : ndarray (time,)
        Number of the scene or clip in every frame.
    gaze : xarray.Dataset
        Where the eye looks in every frame, as from `fixational_path`.
    """

    luminance: Image
    level: npt.NDArray[np.float64]
    scene: npt.NDArray[np.int64]
    gaze: xr.Dataset


class Scenes(Protocol):
    """Still scenes, shown one after another."""

    def number(self, turn: int) -> int:
        """Return which scene is shown at this turn."""

    def scene(self, number: int, shape: tuple[int, int]) -> Image:
        """Return the luminance (y, x) of a scene."""


@dataclass(frozen=True)
class Rendered:
    """Scenes of the package's own: a new one at every turn."""

    leaves: Leaves
    seed: int

    def number(self, turn: int) -> int:
        """Return the turn."""
        return turn

    def scene(self, number: int, shape: tuple[int, int]) -> Image:
        """Render a scene with a seed of its own."""
        own = int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0])
        return dead_leaves(shape, seed=own, leaves=self.leaves)


@dataclass(frozen=True)
class Photographs:
    """Image files, in an order that the seed shuffles and that then repeats."""

    paths: tuple[Path, ...]
    gamma: float
    seed: int

    def number(self, turn: int) -> int:
        """Return the place of the file among the sorted files."""
        order = np.random.default_rng([self.seed, 1]).permutation(len(self.paths))
        return int(order[turn % len(self.paths)])

    def scene(self, number: int, shape: tuple[int, int]) -> Image:
        """Read a file."""
        return _luminance(read_photograph(self.paths[number], shape), self.gamma)


def look(
    scenes: Scenes,
    count: int,
    shown: slice,
    turn: int,
    window: Window,
    eye: EyeMovements,
    frame_rate: float,
    seed: int,
) -> Film:
    """Let an eye wander over still scenes, a new one after every ``turn`` frames."""
    gaze = fixational_path(
        count, frame_rate=frame_rate, eye=eye, field_um=window.reach_um, seed=seed
    )
    x, y = gaze["gaze_x"].values, gaze["gaze_y"].values
    level, number = np.empty(count), np.empty(count, dtype=np.int64)
    luminance = np.empty((len(range(count)[shown]), *window.size), dtype=np.float32)
    for first in track(range(0, count, turn), "looking at scenes", enabled=count >= _LONG):
        now = slice(first, min(first + turn, count))
        number[now] = scenes.number(first // turn)
        scene = scenes.scene(int(number[first]), window.scene_shape)
        level[now] = window.means(scene, y[now], x[now])
        seen = slice(max(now.start, shown.start), min(now.stop, shown.stop))
        if seen.start < seen.stop:
            place = slice(seen.start - shown.start, seen.stop - shown.start)
            luminance[place] = window.frames(scene, y[seen], x[seen])
    return Film(luminance, level, number, gaze)


def play(
    clips: tuple[Path, ...],
    count: int | None,
    shown: slice,
    size: tuple[int, int],
    frame_rate: float,
    *,
    gamma: float,
    loop: bool,
) -> Film:
    """Run clips one after another, keeping only the frames that are shown.

    Raises
    ------
    InputError
        If the clips end before the movie, or before the first frame that is shown.
    """
    kept: list[Image] = []
    level: list[float] = []
    number: list[int] = []
    running = _run(clips, size, frame_rate, loop)
    for clip, frame in track(
        running, "playing clips", total=count, enabled=(count or _LONG) >= _LONG
    ):
        luminance = _luminance(frame, gamma)
        if shown.start <= len(level) and (shown.stop is None or len(level) < shown.stop):
            kept.append(luminance)
        level.append(float(luminance.mean(dtype=np.float64)))
        number.append(clip)
        if len(level) == count:
            break
    needed = max(count or 0, shown.stop or 0)
    if len(level) < needed:
        names = ", ".join(path.name for path in clips[:3]) + (" ..." if len(clips) > 3 else "")
        raise InputError(
            f"natural_movie: {names} lasts {len(level) / frame_rate:.2f} s, "
            f"{needed / frame_rate:.2f} s are wanted; ask for less or give loop=True"
        )
    still = still_path(len(level), frame_rate=frame_rate)
    return Film(np.stack(kept), np.asarray(level), np.asarray(number, dtype=np.int64), still)


def _run(
    clips: tuple[Path, ...], size: tuple[int, int], frame_rate: float, loop: bool
) -> Iterator[tuple[int, Image]]:
    """Yield the number of the clip and a frame, from the first clip to the last, or for ever."""
    while True:
        for number, path in enumerate(clips):
            for frame in clip_frames(path, size=size, frame_rate=frame_rate):
                yield number, frame
        if not loop:
            return


def _luminance(grey: Image, gamma: float) -> Image:
    """Turn grey values into luminance, white being 1."""
    relative: Image = grey / np.float32(_WHITE)
    return relative if gamma == 1 else relative ** np.float32(gamma)
