"""The bits of the binary noise that was drawn with the ran1 generator of Numerical Recipes."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from retinacodec.errors import InputError

__all__ = ["ran1_bits"]

_MODULUS = 2147483647  # 2^31 - 1
_FACTOR = 16807
_TABLE = 32
_BUCKET = 1 + (_MODULUS - 1) // _TABLE
_HALF = _MODULUS / 2


def ran1_bits(count: int, seed: int) -> NDArray[np.uint8]:
    """Draw bits from ran1, a shuffled Park-Miller generator.

    Parameters
    ----------
    count : int
        Number of bits.
    seed : int
        The negative `idum` that starts the generator.

    Returns
    -------
    ndarray (count,) uint8
        1 where the deviate is above 0.5, else 0.

    Raises
    ------
    InputError
        If the seed is not negative or the count is below 0.

    Notes
    -----
    ``s <- 16807 s mod (2^31 - 1)`` fills a table of 32 after 8 draws of warm-up; each draw takes
    the entry that the previous output points to and replaces it. The draws depend on each other
    in order, so a part in the middle cannot be drawn alone.

    References
    ----------
    Press, Teukolsky, Vetterling, Flannery, Numerical Recipes in C, 2nd edition (1992), 7.1, ran1.

    Examples
    --------
    >>> ran1_bits(8, -10000).tolist()
    [0, 1, 0, 1, 1, 1, 1, 0]
    """
    if seed >= 0 or count < 0:
        raise InputError(
            f"ran1: expected a negative seed and a count of 0 or more, got {seed} and {count}"
        )
    bits = np.empty(count, np.uint8)
    _draw(bits, max(-seed, 1))
    return bits


@numba.njit("int64(int64)", cache=True, inline="always")
def _next(state: int) -> int:
    """Multiply modulo a Mersenne prime by folding instead of dividing."""
    product = state * _FACTOR
    folded = (product & _MODULUS) + (product >> 31)
    return folded - _MODULUS if folded >= _MODULUS else folded


@numba.njit("void(uint8[::1], int64)", cache=True)
def _draw(bits: NDArray[np.uint8], state: int) -> None:
    table = np.empty(_TABLE, np.int64)
    for place in range(_TABLE + 7, -1, -1):
        state = _next(state)
        if place < _TABLE:
            table[place] = state
    output = table[0]
    for draw in range(bits.size):
        state = _next(state)
        place = output // _BUCKET
        output = table[place]
        table[place] = state
        bits[draw] = output > _HALF
