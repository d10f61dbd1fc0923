"""Movies that a file keeps as a seed only: how a user declares their generator, and drawing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import h5py
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import InputError, Problems, RecordingError
from retinacodec.nwb_pixels import Pixels
from retinacodec.nwb_spikes import text

__all__ = [
    "BinaryNoise",
    "GaussianNoise",
    "Generator",
    "drawn",
    "mentions_seed",
    "seed_of",
    "undeclared",
]

_SEED = re.compile(r"\bseed\b\D{0,12}?(-?\d+)", re.IGNORECASE)
_ORDERS = {
    "y fastest": (0, 1, 2),
    "x fastest": (0, 2, 1),
    "x, y, frame": (1, 2, 0),
    "y, x, frame": (2, 1, 0),
}
_NUMPY = ("PCG64", "MT19937", "MT19937 legacy")
_DRAWS = ("uniform", "integers")
_AT_ONCE = 1 << 22  # an even number: generators hand out 32-bit numbers in pairs

Array = NDArray[Any]


@runtime_checkable
class Generator(Protocol):
    """Anything that draws a movie again: a declaration such as `BinaryNoise`, or any function."""

    def __call__(self, frames: int, seed: int, /) -> Array:
        """Return the contrast (frame, x, y) of so many frames from the beginning."""


@dataclass(frozen=True)
class _Noise:
    """What all declarations of noise share."""

    size: tuple[int, int]
    rng: str
    order: str = "y fastest"
    seed: int | None = None
    hold: int = 1

    def _check(self, rngs: tuple[str, ...]) -> Problems:
        problems = Problems()
        whole = len(self.size) == 2 and all(isinstance(side, int) for side in self.size)
        problems.require(
            whole and min(self.size) >= 1, f"size: expected (x, y) pixels, got {self.size}"
        )
        problems.require(
            self.rng in rngs, f"rng: expected one of {', '.join(rngs)}, got {self.rng!r}"
        )
        problems.require(
            self.order in _ORDERS,
            f"order: expected one of {', '.join(map(repr, _ORDERS))}, got {self.order!r}",
        )
        problems.require(self.hold >= 1, f"hold: expected 1 frame or more, got {self.hold}")
        return problems

    def _laid_out(self, frames: int, draw: Callable[[int], Array]) -> Array:
        """Draw all patterns and give them the axes (frame, x, y), each held as long as stated."""
        patterns = -(-frames // self.hold)
        axes = _ORDERS[self.order]
        lengths = (patterns, *self.size)
        values = draw(patterns * self.size[0] * self.size[1])
        shaped = values.reshape([lengths[axis] for axis in axes])
        movie = shaped.transpose(np.argsort(axes))
        return movie if self.hold == 1 else np.repeat(movie, self.hold, axis=0)[:frames]


@dataclass(frozen=True)
class BinaryNoise(_Noise):
    """Binary white noise: every pixel of every pattern is black or white with equal chance.

    Parameters
    ----------
    size : (int, int)
        Pixels in x and y.
    rng : str
        ``"ran1"`` (Numerical Recipes, started with a negative number), ``"PCG64"`` and
        ``"MT19937"`` (``numpy.random.Generator``), or ``"MT19937 legacy"``
        (``numpy.random.RandomState``, and the twister of MATLAB for seeds above 0).
    order : str, default "y fastest"
        In which order pixels were drawn: ``"y fastest"`` (frame by frame, column by column),
        ``"x fastest"`` (row by row), or ``"x, y, frame"`` and ``"y, x, frame"`` where a whole
        array with these axes, slowest first, was drawn in one go.
    seed : int, optional
        By default the number after "seed" in what the file says about the movie.
    hold : int, default 1
        Frames for which each pattern stayed.
    contrast : (float, float), default (-1, 1)
        Contrast of black and of white.
    white : {1, 0}, default 1
        Which bit is white.
    draw : {"uniform", "integers"}, default "uniform"
        A bit is 1 where a number between 0 and 1 is above a half, or it was drawn as a whole
        number 0 or 1 (not for ran1).

    Notes
    -----
    Nothing in a file tells a wrong declaration from the right one. Spike-triggered averages
    do: under wrong noise they are flat. numpy promises to keep the numbers of ``MT19937 legacy``,
    but not those of the others, between its versions.

    Examples
    --------
    >>> BinaryNoise((2, 4), "ran1")(1, -10000)[0].tolist()
    [[-1, 1, -1, 1], [1, 1, 1, -1]]
    """

    contrast: tuple[float, float] = (-1, 1)
    white: int = 1
    draw: str = "uniform"

    def __post_init__(self) -> None:
        """Refuse a declaration that means nothing."""
        problems = self._check(("ran1", *_NUMPY))
        problems.require(
            len(self.contrast) == 2 and bool(np.isfinite(self.contrast).all()),
            f"contrast: expected (black, white), got {self.contrast}",
        )
        problems.require(self.white in (0, 1), f"white: expected bit 1 or 0, got {self.white}")
        problems.require(
            self.draw in _DRAWS, f"draw: expected one of {', '.join(_DRAWS)}, got {self.draw!r}"
        )
        problems.require(
            self.rng != "ran1" or self.draw == "uniform", "draw: ran1 draws no integers"
        )
        problems.raise_as("BinaryNoise")

    def __call__(self, frames: int, seed: int, /) -> Array:
        """Return the contrast (frame, x, y), as int8 where both contrasts are whole."""
        black, white = self.contrast
        levels = np.array((black, white) if self.white else (white, black))
        small = bool((levels == levels.round()).all() and (np.abs(levels) < 128).all())
        table = levels.astype(np.int8 if small else np.float32)
        return self._laid_out(frames, lambda count: table[self._bits(count, seed)])

    def _bits(self, count: int, seed: int) -> NDArray[np.uint8]:
        if self.rng == "ran1":
            from retinacodec.ran1 import ran1_bits

            return ran1_bits(count, seed)
        source = _source(self.rng, seed)
        if self.draw == "uniform":
            return _in_parts(count, np.dtype(np.uint8), lambda few: source.random(few) > 0.5)
        whole = source.randint if self.rng == "MT19937 legacy" else source.integers
        return _in_parts(count, np.dtype(np.uint8), lambda few: whole(0, 2, few))


@dataclass(frozen=True)
class GaussianNoise(_Noise):
    """Gaussian white noise: every pixel of every pattern is drawn from a normal distribution.

    Parameters
    ----------
    size, rng, order, seed, hold
        As in `BinaryNoise`, without ran1.
    sd : float, default 0.3
        Standard deviation of the contrast, above 0.
    mean : float, default 0
        Its mean.
    clip : float, optional
        Contrasts beyond plus or minus this were shown as this.

    Examples
    --------
    >>> GaussianNoise((1, 1), "MT19937 legacy", sd=1.0)(2, 0).shape
    (2, 1, 1)
    """

    sd: float = 0.3
    mean: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration that means nothing."""
        problems = self._check(_NUMPY)
        problems.require(
            bool(np.isfinite(self.sd)) and self.sd > 0, f"sd: expected above 0, got {self.sd}"
        )
        problems.require(bool(np.isfinite(self.mean)), f"mean: got {self.mean}")
        problems.require(
            self.clip is None or self.clip > 0, f"clip: expected above 0, got {self.clip}"
        )
        problems.raise_as("GaussianNoise")

    def __call__(self, frames: int, seed: int, /) -> Array:
        """Return the contrast (frame, x, y) as float32."""
        source = _source(self.rng, seed)

        def draw(few: int) -> Array:
            values: Array = self.mean + self.sd * source.standard_normal(few)
            return values if self.clip is None else values.clip(-self.clip, self.clip)

        return self._laid_out(frames, lambda count: _in_parts(count, np.dtype(np.float32), draw))


