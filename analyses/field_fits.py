"""Gaussian descriptions of spatial fields: place, size, shape and surround, with their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import norm

from retinacodec.analyses.field_models import DifferenceOfGaussians, FieldModel, Gaussian, Grid
from retinacodec.analyses.field_solver import ShapeFit, fit_again, fit_shapes
from retinacodec.errors import InputError, Problems

__all__ = ["DifferenceOfGaussians", "Gaussian", "fit_gaussians"]

Array = npt.NDArray[Any]

_GAUSSIAN = Gaussian()
_UNIFORM = 180 / np.sqrt(12)  # standard deviation of an orientation that may be anything

_COLUMNS = {
    "centre_y": ("um", "middle of the centre along y"),
    "centre_x": ("um", "middle of the centre along x"),
    "sigma_major": ("um", "larger sigma of the centre"),
    "sigma_minor": ("um", "smaller sigma of the centre"),
    "size": ("um", "diameter of the disc with the area of the 1-sigma ellipse"),
    "orientation": ("degree", "direction of the larger sigma, from x towards y"),
    "elongation": ("1", "larger sigma over smaller"),
    "amplitude": ("", "height of the centre above the offset"),
    "offset": ("", "value far from the field"),
    "surround_ratio": ("1", "sigma of the surround over that of the centre"),
    "surround_weight": ("1", "volume of the surround over that of the centre"),
}


def fit_gaussians(
    maps: xr.DataArray | xr.Dataset,
    *,
    model: FieldModel = _GAUSSIAN,
    noise: float | npt.ArrayLike | None = None,
    replicates: xr.DataArray | None = None,
    significance: float = 0.05,
) -> xr.Dataset:
    """Describe spatial fields by a Gaussian, or a centre and a surround, with standard errors.

    Parameters
    ----------
    maps : xarray.DataArray (..., y, x) or xarray.Dataset
        Spatial maps, a field each, with ``y`` and ``x`` in um; or what `separable` returns.
    model : Gaussian or DifferenceOfGaussians, default Gaussian()
        The shape that is reported. The other one is fitted too, for the choice.
    noise : float or array_like (...), optional
        Standard deviation of the noise of a pixel, in the unit of the maps, for all maps or each.
        If left out, significance is judged by the median absolute deviation of the pixels, and
        errors by the squares that the fit leaves.
    replicates : xarray.DataArray (replicate, ..., y, x), optional
        The same maps, each time with one block of the recording left out. Errors are then those
        of the jackknife.
    significance : float, default 0.05
        Chance that the strongest of all pixels of a map without a field passes for one.

    Returns
    -------
    xarray.Dataset
        Over the outer dims of the maps: ``centre_y``, ``centre_x``, ``sigma_major``,
        ``sigma_minor`` and ``size`` in um; ``orientation``, 0 to 180 degrees from x towards y;
        ``elongation``, at least 1; ``amplitude`` and ``offset`` in the unit of the maps, and with
        `DifferenceOfGaussians` ``surround_ratio`` and ``surround_weight``; the standard error of
        each is ``<name>_error``. ``polarity``, +1 ON, -1 OFF; ``peak_z``, strongest pixel in
        units of noise; ``r2`` of the fit; ``chi2`` and ``degrees`` of freedom, where noise was
        given; ``bic`` and ``aic`` (..., model); ``preferred`` (...), the model of the least BIC;
        ``fitted``; ``reason``, why there is no fit or what it leaves out. What cannot be
        fitted is NaN.

    Raises
    ------
    InputError
        If a dim is missing, there is no map, noise is not positive or does not fit, or there are
        fewer than two replicates.

    Notes
    -----
    ``size = 2 sqrt(sigma_major sigma_minor)`` (2 sigma for maps of one dimension); the diameter
    at half height is 1.18 times it. Least squares within bounds, from the area and the second
    moments of the pixels above half of the peak and from twice that size; the same every time.
    The covariance of the parameters is ``noise^2 (J^T J)^-1`` and goes to the columns by their
    derivatives; the jackknife is ``(n - 1)/n sum_i (v_i - mean v)^2``. An orientation is unknown
    at an error of 52 degrees, that of any angle alike. ``BIC = chi2 + k ln n`` with known noise,
    else ``n ln(squares / n) + k ln n``; AIC has 2 for ln n.

    References
    ----------
    .. [1] Chichilnisky and Kalmar, Journal of Neuroscience 22, 2737 (2002), Gaussian fits of
       spike-triggered averages.
    .. [2] Efron, The Jackknife, the Bootstrap and Other Resampling Plans (1982), chapter 3.

    Examples
    --------
    >>> place = 50.0 * np.arange(9)
    >>> bump = np.exp(-((place[:, None] - 150) ** 2 + (place - 200) ** 2) / (2 * 60**2))
    >>> found = fit_gaussians(xr.DataArray(bump, [("y", place), ("x", place)]))
    >>> round(float(found["centre_y"])), round(float(found["centre_x"]))
    (150, 200)
    """
    fields = _maps(maps)
    outer = fields.shape[:-2]
    pictures = fields.values.reshape(-1, *fields.shape[-2:]).astype(np.float64)
    known = _noise(noise, outer)
    again = _replicates(replicates, fields)
    grid = Grid.of(fields["y"].values, fields["x"].values)
    if not 0 < significance < 1:
        raise InputError(f"significance: expected between 0 and 1, got {significance}")
    rows = [
        _describe(picture, known[k], again[:, k], grid, model, significance)
        for k, picture in enumerate(pictures)
    ]
    return _dataset(rows, fields, model)


def _maps(maps: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return maps (..., y, x), checked."""
    if isinstance(maps, xr.Dataset):
        if "spatial" not in maps:
            raise InputError("fit_gaussians: no variable 'spatial'; pass what separable() returns")
        maps = maps["spatial"]
    if not {"y", "x"} <= set(maps.dims) or not {"y", "x"} <= set(maps.coords):
        raise InputError(f"maps: expected dims (..., y, x) with positions in um, got {maps.dims}")
    if not maps.size:
        raise InputError(f"maps: expected at least one map and pixel, got shape {maps.shape}")
    return maps.transpose(..., "y", "x")


