"""How much of the variance of receptive fields the modes explain, on frames held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_frames import Fields, frame_weights, mode_sets
from retinacodec.analyses.field_pairs import over_cells
from retinacodec.analyses.field_regression import (
    Predictor,
    TimeFolds,
    explained_share,
    field_gram,
    group_errors,
    ridge_errors,
    span,
)
from retinacodec.bootstrap import percentiles
from retinacodec.errors import InputError, Problems
from retinacodec.nulls import p_value
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_variance", "field_variance"]

Array = npt.NDArray[Any]

FORMS = ("field", "shape")
_FEWEST = 60  # frames of a cell below which nothing is claimed


def field_variance(
    fields: Fields,
    loading: xr.DataArray,
    controls: Mapping[str, xr.DataArray] | None = None,
    *,
    history: int,
    frame_rate: float,
    share: float = 0.1,
    minimum_rate: float = 1.0,
    folds: int = 5,
    null_shifts: int = 100,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Say how much of the variance of each cell's fields the modes predict.

    Parameters
    ----------
    fields : LatentFields or PackedFields
        Fields at many frames.
    loading : xarray.DataArray (time, mode)
        Loadings at the same frames; see `retinacodec.analyses.loading_at`.
    controls : mapping of str to xarray.DataArray (time, column), optional
        Other tables at the same frames that fields are predicted from, for comparison: the
        loadings of the modes of activations, the rates of all cells.
    history : int
        Frames of a window; a frame less than that from one that is predicted is not fitted.
    frame_rate : float
        Hz.
    share : float, default 0.1
        A mode is active where its loading exceeds this share of its strong loadings.
    minimum_rate : float, default 1.0
        Only frames in which the cell's rate is above this enter, Hz.
    folds : int, default 5
        Number of folds of contiguous blocks.
    null_shifts : int, default 100
        Number of shifts of the predictors against the fields.
    draws : int, default 1000
        Number of resamples for the intervals.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of shifts and resamples.

    Returns
    -------
    xarray.Dataset
        ``explained`` (form, predictor, cell), share of the variance of held-out fields, 1 at
        best and below 0 where the mean field predicts better, with ``_low`` and ``_high``;
        ``null`` (shift, form, predictor, cell) and ``p_value``; ``pooled``, ``pooled_low``,
        ``pooled_high``, ``pooled_null`` and ``pooled_p_value``, the same for the mean over
        cells; ``frames`` (cell) and ``reason`` (cell), why values are NaN. Form ``"field"`` is
        the whole space-time field, ``"shape"`` the field at norm 1. Predictors: ``"mode set"``,
        the mean field of frames with the same set of active modes; ``"loadings"``, ridge
        regression on the loadings; ``"rate"``, cubics of the rank of the cell's rate,
        hardly penalised, which any rising relation is near to;
        ``"rate and loadings"``, ridge regression on the loadings of what the rate leaves; and
        each of the controls, ridge regression. ``beyond``
        (form, cell), what loadings explain beyond the rate, ``"rate and loadings"`` less
        ``"rate"``, with ``beyond_low`` and ``_high``; its p-value is that of ``"rate and
        loadings"``, in whose null the loadings alone are shifted.

    Raises
    ------
    InputError
        If tables and fields do not fit, a value is not finite, or a number is out of range.

    Notes
    -----
    ``explained = 1 - sum_t |F_t - P_t|^2 / sum_t |F_t - M_t|^2``, with ``P_t`` predicted and
    ``M_t`` the mean field, both from the other folds less a gap of the history. Predictions are
    linear in fitted fields, so that all of it follows from inner products of fields, which are
    never computed. Interval: blocks of the movie are resampled, with fits as they are. Null:
    predictors of the cell's own frames move around in a circle by a tenth of them at least,
    which keeps how they vary over time, and are fitted again; the cell's rate stays where it is
    in ``"rate and loadings"``. Penalties are chosen inside the fitted folds.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8D, of which this asks how much.
    """
    question = _Question.of(
        fields, loading, controls or {}, history, frame_rate, share, minimum_rate, folds
    )
    drawn = frame_weights(question.frames, max(round(frame_rate), 2 * history), draws, seed)
    shifts = np.random.default_rng([seed, 1]).uniform(0.1, 0.9, size=null_shifts)
    cells = [
        question.answer(fields, cell, drawn, shifts) for cell in range(fields.rate.sizes["cell"])
    ]
    return _summarised(cells, question.names, fields.rate["cell"].values, level, seed)


