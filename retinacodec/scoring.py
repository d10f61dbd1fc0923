"""Predictions and a recording on the same frames, and their scores for every resample of time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.bootstrap import block_labels, draw_blocks
from retinacodec.ceilings import RepeatSums
from retinacodec.errors import InputError, Problems
from retinacodec.metrics import UndefinedMetric, log_likelihood, positive_or_nan

__all__ = ["Predictions", "Score"]

Array = npt.NDArray[Any]

_NO_SIGNAL = "repeats share no signal above their noise"
_REASONS = {
    "r": "the counts or the prediction do not vary",
    "bits_per_spike": "no spike",
    "explained_deviance": "the counts do not vary",
    "cc_norm": f"{_NO_SIGNAL}, or the prediction does not vary",
    "feve": "noise leaves no explainable variance",
    "cc_max": _NO_SIGNAL,
    "oracle": "no repeat varies",
}


@dataclass(frozen=True)
class Score:
    """A metric as it is, for every resample, and why it has no value.

    Parameters
    ----------
    value : ndarray ([model,] cell)
        The metric over all frames.
    samples : ndarray (draw, [model,] cell)
        The metric of every resample.
    reason : str
        Why a value would be NaN.
    """

    value: Array
    samples: Array
    reason: str


@dataclass(frozen=True)
class Predictions:
    """Counts and the predictions of models on the same frames and cells.

    Parameters
    ----------
    models, cells : tuple of str
        Names.
    frames : ndarray (time,)
        Frames of the recording, rising.
    frame_rate : float
        Hz.
    counts : ndarray (time, cell)
        Spikes in each frame, NaN where not observed, or not predicted by every model that has
        any prediction for the cell: all models are scored on the same frames.
    expected : ndarray (time, model, cell)
        Predicted spikes in each frame.
    repeats : ndarray (repeat, time, cell) or None
        Spikes in each repeat, where there are two or more.
    """

    models: tuple[str, ...]
    cells: tuple[str, ...]
    frames: npt.NDArray[np.intp]
    frame_rate: float
    counts: Array
    expected: Array
    repeats: Array | None

    @classmethod
    def of(
        cls,
        rates: Mapping[str, xr.DataArray],
        recording: xr.Dataset,
        frames: npt.ArrayLike | None,
    ) -> Predictions:
        """Put models and recording on the frames that all models predict.

        Parameters
        ----------
        rates : mapping of str to xarray.DataArray (time, cell)
            Predicted rate of each model, Hz. Cells are matched by name where the names agree,
            else by position.
        recording : xarray.Dataset
            Recording with ``spike_count`` and perhaps ``repeats``.
        frames : array_like of int, optional
            Frames to score; all that every model predicts if left out.

        Returns
        -------
        Predictions
            All on one grid.

        Raises
        ------
        InputError
            If no frame is predicted by all models, the cells do not match, a rate is negative or
            infinite, or frames are no frame numbers of the recording.
        """
        cells = tuple(str(cell) for cell in recording["cell"].values)
        _check_rates(rates, cells)
        frame_rate = float(recording.attrs["frame_rate"])
        places = {name: _frame_numbers(rate, recording, name) for name, rate in rates.items()}
        common = _asked(frames, recording.sizes["time"])
        for place in places.values():
            common = np.intersect1d(common, place[place >= 0])
        if common.size < 2:
            raise InputError(
                "compare_models: fewer than 2 frames are predicted by every model; check that "
                "rates and recording have the same times"
            )
        each = [
            _in_order(name, rate, cells)[_rows(places[name], common)] / frame_rate
            for name, rate in rates.items()
        ]
        expected = np.stack(each, axis=1).astype(np.float64)
        known = np.isfinite(expected)
        shared = (known | ~known.any(axis=0)).all(axis=1)  # a model without any counts for none
        counts = recording["spike_count"].transpose("time", "cell").values[common]
        repeats = None
        if "repeats" in recording and recording.sizes["repeat"] > 1:
            trials = recording["repeats"].transpose("repeat", "time", "cell").values[:, common]
            repeats = np.where(shared, trials, np.nan)
        return cls(
            models=tuple(rates),
            cells=cells,
            frames=common,
            frame_rate=frame_rate,
            counts=np.where(shared, counts, np.nan).astype(np.float64),
            expected=expected,
            repeats=repeats,
        )

    def scores(self, *, block_seconds: float, draws: int, seed: int) -> dict[str, Score]:
        """Return every metric with its resamples.

        Parameters
        ----------
        block_seconds : float
            Least length of a block of frames, s.
        draws : int
            Number of resamples; there are none where there is only one block.
        seed : int
            Seed of the resamples.

        Returns
        -------
        dict of str to Score
            ``r``, ``bits_per_spike``, ``explained_deviance`` and, with repeats, ``cc_norm`` and
            ``feve``, all (model, cell); with repeats ``cc_max`` and ``oracle`` (cell).

        Notes
        -----
        Every metric is a function of sums over frames. The sums of each block are computed once;
        a resample is their weighted sum, the same blocks for all models and cells.
        """
        labels = self.blocks(block_seconds)
        starts = np.flatnonzero(np.diff(labels, prepend=-1))
        chosen = draw_blocks(len(starts), draws if len(starts) > 1 else 0, seed)

        def sums(terms: Array) -> Array:
            blocks = np.add.reduceat(terms, starts, axis=0)
            endless = np.isneginf(blocks)  # 0 times infinity is nothing: the block was not drawn
            drawn = np.tensordot(chosen, np.where(endless, 0.0, blocks), 1)
            if endless.any():
                drawn[np.tensordot(chosen, endless.astype(float), 1) > 0] = -np.inf
            return np.concatenate([blocks.sum(axis=0)[None], drawn])

        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore", UndefinedMetric)
            found = _response_scores(sums(_response_terms(self)))
            if self.repeats is not None:
                found |= _repeat_scores(self.repeats, self.expected, sums)
        return {
            name: Score(values[0], values[1:], _REASONS[name]) for name, values in found.items()
        }

    def blocks(self, block_seconds: float) -> npt.NDArray[np.intp]:
        """Return the block of each frame, for blocks of at least so many seconds."""
        return block_labels(self.frames, int(np.ceil(block_seconds * self.frame_rate)))


def _check_rates(rates: Mapping[str, xr.DataArray], cells: tuple[str, ...]) -> None:
    """Raise one error that names all that is wrong with predictions."""
    problems = Problems()
    problems.require(len(rates) > 0, "no model")
    for name, rate in rates.items():
        if not problems.require(rate.dims == ("time", "cell"), f"{name}: expected (time, cell)"):
            continue
        for dim in rate.dims:
            problems.require(dim in rate.coords, f"{name}: no coordinate {dim!r}")
        have = rate.sizes["cell"]
        problems.require(
            have == len(cells), f"{name}: {have} cells, the recording has {len(cells)}"
        )
        lowest, highest = _ends(rate.values)
        problems.require(not lowest < 0, f"{name}: a rate is below zero ({lowest:g} Hz)")
        problems.require(not np.isposinf(highest), f"{name}: a rate is infinite")
        if "time" in rate.coords:
            rising = bool((np.diff(rate["time"].values) > 0).all())
            problems.require(rising, f"{name}: times must rise from frame to frame")
    problems.raise_as("compare_models")


def _ends(values: Array) -> tuple[float, float]:
    """Return the least and the largest value, without NaN."""
    known = values[~np.isnan(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def _asked(frames: npt.ArrayLike | None, count: int) -> npt.NDArray[np.intp]:
    """Return the frames to score, rising; a mask or a number outside the recording is refused."""
    if frames is None:
        return np.arange(count)
    given = np.asarray(frames)
    whole = given.ndim == 1 and (given.size == 0 or np.issubdtype(given.dtype, np.integer))
    if not whole or (given.size and (given.min() < 0 or given.max() >= count)):
        raise InputError(
            f"frames: expected frame numbers from 0 to {count - 1}, got {given.dtype} of shape "
            f"{given.shape}; of a mask take np.flatnonzero"
        )
    return np.unique(given).astype(np.intp)


def _frame_numbers(rate: xr.DataArray, recording: xr.Dataset, name: str) -> npt.NDArray[np.intp]:
    """Return the frame of the recording at each time of a prediction, -1 where there is none."""
    shown, asked = recording["time"].values, rate["time"].values
    after = np.clip(np.searchsorted(shown, asked), 1, max(1, len(shown) - 1))
    after = np.minimum(after, len(shown) - 1)
    nearest = after - (asked - shown[after - 1] < shown[after] - asked)
    near = np.abs(shown[nearest] - asked) < 0.25 / float(recording.attrs["frame_rate"])
    found = np.where(near, nearest, -1)
    if (np.diff(found[near]) <= 0).any():
        raise InputError(f"{name}: two times lie on one frame of the recording")
    return found


def _rows(places: npt.NDArray[np.intp], frames: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the row of a prediction that belongs to each frame; every frame has one."""
    rows = np.flatnonzero(places >= 0)
    return rows[np.searchsorted(places[rows], frames)]