def _noise(noise: float | npt.ArrayLike | None, outer: tuple[int, ...]) -> Array:
    """Return the noise of each map, NaN where it is unknown."""
    values = np.asarray(np.nan if noise is None else noise, dtype=np.float64)
    if values.shape not in ((), outer):
        raise InputError(f"noise: expected one value or shape {outer}, got {values.shape}")
    if (values <= 0).any():
        raise InputError("noise: expected standard deviations above 0; leave it out if unknown")
    return np.broadcast_to(values, outer).ravel()


def _replicates(replicates: xr.DataArray | None, fields: xr.DataArray) -> Array:
    """Return replicates (replicate, map, y, x), none of them if there are none."""
    if replicates is None:
        return np.zeros((0, int(np.prod(fields.shape[:-2])), *fields.shape[-2:]))
    problems = Problems()
    problems.require(
        "replicate" in replicates.dims and set(replicates.dims) == {"replicate", *fields.dims},
        f"replicates: expected dims {('replicate', *fields.dims)}, got {replicates.dims}",
    )
    problems.raise_as("fit_gaussians")
    again = replicates.transpose("replicate", *fields.dims)
    problems.require(len(again) >= 2, f"replicates: expected at least 2, got {len(again)}")
    problems.require(
        again.shape[1:] == fields.shape,
        f"replicates: expected maps of shape {fields.shape}, got {again.shape[1:]}",
    )
    problems.raise_as("fit_gaussians")
    return again.values.reshape(len(again), -1, *fields.shape[-2:]).astype(np.float64)


def _describe(
    picture: Array,
    noise: float,
    again: Array,
    grid: Grid,
    model: FieldModel,
    significance: float,
) -> dict[str, Any]:
    """Return the columns of one map."""
    row: dict[str, Any] = {"reason": "", "fitted": False, "degrees": -1}
    if not np.isfinite(picture).all():
        return row | {"reason": "the map is not finite"}
    level = float(np.median(picture)) if picture.size > 1 else 0.0
    around = picture - level
    place = np.unravel_index(np.abs(around).argmax(), picture.shape)
    sign = float(np.sign(around[place]))
    if not sign:
        return row | {"reason": "the map does not vary"}
    spread = noise if np.isfinite(noise) else 1.4826 * float(np.median(np.abs(around)))
    row["peak_z"] = abs(around[place]) / spread if spread > 0 else np.inf
    row["polarity"] = sign
    reason = _refusal(row["peak_z"], place, grid, model, significance)
    if not grid.axes:
        row["amplitude"], row["amplitude_error"] = float(picture[0, 0]), noise
        row["polarity"] = sign if row["peak_z"] >= _chance(significance, 1) else np.nan
    if reason:
        return row | {"reason": reason}
    fits, best = fit_shapes(sign * picture, sign * around, place, grid, model)
    if best is None:
        return row | {"reason": "least squares did not end inside the map"}
    row |= _columns(best, grid, model, noise, sign) | _scores(fits, noise, picture, model)
    if len(again):
        row |= _jackknife(again, best, grid, model, sign)
    missing = " and ".join({"y", "x"} - set(grid.axes))
    note = f"one pixel along {missing}: no place there, no shape" if missing else ""
    return row | {"fitted": True, "reason": note or _at_bound(best, model)}


