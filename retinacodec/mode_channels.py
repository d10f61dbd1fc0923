"""Mode channels: how much channels weigh in modes, and which weigh most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError

__all__ = ["channels_of", "mode_weights"]


def mode_weights(modes: xr.Dataset, mode: int | Sequence[int] | None = None) -> xr.DataArray:
    """Return how much each channel weighs in modes.

    Parameters
    ----------
    modes : xarray.Dataset
        What `retinacodec.analyses.find_modes` returns, with ``atom`` (mode, sign, channel).
    mode : int or sequence of int, optional
        Labels of modes whose atoms are summed; every mode by itself if left out.

    Returns
    -------
    xarray.DataArray (channel,) or (mode, channel)
        Sum of the negative and the positive part of the atoms: signed, in units of the scale.

    Raises
    ------
    InputError
        If there are no atoms or no such mode.
    """
    if "atom" not in modes or not {"mode", "sign", "channel"} <= set(modes["atom"].dims):
        raise InputError("modes: expected atom (mode, sign, channel); pass what find_modes gives")
    net = modes["atom"].sum("sign").transpose("mode", "channel")
    if mode is None:
        return net
    asked = np.atleast_1d(np.asarray(mode))
    missing = sorted(set(asked.tolist()) - set(modes["mode"].values.tolist()))
    if missing or not asked.size:
        raise InputError(f"modes: no mode {missing}; there are {modes.sizes['mode']}")
    return net.sel(mode=asked).sum("mode")


def channels_of(
    modes: xr.Dataset | xr.DataArray,
    share: float,
    mode: int | Sequence[int] | None = None,
) -> npt.NDArray[np.int64]:
    """Return the channels that weigh most in a mode.

    Parameters
    ----------
    modes : xarray.Dataset or xarray.DataArray (channel,)
        Modes, or weights of channels.
    share : float
        Share of the channels, 0 to 1; rounded down.
    mode : int or sequence of int, optional
        Which mode, or several whose atoms are summed; not needed for weights.

    Returns
    -------
    ndarray of int
        Numbers of the ``floor(share * channels)`` channels with the largest weights, by plain
        value and not by size, largest first; among equal ones the lower numbers.

    Raises
    ------
    InputError
        If the share is not from 0 to 1, a weight is NaN, or no mode is named.

    References
    ----------
    Melander et al., ICLR 2026, Figure 6D.

    Examples
    --------
    >>> channels_of(xr.DataArray([0.1, 3.0, -9.0, 2.0], dims="channel"), 0.5).tolist()
    [1, 3]
    """
    if not 0 <= share <= 1:
        raise InputError(f"channels_of: expected a share from 0 to 1, got {share}")
    if isinstance(modes, xr.Dataset):
        if mode is None:
            raise InputError("channels_of: expected mode=, the mode whose channels are meant")
        modes = mode_weights(modes, mode)
    weights = np.asarray(modes.values, dtype=np.float64)
    if weights.ndim != 1 or not np.isfinite(weights).all():
        raise InputError(f"channels_of: expected finite weights (channel,), got {weights.shape}")
    count = int(np.floor(share * weights.size + 1e-9))
    return np.argsort(-weights, kind="stable")[:count].astype(np.int64)