def draw_variance(
    variance: xr.Dataset,
    ax: Axes,
    *,
    form: str = "shape",
    predictors: tuple[str, ...] = ("rate", "mode set", "loadings"),
) -> Axes:
    """Draw the share of variance that each predictor explains, per cell, over its null.

    Parameters
    ----------
    variance : xarray.Dataset
        What `field_variance` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    form : {"field", "shape"}, default "shape"
        Whole fields, or fields at norm 1.
    predictors : tuple of str
        Which to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: dots and lines are cells with their intervals, the last the mean over cells;
        grey bars hold 95 % of the null.
    """
    one = variance.sel(form=form)
    cells = [*one["cell"].values.astype(str).tolist(), "mean"]
    width = 0.8 / len(predictors)
    for number, predictor in enumerate(predictors):
        part = one.sel(predictor=predictor)
        place = np.arange(len(cells)) + width * (number - (len(predictors) - 1) / 2)
        ends = ("", "_low", "_high")
        values, low, high = (
            np.append(part[f"explained{end}"], part[f"pooled{end}"]) for end in ends
        )
        null = np.column_stack([part["null"].transpose("shift", "cell"), part["pooled_null"]])
        bottom, top = percentiles(null)
        label = "null (95 %)" if not number else None
        ax.bar(place, top - bottom, bottom=bottom, width=width, color=COLOURS.paper, label=label)
        colour = COLOURS.series[number % len(COLOURS.series)]
        ax.vlines(place, low, high, color=colour, linewidth=1)
        ax.plot(place, values, "o", color=colour, markersize=2.5, label=predictor)
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5, zorder=0)
    ax.axvline(len(cells) - 1.5, color=COLOURS.quiet, linewidth=0.5, linestyle=":")
    ax.set_xticks(range(len(cells)), labels=cells)
    ax.set(xlabel="Cell", ylabel=f"Explained variance of {form}s", xlim=(-0.5, len(cells) - 0.5))
    ax.legend(ncols=2)
    return ax


@dataclass(frozen=True)
class _Question:
    """What every cell's fields are predicted from."""

    frames: Array
    groups: Array
    tables: dict[str, Array]
    history: int
    minimum_rate: float
    folds: int

    @property
    def names(self) -> list[str]:
        """Names of the predictors."""
        return ["mode set", "loadings", "rate", "rate and loadings", *list(self.tables)[1:]]

    @classmethod
    def of(
        cls,
        fields: Fields,
        loading: xr.DataArray,
        controls: Mapping[str, xr.DataArray],
        history: int,
        frame_rate: float,
        share: float,
        minimum_rate: float,
        folds: int,
    ) -> _Question:
        """Check what was asked for."""
        frames = fields.rate["frame"].values
        problems = Problems()
        tables = {}
        for name, table in {"loadings": loading, **controls}.items():
            fits = table.ndim == 2 and table.sizes.get("time") == frames.size
            problems.require(
                fits,
                f"{name}: expected a table (time, column) with {frames.size} times, one for each "
                f"frame of the fields, got {dict(table.sizes)}",
            )
            if fits:
                tables[name] = table.transpose("time", ...).values.astype(np.float64)
                bad = int((~np.isfinite(tables[name])).any(axis=1).sum())
                problems.require(bad == 0, f"{name}: {bad} times are not finite; leave them out")
        problems.require(minimum_rate >= 0, f"minimum_rate: at least 0, got {minimum_rate}")
        for name, value in (("history", history), ("frame_rate", frame_rate)):
            problems.require(value > 0, f"{name}: expected above 0, got {value}")
        problems.require(folds >= 2, f"folds: expected at least 2, got {folds}")
        problems.raise_as("field_variance")
        labels = mode_sets(loading.transpose("time", "mode"), share=share).values
        groups = np.unique(labels, return_inverse=True)[1]
        return cls(frames, groups, tables, history, minimum_rate, folds)

    def answer(self, fields: Fields, cell: int, drawn: Array, shifts: Array) -> dict[str, Any]:
        """Return shares, resamples and null of one cell, over (predictor, form)."""
        rate = fields.rate.transpose("time", "cell").values[:, cell].astype(np.float64)
        kept = np.flatnonzero(rate > self.minimum_rate)
        shape = (len(self.names), len(FORMS))
        nothing = {
            "explained": np.full(shape, np.nan),
            "samples": np.full((*shape, len(drawn)), np.nan),
            "null": np.full((*shape, len(shifts)), np.nan),
            "frames": kept.size,
        }
        if kept.size < _FEWEST:
            return nothing | {"reason": f"{kept.size} frames with a rate, fewer than {_FEWEST}"}
        try:
            folds = TimeFolds.of(self.frames[kept], self.history, self.folds)
        except InputError as error:
            return nothing | {"reason": str(error)}
        gram = field_gram(fields, cell, kept)
        points = [span(gram, shape=form == "shape") for form in FORMS]
        if not all(one.size for one in points) or not np.isfinite(gram).all():
            return nothing | {"reason": "fields are zero or not finite"}
        steps = np.clip(np.round(shifts * kept.size).astype(int), 1, kept.size - 1)
        found = [
            predictor.shares(points, folds, steps) for predictor in self._predictors(kept, rate)
        ]
        errors, counts = [value for value, _ in found], drawn[:, kept]
        return {
            "explained": np.array([[explained_share(e) for e in one] for one in errors]),
            "samples": np.array([[explained_share(e, counts) for e in one] for one in errors]),
            "null": np.stack([null.T for _, null in found]),
            "frames": kept.size,
            "reason": "",
        }

    def _predictors(self, kept: Array, rate: Array) -> list[Predictor]:
        """Return the predictors of a cell, in the order of their names."""
        tables = [table[kept] for table in self.tables.values()]
        curves = _curves(rate[kept])
        return [
            Predictor(self.groups[kept], group_errors),
            Predictor(tables[0], ridge_errors),
            Predictor(curves, _free_errors),
            Predictor(tables[0], ridge_errors, fixed=curves),
            *(Predictor(table, ridge_errors) for table in tables[1:]),
        ]


