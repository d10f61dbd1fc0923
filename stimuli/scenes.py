"""Still scenes with the statistics of natural images, rendered from nothing but a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import Problems
from retinacodec.stimuli.checks import (
    check_fields_of,
    check_number,
    check_range,
    check_seed,
    check_whole,
)

__all__ = ["Leaves", "dead_leaves", "pink_texture"]

Image = npt.NDArray[np.float32]

_COVERAGE = 7.0  # leaves laid over each point on average: exp(-7) of them show the sky behind
_BOXES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Leaves:
    """What the leaves of a scene look like.

    Parameters
    ----------
    radii : (float, float), default (2, 150)
        Smallest and largest radius, pixels.
    exponent : float, default 3
        The density of radii falls as ``r ** -exponent``; 3 makes the scene alike at all scales.
    spread : float, default 0.5
        Standard deviation of the leaves' log luminance.
    texture : float, default 0.2
        Standard deviation of the 1/f texture on each leaf, in log luminance.
    shading : float, default 0.25
        Largest change of log luminance from a leaf's middle to its edge, along a direction of its
        own, as from light that falls on it from one side.
    """

    radii: tuple[float, float] = (2.0, 150.0)
    exponent: float = 3.0
    spread: float = 0.5
    texture: float = 0.2
    shading: float = 0.25

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""
        check_range(problems, "Leaves radii", self.radii, least=0.5)
        for name in ("exponent", "spread", "texture", "shading"):
            check_number(problems, f"Leaves {name}", getattr(self, name), least=0)


def pink_texture(size: tuple[int, int], *, seed: int, exponent: float = 1.0) -> Image:
    """Render a Gaussian texture whose amplitude spectrum falls as a power of frequency.

    Parameters
    ----------
    size : (int, int)
        Pixels (y, x), at least 2 each way.
    seed : int
        Which texture.
    exponent : float, default 1
        The amplitude falls as ``f ** -exponent`` (the power as ``f ** -2 exponent``).

    Returns
    -------
    ndarray (y, x)
        float32 with mean 0 and standard deviation 1. It is periodic: its edges fit each other.

    Raises
    ------
    InputError
        Naming every argument that cannot be used.

    Notes
    -----
    T = F^-1( |f|^-exponent F(white) ), without the term at f = 0, over its standard deviation.

    References
    ----------
    Field 1987, Relations between the statistics of natural images and the response properties
    of cortical cells, J Opt Soc Am A 4, 2379: amplitude spectra of natural images fall as 1/f.

    Examples
    --------
    >>> texture = pink_texture((32, 48), seed=0)
    >>> texture.shape, round(float(texture.std()), 6)
    ((32, 48), 1.0)
    """
    problems = Problems()
    _check_size(problems, size, least=2)
    check_number(problems, "exponent", exponent, least=0)
    check_seed(problems, seed)
    problems.raise_as("pink_texture")
    return _pink(size, np.random.default_rng(seed), exponent)


def dead_leaves(size: tuple[int, int], *, seed: int, leaves: Leaves | None = None) -> Image:
    """Render a scene of discs of all sizes that lie in front of each other.

    Parameters
    ----------
    size : (int, int)
        Pixels (y, x).
    seed : int
        Which scene.
    leaves : Leaves, optional
        Sizes, luminances and textures of the discs.

    Returns
    -------
    ndarray (y, x)
        float32 luminance > 0 with mean 1. Edges of the discs are hard.

    Raises
    ------
    InputError
        Naming every argument that cannot be used.

    Notes
    -----
    Discs have uniform centres, radii of density r^-exponent between the two bounds, and fall
    until a point is covered 7 times on average; each point shows the topmost disc k there with
    log luminance
    ``log L = spread n_k + texture T(p + o_k) + shading s_k (p - c_k) . d_k / r_k``
    where n_k is normal, T a 1/f texture read at the disc's own offset o_k, s_k uniform in 0..1
    and d_k a random direction. With exponent 3 the rotational average of the power spectrum falls
    as about f^-2 between the frequencies of the largest and the smallest disc.

    References
    ----------
    Lee, Mumford, Huang 2001, Occlusion models for natural images, Int J Comput Vis 41, 35 (the
    cubic law of sizes). Zylberberg, Pfau, DeWeese 2012, Dead leaves and the dirty ground, Phys
    Rev E 86, 066112 (spectra of occluding scenes).

    Examples
    --------
    >>> scene = dead_leaves((40, 60), seed=0)
    >>> scene.shape, bool(scene.min() > 0), round(float(scene.mean()), 4)
    ((40, 60), True, 1.0)
    """
    leaves = leaves or Leaves()
    problems = Problems()
    _check_size(problems, size, least=1)
    check_fields_of(problems, "leaves", leaves, (Leaves,))
    check_seed(problems, seed)
    problems.raise_as("dead_leaves")
    rng = np.random.default_rng(seed)
    centre, radius = _lay(size, leaves, rng)
    top = _topmost(size, centre, radius)
    bright = _luminance(size, top, centre, radius, leaves, rng)
    scene: Image = (bright / bright.mean(dtype=np.float64)).astype(np.float32)
    return scene


def _pink(size: tuple[int, int], rng: np.random.Generator, exponent: float) -> Image:
    """Shape the spectrum of white noise."""
    spectrum = np.fft.rfft2(rng.standard_normal(size))
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    frequency[0, 0] = np.inf
    texture = np.fft.irfft2(spectrum * frequency**-exponent, s=size)
    if exponent == 0:
        texture -= texture.mean()
    return (texture / texture.std()).astype(np.float32)


def _lay(
    size: tuple[int, int], leaves: Leaves, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw centres (leaf, 2) and radii (leaf,), the topmost leaf first."""
    table = np.geomspace(*leaves.radii, 2049)
    density = table ** (1.0 - leaves.exponent)  # the density of log r, in which the table is even
    # A disc counts where its box meets the image, so each size has a catchment area of its own.
    weight = density * (size[0] + 2 * table) * (size[1] + 2 * table)
    reach = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    area = np.trapezoid(density * np.pi * table**2)
    count = max(1, round(_COVERAGE * float(reach[-1] / area)))
    radius = np.interp(rng.random(count) * reach[-1], reach, table)
    middle = np.asarray(size) / 2
    half = middle[None] + radius[:, None]
    centre = middle + (2 * rng.random((count, 2)) - 1) * half
    return centre, radius


