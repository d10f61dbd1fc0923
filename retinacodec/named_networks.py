"""A network that somebody else's code makes, by a reference to it, or out of a TorchScript file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from retinacodec.errors import InputError

__all__ = ["load_network"]


def load_network(reference: str) -> nn.Module:
    """Return the network that a text names.

    Parameters
    ----------
    reference : str
        ``"package.module:name"`` or ``"file.py:name"``, where the name is a function or class
        that makes the network without arguments, or the network itself; that code is run. Modules
        are looked for in the current folder too. Or a TorchScript file ``.pt``, which has
        outputs but no layers that can be reached; it holds a program, which is run.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.

    Raises
    ------
    InputError
        If nothing can be loaded under that name, or it is no network.
    """
    path, _, name = reference.rpartition(":")
    if not path:
        return _script(Path(reference))
    module = _from_file(Path(path)) if path.endswith(".py") else _imported(path)
    found = getattr(module, name, None)
    if found is None:
        raise InputError(f"network: no {name!r} in {path}")
    if not isinstance(found, nn.Module):
        try:
            found = found()
        except Exception as error:
            raise InputError(
                f"network: {reference} cannot be called without arguments "
                f"({type(error).__name__}: {_line(error)})"
            ) from error
    if not isinstance(found, nn.Module):
        raise InputError(f"network: {reference} made {type(found).__name__}, not a torch module")
    return found.eval()


class _Scripted(nn.Module):
    """A TorchScript network, of which only the outputs are to be had; it stays on the CPU."""

    def __init__(self, loaded: Any) -> None:
        super().__init__()
        self.held = (loaded,)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.held[0](images)
        return outputs


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise InputError(
            f"network: cannot import {name} ({type(error).__name__}: {_line(error)})"
        ) from error
    finally:
        if added:
            sys.path.remove(here)


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"network_of_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"network: no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look for their module there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise InputError(
            f"network: {path} cannot be run ({type(error).__name__}: {_line(error)})"
        ) from error
    return module


def _script(path: Path) -> nn.Module:
    if path.suffix != ".pt" or not path.is_file():
        raise InputError(
            f"network: expected module:function, file.py:function or a TorchScript file .pt, got "
            f"{path}"
        )
    try:
        loaded: Any = torch.jit.load(path, map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"network: {path} is no TorchScript file ({_line(error)}); for weights alone name the "
            "network as module:function and give --weights"
        ) from error
    return _Scripted(loaded.eval())


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:150]
