"""Changes: what an intervention does to the values of a layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retinacodec.errors import InputError

__all__ = [
    "Change",
    "Clamp",
    "Corrupt",
    "Mean",
    "Offset",
    "Resample",
    "Scale",
    "Silence",
    "SimilarityOffset",
    "fade",
    "other_samples",
]


class Change(Protocol):
    """What becomes of the values of a layer; only those of the chosen channels are taken over."""

    def __call__(self, values: Tensor, numbers: Tensor) -> Tensor:
        """Return new values.

        Parameters
        ----------
        values : torch.Tensor (row, channel, ...)
            The values as they are; not to be changed.
        numbers : torch.Tensor (row,)
            Number of the sample of each row, counted from the first that passed.

        Returns
        -------
        torch.Tensor
            New values, of this shape or broadcast to it.
        """


@dataclass(frozen=True)
class Silence:
    """Set the channels to 0.

    Notes
    -----
    ``h_c = 0``. Zero may be a value that a channel never takes, as before a batch norm; compare
    with `Mean` and `Resample`.
    """

    def __call__(self, values: Tensor, numbers: Tensor) -> Tensor:  # noqa: ARG002
        """Return zeros."""
        return torch.zeros_like(values)


@dataclass(frozen=True, eq=False)
class Mean:
    """Hold the channels at their mean over a reference set.

    Parameters
    ----------
    values : array_like (channel,) or (channel, ...)
        Mean of every channel of the layer, or of every channel and position;
        `retinacodec.interventions.mean_over` computes it.

    Notes
    -----
    ``h_{c,p} = <h_{c,p}>`` over the reference set.
    """

    values: npt.ArrayLike = field(repr=False)

    def __call__(self, values: Tensor, numbers: Tensor) -> Tensor:  # noqa: ARG002
        """Return the means."""
        return _by_channel(self.values, values, "mean")


@dataclass(frozen=True, eq=False)
class Resample:
    """Give the channels the values that they have, at the same position, for another sample.

    Parameters
    ----------
    seed : int, default 0
        Seed of who gives to whom.
    donated : torch.Tensor (row, channel, ...), optional
        The values that the rows are given. Left out, rows of one pass give to each other;
        `retinacodec.interventions.predict_under` draws among all samples.

    Notes
    -----
    ``h_{c,p}(i) = h_{c,p}(d(i))``, d(i) the next of i around a random circle of all samples:
    nobody gives to itself, everybody gives once, and the channels of one sample come from one
    other.
    """

    seed: int = 0
    donated: Tensor | None = field(default=None, repr=False, compare=False)

    def __call__(self, values: Tensor, numbers: Tensor) -> Tensor:  # noqa: ARG002
        """Return the values of others."""
        if self.donated is None:
            return values[other_samples(len(values), self.seed)]
        if self.donated.shape != values.shape:
            raise InputError(
                f"resample: values of shape {tuple(self.donated.shape)} for a layer of shape "
                f"{tuple(values.shape)}; draw them from the same layer and rows"
            )
        return self.donated.to(values)


@dataclass(frozen=True, eq=False)
class Scale:
    """Multiply the channels.

    Parameters
    ----------
    factor : float or array_like (channel,)
        Factor, one for all or one for every channel of the layer.
    """

    factor: npt.ArrayLike

    def __call__(self, values: Tensor, numbers: Tensor) -> Tensor:  # noqa: ARG002
        """Return the scaled values."""
        return values * _by_channel(self.factor, values, "scale")


@dataclass(frozen=True, eq=False)
class Clamp:
    """Hold the channels at a value, as an electrode that clamps a cell would.

    Parameters
    ----------
    value : float or array_like (channel,) or (channel, ...)
        Value, in units of the layer: one for all, or for every channel of the layer.
    """

    value: npt.ArrayLike

    def __call__(self, values: Tensor, numbers: Tensor) -> Tensor:  # noqa: ARG002
        """Return the value."""
        return _by_channel(self.value, values, "clamp")


@dataclass(frozen=True, eq=False)
class Offset:
    """Add to the channels, everywhere alike.

    Parameters
    ----------
    value : float or array_like (channel,)
        What is added, in units of the layer; such as a factor times the channel weights of a mode.
    """

    value: npt.ArrayLike

    def __call__(self, values: Tensor, numbers: Tensor) -> Tensor:  # noqa: ARG002
        """Return the shifted values."""
        return values + _by_channel(self.value, values, "offset")


@dataclass(frozen=True, eq=False)
class SimilarityOffset:
    """Add to the channels as much as the layer resembles a pattern.

    Parameters
    ----------
    pattern : array_like (channel,)
        Pattern over every channel of the layer, such as the channel weights of a mode.
    scale : float, default 1
        What is added where the resemblance is complete, in units of the layer.

    Notes
    -----
    ``h_{c,p} += s cos(sum_p h, m)``, a cosine for each sample; 0 where the layer is silent.
    """

    pattern: npt.ArrayLike = field(repr=False)
    scale: float = 1.0

    def __call__(self, values: Tensor, numbers: Tensor) -> Tensor:  # noqa: ARG002
        """Return the shifted values."""
        sums = values.flatten(2).sum(dim=2) if values.ndim > 2 else values
        wanted = _by_channel(self.pattern, sums, "similarity").expand_as(sums)
        cosine = torch.nn.functional.cosine_similarity(sums, wanted, dim=1)
        return values + self.scale * cosine.view(-1, *[1] * (values.ndim - 1))


@dataclass(frozen=True, eq=False)
class Corrupt:
    """Add normal noise to the channels.

    Parameters
    ----------
    scale : float
        Standard deviation of the noise, in units of the layer.
    seed : int, default 0
        Seed; the noise of a sample depends on it and on the number of the sample alone.
    weights : array_like (channel,), optional
        Factor of the noise for every channel of the layer, such as the weights of a mode.

    Raises
    ------
    InputError
        If the scale is negative.
    """

    scale: float
    seed: int = 0
    weights: npt.ArrayLike | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise InputError(f"corrupt: expected a scale of at least 0, got {self.scale}")

    def __call__(self, values: Tensor, numbers: Tensor) -> Tensor:
        """Return the noisy values."""
        shape = tuple(values.shape[1:])
        rows = [
            np.random.default_rng((self.seed, int(number))).standard_normal(shape)
            for number in numbers
        ]
        noise = self.scale * torch.from_numpy(np.stack(rows)).to(values)
        if self.weights is not None:
            noise = noise * _by_channel(self.weights, values, "corrupt")
        return values + noise


def fade(weights: npt.ArrayLike) -> Scale:
    """Return the change that takes from each channel as much as it weighs in a mode.

    Parameters
    ----------
    weights : array_like (channel,)
        Weights of every channel.

    Returns
    -------
    Scale
        With the factor ``1 - (m_c - min m) / (max m - min m)``: 0 for the heaviest channel, 1 for
        the lightest.

    Raises
    ------
    InputError
        If all weights are the same or one is not finite.

    Examples
    --------
    >>> fade([0.0, 1.0, 4.0]).factor.tolist()
    [1.0, 0.75, 0.0]
    """
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or np.ptp(values) == 0:
        raise InputError(
            "fade: expected finite weights (channel,) that differ from each other; a constant "
            "atom names no channel"
        )
    return Scale(1 - (values - values.min()) / np.ptp(values))


def other_samples(count: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw for each of some samples another one, each once.

    Parameters
    ----------
    count : int
        Number of samples.
    seed : int
        Seed of the draw.

    Returns
    -------
    ndarray (sample,)
        Number of the other sample; never the same.

    Raises
    ------
    InputError
        If there are fewer than two samples.
    """
    if count < 2:
        raise InputError(f"resample: expected at least 2 samples to draw from, got {count}")
    order = np.random.default_rng(seed).permutation(count)
    others = np.empty(count, dtype=np.int64)
    others[order] = np.roll(order, 1)
    return others


def _by_channel(given: npt.ArrayLike, values: Tensor, noun: str) -> Tensor:
    """Return numbers, one for all or for each channel (and position), to broadcast over rows."""
    source = given if isinstance(given, Tensor) else torch.from_numpy(np.array(given, dtype=float))
    wanted = source.detach().to(values)
    shape = tuple(values.shape[1:])
    if not bool(wanted.isfinite().all()):
        raise InputError(f"{noun}: values are NaN or infinite; leave such samples out")
    if wanted.ndim == 0:
        return wanted.expand(1, *[1] * len(shape))
    if tuple(wanted.shape) == shape[:1]:
        return wanted.view(1, -1, *[1] * (len(shape) - 1))
    if tuple(wanted.shape) != shape:
        raise InputError(
            f"{noun}: expected one number, {shape[0]} (one a channel of the layer) or {shape}, got "
            f"shape {tuple(wanted.shape)}"
        )
    return wanted[None]
