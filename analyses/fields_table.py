"""The fields of a recording in one table: a row a cell, each number with its error."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_fits import fit_gaussians
from retinacodec.analyses.field_models import FieldModel, Gaussian
from retinacodec.analyses.kernel_summary import kernel_summary
from retinacodec.analyses.receptive_fields import sta_peaks
from retinacodec.errors import InputError
from retinacodec.separable import separable

__all__ = ["fields_table", "fields_table_markdown", "fields_table_words", "sta_errors"]

Array = npt.NDArray[Any]

_GAUSSIAN = Gaussian()
_ENOUGH = 50  # pixels whose spread says how noisy a map is
_FITTED = (
    "centre_y",
    "centre_x",
    "size",
    "sigma_major",
    "sigma_minor",
    "orientation",
    "elongation",
)
_KERNEL = ("time_to_peak", "zero_crossing", "biphasic_index", "duration")
_WORDS = {
    "spikes": ("spikes", 0),
    "z": ("peak z", 1),
    "p_value": ("p", 3),
    "type": ("type", 0),
    "centre_x": ("x (µm)", 0),
    "centre_y": ("y (µm)", 0),
    "size": ("size (µm)", 0),
    "orientation": ("orientation (°)", 0),
    "elongation": ("elongation", 2),
    "time_to_peak": ("time to peak (ms)", 0),
    "zero_crossing": ("zero crossing (ms)", 0),
    "biphasic_index": ("biphasic index", 2),
    "separability": ("separability", 2),
}


def fields_table(
    averages: xr.Dataset,
    *,
    p_values: xr.DataArray | npt.ArrayLike | None = None,
    model: FieldModel = _GAUSSIAN,
    window: int = 7,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Describe the spike-triggered averages of all cells, a row each.

    Parameters
    ----------
    averages : xarray.Dataset
        What `spike_triggered_average` returns, of white noise.
    p_values : array_like (cell,), optional
        How likely chance alone gives such an average; that of the peak's z if left out.
    model : Gaussian or DifferenceOfGaussians, default Gaussian()
        Shape of the spatial map.
    window : int, default 7
        Pixels on each side of the square around the peak that gives the time course.
    draws : int, default 200
        Drawn time courses for the intervals of the time course's numbers.
    level : float, default 0.95
        Coverage of these intervals.
    seed : int, default 0
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        Over ``cell``: ``spikes``, ``z`` of the peak, ``p_value``, ``type`` ("ON", "OFF" or ""
        where the field is not significant); ``centre_y``, ``centre_x``, ``size``,
        ``sigma_major``, ``sigma_minor`` (um), ``orientation`` (degree), ``elongation`` and their
        ``<name>_error``, ``r2``, ``preferred`` as `fit_gaussians` has them; ``time_to_peak``,
        ``zero_crossing``, ``duration`` (ms) and ``biphasic_index`` with ``<name>_low`` and
        ``<name>_high``, as `kernel_summary` has them; ``separability`` of the square around the
        peak, and ``noise_share``, what part of that square's variance is noise; ``space_reason``
        and ``time_reason`` say what is missing. ``spatial`` (cell, y, x) and ``temporal``
        (cell, lag) are the maps and time courses that were described, and ``spatial_error`` and
        ``temporal_error`` (cell) the standard errors of their values.

    Raises
    ------
    InputError
        If a variable or a p-value is missing.

    Notes
    -----
    The time course is the first temporal singular vector of the square around the peak (see
    `separable`), so that noise far from the field has no part in it, and the map is the average
    of all pixels weighed by it. The noise of a value of the average is ``sd(s) / sqrt(n)`` with
    ``n = (sum k)^2 / sum k^2`` effective spikes; that of the time course is the same divided by
    the norm of the map in the square. Bursts of spikes make the noise of the map larger: taken is
    1.4826 times the median absolute deviation of its pixels, where there are at least 50 and it
    is larger. Without p-values, ``p = min(1, 2 N Phi(-|z|))`` for N pixels and lags, z in
    standard errors.

    References
    ----------
    .. [1] Chichilnisky, Network: Computation in Neural Systems 12, 199 (2001).
    """
    if not {"sta", "z", "spikes", "effective_spikes"} <= set(averages):
        raise InputError("fields_table: pass what spike_triggered_average returns")
    noise = sta_errors(averages)
    averages = averages.assign(sta=_about_mean(averages, noise))
    full_field = averages.sizes["y"] == averages.sizes["x"] == 1
    peaks = sta_peaks(averages)
    parts = _full_field(averages) if full_field else _near_peak(averages, peaks, window)
    z = peaks["z"] * np.sqrt(averages["effective_spikes"] / averages["spikes"])
    p = _chances(z, averages) if p_values is None else _given(p_values, z)
    spread = _map_errors(parts["spatial"], noise)
    space = fit_gaussians(parts["spatial"], model=model, noise=spread.values)
    error = (noise / parts["gain"].where(parts["gain"] > 0)).rename("temporal_error")
    time = kernel_summary(
        parts["temporal"], standard_error=error.fillna(0.0), draws=draws, level=level, seed=seed
    )
    columns: dict[str, Any] = {"spikes": averages["spikes"], "z": z, "p_value": p}
    columns["polarity"] = time["polarity"] if full_field else space["polarity"]
    columns["type"] = _types(columns["polarity"], p)
    for name in _FITTED:
        columns[name], columns[f"{name}_error"] = space[name], space[f"{name}_error"]
    columns |= {str(name): space[name] for name in space if "surround" in str(name)}
    columns |= {"r2": space["r2"], "preferred": space["preferred"], "space_reason": space["reason"]}
    for name in _KERNEL:
        columns |= {name + end: time[name + end] for end in ("", "_low", "_high")}
    columns |= {
        "time_reason": time["reason"],
        "separability": parts["separability"],
        "noise_share": (noise**2 * parts["values"] / parts["power"]).clip(max=1.0),
        "spatial": parts["spatial"],
        "temporal": parts["temporal"],
        "spatial_error": spread,
        "temporal_error": error,
    }
    table = xr.Dataset(columns, attrs={"kind": "fields_table", "level": level})
    return table.drop_vars("model", errors="ignore")


