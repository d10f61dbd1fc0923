"""A circuit small enough that its contributions are known in closed form."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retinacodec.errors import InputError

__all__ = ["ToyCircuit", "exact_contributions"]


class ToyCircuit(nn.Module):
    """Two layers of an ON and an OFF channel with fixed weights, and a linear readout.

    Everything is small enough to check by hand: 3 frames of 3 x 3 pixels, two channels a
    layer, two cells. The rectifiers of the second layer open and close along the path from
    mean grey to a window, so that no quadrature is exact by luck.

    Parameters
    ----------
    depth : {2, 1}
        Number of rectified layers. With one, the contribution of a hidden channel is the
        textbook ``w (relu(a + b) - relu(b))``.

    Attributes
    ----------
    history : int
        Frames of a window, 3.
    latency : int
        Frames between the end of a window and the response, 0.
    size : tuple of int
        Pixels of a frame (y, x), (3, 3).
    cells : int
        Number of cells, 2.
    cell_names : tuple of str
        ``("on", "off")``.
    layers : tuple of str
        Names of the layers, each of which is a full cut: ``conv1, relu1[, conv2, relu2]``.

    Raises
    ------
    InputError
        If `depth` is not 1 or 2.

    Examples
    --------
    >>> import torch
    >>> toy = ToyCircuit()
    >>> toy(torch.zeros(1, 3, 3, 3))
    tensor([[1.5750, 1.6875]])
    """

    history = 3
    latency = 0
    size = (3, 3)
    cells = 2
    cell_names = ("on", "off")

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        if depth not in (1, 2):
            raise InputError(f"depth: expected 1 or 2, got {depth!r}")
        self.depth = depth
        self.conv1 = nn.Conv2d(3, 2, 2)
        self.relu1 = nn.ReLU()
        if depth == 2:
            self.conv2 = nn.Conv2d(2, 2, 2)
            self.relu2 = nn.ReLU()
        self.readout = nn.Linear(2 if depth == 2 else 8, 2)
        self._set_weights()
        self.requires_grad_(False)
        self.eval()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the full cuts, from the stimulus to the cells."""
        return ("conv1", "relu1", "conv2", "relu2")[: 2 * self.depth]

    def config(self) -> dict[str, int]:
        """Return the arguments that rebuild this circuit."""
        return {"depth": self.depth}

    def forward(self, x: Tensor) -> Tensor:
        """Return the rates of the two cells.

        Parameters
        ----------
        x : Tensor (batch, history, y, x)
            Windows of contrast, oldest frame first.

        Returns
        -------
        Tensor (batch, cell)
            Rates, Hz (this toy lets them be negative).
        """
        hidden = self.relu1(self.conv1(x))
        if self.depth == 2:
            hidden = self.relu2(self.conv2(hidden))
        rates: Tensor = self.readout(hidden.flatten(1))
        return rates

    def _set_weights(self) -> None:
        """Give every weight its known value."""
        time = torch.tensor([-0.5, 0.25, 1.0])
        space = torch.tensor([[0.75, 0.5], [0.5, -0.25]])
        on = time[:, None, None] * space
        _fill(self.conv1, torch.stack([on, -on.flip(-1)]), [0.1, -0.2])
        if self.depth == 1:
            ramp = torch.linspace(-1.0, 2.5, 8)
            _fill(self.readout, torch.stack([ramp, ramp.flip(0)]), [1.0, 1.8])
            return
        pool = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        on_pool = torch.stack([pool, -pool.flip(0)])
        off_pool = torch.stack([-0.75 * pool, pool])
        _fill(self.conv2, torch.stack([on_pool, off_pool]), [0.0, 0.25])
        _fill(self.readout, torch.tensor([[2.0, -1.0], [-0.5, 1.5]]), [1.0, 1.8])


def _fill(layer: nn.Module, weight: Tensor, bias: list[float]) -> None:
    """Set the weights of a layer."""
    layer.load_state_dict({"weight": weight, "bias": torch.tensor(bias)})


def exact_contributions(
    model: ToyCircuit, windows: Tensor, target: Callable[[Tensor], Tensor]
) -> dict[str, NDArray[np.float64]]:
    """Return what every hidden unit of the toy gave to a target, without quadrature.

    Parameters
    ----------
    model : ToyCircuit
        The circuit.
    windows : Tensor (batch, history, y, x)
        Windows of contrast.
    target : callable
        Rates (batch, cell) to one number a sample (batch,), at most quadratic in the rates.

    Returns
    -------
    dict of str to ndarray (batch, channel, y, x)
        Contributions in the target's unit, float64, for every name in ``model.layers``.

    Notes
    -----
    Along the path ``alpha x`` every pre-activation is piecewise linear in ``alpha``. Between
    two neighbouring gate crossings ``alpha_k`` the whole circuit is affine, so that

    ``C_u = sum_k dS/dh_u(mid_k) (h_u(alpha_k) - h_u(alpha_k-1))``, ``mid_k`` = middle of the
    piece, is the path integral itself: the gradient of a quadratic target is affine on a piece.

    References
    ----------
    .. [1] Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", 2017, eq. 1.

    Examples
    --------
    >>> import torch
    >>> toy = ToyCircuit(depth=1)
    >>> parts = exact_contributions(toy, torch.ones(1, 3, 3, 3), lambda y: y[:, 0])
    >>> gained = toy(torch.ones(1, 3, 3, 3))[0, 0] - toy(torch.zeros(1, 3, 3, 3))[0, 0]
    >>> abs(float(parts["conv1"].sum() - gained.item())) < 1e-6
    True
    """
    exact = copy.deepcopy(model).double()
    parts = [_one_window(exact, window.detach().double(), target) for window in windows]
    return {name: np.stack([part[name] for part in parts]) for name in model.layers}


def _one_window(
    model: ToyCircuit, window: Tensor, target: Callable[[Tensor], Tensor]
) -> dict[str, NDArray[np.float64]]:
    """Contributions of one window, from ends and middles of the affine pieces of its path."""
    ends = _crossings(model, window)
    middles = (ends[1:] + ends[:-1]) / 2
    values = _hidden(model, ends[:, None, None, None] * window)
    path = (middles[:, None, None, None] * window).requires_grad_()
    hidden = _hidden(model, path)
    last = hidden[model.layers[-1]]
    total = target(model.readout(last.flatten(1))).sum()
    slopes = torch.autograd.grad(total, [hidden[name] for name in model.layers])
    return {
        name: (slope * values[name].diff(dim=0)).sum(0).detach().numpy()
        for name, slope in zip(model.layers, slopes, strict=True)
    }


def _hidden(model: ToyCircuit, x: Tensor) -> dict[str, Tensor]:
    """Return the tensors at every layer, (batch, channel, y, x)."""
    found: dict[str, Tensor] = {}
    for name in model.layers:
        x = model.get_submodule(name)(x)
        found[name] = x
    return found


def _crossings(model: ToyCircuit, window: Tensor) -> Tensor:
    """Return the sorted places on the path (0 and 1 included) where a gate switches."""
    alphas = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for name in model.layers[::2]:
        z = _hidden(model, alphas[:, None, None, None] * window)[name].flatten(1)
        before, after = z[:-1], z[1:]
        switches = (before > 0) != (after > 0)
        share = before[switches] / (before - after)[switches]
        piece = switches.nonzero()[:, 0]
        new = alphas[piece] + share * alphas.diff()[piece]
        alphas = torch.cat([alphas, new]).unique(sorted=True)
    return alphas
