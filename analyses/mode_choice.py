"""How many modes there are: what each number of them explains of samples held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.modes import mode_rows, row_split
from retinacodec.bootstrap import Interval, block_labels
from retinacodec.common_coding import predicted_rows
from retinacodec.dictionaries import Decomposition, DirectPursuit
from retinacodec.dictionary_scores import (
    HeldOut,
    held_out,
    partner_cosines,
    r2_interval,
)
from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS
from retinacodec.progress import track

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["choose_modes", "draw_mode_choice"]

Array = npt.NDArray[Any]

_BLOCK = 40


def choose_modes(
    node: xr.Dataset | xr.DataTree,
    sizes: Sequence[int],
    *,
    dictionary: Decomposition | None = None,
    seeds: int = 3,
    seed: int = 0,
    quantity: str = "contribution",
    target: Any = None,
    inputs: xr.Dataset | xr.DataTree | None = None,
    gap: int = 40,
    progress: bool = True,
) -> xr.Dataset:
    """Fit several numbers of modes from several seeds, and score each on samples held out.

    Parameters
    ----------
    node : xarray.DataTree or xarray.Dataset
        A layer of Contributions.
    sizes : sequence of int
        Numbers of modes to try, rising.
    dictionary : Decomposition, optional
        A method with a field ``modes``, which is set to each size; ``DirectPursuit()`` if left
        out.
    seeds : int, default 3
        Fits of each size.
    seed : int, default 0
        First of the seeds.
    quantity, target, inputs, gap
        As in `find_modes`.
    progress : bool, default True
        Show how far the fits have come.

    Returns
    -------
    xarray.Dataset
        ``r2`` (size, seed) of the samples held out; ``predicted_r2`` (size, seed) of the same
        samples when each channel is predicted from the others, with its interval
        ``predicted_low`` and ``predicted_high`` (size) over blocks of samples for the first seed;
        ``l0`` (size, seed), ``alive`` (size, seed) and ``stability`` (size), mean cosine with the
        mode matched to it between pairs of seeds. Attributes: ``best``, the size with the largest
        mean predicted R2, and ``chosen``, the smallest size within one standard error of it.

    Raises
    ------
    InputError
        If the sizes are no whole numbers that rise from 1, there is no seed, or the method has no
        number of modes to set.

    Notes
    -----
    Loadings are fitted to the very samples that are scored, so that R2 rises with the number of
    modes even after the last true one. The number is therefore chosen by how well channels are
    predicted from the others (`predicted_rows`). The standard error is that of the difference of
    the two sizes' R2, over blocks of samples and seeds alike.

    References
    ----------
    .. [1] Owen, Perry, Annals of Applied Statistics 3, 564 (2009), bi-cross-validation; Breiman
       et al., Classification and regression trees (1984), rule of one standard
       error.
    """
    tried = np.asarray(sizes)
    whole = tried.ndim == 1 and tried.size > 0 and tried.dtype.kind in "iu"
    if not whole or tried[0] < 1 or (np.diff(tried) <= 0).any():
        raise InputError(f"sizes: expected rising whole numbers from 1, got {list(sizes)}")
    if seeds < 1:
        raise InputError(f"seeds: expected at least 1 fit of each size, got {seeds}")
    values, rows = mode_rows(node, quantity=quantity, target=target, inputs=inputs)
    split = row_split(str(values.dims[0]), gap, len(rows))
    base = DirectPursuit(split=split) if dictionary is None else dictionary
    names = {one.name for one in dataclasses.fields(base)} if dataclasses.is_dataclass(base) else ()
    if "modes" not in names:
        raise InputError(f"choose_modes: {base!r} has no number of modes to set")
    numbers = np.arange(seed, seed + seeds)
    runs: list[list[_Run]] = []
    for size in track(tried.tolist(), "modes: numbers of modes", enabled=progress):
        method: Any = dataclasses.replace(base, modes=size)  # type: ignore[type-var]
        fits = (held_out(method, rows, split=split, seed=int(one), draws=1) for one in numbers)
        runs.append([_Run.of(fit, rows.x[fit.rows]) for fit in fits])
    return _table(tried, numbers, runs)


@dataclass(frozen=True, eq=False)
class _Run:
    """A fit, and how well its modes predict channels of the samples held out."""

    fit: HeldOut
    predicted: Interval
    errors: Array

    @classmethod
    def of(cls, fit: HeldOut, x: Array) -> _Run:
        estimate = predicted_rows(fit.found, x)
        errors = ((x.astype(np.float64) - estimate) ** 2).sum(axis=1) / x.size
        return cls(fit, r2_interval(x, estimate, fit.rows), errors / x.var())


def _table(sizes: Array, seeds: Array, runs: list[list[_Run]]) -> xr.Dataset:
    """Return the scores of all fits and the size that they speak for."""
    predicted = np.array([[float(run.predicted.value) for run in row] for row in runs])
    mean = predicted.mean(axis=1)
    best = int(mean.argmax())
    close = [mean[k] >= mean[best] - _standard_error(runs[k], runs[best]) for k in range(len(runs))]
    dims = ("size", "seed")
    r2 = [[float(run.fit.r2.value) for run in row] for row in runs]
    ends = {
        f"predicted_{end}": ("size", [float(getattr(row[0].predicted, end)) for row in runs])
        for end in ("low", "high")
    }
    return xr.Dataset(
        {
            "r2": (dims, r2, {"units": "1", "long_name": "R2 of samples held out"}),
            "predicted_r2": (dims, predicted, {"units": "1", "long_name": "R2 of channels"}),
            "l0": (dims, [[run.fit.l0 for run in row] for row in runs], {"units": "1"}),
            "alive": (dims, [[len(run.fit.found.atoms) for run in row] for row in runs]),
            "stability": ("size", [_agreement(row) for row in runs], {"units": "1"}),
        }
        | ends,
        coords={"size": sizes, "seed": seeds},
        attrs={"best": int(sizes[best]), "chosen": int(sizes[int(np.argmax(close))])},
    )


def _standard_error(one: list[_Run], best: list[_Run]) -> float:
    """Return the standard error of the difference of R2 over blocks of samples and over seeds."""
    change = np.mean([a.errors - b.errors for a, b in zip(one, best, strict=True)], axis=0)
    starts = np.flatnonzero(np.diff(block_labels(one[0].fit.rows, _BLOCK), prepend=-1))
    blocks = np.add.reduceat(change, starts)
    over_blocks = float(blocks.std() * np.sqrt(len(blocks)))
    each = [(a.errors - b.errors).sum() for a, b in zip(one, best, strict=True)]
    over_seeds = float(np.std(each) / np.sqrt(max(1, len(each) - 1)))
    return float(np.hypot(over_blocks, over_seeds))


def _agreement(runs: list[_Run]) -> float:
    """Return the mean cosine of modes with those matched to them in each later fit."""
    found = [run.fit.found for run in runs if len(run.fit.found.atoms)]
    pairs = [(one, other) for k, one in enumerate(found) for other in found[k + 1 :]]
    scores = [np.diagonal(partner_cosines(one, other.atoms)).mean() for one, other in pairs]
    return float(np.mean(scores)) if scores else float("nan")


def draw_mode_choice(choice: xr.Dataset, ax: Axes) -> Axes:
    """Draw what each number of modes explains, and which is chosen.

    Parameters
    ----------
    choice : xarray.Dataset
        What `choose_modes` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis, with R2 (points for seeds, band for the interval) and stability.
    """
    size, colours = choice["size"].values, COLOURS.series
    low, high = choice["predicted_low"], choice["predicted_high"]
    ax.fill_between(
        size, np.maximum(low, 0), np.maximum(high, 0), color=colours[0], alpha=0.2, lw=0
    )
    shown = {
        "channels from the others": choice["predicted_r2"],
        "samples held out": choice["r2"],
    }
    for colour, (label, values) in zip(colours, shown.items(), strict=False):
        ax.plot(size, values.mean("seed"), color=colour, label=f"R², {label}")
        for number in range(choice.sizes["seed"]):
            ax.plot(size, values.isel(seed=number), ".", color=colour, markersize=3)
    ax.plot(size, choice["stability"], color=COLOURS.quiet, label="stability (cosine)")
    chosen = choice.attrs["chosen"]
    ax.axvline(chosen, color=COLOURS.quiet, linewidth=0.6, linestyle="--", zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_xticks(size, labels=[str(number) for number in size])
    ax.tick_params(axis="x", which="minor", length=0)
    ax.set(xlabel=f"Modes ({chosen} chosen)", ylabel="R² and cosine", ylim=(0, 1.02))
    ax.legend(loc="lower right")
    return ax
