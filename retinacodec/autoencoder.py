"""The sparse autoencoder of the paper: loadings gated at a threshold, atoms as its decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retinacodec.atoms import Dictionary, Table, by_use, prepare
from retinacodec.autoencoder_training import (
    Course,
    check_training,
    split_rows,
    train,
    warn_all_dead,
)
from retinacodec.gated_network import GatedNetwork
from retinacodec.row_splits import RowSplit, TimeBlocks
from retinacodec.scaling import OneScale, Scaling

__all__ = ["AutoencoderCoder", "PaperSAE", "Warmup"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Warmup:
    """A start that leaves no atom without a gradient: a rising threshold with a soft edge.

    Parameters
    ----------
    epochs : int, default 200
        Epochs over which the threshold rises to its final value.
    first : float, default 0.5
        Threshold of the first epoch.
    edge : float, default 0.2
        Width about the threshold in which the gate has a gradient.

    Notes
    -----
    At the paper's threshold hardly any code passes at the start, and a code that never passes
    gets no gradient. Here the gate ``z = s [s >= t]`` has the derivative
    ``[s >= t] + t / edge * [|s - t| < edge / 2]``, the step replaced by a ramp.

    References
    ----------
    .. [1] Rajamanoharan et al., arXiv 2407.14435 (2024), rectangular gradient of a threshold.
    """

    epochs: int = 200
    first: float = 0.5
    edge: float = 0.2

    def threshold(self, epoch: int, last: float) -> float:
        """Return the threshold of an epoch, on a straight line to the last one."""
        return self.first + (last - self.first) * min(1.0, epoch / max(1, self.epochs))


@dataclass(frozen=True)
class PaperSAE:
    """Sparse autoencoder with the architecture and settings of the CODEC paper.

    Parameters
    ----------
    ratio : int, default 10
        Atoms for each feature.
    threshold : float, default 0.9
        Codes below it are 0.
    atom_penalty : float, default 1e-4
        Weight of the mean absolute entry of the atoms.
    hidden : int, optional
        Width of the encoder; the number of features if left out.
    dropout : float, default 0.05
        Share of hidden values dropped while training.
    learning_rate : float, default 1e-5
        Learning rate of Adam.
    decay, decay_every : float and int, default 0.98 and 25
        The learning rate is multiplied by this after so many epochs.
    epochs, batch : int, default 800 and 128
        Passes over the rows and rows in a step; an incomplete last batch is dropped.
    evaluate_every : int, default 25
        Epochs between evaluations on held-out rows, the best of which is kept.
    start : Warmup, optional
        How dead atoms are avoided; the paper's own start, at the final threshold, if left out.
    constrained : bool, default False
        Give the atoms the signs of the features.
    shallow : bool, default False
        Encode by one hidden layer: Linear, LayerNorm, dropout, ReLU, Linear, sigmoid.
    scaling : Scaling, default OneScale()
        What rows are divided by.
    split : RowSplit, default TimeBlocks(every=10)
        Which rows are fitted, select the state and score it; ``RandomRows()`` for images.

    Notes
    -----
    Encoder: Linear, dropout, ReLU, LayerNorm, Linear, dropout, ReLU, LayerNorm, Linear without
    bias, sigmoid ``s``. Codes ``z = s [s >= threshold]``. Decoder ``xh = z D`` without bias. Loss
    ``mean((xh - x)^2) + atom_penalty * mean|D|``.

    Unlike the authors' code: the state with the best R2 on held-out contiguous blocks is really
    kept, a third set scores it, every random number comes from the seed, alive atoms are those of
    the state kept, and new rows are divided by the scale of the rows fitted.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, arXiv 2603.06557, sparse autoencoder of Figure 8.
    """

    ratio: int = 10
    threshold: float = 0.9
    atom_penalty: float = 1e-4
    hidden: int | None = None
    dropout: float = 0.05
    learning_rate: float = 1e-5
    decay: float = 0.98
    decay_every: int = 25
    epochs: int = 800
    batch: int = 128
    evaluate_every: int = 25
    start: Warmup | None = None
    constrained: bool = False
    shallow: bool = False
    scaling: Scaling = field(default_factory=OneScale)
    split: RowSplit = field(default_factory=lambda: TimeBlocks(every=10))

    def __post_init__(self) -> None:
        problems = check_training(self, "ratio", "hidden", "decay_every")
        for name in ("threshold", "dropout"):
            value = getattr(self, name)
            problems.require(0 <= value < 1, f"{name} must lie from 0 to below 1, got {value}")
        problems.raise_as("PaperSAE")

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
            Atoms that any row uses, by falling summed loading; none if all are dead. Its log
            holds, for each evaluation, ``epoch``, ``train_r2``, ``selection_r2``, ``alive`` and
            ``l0``, and ``best_epoch`` and ``held_out_r2`` of the state kept.

        Raises
        ------
        InputError
            If the table is not finite, does not vary, or is too short for a batch and the
            held-out sets.
        """
        table = prepare(x, signs, scaling=self.scaling, least_rows=2)
        split = split_rows(self.split, len(table.x), self.batch, "PaperSAE")
        generator = torch.Generator().manual_seed(seed)
        learner = _Learner(self, table, generator)
        course = Course(self.epochs, self.batch, self.evaluate_every)
        log = train(learner, learner.x, split, course, generator, progress=progress)
        with torch.no_grad():
            codes = learner.decode(torch.arange(len(table.x)))[0].numpy()
        alive = by_use(table.weight * codes)
        warn_all_dead(alive, codes.shape[1], "start=Warmup() keeps them alive")
        state = {name: value.numpy().copy() for name, value in learner.network.state_dict().items()}
        return Dictionary(
            atoms=learner.atoms().detach().numpy()[alive],
            loadings=table.weight * codes[:, alive],
            scale=table.scale,
            method=repr(self),
            seed=seed,
            coder=AutoencoderCoder(state, alive, self.threshold),
            agreement=np.full(len(alive), np.nan),
            tried=codes.shape[1],
            log=log,
        )


