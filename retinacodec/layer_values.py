"""Layer values: what a layer gives for each sample, and its mean over many."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.capture import tapped
from retinacodec.changes import Mean
from retinacodec.circuit import Circuit, evaluating
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError
from retinacodec.samples import Images, Samples, rows_for
from retinacodec.taps import Tap

__all__ = ["check_channels", "layer_values", "mean_over", "pick", "tap_of"]


def layer_values(
    circuit: Circuit,
    layer: str,
    samples: Samples,
    numbers: npt.ArrayLike | None = None,
    *,
    device: torch.device | None = None,
    batch: int = 64,
) -> Tensor:
    """Return what a layer gives for samples.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    layer : str
        One of its layers.
    samples : Samples
        What it reads.
    numbers : array_like of int (row,), optional
        Which samples, in this order; all if left out.
    device : torch.device, optional
        Where to compute; the model's own device if left out.
    batch : int, default 64
        Samples computed at a time.

    Returns
    -------
    torch.Tensor (row, channel, ...)
        Values on the CPU.

    Raises
    ------
    InputError
        If the layer is called more than once, or not at all.
    """
    tap = tap_of(circuit, layer)
    module = circuit.model.get_submodule(tap.name)
    chosen = np.arange(len(samples)) if numbers is None else np.asarray(numbers)
    where = resolve_device(device, circuit.model)
    found = []
    with torch.no_grad(), evaluating(circuit.model, where) as model:
        for start in range(0, len(chosen), batch):
            part = chosen[start : start + batch]
            with tapped(model, {layer: tap}) as captured:
                model(pick(samples, part).to(where))
            if len(captured[layer]) != 1:
                raise InputError(
                    f"layer {layer!r}: expected one call a pass, got {len(captured[layer])}; "
                    "tap a layer that is used once"
                )
            found.append(tap.by_channel(module, captured[layer][0]).detach().cpu())
    return torch.cat(found)


def pick(samples: Samples, numbers: npt.NDArray[Any]) -> Tensor:
    """Return some samples (row, *shape), by their numbers."""
    if len(numbers) and (np.diff(numbers) == 1).all():
        return samples.take(int(numbers[0]), int(numbers[-1]) + 1).contiguous()
    return torch.cat([samples.take(int(one), int(one) + 1) for one in numbers])


def mean_over(
    circuit: Circuit, layer: str, samples: xr.Dataset | Images, *, positions: bool = True
) -> Mean:
    """Return the change that holds channels at their mean over a reference set.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    layer : str
        One of its layers.
    samples : xarray.Dataset, or images
        The reference set, as in `predict_under`.
    positions : bool, default True
        A mean for every position; else one for all positions of a channel.

    Returns
    -------
    Mean
        With the means (channel, ...) in float64.

    Raises
    ------
    InputError
        If the samples do not fit the circuit.
    """
    rows = rows_for(circuit, samples)
    total: Any = 0.0
    for start in range(0, len(rows), 64):
        numbers = np.arange(start, min(start + 64, len(rows)))
        total = total + layer_values(circuit, layer, rows, numbers).double().sum(dim=0)
    mean = (total / len(rows)).numpy()
    return Mean(mean if positions else mean.reshape(len(mean), -1).mean(axis=1))


def check_channels(circuit: Circuit, layer: str, samples: Samples, count: int, noun: str) -> None:
    """Raise unless a layer has so many channels.

    Parameters
    ----------
    circuit, layer, samples
        As in `layer_values`; the first sample is looked at.
    count : int
        Channels that something is known of.
    noun : str
        What that is, for the message.

    Raises
    ------
    InputError
        If the layer has more or fewer channels.
    """
    have = layer_values(circuit, layer, samples, [0]).shape[1]
    if have != count:
        raise InputError(
            f"{noun}: {count} channels, layer {layer!r} has {have}; take those of this layer"
        )


def tap_of(circuit: Circuit, layer: str) -> Tap:
    """Return the tap of a layer of a circuit, by its label.

    Raises
    ------
    InputError
        If the circuit has no such layer.
    """
    if layer not in circuit.taps:
        raise InputError(f"layer: no {layer!r} in the circuit; it has {', '.join(circuit.taps)}")
    return circuit.taps[layer]
