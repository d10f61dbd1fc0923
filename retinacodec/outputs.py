"""The outputs of a circuit as targets see them: found by name, shown without their numbers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retinacodec.errors import InputError

__all__ = ["Outputs", "array_digest", "columns", "describe_target", "position", "readable"]

Outputs = Callable[[], Tensor]
"""Returns the outputs (time, output) over the whole movie."""

_ADDRESS = re.compile(r" (at|object at) 0x[0-9a-fA-F]+")


def position(output: int | str, names: Sequence[str], noun: str) -> int:
    """Return the position of an output that is given by position or name.

    Parameters
    ----------
    output : int or str
        Its position, counted from 0 (or from the end if negative), or its name.
    names : sequence of str
        Names of all outputs.
    noun : str
        What an output is called, for the error.

    Raises
    ------
    InputError
        If there is no such output.
    """
    if isinstance(output, str):
        if output not in names:
            raise InputError(f"target: no {noun} {output!r}; there are {', '.join(names[:20])}")
        return list(names).index(output)
    if not -len(names) <= output < len(names):
        raise InputError(f"target: {noun} {output} of {len(names)}; count from 0")
    return output % len(names)


def columns(cells: Sequence[str] | None, count: int, names: Sequence[str]) -> list[int]:
    """Return which column of a table of cells belongs to each output.

    Parameters
    ----------
    cells : sequence of str or None
        Names of the columns; None if they have none.
    count : int
        Number of columns.
    names : sequence of str
        Names of the outputs.

    Returns
    -------
    list of int
        By name where the table holds every output by name; else in order, which asks for as
        many columns as outputs, and for columns or outputs that have numbers only.

    Raises
    ------
    InputError
        If columns and outputs do not fit each other.
    """
    if cells is not None and set(names) <= set(cells):
        return [list(cells).index(name) for name in names]
    if count != len(names):
        raise InputError(
            f"target: {count} cells for a circuit of {len(names)}; take the circuit's cells"
        )
    numbered = list(names) == [str(number) for number in range(count)]
    if cells is not None and not numbered:
        strange = [name for name in names if name not in cells]
        raise InputError(
            f"target: no cell {', '.join(strange[:5])} among {', '.join(list(cells)[:20])}; "
            "rename the cells or give an array without names"
        )
    return list(range(count))


def array_digest(values: Any) -> str:
    """Return the dtype, shape and a short digest of an array, as ``<float64 (2, 3) 1f0c22ab>``.

    Parameters
    ----------
    values : array_like or torch.Tensor
        Any array.

    Returns
    -------
    str
        The same for the same numbers and dtype, on any device.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.ascontiguousarray(values)
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:8]
    return f"<{array.dtype} {np.shape(values)} {digest}>"


def readable(value: Any) -> str:
    """Return the repr of a dataclass whose arrays show shape and digest, never numbers.

    Parameters
    ----------
    value : dataclass instance
        The value; fields with ``repr=False`` are left out, as are arrays that are None.

    Returns
    -------
    str
        As in ``Surprisal(shrinkage=0.001, mean=<float64 (4,) 1f0c22ab>)``.
    """
    said = []
    for one in fields(value):
        part = getattr(value, one.name)
        if one.repr and not (part is None and one.default is None):
            said.append(f"{one.name}={_shown(part)}")
    return f"{type(value).__name__}({', '.join(said)})"


def _shown(value: Any) -> str:
    return array_digest(value) if isinstance(value, (np.ndarray, Tensor)) else repr(value)


def describe_target(target: Any) -> str:
    """Return what a target is in words that are the same in every run.

    Parameters
    ----------
    target : callable
        A target of this package, or a function, method, partial or object of the user's own.

    Returns
    -------
    str
        The repr of a value; the qualified name of a function, class instance or module. Never
        an address.

    Examples
    --------
    >>> describe_target(torch.sum)
    'torch.sum'
    """
    bare = getattr(type(target), "__repr__", None) is object.__repr__
    if bare or isinstance(target, torch.nn.Module):
        return f"{_qualified(type(target))}()"
    if hasattr(target, "__qualname__") or hasattr(target, "__name__"):
        return _qualified(target)
    if hasattr(target, "func") and hasattr(target, "keywords"):
        given = [_shown(value) for value in target.args]
        given += [f"{key}={_shown(value)}" for key, value in target.keywords.items()]
        return f"{describe_target(target.func)}({', '.join(['...', *given])})"
    return _ADDRESS.sub("", repr(target))


def _qualified(named: Any) -> str:
    name = getattr(named, "__qualname__", None) or named.__name__
    if name.split(".")[0].startswith("_VariableFunctions"):
        return f"torch.{named.__name__}"
    module = getattr(named, "__module__", None)
    return f"{module}.{name}" if module else name
