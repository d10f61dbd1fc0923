"""Autoencoder whose encoder is matching pursuit itself, trained through its steps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from retinacodec.atoms import Dictionary, Table, by_use, prepare
from retinacodec.autoencoder_training import (
    Course,
    check_training,
    split_rows,
    train,
    warn_all_dead,
)
from retinacodec.row_splits import RowSplit, TimeBlocks
from retinacodec.scaling import OneScale, Scaling
from retinacodec.sparse_coders import MatchingCoder, matching_pursuit
from retinacodec.topk_autoencoder import refuse_centre
from retinacodec.unit_atoms import hold_norm, narrowed, random_atoms, settle_atoms, signed_unit

__all__ = ["MatchingPursuitSAE"]

_FREE = 0.6


@dataclass(frozen=True)
class MatchingPursuitSAE:
    """Sparse autoencoder that codes rows by matching pursuit on its own atoms.

    Parameters
    ----------
    modes, ratio, evaluate_every, constrained, centred, scaling, split
        As in `TopKSAE`.
    active : int, default 8
        Steps of the pursuit: most modes active in a row.
    gain : float, default 0.04
        A step is taken only if its loading is at least this share of the root mean square norm
        of the scaled rows, so that a row has as many modes as it needs; 0 takes every step.
    start_active : int, optional
        Steps of the pursuit at the start of the training, from where the number falls to `active`
        over the first half; twice `active` if left out.
    auxiliary : float, default 1/32
        Weight of what dead atoms are pulled by: the mean product with what is left of the rows.
    learning_rate : float, default 1e-2
        As in `TopKSAE`.
    epochs, batch : int, default 60 and 128
        As in `TopKSAE`.

    Notes
    -----
    ``r_0 = x - b``; each step takes the atom with the largest ``c = r . D_j``, adds ``c`` to its
    loading and leaves ``r - c D_j``, if ``c`` is above the floor. Loss: the mean square of what is
    left, less ``auxiliary`` times its mean product with the atoms that no row used for an epoch.
    The gradient goes through all steps into the atoms, which are the only weights (beside ``b``);
    it is projected on the sphere before each step of Adam.

    Unlike the reference, loadings are never negative, and training starts with a longer pursuit.
    On four tables of 4000 rows and 128 features with 48 known modes the mean cosine with these (a
    missed mode counts 0) is 0.993.

    References
    ----------
    .. [1] Costa et al., arXiv 2506.03093 (2025), From flat to hierarchical: extracting sparse
       representations with matching pursuit, section 4.
    .. [2] Mallat, Zhang, IEEE Trans Signal Processing 41, 3397 (1993).

    Examples
    --------
    >>> x = np.tile([[1.0, 1, 0], [0, 0, 2], [1, 1, 0], [0, 0, 1]], (100, 1))
    >>> found = MatchingPursuitSAE(modes=2, batch=8).fit(x, progress=False)
    >>> np.round(found.atoms.astype(float), 1).tolist()
    [[0.0, 0.0, 1.0], [0.7, 0.7, 0.0]]
    """

    modes: int | None = None
    active: int = 8
    gain: float = 0.04
    ratio: int = 3
    start_active: int | None = None
    auxiliary: float = 1 / 32
    learning_rate: float = 1e-2
    epochs: int = 60
    batch: int = 128
    evaluate_every: int = 5
    constrained: bool = True
    centred: bool = False
    scaling: Scaling = field(default_factory=OneScale)
    split: RowSplit = field(default_factory=lambda: TimeBlocks(every=10))

    def __post_init__(self) -> None:
        problems = check_training(self, "modes", "active", "ratio", "start_active")
        problems.require(0 <= self.gain < 1, f"gain must lie from 0 to below 1, got {self.gain}")
        problems.raise_as("MatchingPursuitSAE")

    def fit(
        self,
        x: npt.ArrayLike,
        *,
        signs: npt.ArrayLike | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Dictionary:
        """Return the alive atoms of the best state and their loadings.

        Parameters
        ----------
        x, signs, seed, progress
            As in `Decomposition.fit`, rows in time order; signs are used if ``constrained``.

        Returns
        -------
        Dictionary
            Atoms of unit norm (in units of the scale) by falling summed loading. Its log is that
            of the training: ``epoch``, ``train_r2``, ``selection_r2``, ``alive``, ``l0``,
            ``best_epoch`` and ``held_out_r2``.

        Raises
        ------
        InputError
            If the table is not finite, does not vary, or is too short for a batch and the
            held-out sets; or a centre is asked for beside a scale for each row.
        """
        table = prepare(x, signs, scaling=self.scaling)
        refuse_centre(table, centred=self.centred)
        split = split_rows(self.split, len(table.x), self.batch, "MatchingPursuitSAE")
        generator = torch.Generator().manual_seed(seed)
        learner = _Learner(self, table, generator, steps=len(split.train) // self.batch)
        course = Course(self.epochs, self.batch, self.evaluate_every)
        log = train(learner, learner.x, split, course, generator, progress=progress)
        coder = learner.coder()
        alive = by_use(table.weight * coder(table.x))
        warn_all_dead(alive, len(coder.atoms), "use a smaller gain")
        coder = replace(coder, atoms=coder.atoms[alive])
        return Dictionary(
            atoms=coder.atoms,
            loadings=table.weight * coder(table.x),
            scale=table.scale,
            method=repr(self),
            seed=seed,
            coder=coder,
            agreement=np.full(len(alive), np.nan),
            tried=len(learner.network.atoms),
            log=log,
            centre=coder.centre if self.centred else None,
        )


class _Atoms(nn.Module):
    """The atoms and the centre, which is trained only where that is asked for."""

    def __init__(self, atoms: Tensor, centre: Tensor, *, centred: bool) -> None:
        super().__init__()
        self.atoms = nn.Parameter(atoms)
        self.centre = nn.Parameter(centre, requires_grad=centred)


class _Learner:
    """Atoms trained through the steps of the pursuit."""

    def __init__(
        self, method: MatchingPursuitSAE, table: Table, generator: torch.Generator, *, steps: int
    ) -> None:
        features = table.x.shape[1]
        self.method, self.epoch, self.steps = method, 0, steps
        self.x = torch.from_numpy(table.x)
        self.signs = torch.from_numpy(table.signs.astype(np.float32)) * method.constrained
        self.floor = method.gain * float(self.x.double().square().sum(dim=1).mean().sqrt())
        centre = self.x.mean(dim=0) if method.centred else torch.zeros(features)
        atoms = random_atoms(method.modes or method.ratio * features, features, generator)
        self.network = _Atoms(atoms, centre, centred=method.centred)
        self.idle = torch.zeros(len(atoms))
        trained = [weight for weight in self.network.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=method.learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda epoch: 1 - epoch / method.epochs
        )

    def loss(self, rows: Tensor, epoch: int) -> Tensor:
        """Return the mean square of what the pursuit leaves, and what pulls dead atoms."""
        method, self.epoch = self.method, epoch
        first = max(method.active, method.start_active or 2 * method.active)
        steps = narrowed(epoch, method.epochs, first, method.active)
        x, atoms = self.x[rows] - self.network.centre, self.network.atoms
        loadings, left = matching_pursuit(x, atoms, steps, self.floor)
        loss = left.square().mean()
        self.idle += 1
        self.idle[(loadings > 0).any(dim=0)] = 0
        dead = self.idle > self.steps
        if method.auxiliary and bool(dead.any()):
            loss = loss - method.auxiliary * (left.detach() @ atoms[dead].T).mean()
        return loss

    def hold(self) -> None:
        """Take from the gradient what would only change the norm of the atoms."""
        hold_norm(self.network.atoms)

    def settle(self) -> None:
        """Give the atoms unit norm, and late in the training their signs."""
        late = self.epoch >= _FREE * self.method.epochs
        settle_atoms(self.network.atoms, self.signs if late else None)

    def decode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return loadings and estimates as after training, with signs."""
        atoms, centre = signed_unit(self.network.atoms, self.signs), self.network.centre
        steps, x = self.method.active, self.x[rows]
        loadings, left = matching_pursuit(x - centre, atoms, steps, self.floor)
        return loadings, x - left

    def coder(self) -> MatchingCoder:
        """Return what codes new rows, with all atoms."""
        atoms = signed_unit(self.network.atoms, self.signs).detach().numpy().copy()
        centre = self.network.centre.detach().numpy().copy()
        return MatchingCoder(atoms, centre, self.method.active, self.floor)
