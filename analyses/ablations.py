"""What ablation curves say: ratios of accuracy, areas under them, differences, intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.bootstrap import percentiles
from retinacodec.errors import InputError

__all__ = ["ablation_summary"]

Array = npt.NDArray[Any]


def ablation_summary(
    curves: xr.Dataset, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> xr.Dataset:
    """Return by how much accuracy falls for the target class and for others.

    Parameters
    ----------
    curves : xarray.Dataset
        What `retinacodec.analyses.ablation_curves` returns.
    draws : int, default 1000
        Resamples of the trials and, within each, of its images; the same for all selections.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of the resamples.

    Returns
    -------
    xarray.Dataset
        ``ratio`` (selection, direction, percent, group), accuracy after over accuracy before, and
        ``accuracy`` after, both 0 to 1 and more; ``auc`` (selection, direction, group), area under
        the ratio; ``relative_auc`` (selection, direction), how far the target's area is from that
        of other classes; ``difference`` (selection, other, direction), relative_auc of one
        selection less that of another; all but the accuracy with ``_low`` and ``_high``.
        ``defined`` (group), trials with an accuracy above 0 before, the others being left out.

    Raises
    ------
    InputError
        If no trial has an accuracy above 0 before, in one of the groups.

    Notes
    -----
    ``ratio`` is the mean over trials of each trial's ratio. ``auc`` is its trapezoid area
    against percent, and ``relative_auc = (auc_target - auc_off) / auc_off``; NaN where the other
    classes' area is 0. Intervals are percentiles over resamples of trials with their images.

    References
    ----------
    Melander et al., ICLR 2026, Figure 6E, whose axis names the difference of the areas alone.
    """
    correct = curves["correct"].values
    before = curves["correct_before"].values
    defined = (before.mean(axis=-1) > 0).sum(axis=0)
    if not defined.all():
        raise InputError(
            "ablation_summary: the circuit recognises no image of the "
            f"{'target' if not defined[0] else 'other'} classes; check labels and preprocessing"
        )
    percent = curves["percent"].values
    value = _measures(correct.mean(axis=-1), before.mean(axis=-1), percent)
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[Array]] = {name: [] for name in value}
    for _ in range(draws):
        after, first = _resample(correct, before, rng)
        for name, one in _measures(after, first, percent).items():
            resampled[name].append(one)
    return _dataset(curves, value, {k: np.stack(v) for k, v in resampled.items()}, level, defined)


def _resample(correct: Array, before: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return accuracies (..., trial, group) of trials, and of images in them, drawn anew."""
    trials, groups, images = before.shape
    chosen = rng.integers(0, trials, trials)
    counts = rng.multinomial(images, np.full(images, 1 / images), size=(trials, groups)) / images
    return (
        np.einsum("...tgi,tgi->...tg", correct[..., chosen, :, :], counts, optimize=False),
        np.einsum("tgi,tgi->tg", before[chosen], counts),
    )


def _measures(after: Array, before: Array, percent: Array) -> dict[str, Array]:
    """Return ratio, area, relative area and differences of accuracies (..., trial, group)."""
    from scipy.integrate import trapezoid

    known = before > 0
    ratio = np.where(known, after / np.where(known, before, 1.0), 0.0)
    count = known.sum(axis=0)
    mean = np.where(count > 0, ratio.sum(axis=-2) / np.maximum(count, 1), np.nan)
    area = trapezoid(mean, percent, axis=2)
    off = np.where(area[..., 1] > 0, area[..., 1], np.nan)
    relative = (area[..., 0] - area[..., 1]) / off
    return {
        "ratio": mean,
        "auc": area,
        "relative_auc": relative,
        "difference": relative[:, None] - relative[None],
    }


def _dataset(
    curves: xr.Dataset, value: dict[str, Array], samples: dict[str, Array], level: float,
    defined: Array,
) -> xr.Dataset:  # fmt: skip
    dims = {
        "ratio": ("selection", "direction", "percent", "group"),
        "auc": ("selection", "direction", "group"),
        "relative_auc": ("selection", "direction"),
        "difference": ("selection", "other", "direction"),
    }
    units = {"auc": "%"}
    data: dict[str, Any] = {}
    for name, one in value.items():
        low, high = percentiles(samples[name], level)
        for key, array in ((name, one), (f"{name}_low", low), (f"{name}_high", high)):
            data[key] = (dims[name], array, {"units": units.get(name, "1")})
    accuracy = curves["correct"].mean(("trial", "image"))
    names = curves["selection"].values
    found = xr.Dataset(data, coords={"selection": names, "other": names})
    found = found.assign_coords({dim: curves[dim] for dim in ("direction", "percent", "group")})
    found["accuracy"] = accuracy.transpose(*dims["ratio"])
    found["accuracy_before"] = curves["correct_before"].mean(("trial", "image"))
    found["defined"] = ("group", defined)
    found["channels"] = curves["channels"]
    return found.assign_attrs(curves.attrs, kind="ablation summary", level=level)
