"""Fields of frames with the same modes against fields of frames with different ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_frames import Fields, fields_of_cell, frame_weights
from retinacodec.bootstrap import percentiles
from retinacodec.errors import Problems
from retinacodec.nulls import p_value

__all__ = ["FieldQuestion", "compare_fields", "field_cosines", "over_cells", "summarise"]

Array = npt.NDArray[Any]

_FEWEST = 20  # frames of a cell below which nothing is claimed


def compare_fields(
    fields: Fields | xr.Dataset,
    mode_set: npt.ArrayLike,
    *,
    history: int,
    frame_rate: float,
    minimum_rate: float = 1.0,
    rate_bins: int = 5,
    block_seconds: float = 1.0,
    null_shifts: int = 200,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Compare the fields of frames with the same active modes and with different ones.

    Parameters
    ----------
    fields : LatentFields, PackedFields or xarray.Dataset
        Fields at many frames: whole fields, or what `dynamic_fields` returns, of which the
        spatial maps are compared.
    mode_set : array_like (time,) of str
        Set of active modes of each of these frames, ``""`` where none is active; see
        `mode_sets`.
    history : int
        Frames of a window. Only pairs at least that far apart are compared, because windows
        that overlap have similar fields for that reason alone.
    frame_rate : float
        Hz.
    minimum_rate : float, default 1.0
        Only frames in which the cell's rate is above this enter, Hz.
    rate_bins : int, default 5
        Frames are compared within this many equally filled bins of the cell's rate.
    block_seconds : float, default 1.0
        Length of the blocks of time that are resampled, s; at least 1.
    null_shifts : int, default 200
        Number of shifts of the mode sets against the fields.
    draws : int, default 1000
        Number of resamples for the interval.
    level : float, default 0.95
        Coverage of the interval.
    seed : int, default 0
        Seed of shifts and resamples.

    Returns
    -------
    xarray.Dataset
        Over cells: ``same`` and ``different``, mean cosines of pairs with the same and with
        different sets, at equal rate; ``difference`` with ``difference_low`` and
        ``difference_high``; ``effect``, the difference in standard deviations of the cosines;
        ``null`` (shift, cell), differences of shifted sets; ``p_value``, share of the null at
        least as large; ``pairs`` (cell), pairs with the same set; ``reason`` (cell), why values
        are NaN. ``pooled_difference`` and its ends, ``pooled_p_value`` are the same for the mean
        over cells.

    Raises
    ------
    InputError
        If sets and fields differ in length or a number is out of range.

    Notes
    -----
    ``difference = sum_b n_b (same_b - different_b) / sum_b n_b`` over rate bins b with ``n_b``
    pairs of the same set; frames without an active mode are left out. The null moves the sets
    of a cell's frames around in a circle, by a tenth of the frames at least, which keeps how
    often and for how long sets occur; ``p = (1 + #{null >= difference}) / (1 + shifts)``. The
    interval resamples blocks of time, a pair counting with the product of its frames' counts;
    the pooled one resamples the cells as well.
    """
    rate = fields["rate"] if isinstance(fields, xr.Dataset) else fields.rate
    question = FieldQuestion.of(
        mode_set,
        rate["frame"].values,
        history=history,
        frame_rate=frame_rate,
        minimum_rate=minimum_rate,
        rate_bins=rate_bins,
        block_seconds=block_seconds,
        null_shifts=null_shifts,
        draws=draws,
        seed=seed,
    )
    return summarise(question.answer(fields), rate["cell"], level, seed)


@dataclass(frozen=True)
class FieldQuestion:
    """What is asked of the fields of every cell, whoever computes them.

    Parameters
    ----------
    numbers : ndarray (time,)
        Number of the set of active modes, -1 for none.
    frames : ndarray (time,)
        Movie frames.
    weights : ndarray (draw, time)
        How often each resample of blocks holds each frame.
    shifts : ndarray (shift,)
        Share of the frames that the sets are moved by.
    history, minimum_rate, rate_bins
        As in `compare_fields`.
    """

    numbers: Array
    frames: Array
    weights: Array
    shifts: Array
    history: int
    minimum_rate: float
    rate_bins: int

    @classmethod
    def of(
        cls,
        mode_set: npt.ArrayLike,
        frames: Array,
        *,
        history: int,
        frame_rate: float,
        minimum_rate: float,
        rate_bins: int,
        block_seconds: float,
        null_shifts: int,
        draws: int,
        seed: int,
    ) -> FieldQuestion:
        """Check what was asked for."""
        labels = np.asarray(mode_set)
        problems = Problems()
        problems.require(
            labels.shape == frames.shape,
            f"mode_set: expected {frames.size} sets, one a frame, got shape {labels.shape}",
        )
        for name, value in (("history", history), ("rate_bins", rate_bins)):
            problems.require(value >= 1, f"{name}: expected at least 1, got {value}")
        problems.require(block_seconds >= 1, f"block_seconds: at least 1, got {block_seconds}")
        problems.raise_as("field_similarity")
        length = max(int(np.ceil(block_seconds * frame_rate)), history)
        numbers = np.unique(labels, return_inverse=True)[1]
        return cls(
            numbers=np.where(labels == "", -1, numbers),
            frames=frames,
            weights=frame_weights(frames, length, draws, seed),
            shifts=np.random.default_rng([seed, 1]).uniform(0.1, 0.9, size=null_shifts),
            history=history,
            minimum_rate=minimum_rate,
            rate_bins=rate_bins,
        )

    def answer(self, fields: Fields | xr.Dataset) -> list[dict[str, Any]]:
        """Return the values of every cell of the fields."""
        rate = fields["rate"] if isinstance(fields, xr.Dataset) else fields.rate
        cells = []
        for cell in range(rate.sizes["cell"]):
            rates = rate.isel(cell=cell).values
            kept = np.flatnonzero((rates > self.minimum_rate) & (self.numbers >= 0))
            pairs = _Pairs.of(
                field_cosines(fields, cell, kept),
                self.frames[kept],
                rates[kept],
                self.history,
                self.rate_bins,
            )
            cells.append(_one_cell(pairs, self.numbers[kept], self.weights[:, kept], self.shifts))
        return cells