def _in_order(name: str, rate: xr.DataArray, cells: tuple[str, ...]) -> Array:
    """Return a prediction (time, cell) in the recording's order of cells."""
    names = [str(cell) for cell in rate["cell"].values]
    if names == list(cells):
        return np.asarray(rate.values)
    if set(names) == set(cells):
        return np.asarray(rate.values[:, [names.index(cell) for cell in cells]])
    numbered = names == [str(number) for number in range(len(names))]
    same = sorted(set(names) & set(cells))
    if same and not numbered:
        raise InputError(
            f"{name}: {len(same)} of {len(cells)} cells have names of the recording "
            f"({', '.join(same[:3])}), the others not; rename them, so that all agree, or number "
            "them 0, 1, ... to match by position"
        )
    return np.asarray(rate.values)


def _response_terms(data: Predictions) -> Array:
    """Return what each frame adds to the sums of `_response_scores`."""
    spikes = np.broadcast_to(data.counts[:, None], data.expected.shape)
    seen = np.isfinite(spikes) & np.isfinite(data.expected)
    k, p = np.where(seen, spikes, 0.0), np.where(seen, data.expected, 0.0)
    likelihood, best = log_likelihood(k, p), log_likelihood(k, k)
    return np.stack([seen, k, p, k * k, p * p, k * p, likelihood, best], axis=-1)


