"""Which numbers of a layer make a table: one quantity, one target, summed over positions."""

from __future__ import annotations

from typing import Any

import xarray as xr

from retinacodec.errors import InputError
from retinacodec.schema import SIGNS

__all__ = ["POSITIONS", "layer_quantity", "layer_table"]

POSITIONS = ("depth", "y", "x", "token", "position", "value")
"""Dimensions of a layer that are summed where a table is wanted."""


def layer_quantity(
    node: xr.Dataset | xr.DataTree, quantity: str = "contribution", *, target: Any = None
) -> xr.DataArray:
    """Return a quantity of a layer for one target, checked, with its positions.

    Parameters
    ----------
    node : xarray.DataTree or xarray.Dataset
        A layer of Contributions.
    quantity : str, default "contribution"
        Variable over (time or image, sign, channel) and any positions, such as ``"activation"``
        or ``"gradient"`` where they were kept.
    target : object, optional
        Which target, by its label, where there are several.

    Returns
    -------
    xarray.DataArray
        The quantity over (time or image, sign, channel) and any positions, in any order; nothing
        is read.

    Raises
    ------
    InputError
        If the layer has no such quantity, or it is not split by sign or not of one target.
    """
    dataset = node.to_dataset() if isinstance(node, xr.DataTree) else node
    if quantity not in dataset:
        have = [str(name) for name in dataset]
        layers = list(node.children) if isinstance(node, xr.DataTree) else []
        hint = f"pass one layer, such as parts[{layers[0]!r}]" if layers else "keep it with "
        hint += "" if layers else f"contributions(..., {quantity}s=True)"
        raise InputError(f"layer: no variable {quantity!r} among {have}; {hint}")
    values = dataset[quantity]
    signed = {"sign", "channel"} <= set(values.dims) and tuple(values["sign"].values) == SIGNS
    sample = [dim for dim in values.dims if dim not in ("target", "sign", "channel", *POSITIONS)]
    if not signed or len(sample) != 1:
        raise InputError(
            f"layer: expected {quantity} over (time or image, sign, channel) with signs {SIGNS}, "
            f"got dims {values.dims}"
        )
    return _one_target(values, target)


def layer_table(
    node: xr.Dataset | xr.DataTree, quantity: str = "contribution", *, target: Any = None
) -> xr.DataArray:
    """Return a quantity of a layer as a table, summed over positions.

    Parameters
    ----------
    node, quantity, target
        As in `layer_quantity`.

    Returns
    -------
    xarray.DataArray (time, sign, channel) or (image, sign, channel)
        The quantity, in its own unit; the part below 0 first.

    Raises
    ------
    InputError
        As `layer_quantity`.
    """
    values = layer_quantity(node, quantity, target=target)
    space = [dim for dim in values.dims if dim in POSITIONS]
    sample = next(dim for dim in values.dims if dim not in ("sign", "channel", *POSITIONS))
    return values.sum(space, skipna=False).transpose(sample, "sign", "channel")


def _one_target(values: xr.DataArray, target: Any) -> xr.DataArray:
    if "target" not in values.dims:
        return values
    labels = values["target"].values.tolist()
    if target is None or target not in labels:
        raise InputError(
            f"layer: {values.name} of {len(labels)} targets; choose one with target=, of "
            f"{labels[:8]}"
        )
    return values.sel(target=target, drop=True)
