"""How often each sample counts in a resample, and medians of values that count so often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.bootstrap import block_labels, draw_blocks
from retinacodec.errors import InputError

__all__ = ["Resamples", "weighted_medians"]

Array = npt.NDArray[Any]

_CHUNK = 2**22


@dataclass(frozen=True)
class Resamples:
    """Resamples of moments in whole blocks, or of images within their classes.

    Parameters
    ----------
    group : ndarray (sample,)
        Block or class of each sample, 0 on.
    whole : bool
        Whether groups are drawn as wholes; else samples are drawn within their group.
    draws : int
        Number of resamples.
    seed : int
        Seed of the resamples; the same seed gives the same ones.
    """

    group: Array
    whole: bool
    draws: int
    seed: int

    @classmethod
    def of(
        cls,
        sample: xr.DataArray,
        labels: npt.ArrayLike | None,
        block_seconds: float,
        draws: int,
        seed: int,
    ) -> Resamples:
        """Choose how the samples of a coordinate (time,) or (image,) are resampled.

        Moments come in blocks of at least `block_seconds`, which never reach over a gap; images
        singly, within their class where `labels` (image,) are given.

        Raises
        ------
        InputError
            If the times do not rise, or labels are not one for each image.
        """
        if sample.dims[0] == "time":
            if labels is not None:
                raise InputError("labels: only images have classes, these are moments of a movie")
            if not block_seconds > 0:
                raise InputError(f"block_seconds: expected above 0 s, got {block_seconds}")
            time = sample.values.astype(np.float64)
            step = float(np.median(np.diff(time))) if time.size > 1 else 1.0
            frames = np.round((time - time[0]) / step).astype(np.int64) if step > 0 else time
            length = max(1, int(np.ceil(block_seconds / step - 1e-6))) if step > 0 else 1
            return cls(block_labels(frames, length), True, draws, seed)
        if labels is None:
            return cls(np.zeros(sample.size, dtype=np.int64), False, draws, seed)
        names = np.asarray(labels)
        if names.shape != sample.shape:
            raise InputError(f"labels: expected {sample.size}, one an image, got {names.shape}")
        return cls(np.unique(names, return_inverse=True)[1], False, draws, seed)

    @property
    def groups(self) -> int:
        """Number of blocks or classes."""
        return int(self.group.max()) + 1

    @property
    def possible(self) -> bool:
        """Whether resamples can differ: from two blocks, or two samples of a class, on."""
        if self.whole:
            return self.groups > 1
        return bool(np.bincount(self.group).max() > 1)

    def weights(self) -> Iterator[Array]:
        """Yield how often each sample counts (draw, sample), some draws at a time."""
        step = max(1, _CHUNK // self.group.size)
        for number, start in enumerate(range(0, self.draws, step)):
            draws = min(step, self.draws - start)
            yield self._whole(draws, number) if self.whole else self._within(draws, number)

    def _whole(self, draws: int, number: int) -> Array:
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return draw_blocks(self.groups, draws, seed)[:, self.group]

    def _within(self, draws: int, number: int) -> Array:
        generator = np.random.default_rng([self.seed, number])
        weights = np.zeros((draws, self.group.size), dtype=np.int64)
        for group in range(self.groups):
            members = np.flatnonzero(self.group == group)
            chance = np.full(members.size, 1 / members.size)
            weights[:, members] = generator.multinomial(members.size, chance, size=draws)
        return weights


def weighted_medians(values: npt.ArrayLike, weights: npt.ArrayLike) -> Array:
    """Return the median of values that count several times.

    Parameters
    ----------
    values : array_like (sample,)
        Values; NaN does not count.
    weights : array_like of int (draw, sample)
        How often each counts.

    Returns
    -------
    ndarray (draw,)
        What ``np.median`` says of the repeated values; NaN where nothing counts.

    Examples
    --------
    >>> weighted_medians([1.0, 2.0, np.nan, 9.0], [[1, 1, 5, 0], [0, 1, 0, 2]]).tolist()
    [1.5, 9.0]
    """
    data = np.asarray(values, dtype=np.float64)
    order = np.argsort(data, kind="stable")[: np.count_nonzero(~np.isnan(data))]
    if not order.size:
        return np.full(len(np.asarray(weights)), np.nan)
    rising = data[order]
    reached = np.cumsum(np.asarray(weights)[:, order], axis=1)
    total = reached[:, -1:]
    lower = (2 * reached >= total).argmax(axis=1)
    upper = np.minimum((2 * reached > total).argmax(axis=1), len(rising) - 1)
    return np.where(total[:, 0] > 0, (rising[lower] + rising[upper]) / 2, np.nan)