def sta_errors(averages: xr.Dataset) -> xr.DataArray:
    """Return the standard error of a value of each cell's spike-triggered average.

    Parameters
    ----------
    averages : xarray.Dataset
        What `spike_triggered_average` returns.

    Returns
    -------
    xarray.DataArray (cell,)
        ``sd(s) / sqrt(n)`` for n effective spikes, in the unit of the average; NaN without any.

    Notes
    -----
    Read from how far average and z lie apart between the lags of one pixel, so that the mean of a
    movie, which z leaves out, has no part in it.
    """
    flat = {
        name: averages[name].transpose("cell", "lag", "y", "x").values.astype(np.float64)
        for name in ("sta", "z")
    }
    flat = {name: values.reshape(*values.shape[:2], -1) for name, values in flat.items()}
    rows = np.arange(averages.sizes["cell"])
    best = np.nan_to_num(np.ptp(flat["z"], axis=1)).argmax(axis=1)
    at = {name: values[rows, :, best] for name, values in flat.items()}
    ends = np.nan_to_num(at["z"]).argmax(axis=1), np.nan_to_num(at["z"]).argmin(axis=1)
    apart = {name: values[rows, ends[0]] - values[rows, ends[1]] for name, values in at.items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        alone = apart["sta"] / apart["z"]
        shared = np.sqrt(averages["spikes"].values / averages["effective_spikes"].values)
    return xr.DataArray(alone * shared, dims="cell", coords={"cell": averages["cell"]})


def _about_mean(averages: xr.Dataset, noise: xr.DataArray) -> xr.DataArray:
    """Return the averages less the mean of the movie, which z leaves out."""
    alone = noise * np.sqrt(averages["effective_spikes"] / averages["spikes"])
    centred = averages["z"].astype(np.float64) * alone
    return centred.transpose("cell", "lag", "y", "x")


def _map_errors(spatial: xr.DataArray, noise: xr.DataArray) -> xr.DataArray:
    """Return the standard error of a pixel of each map, above 0."""
    least = noise.fillna(1.0).clip(min=np.finfo(float).tiny)
    if spatial.sizes["y"] * spatial.sizes["x"] < _ENOUGH:
        return least
    apart = abs(spatial - spatial.median(("y", "x")))
    spread = 1.4826 * apart.median(("y", "x")).fillna(0.0)
    return least.where(least > spread, spread)


def _full_field(averages: xr.Dataset) -> xr.Dataset:
    """Return the time course of norm 1 of each cell, and its norm as the only pixel."""
    course = averages["sta"].isel(y=0, x=0, drop=True).astype(np.float64)
    norm = (course**2).sum("lag") ** 0.5
    separability = xr.where(norm > 0, 1.0, np.nan)
    spatial = norm.expand_dims(y=averages["y"], x=averages["x"]).transpose("cell", "y", "x")
    temporal = (course / norm.where(norm > 0)).transpose("cell", "lag")
    parts = xr.Dataset({"spatial": spatial, "temporal": temporal, "separability": separability})
    power = (norm**2).where(norm > 0)
    return parts.assign(gain=norm, power=power, values=course.sizes["lag"])


def _near_peak(averages: xr.Dataset, peaks: xr.Dataset, window: int) -> xr.Dataset:
    """Return the time course of a square around each peak, and the map of all pixels on it."""
    if window < 1:
        raise InputError(f"window: expected at least 1 pixel, got {window}")
    found = []
    for k in range(averages.sizes["cell"]):
        whole = averages["sta"].isel(cell=[k]).astype(np.float64)
        near = whole
        for axis, name in (("y", "row"), ("x", "column")):
            size = whole.sizes[axis]
            first = int(np.clip(int(peaks[name][k]) - window // 2, 0, max(size - window, 0)))
            near = near.isel({axis: slice(first, first + window)})
        parts = separable(near)
        shared = near - near.mean(("lag", "y", "x"))
        one = parts[["temporal", "separability"]]
        one["gain"] = (parts["spatial"] ** 2).sum(("y", "x")) ** 0.5
        power = (shared**2).sum(("lag", "y", "x"))
        one["power"] = power.where(power > 0)
        one["spatial"] = (whole * one["temporal"]).sum("lag", skipna=False)
        found.append(one.transpose("cell", "lag", "y", "x"))
    values = near.size
    return xr.concat(found, "cell").assign(values=values)


def _chances(z: xr.DataArray, averages: xr.Dataset) -> xr.DataArray:
    """Return the chance of such a peak in a field of noise."""
    from scipy.stats import norm

    values = averages["sta"].size / averages.sizes["cell"]
    chance = np.minimum(1.0, 2 * values * norm.sf(np.abs(z.values)))
    return xr.DataArray(chance, dims="cell", coords={"cell": z["cell"]}, attrs={"units": "1"})


def _given(p_values: xr.DataArray | npt.ArrayLike, z: xr.DataArray) -> xr.DataArray:
    """Return given p-values by cell."""
    values = np.asarray(p_values, dtype=np.float64)
    if values.shape != z.shape:
        raise InputError(f"p_values: expected one for each of {z.size} cells, got {values.shape}")
    return xr.DataArray(values, dims="cell", coords={"cell": z["cell"]}, attrs={"units": "1"})


def _types(polarity: xr.DataArray, p: xr.DataArray) -> xr.DataArray:
    """Name cells ON or OFF where their field is significant."""
    names = np.where(polarity > 0, "ON", "OFF")
    sure = np.isfinite(polarity) & (p <= 0.05)
    return xr.DataArray(np.where(sure, names, ""), dims="cell", coords={"cell": p["cell"]})


def fields_table_markdown(table: xr.Dataset) -> str:
    """Return the table of fields as Markdown, a row a cell.

    Parameters
    ----------
    table : xarray.Dataset
        What `fields_table` returns.

    Returns
    -------
    str
        Numbers with their standard error (±) or interval (in brackets); a dash for what is
        missing.

    Raises
    ------
    InputError
        If the table is not one of fields.
    """
    head, *rows = fields_table_words(table)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def fields_table_words(table: xr.Dataset) -> list[list[str]]:
    """Return the table of fields in words, the names of its columns first.

    Parameters
    ----------
    table : xarray.Dataset
        What `fields_table` returns.

    Returns
    -------
    list of list of str
        A row a cell, as in `fields_table_markdown`; columns of which nothing is known are left
        out.

    Raises
    ------
    InputError
        If the table is not one of fields.
    """
    missing = [name for name in _WORDS if name not in table]
    if missing:
        raise InputError(f"fields_table_words: no variable {missing[0]!r}; pass a fields_table")
    shown = [name for name in _WORDS if name == "type" or not np.isnan(table[name].values).all()]
    lines = [["cell", *(_WORDS[name][0] for name in shown)]]
    for k, cell in enumerate(table["cell"].values):
        lines.append([str(cell), *(_entry(table.isel(cell=k), name) for name in shown)])
    return lines


def _entry(row: xr.Dataset, name: str) -> str:
    """Return one number in words."""
    digits = _WORDS[name][1]
    if name == "type":
        return str(row[name].item()) or "–"
    value = float(row[name])
    if not np.isfinite(value):
        return "–"
    if name == "p_value" and value < 0.001:
        return "< 0.001"
    text = f"{value:.{digits}f}"
    if f"{name}_error" in row and np.isfinite(row[f"{name}_error"]):
        return f"{text} ± {float(row[f'{name}_error']):.{digits}f}"
    if f"{name}_low" in row and np.isfinite(row[f"{name}_low"]):
        ends = (float(row[f"{name}_{end}"]) for end in ("low", "high"))
        return f"{text} [{', '.join(f'{end:.{digits}f}' for end in ends)}]"
    return text