def _free_errors(points: Array, table: Array, folds: TimeFolds) -> Array:
    """Return errors of predicting by free columns alone."""
    return ridge_errors(points, np.zeros((len(points), 1)), folds, penalties=[1.0], free=table)


def _curves(rate: Array) -> Array:
    """Return Legendre polynomials of degree 1 to 3 of the rank of a rate (frame, column)."""
    from numpy.polynomial import legendre
    from scipy.stats import rankdata

    place = (2 * rankdata(rate) - 1) / rate.size - 1
    return np.asarray(legendre.legvander(place, 3)[:, 1:])


def _summarised(
    cells: list[dict[str, Any]], names: list[str], labels: Array, level: float, seed: int
) -> xr.Dataset:
    """Put the answers of all cells and their mean into one dataset."""
    value, samples, null = (
        np.moveaxis(np.stack([one[name] for one in cells], -1), 0, 1)
        for name in ("explained", "samples", "null")
    )
    samples, null = np.moveaxis(samples, 2, 0), np.moveaxis(null, 2, 0)
    chance = np.full(len(cells), 1 / len(cells))
    again = np.random.default_rng([seed, 2]).multinomial(len(cells), chance, size=len(samples))
    pooled, pooled_null = over_cells(value), over_cells(null)
    pooled_samples = over_cells(samples, again[:, None, None])
    both, alone = names.index("rate and loadings"), names.index("rate")
    share = {"units": "1", "long_name": "share of the variance of held-out fields"}
    grid = ("form", "predictor", "cell")
    data: dict[str, Any] = {
        "explained": (grid, value, share),
        "null": (("shift", *grid), null, share),
        "p_value": (grid, p_value(value, null), {"units": "1"}),
        "pooled": (grid[:2], pooled, share),
        "pooled_null": (("shift", *grid[:2]), pooled_null, share),
        "pooled_p_value": (grid[:2], p_value(pooled, pooled_null), {"units": "1"}),
        "beyond": (("form", "cell"), value[:, both] - value[:, alone], share),
        "frames": ("cell", np.array([one["frames"] for one in cells]), {"units": "1"}),
        "reason": ("cell", np.array([one["reason"] for one in cells], dtype=str)),
    }
    for name, dims, drawn in (
        ("explained", grid, samples),
        ("pooled", grid[:2], pooled_samples),
        ("beyond", ("form", "cell"), samples[:, :, both] - samples[:, :, alone]),
    ):
        for end, limit in zip(("_low", "_high"), percentiles(drawn, level), strict=True):
            data[name + end] = (dims, limit, share)
    coords = {"form": list(FORMS), "predictor": names, "cell": labels}
    attrs = {"kind": "field_variance", "level": level, "seed": seed}
    return xr.Dataset(data, coords=coords, attrs=attrs)
