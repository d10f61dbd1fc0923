"""The part of a receptive field that belongs to each mode."""

from __future__ import annotations

import numpy as np
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.schema import SIGNS, check_modes
from retinacodec.source_fields import SourceFields

__all__ = ["mode_fields", "mode_shares"]


def mode_fields(sources: SourceFields, modes: xr.Dataset) -> SourceFields:
    """Divide fields among the modes that were active at their moments.

    Parameters
    ----------
    sources : SourceFields
        Fields by channel and sign, as `retinacodec.channel_parts.field_sources` returns them for
        the layer, the movie, the target and the rule of the modes.
    modes : xarray.Dataset
        Modes with ``atom`` (mode, sign, channel) and ``loading`` (time, mode).

    Returns
    -------
    SourceFields
        The same fields in parts ``mode``; `rest` is what belongs to no mode.

    Raises
    ------
    InputError
        If the sources are not all channels by sign, their number is not that of the atoms, or a
        field has no loading.

    Notes
    -----
    ``F_m(t) = sum_sc w_m[s, c](t) F_sc(t)``, with the shares w of `mode_shares`, and
    ``rest = F - sum_m F_m``. A mode knows channels and signs, not positions, so that it gets its
    share of a channel's part as a whole. For integrated fields of the cell that is the target,
    ``<F_m, x - x0> = sum_sc w_m[s, c] C_sc``: the mode's own part of the target, ``l_m`` times the
    sum of its atom, wherever the modes do not claim more than there is. It is not what would
    be lost by silencing the mode, and not how the loading depends on the stimulus.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Definition 1 and Figure 8.
    """
    if sources.dims != ("source", "sign") or sources.contribution is None:
        raise InputError(
            f"mode_fields: expected parts (source, sign) with contributions, got {sources.dims}; "
            "take field_sources with split_signs=True and without groups"
        )
    atom = check_modes(modes)["atom"]
    if atom.sizes["channel"] != sources.latent.sizes["source"]:
        raise InputError(
            f"mode_fields: atoms of {atom.sizes['channel']} channels, sources of "
            f"{sources.latent.sizes['source']}; pass the modes of layer "
            f"{sources.latent.attrs.get('sources')!r}"
        )
    loading = _loading_at(modes["loading"], sources.total.rate["time"])
    amount = float(modes.attrs.get("scale", 1.0)) * loading * atom.sel(sign=list(SIGNS))
    amount = amount.drop_vars("channel", errors="ignore").rename(channel="source")
    amount = amount.assign_coords(source=sources.latent["source"].values)
    return sources.weighted(mode_shares(sources.contribution, amount))


def mode_shares(contribution: xr.DataArray, amount: xr.DataArray) -> xr.DataArray:
    """Return the share of each mode in each channel's contributions of each sign.

    Parameters
    ----------
    contribution : xarray.DataArray (time[, cell], source, sign)
        What each channel contributed through interneurons of each sign.
    amount : xarray.DataArray (time, mode, source, sign)
        What each mode says of it: scale times loading times atom.

    Returns
    -------
    xarray.DataArray (time[, cell], mode, source, sign)
        Shares, 0 to 1, summing over modes to at most 1; below 0 where a mode of a method
        without signs contradicts the sign, in size still summing to at most 1. 0 where there is
        neither contribution nor mode.

    Notes
    -----
    ``w_m = s b_m / max(|C|, sum_k |b_k|)`` with s the sign, C the contribution and b the amounts.
    Where modes say less than there is, the difference belongs to none of them; where they say
    more, they divide what there is.

    Examples
    --------
    >>> dims = ("time", "source", "sign")
    >>> whole = xr.DataArray([[[-4.0, 1.0]]], dims=dims, coords={"sign": list(SIGNS)})
    >>> modes = xr.DataArray([[[[-1.0, 1.0]], [[-2.0, 3.0]]]], dims=("time", "mode", *dims[1:]))
    >>> mode_shares(whole, modes.assign_coords(sign=list(SIGNS))).values.tolist()
    [[[[0.25, 0.25]], [[0.5, 0.75]]]]
    """
    plain = amount.drop_vars(("time", "frame"), errors="ignore").astype(np.float64)
    whole = contribution.drop_vars(("time", "cell", "frame"), errors="ignore")
    claimed, there = xr.broadcast(abs(plain).sum("mode"), abs(whole))
    most = claimed.where(claimed > there, there)
    sign = xr.where(plain["sign"] == SIGNS[0], -1.0, 1.0)
    shares = (sign * plain / most.where(most > 0)).fillna(0.0)
    outer = [dim for dim in ("time", "cell") if dim in shares.dims]
    return shares.transpose(*outer, "mode", "source", "sign")


def _loading_at(loading: xr.DataArray, moments: xr.DataArray) -> xr.DataArray:
    """Return loadings (time, mode) at the moments of the fields, which must be among theirs."""
    if loading.dims[0] != "time" or loading.sizes["time"] < 1:
        raise InputError(f"mode_fields: expected loadings (time, mode), got {loading.dims}")
    times = loading["time"].values
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    found = loading.get_index("time").get_indexer(
        moments.values, method="nearest", tolerance=0.25 * step
    )
    if (found < 0).any():
        raise InputError(
            f"mode_fields: the modes have no loading for {int((found < 0).sum())} of {found.size} "
            "fields; pass the modes of this movie, or frames= that they have"
        )
    return loading.isel(time=found).drop_vars("time")
