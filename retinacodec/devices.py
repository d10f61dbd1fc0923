"""Where to compute: the model's own device, or the one asked for."""

from __future__ import annotations

import itertools

import torch

from retinacodec.errors import InputError

__all__ = ["resolve_device"]


def resolve_device(device: str | torch.device | None, model: torch.nn.Module) -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    device : str, torch.device or None
        ``None`` stays where the model lives, ``"auto"`` takes a GPU if there is one, anything
        else is taken by its word.
    model : torch.nn.Module
        The model whose device is the default.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    InputError
        If a CUDA device was asked for and none is there, or the name is unknown.
    """
    if device is None:
        tensor = next(itertools.chain(model.parameters(), model.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device: {device!r} was asked for but no CUDA device is available; use 'cpu' or 'auto'"
        )
    return resolved