def _refusal(peak: float, place: Any, grid: Grid, model: FieldModel, significance: float) -> str:
    """Say why a map cannot be fitted, or nothing."""
    if not grid.axes:
        return "one pixel: no place and no size"
    pixels, count = int(np.prod(grid.shape)), len(model.names(len(grid.axes)))
    if pixels <= count:
        return f"{pixels} pixels for {count} parameters"
    if peak < _chance(significance, pixels):
        return "no significant peak"
    edges = [at in (0, size - 1) for at, size in zip(place, grid.shape, strict=True) if size > 1]
    return "the peak lies at the edge of the map" if any(edges) else ""


def _chance(significance: float, pixels: int) -> float:
    return float(norm.isf(significance / 2 / pixels))


def _columns(
    fit: ShapeFit, grid: Grid, model: FieldModel, noise: float, sign: float
) -> dict[str, float]:
    """Return the columns of a fit and their standard errors."""
    values, slopes = _quantities(fit.values, grid, model, sign)
    free = max(int(np.prod(grid.shape)) - fit.values.size, 1)
    variance = noise**2 if np.isfinite(noise) else fit.squares / free
    row = dict(values)
    for name, slope in slopes.items():
        row[f"{name}_error"] = float(np.sqrt(variance * (slope @ fit.covariance @ slope)))
    if "orientation_error" in row:
        row["orientation_error"] = min(row["orientation_error"], _UNIFORM)
    for name in _bounded(fit, model):
        row[f"{name}_error"] = np.nan
    return row


def _quantities(
    values: Array, grid: Grid, model: FieldModel, sign: float
) -> tuple[dict[str, float], dict[str, Array]]:
    """Return what the parameters mean, um and degrees, and its derivatives by them."""
    place = {name: k for k, name in enumerate(model.names(len(grid.axes)))}
    axis = np.eye(values.size)
    found = {"amplitude": sign * values[0], "offset": sign * values[1]}
    slopes = {"amplitude": axis[0], "offset": axis[1]}
    for k, name in enumerate(grid.axes):
        found[f"centre_{name}"] = grid.pitch * values[2 + k]
        slopes[f"centre_{name}"] = grid.pitch * axis[2 + k]
    p = values[place["p"]]
    found["size"] = 2 * grid.pitch * np.exp(p / 2)
    slopes["size"] = found["size"] / 2 * axis[place["p"]]
    found["sigma_major"], slopes["sigma_major"] = found["size"] / 2, slopes["size"] / 2
    if "q" in place:
        _ellipse(found, slopes, values, place)
    if "weight" in place:
        found["surround_ratio"] = float(np.exp(values[-2]))
        slopes["surround_ratio"] = found["surround_ratio"] * axis[-2]
        found["surround_weight"], slopes["surround_weight"] = values[-1], axis[-1]
    return found, slopes


def _ellipse(
    found: dict[str, float], slopes: dict[str, Array], values: Array, place: dict[str, int]
) -> None:
    """Add the sigmas, elongation and orientation of an ellipse."""
    q, r = values[place["q"]], values[place["r"]]
    axis = np.eye(values.size)
    round_ = max(float(np.hypot(q, r)), 1e-9)
    along = (q * axis[place["q"]] + r * axis[place["r"]]) / round_
    across = (q * axis[place["r"]] - r * axis[place["q"]]) / round_**2
    for name, side in (("sigma_major", 1), ("sigma_minor", -1)):
        found[name] = found["size"] / 2 * np.exp(side * round_ / 2)
        slopes[name] = found[name] * (axis[place["p"]] + side * along) / 2
    found["elongation"] = float(np.exp(round_))
    slopes["elongation"] = found["elongation"] * along
    found["orientation"] = float(np.degrees(np.arctan2(r, q) / 2) % 180)
    slopes["orientation"] = np.degrees(across / 2)


