"""Rules that look at gradients at the sample alone, without a path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from retinacodec.errors import InputError
from retinacodec.rules import whole_steps

__all__ = ["ActivationGradient", "SmoothGradient"]

_LEAST_NORM = 1e-8


def _unit(values: Tensor) -> Tensor:
    """Return values (batch, ...) divided by the norm of each sample."""
    norm = torch.linalg.vector_norm(values.flatten(1).to(torch.float64), dim=1)
    shape = (-1, *[1] * (values.ndim - 1))
    return values / norm.clamp_min(_LEAST_NORM).to(values.dtype).view(shape)


def _plain(activation: Tensor, gradient: Tensor) -> Tensor:
    return activation * gradient


def _unit_gradient(activation: Tensor, gradient: Tensor) -> Tensor:
    return activation * _unit(gradient)


def _unit_both(activation: Tensor, gradient: Tensor) -> Tensor:
    return _unit(activation) * _unit(gradient)


_FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": _plain,
    "gradient": _unit_gradient,
    "both": _unit_both,
}


@dataclass(frozen=True)
class ActivationGradient:
    """Activation times gradient at the sample.

    Parameters
    ----------
    normalise : {"none", "gradient", "both"}, default "none"
        Divide each sample's gradients, or activations and gradients, by their norm over the
        whole layer; with both, contributions sum to the cosine between the two.

    Raises
    ------
    InputError
        If `normalise` is none of these.

    Notes
    -----
    ``C = a g``, ``C = a g / max(|g|, 1e-8)`` or ``C = a g / (max(|a|, 1e-8) max(|g|, 1e-8))``.
    Depends on where around a nonlinearity a layer is tapped, and does not sum to the change of
    the target. Of a layer that is called several times each call is normalised by itself.

    References
    ----------
    Melander et al., ICLR 2026.
    """

    normalise: str = "none"
    chords: ClassVar[bool] = False
    complete: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.normalise not in _FORMS:
            raise InputError(
                f"rule: expected normalise {', '.join(_FORMS)}, got {self.normalise!r}"
            )

    def points(self) -> Tensor:
        """Return the sample itself."""
        return torch.ones(1, dtype=torch.float64)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Multiply activation and gradient (batch, 1, ...) at the sample."""
        return _FORMS[self.normalise](activation[:, -1], gradient[:, -1])


@dataclass(frozen=True)
class SmoothGradient:
    """Activation times gradient, averaged over noisy copies of the sample.

    Parameters
    ----------
    samples : int, default 5
        Noisy copies.
    sigma : float, default 0.2
        Standard deviation of the noise, in units of contrast (of preprocessed values for
        images).
    seed : int, default 0
        Seed of the noise; each frame or image has noise of its own, whatever is computed with
        it.

    Raises
    ------
    InputError
        If `samples` or `sigma` is out of range.

    Notes
    -----
    ``C = 1/n sum_k a(x + e_k) g(x + e_k)`` with ``e_k`` from ``N(0, sigma^2)``. The circuit is
    evaluated at the sample too, for its outputs, activations and gradients.

    References
    ----------
    Smilkov et al., arXiv 1706.03825 (2017); Melander et al., ICLR 2026.
    """

    samples: int = 5
    sigma: float = 0.2
    seed: int = 0
    chords: ClassVar[bool] = False
    complete: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole_steps(self.samples)
        if not 0 <= self.sigma < float("inf"):
            raise InputError(f"rule: expected sigma of at least 0, got {self.sigma}")
        if self.seed < 0:
            raise InputError(f"rule: expected a seed of at least 0, got {self.seed}")

    def points(self) -> Tensor:
        """Return the sample for each noisy copy, and once more for itself."""
        return torch.ones(self.samples + 1, dtype=torch.float64)

    def perturb(self, path: Tensor, numbers: Tensor) -> Tensor:
        """Add the noise.

        Parameters
        ----------
        path : torch.Tensor (batch, point, ...)
            Copies of each sample.
        numbers : torch.Tensor (batch,)
            Numbers of the frames or images.

        Returns
        -------
        torch.Tensor (batch, point, ...)
            Noisy copies, and the sample itself at the last point.
        """
        path = path.clone()
        for row, number in zip(path, numbers.tolist(), strict=True):
            generator = np.random.default_rng((self.seed, int(number)))
            noise = generator.standard_normal(tuple(row[:-1].shape), dtype=np.float32)
            row[:-1] += self.sigma * torch.from_numpy(noise).to(row.device, row.dtype)
        return path

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Average activation times gradient (batch, point, ...) over the noisy copies."""
        return (activation[:, :-1] * gradient[:, :-1]).mean(dim=1)
