"""How objects and backgrounds move: displacement from where they start, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retinacodec.errors import Problems
from retinacodec.stimuli.checks import check_number, check_whole

__all__ = ["Jitter", "Motion", "Still", "Straight"]

Array = npt.NDArray[np.float64]


class Motion(Protocol):
    """A motion that begins at the origin."""

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""

    def path(self, frames: int, frame_rate: float, seed: int) -> Array:
        """Return the displacement (frame, xy) in um; it is 0 in the first frame."""


@dataclass(frozen=True)
class Still:
    """No motion."""

    def check(self, problems: Problems) -> None:
        """Note what is wrong with the choice: there is nothing to choose."""

    def path(self, frames: int, frame_rate: float, seed: int) -> Array:  # noqa: ARG002
        """Return zeros."""
        return np.zeros((frames, 2))


@dataclass(frozen=True)
class Straight:
    """Constant velocity from an onset on.

    Parameters
    ----------
    speed : float, default 440
        Speed, um/s.
    direction : float, default 0
        Degrees: 0 towards +x, 90 towards +y.
    onset_s : float, default 0
        When the motion starts, s.
    """

    speed: float = 440.0
    direction: float = 0.0
    onset_s: float = 0.0

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""
        check_number(problems, "Straight speed", self.speed, above=0)
        check_number(problems, "Straight direction", self.direction)
        check_number(problems, "Straight onset_s", self.onset_s, least=0)

    def path(self, frames: int, frame_rate: float, seed: int) -> Array:  # noqa: ARG002
        """Return speed times the time since the onset, along the direction."""
        gone = self.speed * np.maximum(np.arange(frames) / frame_rate - self.onset_s, 0)
        angle = np.deg2rad(self.direction)
        return np.stack([gone * np.cos(angle), gone * np.sin(angle)], axis=1)


@dataclass(frozen=True)
class Jitter:
    """A random walk, as an eye that fixates moves the image.

    Parameters
    ----------
    step_um : float, default 7
        Length of a step, um.
    every : int, default 1
        Frames from one step to the next.
    direction : float, optional
        Degrees: steps go forth or back along this direction. Without it every step has a random
        direction.
    onset_s : float, default 0
        When the walk starts, s.

    References
    ----------
    Olveczky, Baccus, Meister 2003, Segregation of object and background motion in the retina,
    Nature 423, 401: jittering gratings tell an object's motion from that of the eye.
    """

    step_um: float = 7.0
    every: int = 1
    direction: float | None = None
    onset_s: float = 0.0

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""
        check_number(problems, "Jitter step_um", self.step_um, above=0)
        check_whole(problems, "Jitter every", self.every, least=1)
        if self.direction is not None:
            check_number(problems, "Jitter direction", self.direction)
        check_number(problems, "Jitter onset_s", self.onset_s, least=0)

    def path(self, frames: int, frame_rate: float, seed: int) -> Array:
        """Add up the steps; the first frames of a longer walk are the same."""
        turn = np.random.default_rng(seed).random(frames)
        if self.direction is None:
            angle = 2 * np.pi * turn
        else:
            angle = np.deg2rad(self.direction) + np.pi * (turn < 0.5)
        first = max(1, int(np.ceil(self.onset_s * frame_rate - 1e-9)))
        frame = np.arange(frames)
        length = self.step_um * ((frame >= first) & ((frame - first) % self.every == 0))
        steps = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)
        walk: Array = np.cumsum(steps, axis=0)
        return walk