def _topmost(
    size: tuple[int, int], centre: npt.NDArray[np.float64], radius: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return the number (y, x) of the topmost leaf at each pixel, one beyond the last for none."""
    top = np.full(size[0] * size[1], len(radius), dtype=np.int64)
    side = (2 * np.ceil(np.exp2(np.ceil(np.log2(radius) * 2) / 2)) + 1).astype(np.int64)
    for width in np.unique(side):
        members = np.flatnonzero(side == width)
        step = max(1, _BOXES_AT_ONCE // int(width) ** 2)
        for first in range(0, len(members), step):
            _stamp(top, size, members[first : first + step], centre, radius, int(width))
    return top.reshape(size)


def _stamp(
    top: npt.NDArray[np.int64],
    size: tuple[int, int],
    members: npt.NDArray[np.int64],
    centre: npt.NDArray[np.float64],
    radius: npt.NDArray[np.float64],
    width: int,
) -> None:
    """Lay discs that fit a box of one width; where two meet, the smaller number stays on top."""
    offset = np.arange(width) - width // 2
    row, column = (
        np.floor(centre[members, axis])[:, None].astype(np.int64) + offset for axis in (0, 1)
    )
    below = (row + 0.5 - centre[members, :1]) ** 2
    beside = (column + 0.5 - centre[members, 1:]) ** 2
    inside = below[:, :, None] + beside[:, None, :] <= radius[members, None, None] ** 2
    inside &= ((row >= 0) & (row < size[0]))[:, :, None]
    inside &= ((column >= 0) & (column < size[1]))[:, None, :]
    leaf, down, right = np.nonzero(inside)
    pixel = row[leaf, down] * size[1] + column[leaf, right]
    np.minimum.at(top, pixel, members[leaf])


def _luminance(
    size: tuple[int, int],
    top: npt.NDArray[np.int64],
    centre: npt.NDArray[np.float64],
    radius: npt.NDArray[np.float64],
    leaves: Leaves,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Give every pixel the luminance, texture and shading of the leaf that it shows."""
    count = len(radius) + 1  # the last one is the sky
    level = leaves.spread * rng.standard_normal(count)
    angle = rng.uniform(0, 2 * np.pi, count)
    slope = leaves.shading * rng.random(count)
    shift = rng.integers(0, max(size), (count, 2))
    slope[-1] = 0.0
    centre, radius = np.vstack([centre, [[0.0, 0.0]]]), np.append(radius, 1.0)
    rows, columns = np.indices(size)
    across = (rows + 0.5 - centre[top, 0]) * np.sin(angle)[top]
    across += (columns + 0.5 - centre[top, 1]) * np.cos(angle)[top]
    shade = slope[top] * across / radius[top]
    grain: Any = 0.0
    if leaves.texture > 0 and min(size) > 1:
        sheet = _pink(size, rng, 1.0)
        grain = sheet[(rows + shift[top, 0]) % size[0], (columns + shift[top, 1]) % size[1]]
    bright: npt.NDArray[np.float64] = np.exp(level[top] + leaves.texture * grain + shade)
    return bright


def _check_size(problems: Problems, size: Any, *, least: int) -> None:
    """Note a problem unless the size is (y, x) in whole pixels."""
    good = isinstance(size, tuple | list) and len(size) == 2
    if problems.require(good, f"size: expected (y, x) in whole pixels, got {size!r}"):
        for side in size:
            check_whole(problems, "size", side, least=least)
