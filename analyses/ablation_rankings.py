"""Which channels speak for a class: by modes, by their activation, by their contribution."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.class_correlations import mode_class_correlation
from retinacodec.errors import InputError
from retinacodec.layer_tables import layer_table
from retinacodec.mode_channels import mode_weights

__all__ = ["channel_rankings", "mode_rankings", "superclass_weights"]


def mode_rankings(
    modes: xr.Dataset, labels: npt.ArrayLike, *, rank: int = 0, flip: bool = False
) -> xr.DataArray:
    """Return how much each channel weighs in the mode that goes along best with each class.

    Parameters
    ----------
    modes : xarray.Dataset
        What `retinacodec.analyses.find_modes` returns for images.
    labels : array_like (image,)
        Class of each image that the modes were found on.
    rank : int, default 0
        Which mode of a class: 0 for the one with the largest correlation, 1 for the next.
    flip : bool, default False
        Change the sign of the atoms, as for contributions to the entropy, where a channel that
        lowers it speaks for the class.

    Returns
    -------
    xarray.DataArray (class, channel)
        Weights, largest for the channels that matter most; with the coordinates ``mode`` and
        ``correlation`` (class) of the mode that was taken.

    Raises
    ------
    InputError
        If there are not as many labels as images, or no mode of this rank that varies.

    References
    ----------
    Melander et al., ICLR 2026, Figure 6: the mode whose loading correlates best with the class.
    """
    loading = modes["loading"]
    table = mode_class_correlation(loading, np.asarray(labels), permuted=0)
    r = table["correlation"].transpose("class", "mode").values
    usable = int(np.isfinite(r).all(axis=0).sum())
    if not 0 <= rank < usable:
        raise InputError(f"mode_rankings: no rank {rank} among {usable} modes that vary")
    order = np.argsort(-np.nan_to_num(r, nan=-np.inf), axis=1, kind="stable")[:, rank]
    weights = mode_weights(modes).values[order] * (-1 if flip else 1)
    return xr.DataArray(
        weights,
        dims=("class", "channel"),
        coords={
            "class": table["class"].values,
            "mode": ("class", modes["mode"].values[order]),
            "correlation": ("class", r[np.arange(len(r)), order]),
        },
        name="weight",
    )


def channel_rankings(
    node: xr.Dataset | xr.DataTree,
    labels: npt.ArrayLike,
    *,
    quantity: str = "activation",
    by: Literal["correlation", "mean"] = "correlation",
    target: Any = None,
) -> xr.DataArray:
    """Return how strongly each channel, without modes, goes along with each class.

    Parameters
    ----------
    node : xarray.DataTree or xarray.Dataset
        A layer of Contributions of images.
    labels : array_like (image,)
        Class of each image.
    quantity : str, default "activation"
        Variable of the layer; its signs are summed.
    by : {"correlation", "mean"}, default "correlation"
        The correlation of the channel with membership in the class, or its mean over the class.
    target : object, optional
        Which target, where there are several.

    Returns
    -------
    xarray.DataArray (class, channel)
        Weights; a channel that never varies has correlation 0.

    Raises
    ------
    InputError
        If labels do not fit, or the word is unknown.
    """
    if by not in ("correlation", "mean"):
        raise InputError(f"channel_rankings: expected 'correlation' or 'mean', got {by!r}")
    table = layer_table(node, quantity, target=target).sum("sign").rename(channel="mode")
    sample = str(table.dims[0])
    classes = np.asarray(labels)
    found = mode_class_correlation(table.rename({sample: "image"}), classes, permuted=0)
    names = found["class"].values
    if by == "correlation":
        weights = np.nan_to_num(found["correlation"].transpose("class", "mode").values)
    else:
        weights = np.stack([table.values[classes == name].mean(axis=0) for name in names])
    return xr.DataArray(weights, {"class": names}, ("class", "channel"), name="weight")


def superclass_weights(
    modes: xr.Dataset, members: npt.ArrayLike, *, threshold: float = 0.2
) -> xr.DataArray:
    """Return the summed atoms of all modes that go along with a superclass.

    Parameters
    ----------
    modes : xarray.Dataset
        What `retinacodec.analyses.find_modes` returns for images.
    members : array_like of bool (image,)
        Which images belong to the superclass.
    threshold : float, default 0.2
        Correlation above which a mode goes along with it.

    Returns
    -------
    xarray.DataArray (channel,)
        Sum of the atoms; attribute ``modes`` names them. Where none goes along so well, the one
        that does best.

    Raises
    ------
    InputError
        If the members are none or all of the images, or not as many.
    """
    inside = np.asarray(members, dtype=bool)
    if inside.all() or not inside.any():
        raise InputError("superclass: expected some images in it and some outside")
    table = mode_class_correlation(modes["loading"], inside, permuted=0)
    r = np.nan_to_num(table["correlation"].sel({"class": True}).values, nan=-1.0)
    chosen = np.flatnonzero(r > threshold)
    chosen = chosen if chosen.size else r.argmax(keepdims=True)
    labels = modes["mode"].values[chosen]
    weights = mode_weights(modes, labels.tolist())
    return weights.assign_attrs(modes=labels.tolist(), correlation=r[chosen].tolist())
