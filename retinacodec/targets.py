"""Targets: which scalar of the outputs the contributions explain.

A target is any callable from outputs (batch, output) to (batch,) or (batch, target) that
torch can differentiate. A target that needs more may have further methods: ``bind``
(called once with the names of the outputs and a function that returns the outputs of the
whole movie), ``at`` (called for each batch with the outputs at the end of the path) and
``labels`` (the names along its own target dimension); and an attribute ``units``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from retinacodec.errors import InputError

__all__ = [
    "Cell",
    "Class",
    "EachCell",
    "Population",
    "Surprisal",
    "Target",
    "TopK",
    "bind_target",
    "target_labels",
]

Outputs = Callable[[], Tensor]


@runtime_checkable
class Target(Protocol):
    """A differentiable scalar, or several, of a circuit's outputs."""

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the target (batch,) or (batch, target) of outputs (batch, output)."""


def bind_target(target: Target, names: Sequence[str], outputs: Outputs) -> Target:
    """Return the target made ready for one circuit and movie.

    Parameters
    ----------
    target : Target
        Any target.
    names : sequence of str
        Names of the outputs.
    outputs : callable
        Returns the outputs (time, output) over the whole movie; called only if needed.

    Returns
    -------
    Target
        The target itself, or what its ``bind`` returns.
    """
    bind = getattr(target, "bind", None)
    return target if bind is None else bind(names, outputs)


def target_labels(target: Target, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names along the target dimension, or None for a target that is one scalar."""
    labels = getattr(target, "labels", None)
    return None if labels is None else tuple(labels(names))


def _position(output: int | str, names: Sequence[str], noun: str) -> int:
    if isinstance(output, str):
        if output not in names:
            raise InputError(f"target: no {noun} {output!r}; there are {', '.join(names[:20])}")
        return names.index(output)
    if not -len(names) <= output < len(names):
        raise InputError(f"target: {noun} {output} of {len(names)}; count from 0")
    return output % len(names)


@dataclass(frozen=True)
class Cell:
    """The rate of one cell, Hz.

    Parameters
    ----------
    cell : int or str
        Its position, counted from 0, or its name.

    Examples
    --------
    >>> Cell(1)(torch.tensor([[2.0, 5.0]]))
    tensor([5.])
    """

    cell: int | str
    units: ClassVar[str] = "Hz"

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the rate (batch,) of the cell."""
        if isinstance(self.cell, str):
            raise InputError(f"target: the name {self.cell!r} is not bound to a circuit yet")
        return outputs[:, self.cell]

    def bind(self, names: Sequence[str], outputs: Outputs) -> Cell:  # noqa: ARG002
        """Return the same target with the cell's position in place of its name."""
        return Cell(_position(self.cell, names, "cell"))


@dataclass(frozen=True)
class EachCell:
    """The rate of every cell, Hz: one target a cell, all in one run.

    Examples
    --------
    >>> EachCell()(torch.tensor([[2.0, 5.0]]))
    tensor([[2., 5.]])
    """

    units: ClassVar[str] = "Hz"

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the rates (batch, target)."""
        return outputs

    def labels(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the cells' names."""
        return tuple(names)


