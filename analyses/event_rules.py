"""What counts as an event of a movie: thresholds in physical units or quantiles, and regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems

__all__ = ["EventRules", "Quantile", "event_regions", "threshold"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Quantile:
    """A threshold that a share of a movie's frames stays below.

    Parameters
    ----------
    share : float
        Share of the frames below the threshold, between 0 and 1.
    """

    share: float


@dataclass(frozen=True)
class EventRules:
    """The thresholds of the events of a movie.

    Parameters
    ----------
    step : float or Quantile, default 0.15
        Change of the mean contrast of a region within `step_s`: a step up or down.
    step_s : float, default 0.05
        Time within which it changes, s.
    polarity : float or Quantile, default 0.15
        Difference of the mean contrasts of centre and surround: brighter or darker.
    contrast : float or Quantile, default 0.25
        Standard deviation of the contrast over the pixels of centre and surround: high.
    directions : int, default 4
        Number of bins of the direction of motion, the first around 0 degrees (+x), 90 is +y.
    speeds : tuple of float, default (100, 400, 1600)
        Edges of the bins of speed, um/s; below the first the picture stands still.
    motion_s : float, default 0.05
        Time over which velocities are averaged, s.
    explained, explained_near : float, default 0.25 and 0.6
        Share of the change that motion must explain to count, over the frame and the background,
        and in the centre, where noise of few pixels looks like motion more easily.
    differential : float, default 100
        Difference of the velocities of centre and background, um/s; also at least half of the
        faster one.
    motion_um : float, default 200
        Radius of the disc whose motion is that of the centre, um; the background begins at one
        and a half times it.
    still_s : float, default 0.1
        How long the picture stands still before a motion onset, s.
    switch : float, default 0.5
        Correlation of successive frames below which the image is another one.
    flash_s : float, default 0.1
        Longest duration of a flash, s.
    flashes : int, default 3
        Flashes at equal intervals after which a missing one is an omission.
    jitter : float, default 0.15
        Share by which intervals between periodic flashes may differ.
    """

    step: float | Quantile = 0.15
    step_s: float = 0.05
    polarity: float | Quantile = 0.15
    contrast: float | Quantile = 0.25
    directions: int = 4
    speeds: tuple[float, ...] = (100.0, 400.0, 1600.0)
    motion_s: float = 0.05
    explained: float = 0.25
    explained_near: float = 0.6
    differential: float = 100.0
    motion_um: float = 200.0
    still_s: float = 0.1
    switch: float = 0.5
    flash_s: float = 0.1
    flashes: int = 3
    jitter: float = 0.15

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""
        for name in ("step", "polarity", "contrast"):
            value = getattr(self, name)
            if isinstance(value, Quantile):
                good = 0 < value.share < 1
                problems.require(good, f"{name}: expected a share between 0 and 1, got {value}")
            else:
                problems.require(value > 0, f"{name}: expected a contrast > 0, got {value}")
        for name in ("step_s", "motion_s", "still_s", "flash_s", "differential", "motion_um"):
            value = getattr(self, name)
            problems.require(value > 0, f"{name}: expected a number > 0, got {value}")
        speeds = self.speeds
        rising = len(speeds) > 0 and speeds[0] > 0 and bool((np.diff(speeds) > 0).all())
        problems.require(rising, f"speeds: expected rising um/s > 0, got {speeds}")
        few = self.directions >= 1 and self.flashes >= 2
        problems.require(few, "directions, flashes: expected at least 1 and 2")
        for name in ("explained", "explained_near"):
            value = getattr(self, name)
            problems.require(0 < value < 1, f"{name}: expected 0 to 1, got {value}")
        problems.require(-1 < self.switch < 1, f"switch: expected -1 to 1, got {self.switch}")
        problems.require(0 < self.jitter < 0.5, f"jitter: expected 0 to 0.5, got {self.jitter}")


def threshold(rule: float | Quantile, values: Array) -> float:
    """Return a threshold in the units of the values, at least as large as rounding."""
    if isinstance(rule, Quantile):
        return max(float(np.quantile(values, rule.share)), 1e-6)
    return float(rule)


def event_regions(
    movie: xr.Dataset,
    centre: tuple[float, float] | xr.DataArray | None,
    centre_um: float,
    surround_um: float,
    motion_um: float,
) -> dict[str, Array]:
    """Return the weights (y, x) of the regions of a movie around a place or a field.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus.
    centre : (float, float), DataArray (y, x) or None
        Middle (y, x) of the centre, um; or a spatial field, whose pixels beyond half its
        largest size, of the sign of the largest, are the centre, weighted by their size; or the
        middle of the frame.
    centre_um, surround_um : float
        Radii of the centre's disc and of the end of the surround, um.
    motion_um : float
        Radius of the disc whose motion is that of the centre, um.

    Returns
    -------
    dict of str to ndarray (y, x)
        ``centre``, ``surround``, ``near`` (centre and surround), ``moving`` and ``background``,
        each with sum 1.

    Raises
    ------
    InputError
        If a region holds no pixel.
    """
    y, x = np.meshgrid(movie["y"].values, movie["x"].values, indexing="ij")
    weights: Array | None = None
    if isinstance(centre, xr.DataArray):
        weights = _lobe(centre, y.shape)
        middle = float((weights * y).sum()), float((weights * x).sum())
    else:
        middle = (float(y.mean()), float(x.mean())) if centre is None else centre
    far = np.hypot(y - middle[0], x - middle[1])
    disc = (far <= centre_um).astype(float) if weights is None else weights
    regions = {
        "centre": disc,
        "surround": ((far > centre_um) & (far <= surround_um) & (disc == 0)).astype(float),
        "near": (far <= surround_um).astype(float),
        "moving": (far <= motion_um).astype(float),
        "background": (far >= 1.5 * motion_um).astype(float),
    }
    problems = Problems()
    for name, region in regions.items():
        problems.require(
            bool(region.sum() > 0), f"{name}: no pixel there; choose other radii or another centre"
        )
    problems.raise_as("events")
    return {name: region / region.sum() for name, region in regions.items()}


def _lobe(field: xr.DataArray, shape: tuple[int, ...]) -> Array:
    """Return the weights of the strongest lobe of a field."""
    if set(field.dims) != {"y", "x"} or field.transpose("y", "x").shape != shape:
        raise InputError(
            f"centre: expected (y, x) in um or a field (y, x) of {shape} pixels, got {field.dims} "
            f"{field.shape}"
        )
    values = field.transpose("y", "x").values.astype(np.float64)
    peak = values.flat[int(np.abs(values).argmax())]
    if not np.isfinite(peak) or peak == 0:
        raise InputError("centre: the field is NaN or 0 everywhere")
    share = values / peak
    weights: Array = np.where(share >= 0.5, share, 0.0)
    return weights / weights.sum()
