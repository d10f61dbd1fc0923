"""Subunits: the parts of a receptive field that rectify by themselves, from the spikes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.optimize import nnls

from retinacodec.analyses.field_windows import Square
from retinacodec.analyses.named_rows import position_of
from retinacodec.analyses.receptive_fields import spike_triggered_average, sta_peaks
from retinacodec.analyses.subunit_modules import (
    ModuleRule,
    best_count,
    both_halves,
    held_out_gains,
    matched,
    moments_of,
    morans_i,
    second_moments,
    stable_by_count,
    standard_error,
)
from retinacodec.errors import InputError, Problems
from retinacodec.nulls import p_value
from retinacodec.plotting import COLOURS, field_map
from retinacodec.progress import track
from retinacodec.separable import separable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_subunits", "subunits"]

Array = npt.NDArray[Any]

_STABLE = 0.5  # cosine with either half that a module needs
_STARTS = 10  # of the factorisations that are reported
_BINS = 50  # classes of drive within which spike counts change places


def subunits(
    movie: xr.Dataset,
    recording: xr.Dataset,
    *,
    cell: int | str,
    history: int,
    latency: int = 0,
    window: int = 8,
    largest: int = 6,
    overlap: int = 1,
    folds: int = 4,
    nulls: int = 39,
    level: float = 0.05,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Take the receptive field of a cell apart into subunits, as many as the spikes bear out.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x) of spatial white noise, its checks finer than the
        subunits.
    recording : xarray.Dataset
        Recording with ``spike_count`` (time, cell) on the frames of the movie.
    cell : int or str
        Position or name of the cell.
    history : int
        Frames that the cell's time course reaches back.
    latency : int, default 0
        Frames between the newest frame of the window and the spike's own frame.
    window : int, default 8
        Pixels on each side of the square around the peak of the field.
    largest : int, default 6
        Most subunits tried.
    overlap : int, default 1
        Most subunits that a pixel may belong to.
    folds : int, default 4
        Stretches of time, of which each is held out once.
    nulls : int, default 39
        Shuffled recordings of a cell that has the same field and no subunits.
    level : float, default 0.05
        Chance of naming several subunits where there is one field, and of calling a module
        localised that is not.
    seed : int, default 0
        Seed of the factorisations and shuffles.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        ``module`` (subunit, y, x), at least 0, norm 1; ``weight`` (subunit), how much of each
        makes up the average, summing to 1; ``stability`` (subunit), the smaller of the cosines
        with the same module of either half of the recording; ``moran`` and ``moran_p`` (subunit),
        spatial autocorrelation and its p-value; ``localised`` (subunit), whether neighbouring
        pixels belong together and both halves show the module; ``centre_y`` and ``centre_x``
        (subunit), um. By the number tried, ``gain`` (count) on held-out spikes, its
        ``gain_error``, ``gain_null`` (null, count) and ``stable`` (count), the mean cosine
        between halves. ``sta`` (y, x) and ``temporal`` (lag) of the cell. Attributes
        ``subunits``, how many are localised; ``p_value`` of more than one; ``spikes``; ``reason``.

    Raises
    ------
    InputError
        If movie and recording do not fit, a number is out of range, the cell has fewer spikes
        than ten a pixel of the square, or the movie does not change or is too short.

    Notes
    -----
    The movie is filtered by the cell's time course, so that each frame t has one effective
    picture ``e_t`` and each spike the one before it. Modules are the factors of
    ``E^T ~ modules^T loadings`` (pixel, spike), modules at least 0 and loadings of any sign. As
    loadings are free, only ``E^T E`` matters: the factorisation is of its root
    (pixel, pixel), with the same modules and the same error, however many spikes there are.
    ``gain = tr(Q^T (C - C0) Q)``, with Q an orthonormal basis of the modules of the other folds, C
    the covariance of held-out effective pictures before spikes and C0 that of all of them, both
    about zero and in units of the mean variance of a pixel.

    The null keeps what a single linear field with any nonlinearity explains: counts change places
    among frames of nearly the same drive by the average (50 classes). More than one subunit is
    named if the largest rise of the gain over that of one module is larger than in the null at
    `level`. Then there are as many modules as gain most, of which those that are localised count.

    References
    ----------
    .. [1] Liu, Schreyer, Onken, Rozenblit, Khani, Krishnamoorthy, Panzeri, Gollisch, Nature
       Communications 8, 149 (2017), spike-triggered nonnegative matrix factorisation.
    .. [2] Ding, Li, Jordan, IEEE PAMI 32, 45 (2010), semi-nonnegative factorisation.
    .. [3] Moran, Biometrika 37, 17 (1950).
    """
    _check(window, largest, overlap, folds, nulls, level)
    if "spike_count" not in recording:
        raise InputError("subunits: no variable 'spike_count'; subunits are told apart by spikes")
    one = recording.isel(cell=[position_of(recording, "cell", cell)])
    averages = spike_triggered_average(movie, one, history=history, latency=latency)
    square = _square(averages, movie, window)
    shape = square["sta"].shape[-2:]
    parts = separable(square["sta"]).isel(cell=0)
    effective = _effective(square, parts["temporal"].values, latency)
    counts = np.nan_to_num(one["spike_count"].values[:, 0]).astype(np.float64)
    pixels = int(np.prod(shape))
    if counts.sum() < 10 * pixels:
        raise InputError(
            f"subunits: {counts.sum():.0f} spikes for {pixels} pixels, at least {10 * pixels} are "
            "needed; use a smaller window="
        )
    rule = ModuleRule(largest, overlap, seed)
    fold = _folds(len(counts), folds, history + latency)
    if np.unique(fold[fold >= 0]).size < folds:
        raise InputError(
            f"folds: {len(counts)} frames do not hold {folds} stretches longer than {history} "
            f"frames and latency {latency}; use fewer folds= or a shorter history="
        )
    drive = effective @ parts["spatial"].values.ravel()
    steps = track(range(nulls), "subunits: shuffled recordings", enabled=progress)
    gain = _tested(effective, counts, fold, drive, rule, steps)
    several = gain.attrs["p_value"] <= level
    count = gain.attrs["best"] if several else 1
    table = _describe(moments_of(effective, counts, fold), count, rule, parts, level)
    return table.merge(gain).assign_attrs(
        kind="subunits",
        cell=str(one["cell"].item()),
        subunits=int(table["localised"].sum()),
        p_value=gain.attrs["p_value"],
        spikes=float(counts.sum()),
        reason="" if several else "no more than a single field explains",
        seed=seed,
    )


