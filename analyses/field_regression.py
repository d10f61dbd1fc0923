"""How well fields are predicted on frames held out, from the inner products of fields alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.analyses.field_frames import Fields, fields_of_cell
from retinacodec.errors import InputError

__all__ = [
    "Predictor",
    "TimeFolds",
    "explained_share",
    "field_gram",
    "group_errors",
    "ridge_errors",
    "span",
]

Array = npt.NDArray[Any]

_PENALTIES = 10.0 ** np.arange(-1, 6)
_SLIGHT = 0.01  # penalty of free columns, in fitted frames: keeps collinear ones in bounds
_RANK = 1e-10  # share of the largest power below which a direction of the span is rounding


def field_gram(fields: Fields, cell: int, kept: Array) -> Array:
    """Return the inner products of one cell's fields at some frames.

    Parameters
    ----------
    fields : LatentFields or PackedFields
        Fields.
    cell : int
        Position of the cell.
    kept : ndarray of int (frame,)
        Positions of the frames.

    Returns
    -------
    ndarray (frame, frame) float64
        Inner products over lag, y and x, (Hz per unit contrast) squared.
    """
    gram = fields_of_cell(fields, cell, kept).gram().values[0]
    return np.asarray(gram, dtype=np.float64)


def span(gram: Array, *, shape: bool = False) -> Array:
    """Return fields as points in the space that they span, of which every distance is kept.

    Parameters
    ----------
    gram : ndarray (frame, frame)
        Inner products of the fields.
    shape : bool, default False
        Of the fields at norm 1, which know of the shape alone.

    Returns
    -------
    ndarray (frame, direction)
        Points whose inner products are those given: ``U sqrt(S)`` of the matrix ``U S U^T``. Sums
        of squared errors of any linear prediction are the same as for the fields themselves.
    """
    if shape:
        norm = np.sqrt(np.diagonal(gram))
        gram = gram / np.where(norm > 0, norm, np.inf)[:, None] / np.where(norm > 0, norm, np.inf)
    powers, vectors = np.linalg.eigh(gram)
    real = powers > _RANK * max(powers[-1], 0) if powers.size else powers > 0
    return np.asarray(vectors[:, real] * np.sqrt(powers[real]))


@dataclass(frozen=True)
class TimeFolds:
    """Which frames predict which: blocks of the movie in turn, a gap around each left out.

    Attributes
    ----------
    fitted, held : tuple of ndarray of bool (frame,)
        For each fold the frames that are fitted and those that are predicted.
    """

    fitted: tuple[npt.NDArray[np.bool_], ...]
    held: tuple[npt.NDArray[np.bool_], ...]

    @classmethod
    def of(cls, frames: Array, gap: int, folds: int = 5, most_blocks: int = 20) -> TimeFolds:
        """Divide frames into folds of contiguous blocks of the movie.

        Parameters
        ----------
        frames : ndarray of int (frame,)
            Movie frames, rising.
        gap : int
            A frame is not fitted if it is less than this many movie frames from one that is
            predicted: the history, so that no two windows share stimulus.
        folds : int, default 5
            Number of folds.
        most_blocks : int, default 20
            Most blocks, dealt to the folds in turn; fewer where they would be shorter than four
            gaps, but one a fold at least.

        Returns
        -------
        TimeFolds
            The folds, without those that would have nothing to fit or to predict.

        Raises
        ------
        InputError
            If fewer than two folds are left, or frames do not rise.
        """
        if folds < 2 or gap < 1:
            raise InputError(f"folds: expected at least 2, and a gap of 1, got {folds} and {gap}")
        if (np.diff(frames) < 0).any():
            raise InputError("folds: frames must rise; pass fields at frames in their order")
        total = int(frames[-1] - frames[0]) + 1 if frames.size else 0
        blocks = max(folds, min(most_blocks, total // (4 * gap)))
        number = np.arange(frames.size) * blocks // max(frames.size, 1) % folds
        fitted, held = [], []
        for fold in range(folds):
            inside = number == fold
            at = np.searchsorted(frames[inside], frames)
            ends = np.concatenate([[-np.inf], frames[inside], [np.inf]])
            near = np.minimum(frames - ends[at], ends[at + 1] - frames) < gap
            if inside.any() and (~near).any():
                fitted.append(~near)
                held.append(inside)
        if len(held) < 2:
            raise InputError(
                f"folds: {frames.size} frames over {total} of the movie do not hold {folds} blocks "
                f"with gaps of {gap} between them; pass more frames or fewer folds="
            )
        return cls(tuple(fitted), tuple(held))


def group_errors(points: Array, groups: Array, folds: TimeFolds, *, fewest: int = 5) -> Array:
    """Return errors of predicting each field by the mean field of its group.

    Parameters
    ----------
    points : ndarray (frame, direction)
        Fields, from `span`.
    groups : ndarray of int (frame,)
        Group of each frame.
    folds : TimeFolds
        What is fitted and what is predicted.
    fewest : int, default 5
        A group with fewer fitted frames is predicted by the mean of all fitted frames.

    Returns
    -------
    ndarray (2, frame)
        Squared distance of each field from its prediction, and from the mean of the fitted
        frames; NaN for frames that are in no fold.
    """
    errors = np.full((2, len(points)), np.nan)
    for fitted, held in zip(folds.fitted, folds.held, strict=True):
        mean = points[fitted].mean(axis=0)
        count = np.bincount(groups[fitted], minlength=groups.max() + 1)
        member = (groups[fitted] == np.arange(count.size)[:, None]).astype(np.float64)
        means = member @ points[fitted] / np.maximum(count, 1)[:, None]
        means[count < fewest] = mean
        errors[0, held] = _squares(points[held] - means[groups[held]])
        errors[1, held] = _squares(points[held] - mean)
    return errors


def ridge_errors(
    points: Array,
    columns: Array,
    folds: TimeFolds,
    *,
    penalties: npt.ArrayLike = _PENALTIES,
    free: Array | None = None,
) -> Array:
    """Return errors of predicting each field by ridge regression on columns.

    Parameters
    ----------
    points : ndarray (frame, direction)
        Fields, from `span`.
    columns : ndarray (frame, column)
        What they are predicted from.
    folds : TimeFolds
        What is fitted and what is predicted.
    penalties : array_like, default ten to the -1 .. 5
        Penalties to choose from. Where there are several, the one with the least error over the
        other folds is used in each fold, so that the fold predicted has no part in the choice.
    free : ndarray (frame, column), optional
        Further columns, with a slight penalty only: a hundredth of the fitted frames.

    Returns
    -------
    ndarray (2, frame)
        As `group_errors` returns them.

    Notes
    -----
    Columns are centred and scaled by the fitted frames; with ``X`` these columns and ``Y`` the
    fitted fields less their mean, ``B = (X^T X + a I)^-1 X^T Y``, as in ``sklearn``'s ``Ridge``.
    With free columns, X and Y are first what these leave of them.
    """
    none = np.empty((len(points), 0)) if free is None else free
    choices = np.atleast_1d(np.asarray(penalties, dtype=np.float64))
    errors = np.full((2, len(points)), np.nan)
    for number, (fitted, held) in enumerate(zip(folds.fitted, folds.held, strict=True)):
        chosen = choices
        if choices.size > 1:
            total = np.zeros(choices.size)
            for other, inside in enumerate(folds.held):
                if other != number:
                    both = fitted & folds.fitted[other]
                    if both.any():
                        rows = both, inside & fitted
                        total += _ridge(points, columns, none, *rows, choices).sum(axis=1)
            chosen = choices[[int(total.argmin())]]
        errors[0, held] = _ridge(points, columns, none, fitted, held, chosen)[0]
        errors[1, held] = _squares(points[held] - points[fitted].mean(axis=0))
    return errors


def explained_share(errors: Array, weights: Array | None = None) -> Array:
    """Return the share of variance that a prediction explains.

    Parameters
    ----------
    errors : ndarray (2, frame)
        Errors from `ridge_errors` or `group_errors`; frames with NaN do not count.
    weights : ndarray (draw, frame), optional
        How often each frame counts; once if left out.

    Returns
    -------
    ndarray () or (draw,)
        ``1 - sum_t w_t errors_0t / sum_t w_t errors_1t``; NaN where nothing counts.
    """
    known = np.isfinite(errors).all(axis=0)
    counts = np.ones((1, errors.shape[1])) if weights is None else weights
    left, whole = (counts[:, known] @ row for row in errors[:, known])
    shares = np.where(whole > 0, 1 - left / np.where(whole > 0, whole, 1), np.nan)
    return np.asarray(shares[0] if weights is None else shares)


@dataclass(frozen=True)
class Predictor:
    """What fields are predicted from, and how.

    Parameters
    ----------
    moved : ndarray (frame[, column])
        Groups or columns that move along time in the null.
    errors : callable
        `group_errors` or `ridge_errors`.
    fixed : ndarray (frame, column), optional
        Further free columns, which stay where they are.
    """

    moved: Array
    errors: Callable[..., Array]
    fixed: Array | None = None

    def shares(self, points: list[Array], folds: TimeFolds, steps: Array) -> tuple[Array, Array]:
        """Return the errors of the data, and the shares explained by shifted predictors.

        Parameters
        ----------
        points : list of ndarray (frame, direction)
            Fields in several forms, from `span`.
        folds : TimeFolds
            What is fitted and what is predicted.
        steps : ndarray of int (shift,)
            By how many of the frames the predictor is moved in the null.

        Returns
        -------
        errors : ndarray (form, 2, frame)
            Of the predictor where it is.
        null : ndarray (shift, form)
            Explained shares.
        """
        value = np.stack([self._errors(one, folds, 0) for one in points])
        null = [
            [explained_share(self._errors(one, folds, int(step))) for one in points]
            for step in steps
        ]
        return value, np.array(null)

    def _errors(self, points: Array, folds: TimeFolds, step: int) -> Array:
        table = np.roll(self.moved, step, axis=0)
        if self.fixed is None:
            return self.errors(points, table, folds)
        return self.errors(points, table, folds, free=self.fixed)


def _ridge(
    points: Array, columns: Array, free: Array, fitted: Array, held: Array, penalties: Array
) -> Array:
    """Return squared errors (penalty, held frame)."""
    spread, centre = columns[fitted].std(axis=0), columns[fitted].mean(axis=0)
    scale = np.where(spread > 1e-12 * np.abs(centre), spread, np.inf)
    wanted, truth = _left(points, free, fitted, held)
    inputs, seen = (part / scale for part in _left(columns, free, fitted, held))
    powers, vectors = np.linalg.eigh(inputs.T @ inputs)
    powers, seen = np.maximum(powers, 0), seen @ vectors
    turned = (inputs @ vectors).T @ wanted
    along, gram, whole = truth @ turned.T, turned @ turned.T, _squares(truth)
    parts = [seen / (powers + penalty) for penalty in penalties]
    return np.stack([whole - _products(part, 2 * along - part @ gram) for part in parts])


def _left(values: Array, free: Array, fitted: Array, held: Array) -> tuple[Array, Array]:
    """Return what the mean and free columns leave of the fitted and of the held values."""
    mean = values[fitted].mean(axis=0)
    rest = values[fitted] - mean, values[held] - mean
    if not free.shape[1]:
        return rest
    centre = free[fitted].mean(axis=0)
    inside, outside = free[fitted] - centre, free[held] - centre
    spread = inside.std(axis=0)
    scale = np.where(spread > 1e-12 * np.abs(centre), spread, np.inf)
    inside, outside = inside / scale, outside / scale
    slight = _SLIGHT * len(inside) * np.eye(free.shape[1])
    slopes = np.linalg.solve(inside.T @ inside + slight, inside.T @ rest[0])
    return rest[0] - inside @ slopes, rest[1] - outside @ slopes


def _products(one: Array, other: Array) -> Array:
    return np.einsum("ij,ij->i", one, other)


def _squares(values: Array) -> Array:
    return _products(values, values)
