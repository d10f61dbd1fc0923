"""Surprisal: how unusual the joint response of all cells is under its own statistics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from retinacodec.errors import InputError
from retinacodec.outputs import Outputs, readable

__all__ = ["Surprisal"]

_log = logging.getLogger(__name__)
_MISSING = "surprisal: no statistics; use Surprisal.from_outputs(rates)"


@dataclass(frozen=True, repr=False, eq=False)
class Surprisal:
    """How unusual the joint response of all cells is, in nats.

    Parameters
    ----------
    shrinkage : float, default 1e-3
        Share, 0 to 1, of the mean variance that is mixed into the covariance, so that it can
        be inverted where cells are silent or alike.
    mean : array_like or torch.Tensor (cell,), optional
        Mean rates, Hz; of the analysed movie if left out.
    covariance : array_like or torch.Tensor (cell, cell), optional
        Covariance of the rates, Hz**2, before shrinkage; of the analysed movie if left out.

    Raises
    ------
    InputError
        If the shrinkage is outside 0 to 1, only one of mean and covariance is given, they do
        not fit each other, or the covariance cannot be inverted.

    Notes
    -----
    ``S = 1/2 (y - mu)^T Sigma^-1 (y - mu)``, which is ``-log N(y; mu, Sigma)`` up to a
    constant, with ``Sigma = (1 - s) C + s tr(C)/n I``. The inverse is applied through the
    Cholesky factor; statistics, factor and result are float64 whatever the outputs are.

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
    mean: Tensor | None = None
    covariance: Tensor | None = None
    whitening: Tensor | None = field(default=None, init=False, repr=False)
    units: ClassVar[str] = "nat"

    def __post_init__(self) -> None:
        if not 0 <= self.shrinkage <= 1:
            raise InputError(f"surprisal: expected shrinkage in 0 to 1, got {self.shrinkage}")
        if (self.mean is None) != (self.covariance is None):
            raise InputError("surprisal: expected mean and covariance together, got one of them")
        if self.mean is None or self.covariance is None:
            return
        mean, covariance = _wide(self.mean), _wide(self.covariance)
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise InputError(
                "surprisal: expected a mean (cell,) and a covariance (cell, cell), got "
                f"{tuple(mean.shape)} and {tuple(covariance.shape)}"
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", covariance)
        object.__setattr__(self, "whitening", self._factor())

    def __repr__(self) -> str:
        return readable(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and repr(other) == repr(self)

    def __hash__(self) -> int:
        return hash(repr(self))

    @classmethod
    def from_outputs(cls, outputs: Any, shrinkage: float = 1e-3) -> Surprisal:
        """Return the target with the statistics of given outputs.

        Parameters
        ----------
        outputs : xarray.DataArray, torch.Tensor or array_like (time, cell)
            Rates, Hz, for example of the frames of a training split. Times at which a rate is
            NaN are left out.
        shrinkage : float, default 1e-3
            See the class.

        Returns
        -------
        Surprisal
            With ``mean`` and ``covariance`` (ddof 1) in float64.

        Raises
        ------
        InputError
            If a rate is infinite, or fewer than two times remain, or without shrinkage fewer
            than one more than there are cells.
        """
        rates = _wide(outputs)
        if rates.ndim != 2:
            raise InputError(f"surprisal: expected (time, cell), got {tuple(rates.shape)}")
        if bool(rates.isinf().any()):
            raise InputError("surprisal: rates are infinite somewhere; check the model")
        whole = rates[~rates.isnan().any(dim=1)]
        if len(whole) < len(rates):
            _log.info("surprisal: %d of %d times left out", len(rates) - len(whole), len(rates))
        need = 2 if shrinkage > 0 else rates.shape[1] + 1
        if len(whole) < need:
            raise InputError(
                f"surprisal: expected at least {need} times without NaN for {rates.shape[1]} "
                f"cells, got {len(whole)} of {len(rates)}; use a longer movie or shrinkage > 0"
            )
        covariance = torch.cov(whole.T).reshape(rates.shape[1], rates.shape[1])
        return cls(shrinkage=shrinkage, mean=whole.mean(dim=0), covariance=covariance)

    def bind(self, names: Sequence[str], outputs: Outputs) -> Surprisal:
        """Return the target with the statistics of the movie, unless it has its own."""
        if self.mean is None:
            return self.from_outputs(outputs(), self.shrinkage)
        if len(self.mean) != len(names):
            raise InputError(
                f"surprisal: statistics of {len(self.mean)} cells for a circuit of {len(names)}"
            )
        return self

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the surprisal (batch,) in float64."""
        if self.mean is None or self.whitening is None:
            raise InputError(_MISSING)
        centred = outputs.to(torch.float64) - self.mean.to(outputs.device)
        score = centred @ self.whitening.to(outputs.device).T
        return 0.5 * (score * score).sum(dim=-1)

    def shrunk(self) -> Tensor:
        """Return the covariance (cell, cell) after shrinkage, Hz**2."""
        if self.covariance is None:
            raise InputError(_MISSING)
        mean_variance = self.covariance.diagonal().mean()
        identity = torch.eye(len(self.covariance), dtype=torch.float64)
        return (1 - self.shrinkage) * self.covariance + self.shrinkage * mean_variance * identity

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
        identity = torch.eye(len(shrunk), dtype=torch.float64)
        return torch.linalg.solve_triangular(lower, identity, upper=False)


def _wide(values: Any) -> Tensor:
    """Return any array as a float64 tensor of its own on the CPU, time before cell."""
    if isinstance(values, xr.DataArray):
        if set(values.dims) == {"time", "cell"}:
            values = values.transpose("time", "cell")
        values = values.values
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float64, copy=True)
    return torch.from_numpy(np.array(values, dtype=np.float64))