def _response_scores(sums: Array) -> dict[str, Array]:
    """Return metrics of one trial from sums (..., term) over frames."""
    n, k, p, kk, pp, kp, likelihood, best = np.moveaxis(sums, -1, 0)
    spread = [
        positive_or_nan(squares - total**2 / n, "constant", 1e-12 * squares)
        for squares, total in ((kk, k), (pp, p))
    ]
    spikes = positive_or_nan(k, "no spike")
    flat = spikes * np.log(spikes / n) - spikes
    return {
        "r": (kp - k * p / n) / np.sqrt(spread[0] * spread[1]),
        "bits_per_spike": (likelihood - flat) / (spikes * np.log(2)),
        "explained_deviance": 1 - (best - likelihood) / positive_or_nan(best - flat, "", 1e-9),
    }


def _repeat_scores(
    repeats: Array, expected: Array, sums: Callable[[Array], Array]
) -> dict[str, Array]:
    """Return metrics against repeats: (draw, model, cell), and the ceilings (draw, cell)."""
    alone = RepeatSums.terms(repeats).map(sums)
    each = [
        RepeatSums.terms(repeats, expected[:, model]).map(sums)
        for model in range(expected.shape[1])
    ]
    return {
        "cc_norm": np.stack([part.cc_norm() for part in each], axis=1),
        "feve": np.stack([part.feve() for part in each], axis=1),
        "cc_max": alone.cc_max(),
        "oracle": alone.oracle(),
    }