def _tested(
    effective: Array, counts: Array, fold: Array, drive: Array, rule: ModuleRule, steps: Any
) -> xr.Dataset:
    """Return the held-out gain by the number of modules, its null, p-value and best number."""
    used = effective[fold >= 0]
    base = used.T @ used / max(len(used), 1)
    gains = held_out_gains(effective, counts, fold, base, rule)
    null = []
    for k in steps:
        shuffled = _shuffled(counts, drive, fold, np.random.default_rng([rule.seed, k]))
        null.append(held_out_gains(effective, shuffled, fold, base, rule).mean(axis=0))
    mean, around = gains.mean(axis=0), np.stack(null)
    p = float(p_value((mean - mean[0]).max(), (around - around[:, :1]).max(axis=1)))
    one = {"units": "1"}
    return xr.Dataset(
        {
            "gain": ("count", mean, {**one, "long_name": "excess variance of held-out spikes"}),
            "gain_error": ("count", standard_error(gains), one),
            "gain_null": (("null", "count"), around, one),
        },
        coords={"count": np.arange(1, rule.largest + 1)},
        attrs={"p_value": p, "best": best_count(gains)},
    )


def _check(window: int, largest: int, overlap: int, folds: int, nulls: int, level: float) -> None:
    problems = Problems()
    problems.require(window >= 3, f"window: expected at least 3 pixels, got {window}")
    problems.require(largest >= 2, f"largest: expected at least 2 subunits, got {largest}")
    problems.require(overlap >= 1, f"overlap: expected at least 1, got {overlap}")
    problems.require(folds >= 2, f"folds: expected at least 2, got {folds}")
    problems.require(0 < level < 1, f"level: expected between 0 and 1, got {level}")
    enough = nulls >= 1 and 1 / (1 + nulls) <= level
    problems.require(enough, f"nulls: {nulls} cannot reach a p-value of {level}; raise nulls=")
    problems.raise_as("subunits")


def _square(averages: xr.Dataset, movie: xr.Dataset, window: int) -> xr.Dataset:
    """Return average and movie in a square around the peak of the cell's average."""
    peak = sta_peaks(averages).isel(cell=0)
    if peak["row"] < 0:
        raise InputError("subunits: the cell has no spikes, or the movie does not change")
    whole = movie.sizes["y"], movie.sizes["x"]
    near = Square.around((int(peak["row"]), int(peak["column"])), window, whole)
    cut = dict(zip("yx", near.pixels, strict=True))
    return xr.Dataset({"sta": averages["sta"].isel(cut), "contrast": movie["contrast"].isel(cut)})


