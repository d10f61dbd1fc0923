"""Parts of receptive fields in their small form: which source made how much of each field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.field_rows import positions
from retinacodec.latents import LatentFields

__all__ = ["SourceFields"]

_INNER = ("channel", "y", "x")


@dataclass(frozen=True)
class SourceFields:
    """Receptive fields as sums of parts, each stored like the field itself.

    Parameters
    ----------
    total : LatentFields
        The whole fields.
    latent : xarray.DataArray (time, cell, ..., channel, y, x)
        Gradients of the parts at the first convolution, Hz per unit of its output. The dims
        between ``cell`` and ``channel`` number the parts: ``source`` and perhaps ``sign``, or
        ``mode``.
    contribution : xarray.DataArray (time[, cell], source, sign), optional
        What each part contributed to the target that set the signs, in its unit.
    bypass : str, optional
        Why the parts do not sum to the field: how the stimulus gets around the layer.

    Notes
    -----
    `rest` is what the parts leave, so that parts and rest always sum to the field.
    """

    total: LatentFields
    latent: xr.DataArray
    contribution: xr.DataArray | None = None
    bypass: str | None = None

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions that number the parts."""
        return tuple(str(dim) for dim in self.latent.dims[2:-3])

    @property
    def rest(self) -> LatentFields:
        """The fields less all parts; zero to rounding where the layer is a full cut."""
        left = self.total.latent.astype(np.float64) - self.latent.sum(self.dims, dtype=np.float64)
        left = left.transpose(*self.total.latent.dims).astype(self.latent.dtype)
        return replace(self.total, latent=left.assign_attrs(self.total.latent.attrs))

    def part(self, **chosen: Any) -> LatentFields:
        """Return one part, or the sum of several, as fields of their own.

        Parameters
        ----------
        **chosen : label or sequence of labels
            Which along each dimension of the parts, such as ``source=3, sign="positive"``;
            what is not named, or named several times over, is summed.

        Returns
        -------
        LatentFields
            With the rates of the whole fields.

        Raises
        ------
        InputError
            If there is no such part.
        """
        picked = self.latent
        for dim, which in chosen.items():
            if dim not in self.dims:
                raise InputError(f"part: no dimension {dim!r}; there are {', '.join(self.dims)}")
            names = self.latent[dim].values.tolist()
            wanted = list(which) if isinstance(which, list | tuple | np.ndarray) else [which]
            missing = [one for one in wanted if one not in names]
            if missing:
                raise InputError(f"part: no {dim} {missing[0]!r}; there are {names}")
            picked = picked.isel({dim: [names.index(one) for one in wanted]})
        summed = picked.sum(self.dims).transpose(*self.total.latent.dims)
        return replace(self.total, latent=summed.assign_attrs(self.total.latent.attrs))

    def select(self, *, time: Any = None, cell: Any = None) -> SourceFields:
        """Return the parts of the fields of some frames and cells; see `LatentFields.select`."""
        chosen = positions(self.total.rate, time=time, cell=cell)
        given = self.contribution
        if given is not None:
            given = given.isel({dim: at for dim, at in chosen.items() if dim in given.dims})
        return replace(
            self,
            total=self.total.select(time=time, cell=cell),
            latent=self.latent.isel(chosen),
            contribution=given,
        )

    def weighted(self, weights: xr.DataArray) -> SourceFields:
        """Return weighted sums of the parts as parts of another kind.

        Parameters
        ----------
        weights : xarray.DataArray (time[, cell], part, *dims)
            Weight of each part of this record in each of the new ones, along one new dimension.

        Returns
        -------
        SourceFields
            Parts along the new dimension; `rest` is what the weights leave.

        Raises
        ------
        InputError
            If the weights do not have the dimensions of the parts and one more.
        """
        fresh = [dim for dim in weights.dims if dim not in ("time", "cell", *self.dims)]
        if len(fresh) != 1 or not set(self.dims) <= set(weights.dims):
            raise InputError(
                f"weights: expected dims (time[, cell], new, {', '.join(self.dims)}), got "
                f"{weights.dims}"
            )
        dim = str(fresh[0])
        plain = weights.drop_vars(("time", "cell", "frame"), errors="ignore")
        frame = self.total.rate.drop_vars(self.total.rate.coords)
        whole = plain.broadcast_like(frame).transpose("time", "cell", dim, *self.dims)
        factors = whole.values.reshape(*frame.shape, weights.sizes[dim], -1)
        flat = self.latent.values.reshape(*frame.shape, factors.shape[-1], -1)
        values = np.matmul(factors.astype(flat.dtype), flat)
        kept = {
            name: coord
            for name, coord in self.latent.coords.items()
            if not set(coord.dims) & set(self.dims)
        }
        names = weights[dim] if dim in weights.coords else np.arange(weights.sizes[dim])
        latent = xr.DataArray(
            values.reshape(*frame.shape, weights.sizes[dim], *self.latent.shape[-3:]),
            dims=("time", "cell", dim, *_INNER),
            coords={**kept, dim: names},
            name="latent",
            attrs=self.latent.attrs,
        )
        return replace(self, latent=latent, contribution=None)

    def project(self, *, budget_gb: float = 2.0) -> xr.DataArray:
        """Return the parts themselves.

        Parameters
        ----------
        budget_gb : float, default 2.0
            Largest result, GB.

        Returns
        -------
        xarray.DataArray (time, cell, ..., lag, y, x)
            Parts of the fields, Hz per unit contrast.

        Raises
        ------
        InputError
            If they would be larger than the budget.
        """
        axes = (self.total.lag, self.total.y, self.total.x)
        each = float(np.prod([axis.size for axis in axes])) * self.latent.dtype.itemsize
        need = float(np.prod(self.latent.shape[:-3])) * each / 1e9
        if need > budget_gb:
            raise InputError(
                f"project: {int(np.prod(self.latent.shape[:-3]))} parts need {need:.2f} GB, the "
                f"budget is {budget_gb:g} GB; select frames or cells, or take part(...)"
            )
        return self.total.field(self.latent)

    def labels(self) -> Sequence[str]:
        """Return a name for each part, such as ``"3 +"``, in the order of the flattened dims."""
        signs = {"negative": "−", "positive": "+"}
        names: list[str] = [""]
        for dim in self.dims:
            here = [signs.get(str(one), str(one)) for one in self.latent[dim].values.tolist()]
            names = [f"{before} {one}".strip() for before in names for one in here]
        return names
