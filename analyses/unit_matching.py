"""How traces are matched with units of layers: blocks of time, all circular shifts, resamples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from retinacodec.analyses.match_scores import MatchPlan, Scores, Slices, resampled

__all__ = ["LayerUnits", "Selection", "score_pairs", "score_units"]

Array = npt.NDArray[Any]
_SHARE = 1e-6  # of the largest activation, below which a deviation is rounding
_WORKING = 5e5  # correlations held at a time; they stay in the cache


@dataclass(frozen=True)
class Selection:
    """Where the best unit of each row is, and what each channel reaches.

    Parameters
    ----------
    by_channel : ndarray (row, channel)
        Held-out r where the choice is among the positions of a channel.
    mean : ndarray (row, channel, position)
        Mean r of the blocks.
    unit : ndarray (row, block)
        The unit (channel, position in one) that the other blocks chose for each; -1 for none.
    """

    by_channel: Array
    mean: Array
    unit: Array

    def best_unit(self) -> tuple[Array, Array]:
        """Return channel and position (row,) of the largest mean r; -1 for none."""
        flat = self.mean.reshape(len(self.mean), -1)
        known = np.isfinite(flat).any(axis=1)
        best = np.nan_to_num(flat, nan=-9.0).argmax(axis=1)
        channel, place = np.divmod(best, self.mean.shape[2])
        return np.where(known, channel, -1), np.where(known, place, -1)


@dataclass(frozen=True)
class LayerUnits:
    """Activations of a layer, standardised within each block.

    Parameters
    ----------
    parts : tuple of ndarray (unit, moment of the block)
        Mean 0 and deviation 1, float32; 0 for a unit that does not count.
    usable : ndarray of bool (unit,)
        Units that count.
    raw : ndarray (unit, time)
        Activations.
    slices : tuple of slice
        The blocks.
    channels : int
        Number of channels; units are (channel, position) in one.
    """

    parts: tuple[Array, ...]
    usable: npt.NDArray[np.bool_]
    raw: Array
    slices: Slices
    channels: int

    @classmethod
    def of(cls, activations: Array, plan: MatchPlan, slices: Slices) -> LayerUnits:
        """Standardise activations (time, channel, ...)."""
        raw = np.ascontiguousarray(activations.reshape(len(activations), -1).T, dtype=np.float32)
        size = np.abs(raw)
        floor = max(_SHARE * float(size.max(initial=0.0)), plan.floors[1])
        usable = size.mean(axis=1, dtype=np.float64) >= plan.floors[0]
        for part in slices:
            usable &= raw[:, part].std(axis=1, dtype=np.float64) > floor
        parts = tuple(_standardised(raw[:, part], usable) for part in slices)
        return cls(parts, usable, raw, slices, activations.shape[1])

    def correlations(self, rows: Array) -> Array:
        """Return r (block, row, unit); NaN where either does not vary in some block."""
        found = np.empty((len(self.parts), len(rows), len(self.usable)), np.float32)
        varies = _varies(rows, self.slices)
        for k, (part, units) in enumerate(zip(self.slices, self.parts, strict=True)):
            found[k] = _standardised(rows[:, part], varies) @ units.T / units.shape[1]
        found[:, ~varies] = np.nan
        found[..., ~self.usable] = np.nan
        return found


def score_units(rows: Array, units: LayerUnits, plan: MatchPlan) -> tuple[Scores, Selection]:
    """Match complete rows (row, time) with the units of a layer.

    Notes
    -----
    With r_b the correlation on block b of B, the unit for block b maximises
    ``sum_{a != b} r_a / (B - 1)`` and is scored by ``r_b``. Shifted rows are matched by the same
    rule; ``sum_{t in b} u(t) x(t - s)`` is had for all shifts s around the circle at once, as the
    inverse Fourier transform of the product of the transforms of ``u`` within b and ``x``.
    """
    r = units.correlations(rows)
    chosen, scored, place = _choose(r, 2)
    whole = Scores.empty(plan, len(rows))
    whole.chosen[:], whole.scored[:] = chosen, scored
    shape = (*r.shape[:2], units.channels, -1)
    by_channel = _choose(r.reshape(shape), 3)[1].mean(axis=0)
    known = np.isfinite(whole.scored).all(axis=0)
    if known.any():
        which = np.flatnonzero(known)
        _add_null(whole, rows, which, units, plan)
        whole.samples[:, which] = resampled(
            [rows[which, part] for part in units.slices],
            [units.raw[at[which], part] for at, part in zip(place, units.slices, strict=True)],
            plan,
        )
    unit = np.where(known, place, -1).T
    return whole, Selection(by_channel, r.mean(axis=0).reshape(shape[1:]), unit)


def score_pairs(rows: Array, series: Array, slices: Slices, plan: MatchPlan) -> Scores:
    """Score complete rows (row, time) against one series each, without any choice.

    ``chosen`` holds the same correlations as ``scored``.
    """
    whole = Scores.empty(plan, len(rows))
    which = np.flatnonzero(_varies(rows, slices) & _varies(series, slices))
    if not which.size:
        return whole
    x, y = rows[which], series[which]
    moments, steps, every = x.shape[1], plan.steps(x.shape[1]), np.ones(len(which), bool)
    standard = np.stack([_standard_row(row) for row in x])
    spread = np.stack([_moving_deviation(row, slices, steps) for row in standard], axis=1)
    turned = np.conj(scipy.fft.rfft(standard))
    for k, part in enumerate(slices):
        one, other = (_standardised(values[:, part], every) for values in (x, y))
        whole.scored[k, which] = (one * other).mean(axis=1, dtype=np.float64)
        padded = np.zeros((len(which), moments), np.float32)
        padded[:, part] = other / other.shape[1]
        moved = scipy.fft.irfft(scipy.fft.rfft(padded) * turned, moments)[:, steps]
        whole.null_scored[k, which] = moved / spread[k]
    whole.samples[:, which] = resampled(
        [x[:, part] for part in slices], [y[:, part] for part in slices], plan
    )
    whole.chosen[:], whole.null_chosen[:] = whole.scored, whole.null_scored
    return whole


def _choose(r: Array, axis: int) -> tuple[Array, Array, Array]:
    """Choose along the units of r (block, ...): r of the choice, of the score, and the unit."""
    others = (r.sum(axis=0) - r) / (len(r) - 1)
    place = np.expand_dims(np.nan_to_num(others, nan=-9.0).argmax(axis=axis), axis)
    chosen, scored = (np.take_along_axis(values, place, axis) for values in (others, r))
    return chosen.squeeze(axis), scored.squeeze(axis), place.squeeze(axis)


def _add_null(whole: Scores, rows: Array, which: Array, units: LayerUnits, plan: MatchPlan) -> None:
    """Fill in the scores of the shifted rows."""
    moments, steps = rows.shape[1], plan.steps(rows.shape[1])
    wide = steps.size > 1 and bool((np.diff(steps) == 1).all())
    taken: slice | Array = slice(steps[0], steps[-1] + 1) if wide else steps
    standard = np.stack([_standard_row(row) for row in rows[which]])
    spread = np.stack([_moving_deviation(row, units.slices, steps) for row in standard])
    turned = np.conj(scipy.fft.rfft(standard))
    best = np.full((len(which), plan.blocks, steps.size), -9.0, np.float32)
    score = np.zeros_like(best)
    usable = np.flatnonzero(units.usable)
    chunk = max(1, int(_WORKING / (plan.blocks * moments)))
    for start in range(0, usable.size, chunk):
        spectra = _spectra(units, usable[start : start + chunk], moments)
        for k in range(len(which)):
            r = scipy.fft.irfft(spectra * turned[k], moments)[..., taken] / spread[k]
            _keep_best(r, best[k], score[k])
    whole.null_chosen[:, which], whole.null_scored[:, which] = (
        values.swapaxes(0, 1) for values in (best, score)
    )


def _spectra(units: LayerUnits, chosen: Array, moments: int) -> Array:
    """Return transforms (unit, block, frequency) of units within each block, 0 outside it."""
    padded = np.zeros((chosen.size, len(units.parts), moments), np.float32)
    for k, (part, values) in enumerate(zip(units.slices, units.parts, strict=True)):
        padded[:, k, part] = values[chosen] / values.shape[1]
    return np.asarray(scipy.fft.rfft(padded))


def _keep_best(r: Array, best: Array, score: Array) -> None:
    """Take over from r (unit, block, shift) what is better on the other blocks than the best."""
    blocks = r.shape[1]
    others = r[:, ::-1] if blocks == 2 else (r.sum(axis=1, keepdims=True) - r) / (blocks - 1)
    for other, own in zip(others, r, strict=True):
        better = other > best
        np.copyto(best, other, where=better)
        np.copyto(score, own, where=better)


def _moving_deviation(row: Array, slices: Slices, steps: Array) -> Array:
    """Return the deviation (block, shift) of a standardised row within blocks, when shifted."""
    values = row.astype(np.float64)
    sums, squares = (np.concatenate([[0.0], np.cumsum(np.tile(v, 2))]) for v in (values, values**2))
    found = []
    for part in slices:
        length = part.stop - part.start
        start = (part.start - steps) % row.size
        mean, square = ((s[start + length] - s[start]) / length for s in (sums, squares))
        found.append(np.sqrt(np.maximum(square - mean**2, 1e-12)))
    return np.stack(found).astype(np.float32)


def _varies(rows: Array, slices: Slices) -> npt.NDArray[np.bool_]:
    """Return which rows vary in every block by more than rounding."""
    size = 1e-6 * np.abs(rows).max(axis=1, initial=0.0)
    each = [rows[:, part].std(axis=1, dtype=np.float64) > size for part in slices]
    return np.logical_and.reduce(each)


def _standard_row(row: Array) -> Array:
    values = row.astype(np.float64) - row.mean(dtype=np.float64)
    return (values / values.std()).astype(np.float32)


def _standardised(values: Array, usable: npt.NDArray[np.bool_]) -> Array:
    """Return float32 values with mean 0 and deviation 1 along the last axis, 0 if not usable."""
    centred = values - values.mean(axis=-1, keepdims=True, dtype=np.float64)
    deviation = np.where(usable, centred.std(axis=-1), np.inf)
    return (centred / deviation[..., None]).astype(np.float32)
