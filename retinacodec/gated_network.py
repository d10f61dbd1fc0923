"""The network of the autoencoder: an encoder whose codes pass a threshold or are 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["GatedNetwork"]


class _Gate(torch.autograd.Function):
    """Codes at or above a threshold pass; the threshold has a gradient within its edge."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, threshold: float, edge: float) -> Tensor:
        ctx.save_for_backward(codes)
        ctx.settings = (threshold, edge)
        return torch.where(codes >= threshold, codes, 0.0)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (codes,) = ctx.saved_tensors
        threshold, edge = ctx.settings
        slope = (codes >= threshold).to(codes.dtype)
        if edge > 0:
            slope = slope + threshold / edge * ((codes - threshold).abs() < edge / 2)
        return upstream[0] * slope, None, None


class GatedNetwork(nn.Module):
    """Encoder and atoms, with weights and dropout drawn from one generator.

    Parameters
    ----------
    features, hidden, atoms : int
        Width of the rows, of the encoder and of the code.
    generator : torch.Generator
        Source of every random number.
    shallow : bool, default False
        One hidden layer, normed before its ReLU, instead of two normed after it.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        atoms: int,
        generator: torch.Generator,
        *,
        shallow: bool = False,
    ) -> None:
        super().__init__()
        skip = torch.nn.utils.skip_init
        self.first = skip(nn.Linear, features, hidden)
        self.second = None if shallow else skip(nn.Linear, hidden, hidden)
        self.third = skip(nn.Linear, hidden, atoms, bias=shallow)
        self.first_norm = nn.LayerNorm(hidden)
        self.second_norm = None if shallow else nn.LayerNorm(hidden)
        self.atoms = nn.Parameter(torch.empty(atoms, features))
        self.generator = generator
        for layer in filter(None, (self.first, self.second, self.third)):
            bound = layer.in_features**-0.5
            for weights in layer.parameters():
                nn.init.uniform_(weights, -bound, bound, generator=generator)
        nn.init.xavier_uniform_(self.atoms, generator=generator)

    def codes(self, x: Tensor, threshold: float, *, edge: float = 0.0, drop: float = 0.0) -> Tensor:
        """Return the gated codes.

        Parameters
        ----------
        x : Tensor (sample, feature)
            Rows.
        threshold : float
            Codes below it are 0.
        edge : float, default 0
            Width about the threshold in which the gate has a gradient.
        drop : float, default 0
            Share of hidden values dropped.

        Returns
        -------
        Tensor (sample, atom)
            0, or from the threshold to 1.
        """
        hidden = self.first(x)
        if self.second is None or self.second_norm is None:
            hidden = torch.relu(self._dropped(self.first_norm(hidden), drop))
        else:
            hidden = self.first_norm(torch.relu(self._dropped(hidden, drop)))
            hidden = self.second_norm(torch.relu(self._dropped(self.second(hidden), drop)))
        gated: Tensor = _Gate.apply(torch.sigmoid(self.third(hidden)), threshold, edge)
        return gated

    def _dropped(self, values: Tensor, share: float) -> Tensor:
        if share == 0:
            return values
        kept = torch.rand(values.shape, generator=self.generator) >= share
        return values * kept / (1 - share)
