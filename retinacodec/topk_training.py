"""How an encoder with a fixed number of active codes is trained, from rows or from inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retinacodec.atoms import Array, Dictionary, by_use
from retinacodec.autoencoder_training import warn_all_dead
from retinacodec.scaling import Scale
from retinacodec.sparse_coders import TopKCoder
from retinacodec.unit_atoms import hold_norm, narrowed, settle_atoms, signed_unit, top_codes

__all__ = ["TopKLearner", "TopKNetwork", "TopKPlan", "alive_dictionary"]

_FREE = 0.6


@dataclass(frozen=True)
class TopKPlan:
    """The numbers that steer the training.

    Attributes
    ----------
    active, start_active : int
        Most codes active in a row, in the end and at the start.
    auxiliary : float
        Weight of what dead atoms are asked to explain.
    learning_rate : float
        Learning rate of Adam at the start; it falls to 0 on a straight line.
    epochs : int
        Passes over the rows.
    steps : int
        Steps in an epoch; an atom that none of so many rows used is dead.
    """

    active: int
    start_active: int
    auxiliary: float
    learning_rate: float
    epochs: int
    steps: int

    @classmethod
    def of(cls, method: Any, steps: int) -> TopKPlan:
        """Return the numbers of a method; by default it starts with four times as many codes."""
        return cls(
            active=method.active,
            start_active=max(method.active, method.start_active or 4 * method.active),
            auxiliary=method.auxiliary,
            learning_rate=method.learning_rate,
            epochs=method.epochs,
            steps=steps,
        )


class TopKNetwork(nn.Module):
    """What modes read, what they write, and what a row without any mode is.

    Parameters
    ----------
    reading : Tensor (mode, input feature)
        Start of the encoder.
    atoms : Tensor (mode, feature)
        Start of the atoms.
    centre : Tensor (feature,), optional
        Start of the centre, which is trained; none if left out.
    """

    def __init__(self, reading: Tensor, atoms: Tensor, centre: Tensor | None) -> None:
        super().__init__()
        self.reading, self.atoms = nn.Parameter(reading), nn.Parameter(atoms)
        self.bias = nn.Parameter(torch.zeros(len(atoms)))
        self.centre = None if centre is None else nn.Parameter(centre)


class TopKLearner:
    """Trains the network on rows, or on the inputs that rows are computed from.

    Parameters
    ----------
    network : TopKNetwork
        The network.
    inputs : Tensor (sample, input feature)
        What codes are read from.
    x : Tensor (sample, feature)
        What the atoms should write, scaled.
    weight : Tensor (sample, 1)
        What codes are multiplied with to be loadings.
    signs : Tensor (feature,)
        Signs of the atoms, 0 for any; they hold after the first 60 % of the epochs.
    plan : TopKPlan
        The numbers.
    tied : bool
        The inputs are the rows, so that the centre is taken from them too.
    """

    def __init__(
        self,
        network: TopKNetwork,
        inputs: Tensor,
        x: Tensor,
        weight: Tensor,
        signs: Tensor,
        plan: TopKPlan,
        *,
        tied: bool,
    ) -> None:
        self.network, self.plan, self.tied = network, plan, tied
        self.inputs, self.x, self.weight, self.signs = inputs, x, weight, signs
        self.optimiser = torch.optim.Adam(network.parameters(), lr=plan.learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda epoch: 1 - epoch / plan.epochs
        )
        self.idle = torch.zeros(len(network.atoms))
        self.epoch = 0

    def loss(self, rows: Tensor, epoch: int) -> Tensor:
        """Return the squared error, and that of the dead atoms on what is left."""
        plan, atoms, self.epoch = self.plan, self.network.atoms, epoch
        values = self._values(rows)
        codes = top_codes(values, narrowed(epoch, plan.epochs, plan.start_active, plan.active))
        left = self.x[rows] - self._estimate(codes, rows, atoms)
        loss = left.square().mean()
        self.idle += 1
        self.idle[(codes > 0).any(dim=0)] = 0
        dead = self.idle > plan.steps
        if plan.auxiliary and bool(dead.any()):
            more = self.weight[rows] * (values[:, dead] @ atoms[dead])
            loss = loss + plan.auxiliary * (left.detach() - more).square().mean()
        return loss

    def hold(self) -> None:
        """Take from the gradient what would only change the norm of the atoms."""
        hold_norm(self.network.atoms)

    def settle(self) -> None:
        """Give the atoms unit norm, and late in the training their signs."""
        late = self.epoch >= _FREE * self.plan.epochs
        settle_atoms(self.network.atoms, self.signs if late else None)

    def decode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes and estimates as after training, with signs."""
        codes = top_codes(self._values(rows), self.plan.active)
        return codes, self._estimate(codes, rows, self.atoms())

    def atoms(self) -> Tensor:
        """Return the atoms with their signs and unit norm."""
        return signed_unit(self.network.atoms, self.signs)

    def coder(self) -> TopKCoder:
        """Return what codes new rows, of all atoms."""
        bias: Tensor = self.network.bias
        if self.tied and self.network.centre is not None:
            bias = bias - self.network.reading @ self.network.centre
        reading = self.network.reading.detach().numpy().copy()
        return TopKCoder(reading, bias.detach().numpy().copy(), self.plan.active)

    def centre(self) -> Array | None:
        """Return what a row without any mode is, if it is not 0."""
        centre = self.network.centre
        return None if centre is None else centre.detach().numpy().copy()

    def _values(self, rows: Tensor) -> Tensor:
        """Return what the encoder gives every mode before the choice."""
        inputs, centre = self.inputs[rows], self.network.centre
        if self.tied and centre is not None:
            inputs = inputs - centre
        return torch.addmm(self.network.bias, inputs, self.network.reading.T)

    def _estimate(self, codes: Tensor, rows: Tensor, atoms: Tensor) -> Tensor:
        centre = self.network.centre
        estimate = (self.weight[rows] * codes) @ atoms
        return estimate if centre is None else estimate + centre


def alive_dictionary(
    method: object,
    learner: TopKLearner,
    weight: Array,
    *,
    scale: Scale,
    seed: int,
    log: Mapping[str, Array],
    reads: Scale | None = None,
) -> Dictionary:
    """Return the dictionary of the modes that any row uses, by falling summed loading.

    Parameters
    ----------
    method : object
        What found them.
    learner : TopKLearner
        The trained network.
    weight : ndarray (sample, 1)
        What codes are multiplied with to be loadings.
    scale, seed, log, reads
        As in `Dictionary`.

    Returns
    -------
    Dictionary
        Their atoms and loadings, a coder of these modes only, and the centre if there is one.

    Notes
    -----
    A mode that no row uses is never among the largest above 0, so the others are coded alike
    without it.
    """
    coder, inputs = learner.coder(), learner.inputs.numpy()
    alive = by_use(weight * coder(inputs))
    warn_all_dead(alive, len(coder.reading), "use a smaller learning_rate or more epochs")
    coder = replace(coder, reading=coder.reading[alive].copy(), bias=coder.bias[alive].copy())
    return Dictionary(
        atoms=learner.atoms().detach().numpy()[alive],
        loadings=weight * coder(inputs),
        scale=scale,
        method=repr(method),
        seed=seed,
        coder=coder,
        agreement=np.full(len(alive), np.nan),
        tried=len(learner.network.atoms),
        log=log,
        centre=learner.centre(),
        reads=reads,
    )