def _scores(
    fits: dict[str, ShapeFit | None], noise: float, picture: Array, model: FieldModel
) -> dict[str, Any]:
    """Return how well the shapes fit, and which of the two is preferred."""
    best = fits[type(model).__name__]
    row: dict[str, Any] = {"bic": {}, "aic": {}}
    pixels = picture.size
    for name, fit in fits.items():
        if fit is None:
            continue
        if np.isfinite(noise):
            loss = fit.squares / noise**2
        else:
            loss = pixels * np.log(max(fit.squares / pixels, np.finfo(float).tiny))
        row["bic"][name] = loss + fit.values.size * np.log(pixels)
        row["aic"][name] = loss + fit.values.size * 2
    row["preferred"] = min(row["bic"], key=row["bic"].__getitem__)
    if best is not None:
        row["r2"] = 1 - best.squares / float(((picture - picture.mean()) ** 2).sum())
        row["degrees"] = pixels - best.values.size
        row["chi2"] = best.squares / noise**2
    return row


def _jackknife(
    again: Array, fit: ShapeFit, grid: Grid, model: FieldModel, sign: float
) -> dict[str, float]:
    """Return standard errors from maps without a block each."""
    fits = [fit_again(sign * picture, fit, grid, model) for picture in again]
    rows = [_quantities(one.values, grid, model, sign)[0] for one in fits if one is not None]
    row = {}
    for name in rows[0] if rows else ():
        values = np.asarray([one[name] for one in rows])
        if name == "orientation":
            values = (values - values[0] + 90) % 180
        spread = float(np.sqrt((len(values) - 1) * values.var()))
        kept = spread if len(rows) == len(again) else np.nan
        row[f"{name}_error"] = min(kept, _UNIFORM) if name == "orientation" else kept
    return row


def _bounded(fit: ShapeFit, model: FieldModel) -> list[str]:
    """Return which parameters of the surround lie at the end of their range."""
    low, high = (np.asarray(ends) for ends in model.bounds())
    own = fit.values[fit.values.size - low.size :]
    at = (own - low < 1e-3) | (high - own < 1e-3)
    return [
        name for name, hit in zip(("surround_ratio", "surround_weight"), at, strict=False) if hit
    ]


def _at_bound(fit: ShapeFit, model: FieldModel) -> str:
    """Say which parameters of the surround lie at the end of their range."""
    names = " and ".join(_bounded(fit, model)).replace("_", " ")
    return f"{names} at the end of the range" if names else ""


def _dataset(rows: list[dict[str, Any]], fields: xr.DataArray, model: FieldModel) -> xr.Dataset:
    """Put the maps' columns into one dataset."""
    outer, shape = fields.dims[:-2], fields.shape[:-2]
    unit = fields.attrs.get("units", "1")

    def column(name: str, empty: Any = np.nan) -> Array:
        return np.asarray([row.get(name, empty) for row in rows]).reshape(shape)

    table: dict[str, Any] = {}
    own = [name for name in _COLUMNS if len(model.bounds()[0]) or "surround" not in name]
    for name in own:
        units, words = _COLUMNS[name]
        attrs = {"units": units or unit, "long_name": words}
        table[name] = (outer, column(name), attrs)
        error = {"units": units or unit, "long_name": f"standard error of {name}"}
        table[f"{name}_error"] = (outer, column(f"{name}_error"), error)
    for name in ("polarity", "peak_z", "r2", "chi2"):
        table[name] = (outer, column(name), {"units": "1"})
    table["degrees"] = (outer, column("degrees", -1), {"units": "1"})
    names = ["Gaussian", "DifferenceOfGaussians"]
    for score in ("bic", "aic"):
        values = [[row.get(score, {}).get(name, np.nan) for name in names] for row in rows]
        table[score] = ((*outer, "model"), np.reshape(values, (*shape, 2)), {"units": "1"})
    table["preferred"] = (outer, column("preferred", "").astype(str))
    table["fitted"] = (outer, column("fitted", False).astype(bool))
    table["reason"] = (outer, column("reason", "").astype(str))
    coords = {name: fields[name] for name in outer if name in fields.coords}
    attrs = {"kind": "field_fits", "model": repr(model)}
    return xr.Dataset(table, coords={**coords, "model": names}, attrs=attrs)
