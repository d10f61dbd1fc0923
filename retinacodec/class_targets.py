"""Targets of a classifier: scores of classes, leads and doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from retinacodec.errors import InputError
from retinacodec.outputs import Outputs, position

__all__ = ["Class", "Entropy", "Margin", "TopK"]


@dataclass(frozen=True)
class Class:
    """The score of one class of a classifier.

    Parameters
    ----------
    label : int or str
        Its position, counted from 0, or its name.
    probability : bool, default False
        Softmax probability, 0 to 1, in place of the logit.

    Examples
    --------
    >>> import torch
    >>> Class(1)(torch.tensor([[2.0, 5.0]]))
    tensor([5.])
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
        return replace(self, label=position(self.label, names, "class"))


@dataclass(frozen=True)
class TopK:
    """The summed score of the strongest outputs.

    Parameters
    ----------
    k : int, default 1
        How many outputs.
    probability : bool, default False
        Softmax probabilities in place of logits; the softmax is over all outputs.
    freeze : bool, default True
        Take the outputs that are strongest at the end of the path all along it; else choose
        anew at every point.

    Raises
    ------
    InputError
        If k is below 1 or above the number of outputs.

    Notes
    -----
    ``S = sum_{i in top k} s_i`` with the scores s, logits or softmax probabilities. With
    ``freeze=False`` it is a maximum, continuous and still the difference of its ends, and a
    frozen target has no jumps in its gradient.

    Examples
    --------
    >>> import torch
    >>> TopK(2)(torch.tensor([[2.0, 5.0, 4.0]]))
    tensor([9.])
    """

    k: int = 1
    probability: bool = False
    freeze: bool = True
    chosen: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"target: expected k of at least 1, got {self.k}")

    def at(self, end: Tensor, frames: Tensor | None = None) -> TopK:  # noqa: ARG002
        """Return the target with the outputs (batch, output) at the end of the path chosen."""
        if not self.freeze:
            return self
        return replace(self, chosen=_strongest(end, self.k))

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the sum (batch,) of the chosen scores."""
        return _selected(_scores(outputs, self.probability), self.chosen, self.k).sum(dim=-1)


@dataclass(frozen=True)
class Margin:
    """The lead of one class over another, in logits or probability.

    Parameters
    ----------
    first, second : int or str, optional
        The two classes, by position counted from 0 or by name. Left out, the largest and the
        second largest output.
    probability : bool, default False
        Softmax probabilities in place of logits.
    freeze : bool, default True
        Where no classes are named: take the two that lead at the end of the path all along
        it; else the two that lead at every point.

    Raises
    ------
    InputError
        If only one class is named, both are the same, or there are fewer than two.

    Notes
    -----
    ``S = s_first - s_second``.

    References
    ----------
    Melander et al., ICLR 2026, contrastive target of the two largest outputs.

    Examples
    --------
    >>> import torch
    >>> Margin()(torch.tensor([[2.0, 5.0, 4.0]]))
    tensor([1.])
    """

    first: int | str | None = None
    second: int | str | None = None
    probability: bool = False
    freeze: bool = True
    chosen: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.first is None) != (self.second is None):
            raise InputError("margin: expected two classes or none, got one; name the other too")
        if self.first is not None and self.first == self.second:
            raise InputError(f"margin: class {self.first!r} has no lead over itself; name another")

    def bind(self, names: Sequence[str], outputs: Outputs) -> Margin:  # noqa: ARG002
        """Return the same target with positions in place of names."""
        if self.first is None or self.second is None:
            return self
        first, second = (position(one, names, "class") for one in (self.first, self.second))
        return replace(self, first=first, second=second)

    def at(self, end: Tensor, frames: Tensor | None = None) -> Margin:  # noqa: ARG002
        """Return the target with the two leading outputs (batch, output) of the end chosen."""
        if not self.freeze or self.first is not None:
            return self
        return replace(self, chosen=_strongest(end, 2))

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the lead (batch,)."""
        scores = _scores(outputs, self.probability)
        if isinstance(self.first, str) or isinstance(self.second, str):
            raise InputError(f"target: the names in {self!r} are not bound to a circuit yet")
        if self.first is not None and self.second is not None:
            return scores[:, self.first] - scores[:, self.second]
        pair = _selected(scores, self.chosen, 2)
        return pair[:, 0] - pair[:, 1]


@dataclass(frozen=True)
class Entropy:
    """How undecided a classifier is, in nats: 0 for one sure class, log n for n equal ones.

    Notes
    -----
    ``S = -sum_i p_i log p_i`` with p the softmax of the outputs, computed as the product of
    softmax and log-softmax, which stays finite where a probability underflows. A channel that
    speaks for a class lowers it: its contribution is negative.

    Examples
    --------
    >>> import torch
    >>> Entropy()(torch.zeros(1, 4))
    tensor([1.3863])
    """

    units: ClassVar[str] = "nat"

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the entropy (batch,)."""
        return -(outputs.softmax(dim=-1) * outputs.log_softmax(dim=-1)).sum(dim=-1)


def _scores(outputs: Tensor, probability: bool) -> Tensor:
    return outputs.softmax(dim=-1) if probability else outputs


def _selected(scores: Tensor, chosen: Tensor | None, k: int) -> Tensor:
    """Return the chosen scores (batch, k), or the k largest, largest first."""
    if chosen is not None:
        return scores.gather(-1, chosen)
    _require(scores, k)
    return scores.topk(k, dim=-1).values


def _strongest(outputs: Tensor, k: int) -> Tensor:
    """Return the positions (batch, k) of the largest outputs; softmax would not reorder them."""
    _require(outputs, k)
    return outputs.detach().topk(k, dim=-1).indices


def _require(outputs: Tensor, k: int) -> None:
    if k > outputs.shape[-1]:
        raise InputError(f"target: top {k} of {outputs.shape[-1]} outputs")
