"""Atoms of unit norm while they are trained: their start, their signs, their steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["hold_norm", "narrowed", "random_atoms", "settle_atoms", "signed_unit", "top_codes"]

_LEAST = 1e-6
_NARROWING = 0.5


def random_atoms(modes: int, features: int, generator: torch.Generator) -> Tensor:
    """Return directions drawn evenly from the sphere (mode, feature)."""
    return nn.functional.normalize(torch.randn(modes, features, generator=generator), dim=1)


def signed_unit(atoms: Tensor, signs: Tensor) -> Tensor:
    """Return atoms with the signs of the features and unit norm.

    Parameters
    ----------
    atoms : Tensor (mode, feature)
        Atoms.
    signs : Tensor (feature,)
        -1, 1, or 0 for any.

    Returns
    -------
    Tensor (mode, feature)
        ``D / |D|`` after entries of the wrong sign are set to 0; an atom of nothing but wrong
        signs is turned round first.
    """
    kept = _kept(atoms, signs)
    wrong = kept.norm(dim=1, keepdim=True) < _LEAST
    kept = torch.where(wrong, _kept(-atoms, signs), kept)
    return nn.functional.normalize(kept, dim=1)


def hold_norm(atoms: nn.Parameter) -> None:
    """Take from the gradient what would only change the norm of each atom.

    Notes
    -----
    ``g - (g . d) d`` for an atom ``d`` of unit norm.
    """
    if atoms.grad is not None:
        along = (atoms.grad * atoms.detach()).sum(dim=1, keepdim=True)
        atoms.grad -= along * atoms.detach()


def settle_atoms(atoms: nn.Parameter, signs: Tensor | None) -> None:
    """Give the atoms unit norm again, and their signs unless these are still free."""
    with torch.no_grad():
        free = torch.zeros(atoms.shape[1]) if signs is None else signs
        atoms.copy_(signed_unit(atoms, free))


def narrowed(epoch: int, epochs: int, first: int, last: int) -> int:
    """Return how many atoms may be active: fewer and fewer over the first half of the epochs."""
    return last + round((first - last) * max(0.0, 1 - epoch / (_NARROWING * epochs)))


def top_codes(values: Tensor, active: int) -> Tensor:
    """Return the largest values of each row that are above 0, and 0 elsewhere.

    Parameters
    ----------
    values : Tensor (row, atom)
        Values.
    active : int
        How many of a row are kept.

    Returns
    -------
    Tensor (row, atom)
        Values above 0 among the `active` largest of their row, or 0.
    """
    largest, place = values.topk(min(active, values.shape[1]), dim=1, sorted=False)
    return torch.zeros_like(values).scatter(1, place, torch.relu(largest))


def _kept(atoms: Tensor, signs: Tensor) -> Tensor:
    return torch.where(signs == 0, atoms, signs * torch.relu(signs * atoms))
