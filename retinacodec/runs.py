"""Runs of contiguous responses: how a set of frames is cut so that no batch leaves its set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Runs", "segments"]


_CHUNK = 1024  # frames summed at a time in double precision


def segments(frames: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return the contiguous stretches of increasing frame numbers.

    Examples
    --------
    >>> [part.tolist() for part in segments(np.array([3, 4, 5, 9]))]
    [[3, 4, 5], [9]]
    """
    return np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)


@dataclass(frozen=True)
class Runs:
    """A set of responses as runs of one length, with the movie frames and counts they need.

    Parameters
    ----------
    contrast : torch.Tensor (time, y, x)
        The movie.
    counts : torch.Tensor (time, cell)
        Spikes in each frame; NaN where not observed.
    history, latency : int
        Frames of a window, and from its newest frame to the response.
    length : int
        Responses of a run, at most; a set with a shorter stretch has shorter runs.
    frames : ndarray of int
        The responses of the set, increasing.

    Notes
    -----
    Runs lie inside the stretches of the set and are spread evenly over each, so neighbours may
    share a few responses. The frames of a run are those of its windows and no others.
    """

    contrast: Tensor
    counts: Tensor
    history: int
    latency: int
    length: int
    frames: NDArray[np.intp]

    def __post_init__(self) -> None:
        shortest = min((len(part) for part in segments(self.frames)), default=1)
        object.__setattr__(self, "length", max(1, min(self.length, shortest)))

    @property
    def starts(self) -> Tensor:
        """First response frame of each run (run,)."""
        found = [
            part[0] + np.linspace(0, len(part) - self.length, -(-len(part) // self.length)).round()
            for part in segments(self.frames)
            if len(part)
        ]
        return torch.from_numpy(np.concatenate([np.empty(0), *found]).astype(np.int64))

    def responses(self, starts: Tensor) -> Tensor:
        """Return the response frames (run, length) of runs."""
        return starts[:, None] + torch.arange(self.length)

    def movie(self, starts: Tensor) -> Tensor:
        """Return the frames (run, length + history - 1, y, x) that the windows of runs need."""
        first = starts - self.latency - self.history + 1
        return self.contrast[first[:, None] + torch.arange(self.length + self.history - 1)]

    def spikes(self) -> NDArray[np.float64]:
        """Return how many spikes each cell fired in the set (cell,)."""
        return np.nansum(self._observed(), axis=0)

    def mean_counts(self) -> NDArray[np.float64]:
        """Return each cell's mean count (cell,) in the set; NaN if it was never observed."""
        counts = self._observed()
        seen = np.isfinite(counts).sum(axis=0)
        return np.where(seen > 0, self.spikes() / np.maximum(seen, 1), np.nan)

    def deviation(self) -> float:
        """Return the standard deviation of the movie over all frames that the set's runs need."""
        needed = np.zeros(len(self.contrast), dtype=bool)
        for shift in range(self.history):
            needed[self.frames - self.latency - shift] = True
        parts = torch.from_numpy(np.flatnonzero(needed)).split(_CHUNK)
        count = sum(len(part) for part in parts) * self.contrast[0].numel()
        mean = sum(float(self.contrast[part].sum(dtype=torch.float64)) for part in parts) / count
        power = sum(float((self.contrast[part].double() - mean).square().sum()) for part in parts)
        return float(np.sqrt(power / count))

    def only_here(self) -> Tensor:
        """Return counts (time, cell) that are NaN outside the set."""
        at = torch.from_numpy(self.frames)
        hidden = torch.full_like(self.counts, torch.nan)
        hidden[at] = self.counts[at]
        return hidden

    def _observed(self) -> NDArray[np.float64]:
        return self.counts[torch.from_numpy(self.frames)].double().numpy()