def _in_parts(count: int, dtype: np.dtype[Any], draw: Callable[[int], Array]) -> Array:
    """Draw many numbers a part at a time, which leaves them the same and saves memory."""
    drawn = np.empty(count, dtype)
    for start in range(0, count, _AT_ONCE):
        stop = min(start + _AT_ONCE, count)
        drawn[start:stop] = draw(stop - start)
    return drawn


def _source(rng: str, seed: int) -> Any:
    try:
        if rng == "MT19937 legacy":
            return np.random.RandomState(seed)
        return np.random.Generator(getattr(np.random, rng)(seed))
    except ValueError as error:
        raise InputError(f"{rng}: seed {seed} cannot be used ({error})") from error


def seed_of(thing: h5py.Group, path: str, generator: Generator) -> int:
    """Return the seed of a movie: as declared, else the number after "seed" in its description.

    Parameters
    ----------
    thing : h5py.Group
        The series.
    path : str
        Name of the file, for messages.
    generator : Generator
        The declaration; its own seed counts where it has one.

    Returns
    -------
    int
        The seed.

    Raises
    ------
    RecordingError
        If the file does not say one seed and none was declared.
    """
    declared = getattr(generator, "seed", None)
    if declared is not None:
        return int(declared)
    held = thing.attrs.get("seed", thing.get("seed"))
    if isinstance(held, h5py.Dataset) and held.ndim == 0:
        held = held[()]
    if isinstance(held, int | np.integer):
        return int(held)
    found = sorted({int(number) for number in _SEED.findall(_words_of(thing))})
    if len(found) == 1:
        return found[0]
    name = str(thing.name).rsplit("/", 1)[-1]
    says = f"{len(found)} seeds ({', '.join(map(str, found[:5]))})" if found else "no seed"
    raise RecordingError(
        path,
        f"{name} has {says} in its description{_quoted(thing)}",
        "say it in the declaration: generator=BinaryNoise(..., seed=...)",
    )