@dataclass(frozen=True)
class Population:
    """The summed rate of all cells, Hz.

    Examples
    --------
    >>> Population()(torch.tensor([[2.0, 5.0]]))
    tensor([7.])
    """

    units: ClassVar[str] = "Hz"

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the sum (batch,) of the rates."""
        return outputs.sum(dim=-1)


@dataclass(frozen=True)
class Surprisal:
    """How unusual the joint response of all cells is, in nats.

    Parameters
    ----------
    shrinkage : float, default 1e-3
        Share, 0 to 1, of the mean variance that is mixed into the covariance, so that it can
        be inverted where cells are silent or alike.
    mean : torch.Tensor (cell,), optional
        Mean rates, Hz; of the analysed movie if left out.
    covariance : torch.Tensor (cell, cell), optional
        Covariance of the rates, Hz**2, before shrinkage; of the analysed movie if left out.

    Raises
    ------
    InputError
        If the shrinkage is outside 0 to 1 or the covariance cannot be inverted.

    Notes
    -----
    ``S = 1/2 (y - mu)^T Sigma^-1 (y - mu)``, which is ``-log N(y; mu, Sigma)`` up to a
    constant, with ``Sigma = (1 - s) C + s tr(C)/n I``. The inverse is applied through the
    Cholesky factor in float64.

    References
    ----------
    Melander et al., ICLR 2026, surprisal of the retinal population.

    Examples
    --------
    >>> target = Surprisal(shrinkage=0.0, mean=torch.zeros(2), covariance=4 * torch.eye(2))
    >>> target(torch.tensor([[2.0, 2.0]]))
    tensor([1.], dtype=torch.float64)
    """

    shrinkage: float = 1e-3
    mean: Tensor | None = field(default=None, repr=False, compare=False)
    covariance: Tensor | None = field(default=None, repr=False, compare=False)
    units: ClassVar[str] = "nat"

    def __post_init__(self) -> None:
        if not 0 <= self.shrinkage <= 1:
            raise InputError(f"surprisal: expected shrinkage in 0 to 1, got {self.shrinkage}")
        if self.covariance is not None:
            object.__setattr__(self, "_whitening", self._factor())

    @classmethod
    def from_outputs(cls, outputs: Tensor, shrinkage: float = 1e-3) -> Surprisal:
        """Return the target with the statistics of given outputs.

        Parameters
        ----------
        outputs : torch.Tensor (time, cell)
            Rates, Hz; at least two times.
        shrinkage : float, default 1e-3
            See the class.

        Returns
        -------
        Surprisal
            With ``mean`` and ``covariance`` (ddof 1) in float64.
        """
        rates = outputs.detach().to("cpu", torch.float64)
        if rates.ndim != 2 or len(rates) < 2:
            raise InputError(f"surprisal: expected (time > 1, cell), got {tuple(rates.shape)}")
        covariance = torch.cov(rates.T).reshape(rates.shape[1], rates.shape[1])
        return cls(shrinkage=shrinkage, mean=rates.mean(dim=0), covariance=covariance)

    def bind(self, names: Sequence[str], outputs: Outputs) -> Surprisal:
        """Return the target with the statistics of the movie, unless it has its own."""
        if self.mean is None or self.covariance is None:
            return self.from_outputs(outputs(), self.shrinkage)
        if len(self.mean) != len(names):
            raise InputError(
                f"surprisal: statistics of {len(self.mean)} cells for a circuit of {len(names)}"
            )
        return self

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the surprisal (batch,) in float64."""
        if self.mean is None or self.covariance is None:
            raise InputError("surprisal: no statistics; use Surprisal.from_outputs(rates)")
        whitening: Tensor = self._whitening.to(outputs.device)  # type: ignore[attr-defined]
        centred = outputs.to(torch.float64) - self.mean.to(outputs.device, torch.float64)
        score = centred @ whitening.T
        return 0.5 * (score * score).sum(dim=-1)

    def shrunk(self) -> Tensor:
        """Return the covariance (cell, cell) after shrinkage, Hz**2."""
        if self.covariance is None:
            raise InputError("surprisal: no statistics; use Surprisal.from_outputs(rates)")
        raw = self.covariance.to(torch.float64)
        mean_variance = raw.diagonal().mean()
        identity = torch.eye(len(raw), dtype=torch.float64, device=raw.device)
        return (1 - self.shrinkage) * raw + self.shrinkage * mean_variance * identity

    def condition_number(self) -> float:
        """Return the condition number of the covariance after shrinkage."""
        return float(torch.linalg.cond(self.shrunk()))

    def with_statistics(self, mean: Tensor, covariance: Tensor) -> Surprisal:
        """Return the target with other statistics, for example of a training movie."""
        return replace(self, mean=mean, covariance=covariance)

    def _factor(self) -> Tensor:
        """Return the inverse Cholesky factor L^-1 of the shrunk covariance L L^T."""
        shrunk = self.shrunk()
        lower, info = torch.linalg.cholesky_ex(shrunk)
        if int(info) != 0 or not bool(lower.isfinite().all()):
            raise InputError(
                "surprisal: the covariance of the rates cannot be inverted (silent or identical "
                f"cells); raise shrinkage above {self.shrinkage:g}"
            )
        identity = torch.eye(len(shrunk), dtype=torch.float64, device=shrunk.device)
        return torch.linalg.solve_triangular(lower, identity, upper=False)


@dataclass(frozen=True)
class Class:
    """The score of one class of a classifier.

    Parameters
    ----------
    label : int or str
        Its position, counted from 0, or its name.
    probability : bool, default False
        Softmax probability in place of the logit.
    """

    label: int | str
    probability: bool = False

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the score (batch,) of the class."""
        if isinstance(self.label, str):
            raise InputError(f"target: the name {self.label!r} is not bound to a circuit yet")
        return _scores(outputs, self.probability)[:, self.label]

    def bind(self, names: Sequence[str], outputs: Outputs) -> Class:  # noqa: ARG002
        """Return the same target with the class' position in place of its name."""
        return replace(self, label=_position(self.label, names, "class"))


@dataclass(frozen=True)
class TopK:
    """The summed score of the strongest outputs.

    Parameters
    ----------
    k : int, default 1
        How many outputs.
    probability : bool, default False
        Softmax probabilities in place of logits.
    freeze : bool, default True
        Take the outputs that are strongest at the end of the path all along it; else choose
        anew at every point.
    """

    k: int = 1
    probability: bool = False
    freeze: bool = True
    chosen: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"target: expected k of at least 1, got {self.k}")

    def at(self, end: Tensor) -> TopK:
        """Return the target with the outputs (batch, output) at the end of the path chosen."""
        if not self.freeze:
            return self
        return replace(self, chosen=self._strongest(end))

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the sum (batch,) of the chosen scores."""
        scores = _scores(outputs, self.probability)
        chosen = self.chosen
        if chosen is None:
            chosen = self._strongest(scores)
        return scores.gather(-1, chosen).sum(dim=-1)

    def _strongest(self, outputs: Tensor) -> Tensor:
        if self.k > outputs.shape[-1]:
            raise InputError(f"target: top {self.k} of {outputs.shape[-1]} outputs")
        return outputs.detach().topk(self.k, dim=-1).indices


def _scores(outputs: Tensor, probability: bool) -> Tensor:
    return outputs.softmax(dim=-1) if probability else outputs
