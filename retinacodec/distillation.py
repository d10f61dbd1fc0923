"""A small encoder that does in a few fixed steps what a pursuit searches for, row by row."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from retinacodec.atoms import Array, Coder, Dictionary, checked_rows
from retinacodec.autoencoder_training import Course, split_rows, train
from retinacodec.errors import InputError, Problems
from retinacodec.metrics import explained_variance
from retinacodec.row_splits import RowSplit, TimeBlocks

__all__ = ["UnrolledCoder", "distil"]

_TIMED = 200
_REPEATS = 5


@dataclass(frozen=True, eq=False)
class UnrolledCoder:
    """Loadings by a fixed number of learned shrinkage steps, gated at a floor.

    Attributes
    ----------
    reading : ndarray (step, mode, feature)
        What each step reads from the scaled rows.
    mixing : ndarray (step - 1, mode, mode)
        What each later step takes from the codes before it.
    bias : ndarray (step, mode)
        What each step subtracts.
    floor : float
        Smaller loadings of a scaled row are 0.
    """

    reading: npt.NDArray[np.float32]
    mixing: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    floor: float

    def __call__(self, x: Array) -> Array:
        """Return loadings (sample, mode) of scaled rows."""
        modes = len(self.bias[0])
        read = x @ self.reading.reshape(-1, x.shape[1]).T - self.bias.ravel()
        codes = read[:, :modes]
        for step, mixing in enumerate(self.mixing, start=1):
            codes = np.maximum(codes, 0) @ mixing.T
            codes += read[:, step * modes : (step + 1) * modes]
        return np.where(codes >= self.floor, codes, np.float32(0))

    def pack(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and settings that make the coder again."""
        arrays = {"reading": self.reading, "mixing": self.mixing, "bias": self.bias}
        return arrays, {"kind": "unrolled", "floor": self.floor}

    @classmethod
    def unpack(cls, arrays: dict[str, Array], config: dict[str, Any]) -> UnrolledCoder:
        """Return the coder that was packed."""
        weights = {name: np.asarray(values, np.float32) for name, values in arrays.items()}
        return cls(weights["reading"], weights["mixing"], weights["bias"], float(config["floor"]))