def mentions_seed(thing: h5py.Group) -> bool:
    """Tell whether the description of a series has a seed.

    Parameters
    ----------
    thing : h5py.Group
        The series.

    Returns
    -------
    bool
        True for the word "seed" with a number behind it, in description or comments.
    """
    return bool(_SEED.search(_words_of(thing)))


def _words_of(thing: h5py.Group) -> str:
    """Return what a file says about a series in words."""
    said = (text(thing.attrs.get(key, "")) for key in ("description", "comments"))
    return " ".join(words for words in said if words not in ("", "no description", "no comments"))


def _quoted(thing: h5py.Group) -> str:
    words = " ".join(_words_of(thing).split())
    short = words if len(words) <= 120 else words[:117] + "..."
    return f" ({short!r})" if short else ""


def undeclared(thing: h5py.Group, path: str) -> RecordingError:
    """Return the error for a movie without pixels of which nobody said how to draw it.

    Parameters
    ----------
    thing : h5py.Group
        The series.
    path : str
        Name of the file.

    Returns
    -------
    RecordingError
        To be raised; it quotes what the file says and names the declarations.
    """
    name = str(thing.name).rsplit("/", 1)[-1]
    seeds = _SEED.findall(_words_of(thing))
    seed = f", seed={seeds[0]}" if len(seeds) == 1 else ""
    return RecordingError(
        path,
        f"{name} has no pixels{_quoted(thing)}",
        f"declare how it was drawn: generator=BinaryNoise(size=(x, y), rng=..., order=...{seed}), "
        "GaussianNoise(...) or a function (frames, seed) -> (frame, x, y)",
    )


def drawn(generator: Generator, frames: int, seed: int, name: str, path: str) -> Pixels:
    """Draw a movie and return its pixels, which are contrasts.

    Parameters
    ----------
    generator : Generator
        The declaration.
    frames : int
        Number of frames.
    seed : int
        Where to start.
    name, path : str
        The movie and the file, for messages.

    Returns
    -------
    Pixels
        Contrast (frame, x, y).

    Raises
    ------
    RecordingError
        If a function returned something that is no movie of so many frames.
    """
    try:
        movie = np.asarray(generator(frames, seed))
    except InputError as error:
        raise RecordingError(path, f"{name} cannot be drawn: {error}") from error
    if movie.ndim != 3 or len(movie) != frames or movie.dtype.kind not in "biuf":
        raise RecordingError(
            path,
            f"generator= returned {movie.dtype} of shape {movie.shape} for {name}",
            f"expected numbers (frame, x, y) with {frames} frames",
        )
    size = (movie.shape[1], movie.shape[2])
    return Pixels(frames, size, lambda start, stop: movie[start:stop], upright=True, contrasts=True)
