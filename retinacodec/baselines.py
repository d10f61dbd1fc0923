"""Baselines: where the path to a sample starts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retinacodec.errors import InputError

__all__ = ["Baseline", "DrawnFrames", "GivenFrames", "MeanFrame", "ZeroContrast"]


@runtime_checkable
class Baseline(Protocol):
    """Where the paths start: one sample, or several whose contributions are averaged."""

    def starts(self, frames: Tensor, sample: Sequence[int]) -> Tensor:
        """Return the starts (baseline, *sample) of all paths.

        Parameters
        ----------
        frames : torch.Tensor (time, y, x) or (image, channel, y, x)
            The whole movie, or all images.
        sample : sequence of int
            Shape of what the model reads: (history, y, x) or (channel, y, x).
        """


@dataclass(frozen=True)
class ZeroContrast:
    """Mean grey, held for the whole window; for images, zero after preprocessing.

    Examples
    --------
    >>> ZeroContrast().starts(torch.ones(5, 2, 2), (3, 2, 2)).shape
    torch.Size([1, 3, 2, 2])
    """

    def starts(self, frames: Tensor, sample: Sequence[int]) -> Tensor:
        """Return zeros (1, *sample)."""
        return torch.zeros((1, *sample), dtype=frames.dtype)


@dataclass(frozen=True)
class MeanFrame:
    """The mean of the movie's frames, held for the whole window; for images, their mean."""

    def starts(self, frames: Tensor, sample: Sequence[int]) -> Tensor:
        """Return the mean (1, *sample)."""
        mean = frames.to(torch.float64).mean(dim=0).to(frames.dtype)
        return mean.expand(tuple(sample))[None]


@dataclass(frozen=True)
class GivenFrames:
    """Given frames or windows; contributions are averaged where there are several.

    Parameters
    ----------
    values : array_like (y, x), (history, y, x), (baseline, y, x) or (baseline, history, y, x)
        Contrast of one frame that is held for the whole window, of a whole window, or of
        several such frames or windows. For images (channel, y, x) or (baseline, channel, y, x).
        Three axes are one window if their first has the length of the history.
    several : bool, optional
        Whether the first axis counts baselines; decided by the shape if left out.

    Raises
    ------
    InputError
        If values are not finite numbers, or, when the movie is known, do not fit its frames.

    Examples
    --------
    >>> GivenFrames(np.zeros((50, 50)))
    GivenFrames(50 x 50, 7376d363)
    """

    values: npt.ArrayLike = field(repr=False, compare=False)
    several: bool | None = None
    digest: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(np.asarray(self.values, dtype=np.float32))
        if not values.size or not np.isfinite(values).all():
            raise InputError("baseline: expected finite contrasts, got none, NaN or infinity")
        object.__setattr__(self, "values", values)
        said = hashlib.sha256(values.tobytes() + str(values.shape).encode()).hexdigest()
        object.__setattr__(self, "digest", said[:8])

    def __repr__(self) -> str:
        """Say shape and digest."""
        shape = " x ".join(str(size) for size in np.shape(self.values))
        return f"GivenFrames({shape}, {self.digest})"

    def starts(self, frames: Tensor, sample: Sequence[int]) -> Tensor:
        """Return the baselines (baseline, *sample)."""
        values = torch.from_numpy(np.asarray(self.values)).to(frames.dtype)
        sample, shape = tuple(sample), tuple(values.shape)
        frame = tuple(frames.shape[1:])
        several = shape not in (sample, frame) if self.several is None else self.several
        inner = shape[1:] if several else shape
        if inner not in (sample, frame):
            raise InputError(
                f"baseline: expected frames of {frame} or windows of {sample}, one or several, "
                f"got {shape}"
            )
        one = values if several else values[None]
        if inner != sample:
            one = one.unsqueeze(1)
        return one.expand(len(one), *sample)


@dataclass(frozen=True)
class DrawnFrames:
    """Frames of the movie itself, drawn at random; contributions are averaged over them.

    Parameters
    ----------
    count : int, default 10
        How many, without repetition.
    seed : int, default 0
        Seed of the draw.

    Raises
    ------
    InputError
        If the count is below 1 or, when the movie is known, above its number of frames.

    References
    ----------
    Expected gradients: Erion et al., Nature Machine Intelligence 3, 620 (2021).
    """

    count: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"baseline: expected a count of at least 1, got {self.count}")

    def starts(self, frames: Tensor, sample: Sequence[int]) -> Tensor:
        """Return the drawn frames (count, *sample)."""
        if self.count > len(frames):
            raise InputError(f"baseline: {self.count} frames to draw from a movie of {len(frames)}")
        chosen = np.random.default_rng(self.seed).choice(len(frames), self.count, replace=False)
        drawn = frames[torch.from_numpy(np.sort(chosen))]
        if drawn.ndim < len(sample) + 1:
            drawn = drawn.unsqueeze(1)
        return drawn.expand(self.count, *sample)