def _effective(square: xr.Dataset, temporal: Array, latency: int) -> Array:
    """Return the movie passed through the time course (time, pixel), with unit mean variance."""
    contrast = square["contrast"].transpose("time", "y", "x").values
    flat = contrast.reshape(len(contrast), -1).astype(np.float64)
    flat -= flat.mean(axis=0)
    out = np.zeros_like(flat)
    for back, weight in enumerate(temporal[::-1]):
        shift = back + latency
        out[shift:] += weight * flat[: len(flat) - shift]
    out[: temporal.size - 1 + latency] = 0
    return out / np.sqrt(max(float((out**2).mean()), np.finfo(float).tiny))


def _folds(frames: int, folds: int, reach: int) -> Array:
    """Return the stretch of each frame, -1 where its window reaches into the one before."""
    stretch = np.arange(frames) * folds // frames
    starts = np.searchsorted(stretch, np.arange(folds))
    for start in starts:
        stretch[start : start + reach - 1] = -1
    return stretch


def _shuffled(counts: Array, drive: Array, fold: Array, generator: np.random.Generator) -> Array:
    """Return counts that have changed places among frames of a stretch with the same drive."""
    result = counts.copy()
    for k in range(int(fold.max()) + 1):
        rows = np.flatnonzero(fold == k)
        for part in np.array_split(rows[np.argsort(drive[rows], kind="stable")], _BINS):
            result[part] = generator.permutation(counts[part])
    return result


def _describe(
    grams: Array, count: int, rule: ModuleRule, parts: xr.Dataset, level: float
) -> xr.Dataset:
    """Return the modules of all spikes and what they are like."""
    found = rule.modules(second_moments(grams.sum(axis=0)), count, _STARTS)
    halves = [rule.modules(half, count, _STARTS) for half in both_halves(grams)]
    stable = np.minimum(*(matched(found, half) for half in halves))
    field = parts["spatial"].values
    upright = field.ravel() * np.sign(field.ravel()[np.abs(field).argmax()])
    weight = nnls(found.T, upright)[0]
    order = np.argsort(-weight, kind="stable")
    maps = found[order].reshape(-1, *field.shape)
    tests = [morans_i(one, seed=rule.seed) for one in maps]
    moran, moran_p = (np.asarray(column) for column in zip(*tests, strict=True))
    mass = maps / maps.sum(axis=(1, 2), keepdims=True)
    y, x = parts["y"].values, parts["x"].values
    one = {"units": "1"}
    return xr.Dataset(
        {
            "module": (("subunit", "y", "x"), maps, one),
            "weight": ("subunit", weight[order] / max(weight.sum(), 1e-12), one),
            "stability": ("subunit", stable[order], one),
            "moran": ("subunit", moran, one),
            "moran_p": ("subunit", moran_p, one),
            "stable": ("count", stable_by_count(grams, rule), one),
            "sta": (("y", "x"), field, {"units": "1", "long_name": "spatial map of the average"}),
            "temporal": ("lag", parts["temporal"].values, one),
            "localised": ("subunit", (moran_p <= level) & (stable[order] >= _STABLE)),
            "centre_y": ("subunit", (mass.sum(axis=2) * y).sum(axis=1), {"units": "um"}),
            "centre_x": ("subunit", (mass.sum(axis=1) * x).sum(axis=1), {"units": "um"}),
        },
        coords={"subunit": np.arange(len(maps)), **{n: parts[n] for n in ("y", "x", "lag")}},
    )


def draw_subunits(table: xr.Dataset, ax: Axes) -> Axes:
    """Draw a cell's field with the outline of each subunit.

    Parameters
    ----------
    table : xarray.Dataset
        What `subunits` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: the spatial map, and around each localised module the line of half its highest
        value, with its share of the average.
    """
    from matplotlib.patheffects import withStroke

    field_map(ax, table["sta"])
    y, x = table["y"].values, table["x"].values
    found = np.flatnonzero(table["localised"].values)
    for k, one in enumerate(table.isel(subunit=int(at)) for at in found):
        colour = COLOURS.series[k % len(COLOURS.series)]
        top = float(one["module"].max())
        ax.contour(x, y, one["module"], [top / 2], colors=colour, linewidths=1.0)
        row, column = np.unravel_index(int(one["module"].values.argmax()), (y.size, x.size))
        ax.annotate(
            f"{100 * float(one['weight']):.0f} %",
            (float(x[column]), float(y[row])),
            ha="center",
            va="center",
            fontsize=5,
            color=colour,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
        )
    count, p = table.attrs["subunits"], table.attrs["p_value"]
    ax.set_title(f"{table.attrs['cell']}: {count} subunit{'s' * (count != 1)} (p = {p:.2g})")
    return ax