def distil(
    found: Dictionary,
    x: npt.ArrayLike,
    *,
    steps: int = 5,
    epochs: int = 60,
    learning_rate: float = 5e-3,
    batch: int = 128,
    seed: int = 0,
    split: RowSplit | None = None,
    progress: bool = True,
) -> Dictionary:
    """Teach an encoder the loadings of a dictionary, for rows that come one at a time.

    Parameters
    ----------
    found : Dictionary
        What a pursuit found; its atoms and scale stay.
    x : array_like (sample, feature)
        Rows to learn from, in time order, such as those it was fitted to.
    steps : int, default 5
        Steps of the encoder, each two products of matrices.
    epochs, batch : int, default 60 and 128
        Passes over the rows and rows in a step of the training.
    learning_rate : float, default 5e-3
        Learning rate of Adam at the start; it falls to 0 on a straight line.
    seed : int, default 0
        Seed of the order of rows.
    split : RowSplit, optional
        Which rows are fitted, select the state and score it; ``TimeBlocks(every=10)`` if left
        out.
    progress : bool, default True
        Show how far the training has come.

    Returns
    -------
    Dictionary
        The same atoms, with the loadings of the encoder. Its log holds, on rows that were held
        out, ``pursuit_r2``, ``encoder_r2`` and ``support_f1`` (agreement on which modes are
        active, 0 to 1), ``pursuit_seconds`` and ``encoder_seconds`` (for a row alone),
        ``pursuit_batch_seconds`` and ``encoder_batch_seconds`` (for a row among many), and what
        the training noted.

    Raises
    ------
    InputError
        If the dictionary has no modes, has loadings below 0 or reads another table, or the rows
        do not fit it or are too few.

    Notes
    -----
    ``z_1 = W_1 x - b_1``, ``z_t = S_t ReLU(z_(t-1)) + W_t x - b_t``, and the loadings are ``z`` of
    the last step where it reaches the floor of the pursuit, else 0. At the start the steps are
    those of iterated shrinkage, ``W = D / L``, ``S = 1 - D D^T / L`` and ``b`` half the floor over
    ``L``, the largest eigenvalue of ``D D^T``. Loss: the squared error of loadings above 0, and
    the square of what is above 0 where the loading is 0.

    Measured on held-out rows after a pursuit with the default gain: 4000 rows of 128 features, 48
    modes: R2 0.9958 (pursuit 0.9975), F1 0.986; 3000 rows of 16 features, 14 modes: R2 0.9967
    (0.9982), F1 0.987. With a gain of 0.04 F1 is 0.997 and 0.985, and that of a network with one
    hidden layer of 256 was 0.997 and 0.966. Among many rows the encoder is 2 to 5 times faster
    than the compiled pursuit, and takes the same time for every row; a row alone takes either of
    them 10 to 30 us, most of which is the cost of calls.

    References
    ----------
    .. [1] Gregor, LeCun, ICML 2010, learning fast approximations of sparse coding.
    """
    problems = Problems()
    for name, value in (("steps", steps), ("epochs", epochs), ("batch", batch)):
        problems.require(value >= 1, f"{name} must be at least 1, got {value}")
    problems.require(learning_rate > 0, f"learning_rate must be > 0: {learning_rate}")
    problems.raise_as("distil")
    scaled, weight = found.scale.divide(_fitting(found, x))
    parts = split_rows(split or TimeBlocks(every=10), len(scaled), batch, "distil")
    learner = _Learner(found, scaled, steps, epochs, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    course = Course(epochs, batch, evaluate_every=5)
    log = train(learner, learner.x, parts, course, generator, progress=progress)
    coder = learner.coder()
    return dataclasses.replace(
        found,
        loadings=weight * coder(scaled),
        method=f"distil({found.method}, steps={steps}, epochs={epochs})",
        seed=seed,
        coder=coder,
        log=log | _compare(found, coder, scaled[parts.test]),
    )


class _Steps(nn.Module):
    """The weights of the steps, at the start those of iterated shrinkage."""

    def __init__(self, atoms: Tensor, floor: float, steps: int) -> None:
        super().__init__()
        gram = atoms @ atoms.T
        largest = torch.linalg.eigvalsh(gram.double())[-1].to(gram)
        shrink = torch.full((len(atoms),), floor / 2) / largest
        self.reading = nn.Parameter((atoms / largest).repeat(steps, 1, 1))
        self.mixing = nn.Parameter((torch.eye(len(atoms)) - gram / largest).repeat(steps - 1, 1, 1))
        self.bias = nn.Parameter(shrink.repeat(steps, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return codes (row, mode) before the gate."""
        codes = x @ self.reading[0].T - self.bias[0]
        for reading, mixing, bias in zip(self.reading[1:], self.mixing, self.bias[1:], strict=True):
            codes = torch.relu(codes) @ mixing.T + x @ reading.T - bias
        return codes


class _Learner:
    """The encoder, taught the loadings of the pursuit."""

    def __init__(
        self, found: Dictionary, scaled: Array, steps: int, epochs: int, learning_rate: float
    ) -> None:
        codes = np.asarray(found.coder(scaled), dtype=np.float32)
        used = codes[codes > 0]
        if not used.size or (codes < 0).any():
            raise InputError(
                "distil: expected loadings of 0 and above, some above 0; a linear method such as "
                "PCA codes rows at once and needs no encoder"
            )
        self.floor = float(getattr(found.coder, "floor", 0.0) or used.min())
        self.x, self.codes = torch.from_numpy(scaled), torch.from_numpy(codes)
        self.atoms = torch.from_numpy(np.asarray(found.atoms, dtype=np.float32))
        centre = np.zeros(scaled.shape[1]) if found.centre is None else found.centre
        self.centre = torch.from_numpy(np.asarray(centre, dtype=np.float32))
        self.network = _Steps(self.atoms, self.floor, steps)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda epoch: 1 - epoch / epochs
        )

    def loss(self, rows: Tensor, epoch: int) -> Tensor:  # noqa: ARG002
        """Return the squared error of the loadings; below 0 is as good as 0."""
        codes, wanted = self.network(self.x[rows]), self.codes[rows]
        error = torch.where(wanted > 0, codes - wanted, torch.relu(codes))
        return error.square().mean()

    def hold(self) -> None:
        """Leave the gradients as they are."""

    def settle(self) -> None:
        """Leave the network as it is."""

    def decode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return gated codes and what the atoms make of them."""
        codes = self.network(self.x[rows])
        codes = torch.where(codes >= self.floor, codes, 0.0)
        return codes, codes @ self.atoms + self.centre

    def coder(self) -> UnrolledCoder:
        """Return what codes new rows."""
        weights = {name: value.numpy().copy() for name, value in self.network.state_dict().items()}
        return UnrolledCoder(weights["reading"], weights["mixing"], weights["bias"], self.floor)


def _fitting(found: Dictionary, x: npt.ArrayLike) -> Array:
    """Return the rows, or raise `InputError` if dictionary and rows do not fit."""
    if not len(found.atoms):
        raise InputError("distil: expected a dictionary with modes, got one in which all are dead")
    if found.reads is not None:
        raise InputError(
            "distil: expected a dictionary that codes the rows it writes, got one that reads "
            "inputs, which has an encoder already"
        )
    rows = checked_rows(x)
    if rows.shape[1] != found.atoms.shape[1]:
        raise InputError(f"distil: expected {found.atoms.shape[1]} features, got {rows.shape[1]}")
    return rows


def _compare(found: Dictionary, coder: Coder, held: Array) -> dict[str, Array]:
    """Return how pursuit and encoder do on held-out rows, and how long they take."""
    centre = 0.0 if found.centre is None else found.centre
    log: dict[str, float] = {}
    active = []
    for name, code in (("pursuit", found.coder), ("encoder", coder)):
        alone = [_seconds(code, held[row : row + 1]) for row in range(min(_TIMED, len(held)))]
        log[f"{name}_seconds"] = float(np.median(alone))
        among = [_seconds(code, held) for _ in range(_REPEATS)]
        log[f"{name}_batch_seconds"] = float(np.median(among)) / len(held)
        codes = code(held)
        log[f"{name}_r2"] = explained_variance(held, codes @ found.atoms + centre)
        active.append(codes > 0)
    one, other = active
    both = int(one.sum()) + int(other.sum())
    log["support_f1"] = 2 * int((one & other).sum()) / both if both else float("nan")
    return {name: np.asarray(value) for name, value in log.items()}


def _seconds(code: Coder, rows: Array) -> float:
    start = time.perf_counter()
    code(rows)
    return time.perf_counter() - start
