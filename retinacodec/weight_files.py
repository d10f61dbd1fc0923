"""Weights from a file into a network, safely, with everything that does not fit named at once."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retinacodec.errors import InputError, Problems

__all__ = ["load_weights", "read_weights"]

_HOMES = ("state_dict", "model_state_dict", "model", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.")
_MOST = 5
_BROKEN = (OSError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Fill a network with the weights of a file.

    Parameters
    ----------
    model : torch.nn.Module
        The network; it is changed, unless something does not fit.
    path : str or Path
        ``.pth``, ``.pt`` or ``.th`` of a state dict, or of a dict that holds one;
        ``.safetensors``; or ``.npz`` with an array a name.

    Returns
    -------
    torch.nn.Module
        The same network, in evaluation mode.

    Raises
    ------
    InputError
        If the file cannot be read safely, or names, shapes and kinds of numbers are not those of
        the network, such as whole numbers of a quantised one: all in one message.

    Notes
    -----
    Nothing in a file is executed: of a pickle only tensors, plain containers and NumPy numbers
    are taken. ``module.`` before names, which parallel training leaves, is cut off.
    """
    state = read_weights(path)
    wanted = model.state_dict()
    problems = Problems()
    counted = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = [name for name in wanted if name not in state and name not in counted]
    strange = [name for name in state if name not in wanted]
    problems.require(not missing, f"missing {_some(missing)}")
    problems.require(not strange, f"unexpected {_some(strange)}")
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    problems.require(not shapes, f"shapes: {_some(shapes)}")
    kinds = [
        f"{name} {state[name].dtype} for {wanted[name].dtype}"
        for name in wanted
        if name in state
        and wanted[name].is_floating_point()
        and not state[name].is_floating_point()
    ]
    problems.require(not kinds, f"numbers without their scale: {_some(kinds)}")
    broken = [
        name
        for name, one in state.items()
        if one.is_floating_point() and not bool(one.isfinite().all())
    ]
    problems.require(not broken, f"NaN or infinite: {_some(broken)}")
    problems.raise_as(f"weights {Path(path).name}")
    model.load_state_dict(state, strict=not counted - set(state))
    return model.eval()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a file by their names.

    Parameters
    ----------
    path : str or Path
        As in `load_weights`.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU; half precision is widened to float32.

    Raises
    ------
    InputError
        If the file is missing, of another format, or cannot be read safely.
    """
    source = Path(path)
    readers: dict[str, Callable[[Path], Any]] = {
        ".pth": _pickled,
        ".pt": _pickled,
        ".th": _pickled,
        ".safetensors": _safe,
        ".npz": _arrays,
    }
    if source.suffix not in readers:
        raise InputError(
            f"weights {source.name}: expected {', '.join(readers)}, got {source.suffix!r}"
        )
    if not source.is_file():
        raise InputError(f"weights: no file {source}")
    found = readers[source.suffix](source)
    for home in _HOMES:
        if isinstance(found, Mapping) and isinstance(found.get(home), Mapping):
            found = found[home]
    tensors = isinstance(found, Mapping) and all(isinstance(one, Tensor) for one in found.values())
    if not tensors or not found:
        kind = type(found).__name__
        raise InputError(
            f"weights {source.name}: expected tensors by name, got {kind} without; save "
            "model.state_dict()"
        )
    named = {_bare(str(name)): _wide(one) for name, one in found.items()}
    if len(named) < len(found):
        raise InputError(f"weights {source.name}: names are the same without {_PREFIXES}")
    return named


def _pickled(path: Path) -> Any:
    try:
        with _numbers():
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError) as error:
        raise InputError(
            f"weights {path.name}: holds more than tensors and numbers, which is not executed "
            f"({_line(error)}); where you trust it, load it yourself and save model.state_dict()"
        ) from error
    except Exception as error:  # a broken pickle fails in whatever it calls
        raise InputError(f"weights {path.name}: cannot be read ({_line(error)})") from error


def _numbers() -> AbstractContextManager[None]:
    """Allow the NumPy numbers that old checkpoints hold, such as a best accuracy."""
    from numpy._core.multiarray import scalar

    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")]
    old = "numpy.core.multiarray.scalar"
    allowed: list[Any] = [scalar, (scalar, old), np.dtype, *kinds]
    guard: AbstractContextManager[None] = torch.serialization.safe_globals(allowed)
    return guard


def _safe(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"weights {path.name}: cannot be read ({_line(error)})") from error


def _arrays(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name]) for name in stored.files}
        return {name: torch.from_numpy(one) for name, one in arrays.items()}
    except _BROKEN as error:
        raise InputError(f"weights {path.name}: cannot be read ({_line(error)})") from error


def _bare(name: str) -> str:
    while name.startswith(_PREFIXES):
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
    return name


def _wide(one: Tensor) -> Tensor:
    one = one if one.layout == torch.strided else one.to_dense()
    short = one.is_floating_point() and one.dtype not in (torch.float32, torch.float64)
    return one.float() if short else one


def _some(names: list[str]) -> str:
    more = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:150]