@dataclass(frozen=True)
class _Pairs:
    """Cosines of the pairs of frames that may be compared, one square for each bin of rate."""

    members: tuple[Array, ...]
    cosines: tuple[Array, ...]
    allowed: tuple[Array, ...]

    @classmethod
    def of(cls, cosine: Array, frames: Array, rates: Array, history: int, rate_bins: int) -> _Pairs:
        """Sort frames by rate into equally filled bins and keep the pairs that are far apart."""
        order = np.argsort(rates, kind="stable")
        members = tuple(np.sort(part) for part in np.array_split(order, rate_bins) if part.size)
        cosines, allowed = [], []
        for part in members:
            square = cosine[np.ix_(part, part)]
            far = np.abs(frames[part][:, None] - frames[part]) >= history
            known = far & np.isfinite(square)
            cosines.append(np.where(known, square, 0.0))
            allowed.append(known.astype(np.float64))
        return cls(members, tuple(cosines), tuple(allowed))

    def means(self, numbers: Array, weights: Array) -> Array:
        """Return (same, different, pairs of the same set) for each row of weights (draw, frame)."""
        bins = []
        for part, cosine, allowed in zip(self.members, self.cosines, self.allowed, strict=True):
            equal = (numbers[part][:, None] == numbers[part]).astype(np.float64)
            own = weights[:, part].astype(np.float64)
            squares = (cosine * equal, allowed * equal, cosine, allowed)
            bins.append(np.stack([np.einsum("df,df->d", own @ square, own) for square in squares]))
        return _over_bins(np.stack(bins))

    def shifted(self, numbers: Array) -> Array:
        """Return (same, different, pairs of the same set) for each row of sets (shift, frame)."""
        bins = []
        for part, cosine, allowed in zip(self.members, self.cosines, self.allowed, strict=True):
            own = numbers[:, part]
            equal = (own[:, :, None] == own[:, None]).reshape(len(own), -1).astype(np.float32)
            squares = np.stack([cosine.ravel(), allowed.ravel()]).astype(np.float32)
            total = np.full((2, len(own)), [[cosine.sum()], [allowed.sum()]])
            bins.append(np.concatenate([squares @ equal.T, total]))
        return _over_bins(np.stack(bins))

    def spread(self) -> float:
        """Return the standard deviation of the cosines of all pairs around their bin's mean."""
        squares, count = 0.0, 0.0
        for cosine, allowed in zip(self.cosines, self.allowed, strict=True):
            number = allowed.sum()
            if number > 1:
                squares += (cosine**2).sum() - cosine.sum() ** 2 / number
                count += number
        return float(np.sqrt(squares / count)) if count else float("nan")


def _over_bins(sums: Array) -> Array:
    """Return (same, different, pairs of the same set) from the sums of each bin of rate.

    The sums (bin, 4, draw) are of cosines and number of pairs with the same set, then of all
    pairs; each pair is counted twice. Bins without both kinds of pairs say nothing.
    """
    same, pairs, everything, number = np.moveaxis(sums, 1, 0)
    others = number - pairs
    usable = (pairs > 0) & (others > 0)
    different = (everything - same) / np.where(usable, others, 1)
    count = np.where(usable, pairs, 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            [
                np.where(usable, same, 0).sum(axis=0) / count,
                np.where(usable, pairs * different, 0).sum(axis=0) / count,
                count / 2,
            ]
        )


