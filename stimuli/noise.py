"""White noise, rendered from a counter so that any range of frames is the same by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import ndtri

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
)

__all__ = ["Binary", "Gaussian", "white_noise"]

_WORDS_PER_BLOCK = 4  # one step of the Philox counter gives four 64-bit words
_WORDS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Binary:
    """Every check is -1 or +1 with equal chance: one random bit each.

    Examples
    --------
    >>> Binary()
    Binary()
    """

    def check(self, problems: Problems) -> None:
        """Note what is wrong with the choice: there is nothing to choose."""

    def words(self, checks: int) -> int:
        """Return how many 64-bit words one pattern of so many checks takes."""
        return -(-checks // 64)

    def values(self, words: npt.NDArray[np.uint64], checks: int) -> npt.NDArray[np.float32]:
        """Turn random words (pattern, word) into values (pattern, check) of -1 and +1."""
        octets = words.astype("<u8").view(np.uint8)
        bits = np.unpackbits(octets, axis=1, count=checks, bitorder="little")
        return bits.astype(np.float32) * np.float32(2) - np.float32(1)


@dataclass(frozen=True)
class Gaussian:
    """Every check is normal with mean 0; values are not clipped.

    Parameters
    ----------
    sd : float, default 0.3
        Standard deviation in units of contrast, > 0. A display cannot show contrasts below -1:
        at 0.3 that is one value in 2300.
    """

    sd: float = 0.3

    def check(self, problems: Problems) -> None:
        """Note a problem unless the standard deviation is positive."""
        check_number(problems, "Gaussian sd", self.sd, above=0)

    def words(self, checks: int) -> int:
        """Return how many 64-bit words one pattern of so many checks takes."""
        return -(-checks // 2)

    def values(self, words: npt.NDArray[np.uint64], checks: int) -> npt.NDArray[np.float32]:
        """Turn random words (pattern, word) into normal values (pattern, check)."""
        halves = words.astype("<u8").view("<u4")[:, :checks]
        uniform = (halves.astype(np.float64) + 0.5) * 2.0**-32
        return (self.sd * ndtri(uniform)).astype(np.float32)


def white_noise(
    seconds: float | None = None,
    *,
    frames: int | None = None,
    size: tuple[int, int] = (50, 50),
    distribution: Binary | Gaussian = Binary(),
    contrast: float = 1.0,
    check: int | tuple[int, int] = 1,
    hold: int = 1,
    frame_rate: float = 60.0,
    pixel_um: float = 50.0,
    start: int = 0,
    seed: int,
) -> xr.Dataset:
    """Render white noise: checks whose contrasts are independent in space and time.

    Parameters
    ----------
    seconds : float, optional
        Duration, s. Give this or `frames`.
    frames : int, optional
        Number of frames.
    size : (int, int), default (50, 50)
        Pixels (y, x) of a frame.
    distribution : Binary or Gaussian, default Binary()
        Distribution of a check's contrast.
    contrast : float, default 1
        Factor on the distribution's values, > 0.
    check : int or (int, int), default 1
        Pixels (y, x) to a side of a check; as large as the frame for full-field flicker.
    hold : int, default 1
        Frames for which a pattern stays.
    frame_rate : float, default 60
        Frames per second, Hz.
    pixel_um : float, default 50
        Side of a pixel on the retina, um.
    start : int, default 0
        First frame to render. Frame k is the same in every rendering that holds it.
    seed : int
        Which noise, 0 to 2**64 - 1.

    Returns
    -------
    xarray.Dataset
        Stimulus: ``contrast`` (time, y, x), dimensionless.

    Raises
    ------
    InputError
        Naming every argument that cannot be used.

    Notes
    -----
    Pattern p = frame // hold takes the W words from number p W on of the Philox 4x64 stream
    whose key is the seed. A word is 64 binary checks, lowest bit first, or two Gaussian checks,
    sd * Phi^-1((u + 1/2) / 2^32) for its two 32-bit halves u, low half first. Checks run along
    x first. The values depend only on the counter, so they stay the same between versions of
    numpy.

    References
    ----------
    Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers: as easy as 1, 2, 3, section 3
    (Philox).

    Examples
    --------
    >>> whole = white_noise(frames=9, size=(4, 6), seed=1)
    >>> part = white_noise(frames=2, size=(4, 6), start=5, seed=1)
    >>> bool((part.contrast == whole.contrast[5:7]).all())
    True
    """
    given = dict(locals())
    blocks = (check, check) if isinstance(check, int) else check
    problems = Problems()
    check_screen(problems, size, pixel_um, frame_rate)
    check_fields_of(problems, "distribution", distribution, (Binary, Gaussian))
    check_number(problems, "contrast", contrast, above=0)
    _check_blocks(problems, blocks)
    check_whole(problems, "hold", hold, least=1)
    check_whole(problems, "start", start, least=0)
    check_seed(problems, seed)
    count = count_frames(problems, seconds, frames, frame_rate)
    check_memory(problems, count, size)
    problems.raise_as("white_noise")

    movie = _render(count, start, size, blocks, hold, distribution, seed)
    movie *= np.float32(contrast)
    return make_stimulus(
        movie,
        frame_rate=frame_rate,
        pixel_um=pixel_um,
        name="white_noise",
        parameters=as_record(given, frames=count),
        seed=seed,
        first_frame=start,
    )


def _check_blocks(problems: Problems, blocks: Any) -> None:
    """Note a problem unless a check has whole sides (y, x)."""
    good = isinstance(blocks, tuple | list) and len(blocks) == 2
    if problems.require(good, f"check: expected pixels or (y, x), got {blocks!r}"):
        for side in blocks:
            check_whole(problems, "check", side, least=1)


def _render(
    count: int,
    start: int,
    size: tuple[int, int],
    blocks: tuple[int, int],
    hold: int,
    distribution: Binary | Gaussian,
    seed: int,
) -> npt.NDArray[np.float32]:
    """Render frames start to start + count, a bounded number of random words at a time."""
    grid = (-(-size[0] // blocks[0]), -(-size[1] // blocks[1]))
    movie = np.empty((count, *size), dtype=np.float32)
    words = distribution.words(grid[0] * grid[1])
    step = max(1, _WORDS_AT_ONCE // words) * hold
    for first in range(0, count, step):
        number = np.arange(start + first, start + min(first + step, count)) // hold
        drawn = _words(seed, int(number[0]), int(number[-1] - number[0]) + 1, words)
        pattern = distribution.values(drawn, grid[0] * grid[1]).reshape(-1, *grid)
        if blocks != (1, 1):
            pattern = pattern.repeat(blocks[0], axis=1).repeat(blocks[1], axis=2)
        shown = pattern if hold == 1 else pattern[number - number[0]]
        movie[first : first + len(number)] = shown[:, : size[0], : size[1]]
    return movie


def _words(seed: int, first: int, patterns: int, words: int) -> npt.NDArray[np.uint64]:
    """Return the random words (pattern, word) of some patterns, wherever in the stream they lie."""
    padded = -(-words // _WORDS_PER_BLOCK) * _WORDS_PER_BLOCK
    stream = np.random.Philox(key=int(seed), counter=first * padded // _WORDS_PER_BLOCK)
    drawn: npt.NDArray[np.uint64] = stream.random_raw(patterns * padded).reshape(patterns, padded)
    return np.ascontiguousarray(drawn[:, :words])
