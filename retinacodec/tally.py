"""The tally: contributions of a batch of samples, added up run by run and then reduced."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retinacodec.circuit import Circuit
from retinacodec.passes import Slopes
from retinacodec.reduce import split_signs, sum_signs
from retinacodec.rules import PathRule, Rule

__all__ = ["Tally", "Wish", "as_numpy"]

Array = npt.NDArray[Any]
Key = tuple[str, int, int]
"""A layer, which of its calls, and which target."""


def as_numpy(values: Tensor) -> Array:
    """Return a tensor as an array on the CPU; half precision, which numpy lacks, as single."""
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


@dataclass(frozen=True)
class Wish:
    """What is kept of each layer.

    Parameters
    ----------
    maps : bool
        Every position of the contributions; else only their sum over positions.
    activations, gradients : bool
        The values at the sample, split and summed like the contributions.
    """

    maps: bool
    activations: bool
    gradients: bool


@dataclass
class Tally:
    """Contributions of one batch of samples.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    rule : Rule
        How activations and gradients are summed.
    wish : Wish
        What is kept.
    share : float
        Factor of everything that is added: one over the number of baselines.
    """

    circuit: Circuit
    rule: Rule
    wish: Wish
    share: float = 1.0
    totals: dict[Key, Tensor] = field(default_factory=dict)
    carried: dict[Key, tuple[Tensor, Tensor]] = field(default_factory=dict)
    rows: dict[str, list[Array]] = field(default_factory=dict)
    ends: dict[Key, dict[str, Array]] = field(default_factory=dict)

    def add(self, key: Key, activation: Tensor, gradient: Tensor, *, carry: bool = False) -> None:
        """Add a run of points of one call of a layer, for one target.

        Parameters
        ----------
        key : (str, int, int)
            The layer, which of its calls, and which target.
        activation, gradient : torch.Tensor (sample, point, ...)
            Of the run.
        carry : bool, default False
            Whether the run goes on where the last one ended, without having its last point.
        """
        if not isinstance(self.rule, PathRule):
            self.totals[key] = self.rule.combine(activation, gradient)
            return
        a, g = list(activation.unbind(1)), list(gradient.unbind(1))
        if carry and key in self.carried:
            a.insert(0, self.carried[key][0])
            g.insert(0, self.carried[key][1])
        total = self.totals.get(key)
        total = torch.zeros_like(a[0]) if total is None else total
        self.totals[key] = self.rule.add(total, a, g, None)
        if carry:
            self.carried[key] = (a[-1].clone(), g[-1].clone())

    def end(self, key: Key, activation: Tensor, gradient: Tensor) -> None:
        """Note what is wished for of a run (sample, point, ...) that ends at the sample."""
        for name, values in (("activation", activation), ("gradient", gradient)):
            if getattr(self.wish, f"{name}s"):
                last = self._by_channel(key[0], values[:, -1])
                self.ends.setdefault(key, {})[name] = as_numpy(sum_signs(last))

    def restart(self) -> None:
        """Forget the last points: the next run begins a path of its own."""
        self.carried.clear()

    def add_parts(
        self, slopes: Slopes, number: int, weight: Tensor, owners: Tensor, samples: int
    ) -> None:
        """Add weighted intervals of paths that belong to some of the samples.

        Parameters
        ----------
        slopes : Slopes
            Activations and gradients (path, point, ...).
        number : int
            Which target.
        weight : torch.Tensor (path, interval)
            Factor of each interval.
        owners : torch.Tensor (path,)
            Which sample each path belongs to.
        samples : int
            Samples of the batch.
        """
        assert isinstance(self.rule, PathRule)
        for key, activation, gradient in slopes.items(number):
            a, g = activation.unbind(1), gradient.unbind(1)
            parts = self.rule.add(torch.zeros_like(a[0]), a, g, weight)
            if key not in self.totals:
                self.totals[key] = parts.new_zeros((samples, *parts.shape[1:]))
            self.totals[key].index_add_(0, owners, parts)

    def close(self, number: int) -> None:
        """Reduce one target's contributions, and let the single ones go."""
        for layer in self.circuit.taps:
            found: dict[str, Array] = {}
            calls = sorted(key for key in self.totals if key[0] == layer and key[2] == number)
            for key in calls:
                for name, piece in self._pieces(key, self.totals.pop(key)).items():
                    found[name] = found[name] + piece if name in found else piece
            for name, values in found.items():
                self.rows.setdefault(f"{layer}/{name}", []).append(values)

    def _pieces(self, key: Key, total: Tensor) -> dict[str, Array]:
        part = self._by_channel(key[0], total * self.share if self.share != 1 else total)
        inner = tuple(range(1, part.ndim))
        pieces = {"total": as_numpy(part.sum(inner, dtype=torch.float64))}
        if self.wish.maps:
            pieces["contribution"] = as_numpy(split_signs(part).transpose(0, 1).float())
        else:
            pieces["contribution"] = as_numpy(sum_signs(part))
        return pieces | self.ends.pop(key, {})

    def _by_channel(self, layer: str, values: Tensor) -> Tensor:
        tap = self.circuit.taps[layer]
        return tap.by_channel(self.circuit.model.get_submodule(tap.name), values)

    def found(self, value: Tensor, baseline_value: Tensor, outputs: Tensor) -> dict[str, Array]:
        """Return everything that was tallied, with what the target did.

        Parameters
        ----------
        value, baseline_value : torch.Tensor (sample, target)
            The target at the sample and at the baseline.
        outputs : torch.Tensor (sample, output)
            Outputs at the sample.

        Returns
        -------
        dict of str to ndarray (sample, target, ...)
            ``output`` (sample, output), ``value``, ``baseline_value`` and for each layer
            ``<layer>/contribution`` (sample, target, sign, channel[, ...]), ``<layer>/residual``,
            and, where wished for, ``<layer>/activation`` (sample, sign, channel) and
            ``<layer>/gradient``.
        """
        found = {key: np.stack(values, axis=1) for key, values in self.rows.items()}
        found["output"] = as_numpy(outputs)
        found["value"], found["baseline_value"] = (
            as_numpy(one.to(torch.float64)) for one in (value, baseline_value)
        )
        for layer in self.circuit.taps:
            change = found["value"] - found["baseline_value"]
            found[f"{layer}/residual"] = found.pop(f"{layer}/total") - change
            if f"{layer}/activation" in found:
                found[f"{layer}/activation"] = found[f"{layer}/activation"][:, 0]
        return found