def field_cosines(fields: Fields | xr.Dataset, cell: int, kept: Array) -> Array:
    """Return the cosines of a cell's fields at some frames.

    Parameters
    ----------
    fields : LatentFields, PackedFields or xarray.Dataset
        Whole fields, or what `dynamic_fields` returns, of which the spatial maps are compared.
    cell : int
        Position of the cell.
    kept : ndarray of int (frame,)
        Positions of the frames.

    Returns
    -------
    ndarray (frame, frame)
        Cosines, NaN where a field is zero.
    """
    if not kept.size:
        return np.zeros((0, 0))
    if not isinstance(fields, xr.Dataset):
        return fields_of_cell(fields, cell, kept).cosines().values[0].astype(np.float64)
    maps = fields["spatial"].isel(cell=cell, time=kept).transpose("time", "y", "x").values
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = flat / np.where(norms > 0, norms, np.nan)
    return np.asarray(unit @ unit.T)


def _one_cell(pairs: _Pairs, numbers: Array, weights: Array, shifts: Array) -> dict[str, Any]:
    """Return a cell's values, its resamples and its null."""
    frames = len(numbers)
    once = np.ones((1, frames))
    same, different, count = pairs.means(numbers, once)[:, 0] if frames else (np.nan, np.nan, 0.0)
    reason = ""
    if frames < _FEWEST:
        reason = f"{frames} frames with a rate and a mode, fewer than {_FEWEST}"
    elif not count > 0:
        reason = "no two frames far apart have the same modes at the same rate"
    if reason:
        nothing = np.full(len(weights), np.nan), np.full(len(shifts), np.nan)
        values = {"same": np.nan, "different": np.nan, "effect": np.nan}
        return {**values, "samples": nothing[0], "null": nothing[1], "pairs": 0, "reason": reason}
    steps = np.clip(np.round(shifts * frames).astype(int), 1, frames - 1)
    null = pairs.shifted(np.stack([np.roll(numbers, step) for step in steps]))
    samples = pairs.means(numbers, weights)
    return {
        "same": same,
        "different": different,
        "effect": (same - different) / pairs.spread(),
        "samples": samples[0] - samples[1],
        "null": null[0] - null[1],
        "pairs": int(count),
        "reason": "",
    }


def summarise(
    cells: list[dict[str, Any]], names: xr.DataArray, level: float, seed: int
) -> xr.Dataset:
    """Put the answers of `FieldQuestion` and their mean over cells into one dataset.

    Parameters
    ----------
    cells : list of dict
        Answers, one a cell.
    names : xarray.DataArray (cell,)
        Names of the cells.
    level : float
        Coverage of the intervals.
    seed : int
        Seed of the resampling of cells.

    Returns
    -------
    xarray.Dataset
        As `compare_fields` returns it.
    """
    columns = {name: np.stack([np.asarray(cell[name]) for cell in cells], -1) for name in cells[0]}
    difference = columns["same"] - columns["different"]
    low, high = percentiles(columns["samples"], level)
    chance = np.full(len(cells), 1 / len(cells))
    drawn = np.random.default_rng([seed, 2]).multinomial(
        len(cells), chance, size=len(columns["samples"])
    )
    pooled, pooled_null = over_cells(difference), over_cells(columns["null"])
    ends = percentiles(over_cells(columns["samples"], drawn), level)
    cosine = {"units": "1", "long_name": "cosine of fields"}
    result = xr.Dataset(
        {
            "same": ("cell", columns["same"], cosine),
            "different": ("cell", columns["different"], cosine),
            "difference": ("cell", difference, cosine),
            "difference_low": ("cell", low, cosine),
            "difference_high": ("cell", high, cosine),
            "effect": ("cell", columns["effect"], {"units": "1"}),
            "null": (("shift", "cell"), columns["null"], cosine),
            "p_value": ("cell", p_value(difference, columns["null"]), {"units": "1"}),
            "pairs": ("cell", columns["pairs"], {"units": "1"}),
            "reason": ("cell", columns["reason"].astype(str)),
            "pooled_difference": ((), pooled, cosine),
            "pooled_difference_low": ((), ends[0], cosine),
            "pooled_difference_high": ((), ends[1], cosine),
            "pooled_null": ("shift", pooled_null, cosine),
            "pooled_p_value": ((), p_value(pooled, pooled_null), {"units": "1"}),
        },
        coords={"cell": names.values},
    )
    return result.assign_attrs(kind="field_similarity", level=level, seed=seed)


def over_cells(values: Array, weights: Array | None = None) -> Array:
    """Return the mean over cells.

    Parameters
    ----------
    values : ndarray (..., cell)
        Values; NaN does not count.
    weights : ndarray (..., cell), optional
        How much each cell counts; alike if left out.

    Returns
    -------
    ndarray (...)
        Weighted means, NaN where no cell counts.
    """
    known = np.isfinite(values) * (1.0 if weights is None else weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((np.nan_to_num(values) * known).sum(-1) / known.sum(-1))
