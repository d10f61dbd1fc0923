"""Whether a model's fields are those that its responses, or a recording's, show on average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from scipy.stats import t as student

from retinacodec.analyses.field_windows import Square
from retinacodec.analyses.triggered_responses import TriggeredResponses, triggered_responses
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError, Problems
from retinacodec.gradients import latent_blocks
from retinacodec.latents import mean_of_blocks, membership
from retinacodec.plotting import COLOURS
from retinacodec.separable import separate
from retinacodec.triggered_sums import stretch_sum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["compare_with_average", "draw_field_agreement"]

Array = npt.NDArray[Any]

_FIELDS = 4000  # frames with a field, where it is not said how many
_CORRELATIONS = ("correlation", "spatial_correlation", "temporal_correlation")


def compare_with_average(
    circuit: Circuit,
    movie: xr.Dataset,
    response: xr.Dataset | xr.DataArray | None = None,
    *,
    frames: npt.ArrayLike | None = None,
    every: int | None = None,
    window: int | None = None,
    blocks: int = 20,
    level: float = 0.95,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Hold the mean instantaneous field of a model against a response-triggered average.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        White noise with ``contrast`` (time, y, x).
    response : xarray.Dataset or xarray.DataArray, optional
        A recording of this movie with ``spike_count``, or a ``rate`` (time, cell); cells are
        matched by name. The circuit's own rates if left out.
    frames : array_like of int, optional
        Movie frames whose responses count, such as those held out; all if left out.
    every : int, optional
        The field of every how-manyth of these frames enters the mean; if left out as few as
        leave no more than 4000.
    window : int, optional
        Pixels on each side of the square around the peak of the model's mean field whose values
        are scored; all pixels if left out. Far from the field an average is noise only.
    blocks : int, default 20
        Runs of time, each left out once for the intervals; at least 5.
    level : float, default 0.95
        Coverage of the intervals.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        ``field`` and ``average`` (cell, lag, y, x), Hz per unit contrast, the model's mean field
        and the average in the same unit. Over cells, each but the last with ``_low`` and
        ``_high``: ``correlation`` of the two over lags and pixels; ``spatial_correlation`` and
        ``temporal_correlation`` of map and time course of the field's separable form with those
        of the average (see Notes), NaN where there is one pixel or lag; ``slope`` of the average
        against the field; ``reliability``, the correlation that two such averages would have;
        ``corrected``, the correlation over its root, NaN where the interval of the reliability
        reaches 0; and ``chi2``, the mean square of their difference in standard errors, 1 where
        they differ by sampling alone. It is given for the circuit's own rates only, with
        ``every`` frame.

    Raises
    ------
    InputError
        If movie and response do not fit, no cell has the name of a recorded one, or a number is
        out of range.

    Notes
    -----
    For Gaussian white noise of variance ``s^2`` and any differentiable rate
    ``E[dr/dx_l] = E[r x_l] / s^2`` (Stein 1981), so ``average = sum_t (r_t - r) x_{t+l} / (T
    s^2)``. For other white noise it holds to second order, and for correlated movies not at all:
    there the average is blurred by the movie. ``chi2`` is the mean over lags and pixels of the
    squared t value of ``average - field`` over blocks, times ``(B - 3) / (B - 1)``.

    With ``field ~ temporal spatial^T``, the map of the average is ``sum_l temporal_l average_l``
    and its time course ``sum_p spatial_p average_p``: its own separable form would be that of
    the noise where there are few spikes. Reliability is ``S / |A|^2`` for the average ``A = sum_b
    w_b A_b`` over blocks b, less its mean over lags and pixels, with ``S = (|A|^2 - sum_b w_b^2
    |A_b|^2) / (1 - sum_b w_b^2)``, the power that blocks share.

    Intervals are ``score -+ t_(B-1) se`` with the jackknife's ``se^2 = (B - 1) / B sum_b (score_b
    - mean)^2`` over scores without block b, all but ``slope`` and ``corrected`` kept within -1
    and 1. Blocks drawn with replacement would not do: they make averages noisier than the one
    that is judged, and lower its correlation.

    References
    ----------
    Stein, Annals of Statistics 9, 1135 (1981). Bussgang, MIT RLE Report 216 (1952). Chichilnisky,
    Network: Computation in Neural Systems 12, 199 (2001).
    """
    problems = Problems()
    problems.require(blocks >= 5, f"blocks: expected at least 5, got {blocks}")
    problems.require(every is None or every >= 1, f"every: expected at least 1, got {every}")
    problems.require(
        window is None or window >= 1, f"window: expected at least 1 pixel, got {window}"
    )
    problems.require(0 < level < 1, f"level: expected between 0 and 1, got {level}")
    problems.raise_as("compare_with_average")
    own = predict(circuit, movie, device=device)
    names = _common(own, own if response is None else response)
    past = {"history": circuit.history or 1, "latency": circuit.latency or 0}
    given = own if response is None else response.sel(cell=names)
    responses = triggered_responses(movie, given, **past, frames=frames)
    used = np.flatnonzero(responses.known.any(axis=1))
    if used.size < blocks * 2:
        raise InputError(f"frames: {used.size} with a response are too few for {blocks} blocks")
    step = -(-used.size // _FIELDS) if every is None else every
    label = np.arange(used.size) * blocks // used.size
    shown = latent_blocks(
        circuit, movie, cells=names, frames=used[::step], device=device, progress=progress
    )
    fields = mean_of_blocks(shown, membership(label[::step]))
    averages = _averages(movie, responses, used, label, **past)
    pairs = _Pairs(
        fields.transpose("cell", "group", ...).values.astype(np.float64),
        averages,
        np.bincount(label, minlength=blocks).astype(np.float64),
        fields.isel(group=0, drop=True),
    )
    exact = response is None and step == 1
    return _dataset(pairs, pairs.near(window), level, exact)


@dataclass(frozen=True)
class _Pairs:
    """Fields and averages (cell, block, lag, y, x) of the same blocks, and their frames."""

    fields: Array
    averages: Array
    frames: Array
    like: xr.DataArray

    def mean(self, values: Array, weights: Array) -> Array:
        """Return the mean over blocks (cell, lag, y, x) with weights (block,)."""
        share = weights * self.frames
        return np.asarray(np.tensordot(share / share.sum(), values, axes=([0], [1])))

    def scores(self, weights: Array) -> dict[str, Array]:
        """Return every score of all cells for blocks counted so often."""
        field, average = (self.mean(values, weights) for values in (self.fields, self.averages))
        flat = field.reshape(len(field), -1), average.reshape(len(average), -1)
        spatial, temporal = (part.numpy() for part in separate(torch.from_numpy(field))[:2])
        maps = spatial, np.einsum("clyx,cl->cyx", average, temporal)
        courses = temporal, np.einsum("clyx,cyx->cl", average, spatial)
        reliability = self.reliability(weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = (flat[0] * flat[1]).sum(axis=1) / (flat[0] ** 2).sum(axis=1)
            root = np.sqrt(np.where(reliability > 0, reliability, np.nan))
        return {
            "correlation": _correlation(*flat),
            "spatial_correlation": _correlation(*(one.reshape(len(one), -1) for one in maps)),
            "temporal_correlation": _correlation(*courses),
            "slope": slope,
            "reliability": reliability,
            "corrected": _correlation(*flat) / root,
        }

    def reliability(self, weights: Array) -> Array:
        """Return the correlation that two averages over such blocks would have."""
        share = weights * self.frames / (weights @ self.frames)
        values = self.averages.reshape(*self.averages.shape[:2], -1)
        values = values - values.mean(axis=2, keepdims=True)
        power = (np.einsum("cbv,b->cv", values, share) ** 2).sum(axis=1)
        own = np.einsum("cbv,cbv,b->c", values, values, share**2)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((power - own) / (1 - share @ share) / power)

    def near(self, window: int | None) -> _Pairs:
        """Return the values of a square around the peak of each mean field."""
        if window is None:
            return self
        mean = np.abs(self.mean(self.fields, np.ones(len(self.frames)))).max(axis=1)
        sides = mean.shape[1:]
        parts: list[list[Array]] = []
        for k, peak in enumerate(np.nan_to_num(mean).reshape(len(mean), -1).argmax(axis=1)):
            square = Square.around(np.unravel_index(peak, sides), window, sides)
            cut: Any = (k, ..., *square.pixels)
            parts.append([values[cut] for values in (self.fields, self.averages)])
        fields, averages = (np.stack(values) for values in zip(*parts, strict=True))
        return _Pairs(fields, averages, self.frames, self.like)

    def chi2(self) -> Array:
        """Return the mean squared t value of the difference over blocks, as it should be 1."""
        gap, count = self.averages - self.fields, len(self.frames)
        spread = gap.std(axis=1, ddof=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.sqrt(count) * gap.mean(axis=1) / spread
        square = np.where(spread > 0, t**2, np.nan).reshape(len(t), -1)
        return np.asarray(np.nanmean(square, axis=1) * (count - 3) / (count - 1))


def _averages(
    movie: xr.Dataset,
    responses: TriggeredResponses,
    used: Array,
    label: Array,
    history: int,
    latency: int,
) -> Array:
    """Return response-triggered averages (cell, block, lag, y, x), Hz per unit contrast.

    A cell that was not observed in all frames has its averages over those in which it was.
    """
    contrast = movie["contrast"].values
    shown, weights = torch.from_numpy(contrast), torch.from_numpy(responses.centred)
    seen = responses.known[used].mean(axis=0)
    scale = movie.attrs["frame_rate"] / contrast.var(dtype=np.float64)
    scale = np.expand_dims(scale / np.where(seen > 0, seen, np.nan), (1, 2, 3))
    found = []
    for block in range(label[-1] + 1):
        inside = used[label == block]
        total = stretch_sum(shown, weights, inside[0], inside[-1] + 1, history, latency)
        found.append(total.double().numpy() * scale / inside.size)
    return np.stack(found, axis=1)


def _dataset(pairs: _Pairs, scored: _Pairs, level: float, exact: bool) -> xr.Dataset:
    """Put scores and intervals into one dataset."""
    count = len(pairs.frames)
    whole = np.ones(count)
    scores = scored.scores(whole)
    left_out = [scored.scores(row) for row in whole - np.eye(count)]
    quantile = student.isf((1 - level) / 2, count - 1)
    table: dict[str, Any] = {}
    for name, value in scores.items():
        others = np.stack([score[name] for score in left_out])
        half = quantile * np.sqrt((count - 1) * others.var(axis=0))
        limit = np.inf if name in ("slope", "corrected") else 1.0
        ends = np.clip([value - half, value + half], -limit, limit)
        for end, values in (("", value), ("_low", ends[0]), ("_high", ends[1])):
            table[f"{name}{end}"] = ("cell", values, {"units": "1"})
    sure = table["reliability_low"][1] > 0
    for end in ("", "_low", "_high"):
        table[f"corrected{end}"] = (
            "cell",
            np.where(sure, table[f"corrected{end}"][1], np.nan),
            {"units": "1"},
        )
    nothing = np.full(len(sure), np.nan)
    table["chi2"] = ("cell", scored.chi2() if exact else nothing, {"units": "1"})
    like = pairs.like
    for name, values in (("field", pairs.fields), ("average", pairs.averages)):
        mean = pairs.mean(values, whole).astype(np.float32)
        table[name] = (like.dims, mean, like.attrs)
    attrs = {"kind": "field_agreement", "level": level, "blocks": count}
    return xr.Dataset(table, coords=like.coords, attrs=attrs)


def _common(own: xr.DataArray, response: xr.Dataset | xr.DataArray) -> list[str]:
    """Return the names of cells that circuit and response share."""
    recorded = response["cell"].values.tolist()
    names = [name for name in own["cell"].values.tolist() if name in recorded]
    if not names:
        raise InputError(
            f"response: none of its cells ({', '.join(map(str, recorded[:5]))} ...) has the name "
            f"of one of the circuit's ({', '.join(map(str, own['cell'].values[:5]))} ...)"
        )
    return names


def _correlation(one: Array, other: Array) -> Array:
    """Return the correlation of each row of one table with that of another."""
    rows = [values - values.mean(axis=1, keepdims=True) for values in (one, other)]
    with np.errstate(invalid="ignore", divide="ignore"):
        sizes = np.sqrt((rows[0] ** 2).sum(axis=1) * (rows[1] ** 2).sum(axis=1))
        return np.asarray((rows[0] * rows[1]).sum(axis=1) / sizes)


def draw_field_agreement(
    agreement: xr.Dataset, ax: Axes, *, names: Sequence[str] = _CORRELATIONS
) -> Axes:
    """Draw how well the mean fields of a model agree with the averages, cell by cell.

    Parameters
    ----------
    agreement : xarray.Dataset
        What `compare_with_average` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    names : sequence of str, default the three correlations
        Which scores.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: dots are scores, lines their intervals.
    """
    colours = (COLOURS.ink, COLOURS.on, COLOURS.off, COLOURS.quiet)
    place = np.arange(agreement.sizes["cell"])
    for number, name in enumerate(names):
        value, low, high = (agreement[f"{name}{end}"].values for end in ("", "_low", "_high"))
        shift = 0.22 * (number - (len(names) - 1) / 2)
        errors = np.clip(np.stack([value - low, high - value]), 0, None)
        words = {"correlation": "whole field"}.get(name, name.removesuffix("_correlation"))
        ax.errorbar(
            place + shift, value, errors, fmt="o", markersize=3, label=words, color=colours[number]
        )
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    ax.set_xticks(place, agreement["cell"].values, rotation=90)
    ax.set(ylabel="correlation with measured average", ylim=(min(0, ax.get_ylim()[0]), 1.02))
    ax.legend(frameon=False)
    return ax
