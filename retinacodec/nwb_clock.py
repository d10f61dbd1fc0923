"""When the frames of a movie were on the screen: the movie of a file, or one from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import InputError
from retinacodec.nwb_generators import Generator
from retinacodec.nwb_movies import NwbMovie, open_movie
from retinacodec.nwb_spikes import text
from retinacodec.nwb_triggers import Triggers, flips_of
from retinacodec.recordings import dropped_frames

__all__ = ["MovieClock", "Showings", "origin"]


@dataclass(frozen=True)
class Showings:
    """The flips of every presentation of a movie.

    Parameters
    ----------
    name : str
        The movie.
    flips : tuple of ndarray (frame,)
        Flip times of each presentation, s.
    frame_rate : float
        Frames per second.
    found_by : str
        How presentations were told apart.
    """

    name: str
    flips: tuple[NDArray[np.float64], ...]
    frame_rate: float
    found_by: str = "one showing"

    @property
    def span(self) -> tuple[float, float]:
        """First and last flip, s."""
        return float(self.flips[0][0]), float(self.flips[-1][-1])

    @property
    def dropped(self) -> int:
        """Flips that are missing, in places."""
        return sum(dropped_frames(shown).size for shown in self.flips)


@dataclass(frozen=True)
class MovieClock:
    """Which movie, and everything the user says about its frames and their times.

    Parameters
    ----------
    stimulus : str or Stimulus, optional
        Name of the movie in the file; or a movie from elsewhere, whose times are used unless
        there are triggers.
    repeat_frames, triggers, generator, allow_external, frame_rate
        As in `retinacodec.nwb_movies.open_movie`.
    """

    stimulus: str | xr.Dataset | None = None
    repeat_frames: int | None = None
    triggers: Triggers | None = None
    generator: Generator | None = None
    allow_external: Sequence[str | Path] = ()
    frame_rate: float | None = None

    def movie(self, file: h5py.File, path: str | Path) -> NwbMovie:
        """Open the movie of the file.

        Raises
        ------
        InputError
            If the movie is from elsewhere.
        """
        if isinstance(self.stimulus, xr.Dataset):
            raise InputError("stimulus: expected the name of a movie in the file, got a movie")
        return open_movie(
            file,
            str(path),
            self.stimulus,
            repeat_frames=self.repeat_frames,
            triggers=self.triggers,
            generator=self.generator,
            allow_external=self.allow_external,
            frame_rate=self.frame_rate,
        )

    def showings(self, file: h5py.File, path: str | Path) -> Showings:
        """Return the flips of each presentation."""
        if isinstance(self.stimulus, xr.Dataset):
            return self._of_stimulus(self.stimulus, file, str(path))
        movie = self.movie(file, path)
        return Showings(movie.name, movie.flips, movie.frame_rate, movie.found_by)

    def _of_stimulus(self, stimulus: xr.Dataset, file: h5py.File, path: str) -> Showings:
        name, rate = str(stimulus.attrs.get("name", "")), float(stimulus.attrs["frame_rate"])
        if self.triggers is None:
            return Showings(name, (stimulus["time"].values,), rate)
        pulses, frames = self.triggers.pulses(file, path), stimulus.sizes["time"]
        flips = flips_of(pulses, self.triggers.every, frames, name=name or "the movie", path=path)
        return Showings(name, (flips,), float(1 / np.median(np.diff(flips))))


def origin(file: h5py.File, path: str | Path) -> dict[str, Any]:
    """Return which file something came from: its name, its identifier and its session."""
    facts: dict[str, Any] = {"file": Path(path).name}
    for key, place in (("identifier", "identifier"), ("session", "general/session_id")):
        if isinstance(file.get(place), h5py.Dataset):
            facts[key] = text(file[place][()])
    return facts