@dataclass(frozen=True, eq=False)
class AutoencoderCoder:
    """The trained encoder and the atoms that are alive.

    Attributes
    ----------
    state : dict of str to ndarray
        Weights of the network.
    alive : ndarray (mode,) of int
        Atoms that are returned, in their order.
    threshold : float
        Codes below it are 0.
    """

    state: dict[str, Array]
    alive: npt.NDArray[np.int64]
    threshold: float

    def __call__(self, x: Array) -> Array:
        """Return loadings (sample, mode) of scaled rows."""
        weights = {name: torch.from_numpy(np.array(value)) for name, value in self.state.items()}
        width, features = weights["first.weight"].shape
        shallow = "second.weight" not in weights
        network = GatedNetwork(
            features, width, len(weights["atoms"]), torch.Generator(), shallow=shallow
        )
        network.load_state_dict(weights)
        with torch.no_grad():
            codes = network.codes(torch.from_numpy(x), self.threshold)
        return np.asarray(codes.numpy()[:, self.alive])

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and settings that make the coder again."""
        settings = {"kind": "autoencoder", "threshold": self.threshold}
        return {"alive": self.alive, **self.state}, settings

    @classmethod
    def unpack(cls, arrays: dict[str, Array], config: dict[str, Any]) -> AutoencoderCoder:
        """Return the coder that was packed."""
        state = {name: values for name, values in arrays.items() if name != "alive"}
        return cls(state, np.asarray(arrays["alive"], np.int64), float(config["threshold"]))


class _Learner:
    """The gated network, its loss and its warm start."""

    def __init__(self, method: PaperSAE, table: Table, generator: torch.Generator) -> None:
        features = table.x.shape[1]
        self.method = method
        self.x = torch.from_numpy(table.x)
        self.signs = torch.from_numpy(table.signs.astype(np.float32))
        self.network = GatedNetwork(
            features,
            method.hidden or features,
            method.ratio * features,
            generator,
            shallow=method.shallow,
        )
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=method.learning_rate, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.StepLR(
            self.optimiser, method.decay_every, method.decay
        )

    def loss(self, rows: Tensor, epoch: int) -> Tensor:
        """Return the squared error and the penalty of the atoms."""
        method = self.method
        warm = method.start
        threshold = warm.threshold(epoch, method.threshold) if warm else method.threshold
        edge = warm.edge if warm else 0.0
        x, atoms = self.x[rows], self.atoms()
        codes = self.network.codes(x, threshold, edge=edge, drop=method.dropout)
        error = (codes @ atoms - x).square().mean()
        return error + method.atom_penalty * atoms.abs().mean()

    def hold(self) -> None:
        """Leave the gradients as they are."""

    def settle(self) -> None:
        """Leave the network as it is."""

    def atoms(self) -> Tensor:
        """Return the atoms, held to the signs of their features where that is asked for."""
        atoms = self.network.atoms
        if not self.method.constrained:
            return atoms
        return torch.where(self.signs == 0, atoms, self.signs * torch.relu(self.signs * atoms))

    def decode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes and estimates at the final threshold, without dropout."""
        codes = self.network.codes(self.x[rows], self.method.threshold)
        return codes, codes @ self.atoms()
