"""How inner loops are compiled: without the interpreter lock, and once for each machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]


def compiled(function: Callable[..., Any]) -> Any:
    """Return the function compiled by numba.

    The machine code is kept beside the source, so that only the first run on a machine compiles;
    where no folder can be written, every process compiles for itself.

    Parameters
    ----------
    function : callable
        A function of arrays and numbers.

    Returns
    -------
    callable
        The compiled function.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return njit(**options)(function)
